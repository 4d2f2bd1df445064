//! What goes wrong on purpose while programs run.

use bpf2sys_simulator::{Calls, Mishap, RunReport, RunRequest, SimulatorError};

use super::call::Arg::{Map, Memory, Number};
use super::call::{Helper, helper, input, map, neg32, neg64, result};
use super::fixture::{packet, request, run, value};

fn with(mishap: Mishap, request: RunRequest) -> RunRequest {
    RunRequest {
        mishaps: vec![mishap],
        ..request
    }
}

fn calls(first: u64, count: u64) -> Calls {
    Calls { first, count }
}

fn failing(helper: &str, calls: Calls, result: Option<i64>) -> Mishap {
    Mishap::Helper {
        helper: helper.into(),
        program: None,
        calls,
        result,
    }
}

/// The results of helpers that are called one after another.
fn results(mishap: Mishap, calls: &[Helper]) -> Vec<u64> {
    let inputs = calls.iter().map(|call| input(call, "call_xdp", &[0; 64])).collect();
    let report = run(&with(mishap, request(inputs))).unwrap();
    report.results.iter().map(result).collect()
}

pub fn a_helper_fails_on_the_calls_that_are_meant() {
    let counted = |mishap| -> (RunReport, u8) {
        let report = run(&with(mishap, request(vec![packet("count", &[1, 0]); 5]))).unwrap();
        let counted = value(&report, "array", &[1, 0, 0, 0]).unwrap()[0];
        (report, counted)
    };
    let lookup = "bpf_map_lookup_elem";
    let (report, count) = counted(failing(lookup, calls(2, 1), None));
    assert_eq!(count, 4);
    let failed: Vec<String> = (report.results.iter()).map(|result| result.failed.join(", ")).collect();
    assert_eq!(failed, ["", "bpf_map_lookup_elem (call 2)", "", "", ""]);
    assert_eq!(
        counted(failing(lookup, calls(4, 0), None)).1,
        3,
        "all from the fourth on"
    );
    assert_eq!(counted(failing(lookup, Calls::default(), None)).1, 0);
    let of_another = Mishap::Helper {
        helper: lookup.into(),
        program: Some("call_xdp".into()),
        calls: Calls::default(),
        result: None,
    };
    assert_eq!(counted(of_another).1, 5);
}

pub fn a_failing_helper_gives_what_it_would_or_what_is_asked_for() {
    let update = |key: u8| helper(2, &[Map(map::HASH), Memory(0), Memory(8), Number(0)]).memory(&[key; 16]);
    let output = helper(11, &[Map(map::RING), Memory(0), Number(4), Number(0)]);
    let all = Calls::default();
    let update_fails = |result| results(failing("bpf_map_update_elem", all, result), &[update(1)]);
    assert_eq!(update_fails(None), [neg64(12)]);
    assert_eq!(update_fails(Some(-1)), [neg64(1)]);
    assert_eq!(update_fails(Some(3)), [3]);
    let output_fails = |result| {
        results(
            failing("bpf_ringbuf_output", all, result),
            std::slice::from_ref(&output),
        )
    };
    assert_eq!(output_fails(None), [neg32(12)]);
    assert_eq!(output_fails(Some(-1)), [neg32(1)]);
}

pub fn maps_can_be_without_room() {
    let full = |map: &str| Mishap::FullMap { map: map.into() };
    let update = helper(2, &[Map(map::HASH), Memory(0), Memory(8), Number(0)]).memory(&[1; 16]);
    assert_eq!(results(full("hash"), std::slice::from_ref(&update)), [neg64(12)]);
    let push = helper(16, &[Map(map::QUEUE), Memory(0), Number(0)]);
    assert_eq!(results(full("queue"), &[push]), [neg32(29)]);
    let output = helper(11, &[Map(map::RING), Memory(0), Number(4), Number(0)]);
    assert_eq!(results(full("ring"), &[output]), [neg32(12)]);
    for (map, said) in [("array", "never full"), ("lru", "never full"), ("nothing", "no map")] {
        let outcome = run(&with(full(map), request(vec![])));
        let Err(SimulatorError::Request(message)) = outcome else {
            panic!("{map}: {outcome:?}")
        };
        assert!(message.contains(said), "{message}");
    }
}

pub fn memory_for_values_can_run_out() {
    let update = |key: u8| helper(2, &[Map(map::HASH), Memory(0), Memory(8), Number(0)]).memory(&[key; 16]);
    let mishap = Mishap::Allocation { calls: calls(2, 1) };
    assert_eq!(results(mishap, &[update(1), update(2), update(2)]), [0, neg64(12), 0]);
}

pub fn a_helper_that_nobody_calls_cannot_fail() {
    let outcome = run(&with(failing("bpf_nothing", Calls::default(), None), request(vec![])));
    assert!(matches!(outcome, Err(SimulatorError::Request(_))), "{outcome:?}");
}
