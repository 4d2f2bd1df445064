//! Neighbouring loads of a packet as one.
//!
//! Compilers take a number of a packed structure apart into bytes, each loaded by itself and shifted to its place, since eBPF has no
//! loads of numbers at any address that they may use. One load of all the bytes gives the number, or its bytes the other way round.
//!
//! Only loads that are proven to be of the packet: of memory that the program has for itself while it runs. The loads lie in one block,
//! so that all of them are made or none, with no store or call between, so that they find what one load would find.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::entity::{EntitySet, SecondaryMap};
use cranelift_codegen::ir::{Block, Function, Inst, InstBuilder, InstructionData, MemFlagsData, Opcode, Value, types};

use super::{constant, uses, without_constant};

/// Most loads that become one.
const MOST_LOADS: usize = 8;

/// Most instructions from the first to the last of them.
const MOST_BETWEEN: usize = 128;

/// Merges loads; `packet` are those of packets.
pub(crate) fn merge_loads(function: &mut Function, packet: &EntitySet<Inst>) {
    if packet.is_empty() {
        return;
    }
    let uses = uses(function);
    let blocks: Vec<Block> = function.layout.blocks().collect();
    for block in blocks {
        let mut insts: Vec<Inst> = function.layout.block_insts(block).collect();
        // Whole numbers before parts of them.
        insts.reverse();
        for inst in insts {
            let is_sum = function.layout.inst_block(inst).is_some()
                && matches!(
                    function.dfg.insts[inst],
                    InstructionData::Binary {
                        opcode: Opcode::Bor | Opcode::Iadd | Opcode::Bxor,
                        ..
                    }
                );
            if is_sum && let Some(number) = number(function, block, inst, packet, &uses) {
                replace(function, inst, &number);
            }
        }
    }
}

/// A load that is part of a number.
struct Part {
    load: Inst,
    /// Distance from the address, which all parts have.
    offset: i32,
    bytes: u32,
    /// By how many bits it is shifted.
    shift: u32,
}

/// A number that is put together of loads.
struct Number {
    address: Value,
    /// Of its first byte.
    offset: i32,
    bytes: u32,
    /// Whether the first byte is the highest one.
    swapped: bool,
    /// The last of the loads.
    last: Inst,
    /// All instructions that it takes the place of.
    gone: Vec<Inst>,
}

/// The number that an instruction puts together, if all its parts are there.
fn number(
    function: &Function,
    block: Block,
    inst: Inst,
    packet: &EntitySet<Inst>,
    uses: &SecondaryMap<Value, u32>,
) -> Option<Number> {
    let InstructionData::Binary { args, .. } = function.dfg.insts[inst] else {
        return None;
    };
    let mut collect = Collect {
        function,
        block,
        packet,
        uses,
        address: None,
        parts: Vec::new(),
        gone: vec![inst],
    };
    collect.value(args[0], 0)?;
    collect.value(args[1], 0)?;
    let Collect {
        address,
        mut parts,
        gone,
        ..
    } = collect;
    parts.sort_unstable_by_key(|part| part.offset);
    let (first, end) = (parts.first()?, parts.last()?);
    let bytes = u32::try_from(end.offset.checked_sub(first.offset)?).ok()? + end.bytes;
    let whole = function.dfg.value_type(function.dfg.first_result(inst)).bytes();
    if parts.len() < 2 || !matches!(bytes, 2 | 4 | 8) || bytes > whole {
        return None;
    }
    let mut next = first.offset;
    let (mut straight, mut swapped) = (true, true);
    for part in &parts {
        let from_start = u32::try_from(part.offset.checked_sub(first.offset)?).ok()?;
        if part.offset != next {
            return None;
        }
        next = next.checked_add_unsigned(part.bytes)?;
        straight &= part.shift == 8 * from_start;
        swapped &= part.bytes == 1 && part.shift == 8 * (bytes - 1 - from_start);
    }
    if !straight && !swapped {
        return None;
    }
    let mut in_order: Vec<Inst> = parts.iter().map(|part| part.load).collect();
    in_order.sort_unstable_by(|a, b| function.layout.pp_cmp(*a, *b));
    let (from, last) = (*in_order.first()?, *in_order.last()?);
    let mut between = from;
    for _ in 0..MOST_BETWEEN {
        if between == last {
            break;
        }
        between = function.layout.next_inst(between)?;
        let opcode = function.dfg.insts[between].opcode();
        if opcode.can_store() || opcode.is_call() || opcode == Opcode::Fence {
            return None;
        }
    }
    if between != last {
        return None;
    }
    Some(Number {
        address: address?,
        offset: first.offset,
        bytes,
        swapped: !straight,
        last,
        gone,
    })
}

