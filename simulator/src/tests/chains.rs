//! Several programs at one attach point.

use bpf2sys_platform::Platform;
use bpf2sys_simulator::{
    Calls, HexBytes, Input, InvocationResult, Mishap, Provider, ProviderEvent, RunRequest, SimulatorError,
};

use super::call::Arg::{Context, Map, Memory, Number};
use super::call::{Helper, helper, input, map};
use super::fixture::{packet, request, run, sample_request, value};

fn behind(first: Input, then: &[&str]) -> Input {
    Input {
        then: then.iter().map(|&name| name.into()).collect(),
        ..first
    }
}

/// Says more of a built-in provider: each of these lines, and one behind it.
fn more_of(file: &str, lines: &[(&str, &str)]) -> (String, String) {
    let files = Platform::builtin_files();
    let (_, text) = files.iter().find(|(name, _)| *name == file).unwrap();
    let mut text = text.replacen("[provider]\nid = \"", "[provider]\nid = \"more_", 1);
    for (line, more) in lines {
        assert!(text.contains(line), "{line}");
        text = text.replacen(line, &format!("{line}\n{more}"), 1);
    }
    ("more.toml".into(), text)
}

const SEVERAL: &str = "attach_capability = \"multi_with_wildcard\"";
const XDP_POINT: (&str, &str) = ("bpf_attach_type = 1", SEVERAL);

/// XDP, if several programs could be attached, and more were known of it.
fn with_xdp(lines: &[(&str, &str)], inputs: Vec<Input>) -> RunRequest {
    let lines: Vec<_> = [XDP_POINT].iter().chain(lines).copied().collect();
    RunRequest {
        platform_files: vec![more_of("xdp.toml", &lines)],
        ..request(inputs)
    }
}

/// Programs, results and numbers of tail calls of a chain.
fn links(result: &InvocationResult) -> Vec<(&str, u32, usize)> {
    let links = result.chain.iter();
    links
        .map(|link| (link.program.as_str(), link.result, link.tail_calls.len()))
        .collect()
}

fn refusal(request: &RunRequest) -> String {
    match run(request) {
        Err(SimulatorError::Request(text)) => text,
        other => panic!("{other:?}"),
    }
}

pub fn programs_of_an_attach_point_run_in_order_on_one_context() {
    let mut first = packet("count", &[0, 5, 7]);
    first.context = HexBytes(vec![0; 28]);
    let inputs = vec![
        Input {
            repeat: 2,
            ..behind(first.clone(), &["count", "tail_one", "count"])
        },
        behind(first.clone(), &["count", "count", "tail_one"]),
        first,
    ];
    let report = run(&with_xdp(&[], inputs)).unwrap();
    let [one, again, other, alone] = report.results.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(one, again, "each starts from the context and packet of the request");
    assert_eq!(one.program, "count");
    // The third finds 0 first in the packet, as it was at first, and so a program to call.
    let expected = [("count", 1, 0), ("count", 1, 0), ("tail_one", 2, 1), ("count", 1, 0)];
    assert_eq!(links(one), expected);
    let names: Vec<_> = one.chain.iter().map(|link| link.result_name.as_deref()).collect();
    let (pass, drop) = (Some("XDP_PASS"), Some("XDP_DROP"));
    assert_eq!(names, [pass, pass, drop, pass]);
    assert_eq!(one.chain[2].tail_calls, ["tail_two"]);
    assert_eq!(one.context.0[24], 3);
    assert_eq!(one.packet.0, [5, 0, 7]);
    // What counts is the last.
    assert_eq!((one.result, one.result_name.as_deref()), (1, pass));
    assert!(one.tail_calls.is_empty());
    assert_eq!(other.chain.len(), 4);
    // It finds a 5, for which there is no program.
    assert!(other.result_name.is_none() && other.tail_calls.is_empty());
    assert_eq!((alone.result, alone.context.0[24]), (1, 1));
    assert!(alone.chain.is_empty());
    let text = serde_json::to_string(alone).unwrap();
    assert!(!text.contains("chain"), "{text}");
    let calls = &report.helper_calls;
    let looked_up = calls.iter().find(|c| c.program == "count" && c.id == 1).unwrap();
    assert_eq!(looked_up.calls, 3 + 3 + 3 + 1);
}

