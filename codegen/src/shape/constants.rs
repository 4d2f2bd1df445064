//! Constants that take instructions of their own, before loops.
//!
//! Cranelift makes a constant again wherever it is used, in each round of a loop: one to four instructions on ARM64, one on x64 where it
//! has 64 bits. What it keeps in a register is the result of an instruction, and a `bitcast` to the same type is one without code. It is put
//! behind the optimizer, which would take it away.

use std::collections::BTreeMap;

use bpf2sys_pe_emit::Machine;
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::dominator_tree::DominatorTree;
use cranelift_codegen::entity::EntitySet;
use cranelift_codegen::ir::{
    Endianness, Function, Inst, InstBuilder, MemFlagsData, Opcode, Type, Value, ValueDef, types,
};
use cranelift_codegen::loop_analysis::{Loop, LoopAnalysis};

use super::{constant, possible};

/// Makes constants before the outermost loops around their uses that call nothing, as far as registers are left for them.
pub(crate) fn make_before_loops(
    function: &mut Function,
    domtree: &DominatorTree,
    loops: &LoopAnalysis,
    machine: Machine,
) {
    let mut wanted: BTreeMap<u32, Wanted> = BTreeMap::new();
    let with_calls = with_calls(function, loops);
    for block in function.layout.blocks() {
        let Some(around) = outermost_without_calls(loops, block, &with_calls) else {
            continue;
        };
        let wanted = wanted.entry(around.as_u32()).or_insert_with(|| Wanted::new(around));
        for inst in function.layout.block_insts(block) {
            wanted.note(function, loops, inst, machine);
        }
    }
    for wanted in wanted.into_values() {
        wanted.make(function, domtree, loops, machine);
    }
}

/// Loops with calls in them, after which few registers are what they were.
fn with_calls(function: &Function, loops: &LoopAnalysis) -> EntitySet<Loop> {
    let mut with_calls = EntitySet::new();
    for block in function.layout.blocks() {
        let calls = |inst: Inst| function.dfg.insts[inst].opcode().is_call();
        let mut around = loops.innermost_loop(block);
        if around.is_some() && function.layout.block_insts(block).any(calls) {
            while let Some(one) = around {
                with_calls.insert(one);
                around = loops.loop_parent(one);
            }
        }
    }
    with_calls
}

fn outermost_without_calls(
    loops: &LoopAnalysis,
    block: cranelift_codegen::ir::Block,
    with_calls: &EntitySet<Loop>,
) -> Option<Loop> {
    let mut found = None;
    let mut around = loops.innermost_loop(block);
    while let Some(one) = around.filter(|one| !with_calls.contains(*one)) {
        found = Some(one);
        around = loops.loop_parent(one);
    }
    found
}

/// A use of a constant: the instruction, and which of its operands it is.
type Use = (Inst, usize);

/// What a loop would rather have made before it.
struct Wanted {
    inside: Loop,
    /// By type's bits and value: how much work it saves in a round, and where it is used.
    constants: BTreeMap<(u32, u64), (u32, Vec<Use>)>,
    /// Values that come from outside or go round.
    alive: EntitySet<Value>,
}

impl Wanted {
    fn new(inside: Loop) -> Wanted {
        Wanted {
            inside,
            constants: BTreeMap::new(),
            alive: EntitySet::new(),
        }
    }

    fn note(&mut self, function: &Function, loops: &LoopAnalysis, inst: Inst, machine: Machine) {
        for (position, &operand) in function.dfg.inst_args(inst).iter().enumerate() {
            let value = function.dfg.resolve_aliases(operand);
            let ty = function.dfg.value_type(value);
            if let Some(bits) = constant(function, value) {
                let bits = bits.cast_unsigned() & possible::ones(ty.bits());
                let opcode = function.dfg.insts[inst].opcode();
                let saved = match machine {
                    Machine::X64 => saved_x64(opcode, ty, bits),
                    Machine::Arm64 => saved_arm64(opcode, position, ty, bits),
                };
                if saved > 0 {
                    let (sum, uses) = self.constants.entry((ty.bits(), bits)).or_default();
                    *sum += saved;
                    uses.push((inst, position));
                }
            } else if comes_in(function, loops, value, self.inside) {
                self.alive.insert(value);
            }
        }
    }

    fn make(self, function: &mut Function, domtree: &DominatorTree, loops: &LoopAnalysis, machine: Machine) {
        let header = loops.loop_header(self.inside);
        let before = domtree.idom(header).and_then(|block| function.layout.last_inst(block));
        let Some(before) = before else { return };
        let room = registers(machine).saturating_sub(self.alive.iter().count());
        let mut constants: Vec<_> = self.constants.into_iter().collect();
        // Sorted before, so that equals come in the order of their values.
        constants.sort_by_key(|(_, (saved, _))| std::cmp::Reverse(*saved));
        for ((width, bits), (_, uses)) in constants.into_iter().take(room) {
            let ty = if width == 64 { types::I64 } else { types::I32 };
            let mut cursor = FuncCursor::new(function).at_inst(before);
            let made = cursor.ins().iconst(ty, bits.cast_signed());
            let flags = MemFlagsData::new().with_endianness(Endianness::Little);
            let kept = cursor.ins().bitcast(ty, flags, made);
            for (inst, position) in uses {
                function.dfg.inst_args_mut(inst)[position] = kept;
            }
        }
    }
}

