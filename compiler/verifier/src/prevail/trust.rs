//! Where the engine's model of pointers is not that of a Windows kernel, and its facts therefore prove nothing.
//!
//! The engine takes an address for a number from 1 to 2^31, and a pointer for a region and an offset. Its verdict does
//! not depend on that in the programs it accepts, but a fact could. The facts of an analysis are used only if no
//! reachable instruction is one of these:
//! * a comparison of pointers as numbers. Left over are: a 64-bit test of a pointer for null (the engine demands that the
//!   pointer lies within its region, except in privileged program types); and a 64-bit comparison of two context or two
//!   packet pointers, which lie in one region, by their offsets. Two maps from one map of maps look equal to the engine;
//!   two stack pointers may belong to two frames.
//! * a subtraction of two pointers, unless both are context or packet pointers.
//! * a load of the context's pointer to metadata: the engine takes it for a pointer at most 4098 bytes before the data, and
//!   no provider promises that. (Where it is always null, the load is refused: see [`rules`](super::rules).)
//!
//! What the engine's model of stack frames does to facts is the matter of [`frames`](super::frames).

use bpf2sys_bytecode::{AluOp, Condition, Instruction, Operand, Reg, Width, WordSize};
use bpf2sys_platform::ProgramType;
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain, ebpf_domain_check};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::{Assertion, Reg as EngineReg, ZeroCtxOffset};

use crate::flow::Sources;
use crate::{RegisterFact, RegisterKind};

/// A point in an analysis.
pub(super) struct Point<'a> {
    /// The engine's name of the point.
    pub label: &'a Label,
    /// What the engine knows before the instruction.
    pub state: &'a EbpfDomain,
    /// The registers in that state.
    pub registers: &'a [RegisterFact; Reg::COUNT],
    /// Where their values come from.
    pub sources: &'a Sources,
    /// The program type.
    pub program_type: &'a ProgramType,
}

/// Whether facts that the engine derives from this instruction hold on Windows.
pub(super) fn is_modelled(
    instruction: &Instruction,
    point: &Point<'_>,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> bool {
    let kind = |register: Reg| point.registers[register.index()].kind;
    match *instruction {
        Instruction::JumpIf {
            size,
            condition,
            dst,
            src,
            ..
        } => match src {
            Operand::Imm(imm) => {
                let null_check =
                    imm == 0 && size == WordSize::W64 && matches!(condition, Condition::Eq | Condition::Ne);
                kind(dst) == RegisterKind::Number || (null_check && !point.program_type.is_privileged)
            }
            Operand::Reg(src) => match (kind(dst), kind(src)) {
                (RegisterKind::Number, RegisterKind::Number) => true,
                (a, b) => one_region(a, b) && size == WordSize::W64 && condition != Condition::Set,
            },
        },
        Instruction::Alu {
            size,
            op: AluOp::Sub,
            dst,
            src: Operand::Reg(src),
        } => match (kind(dst), kind(src)) {
            (RegisterKind::Unknown, _) => false,
            (_, RegisterKind::Number) => true,
            (a, b) => one_region(a, b) && size == WordSize::W64,
        },
        Instruction::Load {
            width: Width::Dw,
            base,
            offset,
            ..
        } if point.program_type.context.data_meta >= 0
            && matches!(kind(base), RegisterKind::Context | RegisterKind::Unknown) =>
        {
            i32::from(offset) != point.program_type.context.data_meta && is_whole_context(base, point, context, names)
        }
        _ => true,
    }
}

/// Whether two pointers of these kinds lie in the same region, so that their offsets compare as their addresses do.
fn one_region(a: RegisterKind, b: RegisterKind) -> bool {
    a == b && matches!(a, RegisterKind::Context | RegisterKind::Packet)
}

/// Whether a register is the context pointer without an offset.
fn is_whole_context(
    register: Reg,
    point: &Point<'_>,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> bool {
    let assertion = Assertion::ZeroCtxOffset(ZeroCtxOffset {
        reg: EngineReg { v: register.number() },
        or_null: false,
    });
    let proven = ebpf_domain_check(point.state, &assertion, point.label, context, names).is_none();
    point.registers[register.index()].kind == RegisterKind::Context && proven
}
