//! Functions whose instructions can be taken out: jumps name instructions and not distances.

use bpf2sys_bytecode::{Callee, FunctionIndex, InsnIndex, Instruction, Module};

/// A function whose jumps name the position of the instruction that they go to.
pub type Body = Vec<(Instruction, Option<usize>)>;

/// Function number `function` of a module.
pub fn body(module: &Module, function: usize) -> Body {
    let function = &module.functions[function];
    let targets = (0..function.instructions.len())
        .map(|index| function.jump_target(InsnIndex(index as u32)).map(InsnIndex::index));
    function.instructions.iter().map(|insn| insn.op).zip(targets).collect()
}

/// `function` without the instructions `start..end`; jumps to them go to the next one.
pub fn without(function: &Body, start: usize, end: usize) -> Body {
    let moved = |target: usize| {
        if target >= end {
            target - (end - start)
        } else {
            target.min(start)
        }
    };
    let kept = function[..start].iter().chain(&function[end..]);
    kept.map(|(op, target)| (*op, target.map(moved))).collect()
}

/// The instructions with their jump offsets; `None` if a jump is too long or goes out of the function.
pub fn encoded(body: &Body, renumbered: impl Fn(FunctionIndex) -> FunctionIndex) -> Option<Vec<Instruction>> {
    let mut slots = vec![0];
    for (op, _) in body {
        slots.push(slots.last()? + op.slots() as i32);
    }
    let encode = |(position, (op, target)): (usize, &(Instruction, Option<usize>))| {
        let mut op = *op;
        if let Some(target) = target {
            let distance = slots.get(*target).filter(|_| *target < body.len())? - slots[position + 1];
            match &mut op {
                Instruction::Jump { offset, .. } => *offset = distance,
                Instruction::JumpIf { offset, .. } => *offset = i16::try_from(distance).ok()?,
                _ => {}
            }
        }
        if let Instruction::Call(Callee::Local(function)) = &mut op {
            *function = renumbered(*function);
        }
        Some(op)
    };
    body.iter().enumerate().map(encode).collect()
}