/// Collects the parts of a number.
struct Collect<'a> {
    function: &'a Function,
    block: Block,
    packet: &'a EntitySet<Inst>,
    uses: &'a SecondaryMap<Value, u32>,
    address: Option<Value>,
    parts: Vec<Part>,
    gone: Vec<Inst>,
}

impl Collect<'_> {
    /// Those of a value that is shifted by `shift`. `None` if it is anything else than such parts.
    fn value(&mut self, value: Value, shift: u32) -> Option<()> {
        let function = self.function;
        let value = function.dfg.resolve_aliases(value);
        // What others use as well has to be computed all the same.
        if self.uses[value] != 1 || self.parts.len() >= MOST_LOADS {
            return None;
        }
        let inst = function.dfg.value_def(value).inst()?;
        self.gone.push(inst);
        match function.dfg.insts[inst] {
            InstructionData::Binary {
                opcode: Opcode::Bor | Opcode::Iadd | Opcode::Bxor,
                args,
            } => {
                self.value(args[0], shift)?;
                self.value(args[1], shift)
            }
            InstructionData::Binary {
                opcode: Opcode::Ishl,
                args,
            } => {
                let by = u32::try_from(constant(function, args[1])?).ok()?;
                let width = function.dfg.value_type(value).bits();
                let before = self.parts.len();
                self.value(args[0], shift.checked_add(by)?)?;
                // Nothing may be shifted out.
                let fits = |part: &Part| part.shift - shift + 8 * part.bytes <= width;
                self.parts[before..].iter().all(fits).then_some(())
            }
            InstructionData::Unary {
                opcode: Opcode::Uextend,
                arg,
            } => self.value(arg, shift),
            InstructionData::Unary {
                opcode: Opcode::Ireduce,
                arg,
            } => {
                let width = function.dfg.value_type(value).bits();
                let before = self.parts.len();
                self.value(arg, shift)?;
                let fits = |part: &Part| part.shift - shift + 8 * part.bytes <= width;
                self.parts[before..].iter().all(fits).then_some(())
            }
            InstructionData::Load {
                opcode, arg, offset, ..
            } => {
                let bytes = match opcode {
                    Opcode::Uload8 => 1,
                    Opcode::Uload16 => 2,
                    Opcode::Uload32 => 4,
                    _ => return None,
                };
                if !self.packet.contains(inst) || function.layout.inst_block(inst) != Some(self.block) {
                    return None;
                }
                let (base, more) = without_constant(function, arg);
                if *self.address.get_or_insert(base) != base {
                    return None;
                }
                self.parts.push(Part {
                    load: inst,
                    offset: i32::from(offset).checked_add(more)?,
                    bytes,
                    shift,
                });
                Some(())
            }
            _ => None,
        }
    }
}

/// Puts one load in the place of the instruction that put a number together.
fn replace(function: &mut Function, inst: Inst, number: &Number) {
    let result = function.dfg.first_result(inst);
    let kind = function.dfg.value_type(result);
    let location = function.srcloc(number.last);
    let flags = MemFlagsData::new();
    let mut cursor = FuncCursor::new(function).at_inst(number.last).with_srcloc(location);
    let (address, offset) = (number.address, number.offset);
    let narrow = match number.bytes {
        2 => types::I16,
        4 => types::I32,
        _ => types::I64,
    };
    let made = if number.swapped {
        let loaded = cursor.ins().load(narrow, flags, address, offset);
        let swapped = cursor.ins().bswap(loaded);
        if narrow == kind {
            swapped
        } else {
            cursor.ins().uextend(kind, swapped)
        }
    } else {
        match (number.bytes, kind) {
            (2, _) => cursor.ins().uload16(kind, flags, address, offset),
            (4, types::I64) => cursor.ins().uload32(flags, address, offset),
            _ => cursor.ins().load(kind, flags, address, offset),
        }
    };
    for gone in &number.gone {
        function.layout.remove_inst(*gone);
    }
    function.dfg.clear_results(inst);
    function.dfg.change_to_alias(result, made);
}
