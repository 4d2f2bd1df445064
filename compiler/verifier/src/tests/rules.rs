//! What is refused although the engine accepts it, and what next to it is not.

use bpf2sys_bytecode::{
    AluOp, AtomicOp, Function, FunctionIndex, FunctionKind, InitialValue, Insn, Instruction, Module, Operand, Reg,
    WordSize,
};
use bpf2sys_platform::Platform;

use super::build::{self, EXIT, copy, helper, judge, judge_by, judge_on, load_map, map, module, reg, set, store};
use super::{at, fixture, range, rejections, signed, verified};
use crate::{Interval, Options, RejectionReason, Verifier, VerifyError, verify};

#[test]
fn what_the_engine_gets_wrong_is_refused_at_its_instruction() {
    let cases = [
        (
            "indexes_with_popped",
            "value[index] = 1;",
            "which can be before its start",
        ),
        (
            "indexes_with_popped_behind_popped",
            "value[index] = 1;",
            "which can be before its start",
        ),
        (
            "stores_negative",
            "asm volatile(\"*(u64 *)(r10 - 8) = -1;\"",
            "never written",
        ),
        (
            "adds_to_null",
            "asm volatile(\"r1 = 0;\"",
            "arithmetic on a pointer that may be null; compare it with null first",
        ),
        ("adds_null_on_one_path", "asm volatile(\"r1 = 0;\"", "may be null"),
        (
            "compares_half_pointers",
            "asm volatile(\"r2 = *(u64 *)(r1 + 0);\"",
            "`if w4 > w3 goto +0x1`",
        ),
        ("swaps_constant", "asm volatile(\"r1 = 0xf2;\"", "`r1 = bswap64 r1`"),
        (
            "writes_constant",
            "*(volatile u64 *)&limits[random_u32() & 3] = 7;",
            "writes to `.rodata`",
        ),
        (
            "adds_to_constant",
            "asm volatile(\"r1 = %[limits] ll;\"",
            "writes to `.rodata`",
        ),
        (
            "pops_to_constant",
            "pop(&queue, (void *)&limits[1]);",
            "writes to `.rodata`",
        ),
        (
            "reads_metadata",
            "asm volatile(\"r2 = *(u64 *)(r1 + 16);\"",
            "for `xdp` programs it is always null",
        ),
        (
            "reads_metadata_in_callee",
            "asm volatile(\"r1 += 8;\"",
            "function `reads_context`, instruction 1 ",
        ),
        (
            "outputs_to_array",
            "return ringbuf_output(&values, &data, sizeof(data), 0) ? 1 : 2;",
            "takes any map for one of type `ringbuf`, and `values` is of type `array`",
        ),
        (
            "outputs_events_to_ring",
            "return perf_event_output(ctx, &ring, 0, &data, sizeof(data)) ? 1 : 0;",
            "takes any map for one of type `perf_event_array`, and `ring` is of type `ringbuf`",
        ),
        (
            "outputs_to_either",
            "return ringbuf_output(random_u32() & 1 ? (void *)&ring : (void *)&values, &data, sizeof(data), 0) ? 1 : 2;",
            "and `values` is of type `array`",
        ),
        (
            "outputs_to_inner",
            "return map && ringbuf_output(map, &data, sizeof(data), 0) ? 1 : 2;",
            "and this one is of type `array`",
        ),
        (
            "outputs_in_callee",
            "asm volatile(\"r2 = 1;\"",
            "function `outputs_to_argument`, instruction 6 ",
        ),
        (
            "pushes_event",
            "return (int)((s64 (*)(void *))65536)(ctx);",
            "publishes none",
        ),
        (
            "compares_with_number",
            "asm volatile(\"r2 = 0;\"",
            "`if r1 s> r2 goto +0x1`",
        ),
        (
            "compares_with_guess",
            "asm volatile(\"r6 = r1;\"",
            "`if r6 & r1 goto +0x2`",
        ),
        (
            "exchanges_program_array",
            "asm volatile(\"r6 = r1;\"",
            "compares a pointer, in `r0`",
        ),
        (
            "exchanges_half_pointer",
            "asm volatile(\"r0 = r1;\"",
            "compares a pointer, in `r0`",
        ),
        (
            "gives_rest_of_buffer",
            "memory_copy(buffer, sizeof(buffer), &data, sizeof(data));",
            "`bpf_memcpy` may leave a part of its buffer as it was",
        ),
        (
            "gives_spilled_pointer",
            "asm volatile(\"r6 = r1;\"",
            "may leave a part of its buffer",
        ),
        (
            "passes_context_unlisted",
            "asm volatile(\"call 65540;\"",
            "reads `r1` although its prototype does not say so",
        ),
    ];
    let found = rejections(Verifier::Prevail, "rules.o");
    assert_eq!(found.len(), cases.len(), "{found:#?}");
    for (rejection, (program, source, message)) in found.iter().zip(cases) {
        assert_eq!(rejection.program, program);
        let line = rejection.place.as_ref().and_then(|place| place.line.as_ref());
        assert_eq!(line.map(|line| line.text.trim()), Some(source), "{program}");
        let text = rejection.to_string();
        assert!(text.contains(message), "{program}: {text}");
    }
}

