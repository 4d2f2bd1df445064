//! Cheaper instructions that give the same.
//!
//! | instruction | becomes |
//! |---|---|
//! | a product with 3, 5 or 9, or one of these times a power of two | a sum of a value and of the value shifted, which one address of an access can hold, and a shift |
//! | a product with a power of two and 1 more, or less | a shift, and a sum or difference |
//! | `x \| y << n` with no bit in both, n up to 3 | a sum, which is one address |
//! | a shift by a masked number | a shift by that number, where the shift masks it, too |
//! | a value that depends on `x > c` | one that depends on `x >= c + 1`, which is one flag of x64 |
//! | the lower half of an extended value, also as it is stored | that value |
//! | a choice of 32 bits, extended | a choice between extended values |
//! | `x & 0xffff`, `x & 0xff` | the lower part, extended |
//! | `(1 << n) & x` | `x & (1 << n)`, which is one instruction of x64; on ARM64 `x >> n & 1`, where it is only compared with 0 |
//! | `(x ^ s) - s` with the sign s of x in all bits | the absolute value of x |
//! | a comparison of a part that is extended by its sign behind it | one of what is extended: ARM64 compares no parts |
//! | 64 bits in other order, shifted down by 32 or more | the lower 32 bits in other order |
//!
//! It comes behind the optimizer, which has products as it likes them and would undo none of it, but has no rules for it either.

use std::collections::hash_map::Entry;

use bpf2sys_pe_emit::Machine;
use cranelift_codegen::cursor::Cursor;
use cranelift_codegen::dominator_tree::DominatorTree;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::{Function, Inst, InstBuilder, InstructionData, MemFlags, Opcode, Type, Value, types};
use rustc_hash::{FxHashMap, FxHashSet};

use super::possible::Possible;
use super::{constant, cursor_before, made_by, masked, possible, replace};

/// Replaces instructions.
pub(crate) fn make_cheaper(function: &mut Function, domtree: &DominatorTree, machine: Machine) {
    let mut possible = Possible::of_function(function);
    let branched = branched(function);
    let tested = tested(function);
    let signed = if machine == Machine::Arm64 {
        signed_parts(function)
    } else {
        SignedParts::default()
    };
    let only_tested = if machine == Machine::Arm64 {
        only_tested(function)
    } else {
        FxHashSet::default()
    };
    let blocks: Vec<_> = function.layout.blocks().collect();
    // By value: the bytes of its 32 bits, or of its lower half, in other order, once the block has that.
    let mut words: FxHashMap<Value, Value> = FxHashMap::default();
    for block in blocks {
        words.clear();
        let insts: Vec<Inst> = function.layout.block_insts(block).collect();
        for inst in insts {
            let (opcode, args) = match function.dfg.insts[inst] {
                InstructionData::Binary { opcode, args } => (opcode, args),
                InstructionData::Store {
                    opcode,
                    args,
                    flags,
                    offset,
                } => {
                    store_as_it_is(function, inst, opcode, args, (flags, offset));
                    continue;
                }
                InstructionData::IntCompare { cond, args, .. } => {
                    if !compare_extended(function, domtree, inst, cond, args, &signed) {
                        compare_with_next(function, inst, cond, args, &branched);
                    }
                    continue;
                }
                InstructionData::Unary {
                    opcode: Opcode::Uextend,
                    arg,
                } => {
                    if let Some(chosen) = extended_choice(function, inst, arg, &mut possible) {
                        replace(function, inst, chosen);
                    }
                    continue;
                }
                InstructionData::Unary {
                    opcode: Opcode::Ireduce,
                    arg,
                } => {
                    let result = function.dfg.first_result(inst);
                    let whole = origin(function, arg);
                    if function.dfg.value_type(whole) == function.dfg.value_type(result) {
                        replace(function, inst, whole);
                    }
                    continue;
                }
                InstructionData::Unary {
                    opcode: Opcode::Bswap,
                    arg,
                } => {
                    let result = function.dfg.first_result(inst);
                    if function.dfg.value_type(result) == types::I32 {
                        match words.entry(origin(function, arg)) {
                            Entry::Occupied(made) => replace(function, inst, *made.get()),
                            Entry::Vacant(first) => {
                                first.insert(result);
                            }
                        }
                    }
                    continue;
                }
                _ => continue,
            };
            if matches!(opcode, Opcode::Ishl | Opcode::Ushr | Opcode::Sshr)
                && let Some(count) = plain_count(function, args)
                && let InstructionData::Binary { args, .. } = &mut function.dfg.insts[inst]
            {
                args[1] = count;
            }
            let cheaper = match opcode {
                Opcode::Imul => product(function, inst, args),
                Opcode::Band => {
                    if only_tested.contains(&function.dfg.first_result(inst)) {
                        bit_first(function, inst, args)
                    } else {
                        bit_last(function, inst, args);
                        low_part(function, inst, &tested)
                    }
                }
                Opcode::Bor => joined(function, inst, args, &mut possible),
                Opcode::Isub => absolute(function, inst, args),
                Opcode::Ushr => swapped(function, inst, args, &mut words),
                _ => None,
            };
            if let Some(cheaper) = cheaper {
                replace(function, inst, cheaper);
            }
        }
    }
}

