//! Maps of every type, used by native code.

use bpf2sys_simulator::{HexBytes, Input, MapPreset, PresetValue, RunReport, RunRequest, SimulatedMachine};

use super::call::Arg::{Context, Map, Memory, Number};
use super::call::{Helper, helper, input, map, memory_after, neg32, neg64, result, results, run_calls};
use super::fixture::{preset, request, run, value};
use super::patch::Patched;

fn lookup(map: u64, key: &[u8]) -> Helper {
    helper(1, &[Map(map), Memory(0)]).memory(key).copy(8)
}

fn update(map: u64, key: &[u8], value: &[u8], flags: u64) -> Helper {
    let mut memory = key.to_vec();
    memory.resize(16, 0);
    memory.extend(value);
    helper(2, &[Map(map), Memory(0), Memory(16), Number(flags)]).memory(&memory)
}

fn delete(map: u64, key: &[u8]) -> Helper {
    helper(3, &[Map(map), Memory(0)]).memory(key)
}

fn found(report: &RunReport, index: usize) -> Option<Vec<u8>> {
    let bytes = &report.results[index].packet.0;
    (result(&report.results[index]) != 0).then(|| bytes[8..16].to_vec())
}

pub fn hash_maps_honour_their_flags() {
    let key = [7, 0, 0, 0];
    let calls = [
        update(map::HASH, &key, &[1; 8], 2),
        update(map::HASH, &key, &[1; 8], 1),
        update(map::HASH, &key, &[2; 8], 1),
        update(map::HASH, &key, &[3; 8], 2),
        update(map::HASH, &key, &[4; 8], 9),
        lookup(map::HASH, &key),
        delete(map::HASH, &key),
        delete(map::HASH, &key),
        lookup(map::HASH, &key),
        update(map::HASH, &[1, 0, 0, 0], &[5; 8], 0),
    ];
    let report = run_calls(&calls);
    let codes: Vec<u64> = report.results.iter().map(result).collect();
    assert_eq!(codes[..5], [neg64(19), 0, neg64(26), 0, neg64(6)]);
    assert_eq!(found(&report, 5).unwrap(), [3; 8]);
    assert_eq!(codes[6..], [0, neg64(19), 0, 0]);
    assert_eq!(value(&report, "hash", &[1, 0, 0, 0]).unwrap(), [5; 8]);
    assert!(value(&report, "hash", &key).is_none());
}

pub fn the_option_of_an_update_has_32_bits() {
    let key = [7, 0, 0, 0];
    let calls = [
        update(map::HASH, &key, &[1; 8], 1 << 32 | 2),
        update(map::HASH, &key, &[1; 8], 1 << 32),
        update(map::HASH, &key, &[1; 8], 1 << 63 | 1),
        update(map::ARRAY, &[1, 0, 0, 0], &[1; 8], 1 << 32 | 1),
        update(map::ARRAY, &[1, 0, 0, 0], &[1; 8], 9),
    ];
    assert_eq!(results(&calls), [neg64(19), 0, neg64(26), neg64(6), 0]);
}

pub fn arrays_are_bounded_and_zeroed_by_delete() {
    let calls = [
        update(map::ARRAY, &[3, 0, 0, 0], &[9; 8], 0),
        update(map::ARRAY, &[4, 0, 0, 0], &[9; 8], 0),
        update(map::ARRAY, &[3, 0, 0, 0], &[9; 8], 1),
        lookup(map::ARRAY, &[4, 0, 0, 0]),
        lookup(map::ARRAY, &[3, 0, 0, 0]),
        delete(map::ARRAY, &[3, 0, 0, 0]),
        delete(map::ARRAY, &[4, 0, 0, 0]),
    ];
    let report = run_calls(&calls);
    let codes: Vec<u64> = report.results.iter().map(result).collect();
    assert_eq!(codes[..4], [0, neg64(6), neg64(6), 0]);
    assert_eq!(found(&report, 4).unwrap(), [9; 8]);
    assert_eq!(codes[5..], [0, neg64(6)]);
    assert_eq!(value(&report, "array", &[3, 0, 0, 0]).unwrap(), [0; 8]);
}