#[test]
fn ordinary_programs_next_to_them_are_accepted() {
    verified("near_rules.o");
}

#[test]
fn a_helper_that_writes_readable_memory_leaves_what_lies_beside() {
    for facts in verified("near_rules.o") {
        for (register, expected) in [(0, range(7, 7)), (1, Interval::FULL), (2, range(7, 7))] {
            // After lddw, which has two slots.
            assert_eq!(
                signed(&facts, "knows_what_lies_beside", 12, register),
                expected,
                "r{register}"
            );
        }
    }
}

#[test]
fn a_negative_constant_in_memory_is_the_number_it_is() {
    for facts in verified("near_rules.o") {
        let registers = at(&facts, "stores_negative", 7).registers;
        assert_eq!(registers[1].unsigned, Some((u64::MAX, u64::MAX)));
        for (register, exact) in [(2, u64::from(u32::MAX) - 1), (3, 253)] {
            if let Some((low, high)) = registers[register].unsigned {
                assert!(low <= exact && exact <= high, "r{register}: {low} to {high}");
            }
        }
    }
}

#[test]
fn a_helper_that_writes_an_unknown_number_of_bytes_is_refused() {
    let mut platform = Platform::builtin();
    let pop = platform.helpers.iter_mut().find(|h| h.id == 17).unwrap();
    // The stack, and nothing says how much of it.
    pop.arguments[1] = 12;
    let error = verify(fixture("near_rules.o"), &platform, &Options::default()).unwrap_err();
    let VerifyError::Rejected(found) = error else {
        panic!("{error:?}");
    };
    let reason = RejectionReason::UnknownWrite {
        helper: "bpf_map_pop_elem".to_owned(),
    };
    assert_eq!(found[0].program, "checks_popped");
    assert_eq!(found[0].reason, reason);
    let line = found[0].place.as_ref().and_then(|place| place.line.as_ref());
    assert_eq!(line.map(|line| line.text.trim()), Some("if (pop(&queue, &index) < 0)"));
}

/// `xdp` as a type whose programs may tell where memory lies.
fn privileged() -> Platform {
    let mut platform = Platform::builtin();
    for program_type in &mut platform.program_types {
        std::sync::Arc::make_mut(program_type).is_privileged = true;
    }
    platform
}

#[test]
fn programs_of_privileged_types_may_let_pointers_out() {
    let verdicts = |platform: &Platform| {
        let Err(VerifyError::Rejected(found)) = verify(fixture("rules.o"), platform, &Options::default()) else {
            panic!("there are programs that no type may have");
        };
        found.into_iter().map(|r| r.program).collect::<Vec<String>>()
    };
    let (all, left) = (verdicts(&Platform::builtin()), verdicts(&privileged()));
    for allowed in [
        "gives_rest_of_buffer",
        "gives_spilled_pointer",
        "passes_context_unlisted",
    ] {
        assert!(
            all.iter().any(|p| p == allowed) && left.iter().all(|p| p != allowed),
            "{allowed}"
        );
    }
    // They may not make pointers of numbers.
    for refused in [
        "compares_with_number",
        "exchanges_program_array",
        "exchanges_half_pointer",
        "outputs_to_array",
    ] {
        assert!(left.iter().any(|p| p == refused), "{refused}");
    }
}

