//! What the emitted instructions do with memory, divisors, calls and stacks. That they compute what RFC 9669 says is
//! tested where code can be run.

use bpf2sys_bytecode::{AluOp, AtomicOp, Condition, Imm64, InsnIndex, Instruction, Module, Operand, Width, WordSize};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::{Branch, FunctionFacts, InsnFacts};
use iced_x86::{FlowControl, Mnemonic, OpAccess, OpKind, Register};

use super::flow::{Flow, Next};
use super::inherited::inherited;
use crate::error::{FunctionProblem, InstructionProblem, LowerError};
use crate::testing::{
    EXIT, alu, btf, call, helper, instructions, lddw_map, load, lower, lower_without, map, module, mov, mov_reg,
    native, one, program, r, store, subprogram, trusted, verified,
};
use crate::{Optimization, Optimizations, Options, testing};

/// An access of memory outside the frame: its size in bytes, and whether it is a load.
fn accesses(code: &[iced_x86::Instruction]) -> Vec<(usize, bool)> {
    let mut factory = iced_x86::InstructionInfoFactory::new();
    let frame = [Register::RSP, Register::RBP];
    code.iter()
        .filter(|i| i.mnemonic() != Mnemonic::Nop)
        .flat_map(|i| factory.info(i).used_memory().to_vec())
        .filter(|m| !frame.contains(&m.base()))
        .map(|m| (m.memory_size().size(), m.access() == OpAccess::Read))
        .collect()
}

fn reg(number: u8) -> Operand {
    Operand::Reg(r(number))
}

fn jump_if(offset: i16) -> Instruction {
    Instruction::JumpIf {
        size: WordSize::W64,
        condition: Condition::Eq,
        dst: r(1),
        src: Operand::Imm(0),
        offset,
    }
}

/// A name, some code, and its accesses.
type Case<'a> = (&'a str, &'a [Instruction], &'a [(usize, bool)]);

#[test]
fn accesses_outside_the_frame_happen_as_written() {
    let again = load(Width::Dw, 3, 1, 8);
    let sum = alu(AluOp::Add, 0, reg(3));
    let cases: [Case<'_>; 8] = [
        (
            "two loads",
            &[load(Width::Dw, 0, 1, 8), again, sum, EXIT],
            &[(8, true), (8, true)],
        ),
        (
            "load after store",
            &[store(Width::Dw, 1, 8, Operand::Imm(5)), again, mov(0, 0), sum, EXIT],
            &[(8, false), (8, true)],
        ),
        (
            "store over store",
            &[
                store(Width::Dw, 1, 8, reg(1)),
                store(Width::Dw, 1, 8, Operand::Imm(5)),
                EXIT,
            ],
            &[(8, false), (8, false)],
        ),
        (
            "same store again",
            &[store(Width::W, 1, 8, reg(1)), store(Width::W, 1, 8, reg(1)), EXIT],
            &[(4, false), (4, false)],
        ),
        (
            "read, change, write",
            &[load(Width::Dw, 3, 1, 8), sum, store(Width::Dw, 1, 8, reg(0)), EXIT],
            &[(8, true), (8, false)],
        ),
        (
            "a part of what is loaded",
            &[
                load(Width::Dw, 3, 1, 8),
                Instruction::Alu {
                    size: WordSize::W32,
                    op: AluOp::Add,
                    dst: r(0),
                    src: reg(3),
                },
                EXIT,
            ],
            &[(8, true)],
        ),
        ("unused load", &[again, mov(0, 0), EXIT], &[(8, true)]),
        (
            "narrow neighbours",
            &[
                load(Width::B, 2, 1, 0),
                load(Width::B, 3, 1, 1),
                alu(AluOp::Or, 2, reg(3)),
                mov_reg(0, 2),
                EXIT,
            ],
            &[(1, true), (1, true)],
        ),
    ];
    for (name, code, expected) in cases {
        assert_eq!(accesses(&native(code)), expected, "{name}");
    }
}