/// By comparison: whether it is what a branch depends on.
fn branched(function: &Function) -> FxHashSet<Value> {
    let blocks = function.layout.blocks();
    let conditions = blocks.filter_map(|block| match function.dfg.insts[function.layout.last_inst(block)?] {
        InstructionData::Brif { arg, .. } => Some(function.dfg.resolve_aliases(arg)),
        _ => None,
    });
    conditions.collect()
}

/// What is compared with 0, and nothing else is done with.
fn only_tested(function: &Function) -> FxHashSet<Value> {
    let (mut tested, mut used) = (FxHashSet::default(), FxHashSet::default());
    let insts = function
        .layout
        .blocks()
        .flat_map(|block| function.layout.block_insts(block));
    for inst in insts {
        let condition = match function.dfg.insts[inst] {
            InstructionData::Brif { arg, .. } => Some(arg),
            InstructionData::IntCompare {
                cond: IntCC::Equal | IntCC::NotEqual,
                args,
                ..
            } if constant(function, args[1]) == Some(0) => Some(args[0]),
            _ => None,
        };
        let mut operands: Vec<Value> = function.dfg.inst_values(inst).collect();
        if let Some(condition) = condition {
            tested.insert(function.dfg.resolve_aliases(condition));
            // Once; a branch may pass it on as well.
            let at = operands.iter().position(|operand| *operand == condition);
            at.map(|at| operands.remove(at));
        }
        used.extend(
            operands
                .into_iter()
                .map(|operand| function.dfg.resolve_aliases(operand)),
        );
    }
    tested.retain(|value| !used.contains(value));
    tested
}

/// What is compared with 0.
fn tested(function: &Function) -> FxHashSet<Value> {
    let insts = function
        .layout
        .blocks()
        .flat_map(|block| function.layout.block_insts(block));
    let tested = insts.filter_map(|inst| match function.dfg.insts[inst] {
        InstructionData::Brif { arg, .. } => Some(function.dfg.resolve_aliases(arg)),
        InstructionData::IntCompare { args, .. } if constant(function, args[1]) == Some(0) => {
            Some(function.dfg.resolve_aliases(args[0]))
        }
        _ => None,
    });
    tested.collect()
}

/// By a value and the type of a lower part of it: the instructions that extend the part by its sign.
type SignedParts = FxHashMap<(Value, Type), Vec<Inst>>;

fn signed_parts(function: &Function) -> SignedParts {
    let mut parts = SignedParts::default();
    for inst in function
        .layout
        .blocks()
        .flat_map(|block| function.layout.block_insts(block))
    {
        if let InstructionData::Unary {
            opcode: Opcode::Sextend,
            arg,
        } = function.dfg.insts[inst]
            && let Some(part) = part(function, arg)
        {
            parts.entry(part).or_default().push(inst);
        }
    }
    parts
}

/// What a value of 8 or 16 bits is the lower part of, with its type.
fn part(function: &Function, value: Value) -> Option<(Value, Type)> {
    let ty = function.dfg.value_type(value);
    match made_by(function, value)? {
        InstructionData::Unary {
            opcode: Opcode::Ireduce,
            arg,
        } if matches!(ty, types::I8 | types::I16) => Some((function.dfg.resolve_aliases(arg), ty)),
        _ => None,
    }
}

