//! The steps of a function that call others.

use bpf2sys_bytecode::{AluOp, Callee, FunctionIndex, Instruction, Operand, Reg, WordSize};

use super::plan::Argument;
use super::state::Registers;
use super::writer::{Writer, alu, mov, register};
use crate::helpers;
use crate::random::Random;

/// Bytes of the memory that helpers get.
const HELPER_BYTES: i32 = 16;

impl Writer<'_> {
    /// Calls the next function, or any later one.
    pub(super) fn call_any(&mut self) {
        let (next, functions) = (self.function + 1, self.plan.signatures.len());
        if next < functions {
            let callee = if self.plan.chain {
                next
            } else {
                next + self.random.below(functions - next)
            };
            self.call(callee);
        }
    }

    /// Calls a function of the program, if there may be a call here.
    pub(super) fn call(&mut self, callee: usize) {
        if self.may_call && self.calls_left > 0 && self.arguments(&self.plan.signatures[callee]) {
            self.calls_left -= 1;
            let callee = FunctionIndex(callee as u32);
            self.call_passed(Callee::Local(callee));
        }
    }

    /// Calls one of the helpers that every engine but Linux has; they read memory that the program passes, or write it.
    pub(super) fn call_helper(&mut self) {
        if !self.may_call {
            return;
        }
        let size = |random: &mut Random| Argument::Constant(random.one_of(&[0, 4, 8, 12, 16]));
        let (sizes, memory) = ([size(self.random), size(self.random)], Argument::Memory(HELPER_BYTES));
        let copy = [memory, sizes[0], memory, sizes[1]];
        let (id, arguments) = match self.random.below(6) {
            0 => (helpers::UNWIND, vec![Argument::Number]),
            1 | 2 => (helpers::STRNCPY_S, copy.to_vec()),
            _ => (helpers::CSUM_DIFF, copy.into_iter().chain([Argument::Number]).collect()),
        };
        if self.arguments(&arguments) {
            self.call_passed(Callee::Helper(id));
        }
    }

    fn call_passed(&mut self, callee: Callee) {
        self.code.push(Instruction::Call(callee));
        self.state.numbers = self.state.numbers.without(Registers::of(1..=5));
        self.written(Reg::R0);
        if self.random.chance(1, 2) {
            self.observe_register(Reg::R0);
        }
    }

    /// Sets the argument registers. False, with nothing written, if there is no memory to pass.
    fn arguments(&mut self, arguments: &[Argument]) -> bool {
        let mut lent = Vec::new();
        for argument in arguments {
            if let Argument::Memory(bytes) = argument {
                match self.lend(*bytes) {
                    Some(place) => lent.push(place),
                    None => return false,
                }
            }
        }
        let mut lent = lent.into_iter();
        for (position, kind) in arguments.iter().enumerate() {
            let argument = register(position + 1);
            match *kind {
                Argument::Memory(_) => {
                    let Some((base, at)) = lent.next() else { continue };
                    self.code.push(mov(argument, Operand::Reg(base)));
                    if at != 0 {
                        self.code
                            .push(alu(WordSize::W64, AluOp::Add, argument, Operand::Imm(at)));
                    }
                    self.state.numbers.remove(argument);
                }
                Argument::Constant(number) => {
                    self.code.push(mov(argument, Operand::Imm(number)));
                    self.written(argument);
                }
                Argument::Number => {
                    match self.readable() {
                        Some(source) if self.random.chance(3, 4) => {
                            if source != argument {
                                self.code.push(mov(argument, Operand::Reg(source)));
                            }
                        }
                        _ => {
                            let value = self.random.number();
                            self.set(argument, value);
                        }
                    }
                    self.written(argument);
                }
            }
        }
        true
    }
}
