//! Each kind of expectation, met and not.

use bpf2sys_simulator::{HelperCalls, HexBytes, InvocationResult, MapContents, RingRecord, RunReport, SentRecord};

use super::{driver, maps, run_of};
use crate::suite::file::Test;
use crate::suite::judge::{Calls, Run, Scope, holds, judge, with_presets};
use crate::suite::parse;
use crate::values::{Json, maps_from_json};

/// What is otherwise in one run, of which `change` says what it gave.
fn judged(keys: &str, change: impl Fn(&mut InvocationResult, &mut Vec<MapContents>)) -> Result<Vec<String>, String> {
    judged_runs(keys, &["filter"], change)
}

fn judged_runs(
    keys: &str,
    programs: &[&str],
    change: impl Fn(&mut InvocationResult, &mut Vec<MapContents>),
) -> Result<Vec<String>, String> {
    let suite = parse(&format!("object = \"f.o\"\n[[test]]\nname = \"n\"\n{keys}\n")).map_err(|e| e.to_string())?;
    let test: &Test = suite.tests[0].get_ref();
    let mut after = maps();
    let runs: Vec<_> = programs
        .iter()
        .map(|program| {
            let (input, mut result) = run_of(program, &[1, 2, 3], 1);
            change(&mut result, &mut after);
            (input, result)
        })
        .collect();
    let runs: Vec<Run<'_>> = runs.iter().map(|(input, result)| Run { input, result }).collect();
    let report = RunReport {
        helper_calls: vec![HelperCalls {
            helper: "bpf_map_update_elem".into(),
            calls: 2,
            ..HelperCalls::default_for_tests()
        }],
        ..RunReport::default()
    };
    let before = maps();
    let scope = Scope {
        runs: &runs,
        first: 1,
        before: Some(&before),
        after: Some(&after),
        calls: Some(Calls::of(&report)),
    };
    judge(&driver(), &test.expect, &test.never, &scope)
}

trait ForTests {
    fn default_for_tests() -> HelperCalls;
}

impl ForTests for HelperCalls {
    fn default_for_tests() -> HelperCalls {
        HelperCalls {
            program: "filter".into(),
            load: 0,
            id: 2,
            helper: String::new(),
            calls: 0,
        }
    }
}

fn send(result: &mut InvocationResult, map: &str, data: &[u8]) {
    result.records.push(SentRecord {
        map: map.to_owned(),
        record: RingRecord {
            cpu: None,
            data: HexBytes(data.to_vec()),
        },
    });
}

