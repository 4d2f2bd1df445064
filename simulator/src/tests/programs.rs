//! Programs of a good image, and what the report says of them.

use bpf2sys_simulator::{
    HexBytes, Input, MapPreset, PresetValue, Rule, RunReport, RunRequest, SimulatedMachine, SimulatorError,
};

use super::fixture::{on_arm64, packet, preset, request, run, value};

pub fn loads_checks_and_unloads_a_good_module() {
    let report = run(&request(vec![])).unwrap();
    assert_eq!(report.stated_version, "1.6.0");
    assert!(report.results.is_empty());
    let names: Vec<_> = report.maps.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names[..4], ["params", "array", "hash", "cpu_array"]);
    assert_eq!(report.pins.len(), 1);
    assert_eq!(report.pins[0].path, r"BPF:\pinned\flows");
    let progs = report.maps.iter().find(|m| m.name == "progs").unwrap();
    let objects: Vec<_> = progs
        .entries
        .iter()
        .map(|e| (e.key.0[0], e.object.as_deref().unwrap()))
        .collect();
    assert_eq!(objects, [(0, "tail_two"), (2, "tail_loop")]);
}

pub fn runs_a_program_on_packet_context_maps_and_globals() {
    let mut input = packet("count", &[3, 9, 7]);
    input.context = HexBytes(vec![0; 28]);
    input.context.0[24] = 41;
    let drop = packet("count", &[0x88, 9]);
    let report = run(&request(vec![input.clone(), input, drop, packet("count", &[1])])).unwrap();
    let [first, second, third, short] = report.results.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(
        first, second,
        "each invocation gets packet and context as the request gives them"
    );
    assert_eq!((first.result, first.result_name.as_deref()), (1, Some("XDP_PASS")));
    assert_eq!(first.packet.0, [9, 3, 7]);
    assert_eq!(first.context.0[24], 42);
    assert_eq!(
        first.context.0[..24],
        [0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!((third.result, third.result_name.as_deref()), (2, Some("XDP_DROP")));
    assert_eq!(short.result, 1);
    assert_eq!(value(&report, "array", &[3, 0, 0, 0]).unwrap(), 2u64.to_le_bytes());
    assert_eq!(
        value(&report, "mod.data", &[0; 4]).unwrap(),
        0x1122_3344_5566_7788u64.to_le_bytes()
    );
    let calls: Vec<_> = report
        .helper_calls
        .iter()
        .map(|c| (c.program.as_str(), c.helper.as_str(), c.calls))
        .collect();
    assert_eq!(calls, [("count", "bpf_map_lookup_elem", 3)]);
    assert!(
        report.max_stack_bytes > 30 && report.max_stack_bytes < 512,
        "{}",
        report.max_stack_bytes
    );
}

pub fn equal_requests_give_equal_reports() {
    let request = request(vec![packet("count", &[3, 9]), packet("tail_one", &[0, 0])]);
    let text = |r: &RunReport| serde_json::to_string(r).unwrap();
    assert_eq!(text(&run(&request).unwrap()), text(&run(&request).unwrap()));
}

pub fn repeats_an_input() {
    let report = run(&request(vec![Input {
        repeat: 1000,
        ..packet("count", &[1, 0])
    }]))
    .unwrap();
    assert_eq!(report.results.len(), 1000);
    assert_eq!(value(&report, "array", &[1, 0, 0, 0]).unwrap(), 1000u64.to_le_bytes());
}

pub fn follows_tail_calls_up_to_the_limit() {
    let inputs = vec![
        packet("tail_one", &[0, 0]),
        packet("tail_one", &[1, 0]),
        packet("tail_one", &[2, 0]),
    ];
    let report = run(&request(inputs)).unwrap();
    let [taken, empty_slot, looping] = report.results.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(
        (taken.result, taken.tail_calls.as_slice()),
        (2, ["tail_two".to_owned()].as_slice())
    );
    assert_eq!((empty_slot.result, empty_slot.tail_calls.len()), (6, 0));
    assert_eq!((looping.result, looping.tail_calls.len()), (27, 33));
    assert_eq!(
        looping.packet.0[1], 33,
        "every program of the chain sees the same packet"
    );
}

pub fn presets_name_maps_and_programs_for_maps_that_hold_them() {
    let mut request = request(vec![packet("tail_one", &[1, 0])]);
    request.presets.push(MapPreset {
        map: "progs".into(),
        key: HexBytes(vec![1, 0, 0, 0]),
        value: PresetValue::Name("tail_two".into()),
    });
    assert_eq!(run(&request).unwrap().results[0].tail_calls, ["tail_two"]);
}

pub fn requests_that_do_not_fit_the_module_are_refused() {
    let cases = [
        (request(vec![packet("nobody", &[])]), "there is no program \"nobody\""),
        (request(vec![packet("call_sockops", &[1])]), "takes no packet"),
        (
            request(vec![Input {
                context: HexBytes(vec![0; 33]),
                ..packet("count", &[])
            }]),
            "has 32 bytes, 33 are given",
        ),
        (
            request(vec![Input {
                meta: Some(HexBytes(vec![1])),
                ..packet("call_bind", &[])
            }]),
            "takes no metadata",
        ),
        (request(vec![packet("count", &[0; 0xFFFF])]), "at most 65534"),
        (
            RunRequest {
                presets: vec![preset("none", &[], &[])],
                ..request(vec![])
            },
            "no such map",
        ),
        (
            RunRequest {
                presets: vec![preset("array", &[0], &[0; 8])],
                ..request(vec![])
            },
            "keys have 4 bytes, 1 are",
        ),
        (
            RunRequest {
                presets: vec![preset("array", &[0; 4], &[0])],
                ..request(vec![])
            },
            "values have 8 bytes, 1 are",
        ),
        (
            RunRequest {
                presets: vec![preset("array", &[9; 4], &[0; 8])],
                ..request(vec![])
            },
            "answers with error 6",
        ),
        (
            RunRequest {
                machine: SimulatedMachine {
                    cpus: 2,
                    cpu: 2,
                    ..Default::default()
                },
                ..request(vec![])
            },
            "processor 2 of 2",
        ),
        (
            RunRequest {
                platform_files: vec![("x.toml".into(), "nonsense".into())],
                ..request(vec![])
            },
            "x.toml",
        ),
    ];
    for (request, expected) in cases {
        match run(&request) {
            Err(SimulatorError::Request(text)) => assert!(text.contains(expected), "{text}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

pub fn metadata_lies_before_the_packet_and_is_absent_otherwise() {
    let with = Input {
        meta: Some(HexBytes(vec![1, 2, 3, 4])),
        ..packet("count", &[5, 6])
    };
    let report = run(&request(vec![with, packet("count", &[5, 6])])).unwrap();
    assert_eq!(report.results[0].meta, Some(HexBytes(vec![1, 2, 3, 4])));
    assert_eq!(report.results[0].context.0[16..24], (-4i64).to_le_bytes());
    assert_eq!(report.results[1].meta, None);
    assert_eq!(report.results[1].context.0[16..24], [0; 8]);
}

/// The machines that a case is for.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Both,
    X64,
    Arm64,
}
use On::{Arm64, Both, X64};

impl On {
    fn is_here(self) -> bool {
        self == Both || (self == Arm64) == on_arm64()
    }
}

/// First packet byte of `misbehave`, and what must be reported.
pub fn broken_programs_are_caught_by_rule() {
    let cases = [
        (X64, 4, Rule::Nonvolatile, "r14, r15"),
        (Arm64, 4, Rule::Nonvolatile, "x27, x28"),
        (Both, 5, Rule::HelperContext, "is NULL"),
        (X64, 6, Rule::StackAtCall, "rsp modulo 16 is 0"),
        (Arm64, 6, Rule::StackAtCall, "sp modulo 16 is 8"),
        (Both, 7, Rule::RuntimeMemory, "context header"),
        (
            Both,
            8,
            Rule::HelperArgument,
            "argument 2 of bpf_map_lookup_elem must be a key of map array",
        ),
        (X64, 15, Rule::Nonvolatile, "direction flag"),
        (
            Both,
            17,
            Rule::HelperArgument,
            "bpf_ringbuf_output is given map hash of type 1",
        ),
        (Both, 22, Rule::RuntimeMemory, "the bytes before the packet"),
        (Both, 23, Rule::RuntimeMemory, "the pointer at offset 0 of the context"),
        (
            Both,
            24,
            Rule::HelperArgument,
            "argument 1 of bpf_map_lookup_elem must be a map",
        ),
        (X64, 26, Rule::Nonvolatile, "MXCSR"),
        (Arm64, 26, Rule::Nonvolatile, "FPCR"),
        (X64, 31, Rule::Nonvolatile, "the direction flag is set at a call"),
        (X64, 27, Rule::Nonvolatile, "xmm7"),
        (Arm64, 27, Rule::Nonvolatile, "d9"),
        (
            Both,
            28,
            Rule::HelperArgument,
            "argument 3 of bpf_map_update_elem must be a value of map hash",
        ),
        (Arm64, 32, Rule::Nonvolatile, "changed on return: x18"),
        (Arm64, 33, Rule::Nonvolatile, "x18 is changed at a call"),
    ];
    for (on, what, rule, text) in cases {
        if !on.is_here() {
            continue;
        }
        match run(&request(vec![packet("misbehave", &[what, 0])])) {
            Err(SimulatorError::Kernel { violation, .. }) if violation.rule == rule => {
                assert!(violation.detail.contains(text), "{what}: {violation}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

pub fn faults_name_instruction_program_and_what_was_touched() {
    let cases = [
        (
            Both,
            1,
            "access violation (read)",
            "the guard page after the packet+0x0",
            "",
        ),
        (Both, 2, "access violation (write)", "NULL+0x8", ""),
        (X64, 9, "illegal instruction", "", "ud2"),
        (Arm64, 9, "illegal instruction", "", "udf #0x0"),
        (X64, 10, "divide error", "", "div ecx"),
        (X64, 11, "breakpoint", "", "int3"),
        (Arm64, 11, "breakpoint", "", "brk #0xf000"),
        (X64, 30, "system call instruction", "", "syscall"),
        (Arm64, 30, "system call instruction", "", "svc #0x0"),
        (
            Both,
            12,
            "access violation (write)",
            "the guard page before the kernel stack",
            "",
        ),
        (
            Both,
            13,
            "access violation (write)",
            "helper_data of program misbehave",
            "",
        ),
        (Both, 14, "access violation (write)", "section xdp", ""),
        (
            X64,
            19,
            "general protection fault (an address that cannot exist)",
            "",
            "",
        ),
        (Arm64, 19, "access violation (an address that cannot exist)", "", ""),
        (
            Both,
            21,
            "access violation (read)",
            "the guard page after the values of map array+0x0",
            "",
        ),
        (Both, 25, "access violation (write)", "section .rdata", ""),
        (
            Arm64,
            34,
            "datatype misalignment",
            "the values of map array+0x1",
            "ldaxr",
        ),
        (
            Arm64,
            35,
            "datatype misalignment",
            "the values of map array+0x1",
            "ldaddal",
        ),
        (Arm64, 36, "the processor was halted", "", "wfi"),
        (Arm64, 39, "access violation (read)", "the kernel's code", "ldr"),
    ];
    for (on, what, kind, accessed, instruction) in cases {
        if !on.is_here() {
            continue;
        }
        let outcome = run(&request(vec![packet("misbehave", &[what, 0])]));
        let Err(SimulatorError::Fault(fault)) = outcome else {
            panic!("{what}: {outcome:?}")
        };
        assert_eq!(fault.kind, kind, "{what}: {fault}");
        assert!(
            fault.accessed.as_deref().unwrap_or("").starts_with(accessed),
            "{what}: {fault}"
        );
        assert_eq!(fault.during, "program misbehave running");
        assert_eq!(fault.location.section.as_deref(), Some("xdp"), "{what}: {fault}");
        assert!(fault.location.program.is_some(), "{what}: {fault}");
        let text = fault.location.instruction.as_deref().unwrap_or("");
        assert!(!text.is_empty() && text.starts_with(instruction), "{what}: {fault}");
    }
}

pub fn code_that_leaves_the_image_is_said_to() {
    let outcome = run(&request(vec![packet("misbehave", &[16, 0])]));
    let Err(SimulatorError::Fault(fault)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(fault.kind, "access violation (execute)");
    assert_eq!(fault.location.outside.as_deref(), Some("the packet+0x0"));
}

pub fn an_endless_loop_is_a_time_out_of_its_program() {
    let outcome = run(&RunRequest {
        time_limit_ms: 300,
        ..request(vec![packet("misbehave", &[3, 0])])
    });
    let Err(SimulatorError::TimeOut(time_out)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(time_out.during.as_deref(), Some("program misbehave running"));
    assert_eq!(time_out.location.unwrap().program.as_deref(), Some("misbehave"));
}

pub fn unused_stack_and_volatile_registers_hold_garbage() {
    let report = run(&request(vec![
        packet("misbehave", &[18, 0]),
        packet("misbehave", &[20, 0]),
    ]))
    .unwrap();
    assert_eq!(report.results[0].result, 0xA5A5_A5A5);
    assert_eq!(report.results[1].result, 0xA5A5_A5A5);
}

pub fn a_helper_reached_by_a_jump_with_a_wild_return_address_is_caught() {
    let outcome = run(&request(vec![packet("misbehave", &[29, 0])]));
    let Err(SimulatorError::Kernel { violation, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(violation.rule, Rule::StackAtCall, "{violation}");
}

pub fn return_addresses_are_authenticated() {
    if !on_arm64() {
        return;
    }
    let intact = run(&request(vec![packet("misbehave", &[38, 0])])).unwrap();
    assert_eq!(intact.results[0].result, 1);
    let outcome = run(&request(vec![packet("misbehave", &[37, 0])]));
    let Err(SimulatorError::Fault(fault)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(fault.kind, "access violation (execute)");
    assert_eq!(
        fault.location.outside.as_deref(),
        Some("memory that nothing was mapped at")
    );
}

pub fn code_that_was_discarded_is_gone() {
    // `tail_two` moves to where the image is discarded after DriverEntry, as a branch to there: section INIT is the one
    // that was `sockops`, whose program then is not what runs.
    let mut patched = super::patch::Patched::new();
    let header = patched.header(".reloc");
    let flags = patched.section(".reloc").flags;
    assert_ne!(flags & 0x0200_0000, 0, ".reloc is discardable");
    patched.put(header + 36, &(flags | 0x2000_0000).to_le_bytes());
    let target = patched.section(".reloc").rva.0 + 0x800;
    let program = patched.u64(patched.program(10, 32));
    let (at, rva) = (patched.at(program), (program - patched.image().image_base) as u32);
    if on_arm64() {
        patched.put(at, &(0x1400_0000 + (target - rva) / 4).to_le_bytes()); // b
    } else {
        patched.put(at, &[0xE9]); // jmp
        patched.put(at + 1, &(target - rva - 5).to_le_bytes());
    }
    let outcome = run(&RunRequest {
        image: patched.finish(),
        ..request(vec![packet("tail_two", &[0, 0])])
    });
    let Err(SimulatorError::Fault(fault)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(fault.kind, "access violation (execute)");
    let accessed = fault.accessed.unwrap_or_default();
    assert!(accessed.starts_with("section .reloc, discarded"), "{accessed}");
}
