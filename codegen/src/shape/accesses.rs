//! x64: accesses of memory as operands of other instructions.
//!
//! The fences before accesses, which keep Cranelift's optimizer from combining accesses, also keep its code generation from making a load
//! part of the instruction that uses it, and from making a load, a sum and a store of the same place one instruction. Once the optimizer is done they are
//! not needed. Loads and stores of 32 bits are of numbers of 32 bits then, where only these are used.

use cranelift_codegen::cursor::Cursor;
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Function, Inst, InstBuilder, InstructionData, Opcode, Value, types};
use rustc_hash::FxHashMap;

use super::{cursor_before, is_cheap, replace, uses};

/// Takes the fences away. Comes behind the optimizer.
pub(crate) fn join(function: &mut Function) {
    leave_out_unused(function);
    let insts = all(function);
    let wide = wide_uses(function, &insts);
    // By value of 64 bits: that of 32 bits that it is the extension of.
    let mut narrow: FxHashMap<Value, Value> = FxHashMap::default();
    for &inst in &insts {
        match function.dfg.insts[inst] {
            InstructionData::NullAry {
                opcode: Opcode::SequencePoint,
            } => {
                function.layout.remove_inst(inst);
            }
            InstructionData::Load {
                opcode: Opcode::Uload32,
                flags,
                arg,
                offset,
            } if !wide[function.dfg.first_result(inst)] => {
                let flags = function.dfg.mem_flags[flags];
                let extended = function.dfg.first_result(inst);
                let mut cursor = cursor_before(function, inst);
                narrow.insert(extended, cursor.ins().load(types::I32, flags, arg, offset));
                cursor.remove_inst();
            }
            _ => {}
        }
    }
    for inst in insts {
        match function.dfg.insts[inst] {
            InstructionData::Unary {
                opcode: Opcode::Ireduce,
                arg,
            } if function.dfg.value_type(function.dfg.first_result(inst)) == types::I32
                && let Some(narrow) = narrow.get(&function.dfg.resolve_aliases(arg)) =>
            {
                replace(function, inst, *narrow);
            }
            InstructionData::Store {
                opcode: Opcode::Istore32,
                args,
                flags,
                offset,
            } if let Some(narrow) = narrow.get(&function.dfg.resolve_aliases(args[0])) => {
                let flags = function.dfg.mem_flags[flags];
                let mut cursor = cursor_before(function, inst);
                cursor.ins().store(flags, *narrow, args[1], offset);
                cursor.remove_inst();
            }
            _ => {}
        }
    }
    leave_out_unused(function);
}

/// All instructions.
fn all(function: &Function) -> Vec<Inst> {
    let blocks = function.layout.blocks();
    blocks.flat_map(|block| function.layout.block_insts(block)).collect()
}

/// Takes away what nothing uses, which would count as use of what it is made of.
fn leave_out_unused(function: &mut Function) {
    let mut uses = uses(function);
    let mut unused: Vec<Inst> = all(function);
    while let Some(inst) = unused.pop() {
        let opcode = function.dfg.insts[inst].opcode();
        let goes =
            is_cheap(opcode) || matches!(opcode, Opcode::Iconst | Opcode::Icmp | Opcode::Imul | Opcode::StackAddr);
        if !goes || function.layout.inst_block(inst).is_none() || uses[function.dfg.first_result(inst)] > 0 {
            continue;
        }
        for value in function.dfg.inst_values(inst) {
            let value = function.dfg.resolve_aliases(value);
            uses[value] -= 1;
            unused.extend(function.dfg.value_def(value).inst());
        }
        function.layout.remove_inst(inst);
    }
}

/// By value: whether something needs more of it than 32 bits.
fn wide_uses(function: &Function, insts: &[Inst]) -> SecondaryMap<Value, bool> {
    let mut wide = SecondaryMap::new();
    let dfg = &function.dfg;
    for &inst in insts {
        let narrow = match dfg.insts[inst] {
            InstructionData::Unary {
                opcode: Opcode::Ireduce,
                ..
            } => dfg.value_type(dfg.first_result(inst)) == types::I32,
            _ => false,
        };
        let stored = match dfg.insts[inst] {
            InstructionData::Store {
                opcode: Opcode::Istore32,
                ..
            } => 1,
            _ => 0,
        };
        if !narrow {
            for value in dfg.inst_values(inst).skip(stored) {
                wide[dfg.resolve_aliases(value)] = true;
            }
        }
    }
    wide
}
