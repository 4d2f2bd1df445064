//! The code of one program as the engine takes it: one row of slots.
//!
//! The program comes first and the functions that it reaches follow, callers before callees; calls and map references
//! hold the numbers that the engine expects. A slot's place in the module is kept, so that what the engine says about a
//! slot finds its instruction.
//!
//! The engine copies what is called to where it is called, at every call of the row in turn, those in subprograms
//! included. A function whose own calls had their turn before it is copied is copied with the copies in it, and then it
//! breaks off because a place is taken twice. With callers first that can't happen: no function is copied after its
//! turn. In module order, which is mostly callees first, five functions that call each other in a row are enough.

use std::collections::HashMap;
use std::sync::Arc;

use bpf2sys_bytecode::{Callee, FunctionIndex, InsnIndex, Instruction, Module, Reference, encode};
use prevail::spec::vm_isa::EbpfInst;

use super::fd::Numbers;

/// The slots of a program and its subprograms.
pub(super) struct Code {
    /// What the engine reads.
    pub slots: Vec<EbpfInst>,
    /// The descriptors in them.
    pub maps: Arc<Numbers>,
    /// Where each function starts, by ascending start; callers before callees.
    starts: Vec<(u32, FunctionIndex)>,
}

impl Code {
    /// Lays out `program` and everything it reaches.
    pub fn new(module: &Module, program: FunctionIndex, maps: Arc<Numbers>) -> Code {
        let mut starts = Vec::new();
        let mut next = 0;
        for function in callers_first(module, program) {
            starts.push((next, function));
            next += module.function(function).slots();
        }
        let start_of: HashMap<FunctionIndex, u32> = starts.iter().map(|(start, f)| (*f, *start)).collect();
        let mut slots = Vec::with_capacity(next as usize);
        for (start, function) in &starts {
            for insn in &module.function(*function).instructions {
                let after = start + insn.slot + 1;
                let encoded = encode(&insn.op, |reference| match reference {
                    Reference::Map(map) => maps.of_map(map),
                    Reference::Global(global) => maps.of_map(module.globals[global.index()].map),
                    // The engine asks the platform what the number means.
                    Reference::BtfFunction(function) => function.0.cast_signed(),
                    // Callees of reached functions are reached too.
                    Reference::Function(callee) => start_of[&callee].wrapping_sub(after).cast_signed(),
                });
                slots.extend(
                    encoded
                        .into_iter()
                        .map(|s| EbpfInst::new(s.opcode, s.dst, s.src, s.offset, s.imm)),
                );
            }
        }
        Code { slots, maps, starts }
    }

    /// The functions in the code, callers before callees, with the slot each starts at.
    pub fn functions(&self) -> impl Iterator<Item = (u32, FunctionIndex)> + '_ {
        self.starts.iter().copied()
    }

    /// The instruction that starts at a slot of the code.
    pub fn place(&self, module: &Module, slot: i32) -> Option<(FunctionIndex, InsnIndex)> {
        let slot = u32::try_from(slot).ok()?;
        let at = self
            .starts
            .partition_point(|(start, _)| *start <= slot)
            .checked_sub(1)?;
        let (start, function) = self.starts[at];
        Some((function, module.function(function).at_slot(slot - start)?))
    }
}

/// A program and the functions that it reaches: each stands behind all that call it. There must be no recursion.
fn callers_first(module: &Module, program: FunctionIndex) -> Vec<FunctionIndex> {
    let callees = |function: FunctionIndex| {
        let instructions = &module.function(function).instructions;
        instructions.iter().filter_map(|insn| match insn.op {
            Instruction::Call(Callee::Local(callee)) => Some(callee),
            _ => None,
        })
    };
    let mut calls = vec![0usize; module.functions.len()];
    for function in std::iter::once(program).chain(module.reachable_from(program)) {
        for callee in callees(function) {
            calls[callee.index()] += 1;
        }
    }
    let mut order = vec![program];
    let mut next = 0;
    while let Some(&function) = order.get(next) {
        next += 1;
        for callee in callees(function) {
            calls[callee.index()] -= 1;
            if calls[callee.index()] == 0 {
                order.push(callee);
            }
        }
    }
    order
}