/// Registers for what lives all through a loop. The others are for what is computed in it.
fn registers(machine: Machine) -> usize {
    match machine {
        Machine::X64 => 8,
        Machine::Arm64 => 18,
    }
}

/// Whether a value is made outside of a loop, or is a parameter of its head.
fn comes_in(function: &Function, loops: &LoopAnalysis, value: Value, inside: Loop) -> bool {
    match function.dfg.value_def(value) {
        ValueDef::Result(inst, _) => {
            let block = function.layout.inst_block(inst);
            block.is_some_and(|block| !loops.is_in_loop(block, inside))
        }
        ValueDef::Param(block, _) => block == loops.loop_header(inside) || !loops.is_in_loop(block, inside),
        ValueDef::Union(..) => false,
    }
}

/// How many instructions an operand costs in x64 code. Numbers of 32 bits are parts of instructions.
fn saved_x64(opcode: Opcode, ty: Type, bits: u64) -> u32 {
    // `movzx` and `mov` do that.
    let is_mask = opcode == Opcode::Band && bits == 0xFFFF_FFFF;
    let fits = i32::try_from(bits.cast_signed()).is_ok();
    u32::from(ty == types::I64 && !fits && !is_mask)
}

/// How many instructions an operand costs in ARM64 code.
fn saved_arm64(opcode: Opcode, position: usize, ty: Type, bits: u64) -> u32 {
    if ![types::I32, types::I64].contains(&ty) || bits == 0 {
        // Zero is a register.
        return 0;
    }
    // 12 bits, or 12 above 12 clear ones.
    let is_immediate = |bits: u64| bits < 1 << 12 || bits < 1 << 24 && bits.trailing_zeros() >= 12;
    let negative = bits.wrapping_neg() & possible::ones(ty.bits());
    let last = position == 1;
    let is_part = match opcode {
        Opcode::Iadd => is_immediate(bits) || is_immediate(negative),
        Opcode::Isub | Opcode::Icmp => last && (is_immediate(bits) || is_immediate(negative)),
        Opcode::Band | Opcode::Bor | Opcode::Bxor => is_bitmask(bits, ty.bits()),
        Opcode::Ishl | Opcode::Ushr | Opcode::Sshr | Opcode::Rotl | Opcode::Rotr => last,
        Opcode::Imul | Opcode::Umulhi | Opcode::Smulhi | Opcode::Udiv | Opcode::Urem => false,
        Opcode::Select => position == 0,
        Opcode::Store | Opcode::Istore8 | Opcode::Istore16 | Opcode::Istore32 => position != 0,
        // What is not known here takes a constant as it is.
        _ => true,
    };
    if is_part { 0 } else { length_arm64(bits, ty.bits()) }
}

/// Instructions that make a number: one, or one for each 16 bits that are not as the others.
fn length_arm64(bits: u64, width: u32) -> u32 {
    if is_bitmask(bits, width) {
        return 1;
    }
    let parts = || (0..width / 16).map(|part| bits >> (16 * part) & 0xFFFF);
    let others = |common: u64| parts().filter(|part| *part != common).count() as u32;
    others(0).min(others(0xFFFF)).max(1)
}

/// Whether a number is an immediate of ARM64's logical instructions: a run of ones, rotated, in each 2, 4, 8, 16, 32 or 64 bits (Arm
/// Architecture Reference Manual, `DecodeBitMasks`).
fn is_bitmask(bits: u64, width: u32) -> bool {
    let bits = if width == 32 { bits << 32 | bits } else { bits };
    // The bits that differ from their neighbours: two in each element, if it has one run of ones.
    let edges = bits ^ bits.rotate_left(1);
    edges != 0
        && [2, 4, 8, 16, 32, 64]
            .iter()
            .any(|&size| bits.rotate_left(size) == bits && (edges & possible::ones(size)).count_ones() == 2)
}

#[cfg(test)]
mod tests {
    use bpf2sys_pe_emit::Machine;
    use cranelift_codegen::Context;
    use cranelift_codegen::ir::{Opcode, types};
    use cranelift_reader::parse_functions;

    use super::{is_bitmask, length_arm64, make_before_loops, saved_arm64, saved_x64};

