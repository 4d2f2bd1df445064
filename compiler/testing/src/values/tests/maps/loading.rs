use super::super::round_trips::Numbers;
use super::*;

fn load(text: &str, types: Option<&ModuleTypes>) -> Result<Vec<MapPreset>, String> {
    maps_from_json(&parse(text), &shapes(), types).map_err(|e| e.to_string())
}

fn preset(map: &str, key: &[u8], value: &[u8]) -> MapPreset {
    MapPreset {
        map: map.to_owned(),
        key: HexBytes(key.to_vec()),
        value: PresetValue::Bytes(HexBytes(value.to_vec())),
    }
}

/// What loading the maps must give.
fn presets(maps: &[MapContents]) -> Vec<MapPreset> {
    let of_map = |map: &MapContents| {
        let entries = map.entries.iter().map(|entry| MapPreset {
            map: map.name.clone(),
            key: entry.key.clone(),
            value: match &entry.object {
                Some(name) => PresetValue::Name(name.clone()),
                None if entry.values.iter().all(|value| *value == entry.values[0]) => {
                    PresetValue::Bytes(entry.values[0].clone())
                }
                // Each for its processor.
                None => PresetValue::Bytes(HexBytes(entry.values.iter().flat_map(|v| v.0.clone()).collect())),
            },
        });
        let mut entries: Vec<MapPreset> = entries.collect();
        if map.type_name == "stack" {
            entries.reverse();
        }
        entries
    };
    maps.iter().flat_map(of_map).collect()
}

#[test]
fn what_is_shown_can_be_loaded_whatever_the_bytes() {
    let types = object();
    let mut numbers = Numbers(3);
    for _ in 0..200 {
        let mut maps = maps();
        for map in &mut maps {
            for entry in &mut map.entries {
                for value in &mut entry.values {
                    *value = HexBytes(numbers.bytes(map.value_size));
                }
                if map.type_name == "hash" {
                    entry.key = HexBytes(numbers.bytes(map.key_size));
                }
            }
        }
        for types in [None, Some(&types)] {
            let text = maps_to_json(&maps, types).pretty();
            assert_eq!(load(&text, types).unwrap(), presets(&maps), "{text}");
        }
    }
}

