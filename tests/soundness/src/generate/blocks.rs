//! The steps that contain others: branches and loops.

use bpf2sys_bytecode::{AluOp, Condition, Imm64, Instruction, Operand, Reg, Width, WordSize};
use bpf2sys_isa_tests::code::goto;
use bpf2sys_simulator::interpreter::{holds32, holds64};

use super::numbers::CONDITIONS;
use super::state::{Held, State, Word};
use super::writer::{Writer, add, alu, mov, register};

impl Writer<'_> {
    /// A few steps that are executed or not.
    pub(super) fn branch(&mut self) {
        let number = self.number();
        let (size, condition) = (self.word_size(), self.random.one_of(&CONDITIONS));
        let src = match self.any_holding(|held| held == Held::Number) {
            Some(other) if self.random.chance(1, 3) => Operand::Reg(other),
            _ => Operand::Imm(self.random.between(-2, 40)),
        };
        let (past, before) = (self.code.label(), self.state.clone());
        self.jump_if(size, condition, number, src, past);
        self.depth += 1;
        let count = 1 + self.random.below(2);
        self.steps(count);
        self.depth -= 1;
        if self.random.chance(1, 3) {
            // The other side.
            let end = self.code.label();
            let one = std::mem::replace(&mut self.state, before);
            self.code.jump(goto(WordSize::W64), end);
            self.code.place(past);
            self.depth += 1;
            self.steps(1);
            self.depth -= 1;
            self.state.meet(&one);
            self.code.place(end);
        } else {
            self.code.place(past);
            self.state.meet(&before);
        }
    }

    /// A comparison of two registers, whatever they hold, and something terrible on one side now and then.
    pub(super) fn compare(&mut self) {
        let anything = |held| held != Held::Nothing;
        let (Some(a), Some(b)) = (self.any_holding(Held::is_pointer), self.any_holding(anything)) else {
            return self.branch();
        };
        let (a, b) = if self.random.chance(1, 4) { (b, a) } else { (a, b) };
        let src = if self.random.chance(1, 3) {
            // A number that an address may be less or greater than.
            self.pinned.push(a);
            let number = self.target();
            self.pinned.pop();
            if self.state.held(number).is_pointer() || number == a {
                return;
            }
            let value = self.random.one_of(&[
                0,
                1,
                0x7FFF_0000,
                0x7FFF_FFFF,
                0x8000_0000,
                1 << 32,
                1 << 47,
                1 << 63,
                u64::MAX,
            ]);
            self.push(Instruction::LoadImm64 {
                dst: number,
                value: Imm64::Constant(value),
            });
            self.state.set(number, Held::Number);
            Operand::Reg(number)
        } else if self.random.chance(1, 6) {
            Operand::Imm(self.random.one_of(&[0, 0, 0, 1, i32::MAX]))
        } else {
            Operand::Reg(b)
        };
        let condition = self.random.one_of(&CONDITIONS);
        let (past, before) = (self.code.label(), self.state.clone());
        self.jump_if(WordSize::W64, condition, a, src, past);
        if self.random.chance(1, 3) {
            self.terrible();
        } else {
            self.depth += 1;
            self.steps(1);
            self.depth -= 1;
        }
        self.code.place(past);
        self.state.meet(&before);
    }

    /// A store that is never right.
    fn terrible(&mut self) {
        let base = self.any_holding(Held::is_pointer).unwrap_or(register(10));
        let offset = self.random.one_of(&[512, -600, 0x4000, 100]);
        self.push(Instruction::Store {
            width: Width::Dw,
            base,
            offset,
            src: Operand::Imm(1),
        });
    }

    /// Something terrible behind a condition that never holds, by a way that is not straight. An engine that computes wrongly
    /// lets it live elsewhere, or takes what lives for dead.
    pub(super) fn dead(&mut self) {
        let number = self.target();
        if self.state.held(number).is_pointer() {
            return;
        }
        let value = self.known_number(number);
        let past = self.code.label();
        let (low, imm) = (value as u32, self.random.immediate());
        let wide = i64::from(imm).cast_unsigned();
        let size = self.word_size();
        let all = CONDITIONS.into_iter().filter(|condition| match size {
            WordSize::W64 => holds64(*condition, value, wide),
            WordSize::W32 => holds32(*condition, low, imm.cast_unsigned()),
        });
        let all: Vec<Condition> = all.collect();
        let mut condition = self.random.one_of(&all);
        // A wrong engine may accept what is wrong.
        if self.random.chance(1, 5) {
            condition = self.random.one_of(&CONDITIONS);
        }
        self.jump_if(size, condition, number, Operand::Imm(imm), past);
        self.terrible();
        self.code.place(past);
    }

    /// A loop. Its body leaves the counter and all that was there before alone, so that every round is like the first.
    pub(super) fn repeat(&mut self) {
        let on_stack = self.depth == 0 && self.random.chance(1, 8);
        let counter = self.lasting_target();
        if self.state.held(counter).is_pointer() {
            return;
        }
        let base = register(10);
        let word: i16 = -8 * 9;
        let rounds = if self.random.chance(1, 60) {
            self.random.one_of(&[1000, 99_998, 99_999, 100_000, 100_001, 200_000])
        } else {
            self.random.between(1, 20)
        };
        // The engine proves the end of few others.
        let plain = self.random.chance(3, 4);
        let down = !plain && self.random.chance(1, 2);
        let step = if plain { 1 } else { self.random.one_of(&[1, 2, 3]) };
        let start = if down { rounds } else { 0 };
        // What the number of rounds is compared with: a constant, or a number of the run.
        let limit = if !down && !on_stack && self.random.chance(1, 4) {
            self.pinned.push(counter);
            let limit = self.number();
            self.pinned.pop();
            if limit == counter {
                None
            } else {
                let most = if self.slip() { i32::MAX } else { rounds };
                let out = self.out;
                self.jump_if(WordSize::W64, Condition::Gt, limit, Operand::Imm(most), out);
                Some(limit)
            }
        } else {
            None
        };
        self.push(mov(counter, Operand::Imm(start)));
        self.state.set(counter, Held::Number);
        if on_stack {
            self.push(Instruction::Store {
                width: Width::Dw,
                base,
                offset: word,
                src: Operand::Imm(start),
            });
        }
        let before = self.pinned.len();
        self.pinned.push(counter);
        self.pinned.extend(limit);
        let held: Vec<Reg> = (0..10)
            .map(register)
            .filter(|r| self.state.held(*r) != Held::Nothing)
            .collect();
        self.pinned.extend(held);
        // Calls in the body lose these.
        for number in 0..=5 {
            self.state.set(register(number), Held::Nothing);
        }
        let kept: Vec<Reg> = self.pinned.iter().copied().filter(|r| r.number() >= 6).collect();
        self.pinned.truncate(before);
        self.pinned.extend(kept);
        let head = self.state.clone();
        let top = self.code.label();
        self.code.place(top);
        if on_stack {
            self.push(Instruction::Load {
                width: Width::Dw,
                signed: false,
                dst: counter,
                base,
                offset: word,
            });
        }
        // A loop in a loop takes the engine long.
        let inside = if on_stack || self.random.chance(5, 6) { 2 } else { 1 };
        self.depth += inside;
        if self.random.chance(1, 3) {
            self.counted_access(counter, rounds);
        }
        let count = self.random.below(3);
        self.steps(count);
        self.depth -= inside;
        if !self.slip() {
            let size = if plain { WordSize::W64 } else { self.word_size() };
            if down {
                self.push(add(counter, -1));
            } else {
                self.push(alu(size, AluOp::Add, counter, Operand::Imm(step)));
            }
        }
        if on_stack {
            self.push(Instruction::Store {
                width: Width::Dw,
                base,
                offset: word,
                src: Operand::Reg(counter),
            });
        }
        let size = if plain || self.random.chance(1, 2) {
            WordSize::W64
        } else {
            WordSize::W32
        };
        let (condition, src) = match limit {
            Some(limit) => (if plain { Condition::Lt } else { Condition::Ne }, Operand::Reg(limit)),
            None if down => (
                self.random.one_of(&[Condition::Ne, Condition::Sgt, Condition::Gt]),
                Operand::Imm(0),
            ),
            None if plain => (
                self.random.one_of(&[Condition::Lt, Condition::Slt, Condition::Le]),
                Operand::Imm(rounds),
            ),
            None => (
                self.random
                    .one_of(&[Condition::Lt, Condition::Slt, Condition::Le, Condition::Ne]),
                Operand::Imm(rounds),
            ),
        };
        self.jump_if(size, condition, counter, src, top);
        self.pinned.truncate(before);
        self.after_loop(&head);
    }

    /// What was true at the head and still is.
    fn after_loop(&mut self, head: &State) {
        self.state.meet(head);
        self.state.stack[8] = Word::Empty;
    }

    /// Something at the address that the counter gives.
    fn counted_access(&mut self, counter: Reg, rounds: i32) {
        let pointer = self.target();
        if pointer == counter || self.state.held(pointer).is_pointer() {
            return;
        }
        let room = rounds.min(64);
        self.push(mov(pointer, Operand::Reg(register(10))));
        self.push(alu(WordSize::W64, AluOp::Add, pointer, Operand::Reg(counter)));
        let low = if self.slip() { -room } else { -room - 8 };
        self.push(Instruction::Store {
            width: Width::B,
            base: pointer,
            offset: low as i16,
            src: Operand::Imm(7),
        });
        for word in &mut self.state.stack {
            *word = match *word {
                Word::Number => Word::Number,
                _ => Word::Empty,
            };
        }
        self.state.set(pointer, Held::Nothing);
    }
}