/// Expectations that are met by one run and not by another.
#[test]
fn each_expectation_is_met_or_told() {
    type Change = fn(&mut InvocationResult, &mut Vec<MapContents>);
    let none: Change = |_, _| {};
    let cases: &[(&str, Change, Change, &str)] = &[
        (
            "expect.result = \"XDP_PASS\"",
            none,
            |r, _| r.result = 2,
            "result: expected XDP_PASS, found 2",
        ),
        (
            "expect.result = 1",
            none,
            |r, _| r.result = 2,
            "result: expected 1, found 2",
        ),
        (
            "expect.result = \"not run\"",
            |r, _| r.not_run = Some("gone".into()),
            none,
            "result: expected not run, found 1",
        ),
        (
            "expect.one_of = [\"XDP_PASS\", \"XDP_DROP\"]",
            |r, _| r.result = 2,
            |r, _| r.result = 3,
            "result: expected one of XDP_PASS, XDP_DROP, found 3",
        ),
        (
            "expect.packet = \"hex:010203\"",
            none,
            |r, _| r.packet.0[1] = 9,
            "packet from byte 1 on: expected hex:0203, found hex:0903",
        ),
        (
            "expect.packet = \"hex:010203\"",
            none,
            |r, _| r.packet.0.truncate(1),
            "packet from byte 1 on: expected hex:0203, found its end",
        ),
        (
            "expect.context = { ingress_ifindex = 0 }",
            none,
            |r, _| r.context.0.fill(5),
            "context: ingress_ifindex: expected 0, found 84215045",
        ),
        (
            "expect.redirect_context = \"hex:00ff\"",
            |r, _| r.redirect_context = Some(HexBytes(vec![0, 255])),
            none,
            "redirect context: expected hex:00ff, found none",
        ),
        (
            "expect.tail_calls = [\"a\"]",
            |r, _| r.tail_calls.push("a".into()),
            none,
            "tail calls: expected [a], found []",
        ),
        (
            "expect.events = [{ map = \"events\", data = \"hex:0102\" }]",
            |r, _| send(r, "events", &[1, 2]),
            |r, _| send(r, "events", &[1, 3]),
            "event 1: expected events \"hex:0102\", found events hex:0103",
        ),
        (
            "expect.events = []",
            none,
            |r, _| send(r, "events", &[7]),
            "event 1: expected none, found events hex:07",
        ),
        (
            "expect.events = [{ map = \"events\" }]",
            |r, _| send(r, "events", &[7]),
            none,
            "event 1: expected events, found none",
        ),
        (
            "expect.printed = [\"x\"]",
            |r, _| r.printed.push("x".into()),
            |r, _| r.printed.push("y".into()),
            "printed line 1: expected \"x\", found \"y\"",
        ),
        (
            "expect.maps = { counters = { 1 = 7 } }",
            none,
            |_, maps| maps[0].entries[1].values[0].0[0] = 8,
            "counters[1]: expected 7, found hex:0800000000000000",
        ),
        (
            "expect.maps = { ports = { 53 = 1 } }",
            none,
            |_, maps| maps[1].entries.clear(),
            "ports[hex:3500]: expected 1, found no entry",
        ),
        (
            "expect.only = [\"ports\"]\nexpect.maps = { ports = { 53 = 1 } }",
            none,
            |_, maps| maps[1].entries[0].key.0[0] = 80,
            "ports: expected no other entry, found hex:5000 = hex:01",
        ),
        (
            "expect.absent = { ports = [53] }",
            |_, maps| maps[1].entries.clear(),
            none,
            "ports[53]: expected no entry, found hex:01",
        ),
        (
            "never.result = [\"XDP_DROP\"]",
            none,
            |r, _| r.result = 2,
            "result: 2, which must not be",
        ),
        (
            "never.writes = [\"packet\"]",
            none,
            |r, _| r.packet.0[0] = 0,
            "packet: it was changed, which must not be",
        ),
        (
            "never.writes = [\"context\"]",
            none,
            |r, _| r.context.0.fill(9),
            "context: it was changed, which must not be",
        ),
        (
            "never.changes = [\"ports\"]",
            |_, maps| maps[0].entries[0].values[0].0[0] = 1,
            |_, maps| maps[1].entries.clear(),
            "ports: - hex:3500 = hex:01, which must not be",
        ),
        (
            "never.events = [\"events\"]",
            none,
            |r, _| send(r, "events", &[7]),
            "event of events: hex:07, which must not be",
        ),
        (
            "never.printed = true",
            none,
            |r, _| r.printed.push("x".into()),
            "printed: \"x\", which must not be",
        ),
    ];
    for (keys, met, unmet, told) in cases {
        assert_eq!(judged(keys, met), Ok(vec![]), "{keys}");
        let lines = judged(keys, unmet).unwrap();
        assert!(lines.contains(&(*told).to_owned()), "{keys}: {lines:?}");
    }
}

#[test]
fn calls_are_counted() {
    assert_eq!(
        judged("expect.calls = { bpf_map_update_elem = 2 }", |_, _| {}),
        Ok(vec![])
    );
    assert_eq!(
        judged("expect.calls = { bpf_map_update_elem = 3 }", |_, _| {}).unwrap(),
        ["calls of bpf_map_update_elem: expected 3, found 2"]
    );
    assert_eq!(
        judged("never.calls = [\"bpf_map_update_elem\"]", |_, _| {}).unwrap(),
        ["calls of bpf_map_update_elem: 2, which must not be"]
    );
    assert_eq!(judged("never.calls = [\"bpf_map_delete_elem\"]", |_, _| {}), Ok(vec![]));
}

#[test]
fn a_list_has_one_for_each_run() {
    let two = ["filter", "filter"];
    assert_eq!(
        judged_runs("expect.result = [1, \"XDP_PASS\"]", &two, |_, _| {}),
        Ok(vec![])
    );
    assert_eq!(
        judged_runs("expect.result = [1, 2]", &two, |_, _| {}).unwrap(),
        ["run 2: result: expected 2, found 1"]
    );
    assert_eq!(
        judged_runs("expect.result = [1]", &two, |_, _| {}).unwrap(),
        ["result: expected of 1 runs, found of 2 runs"]
    );
    assert_eq!(
        judged_runs("expect.result = 1", &[], |_, _| {}).unwrap(),
        ["result: there was no run: give a packet or a context"]
    );
}