/// The programs of a module with warnings, and what these say.
fn warnings(verified: &crate::VerifiedModule) -> Vec<(String, String)> {
    let warnings = verified.warnings().iter();
    warnings.map(|w| (w.program.clone(), w.reason.to_string())).collect()
}

#[test]
fn calls_that_always_fail_are_warned_of_and_those_that_may_succeed_are_not() {
    for verified in verified("warnings.o") {
        let expected = [
            (
                "pops_from_array",
                "`bpf_map_pop_elem` always fails on map `counts`: it does not work on maps of type `array`",
            ),
            (
                "looks_up_custom",
                "`bpf_map_lookup_elem` always fails on map `custom`: it does not work on maps of type `sample_hash_map`",
            ),
            (
                "adjusts_head",
                "`bpf_xdp_adjust_head` always fails in programs of type `xdp`",
            ),
            ("to_itself", "(to_itself calls to_itself)"),
            ("there", "(there calls there)"),
            ("back", "(back calls there calls there)"),
            ("around", "(around calls there calls there)"),
        ];
        let found = warnings(&verified);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for ((program, text), (expected_program, expected_text)) in found.iter().zip(expected) {
            assert_eq!(program, expected_program);
            assert!(text.contains(expected_text), "{program}: {text}");
        }
        let place = verified.warnings()[0].place.as_ref().unwrap();
        let line = place.line.as_ref().map(|line| line.text.trim());
        assert_eq!(line, Some("return pop(&counts, &value) ? 1 : 2;"));
        let in_callee = verified.warnings()[5].place.as_ref().unwrap();
        assert_eq!(in_callee.function, "back");
    }
}

#[test]
fn another_build_of_a_provider_may_do_what_one_never_does() {
    let platform = Platform::builtin().with_variant("ebpf-for-windows-tests").unwrap();
    let verified = verify(fixture("warnings.o"), &platform, &Options::default()).unwrap();
    assert!(warnings(&verified).iter().all(|(program, _)| program != "adjusts_head"));
}

#[test]
fn as_many_tail_calls_as_the_runtime_makes_are_no_matter() {
    for (limit, warned) in [(33, false), (3, false), (2, true)] {
        let mut platform = Platform::builtin();
        platform.limits.max_tail_call_count = limit;
        let verified = judge_on(&platform, tail_calls_in_a_row(4)).unwrap();
        let warned_of: Vec<String> = warnings(&verified).into_iter().map(|(program, _)| program).collect();
        assert_eq!(
            warned_of,
            if warned { vec!["f0".to_owned()] } else { vec![] },
            "{limit}"
        );
    }
}

/// So many programs, each of which calls the next one.
fn tail_calls_in_a_row(count: u32) -> Module {
    let program = |next: u32| {
        let ops = [
            load_map(reg(2), 0),
            set(reg(3), next as i32),
            helper(5),
            set(Reg::R0, 0),
            EXIT,
        ];
        Function {
            name: format!("f{}", next - 1),
            section: "xdp".to_owned(),
            section_offset: 0,
            kind: FunctionKind::Program,
            instructions: Insn::sequence(ops),
        }
    };
    let mut programs = map("programs", 3, 4, 4);
    programs.definition.max_entries = count + 1;
    let value = |index| (index < count).then_some(InitialValue::Program(FunctionIndex(index)));
    programs.initial_values = (0..=count).map(value).collect();
    Module {
        functions: (1..=count).map(program).collect(),
        maps: vec![programs],
        ..module("xdp", &[])
    }
}

