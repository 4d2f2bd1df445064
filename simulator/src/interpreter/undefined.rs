//! Instructions that meet values which nothing has written, where these are tracked ([`Undefined::Tracked`]).
//!
//! [`Undefined::Tracked`]: super::Undefined::Tracked

use bpf2sys_bytecode::{AluOp, AtomicOp, Instruction, Operand, Reg, Width, WordSize};

use super::error::{Access, Problem};
use super::machine::{Machine, denied_access};
use super::world::World;

impl<W: World> Machine<'_, W> {
    /// Executes an instruction one of whose operands has no value, if its result is the only thing that has none then.
    /// False, with nothing done, if the instruction is for `step`, which refuses what depends on such a value.
    pub(super) fn undefined_step(&mut self, instruction: Instruction) -> Result<bool, Problem<W::Error>> {
        let unset = |register: Reg| self.registers[register.index()].is_none();
        let operand = |operand: Operand| matches!(operand, Operand::Reg(register) if unset(register));
        let result = match instruction {
            Instruction::Alu {
                op: AluOp::Mov,
                dst,
                src,
                ..
            } if operand(src) => dst,
            Instruction::Alu { dst, src, op, .. } if op != AluOp::Mov && (unset(dst) || operand(src)) => dst,
            Instruction::Movsx { dst, src, .. } if unset(src) => dst,
            Instruction::Neg { dst, .. } | Instruction::ByteSwap { dst, .. } if unset(dst) => dst,
            Instruction::Load {
                width,
                dst,
                base,
                offset,
                ..
            } if !unset(base) => {
                let address = self.address(base, offset)?;
                if !self.undefined_at(address, width)? {
                    return Ok(false);
                }
                dst
            }
            Instruction::Store {
                width,
                base,
                offset,
                src: Operand::Reg(src),
            } if unset(src) => {
                let address = self.address(base, offset)?;
                self.write_undefined(address, width.bytes())?;
                return Ok(true);
            }
            Instruction::Atomic {
                size,
                op,
                base,
                offset,
                src,
            } if !unset(base) => {
                let (address, width) = (
                    self.atomic_address(size, base, offset)?,
                    match size {
                        WordSize::W32 => Width::W,
                        WordSize::W64 => Width::Dw,
                    },
                );
                let compared = op == AtomicOp::Cmpxchg && unset(Reg::R0);
                if !unset(src) && !compared && !self.undefined_at(address, width)? {
                    return Ok(false);
                }
                if op == AtomicOp::Xchg {
                    return self.exchange(address, width, src).map(|()| true);
                }
                self.write_undefined(address, width.bytes())?;
                match op {
                    AtomicOp::Cmpxchg => Reg::R0,
                    AtomicOp::Add { fetch: false }
                    | AtomicOp::Or { fetch: false }
                    | AtomicOp::And { fetch: false }
                    | AtomicOp::Xor { fetch: false } => return Ok(true),
                    _ => src,
                }
            }
            _ => return Ok(false),
        };
        if result == Reg::R10 {
            return Err(Problem::FramePointer);
        }
        self.registers[result.index()] = None;
        Ok(true)
    }

    /// `XCHG`: each side gets what the other had, also if that is nothing.
    fn exchange(&mut self, address: u64, width: Width, src: Reg) -> Result<(), Problem<W::Error>> {
        if src == Reg::R10 {
            return Err(Problem::FramePointer);
        }
        let undefined = self.undefined_at(address, width)?;
        let old = match width {
            Width::Dw => u64::from_le_bytes(self.read(address)?),
            _ => u32::from_le_bytes(self.read(address)?).into(),
        };
        match (self.registers[src.index()], width) {
            (None, _) => self.write_undefined(address, width.bytes())?,
            (Some(new), Width::Dw) => self.write(address, &new.to_le_bytes())?,
            (Some(new), _) => self.write(address, &(new as u32).to_le_bytes())?,
        }
        self.registers[src.index()] = (!undefined).then_some(old);
        Ok(())
    }

    /// Whether bytes that the program may read were never written.
    fn undefined_at(&mut self, address: u64, width: Width) -> Result<bool, Problem<W::Error>> {
        match width {
            Width::B => self.read::<1>(address).map(|_| ()),
            Width::H => self.read::<2>(address).map(|_| ()),
            Width::W => self.read::<4>(address).map(|_| ()),
            Width::Dw => self.read::<8>(address).map(|_| ()),
        }?;
        Ok(self.world.is_undefined(address, width.bytes()))
    }

    fn write_undefined(&mut self, address: u64, length: u32) -> Result<(), Problem<W::Error>> {
        self.check_frame(Access::Write, address, length)?;
        let written = self.world.write_undefined(address, length);
        written.map_err(|denied| denied_access(Access::Write, address, length, denied.near))
    }
}
