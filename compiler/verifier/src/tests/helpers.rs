//! Calls of helpers: those that do not exist or cannot be loaded, those on custom maps, and tail calls.

use bpf2sys_bytecode::{
    Callee, Condition, FunctionIndex, InsnIndex, Instruction, MapIndex, Module, Operand, Reg, WordSize,
};
use bpf2sys_platform::{MapValueKind, Platform};

use super::build::{EXIT, add, copy, helper, judge, judge_on, load, load_map, local, map, module, reg, set, store};
use super::known;
use crate::{HelperName, Interval, MissingHelper, RegisterKind, RejectionReason, VerifiedModule};

fn missing(section: &str, id: i32) -> MissingHelper {
    match judge(module(section, &[&[helper(id), EXIT]])) {
        Err(RejectionReason::UnknownHelper(missing)) => *missing,
        other => panic!("{section} {id}: {other:?}"),
    }
}

fn ids(helpers: &[HelperName]) -> Vec<u32> {
    helpers.iter().map(|h| h.id).collect()
}

#[test]
fn a_helper_of_linux_is_named_with_its_windows_id() {
    for (linux, name, windows) in [
        (46, "bpf_get_socket_cookie", 26),
        (87, "bpf_map_push_elem", 16),
        (88, "bpf_map_pop_elem", 17),
        (125, "bpf_ktime_get_boot_ns", 7),
        (130, "bpf_ringbuf_output", 11),
    ] {
        let found = missing("cgroup/connect4", linux);
        assert_eq!(found.linux, Some(name));
        let same = HelperName {
            id: windows,
            name: name.to_owned(),
        };
        assert_eq!(found.same_name, Some(same));
    }
    // Windows has the name, and no program type of these can call it.
    let found = missing("xdp", 46);
    assert_eq!((found.linux, &found.same_name), (Some("bpf_get_socket_cookie"), &None));
    assert!(!ids(&found.nearest).contains(&26), "{found:?}");
    assert_eq!(missing("bind", 51).same_name, None);
    assert_eq!(missing("sample_ext", 51).same_name.map(|h| h.id), Some(35));
}

#[test]
fn an_unknown_helper_is_refused_with_the_nearest_that_there_are() {
    // By name, if Linux has one.
    assert_eq!(missing("xdp", 45).linux, Some("bpf_probe_read_str"));
    let found = missing("xdp", 113);
    assert_eq!(found.linux, Some("bpf_probe_read_kernel"));
    assert_eq!((found.nearest.len(), found.same_name), (3, None));
    // By number, if not.
    for (id, nearest) in [
        (0, [1, 2, 3]),
        (-1, [1, 2, 3]),
        (i32::MIN, [1, 2, 3]),
        (212, [34, 33, 32]),
        (65535, [34, 33, 32]),
    ] {
        let found = missing("bind", id);
        assert_eq!((found.id, found.linux), (id, None));
        assert_eq!(ids(&found.nearest), nearest, "{id}");
        assert!(found.elsewhere.is_empty(), "{id}");
    }
}

#[test]
fn a_helper_of_another_program_type_is_refused_with_that_type() {
    let found = missing("bind", 65538);
    let elsewhere: Vec<(&str, &str)> = found
        .elsewhere
        .iter()
        .map(|(program_type, helper)| (program_type.as_str(), helper.as_str()))
        .collect();
    let expected = [
        ("sock_addr", "bpf_sock_addr_get_network_context"),
        ("process", "bpf_process_get_account_domain"),
        ("sample", "sample_ebpf_extension_replace"),
    ];
    assert_eq!(elsewhere, expected);
    assert!(found.nearest.is_empty(), "bind has no helpers of its own");
    assert_eq!(ids(&missing("sample_ext", 65543).nearest), [65542, 65541, 65540]);
    assert_eq!(ids(&missing("xdp", i32::MAX).nearest), [65536]);
    let text = |id| {
        judge(module("cgroup/bind4", &[&[helper(id), EXIT]]))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        text(65542),
        "program type `sock_addr` has no helper with id 65542; it is `sample_ext_helper_map_get_value` of type `sample`"
    );
    assert_eq!(text(4242), "program type `sock_addr` has no helper with id 4242");
}

/// The runtime could not resolve it (native module contract §4.6).
#[test]
fn a_helper_that_nobody_implements_for_the_program_type_is_refused() {
    let ask = |section, id| judge(module(section, &[&[helper(id), EXIT]]));
    assert!(ask("cgroup/connect4", 26).is_ok());
    for (section, id, expected) in [
        ("xdp", 26, &["sock_addr"][..]),
        ("sample_ext", 26, &["sock_addr"]),
        ("xdp", 35, &["sample"]),
    ] {
        match ask(section, id) {
            Err(RejectionReason::NotImplemented(found)) => {
                assert_eq!(i32::try_from(found.helper.id), Ok(id));
                assert_eq!(found.implemented_for, expected);
            }
            other => panic!("{section} {id}: {other:?}"),
        }
    }
}

/// A program that looks up key 1 in its first map with a helper, and reads a word of the value.
fn looks_up(section: &str, map_type: u32, id: i32, offset: i16) -> Module {
    let ops = [
        store(Reg::R10, -8, 1),
        load_map(Reg::R1, 0),
        copy(reg(2), Reg::R10),
        add(reg(2), -8),
        helper(id),
        Instruction::JumpIf {
            size: WordSize::W64,
            condition: Condition::Eq,
            dst: Reg::R0,
            src: Operand::Imm(0),
            offset: 2,
        },
        load(Reg::R0, Reg::R0, offset),
        EXIT,
        set(Reg::R0, 0),
        EXIT,
    ];
    Module {
        maps: vec![map("custom", map_type, 8, 8)],
        ..module(section, &[&ops])
    }
}

