use super::{Btf, Text, Type, TypeId};
use crate::error::Problem;

/// A `.BTF` section of these types; the strings are `\0name\0long\0`.
fn section(types: &[u32]) -> Vec<u8> {
    let types: Vec<u8> = types.iter().flat_map(|w| w.to_le_bytes()).collect();
    let strings = b"\0name\0long\0";
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    for field in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
        bytes.extend(u32::to_le_bytes(field));
    }
    bytes.extend(types);
    bytes.extend(strings);
    bytes
}

fn info(kind: u32, count: u32) -> u32 {
    kind << 24 | count
}

/// One type of each kind, by number, with what follows it; each has two of whatever it lists.
fn kinds() -> Vec<Vec<u32>> {
    vec![
        vec![1, info(1, 0), 4, 32],
        vec![0, info(2, 0), 1],
        vec![0, info(3, 0), 0, 1, 1, 6],
        vec![1, info(4, 2), 8, 1, 1, 0, 6, 1, 32],
        vec![1, info(5, 2), 4, 1, 1, 0, 6, 1, 0],
        vec![1, info(6, 2), 4, 1, 0, 6, 1],
        vec![1, info(7, 0), 0],
        vec![1, info(8, 0), 1],
        vec![0, info(9, 0), 1],
        vec![0, info(10, 0), 1],
        vec![0, info(11, 0), 1],
        vec![1, info(12, 1), 13],
        vec![0, info(13, 2), 1, 1, 1, 6, 1],
        vec![1, info(14, 0), 1, 1],
        vec![6, info(15, 2), 8, 14, 0, 4, 14, 4, 4],
        vec![1, info(16, 0), 8],
        vec![1, info(17, 0), 1, 0],
        vec![1, info(18, 0), 1],
        vec![1, info(19, 2), 8, 1, 0, 0, 6, 1, 0],
    ]
}

#[test]
fn every_kind_of_type_has_its_length() {
    // Behind each kind comes a variable; it is found only if the kind's length is right.
    for kind in kinds() {
        let number = kind[1] >> 24;
        let bytes = section(&[kind.as_slice(), &[6, info(14, 0), 7, 1]].concat());
        let btf = Btf::parse(&bytes).unwrap_or_else(|e| panic!("kind {number}: {e}"));
        let last = btf.get(TypeId(2)).unwrap();
        assert!(
            matches!(
                last,
                Type::Variable {
                    name: "long",
                    of: TypeId(7),
                    is_extern: false
                }
            ),
            "kind {number}: {last:?}"
        );
        assert!(btf.get(TypeId(3)).is_err());
    }
}

#[test]
fn refuses_kinds_that_do_not_exist() {
    for kind in [0, 20, 31] {
        let bytes = section(&[1, info(kind, 0), 4]);
        let error = Btf::parse(&bytes).map(|_| ()).unwrap_err();
        assert_eq!(error.problem, Problem::TypeKind { id: 1, kind });
    }
}

#[test]
fn refuses_tables_that_end_early() {
    for kind in kinds() {
        for length in 1..kind.len() {
            let bytes = section(&kind[..length]);
            let error = Btf::parse(&bytes).map(|_| ()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "section `.BTF` at 0x0: ends in the middle of a type",
                "{kind:?}"
            );
        }
    }
    let whole = section(&kinds().concat());
    assert!(Btf::parse(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(Btf::parse(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn refuses_headers_that_make_no_sense() {
    let valid = section(&[]);
    for (offset, value, expected) in [
        (0, 0, "does not start as BTF does"),
        (2, 2, "unknown BTF version or flags"),
        (3, 1, "unknown BTF version or flags"),
        (4, 20, "its header is too short"),
        (4, 200, "shorter than its header"),
        (12, 200, "the type table lies outside of the section"),
        (16, 200, "the string table lies outside of the section"),
        (20, 10, "the string table does not start and end with a zero"),
        (20, 0, "the string table does not start and end with a zero"),
    ] {
        let mut bytes = valid.clone();
        bytes[offset] = value;
        let error = Btf::parse(&bytes).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), format!("section `.BTF`: {expected}"));
    }
}

#[test]
fn names_are_looked_up_by_offset() {
    let bytes = section(&[]);
    let btf = Btf::parse(&bytes).unwrap();
    let found: Vec<_> = (0..12)
        .map(|offset| btf.name(Text { object: 0, offset }).ok())
        .collect();
    let tails = ["", "name", "ame", "me", "e", "", "long", "ong", "ng", "g", ""];
    assert_eq!(found[..11], tails.map(Some));
    assert_eq!(found[11], None);
}

#[test]
fn sizes_follow_qualifiers_and_arrays() {
    let kinds = kinds();
    let mut types = kinds.concat();
    // 20: two times three of type 4; 21: an array of itself; 22: a name of itself; 23: too large.
    types.extend([0, info(3, 0), 0, 24, 1, 2]);
    types.extend([0, info(3, 0), 0, 21, 1, 2]);
    types.extend([1, info(8, 0), 22]);
    types.extend([0, info(3, 0), 0, 4, 1, u32::MAX]);
    types.extend([0, info(3, 0), 0, 4, 1, 3]);
    let bytes = section(&types);
    let btf = Btf::parse(&bytes).unwrap();
    let size = |id| btf.size(TypeId(id)).ok();
    let known: Vec<_> = (1..=19).map(size).collect();
    assert_eq!(
        known,
        [
            Some(4),
            Some(8),
            Some(24),
            Some(8),
            Some(4),
            Some(4),
            None,
            Some(4),
            Some(4),
            Some(4),
            Some(4),
            None,
            None,
            None,
            None,
            Some(8),
            None,
            Some(4),
            Some(8)
        ]
    );
    assert_eq!(size(20), Some(48));
    assert_eq!(size(21), None);
    assert_eq!(size(22), None);
    assert_eq!(size(23), None);
    assert_eq!(size(99), None);
}
