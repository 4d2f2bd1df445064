//! Verdicts and facts of the small programs in `tests/fixtures/verify`.

mod attacks;
mod attacks_on_memory;
pub(crate) mod build;
mod calls;
mod comparisons;
mod constants;
mod frames;
mod helpers;
pub(crate) mod random;
mod rules;
mod verdicts;

use std::path::Path;
use std::time::{Duration, Instant};

use bpf2sys_bytecode::{Function, FunctionIndex, InsnIndex, Module, Reg};
use bpf2sys_platform::Platform;

use crate::{
    Branch, FunctionFacts, InsnFacts, Interval, Options, Range64, RegisterFact, RegisterKind, Rejection,
    RejectionReason, VerifiedModule, Verifier, VerifyError, Violation, verify,
};

fn fixture(name: &str) -> Module {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/verify")
        .join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bpf2sys_bytecode::read(&bytes, name).unwrap()
}

/// The engines.
const ENGINES: [Verifier; 2] = [Verifier::Native, Verifier::Prevail];

fn by(verifier: Verifier) -> Options {
    Options {
        verifier,
        ..Options::default()
    }
}

fn verified_by(verifier: Verifier, name: &str) -> VerifiedModule {
    verify(fixture(name), &Platform::builtin(), &by(verifier)).unwrap()
}

/// What each of the engines proves.
fn verified(name: &str) -> [VerifiedModule; 2] {
    ENGINES.map(|verifier| verified_by(verifier, name))
}

fn rejections(verifier: Verifier, name: &str) -> Vec<Rejection> {
    match verify(fixture(name), &Platform::builtin(), &by(verifier)) {
        Err(VerifyError::Rejected(rejections)) => rejections,
        other => panic!("{other:?}"),
    }
}

fn find<'a>(module: &'a Module, name: &str) -> (FunctionIndex, &'a Function) {
    let index = module.functions.iter().position(|f| f.name == name).expect(name);
    (FunctionIndex(index as u32), &module.functions[index])
}

/// The facts at one instruction.
struct Known {
    registers: [RegisterFact; Reg::COUNT],
    facts: InsnFacts,
}

impl std::ops::Deref for Known {
    type Target = InsnFacts;

    fn deref(&self) -> &InsnFacts {
        &self.facts
    }
}

/// The facts at the instruction that starts at `slot`.
fn at(verified: &VerifiedModule, function: &str, slot: u32) -> Known {
    let (index, content) = find(verified.module(), function);
    let insn = content.at_slot(slot).expect("an instruction starts here");
    known(verified.facts(index), insn)
}

fn known(facts: &FunctionFacts, index: InsnIndex) -> Known {
    Known {
        registers: facts.registers(index),
        facts: facts.instructions[index.index()].clone(),
    }
}

fn signed(verified: &VerifiedModule, function: &str, slot: u32, register: u8) -> Interval {
    at(verified, function, slot).registers[usize::from(register)].signed
}

fn range(min: i64, max: i64) -> Interval {
    Interval { min, max }
}

#[test]
fn numbers_have_their_ranges() {
    for facts in verified("facts.o") {
        let cases = [
            ("divide", 1, 0, Interval::FULL),
            ("divide", 2, 0, range(0, u32::MAX.into())),
            ("divide", 3, 0, range(0, 7)),
            ("divide", 5, 0, range(1, 8)),
            ("divide", 5, 2, range(100, 100)),
            ("divide", 7, 0, range(12, 100)),
            ("loop", 1, 0, range(0, 9)),
            ("loop", 2, 0, range(1, 10)),
            ("loop", 3, 0, range(10, 10)),
            // Copies, which the engine describes by an equation.
            ("copies", 6, 0, range(0, 15)),
            ("copies", 6, 1, range(0, 15)),
            ("copies", 6, 2, range(0, 15)),
            ("copies", 6, 3, range(0, 15)),
            // And an inequation, which it describes in the same way: r6 reaches 255 where r1 reaches 15.
            ("ordered", 8, 1, range(0, 15)),
            ("ordered", 8, 6, range(0, 255)),
        ];
        for (function, slot, register, expected) in cases {
            assert_eq!(
                signed(&facts, function, slot, register),
                expected,
                "{function} {slot} r{register}"
            );
        }
        assert_eq!(at(&facts, "divide", 5).registers[0].unsigned, Some((1, 8)));
        assert_eq!(at(&facts, "open_edges", 3).registers[0].unsigned, Some((8, u64::MAX)));
    }
}

