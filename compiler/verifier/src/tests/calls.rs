//! Calls of functions of Windows modules.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{
    BtfFunction, BtfFunctionIndex, Callee, GlobalIndex, GlobalSection, Imm64, InsnIndex, Instruction, MapIndex,
    MapOrigin, Module, Reg,
};
use bpf2sys_platform::{self as platform, Guid, Helper, Platform};

use super::build::{EXIT, add, copy, judge, judge_on, load, map, module, reg, set, store};
use super::fixture;
use crate::{Interval, Options, RegisterKind, RejectionReason, VerifiedModule, Verifier, VerifyError, verify};

const LOOKUP: &str = "sample_ebpf_extension_btf_lookup";
const CALL: Instruction = Instruction::Call(Callee::Btf(BtfFunctionIndex(0)));
const MODULE: &str = "8f6c1f83-ce4c-4b58-8b91-654a29e23b7c";

/// A program that names one function of a Windows module.
fn calling(section: &str, name: &str, ops: &[Instruction]) -> Module {
    Module {
        btf_functions: vec![BtfFunction {
            module: MODULE.parse().unwrap(),
            name: name.to_owned(),
        }],
        ..module(section, &[ops])
    }
}

/// The arguments of a good call: a key, 8 initialised bytes of stack, their size.
fn arguments() -> [Instruction; 5] {
    let buffer = [copy(reg(2), Reg::R10), add(reg(2), -8), set(reg(3), 8)];
    [set(reg(1), 5), store(Reg::R10, -8, 7), buffer[0], buffer[1], buffer[2]]
}

fn with_arguments(before: &[Instruction], after: &[Instruction]) -> Module {
    calling("sample_ext", LOOKUP, &[before, &arguments(), &[CALL], after].concat())
}

#[test]
fn programs_of_every_type_call_functions_of_modules() {
    for prefix in Platform::builtin().section_prefixes() {
        let ops = [&arguments()[..], &[CALL, load(Reg::R0, Reg::R10, -8), EXIT]].concat();
        let verified = judge(calling(prefix, LOOKUP, &ops)).unwrap_or_else(|e| panic!("{prefix}: {e}"));
        let facts = verified.facts(verified.programs()[0].function);
        assert!(facts.instructions[7].reachable, "{prefix}");
        let result = facts.register(InsnIndex(7), Reg::R0);
        assert_eq!(result.kind, RegisterKind::Number, "{prefix}");
    }
}

#[test]
fn a_call_gives_a_number_and_may_write_what_it_can_write() {
    let verified = judge(with_arguments(
        &[set(reg(6), 3), store(Reg::R10, -16, 9)],
        &[load(reg(7), Reg::R10, -8), load(reg(8), Reg::R10, -16), EXIT],
    ))
    .unwrap();
    let facts = verified.facts(verified.programs()[0].function);
    let before = facts.registers(InsnIndex(7));
    let after = facts.registers(InsnIndex(10));
    let one = |value| Interval { min: value, max: value };
    assert_eq!(before[1].signed, one(5));
    assert_eq!((after[0].kind, after[0].signed), (RegisterKind::Number, Interval::FULL));
    for register in &after[1..6] {
        assert_eq!(
            (register.kind, register.signed),
            (RegisterKind::Unknown, Interval::FULL)
        );
    }
    assert_eq!(after[6].signed, one(3));
    assert_eq!(after[7].signed, Interval::FULL, "the buffer is written");
    assert_eq!(after[8].signed, one(9), "memory beside it is not");
    assert_eq!(facts.returns, Interval::FULL);
}

