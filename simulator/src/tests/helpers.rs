//! Every helper, called by native code with arguments that the test chooses.

use super::*;
use crate::{InvocationResult, Rule, SimulatedMachine};

/// Map indices in `testdata/module.c`.
#[allow(dead_code)]
mod map {
    pub const ARRAY: u64 = 1;
    pub const HASH: u64 = 2;
    pub const CPU_ARRAY: u64 = 3;
    pub const CPU_HASH: u64 = 4;
    pub const LRU: u64 = 5;
    pub const LRU_CPU: u64 = 6;
    pub const LPM: u64 = 7;
    pub const QUEUE: u64 = 8;
    pub const STACK: u64 = 9;
    pub const RING: u64 = 10;
    pub const PERF: u64 = 11;
    pub const PROGS: u64 = 12;
    pub const OUTER: u64 = 14;
    pub const OUTER_HASH: u64 = 15;
}

/// An argument for a helper.
#[derive(Clone, Copy)]
enum Arg {
    Number(u64),
    Map(u64),
    /// An offset in the memory that `Helper::memory` fills.
    Memory(u64),
    Context,
    Packet(u64),
    Globals,
}
use Arg::{Context, Globals, Map, Memory, Number, Packet};

/// One call.
#[derive(Clone)]
struct Helper {
    slot: u32,
    arguments: [Arg; 5],
    memory: Vec<u8>,
    copy: u32,
}

fn helper(id: u32, arguments: &[Arg]) -> Helper {
    let mut all = [Number(0); 5];
    all[..arguments.len()].copy_from_slice(arguments);
    Helper {
        slot: id - 1,
        arguments: all,
        memory: Vec::new(),
        copy: 0,
    }
}

impl Helper {
    fn memory(mut self, bytes: &[u8]) -> Self {
        self.memory = bytes.to_vec();
        self
    }

    /// Copies that many bytes from the address that the helper returns.
    fn copy(mut self, bytes: u32) -> Self {
        self.copy = bytes;
        self
    }