#[test]
fn registers_have_their_kinds() {
    for facts in verified("facts.o") {
        let cases = [
            ("kinds", 1, 6, RegisterKind::Context),
            ("kinds", 2, 7, RegisterKind::Packet),
            ("kinds", 3, 8, RegisterKind::Packet),
            ("kinds", 10, 3, RegisterKind::MapValue),
            ("kinds", 10, 0, RegisterKind::Number),
            ("kinds", 13, 5, RegisterKind::Stack),
            ("one_map", 7, 1, RegisterKind::Map),
            ("tail", 3, 2, RegisterKind::MapOfPrograms),
            ("inner_map", 8, 0, RegisterKind::Map),
            ("one_map", 8, 0, RegisterKind::MapValue),
            ("one_map", 8, 1, RegisterKind::Unknown),
        ];
        for (function, slot, register, expected) in cases {
            let found = at(&facts, function, slot).registers[register].kind;
            assert_eq!(found, expected, "{function} {slot} r{register}");
        }
        let pointer = at(&facts, "kinds", 1).registers[6];
        assert_eq!(
            (pointer.signed, pointer.unsigned),
            (Interval::FULL, None),
            "an address is no number"
        );
    }
}

#[test]
fn dead_edges_and_dead_code_are_known() {
    for facts in verified("facts.o") {
        let cases = [
            ("edges", 3, true, Branch::AlwaysTaken),
            ("edges", 4, false, Branch::Both),
            ("edges", 5, false, Branch::Both),
            ("edges", 6, true, Branch::NeverTaken),
            ("edges", 8, true, Branch::Both),
            ("edges", 9, false, Branch::Both),
            ("open_edges", 1, true, Branch::Both),
            ("loop", 2, true, Branch::Both),
        ];
        for (function, slot, reachable, branch) in cases {
            let found = at(&facts, function, slot);
            assert_eq!(
                (found.reachable, found.branch),
                (reachable, branch),
                "{function} {slot}"
            );
        }
    }
}

#[test]
fn the_one_map_of_a_call_is_known_and_no_other() {
    for facts in verified("facts.o") {
        let cases = [
            ("one_map", 7, Some("counters")),
            ("two_maps", 10, None),
            ("inner_map", 6, Some("outer")),
            ("inner_map", 11, None),
            ("inner_map", 16, Some("template")),
            ("tail", 3, Some("next")),
            // A subprogram whose callers pass one map, and another.
            ("looks_in", 4, None),
            ("always_looks_in", 4, Some("counters")),
            ("divide", 0, None),
        ];
        for (function, slot, expected) in cases {
            let map = at(&facts, function, slot).map;
            let name = map.map(|m| facts.module().maps[m.index()].name.as_str());
            assert_eq!(name, expected, "{function} {slot}");
        }
    }
}

#[test]
fn the_result_of_a_program_has_its_range() {
    for facts in verified("facts.o") {
        let cases = [
            ("divide", range(12, 100)),
            ("edges", range(1, 1)),
            ("open_edges", range(0, 9)),
            ("kinds", range(0, 1)),
            ("calls", range(12, 16)),
            ("choose_zero", range(1, 1)),
            ("choose_one", range(2, 2)),
            ("extend", range(0, 7)),
        ];
        for (name, expected) in cases {
            let (index, _) = find(facts.module(), name);
            let program = facts.programs().iter().find(|p| p.function == index).expect(name);
            assert_eq!(program.returns, expected, "{name}");
            assert_eq!(facts.facts(index).returns, expected, "{name}");
        }
    }
}