/// Compares the extended value where a part is compared with a constant by its sign, and extended only behind that. Whether it did.
fn compare_extended(
    function: &mut Function,
    domtree: &DominatorTree,
    inst: Inst,
    cond: IntCC,
    args: [Value; 2],
    signed: &SignedParts,
) -> bool {
    let by_sign = matches!(
        cond,
        IntCC::SignedLessThan
            | IntCC::SignedLessThanOrEqual
            | IntCC::SignedGreaterThan
            | IntCC::SignedGreaterThanOrEqual
    );
    let extended = part(function, args[0]).and_then(|part| signed.get(&part));
    let (true, Some(extended), Some(with)) = (by_sign, extended, constant(function, args[1])) else {
        return false;
    };
    let behind = |other: &&Inst| {
        let is_there = function.layout.inst_block(**other).is_some();
        is_there && domtree.dominates(inst, **other, &function.layout)
    };
    let Some(&first) = extended.iter().find(behind) else {
        return false;
    };
    let wide = function.dfg.value_type(function.dfg.first_result(first));
    let unused = 64 - function.dfg.value_type(args[0]).bits();
    let mut cursor = cursor_before(function, inst);
    let whole = cursor.ins().sextend(wide, args[0]);
    let with = cursor.ins().iconst(
        wide,
        with << unused >> unused & possible::ones(wide.bits()).cast_signed(),
    );
    let compared = cursor.ins().icmp(cond, whole, with);
    replace(function, inst, compared);
    replace(function, first, whole);
    true
}

/// Stores a part of an extended value from what was extended.
fn store_as_it_is(
    function: &mut Function,
    inst: Inst,
    opcode: Opcode,
    [value, address]: [Value; 2],
    (flags, offset): (MemFlags, Offset32),
) {
    let Some(InstructionData::Unary {
        opcode: Opcode::Uextend | Opcode::Sextend,
        arg,
    }) = made_by(function, value)
    else {
        return;
    };
    if function.dfg.value_type(arg) != types::I32 {
        return;
    }
    let flags = function.dfg.mem_flags[flags];
    let mut cursor = cursor_before(function, inst);
    match opcode {
        Opcode::Istore32 => cursor.ins().store(flags, arg, address, offset),
        Opcode::Istore16 => cursor.ins().istore16(flags, arg, address, offset),
        Opcode::Istore8 => cursor.ins().istore8(flags, arg, address, offset),
        _ => return,
    };
    cursor.remove_inst();
}

/// Makes a comparison for more than a constant, whose outcome becomes a value, one for at least the next one: x64 has that in one flag.
fn compare_with_next(function: &mut Function, inst: Inst, cond: IntCC, args: [Value; 2], branched: &FxHashSet<Value>) {
    let with_next = match cond {
        IntCC::UnsignedGreaterThan => IntCC::UnsignedGreaterThanOrEqual,
        IntCC::UnsignedLessThanOrEqual => IntCC::UnsignedLessThan,
        _ => return,
    };
    // As an immediate, and of no more bytes.
    let next = constant(function, args[1]).and_then(|bits| bits.checked_add(1));
    let Some(next) = next.filter(|next| (1..1 << 31).contains(next) && *next != 1 << 7) else {
        return;
    };
    if branched.contains(&function.dfg.first_result(inst)) {
        return;
    }
    let size = function.dfg.value_type(args[0]);
    if !matches!(size, types::I32 | types::I64) {
        return;
    }
    let next = cursor_before(function, inst).ins().iconst(size, next);
    if let InstructionData::IntCompare { cond, args, .. } = &mut function.dfg.insts[inst] {
        *cond = with_next;
        args[1] = next;
    }
}

/// A choice between extended values in place of an extended choice: the choice of 32 bits clears the rest, but Cranelift clears it again.
fn extended_choice(function: &mut Function, inst: Inst, of: Value, possible: &mut Possible) -> Option<Value> {
    let whole = function.dfg.value_type(function.dfg.first_result(inst));
    let Some(InstructionData::Ternary {
        opcode: Opcode::Select,
        args: [condition, a, b],
    }) = made_by(function, of)
    else {
        return None;
    };
    if (function.dfg.value_type(of), whole) != (types::I32, types::I64) {
        return None;
    }
    let mut ready = |value: Value| {
        Some(match made_by(function, value)? {
            InstructionData::Unary {
                opcode: Opcode::Ireduce,
                arg,
            } if function.dfg.value_type(arg) == types::I64 && possible.width(function, arg) <= 32 => Ready::Is(arg),
            InstructionData::UnaryImm { .. } => Ready::Extended,
            InstructionData::Binary {
                opcode:
                    Opcode::Iadd
                    | Opcode::Isub
                    | Opcode::Imul
                    | Opcode::Band
                    | Opcode::Bor
                    | Opcode::Bxor
                    | Opcode::Ishl
                    | Opcode::Ushr,
                ..
            } => Ready::Extended,
            _ => return None,
        })
    };
    let ways = [(ready(a)?, a), (ready(b)?, b)];
    let mut cursor = cursor_before(function, inst);
    let [a, b] = ways.map(|(ready, value)| match ready {
        Ready::Is(value) => value,
        Ready::Extended => cursor.ins().uextend(types::I64, value),
    });
    Some(cursor.ins().select(condition, a, b))
}

