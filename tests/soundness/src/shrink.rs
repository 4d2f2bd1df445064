//! Makes a program that shows a hole small, as long as it shows one of that kind.

use bpf2sys_bytecode::{Callee, FunctionIndex, Insn, Instruction, Module, Operand};
use bpf2sys_isa_tests::editing::{Body, body, encoded, without};

use crate::judge::{Hole, Judge, Verdict};

/// Most programs that are tried.
const TRIES: u32 = 1500;

/// Shrinks the module; gives the hole that is left of it.
pub fn shrink(judge: &Judge, module: Module, hole: Hole, seed: u64) -> (Module, Hole) {
    let (mut best, mut left, mut tries) = (module, hole, 0);
    'again: loop {
        for smaller in reductions(&best) {
            tries += 1;
            if tries > TRIES {
                return (best, left);
            }
            if let Verdict::Hole(hole) = judge.judge(&smaller, seed).verdict
                && hole.kind == left.kind
            {
                (best, left) = (smaller, hole);
                continue 'again;
            }
        }
        return (best, left);
    }
}

/// Programs with a little less, those with much less first.
fn reductions(module: &Module) -> Vec<Module> {
    let bodies: Vec<Body> = (0..module.functions.len()).map(|f| body(module, f)).collect();
    let longest = bodies.iter().map(Vec::len).max().unwrap_or(0);
    let mut result = Vec::new();
    let mut length = longest.next_power_of_two() / 2;
    while length > 0 {
        for (position, function) in bodies.iter().enumerate() {
            // The last exit stays.
            let last = function.len().saturating_sub(1);
            for start in (0..last).step_by(length) {
                let end = (start + length).min(last);
                result.extend(with(module, &bodies, position, without(function, start, end)));
            }
        }
        length /= 2;
    }
    for (position, function) in bodies.iter().enumerate() {
        for (at, (op, target)) in function.iter().enumerate() {
            for simpler in simpler(*op) {
                let mut changed = function.clone();
                changed[at] = (simpler, *target);
                result.extend(with(module, &bodies, position, changed));
            }
        }
    }
    result
}

/// The same instruction with a number that is easier to read.
fn simpler(op: Instruction) -> Vec<Instruction> {
    match op {
        Instruction::Alu {
            size,
            op,
            dst,
            src: Operand::Imm(imm),
        } if imm.unsigned_abs() > 1 => [0, 1, imm / 2]
            .into_iter()
            .map(|imm| Instruction::Alu {
                size,
                op,
                dst,
                src: Operand::Imm(imm),
            })
            .collect(),
        Instruction::Store {
            width,
            base,
            offset,
            src: Operand::Imm(imm),
        } if imm != 0 => vec![Instruction::Store {
            width,
            base,
            offset,
            src: Operand::Imm(0),
        }],
        _ => Vec::new(),
    }
}

/// The module with another body of one function, without the functions that nothing calls then.
fn with(module: &Module, bodies: &[Body], position: usize, changed: Body) -> Option<Module> {
    let mut all = bodies.to_vec();
    all[position] = changed;
    let mut called = vec![false; all.len()];
    let mut work = vec![0];
    while let Some(function) = work.pop() {
        if std::mem::replace(&mut called[function], true) {
            continue;
        }
        work.extend(all[function].iter().filter_map(|(op, _)| match op {
            Instruction::Call(Callee::Local(callee)) => Some(callee.index()),
            _ => None,
        }));
    }
    let renumbered =
        |function: FunctionIndex| FunctionIndex(called[..function.index()].iter().filter(|c| **c).count() as u32);
    let mut result = module.clone();
    result.functions.clear();
    for (index, function) in module.functions.iter().enumerate() {
        if called[index] {
            let mut function = function.clone();
            function.instructions = Insn::sequence(encoded(&all[index], renumbered)?);
            result.functions.push(function);
        }
    }
    Some(result)
}
