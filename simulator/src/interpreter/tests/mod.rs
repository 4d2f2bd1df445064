//! Every form of every instruction at its edges, each result worked out from the text of RFC 9669.

mod arithmetic;
mod atomics;
mod calls;
mod jumps;
mod memory;
mod refusals;
mod undefined;

use bpf2sys_bytecode::{
    AluOp, Callee, Function, FunctionIndex, FunctionKind, Imm64, Insn, Instruction, Module, Operand, Reg, Width,
    WordSize,
};

use super::*;

/// `exit`.
const EXIT: Instruction = Instruction::Exit;
/// Where the memory of test programs lies: no multiple of a page, a multiple of 8.
const MEMORY: u64 = 0x1_0000_0040;
/// Where their stack ends.
const STACK_END: u64 = 0x2_0000_0000;

const SIZES: [WordSize; 2] = [WordSize::W32, WordSize::W64];
const WIDTHS: [Width; 4] = [Width::B, Width::H, Width::W, Width::Dw];

fn r(number: u8) -> Reg {
    Reg::new(number).unwrap()
}

fn reg(number: u8) -> Operand {
    Operand::Reg(r(number))
}

fn alu(size: WordSize, op: AluOp, dst: u8, src: Operand) -> Instruction {
    Instruction::Alu {
        size,
        op,
        dst: r(dst),
        src,
    }
}

/// `dst = src`, 64 bits.
fn mov(dst: u8, src: Operand) -> Instruction {
    alu(WordSize::W64, AluOp::Mov, dst, src)
}

/// `dst = value ll`
fn set(dst: u8, value: u64) -> Instruction {
    Instruction::LoadImm64 {
        dst: r(dst),
        value: Imm64::Constant(value),
    }
}

fn load(width: Width, signed: bool, dst: u8, base: u8, offset: i16) -> Instruction {
    Instruction::Load {
        width,
        signed,
        dst: r(dst),
        base: r(base),
        offset,
    }
}

fn store(width: Width, base: u8, offset: i16, src: Operand) -> Instruction {
    Instruction::Store {
        width,
        base: r(base),
        offset,
        src,
    }
}

fn call(function: u32) -> Instruction {
    Instruction::Call(Callee::Local(FunctionIndex(function)))
}

fn helper(id: i32) -> Instruction {
    Instruction::Call(Callee::Helper(id))
}

/// A module of functions `f0`, `f1` and so on; the first is the program.
fn module(functions: &[&[Instruction]]) -> Module {
    let function = |(index, code): (usize, &&[Instruction])| Function {
        name: format!("f{index}"),
        section: "test".into(),
        section_offset: 0,
        kind: if index == 0 {
            FunctionKind::Program
        } else {
            FunctionKind::Subprogram
        },
        instructions: Insn::sequence(code.iter().copied()),
    };
    Module {
        name: "test".into(),
        hash: None,
        functions: functions.iter().enumerate().map(function).collect(),
        maps: Vec::new(),
        globals: Vec::new(),
        btf_functions: Vec::new(),
        unresolved: Vec::new(),
        lines: Vec::new(),
        types: bpf2sys_bytecode::DataTypes::default(),
    }
}

/// A world with a stack, and `memory` at [`MEMORY`].
fn world(memory: &[u8]) -> FlatWorld {
    let mut world = FlatWorld::default();
    assert_eq!(world.add_stack(STACK_END - STACK_BYTES), Ok(STACK_END));
    let memory = NewRegion {
        name: "memory".into(),
        base: MEMORY,
        bytes: memory.to_vec(),
        permission: Permission::ReadWrite,
    };
    world.add(memory).unwrap();
    world
}

type Failure = Box<InterpretError<FlatError>>;

/// Runs functions in a world, strictly, with the memory's address in `r1`.
fn run_in<W: World<Error = FlatError>>(world: &mut W, functions: &[&[Instruction]]) -> Result<Outcome, Failure> {
    let entry = Entry::new(FunctionIndex(0), &[MEMORY], STACK_END);
    interpret(&module(functions), &entry, world, Options::default())
}

/// `r0` of a program that needs no memory.
fn result(code: &[Instruction]) -> Result<u64, Failure> {
    run_in(&mut world(&[]), &[code]).map(|outcome| outcome.r0)
}

/// What was wrong with a program.
fn problem(functions: &[&[Instruction]]) -> Problem<FlatError> {
    run_in(&mut world(&[0; 16]), functions).unwrap_err().problem
}