/// How a value of 32 bits is found as one of 64.
enum Ready {
    /// It is the lower half of this one, whose upper half is clear.
    Is(Value),
    /// The instruction that makes it clears the upper half.
    Extended,
}

/// What a value of 32 bits is the lower half of, or one of 64 bits the extension of.
fn origin(function: &Function, value: Value) -> Value {
    match made_by(function, value) {
        Some(InstructionData::Unary {
            opcode: Opcode::Ireduce | Opcode::Uextend,
            arg,
        }) => function.dfg.resolve_aliases(arg),
        _ => function.dfg.resolve_aliases(value),
    }
}

fn product(function: &mut Function, inst: Inst, args: [Value; 2]) -> Option<Value> {
    let (value, by) = match args.map(|value| constant(function, value)) {
        [None, Some(by)] => (args[0], by),
        [Some(by), None] => (args[1], by),
        _ => return None,
    };
    if !matches!(function.dfg.value_type(value), types::I32 | types::I64) {
        return None;
    }
    // Shifts by less than 32 do for numbers of either width.
    let by = i32::try_from(by).ok().filter(|by| *by > 2)?.cast_unsigned();
    let shift = by.trailing_zeros();
    let odd = by >> shift;
    let mut cursor = cursor_before(function, inst);
    let product = match odd {
        1 => value,
        3 | 5 | 9 => {
            let more = cursor.ins().ishl_imm_u(value, i64::from((odd - 1).trailing_zeros()));
            cursor.ins().iadd(value, more)
        }
        _ if shift > 0 => return None,
        _ if (odd - 1).is_power_of_two() => {
            let more = cursor.ins().ishl_imm_u(value, i64::from((odd - 1).trailing_zeros()));
            cursor.ins().iadd(more, value)
        }
        _ if (odd + 1).is_power_of_two() => {
            let more = cursor.ins().ishl_imm_u(value, i64::from((odd + 1).trailing_zeros()));
            cursor.ins().isub(more, value)
        }
        _ => return None,
    };
    Some(if shift > 0 {
        cursor.ins().ishl_imm_u(product, i64::from(shift))
    } else {
        product
    })
}

/// The low 8 or 16 bits of a value as its extended lower part, which is one instruction of x64 that leaves the value. What is only compared with 0
/// is tested with a mask in place.
fn low_part(function: &mut Function, inst: Inst, tested: &FxHashSet<Value>) -> Option<Value> {
    let result = function.dfg.first_result(inst);
    let size = function.dfg.value_type(result);
    if tested.contains(&result) || !matches!(size, types::I32 | types::I64) {
        return None;
    }
    let (value, mask) = masked(function, result)?;
    let part = match mask {
        0xFF => types::I8,
        0xFFFF => types::I16,
        _ => return None,
    };
    let mut cursor = cursor_before(function, inst);
    let low = cursor.ins().ireduce(part, value);
    Some(cursor.ins().uextend(size, low))
}

/// The n of `1 << n`.
fn place_of_bit(function: &Function, value: Value) -> Option<Value> {
    match made_by(function, value)? {
        InstructionData::Binary {
            opcode: Opcode::Ishl,
            args,
        } => (constant(function, args[0]) == Some(1)).then_some(args[1]),
        _ => None,
    }
}

/// A bit that is shifted into place for a test: what it is looked for in is shifted instead, since ARM64 branches on one bit.
fn bit_first(function: &mut Function, inst: Inst, args: [Value; 2]) -> Option<Value> {
    let (count, of) = place_of_bit(function, args[0])
        .map(|count| (count, args[1]))
        .or_else(|| Some((place_of_bit(function, args[1])?, args[0])))?;
    let size = function.dfg.value_type(of);
    let mut cursor = cursor_before(function, inst);
    let shifted = cursor.ins().ushr(of, count);
    let one = cursor.ins().iconst(size, 1);
    Some(cursor.ins().band(shifted, one))
}

