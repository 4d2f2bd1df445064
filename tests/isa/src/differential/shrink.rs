//! Makes a program on which engines disagree small, as long as they do.
//!
//! Only reductions that the strict interpreter accepts are tried: the small program is as valid as the large one, and what
//! is left of it is what the disagreement needs.

use bpf2sys_bytecode::{AluOp, Callee, FunctionIndex, Imm64, Instruction, Module, Operand, Reg, WordSize};

use super::Disagreement;
use crate::editing::{Body, body, encoded, without};
use crate::generate::module;
use crate::{Case, Engine, StrictInterpreter};

/// Most rounds; each is one call of the engine and removes at least one thing.
const ROUNDS: usize = 200;

/// Instructions of a program that is small already.
const FEW: usize = 25;

/// Shrinks the case of a disagreement between the reference and `engine`. The rest of the disagreement is brought up to date.
pub(super) fn shrink(found: &mut Disagreement, engine: &mut dyn Engine) {
    // Two sets of addresses: what depends on them is no number that engines can agree on.
    let mut reference = StrictInterpreter::default();
    let mut elsewhere = StrictInterpreter::at(0x2345_6780, 0x1234_5678_9AB8);
    for _ in 0..ROUNDS {
        let mut smaller = reductions(&found.case);
        let mut expected = Vec::with_capacity(smaller.len());
        smaller.retain(|case| {
            let case = std::slice::from_ref(case);
            let outcome = reference.run(case).remove(0);
            let valid = outcome.is_ok() && elsewhere.run(case).remove(0) == outcome;
            if valid {
                expected.push(outcome);
            }
            valid
        });
        let outcomes = engine.run(&smaller);
        let disagreements = smaller
            .into_iter()
            .zip(expected)
            .zip(outcomes)
            .filter(|((_, e), o)| e != o);
        // Between errors of an engine there is no telling which it is; one that was no error stays none.
        let disagreements = disagreements.filter(|(_, outcome)| match outcome {
            Ok(_) => true,
            Err(error) => found.outcome.is_err() && !engine.refused(error),
        });
        let Some(((case, expected), outcome)) = disagreements.min_by_key(|((case, _), _)| weight(case)) else {
            return;
        };
        found.case = case;
        found.expected = expected;
        found.outcome = outcome;
    }
}

/// How much there is to read in a program.
fn weight(case: &Case) -> (usize, usize, usize) {
    let instructions = || case.module.functions.iter().flat_map(|f| &f.instructions);
    let digits = |insn: &bpf2sys_bytecode::Insn| insn.op.to_string().len();
    let memory = case.memory.iter().filter(|byte| **byte != 0).count();
    (
        instructions().count(),
        instructions().map(digits).sum(),
        memory + case.memory.len(),
    )
}

/// Programs with a little less.
fn reductions(case: &Case) -> Vec<Case> {
    let functions: Vec<Body> = (0..case.module.functions.len())
        .map(|f| body(&case.module, f))
        .collect();
    let few = functions.iter().map(Vec::len).sum::<usize>() < FEW;
    let mut result = Vec::new();
    let mut add = |functions: Vec<Body>, memory: Vec<u8>| {
        if let Some(module) = assembled(functions) {
            result.push(Case { module, memory });
        }
    };
    for (position, function) in functions.iter().enumerate() {
        let with = |changed: Body| {
            let mut all = functions.clone();
            all[position] = changed;
            all
        };
        let mut length = function.len() / 2;
        while length > 0 {
            for start in (0..function.len().saturating_sub(1)).step_by(length) {
                let end = (start + length).min(function.len() - 1); // the last exit stays
                add(with(without(function, start, end)), case.memory.clone());
            }
            length /= 2;
        }
        for (at, (op, _)) in function.iter().enumerate() {
            for simpler in simpler(*op, few) {
                let mut changed = function.clone();
                changed[at] = (simpler, None);
                add(with(changed), case.memory.clone());
            }
        }
    }
    // A function instead of the program that calls it.
    for function in functions.iter().skip(1) {
        let mut all = functions.clone();
        all[0].clone_from(function);
        add(all, case.memory.clone());
    }
    for word in 0..case.memory.len().div_ceil(8) {
        let mut memory = case.memory.clone();
        let end = memory.len().min(8 * word + 8);
        memory[8 * word..end].fill(0);
        if memory != case.memory {
            add(functions.clone(), memory);
        }
    }
    if case.memory.len() >= 8 {
        add(functions, case.memory[..case.memory.len() - 8].to_vec());
    }
    result
}

/// Simpler instructions to have in the place of one; `few` if there are few others, so that more can be tried.
fn simpler(op: Instruction, few: bool) -> Vec<Instruction> {
    let constant = |dst, imm| Instruction::Alu {
        size: WordSize::W64,
        op: AluOp::Mov,
        dst,
        src: Operand::Imm(imm),
    };
    match op {
        Instruction::Alu {
            op: AluOp::Mov,
            src: Operand::Imm(0),
            ..
        } => Vec::new(),
        Instruction::Alu {
            size,
            op: AluOp::Mov,
            dst,
            src: Operand::Imm(imm),
        } => [0, 1, imm / 2]
            .into_iter()
            .filter(|smaller| *smaller != imm)
            .map(|smaller| Instruction::Alu {
                size,
                op: AluOp::Mov,
                dst,
                src: Operand::Imm(smaller),
            })
            .collect(),
        Instruction::Call(Callee::Local(_)) => vec![constant(Reg::R0, 0)],
        Instruction::LoadImm64 {
            dst,
            value: Imm64::Constant(value),
        } => [0, 1, value >> 32, value & 0xFFFF_FFFF]
            .into_iter()
            .filter(|smaller| *smaller != value)
            .map(|smaller| match i32::try_from(smaller) {
                Ok(imm) => constant(dst, imm),
                Err(_) => Instruction::LoadImm64 {
                    dst,
                    value: Imm64::Constant(smaller),
                },
            })
            .collect(),
        Instruction::Load { dst, base, .. } if dst != base => {
            vec![constant(dst, 0), constant(dst, 1), constant(dst, -1)]
        }
        Instruction::Alu { dst, .. } if few => vec![constant(dst, 0), constant(dst, 1), constant(dst, -1)],
        _ => Vec::new(),
    }
}

/// The module of the functions that are still called; `None` if one is called that is not there.
fn assembled(functions: Vec<Body>) -> Option<Module> {
    let calls = |body: &Body| -> Vec<FunctionIndex> {
        let callee = |(op, _): &(Instruction, _)| match op {
            Instruction::Call(Callee::Local(function)) => Some(*function),
            _ => None,
        };
        body.iter().filter_map(callee).collect()
    };
    let mut called = vec![false; functions.len()];
    let mut work = vec![FunctionIndex(0)];
    while let Some(function) = work.pop() {
        if !std::mem::replace(called.get_mut(function.index())?, true) {
            work.extend(calls(&functions[function.index()]));
        }
    }
    let renumbered =
        |function: FunctionIndex| FunctionIndex(called[..function.index()].iter().filter(|c| **c).count() as u32);
    let kept = functions
        .into_iter()
        .enumerate()
        .filter(|(position, _)| called[*position]);
    let code = kept
        .map(|(_, body)| encoded(&body, renumbered))
        .collect::<Option<Vec<_>>>()?;
    Some(module(code))
}
