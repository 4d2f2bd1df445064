//! Providers of functions and map types, as the module of `testdata/sample.c` meets them.

use bpf2sys_simulator::{
    Answer, HexBytes, Input, Provider, ProviderEvent, Reload, Rule, RunReport, RunRequest, SimulatorError,
};

use super::call::Arg::{Context, Map, Memory, Number, Packet};
use super::call::{Helper, btf, helper, input, memory_after, neg32, neg64, result};
use super::fixture::{packet, preset, run, sample_image, sample_request, value};
use super::patch::Patched;

/// Map indices in `testdata/sample.c`.
const ARRAY: u64 = 1;
const CUSTOM: u64 = 2;

const SAMPLE_MODULE: &str = "8f6c1f83-ce4c-4b58-8b91-654a29e23b7c";
const OTHER_MODULE: &str = "000000ff-0000-0000-0000-000000000001";

fn calls(calls: &[Helper]) -> RunRequest {
    sample_request(calls.iter().map(|c| input(c, "call", &[0; 64])).collect())
}

fn results(report: &RunReport) -> Vec<u64> {
    report.results.iter().map(result).collect()
}

fn broken(request: &RunRequest) -> (Rule, String) {
    match run(request) {
        Err(SimulatorError::Kernel { violation, .. }) => (violation.rule, violation.detail),
        other => panic!("{other:?}"),
    }
}

fn sample_type() -> Provider {
    Provider::ProgramType("sample".into())
}

pub fn functions_of_other_modules_are_called_through_their_table() {
    let lookup = |size| btf(0, &[Number(1 << 40 | 5), Memory(0), Number(size)]).memory(&[9; 16]);
    let mut request = calls(&[btf(2, &[]), lookup(4), lookup(8)]);
    request.answers.push(Answer {
        function: "other_function".into(),
        result: 1 << 33 | 6,
        ..Answer::default()
    });
    let report = run(&request).unwrap();
    assert_eq!(results(&report), [1 << 33 | 6, (1 << 40) + 9, (1 << 40) + 13]);
    assert_eq!(memory_after(&report)[..12], [5, 0, 0, 0, 0, 1, 0, 0, 9, 9, 9, 9]);
    let counted: Vec<_> = report
        .btf_calls
        .iter()
        .map(|c| (c.program.as_str(), c.function.as_str(), c.calls))
        .collect();
    assert_eq!(
        counted,
        [
            ("call", "sample_ebpf_extension_btf_lookup", 2),
            ("call", "other_function", 1)
        ]
    );
    assert_eq!(report.btf_calls[0].module, SAMPLE_MODULE);

    request.answers.clear();
    assert_eq!(results(&run(&request).unwrap())[0], 0, "unknown functions give 0");
    let (rule, text) = broken(&calls(&[btf(0, &[Number(0), Memory(388), Number(8)])]));
    assert_eq!(rule, Rule::HelperArgument);
    assert!(
        text.contains("argument 2 of sample_ebpf_extension_btf_lookup must be 8 writable bytes"),
        "{text}"
    );
    let (rule, _) = broken(&calls(&[btf(0, &[Number(0), Memory(0), Number(0)])]));
    assert_eq!(rule, Rule::HelperArgument);
    // A hole stays NULL.
    match run(&calls(&[btf(1, &[])])) {
        Err(SimulatorError::Fault(fault)) => assert_eq!(fault.location.outside.as_deref(), Some("NULL")),
        other => panic!("{other:?}"),
    }
}

pub fn a_function_needs_its_provider_when_the_module_is_loaded() {
    let without = |provider| RunRequest {
        absent: vec![provider],
        ..sample_request(vec![])
    };
    for module in [SAMPLE_MODULE, OTHER_MODULE] {
        let (rule, text) = broken(&without(Provider::BtfModule(module.into())));
        assert_eq!(rule, Rule::BtfFunction);
        assert!(text.contains(module), "{text}");
    }
    let (rule, text) = broken(&RunRequest {
        platform_files: vec![],
        ..sample_request(vec![])
    });
    assert_eq!(rule, Rule::BtfFunction, "{text}");
    let mut patched = Patched::of(sample_image());
    let at = patched.find(".rdata", b"other_function");
    patched.put(at, b"O");
    let image = patched.finish();
    let (rule, text) = broken(&RunRequest {
        image,
        ..sample_request(vec![])
    });
    assert_eq!(rule, Rule::BtfFunction);
    assert!(text.contains("has no function Other_function"), "{text}");
    assert_eq!(broken(&without(sample_type())).0, Rule::ProgramType);
    match run(&without(Provider::BtfModule("nonsense".into()))) {
        Err(SimulatorError::Request(text)) => assert!(text.contains("nonsense"), "{text}"),
        other => panic!("{other:?}"),
    }
}

