use super::*;

fn lines(before: &[MapContents], after: &[MapContents], types: Option<&ModuleTypes>) -> Vec<String> {
    let changes = difference(before, after, types);
    changes.iter().map(ToString::to_string).collect()
}

/// One map with other entries.
fn changed(map: &MapContents, entries: Vec<MapEntryContents>) -> Vec<MapContents> {
    vec![MapContents { entries, ..map.clone() }]
}

#[test]
fn equal_maps_differ_in_nothing() {
    assert_eq!(lines(&maps(), &maps(), Some(&object())), [""; 0]);
}

#[test]
fn changes_are_lines() {
    let mut types = object();
    types.set_record_type(&shapes(), "events", "struct key").unwrap();
    let mut after = maps();
    after[0].entries.remove(0);
    // Only padding.
    after[0].entries[0].values[0].0[47] = 2;
    after[1].entries.insert(0, entry(&[9, 2, 3, 4], &[&[1; 8]]));
    after[2].entries = vec![entry(&[2, 0, 0, 0], &[&[7, 0, 0, 0, 0, 0, 0, 0]])];
    after[3].entries[0].values[0].0[16] = 5;
    after[4].entries[0].values[1].0[0] = 4;
    after[5].entries = vec![named(&[2, 0, 0, 0], "other"), named(&[3, 0, 0, 0], "next")];
    after[6].entries = vec![entry(&[], &[&[5]]), entry(&[], &[&[2]])];
    after[7].records.push(RingRecord {
        cpu: None,
        data: HexBytes(vec![2, 0, 0, 0, 80, 0, 1, 2]),
    });
    let mut found = lines(&maps(), &after, Some(&types));
    let padding = found.remove(1);
    assert!(
        padding.starts_with("records[{ address = 2, port = 0, rest = hex:0000 }]: hex:07"),
        "{padding}"
    );
    assert!(padding.ends_with("02"), "{padding}");
    assert!(
        found
            .remove(0)
            .starts_with("records: - { address = 1, port = 53, rest = hex:aabb } = { count = 7, kind")
    );
    assert_eq!(
        found,
        [
            "sizes: + hex:09020304 = hex:0101010101010101",
            "big[0]: WIDE -> 0",
            "big[2]: 0 -> 7",
            "types.data.second: [9, 17] -> [9, 5]",
            "hits[0]: [hex:0100, hex:0100] -> [hex:0100, hex:0400]",
            "jumps[2]: next -> other",
            "jumps: + 3 = next",
            "jobs: - hex:03",
            "jobs: + hex:05",
            "events: + { address = 2, port = 80, rest = hex:0102 }",
        ]
    );
    let last = difference(&maps(), &after, Some(&types)).pop().unwrap();
    assert_eq!(
        compact(&last.to_json()),
        r#"{"map":"events","change":"record","data":{"address":2,"port":80,"rest":"hex:0102"}}"#
    );
}

#[test]
fn what_only_one_report_has_came_or_went() {
    let big = maps().remove(2);
    let jumps = maps().remove(5);
    assert_eq!(
        lines(&[jumps], &[big], None),
        [
            "big[0]: hex:0000000000000000 -> hex:0000000000010000",
            "jumps: - 2 = next"
        ]
    );
}

#[test]
fn variables_without_names_are_bytes() {
    let types = object();
    let mut after = vec![maps().remove(3)];
    after[0].entries[0].values[0].0[5] = 1;
    let found = lines(&[maps().remove(3)], &after, Some(&types));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("types.data[0]: hex:01"), "{found:?}");
}

#[test]
fn queues_are_taken_from_the_front_and_stacks_from_the_top() {
    let of = |values: &[u8]| values.iter().map(|v| entry(&[], &[&[*v]])).collect::<Vec<_>>();
    let queue = map("q", 10, "queue", [0, 1]);
    let stack = map("s", 12, "stack", [0, 1]);
    for (map, before, after, expected) in [
        (
            &queue,
            &[1, 2, 3][..],
            &[2, 3, 4][..],
            &["q: - hex:01", "q: + hex:04"][..],
        ),
        (&queue, &[1, 1, 2], &[1, 2, 1], &["q: - hex:01", "q: + hex:01"]),
        (&queue, &[1, 1, 1], &[1, 1], &["q: - hex:01"]),
        (&queue, &[1], &[], &["q: - hex:01"]),
        (&queue, &[], &[1], &["q: + hex:01"]),
        (
            &stack,
            &[2, 1],
            &[4, 3, 1],
            &["s: - hex:02", "s: + hex:03", "s: + hex:04"],
        ),
    ] {
        let found = lines(&changed(map, of(before)), &changed(map, of(after)), None);
        assert_eq!(found, expected, "{before:?} {after:?}");
    }
}

