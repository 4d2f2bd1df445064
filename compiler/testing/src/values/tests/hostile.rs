//! Types that are small in a file and large in memory.

use super::*;

#[test]
fn many_parts_of_no_size_are_not_taken_apart() {
    let mut types = Types::default();
    let byte = types.integer("char", 1);
    let nothing = types.structure(false, 0, &[]);
    let many = types.array(nothing, u32::MAX);
    assert_eq!(to_text(&types.0, many, &[]), "hex:");
    let error = from_json(&types.0, many, &Json::List(vec![parse("{}"); 5000])).unwrap_err();
    assert_eq!(error.problem, ValueProblem::Intricate);
    // Each level has the one below twice.
    for (size, first) in [(0, nothing), (1, byte)] {
        for names in [["a", "b"], ["", ""]] {
            let mut of = first;
            for _ in 0..60 {
                of = types.structure(true, size, &[(names[0], of, 0, None), (names[1], of, 0, None)]);
            }
            let bytes = vec![1; size as usize];
            assert!(to_text(&types.0, of, &bytes).starts_with("hex:"));
            assert!(exact(&types.0, of, &bytes));
            assert!(from_json(&types.0, of, &parse(r#"{"a":{"b":{"a":{}}}}"#)).is_ok() == (names[0] == "a"));
        }
    }
}

#[test]
fn a_large_array_takes_what_its_value_takes() {
    let mut types = Types::default();
    let byte = types.integer("unsigned char", 1);
    let most = types.array(byte, u32::MAX);
    assert_eq!(to_text(&types.0, most, &[0; 3]), "hex:000000");
    let error = from_json(&types.0, most, &parse("[]")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the value: its type has 4294967295 bytes, more than any value"
    );
    // Many views of the same bytes.
    let block = types.array(byte, 1 << 16);
    let names: Vec<String> = (0..1000).map(|i| format!("view{i}")).collect();
    let views: Vec<_> = names.iter().map(|name| (name.as_str(), block, 0, None)).collect();
    let union = types.structure(true, 1 << 16, &views);
    let bytes = vec![7; 1 << 16];
    assert!(to_text(&types.0, union, &bytes).starts_with("hex:0707"));
    assert!(exact(&types.0, union, &bytes));
}

#[test]
fn long_names_and_long_enumerations_are_counted() {
    let mut types = Types::default();
    let byte = types.integer("unsigned char", 1);
    let long = "n".repeat(1 << 20);
    let named = types.structure(false, 1, &[(&long, byte, 0, None)]);
    let many = types.array(named, 1 << 16);
    assert!(to_text(&types.0, many, &vec![0; 1 << 16]).len() < 1 << 18);
    let values: Vec<(String, i64)> = (0..1 << 16).map(|i| (format!("V{i}"), i << 8)).collect();
    let values: Vec<(&str, i64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let of = types.enumeration(1, false, &values);
    let many = types.array(of, 1 << 16);
    assert!(to_text(&types.0, many, &vec![1; 1 << 16]).starts_with("hex:"));
}

#[test]
fn two_members_of_one_name_are_shown_as_bytes() {
    let mut types = Types::default();
    let byte = types.integer("unsigned char", 1);
    let inner = types.structure(false, 1, &[("a", byte, 0, None)]);
    let outer = types.structure(false, 2, &[("a", byte, 0, None), ("", inner, 8, None)]);
    assert_eq!(to_text(&types.0, outer, &[1, 2]), "hex:0102");
    assert!(exact(&types.0, outer, &[1, 2]));
}

#[test]
fn types_of_changed_objects_are_survived() {
    let object = include_bytes!("../../../../bytecode/tests/fixtures/types/types.o");
    let mut numbers = super::round_trips::Numbers(4);
    let start = object.windows(2).position(|two| two == [0x9f, 0xeb]).unwrap();
    let mut shown = 0;
    for _ in 0..3000 {
        let mut changed = object.to_vec();
        for _ in 0..=numbers.next() % 3 {
            let at = start + numbers.next() as usize % 1500;
            changed[at] = [numbers.next() as u8, 0, 1, 0xff][numbers.next() as usize % 4];
        }
        let Ok(module) = bpf2sys_bytecode::read(&changed, "types.o") else {
            continue;
        };
        let types = ModuleTypes::from_module(&module);
        let types = types.types();
        for (of, _) in types.names() {
            let bytes = numbers.bytes(types.size(of).min(4096));
            let json = to_json(types, of, &bytes);
            let read = from_json(types, of, &json);
            assert_eq!(read.is_ok_and(|again| again == bytes), exact(types, of, &bytes));
            shown += 1;
        }
    }
    assert!(shown > 10_000, "{shown}");
}
