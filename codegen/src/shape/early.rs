//! Values made as soon as what they are made of is there.
//!
//! Cranelift's optimizer computes a value without effects where it is used first. What it is made of is kept until then: of a sum over the
//! results of ten calls all ten results, on the stack. This moves an instruction up to behind the last of its operands where that
//! ends the life of one of them, so that not more is kept than before. It comes behind the optimizer, which would undo it.

use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Block, Function, Inst, Opcode, Value};

use super::{is_cheap, uses};

/// Moves instructions up within their blocks.
pub(crate) fn compute_early(function: &mut Function) {
    let uses = uses(function);
    let blocks: Vec<Block> = function.layout.blocks().collect();
    for block in blocks {
        let insts: Vec<Inst> = function.layout.block_insts(block).collect();
        for inst in insts {
            let Some(behind) = place(function, block, inst, &uses) else {
                continue;
            };
            // Its constants go with it.
            let operands: Vec<Value> = function.dfg.inst_values(inst).collect();
            let constants = operands.into_iter().filter_map(|value| constant(function, value));
            let is_behind = |one: &Inst| {
                function.layout.inst_block(*one) == Some(block) && function.layout.pp_cmp(*one, behind).is_gt()
            };
            let moved: Vec<Inst> = constants.filter(is_behind).chain([inst]).collect();
            for inst in &moved {
                function.layout.remove_inst(*inst);
            }
            // The end of the block at least is there.
            if let Some(before) = function.layout.next_inst(behind) {
                for inst in moved {
                    function.layout.insert_inst(inst, before);
                }
            }
        }
    }
}

/// The instruction of the block behind which an instruction can and should stand.
fn place(function: &Function, block: Block, inst: Inst, uses: &SecondaryMap<Value, u32>) -> Option<Inst> {
    if !can_move(function.dfg.insts[inst].opcode()) {
        return None;
    }
    let mut last: Option<Inst> = None;
    let mut ends_a_life = false;
    for value in function.dfg.inst_values(inst) {
        let value = function.dfg.resolve_aliases(value);
        let made_by = function.dfg.value_def(value).inst();
        let made_here = made_by.filter(|by| function.layout.inst_block(*by) == Some(block));
        let Some(by) = made_here.filter(|_| constant(function, value).is_none()) else {
            continue;
        };
        ends_a_life |= uses[value] == 1;
        if last.is_none_or(|last| function.layout.pp_cmp(last, by).is_lt()) {
            last = Some(by);
        }
    }
    let last = last.filter(|_| ends_a_life)?;
    // It stands there already.
    (function.layout.next_inst(last) != Some(inst)).then_some(last)
}

/// The instruction that makes a value, if that is a constant that others can hold as a field.
fn constant(function: &Function, value: Value) -> Option<Inst> {
    let bits = super::constant(function, value)?;
    i32::try_from(bits).ok()?;
    let value = function.dfg.resolve_aliases(value);
    function.dfg.value_def(value).inst()
}

/// Instructions that take what they need from registers, leave one result, and do nothing else.
fn can_move(opcode: Opcode) -> bool {
    is_cheap(opcode) || opcode == Opcode::Imul
}
