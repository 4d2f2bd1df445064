//! Loops whose rounds differ: what a register or a word of the stack holds at the end depends on all of them.
//!
//! `blocks` has the loops whose rounds are alike. Here each round moves something on: an index, a pointer, an offset into the
//! packet that the packet itself tells; and what the loop leaves behind is used as a bound of an access.

use bpf2sys_bytecode::{AluOp, Condition, Instruction, Operand, Reg, Width, WordSize};
use bpf2sys_isa_tests::code::{Label, goto};

use super::state::{Held, Memory};
use super::writer::{Writer, add, alu, buffer_place, mov, register};

/// Past the words that other steps use.
const COUNTER_AT: i16 = -8 * 11;

impl Writer<'_> {
    /// One such loop.
    pub(super) fn walk(&mut self) {
        let pinned = self.pinned.len();
        match self.random.below(8) {
            0 => self.sum(),
            1 | 2 => self.moving_pointer(),
            3 => self.packet_options(),
            4 => self.table(),
            5 => self.search(),
            6 => self.counter_in_memory(),
            _ => self.shrinking(),
        }
        self.pinned.truncate(pinned);
    }

    /// Registers without pointers, pinned: the caller puts `pinned` back.
    pub(super) fn fresh<const N: usize>(&mut self) -> Option<[Reg; N]> {
        let mut free = self.holding(|held| !held.is_pointer());
        let mut taken = [Reg::R0; N];
        for place in &mut taken {
            if free.is_empty() {
                return None;
            }
            *place = free.swap_remove(self.random.below(free.len()));
            self.pinned.push(*place);
        }
        Some(taken)
    }

    /// Written memory of so many bytes and a register that points to it: the own frame, or what a register points to already.
    pub(super) fn room(&mut self, bytes: i32) -> (Reg, Memory) {
        let wide = |held| matches!(held, Held::Memory(m) if !m.nullable && m.high - m.low >= bytes);
        if let Some(base) = self.any_holding(wide)
            && self.random.chance(2, 3)
            && let Held::Memory(memory) = self.state.held(base)
        {
            return (base, memory);
        }
        let low = buffer_place(self.random, bytes);
        self.fill(low, low + bytes);
        let memory = Memory {
            low,
            high: low + bytes,
            nullable: false,
            writable: true,
        };
        (register(10), memory)
    }

    /// Goes back to the top while `counter` has not come to `rounds`, in one of the ways to say so.
    fn again_while_below(&mut self, counter: Reg, rounds: i32, top: Label) {
        let size = self.word_size();
        let rounds = if self.slip() {
            rounds + self.random.one_of(&[1, 1, -1, 7])
        } else {
            rounds
        };
        let (condition, rounds) = self.random.one_of(&[
            (Condition::Lt, rounds),
            (Condition::Slt, rounds),
            (Condition::Ne, rounds),
            (Condition::Le, rounds - 1),
            (Condition::Sle, rounds - 1),
        ]);
        self.jump_if(size, condition, counter, Operand::Imm(rounds), top);
    }

    /// `sum += step` in each round, and an access at the sum.
    fn sum(&mut self) {
        let (rounds, step) = (self.random.between(1, 9), self.random.one_of(&[1, 1, 2, 3, 4]));
        let bytes = rounds * step + 8;
        let (base, memory) = self.room(bytes.min(64));
        self.pinned.push(base);
        let Some([counter, sum]) = self.fresh() else { return };
        self.push(mov(counter, Operand::Imm(0)));
        self.push(mov(sum, Operand::Imm(0)));
        let top = self.code.label();
        self.code.place(top);
        let skip = self.random.chance(1, 2).then(|| self.code.label());
        if let Some(skip) = skip {
            // Not in every round.
            let bit = self.random.one_of(&[1, 2, 4]);
            self.jump_if(WordSize::W64, Condition::Set, counter, Operand::Imm(bit), skip);
        }
        let size = self.word_size();
        self.push(alu(size, AluOp::Add, sum, Operand::Imm(step)));
        if self.random.chance(1, 4) {
            self.push(alu(size, AluOp::And, sum, Operand::Imm(63)));
        }
        if let Some(skip) = skip {
            self.code.place(skip);
        }
        self.push(add(counter, 1));
        self.again_while_below(counter, rounds, top);
        self.state.set(sum, Held::Number);
        self.state.set(counter, Held::Number);
        self.access_at(base, memory, sum);
    }

    /// A pointer that moves through memory, until a counter or another pointer says that it is at the end.
    fn moving_pointer(&mut self) {
        let rounds = self.random.between(1, 8);
        let width = self.random.one_of(&[Width::B, Width::B, Width::H, Width::W, Width::Dw]);
        let step = width.bytes() as i32;
        let (base, memory) = self.room(rounds * step);
        self.pinned.push(base);
        let Some([pointer, other]) = self.fresh() else { return };
        let by_pointer = self.random.chance(1, 2);
        self.push(mov(pointer, Operand::Reg(base)));
        self.push(add(pointer, memory.low));
        if by_pointer {
            self.push(mov(other, Operand::Reg(pointer)));
            let reach = if self.slip() {
                (rounds + 1) * step
            } else {
                rounds * step
            };
            self.push(add(other, reach));
        } else {
            self.push(mov(other, Operand::Imm(0)));
        }
        let top = self.code.label();
        self.code.place(top);
        let offset = if self.slip() {
            self.random.one_of(&[-1, 1, 8])
        } else {
            0
        };
        if memory.writable && self.random.chance(1, 2) {
            let src = Operand::Imm(self.random.immediate());
            self.push(Instruction::Store {
                width,
                base: pointer,
                offset,
                src,
            });
            if base == register(10) {
                self.state.wrote(memory.low, memory.low + rounds * step);
            }
        } else if let Some([dst]) = self.fresh() {
            self.pinned.pop();
            self.push(Instruction::Load {
                width,
                signed: false,
                dst,
                base: pointer,
                offset,
            });
            self.state.set(dst, Held::Number);
        }
        self.push(add(pointer, step));
        if by_pointer {
            let condition = self.random.one_of(&[Condition::Ne, Condition::Lt, Condition::Lt]);
            self.jump_if(WordSize::W64, condition, pointer, Operand::Reg(other), top);
            self.state.set(other, Held::Nothing);
        } else {
            self.push(add(other, 1));
            self.again_while_below(other, rounds, top);
            self.state.set(other, Held::Number);
        }
        self.state.set(pointer, Held::Nothing);
    }

    /// An offset, or a pointer, that moves over the packet by what the packet says.
    fn packet_options(&mut self) {
        if self.context().data < 0 {
            return self.table();
        }
        let Some((data, end)) = self.packet_bounds() else {
            return;
        };
        let Some([counter, offset, pointer, length]) = self.fresh() else {
            return;
        };
        let (rounds, most) = (self.random.between(1, 6), self.random.one_of(&[3, 7, 15, 255]));
        let by_pointer = self.random.chance(1, 3);
        self.push(mov(counter, Operand::Imm(0)));
        let start = self.random.one_of(&[0, 14, 20]);
        self.push(mov(offset, Operand::Imm(start)));
        if by_pointer {
            self.push(mov(pointer, Operand::Reg(data)));
        }
        let (top, leave) = (self.code.label(), self.code.label());
        self.code.place(top);
        if !by_pointer {
            self.push(mov(pointer, Operand::Reg(data)));
            self.push(alu(WordSize::W64, AluOp::Add, pointer, Operand::Reg(offset)));
        }
        // Two bytes: the kind, and how long the option is.
        self.push(add(pointer, 2));
        if !self.slip() {
            self.packet_check(pointer, end, leave);
        }
        let at = if self.slip() { 0 } else { -1 };
        let signed = self.random.chance(1, 8);
        self.push(Instruction::Load {
            width: Width::B,
            signed,
            dst: length,
            base: pointer,
            offset: at,
        });
        if self.random.chance(1, 2) {
            self.push(alu(WordSize::W64, AluOp::And, length, Operand::Imm(most)));
        }
        if by_pointer {
            if self.random.chance(1, 2) {
                self.push(add(pointer, -2));
            }
            self.push(alu(WordSize::W64, AluOp::Add, pointer, Operand::Reg(length)));
        } else {
            let size = self.word_size();
            self.push(alu(size, AluOp::Add, offset, Operand::Reg(length)));
            if self.random.chance(1, 3) {
                self.jump_if(size, Condition::Gt, offset, Operand::Imm(1000), leave);
            }
        }
        self.push(add(counter, 1));
        self.again_while_below(counter, rounds, top);
        self.code.place(leave);
        self.state.set(counter, Held::Number);
        self.state.set(offset, Held::Number);
        self.state.set(pointer, Held::Nothing);
        self.state.set(length, Held::Nothing);
    }

    /// Two loops, one in the other, that write a table row by row.
    fn table(&mut self) {
        let (rows, columns) = (self.random.between(1, 5), self.random.between(1, 6));
        let (base, memory) = self.room(rows * columns);
        if !memory.writable {
            return;
        }
        self.pinned.push(base);
        let Some([row, column, pointer]) = self.fresh() else {
            return;
        };
        self.push(mov(row, Operand::Imm(0)));
        let outer = self.code.label();
        self.code.place(outer);
        self.push(mov(column, Operand::Imm(0)));
        let inner = self.code.label();
        self.code.place(inner);
        self.push(mov(pointer, Operand::Reg(row)));
        let size = self.word_size();
        let wide = if self.slip() { columns + 1 } else { columns };
        self.push(alu(size, AluOp::Mul, pointer, Operand::Imm(wide)));
        self.push(alu(size, AluOp::Add, pointer, Operand::Reg(column)));
        self.push(alu(WordSize::W64, AluOp::Add, pointer, Operand::Reg(base)));
        self.push(Instruction::Store {
            width: Width::B,
            base: pointer,
            offset: memory.low as i16,
            src: Operand::Reg(column),
        });
        self.push(add(column, 1));
        self.again_while_below(column, columns, inner);
        self.push(add(row, 1));
        self.again_while_below(row, rows, outer);
        self.state.set(row, Held::Number);
        self.state.set(column, Held::Number);
        self.state.set(pointer, Held::Nothing);
    }

    /// A loop with two ends: the index that it leaves behind is below the limit where something was found.
    fn search(&mut self) {
        let rounds = self.random.between(2, 16);
        let (base, memory) = self.room(rounds);
        self.pinned.push(base);
        let wanted = self.number();
        self.pinned.push(wanted);
        let Some([index, pointer]) = self.fresh() else { return };
        let (top, found, missing) = (self.code.label(), self.code.label(), self.code.label());
        self.push(mov(index, Operand::Imm(0)));
        self.code.place(top);
        self.push(mov(pointer, Operand::Reg(base)));
        self.push(alu(WordSize::W64, AluOp::Add, pointer, Operand::Reg(index)));
        self.push(Instruction::Load {
            width: Width::B,
            signed: false,
            dst: pointer,
            base: pointer,
            offset: memory.low as i16,
        });
        let size = self.word_size();
        self.jump_if(size, Condition::Eq, pointer, Operand::Reg(wanted), found);
        self.push(add(index, 1));
        self.again_while_below(index, rounds, top);
        if !self.slip() {
            self.code.jump(goto(WordSize::W64), missing);
        }
        self.code.place(found);
        self.state.set(index, Held::Number);
        self.state.set(pointer, Held::Number);
        self.access_at(base, memory, index);
        self.code.place(missing);
        // What the access made of them is not so on the other way.
        for number in [index, pointer] {
            self.state.set(number, Held::Nothing);
        }
    }

    /// A loop whose counter is in memory, of any width, and is loaded and stored in each round.
    fn counter_in_memory(&mut self) {
        let rounds = self.random.between(1, 12);
        let width = self.random.one_of(&[Width::Dw, Width::W, Width::W, Width::H, Width::B]);
        let (base, memory) = self.room(rounds + 8);
        self.pinned.push(base);
        let Some([counter, pointer]) = self.fresh() else { return };
        let frame = register(10);
        let store = |src| Instruction::Store {
            width,
            base: frame,
            offset: COUNTER_AT,
            src,
        };
        let signed = width != Width::Dw && self.random.chance(1, 3);
        let load = Instruction::Load {
            width,
            signed,
            dst: counter,
            base: frame,
            offset: COUNTER_AT,
        };
        self.push(store(Operand::Imm(0)));
        let top = self.code.label();
        self.code.place(top);
        self.push(load);
        self.push(mov(pointer, Operand::Reg(base)));
        self.push(alu(WordSize::W64, AluOp::Add, pointer, Operand::Reg(counter)));
        if memory.writable && self.random.chance(1, 2) {
            self.push(Instruction::Store {
                width: Width::B,
                base: pointer,
                offset: memory.low as i16,
                src: Operand::Imm(3),
            });
        }
        if self.random.chance(1, 2) {
            // As compilers have it of volatile variables.
            self.push(load);
        }
        let size = self.word_size();
        self.push(alu(size, AluOp::Add, counter, Operand::Imm(1)));
        self.push(store(Operand::Reg(counter)));
        if self.slip() {
            // A part of it is something else.
            self.push(Instruction::Store {
                width: Width::B,
                base: frame,
                offset: COUNTER_AT,
                src: Operand::Imm(0),
            });
        }
        if self.random.chance(1, 2) {
            self.push(load);
        }
        self.again_while_below(counter, rounds, top);
        self.state.set(counter, Held::Number);
        self.state.set(pointer, Held::Nothing);
    }

    /// A number that gets smaller until nothing is left of it, and how often that took.
    fn shrinking(&mut self) {
        let number = self.number();
        if self.pinned.contains(&number) {
            return;
        }
        self.pinned.push(number);
        let Some([count, one]) = self.fresh() else { return };
        let size = self.word_size();
        self.push(mov(count, Operand::Imm(0)));
        let way = self.random.below(4);
        let (top, done) = (self.code.label(), self.code.label());
        self.code.place(top);
        self.jump_if(size, Condition::Eq, number, Operand::Imm(0), done);
        let by = self.random.one_of(&[1, 1, 3, 4]);
        let least = 64 / by + 1;
        match way {
            0 => self.push(alu(size, AluOp::Rsh, number, Operand::Imm(by))),
            1 => self.push(alu(size, AluOp::Div, number, Operand::Imm(1 << by))),
            2 => self.push(alu(size, AluOp::Lsh, number, Operand::Imm(by))),
            _ => {
                // The lowest bit that is set.
                self.push(mov(one, Operand::Reg(number)));
                self.push(add(one, -1));
                self.push(alu(WordSize::W64, AluOp::And, number, Operand::Reg(one)));
            }
        }
        self.push(add(count, 1));
        if self.random.chance(1, 2) {
            self.jump_if(WordSize::W64, Condition::Lt, count, Operand::Imm(least), top);
        } else {
            self.code.jump(goto(WordSize::W64), top);
        }
        self.code.place(done);
        self.state.set(count, Held::Number);
        self.state.set(one, Held::Nothing);
    }
}