#[test]
fn what_a_driver_does_not_have_is_an_error() {
    for (keys, expected) in [
        (
            "expect.result = \"XDP_ABORT\"",
            "there is no result XDP_ABORT; there are XDP_PASS",
        ),
        ("expect.result = 4294967296", "no result"),
        ("expect.context = { ifindex = 1 }", "no field `ifindex`"),
        ("expect.maps = { port = { 53 = 1 } }", "no such map"),
        ("expect.maps = { ports = { 53 = 256 } }", "out of range"),
        ("expect.absent = { ports = 53 }", "a list of keys"),
        ("expect.only = [\"port\"]", "no such map"),
        ("expect.calls = { bpf_nothing = 1 }", "no provider that is known"),
        ("never.changes = [\"port\"]", "there is no map \"port\""),
        ("never.events = [\"event\"]", "there is no map \"event\""),
        ("never.calls = [\"bpf_nothing\"]", "no provider that is known"),
    ] {
        let error = judged(keys, |_, _| {}).expect_err(keys);
        assert!(error.contains(expected), "{keys}: {error}");
    }
}

fn property(keys: &str, packet: &[u8], result: u32) -> Vec<String> {
    let suite = parse(&format!("object = \"f.o\"\n[[property]]\nname = \"p\"\n{keys}\n")).unwrap();
    let (input, result) = run_of("filter", packet, result);
    let runs = [Run {
        input: &input,
        result: &result,
    }];
    let scope = Scope {
        runs: &runs,
        first: 1,
        before: None,
        after: None,
        calls: None,
    };
    holds(&driver(), suite.properties[0].get_ref(), &scope).unwrap()
}

#[test]
fn a_property_holds_for_the_runs_that_it_is_about() {
    let broken = vec!["property \"p\": result: expected 2, found 1".to_owned()];
    for (when, packet, is_about) in [
        ("", &[1, 2][..], true),
        ("when = [{ at = 1, bytes = \"02\" }]", &[1, 2], true),
        ("when = [{ at = 1, bytes = \"03\" }]", &[1, 2], false),
        ("when = [{ at = 1, bytes = \"0203\" }]", &[1, 2], false),
        ("when = [{ at = 1, bytes = \"f3\", mask = \"0e\" }]", &[1, 2], true),
        ("when = [{ at = 1, bytes = \"03\", not = true }]", &[1, 2], true),
        ("when = [{ at = 1, bytes = \"02\", not = true }]", &[1, 2], false),
        ("when = [{ length = 2 }]", &[1, 2], true),
        ("when = [{ length = \"3..\" }]", &[1, 2], false),
        ("when = [{ length = \"..1\" }]", &[1, 2], false),
        ("when = [{ length = 2 }, { at = 0, bytes = \"09\" }]", &[1, 2], false),
        ("when = [{ context = { ingress_ifindex = 0 } }]", &[1, 2], true),
        ("when = [{ context = { ingress_ifindex = 1 } }]", &[1, 2], false),
        ("when = [{ result = \"XDP_PASS\" }]", &[1, 2], true),
        ("when = [{ result = [2, 3] }]", &[1, 2], false),
        ("program = \"redirect\"", &[1, 2], false),
    ] {
        let keys = format!("{when}\nexpect.result = 2");
        let expected = if is_about { broken.clone() } else { Vec::new() };
        assert_eq!(property(&keys, packet, 1), expected, "{when}");
        assert_eq!(property(&keys, packet, 2), Vec::<String>::new(), "{when}");
    }
}

#[test]
fn entries_that_are_set_between_runs_are_no_changes() {
    let json = Json::parse(r#"{"ports": {"53": 9, "80": 1}, "counters": [5]}"#).unwrap();
    let presets = maps_from_json(&json, &driver().shapes, None).unwrap();
    let set = with_presets(&maps(), &presets);
    let values: Vec<u8> = set[1].entries.iter().map(|entry| entry.values[0].0[0]).collect();
    assert_eq!(values, [9, 1]);
    assert_eq!(set[0].entries[0].values[0].0[0], 5);
    assert_eq!(set[0].entries.len(), 2);
}
