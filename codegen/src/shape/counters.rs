//! Counters that are compared after they were counted.
//!
//! Cranelift's optimizer turns `i + 1 == n` into `i == n - 1`. In a loop `i + 1` is made anyway, for the next round: then the old value has
//! to be kept beside the new one up to the comparison, which takes a move and a jump in each round. This turns it back, and so comes behind
//! the optimizer.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, Function, Inst, InstBuilder, InstructionData, Opcode, Value, types};

use super::{branch, constant, made_by};

/// Compares what a branch passes on where that is the compared value and a constant.
pub(crate) fn compare_counted(function: &mut Function) {
    let blocks: Vec<Block> = function.layout.blocks().collect();
    for block in blocks {
        let Some((branching, ways)) = branch(function, block) else {
            continue;
        };
        let Some((equal, compared, with)) = comparison(function, branching) else {
            continue;
        };
        // A comparison of the lower half of what is counted in full.
        let counted = match made_by(function, compared) {
            Some(InstructionData::Unary {
                opcode: Opcode::Ireduce,
                arg,
            }) => function.dfg.resolve_aliases(arg),
            _ => compared,
        };
        let pool = &function.dfg.value_lists;
        let passed: Vec<Value> = ways
            .iter()
            .flat_map(|way| way.args(pool))
            .filter_map(|argument| argument.as_value())
            .collect();
        let next = passed.into_iter().find_map(|value| {
            let step = sum(function, value, counted)?;
            Some((value, step))
        });
        let Some((next, step)) = next else { continue };
        let kind = function.dfg.value_type(compared);
        let Some(end) = with.checked_add(step).filter(|end| i32::try_from(*end).is_ok()) else {
            continue;
        };
        let location = function.srcloc(branching);
        let mut cursor = FuncCursor::new(function).at_inst(branching).with_srcloc(location);
        let next = if cursor.func.dfg.value_type(next) == kind {
            next
        } else {
            cursor.ins().ireduce(kind, next)
        };
        // A constant of 32 bits has no bits above them.
        let end = if kind == types::I32 { i64::from(end as u32) } else { end };
        let end = cursor.ins().iconst(kind, end);
        let holds = cursor.ins().icmp(equal, next, end);
        if let InstructionData::Brif { arg, .. } = &mut function.dfg.insts[branching] {
            *arg = holds;
        }
    }
}

/// What a branch compares with which constant, if it asks whether they are equal.
fn comparison(function: &Function, branching: Inst) -> Option<(IntCC, Value, i64)> {
    let InstructionData::Brif { arg, .. } = function.dfg.insts[branching] else {
        return None;
    };
    let InstructionData::IntCompare { cond, args, .. } = made_by(function, arg)? else {
        return None;
    };
    if !matches!(cond, IntCC::Equal | IntCC::NotEqual) {
        return None;
    }
    let compared = function.dfg.resolve_aliases(args[0]);
    let bits = constant(function, args[1])?;
    let with = match function.dfg.value_type(compared) {
        types::I32 => i64::from(bits as i32),
        types::I64 => bits,
        _ => return None,
    };
    Some((cond, compared, with))
}

/// The constant that a value is more than another, of the same type.
fn sum(function: &Function, value: Value, other: Value) -> Option<i64> {
    let InstructionData::Binary {
        opcode: Opcode::Iadd,
        args,
    } = made_by(function, value)?
    else {
        return None;
    };
    let [a, b] = args.map(|argument| function.dfg.resolve_aliases(argument));
    if a == other {
        constant(function, b)
    } else if b == other {
        constant(function, a)
    } else {
        None
    }
}
