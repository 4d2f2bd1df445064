//! Constants for the other side of a branch.
//!
//! A constant that a branch passes on to where it goes is made before the branch by Cranelift, whichever way the branch then goes: in a
//! loop in every round, for the one time that the loop is left. On a block of its own it is made on the way.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{Block, BlockCall, Function, InstBuilder, InstructionData, Opcode, Value};

/// Puts a block on each edge of a conditional branch that passes constants.
pub(super) fn split(function: &mut Function) {
    let blocks: Vec<Block> = function.layout.blocks().collect();
    for block in blocks {
        let Some((branch, mut ways)) = super::branch(function, block) else {
            continue;
        };
        let mut changed = false;
        for way in &mut ways {
            let pool = &function.dfg.value_lists;
            let arguments: Vec<_> = way.args(pool).collect();
            let constant = |value: Value| {
                let made_by = function.dfg.value_def(function.dfg.resolve_aliases(value)).inst();
                made_by.is_some_and(|inst| function.dfg.insts[inst].opcode() == Opcode::Iconst)
            };
            if !arguments.iter().filter_map(|a| a.as_value()).any(constant) {
                continue;
            }
            let to = way.block(pool);
            let between = function.dfg.make_block();
            let mut cursor = FuncCursor::new(function);
            cursor.insert_block_after(between, block);
            cursor.ins().jump(to, &arguments);
            *way = BlockCall::new(between, [], &mut function.dfg.value_lists);
            changed = true;
        }
        if changed && let InstructionData::Brif { blocks, .. } = &mut function.dfg.insts[branch] {
            *blocks = ways;
        }
    }
}

trait InsertAfter {
    fn insert_block_after(&mut self, new: Block, after: Block);
}

impl InsertAfter for FuncCursor<'_> {
    fn insert_block_after(&mut self, new: Block, after: Block) {
        self.func.layout.insert_block_after(new, after);
        self.goto_bottom(new);
    }
}