    /// How many constants are kept before a loop with this body.
    fn kept(body: &str, machine: Machine) -> usize {
        let text = format!(
            "function %f(i64, i64) -> i64 windows_fastcall {{\nfn0 = %g() windows_fastcall\nblock0(v0: i64, v1: i64):\n jump block1(v0)\n\
             block1(v3: i64):\n{body}\n brif v3, block2, block3\n\
             block2:\n v90 = iconst.i64 1\n v91 = isub v3, v90\n jump block1(v91)\nblock3:\n v92 = iconst.i64 0x123456789abc\n v93 = iadd v3, v92\n return v93\n}}"
        );
        let mut context = Context::for_function(parse_functions(&text).unwrap().remove(0));
        context.compute_cfg();
        context.compute_domtree();
        context.compute_loop_analysis();
        make_before_loops(&mut context.func, &context.domtree, &context.loop_analysis, machine);
        let layout = &context.func.layout;
        let casts = layout.blocks().flat_map(|block| layout.block_insts(block));
        let casts = casts.filter(|inst| context.func.dfg.insts[*inst].opcode() == Opcode::Bitcast);
        let entry = layout.entry_block();
        casts
            .inspect(|inst| assert_eq!(layout.inst_block(*inst), entry))
            .count()
    }

    #[test]
    fn constants_that_cost_instructions_are_made_once() {
        let cases = [
            ("v4 = iconst.i64 0x123456789abc\n v5 = iadd v3, v4", 1, 1),
            (
                "v4 = iconst.i64 0x123456789abc\n v5 = iadd v3, v4\n v6 = bxor v5, v4",
                1,
                1,
            ),
            ("v4 = iconst.i64 0x12345\n v5 = imul v3, v4", 0, 1),
            ("v4 = iconst.i64 0x123\n v5 = iadd v3, v4", 0, 0),
            ("v4 = iconst.i64 0xffff_ffff\n v5 = band v3, v4", 0, 0),
            ("v4 = iconst.i64 0x123456789abc\n v5 = iadd v3, v4\n call fn0()", 0, 0),
            // One is dead where the other one is used, but both live on.
            (
                "v4 = iconst.i64 0x123456789abc\n v5 = iadd v3, v4\n v6 = iconst.i64 0x123456789abd\n v7 = iadd v5, v6",
                2,
                2,
            ),
        ];
        for (body, x64, arm64) in cases {
            assert_eq!(kept(body, Machine::X64), x64, "{body}");
            assert_eq!(kept(body, Machine::Arm64), arm64, "{body}");
        }
    }

    #[test]
    fn there_are_so_many_registers() {
        let constants = |count: u64| {
            let one = |at: u64| {
                format!(
                    "v{} = iconst.i64 {}\n v{} = iadd v3, v{}\n",
                    10 + 2 * at,
                    (at + 1) << 40 | 1,
                    11 + 2 * at,
                    10 + 2 * at
                )
            };
            (0..count).map(one).collect::<String>()
        };
        // One register is the counter's.
        assert_eq!(kept(&constants(20), Machine::X64), 7);
        assert_eq!(kept(&constants(20), Machine::Arm64), 17);
    }

    #[test]
    fn what_is_part_of_an_instruction_costs_nothing() {
        let arm64 = |opcode, position, bits| saved_arm64(opcode, position, types::I64, bits);
        for (opcode, position, bits, saved) in [
            (Opcode::Iadd, 1, 0xFFF, 0),
            (Opcode::Iadd, 1, 0xFF_F000, 0),
            (Opcode::Iadd, 1, 0xFF_F001, 2),
            (Opcode::Iadd, 1, (-0xFFF_i64).cast_unsigned(), 0),
            (Opcode::Isub, 0, 1, 1),
            (Opcode::Icmp, 1, 0x1_0001, 2),
            (Opcode::Band, 1, 0x0F0F_0F0F_0F0F_0F0F, 0),
            (Opcode::Band, 1, 0x1234, 1),
            (Opcode::Imul, 1, 3, 1),
            (Opcode::Select, 2, 200, 1),
            (Opcode::Store, 0, 0, 0),
            (Opcode::Store, 0, 5, 1),
            (Opcode::Store, 1, 5, 0),
        ] {
            assert_eq!(arm64(opcode, position, bits), saved, "{opcode} {bits:#x}");
        }
        assert_eq!(saved_x64(Opcode::Iadd, types::I64, u64::MAX), 0);
        assert_eq!(saved_x64(Opcode::Iadd, types::I64, 0x8000_0000), 1);
        assert_eq!(saved_x64(Opcode::Iadd, types::I32, 0x8000_0000), 0);
    }

    #[test]
    fn numbers_take_so_many_instructions() {
        for (bits, width, length) in [
            (0, 64, 1),
            (0x1234_0000, 64, 1),
            (0x1234_5678, 64, 2),
            (0xFFFF_FFFF_FFFF_1234, 64, 1),
            (0xFFFF_1234, 32, 1),
            (0xFFFF_1234, 64, 2),
            (0x1234_5678_9ABC_DEF0, 64, 4),
            (0x5555_5555_5555_5555, 64, 1),
        ] {
            assert_eq!(length_arm64(bits, width), length, "{bits:#x}");
        }
        assert!(is_bitmask(0x8000_0001, 32) && is_bitmask(0x3FC, 64) && is_bitmask(0xFF00_FF00, 32));
        assert!(
            !is_bitmask(0, 64) && !is_bitmask(u64::MAX, 64) && !is_bitmask(0x101, 64) && !is_bitmask(0x8000_0001, 64)
        );
    }
}