#[test]
fn an_access_in_a_loop_happens_in_every_round() {
    // r2 = *(r1 + 0) outside and inside a loop: the inner load must not be hoisted or merged.
    let back = Instruction::JumpIf {
        size: WordSize::W64,
        condition: Condition::Ne,
        dst: r(2),
        src: Operand::Imm(0),
        offset: -2,
    };
    let code = native(&[
        load(Width::Dw, 2, 1, 0),
        load(Width::Dw, 2, 1, 0),
        back,
        mov(0, 0),
        EXIT,
    ]);
    assert_eq!(accesses(&code), [(8, true), (8, true)]);
    let start = code
        .iter()
        .find_map(|i| (i.flow_control() == FlowControl::ConditionalBranch).then(|| i.near_branch_target()));
    let inner = code
        .iter()
        .filter(|i| Some(i.ip()) >= start && i.memory_base() != Register::RSP);
    assert_eq!(accesses(&inner.copied().collect::<Vec<_>>()).len(), 1);
}

#[test]
fn loads_and_stores_have_the_width_that_they_state() {
    for (width, bytes) in [(Width::B, 1), (Width::H, 2), (Width::W, 4), (Width::Dw, 8)] {
        assert_eq!(accesses(&native(&[load(width, 0, 1, 4), EXIT])), [(bytes, true)]);
        assert_eq!(accesses(&native(&[store(width, 1, 4, reg(2)), EXIT])), [(bytes, false)]);
        assert_eq!(
            accesses(&native(&[store(width, 1, 4, Operand::Imm(-1)), EXIT])),
            [(bytes, false)]
        );
    }
    let signed = Instruction::Load {
        width: Width::H,
        signed: true,
        dst: r(0),
        base: r(1),
        offset: 0,
    };
    let code = native(&[signed, EXIT]);
    assert!(
        code.iter()
            .any(|i| i.mnemonic() == Mnemonic::Movsx && i.op0_register() == Register::RAX)
    );
}

#[test]
fn atomic_operations_are_locked() {
    let atomic = |op| Instruction::Atomic {
        size: WordSize::W32,
        op,
        base: r(1),
        offset: 4,
        src: r(2),
    };
    for op in [
        AtomicOp::Add { fetch: false },
        AtomicOp::Add { fetch: true },
        AtomicOp::Or { fetch: false },
        AtomicOp::And { fetch: true },
        AtomicOp::Xor { fetch: true },
        AtomicOp::Cmpxchg,
    ] {
        let code = native(&[mov(2, 1), atomic(op), mov_reg(0, 2), EXIT]);
        assert!(code.iter().any(iced_x86::Instruction::has_lock_prefix), "{op:?}");
    }
    let exchange = native(&[mov(2, 1), atomic(AtomicOp::Xchg), mov_reg(0, 2), EXIT]);
    assert!(exchange.iter().any(|i| i.mnemonic() == Mnemonic::Xchg)); // locked by definition
}

#[test]
fn only_a_divisor_that_may_be_zero_is_checked() {
    let conditional = |i: &iced_x86::Instruction| i.condition_code() != iced_x86::ConditionCode::None;
    for op in [AluOp::Div, AluOp::Mod, AluOp::Sdiv, AluOp::Smod] {
        for divisor in [7, -7, 1, 16, i32::MIN] {
            let code = native(&[mov_reg(0, 1), alu(op, 0, Operand::Imm(divisor)), EXIT]);
            let checked = code
                .iter()
                .any(|i| i.mnemonic() == Mnemonic::Test || i.mnemonic() == Mnemonic::Cmp);
            assert!(!checked, "{op:?} by {divisor}");
        }
        let code = native(&[mov_reg(0, 1), load(Width::Dw, 2, 1, 0), alu(op, 0, reg(2)), EXIT]);
        assert!(code.iter().any(|i| i.mnemonic() == Mnemonic::Div), "{op:?}");
        assert!(code.iter().all(|i| i.mnemonic() != Mnemonic::Idiv), "{op:?}");
        assert!(code.iter().any(conditional), "{op:?}");
    }
}

