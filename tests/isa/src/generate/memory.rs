//! The steps of a function that access memory.

use bpf2sys_bytecode::{AluOp, AtomicOp, Instruction, Operand, Reg, Width, WordSize};

use super::writer::{Writer, alu, mov};

/// A piece of memory, and a register to reach it through.
#[derive(Clone, Copy, Debug)]
struct Area {
    /// The register with the address.
    base: Reg,
    /// What the register is ahead of the place that `low` and `high` count from, in bytes, if it is a copy.
    ahead: i32,
    /// What else the copy may be ahead: an unknown multiple of 8 up to this.
    spread: i32,
    /// The piece, in bytes from the end of the stack or the start of the memory.
    low: i32,
    high: i32,
    /// Whether it is in the function's own stack, whose bytes may not have been written.
    stack: bool,
    /// Whether accesses are aligned and at known places only.
    careful: bool,
}

/// The operations with one register operand.
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
    AtomicOp::Xchg,
];

const WIDTHS: [Width; 4] = [Width::B, Width::H, Width::W, Width::Dw];

impl Writer<'_> {
    /// A few accesses to one piece of memory, perhaps through a copy of the pointer.
    pub(super) fn memory(&mut self) {
        let Some(area) = self.area(8) else { return };
        let (area, copy) = if self.random.chance(1, 3) {
            self.copy(area)
        } else {
            (area, None)
        };
        for _ in 0..=self.random.below(3) {
            self.access(area);
        }
        if let Some(copy) = copy {
            self.give_up(area, copy);
        }
    }

    /// A piece of memory that the function may use, of `bytes` or more.
    fn area(&mut self, bytes: i32) -> Option<Area> {
        let windows = self.windows.iter().map(|(low, high)| Area {
            base: Reg::R10,
            ahead: 0,
            spread: 0,
            low: *low,
            high: *high,
            stack: true,
            careful: self.plan.taste.linux,
        });
        // What a caller lends may be in its stack.
        let careful = self.plan.taste.linux && self.function > 0;
        let pinned = self.pinned.iter().map(|pinned| Area {
            base: pinned.register,
            ahead: 0,
            spread: 0,
            low: 0,
            high: pinned.bytes,
            stack: false,
            careful,
        });
        let all: Vec<Area> = windows
            .chain(pinned)
            .filter(|area| area.high - area.low >= bytes)
            .collect();
        (!all.is_empty()).then(|| self.random.one_of(&all))
    }

    /// A copy of the pointer in another register, moved by a constant, perhaps also by an unknown number.
    fn copy(&mut self, area: Area) -> (Area, Option<Copied>) {
        let Some(register) = self.unreserved(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) else {
            return (area, None);
        };
        let held_number = self.state.numbers.has(register);
        self.state.numbers.remove(register);
        self.code.push(mov(register, Operand::Reg(area.base)));
        self.reserved.insert(register);
        let ahead = match self.random.below(4) {
            0 => 0,
            1 => self.random.between(-0x7000, 0x7000),
            _ => self.random.between(area.low, area.high),
        };
        if ahead != 0 {
            let (op, imm) = if !area.careful && self.random.chance(1, 3) {
                (AluOp::Sub, -ahead)
            } else {
                (AluOp::Add, ahead)
            };
            self.code.push(alu(WordSize::W64, op, register, Operand::Imm(imm)));
        }
        let mut spread = 0;
        let room = area.high - area.low - 8;
        if room >= 8 && !area.careful && self.random.chance(1, 3) {
            spread = self
                .random
                .one_of(&[8, 24, 56].map(|mask| if mask <= room { mask } else { 8 }));
            if area.stack {
                for word in (area.low..area.high).step_by(8) {
                    if !self.state.stack_readable(word, 8) {
                        self.fill(word);
                    }
                }
            }
            let number = self.modified();
            self.code.push(alu(
                self.random.one_of(&[WordSize::W64, WordSize::W32]),
                AluOp::And,
                number,
                Operand::Imm(spread),
            ));
            self.written(number);
            self.code
                .push(alu(WordSize::W64, AluOp::Add, register, Operand::Reg(number)));
        }
        let area = Area {
            base: register,
            ahead,
            spread,
            ..area
        };
        (area, Some(Copied { register, held_number }))
    }

    /// Ends the use of a copy: its register gets a number, if others count on one.
    fn give_up(&mut self, area: Area, copy: Copied) {
        self.reserved.remove(copy.register);
        if self.random.chance(1, 2)
            && let Some((width, offset)) = self.readable_place(area)
        {
            // The load overwrites its own address.
            let signed = width != Width::Dw && self.random.chance(1, 2);
            self.code.push(Instruction::Load {
                width,
                signed,
                dst: copy.register,
                base: copy.register,
                offset,
            });
            self.written(copy.register);
        } else if copy.held_number {
            let value = self.random.number();
            self.set(copy.register, value);
        }
    }

    fn access(&mut self, area: Area) {
        match self.random.below(10) {
            0..3 => {
                if let Some((width, offset)) = self.readable_place(area) {
                    let signed = width != Width::Dw && self.random.chance(1, 2);
                    let dst = self.target();
                    self.code.push(Instruction::Load {
                        width,
                        signed,
                        dst,
                        base: area.base,
                        offset,
                    });
                    self.written(dst);
                }
            }
            3..7 => self.store(area),
            _ => self.atomic(area),
        }
    }

    fn store(&mut self, area: Area) {
        let width = self.random.one_of(&WIDTHS);
        let at = self.place(area, width);
        let src = if self.random.chance(1, 3) {
            Operand::Imm(self.random.immediate())
        } else {
            Operand::Reg(self.source())
        };
        self.code.push(Instruction::Store {
            width,
            base: area.base,
            offset: (at - area.ahead) as i16,
            src,
        });
        if area.stack && area.spread == 0 {
            self.state.stack_written(at, width.bytes().cast_signed());
        }
    }

    fn atomic(&mut self, area: Area) {
        let Some((size, offset)) = self.atomic_place(area) else {
            return;
        };
        let op = if self.random.chance(1, 6) {
            AtomicOp::Cmpxchg
        } else {
            self.random.one_of(&ATOMICS)
        };
        if op == AtomicOp::Cmpxchg {
            return self.compare_and_exchange(area, size, offset);
        }
        let fetches = !matches!(
            op,
            AtomicOp::Add { fetch: false }
                | AtomicOp::Or { fetch: false }
                | AtomicOp::And { fetch: false }
                | AtomicOp::Xor { fetch: false }
        );
        let src = if fetches { self.modified() } else { self.source() };
        self.code.push(Instruction::Atomic {
            size,
            op,
            base: area.base,
            offset,
            src,
        });
        if fetches {
            self.written(src);
        }
    }

    fn compare_and_exchange(&mut self, area: Area, size: WordSize, offset: i16) {
        if self.reserved.has(Reg::R0) {
            return; // counts a loop, is a sum, or a pointer
        }
        if !self.state.numbers.has(Reg::R0) {
            let value = self.random.number();
            self.set(Reg::R0, value);
        }
        let src = self.source();
        self.code.push(Instruction::Atomic {
            size,
            op: AtomicOp::Cmpxchg,
            base: area.base,
            offset,
            src,
        });
        if self.plan.taste.linux && size == WordSize::W32 {
            // Changes nothing. Linux 6.18 on x86-64 leaves the upper half of `r0` as it was where it takes one way through
            // the program for another that reads less of `r0`, and the exchange took place.
            self.code
                .push(alu(WordSize::W32, AluOp::Mov, Reg::R0, Operand::Reg(Reg::R0)));
        }
        self.written(Reg::R0);
    }

    /// A compare-and-exchange that finds what it expects, or the same in the lower half.
    pub(super) fn exchange(&mut self) {
        let Some(area) = self.area(8) else { return };
        let Some((size, offset)) = self.atomic_place(area) else {
            return;
        };
        if self.reserved.has(Reg::R0) {
            return;
        }
        let width = match size {
            WordSize::W32 => Width::W,
            WordSize::W64 => Width::Dw,
        };
        let signed = size == WordSize::W32 && self.random.chance(1, 2);
        self.code.push(Instruction::Load {
            width,
            signed,
            dst: Reg::R0,
            base: area.base,
            offset,
        });
        self.written(Reg::R0);
        if size == WordSize::W32 && self.random.chance(1, 3) {
            let high = self.target();
            if high != Reg::R0 {
                let value = self.random.number() << 32;
                self.set(high, value);
                self.code
                    .push(alu(WordSize::W64, AluOp::Xor, Reg::R0, Operand::Reg(high)));
            }
        }
        self.compare_and_exchange(area, size, offset);
        self.observe_register(Reg::R0);
    }

    /// A pointer is stored in the stack and loaded again.
    pub(super) fn spill(&mut self) {
        let (Some(&(low, high)), Some(pinned)) = (self.windows.first(), self.pinned.first().copied()) else {
            return;
        };
        let Some(copy) = self.unreserved(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) else {
            return;
        };
        let held_number = self.state.numbers.has(copy);
        let at = low + 8 * self.random.below((high - low) as usize / 8) as i32;
        let (width, offset) = (Width::Dw, at as i16);
        self.code.push(Instruction::Store {
            width,
            base: Reg::R10,
            offset,
            src: Operand::Reg(pinned.register),
        });
        self.code.push(Instruction::Load {
            width,
            signed: false,
            dst: copy,
            base: Reg::R10,
            offset,
        });
        self.state.numbers.remove(copy);
        self.fill(at);
        self.reserved.insert(copy);
        let area = Area {
            base: copy,
            ahead: 0,
            spread: 0,
            low: 0,
            high: pinned.bytes,
            stack: false,
            careful: self.plan.taste.linux,
        };
        self.access(area);
        self.give_up(
            area,
            Copied {
                register: copy,
                held_number,
            },
        );
    }

    /// A place for an access of this width, from where `area` counts.
    fn place(&mut self, area: Area, width: Width) -> i32 {
        let bytes = width.bytes().cast_signed();
        let last = area.high - area.spread - bytes;
        let at = self.random.between(area.low, last);
        if area.careful || self.random.chance(1, 2) {
            (at & -bytes).max(area.low)
        } else {
            at
        }
    }

    /// A place that may be read, as the offset in an instruction.
    fn readable_place(&mut self, area: Area) -> Option<(Width, i16)> {
        (0..4).find_map(|_| {
            let width = self.random.one_of(&WIDTHS);
            let at = self.place(area, width);
            let bytes = width.bytes().cast_signed() + area.spread;
            let readable = !area.stack || self.state.stack_readable(at, bytes);
            readable.then_some((width, (at - area.ahead) as i16))
        })
    }

    /// An aligned place that may be read and written.
    fn atomic_place(&mut self, area: Area) -> Option<(WordSize, i16)> {
        let size = self.size();
        let bytes = match size {
            WordSize::W32 => 4,
            WordSize::W64 => 8,
        };
        let count = (area.high - area.low - area.spread) / bytes;
        let at = area.low + bytes * self.random.between(0, count - 1);
        if area.stack && !self.state.stack_readable(at, bytes + area.spread) {
            if area.spread > 0 {
                return None;
            }
            self.fill(at & -8);
        }
        Some((size, (at - area.ahead) as i16))
    }

    /// An address of `bytes` that a callee may read and write: from where it is and how far behind it.
    pub(super) fn lend(&mut self, bytes: i32) -> Option<(Reg, i32)> {
        let area = self.area(bytes)?;
        let at = area.low + 8 * self.random.between(0, (area.high - area.low - bytes) / 8);
        if area.stack {
            for word in (at..at + bytes).step_by(8) {
                if !self.state.stack_readable(word, 8) {
                    self.fill(word);
                }
            }
        }
        Some((area.base, at))
    }
}

/// A register that holds a copy of a pointer.
#[derive(Clone, Copy, Debug)]
struct Copied {
    register: Reg,
    /// Whether it held a number before.
    held_number: bool,
}
