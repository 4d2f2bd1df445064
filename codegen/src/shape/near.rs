//! Cheap values where they are used.
//!
//! Cranelift's optimizer makes each constant and each address in the frame once, as far up as all its uses need, and the register
//! allocator then has to keep it: in a large function on the stack, from where it is loaded for each use. One instruction makes it
//! again. This comes behind the optimizer, which would undo it.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{Block, Function, Inst, InstBuilder, InstructionData, Opcode, Value};
use rustc_hash::FxHashMap;

/// Makes constants of 32 bits and addresses in the frame in each block that uses them. Only in functions with calls: few registers
/// live through a call, and without calls there are enough.
pub(crate) fn rematerialize(function: &mut Function) {
    let blocks: Vec<Block> = function.layout.blocks().collect();
    let mut insts = blocks.iter().flat_map(|block| function.layout.block_insts(*block));
    if !insts.any(|inst| function.dfg.insts[inst].opcode().is_call()) {
        return;
    }
    let mut near: FxHashMap<Value, Value> = FxHashMap::default();
    for block in blocks {
        near.clear();
        let insts: Vec<Inst> = function.layout.block_insts(block).collect();
        for inst in insts {
            let used: Vec<Value> = function.dfg.inst_values(inst).collect();
            let is_call = function.dfg.insts[inst].opcode().is_call();
            for value in used {
                let value = function.dfg.resolve_aliases(value);
                if is_call {
                    // Into the register where the callee expects it, and from no other.
                    near.remove(&value);
                }
                if !near.contains_key(&value)
                    && let Some(copy) = copy(function, value, inst, |by| is_call || by != Some(block))
                {
                    near.insert(value, copy);
                }
            }
            if near.is_empty() {
                continue;
            }
            let (dfg, aliases) = (&mut function.dfg, &near);
            let resolved: FxHashMap<Value, Value> = dfg
                .inst_values(inst)
                .filter_map(|value| Some((value, *aliases.get(&dfg.resolve_aliases(value))?)))
                .collect();
            if !resolved.is_empty() {
                dfg.map_inst_values(inst, |value| resolved.get(&value).copied().unwrap_or(value));
            }
        }
    }
}

/// A copy of a cheap value before `inst`, if one is `wanted` of what is made in a block.
fn copy(function: &mut Function, value: Value, inst: Inst, wanted: impl Fn(Option<Block>) -> bool) -> Option<Value> {
    let made_by = function.dfg.value_def(value).inst()?;
    if !wanted(function.layout.inst_block(made_by)) {
        return None;
    }
    let data = function.dfg.insts[made_by];
    let kind = function.dfg.value_type(value);
    let location = function.srcloc(inst);
    let mut cursor = FuncCursor::new(function).at_inst(inst).with_srcloc(location);
    match data {
        InstructionData::UnaryImm {
            opcode: Opcode::Iconst,
            imm,
        } if i32::try_from(imm.bits()).is_ok() => Some(cursor.ins().iconst(kind, imm.bits())),
        InstructionData::StackAddr { stack_slot, offset, .. } => {
            Some(cursor.ins().stack_addr(kind, stack_slot, offset))
        }
        _ => None,
    }
}
