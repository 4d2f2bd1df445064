//! What the native functions of a module are made of.
//!
//! Given: a verified module, and who calls whom.
//! Computed: the [`Body`] of each function that is emitted, after optimization; which of its stack slots are values; and how much stack
//! a program needs for itself and what it calls.
//! Safe because: a function is left out only where all its calls were inlined; and stack is reserved down to the lowest byte that
//! anything touches as memory, in frames that lie as the verifier takes them to lie.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{Callee, FunctionIndex, FunctionKind, InsnIndex, Instruction, Reg};
use bpf2sys_verifier::FrameFacts;

use crate::Optimization;
use crate::body::{Body, Candidate, Slots};
use crate::convention::Convention;
use crate::lowering::{RegisterSet, STACK_BYTES, Unit, needs_cutting};

/// A function to emit.
pub(crate) struct Planned {
    /// What it is made of.
    pub(crate) body: Body,
    /// Its slots that are values.
    pub(crate) slots: Slots,
    /// Bytes of stack below its `r10` that it and its callees touch.
    pub(crate) stack: u32,
    /// What it is passed, if it is a subprogram.
    pub(crate) convention: Convention,
    /// What the subprograms that it calls are passed.
    pub(crate) callees: BTreeMap<FunctionIndex, Convention>,
}

/// By function of the module: what is emitted of it, if anything is.
pub(crate) fn plan(unit: &Unit<'_>) -> Vec<Option<Planned>> {
    let module = unit.verified.module();
    let mut planned: Vec<Option<Planned>> = (0..module.functions.len()).map(|_| None).collect();
    let calls = count_calls(unit);
    for &index in unit.calls.order() {
        let Some(flow) = &unit.calls.flows[index.index()] else {
            continue;
        };
        let passed = |place, callee| match callee {
            Callee::Local(callee) => {
                let planned = planned.get(callee.index()).and_then(Option::as_ref);
                let arguments = planned.map_or(RegisterSet::ARGUMENTS, |planned| planned.convention.arguments);
                arguments.union(unit.calls.inherited[callee.index()])
            }
            _ => unit.read_outside(place, callee),
        };
        let mut body = Body::of(index, module.function(index), flow, passed);
        change(unit, Optimization::Inlining, &mut body, |body| {
            body.inline(|callee| {
                // Nobody may call a program; lowering tells so.
                if module.functions.get(callee.index())?.kind != FunctionKind::Subprogram {
                    return None;
                }
                // What it would find in registers of its caller is not there any more.
                let inherits = unit.calls.inherited[callee.index()].iter().any(|r| r != Reg::R0);
                let body = &planned[callee.index()].as_ref().filter(|_| !inherits)?.body;
                let calls = calls[callee.index()];
                Some(Candidate { body, calls })
            });
        });
        change(unit, Optimization::Threading, &mut body, Body::thread);
        change(unit, Optimization::DeadCode, &mut body, Body::leave_out_dead);
        change(unit, Optimization::Unrolling, &mut body, Body::unroll);
        change(unit, Optimization::Rotation, &mut body, Body::rotate);
        let slots = if unit.makes(Optimization::StackSlots) && !is_too_long(unit, &body) {
            Slots::of(
                &body,
                |function| unit.frame_facts(function),
                |node| match node.op {
                    Instruction::Call(callee) => unit.array_lookup(node.place, callee).is_some(),
                    _ => false,
                },
            )
        } else {
            Slots::default()
        };
        let stack = stack(unit, &body, &slots, &planned);
        let callees = callees(&body, &planned);
        let convention = if unit.makes(Optimization::Conventions) && !is_too_long(unit, &body) {
            Convention::of(&body, &callees, stack > 0)
        } else {
            Convention::FULL
        };
        planned[index.index()] = Some(Planned {
            body,
            slots,
            stack,
            convention,
            callees,
        });
    }
    leave_out_unused(unit, &mut planned);
    planned
}

/// Whether a body must become several native functions.
fn is_too_long(unit: &Unit<'_>, body: &Body) -> bool {
    needs_cutting(body, unit.options.most_work)
}

