//! Constants for the other side of a branch.
//!
//! A constant that a branch passes on to where it goes is made before the branch by Cranelift, whichever way the branch then goes: in a
//! loop in every round, for the one time that the loop is left. On a block of its own it is made on the way. Where nothing is
//! saved, such a block would cost more than the constant.

use std::collections::BTreeMap;

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, Function, Inst, InstBuilder, InstructionData, Type, Value, types,
};
use cranelift_codegen::loop_analysis::LoopAnalysis;

/// What an edge passes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Passed {
    Value(Value),
    /// Its value and its number of bits.
    Constant(i64, u32),
}

/// An edge: the block, its branch, and which of the two ways.
type Edge = (Block, Inst, usize);

/// Puts a block on the edges out of loops that pass constants, and on those of several branches to one place with the same constants.
pub(crate) fn split(function: &mut Function, loops: &LoopAnalysis) {
    let leaves = |from: Block, to: Block| {
        let inside = loops.innermost_loop(from);
        inside.is_some_and(|inside| !loops.is_in_loop(to, inside))
    };
    // What edges pass, by where they go; and the edges, by branch and way.
    let mut edges: BTreeMap<(Block, Vec<Passed>), Vec<Edge>> = BTreeMap::new();
    for block in function.layout.blocks() {
        let Some((branch, ways)) = super::branch(function, block) else {
            continue;
        };
        for (number, way) in ways.into_iter().enumerate() {
            let Some(passed) = passed(function, way) else { continue };
            if passed.iter().any(|one| matches!(one, Passed::Constant(..))) {
                let to = way.block(&function.dfg.value_lists);
                edges.entry((to, passed)).or_default().push((block, branch, number));
            }
        }
    }
    for ((to, passed), edges) in edges {
        let Some(&(first, ..)) = edges.first() else { continue };
        if edges.len() == 1 && !leaves(first, to) {
            continue;
        }
        let through = on_the_way(function, first, to, &passed);
        for (_, branch, number) in edges {
            let way = BlockCall::new(through, [], &mut function.dfg.value_lists);
            if let InstructionData::Brif { blocks, .. } = &mut function.dfg.insts[branch] {
                blocks[number] = way;
            }
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