pub fn a_program_is_not_run_while_a_provider_is_away() {
    let other = || Provider::BtfModule(OTHER_MODULE.into());
    let with = |program: &str, first, events: Vec<ProviderEvent>| Input {
        events,
        ..packet(program, &[first, 7])
    };
    let inputs = vec![
        with("target", 0, vec![]),
        with("target", 0, vec![ProviderEvent::Detach(other())]),
        with("other", 0, vec![]),
        // The program that the tail call leads to needs it.
        with("tail", 1, vec![]),
        with("tail", 0, vec![]),
        with("target", 0, vec![ProviderEvent::Attach(other())]),
        with("other", 0, vec![ProviderEvent::Detach(sample_type())]),
        with("other", 0, vec![ProviderEvent::Attach(sample_type())]),
    ];
    let mut request = sample_request(inputs);
    request.answers.push(Answer {
        function: "other_function".into(),
        result: 6,
        ..Answer::default()
    });
    let report = run(&request).unwrap();
    let seen: Vec<_> = report.results.iter().map(|r| (r.result, r.not_run.is_some())).collect();
    let (ran, not) = (|value| (value, false), (0, true));
    assert_eq!(seen, [ran(6), not, ran(7), not, ran(7), ran(6), not, ran(7)]);
    let reason = |i: usize| report.results[i].not_run.clone().unwrap();
    assert_eq!(
        reason(1),
        format!("the provider of functions of module {OTHER_MODULE} is detached")
    );
    assert_eq!(report.results[3].tail_calls, ["target"]);
    assert_eq!(reason(6), "the provider of program type sample is detached");
    assert_eq!(report.results[1].packet.0, [0, 7]);
}

/// The image with a program information hash for the first program, over the functions in this order.
fn with_hash(functions: &[(&str, &str)]) -> Vec<u8> {
    let files = sample_request(vec![]).platform_files;
    let files = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let builtin = bpf2sys_platform::Platform::builtin_files().iter().copied();
    let all: Vec<_> = builtin.chain(files).collect();
    let platform = bpf2sys_platform::Platform::from_toml(&all).unwrap();
    let sample = platform.program_types.iter().find(|t| t.name == "sample").unwrap();
    let ids = (1..=25).chain(27..=35).chain(65536..=65542);
    let functions = functions.iter().map(|(module, name)| (module.parse().unwrap(), *name));
    let algorithm = bpf2sys_platform::HashAlgorithm::Sha256;
    let hash = platform.program_info_hash(algorithm, sample, ids, functions).unwrap();
    let mut patched = Patched::of(sample_image());
    let at = patched.raw("hash");
    patched.put(at, &hash);
    let place = patched.address("hash", 0);
    let (pointer, length) = (patched.program(0, 120), patched.program(0, 128));
    patched.pointer(pointer, place).put(length, &[32]);
    patched.finish()
}

const LOOKUP: (&str, &str) = (SAMPLE_MODULE, "sample_ebpf_extension_btf_lookup");
const OTHER: (&str, &str) = (OTHER_MODULE, "other_function");

pub fn a_stated_hash_counts_functions_in_table_order() {
    let load = |functions: &[_]| RunRequest {
        image: with_hash(functions),
        ..sample_request(vec![])
    };
    run(&load(&[LOOKUP, OTHER])).unwrap();
    assert_eq!(broken(&load(&[OTHER, LOOKUP])).0, Rule::ProgramInfoHash);
    assert_eq!(broken(&load(&[LOOKUP])).0, Rule::ProgramInfoHash);
    assert_eq!(broken(&load(&[])).0, Rule::ProgramInfoHash);
}

