//! Small changes of Cranelift IR that Cranelift does not make itself.
//!
//! Given: a function. Computed: the same function with other blocks.
//! Safe because: only instructions without effects are moved or made, and only where their operands are known.

mod accesses;
mod cheaper;
mod constants;
mod counters;
mod early;
mod edges;
mod exits;
mod invariants;
mod masks;
mod merges;
mod narrow;
mod near;
mod order;
mod possible;
mod selects;
mod sums;

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Block, BlockCall, Function, Inst, InstructionData, Opcode, Value};

pub(crate) use accesses::join;
pub(crate) use cheaper::make_cheaper;
pub(crate) use constants::make_before_loops;
pub(crate) use counters::compare_counted;
pub(crate) use early::compute_early;
pub(crate) use edges::split;
pub(crate) use exits::place_behind;
pub(crate) use invariants::hoist;
pub(crate) use masks::drop_masks;
pub(crate) use merges::merge_loads;
pub(crate) use narrow::pass_lower_halves;
pub(crate) use near::rematerialize;
pub(crate) use order::destroy_last;

use crate::{Optimization, Optimizations};

/// Makes those of the changes before the optimizer that are wanted.
pub(crate) fn improve(function: &mut Function, optimizations: Optimizations) {
    if optimizations.has(Optimization::Selects) {
        selects::make(function);
    }
    if optimizations.has(Optimization::Sums) {
        sums::collect_constants(function);
    }
}

/// The conditional branch that a block ends in, if it does: its two ways.
fn branch(function: &Function, block: Block) -> Option<(Inst, [BlockCall; 2])> {
    let last = function.layout.last_inst(block)?;
    match function.dfg.insts[last] {
        InstructionData::Brif { blocks, .. } => Some((last, blocks)),
        _ => None,
    }
}

/// The instruction that makes a value.
fn made_by(function: &Function, value: Value) -> Option<InstructionData> {
    let value = function.dfg.resolve_aliases(value);
    let inst = function.dfg.value_def(value).inst()?;
    Some(function.dfg.insts[inst])
}

/// The bits of a value that is a constant.
fn constant(function: &Function, value: Value) -> Option<i64> {
    match made_by(function, value)? {
        InstructionData::UnaryImm {
            opcode: Opcode::Iconst,
            imm,
        } => Some(imm.bits()),
        _ => None,
    }
}

/// What a mask is applied to, and the mask.
fn masked(function: &Function, value: Value) -> Option<(Value, u64)> {
    let InstructionData::Binary {
        opcode: Opcode::Band,
        args,
    } = made_by(function, value)?
    else {
        return None;
    };
    let width = function.dfg.value_type(value).bits();
    let of = |masked: Value, mask: Value| {
        let bits = constant(function, mask)?.cast_unsigned() & possible::ones(width);
        Some((function.dfg.resolve_aliases(masked), bits))
    };
    of(args[0], args[1]).or_else(|| of(args[1], args[0]))
}

/// Takes an instruction away; its result is another value.
fn replace(function: &mut Function, inst: Inst, by: Value) {
    let result = function.dfg.first_result(inst);
    function.layout.remove_inst(inst);
    function.dfg.clear_results(inst);
    function.dfg.change_to_alias(result, by);
}

/// What a value is a part of, which is in the same register.
fn whole(function: &Function, value: Value) -> Value {
    let value = function.dfg.resolve_aliases(value);
    match made_by(function, value) {
        Some(InstructionData::Unary {
            opcode: Opcode::Ireduce,
            arg,
        }) => whole(function, arg),
        _ => value,
    }
}

/// Where instructions go that stand before another one and have its source location.
fn cursor_before(function: &mut Function, inst: Inst) -> FuncCursor<'_> {
    let location = function.srcloc(inst);
    FuncCursor::new(function).at_inst(inst).with_srcloc(location)
}

/// By value: how often it is used.
fn uses(function: &Function) -> SecondaryMap<Value, u32> {
    let mut uses = SecondaryMap::new();
    for block in function.layout.blocks() {
        for inst in function.layout.block_insts(block) {
            for value in function.dfg.inst_values(inst) {
                uses[function.dfg.resolve_aliases(value)] += 1;
            }
        }
    }
    uses
}

/// A value as a sum of another one and a constant of 32 bits, which is 0 where it is none.
fn without_constant(function: &Function, value: Value) -> (Value, i32) {
    let value = function.dfg.resolve_aliases(value);
    if let Some(InstructionData::Binary {
        opcode: Opcode::Iadd,
        args,
    }) = made_by(function, value)
    {
        for (other, added) in [(args[0], args[1]), (args[1], args[0])] {
            if let Some(added) = constant(function, added).and_then(|added| i32::try_from(added).ok()) {
                return (function.dfg.resolve_aliases(other), added);
            }
        }
    }
    (value, 0)
}

/// Whether an instruction has no effects, can't trap, and takes little time.
fn is_cheap(opcode: Opcode) -> bool {
    matches!(
        opcode,
        Opcode::Iadd
            | Opcode::Isub
            | Opcode::Band
            | Opcode::Bor
            | Opcode::Bxor
            | Opcode::Bnot
            | Opcode::Ineg
            | Opcode::Ishl
            | Opcode::Ushr
            | Opcode::Sshr
            | Opcode::Rotl
            | Opcode::Rotr
            | Opcode::Bswap
            | Opcode::Ireduce
            | Opcode::Uextend
            | Opcode::Sextend
            | Opcode::Select
    )
}

/// All ways to other blocks, with what they pass; `None` where that is not a value.
fn edges_of(function: &Function) -> impl Iterator<Item = (Block, Vec<Option<Value>>)> {
    let lasts = function
        .layout
        .blocks()
        .filter_map(|block| function.layout.last_inst(block));
    lasts.flat_map(|last| {
        let dfg = &function.dfg;
        let ways = dfg.insts[last].branch_destination(&dfg.jump_tables, &dfg.exception_tables);
        ways.iter().map(|way| {
            let arguments = way.args(&dfg.value_lists).map(|argument| argument.as_value());
            (way.block(&dfg.value_lists), arguments.collect())
        })
    })
}

/// By block: how many ways lead there.
fn ways(function: &Function) -> SecondaryMap<Block, u32> {
    let mut ways = SecondaryMap::new();
    for block in function.layout.blocks() {
        let Some(last) = function.layout.last_inst(block) else {
            continue;
        };
        let tables = (&function.dfg.jump_tables, &function.dfg.exception_tables);
        for to in function.dfg.insts[last].branch_destination(tables.0, tables.1) {
            ways[to.block(&function.dfg.value_lists)] += 1;
        }
    }
    ways
}
