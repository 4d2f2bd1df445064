//! Comparisons of pointers with something else than the engine takes them for.
//!
//! The engine takes an address for a number from 1 to 2^31. A comparison of a pointer with a number is then decided in its
//! model where it is open on Windows: it calls `if r1 > r2` dead for a pointer and 2^31, and everything may stand behind it. In
//! privileged types it does not check comparisons at all, and calls both edges of one between pointers of different kinds dead.
//! Nor does it ask there whether the registers hold anything: its own check for the other types is made here.

use bpf2sys_bytecode::{Condition, Operand, Reg};
use bpf2sys_platform::ProgramType;
use prevail::crab::ebpf_domain::{DomainContext, ebpf_domain_check};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::{AccessType, Assertion, Imm, Reg as EngineReg, ValidAccess, Value};

use super::Point;
use crate::error::RejectionReason;
use crate::{Kind, RegisterFact, RegisterKind, Violation};

/// Refuses a 64-bit comparison whose outcome the engine may get wrong.
pub(super) fn jump(
    (condition, dst, src): (Condition, Reg, Operand),
    program_type: &ProgramType,
    point: &Point<'_>,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> Option<RejectionReason> {
    if program_type.is_privileged {
        let right = match src {
            Operand::Reg(src) => Some(src),
            Operand::Imm(_) => None,
        };
        let mut registers = std::iter::once(dst).chain(right);
        if let Some(reason) = registers.find_map(|register| holds_nothing(register, point, context, names)) {
            return Some(reason);
        }
    }
    let left = point.kind(dst);
    let test_of_null = matches!(condition, Condition::Eq | Condition::Ne);
    let decided = match src {
        // The engine allows no other comparison of a pointer with a constant, if it checks them.
        Operand::Imm(0) => test_of_null || !program_type.is_privileged || left == RegisterKind::Number,
        Operand::Imm(_) => !program_type.is_privileged || left == RegisterKind::Number,
        Operand::Reg(src) => match (left, point.kind(src)) {
            (RegisterKind::Number, RegisterKind::Number) => true,
            (_, RegisterKind::Number) => test_of_null && is_zero(&point.registers[src.index()]),
            (RegisterKind::Number, _) => test_of_null && is_zero(&point.registers[dst.index()]),
            // One region each, in which offsets compare as addresses do.
            (a, b) if a == b => {
                condition != Condition::Set
                    && matches!(a, RegisterKind::Context | RegisterKind::Packet | RegisterKind::Stack)
                    || !program_type.is_privileged
            }
            _ => !program_type.is_privileged,
        },
    };
    let number = |register: Reg| point.kind(register) == RegisterKind::Number;
    let pointer = |register: Reg| Violation::PointerCompared {
        register,
        kind: kind(point.kind(register)),
    };
    let violation = match src {
        Operand::Reg(src) if number(src) => pointer(dst),
        Operand::Reg(src) if number(dst) => pointer(src),
        Operand::Reg(src) => Violation::UnrelatedPointers { registers: [dst, src] },
        Operand::Imm(_) => pointer(dst),
    };
    (!decided).then(|| RejectionReason::Unsafe {
        violation: Box::new(violation),
        engine: "a pointer is compared with a number, or with a pointer to something else".to_owned(),
    })
}

/// Refuses a register that holds nothing on some path.
fn holds_nothing(
    register: Reg,
    point: &Point<'_>,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> Option<RejectionReason> {
    if point.kind(register) != RegisterKind::Unknown {
        return None;
    }
    let comparable = Assertion::ValidAccess(ValidAccess {
        call_stack_depth: point.label.call_stack_depth(),
        reg: EngineReg { v: register.number() },
        offset: 0,
        width: Value::Imm(Imm { v: 0 }),
        or_null: false,
        access_type: AccessType::Compare,
    });
    let error = ebpf_domain_check(point.state, &comparable, point.label, context, names)?;
    Some(RejectionReason::Unsafe {
        violation: Box::new(Violation::NothingKnown { register }),
        engine: error.message,
    })
}

fn kind(kind: RegisterKind) -> Kind {
    match kind {
        RegisterKind::Unknown => Kind::Unknown,
        RegisterKind::Number => Kind::Number,
        RegisterKind::Context => Kind::Context,
        RegisterKind::Packet => Kind::Packet,
        RegisterKind::Stack => Kind::Stack,
        RegisterKind::MapValue => Kind::MapValue,
        RegisterKind::Map => Kind::Map,
        RegisterKind::MapOfPrograms => Kind::ProgramArray,
    }
}

fn is_zero(fact: &RegisterFact) -> bool {
    fact.unsigned == Some((0, 0))
}
