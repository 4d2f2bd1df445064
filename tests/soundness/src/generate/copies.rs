//! Numbers that are known by way of others: copies, halves, differences, and branches that are taken together.
//!
//! Each of these steps tests one thing and uses another. Whether the test says something of what is used is what the engine has
//! to find out.

use bpf2sys_bytecode::{AluOp, Condition, Extension, Instruction, Operand, Reg, Width, WordSize};

use super::state::Held;
use super::writer::{Writer, add, alu, mov, register};

/// Past the words that other steps use.
const COPY_AT: i16 = -8 * 12;
const KEPT_AT: i16 = -8 * 13;

impl Writer<'_> {
    /// One such step.
    pub(super) fn relate(&mut self) {
        let pinned = self.pinned.len();
        match self.random.below(6) {
            0 | 1 => self.tested_copy(),
            2 => self.difference(),
            3 => self.packet_size(),
            _ => self.together(),
        }
        self.pinned.truncate(pinned);
    }

    /// A number that only the run knows, in a register that can be changed.
    fn changeable(&mut self) -> Option<Reg> {
        let number = self.number();
        if self.pinned.contains(&number) {
            return None;
        }
        self.pinned.push(number);
        Some(number)
    }

    /// A copy of a number is tested, and the number is used, or the other way around. The copy is in a register or in the
    /// frame, whole or in part, moved by a constant, or widened from its low bits.
    fn tested_copy(&mut self) {
        let count = self.random.one_of(&[4, 8, 13, 16]);
        let (base, memory) = self.room(count);
        self.pinned.push(base);
        let Some(number) = self.changeable() else { return };
        let Some([copy]) = self.fresh() else { return };
        let narrow = self.random.chance(1, 3);
        if narrow {
            // So that the low bits are all there is.
            let width = self.random.one_of(&[8, 16, 32]);
            self.push(alu(WordSize::W64, AluOp::Lsh, number, Operand::Imm(64 - width)));
            let back = self.random.one_of(&[AluOp::Rsh, AluOp::Rsh, AluOp::Arsh]);
            self.push(alu(WordSize::W64, back, number, Operand::Imm(64 - width)));
        }
        let frame = register(10);
        let through_frame = self.random.chance(1, 2);
        let mut moved = 0;
        if through_frame {
            let width = if narrow && self.random.chance(1, 2) {
                self.random.one_of(&[Width::W, Width::W, Width::H, Width::B])
            } else {
                Width::Dw
            };
            self.push(Instruction::Store {
                width,
                base: frame,
                offset: COPY_AT,
                src: Operand::Reg(number),
            });
            let over = self.slip();
            if over {
                let at = self.random.between(-7, 7) as i16;
                self.push(Instruction::Store {
                    width: Width::B,
                    base: frame,
                    offset: COPY_AT + at,
                    src: Operand::Imm(0),
                });
            }
            let signed = width != Width::Dw && self.random.chance(1, 3);
            self.push(Instruction::Load {
                width,
                signed,
                dst: copy,
                base: frame,
                offset: COPY_AT,
            });
        } else {
            match self.random.below(6) {
                0 => self.push(alu(WordSize::W32, AluOp::Mov, copy, Operand::Reg(number))),
                1 => {
                    let from = self.random.one_of(&[Extension::S8, Extension::S16, Extension::S32]);
                    self.push(Instruction::Movsx {
                        size: WordSize::W64,
                        from,
                        dst: copy,
                        src: number,
                    });
                }
                2 => {
                    self.push(mov(copy, Operand::Reg(number)));
                    moved = self.random.between(-3, 3);
                    let size = self.word_size();
                    self.push(alu(size, AluOp::Add, copy, Operand::Imm(moved)));
                }
                _ => self.push(mov(copy, Operand::Reg(number))),
            }
        }
        if self.slip() {
            let changed = self.random.one_of(&[number, copy]);
            self.push(add(changed, 1));
        }
        let (tested, used) = if self.random.chance(1, 2) {
            (copy, number)
        } else {
            (number, copy)
        };
        let (out, size) = (self.out, self.word_size());
        let limit = if self.slip() { count + 1 } else { count };
        if self.random.chance(1, 2) {
            self.jump_if(size, Condition::Ge, tested, Operand::Imm(limit), out);
        } else {
            self.jump_if(size, Condition::Sge, tested, Operand::Imm(limit), out);
            self.jump_if(size, Condition::Slt, tested, Operand::Imm(0), out);
        }
        if moved != 0 && !self.slip() {
            let back = if used == number { moved } else { -moved };
            self.push(add(used, back));
        }
        let reloaded = through_frame && self.random.chance(1, 3);
        if reloaded && used == copy {
            self.push(Instruction::Load {
                width: Width::Dw,
                signed: false,
                dst: copy,
                base: frame,
                offset: COPY_AT,
            });
        }
        self.state.set(copy, Held::Number);
        self.access_at(base, memory, used);
    }

    /// Two numbers in order, and their difference as an index or the greater one's bound for the less.
    fn difference(&mut self) {
        let count = self.random.one_of(&[4, 8, 16]);
        let (base, memory) = self.room(count);
        self.pinned.push(base);
        let Some(low) = self.changeable() else { return };
        let Some([high, difference]) = self.fresh() else { return };
        self.push(mov(high, Operand::Reg(low)));
        let operation = self.operation(high);
        self.push(operation);
        self.bound(high, count);
        let out = self.out;
        let size = self.word_size();
        let condition = if self.slip() {
            self.random.one_of(&[Condition::Lt, Condition::Ne, Condition::Sgt])
        } else {
            self.random.one_of(&[Condition::Gt, Condition::Ge])
        };
        self.jump_if(size, condition, low, Operand::Reg(high), out);
        self.state.set(high, Held::Number);
        if self.random.chance(1, 2) {
            self.access_at(base, memory, low);
            return;
        }
        let size = self.word_size();
        self.push(mov(difference, Operand::Reg(high)));
        self.push(alu(size, AluOp::Sub, difference, Operand::Reg(low)));
        self.state.set(difference, Held::Number);
        self.access_at(base, memory, difference);
    }

    /// The size of the packet as a number, which is tested instead of an address; or an offset that is tested against it.
    fn packet_size(&mut self) {
        if self.context().data < 0 {
            return self.difference();
        }
        let Some((data, end)) = self.packet_bounds() else {
            return;
        };
        let Some([size, offset]) = self.fresh() else { return };
        self.push(mov(size, Operand::Reg(end)));
        self.push(alu(WordSize::W64, AluOp::Sub, size, Operand::Reg(data)));
        self.state.set(size, Held::Number);
        let (out, word) = (self.out, self.word_size());
        let bytes = self.random.one_of(&[1, 8, 14]);
        let at = if self.slip() { 0 } else { -1 };
        if self.random.chance(1, 2) {
            let condition = self.random.one_of(&[Condition::Lt, Condition::Le, Condition::Slt]);
            self.jump_if(word, condition, size, Operand::Imm(bytes), out);
            self.push(Instruction::Load {
                width: Width::B,
                signed: false,
                dst: offset,
                base: data,
                offset: (bytes + at) as i16,
            });
            self.state.set(offset, Held::Number);
            return;
        }
        let number = self.number();
        self.push(mov(offset, Operand::Reg(number)));
        if self.random.chance(2, 3) {
            self.push(alu(WordSize::W64, AluOp::And, offset, Operand::Imm(255)));
        }
        let condition = self.random.one_of(&[Condition::Ge, Condition::Gt, Condition::Sge]);
        self.jump_if(word, condition, offset, Operand::Reg(size), out);
        self.push(alu(WordSize::W64, AluOp::Add, offset, Operand::Reg(data)));
        self.push(Instruction::Load {
            width: Width::B,
            signed: false,
            dst: size,
            base: offset,
            offset: 0,
        });
        self.state.set(offset, Held::Nothing);
    }

    /// Two branches that are taken together: the first one makes what the second one uses, a word of the frame, a register or an
    /// address. Between them a flag or the number itself remembers which way it went.
    fn together(&mut self) {
        let Some(number) = self.changeable() else { return };
        let (base, memory) = self.room(8);
        self.pinned.push(base);
        let Some([flag, made]) = self.fresh() else { return };
        let by_flag = self.random.chance(1, 2);
        let (size, bound) = (self.word_size(), self.random.between(0, 40));
        let condition = self
            .random
            .one_of(&[Condition::Gt, Condition::Ge, Condition::Sgt, Condition::Ne]);
        let in_frame = self.random.chance(1, 2);
        let frame = register(10);
        let save = Instruction::Store {
            width: Width::Dw,
            base: frame,
            offset: KEPT_AT,
            src: Operand::Reg(base),
        };
        let (first, second) = (self.code.label(), self.code.label());
        let set = self.random.one_of(&[1, 1, 2, -1]);
        if by_flag {
            self.push(mov(flag, Operand::Imm(0)));
        }
        self.jump_if(size, condition, number, Operand::Imm(bound), first);
        if in_frame {
            self.push(save);
        } else {
            self.push(mov(made, Operand::Reg(base)));
        }
        if by_flag {
            self.push(mov(flag, Operand::Imm(set)));
        }
        self.code.place(first);
        self.state.set(flag, if by_flag { Held::Number } else { Held::Nothing });
        self.state.set(made, Held::Nothing);
        if self.random.chance(1, 3) && self.depth == 0 {
            self.depth += 2;
            self.steps(1);
            self.depth -= 2;
        }
        // A helper in between loses what is not in r6 to r9; the engine says so.
        let (tested, size, condition, bound) = if by_flag {
            let condition = if self.slip() { Condition::Ne } else { Condition::Eq };
            (flag, WordSize::W64, condition, 0)
        } else if self.slip() {
            (number, size, condition, bound + 1)
        } else {
            (number, size, condition, bound - i32::from(self.random.chance(1, 4)))
        };
        self.jump_if(size, condition, tested, Operand::Imm(bound), second);
        if in_frame {
            self.push(Instruction::Load {
                width: Width::Dw,
                signed: false,
                dst: made,
                base: frame,
                offset: KEPT_AT,
            });
        }
        if self.state.held(base) != Held::Nothing || base == frame {
            self.state.set(made, Held::Memory(memory));
            let readable = base != frame || self.state.readable(memory.low, memory.high);
            self.access(made, memory, readable);
        }
        self.code.place(second);
        self.state.set(made, Held::Nothing);
    }
}
