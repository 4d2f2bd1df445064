//! Masks that change nothing.
//!
//! Compilers of C narrow what they computed in 32 bits to the 8 or 16 of its type, with a mask. Where its bits cannot be set, or where
//! a comparison has the same outcome with them, the mask goes. Cranelift's rules look at one instruction; this looks at what a value
//! is made of. It comes behind the optimizer, which has made selects and constants of what can be.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Function, Inst, InstructionData, Opcode, Value};

use super::{constant, made_by};

/// How many instructions a value is followed back.
const MOST_STEPS: u32 = 16;

/// Leaves masks out.
pub(crate) fn drop_masks(function: &mut Function) {
    let mut known = HashMap::new();
    let blocks: Vec<_> = function.layout.blocks().collect();
    for block in blocks {
        let insts: Vec<Inst> = function.layout.block_insts(block).collect();
        for inst in insts {
            match function.dfg.insts[inst] {
                InstructionData::Binary {
                    opcode: Opcode::Band, ..
                } => {
                    let result = function.dfg.first_result(inst);
                    if let Some((masked, mask)) = mask(function, result)
                        && !mask & ones(bits(function, masked, MOST_STEPS, &mut known)) == 0
                    {
                        function.layout.remove_inst(inst);
                        function.dfg.clear_results(inst);
                        function.dfg.change_to_alias(result, masked);
                    }
                }
                InstructionData::IntCompare { cond, args, .. } => {
                    if let Some(plain) = without_mask(function, cond, args, &mut known)
                        && let InstructionData::IntCompare { args, .. } = &mut function.dfg.insts[inst]
                    {
                        args[0] = plain;
                    }
                }
                _ => {}
            }
        }
    }
}

/// What a mask is applied to, and the mask.
fn mask(function: &Function, value: Value) -> Option<(Value, u64)> {
    let InstructionData::Binary {
        opcode: Opcode::Band,
        args,
    } = made_by(function, value)?
    else {
        return None;
    };
    let width = function.dfg.value_type(value).bits();
    let of = |masked: Value, mask: Value| {
        let bits = constant(function, mask)?.cast_unsigned() & ones(width);
        Some((function.dfg.resolve_aliases(masked), bits))
    };
    of(args[0], args[1]).or_else(|| of(args[1], args[0]))
}

/// That many low bits.
fn ones(bits: u32) -> u64 {
    1_u64.checked_shl(bits).map_or(u64::MAX, |bit| bit - 1)
}

/// No bit of a value from this one on is set.
fn bits(function: &Function, value: Value, steps: u32, known: &mut HashMap<Value, u32>) -> u32 {
    let value = function.dfg.resolve_aliases(value);
    let width = function.dfg.value_type(value).bits();
    let Some(steps) = steps.checked_sub(1) else {
        return width;
    };
    if let Some(known) = known.get(&value) {
        return *known;
    }
    let Some(data) = made_by(function, value) else {
        return width;
    };
    let mut of = |value: Value| bits(function, value, steps, known);
    let found = match data {
        InstructionData::UnaryImm {
            opcode: Opcode::Iconst,
            imm,
        } => {
            let value = imm.bits().cast_unsigned() & ones(width);
            u64::BITS - value.leading_zeros()
        }
        InstructionData::Load { opcode, .. } => match opcode {
            Opcode::Uload8 => 8,
            Opcode::Uload16 => 16,
            Opcode::Uload32 => 32,
            _ => width,
        },
        InstructionData::IntCompare { .. } => 1,
        InstructionData::Unary {
            opcode: Opcode::Uextend | Opcode::Ireduce,
            arg,
        } => of(arg),
        InstructionData::Binary { opcode, args } => match opcode {
            Opcode::Band => of(args[0]).min(of(args[1])),
            Opcode::Bor | Opcode::Bxor => of(args[0]).max(of(args[1])),
            Opcode::Iadd => of(args[0]).max(of(args[1])) + 1,
            Opcode::Imul => of(args[0]) + of(args[1]),
            Opcode::Ushr => match constant(function, args[1]).and_then(|count| u32::try_from(count).ok()) {
                Some(count) if count < width => of(args[0]).saturating_sub(count),
                _ => of(args[0]),
            },
            Opcode::Ishl => match constant(function, args[1]).and_then(|count| u32::try_from(count).ok()) {
                Some(count) if count < width => of(args[0]) + count,
                _ => width,
            },
            Opcode::Udiv | Opcode::Urem => of(args[0]),
            _ => width,
        },
        InstructionData::Ternary {
            opcode: Opcode::Select,
            args,
        } => of(args[1]).max(of(args[2])),
        _ => width,
    };
    let found = found.min(width);
    known.insert(value, found);
    found
}

/// The value that a masked one can be compared in place of: `(x - c) & (2^b - 1) < n` is `x - c < n` where `x` has no more than b bits
/// and n is at most 2^b - c, because either the difference did not wrap, or both are too large.
fn without_mask(function: &Function, cond: IntCC, args: [Value; 2], known: &mut HashMap<Value, u32>) -> Option<Value> {
    let (masked, mask) = mask(function, args[0])?;
    if mask == 0 || mask & (mask + 1) != 0 {
        return None;
    }
    // The first number that the condition tells from those below it.
    let with = constant(function, args[1])?.cast_unsigned();
    let first = match cond {
        IntCC::UnsignedLessThan | IntCC::UnsignedGreaterThanOrEqual => with,
        IntCC::UnsignedLessThanOrEqual | IntCC::UnsignedGreaterThan => with.checked_add(1)?,
        IntCC::Equal | IntCC::NotEqual => with.checked_add(1)?,
        _ => return None,
    };
    let InstructionData::Binary {
        opcode: Opcode::Iadd,
        args,
    } = made_by(function, masked)?
    else {
        return None;
    };
    let subtracted = |value: Value| {
        let width = function.dfg.value_type(value).bits();
        let bits = constant(function, value)? << (64 - width) >> (64 - width);
        u64::try_from(bits.checked_neg()?).ok()
    };
    let (from, subtracted) = match (subtracted(args[0]), subtracted(args[1])) {
        (Some(bytes), None) => (args[1], bytes),
        (None, Some(bytes)) => (args[0], bytes),
        _ => return None,
    };
    let fits = bits(function, from, MOST_STEPS, known) <= mask.count_ones();
    (fits && first <= (mask + 1).checked_sub(subtracted)?).then_some(masked)
}