/// Puts a bit that is shifted into place behind what it is looked for in: Cranelift has one instruction of x64 for that, in this order.
fn bit_last(function: &mut Function, inst: Inst, args: [Value; 2]) {
    if place_of_bit(function, args[0]).is_some()
        && let InstructionData::Binary { args: [bit, of], .. } = &mut function.dfg.insts[inst]
    {
        std::mem::swap(bit, of);
    }
}

/// The count of a shift without a mask that the shift makes itself.
fn plain_count(function: &Function, args: [Value; 2]) -> Option<Value> {
    let (count, mask) = masked(function, args[1])?;
    let most = u64::from(function.dfg.value_type(args[0]).bits()) - 1;
    (mask & most == most).then_some(count)
}

/// The absolute value of a number, as compilers write it where there are no conditional instructions.
fn absolute(function: &mut Function, inst: Inst, [flipped, sign]: [Value; 2]) -> Option<Value> {
    let binary = |value: Value, wanted: Opcode| match made_by(function, value)? {
        InstructionData::Binary { opcode, args } if opcode == wanted => Some(args),
        _ => None,
    };
    let same = |a: Value, b: Value| function.dfg.resolve_aliases(a) == function.dfg.resolve_aliases(b);
    let [of, count] = binary(sign, Opcode::Sshr)?;
    let [one, other] = binary(flipped, Opcode::Bxor)?;
    let bits = function.dfg.value_type(of).bits();
    let is_sign = constant(function, count) == Some(i64::from(bits) - 1);
    let is_flipped = same(one, of) && same(other, sign) || same(other, of) && same(one, sign);
    (is_sign && is_flipped).then(|| cursor_before(function, inst).ins().iabs(of))
}

/// A sum in place of an `or` of numbers without common bits, where it is an address.
fn joined(function: &mut Function, inst: Inst, args: [Value; 2], possible: &mut Possible) -> Option<Value> {
    let is_scaled = |value: Value| match made_by(function, value) {
        Some(InstructionData::Binary {
            opcode: Opcode::Ishl,
            args,
        }) => constant(function, args[1]).is_some_and(|count| (1..=3).contains(&count)),
        _ => false,
    };
    let size = function.dfg.value_type(args[0]);
    let fits = [types::I32, types::I64].contains(&size) && args.into_iter().any(is_scaled);
    let are_apart = fits && possible.bits(function, args[0]) & possible.bits(function, args[1]) == 0;
    are_apart.then(|| cursor_before(function, inst).ins().iadd(args[0], args[1]))
}

/// Half of the bytes in other order, where the other half is shifted out.
fn swapped(
    function: &mut Function,
    inst: Inst,
    args: [Value; 2],
    words: &mut FxHashMap<Value, Value>,
) -> Option<Value> {
    let count = constant(function, args[1]).filter(|count| (32..64).contains(count))?;
    let InstructionData::Unary {
        opcode: Opcode::Bswap,
        arg,
    } = made_by(function, args[0])?
    else {
        return None;
    };
    if function.dfg.value_type(arg) != types::I64 {
        return None;
    }
    let mut cursor = cursor_before(function, inst);
    let word = origin(cursor.func, arg);
    let swapped = *words.entry(word).or_insert_with(|| {
        let word = if cursor.func.dfg.value_type(word) == types::I32 {
            word
        } else {
            cursor.ins().ireduce(types::I32, arg)
        };
        cursor.ins().bswap(word)
    });
    let shifted = match count - 32 {
        0 => swapped,
        count => cursor.ins().ushr_imm_u(swapped, count),
    };
    Some(cursor.ins().uextend(types::I64, shifted))
}

#[cfg(test)]
mod tests {
    use bpf2sys_pe_emit::Machine;
    use cranelift_codegen::dominator_tree::DominatorTree;
    use cranelift_codegen::flowgraph::ControlFlowGraph;
    use cranelift_reader::parse_functions;

    use super::make_cheaper;

    /// What becomes of a function whose one block is this, and which returns `v99`.
    fn cheaper(block: &str) -> String {
        cheaper_for(Machine::X64, block)
    }

