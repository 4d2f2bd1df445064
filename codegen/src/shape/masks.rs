//! Masks that change nothing.
//!
//! Compilers of C narrow what they computed in 32 bits to the 8 or 16 of its type, with a mask. Where its bits cannot be set, or where
//! a comparison has the same outcome with them, the mask goes. Cranelift's rules look at one instruction; this looks at what a value
//! is made of. It comes behind the optimizer, which has made selects and constants of what can be.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Function, Inst, InstructionData, Opcode, Value};

use super::possible::Possible;
use super::{constant, made_by, replace};

/// Leaves masks out.
pub(crate) fn drop_masks(function: &mut Function) {
    let mut possible = Possible::of_function(function);
    let blocks: Vec<_> = function.layout.blocks().collect();
    for block in blocks {
        let insts: Vec<Inst> = function.layout.block_insts(block).collect();
        for inst in insts {
            match function.dfg.insts[inst] {
                InstructionData::Binary {
                    opcode: Opcode::Band, ..
                } => {
                    let result = function.dfg.first_result(inst);
                    if let Some((masked, mask)) = super::masked(function, result)
                        && !mask & possible.bits(function, masked) == 0
                    {
                        replace(function, inst, masked);
                    }
                }
                InstructionData::Unary {
                    opcode: Opcode::Uextend,
                    arg,
                } => {
                    // What is extended to what it was reduced from.
                    let result = function.dfg.first_result(inst);
                    if let Some(InstructionData::Unary {
                        opcode: Opcode::Ireduce,
                        arg: whole,
                    }) = made_by(function, arg)
                        && function.dfg.value_type(whole) == function.dfg.value_type(result)
                        && possible.width(function, whole) <= function.dfg.value_type(arg).bits()
                    {
                        replace(function, inst, whole);
                    }
                }
                InstructionData::IntCompare { cond, args, .. } => {
                    if let Some(plain) = without_mask(function, cond, args, &mut possible)
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

/// The value that a masked one can be compared in place of: `(x - c) & (2^b - 1) < n` is `x - c < n` where `x` has no more than b bits
/// and n is at most 2^b - c, because either the difference did not wrap, or both are too large.
fn without_mask(function: &Function, cond: IntCC, args: [Value; 2], possible: &mut Possible) -> Option<Value> {
    let (masked, mask) = super::masked(function, args[0])?;
    // The numbers that it leaves as they are.
    let below = mask.checked_add(1).filter(|below| below.is_power_of_two())?;
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
    let fits = possible.width(function, from) <= mask.count_ones();
    (fits && first <= below.checked_sub(subtracted)?).then_some(masked)
}

#[cfg(test)]
mod tests {
    use cranelift_reader::parse_functions;

    use super::drop_masks;

    /// What becomes of a function whose one block is this.
    fn without_masks(block: &str) -> String {
        let text = format!("function %f(i64, i64) -> i64 windows_fastcall {{\nblock0(v0: i64, v1: i64):\n{block}\n}}");
        let mut function = parse_functions(&text).unwrap().remove(0);
        drop_masks(&mut function);
        function.display().to_string()
    }

    /// Whether a value that is made by some lines, as `v9`, keeps a mask of 8 bits.
    fn is_left(lines: &str) -> bool {
        let block = format!("{lines}\n v10 = iconst.i64 255\n v11 = band v9, v10\n return v11");
        without_masks(&block).contains("v11 = band")
    }

    #[test]
    fn a_mask_of_bits_that_cannot_be_set_goes() {
        let cases = [
            ("v9 = uload8.i64 v0", false),
            ("v9 = uload16.i64 v0", true),
            ("v9 = load.i64 v0", true),
            ("v2 = uload8.i64 v0\n v3 = uload8.i64 v1\n v9 = bxor v2, v3", false),
            // 255 + 255 has nine.
            ("v2 = uload8.i64 v0\n v3 = uload8.i64 v1\n v9 = iadd v2, v3", true),
            ("v2 = uload16.i64 v0\n v3 = iconst.i64 8\n v9 = ushr v2, v3", false),
            ("v2 = uload16.i64 v0\n v3 = iconst.i64 7\n v9 = ushr v2, v3", true),
            // Counts are taken modulo the width.
            ("v2 = uload16.i64 v0\n v3 = iconst.i64 72\n v9 = ushr v2, v3", true),
            ("v2 = uload16.i64 v0\n v9 = ushr v2, v1", true),
            (
                "v2 = uload16.i64 v0\n v3 = iconst.i64 15\n v4 = band v2, v3\n v5 = iconst.i64 4\n v6 = ishl v4, v5\n v9 = bor v6, v4",
                false,
            ),
            ("v2 = uload8.i64 v0\n v3 = iconst.i64 1\n v9 = ishl v2, v3", true),
            ("v2 = uload8.i64 v0\n v9 = urem v2, v1", false),
            ("v2 = uload8.i64 v0\n v9 = urem v1, v2", true),
            ("v2 = uload8.i64 v0\n v9 = isub v2, v1", true),
            (
                "v2 = uload8.i64 v0\n v3 = uload8.i64 v1\n v9 = select v1, v2, v3",
                false,
            ),
            ("v2 = uload8.i64 v0\n v9 = select v1, v2, v0", true),
            ("v2 = icmp eq v0, v1\n v9 = uextend.i64 v2", false),
            ("v2 = ireduce.i8 v0\n v9 = uextend.i64 v2", false),
            ("v2 = ireduce.i8 v0\n v9 = sextend.i64 v2", true),
        ];
        for (lines, left) in cases {
            assert_eq!(is_left(lines), left, "{lines}");
        }
    }

    #[test]
    fn a_mask_that_a_comparison_does_not_see_goes() {
        let compared = |load: &str, subtracted: i32, mask: i64, condition: &str, with: i64| {
            let block = format!(
                "v2 = {load}.i64 v0\n v3 = ireduce.i32 v2\n v4 = iconst.i32 {subtracted}\n v5 = iadd v3, v4\n \
                 v6 = iconst.i32 {mask}\n v7 = band v5, v6\n v8 = iconst.i32 {with}\n \
                 v9 = icmp {condition} v7, v8\n v10 = select v9, v0, v1\n return v10"
            );
            // The mask itself is left to others who may need it.
            !without_masks(&block).contains(&format!("icmp {condition} v7"))
        };
        assert!(compared("uload16", -65, 0xFFFF, "ult", 26));
        assert!(compared("uload16", -65, 0xFFFF, "ule", 0xFFFF - 65));
        assert!(!compared("uload16", -65, 0xFFFF, "ule", 0xFFFF - 64));
        assert!(compared("uload16", -65, 0xFFFF, "eq", 26));
        assert!(!compared("uload16", -65, 0xFFFF, "slt", 26));
        assert!(!compared("uload16", 65, 0xFFFF, "ult", 26), "a sum may pass the mask");
        assert!(!compared("uload32", -65, 0xFFFF, "ult", 26), "more bits than the mask");
        assert!(!compared("uload16", -65, 0xFFF0, "ult", 26), "no mask of low bits");
    }
}