#[test]
fn facts_of_a_subprogram_hold_for_all_its_calls() {
    for facts in verified("facts.o") {
        // [0, 3] in one call and [10, 11] in the other.
        assert_eq!(signed(&facts, "plus_one", 0, 1), range(0, 11));
        let (index, _) = find(facts.module(), "plus_one");
        assert_eq!(facts.facts(index).returns, range(1, 12));
        // In the caller each call has its own.
        assert_eq!(signed(&facts, "calls", 5, 0), range(1, 4));
        assert_eq!(signed(&facts, "calls", 10, 0), range(11, 12));
        // Zero in one program, one in another: no edge is dead.
        assert_eq!(at(&facts, "choose", 1).branch, Branch::Both);
        assert!(at(&facts, "choose", 2).reachable && at(&facts, "choose", 4).reachable);
        let (index, _) = find(facts.module(), "choose");
        assert_eq!(facts.facts(index).returns, range(1, 2));
        // The caller's r6 is not the callee's.
        assert_eq!(at(&facts, "plus_one", 0).registers[6].kind, RegisterKind::Unknown);
    }
}

#[test]
fn stack_offsets_are_those_of_the_own_frame() {
    for facts in verified("facts.o") {
        let offset = |function, slot, register: usize| at(&facts, function, slot).registers[register].stack_offset;
        assert_eq!(offset("frames", 2, 1), Some(-8));
        assert_eq!(offset("frames", 5, 1), Some(-16));
        assert_eq!(offset("frames", 2, 10), Some(0));
        // In the callee that argument is an address in another frame, and at another place in each call.
        assert_eq!(offset("store_there", 1, 1), None);
        assert_eq!(at(&facts, "store_there", 1).registers[1].kind, RegisterKind::Stack);
        assert_eq!(offset("store_there", 3, 3), Some(0));
        assert_eq!(offset("store_there", 4, 3), Some(-8));
        assert_eq!(offset("kinds", 13, 5), Some(-16));
        assert_eq!(offset("kinds", 13, 7), None);
    }
}

#[test]
fn of_the_second_shift_of_a_pair_nothing_is_said() {
    let facts = verified_by(Verifier::Prevail, "facts.o");
    let second = at(&facts, "extend", 3);
    assert!(second.reachable);
    assert_eq!(second.registers[0].kind, RegisterKind::Unknown);
    assert_eq!(second.registers[0].signed, Interval::FULL);
    assert_eq!(signed(&facts, "extend", 2, 0), range(0, 7));
    assert_eq!(signed(&facts, "extend", 4, 0), range(0, 7));
}

#[test]
fn facts_of_the_engines_own_model_are_dropped() {
    let facts = verified_by(Verifier::Prevail, "untrusted.o");
    for program in facts.programs() {
        let name = &facts.module().function(program.function).name;
        let function = facts.facts(program.function);
        assert_eq!(program.returns, Interval::FULL, "{name}");
        for (i, insn) in function.instructions.iter().enumerate() {
            assert!(insn.reachable, "{name} {i}");
            assert_eq!((insn.branch, insn.map), (Branch::Both, None), "{name} {i}");
            let registers = function.registers(InsnIndex(i as u32));
            let nothing = |r: &RegisterFact| r.range() == Range64::FULL && r.kind != RegisterKind::MapValue;
            assert!(registers.iter().all(nothing), "{name} {i}");
        }
    }
    for (_, function) in facts.module().programs() {
        assert!(function.instructions.len() > 1);
    }
}

