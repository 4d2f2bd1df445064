//! The steps that access memory at an address that depends on a number.

use bpf2sys_bytecode::{AluOp, Operand, Reg, WordSize};

use super::state::{Held, Memory};
use super::writer::{Writer, alu, buffer_place, mov, register};

impl Writer<'_> {
    /// An access at an address that depends on a number.
    pub(super) fn indexed(&mut self) {
        let base = self.any_holding(|held| matches!(held, Held::Memory(m) if !m.nullable && m.high - m.low >= 2));
        match base {
            Some(base) if self.random.chance(2, 3) => self.index_into(base),
            _ if self.random.chance(1, 2) => {
                // The own frame, all of which must be written to be read.
                let bytes = self.random.one_of(&[8, 16, 32]);
                let low = buffer_place(self.random, bytes);
                if self.random.chance(2, 3) {
                    self.fill(low, low + bytes);
                }
                let memory = Memory {
                    low,
                    high: low + bytes,
                    nullable: false,
                    writable: true,
                };
                self.index_memory(register(10), memory);
            }
            _ => self.global(),
        }
    }

    pub(super) fn index_into(&mut self, base: Reg) {
        if let Held::Memory(memory) = self.state.held(base) {
            self.index_memory(base, memory);
        }
    }

    /// `base[number]`.
    fn index_memory(&mut self, base: Reg, memory: Memory) {
        let room = memory.high - memory.low;
        if room < 2 {
            return;
        }
        self.pinned.push(base);
        let number = self.number();
        self.pinned.push(number);
        let pointer = self.target();
        self.pinned.pop();
        if number == base
            || pointer == base
            || pointer == number
            || self.state.held(base) == Held::Nothing && base.number() < 10
        {
            self.pinned.pop();
            return;
        }
        let bytes = self.random.one_of(&[1, 1, 2, 4, 8]).min(room);
        let count = match self.random.below(3) {
            0 => self.random.between(1, room - bytes + 1),
            1 => 1 << self.random.between(0, (room - bytes + 1).ilog2() as i32),
            _ => room - bytes + 1,
        };
        let scale = if count >= 4 && self.random.chance(1, 4) { 2 } else { 0 };
        self.bound(number, if scale > 0 { (count - 1) / 4 + 1 } else { count });
        if scale > 0 {
            self.push(alu(WordSize::W64, AluOp::Lsh, number, Operand::Imm(scale)));
        }
        self.push(mov(pointer, Operand::Reg(base)));
        if self.random.chance(1, 6) {
            // The other way around.
            self.push(mov(pointer, Operand::Reg(number)));
            self.push(alu(WordSize::W64, AluOp::Add, pointer, Operand::Reg(base)));
        } else {
            self.push(alu(WordSize::W64, AluOp::Add, pointer, Operand::Reg(number)));
        }
        // The first `bytes` bytes behind the furthest place.
        let reach = Memory {
            high: memory.low + bytes,
            ..memory
        };
        self.state.set(number, Held::Number);
        self.pinned.push(pointer);
        self.reached(pointer, reach, base, memory);
        self.pinned.pop();
        self.pinned.pop();
    }

    /// An access at `base[number]`, where the number is believed to be in bounds as it is.
    pub(super) fn access_at(&mut self, base: Reg, memory: Memory, number: Reg) {
        let Some([pointer]) = self.fresh() else { return };
        self.push(mov(pointer, Operand::Reg(base)));
        self.push(alu(WordSize::W64, AluOp::Add, pointer, Operand::Reg(number)));
        let reach = Memory {
            high: memory.low + 1,
            ..memory
        };
        self.reached(pointer, reach, base, memory);
        self.pinned.pop();
    }

    /// An access through `pointer`, which is `base` and some number.
    fn reached(&mut self, pointer: Reg, reach: Memory, base: Reg, memory: Memory) {
        self.state.set(pointer, Held::Memory(reach));
        let own = base.number() == 10;
        let readable = !own || self.state.readable(memory.low, memory.high);
        self.access(pointer, reach, readable);
    }
}