#[test]
fn maps_of_extensions_are_plain_maps() {
    for map_type in [15, 16] {
        for (section, id) in [("sample_ext", 65541), ("sample_ext", 1), ("xdp", 1)] {
            let verified = judge(looks_up(section, map_type, id, 0)).unwrap();
            let facts = verified.facts(FunctionIndex(0));
            let map = facts.instructions[4].map;
            assert_eq!(map, Some(MapIndex(0)), "type {map_type}, helper {id}");
            assert_eq!(facts.register(InsnIndex(6), Reg::R0).kind, RegisterKind::MapValue);
            let reason = judge(looks_up(section, map_type, id, 1)).unwrap_err();
            assert!(
                reason
                    .to_string()
                    .contains("of the value of map `custom`, which has 8 bytes"),
                "{reason}"
            );
        }
    }
}

#[test]
fn a_value_of_an_extensions_map_is_copied_to_where_there_is_room() {
    let copies = |room: i32| {
        let ops = [
            store(Reg::R10, -8, 1),
            store(Reg::R10, -16, 0),
            load_map(Reg::R1, 0),
            copy(reg(2), Reg::R10),
            add(reg(2), -8),
            copy(reg(3), Reg::R10),
            add(reg(3), -16),
            set(reg(4), room),
            helper(65542),
            load(Reg::R0, Reg::R10, -16),
            EXIT,
        ];
        judge(Module {
            maps: vec![map("custom", 15, 8, 8)],
            ..module("sample_ext", &[&ops])
        })
    };
    assert!(copies(8).is_ok());
    assert!(copies(17).is_err());
    assert!(copies(0).is_err());
}

/// Whether such a map can be created is not for the proof to say.
#[test]
fn a_map_type_that_windows_does_not_have_is_a_plain_map() {
    for map_type in [0, 17, 99, u32::MAX] {
        assert!(judge(looks_up("xdp", map_type, 1, 0)).is_ok(), "type {map_type}");
    }
    let mut platform = Platform::builtin();
    platform
        .map_types
        .retain(|t| t.verifier_value_kind == MapValueKind::Program);
    assert!(judge_on(&platform, looks_up("xdp", 2, 1, 0)).is_ok());
}

const TAIL_CALL: Instruction = Instruction::Call(Callee::Helper(5));

/// A program that ends with 7 after what its subprogram gives, which is 3 after a tail call that failed.
fn tail_calls_in_a_subprogram() -> VerifiedModule {
    let program = [
        local(1),
        copy(reg(6), Reg::R0),
        set(Reg::R0, 7),
        Instruction::JumpIf {
            size: WordSize::W64,
            condition: Condition::Eq,
            dst: reg(6),
            src: Operand::Imm(0),
            offset: 1,
        },
        EXIT,
        set(Reg::R0, 9),
        EXIT,
    ];
    let subprogram = [load_map(reg(2), 0), set(reg(3), 0), TAIL_CALL, set(Reg::R0, 3), EXIT];
    judge(Module {
        maps: vec![map("next", 3, 4, 4)],
        ..module("bind", &[&program, &subprogram])
    })
    .unwrap()
}

/// A successful tail call ends the program, wherever it is: what follows it, and what a subprogram gives, is known of
/// failed ones only.
#[test]
fn facts_behind_a_tail_call_are_those_of_a_failed_one() {
    let verified = tail_calls_in_a_subprogram();
    let range = |value| Interval { min: value, max: value };
    let (program, subprogram) = (verified.facts(FunctionIndex(0)), verified.facts(FunctionIndex(1)));
    // The call itself gives any number, and execution goes on.
    let behind = known(subprogram, InsnIndex(3));
    assert!(behind.reachable);
    assert_eq!(
        (behind.registers[0].kind, behind.registers[0].signed),
        (RegisterKind::Number, Interval::FULL)
    );
    assert_eq!(behind.registers[1].kind, RegisterKind::Unknown);
    assert_eq!(subprogram.returns, range(3));
    // So in the caller the result is 3, not the 0 that a subprogram which was left by a tail call would give.
    assert_eq!(program.register(InsnIndex(1), Reg::R0).signed, range(3));
    assert!(program.instructions[4].reachable && !program.instructions[5].reachable);
    assert_eq!(verified.programs()[0].returns, range(7));
}

#[test]
fn a_tail_call_needs_the_whole_context_and_a_program_array() {
    let ask = |map_type, before: &[Instruction]| {
        let call = [load_map(reg(2), 0), set(reg(3), 0), TAIL_CALL, EXIT];
        judge(Module {
            maps: vec![map("next", map_type, 4, 4)],
            ..module("bind", &[&[local(1), EXIT], &[before, &call].concat()])
        })
    };
    assert!(ask(3, &[]).is_ok());
    assert!(
        ask(3, &[add(Reg::R1, 8)])
            .unwrap_err()
            .to_string()
            .contains("a pointer to its byte 8 is given")
    );
    assert!(ask(3, &[set(Reg::R1, 0)]).is_err());
    assert!(
        ask(2, &[])
            .unwrap_err()
            .to_string()
            .contains("is a program array, and a map is given")
    );
}
