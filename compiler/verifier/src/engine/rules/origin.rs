//! Where pointers come from inside a function, as far as the rules ask.
//!
//! Given: a function. Computed: the [`Origin`] of each register at each instruction. A value that went through memory, a
//! call or another function has none. A section is what some path gives; arithmetic is what every path has done.

use bpf2sys_bytecode::{AluOp, AtomicOp, Function, GlobalIndex, Imm64, Instruction, Module, Operand, Reg, WordSize};

use crate::flow::forward;

/// Where the value of a register comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Origin {
    /// On every path it is a sum or difference that this function has computed, or a copy of one.
    pub computed: bool,
    /// A read-only global section that it points into on some path.
    pub read_only: Option<GlobalIndex>,
}

pub(in crate::engine) type Origins = [Origin; Reg::COUNT];

/// The origins before each instruction of a function.
pub(in crate::engine) fn origins(module: &Module, function: &Function) -> Vec<Origins> {
    let before = forward(function, Origins::default(), join, |op, origins| {
        step(module, op, origins)
    });
    before.into_iter().map(Option::unwrap_or_default).collect()
}

fn join(a: Origin, b: Origin) -> Origin {
    Origin {
        computed: a.computed && b.computed,
        read_only: match (a.read_only, b.read_only) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        },
    }
}

fn step(module: &Module, op: Instruction, mut origins: Origins) -> Origins {
    match op {
        Instruction::Alu {
            size: WordSize::W64,
            op: AluOp::Mov,
            dst,
            src: Operand::Reg(src),
        } => origins[dst.index()] = origins[src.index()],
        // Nothing is computed.
        Instruction::Alu {
            size: WordSize::W64,
            op: AluOp::Add | AluOp::Sub,
            src: Operand::Imm(0),
            ..
        } => {}
        Instruction::Alu {
            size: WordSize::W64,
            op: op @ (AluOp::Add | AluOp::Sub),
            dst,
            src,
        } => {
            let added = match src {
                Operand::Reg(src) if op == AluOp::Add => origins[src.index()].read_only,
                _ => None,
            };
            origins[dst.index()] = Origin {
                computed: true,
                read_only: origins[dst.index()].read_only.or(added),
            };
        }
        Instruction::LoadImm64 { dst, value } => {
            origins[dst.index()] = Origin {
                computed: false,
                read_only: match value {
                    Imm64::Global { section, .. } => {
                        let global = module.globals.get(section.index());
                        global.filter(|g| g.read_only).map(|_| section)
                    }
                    _ => None,
                },
            };
        }
        Instruction::Alu { dst, .. }
        | Instruction::Movsx { dst, .. }
        | Instruction::Neg { dst, .. }
        | Instruction::ByteSwap { dst, .. }
        | Instruction::Load { dst, .. } => origins[dst.index()] = Origin::default(),
        // The source of an atomic operation is a number, and so is what it gives.
        Instruction::Atomic {
            op: AtomicOp::Cmpxchg, ..
        } => origins[Reg::R0.index()] = Origin::default(),
        Instruction::Call(_) | Instruction::CallX(_) | Instruction::LegacyPacket { .. } => {
            origins[..6].fill(Origin::default());
        }
        Instruction::Atomic { .. }
        | Instruction::Store { .. }
        | Instruction::Jump { .. }
        | Instruction::JumpIf { .. }
        | Instruction::Exit => {}
    }
    origins
}
