//! Where the parts of a value are.
//!
//! Given: a structure or union. Computed: its members by name, with those of nameless structures and unions in it as its own, as C has
//! them.
//! Safe because: the types may come from a hostile file, in which a small type has more parts than memory can hold. Every part that is
//! looked at is counted, and a value has as many as its size justifies.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{DataType, DataTypes, TypeIndex};

/// How many parts of a value may still be looked at. Showing and reading count alike: what can be shown can be read.
pub(super) struct Budget(u64);

impl Budget {
    /// For a value of that many bytes.
    pub(super) fn new(size: u32) -> Budget {
        Budget(4096 + 128 * u64::from(size))
    }

    /// Takes that many away. None if there are no more.
    pub(super) fn take(&mut self, parts: usize) -> Option<()> {
        self.0 = self.0.checked_sub(parts as u64)?;
        Some(())
    }
}

/// What an array is, to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArrayKind {
    /// Of `char`.
    Text,
    /// Of bytes.
    Bytes,
    /// Of anything else.
    List,
}

pub(super) fn array_kind(types: &DataTypes, element: TypeIndex) -> ArrayKind {
    match types.get(types.resolve(element)) {
        DataType::Integer { size: 1, name, .. } if name == "char" => ArrayKind::Text,
        DataType::Integer {
            size: 1,
            signed: false,
            boolean: false,
            ..
        } => ArrayKind::Bytes,
        _ => ArrayKind::List,
    }
}

/// A member at its place in the outermost structure.
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    pub(super) of: TypeIndex,
    /// In bits, from the start of the structure.
    pub(super) offset: u64,
    /// Of a bit field.
    pub(super) width: Option<u8>,
}

impl Part<'_> {
    /// Its bytes, if it is whole.
    pub(super) fn range(&self, types: &DataTypes) -> std::ops::Range<usize> {
        let start = (self.offset / 8) as usize;
        start..start + types.size(self.of) as usize
    }
}

/// The members of a structure or union.
#[derive(Default)]
pub(super) struct Layout<'a> {
    /// In the order of their declaration.
    pub(super) parts: Vec<Part<'a>>,
    /// Whether some may share their bytes.
    pub(super) shared: bool,
}

/// The members of a structure. None if there are too many, or two have one name.
pub(super) fn layout<'a>(types: &'a DataTypes, structure: TypeIndex, budget: &mut Budget) -> Option<Layout<'a>> {
    let mut layout = Layout::default();
    add(types, structure, 0, budget, &mut layout)?;
    let mut names = BTreeSet::new();
    layout
        .parts
        .iter()
        .all(|part| names.insert(part.name))
        .then_some(layout)
}

fn add<'a>(
    types: &'a DataTypes,
    structure: TypeIndex,
    offset: u64,
    budget: &mut Budget,
    layout: &mut Layout<'a>,
) -> Option<()> {
    let DataType::Struct { members, union, .. } = types.get(types.resolve(structure)) else {
        return Some(());
    };
    layout.shared |= *union;
    for member in members {
        budget.take(1 + member.name.len())?;
        let offset = offset + u64::from(member.bit_offset);
        if member.name.is_empty() {
            add(types, member.of, offset, budget, layout)?;
        } else {
            layout.parts.push(Part {
                name: &member.name,
                of: member.of,
                offset,
                width: member.bit_width,
            });
        }
    }
    Some(())
}

/// What looking up a name of an enumeration costs.
pub(super) fn names_cost(names: &[(String, i64)]) -> usize {
    names.len() / 16
}

/// The bits of a little-endian number, at most 128.
pub(super) fn bits(bytes: &[u8], offset: u64, width: u32) -> u128 {
    (0..width).fold(0, |value, i| {
        let at = offset + u64::from(i);
        let bit = bytes[(at / 8) as usize] >> (at % 8) & 1;
        value | u128::from(bit) << i
    })
}

/// Sets bits that [`bits`] gives. They are zero before.
pub(super) fn set_bits(bytes: &mut [u8], offset: u64, width: u32, value: u128) {
    for i in 0..width {
        let at = offset + u64::from(i);
        bytes[(at / 8) as usize] |= ((value >> i & 1) as u8) << (at % 8);
    }
}

/// The number that the lowest bits are, with a sign.
pub(super) fn signed(raw: u128, width: u32) -> i128 {
    let above = 128 - width.clamp(1, 128);
    (raw << above).cast_signed() >> above
}

/// The bytes of a number the other way round, if its type says that it is in network order: those by which Linux's headers say so, `__be16`
/// and its like, say it here.
pub(super) fn in_network_order(types: &DataTypes, mut index: TypeIndex, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut says_so = false;
    while let DataType::Alias { name, of } = types.get(index) {
        let name = name.trim_start_matches('_').trim_end_matches("_t");
        says_so |= name.strip_prefix("be").and_then(|bits| bits.parse().ok()) == Some(bytes.len() * 8);
        index = *of;
    }
    let is_number = matches!(types.get(index), DataType::Integer { boolean: false, .. });
    (says_so && is_number).then(|| bytes.iter().rev().copied().collect())
}
