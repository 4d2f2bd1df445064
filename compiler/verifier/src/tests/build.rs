//! Modules written by hand, for what no C compiler is needed for.

use bpf2sys_bytecode::{
    AluOp, Callee, Function, FunctionIndex, FunctionKind, Imm64, Insn, Instruction, Map, MapDefinition, MapIndex,
    MapOrigin, Module, Operand, Reg, Width, WordSize,
};
use bpf2sys_platform::Platform;

use crate::{Options, RejectionReason, VerifiedModule, Verifier, VerifyError, verify};

pub const EXIT: Instruction = Instruction::Exit;

pub fn reg(number: u8) -> Reg {
    Reg::new(number).unwrap()
}

pub fn alu(op: AluOp, dst: Reg, src: Operand) -> Instruction {
    let size = WordSize::W64;
    Instruction::Alu { size, op, dst, src }
}

pub fn set(dst: Reg, imm: i32) -> Instruction {
    alu(AluOp::Mov, dst, Operand::Imm(imm))
}

pub fn copy(dst: Reg, src: Reg) -> Instruction {
    alu(AluOp::Mov, dst, Operand::Reg(src))
}

pub fn add(dst: Reg, imm: i32) -> Instruction {
    alu(AluOp::Add, dst, Operand::Imm(imm))
}

pub fn load(dst: Reg, base: Reg, offset: i16) -> Instruction {
    Instruction::Load {
        width: Width::Dw,
        signed: false,
        dst,
        base,
        offset,
    }
}

pub fn store(base: Reg, offset: i16, imm: i32) -> Instruction {
    Instruction::Store {
        width: Width::Dw,
        base,
        offset,
        src: Operand::Imm(imm),
    }
}

pub fn helper(id: i32) -> Instruction {
    Instruction::Call(Callee::Helper(id))
}

pub fn local(function: u32) -> Instruction {
    Instruction::Call(Callee::Local(FunctionIndex(function)))
}

pub fn load_map(dst: Reg, index: u32) -> Instruction {
    let value = Imm64::Map(MapIndex(index));
    Instruction::LoadImm64 { dst, value }
}

pub fn map(name: &str, map_type: u32, key_size: u32, value_size: u32) -> Map {
    Map {
        name: name.to_owned(),
        definition: MapDefinition {
            map_type,
            key_size,
            value_size,
            max_entries: 1,
            ..MapDefinition::default()
        },
        inner: None,
        origin: MapOrigin::Btf,
        flags: 0,
        initial_values: Vec::new(),
    }
}

/// A module of these functions, of which the first is a program in this section.
pub fn module(section: &str, functions: &[&[Instruction]]) -> Module {
    let function = |(i, ops): (usize, &&[Instruction])| Function {
        name: format!("f{i}"),
        section: if i == 0 { section } else { ".text" }.to_owned(),
        section_offset: 0,
        kind: if i == 0 {
            FunctionKind::Program
        } else {
            FunctionKind::Subprogram
        },
        instructions: Insn::sequence(ops.iter().copied()),
    };
    Module {
        name: "m".to_owned(),
        hash: None,
        functions: functions.iter().enumerate().map(function).collect(),
        maps: Vec::new(),
        globals: Vec::new(),
        btf_functions: Vec::new(),
        lines: Vec::new(),
        unresolved: Vec::new(),
        types: bpf2sys_bytecode::DataTypes::default(),
    }
}

pub fn judge(module: Module) -> Result<VerifiedModule, RejectionReason> {
    judge_on(&Platform::builtin(), module)
}

/// What our engine says. PREVAIL must be of the same opinion.
pub fn judge_on(platform: &Platform, module: Module) -> Result<VerifiedModule, RejectionReason> {
    let theirs = judge_by(Verifier::Prevail, platform, module.clone());
    let ours = judge_by(Verifier::Native, platform, module);
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours.err(), theirs.err());
    ours
}

/// What one engine says.
pub fn judge_by(verifier: Verifier, platform: &Platform, module: Module) -> Result<VerifiedModule, RejectionReason> {
    let options = Options {
        verifier,
        ..Options::default()
    };
    verify(module, platform, &options).map_err(|error| match error {
        VerifyError::Rejected(mut rejections) => rejections.remove(0).reason,
        other => panic!("{other:?}"),
    })
}