pub fn the_last_program_of_a_chain_gives_the_result() {
    let chain = behind(packet("count", &[9, 0]), &["tail_one"]);
    let report = run(&with_xdp(&[], vec![chain])).unwrap();
    let [result] = report.results.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!((result.result, result.result_name.as_deref()), (2, Some("XDP_DROP")));
    assert_eq!(result.tail_calls, ["tail_two"]);
    assert_eq!(links(result), [("count", 1, 0), ("tail_one", 2, 1)]);
}

pub fn each_program_of_a_chain_has_all_tail_calls() {
    let input = behind(packet("tail_loop", &[0, 0]), &["tail_loop"]);
    let alone = run(&request(vec![packet("tail_loop", &[0, 0])])).unwrap();
    let alone = &alone.results[0];
    let report = run(&with_xdp(&[], vec![input])).unwrap();
    let result = &report.results[0];
    let tail_calls = alone.tail_calls.len();
    assert!(tail_calls > 30);
    let link = ("tail_loop", alone.result, tail_calls);
    assert_eq!(links(result), [link, link]);
    assert_eq!(result.packet.0[1], 2 * alone.packet.0[1]);
}

pub fn a_return_value_can_end_a_chain() {
    let chains = || {
        vec![
            behind(packet("tail_two", &[1, 0]), &["count"]),
            behind(packet("count", &[1, 0]), &["tail_two", "count", "count"]),
        ]
    };
    let ends = [("name = \"XDP_DROP\"", "ends_chain = true")];
    let report = run(&with_xdp(&ends, chains())).unwrap();
    // The upper half of what the program returns does not matter.
    assert_eq!(links(&report.results[0]), [("tail_two", 2, 0)]);
    assert_eq!(links(&report.results[1]), [("count", 1, 0), ("tail_two", 2, 0)]);
    let last = &report.results[1];
    assert_eq!((last.result, last.result_name.as_deref()), (2, Some("XDP_DROP")));
    assert_eq!(value(&report, "array", &[1, 0, 0, 0]).unwrap()[0], 1);
    let report = run(&with_xdp(&[], chains())).unwrap();
    let lengths: Vec<_> = report.results.iter().map(|result| result.chain.len()).collect();
    assert_eq!(lengths, [2, 4]);
}

pub fn a_change_of_a_field_can_end_a_chain() {
    let chains = || {
        vec![
            behind(packet("tail_two", &[1, 0]), &["count", "count"]),
            // Too short a packet: it leaves the context as it is.
            behind(packet("count", &[1]), &["count", "count"]),
        ]
    };
    let field = [("name = \"ingress_ifindex\"", "change_ends_chain = true")];
    let report = run(&with_xdp(&field, chains())).unwrap();
    assert_eq!(links(&report.results[0]), [("tail_two", 2, 0), ("count", 1, 0)]);
    assert_eq!(links(&report.results[1]), [("count", 1, 0); 3]);
    let report = run(&with_xdp(&[], chains())).unwrap();
    let lengths: Vec<_> = report.results.iter().map(|result| result.chain.len()).collect();
    assert_eq!(lengths, [3, 3]);
}

/// The context of a connection: its family, and from byte 4 on the numbers 4, 5, ….
fn connection() -> Vec<u8> {
    let mut context: Vec<u8> = (0..64).collect();
    context[..4].copy_from_slice(&[2, 0, 0, 0]);
    context
}

/// How many of three programs run that each write this to the context.
fn connections_seen(written: &[u8]) -> usize {
    let write = helper(22, &[Context, Number(64), Memory(0), Number(written.len() as u64)]);
    let first = Input {
        context: HexBytes(connection()),
        ..input(&write.memory(written), "call_connect", &[])
    };
    let report = run(&request(vec![behind(first, &["call_connect"; 2])])).unwrap();
    assert_eq!(report.results[0].context.0, written);
    report.results[0].chain.len()
}

pub fn a_connection_that_is_redirected_ends_the_chain() {
    assert_eq!(connections_seen(&connection()), 3);
    let ends = |byte: &usize| {
        let mut written = connection();
        written[*byte] ^= 0x80;
        connections_seen(&written) == 1
    };
    // From user_ip6, with user_ip4 in it, to the end of user_port.
    let found: Vec<usize> = [0, 4, 19, 20, 21, 23, 24, 27, 28, 39, 40, 41, 42, 44, 63]
        .into_iter()
        .filter(ends)
        .collect();
    assert_eq!(found, [24, 27, 28, 39, 40, 41]);
}