#[test]
fn a_helper_address_is_read_at_each_call() {
    let code = native(&[helper(5), helper(5), EXIT]);
    let calls: Vec<usize> = (0..code.len()).filter(|i| calls_other(&code[*i])).collect();
    assert_eq!(calls.len(), 2);
    let mut from = 0;
    for call in calls {
        let before = &code[from..=call];
        // helper_data[0].address
        assert!(
            before
                .iter()
                .any(|i| i.memory_displacement64() == 24 && i.op_count() > 0),
            "{before:?}"
        );
        from = call + 1;
    }
}

/// Whether something is stored at a distance from `rsp`.
fn stores_at(code: &[iced_x86::Instruction], place: u64) -> bool {
    code.iter().any(|i| {
        i.mnemonic() == Mnemonic::Mov
            && i.op0_kind() == OpKind::Memory
            && i.memory_base() == Register::RSP
            && i.memory_displacement64() == place
    })
}

#[test]
fn the_context_is_the_sixth_argument_and_others_are_passed_to_those_who_read_them() {
    let fifth = |code: &[iced_x86::Instruction]| {
        assert!(stores_at(code, 0x28), "{code:?}");
        stores_at(code, 0x20)
    };
    // `bpf_get_prandom_u32` reads none; a helper that nobody describes may read all.
    let set = [mov(1, 1), mov(2, 2), mov(3, 3), mov(4, 4), mov(5, 5)];
    let code = native(&[set.as_slice(), &[helper(6), EXIT]].concat());
    assert!(!fifth(&code));
    assert!(
        !code.iter().any(|i| (1..=5).contains(&i.try_immediate(1).unwrap_or(0))),
        "{code:?}"
    );
    let undescribed = Platform {
        helpers: Platform::builtin()
            .helpers
            .into_iter()
            .map(|helper| bpf2sys_platform::Helper {
                description: bpf2sys_platform::HelperDescription::default(),
                ..helper
            })
            .collect(),
        ..Platform::builtin()
    };
    let module = trusted(one(&[set.as_slice(), &[helper(6), EXIT]].concat()));
    let lowered = crate::lower(&module, &undescribed, &crate::Options::default()).unwrap();
    let code = instructions(&lowered.object, "program");
    assert!(fifth(&code));
    for argument in 1..=4 {
        assert!(
            code.iter().any(|i| i.try_immediate(1).ok() == Some(argument)),
            "{code:?}"
        );
    }
}

#[test]
fn a_tail_call_in_a_subprogram_ends_the_program() {
    let functions = vec![
        program("program", "bind", &[call(1), mov(0, 77), EXIT]),
        subprogram("sub", &[call(2), mov(0, 66), EXIT]),
        subprogram("deep", &[helper(5), mov(0, 55), EXIT]),
    ];
    let object = lower(module(functions)).unwrap();
    for name in ["program", "sub", "deep"] {
        let code = instructions(&object, name);
        let after_call = code
            .iter()
            .skip_while(|i| !i.is_call_near() && !i.is_call_near_indirect());
        let tested: Vec<_> = after_call
            .skip(1)
            .take(2)
            .map(iced_x86::Instruction::mnemonic)
            .collect();
        let expected = if name == "deep" { Mnemonic::Je } else { Mnemonic::Jne };
        assert_eq!(tested, [Mnemonic::Test, expected], "{name}");
    }
    let plain = vec![
        program("program", "bind", &[call(1), EXIT]),
        subprogram("sub", &[mov(0, 1), EXIT]),
    ];
    let object = lower(module(plain)).unwrap();
    assert!(
        instructions(&object, "program")
            .iter()
            .all(|i| i.mnemonic() != Mnemonic::Test)
    );
}

