//! Which callee is in which slot of a program's table of callees (native module contract §7, "Helpers", "BTF functions").
//!
//! A module without subprograms has a table per program. With subprograms, whose code is shared, a callee needs the same
//! slot in every program: then all tables have the same length, ascending, and a program has a hole for each callee that it
//! does not reach.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{Callee, Function, FunctionIndex, FunctionKind, InsnIndex, Instruction};
use bpf2sys_verifier::{VerifiedModule, VerifiedProgram};

/// The tables of a module, for one kind of callee.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    /// By function: the slot of each callee that its code may call.
    slots: Vec<BTreeMap<T, u32>>,
    /// By program, in the order of [`VerifiedModule::programs`]: the callees, `None` for a hole.
    programs: Vec<Vec<Option<T>>>,
}

impl<T: Copy + Ord> Slots<T> {
    /// The tables of a module whose programs, in the order of [`VerifiedModule::programs`], call `used` through their
    /// subprograms or themselves: each once, and in the order of the table if the module has no subprograms.
    /// `unreached` is what other subprograms call. bpf2c gives that a slot too, which is a hole everywhere.
    pub(super) fn of(verified: &VerifiedModule, used: Vec<Vec<T>>, unreached: &[T]) -> Slots<T> {
        let functions = &verified.module().functions;
        let mut tables = Slots {
            slots: vec![BTreeMap::new(); functions.len()],
            programs: Vec::with_capacity(used.len()),
        };
        if functions.iter().any(|f| f.kind == FunctionKind::Subprogram) {
            let all: BTreeSet<T> = used.iter().flatten().chain(unreached).copied().collect();
            tables.slots.fill(number(all.iter().copied()));
            for callees in used {
                let callees: BTreeSet<T> = callees.into_iter().collect();
                let table = all.iter().map(|callee| callees.contains(callee).then_some(*callee));
                tables.programs.push(table.collect());
            }
        } else {
            for (program, callees) in verified.programs().iter().zip(used) {
                tables.slots[program.function.index()] = number(callees.iter().copied());
                tables.programs.push(callees.into_iter().map(Some).collect());
            }
        }
        tables
    }

    /// The slot of a callee in the table of every program that `function` can run in.
    pub(crate) fn slot(&self, function: FunctionIndex, callee: T) -> Option<u32> {
        self.slots.get(function.index())?.get(&callee).copied()
    }

    /// The table of the program at `position` of [`VerifiedModule::programs`]; `None` marks a hole.
    pub(crate) fn of_program(&self, position: usize) -> &[Option<T>] {
        &self.programs[position]
    }
}

fn number<T: Ord>(callees: impl Iterator<Item = T>) -> BTreeMap<T, u32> {
    callees.zip(0..).collect()
}

/// A call in a program, or in a subprogram that it reaches.
pub(super) struct ProgramCall<'a> {
    /// What is called.
    pub(super) callee: Callee,
    /// The function that calls.
    pub(super) function: &'a Function,
    /// Where in it.
    pub(super) index: InsnIndex,
    /// Whether any execution gets there.
    pub(super) reachable: bool,
}

/// The calls of a program, its own first.
pub(super) fn calls_of<'a>(
    verified: &'a VerifiedModule,
    program: &'a VerifiedProgram,
) -> impl Iterator<Item = ProgramCall<'a>> {
    let functions = std::iter::once(&program.function).chain(&program.reachable);
    functions.flat_map(move |&caller| {
        let function = verified.module().function(caller);
        let facts = &verified.facts(caller).instructions;
        let places = (0..).map(InsnIndex).zip(&function.instructions);
        places.filter_map(move |(index, insn)| match insn.op {
            Instruction::Call(callee) => Some(ProgramCall {
                callee,
                function,
                index,
                reachable: facts.get(index.index()).is_none_or(|f| f.reachable),
            }),
            _ => None,
        })
    })
}

/// The calls in subprograms that no program reaches.
pub(super) fn unreached_calls(verified: &VerifiedModule) -> impl Iterator<Item = Callee> {
    let module = verified.module();
    let programs = verified.programs().iter();
    let reached: BTreeSet<FunctionIndex> = programs
        .flat_map(|program| std::iter::once(program.function).chain(program.reachable.iter().copied()))
        .collect();
    (0..)
        .map(FunctionIndex)
        .zip(&module.functions)
        .filter(move |(index, _)| !reached.contains(index))
        .flat_map(|(_, function)| &function.instructions)
        .filter_map(|insn| match insn.op {
            Instruction::Call(callee) => Some(callee),
            _ => None,
        })
}
