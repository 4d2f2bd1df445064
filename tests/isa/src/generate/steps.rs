//! The steps of a function: arithmetic, jumps and loops.

use bpf2sys_bytecode::{AluOp, Condition, Extension, Instruction, Operand, Reg, SwapKind, SwapWidth, Width, WordSize};

use super::plan::Step;
use super::state::Registers;
use super::writer::{Writer, alu, mov};
use crate::code::goto;

const ALU_OPS: [(AluOp, usize); 14] = [
    (AluOp::Add, 3),
    (AluOp::Sub, 3),
    (AluOp::Mul, 2),
    (AluOp::Div, 2),
    (AluOp::Sdiv, 2),
    (AluOp::Or, 2),
    (AluOp::And, 2),
    (AluOp::Lsh, 3),
    (AluOp::Rsh, 3),
    (AluOp::Mod, 2),
    (AluOp::Smod, 2),
    (AluOp::Xor, 3),
    (AluOp::Mov, 2),
    (AluOp::Arsh, 4),
];

/// Most passes of a loop.
const PASSES: i32 = 4;
/// Most passes of one that lies in no other: too many to be dissolved.
const MANY_PASSES: i32 = 40;

impl Writer<'_> {
    /// Writes about `steps` steps.
    pub(super) fn steps(&mut self, steps: usize) {
        for _ in 0..steps {
            let step = self.random.weighted(&self.plan.weights);
            self.step(step);
            self.step_done();
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Fresh => {
                self.fresh();
            }
            Step::Alu => {
                let op = self.random.weighted(&ALU_OPS);
                self.alu_step(op);
            }
            Step::Divide => self.divide(),
            Step::Movsx => self.movsx(),
            Step::Neg => {
                let (size, dst) = (self.size(), self.modified());
                self.code.push(Instruction::Neg { size, dst });
                self.written(dst);
            }
            Step::ByteSwap => {
                let dst = self.modified();
                let kind = self.random.one_of(&[SwapKind::ToLe, SwapKind::ToBe, SwapKind::Swap]);
                let width = self.random.one_of(&[SwapWidth::W16, SwapWidth::W32, SwapWidth::W64]);
                self.code.push(Instruction::ByteSwap { kind, width, dst });
                self.written(dst);
            }
            Step::Memory => self.memory(),
            Step::Exchange => self.exchange(),
            Step::Spill => self.spill(),
            Step::JumpIf => self.jump_if(),
            Step::Jump => self.jump(),
            Step::Leave => self.leave(),
            Step::Loop => self.repeat(),
            Step::Call => self.call_any(),
            Step::Helper => self.call_helper(),
            Step::Observe => self.observe(),
        }
    }

    fn alu_step(&mut self, op: AluOp) {
        let size = self.size();
        let src = if self.random.chance(1, 2) {
            Operand::Imm(self.immediate_for(op, size))
        } else {
            Operand::Reg(self.source())
        };
        let dst = if op == AluOp::Mov {
            self.target()
        } else {
            self.modified()
        };
        self.code.push(alu(size, op, dst, src));
        self.written(dst);
    }

    fn immediate_for(&mut self, op: AluOp, size: WordSize) -> i32 {
        let bits = match size {
            WordSize::W32 => 32,
            WordSize::W64 => 64,
        };
        let plain = self.plan.taste.linux;
        match op {
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh if plain || self.random.chance(1, 2) => match self.random.below(3) {
                0 => self.random.one_of(&[0, 1, 8, 16, bits / 2, bits - 1]),
                _ => self.random.between(0, bits - 1),
            },
            AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod if plain => match self.random.immediate() {
                0 => 3,
                imm => imm,
            },
            _ => self.random.immediate(),
        }
    }

    /// The smallest number, 0 and -1 in every place of a division.
    fn divide(&mut self) {
        let size = self.size();
        let op = self.random.one_of(&[AluOp::Div, AluOp::Sdiv, AluOp::Mod, AluOp::Smod]);
        let dst = self.modified();
        if self.random.chance(1, 2) {
            let high = self.random.next() << 32;
            let smallest = self
                .random
                .one_of(&[1 << 63, 0x8000_0000, high | 0x8000_0000, u64::MAX << 31]);
            self.set(dst, smallest);
        }
        let src = self.target();
        if src != dst && self.random.chance(2, 3) {
            let high = self.random.next() << 32;
            let divisor = self
                .random
                .one_of(&[0, u64::MAX, u64::from(u32::MAX), high, high | 0xFFFF_FFFF, 1, 2]);
            self.set(src, divisor);
        }
        let src = if self.state.numbers.has(src) { src } else { dst };
        self.code.push(alu(size, op, dst, Operand::Reg(src)));
        self.written(dst);
        // Which case it was shows in few bits.
        self.observe_register(dst);
    }

    fn movsx(&mut self) {
        let size = self.size();
        let (src, dst) = (self.source(), self.target());
        let from = match size {
            WordSize::W32 => self.random.one_of(&[Extension::S8, Extension::S16]),
            WordSize::W64 => self.random.one_of(&[Extension::S8, Extension::S16, Extension::S32]),
        };
        self.code.push(Instruction::Movsx { size, from, dst, src });
        self.written(dst);
    }

    fn jump_if(&mut self) {
        if self.jumps_left == 0 {
            return self.observe();
        }
        self.jumps_left -= 1;
        if self.random.chance(1, 4) {
            self.make_nearly_equal();
        }
        let jump = self.comparison();
        let steps = 1 + self.random.below(6);
        self.jump_forward(jump, steps);
        self.observe();
    }

    /// Two registers that are equal in the lower half, or as a whole, or nearly.
    fn make_nearly_equal(&mut self) {
        let (src, dst) = (self.source(), self.target());
        if src == dst {
            return;
        }
        self.code.push(mov(dst, Operand::Reg(src)));
        self.written(dst);
        let change = match self.random.below(3) {
            0 => return,
            1 => Operand::Imm(self.random.one_of(&[-1, 1, i32::MIN])),
            _ => {
                let other = self.target();
                if other == dst {
                    return;
                }
                let high = self.random.number() << 32;
                self.set(other, high);
                Operand::Reg(other)
            }
        };
        self.code.push(alu(WordSize::W64, AluOp::Xor, dst, change));
    }

    /// `goto` over what an earlier jump goes to.
    fn jump(&mut self) {
        if self.pending() == 0 {
            return;
        }
        let (size, steps) = (self.size(), 1 + self.random.below(3));
        // The code behind it is reached by an earlier one.
        let earlier = self.random.below(self.pending());
        self.jump_forward(goto(size), steps);
        self.go_on_at(earlier);
    }

    /// An exit that some runs take.
    fn leave(&mut self) {
        if self.jumps_left == 0 {
            return;
        }
        self.jumps_left -= 1;
        let over = self.comparison();
        self.jump_forward(over, 1);
        let register = self.source();
        let dst = Reg::R0;
        if self.reserved.has(dst) && self.sum != Some(dst) {
            return; // r0 counts a loop
        }
        if let Some(sum) = self.sum
            && sum != register
        {
            self.fold(sum, register);
            self.code.push(mov(dst, Operand::Reg(sum)));
        } else {
            self.code.push(mov(dst, Operand::Reg(register)));
        }
        self.code.push(Instruction::Exit);
        self.go_on_at(self.pending() - 1);
    }

    /// A loop of a few passes. Nothing jumps into it; something may jump out.
    fn repeat(&mut self) {
        if self.loops >= 2 || self.jumps_left == 0 {
            return;
        }
        let calls = self.may_call && self.random.chance(1, 3);
        let counters: &[u8] = if calls {
            &[6, 7, 8, 9]
        } else {
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        };
        let Some(counter) = self.unreserved(counters) else {
            return;
        };
        // Steps need a register or two for numbers.
        if Registers::of(0..10).without(self.reserved).list().len() < 4 {
            return;
        }
        self.loops += 1;
        self.jumps_left -= 1;
        self.place_all();
        let saved = (self.may_call, self.jumps_left, self.calls_left);
        self.may_call = calls;
        let inner = self.jumps_left.min(2);
        self.jumps_left = inner;
        self.calls_left = self.calls_left.min(1);
        let most = if self.loops == 1 && self.random.chance(1, 3) {
            MANY_PASSES
        } else {
            PASSES
        };
        let passes = self.random.between(1, most);
        let up = self.random.chance(1, 3);
        self.code.push(mov(counter, Operand::Imm(if up { 0 } else { passes })));
        self.written(counter);
        self.reserved.insert(counter);
        if calls {
            self.state.numbers = self.state.numbers.without(Registers::of(1..=5));
        }
        let head = self.code.label();
        self.code.place(head);
        let steps = 1 + self.random.below(5);
        self.steps(steps);
        let size = self.size();
        self.code
            .push(alu(size, AluOp::Add, counter, Operand::Imm(if up { 1 } else { -1 })));
        let (condition, end) = match (up, self.random.below(3)) {
            (true, 0) => (Condition::Ne, passes),
            (true, 1) => (Condition::Slt, passes),
            (true, _) => (Condition::Lt, passes),
            (false, 0) => (Condition::Ne, 0),
            (false, 1) => (Condition::Sgt, 0),
            (false, _) => (Condition::Ge, 1),
        };
        let back = Instruction::JumpIf {
            size: self.size(),
            condition,
            dst: counter,
            src: Operand::Imm(end),
            offset: 0,
        };
        self.code.jump(back, head);
        self.reserved.remove(counter);
        self.may_call = saved.0;
        self.jumps_left = saved.1 - (inner - self.jumps_left);
        self.calls_left = saved.2.saturating_sub(1);
        self.loops -= 1;
    }

    /// Makes the result depend on some register.
    pub(super) fn observe(&mut self) {
        let register = self.source();
        self.observe_register(register);
    }

    pub(super) fn observe_register(&mut self, register: Reg) {
        match self.sum {
            Some(sum) if sum != register && self.random.chance(2, 3) => self.fold(sum, register),
            _ => {
                let Some(pinned) = self.pinned.first().copied() else {
                    return;
                };
                let width = self.random.one_of(&[Width::W, Width::Dw, Width::Dw]);
                let at = self.random.below((pinned.bytes as u32 / width.bytes()) as usize) as u32 * width.bytes();
                self.code.push(Instruction::Store {
                    width,
                    base: pinned.register,
                    offset: at as i16,
                    src: Operand::Reg(register),
                });
            }
        }
    }
}
