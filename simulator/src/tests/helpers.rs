//! Every helper, called by native code with arguments that the test chooses.

use bpf2sys_simulator::{Answer, HexBytes, Rule, RunReport, RunRequest, SimulatedMachine, SimulatorError};

use super::call::Arg::{self, Context, Globals, Map, Memory, Number, Packet};
use super::call::{Helper, helper, input, map, memory_after, neg32, neg64, result, results, run_calls};
use super::fixture::{request, run, value};

pub fn tail_calls_need_a_program_array_slot() {
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

pub fn printed_lines_are_collected() {
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

/// Id, r1 to r4, memory before, result, start of the memory after.
type Case = (u32, [Arg; 4], &'static [u8], u64, &'static [u8]);

pub fn memory_and_string_helpers_work_as_their_models() {
    let cases: &[Case] = &[
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

pub fn the_simulated_machine_is_all_that_programs_learn_about() {
    let ids = [6, 6, 7, 9, 30, 31, 8, 19, 33, 34];
    let calls: Vec<Helper> = ids.iter().map(|&id| helper(id, &[])).collect();
    let seen = results(&calls);
    assert_ne!(seen[0], seen[1]);
    assert!(u32::try_from(seen[0]).is_ok());
    assert_eq!(seen[2..6], [60_000_000_000, 60_000_000_100, 60_000, 60_000]);
    let machine = SimulatedMachine::default();
    assert_eq!(
        seen[6..],
        [
            0,
            (4242 << 32) + 4244,
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

pub fn helpers_of_program_types_are_told_apart() {
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

pub fn pointers_that_programs_may_not_use_are_refused() {
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

pub fn several_answers_are_given_in_order_and_the_last_for_good() {
    let answer = |result, times| Answer {
        function: "bpf_get_smp_processor_id".into(),
        result,
        times,
        ..Answer::default()
    };
    let inputs = vec![input(&helper(8, &[]), "call_xdp", &[0; 64]); 6];
    let request = RunRequest {
        answers: vec![answer(7, 2), answer(8, 0), answer(9, 1)],
        ..request(inputs)
    };
    let given: Vec<u64> = run(&request).unwrap().results.iter().map(result).collect();
    assert_eq!(given, [7, 7, 8, 9, 9, 9]);
}