#[test]
fn keys_are_in_the_order_of_numbers() {
    let sizes = maps().remove(1);
    let keys = [[0, 1, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]];
    let entries = keys.iter().map(|key| entry(key, &[&[0; 8]])).collect();
    let found = lines(&changed(&sizes, Vec::new()), &changed(&sizes, entries), None);
    let keys: Vec<&str> = found.iter().map(|line| &line[9..21]).collect();
    assert_eq!(keys, ["hex:01000000", "hex:02000000", "hex:00010000"]);
}

#[test]
fn entries_that_a_report_leaves_out_are_not_compared() {
    let big = maps().remove(2);
    let at = |index: u8| entry(&[index, 0, 0, 0], &[&[1; 8]]);
    let before = changed(&big, vec![at(1), at(9)]);
    let mut after = changed(&big, vec![at(0), at(1), at(2)]);
    after[0].omitted = 1;
    assert_eq!(
        lines(&before, &after, None),
        [
            "big[0]: hex:0000000000000000 -> hex:0101010101010101",
            "big[2]: hex:0000000000000000 -> hex:0101010101010101",
            "big: entries behind 2 are not compared"
        ]
    );
}

#[test]
fn records_of_processors_are_apart() {
    let mut before = map("perf", 14, "perf_event_array", [4, 4]);
    let record = |cpu, byte| RingRecord {
        cpu: Some(cpu),
        data: HexBytes(vec![byte]),
    };
    before.records = vec![record(0, 1), record(1, 2)];
    let mut after = before.clone();
    after.records = vec![record(0, 1), record(0, 3), record(1, 2), record(1, 2)];
    assert_eq!(
        lines(&[before], &[after], None),
        ["perf[cpu 0]: + hex:03", "perf[cpu 1]: + hex:02"]
    );
    // The oldest have made room.
    let mut before = map("ring", 13, "ringbuf", [0, 0]);
    let mut after = before.clone();
    let records = |bytes: &[u8]| bytes.iter().map(|byte| record(0, *byte)).collect();
    (before.records, after.records) = (records(&[1, 2, 3]), records(&[3, 4]));
    assert_eq!(lines(&[before], &[after], None), ["ring[cpu 0]: + hex:04"]);
}

#[test]
fn an_example_reads_as_it_is_written() {
    let bytes = include_bytes!("../../../../../../examples/udp_filter/udp_filter.o");
    let module = bpf2sys_bytecode::read(bytes, "udp_filter.o").unwrap();
    let types = ModuleTypes::from_module(&module);
    let shapes: Vec<MapShape> = module.maps.iter().map(MapShape::from).collect();
    let given = parse(r#"{"blocked_ports":{"53":1},"counters":[0,0,7]}"#);
    let presets = maps_from_json(&given, &shapes, Some(&types)).unwrap();
    let after: Vec<MapContents> = shapes
        .iter()
        .map(|shape| {
            let type_name = if shape.map_type == 1 { "hash" } else { "array" };
            let empty = map(
                &shape.name,
                shape.map_type,
                type_name,
                [shape.key_size, shape.value_size],
            );
            let of_map = presets.iter().filter(|preset| preset.map == shape.name);
            let entries = of_map.map(|preset| match &preset.value {
                PresetValue::Bytes(value) => entry(&preset.key.0, &[&value.0]),
                PresetValue::Name(name) => named(&preset.key.0, name),
            });
            changed(&empty, entries.collect()).remove(0)
        })
        .collect();
    assert_eq!(
        lines(&[], &after, Some(&types)),
        ["blocked_ports: + 53 = 1", "counters[2]: 0 -> 7"]
    );
}
