//! Loads, stores and atomic operations (RFC 9669 §5; native module contract §6.5).
//!
//! Others can see packets, map values and contexts while a program runs, so each access there happens as written: one
//! access of that width, in that order, once. Cranelift has no volatile accesses, and its alias analysis (always on at
//! `opt_level=speed`; the setting `enable_alias_analysis` of 0.135 is read by nothing) would merge repeated loads, forward
//! stores and drop overwritten ones. A `sequence_point` before the access prevents that: it emits no code, but counts as
//! a fence, so no access is ever compared with an earlier one across it. The flags leave traps possible, so that a load
//! is kept whose result nobody reads.
//!
//! Stack slots that are values ([`Slots`](crate::body::Slots)) are accessed as variables. Other accesses relative to `r10` stay inside the function's own 512 bytes and are ordinary memory to Cranelift. It may combine
//! them; other accesses and calls still count as touching them.

use bpf2sys_bytecode::{AtomicOp, Operand, Reg, Width, WordSize};
use bpf2sys_pe_emit::Machine;
use bpf2sys_verifier::Region;
use cranelift_codegen::ir::{AtomicRmwOp, InstBuilder, MemFlagsData, Value, types};

use super::function::{Lowering, STACK_BYTES};
use super::registers::word_type;
use crate::InsnPlace;
use crate::error::InstructionProblem;

impl Lowering<'_, '_> {
    /// The address for an access of `bytes` at `base + offset`, split into a value and a constant; and the fence that an
    /// access outside the own frame needs.
    fn address(&mut self, base: Reg, offset: i16, bytes: u32) -> (Value, i32) {
        let offset = i32::from(offset);
        if base == Reg::R10 && offset >= -STACK_BYTES && offset + bytes.cast_signed() <= 0 {
            return (self.below_frame_pointer(-offset), 0);
        }
        self.builder.ins().sequence_point();
        (self.read(base), offset)
    }

    pub(super) fn load(
        &mut self,
        width: Width,
        signed: bool,
        dst: Reg,
        base: Reg,
        offset: i16,
    ) -> Result<(), InstructionProblem> {
        if let Some(slot) = self.slot() {
            let value = self.builder.use_var(slot);
            let value = match (width, signed) {
                (Width::Dw, _) => value,
                (_, false) => self.builder.ins().uextend(types::I64, value),
                (_, true) => self.builder.ins().sextend(types::I64, value),
            };
            return self.write(dst, value);
        }
        let (address, offset) = self.address(base, offset, width.bytes());
        let flags = MemFlagsData::new();
        let ins = self.builder.ins();
        let value = match (width, signed) {
            (Width::B, false) => ins.uload8(types::I64, flags, address, offset),
            (Width::B, true) => ins.sload8(types::I64, flags, address, offset),
            (Width::H, false) => ins.uload16(types::I64, flags, address, offset),
            (Width::H, true) => ins.sload16(types::I64, flags, address, offset),
            (Width::W, false) => ins.uload32(flags, address, offset),
            (Width::W, true) => ins.sload32(flags, address, offset),
            (Width::Dw, _) => ins.load(types::I64, flags, address, offset),
        };
        if self.is_of_packet()
            && let Some(load) = self.builder.func.dfg.value_def(value).inst()
        {
            self.packet_loads.insert(load);
        }
        self.write(dst, value)
    }

    /// Whether the instruction accesses the packet, in every execution.
    fn is_of_packet(&self) -> bool {
        let InsnPlace { function, instruction } = self.node.place;
        let access = self.unit.verified.facts(function).access(instruction, &self.node.op);
        access.is_some_and(|access| access.region == Region::Packet)
    }

    pub(super) fn store(&mut self, width: Width, base: Reg, offset: i16, src: Operand) {
        let mut value = self.operand(WordSize::W64, src);
        if let Some(slot) = self.slot() {
            let narrow = match width {
                Width::B => types::I8,
                Width::H => types::I16,
                Width::W => types::I32,
                Width::Dw => types::I64,
            };
            if narrow != types::I64 {
                value = self.builder.ins().ireduce(narrow, value);
            }
            return self.builder.def_var(slot, value);
        }
        let (address, offset) = self.address(base, offset, width.bytes());
        let flags = MemFlagsData::new();
        let ins = self.builder.ins();
        match width {
            Width::B => ins.istore8(flags, value, address, offset),
            Width::H => ins.istore16(flags, value, address, offset),
            Width::W => ins.istore32(flags, value, address, offset),
            Width::Dw => ins.store(flags, value, address, offset),
        };
    }

    /// Atomic operations are full barriers (native module contract §6.5). So they are in Cranelift's analysis, on x64 and as
    /// one ARM64 instruction with acquire and release. A loop of load-acquire-exclusive and store-release-exclusive lets
    /// later accesses pass the store; a fence stops them.
    pub(super) fn atomic(
        &mut self,
        size: WordSize,
        op: AtomicOp,
        base: Reg,
        offset: i16,
        src: Reg,
    ) -> Result<(), InstructionProblem> {
        let address = self.read(base);
        let address = self.builder.ins().iadd_imm_s(address, i64::from(offset));
        let operand = self.read_word(size, src);
        let flags = MemFlagsData::new();
        let (op, result) = match op {
            AtomicOp::Add { fetch } => (Some(AtomicRmwOp::Add), fetch.then_some(src)),
            AtomicOp::Or { fetch } => (Some(AtomicRmwOp::Or), fetch.then_some(src)),
            AtomicOp::And { fetch } => (Some(AtomicRmwOp::And), fetch.then_some(src)),
            AtomicOp::Xor { fetch } => (Some(AtomicRmwOp::Xor), fetch.then_some(src)),
            AtomicOp::Xchg => (Some(AtomicRmwOp::Xchg), Some(src)),
            AtomicOp::Cmpxchg => (None, Some(Reg::R0)),
        };
        let old = if let Some(op) = op {
            let word = word_type(size);
            self.builder.ins().atomic_rmw(word, flags, op, address, operand)
        } else {
            let expected = self.read_word(size, Reg::R0);
            self.builder.ins().atomic_cas(flags, address, expected, operand)
        };
        // Cranelift has no rule that makes an exchange one instruction.
        let is_one_instruction = self.unit.options.lse && op != Some(AtomicRmwOp::Xchg);
        if self.unit.options.machine == Machine::Arm64 && !is_one_instruction {
            self.builder.ins().fence();
        }
        match result {
            Some(register) => self.write_word(register, old),
            None => Ok(()),
        }
    }
}
