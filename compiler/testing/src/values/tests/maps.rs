//! Maps of an object with types of every kind.

mod differences;
mod expected;
mod loading;

use bpf2sys_simulator::{HexBytes, MapContents, MapEntryContents, MapPreset, PresetValue, RingRecord};

use super::*;

/// The types of an object that has maps and variables.
fn object() -> ModuleTypes {
    let bytes = include_bytes!("../../../../bytecode/tests/fixtures/types/types.o");
    ModuleTypes::from_module(&bpf2sys_bytecode::read(bytes, "types.o").unwrap())
}

/// A map by name, type and sizes.
fn map(name: &str, map_type: u32, type_name: &str, [key_size, value_size]: [u32; 2]) -> MapContents {
    MapContents {
        name: name.to_owned(),
        map_type,
        type_name: type_name.to_owned(),
        key_size,
        value_size,
        max_entries: 16,
        ..MapContents::default()
    }
}

fn entry(key: &[u8], values: &[&[u8]]) -> MapEntryContents {
    MapEntryContents {
        key: HexBytes(key.to_vec()),
        values: values.iter().map(|value| HexBytes(value.to_vec())).collect(),
        object: None,
    }
}

fn named(key: &[u8], object: &str) -> MapEntryContents {
    MapEntryContents {
        object: Some(object.to_owned()),
        ..entry(key, &[])
    }
}

/// A map of each kind, with something in it.
fn maps() -> Vec<MapContents> {
    let mut records = map("records", 1, "hash", [8, 48]);
    let mut value = vec![0; 48];
    value[..4].copy_from_slice(&[7, 0, 0, 0]);
    value[12..16].fill(0xff);
    records.entries = vec![entry(&[1, 0, 0, 0, 53, 0, 0xaa, 0xbb], &[&value])];
    // Padding.
    value[47] = 1;
    records.entries.push(entry(&[2, 0, 0, 0, 0, 0, 0, 0], &[&value]));
    let mut sizes = map("sizes", 1, "hash", [4, 8]);
    sizes.entries = vec![entry(&[1, 2, 3, 4], &[&[8; 8]])];
    let mut big = map("big", 2, "array", [4, 8]);
    big.entries = vec![entry(&[0; 4], &[&[0, 0, 0, 0, 0, 1, 0, 0]])];
    let mut variables = map("types.data", 2, "array", [4, 24]);
    let bytes: Vec<u8> = (0..24).map(|i| if i % 8 == 0 { i + 1 } else { 0 }).collect();
    variables.entries = vec![entry(&[0; 4], &[&bytes])];
    let mut hits = map("hits", 5, "percpu_array", [4, 2]);
    hits.entries = vec![entry(&[0; 4], &[&[1, 0], &[1, 0]])];
    let mut jumps = map("jumps", 3, "prog_array", [4, 4]);
    jumps.entries = vec![named(&[2, 0, 0, 0], "next")];
    let mut jobs = map("jobs", 12, "stack", [0, 1]);
    jobs.entries = vec![entry(&[], &[&[3]]), entry(&[], &[&[2]])];
    let mut events = map("events", 13, "ringbuf", [0, 0]);
    let data = HexBytes(vec![1, 0, 0, 0, 53, 0, 0, 0]);
    events.records = vec![RingRecord { cpu: None, data }];
    vec![records, sizes, big, variables, hits, jumps, jobs, events]
}

fn shapes() -> Vec<MapShape> {
    maps().iter().map(MapShape::from).collect()
}

fn compact(json: &Json) -> String {
    serde_json::to_string(json).unwrap()
}

#[test]
fn maps_are_shown_by_their_types() {
    let mut types = object();
    types.set_record_type(&shapes(), "events", "struct key").unwrap();
    let json = maps_to_json(&maps(), Some(&types));
    let shown = |name: &str, member: &str| compact(json.get(name).unwrap().get(member).unwrap());
    assert_eq!(
        compact(json.get("big").unwrap()),
        r#"{"type":"array","key_size":4,"value_size":8,"max_entries":16,"entries":[{"key":0,"value":"WIDE"}],"omitted":0,"records":[]}"#
    );
    let value = concat!(
        r#"{"count":7,"kind":"KIND_NONE","level":"LOW","few":0,"many":0,"bytes":"hex:0000000000000000","whole":0,"#,
        r#""next":"0x0","set":false,"letter":0,"negative":0}"#
    );
    let bytes = format!("hex:07000000{}ffffffff{}01", "00".repeat(8), "00".repeat(31));
    assert_eq!(
        shown("records", "entries"),
        [
            r#"[{"key":{"address":1,"port":53,"rest":"hex:aabb"},"value":"#,
            value,
            r#"},{"key":{"address":2,"port":0,"rest":"hex:0000"},"value":"#,
            value,
            &format!(r#","value_bytes":"{bytes}"}}]"#),
        ]
        .concat()
    );
    assert_eq!(
        shown("sizes", "entries"),
        r#"[{"key":"hex:01020304","value":"hex:0808080808080808"}]"#
    );
    assert_eq!(shown("types.data", "variables"), r#"{"first":1,"second":[9,17]}"#);
    assert_eq!(
        shown("hits", "entries"),
        r#"[{"key":0,"values":["hex:0100","hex:0100"]}]"#
    );
    assert_eq!(shown("jumps", "entries"), r#"[{"key":2,"object":"next"}]"#);
    assert_eq!(shown("jobs", "entries"), r#"[{"value":"hex:03"},{"value":"hex:02"}]"#);
    assert_eq!(
        shown("events", "records"),
        r#"[{"data":{"address":1,"port":53,"rest":"hex:0000"}}]"#
    );
}

#[test]
fn without_types_they_are_bytes() {
    let json = maps_to_json(&maps(), None);
    let entries = |name: &str| compact(json.get(name).unwrap().get("entries").unwrap());
    assert_eq!(entries("big"), r#"[{"key":0,"value":"hex:0000000000010000"}]"#);
    assert!(entries("records").starts_with(r#"[{"key":"hex:010000003500aabb","value":"hex:07"#));
    assert_eq!(json.get("types.data").unwrap().get("variables"), None);
}

#[test]
fn maps_of_further_loads_have_names_of_their_own() {
    let mut second = maps().remove(2);
    second.load = 1;
    let json = maps_to_json(&[maps().remove(2), second], None);
    assert_eq!(json.get("big@1").unwrap().get("load"), Some(&Json::from(1)));
    assert_eq!(json.get("big").unwrap().get("load"), None);
}

#[test]
fn records_get_types_by_name() {
    let mut types = object();
    let mut error = |map: &str, of: &str| types.set_record_type(&shapes(), map, of).unwrap_err().to_string();
    assert_eq!(error("event", "key"), "there is no map `event`; did you mean `events`?");
    assert_eq!(error("big", "struct key"), "the map `big` holds no records");
    assert_eq!(
        error("events", "struct keys"),
        "the object's BTF and debug information have no type `struct keys`; did you mean `struct key`?"
    );
}
