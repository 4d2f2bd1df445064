//! What the table has of the bytecode, whatever became of it.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{InsnIndex, Instruction, Module};

use crate::table::{Block, Function, LineTable, SlotKind};

/// What an instruction tells about how often its block runs.
pub fn kind(instruction: &Instruction) -> SlotKind {
    match instruction {
        Instruction::JumpIf { .. } => SlotKind::Condition,
        // No compiler makes them run more or less often than the program says.
        Instruction::Load { .. } | Instruction::Store { .. } | Instruction::Atomic { .. } | Instruction::Call(_) => {
            SlotKind::Effect
        }
        Instruction::Exit => SlotKind::Exit,
        _ => SlotKind::Value,
    }
}

/// Files, functions and texts of a module. Functions have the module's order.
pub fn of_module(module: &Module) -> LineTable {
    let mut table = LineTable::default();
    let mut files: BTreeMap<&str, u32> = BTreeMap::new();
    for function in &module.functions {
        let count = function.instructions.len() as u32;
        let targets = (0..count).filter_map(|index| function.jump_target(InsnIndex(index)));
        let behind = (0..count).filter(|index| ends_block(&function.instructions[*index as usize].op));
        let mut starts: BTreeSet<u32> = targets.map(|target| target.0).collect();
        starts.extend(behind.map(|index| index + 1).filter(|index| *index < count));
        starts.insert(0);
        let starts: Vec<u32> = starts.into_iter().filter(|start| *start < count).collect();
        let block_of = |index: InsnIndex| starts.binary_search(&index.0).ok().map(|block| block as u32);
        let mut first_line = None;
        let mut blocks = Vec::with_capacity(starts.len());
        for (number, &start) in starts.iter().enumerate() {
            let end = starts.get(number + 1).copied().unwrap_or(count);
            let mut lines = Vec::new();
            for insn in &function.instructions[start as usize..end as usize] {
                let Some(line) = module.line(insn) else { continue };
                let next = files.len() as u32;
                let file = *files.entry(&line.file).or_insert(next);
                if file == next {
                    table.files.push(line.file.clone());
                }
                table
                    .texts
                    .entry((file, line.line))
                    .or_insert_with(|| line.text.clone());
                if !lines.contains(&(file, line.line)) {
                    lines.push((file, line.line));
                }
                first_line = first_line.or(Some((file, line.line)));
            }
            let last = InsnIndex(end - 1);
            let op = &function.instructions[last.index()].op;
            let goes_on = !matches!(op, Instruction::Exit | Instruction::Jump { .. });
            let behind = goes_on.then(|| block_of(InsnIndex(end))).flatten();
            let taken = function.jump_target(last).and_then(block_of);
            blocks.push(Block {
                first: function.instructions[start as usize].slot,
                lines,
                next: [taken, behind].into_iter().flatten().collect(),
            });
        }
        table.functions.push(Function {
            name: function.name.clone(),
            rva: None,
            line: first_line,
            blocks,
        });
    }
    table
}

fn ends_block(op: &Instruction) -> bool {
    op.jump_offset().is_some() || matches!(op, Instruction::Exit)
}
