//! Pointers that get out as numbers, and numbers that are taken for pointers.
//!
//! A program of a type that is not privileged must not tell others where kernel memory lies. The engine keeps pointers apart
//! from numbers and refuses to store, pass or return them; this is what it leaves open (comparisons are the matter of
//! [`comparison`](super::comparison)):
//! * A compare-and-exchange with a pointer in `r0`. It tells whether the number in memory is the pointer; and the engine goes
//!   on to take `r0` for that pointer, with what was in memory in it. That makes an address of a number, so no program type
//!   may do it.
//! * A buffer on the stack that a callee may leave as it was. To the engine it holds numbers after the call, and in truth
//!   perhaps a pointer that was stored there, or what an earlier user of the kernel stack has left.
//! * A register that is read although the callee's prototype does not list it.

use bpf2sys_bytecode::Reg;
use prevail::crab::ebpf_domain::{DomainContext, ebpf_domain_check};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::{AccessType, Assertion, Imm, Reg as EngineReg, ValidAccess, Value};

use super::{Point, Rules};
use crate::error::RejectionReason;
use crate::prototype::{Need, Prototype};
use crate::rules;

impl Rules<'_> {
    /// A compare-and-exchange, which compares `r0`.
    pub(super) fn exchange(point: &Point<'_>) -> Option<RejectionReason> {
        rules::exchange(point.is_number(Reg::R0))
    }

    /// What a callee outside the module gets.
    pub(super) fn arguments(
        &self,
        called: &Prototype<'_>,
        point: &Point<'_>,
        context: &DomainContext<'_>,
        names: &mut VariableRegistry,
    ) -> Option<RejectionReason> {
        let is_number = |register: Reg| point.is_number(register);
        if let Some((_, reason)) = rules::unlisted_argument(called, self.program_type, is_number) {
            return Some(reason);
        }
        let constant = |register: Reg| point.registers[register.index()].constant();
        let mut written = called
            .needs()
            .filter_map(|(register, need)| Some((register, written(register, need)?)));
        written.find_map(|(register, bytes)| {
            let fills = called.fills_memory(register, |a, b| constant(a).is_some() && constant(a) == constant(b));
            let initialised = || is_initialised(register, bytes, point, context, names);
            rules::unfilled_buffer(called, self.program_type, fills, initialised)
        })
    }
}

/// How many bytes a callee may write through an argument.
fn written(register: Reg, need: Need) -> Option<Value> {
    match need {
        Need::Memory { writes: true, .. } => {
            let v = register.number() + 1;
            Some(Value::Reg(EngineReg { v }))
        }
        Need::Number(bytes) => Some(Value::Imm(Imm { v: bytes.into() })),
        _ => None,
    }
}

/// Whether the memory behind a register is proven to hold numbers. All but the stack always does.
fn is_initialised(
    register: Reg,
    bytes: Value,
    point: &Point<'_>,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> bool {
    let read = Assertion::ValidAccess(ValidAccess {
        call_stack_depth: point.label.call_stack_depth(),
        reg: EngineReg { v: register.number() },
        offset: 0,
        width: bytes,
        or_null: true,
        access_type: AccessType::Read,
    });
    ebpf_domain_check(point.state, &read, point.label, context, names).is_none()
}