#[test]
fn facts_next_to_the_engines_own_model_are_kept() {
    for facts in verified("trusted.o") {
        let cases = [
            ("compares_with_null", range(1, 1)),
            ("lets_fill", range(7, 7)),
            ("counts_elsewhere", range(3, 3)),
        ];
        for (name, expected) in cases {
            let (index, _) = find(facts.module(), name);
            assert_eq!(facts.facts(index).returns, expected, "{name}");
        }
        assert_eq!(at(&facts, "compares_with_null", 1).branch, Branch::AlwaysTaken);
        // A packet may have 65,535 bytes; PREVAIL takes the limit for one less.
        let (index, _) = find(facts.module(), "measures_packet");
        let measured = facts.facts(index).returns;
        assert!(
            measured == range(0, 65535) || measured == range(0, 65534),
            "{measured:?}"
        );
    }
}

#[test]
fn unsafe_programs_are_rejected_at_their_instruction_and_line() {
    for verifier in ENGINES {
        let found = rejections(verifier, "rejected.o");
        let cases = [
            (
                "reads_past_packet",
                "return ctx->data[4];",
                "of which only the first 4 bytes are proven to be there",
            ),
            (
                "reads_unwritten_stack",
                "asm volatile(\"r0 = *(u32 *)(r10 - 4);\"",
                "never written",
            ),
            ("uses_null_value", "return *value;", "may be null"),
            ("reads_past_value", "return value[1];", "which has 8 bytes"),
            ("never_ends", "asm volatile(\"r6 = 0;\"", "not proven to end"),
            (
                "writes_context_pointer",
                "asm volatile(\"r0 = 0;\"",
                "writes a pointer field of its context",
            ),
            (
                "returns_pointer",
                "asm volatile(\"r0 = r1;\"",
                "returns a context pointer",
            ),
            ("returns_nothing", "asm volatile(\"exit;\" ::);", "without a result"),
            (
                "key_never_written",
                "asm volatile(\"r2 = r10;\"",
                "and bytes 0 to 3 of it were never written",
            ),
            (
                "calls_unknown_helper",
                "asm volatile(\"call 4242;\"",
                "program type `xdp` has no helper with id 4242",
            ),
            (
                "calls_helper_of_other_type",
                "asm volatile(\"r2 = r10;\"",
                "program type `xdp` has no helper with id 65537",
            ),
            (
                "calls_bad_subprogram",
                "asm volatile(\"r0 = 0;\"",
                "below the 512 bytes of the stack frame",
            ),
        ];
        assert_eq!(found.len(), cases.len(), "{found:#?}");
        for (rejection, (program, source, message)) in found.iter().zip(cases) {
            assert_eq!(rejection.program, program);
            let place = rejection.place.as_ref().expect(program);
            let line = place.line.as_ref().expect(program);
            assert!(
                line.file.ends_with("rejected.c") && line.line > 0,
                "{program}: {line:?}"
            );
            assert_eq!(line.text.trim(), source, "{program}");
            let text = rejection.to_string();
            assert!(text.contains(message), "{program}: {text}");
        }
        let last = found.last().and_then(|r| r.place.as_ref()).unwrap();
        assert_eq!((last.function.as_str(), last.slot), ("reads_below_frame", 1));
        let engine_message = |r: &Rejection| match &r.reason {
            RejectionReason::Unsafe { engine, .. } => engine.clone(),
            other => panic!("{other:?}"),
        };
        // PREVAIL has words of its own, ours says it in the violation.
        let prevail = verifier == Verifier::Prevail;
        let words = engine_message(&found[0]);
        assert_eq!(words.starts_with("Upper bound must be at most packet_size"), prevail);
        assert_eq!(words.is_empty(), !prevail);
    }
}

#[test]
fn rejections_do_not_depend_on_which_thread_was_first() {
    for verifier in ENGINES {
        let first = rejections(verifier, "rejected.o");
        for _ in 0..3 {
            assert_eq!(rejections(verifier, "rejected.o"), first);
        }
    }
}

