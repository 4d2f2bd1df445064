//! Arithmetic, moves and byte swaps (RFC 9669 §4.1, §4.2).
//!
//! 32-bit operations are 32-bit operations here too, so that Cranelift sees rotates and narrow forms; the result is
//! zero-extended. Nothing traps: a divisor that could be 0 is replaced before it is divided by.

use bpf2sys_bytecode::{AluOp, Extension, Operand, Reg, SwapKind, SwapWidth, WordSize};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, InstructionData, Value, types};

use super::function::Lowering;
use super::registers::word_type;
use crate::error::InstructionProblem;
use crate::{InsnPlace, Optimization};

impl Lowering<'_, '_> {
    pub(super) fn alu(&mut self, size: WordSize, op: AluOp, dst: Reg, src: Operand) -> Result<(), InstructionProblem> {
        if let (AluOp::Mov, Operand::Imm(imm)) = (op, src) {
            // Of 64 bits at once, so that it is seen to be a constant.
            let value = match size {
                WordSize::W64 => i64::from(imm),
                WordSize::W32 => i64::from(imm.cast_unsigned()),
            };
            let value = self.constant(WordSize::W64, value);
            return self.write(dst, value);
        }
        let b = self.operand(size, src);
        if op == AluOp::Mov {
            return self.write_word(dst, b);
        }
        let a = self.read_word(size, dst);
        if let (AluOp::Add, Operand::Imm(imm)) = (op, src)
            && let Some(address) = self.moved_in_frame(a, imm)
        {
            return self.write(dst, address);
        }
        let ins = self.builder.ins();
        let result = match op {
            AluOp::Add => ins.iadd(a, b),
            AluOp::Sub => ins.isub(a, b),
            AluOp::Mul => ins.imul(a, b),
            AluOp::Or => ins.bor(a, b),
            AluOp::And => ins.band(a, b),
            AluOp::Xor => ins.bxor(a, b),
            AluOp::Mov => b,
            // Cranelift masks shift counts to the width of the first operand, as RFC 9669 does.
            AluOp::Lsh => ins.ishl(a, b),
            AluOp::Rsh => ins.ushr(a, b),
            AluOp::Arsh => ins.sshr(a, b),
            AluOp::Div | AluOp::Mod | AluOp::Sdiv | AluOp::Smod => match src {
                Operand::Imm(divisor) => self.divide_by_constant(size, op, a, divisor),
                Operand::Reg(_) => self.divide(size, op, a, b),
            },
        };
        self.write_word(dst, result)
    }

    /// The address `address + bytes`, if `address` is a place in the own frame: one place instead of a sum, which Cranelift does not
    /// make of it.
    fn moved_in_frame(&mut self, address: Value, bytes: i32) -> Option<Value> {
        let address = self.builder.func.dfg.resolve_aliases(address);
        let made_by = self.builder.func.dfg.value_def(address).inst()?;
        let InstructionData::StackAddr { stack_slot, offset, .. } = self.builder.func.dfg.insts[made_by] else {
            return None;
        };
        let offset = i32::from(offset).checked_add(bytes)?;
        // A stack slot has no other places.
        let size = self.builder.func.sized_stack_slots[stack_slot].size;
        let inside = u32::try_from(offset).is_ok_and(|offset| offset <= size);
        inside.then(|| self.builder.ins().stack_addr(types::I64, stack_slot, offset))
    }

    /// Division or remainder by a known divisor: no check is left.
    fn divide_by_constant(&mut self, size: WordSize, op: AluOp, a: Value, divisor: i32) -> Value {
        let b = self.constant(size, i64::from(divisor));
        match (op, divisor) {
            (AluOp::Div | AluOp::Sdiv, 0) | (AluOp::Smod, -1) => self.constant(size, 0),
            (AluOp::Mod | AluOp::Smod, 0) => a,
            (AluOp::Sdiv, -1) => self.builder.ins().ineg(a), // MIN / -1 wraps to MIN
            (AluOp::Div, _) => self.builder.ins().udiv(a, b),
            (AluOp::Mod, _) => self.builder.ins().urem(a, b),
            (AluOp::Sdiv, _) => self.builder.ins().sdiv(a, b),
            _ => self.builder.ins().srem(a, b),
        }
    }

