//! Sums with their constants added last.
//!
//! `base + (index + 2) + 2` is `base + index + 4`, which one address of an access can hold. Cranelift adds constants together only where they
//! are added to the same value one after the other.

use cranelift_codegen::ir::{Function, Inst, InstBuilder, InstructionData, Opcode, Value, types};

use super::{constant, cursor_before, without_constant};

/// Moves constants outwards in all sums of 64 bits.
pub(super) fn collect_constants(function: &mut Function) {
    let blocks: Vec<_> = function.layout.blocks().collect();
    for block in blocks {
        let insts: Vec<Inst> = function.layout.block_insts(block).collect();
        for inst in insts {
            let InstructionData::Binary {
                opcode: Opcode::Iadd,
                args,
            } = function.dfg.insts[inst]
            else {
                continue;
            };
            let result = function.dfg.first_result(inst);
            if function.dfg.value_type(result) != types::I64 {
                continue;
            }
            let ((a, more), (b, even_more)) = (split(function, args[0]), split(function, args[1]));
            // A constant by itself is where it should be.
            let (Some(a), Some(b), Some(sum)) = (a, b, more.checked_add(even_more)) else {
                continue;
            };
            if (more, even_more) == (0, 0) || i32::try_from(sum).is_err() {
                continue;
            }
            let mut cursor = cursor_before(function, inst);
            let inner = cursor.ins().iadd(a, b);
            let sum = cursor.ins().iconst(types::I64, sum);
            if let InstructionData::Binary { args, .. } = &mut function.dfg.insts[inst] {
                *args = [inner, sum];
            }
        }
    }
}

/// What a constant is added to, and the constant. Nothing for a value that is a constant.
fn split(function: &Function, value: Value) -> (Option<Value>, i64) {
    if constant(function, value).is_some() {
        return (None, 0);
    }
    let (other, added) = without_constant(function, value);
    (Some(other), added.into())
}