#[test]
fn arguments_follow_the_prototype() {
    let end = [set(Reg::R0, 0), EXIT];
    let changed = |change: &[Instruction], after: &[Instruction]| {
        judge(calling(
            "sample_ext",
            LOOKUP,
            &[&arguments()[..], change, &[CALL], after].concat(),
        ))
    };
    assert!(changed(&[], &end).is_ok());
    assert!(changed(&[set(reg(3), 1)], &end).is_ok());
    let cases: [(&str, &[Instruction], &[Instruction], &str); 7] = [
        (
            "r1 is read after the call",
            &[],
            &[copy(Reg::R0, Reg::R1), EXIT],
            "`r0` is a copy of `r1` after a call (`call sample",
        ),
        (
            "the size is zero",
            &[set(reg(3), 0)],
            &end,
            "is a size of at least 1, and can be 0",
        ),
        (
            "the size is unknown",
            &[copy(reg(3), reg(9))],
            &end,
            "`r3` is a copy of `r9`, and nothing",
        ),
        (
            "the buffer is too small",
            &[add(reg(2), 1)],
            &end,
            "and from the buffer at r10-7 only 7 bytes of stack are left",
        ),
        (
            "the buffer is below the frame",
            &[add(reg(2), -512)],
            &end,
            "below the 512 bytes",
        ),
        (
            "the buffer is a number",
            &[set(reg(2), 64)],
            &end,
            "is memory on the stack, in the packet or in a map value, and a number is given",
        ),
        (
            "the key is a pointer",
            &[copy(Reg::R1, Reg::R10)],
            &end,
            "is a number, and a stack pointer is given",
        ),
    ];
    for (what, change, after, expected) in cases {
        let reason = changed(change, after).expect_err(what);
        assert!(reason.to_string().contains(expected), "{what}: {reason}");
    }
}

#[test]
fn a_function_may_not_write_constants() {
    let constant = Imm64::Global {
        section: GlobalIndex(0),
        offset: 0,
    };
    let buffer = Instruction::LoadImm64 {
        dst: reg(2),
        value: constant,
    };
    let calling = |read_only| {
        let mut module = with_arguments(&[], &[EXIT]);
        let ops = [&arguments()[..], &[buffer, CALL, EXIT]].concat();
        module.functions[0].instructions = bpf2sys_bytecode::Insn::sequence(ops);
        let mut memory = map("m.rodata", 2, 4, 8);
        memory.origin = MapOrigin::Global(GlobalIndex(0));
        module.maps.push(memory);
        module.globals.push(GlobalSection {
            section: ".rodata".to_owned(),
            map: MapIndex(0),
            data: vec![0; 8],
            read_only,
        });
        judge(module)
    };
    assert!(calling(false).is_ok());
    let section = ".rodata".to_owned();
    assert_eq!(calling(true).unwrap_err(), RejectionReason::ReadOnlyWrite { section });
}

#[test]
fn a_function_that_nobody_offers_is_refused_with_what_there_is() {
    let refused = |platform: &Platform, module: Guid, name: &str| {
        let mut calling = calling("bind", name, &[set(Reg::R0, 0), CALL, EXIT]);
        calling.btf_functions[0].module = module;
        match judge_on(platform, calling) {
            Err(RejectionReason::UnknownFunction(missing)) => missing,
            other => panic!("{other:?}"),
        }
    };
    let builtin = Platform::builtin();
    let sample: Guid = MODULE.parse().unwrap();
    let other = Guid([7; 16]);

    let near = refused(&builtin, sample, "sample_btf_lookup");
    assert_eq!(
        (near.offered.as_slice(), near.elsewhere.len()),
        (&[LOOKUP.to_owned()][..], 0)
    );

    let elsewhere = refused(&builtin, other, LOOKUP);
    assert_eq!(elsewhere.offered, [""; 0]);
    assert_eq!(elsewhere.elsewhere, [(sample, LOOKUP.to_owned())]);

    let unknown = refused(&builtin, other, "something");
    assert_eq!(
        (unknown.elsewhere.as_slice(), unknown.modules.as_slice()),
        (&[][..], &[sample][..])
    );

    let mut nothing = builtin;
    nothing.btf_functions.clear();
    assert_eq!(refused(&nothing, sample, LOOKUP).modules, []);
    // A name from a hostile object is not compared letter by letter.
    assert_eq!(refused(&Platform::builtin(), other, &"x".repeat(1 << 20)).elsewhere, []);
}

#[test]
fn a_function_with_flags_is_refused() {
    let mut platform = Platform::builtin();
    platform.btf_functions[0].flags = 0x20;
    let reason = judge_on(&platform, with_arguments(&[], &[EXIT])).unwrap_err();
    assert!(
        matches!(reason, RejectionReason::FunctionFlags { flags: 0x20, .. }),
        "{reason:?}"
    );
    assert!(reason.to_string().contains("flags 0x20"), "{reason}");
}