#[test]
fn recursion_is_rejected_with_its_chain() {
    for verifier in ENGINES {
        let found = rejections(verifier, "recursion.o");
        let [rejection] = found.as_slice() else {
            panic!("{found:?}")
        };
        let RejectionReason::Recursion { chain } = &rejection.reason else {
            panic!("{rejection:?}");
        };
        assert_eq!(chain, &["ping", "pong", "ping"]);
        assert!(
            rejection.to_string().contains("ping calls pong calls ping"),
            "{rejection}"
        );
    }
}

#[test]
fn a_section_without_a_program_type_is_an_error_until_one_is_given() {
    let platform = Platform::builtin();
    let error = verify(fixture("sections.o"), &platform, &Options::default()).unwrap_err();
    let VerifyError::UnknownSection {
        program,
        section,
        known,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((program.as_str(), section.as_str()), ("lost", "nowhere/1"));
    assert!(known.iter().any(|k| k == "cgroup/connect4"));
    let with = |name: &str| Options {
        program_type: Some(name.to_owned()),
        ..Options::default()
    };
    let given = verify(fixture("sections.o"), &platform, &with("xdp/anything")).unwrap();
    assert_eq!(given.programs()[0].program_type.name, "xdp");
    assert_eq!(
        given.programs()[0].attach_type.to_string(),
        "85e0d8ef-579e-4931-b072-8ee226bb2e9d"
    );
    let error = verify(fixture("sections.o"), &platform, &with("nowhere")).unwrap_err();
    assert!(
        matches!(&error, VerifyError::UnknownProgramType { name, .. } if name == "nowhere"),
        "{error:?}"
    );
}

#[test]
fn a_module_without_programs_is_an_error() {
    let mut module = fixture("sections.o");
    module.functions.clear();
    let error = verify(module, &Platform::builtin(), &Options::default()).unwrap_err();
    assert_eq!(error, VerifyError::NoProgram);
}

#[test]
fn the_time_limit_is_an_error_and_comes_in_time() {
    let started = Instant::now();
    let options = Options {
        time_limit: Duration::ZERO,
        ..Options::default()
    };
    let error = verify(fixture("facts.o"), &Platform::builtin(), &options).unwrap_err();
    assert_eq!(
        error,
        VerifyError::TimeLimit {
            limit: Duration::ZERO,
            program: "divide".to_owned()
        }
    );
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn a_panic_of_the_engine_is_an_error() {
    // A map key without a map is an assertion in PREVAIL, and provider files are refused for it.
    let mut platform = Platform::builtin();
    let random = platform.helpers.iter_mut().find(|h| h.id == 6).unwrap();
    random.arguments = [7, 0, 0, 0, 0];
    let error = verify(fixture("facts.o"), &platform, &by(Verifier::Prevail)).unwrap_err();
    let VerifyError::EngineFailed { program, message } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(program, "divide");
    assert!(message.contains("PTR_TO_MAP_KEY"), "{message}");
    // It has no effect on the next call.
    verify(fixture("facts.o"), &Platform::builtin(), &Options::default()).unwrap();
}

#[test]
fn unusable_maps_are_errors() {
    let platform = Platform::builtin();
    let mut module = fixture("facts.o");
    let map = module.maps.iter().position(|m| m.name == "counters").unwrap();
    module.maps[map].definition.value_size = u32::MAX;
    let error = verify(module, &platform, &Options::default()).unwrap_err();
    assert!(
        matches!(&error, VerifyError::UnusableMap { map, .. } if map == "counters"),
        "{error:?}"
    );

    let mut module = fixture("facts.o");
    let map = module.maps.iter().position(|m| m.name == "outer").unwrap();
    module.maps[map].inner = None;
    let error = verify(module, &platform, &Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "map `outer`: a map of maps needs a template for its maps"
    );
}

#[test]
fn an_unknown_conformance_group_is_an_error() {
    let mut platform = Platform::builtin();
    platform.verifier_options.conformance_groups.push("vector".to_owned());
    for verifier in ENGINES {
        let error = verify(fixture("facts.o"), &platform, &by(verifier)).unwrap_err();
        assert!(error.to_string().contains("`vector`"), "{error}");
    }
}

#[test]
fn instructions_of_groups_that_the_platform_does_not_offer_are_refused() {
    let mut platform = Platform::builtin();
    let groups = &mut platform.verifier_options.conformance_groups;
    groups.retain(|group| !group.starts_with("divmul"));
    let refused = |platform: &Platform, verifier| match verify(fixture("arithmetic.o"), platform, &by(verifier)) {
        Ok(_) => Vec::new(),
        Err(VerifyError::Rejected(found)) => {
            let named = found.into_iter().map(|rejection| (rejection.program, rejection.reason));
            named.collect::<Vec<_>>()
        }
        Err(other) => panic!("{other:?}"),
    };
    let expected = |group| RejectionReason::UnsupportedInstruction {
        what: match group {
            "divmul64" => "a 64-bit multiplication or division",
            _ => "a 32-bit multiplication or division",
        },
        group: Some(group),
    };
    for verifier in ENGINES {
        let found = refused(&platform, verifier);
        for (name, group) in [("div64", "divmul64"), ("mul32", "divmul32"), ("smod64", "divmul64")] {
            assert!(found.contains(&(name.to_owned(), expected(group))), "{name}: {found:?}");
        }
        assert!(found.iter().all(|(name, _)| name != "add64" && name != "xor64"));
        // The wider group has the narrower one.
        let mut wide = platform.clone();
        wide.verifier_options.conformance_groups.push("divmul64".to_owned());
        assert_eq!(refused(&wide, Verifier::Native), []);
    }
}

#[test]
fn a_divisor_that_may_be_zero_is_refused_where_the_platform_says_so() {
    let mut platform = Platform::builtin();
    platform.verifier_options.allow_division_by_zero = false;
    for verifier in ENGINES {
        let Err(VerifyError::Rejected(found)) = verify(fixture("arithmetic.o"), &platform, &by(verifier)) else {
            panic!("{verifier:?}");
        };
        let named: Vec<&str> = found.iter().map(|rejection| rejection.program.as_str()).collect();
        assert_eq!(named, ["divides", "mods"], "{verifier:?}");
        for rejection in &found {
            let RejectionReason::Unsafe { violation, .. } = &rejection.reason else {
                panic!("{rejection:?}");
            };
            assert!(
                matches!(**violation, Violation::DivisionByZero { register: Some(_) }),
                "{violation:?}"
            );
        }
    }
}

#[test]
fn the_own_frame_pointer_is_known_everywhere() {
    for name in ["facts.o", "trusted.o", "untrusted.o"] {
        let engines: &[Verifier] = if name == "untrusted.o" {
            &[Verifier::Prevail]
        } else {
            &ENGINES
        };
        for facts in engines.iter().map(|engine| verified_by(*engine, name)) {
            for (i, function) in facts.module().functions.iter().enumerate() {
                let known = facts.facts(FunctionIndex(i as u32));
                for (at, insn) in (0..).map(InsnIndex).zip(&known.instructions) {
                    let expected = insn.reachable.then_some(0);
                    let found = known.register(at, Reg::R10).stack_offset;
                    assert_eq!(found, expected, "{name} {}", function.name);
                }
            }
        }
    }
}

/// What each program of `arithmetic.c` gives for `x`, by the definitions of RFC 9669.
fn arithmetic(name: &str, x: u64) -> u64 {
    let low = x as u32;
    let signed = x.cast_signed();
    let word = |value: u32| u64::from(value);
    match name {
        "add64" => x.wrapping_sub(3),
        "add32" => word(low.wrapping_sub(3)),
        "sub32" => word(low.wrapping_sub(300)),
        "mul64" => x.wrapping_mul((-7_i64).cast_unsigned()),
        "mul32" => word(low.wrapping_mul(0x7fff_ffff)),
        "div64" => x / 7,
        "divides" => 1000_u64.checked_div(x).unwrap_or(0),
        "div32" => word(low.wrapping_sub(1) / 3),
        "mod64" => x % 10,
        "mods" => 1000_u64.checked_rem(x).unwrap_or(1000),
        "sdiv64" => ((signed - 100) / 7).cast_unsigned(),
        "smod64" | "smod_by_negative" => ((signed - 100) % 7).cast_unsigned(),
        "and64" => x & 0x71,
        "or64" => x | (-16_i64).cast_unsigned(),
        "xor64" => !x,
        "lsh64" => x << 60,
        "lsh32" => word(low << 25),
        "shifted" => 1 << (x & 63),
        "rsh64" => x.wrapping_sub(1) >> 3,
        "rsh32" => word(low.wrapping_sub(1) >> 3),
        "arsh64" => ((signed - 100) >> 2).cast_unsigned(),
        "arsh32" => word((low.wrapping_sub(100).cast_signed() >> 2).cast_unsigned()),
        "neg64" => x.wrapping_neg(),
        "neg32" => word(low.wrapping_neg()),
        "movs8" => i64::from(x as i8).cast_unsigned(),
        "movs8w" => word(i32::from(x as i8).cast_unsigned()),
        "be16" => u64::from((x as u16).swap_bytes()),
        "le16" => u64::from((x * 1000) as u16),
        "swap64" => x.swap_bytes(),
        "constant" => 0x40_u64.swap_bytes() >> 1,
        "jump32" => {
            let before = x.wrapping_sub(1);
            if before as u32 > 100 {
                before
            } else {
                before.wrapping_add(1000)
            }
        }
        "jump_signed" => {
            let before = signed - 100;
            (if before < 0 { before } else { before + 1000 }).cast_unsigned()
        }
        "jump_set" => {
            if x & 1 != 0 {
                x
            } else {
                x + 1000
            }
        }
        other => panic!("no definition of {other}"),
    }
}

#[test]
fn ranges_hold_what_the_instructions_really_give() {
    for facts in verified("arithmetic.o") {
        let mut bounded = 0;
        for (index, function) in facts.module().programs() {
            let name = function.name.as_str();
            let last = InsnIndex(function.instructions.len() as u32 - 1);
            let returns = facts.facts(index).returns;
            let unsigned = facts.facts(index).register(last, Reg::R0).unsigned;
            bounded += u32::from(returns != Interval::FULL);
            for x in 0..256 {
                let value = arithmetic(name, x);
                let signed = value.cast_signed();
                assert!(
                    returns.min <= signed && signed <= returns.max,
                    "{name}({x}) = {signed}: {returns:?}"
                );
                if let Some((low, high)) = unsigned {
                    assert!(low <= value && value <= high, "{name}({x}) = {value}: {low} to {high}");
                }
            }
        }
        // The engine knows most of them, so the test is about something.
        assert!(bounded >= 20, "{bounded}");
    }
}

#[test]
fn a_long_analysis_is_not_waited_for() {
    let mut module = fixture("sections.o");
    let step = bpf2sys_bytecode::Instruction::Alu {
        size: bpf2sys_bytecode::WordSize::W64,
        op: bpf2sys_bytecode::AluOp::Add,
        dst: Reg::R0,
        src: bpf2sys_bytecode::Operand::Imm(1),
    };
    let ops = std::iter::repeat_n(step, 3000).chain([bpf2sys_bytecode::Instruction::Exit]);
    module.functions[0].instructions = ops
        .enumerate()
        .map(|(i, op)| bpf2sys_bytecode::Insn {
            slot: i as u32,
            op,
            line: None,
        })
        .collect();
    let options = Options {
        time_limit: Duration::from_millis(50),
        program_type: Some("xdp".to_owned()),
        // It cannot be interrupted everywhere.
        ..by(Verifier::Prevail)
    };
    let started = Instant::now();
    let error = verify(module, &Platform::builtin(), &options).unwrap_err();
    assert!(
        matches!(&error, VerifyError::TimeLimit { program, .. } if program == "lost"),
        "{error:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