    fn cheaper_for(machine: Machine, block: &str) -> String {
        let text = format!(
            "function %f(i64, i64) -> i64 windows_fastcall {{\nblock0(v0: i64, v1: i64):\n{block}\n return v99\n}}"
        );
        let mut function = parse_functions(&text).unwrap().remove(0);
        let cfg = ControlFlowGraph::with_function(&function);
        let domtree = DominatorTree::with_function(&function, &cfg);
        make_cheaper(&mut function, &domtree, machine);
        function.display().to_string()
    }

    #[test]
    fn a_part_is_extended_before_it_is_compared() {
        let with = |compare: &str, rest: &str| {
            cheaper_for(
                Machine::Arm64,
                &format!(
                    "v2 = ireduce.i16 v0\n v3 = iconst.i16 -5\n v4 = icmp {compare} v2, v3\n brif v4, block1, block2\n\
                 block1:\n return v1\nblock2:\n {rest}"
                ),
            )
        };
        let changed = with("slt", "v99 = sextend.i64 v2");
        assert!(
            changed.contains("sextend.i64 v2") && changed.contains("iconst.i64 -5"),
            "{changed}"
        );
        assert_eq!(changed.matches("sextend").count(), 1, "{changed}");
        let changed = with("slt", "v5 = sextend.i32 v2\n v99 = uextend.i64 v5");
        assert!(changed.contains("iconst.i32 -5"), "{changed}");
        for (compare, rest) in [("ult", "v99 = sextend.i64 v2"), ("slt", "v99 = uextend.i64 v2")] {
            assert!(with(compare, rest).contains("iconst.i16"), "{compare} {rest}");
        }
        // It is extended before.
        let changed = cheaper_for(
            Machine::Arm64,
            "v2 = ireduce.i16 v0\n v3 = iconst.i16 0\n v5 = sextend.i64 v2\n v4 = icmp slt v2, v3\n v6 = select v4, v5, v1\n v99 = iadd v5, v6",
        );
        assert!(changed.contains("icmp slt v2, v3"), "{changed}");
    }

    #[test]
    fn an_absolute_value_is_one() {
        let sign = "v2 = iconst.i64 63\n v3 = sshr v0, v2\n";
        for text in [
            "v4 = bxor v0, v3\n v99 = isub v4, v3",
            "v4 = bxor v3, v0\n v99 = isub v4, v3",
        ] {
            let changed = cheaper(&format!("{sign}{text}"));
            assert!(changed.contains("iabs v0"), "{changed}");
        }
        for text in [
            "v4 = bxor v0, v3\n v99 = isub v3, v4",
            "v4 = bxor v1, v3\n v99 = isub v4, v3",
            "v4 = bor v0, v3\n v99 = isub v4, v3",
            "v4 = bxor v0, v3\n v5 = ushr v0, v2\n v99 = isub v4, v5",
        ] {
            assert!(!cheaper(&format!("{sign}{text}")).contains("iabs"), "{text}");
        }
        assert!(
            !cheaper("v2 = iconst.i64 62\n v3 = sshr v0, v2\n v4 = bxor v0, v3\n v99 = isub v4, v3").contains("iabs")
        );
    }

    #[test]
    fn arm64_tests_one_bit() {
        let shifted = |block: &str| {
            let text = format!(
                "function %f(i64, i64) -> i64 windows_fastcall {{\nblock0(v0: i64, v1: i64):\n v2 = iconst.i64 1\n v3 = ishl v2, v0\n {block}\n\
                 block1:\n return v0\nblock2:\n return v1\n}}"
            );
            let mut function = parse_functions(&text).unwrap().remove(0);
            make_cheaper(&mut function, &DominatorTree::new(), Machine::Arm64);
            function.display().to_string().contains("ushr v1, v0")
        };
        assert!(shifted("v4 = band v1, v3\n brif v4, block1, block2"));
        assert!(shifted(
            "v4 = band v3, v1\n v5 = iconst.i64 0\n v6 = icmp eq v4, v5\n brif v6, block1, block2"
        ));
        assert!(
            !shifted("v4 = band v1, v3\n v5 = iadd v4, v1\n brif v4, block1, block2"),
            "used"
        );
        assert!(
            !shifted("v4 = band v1, v3\n v5 = icmp ult v4, v1\n brif v5, block1, block2"),
            "compared"
        );
        assert!(!shifted("v4 = bor v1, v3\n brif v4, block1, block2"));
    }

