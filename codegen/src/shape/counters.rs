//! Counters that are compared after they were counted.
//!
//! Cranelift's optimizer turns `i + 1 == n` into `i == n - 1`. In a loop `i + 1` is made anyway, for the next round: then the old value has
//! to be kept beside the new one up to the comparison, which takes a move and a jump in each round. This turns it back, and so comes behind
//! the optimizer.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, BlockCall, Function, Inst, InstBuilder, InstructionData, Opcode, Value, types};

use super::{branch, constant, cursor_before, made_by, replace, whole};

/// Compares what a branch passes on where that is the compared value and a constant. What is only passed on by a block behind the branch is counted
/// before the branch, and the block is left out if that was all.
pub(crate) fn compare_counted(function: &mut Function) {
    let ways_in = super::ways(function);
    let blocks: Vec<Block> = function.layout.blocks().collect();
    for block in blocks {
        let Some((branching, ways)) = branch(function, block) else {
            continue;
        };
        let Some((equal, compared, with)) = comparison(function, branching) else {
            continue;
        };
        // A comparison of the lower half of what is counted in full.
        let counted = whole(function, compared);
        let through = ways.map(|way| passed_on(function, way, &ways_in));
        let calls = ways
            .into_iter()
            .chain(through.into_iter().flatten().map(|(_, way)| way));
        let pool = &function.dfg.value_lists;
        let passed: Vec<Value> = calls
            .flat_map(|way| way.args(pool).filter_map(|argument| argument.as_value()))
            .collect();
        let kind = function.dfg.value_type(compared);
        let next = passed.into_iter().find_map(|value| {
            let summed = match made_by(function, value) {
                Some(InstructionData::Unary {
                    opcode: Opcode::Uextend,
                    arg,
                }) => function.dfg.resolve_aliases(arg),
                _ => value,
            };
            // Of fewer bits than are compared, it tells nothing.
            let step = sum(function, summed, counted)?;
            (function.dfg.value_type(summed).bits() >= kind.bits()).then_some((summed, step))
        });
        let Some((next, step)) = next else { continue };
        let Some(end) = with.checked_add(step).filter(|end| i32::try_from(*end).is_ok()) else {
            continue;
        };
        let blocks = through.map(|through| through.map(|(block, _)| block));
        let next = before(function, branching, (next, blocks), step, [counted, compared]);
        let mut cursor = cursor_before(function, branching);
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
        for (number, through) in through.into_iter().enumerate() {
            if let Some((through, onward)) = through {
                leave_out(function, through, (branching, number, onward));
            }
        }
    }
}

/// The block that a way leads to, if it has no other and goes on to one place, and that way.
fn passed_on(function: &Function, way: BlockCall, ways_in: &SecondaryMap<Block, u32>) -> Option<(Block, BlockCall)> {
    let to = way.block(&function.dfg.value_lists);
    if ways_in[to] != 1 || !function.dfg.block_params(to).is_empty() {
        return None;
    }
    match function.dfg.insts[function.layout.last_inst(to)?] {
        InstructionData::Jump { destination, .. } => Some((to, destination)),
        _ => None,
    }
}

/// A sum of one of two values and a constant as it is before the branch, where it may be made in one of two blocks behind it.
fn before(
    function: &mut Function,
    branching: Inst,
    (sum, behind): (Value, [Option<Block>; 2]),
    step: i64,
    of: [Value; 2],
) -> Value {
    let made_by = function.dfg.value_def(sum).inst();
    let is_behind = |inst: &Inst| {
        let block = function.layout.inst_block(*inst);
        block.is_some() && behind.contains(&block)
    };
    let Some(made_by) = made_by.filter(is_behind) else {
        return sum;
    };
    let kind = function.dfg.value_type(sum);
    let Some(of) = of.into_iter().find(|value| function.dfg.value_type(*value) == kind) else {
        return sum;
    };
    let location = function.srcloc(made_by);
    let mut cursor = FuncCursor::new(function).at_inst(branching).with_srcloc(location);
    let step = cursor.ins().iconst(
        kind,
        if kind == types::I32 {
            i64::from(step as u32)
        } else {
            step
        },
    );
    let new = cursor.ins().iadd(of, step);
    replace(function, made_by, new);
    new
}

/// Lets a way lead past a block, if that only passes on what is there before it.
fn leave_out(function: &mut Function, block: Block, (branching, number, onward): (Inst, usize, BlockCall)) {
    let mut insts = function.layout.block_insts(block);
    let jump = insts.next_back();
    let rest: Vec<Inst> = insts.collect();
    let passed: Vec<Value> = (onward.args(&function.dfg.value_lists))
        .filter_map(|argument| argument.as_value())
        .map(|value| function.dfg.resolve_aliases(value))
        .collect();
    let is_passed = |inst: &Inst| {
        function
            .dfg
            .inst_results(*inst)
            .iter()
            .any(|value| passed.contains(value))
    };
    let is_unused = |inst: &Inst| function.dfg.insts[*inst].opcode() == Opcode::Iconst && !is_passed(inst);
    if !rest.iter().all(is_unused) {
        return;
    }
    for inst in rest.into_iter().chain(jump) {
        function.layout.remove_inst(inst);
    }
    function.layout.remove_block(block);
    if let InstructionData::Brif { blocks, .. } = &mut function.dfg.insts[branching] {
        blocks[number] = onward;
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

/// The constant that a value is more than another, of the same type, or than the whole of that.
fn sum(function: &Function, value: Value, other: Value) -> Option<i64> {
    let InstructionData::Binary {
        opcode: Opcode::Iadd,
        args,
    } = made_by(function, value)?
    else {
        return None;
    };
    let is_other = |value: Value| whole(function, value) == whole(function, other);
    let step = match args.map(is_other) {
        [true, _] => constant(function, args[1]),
        [_, true] => constant(function, args[0]),
        _ => None,
    };
    match function.dfg.value_type(value) {
        types::I32 => step.map(|step| i64::from(step as i32)),
        _ => step,
    }
}
