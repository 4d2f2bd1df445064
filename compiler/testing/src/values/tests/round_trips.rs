//! What is exact comes back, whatever the bytes.

use super::*;

/// A sequence of numbers that look random.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Bytes that are often small, zero or printable.
    pub(super) fn bytes(&mut self, count: u32) -> Vec<u8> {
        let style = self.next() % 4;
        let byte = |random: u64| match style {
            0 => random as u8,
            1 => (random % 3) as u8,
            2 => b'a' + (random % 26) as u8,
            _ => [0, 0, 0, random as u8][random as usize / 256 % 4],
        };
        (0..count).map(|_| byte(self.next())).collect()
    }
}

/// Types whose every byte means something.
fn without_padding(types: &mut Types) -> Vec<TypeIndex> {
    let mut all = Vec::new();
    for (name, size) in [
        ("unsigned char", 1),
        ("signed char", 1),
        ("char", 1),
        ("_Bool", 1),
        ("int", 2),
        ("unsigned int", 4),
        ("long", 8),
        ("unsigned long", 8),
        ("__int128", 16),
        ("unsigned __int128", 16),
    ] {
        let of = types.integer(name, size);
        all.extend([of, types.array(of, 7)]);
    }
    for size in [2, 4, 8, 16] {
        let name = "float".to_owned();
        all.push(types.add(DataType::Float { name, size }));
    }
    for (size, sign) in [(1, true), (1, false), (4, true), (4, false), (8, true), (8, false)] {
        let values = [
            ("ZERO", 0),
            ("ONE", 1),
            ("ALSO_ONE", 1),
            ("5", 6),
            ("hex:", 7),
            ("LAST", -1),
        ];
        all.push(types.enumeration(size, sign, &values));
    }
    all.push(types.add(DataType::Pointer));
    let word = all[10];
    let bytes = types.array(all[0], 4);
    let rows = types.array(bytes, 2);
    let fields = [
        ("a", word, 0, Some(3)),
        ("b", word, 3, Some(29)),
        ("rows", rows, 32, None),
    ];
    all.push(types.structure(false, 12, &fields));
    let (of, name) = (all[all.len() - 1], "alias".to_owned());
    all.push(types.add(DataType::Alias { name, of }));
    all.push(types.structure(
        true,
        4,
        &[
            ("word", word, 0, None),
            ("bytes", bytes, 0, None),
            ("low", word, 1, Some(9)),
        ],
    ));
    let (union, flag) = (all[all.len() - 1], all[6]);
    all.push(types.structure(false, 5, &[("", union, 0, None), ("flag", flag, 32, None)]));
    all.push(types.array(all[all.len() - 1], 3));
    all
}

#[test]
fn random_bytes_without_padding_are_exact_also_as_json_text() {
    let mut types = Types::default();
    let mut numbers = Numbers(1);
    for of in without_padding(&mut types) {
        for _ in 0..400 {
            let bytes = numbers.bytes(types.0.size(of));
            let json = to_json(&types.0, of, &bytes);
            let again = Json::parse(&json.pretty()).unwrap();
            assert_eq!(again, json);
            let shown = format!("{json:?} {bytes:x?}");
            // Names that are no names: a value that one of them stands for is not exact, and says so.
            match from_json(&types.0, of, &again) {
                Ok(read) => assert_eq!(read == bytes, exact(&types.0, of, &bytes), "{shown}"),
                Err(_) => assert!(!exact(&types.0, of, &bytes), "{shown}"),
            }
            if !shown.contains("Word(\"hex:\")") {
                assert!(exact(&types.0, of, &bytes), "{shown}");
            }
        }
    }
}

#[test]
fn with_padding_exact_means_that_the_bytes_come_back() {
    let (types, all) = everything();
    let mut numbers = Numbers(2);
    let mut found = [0; 2];
    for _ in 0..2000 {
        let mut bytes = numbers.bytes(types.0.size(all));
        if numbers.next().is_multiple_of(2) {
            bytes[26..28].fill(0);
            bytes[29..32].fill(0);
            bytes[36..40].fill(0);
        }
        let read = from_json(&types.0, all, &to_json(&types.0, all, &bytes)).unwrap();
        assert_eq!(exact(&types.0, all, &bytes), read == bytes);
        found[usize::from(read == bytes)] += 1;
        // What is read is always exact.
        assert!(exact(&types.0, all, &read));
    }
    assert!(found.iter().all(|count| *count > 100), "{found:?}");
}
