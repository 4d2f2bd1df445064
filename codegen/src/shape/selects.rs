//! Branches that only choose between values.
//!
//! `if c { x = a }` and `if c { x = a } else { x = b }`, where `a` and `b` take a few instructions without effects, become a
//! conditional move, which no processor predicts wrongly, and make a block of what were three or four.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, Function, Inst, InstBuilder, InstructionData, Opcode, Value, types,
};

use super::{constant, is_cheap, made_by};

/// Most instructions that are computed for nothing where a branch would have gone the other way.
const MOST_MOVED: usize = 3;
/// Most values that are chosen.
const MOST_CHOSEN: usize = 2;

/// Turns branches into selects, inner ones first.
pub(super) fn make(function: &mut Function) {
    // Behind what they lead to, so that a branch around a branch sees what became of that.
    let mut blocks: Vec<Block> = function.layout.blocks().collect();
    blocks.reverse();
    let mut count = super::ways(function);
    for block in blocks {
        while convert(function, block, &mut count) {}
    }
}

/// A way from a branch to where both ways meet.
struct Way {
    /// The block between, with nothing but what can be moved.
    between: Option<Block>,
    /// Where it leads to.
    to: Block,
    /// With which values.
    values: Vec<Value>,
}

/// Turns the branch at the end of a block into a select, if it can be one.
fn convert(function: &mut Function, block: Block, count: &mut SecondaryMap<Block, u32>) -> bool {
    let Some((branch, ways)) = super::branch(function, block) else {
        return false;
    };
    let follow = |way: BlockCall| follow(function, way, count);
    let (Some(taken), Some(otherwise)) = (follow(ways[0]), follow(ways[1])) else {
        return false;
    };
    let Some((taken, otherwise)) = meeting(taken, otherwise) else {
        return false;
    };
    if taken.to == block {
        return false;
    }
    let moved: Vec<Inst> = [&taken, &otherwise]
        .into_iter()
        .filter_map(|way| way.between)
        .flat_map(|between| function.layout.block_insts(between))
        .filter(|inst| !function.dfg.insts[*inst].opcode().is_terminator())
        .collect();
    let costs = |inst: &&Inst| function.dfg.insts[**inst].opcode() != Opcode::Iconst;
    let chosen: Vec<(Value, Value)> = taken
        .values
        .iter()
        .copied()
        .zip(otherwise.values.iter().copied())
        .collect();
    let differ = chosen.iter().filter(|(a, b)| a != b).count();
    if moved.iter().filter(costs).count() > MOST_MOVED || differ > MOST_CHOSEN {
        return false;
    }
    let InstructionData::Brif { arg: condition, .. } = function.dfg.insts[branch] else {
        return false;
    };
    let location = function.srcloc(branch);
    for inst in moved {
        function.layout.remove_inst(inst);
        function.layout.insert_inst(inst, branch);
    }
    let mut cursor = FuncCursor::new(function).at_inst(branch).with_srcloc(location);
    let values: Vec<BlockArg> = chosen
        .into_iter()
        .map(|(a, b)| {
            let value = if a == b {
                a
            } else {
                choose(&mut cursor, condition, a, b)
            };
            value.into()
        })
        .collect();
    cursor.ins().jump(taken.to, &values);
    function.layout.remove_inst(branch);
    // Of two ways there is one left.
    count[taken.to] -= 1;
    for between in [taken.between, otherwise.between].into_iter().flatten() {
        let insts: Vec<Inst> = function.layout.block_insts(between).collect();
        for inst in insts {
            function.layout.remove_inst(inst);
        }
        function.layout.remove_block(between);
    }
    true
}

/// `a` if a condition holds, else `b`. Of constants that are one apart the condition is the difference: a conditional move would take
/// one of them from memory.
fn choose(cursor: &mut FuncCursor<'_>, condition: Value, a: Value, b: Value) -> Value {
    let kind = cursor.func.dfg.value_type(a);
    let apart = match (constant(cursor.func, a), constant(cursor.func, b)) {
        (Some(a), Some(b)) => a.wrapping_sub(b),
        _ => 0,
    };
    if !(apart == 1 || apart == -1) || kind == types::I8 {
        return cursor.ins().select(condition, a, b);
    }
    // A bit that is added to the smaller one: that needs no other register for it.
    let bit = match (made_by(cursor.func, condition), apart) {
        (Some(InstructionData::IntCompare { .. }), 1) => condition,
        (Some(InstructionData::IntCompare { cond, args, .. }), _) => {
            cursor.ins().icmp(cond.complement(), args[0], args[1])
        }
        (_, 1) => cursor.ins().icmp_imm_s(IntCC::NotEqual, condition, 0),
        _ => cursor.ins().icmp_imm_s(IntCC::Equal, condition, 0),
    };
    let one = cursor.ins().uextend(kind, bit);
    let smaller = if apart == 1 { b } else { a };
    cursor.ins().iadd(smaller, one)
}

/// Both ways through a block or not: where the way leads directly, and where it leads through the block that it goes to.
fn follow(function: &Function, way: BlockCall, count: &SecondaryMap<Block, u32>) -> Option<(Way, Option<Way>)> {
    let pool = &function.dfg.value_lists;
    let plain = |call: &BlockCall| {
        call.args(pool)
            .map(|argument| argument.as_value().map(|value| function.dfg.resolve_aliases(value)))
            .collect::<Option<Vec<Value>>>()
    };
    let between = way.block(pool);
    let direct = Way {
        between: None,
        to: between,
        values: plain(&way)?,
    };
    let through = || {
        let last = function.layout.last_inst(between)?;
        let InstructionData::Jump { destination, .. } = function.dfg.insts[last] else {
            return None;
        };
        let only_moves = function
            .layout
            .block_insts(between)
            .all(|inst| inst == last || can_move(function, inst));
        if count[between] != 1 || function.dfg.num_block_params(between) != 0 || !only_moves {
            return None;
        }
        Some(Way {
            between: Some(between),
            to: destination.block(pool),
            values: plain(&destination)?,
        })
    };
    Some((direct, through()))
}

/// Two ways to the same block.
fn meeting(taken: (Way, Option<Way>), otherwise: (Way, Option<Way>)) -> Option<(Way, Way)> {
    let same = |a: &Way, b: &Option<Way>| b.as_ref().is_some_and(|b| a.to == b.to && Some(a.to) != b.between);
    match (taken, otherwise) {
        ((direct, _), (_, through)) if same(&direct, &through) => Some((direct, through?)),
        ((_, through), (direct, _)) if same(&direct, &through) => Some((through?, direct)),
        ((_, Some(a)), (_, Some(b))) if a.to == b.to && a.between != b.between => Some((a, b)),
        _ => None,
    }
}

/// Whether an instruction may be made though a branch would have gone another way: it has no effects, can't trap, and is cheap.
fn can_move(function: &Function, inst: Inst) -> bool {
    let opcode = function.dfg.insts[inst].opcode();
    is_cheap(opcode) || matches!(opcode, Opcode::Iconst | Opcode::Icmp)
}