pub fn a_provider_with_other_prototypes_does_not_suit_a_stated_hash() {
    for provider in [sample_type(), Provider::BtfModule(OTHER_MODULE.into())] {
        let call = helper(19, &[]);
        let events = [
            vec![ProviderEvent::AttachChanged(provider.clone())],
            vec![ProviderEvent::Attach(provider)],
        ];
        let mut inputs = Vec::new();
        for events in events {
            // Only the first program states a hash.
            inputs.push(Input {
                events,
                ..input(&call, "call", &[0; 32])
            });
            inputs.push(packet("other", &[]));
        }
        let report = run(&RunRequest {
            image: with_hash(&[LOOKUP, OTHER]),
            ..sample_request(inputs)
        })
        .unwrap();
        let ran: Vec<_> = report.results.iter().map(|r| r.not_run.is_none()).collect();
        assert_eq!(ran, [false, true, true, true]);
        let reason = report.results[0].not_run.as_deref().unwrap();
        assert_eq!(reason, "its program information hash is no longer the right one");
        assert_eq!(result(&report.results[2]), 9999);
    }
}

pub fn an_address_that_was_kept_over_a_reload_is_caught() {
    for kind in [0, 1] {
        let request = |program: &str, reload| RunRequest {
            reload,
            ..sample_request(vec![Input {
                repeat: 200,
                ..packet(program, &[kind])
            }])
        };
        for reload in [Reload::Never, Reload::EachInvocation] {
            assert_eq!(run(&request("keep", reload)).unwrap().results.len(), 200);
        }
        assert_eq!(broken(&request("keep", Reload::EachCall)).0, Rule::FormerAddress);
        let report = run(&request("read_again", Reload::EachCall)).unwrap();
        let expected = if kind == 0 { 9999 } else { 13 };
        assert!(report.results.iter().all(|r| r.result == expected));
    }
}

pub fn equal_requests_give_equal_reports_whatever_reloads() {
    let reports: Vec<_> = [Reload::Never, Reload::EachInvocation, Reload::EachCall]
        .into_iter()
        .map(|reload| {
            let request = RunRequest {
                reload,
                ..calls(&[
                    helper(6, &[]),
                    btf(0, &[Number(5), Memory(0), Number(8)]),
                    helper(7, &[]),
                ])
            };
            serde_json::to_string(&run(&request).unwrap()).unwrap()
        })
        .collect();
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[0], reports[2]);
}

pub fn custom_maps_are_closed_to_general_helpers() {
    let key = [1u8, 0, 0, 0];
    let general = [
        helper(1, &[Map(CUSTOM), Memory(0)]).memory(&key),
        helper(2, &[Map(CUSTOM), Memory(0), Memory(8), Number(0)]).memory(&key),
        helper(3, &[Map(CUSTOM), Memory(0)]).memory(&key),
        helper(4, &[Map(CUSTOM), Memory(0)]).memory(&key),
        helper(16, &[Map(CUSTOM), Memory(0), Number(0)]),
        helper(17, &[Map(CUSTOM), Memory(0)]),
        helper(18, &[Map(CUSTOM), Memory(0)]),
    ];
    let mut request = calls(&general);
    request.presets = vec![preset("custom", &key, &[5, 6, 7, 8])];
    let report = run(&request).unwrap();
    let refused = (neg64(18), neg32(18));
    assert_eq!(
        results(&report),
        [0, refused.0, refused.0, 0, refused.1, refused.1, refused.1]
    );
    assert_eq!(value(&report, "custom", &key).unwrap(), [5, 6, 7, 8]);
    let custom = report.maps.iter().find(|m| m.name == "custom").unwrap();
    assert_eq!((custom.map_type, custom.type_name.as_str()), (15, "sample_hash_map"));

    // 65541 and 65542 are in slots 39 and 40.
    let lookup = |map, key| helper(40, &[Map(map), Memory(0)]).memory(&[key, 0, 0, 0]).copy(4);
    let get = |map, key, size| helper(41, &[Map(map), Memory(0), Memory(8), Number(size)]).memory(&[key, 0, 0, 0]);
    let own = [
        lookup(CUSTOM, 1),
        lookup(CUSTOM, 2),
        lookup(ARRAY, 1),
        get(CUSTOM, 2, 4),
        get(ARRAY, 1, 8),
    ];
    let mut request = calls(&own);
    request.inputs.push(input(&get(CUSTOM, 1, 3), "call", &[0; 64]));
    request.inputs.push(input(&get(CUSTOM, 1, 4), "call", &[0; 64]));
    request.presets = vec![preset("custom", &key, &[5, 6, 7, 8])];
    let report = run(&request).unwrap();
    assert_eq!(report.results[0].packet.0[8..12], [5, 6, 7, 8]);
    assert_eq!(results(&report)[1..], [0, 0, neg64(1), neg64(1), neg64(1), 0]);
    assert_eq!(memory_after(&report)[8..12], [5, 6, 7, 8]);
}

