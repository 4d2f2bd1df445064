//! Several loads of the module of `testdata/sample.c` side by side, maps that are pinned before, and older runtimes.

use bpf2sys_simulator::{
    Answer, HexBytes, Input, MapContents, PinnedMap, Rule, RunReport, RunRequest, SimulatedRuntime, SimulatorError,
};

use super::call::Arg::{Map, Memory, Number};
use super::call::{Helper, btf, helper, input, result};
use super::fixture::{bare, packet, preset, request, run, sample_image, sample_request};
use super::patch::Patched;

/// Map indices in `testdata/sample.c`.
const ARRAY: u64 = 1;
const SHARED: u64 = 3;
const OUTER: u64 = 6;

fn update(map: u64, key: u8, value: u8) -> Helper {
    let mut memory = vec![key, 0, 0, 0];
    memory.extend([value; 8]);
    helper(2, &[Map(map), Memory(0), Memory(4), Number(0)]).memory(&memory)
}

fn lookup(map: u64, key: u8) -> Helper {
    helper(1, &[Map(map), Memory(0)]).memory(&[key, 0, 0, 0]).copy(8)
}

fn in_load(load: u32, call: &Helper) -> Input {
    Input {
        load,
        ..input(call, "call", &[0; 64])
    }
}

/// What a lookup found, by its first byte.
fn found(report: &RunReport, index: usize) -> Option<u8> {
    let found = &report.results[index];
    (result(found) != 0).then(|| found.packet.0[8])
}

fn broken(request: &RunRequest) -> (Rule, String) {
    match run(request) {
        Err(SimulatorError::Kernel { violation, .. }) => (violation.rule, violation.detail),
        other => panic!("{other:?}"),
    }
}

fn pinned(name: &str, [map_type, key_size, value_size, max_entries]: [u32; 4]) -> PinnedMap {
    PinnedMap {
        name: name.into(),
        map_type,
        key_size,
        value_size,
        max_entries,
        ..PinnedMap::default()
    }
}

fn map<'a>(report: &'a RunReport, name: &str, load: u32) -> &'a MapContents {
    let mut maps = report.maps.iter();
    maps.find(|m| m.name == name && m.load == load).unwrap()
}

pub fn loads_share_pinned_maps_and_nothing_else() {
    let calls = [
        in_load(0, &update(SHARED, 1, 5)),
        in_load(1, &lookup(SHARED, 1)),
        in_load(0, &update(ARRAY, 1, 6)),
        in_load(1, &lookup(ARRAY, 1)),
        in_load(0, &lookup(ARRAY, 1)),
        in_load(1, &update(SHARED, 2, 7)),
        in_load(0, &lookup(SHARED, 2)),
        // The inner map that the first load stored is what the second finds in the shared map.
        in_load(
            1,
            &helper(1, &[Map(OUTER), Memory(0), Number(0), Number(0), Number(1)]).memory(&[1, 0, 0, 0]),
        ),
    ];
    let mut request = sample_request(calls.to_vec());
    request.loads = 2;
    request.presets = vec![preset("array", &[2, 0, 0, 0], &[9; 8])];
    request.inputs[0].presets.push(preset("inner", &[1, 0, 0, 0], &[8; 8]));
    let report = run(&request).unwrap();
    assert_eq!(found(&report, 1), Some(5));
    assert_eq!((found(&report, 3), found(&report, 4)), (Some(0), Some(6)));
    assert_eq!(found(&report, 6), Some(7));
    assert_eq!(result(&report.results[7]), u64::from_le_bytes([8; 8]));
    assert_eq!(report.maps.len(), 14);
    assert_eq!(map(&report, "shared", 0).entries, map(&report, "shared", 1).entries);
    assert_eq!(map(&report, "shared", 1).entries.len(), 2);
    assert_ne!(map(&report, "array", 0).entries, map(&report, "array", 1).entries);
    assert_eq!(report.pins.len(), 3);
    let loads: Vec<_> = report.helper_calls.iter().map(|c| (c.load, c.id, c.calls)).collect();
    assert_eq!(loads, [(0, 1, 2), (0, 2, 2), (1, 1, 4), (1, 2, 1)]);
}

pub fn tail_calls_through_a_shared_map_reach_the_program_of_the_load_that_stored_it() {
    let tail = |load| Input {
        load,
        ..packet("tail", &[1])
    };
    let mut request = sample_request(vec![tail(1), tail(0)]);
    request.loads = 3;
    request.answers.push(Answer {
        function: "other_function".into(),
        result: 6,
        ..Answer::default()
    });
    let report = run(&request).unwrap();
    assert!(
        report
            .results
            .iter()
            .all(|r| (r.result, r.tail_calls.as_slice()) == (6, &["target".to_owned()][..]))
    );
    let [calls] = report.btf_calls.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!((calls.program.as_str(), calls.load, calls.calls), ("target", 0, 2));
    let callers: Vec<_> = report
        .helper_calls
        .iter()
        .map(|c| (c.program.as_str(), c.load))
        .collect();
    assert_eq!(callers, [("tail", 0), ("tail", 1)]);
}

pub fn a_load_that_does_not_exist_is_no_request() {
    let refused = |request: &RunRequest, expected: &str| match run(request) {
        Err(SimulatorError::Request(text)) => assert!(text.contains(expected), "{text}"),
        other => panic!("{other:?}"),
    };
    let mut beyond = sample_request(vec![in_load(2, &lookup(ARRAY, 0))]);
    beyond.loads = 2;
    refused(&beyond, "there is no load 2");
    beyond.loads = 9;
    refused(&beyond, "up to 8 times");
    let mut answers = sample_request(vec![]);
    (answers.loads, answers.defects_are_answers) = (2, true);
    refused(&answers, "one load");
}

