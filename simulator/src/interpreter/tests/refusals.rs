//! What is no eBPF of ours, registers without a value, and programs that do not end.

use bpf2sys_bytecode::{
    AtomicOp, BtfFunctionIndex, Condition, Extension, InsnIndex, LineIndex, SourceLine, SwapKind, SwapWidth,
};

use super::*;

#[test]
fn unsupported_groups_are_named() {
    let callx = Instruction::CallX(r(1));
    let packet = Instruction::LegacyPacket {
        width: Width::W,
        index: None,
        offset: 0,
    };
    for (instruction, group) in [(callx, "callx"), (packet, "packet")] {
        let failed = result(&[instruction, EXIT]).unwrap_err();
        assert_eq!(failed.problem, Problem::Group(group));
        assert!(
            failed.to_string().ends_with(&format!(
                "it belongs to the conformance group {group}, which is not supported"
            )),
            "{failed}"
        );
    }
    let btf = Instruction::Call(Callee::Btf(BtfFunctionIndex(0)));
    assert_eq!(result(&[btf, EXIT]).unwrap_err().problem, Problem::NoMeaning);
}

/// Instructions that read `r8`.
fn readers_of_r8() -> Vec<Instruction> {
    let eight = r(8);
    let mut readers = vec![
        alu(WordSize::W64, AluOp::Mov, 0, reg(8)),
        Instruction::Movsx {
            size: WordSize::W64,
            from: Extension::S8,
            dst: r(0),
            src: eight,
        },
        Instruction::ByteSwap {
            kind: SwapKind::ToLe,
            width: SwapWidth::W64,
            dst: eight,
        },
        load(Width::B, false, 0, 8, 0),
        store(Width::B, 8, 0, Operand::Imm(0)),
        store(Width::B, 10, -8, reg(8)),
    ];
    for size in SIZES {
        readers.extend([
            alu(size, AluOp::Mov, 0, reg(8)),
            alu(size, AluOp::Add, 0, reg(8)),
            alu(size, AluOp::Add, 8, Operand::Imm(1)),
            // Whatever r8 is, the result would be 0: it is read all the same.
            alu(size, AluOp::Xor, 8, reg(8)),
            Instruction::Neg { size, dst: eight },
        ]);
        for (dst, src) in [(eight, Operand::Imm(0)), (r(0), Operand::Reg(eight))] {
            readers.push(Instruction::JumpIf {
                size,
                condition: Condition::Eq,
                dst,
                src,
                offset: 0,
            });
        }
        for (base, src) in [(eight, r(0)), (r(1), eight)] {
            readers.push(Instruction::Atomic {
                size,
                op: AtomicOp::Add { fetch: false },
                base,
                offset: 0,
                src,
            });
        }
    }
    readers
}

#[test]
fn registers_without_a_value_are_not_read() {
    let mut world = world(&[0; 16]);
    for reader in readers_of_r8() {
        let failed = run_in(&mut world, &[&[set(0, 0), reader, EXIT]]).unwrap_err();
        assert_eq!(
            (failed.problem, failed.place.slot),
            (Problem::Unset(r(8)), 2),
            "{reader}"
        );
    }
    let cmpxchg = Instruction::Atomic {
        size: WordSize::W64,
        op: AtomicOp::Cmpxchg,
        base: r(1),
        offset: 0,
        src: r(1),
    };
    assert_eq!(problem(&[&[cmpxchg, EXIT]]), Problem::Unset(Reg::R0));
    assert_eq!(problem(&[&[EXIT]]), Problem::Unset(Reg::R0));
}

#[test]
fn calls_take_values_away() {
    let mut world = world(&[]);
    world.add_helper(1, |_| HelperResult::Returned(0));
    let returns = [set(0, 0), EXIT];
    for calling in [helper(1), call(1)] {
        for register in 1..=5 {
            let code = [set(register, 0), calling, mov(0, reg(register)), EXIT];
            let failed = run_in(&mut world, &[&code, &returns]).unwrap_err();
            assert_eq!(failed.problem, Problem::Unset(r(register)), "{calling}");
        }
    }
    for register in [0, 6, 7, 8, 9] {
        let reads = [mov(1, reg(register)), EXIT];
        let failed = run_in(&mut world, &[&[set(register, 0), call(1), EXIT], &reads]).unwrap_err();
        assert_eq!(
            (failed.problem, failed.place.function),
            (Problem::Unset(r(register)), "f1".into())
        );
    }
    // A function without a result leaves none.
    let failed = run_in(&mut world, &[&[set(0, 0), call(1), EXIT], &[EXIT]]).unwrap_err();
    assert_eq!(
        (failed.problem, failed.place.function),
        (Problem::Unset(Reg::R0), "f0".into())
    );
    let unused = [set(0, 0), call(1), set(0, 4), EXIT];
    assert_eq!(run_in(&mut world, &[&unused, &[EXIT]]).unwrap().r0, 4);
}

