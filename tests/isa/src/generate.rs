//! Random valid programs, the same for the same seed.
//!
//! A program is valid when it reads only what was written on every way there, accesses only its memory and its stack,
//! computes with no address and ends. Its result and its memory then depend on nothing but the program and the memory it
//! is given, so every engine must agree on them; and a verifier can see that it is valid, because pointers stay in known
//! registers and are moved by constants and masked numbers only. What it computes is folded into the result.

mod calls;
mod code;
mod memory;
mod plan;
mod state;
mod steps;
mod writer;

use bpf2sys_bytecode::{Function, FunctionKind, Insn, Instruction, Module};

use crate::Case;
use crate::random::Random;
use plan::Plan;
pub use plan::Taste;
use writer::Writer;

/// Program `index` of the run with this `seed`.
pub fn generate(seed: u64, index: u64, taste: Taste) -> Case {
    let mut random = Random::of(seed, index);
    let plan = Plan::draw(&mut random, taste);
    let mut constants = Vec::new();
    let mut functions = Vec::new();
    for function in 0..plan.signatures.len() {
        let mut writer = Writer::begin(&mut random, &plan, function);
        // Every function is called: each calls the next one somewhere.
        let before = writer.random.below(plan.lengths[function]);
        writer.steps(before);
        writer.place_all();
        let next = function + 1;
        if next < plan.signatures.len() {
            writer.calls_left = writer.calls_left.max(1);
            writer.call(next);
        }
        writer.steps(plan.lengths[function] - before);
        let (code, pool) = writer.finish();
        constants.extend(pool.map(|pool| pool.values));
        functions.push(code);
    }
    let mut memory: Vec<u8> = (0..plan.memory / 8)
        .flat_map(|_| random.number().to_le_bytes())
        .collect();
    memory.extend(constants.into_iter().flatten().flat_map(u64::to_le_bytes));
    if taste.checked {
        memory.resize(plan.memory_bytes() as usize, 0);
    }
    Case {
        module: module(functions),
        memory,
    }
}

/// A module of bare functions, of which the first is the program.
pub(crate) fn module(functions: Vec<Vec<Instruction>>) -> Module {
    let function = |(index, code): (usize, Vec<Instruction>)| {
        let mut next = 0;
        let instructions = code
            .into_iter()
            .map(|op| {
                let slot = next;
                next += op.slots();
                Insn { slot, op, line: None }
            })
            .collect();
        let (name, kind) = match index {
            0 => ("program".to_owned(), FunctionKind::Program),
            _ => (format!("function{index}"), FunctionKind::Subprogram),
        };
        Function {
            name,
            section: "program".to_owned(),
            section_offset: 0,
            kind,
            instructions,
        }
    };
    Module {
        name: "program".to_owned(),
        sha256: [0; 32],
        functions: functions.into_iter().enumerate().map(function).collect(),
        maps: Vec::new(),
        globals: Vec::new(),
        lines: Vec::new(),
    }
}
