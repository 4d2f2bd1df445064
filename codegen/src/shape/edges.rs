//! Constants for the other side of a branch.
//!
//! A constant that a branch passes on to where it goes is made before the branch by Cranelift, whichever way the branch then goes: in a
//! loop in every round, for the one time that the loop is left. On a block of its own it is made on the way.

use std::collections::BTreeMap;

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{Block, BlockArg, BlockCall, Function, InstBuilder, InstructionData, Type, Value, types};

/// What an edge passes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Passed {
    Value(Value),
    /// Its value and its number of bits.
    Constant(i64, u32),
}

/// Puts a block on the edges of conditional branches that pass constants; one for all that go to the same place with the same.
pub(super) fn split(function: &mut Function) {
    let blocks: Vec<Block> = function.layout.blocks().collect();
    let mut between: BTreeMap<(Block, Vec<Passed>), Block> = BTreeMap::new();
    for block in blocks {
        let Some((branch, mut ways)) = super::branch(function, block) else {
            continue;
        };
        let mut changed = false;
        for way in &mut ways {
            let Some(passed) = passed(function, *way) else { continue };
            if !passed.iter().any(|one| matches!(one, Passed::Constant(..))) {
                continue;
            }
            let to = way.block(&function.dfg.value_lists);
            let through = *between
                .entry((to, passed))
                .or_insert_with_key(|(to, passed)| on_the_way(function, block, *to, passed));
            *way = BlockCall::new(through, [], &mut function.dfg.value_lists);
            changed = true;
        }
        if changed && let InstructionData::Brif { blocks, .. } = &mut function.dfg.insts[branch] {
            *blocks = ways;
        }
    }
}

fn passed(function: &Function, way: BlockCall) -> Option<Vec<Passed>> {
    way.args(&function.dfg.value_lists)
        .map(|argument| {
            let value = function.dfg.resolve_aliases(argument.as_value()?);
            Some(match super::constant(function, value) {
                Some(bits) => Passed::Constant(bits, function.dfg.value_type(value).bits()),
                None => Passed::Value(value),
            })
        })
        .collect()
}

/// A block behind `after` that goes to `to` and makes the constants for it.
fn on_the_way(function: &mut Function, after: Block, to: Block, passed: &[Passed]) -> Block {
    let block = function.dfg.make_block();
    function.layout.insert_block_after(block, after);
    let mut cursor = FuncCursor::new(function).at_bottom(block);
    let arguments: Vec<BlockArg> = passed
        .iter()
        .map(|one| match one {
            Passed::Value(value) => BlockArg::Value(*value),
            Passed::Constant(bits, size) => {
                let kind = Type::int_with_byte_size((size / 8) as u16).unwrap_or(types::I64);
                BlockArg::Value(cursor.ins().iconst(kind, *bits))
            }
        })
        .collect();
    cursor.ins().jump(to, &arguments);
    block
}