#[test]
fn compiled_code_is_laxer() {
    let run = |functions: &[&[Instruction]]| {
        let mut world = world(&[]);
        world.add_helper(1, |_| HelperResult::Returned(3));
        let entry = Entry::new(FunctionIndex(0), &[MEMORY], STACK_END);
        let options = Options {
            undefined: Undefined::AsCompiled,
            ..Options::default()
        };
        interpret(&module(functions), &entry, &mut world, options).unwrap().r0
    };
    let add = |src| alu(WordSize::W64, AluOp::Add, 0, reg(src));
    assert_eq!(run(&[&[EXIT]]), 0);
    for register in 2..10 {
        assert_eq!(run(&[&[mov(0, reg(register)), EXIT]]), 0, "r{register} at entry");
    }
    for register in 1..=5 {
        assert_eq!(run(&[&[set(register, 9), helper(1), add(register), EXIT]]), 3);
        assert_eq!(
            run(&[&[set(register, 9), call(1), add(register), EXIT], &[set(0, 4), EXIT]]),
            4
        );
    }
    for register in 6..=9 {
        assert_eq!(
            run(&[&[set(register, 9), call(1), EXIT], &[mov(0, reg(register)), EXIT]]),
            9
        );
    }
    assert_eq!(run(&[&[set(0, 5), call(1), EXIT], &[EXIT]]), 5);
}

#[test]
fn the_frame_pointer_is_read_only() {
    for write in [
        mov(10, Operand::Imm(0)),
        alu(WordSize::W64, AluOp::Add, 10, Operand::Imm(8)),
        set(10, 0),
        load(Width::Dw, false, 10, 10, -8),
    ] {
        assert_eq!(problem(&[&[write, EXIT]]), Problem::FramePointer, "{write}");
    }
}

#[test]
fn an_endless_program_is_ended() {
    let endless = [
        set(0, 0),
        Instruction::Jump {
            size: WordSize::W64,
            offset: -1,
        },
    ];
    let options = Options {
        max_steps: 100,
        ..Options::default()
    };
    let run = |code: &[Instruction]| {
        let entry = Entry::new(FunctionIndex(0), &[], STACK_END);
        interpret(&module(&[code]), &entry, &mut world(&[]), options)
    };
    assert_eq!(run(&endless).unwrap_err().problem, Problem::StepLimit(100));
    let mut exactly = vec![set(0, 0); 99];
    exactly.push(EXIT);
    assert_eq!(run(&exactly).unwrap().steps, 100);
    exactly.insert(0, set(0, 0));
    assert_eq!(run(&exactly).unwrap_err().problem, Problem::StepLimit(100));
}

#[test]
fn errors_name_function_instruction_and_source_line() {
    let mut module = module(&[&[call(1), EXIT], &[set(1, 0), load(Width::W, false, 0, 1, 4), EXIT]]);
    module.lines = vec![SourceLine {
        file: "filter.c".into(),
        line: 12,
        column: 5,
        text: "return *p;".into(),
    }];
    module.functions[1].instructions[1].line = Some(LineIndex(0));
    let entry = Entry::new(FunctionIndex(0), &[], STACK_END);
    let failed = interpret(&module, &entry, &mut world(&[]), Options::default()).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "function f1, instruction 2: `r0 = *(u32 *)(r1 + 0x4)` (filter.c:12): it reads 4 bytes at 0x4: there is no region \
         at or below it"
    );
    assert_eq!(failed.place, Place::of(&module, FunctionIndex(1), InsnIndex(1)));
    let entry = Entry::new(FunctionIndex(9), &[], STACK_END);
    let failed = interpret(&module, &entry, &mut world(&[]), Options::default()).unwrap_err();
    assert_eq!(failed.problem, Problem::Missing("function"));
}