    fn parameters(&self) -> MapPreset {
        let mut bytes = Vec::new();
        bytes.extend(self.slot.to_le_bytes());
        bytes.extend(self.copy.to_le_bytes());
        for argument in self.arguments {
            let (kind, value): (u64, u64) = match argument {
                Number(n) => (0, n),
                Map(n) => (1, n),
                Memory(n) => (2, n),
                Context => (3, 0),
                Packet(n) => (4, n),
                Globals => (5, 0),
            };
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.resize(120, 0);
        bytes.extend(&self.memory);
        bytes.resize(512, 0);
        preset("params", &[0; 4], &bytes)
    }
}

fn input(helper: &Helper, program: &str, packet: &[u8]) -> Input {
    Input {
        program: program.into(),
        packet: HexBytes(packet.to_vec()),
        presets: vec![helper.parameters()],
        ..Input::default()
    }
}

/// Runs calls one after the other in the xdp program.
fn run_calls(calls: &[Helper]) -> RunReport {
    let inputs = calls.iter().map(|c| input(c, "call_xdp", &[0; 64])).collect();
    run(&request(inputs)).unwrap_or_else(|e| panic!("{e}"))
}

fn result(invocation: &InvocationResult) -> u64 {
    u64::from_le_bytes(invocation.packet.0[..8].try_into().unwrap())
}

fn results(calls: &[Helper]) -> Vec<u64> {
    run_calls(calls).results.iter().map(result).collect()
}

/// The parameters' memory after the last call.
fn memory_after(report: &RunReport) -> Vec<u8> {
    value(report, "params", &[0; 4]).unwrap()[120..504].to_vec()
}

fn neg64(code: i64) -> u64 {
    (-code) as u64
}

fn neg32(code: i32) -> u64 {
    u64::from((-code) as u32)
}

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

#[test]
fn hash_maps_honour_their_flags() {
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

#[test]
fn arrays_are_bounded_and_zeroed_by_delete() {
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

#[test]
fn per_cpu_maps_show_programs_the_value_of_their_processor() {
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
    request.presets = vec![preset("cpu_hash", &[1, 0, 0, 0], &[9; 4])];
    let report = run(&request).unwrap();
    let values = |name: &str, key: &[u8]| {
        let map = report.maps.iter().find(|m| m.name == name).unwrap();
        let entry = map.entries.iter().find(|e| e.key.0 == key).unwrap();
        entry.values.iter().map(|v| v.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(values("cpu_array", &[1, 0, 0, 0]), [0, 0, 2]);
    assert_eq!(values("cpu_hash", &[1, 0, 0, 0]), [9, 9, 3]);
}

#[test]
fn lru_maps_drop_what_was_used_longest_ago() {
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

#[test]
fn prefix_maps_find_the_longest_prefix() {
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

#[test]
fn queues_and_stacks_take_turns() {
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

#[test]
fn lookup_and_delete_gives_the_last_sight_of_a_value() {
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

#[test]
fn maps_of_maps_lead_to_inner_maps() {
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

#[test]
fn rings_keep_records_until_they_are_full() {
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

#[test]
fn perf_events_carry_packet_bytes_on_demand() {
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

#[test]
fn tail_calls_need_a_program_array_slot() {
    let call = |map, index| helper(5, &[Context, Map(map), Number(index)]);
    let report = run_calls(&[
        call(map::PROGS, 0),
        call(map::PROGS, 1),
        call(map::PROGS, 9),
        call(map::HASH, 0),
    ]);
    assert_eq!(report.results[0].tail_calls, ["tail_two"]);
    assert_eq!(
        report.results[1..].iter().map(result).collect::<Vec<_>>(),
        [neg64(6); 3]
    );
    // The index has 32 bits.
    assert_eq!(
        run_calls(&[call(map::PROGS, 1 << 32)]).results[0].tail_calls,
        ["tail_two"]
    );
}

#[test]
fn printed_lines_are_collected() {
    let format = b"n=%d m=%llx\n\0";
    let calls = [
        helper(
            14,
            &[Memory(0), Number(format.len() as u64), Number(neg64(1)), Number(255)],
        )
        .memory(format),
        helper(13, &[Memory(0), Number(4), Number(1)]).memory(b"%s\0\0"),
    ];
    let report = run_calls(&calls);
    assert_eq!(report.printed, ["n=-1 m=ff"]);
    assert_eq!(report.results.iter().map(result).collect::<Vec<_>>(), [9, neg32(1)]);
}

#[test]
fn memory_and_string_helpers_work_as_their_models() {
    // (id, r1..r4, memory, result, memory after at 0)
    let cases: &[(u32, [Arg; 4], &[u8], u64, &[u8])] = &[
        (
            22,
            [Memory(0), Number(4), Memory(8), Number(3)],
            b"aaaaaaaaxyz",
            0,
            b"xyza",
        ),
        (
            22,
            [Memory(0), Number(2), Memory(8), Number(3)],
            b"aaaaaaaaxyz",
            neg32(22),
            b"aaaa",
        ),
        (25, [Memory(1), Number(4), Memory(0), Number(4)], b"abcde", 0, b"aabcd"),
        (
            25,
            [Memory(1), Number(3), Memory(0), Number(4)],
            b"abcde",
            neg32(22),
            b"abcde",
        ),
        (
            23,
            [Memory(0), Number(2), Memory(8), Number(2)],
            b"ab______ac",
            neg32(1),
            b"ab",
        ),
        (
            23,
            [Memory(0), Number(2), Memory(8), Number(2)],
            b"ab______ab",
            0,
            b"ab",
        ),
        (
            23,
            [Memory(0), Number(3), Memory(8), Number(2)],
            b"abz_____ab",
            1,
            b"ab",
        ),
        (
            27,
            [Memory(0), Number(6), Memory(8), Number(6)],
            b"zzzzzzzzhi\0abc",
            0,
            b"hi\0\0\0\0zz",
        ),
        (
            27,
            [Memory(0), Number(3), Memory(8), Number(6)],
            b"zzzzzzzzhello\0",
            0x8000_0005,
            b"he\0zz",
        ),
        (
            27,
            [Memory(0), Number(0), Memory(8), Number(6)],
            b"zzzzzzzzhello\0",
            0xC000_000D,
            b"zz",
        ),
        (
            28,
            [Memory(0), Number(8), Memory(8), Number(6)],
            b"ab\0zzzzzhi\0abc",
            0,
            b"abhi\0\0\0\0hi",
        ),
        (
            28,
            [Memory(0), Number(4), Memory(8), Number(6)],
            b"ab\0zzzzzhi\0abc",
            0x8000_0005,
            b"abh\0zz",
        ),
        (
            28,
            [Memory(0), Number(4), Memory(8), Number(6)],
            b"abcdzzzzhi\0abc",
            0xC000_000D,
            b"abcdzz",
        ),
        (
            29,
            [Memory(0), Number(8), Number(0), Number(0)],
            b"abc\0defg",
            3,
            b"abc",
        ),
        (29, [Memory(0), Number(3), Number(0), Number(0)], b"abc\0", 3, b"abc"),
        // The sum of little-endian words of the new bytes and of the complement of the old ones.
        (
            10,
            [Memory(0), Number(4), Memory(8), Number(4)],
            b"\x01\0\x02\0____\x03\0\x04\0",
            7 + 0xFFFE + 0xFFFD,
            b"\x01",
        ),
        (10, [Memory(0), Number(3), Memory(8), Number(4)], b"", neg32(22), b""),
        (
            10,
            [Number(0), Number(0), Memory(8), Number(4)],
            b"________\x03\0\x04\0",
            7,
            b"_",
        ),
    ];
    for (id, arguments, memory, expected, after) in cases {
        let report = run_calls(&[helper(*id, arguments).memory(memory)]);
        assert_eq!(result(&report.results[0]), *expected, "helper {id} {memory:?}");
        assert_eq!(&memory_after(&report)[..after.len()], *after, "helper {id} {memory:?}");
    }
    let report = run_calls(&[helper(24, &[Memory(0), Number(3), Number(0x141)]).memory(b"zzzz")]);
    assert_eq!(memory_after(&report)[..4], *b"AAAz");
    let report = run_calls(&[helper(22, &[Packet(40), Number(2), Globals, Number(2)])]);
    assert_eq!(report.results[0].packet.0[40..42], [0x88, 0x77]);
}

#[test]
fn the_simulated_machine_is_all_that_programs_learn_about() {
    let ids = [6, 6, 7, 9, 30, 31, 8, 19, 33, 34];
    let calls: Vec<Helper> = ids.iter().map(|&id| helper(id, &[])).collect();
    let seen = results(&calls);
    assert_ne!(seen[0], seen[1]);
    assert!(seen[0] <= u64::from(u32::MAX));
    assert_eq!(seen[2..6], [60_000_000_000, 60_000_000_100, 60_000, 60_000]);
    let machine = SimulatedMachine::default();
    assert_eq!(
        seen[6..],
        [
            0,
            4242 << 32 | 4244,
            machine.process_start_key,
            machine.thread_create_time
        ]
    );
    let calls = [helper(20, &[Context]), helper(21, &[Context])];
    assert_eq!(results(&calls), [0x3E7, neg32(1)]);
    let mut other = request(vec![input(&helper(6, &[]), "call_xdp", &[0; 64])]);
    other.machine.random_seed = 2;
    assert_ne!(
        result(&run(&other).unwrap().results[0]),
        seen[0],
        "another seed gives other numbers"
    );
}

/// Calls a helper in a program of another type and gives its result and the memory after.
fn call_in(program: &str, helper: &Helper) -> (u64, Vec<u8>, RunReport) {
    let report = run(&request(vec![input(helper, program, &[])])).unwrap_or_else(|e| panic!("{e}"));
    let parameters = value(&report, "params", &[0; 4]).unwrap();
    (
        u64::from_le_bytes(parameters[88..96].try_into().unwrap()),
        memory_after(&report),
        report,
    )
}

#[test]
fn helpers_of_program_types_are_told_apart() {
    let machine = SimulatedMachine::default();
    assert_eq!(
        results(&[helper(35, &[Context, Number(neg64(4))])]),
        [neg32(1)],
        "bpf_xdp_adjust_head"
    );
    assert_eq!(call_in("call_sockops", &helper(35, &[Context])).0, machine.flow_id);
    assert_eq!(
        call_in("call_connect", &helper(37, &[Context])).0,
        machine.socket_cookie
    );
    assert_eq!(
        call_in("call_connect", &helper(21, &[Context])).0,
        0,
        "sock_addr knows who is an administrator"
    );

    let redirect = helper(35, &[Context, Memory(0), Number(3)]).memory(b"abc");
    let (code, _, report) = call_in("call_connect", &redirect);
    assert_eq!(
        (code, report.results[0].redirect_context.clone()),
        (0, Some(HexBytes(b"abc".to_vec())))
    );
    let (code, _, report) = call_in("call_accept", &redirect);
    assert_eq!((code, report.results[0].redirect_context.clone()), (neg32(1), None));

    let network = helper(36, &[Context, Memory(0), Number(40)]).memory(&[9; 41]);
    let (code, memory, _) = call_in("call_accept", &network);
    assert_eq!((code, memory[0], memory[4], memory[39], memory[40]), (0, 1, 6, 0, 9));
    assert_eq!(call_in("call_connect", &network).0, neg32(1));

    let path: Vec<u8> = machine
        .process_image_path
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let (length, memory, _) = call_in("call_process", &helper(35, &[Context, Memory(0), Number(300)]));
    assert_eq!((length, &memory[..path.len()]), (path.len() as u64, path.as_slice()));
    assert_eq!(
        call_in("call_process", &helper(35, &[Context, Memory(0), Number(4)])).0,
        neg32(22)
    );
    assert_eq!(
        call_in("call_process", &helper(36, &[Context, Memory(0), Number(8)])).1[..2],
        [b'u', 0]
    );
    assert_eq!(
        call_in("call_process", &helper(37, &[Context, Memory(0), Number(12)])).1[..2],
        [b'D', 0]
    );
    assert_eq!(call_in("call_bind", &helper(8, &[])).0, 0);
}

#[test]
fn pointers_that_programs_may_not_use_are_refused() {
    let cases: &[(Helper, &str)] = &[
        (
            helper(1, &[Memory(0), Memory(0)]),
            "argument 1 of bpf_map_lookup_elem must be a map",
        ),
        (
            helper(1, &[Map(map::HASH), Memory(390)]),
            "argument 2 of bpf_map_lookup_elem must be a key",
        ),
        (
            helper(22, &[Memory(0), Number(400), Memory(0), Number(4)]),
            "must be 400 writable bytes",
        ),
        (
            helper(22, &[Memory(0), Number(4), Context, Number(33)]),
            "must be 33 readable bytes",
        ),
        (helper(22, &[Context, Number(4), Number(0), Number(4)]), "it is NULL"),
        (
            helper(23, &[Memory(0), Number(u64::MAX), Memory(0), Number(0)]),
            "readable bytes",
        ),
        (
            helper(20, &[Memory(0)]),
            "argument 1 of bpf_get_current_logon_id must be the context",
        ),
        (
            helper(11, &[Map(map::RING), Memory(0), Number(0)]),
            "must be a size above 0",
        ),
        (
            helper(32, &[Context, Map(map::RING), Number(0), Memory(0), Number(1)]),
            "is given map ring of type 13",
        ),
        (
            helper(17, &[Map(map::QUEUE), Packet(60)]),
            "argument 2 of bpf_map_pop_elem must be a value of map queue",
        ),
        (
            helper(24, &[Map(map::HASH), Number(4), Number(0)]),
            "the object of map hash+0x0",
        ),
    ];
    for (call, text) in cases {
        match run(&request(vec![input(call, "call_xdp", &[0; 64])])) {
            Err(SimulatorError::Kernel { violation, .. }) => {
                assert_eq!(violation.rule, Rule::HelperArgument, "{violation}");
                assert!(violation.detail.contains(text), "{text}: {violation}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}
