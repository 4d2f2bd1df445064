//! Modules lowered for ARM64.

use bpf2sys_bytecode::{
    AluOp, AtomicOp, Condition, Extension, Imm64, Instruction, Module, Operand, SwapKind, SwapWidth, Width, WordSize,
};
use bpf2sys_pe_emit::{Machine, NativeObject, UnwindInfo};
use bpf2sys_platform::Platform;

use crate::instruction_arm64::{Insn, Opcode, decode};
use crate::testing::{EXIT, alu, call, helper, load, module, mov, one, program, r, store, subprogram, trusted};
use crate::{LowerError, Options};

const ARM64: Options = Options {
    machine: Machine::Arm64,
    skeleton: crate::Skeleton::Driver,
    inline_array_lookup: true,
    lse: false,
    sign_return_address: false,
    keep_ir: false,
};

fn lower_with(module: Module, options: &Options) -> Result<NativeObject, LowerError> {
    crate::lower(&trusted(module), &Platform::builtin(), options).map(|lowered| lowered.object)
}

/// Every instruction form of RFC 9669 that Windows has a meaning for, as a straight line; registers hold anything.
fn every_form() -> Vec<Instruction> {
    let mut forms = Vec::new();
    let sizes = [WordSize::W32, WordSize::W64];
    let operands = [
        Operand::Reg(r(2)),
        Operand::Imm(0),
        Operand::Imm(-1),
        Operand::Imm(7),
        Operand::Imm(0x1234_5678),
    ];
    for size in sizes {
        for op in [
            AluOp::Add,
            AluOp::Sub,
            AluOp::Mul,
            AluOp::Div,
            AluOp::Sdiv,
            AluOp::Or,
            AluOp::And,
            AluOp::Lsh,
            AluOp::Rsh,
            AluOp::Mod,
            AluOp::Smod,
            AluOp::Xor,
            AluOp::Mov,
            AluOp::Arsh,
        ] {
            for src in operands {
                forms.push(Instruction::Alu {
                    size,
                    op,
                    dst: r(1),
                    src,
                });
            }
            forms.push(Instruction::Alu {
                size,
                op,
                dst: r(1),
                src: Operand::Reg(r(1)),
            });
        }
        for from in [Extension::S8, Extension::S16, Extension::S32] {
            forms.push(Instruction::Movsx {
                size,
                from,
                dst: r(1),
                src: r(2),
            });
        }
        forms.push(Instruction::Neg { size, dst: r(1) });
        for condition in [
            Condition::Eq,
            Condition::Ne,
            Condition::Gt,
            Condition::Ge,
            Condition::Lt,
            Condition::Le,
            Condition::Sgt,
            Condition::Sge,
            Condition::Slt,
            Condition::Sle,
            Condition::Set,
        ] {
            for src in operands {
                forms.push(Instruction::JumpIf {
                    size,
                    condition,
                    dst: r(3),
                    src,
                    offset: 1,
                });
                forms.push(alu(AluOp::Add, 4, Operand::Imm(1)));
            }
        }
        for fetch in [false, true] {
            for op in [
                AtomicOp::Add { fetch },
                AtomicOp::Or { fetch },
                AtomicOp::And { fetch },
                AtomicOp::Xor { fetch },
                AtomicOp::Xchg,
                AtomicOp::Cmpxchg,
            ] {
                for base in [6, 10] {
                    forms.push(Instruction::Atomic {
                        size,
                        op,
                        base: r(base),
                        offset: -8,
                        src: r(5),
                    });
                }
            }
        }
    }
    for kind in [SwapKind::ToLe, SwapKind::ToBe, SwapKind::Swap] {
        for width in [SwapWidth::W16, SwapWidth::W32, SwapWidth::W64] {
            forms.push(Instruction::ByteSwap { kind, width, dst: r(1) });
        }
    }
    for width in [Width::B, Width::H, Width::W, Width::Dw] {
        for base in [6, 10] {
            for signed in [false, true] {
                forms.push(Instruction::Load {
                    width,
                    signed,
                    dst: r(7),
                    base: r(base),
                    offset: -16,
                });
                forms.push(alu(AluOp::Add, 4, Operand::Reg(r(7))));
            }
            forms.push(store(width, base, -16, Operand::Reg(r(5))));
            forms.push(store(width, base, -24, Operand::Imm(-5)));
        }
    }
    forms.push(Instruction::LoadImm64 {
        dst: r(8),
        value: Imm64::Constant(0x1234_5678_9ABC_DEF0),
    });
    for size in sizes {
        forms.push(Instruction::Jump { size, offset: 0 });
    }
    forms.extend([
        alu(AluOp::Add, 4, Operand::Reg(r(8))),
        alu(AluOp::Add, 1, Operand::Reg(r(4))),
    ]);
    forms.extend([store(Width::Dw, 6, 0, Operand::Reg(r(1))), mov(0, 0), EXIT]);
    forms
}

#[test]
fn smoke() {
    let object = lower_with(one(&every_form()), &ARM64).unwrap();
    for f in &object.functions {
        println!("{f:?}");
    }
}