/// Makes an optimization of a body, unless the body is too long for one native function, or would be then.
fn change(unit: &Unit<'_>, optimization: Optimization, body: &mut Body, with: impl FnOnce(&mut Body)) {
    if !unit.makes(optimization) || is_too_long(unit, body) {
        return;
    }
    let plain = body.clone();
    with(body);
    if is_too_long(unit, body) {
        *body = plain;
    }
}

/// What the subprograms that a body calls are passed.
fn callees(body: &Body, planned: &[Option<Planned>]) -> BTreeMap<FunctionIndex, Convention> {
    let convention = |callee: FunctionIndex| Some(planned.get(callee.index())?.as_ref()?.convention);
    let called = body.nodes().filter_map(|index| match body.node(index).op {
        Instruction::Call(Callee::Local(callee)) => Some((callee, convention(callee)?)),
        _ => None,
    });
    called.collect()
}

/// By function: the calls of it in functions that are reached.
fn count_calls(unit: &Unit<'_>) -> Vec<u32> {
    let module = unit.verified.module();
    let mut calls = vec![0; module.functions.len()];
    for (function, flow) in module.functions.iter().zip(&unit.calls.flows) {
        let Some(flow) = flow else { continue };
        for (at, insn) in (0..).map(InsnIndex).zip(&function.instructions) {
            if let Instruction::Call(Callee::Local(callee)) = insn.op
                && flow.next(at).is_some()
            {
                calls[callee.index()] += 1;
            }
        }
    }
    calls
}

/// Bytes below `r10` that a body, and what it calls, touches as memory; `planned` has its callees.
fn stack(unit: &Unit<'_>, body: &Body, slots: &Slots, planned: &[Option<Planned>]) -> u32 {
    let frame_bytes = STACK_BYTES.cast_unsigned();
    let mut bytes = 0;
    for node in body.nodes().map(|index| body.node(index)) {
        let above = frame_bytes * u32::from(node.frame);
        let facts = unit.frame_facts(node.place.function);
        let in_frame = match facts.filter(|_| unit.makes(Optimization::UnusedStack)) {
            None => frame_bytes,
            Some(_) if slots.of_node(node).is_some() => 0,
            Some(facts) => touched(facts, node.place.instruction),
        };
        let of_callee = match node.op {
            Instruction::Call(Callee::Local(callee)) => {
                planned[callee.index()].as_ref().map_or(0, |planned| planned.stack)
            }
            _ => 0,
        };
        for (below, touched) in [(above, in_frame), (above + frame_bytes, of_callee)] {
            if touched > 0 {
                bytes = bytes.max(below + touched);
            }
        }
    }
    bytes
}

/// How far below `r10` an instruction, or whom it calls, touches the frame of its function.
fn touched(facts: &FrameFacts, at: InsnIndex) -> u32 {
    let access = facts.access(at).map(|access| access.offset);
    let first = facts.escapes.partition_point(|escape| escape.at < at);
    let escapes = facts.escapes[first..].iter().take_while(|escape| escape.at == at);
    let lowest = escapes.map(|escape| escape.bytes.0).chain(access).min();
    lowest.map_or(0, |lowest| lowest.min(0).unsigned_abs())
}

/// Takes away the subprograms that nothing calls any more.
fn leave_out_unused(unit: &Unit<'_>, planned: &mut [Option<Planned>]) {
    let module = unit.verified.module();
    let mut used: Vec<bool> = module
        .functions
        .iter()
        .map(|function| function.kind == FunctionKind::Program)
        .collect();
    // Callers come after their callees.
    for &index in unit.calls.order().iter().rev() {
        let Some(planned) = planned[index.index()].as_ref().filter(|_| used[index.index()]) else {
            continue;
        };
        let body = &planned.body;
        for node in body.nodes().map(|index| body.node(index)) {
            if let Instruction::Call(Callee::Local(callee)) = node.op {
                used[callee.index()] = true;
            }
        }
    }
    for (planned, used) in planned.iter_mut().zip(used) {
        if !used {
            *planned = None;
        }
    }
}