#[test]
fn names_are_as_long_as_the_runtime_takes_them() {
    let returns: &[Instruction] = &[set(Reg::R0, 0), EXIT];
    let named = |change: &dyn Fn(&mut Module, String), bytes: usize| {
        let mut module = module("xdp", &[returns]);
        module.maps = vec![map("m", 1, 4, 4)];
        change(&mut module, format!("xdp{}", "n".repeat(bytes - 3)));
        verify(module, &Platform::builtin(), &Options::default()).map(|_| ())
    };
    #[allow(clippy::items_after_statements)] // used right below
    type Change = fn(&mut Module, String);
    let cases: [(&str, Change); 3] = [
        ("program", |module, name| module.functions[0].name = name),
        ("section", |module, name| module.functions[0].section = name),
        ("map", |module, name| module.maps[0].name = name),
    ];
    for (what, change) in cases {
        assert!(named(&change, 63).is_ok(), "{what}");
        let refused = named(&change, 64).expect_err(what).to_string();
        assert!(
            refused.contains("has 64 bytes; the runtime takes 1 to 63"),
            "{what}: {refused}"
        );
    }
    let empty = |module: &mut Module, _| module.maps[0].name.clear();
    assert!(matches!(named(&empty, 3), Err(VerifyError::MapName { limit: 63, .. })));
}

/// The metadata pointer can't be reached by anything but a load.
#[test]
fn nothing_but_a_load_gets_to_the_metadata_pointer() {
    let add = Instruction::Atomic {
        size: WordSize::W64,
        op: AtomicOp::Add { fetch: true },
        base: Reg::R1,
        offset: 16,
        src: reg(2),
    };
    let copies = [
        copy(reg(3), Reg::R1),
        build::add(reg(3), 16),
        copy(Reg::R1, Reg::R10),
        build::add(Reg::R1, -8),
        store(Reg::R10, -8, 0),
        set(reg(2), 8),
        set(reg(4), 8),
        helper(22),
        EXIT,
    ];
    let keys = [
        copy(reg(2), Reg::R1),
        build::add(reg(2), 16),
        load_map(Reg::R1, 0),
        helper(1),
        EXIT,
    ];
    let cases: [(&str, &[Instruction]); 4] = [
        ("atomic", &[set(reg(2), 0), add, set(Reg::R0, 0), EXIT]),
        ("store", &[store(Reg::R1, 16, 0), set(Reg::R0, 0), EXIT]),
        ("copy", &copies),
        ("key", &keys),
    ];
    for (what, ops) in cases {
        let module = Module {
            maps: vec![map("m", 1, 8, 8)],
            ..module("xdp", &[ops])
        };
        assert!(matches!(judge(module), Err(RejectionReason::Unsafe { .. })), "{what}");
    }
}

#[test]
fn the_low_half_of_a_distance_between_pointers_is_a_number_and_that_of_a_pointer_is_not() {
    let low_half = |src| Instruction::Alu {
        size: WordSize::W32,
        op: AluOp::Sub,
        dst: reg(3),
        src,
    };
    let code = |src| {
        [
            build::load(reg(2), Reg::R1, 0),
            build::load(reg(3), Reg::R1, 8),
            low_half(src),
            copy(Reg::R0, reg(3)),
            EXIT,
        ]
    };
    let verified = judge(module("xdp", &[&code(Operand::Reg(reg(2)))])).unwrap();
    let returns = verified.programs()[0].returns;
    assert!(returns.min >= 0 && returns.max <= 65_535, "{returns:?}");
    for src in [Operand::Imm(1), Operand::Reg(Reg::R1), Operand::Reg(Reg::R10)] {
        let refused = judge(module("xdp", &[&code(src)]));
        assert!(matches!(refused, Err(RejectionReason::Unsafe { .. })), "{src:?}");
    }
}

#[test]
fn a_frame_has_as_many_bytes_as_the_platform_says() {
    let touches = |offset| module("xdp", &[&[store(Reg::R10, offset, 0), set(Reg::R0, 0), EXIT]]);
    for (bytes, last) in [(512, -512), (256, -256)] {
        let mut platform = Platform::builtin();
        platform.limits.subprogram_stack_bytes = bytes;
        assert!(judge_on(&platform, touches(last)).is_ok(), "{bytes}");
        assert!(judge_on(&platform, touches(last - 8)).is_err(), "{bytes}");
    }
    // Our engine knows no larger ones, whatever somebody writes.
    let mut platform = Platform::builtin();
    platform.limits.subprogram_stack_bytes = 1024;
    assert!(judge_by(Verifier::Native, &platform, touches(-520)).is_err());
}