#[test]
fn a_program_holds_the_stacks_of_the_deepest_chain_below_its_own() {
    let touch = store(Width::Dw, 10, -512, Operand::Imm(1));
    let chain = |depth: u32| {
        let last = subprogram("last", &[touch, mov(0, 0), EXIT]);
        let mut functions = vec![program("program", "bind", &[touch, call(1), EXIT])];
        functions.extend((2..depth).map(|next| subprogram(&format!("s{next}"), &[touch, call(next), EXIT])));
        functions.push(last);
        module(functions)
    };
    let allocated = |code: &[iced_x86::Instruction]| {
        let is_sub = |i: &&iced_x86::Instruction| i.mnemonic() == Mnemonic::Sub && i.op0_register() == Register::RSP;
        code.iter().find(is_sub).map_or(0, |sub| sub.immediate(1))
    };
    for depth in 2..=8 {
        let object = lower(chain(depth)).unwrap();
        let code = instructions(&object, "program");
        assert!(
            (512 * u64::from(depth)..512 * u64::from(depth) + 256).contains(&allocated(&code)),
            "{depth}"
        );
        // The middle of a large frame is touched before the first call.
        let probe = code
            .iter()
            .any(|i| i.op0_kind() == OpKind::Memory && i.memory_size().size() == 1);
        assert_eq!(probe, depth > 4, "{depth}");
        assert!(allocated(&instructions(&object, "last")) < 512);
    }
    let error = lower(chain(9)).unwrap_err();
    let problem = FunctionProblem::CallDepth { frames: 9, limit: 8 };
    assert_eq!(
        error,
        LowerError::Function {
            function: "program".to_owned(),
            problem
        }
    );
}

#[test]
fn a_callee_gets_the_512_bytes_below_its_callers() {
    let to_stack = alu(AluOp::Add, 1, Operand::Imm(-8));
    let functions = vec![
        program("program", "bind", &[mov_reg(1, 10), call(1), EXIT]),
        subprogram("sub", &[mov_reg(1, 10), to_stack, call(2), EXIT]),
        subprogram("deep", &[mov_reg(0, 1), EXIT]),
    ];
    let object = lower_without(module(functions), &[Optimization::Conventions]).unwrap();
    // r1 is the program's r10, the sixth argument its callee's.
    let addresses: Vec<u64> = instructions(&object, "program")
        .iter()
        .filter(|i| i.mnemonic() == Mnemonic::Lea && i.memory_base() == Register::RSP)
        .map(iced_x86::Instruction::memory_displacement64)
        .collect();
    let [a, b] = addresses[..] else {
        panic!("{addresses:x?}")
    };
    assert_eq!(a.abs_diff(b), 512);
    let code = instructions(&object, "sub");
    let below = |i: &iced_x86::Instruction| i.try_immediate(1).ok() == Some(512_u64.wrapping_neg());
    assert!(
        code.iter()
            .any(|i| below(i) || i.memory_displacement64() == 512_u64.wrapping_neg()),
        "{code:?}"
    );
}

#[test]
fn rejects_recursion() {
    let functions = vec![
        program("program", "bind", &[call(1), EXIT]),
        subprogram("a", &[call(2), EXIT]),
        subprogram("b", &[call(1), EXIT]),
    ];
    let problem = FunctionProblem::Recursion;
    assert_eq!(
        lower(module(functions)).unwrap_err(),
        LowerError::Function {
            function: "a".to_owned(),
            problem
        }
    );
}

