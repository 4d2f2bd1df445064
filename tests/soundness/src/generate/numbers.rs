//! The steps that make numbers.

use bpf2sys_bytecode::{
    AluOp, Callee, Condition, Extension, Imm64, Instruction, Operand, Reg, SwapKind, SwapWidth, Width, WordSize,
};

use super::state::Held;
use super::writer::{Writer, alu, mov, register};

pub(super) const CONDITIONS: [Condition; 10] = [
    Condition::Eq,
    Condition::Ne,
    Condition::Gt,
    Condition::Ge,
    Condition::Lt,
    Condition::Le,
    Condition::Sgt,
    Condition::Sge,
    Condition::Slt,
    Condition::Sle,
];

impl Writer<'_> {
    pub(super) fn word_size(&mut self) -> WordSize {
        if self.random.chance(2, 3) {
            WordSize::W64
        } else {
            WordSize::W32
        }
    }

    /// A number in a register, often one that nobody knows.
    pub(super) fn new_number(&mut self) -> Reg {
        let dst = self.target();
        match self.random.below(8) {
            0 | 1 => {
                let imm = self.random.immediate();
                let size = self.word_size();
                self.push(alu(size, AluOp::Mov, dst, Operand::Imm(imm)));
            }
            2 => {
                let value = Imm64::Constant(self.random.number());
                self.push(Instruction::LoadImm64 { dst, value });
            }
            3 | 4 => {
                // A field of the context that is no pointer.
                let size = self.context().size;
                let from = self.context().data_meta.max(self.context().data_end).max(-8) + 8;
                if let Some(base) = self.context_register()
                    && from < size
                {
                    let width = self.random.one_of(&[Width::B, Width::H, Width::W]);
                    let bytes = width.bytes() as i32;
                    let offset = self.random.between(from / bytes, (size - bytes) / bytes) * bytes;
                    let signed = self.random.chance(1, 4);
                    self.push(Instruction::Load {
                        width,
                        signed,
                        dst,
                        base,
                        offset: offset as i16,
                    });
                } else {
                    self.random_number(dst);
                }
            }
            _ => self.random_number(dst),
        }
        self.state.set(dst, Held::Number);
        dst
    }

    /// A number that only the run knows.
    fn random_number(&mut self, dst: Reg) {
        let id = self.random.one_of(&[6, 7, 8, 9, 19]);
        // What calls lose must not be lost inside a step that counts on it.
        if self.pinned.iter().any(|pinned| pinned.number() <= 5) {
            let imm = self.random.immediate();
            self.push(mov(dst, Operand::Imm(imm)));
            return;
        }
        self.push(Instruction::Call(Callee::Helper(id)));
        self.state.forget_arguments();
        self.state.set(Reg::R0, Held::Number);
        if dst != Reg::R0 {
            self.push(mov(dst, Operand::Reg(Reg::R0)));
        }
    }

    /// One operation on a number.
    pub(super) fn arithmetic(&mut self) {
        let dst = self.number();
        if self.pinned.contains(&dst) {
            return;
        }
        for _ in 0..=self.random.below(2) {
            let operation = self.operation(dst);
            self.push(operation);
        }
    }

    pub(super) fn operation(&mut self, dst: Reg) -> Instruction {
        let size = self.word_size();
        match self.random.below(10) {
            0 => {
                let wide = size == WordSize::W64;
                let from = self.random.one_of(&[Extension::S8, Extension::S16, Extension::S32]);
                let from = if wide || from != Extension::S32 {
                    from
                } else {
                    Extension::S16
                };
                Instruction::Movsx {
                    size,
                    from,
                    dst,
                    src: dst,
                }
            }
            1 => Instruction::Neg { size, dst },
            2 => Instruction::ByteSwap {
                kind: self.random.one_of(&[SwapKind::ToLe, SwapKind::ToBe, SwapKind::Swap]),
                width: self.random.one_of(&[SwapWidth::W16, SwapWidth::W32, SwapWidth::W64]),
                dst,
            },
            _ => {
                let op = self.random.one_of(&AluOp::ALL);
                let other = self.any_holding(|held| held == Held::Number);
                let src = match other {
                    Some(register) if self.random.chance(1, 3) => Operand::Reg(register),
                    _ => Operand::Imm(match op {
                        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => {
                            if self.random.chance(1, 8) {
                                self.random.between(-2, 70)
                            } else {
                                self.random.between(0, 31)
                            }
                        }
                        _ => self.random.immediate(),
                    }),
                };
                alu(size, op, dst, src)
            }
        }
    }

    /// Makes the number in a register less than `count`, or not negative and at most so. False if a mistake was made.
    pub(super) fn bound(&mut self, number: Reg, count: i32) {
        let count = if self.slip() {
            count + self.random.one_of(&[1, 1, 2, 8, -1])
        } else {
            count
        };
        let size = self.word_size();
        match self.random.below(7) {
            0 | 1 if count > 0 && (count & (count - 1)) == 0 => {
                self.push(alu(size, AluOp::And, number, Operand::Imm(count - 1)));
            }
            0 => self.push(alu(size, AluOp::Mod, number, Operand::Imm(count))),
            1 => {
                // A signed check wants two.
                let out = self.out;
                if !self.slip() {
                    self.jump_if(size, Condition::Slt, number, Operand::Imm(0), out);
                }
                self.jump_if(size, Condition::Sge, number, Operand::Imm(count), out);
                self.narrowed(size, number);
            }
            2 | 3 => {
                let out = self.out;
                self.jump_if(size, Condition::Ge, number, Operand::Imm(count), out);
                self.narrowed(size, number);
            }
            4 => {
                let out = self.out;
                self.jump_if(size, Condition::Gt, number, Operand::Imm(count - 1), out);
                self.narrowed(size, number);
            }
            5 => {
                let (out, inside) = (self.out, self.code.label());
                self.jump_if(size, Condition::Lt, number, Operand::Imm(count), inside);
                self.code.jump(bpf2sys_isa_tests::code::goto(WordSize::W64), out);
                self.code.place(inside);
                self.narrowed(size, number);
            }
            _ => {
                let limit = self.constant_register(count, number);
                match limit {
                    Some(limit) => {
                        let out = self.out;
                        self.jump_if(size, Condition::Ge, number, Operand::Reg(limit), out);
                        self.narrowed(size, number);
                    }
                    None => self.push(alu(size, AluOp::Mod, number, Operand::Imm(count))),
                }
            }
        }
    }

    /// After a comparison of the low half, the number must be the low half.
    fn narrowed(&mut self, size: WordSize, number: Reg) {
        if size == WordSize::W32 && !self.slip() {
            self.push(alu(WordSize::W32, AluOp::Mov, number, Operand::Reg(number)));
        }
    }

    /// A register with a constant.
    fn constant_register(&mut self, value: i32, not: Reg) -> Option<Reg> {
        let free: Vec<Reg> = self.holding(|held| !held.is_pointer());
        let free: Vec<Reg> = free.into_iter().filter(|r| *r != not).collect();
        if free.is_empty() {
            return None;
        }
        let dst = self.random.one_of(&free);
        self.push(mov(dst, Operand::Imm(value)));
        self.state.set(dst, Held::Number);
        Some(dst)
    }

    /// A number known to the writer in a register, by a way that is not straight: constants that are stored, swapped and
    /// computed with.
    pub(super) fn known_number(&mut self, dst: Reg) -> u64 {
        let mut value = self.random.number();
        match self.random.below(4) {
            0 => {
                let imm = self.random.immediate();
                value = i64::from(imm).cast_unsigned();
                self.push(mov(dst, Operand::Imm(imm)));
            }
            1 => {
                // Through the stack.
                let imm = self.random.immediate();
                let width = self.random.one_of(&[Width::B, Width::H, Width::W, Width::Dw]);
                let base = register(10);
                self.push(Instruction::Store {
                    width,
                    base,
                    offset: -8,
                    src: Operand::Imm(imm),
                });
                self.state.stack[0] = super::state::Word::Empty;
                self.push(Instruction::Load {
                    width,
                    signed: false,
                    dst,
                    base,
                    offset: -8,
                });
                let whole = i64::from(imm).cast_unsigned();
                let bits = 8 * width.bytes();
                value = if bits == 64 { whole } else { whole & ((1 << bits) - 1) };
            }
            _ => self.push(Instruction::LoadImm64 {
                dst,
                value: Imm64::Constant(value),
            }),
        }
        for _ in 0..self.random.below(3) {
            match self.random.below(5) {
                0 | 1 => {
                    let width = self.random.one_of(&[SwapWidth::W16, SwapWidth::W32, SwapWidth::W64]);
                    self.push(Instruction::ByteSwap {
                        kind: SwapKind::Swap,
                        width,
                        dst,
                    });
                    value = match width {
                        SwapWidth::W16 => (value as u16).swap_bytes().into(),
                        SwapWidth::W32 => (value as u32).swap_bytes().into(),
                        SwapWidth::W64 => value.swap_bytes(),
                    };
                }
                2 => {
                    let imm = self.random.immediate();
                    self.push(alu(WordSize::W64, AluOp::Add, dst, Operand::Imm(imm)));
                    value = value.wrapping_add(i64::from(imm).cast_unsigned());
                }
                3 => {
                    let count = self.random.between(0, 63);
                    self.push(alu(WordSize::W64, AluOp::Rsh, dst, Operand::Imm(count)));
                    value >>= count;
                }
                _ => {
                    let imm = self.random.immediate();
                    self.push(alu(WordSize::W32, AluOp::And, dst, Operand::Imm(imm)));
                    value = u64::from(value as u32 & imm.cast_unsigned());
                }
            }
        }
        self.state.set(dst, Held::Number);
        value
    }
}