pub fn a_custom_map_needs_its_extension() {
    let (rule, text) = broken(&RunRequest {
        absent: vec![Provider::MapType(15)],
        ..sample_request(vec![])
    });
    assert_eq!(rule, Rule::MapProvider);
    assert!(text.contains("no provider of map type 15"), "{text}");
    // Nobody offers type 16.
    let patch = |change: &dyn Fn(&mut Patched)| {
        let mut patched = Patched::of(sample_image());
        change(&mut patched);
        RunRequest {
            image: patched.finish(),
            ..sample_request(vec![])
        }
    };
    assert_eq!(broken(&patch(&|p| _ = p.put(p.map(2, 40), &[16]))).0, Rule::MapProvider);
    // The extension takes programs of its own type only: these are now of type bind.
    let bind: bpf2sys_platform::Guid = "608c517c-6c52-4a26-b677-bb1c34425adf".parse().unwrap();
    let (rule, text) = broken(&patch(&|p| {
        let at = p.find(".data", &[0x4A, 0xEF, 0x88, 0xF7]);
        p.put(at, &bind.0);
    }));
    assert_eq!(rule, Rule::MapAssociation);
    assert!(text.contains("takes only program types of its own"), "{text}");
    // While there are maps of the type, its provider cannot go.
    let detach = ProviderEvent::Detach(Provider::MapType(15));
    let outcome = run(&sample_request(vec![Input {
        events: vec![detach],
        ..packet("other", &[])
    }]));
    assert!(matches!(outcome, Err(SimulatorError::Request(text)) if text.contains("stays")));
}

pub fn helpers_of_the_sample_extension_work_as_their_models() {
    let find = |text: &[u8]| {
        let mut memory = b"some text\0......".to_vec();
        memory.extend(text);
        helper(36, &[Memory(0), Number(16), Memory(16), Number(text.len() as u64)]).memory(&memory)
    };
    let replace = |position, text: &[u8]| {
        let arguments = [
            Packet(32),
            Number(8),
            Number(position),
            Memory(0),
            Number(text.len() as u64),
        ];
        helper(37, &arguments).memory(text)
    };
    let list = [
        helper(35, &[Context]),
        find(b"text\0"),
        find(b"none\0"),
        helper(38, &[]),
        helper(39, &[Number((1 << 32) + 10)]),
        helper(19, &[]),
        replace(8, b"ab\0"),
        replace(neg64(1), b"ab\0"),
        replace(2, b"ab\0cd"),
        replace(4, b"abcdef"),
    ];
    let mut request = calls(&list);
    for input in &mut request.inputs {
        input.context = HexBytes(vec![0; 32]);
        input.context.0[24] = 7;
        input.context.0[28] = 8;
    }
    let report = run(&request).unwrap();
    let minus = neg64(1);
    assert_eq!(results(&report), [0, 5, minus, 7, 18, 9999, minus, minus, 0, 0]);
    assert_eq!(report.results[8].packet.0[32..40], *b"\0\0ab\0\0\0\0");
    assert_eq!(
        report.results[9].packet.0[32..40],
        *b"\0\0\0\0abc\0",
        "the last byte stays"
    );
    // Nobody has said what this one does.
    let redirect = helper(42, &[Map(ARRAY), Number(0), Number(0)]);
    let found = run(&calls(&[redirect]));
    assert!(
        matches!(found, Err(SimulatorError::NoStandIn { id: 35, .. })),
        "{found:?}"
    );
}