#[test]
fn a_subprogram_takes_over_what_it_reads_without_being_passed_it() {
    let set0 = mov(0, 0);
    let cases: [(&[Instruction], &[u8]); 8] = [
        (&[set0, EXIT], &[]),
        (&[EXIT], &[0]),
        (&[mov_reg(0, 6), EXIT], &[6]),
        (&[mov(6, 1), mov_reg(0, 6), EXIT], &[]),
        // r7 is set on one of two ways only
        (&[set0, jump_if(1), mov(7, 1), alu(AluOp::Add, 0, reg(7)), EXIT], &[7]),
        (&[set0, store(Width::Dw, 10, -8, reg(9)), EXIT], &[9]),
        (&[helper(5), EXIT], &[]),
        (
            &[set0, alu(AluOp::Add, 0, reg(5)), store(Width::B, 10, -1, reg(1)), EXIT],
            &[],
        ),
    ];
    for (code, expected) in cases {
        let function = subprogram("sub", code);
        let flow = Flow::of(&function, &FunctionFacts::default()).unwrap();
        let none = |_| super::RegisterSet::default();
        let registers: Vec<u8> = inherited(&function, &flow, none)
            .iter()
            .map(bpf2sys_bytecode::Reg::number)
            .collect();
        assert_eq!(registers, expected, "{code:?}");
    }
}

#[test]
fn an_inherited_register_passes_through_every_caller_between() {
    // `deep` returns the r6 of the program, two calls up.
    let functions = vec![
        program("program", "bind", &[mov(6, 1234), call(1), EXIT]),
        subprogram("middle", &[call(2), EXIT]),
        subprogram("deep", &[mov_reg(0, 6), EXIT]),
    ];
    let object = lower(module(functions)).unwrap();
    let code = instructions(&object, "program");
    assert!(
        code.iter()
            .any(|i| (0..i.op_count()).any(|n| i.try_immediate(n).ok() == Some(1234))),
        "{code:?}"
    );
}

#[test]
fn what_windows_cannot_do_is_an_error_with_its_place() {
    let packet = Instruction::LegacyPacket {
        width: Width::W,
        index: None,
        offset: 0,
    };
    let pseudo = Instruction::LoadImm64 {
        dst: r(1),
        value: Imm64::Pseudo {
            src: 3,
            imm: 0,
            next_imm: 0,
        },
    };
    let cases = [
        (
            Instruction::CallX(r(2)),
            InstructionProblem::NoMeaning(Instruction::CallX(r(2))),
        ),
        (packet, InstructionProblem::NoMeaning(packet)),
        (pseudo, InstructionProblem::NoMeaning(pseudo)),
        (btf(0), InstructionProblem::Reference),
        (mov(10, 0), InstructionProblem::WritesFramePointer),
        (helper(0), InstructionProblem::UnknownHelper(0)),
        (helper(-1), InstructionProblem::UnknownHelper(-1)),
        (helper(999), InstructionProblem::UnknownHelper(999)),
        (lddw_map(1, 3), InstructionProblem::NoMeaning(lddw_map(1, 3))),
        (
            Instruction::Jump {
                size: WordSize::W64,
                offset: 9,
            },
            InstructionProblem::JumpTarget,
        ),
    ];
    for (op, expected) in cases {
        let result = lower(one(&[mov(0, 0), op, EXIT]));
        let Err(LowerError::Instruction { place, problem }) = result else {
            panic!("{op:?}: {result:?}");
        };
        assert_eq!((place.slot, problem), (1, expected));
        assert_eq!(place.function, "program");
    }
    let LowerError::Instruction { problem, .. } = lower(one(&[mov(0, 0)])).unwrap_err() else {
        panic!()
    };
    assert_eq!(problem, InstructionProblem::FallsOffEnd);
}