#[test]
fn a_function_that_the_module_does_not_name_is_refused() {
    for index in [1, u32::MAX] {
        let call = Instruction::Call(Callee::Btf(BtfFunctionIndex(index)));
        let reason = judge(calling("xdp", LOOKUP, &[call, EXIT])).unwrap_err();
        assert_eq!(reason, RejectionReason::NoSuchFunction(index));
    }
}

/// The functions that stand in for helpers: all whose prototype says everything about them. Index by helper id.
fn stand_ins(platform: &mut Platform) -> BTreeMap<u32, (platform::BtfFunction, u32)> {
    let plain = |h: &&Helper| {
        const TAIL_CALL: u32 = 2;
        h.writes_readable.is_empty() && !h.reallocate_packet && h.return_type != TAIL_CALL
    };
    let functions: Vec<(u32, platform::BtfFunction)> = platform
        .helpers
        .iter()
        .filter(plain)
        .map(|h| {
            let function = platform::BtfFunction {
                module: Guid([1; 16]),
                name: h.name.clone(),
                return_type: h.return_type,
                arguments: h.arguments,
                flags: 0,
                runtime_map_types: h.runtime_map_types.clone(),
                checks_map_type: h.checks_map_type,
                fills: h.fills,
                provider: "stand-in".to_owned(),
                ..platform::BtfFunction::default()
            };
            (h.id, function)
        })
        .collect();
    platform.btf_functions = functions.iter().map(|(_, f)| f.clone()).collect();
    functions
        .into_iter()
        .zip(0..)
        .map(|((id, f), index)| (id, (f, index)))
        .collect()
}

/// One set of rules for both: what is proven of a program, or why it is refused, does not change when the helpers that it
/// calls become functions of a module.
#[test]
fn a_function_is_judged_as_a_helper_with_its_prototype() {
    let mut platform = Platform::builtin();
    let functions = stand_ins(&mut platform);
    let (mut replaced, mut accepted, mut refused) = (0, 0, 0);
    // PREVAIL accepts `untrusted.o`.
    for (verifier, name) in [Verifier::Native, Verifier::Prevail].into_iter().flat_map(|verifier| {
        [
            "facts.o",
            "trusted.o",
            "untrusted.o",
            "near_rules.o",
            "rejected.o",
            "rules.o",
        ]
        .map(|name| (verifier, name))
    }) {
        let with_helpers = fixture(name);
        let mut with_functions = with_helpers.clone();
        with_functions.btf_functions = functions
            .values()
            .map(|(f, _)| BtfFunction {
                module: f.module,
                name: f.name.clone(),
            })
            .collect();
        for insn in with_functions.functions.iter_mut().flat_map(|f| &mut f.instructions) {
            if let Instruction::Call(Callee::Helper(id)) = insn.op
                && let Some((_, index)) = u32::try_from(id).ok().and_then(|id| functions.get(&id))
            {
                insn.op = Instruction::Call(Callee::Btf(BtfFunctionIndex(*index)));
                replaced += 1;
            }
        }
        let judge = |module| {
            let options = Options {
                verifier,
                ..Options::default()
            };
            verify(module, &platform, &options)
        };
        match (judge(with_helpers), judge(with_functions)) {
            (Ok(helpers), Ok(functions)) => {
                accepted += 1;
                for index in 0..helpers.module().functions.len() as u32 {
                    let index = bpf2sys_bytecode::FunctionIndex(index);
                    let facts = |verified: &VerifiedModule| format!("{:#?}", verified.facts(index));
                    assert_eq!(facts(&helpers), facts(&functions), "{name} {index:?}");
                }
            }
            (Err(VerifyError::Rejected(helpers)), Err(VerifyError::Rejected(functions))) => {
                refused += 1;
                assert_eq!(helpers.len(), functions.len(), "{name}");
                for (helper, function) in helpers.iter().zip(&functions) {
                    assert_eq!(helper.program, function.program, "{name}");
                    assert_eq!(helper.reason, function.reason, "{name} {}", helper.program);
                    let slot = |r: &crate::Rejection| r.place.as_ref().map(|p| p.slot);
                    assert_eq!(slot(helper), slot(function), "{name} {}", helper.program);
                }
            }
            (helpers, functions) => panic!("{name}: {helpers:?} {functions:?}"),
        }
    }
    assert!(
        replaced > 10 && accepted == 3 + 4 && refused == 3 + 2,
        "{replaced} {accepted} {refused}"
    );
}