pub fn maps_that_cannot_be_pinned_before_are_no_request() {
    let bytes = |bytes: &[u8]| HexBytes(bytes.to_vec());
    let short = PinnedMap {
        entries: vec![(bytes(&[1]), bytes(&[2; 8]))],
        ..pinned("shared", [1, 4, 8, 4])
    };
    let cases = [
        (vec![pinned("shared", [1, 4, 8, 4]); 2], "another one is pinned there"),
        (vec![pinned("a:b", [1, 4, 8, 4])], "does not make a pin path"),
        (vec![pinned("shared", [99, 4, 8, 4])], "no map type 99"),
        (vec![short], "answers 6 to key 01"),
    ];
    for (pinned, expected) in cases {
        let mut request = sample_request(vec![]);
        request.pinned = pinned;
        match run(&request) {
            Err(SimulatorError::Request(text)) => assert!(text.contains(expected), "{text}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

pub fn a_map_that_is_pinned_already_is_used_as_it_is() {
    let mut request = sample_request(vec![
        input(&lookup(SHARED, 3), "call", &[0; 64]),
        input(&update(SHARED, 4, 5), "call", &[0; 64]),
        packet("tail", &[0]),
    ]);
    let bytes = |bytes: &[u8]| HexBytes(bytes.to_vec());
    request.pinned = vec![
        PinnedMap {
            entries: vec![(bytes(&[3, 0, 0, 0]), bytes(&[4; 8]))],
            ..pinned("shared", [1, 4, 8, 4])
        },
        pinned("progs", [3, 4, 4, 4]),
        // This one is of no interest to the module.
        pinned("array", [1, 1, 1, 1]),
    ];
    let report = run(&request).unwrap();
    assert_eq!(found(&report, 0), Some(4));
    let keys: Vec<_> = map(&report, "shared", 0).entries.iter().map(|e| e.key.0[0]).collect();
    assert_eq!(keys, [3, 4]);
    // Initial values are for maps that are created.
    assert_eq!(report.results[2].result, 6);
    assert!(map(&report, "progs", 0).entries.is_empty());
    assert_eq!(map(&report, "outer", 0).entries.len(), 1);
    assert_eq!(map(&report, "array", 0).max_entries, 4);
    let paths: Vec<_> = report.pins.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, [r"BPF:\shared", r"BPF:\progs", r"BPF:\array", r"BPF:\outer"]);
}

pub fn a_pinned_map_of_another_definition_fails_the_load() {
    let good = [1, 4, 8, 4];
    for (field, value) in [(0, 8), (1, 8), (2, 4), (3, 5)] {
        let mut definition = good;
        definition[field] = value;
        let mut request = sample_request(vec![]);
        request.pinned.push(pinned("shared", definition));
        let (rule, text) = broken(&request);
        assert_eq!(rule, Rule::PinnedMap, "{text}");
        request.defects_are_answers = true;
        let report = run(&request).unwrap();
        let result = report.lives[0].load_programs.unwrap();
        assert_eq!(result.name(), "EBPF_INVALID_ARGUMENT");
        assert_eq!(report.lives[0].before.pins, [r"BPF:\shared"]);
        assert_eq!(report.lives[0].before, report.lives[0].after);
    }
    let outer = |inner| {
        let mut request = sample_request(vec![]);
        request.pinned.push(PinnedMap {
            inner: Some(inner),
            ..pinned("outer", [7, 4, 4, 2])
        });
        request
    };
    assert_eq!(broken(&outer([2, 4, 8, 3])).0, Rule::PinnedMap);
    assert!(map(&run(&outer([2, 4, 8, 2])).unwrap(), "outer", 0).entries.is_empty());
}

/// An image whose programs have the short form of entries.
fn short_entries(image: &[u8], programs: usize) -> Vec<u8> {
    let mut patched = Patched::of(image);
    for program in 0..programs {
        let size = patched.program(program, 16);
        patched.put(size, &[144]);
    }
    patched.finish()
}

pub fn older_runtimes_refuse_the_long_form_of_programs() {
    let with = |runtime, image| RunRequest {
        runtime,
        image,
        inputs: vec![packet("count", &[1, 2])],
        ..bare()
    };
    let long = request(vec![]).image;
    let short = short_entries(&long, 11);
    for runtime in [SimulatedRuntime::V0_21, SimulatedRuntime::V1_4] {
        let (rule, text) = broken(&with(runtime, long.clone()));
        assert_eq!(
            (rule, text.as_str()),
            (Rule::ElementHeader, "program 0 has version 1 and size 154")
        );
    }
    for runtime in [SimulatedRuntime::V1_4, SimulatedRuntime::V1_6] {
        assert_eq!(run(&with(runtime, short.clone())).unwrap().results[0].result, 1);
    }
    // 0.21 takes the module, but its tables are not those that the module's code reads.
    assert_eq!(broken(&with(SimulatedRuntime::V0_21, short)).0, Rule::HelperArgument);
}

pub fn older_runtimes_have_no_table_of_functions() {
    let request = |runtime| RunRequest {
        runtime,
        image: short_entries(sample_image(), 6),
        ..sample_request(vec![input(
            &btf(0, &[Number(0), Memory(0), Number(8)]),
            "call",
            &[0; 64],
        )])
    };
    let fault = |runtime| match run(&request(runtime)) {
        Err(SimulatorError::Fault(fault)) => fault.accessed.unwrap(),
        other => panic!("{other:?}"),
    };
    let after = "the guard page after the runtime context of program call+0x0";
    assert_eq!(fault(SimulatedRuntime::V1_4), after);
    assert_eq!(fault(SimulatedRuntime::V1_6), "NULL+0x18");
}
