//! Who touches which bytes of the stack frames of a module.
//!
//! Given: a module whose programs are proven. Computed: [`FrameFacts`] of each function that a program reaches.
//!
//! # Why it is safe
//!
//! It uses what the engine knows of values only for two things: the bytes of its own frame that an access at an unknown distance is proven
//! to stay in, and sizes that are passed to helpers. Otherwise it uses the verdict: each access lies in the region that its address was made
//! from, and of the stack in the frames of functions that are active, from the bottom of the running function's frame up.
//! Frames of nested calls may lie beside each other, so an address made from one frame may be moved into another.
//!
//! An address in a frame can only be made from the frame's `r10`, or from an address that was made from one. So all values are
//! followed from there ([`value`]): through moves and sums, into the own frame and back (a value that is spilled), into calls and
//! back. A value about which that fails is [`Derived`](value::Value::Derived), and remembers from what; a value that no address went
//! into is `Plain`, and an access through it touches no frame.
//!
//! What a function does through its arguments is computed once, in terms of the arguments ([`summary`]), callees first;
//! there are no cycles in the calls of proven programs. At each call it is applied to what is passed:
//! * An access at a known distance from an argument that is a known byte of the caller's frame touches known bytes of it.
//! * An access at an unknown distance may go anywhere in the caller's frame, in those above it, and in those below it, down to the
//!   running function's: nothing is known then of the frames of the callee and of what it calls.
//! * An access above the own `r10`, known or not, makes all bytes of all callers escape at their calls.
//!
//! Registers that a function finds as its caller left them (`r0`, `r6` to `r9`) may be anything. Where an address in a frame is
//! stored anywhere but into a known place of its own frame, every load of 8 bytes from there may give it: then all functions are
//! followed anew with that knowledge, until nothing new is stored.
//!
//! On the way, pointers to map values are followed too, from the look-up that found them or the `lddw` of a section: through
//! sums (the engine lets only numbers be added) and through the own frame, as long as nothing else can have written there.
//!
//! Helpers, and functions of other modules, access the memory that their prototypes name, as long as the prototypes say, during
//! the call (native module contract §6.4); of arguments whose size is not known they may access all up to the end of the stack.

mod follow;
mod slots;
mod summary;
mod value;

use std::collections::BTreeSet;
use std::sync::Arc;

use bpf2sys_bytecode::{Callee, FunctionIndex, InsnIndex, Instruction, Module, Reg};
use bpf2sys_platform::{Platform, ProgramType};

use crate::{FrameFacts, FunctionFacts, Object, VerifiedProgram};
use follow::{Follow, Followed};
use summary::Summary;
use value::Stored;

/// What the analysis of all functions shares.
pub(crate) struct Subject<'a> {
    pub module: &'a Module,
    pub platform: &'a Platform,
    pub programs: &'a [VerifiedProgram],
    /// For the one map of a call, and for the largest size that a register can hold.
    pub facts: &'a [FunctionFacts],
}

/// What a register points into at an instruction, if it holds a pointer to a map value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegisterObject {
    pub at: InsnIndex,
    pub register: Reg,
    pub object: Object,
}

/// What was found of a function.
#[derive(Default)]
pub(crate) struct Found {
    /// `None` if nothing is known.
    pub frame: Option<Box<FrameFacts>>,
    /// In order of instructions.
    pub objects: Vec<RegisterObject>,
}

/// Follows addresses in all functions, and tells what was found of each.
pub(crate) fn follow(subject: &Subject<'_>) -> Vec<Found> {
    let module = subject.module;
    let count = module.functions.len();
    let types = types(subject);
    let order = callees_first(module, subject.programs);
    let mut stored = Stored::default();
    let followed = loop {
        let mut followed: Vec<Option<Followed>> = (0..count).map(|_| None).collect();
        let before = stored;
        for function in &order {
            let follow = Follow {
                subject,
                function: *function,
                types: &types[function.index()],
                callees: &followed,
                stored,
            };
            let result = follow.run();
            stored = stored.join(result.stored);
            followed[function.index()] = Some(result);
        }
        if stored == before {
            break followed;
        }
    };
    let touched = touched_from_above(module, &followed);
    let found = |(index, followed): (usize, Option<Followed>)| {
        let Some(followed) = followed else {
            return Found::default();
        };
        let frame = slots::facts(&module.functions[index], followed.touches);
        Found {
            frame: (!touched[index]).then(|| Box::new(frame)),
            objects: followed.objects,
        }
    };
    followed.into_iter().enumerate().map(found).collect()
}

/// The program types of the programs that reach each function.
fn types<'a>(subject: &Subject<'a>) -> Vec<Vec<&'a ProgramType>> {
    let mut types: Vec<Vec<&ProgramType>> = vec![Vec::new(); subject.module.functions.len()];
    for program in subject.programs {
        for function in std::iter::once(&program.function).chain(&program.reachable) {
            let known = &mut types[function.index()];
            if !known
                .iter()
                .any(|t| std::ptr::eq(*t, Arc::as_ptr(&program.program_type)))
            {
                known.push(&program.program_type);
            }
        }
    }
    types
}

/// The functions that programs reach, each behind those that it calls.
fn callees_first(module: &Module, programs: &[VerifiedProgram]) -> Vec<FunctionIndex> {
    let mut order = Vec::new();
    let mut seen = vec![false; module.functions.len()];
    for program in programs {
        // A function, and how many of its callees have been dealt with.
        let mut open = vec![(program.function, callees(module, program.function), 0)];
        if std::mem::replace(&mut seen[program.function.index()], true) {
            continue;
        }
        while let Some((function, called, next)) = open.last_mut() {
            let Some(callee) = called.get(*next).copied() else {
                order.push(*function);
                open.pop();
                continue;
            };
            *next += 1;
            if !std::mem::replace(&mut seen[callee.index()], true) {
                open.push((callee, callees(module, callee), 0));
            }
        }
    }
    order
}

/// The functions that a function calls, each once.
fn callees(module: &Module, function: FunctionIndex) -> Vec<FunctionIndex> {
    let instructions = &module.function(function).instructions;
    let called: BTreeSet<FunctionIndex> = instructions
        .iter()
        .filter_map(|insn| match insn.op {
            Instruction::Call(Callee::Local(callee)) => Some(callee),
            _ => None,
        })
        .collect();
    called.into_iter().collect()
}

/// Which functions' frames may be touched through addresses from above: those to which such an address is passed, and all that
/// they call.
fn touched_from_above(module: &Module, followed: &[Option<Followed>]) -> Vec<bool> {
    let mut touched = vec![false; followed.len()];
    for callee in followed.iter().flatten().flat_map(|f| &f.reaches_below) {
        touched[callee.index()] = true;
        for below in module.reachable_from(*callee) {
            touched[below.index()] = true;
        }
    }
    touched
}

/// What a callee does, if it is known.
fn summary(followed: &[Option<Followed>], callee: FunctionIndex) -> Option<&Summary> {
    followed.get(callee.index())?.as_ref().map(|f| &f.summary)
}