pub fn a_connection_that_is_rejected_ends_the_chain() {
    // Programs return 0 when this gives 0.
    let call: Helper = helper(5, &[Context, Map(map::HASH), Number(0)]);
    let gives = |first, result| Mishap::Helper {
        helper: "bpf_tail_call".into(),
        program: None,
        calls: Calls { first, count: 1 },
        result: Some(result),
    };
    let chain = behind(input(&call, "call_connect", &[]), &["call_connect"; 3]);
    let report = run(&RunRequest {
        mishaps: vec![gives(1, 1), gives(2, 1), gives(3, 0), gives(4, 1)],
        ..request(vec![chain])
    });
    let result = &report.unwrap().results[0];
    let seen: Vec<_> = (result.chain.iter())
        .map(|link| (link.result, link.result_name.as_deref()))
        .collect();
    let proceed = (1, Some("BPF_SOCK_ADDR_VERDICT_PROCEED_SOFT"));
    let reject = (0, Some("BPF_SOCK_ADDR_VERDICT_REJECT"));
    assert_eq!(seen, [proceed, proceed, reject]);
    assert_eq!((result.result, result.result_name.as_deref()), reject);
    assert_eq!(result.failed.len(), 3);
}

pub fn a_program_that_is_not_run_ends_a_chain() {
    let module = "000000ff-0000-0000-0000-000000000001";
    let detach = |provider| vec![ProviderEvent::Detach(provider)];
    let chain = |events| Input {
        events,
        ..behind(packet("other", &[0, 7]), &["tail", "target", "other"])
    };
    let inputs = vec![
        chain(vec![]),
        chain(detach(Provider::BtfModule(module.into()))),
        chain(detach(Provider::ProgramType("sample".into()))),
    ];
    let mut request = sample_request(inputs);
    let point = ("bpf_attach_type = 8", SEVERAL);
    request.platform_files.push(more_of("sample.toml", &[point]));
    let report = run(&request).unwrap();
    let [all, some, none] = report.results.as_slice() else {
        panic!("{report:?}")
    };
    let ran = [("other", 7, 0), ("tail", 7, 1), ("target", 0, 0), ("other", 7, 0)];
    assert_eq!(links(all), ran);
    assert_eq!((all.result, &all.not_run), (7, &None));
    assert_eq!(links(some), ran[..2]);
    let why = format!("target: the provider of functions of module {module} is detached");
    assert_eq!((some.result, some.not_run.as_deref()), (0, Some(why.as_str())));
    assert!(some.result_name.is_none() && some.tail_calls.is_empty());
    assert!(none.chain.is_empty());
    assert_eq!(
        none.not_run.as_deref(),
        Some("other: the provider of program type sample is detached")
    );
}

pub fn programs_that_cannot_be_attached_together_are_no_request() {
    let of = |programs: &[&str]| refusal(&request(vec![behind(packet(programs[0], &[]), &programs[1..])]));
    let cases: &[(&[&str], &str)] = &[
        (&["call_connect", "nobody"], "there is no program \"nobody\""),
        (
            &["call_connect", "call_bind"],
            "call_bind can't be attached behind call_connect: it is for program type bind, not sock_addr",
        ),
        (
            &["call_connect", "call_connect", "call_accept"],
            "call_accept can't be attached behind call_connect: it is for attach point cgroup/recv_accept4, not \
             cgroup/connect4",
        ),
        (&["call_bind", "call_bind"], "attach point bind takes only one program"),
        (
            &["call_accept", "call_accept"],
            "attach point cgroup/recv_accept4 takes only one program",
        ),
        (
            &["count", "count"],
            "attach point xdp is not known to take more than one program",
        ),
        (
            &["call_connect"; 17],
            "17 programs at one attach point are more than 16",
        ),
    ];
    for (programs, expected) in cases {
        let text = of(programs);
        assert!(text.starts_with(expected), "{programs:?}: {text}");
    }
    let call = helper(8, &[]);
    let most = behind(input(&call, "call_connect", &[]), &["call_connect"; 15]);
    let report = run(&request(vec![most])).unwrap();
    assert_eq!(report.results[0].chain.len(), 16);
}