#[test]
fn short_forms_are_read() {
    let types = object();
    let wide = 0x100_0000_0000_u64.to_le_bytes();
    let data = |first: u8, second: u8| {
        let mut bytes = [0; 24];
        [bytes[0], bytes[8], bytes[16]] = [first, second, 3];
        vec![preset("types.data", &[0; 4], &bytes)]
    };
    let mut record = [0; 48];
    record[32] = 0x10;
    for (text, expected) in [
        (
            r#"{"big":["WIDE",1]}"#,
            vec![
                preset("big", &[0; 4], &wide),
                preset("big", &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0]),
            ],
        ),
        (r#"{"big":{"0x2":"WIDE"}}"#, vec![preset("big", &[2, 0, 0, 0], &wide)]),
        (
            r#"{"sizes":{"1":2}}"#,
            vec![preset("sizes", &[1, 0, 0, 0], &[2, 0, 0, 0, 0, 0, 0, 0])],
        ),
        (
            r#"{"sizes":{"hex:00000001":"0x10"}}"#,
            vec![preset("sizes", &[0, 0, 0, 1], &[16, 0, 0, 0, 0, 0, 0, 0])],
        ),
        (
            r#"{"records":{"{\"port\":53}":{"next":16}}}"#,
            vec![preset("records", &[0, 0, 0, 0, 53, 0, 0, 0], &record)],
        ),
        (
            r#"{"jobs":[9,8]}"#,
            vec![preset("jobs", &[], &[8]), preset("jobs", &[], &[9])],
        ),
        (r#"{"hits":[5]}"#, vec![preset("hits", &[0; 4], &[5, 0])]),
        (
            r#"{"hits":{"entries":[{"key":1,"value":5}]}}"#,
            vec![preset("hits", &[1, 0, 0, 0], &[5, 0])],
        ),
        // The object has first = 1 and second = { 2, 3 }.
        (r#"{".data":{"first":7}}"#, data(7, 2)),
        (r#"{"types.data":{"second":[8,3]}}"#, data(1, 8)),
        (r#"{".data":{"variables":{"first":9}}}"#, data(9, 2)),
        (r#"{"events":{}}"#, vec![]),
        (r#"{"events":{"entries":[],"records":[{"data":"hex:00"}]}}"#, vec![]),
    ] {
        assert_eq!(load(text, Some(&types)).as_ref(), Ok(&expected), "{text}");
    }
    let next = |key: u8| MapPreset {
        value: PresetValue::Name("next".to_owned()),
        ..preset("jumps", &[key, 0, 0, 0], &[])
    };
    assert_eq!(load(r#"{"jumps":[null,"next"]}"#, None).unwrap(), [next(1)]);
    assert_eq!(load(r#"{"jumps":{"3":"next"}}"#, None).unwrap(), [next(3)]);
}

#[test]
fn changed_variables_count_and_others_leave_their_bytes() {
    let types = object();
    let mut maps = vec![maps().remove(3)];
    // Between the variables, where nothing has a name.
    maps[0].entries[0].values[0].0[5] = 0x55;
    let text = compact(&maps_to_json(&maps, Some(&types)));
    let changed = text.replace(r#""first":1"#, r#""first":200"#);
    assert_ne!(text, changed);
    maps[0].entries[0].values[0].0[0] = 200;
    assert_eq!(load(&changed, Some(&types)).unwrap(), presets(&maps));
}

#[test]
fn errors_name_map_and_member() {
    let types = object();
    for (text, message) in [
        (
            "[]",
            "the maps: a list is given where an object with maps by name is needed",
        ),
        (
            r#"{"record":{}}"#,
            "record: there is no such map; did you mean `records`?",
        ),
        (
            r#"{"big":5}"#,
            "big: 5 is given where an object or a list with entries is needed",
        ),
        (
            r#"{"sizes":{"1":1,"0x1":2}}"#,
            "sizes[hex:01000000]: an entry with this key is there twice",
        ),
        (
            r#"{".data":{},"types.data":{}}"#,
            "types.data[0]: an entry with this key is there twice",
        ),
        (r#"{"big":{"x":1}}"#, "big[x]: \"x\" is given where a number is needed"),
        (
            r#"{"big":{"1":"WIED"}}"#,
            "big[1]: the enumeration has no `WIED`; did you mean `WIDE`?",
        ),
        (
            r#"{"records":[1]}"#,
            "records: a list is given where an object with values by key is needed",
        ),
        (
            r#"{"records":{"{\"port\":65536}":{}}}"#,
            "records[{\"port\":65536}].port: 65536 is out of range: 0 to 65535",
        ),
        (
            r#"{"records":{"entries":[{"key":{},"value":{"bytes":[0,0,0,256]}}]}}"#,
            "records.entries[0].value.bytes[3]: 256 is out of range: 0 to 255",
        ),
        (
            r#"{"records":{"entries":[{"kye":{}}]}}"#,
            "records.entries[0].kye: there is no such member; did you mean `key`?",
        ),
        (
            r#"{"records":{"entries":[{"value":{}}]}}"#,
            "records.entries[0]: it has no `key`",
        ),
        (
            r#"{"big":{"entries":[{"key":0}]}}"#,
            "big.entries[0]: it has no `value`",
        ),
        (
            r#"{"jumps":{"entries":[{"key":0,"value":"x"}]}}"#,
            "jumps.entries[0]: it has no `object`",
        ),
        (
            r#"{"jumps":[5]}"#,
            "jumps[0]: 5 is given where the name of a program is needed",
        ),
        (
            r#"{"big":{"entries":[],"value_size":4}}"#,
            "big.value_size: it is 4 here, and 8 in the module",
        ),
        (
            r#"{"big":{"entries":[],"omitted":3}}"#,
            "big.omitted: 3 entries of it are not in the file; set this to 0 if they are to stay away",
        ),
        (
            r#"{"big":{"entries":[{"key":0,"value":1,"value_bytes":"hex:0200000000000000"}]}}"#,
            "big.entries[0].value: it says something else than `value_bytes` beside it; remove `value_bytes` if this is meant",
        ),
        (
            r#"{"events":{"0":1}}"#,
            "events[0]: \"0\" is given where bytes, as `hex:…`, is needed",
        ),
        (
            r#"{".data":{"fist":1}}"#,
            ".data.fist: there is no such variable; did you mean `first`?",
        ),
        (
            r#"{".data":{"first":-1}}"#,
            ".data.first: -1 is out of range: 0 to 4294967295",
        ),
        (
            r#"{"sizes":{"4294967296":1}}"#,
            "sizes[4294967296]: 4294967296 is out of range: 0 to 4294967295",
        ),
    ] {
        assert_eq!(load(text, Some(&types)).unwrap_err(), message, "{text}");
    }
    assert_eq!(
        load(r#"{"types.data":{"variables":{},"entries":[]}}"#, None).unwrap_err(),
        "types.data.variables: variables can only be read with the types of the object; without them, remove this and \
         give the bytes in `entries`"
    );
}

/// A map whose keys and values have padding, and a section with a variable of the same type.
fn padded() -> ModuleTypes {
    let mut types = Types::default();
    let [u8, u16] = [types.integer("unsigned char", 1), types.integer("unsigned short", 2)];
    let of = types.structure(false, 4, &[("a", u8, 0, None), ("b", u16, 16, None)]);
    let entries = bpf2sys_bytecode::EntryTypes {
        key: Some(of),
        value: Some(of),
    };
    let (name, offset) = ("pair".to_owned(), 0);
    let section = Section {
        name: ".data".to_owned(),
        variables: vec![bpf2sys_bytecode::Variable { name, offset, of }],
        initial: vec![0; 4],
    };
    let of_pairs = MapTypes {
        entries,
        ..MapTypes::default()
    };
    let of_data = MapTypes {
        section: Some(section),
        ..MapTypes::default()
    };
    let maps = [("pairs".to_owned(), of_pairs), ("m.data".to_owned(), of_data)];
    ModuleTypes::new(types.0, maps.into())
}

#[test]
fn padding_is_kept() {
    let types = padded();
    let mut pairs = map("pairs", 1, "hash", [4, 4]);
    pairs.entries = vec![entry(&[1, 9, 2, 0], &[&[3, 9, 4, 0]])];
    let mut data = map("m.data", 2, "array", [4, 4]);
    data.entries = vec![entry(&[0; 4], &[&[5, 9, 6, 0]])];
    let maps = [pairs, data];
    let shapes: Vec<MapShape> = maps.iter().map(MapShape::from).collect();
    let json = maps_to_json(&maps, Some(&types));
    assert_eq!(
        compact(json.get("pairs").unwrap().get("entries").unwrap()),
        r#"[{"key":{"a":1,"b":2},"key_bytes":"hex:01090200","value":{"a":3,"b":4},"value_bytes":"hex:03090400"}]"#
    );
    assert_eq!(maps_from_json(&json, &shapes, Some(&types)).unwrap(), presets(&maps));
}

#[test]
fn types_of_another_size_are_not_used() {
    let types = padded();
    let shapes = [MapShape::from(&map("pairs", 1, "hash", [2, 8]))];
    let found = maps_from_json(&parse(r#"{"pairs":{"7":8}}"#), &shapes, Some(&types)).unwrap();
    assert_eq!(found, [preset("pairs", &[7, 0], &[8, 0, 0, 0, 0, 0, 0, 0])]);
    let mut other = map("pairs", 1, "hash", [2, 8]);
    other.entries = vec![entry(&[7, 0], &[&[8; 8]])];
    let json = maps_to_json(&[other], Some(&types));
    let entries = json.get("pairs").unwrap().get("entries").unwrap();
    assert_eq!(
        compact(entries),
        r#"[{"key":"hex:0700","value":"hex:0808080808080808"}]"#
    );
}
