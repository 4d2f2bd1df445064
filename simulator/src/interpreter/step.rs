//! Which instruction does what.

#![allow(clippy::match_same_arms)] // in the order of the RFC

use bpf2sys_bytecode::{AluOp, AtomicOp, Callee, Extension, Imm64, Instruction, Operand, Reg, Width, WordSize};

use super::arithmetic::{alu32, alu64, byte_swap, holds32, holds64, sign_extend};
use super::error::Problem;
use super::machine::{Flow, Machine};
use super::world::{HelperResult, World};

impl<W: World> Machine<'_, W> {
    /// Executes one instruction. Sections are those of RFC 9669.
    pub(super) fn step(&mut self, instruction: Instruction) -> Result<Flow, Problem<W::Error>> {
        match instruction {
            // §4.1: a move is the one operation that does not look at `dst`.
            Instruction::Alu {
                size: WordSize::W64,
                op: AluOp::Mov,
                dst,
                src,
            } => {
                let value = self.operand(src)?;
                self.set(dst, value)?;
            }
            Instruction::Alu {
                size: WordSize::W32,
                op: AluOp::Mov,
                dst,
                src,
            } => {
                let value = self.operand(src)? as u32;
                self.set(dst, u64::from(value))?;
            }

            // §4.1: `ALU64`; `dst = dst op src`
            Instruction::Alu {
                size: WordSize::W64,
                op,
                dst,
                src,
            } => {
                let result = alu64(op, self.get(dst)?, self.operand(src)?);
                self.set(dst, result)?;
            }
            // §4.1: `ALU`; `dst = (u32)((u32)dst op (u32)src)`
            Instruction::Alu {
                size: WordSize::W32,
                op,
                dst,
                src,
            } => {
                let result = alu32(op, self.get(dst)? as u32, self.operand(src)? as u32);
                self.set(dst, u64::from(result))?;
            }

            // §4.1: `MOVSX`. `ALU` extends 8 and 16 bits to 32, and zeroes the rest; from 32 bits it is not defined.
            Instruction::Movsx {
                size: WordSize::W64,
                from,
                dst,
                src,
            } => {
                let result = sign_extend(from, self.get(src)?);
                self.set(dst, result)?;
            }
            Instruction::Movsx {
                size: WordSize::W32,
                from: Extension::S32,
                ..
            } => return Err(Problem::NoMeaning),
            Instruction::Movsx {
                size: WordSize::W32,
                from,
                dst,
                src,
            } => {
                let result = sign_extend(from, self.get(src)?) as u32;
                self.set(dst, u64::from(result))?;
            }

            // §4.1: `NEG`; `dst = -dst`
            Instruction::Neg {
                size: WordSize::W64,
                dst,
            } => {
                let result = self.get(dst)?.wrapping_neg();
                self.set(dst, result)?;
            }
            Instruction::Neg {
                size: WordSize::W32,
                dst,
            } => {
                let result = (self.get(dst)? as u32).wrapping_neg();
                self.set(dst, u64::from(result))?;
            }

            // §4.2: `END`
            Instruction::ByteSwap { kind, width, dst } => {
                let result = byte_swap(kind, width, self.get(dst)?);
                self.set(dst, result)?;
            }

            // §5.4: `lddw`. On Windows a global variable section is the map value that the RFC's `map_val` means.
            Instruction::LoadImm64 { dst, value } => {
                let value = match value {
                    Imm64::Constant(value) => value,
                    Imm64::Map(map) => self.world.map_address(map).ok_or(Problem::Missing("map"))?,
                    Imm64::Global { section, offset } => {
                        let start = self.world.global_address(section);
                        let start = start.ok_or(Problem::Missing("global variable section"))?;
                        start.wrapping_add(u64::from(offset))
                    }
                    Imm64::Pseudo { .. } => return Err(Problem::NoMeaning),
                };
                self.set(dst, value)?;
            }

            // §5.1: `{MEM, <size>, LDX}`; `dst = *(unsigned size *)(src + offset)`
            Instruction::Load {
                width,
                signed: false,
                dst,
                base,
                offset,
            } => {
                let value = self.load(width, base, offset)?;
                self.set(dst, value)?;
            }
            // §5.2: `{MEMSX, <size>, LDX}`; `dst = *(signed size *)(src + offset)`
            Instruction::Load {
                width,
                signed: true,
                dst,
                base,
                offset,
            } => {
                let from = match width {
                    Width::B => Extension::S8,
                    Width::H => Extension::S16,
                    Width::W => Extension::S32,
                    Width::Dw => return Err(Problem::NoMeaning),
                };
                let value = sign_extend(from, self.load(width, base, offset)?);
                self.set(dst, value)?;
            }

            // §5.1: `{MEM, <size>, STX}` and `ST`; `*(size *)(dst + offset) = src`
            Instruction::Store {
                width,
                base,
                offset,
                src,
            } => self.store(width, base, offset, src)?,

            // §5.3
            Instruction::Atomic {
                size: WordSize::W64,
                op,
                base,
                offset,
                src,
            } => self.atomic64(op, base, offset, src)?,
            Instruction::Atomic {
                size: WordSize::W32,
                op,
                base,
                offset,
                src,
            } => self.atomic32(op, base, offset, src)?,

            // §4.3: `JA`. Both classes jump; they differ in where the distance is encoded.
            Instruction::Jump { .. } => return Ok(Flow::Jump),

            // §4.3: `JMP` compares 64 bits, `JMP32` the low 32.
            Instruction::JumpIf {
                size: WordSize::W64,
                condition,
                dst,
                src,
                ..
            } => {
                if holds64(condition, self.get(dst)?, self.operand(src)?) {
                    return Ok(Flow::Jump);
                }
            }
            Instruction::JumpIf {
                size: WordSize::W32,
                condition,
                dst,
                src,
                ..
            } => {
                if holds32(condition, self.get(dst)? as u32, self.operand(src)? as u32) {
                    return Ok(Flow::Jump);
                }
            }

            // §4.3.1: helper functions, in the one numbering that Windows has
            Instruction::Call(Callee::Helper(id)) => {
                let arguments = self.arguments();
                match self.world.helper(id, arguments).map_err(Problem::Helper)? {
                    HelperResult::Returned(value) => {
                        self.forget_arguments();
                        self.set(Reg::R0, value)?;
                    }
                    HelperResult::Ends(value) => return Ok(Flow::End(value)),
                }
            }
            // Functions of Windows modules by BTF, which §4.3.1 leaves to the platform: native module contract §6.4
            Instruction::Call(Callee::Btf(function)) => {
                let arguments = self.arguments();
                let answer = self.world.btf_function(function, arguments);
                let value = answer.map_err(Problem::Helper)?.ok_or(Problem::NoMeaning)?;
                self.forget_arguments();
                self.set(Reg::R0, value)?;
            }
            // §4.3.2: program-local functions
            Instruction::Call(Callee::Local(function)) => return Ok(Flow::Call(function)),
            // §4.3
            Instruction::Exit => return Ok(Flow::Return),

            // §4.3 defines `CALL` with `K` only. clang has a form with `X`, which calls what a register says.
            Instruction::CallX(_) => return Err(Problem::Group("callx")),
            // §5.5
            Instruction::LegacyPacket { .. } => return Err(Problem::Group("packet")),
        }
        Ok(Flow::Next)
    }

    /// The value at `base + offset`, zero-extended. Memory is little-endian, as on Windows.
    fn load(&mut self, width: Width, base: Reg, offset: i16) -> Result<u64, Problem<W::Error>> {
        let address = self.address(base, offset)?;
        Ok(match width {
            Width::B => u64::from(u8::from_le_bytes(self.read(address)?)),
            Width::H => u64::from(u16::from_le_bytes(self.read(address)?)),
            Width::W => u64::from(u32::from_le_bytes(self.read(address)?)),
            Width::Dw => u64::from_le_bytes(self.read(address)?),
        })
    }

    /// Stores the low bytes of `src`; an immediate is sign-extended for `DW`.
    fn store(&mut self, width: Width, base: Reg, offset: i16, src: Operand) -> Result<(), Problem<W::Error>> {
        let address = self.address(base, offset)?;
        let value = self.operand(src)?;
        match width {
            Width::B => self.write(address, &(value as u8).to_le_bytes()),
            Width::H => self.write(address, &(value as u16).to_le_bytes()),
            Width::W => self.write(address, &(value as u32).to_le_bytes()),
            Width::Dw => self.write(address, &value.to_le_bytes()),
        }
    }

    /// `{ATOMIC, DW, STX}`. Nothing runs beside the interpreter, so reading and then writing is atomic.
    fn atomic64(&mut self, op: AtomicOp, base: Reg, offset: i16, src: Reg) -> Result<(), Problem<W::Error>> {
        let address = self.atomic_address(WordSize::W64, base, offset)?;
        let operand = self.get(src)?;
        let expected = self.expected(op)?;
        let old = u64::from_le_bytes(self.read(address)?);
        let new = match op {
            AtomicOp::Add { .. } => old.wrapping_add(operand),
            AtomicOp::Or { .. } => old | operand,
            AtomicOp::And { .. } => old & operand,
            AtomicOp::Xor { .. } => old ^ operand,
            AtomicOp::Xchg => operand,
            AtomicOp::Cmpxchg if old == expected => operand,
            AtomicOp::Cmpxchg => old,
        };
        self.write(address, &new.to_le_bytes())?;
        self.fetched(op, src, old)
    }

    /// `{ATOMIC, W, STX}`: the low 32 bits of `src` and of `r0` take part; what is fetched is zero-extended.
    fn atomic32(&mut self, op: AtomicOp, base: Reg, offset: i16, src: Reg) -> Result<(), Problem<W::Error>> {
        let address = self.atomic_address(WordSize::W32, base, offset)?;
        let operand = self.get(src)? as u32;
        let expected = self.expected(op)? as u32;
        let old = u32::from_le_bytes(self.read(address)?);
        let new = match op {
            AtomicOp::Add { .. } => old.wrapping_add(operand),
            AtomicOp::Or { .. } => old | operand,
            AtomicOp::And { .. } => old & operand,
            AtomicOp::Xor { .. } => old ^ operand,
            AtomicOp::Xchg => operand,
            AtomicOp::Cmpxchg if old == expected => operand,
            AtomicOp::Cmpxchg => old,
        };
        self.write(address, &new.to_le_bytes())?;
        self.fetched(op, src, u64::from(old))
    }

    /// What `CMPXCHG` compares with: `r0`. No other operation looks at it.
    fn expected(&self, op: AtomicOp) -> Result<u64, Problem<W::Error>> {
        match op {
            AtomicOp::Cmpxchg => self.get(Reg::R0),
            _ => Ok(0),
        }
    }

    /// Where the old value goes.
    fn fetched(&mut self, op: AtomicOp, src: Reg, old: u64) -> Result<(), Problem<W::Error>> {
        match op {
            AtomicOp::Cmpxchg => self.set(Reg::R0, old),
            AtomicOp::Xchg
            | AtomicOp::Add { fetch: true }
            | AtomicOp::Or { fetch: true }
            | AtomicOp::And { fetch: true }
            | AtomicOp::Xor { fetch: true } => self.set(src, old),
            AtomicOp::Add { fetch: false }
            | AtomicOp::Or { fetch: false }
            | AtomicOp::And { fetch: false }
            | AtomicOp::Xor { fetch: false } => Ok(()),
        }
    }
}