#[test]
fn proven_edges_are_not_followed() {
    let function = program("program", "bind", &[jump_if(1), EXIT, EXIT]);
    let facts = |branch, reachable: [bool; 3]| FunctionFacts {
        instructions: reachable
            .into_iter()
            .map(|reachable| InsnFacts {
                reachable,
                branch,
                ..InsnFacts::default()
            })
            .collect(),
        ..FunctionFacts::default()
    };
    let (one, two) = (InsnIndex(1), InsnIndex(2));
    let cases = [
        (
            facts(Branch::Both, [true; 3]),
            Next::Two {
                taken: two,
                otherwise: one,
            },
        ),
        (facts(Branch::AlwaysTaken, [true; 3]), Next::One(two)),
        (facts(Branch::NeverTaken, [true; 3]), Next::One(one)),
        (facts(Branch::Both, [true, false, true]), Next::One(two)),
        (facts(Branch::Both, [true, true, false]), Next::One(one)),
        // Nothing is left out when nothing is known, or when the facts say that nothing is reached.
        (
            FunctionFacts::default(),
            Next::Two {
                taken: two,
                otherwise: one,
            },
        ),
        (
            facts(Branch::Both, [true, false, false]),
            Next::Two {
                taken: two,
                otherwise: one,
            },
        ),
    ];
    for (facts, expected) in cases {
        let flow = Flow::of(&function, &facts).unwrap();
        assert_eq!(flow.next(InsnIndex(0)), Some(expected));
        for (index, name) in [(one, "fall-through"), (two, "taken")] {
            let live = matches!(expected, Next::Two { .. }) || expected == Next::One(index);
            assert_eq!(flow.next(index).is_some(), live, "{name}: {expected:?}");
        }
    }
}

/// A module whose program looks up key 0 of its only map and returns what it finds, or 0.
fn lookup(map_type: u32, key_size: u32) -> Module {
    let key = store(Width::Dw, 10, -8, Operand::Imm(0));
    let found = Instruction::JumpIf {
        size: WordSize::W64,
        condition: Condition::Ne,
        dst: r(0),
        src: Operand::Imm(0),
        offset: 2,
    };
    let code = [
        key,
        mov_reg(2, 10),
        alu(AluOp::Add, 2, Operand::Imm(-8)),
        lddw_map(1, 0),
        helper(1),
        found,
        mov(0, 0),
        EXIT,
        load(Width::W, 0, 0, 0),
        EXIT,
    ];
    Module {
        maps: vec![map("m", map_type, key_size, 24)],
        ..one(&code)
    }
}

/// Whether it is a call: of a helper, in functions that call nothing else.
fn calls_other(instruction: &iced_x86::Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    )
}

#[test]
fn without_control_flow_guard_a_helper_is_called_by_its_address() {
    let off = Options {
        control_flow_guard: false,
        ..Options::default()
    };
    let object = |options: &Options| {
        let module = one(&[helper(5), EXIT]);
        crate::lower(&testing::trusted(module), &Platform::builtin(), options)
            .unwrap()
            .object
    };
    // What each call goes through, and whether that is in the image.
    let through = |object: &bpf2sys_pe_emit::NativeObject| -> Vec<(OpKind, bool)> {
        let code = instructions(object, "program");
        let calls = code.iter().filter(|i| calls_other(i));
        calls.map(|i| (i.op0_kind(), i.is_ip_rel_memory_operand())).collect()
    };
    let (guarded, unguarded) = (object(&Options::default()), object(&off));
    let plain = object(&Options {
        optimizations: Optimizations::NONE,
        ..Options::default()
    });
    for guarded in [&guarded, &plain] {
        assert_eq!(through(guarded), [(OpKind::Memory, true)]);
    }
    assert_eq!(through(&unguarded), [(OpKind::Register, false)]);
    let guard = |object: &bpf2sys_pe_emit::NativeObject| object.load_config.as_ref().unwrap().guard.is_some();
    assert!(guard(&guarded) && !guard(&unguarded));
    assert!(!unguarded.symbols.iter().any(|symbol| symbol.name.starts_with("guard")));
}

fn calls_helper(module: Module, options: &Options) -> bool {
    let object = crate::lower(&verified(module), &Platform::builtin(), options)
        .unwrap()
        .object;
    let code = instructions(&object, "program");
    code.iter().any(calls_other)
}

