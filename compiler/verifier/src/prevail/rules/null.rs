//! Arithmetic on pointers that may be null.
//!
//! A pointer is checked where arithmetic is first done on it. The result of that arithmetic is then no null pointer with
//! something added, whatever the engine still knows of its value: so a register that holds such a result on every path
//! ([`Origin::computed`]) is not asked again.

use bpf2sys_bytecode::{AluOp, Instruction, Operand, Reg, WordSize};
use prevail::crab::ebpf_domain::{DomainContext, ebpf_domain_transform};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::{
    Assume, Condition, ConditionOp, Imm, Instruction as EngineInstruction, Reg as EngineReg, Value,
};

use super::Point;
use crate::RegisterKind;
use crate::error::RejectionReason;
use crate::rules;

/// Refuses an addition or subtraction whose operand may be a null pointer. The engine itself allows pointers in no other
/// arithmetic.
pub(super) fn arithmetic(
    instruction: &Instruction,
    point: &Point<'_>,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> Option<RejectionReason> {
    let Instruction::Alu {
        op: AluOp::Add | AluOp::Sub,
        dst,
        src,
        size: WordSize::W32 | WordSize::W64,
    } = *instruction
    else {
        return None;
    };
    let operands = match src {
        Operand::Imm(0) => [None, None],
        Operand::Imm(_) => [Some(dst), None],
        Operand::Reg(src) => [Some(dst), Some(src)],
    };
    let null = operands
        .into_iter()
        .flatten()
        .any(|register| may_be_null(register, point, context, names));
    rules::arithmetic(null)
}

/// Whether a register may hold a pointer that is null.
fn may_be_null(register: Reg, point: &Point<'_>, context: &DomainContext<'_>, names: &mut VariableRegistry) -> bool {
    let never_null = matches!(
        point.kind(register),
        RegisterKind::Number | RegisterKind::Context | RegisterKind::Packet | RegisterKind::Stack
    );
    if never_null || point.origins[register.index()].computed {
        return false;
    }
    let is_null = EngineInstruction::Assume(Assume {
        cond: Condition {
            op: ConditionOp::EQ,
            left: EngineReg { v: register.number() },
            right: Value::Imm(Imm { v: 0 }),
            is64: true,
        },
        is_implicit: true,
    });
    let mut state = point.state.clone();
    ebpf_domain_transform(&mut state, &is_null, context, names).is_err() || !state.is_bottom()
}
