//! Reading and writing the registers of RFC 9669 as Cranelift values.
//!
//! A register is a Cranelift variable of 64 bits; `r10` is an address that depends on the kind of function.

use bpf2sys_bytecode::{Operand, Reg, WordSize};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use cranelift_frontend::Variable;

use super::function::{FramePointer, Lowering, STACK_BYTES};
use crate::body::Register;
use crate::error::InstructionProblem;

impl Lowering<'_, '_> {
    /// A register's 64 bits.
    pub(super) fn read(&mut self, register: Reg) -> Value {
        match self.variable(register) {
            Some(variable) => self.builder.use_var(variable),
            None => self.below_frame_pointer(0),
        }
    }

    /// A register of the function that the node is from; `None` for `r10`.
    fn variable(&self, register: Reg) -> Option<Variable> {
        let register = Register::of(register, self.node.frame)?;
        self.registers.get(register.index()).copied()
    }

    /// The address `r10 - bytes`.
    pub(super) fn below_frame_pointer(&mut self, below: i32) -> Value {
        // Frames of inlined calls are where those of the calls would be.
        let below = below + STACK_BYTES * i32::from(self.node.frame);
        match self.frame_pointer {
            FramePointer::Own { slot, bytes } if below <= bytes => {
                self.builder.ins().stack_addr(types::I64, slot, bytes - below)
            }
            // An address that nothing is accessed at.
            FramePointer::Own { slot, bytes } => {
                let start = self.builder.ins().stack_addr(types::I64, slot, 0);
                self.builder.ins().iadd_imm_s(start, i64::from(bytes - below))
            }
            FramePointer::Passed(r10) => self.builder.ins().iadd_imm_s(r10, i64::from(-below)),
        }
    }

    /// A register's low bits of the word size.
    pub(super) fn read_word(&mut self, size: WordSize, register: Reg) -> Value {
        let value = self.read(register);
        match size {
            WordSize::W64 => value,
            WordSize::W32 => self.builder.ins().ireduce(types::I32, value),
        }
    }

    /// An operand of the word size.
    pub(super) fn operand(&mut self, size: WordSize, operand: Operand) -> Value {
        match operand {
            Operand::Reg(register) => self.read_word(size, register),
            Operand::Imm(imm) => self.constant(size, i64::from(imm)),
        }
    }

    /// A constant of the word size, truncated to it.
    pub(super) fn constant(&mut self, size: WordSize, value: i64) -> Value {
        match size {
            WordSize::W64 => self.builder.ins().iconst(types::I64, value),
            WordSize::W32 => self.builder.ins().iconst(types::I32, i64::from(value as u32)),
        }
    }

    /// Sets a register's 64 bits.
    pub(super) fn write(&mut self, register: Reg, value: Value) -> Result<(), InstructionProblem> {
        let variable = self.variable(register).ok_or(InstructionProblem::WritesFramePointer)?;
        self.builder.def_var(variable, value);
        if let Some(lookup) = self.lookups.get_mut(&value) {
            lookup.holders.push(variable);
        }
        Ok(())
    }

    /// Sets a register to a value of the word size, zero-extended.
    pub(super) fn write_word(&mut self, register: Reg, value: Value) -> Result<(), InstructionProblem> {
        let value = self.zero_extend(value);
        self.write(register, value)
    }

    /// Any integer as 64 bits.
    pub(super) fn zero_extend(&mut self, value: Value) -> Value {
        match self.builder.func.dfg.value_type(value) {
            types::I64 => value,
            _ => self.builder.ins().uextend(types::I64, value),
        }
    }
}

/// The Cranelift type of a word.
pub(super) fn word_type(size: WordSize) -> Type {
    match size {
        WordSize::W32 => types::I32,
        WordSize::W64 => types::I64,
    }
}