    /// Division or remainder by a register.
    ///
    /// The signed forms divide magnitudes and set the sign afterwards. That gives MIN / -1 = MIN and MIN % -1 = 0
    /// without a case of their own, where the processor's signed division would trap.
    fn divide(&mut self, size: WordSize, op: AluOp, a: Value, b: Value) -> Value {
        if self.divisor_is_proven() {
            return self.divide_plainly(size, op, a, b);
        }
        let zero = self.constant(size, 0);
        let one = self.constant(size, 1);
        let by_zero = self.builder.ins().icmp(IntCC::Equal, b, zero);
        let safe = self.builder.ins().select(by_zero, one, b);
        let divided = self.divide_plainly(size, op, a, safe);
        let otherwise = match op {
            AluOp::Div | AluOp::Sdiv => zero,
            _ => a,
        };
        self.builder.ins().select(by_zero, otherwise, divided)
    }

    /// Whether no execution of the instruction divides by 0.
    fn divisor_is_proven(&self) -> bool {
        let InsnPlace { function, instruction } = self.node.place;
        let facts = self.unit.verified.facts(function);
        self.unit.makes(Optimization::ProvenChecks) && facts.arithmetic(instruction, &self.node.op).divisor_not_zero
    }

    /// Division or remainder by what is not 0.
    fn divide_plainly(&mut self, size: WordSize, op: AluOp, a: Value, b: Value) -> Value {
        match op {
            AluOp::Div => self.builder.ins().udiv(a, b),
            AluOp::Mod => self.builder.ins().urem(a, b),
            AluOp::Sdiv => {
                let (dividend, divisor) = (self.builder.ins().iabs(a), self.builder.ins().iabs(b));
                let quotient = self.builder.ins().udiv(dividend, divisor);
                let signs = self.builder.ins().bxor(a, b);
                self.negate_if_negative(size, signs, quotient)
            }
            _ => {
                let (dividend, divisor) = (self.builder.ins().iabs(a), self.builder.ins().iabs(b));
                let remainder = self.builder.ins().urem(dividend, divisor);
                self.negate_if_negative(size, a, remainder)
            }
        }
    }

    fn negate_if_negative(&mut self, size: WordSize, sign: Value, value: Value) -> Value {
        let zero = self.constant(size, 0);
        let negative = self.builder.ins().icmp(IntCC::SignedLessThan, sign, zero);
        let negated = self.builder.ins().ineg(value);
        self.builder.ins().select(negative, negated, value)
    }

    pub(super) fn movsx(
        &mut self,
        size: WordSize,
        from: Extension,
        dst: Reg,
        src: Reg,
    ) -> Result<(), InstructionProblem> {
        let narrow = match from {
            Extension::S8 => types::I8,
            Extension::S16 => types::I16,
            Extension::S32 => types::I32,
        };
        let source = self.read(src);
        let mut value = self.builder.ins().ireduce(narrow, source);
        if word_type(size) != narrow {
            value = self.builder.ins().sextend(word_type(size), value);
        }
        self.write_word(dst, value)
    }

    pub(super) fn neg(&mut self, size: WordSize, dst: Reg) -> Result<(), InstructionProblem> {
        let value = self.read_word(size, dst);
        let value = self.builder.ins().ineg(value);
        self.write_word(dst, value)
    }

    pub(super) fn byte_swap(&mut self, kind: SwapKind, width: SwapWidth, dst: Reg) -> Result<(), InstructionProblem> {
        let mut value = self.read(dst);
        let narrow = match width {
            SwapWidth::W16 => types::I16,
            SwapWidth::W32 => types::I32,
            SwapWidth::W64 => types::I64,
        };
        if narrow != types::I64 {
            value = self.builder.ins().ireduce(narrow, value);
        }
        // Windows is little endian, so "to little endian" only truncates.
        if kind != SwapKind::ToLe {
            value = self.builder.ins().bswap(value);
        }
        self.write_word(dst, value)
    }
}