#[test]
fn a_lookup_in_one_known_array_is_inlined() {
    let options = Options::default();
    let object = crate::lower(&verified(lookup(2, 4)), &Platform::builtin(), &options)
        .unwrap()
        .object;
    let code = instructions(&object, "program");
    assert!(!code.iter().any(calls_other));
    // key < max_entries, and array_data at map_data[0] + 32
    let compared = code
        .iter()
        .any(|i| i.mnemonic() == Mnemonic::Cmp && i.try_immediate(1).ok() == Some(7));
    assert!(compared, "{code:?}");
    assert!(
        code.iter()
            .any(|i| i.memory_displacement64() == 32 && i.memory_base() != Register::RSP)
    );
}

#[test]
fn other_lookups_call_the_helper() {
    let options = Options::default();
    assert!(calls_helper(lookup(1, 4), &options), "hash");
    assert!(calls_helper(lookup(5, 4), &options), "per-CPU array");
    assert!(
        calls_helper(lookup(2, 8), &options),
        "array whose stated key is not what the runtime reads"
    );
    let off = Options {
        optimizations: Optimizations::ALL.set(Optimization::ArrayLookups, false),
        ..Options::default()
    };
    assert!(calls_helper(lookup(2, 4), &off), "switched off");
    let mut template = lookup(2, 4);
    template.maps[0].definition.id = 5;
    let mut outer = map("outer", 7, 4, 4);
    outer.definition.inner_id = 5;
    outer.inner = Some(bpf2sys_bytecode::MapIndex(0));
    template.maps.push(outer);
    assert!(calls_helper(template, &options), "inner map template");
    let unproven = crate::lower(&testing::trusted(lookup(2, 4)), &Platform::builtin(), &options)
        .unwrap()
        .object;
    let code = instructions(&unproven, "program");
    assert!(code.iter().any(calls_other), "unproven");
}

#[test]
fn a_lookup_in_a_subprogram_is_made_in_place_where_all_callers_mean_the_same_map() {
    let mut module = lookup(2, 4);
    module.functions[0].kind = bpf2sys_bytecode::FunctionKind::Subprogram;
    module.functions[0].name = "sub".to_owned();
    module.functions[0].section = ".text".to_owned();
    module.functions.push(program("program", "bind", &[call(0), EXIT]));
    let options = Options {
        optimizations: Optimizations::ALL.set(Optimization::Inlining, false),
        ..Options::default()
    };
    let object = crate::lower(&verified(module), &Platform::builtin(), &options)
        .unwrap()
        .object;
    let code = instructions(&object, "sub");
    assert!(!code.iter().any(calls_other));
}

#[test]
fn a_subprogram_that_nothing_reaches_is_not_emitted() {
    let functions = vec![
        program("program", "bind", &[mov(0, 0), EXIT]),
        subprogram("orphan", &[EXIT]),
    ];
    let object = lower(module(functions)).unwrap();
    assert!(object.symbols.iter().all(|s| s.name != "orphan"));
}

#[test]
fn a_program_cannot_be_called() {
    let functions = vec![
        program("a", "bind", &[call(1), EXIT]),
        program("b", "bind", &[mov(0, 0), EXIT]),
    ];
    let LowerError::Instruction { problem, .. } = lower(module(functions)).unwrap_err() else {
        panic!()
    };
    assert_eq!(problem, InstructionProblem::CallsProgram);
}

/// Without pins that last until the optimizer is done, all values would be loaded first and wait on the stack.
#[test]
fn a_long_sum_is_computed_as_its_values_are_loaded() {
    let mut code = vec![mov(0, 0)];
    for offset in 0..60 {
        code.extend([load(Width::Dw, 2, 1, 8 * offset), alu(AluOp::Add, 0, reg(2))]);
    }
    code.push(EXIT);
    let spilled = native(&code)
        .iter()
        .filter(|i| i.mnemonic() == Mnemonic::Mov && i.op0_kind() == OpKind::Memory && i.memory_base() == Register::RSP)
        .count();
    assert!(spilled <= 4, "{spilled}");
}