    #[test]
    fn products_become_sums_where_few_are_enough() {
        let opcodes = |by: i64| {
            let text = cheaper(&format!("v2 = iconst.i64 {by}\n v99 = imul v0, v2"));
            ["imul", "ishl", "iadd", "isub"].map(|opcode| text.matches(&format!("= {opcode} ")).count())
        };
        for (by, expected) in [
            (2, [1, 0, 0, 0]),
            (3, [0, 1, 1, 0]),
            (7, [0, 1, 0, 1]),
            (9, [0, 1, 1, 0]),
            (11, [1, 0, 0, 0]),
            (14, [1, 0, 0, 0]),
            (17, [0, 1, 1, 0]),
            (40, [0, 2, 1, 0]),
            (i64::from(i32::MAX), [0, 1, 0, 1]),
            (i64::from(i32::MAX) + 2, [1, 0, 0, 0]),
            (-9, [1, 0, 0, 0]),
        ] {
            assert_eq!(opcodes(by), expected, "{by}");
        }
    }

    #[test]
    fn products_of_narrow_numbers_stay() {
        let narrow = "v2 = ireduce.i8 v0\n v3 = iconst.i8 255\n v4 = imul v2, v3\n v99 = uextend.i64 v4";
        assert!(cheaper(narrow).contains("imul"), "a shift by 8 is none");
    }

    #[test]
    fn a_choice_is_between_what_is_extended_already() {
        assert!(cheaper_choice("v4", "v6"));
        assert!(cheaper_choice("v6", "v4"));
        assert!(!cheaper_choice("v5", "v6"), "more than 32 bits");
    }

    /// Whether an extended choice between two values becomes one of 64 bits.
    fn cheaper_choice(a: &str, b: &str) -> bool {
        let text = cheaper(&format!(
            "v2 = uload16.i64 v0\n v3 = load.i64 v0\n v4 = ireduce.i32 v2\n v5 = ireduce.i32 v3\n v6 = iadd v4, v5\n \
             v7 = icmp eq v0, v1\n v8 = select v7, {a}, {b}\n v99 = uextend.i64 v8"
        ));
        text.matches("select").count() == 2
    }

    #[test]
    fn a_choice_by_more_is_one_by_at_least_the_next() {
        let compared = |condition: &str, with: i64, used: &str| {
            cheaper(&format!(
                "v2 = iconst.i64 {with}\n v3 = icmp {condition} v0, v2\n {used}"
            ))
        };
        let choice = "v99 = select v3, v0, v1";
        assert!(compared("ugt", 70, choice).contains("icmp uge"));
        assert!(compared("ule", 70, choice).contains("icmp ult"));
        assert!(compared("ugt", 127, choice).contains("icmp ugt"), "a longer immediate");
        for with in [-1, i64::MAX, i64::from(i32::MAX)] {
            assert!(compared("ugt", with, choice).contains("icmp ugt"), "{with}");
        }
        let branch = "brif v3, block1, block1\nblock1:\n v99 = iconst.i64 1";
        assert!(compared("ugt", 70, branch).contains("icmp ugt"));
    }

    #[test]
    fn numbers_are_added_where_no_bits_meet() {
        let joined = |of: &str, shift: u32| {
            let text = cheaper(&format!(
                "v2 = {of}\n v3 = uload8.i64 v1\n v4 = iconst.i64 {shift}\n v5 = ishl v3, v4\n v6 = iconst.i64 1\n \
                 v7 = band v2, v6\n v99 = bor v5, v7"
            ));
            !text.contains("bor")
        };
        assert!(joined("uload8.i64 v0", 1));
        assert!(joined("uload8.i64 v0", 3));
        assert!(!joined("uload8.i64 v0", 4), "no address scales by 16");
        let meet = "v2 = uload8.i64 v0\n v4 = iconst.i64 1\n v5 = ishl v2, v4\n v99 = bor v5, v2";
        assert!(cheaper(meet).contains("bor"));
    }

    #[test]
    fn the_order_of_eight_bytes_is_that_of_four_where_four_are_left() {
        let swapped = |shift: u32| {
            let text = cheaper(&format!("v2 = iconst.i64 {shift}\n v3 = bswap v0\n v99 = ushr v3, v2"));
            text.contains("ireduce.i32")
        };
        assert!(swapped(32) && swapped(48) && !swapped(31) && !swapped(64));
    }
}
