//! Fields at given offsets as a C structure.
//!
//! Given: fields with offset, size and type, in any order and overlapping in any way. Computed: the members of a structure in
//! which a compiler that aligns naturally puts each of them there.
//! Safe because: a field that natural alignment would move is declared as bytes, which nothing moves; the header also asserts
//! every offset and the size.

use super::ctype::CType;

/// A field to be placed.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub offset: u32,
    /// Not 0.
    pub size: u32,
    /// Has this size.
    pub c_type: CType,
}

/// A member of a structure. Fields are meant by their index.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Member {
    Field(usize),
    /// Bytes that no field has.
    Gap {
        offset: u32,
        bytes: u32,
    },
    /// Fields that overlap; each with the number of bytes before it.
    Union(Vec<(u32, usize)>),
}

/// The members of a structure.
#[derive(Debug)]
pub(super) struct Layout {
    pub members: Vec<Member>,
    /// What `sizeof` gives: more than the structure's size if that is no multiple of its alignment.
    pub size_of: u64,
}

/// Places fields in a structure of `size` bytes. Types are replaced by bytes where they must.
pub(super) fn layout(fields: &mut [Placed], size: u32) -> Layout {
    let mut order: Vec<usize> = (0..fields.len()).collect();
    order.sort_by_key(|i| (fields[*i].offset, *i));
    let mut members = Vec::new();
    let (mut at, mut alignment) = (0, 1);
    let mut rest = order.as_slice();
    while let Some(first) = rest.first() {
        let start = fields[*first].offset;
        let mut end = u64::from(start);
        let overlapping = rest.iter().take_while(|i| {
            let joins = end == u64::from(start) || u64::from(fields[**i].offset) < end;
            if joins {
                end = end.max(end_of(&fields[**i]));
            }
            joins
        });
        let (group, after) = rest.split_at(overlapping.count());
        let limit = after.first().map_or(u64::from(size), |i| u64::from(fields[*i].offset));
        let group_alignment = align(fields, group, start, end, limit);
        let bytes = round_up(
            end - u64::from(start),
            if group.len() == 1 { 1 } else { group_alignment },
        );
        if round_up(at, group_alignment) < u64::from(start) {
            members.push(gap(at, u64::from(start)));
        }
        members.push(match group {
            [only] => Member::Field(*only),
            _ => Member::Union(group.iter().map(|i| (fields[*i].offset - start, *i)).collect()),
        });
        at = u64::from(start) + bytes;
        alignment = alignment.max(group_alignment);
        rest = after;
    }
    if round_up(at, alignment) < u64::from(size) {
        members.push(gap(at, size.into()));
        at = size.into();
    }
    Layout {
        members,
        size_of: round_up(at, alignment),
    }
}

/// Makes bytes of those fields of a group that natural alignment would move, or whose alignment would make the group reach
/// into what follows at `limit`. Gives the group's alignment.
fn align(fields: &mut [Placed], group: &[usize], start: u32, end: u64, limit: u64) -> u64 {
    let needs = |field: &Placed| u64::from(field.c_type.element().unwrap_or(1));
    for i in group {
        let field = &mut fields[*i];
        let unaligned =
            !u64::from(field.offset).is_multiple_of(needs(field)) || !u64::from(start).is_multiple_of(needs(field));
        let too_large = group.len() > 1 && u64::from(start) + round_up(end - u64::from(start), needs(field)) > limit;
        if unaligned || too_large {
            field.c_type = CType::bytes(field.size);
        }
    }
    group.iter().map(|i| needs(&fields[*i])).max().unwrap_or(1)
}

fn end_of(field: &Placed) -> u64 {
    u64::from(field.offset) + u64::from(field.size)
}

fn gap(from: u64, to: u64) -> Member {
    Member::Gap {
        offset: u32::try_from(from).unwrap_or(u32::MAX),
        bytes: u32::try_from(to - from).unwrap_or(u32::MAX),
    }
}

fn round_up(value: u64, to: u64) -> u64 {
    value.div_ceil(to) * to
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(u32, &str)]) -> Vec<Placed> {
        let field = |&(offset, text): &(u32, &str)| {
            let c_type = CType::parse(text).unwrap();
            Placed {
                offset,
                size: c_type.size().unwrap(),
                c_type,
            }
        };
        list.iter().map(field).collect()
    }

    #[test]
    fn natural_gaps_need_no_member() {
        let mut list = fields(&[(0, "uint8_t*"), (40, "uint8_t"), (44, "uint32_t"), (48, "uint8_t")]);
        let layout = layout(&mut list, 56);
        let gap = Member::Gap { offset: 8, bytes: 32 };
        let fields = [1, 2, 3].map(Member::Field);
        assert_eq!(layout.members[..2], [Member::Field(0), gap]);
        assert_eq!(layout.members[2..], fields);
        assert_eq!(layout.size_of, 56);
    }

    #[test]
    fn overlapping_fields_are_a_union() {
        let mut list = fields(&[
            (4, "uint32_t"),
            (0, "uint32_t"),
            (4, "uint32_t[4]"),
            (10, "uint16_t"),
            (20, "uint16_t"),
        ]);
        let layout = layout(&mut list, 24);
        let union = Member::Union(vec![(0, 0), (0, 2), (6, 3)]);
        assert_eq!(layout.members, [Member::Field(1), union, Member::Field(4)]);
        assert_eq!(layout.size_of, 24);
    }

    #[test]
    fn fields_that_alignment_would_move_become_bytes() {
        let mut list = fields(&[(0, "uint8_t"), (1, "uint32_t"), (5, "uint16_t"), (6, "uint8_t")]);
        let layout = layout(&mut list, 7);
        assert_eq!(list[1].c_type, CType::bytes(4));
        assert_eq!(list[2].c_type, CType::bytes(2));
        let union = Member::Union(vec![(0, 2), (1, 3)]);
        assert_eq!(layout.members, [Member::Field(0), Member::Field(1), union]);
        assert_eq!(layout.size_of, 7);
    }

    #[test]
    fn a_union_does_not_reach_into_the_next_field() {
        let mut list = fields(&[(0, "uint8_t[5]"), (0, "uint32_t"), (5, "uint8_t")]);
        let layout = layout(&mut list, 8);
        assert_eq!(list[1].c_type, CType::bytes(4));
        assert_eq!(layout.members[1], Member::Field(2));
        assert_eq!(layout.size_of, 8);
    }

    #[test]
    fn a_size_that_is_no_multiple_of_the_alignment_is_told() {
        let mut list = fields(&[(0, "uint8_t*"), (24, "uint16_t")]);
        assert_eq!(layout(&mut list, 26).size_of, 32);
    }
}
