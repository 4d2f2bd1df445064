//! The steps that access memory.

use bpf2sys_bytecode::{AtomicOp, GlobalIndex, Imm64, Instruction, Operand, Reg, Width, WordSize};

use super::state::{Held, Memory, WORDS, Word};
use super::writer::{WIDTHS, Writer, register};

const ATOMICS: [AtomicOp; 10] = [
    AtomicOp::Add { fetch: false },
    AtomicOp::Add { fetch: true },
    AtomicOp::Or { fetch: false },
    AtomicOp::Or { fetch: true },
    AtomicOp::And { fetch: false },
    AtomicOp::And { fetch: true },
    AtomicOp::Xor { fetch: false },
    AtomicOp::Xor { fetch: true },
    AtomicOp::Xchg,
    AtomicOp::Cmpxchg,
];

impl Writer<'_> {
    /// One access within `memory` of `base`.
    pub(super) fn access(&mut self, base: Reg, memory: Memory, readable: bool) {
        let room = memory.high - memory.low;
        let fitting: Vec<Width> = WIDTHS.into_iter().filter(|w| w.bytes() as i32 <= room).collect();
        let width = if fitting.is_empty() {
            Width::B
        } else {
            self.random.one_of(&fitting)
        };
        let bytes = width.bytes() as i32;
        let slack = (room - bytes).max(0);
        // At the ends more often than between.
        let mut offset = memory.low
            + match self.random.below(3) {
                0 => slack,
                1 => 0,
                _ => self.random.between(0, slack),
            };
        if self.slip() {
            offset += self.random.one_of(&[-1, 1, 1, bytes, 8]);
        }
        let offset = offset as i16;
        let load = readable && (!memory.writable || self.random.chance(1, 2));
        match self.random.below(8) {
            0 if memory.writable && readable && room >= 4 => {
                let size = if room >= 8 && self.random.chance(1, 2) {
                    WordSize::W64
                } else {
                    WordSize::W32
                };
                let src = self.number();
                let op = self.random.one_of(&ATOMICS);
                if op == AtomicOp::Cmpxchg && self.state.held(Reg::R0) != Held::Number {
                    return;
                }
                let align = if size == WordSize::W64 { 8 } else { 4 };
                let offset = offset.div_euclid(align) * align;
                if i32::from(offset) < memory.low {
                    return;
                }
                self.push(Instruction::Atomic {
                    size,
                    op,
                    base,
                    offset,
                    src,
                });
            }
            _ if load => {
                let dst = self.target();
                if dst == base {
                    return;
                }
                let signed = width != Width::Dw && self.random.chance(1, 4);
                self.push(Instruction::Load {
                    width,
                    signed,
                    dst,
                    base,
                    offset,
                });
                self.state.set(dst, Held::Number);
            }
            _ if memory.writable || self.slip() => {
                let src = match self.any_holding(|held| held == Held::Number) {
                    _ if self.slip() => Operand::Reg(register(self.random.below(11))),
                    Some(number) if self.random.chance(2, 3) => Operand::Reg(number),
                    _ => Operand::Imm(self.random.immediate()),
                };
                self.push(Instruction::Store {
                    width,
                    base,
                    offset,
                    src,
                });
            }
            _ => {}
        }
    }

    /// Some accesses through a register that is no null pointer.
    pub(super) fn accesses(&mut self, base: Reg, memory: Memory) {
        for _ in 0..=self.random.below(2) {
            if self.state.held(base) != Held::Memory(memory) {
                return;
            }
            self.access(base, memory, true);
        }
    }

    /// Through any pointer there is.
    pub(super) fn access_any(&mut self) {
        match self.any_holding(|held| matches!(held, Held::Memory(m) if !m.nullable)) {
            Some(base) => {
                if let Held::Memory(memory) = self.state.held(base) {
                    self.accesses(base, memory);
                }
            }
            None => self.stack(),
        }
    }

    /// Stores and loads in the own frame.
    pub(super) fn stack(&mut self) {
        let base = register(10);
        for _ in 0..=self.random.below(2) {
            let written: Vec<usize> = (0..WORDS).filter(|w| self.state.stack[*w] == Word::Number).collect();
            if !written.is_empty() && self.random.chance(1, 2) {
                let word = self.random.one_of(&written) as i32;
                let memory = Memory {
                    low: -8 * (word + 1),
                    high: -8 * word,
                    nullable: false,
                    writable: true,
                };
                self.access(base, memory, true);
                continue;
            }
            let deep = self.random.chance(1, 30);
            let low = if deep {
                self.random.one_of(&[-512, -512, -504, -520, -516])
            } else if self.random.chance(1, 60) {
                -4
            } else {
                -8 * self.random.between(1, WORDS as i32)
            };
            let width = if self.random.chance(2, 3) {
                Width::Dw
            } else {
                self.random.one_of(&WIDTHS)
            };
            let number = self.any_holding(|held| held == Held::Number);
            let src = match number {
                Some(number) if self.random.chance(1, 2) => Operand::Reg(number),
                _ => Operand::Imm(self.random.immediate()),
            };
            self.push(Instruction::Store {
                width,
                base,
                offset: low as i16,
                src,
            });
            if low > -8 * (WORDS as i32 + 1) {
                self.state.wrote(low, low + width.bytes() as i32);
            }
            if self.slip() {
                // What was not written.
                let word = self.random.between(1, WORDS as i32);
                let dst = self.target();
                self.push(Instruction::Load {
                    width: Width::Dw,
                    signed: false,
                    dst,
                    base,
                    offset: -8 * word as i16,
                });
                self.state.set(dst, Held::Number);
            }
        }
    }

    /// Makes sure that bytes of the frame are written.
    pub(super) fn fill(&mut self, low: i32, high: i32) {
        if self.slip() {
            return;
        }
        let mut at = low;
        while at < high {
            if self.state.readable(at, at + 1) {
                at += 1;
            } else {
                let wide = at % 8 == 0 && high - at >= 8;
                let (width, bytes) = if wide {
                    (Width::Dw, 8)
                } else if at % 4 == 0 && high - at >= 4 {
                    (Width::W, 4)
                } else {
                    (Width::B, 1)
                };
                let number = self.any_holding(|held| held == Held::Number);
                let src = match number {
                    Some(number) if self.random.chance(1, 3) => Operand::Reg(number),
                    _ => Operand::Imm(self.random.between(-1, 3)),
                };
                self.push(Instruction::Store {
                    width,
                    base: register(10),
                    offset: at as i16,
                    src,
                });
                if bytes == 8 {
                    self.state.wrote(at, at + 8);
                }
                at += bytes;
            }
        }
    }

    pub(super) fn global(&mut self) {
        let section = if !self.tables.globals.is_empty() && self.random.chance(2, 3) {
            GlobalIndex(self.random.below(self.tables.globals.len()) as u32)
        } else {
            let (size, read_only) = (self.random.one_of(&[4, 8, 16, 20, 64]), self.random.chance(1, 4));
            self.tables.global(size, read_only)
        };
        let global = &self.tables.globals[section.index()];
        let (size, read_only) = (global.data.len() as i32, global.read_only);
        let writable = !read_only || self.slip();
        let offset = if self.random.chance(1, 2) {
            0
        } else {
            self.random.between(0, size)
        };
        let dst = self.lasting_target();
        self.push(Instruction::LoadImm64 {
            dst,
            value: Imm64::Global {
                section,
                offset: offset as u32,
            },
        });
        let memory = Memory {
            low: -offset,
            high: size - offset,
            nullable: false,
            writable,
        };
        self.state.set(dst, Held::Memory(memory));
        self.accesses(dst, memory);
    }

    /// A pointer goes to the stack and comes back.
    pub(super) fn spill(&mut self) {
        let Some(pointer) = self.any_holding(Held::is_pointer) else {
            return;
        };
        let base = register(10);
        let spilled: Vec<usize> = (0..WORDS)
            .filter(|w| matches!(self.state.stack[*w], Word::Held(_)))
            .collect();
        if spilled.is_empty() || self.random.chance(1, 3) {
            let word = self.random.below(WORDS);
            self.push(Instruction::Store {
                width: Width::Dw,
                base,
                offset: -8 * (word as i16 + 1),
                src: Operand::Reg(pointer),
            });
            self.state.stack[word] = Word::Held(self.state.held(pointer));
            if self.random.chance(1, 2) && self.depth == 0 {
                let step = self.random.below(2) + 1;
                self.depth += 2;
                self.steps(step);
                self.depth -= 2;
            }
            if self.slip() {
                // Over a part of it.
                let at = self.random.between(0, 7);
                self.push(Instruction::Store {
                    width: Width::B,
                    base,
                    offset: (-8 * (word as i32 + 1) + at) as i16,
                    src: Operand::Imm(0),
                });
            }
        }
        let spilled: Vec<usize> = (0..WORDS)
            .filter(|w| matches!(self.state.stack[*w], Word::Held(_)))
            .collect();
        if spilled.is_empty() {
            return;
        }
        let word = self.random.one_of(&spilled);
        if let Word::Held(held) = self.state.stack[word] {
            let dst = self.lasting_target();
            self.push(Instruction::Load {
                width: Width::Dw,
                signed: false,
                dst,
                base,
                offset: -8 * (word as i16 + 1),
            });
            self.state.set(dst, held);
            if let Held::Memory(memory) = held
                && !memory.nullable
            {
                self.accesses(dst, memory);
            }
        }
    }
}