pub fn per_cpu_maps_show_programs_the_value_of_their_processor() {
    let mut request = request(
        [
            update(map::CPU_ARRAY, &[1, 0, 0, 0], &[2; 4], 0),
            update(map::CPU_HASH, &[1, 0, 0, 0], &[3; 4], 0),
        ]
        .iter()
        .map(|c| input(c, "call_xdp", &[0; 64]))
        .collect(),
    );
    request.machine = SimulatedMachine {
        cpus: 3,
        cpu: 2,
        ..SimulatedMachine::default()
    };
    let each: Vec<u8> = [[4; 4], [5; 4], [6; 4]].concat();
    request.presets = vec![
        preset("cpu_hash", &[1, 0, 0, 0], &[9; 4]),
        preset("cpu_hash", &[2, 0, 0, 0], &each),
        preset("cpu_array", &[0; 4], &each),
    ];
    let report = run(&request).unwrap();
    let values = |name: &str, key: &[u8]| {
        let map = report.maps.iter().find(|m| m.name == name).unwrap();
        let entry = map.entries.iter().find(|e| e.key.0 == key).unwrap();
        entry.values.iter().map(|v| v.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(values("cpu_array", &[1, 0, 0, 0]), [0, 0, 2]);
    assert_eq!(values("cpu_hash", &[1, 0, 0, 0]), [9, 9, 3]);
    for map in ["cpu_hash", "cpu_array"] {
        let key = if map == "cpu_hash" { [2, 0, 0, 0] } else { [0; 4] };
        assert_eq!(values(map, &key), [4, 5, 6], "{map}");
    }
}

pub fn lru_maps_drop_what_was_used_longest_ago() {
    let key = |n: u8| [n, 0, 0, 0];
    let calls = [
        update(map::LRU, &key(1), &[1; 8], 0),
        update(map::LRU, &key(2), &[2; 8], 0),
        lookup(map::LRU, &key(1)),
        update(map::LRU, &key(3), &[3; 8], 0),
        update(map::LRU_CPU, &key(1), &[1; 4], 0),
        update(map::LRU_CPU, &key(2), &[2; 4], 0),
        update(map::LRU_CPU, &key(3), &[3; 4], 0),
    ];
    let report = run_calls(&calls);
    let keys = |name: &str| {
        let map = report.maps.iter().find(|m| m.name == name).unwrap();
        map.entries.iter().map(|e| e.key.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(keys("lru"), [1, 3]);
    assert_eq!(keys("lru_cpu"), [2, 3]);
}

pub fn prefix_maps_find_the_longest_prefix() {
    let key = |bits: u8, a: u8, b: u8| [bits, 0, 0, 0, a, b, 0, 0];
    let calls = [
        update(map::LPM, &key(8, 10, 99), &[1; 8], 0),
        update(map::LPM, &key(16, 10, 1), &[2; 8], 0),
        lookup(map::LPM, &key(32, 10, 1)),
        lookup(map::LPM, &key(32, 10, 2)),
        lookup(map::LPM, &key(32, 11, 1)),
        lookup(map::LPM, &key(33, 10, 1)),
        update(map::LPM, &key(33, 10, 1), &[2; 8], 0),
        delete(map::LPM, &key(16, 10, 1)),
        lookup(map::LPM, &key(32, 10, 1)),
    ];
    let report = run_calls(&calls);
    assert_eq!(found(&report, 2).unwrap(), [2; 8]);
    assert_eq!(found(&report, 3).unwrap(), [1; 8]);
    assert_eq!((found(&report, 4), found(&report, 5)), (None, None));
    assert_eq!(result(&report.results[6]), neg64(6));
    assert_eq!(found(&report, 8).unwrap(), [1; 8]);
}

pub fn queues_and_stacks_take_turns() {
    let push = |map, byte: u8, flags| helper(16, &[Map(map), Memory(0), Number(flags)]).memory(&[byte; 8]);
    let take = |id, map| helper(id, &[Map(map), Memory(0)]);
    for (map, first) in [(map::QUEUE, 1u8), (map::STACK, 2)] {
        let calls = [
            take(17, map),
            push(map, 1, 0),
            push(map, 2, 0),
            push(map, 3, 0),
            take(18, map),
            helper(1, &[Map(map), Memory(0)]).copy(8),
            take(17, map),
        ];
        let report = run_calls(&calls);
        let codes: Vec<u64> = report.results.iter().map(result).collect();
        assert_eq!(codes[..5], [neg32(7), 0, 0, neg32(29), 0]);
        assert_eq!(found(&report, 5).unwrap(), [first; 8]);
        assert_eq!(memory_after(&report)[..8], [first; 8]);
    }
    // Overwriting drops the oldest.
    let report = run_calls(&[push(map::QUEUE, 1, 0), push(map::QUEUE, 2, 0), push(map::QUEUE, 3, 2)]);
    let queue = report.maps.iter().find(|m| m.name == "queue").unwrap();
    assert_eq!(
        queue.entries.iter().map(|e| e.values[0].0[0]).collect::<Vec<_>>(),
        [2, 3]
    );
    // Other maps have no ends.
    assert_eq!(
        results(&[
            take(17, map::HASH),
            push(map::ARRAY, 1, 0),
            take(18, map::RING),
            push(map::PROGS, 1, 0)
        ]),
        [neg32(6), neg32(6), neg32(18), neg32(18)]
    );
}

pub fn lookup_and_delete_gives_the_last_sight_of_a_value() {
    let calls = [
        update(map::HASH, &[1, 0, 0, 0], &[6; 8], 0),
        helper(4, &[Map(map::HASH), Memory(0)]).memory(&[1, 0, 0, 0]).copy(8),
        helper(4, &[Map(map::HASH), Memory(0)]).memory(&[1, 0, 0, 0]).copy(8),
        helper(4, &[Map(map::ARRAY), Memory(0)]).memory(&[1, 0, 0, 0]).copy(8),
    ];
    let report = run_calls(&calls);
    assert_eq!(found(&report, 1).unwrap(), [6; 8]);
    assert_eq!((found(&report, 2), found(&report, 3)), (None, None));
}

pub fn maps_of_maps_lead_to_inner_maps() {
    // The fifth argument asks the test program to look into what it found.
    let inner =
        |key: u8| helper(1, &[Map(map::OUTER), Memory(0), Number(0), Number(0), Number(1)]).memory(&[key, 0, 0, 0]);
    let mut request = request(vec![
        input(&inner(1), "call_xdp", &[0; 64]),
        input(&inner(0), "call_xdp", &[0; 64]),
        input(&delete(map::OUTER, &[1, 0, 0, 0]), "call_xdp", &[0; 64]),
        input(&update(map::OUTER, &[0, 0, 0, 0], &[0; 8], 0), "call_xdp", &[0; 64]),
        input(&lookup(map::PROGS, &[0, 0, 0, 0]), "call_xdp", &[0; 64]),
    ]);
    request.presets = vec![preset("inner", &[1, 0, 0, 0], &[8; 8])];
    let report = run(&request).unwrap();
    let codes: Vec<u64> = report.results.iter().map(result).collect();
    assert_eq!(codes, [u64::from_le_bytes([8; 8]), 0, 0, neg64(18), 0]);
    assert!(
        report
            .maps
            .iter()
            .find(|m| m.name == "outer")
            .unwrap()
            .entries
            .is_empty()
    );
}

pub fn rings_keep_records_until_they_are_full() {
    let output = |length| helper(11, &[Map(map::RING), Memory(0), Number(length), Number(0)]).memory(&[5; 300]);
    let calls: Vec<Helper> = std::iter::repeat_n(output(300), 14).chain([output(5)]).collect();
    let report = run_calls(&calls);
    let codes: Vec<u64> = report.results.iter().map(result).collect();
    // 4096 bytes hold 13 records of 308, rounded up to 312, and a small one.
    assert_eq!(codes[12..], [0, neg32(12), 0]);
    let ring = report.maps.iter().find(|m| m.name == "ring").unwrap();
    assert_eq!(
        (ring.records.len(), ring.records[13].data.0.as_slice()),
        (14, [5; 5].as_slice())
    );
}

pub fn perf_events_carry_packet_bytes_on_demand() {
    let output = |flags| helper(32, &[Context, Map(map::PERF), Number(flags), Memory(0), Number(2)]).memory(&[1, 2]);
    let calls = [
        output(0xFFFF_FFFF),
        output(3 << 32),
        output(7),
        output(1 << 52),
        output(65 << 32 | 0xFFFF_FFFF),
    ];
    let inputs = calls.iter().map(|c| input(c, "call_xdp", &[9; 64])).collect();
    let report = run(&request(inputs)).unwrap();
    let codes: Vec<u64> = report.results.iter().map(result).collect();
    assert_eq!(codes, [0, 0, neg32(6), neg32(6), neg32(6)]);
    let perf = report.maps.iter().find(|m| m.name == "perf").unwrap();
    let records: Vec<_> = perf.records.iter().map(|r| (r.cpu, r.data.0.clone())).collect();
    assert_eq!(records, [(Some(0), vec![1, 2]), (Some(0), vec![1, 2, 9, 9, 9])]);
}

pub fn hashes_of_maps_hold_maps_by_key() {
    let inner = helper(1, &[Map(map::OUTER_HASH), Memory(0), Number(0), Number(0), Number(1)]).memory(&[1, 0, 0, 0]);
    let gone = delete(map::OUTER_HASH, &[1, 0, 0, 0]);
    let calls = [&inner, &gone, &gone, &inner];
    let mut request = request(calls.iter().map(|c| input(c, "call_xdp", &[0; 64])).collect());
    request.presets = vec![
        preset("inner", &[1, 0, 0, 0], &[8; 8]),
        MapPreset {
            map: "outer_hash".into(),
            key: HexBytes(vec![1, 0, 0, 0]),
            value: PresetValue::Name("inner".into()),
        },
    ];
    let report = run(&request).unwrap();
    let codes: Vec<u64> = report.results.iter().map(result).collect();
    assert_eq!(codes, [u64::from_le_bytes([8; 8]), 0, neg64(7), 0]);
}

pub fn a_value_outlives_its_deletion_until_the_program_ends() {
    // More values than get guard pages of their own, replaced again and again: none of them may run out.
    let mut request = request(vec![]);
    for i in 0..5000u32 {
        request
            .presets
            .push(preset("hash", &i.to_le_bytes(), &u64::from(i).to_le_bytes()));
    }
    request.inputs = vec![Input {
        repeat: 3000,
        ..input(&update(map::HASH, &[1, 0, 0, 0], &[9; 8], 0), "call_xdp", &[0; 64])
    }];
    let report = run(&request).unwrap();
    assert_eq!(value(&report, "hash", &[1, 0, 0, 0]).unwrap(), [9; 8]);
    assert_eq!(
        value(&report, "hash", &4999u32.to_le_bytes()).unwrap(),
        4999u64.to_le_bytes()
    );
}

pub fn hundreds_of_values_are_all_within_reach() {
    // Each has a block of its own, more than the emulator is given at a time; each is looked at twice.
    const VALUES: u32 = 300;
    let mut patched = Patched::new();
    let entries = patched.map(map::HASH as usize, 52);
    patched.put(entries, &VALUES.to_le_bytes());
    let calls: Vec<Helper> = (0..2 * VALUES)
        .map(|i| lookup(map::HASH, &(i % VALUES).to_le_bytes()).copy(8))
        .collect();
    let request = RunRequest {
        image: patched.finish(),
        presets: (0..VALUES)
            .map(|i| preset("hash", &i.to_le_bytes(), &(u64::from(i) << 32 | 7).to_le_bytes()))
            .collect(),
        ..request(calls.iter().map(|c| input(c, "call_xdp", &[0; 64])).collect())
    };
    let report = run(&request).unwrap_or_else(|e| panic!("{e}"));
    for (i, invocation) in report.results.iter().enumerate() {
        let expected = u64::from(i as u32 % VALUES) << 32 | 7;
        assert_eq!(invocation.packet.0[8..16], expected.to_le_bytes(), "{i}");
    }
}
