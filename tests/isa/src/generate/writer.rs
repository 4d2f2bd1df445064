//! Writes one function: its state, registers, and how it begins and ends.
//!
//! Registers have roles. Some hold pointers for the whole function and are never computed with; one may be the sum, which
//! everything observed is folded into; counters of loops are set apart while the loop lasts; the others hold numbers. So
//! every program is valid by construction: what is read was written on every way, and no address is ever a number.

use bpf2sys_bytecode::{AluOp, Condition, Imm64, Instruction, Operand, Reg, Width, WordSize};

use super::plan::{Argument, Plan};
use super::state::{Registers, STACK, State};
use crate::code::{Code, Label};
use crate::random::Random;

/// Memory behind a register that holds its address for the whole function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pinned {
    pub(super) register: Reg,
    pub(super) bytes: i32,
}

/// Constants behind the program's memory: only `main` reads them, nothing writes them, and no compiler knows them.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// Where they begin, in bytes from the program's memory.
    start: i32,
    pub(super) values: Vec<u64>,
}

/// Most constants of a program.
pub(super) const POOL_VALUES: usize = 16;

/// A jump that was written, to a label that was not placed yet.
#[derive(Clone, Debug)]
struct Pending {
    label: Label,
    /// The state at the jump.
    state: State,
    /// The label is placed after so many steps.
    steps: usize,
}

/// A function in progress.
pub(super) struct Writer<'p> {
    pub(super) random: &'p mut Random,
    pub(super) plan: &'p Plan,
    /// Its position among the program's functions.
    pub(super) function: usize,
    pub(super) code: Code,
    pub(super) state: State,
    /// Registers with another role than to hold any number.
    pub(super) reserved: Registers,
    pub(super) pinned: Vec<Pinned>,
    /// The sum.
    pub(super) sum: Option<Reg>,
    /// The register that was written last.
    recent: Option<Reg>,
    /// Pieces of the own stack that are used, as offsets from `r10`: from, to.
    pub(super) windows: Vec<(i32, i32)>,
    pending: Vec<Pending>,
    pub(super) pool: Option<Pool>,
    /// Whether calls are possible now; only if the function was begun for it.
    pub(super) may_call: bool,
    /// Calls that may still be written.
    pub(super) calls_left: usize,
    /// Conditional jumps that may still be written: a verifier that follows each way takes twice as long with each.
    pub(super) jumps_left: usize,
    pub(super) loops: usize,
}

pub(super) fn mov(dst: Reg, src: Operand) -> Instruction {
    alu(WordSize::W64, AluOp::Mov, dst, src)
}

pub(super) fn alu(size: WordSize, op: AluOp, dst: Reg, src: Operand) -> Instruction {
    Instruction::Alu { size, op, dst, src }
}

/// The register with this number, which is at most 10.
pub(super) fn register(number: usize) -> Reg {
    Reg::new(number as u8).expect("the number of a register")
}

/// Registers that a call leaves as they are.
const SAVED: [u8; 4] = [6, 7, 8, 9];

impl<'p> Writer<'p> {
    /// Begins a function: arguments are where they stay, and the stack is partly written.
    pub(super) fn begin(random: &'p mut Random, plan: &'p Plan, function: usize) -> Writer<'p> {
        let main = function == 0;
        let calls = function + 1 < plan.signatures.len() || plan.taste.helpers;
        let mut writer = Writer {
            plan,
            function,
            code: Code::default(),
            state: State::new(),
            reserved: Registers::of([10]),
            pinned: Vec::new(),
            sum: None,
            recent: None,
            windows: Vec::new(),
            pending: Vec::new(),
            pool: main.then(|| Pool {
                start: plan.memory,
                values: Vec::new(),
            }),
            may_call: calls,
            calls_left: if main { 4 } else { 2 },
            jumps_left: if main { 8 } else { 3 },
            loops: 0,
            random,
        };
        if main && plan.taste.checked {
            writer.check_length();
        }
        writer.take_arguments(calls);
        writer.choose_windows(calls);
        if writer.random.chance(1, 2) {
            let from: &[u8] = if calls { &SAVED } else { &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9] };
            if let Some(sum) = writer.unreserved(from) {
                writer.reserved.insert(sum);
                writer.set(sum, 0);
                writer.sum = Some(sum);
            }
        }
        for _ in 0..writer.random.below(4) {
            writer.fresh();
        }
        writer
    }

    fn take_arguments(&mut self, calls: bool) {
        let arguments = &self.plan.signatures[self.function];
        for (position, argument) in arguments.iter().enumerate() {
            let passed = register(position + 1);
            match *argument {
                Argument::Number | Argument::Constant(_) => self.state.numbers.insert(passed),
                Argument::Memory(bytes) => {
                    // At most two stay; the others are not looked at.
                    let stays = self.pinned.len() < 2;
                    let register = if calls {
                        stays.then(|| self.unreserved(&SAVED)).flatten()
                    } else {
                        Some(passed)
                    };
                    let Some(register) = register else { continue };
                    if register != passed {
                        self.code.push(mov(register, Operand::Reg(passed)));
                    }
                    self.reserved.insert(register);
                    self.pinned.push(Pinned { register, bytes });
                }
            }
        }
    }

    /// Leaves if the memory has less bytes than it has.
    fn check_length(&mut self) {
        let enough = Instruction::JumpIf {
            size: WordSize::W64,
            condition: Condition::Sge,
            dst: register(2),
            src: Operand::Imm(self.plan.memory_bytes()),
            offset: 0,
        };
        let onward = self.code.label();
        self.code.jump(enough, onward);
        self.code.push(mov(Reg::R0, Operand::Imm(0)));
        self.code.push(Instruction::Exit);
        self.code.place(onward);
    }

    fn choose_windows(&mut self, calls: bool) {
        for _ in 0..self.random.weighted(&[(0, if calls { 0 } else { 2 }), (1, 4), (2, 2)]) {
            let bytes = 8 * self.random.between(if calls { 3 } else { 1 }, 5);
            let low = match self.random.below(4) {
                0 => -STACK,
                1 => -8 * self.random.between(bytes / 8, STACK / 8),
                _ => -bytes,
            };
            if self.windows.iter().any(|(from, to)| low < *to && *from < low + bytes) {
                continue;
            }
            self.windows.push((low, low + bytes));
            for word in (low..low + bytes).step_by(8) {
                if self.random.chance(1, 2) {
                    self.fill(word);
                }
            }
        }
    }

    /// Writes the 8 bytes of the stack at `at`.
    pub(super) fn fill(&mut self, at: i32) {
        let src = match self.readable() {
            Some(register) if self.random.chance(1, 2) => Operand::Reg(register),
            _ => Operand::Imm(self.random.immediate()),
        };
        self.code.push(Instruction::Store {
            width: Width::Dw,
            base: Reg::R10,
            offset: at as i16,
            src,
        });
        self.state.stack_written(at, 8);
    }

    // Registers

    /// One of these that holds numbers or nothing.
    pub(super) fn unreserved(&mut self, numbers: &[u8]) -> Option<Reg> {
        let all = Registers::of(numbers.iter().copied()).without(self.reserved).list();
        (!all.is_empty()).then(|| self.random.one_of(&all))
    }

    /// Any register that a number may be put into.
    pub(super) fn target(&mut self) -> Reg {
        let target = self.unreserved(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        target.expect("at most six registers are reserved")
    }

    /// A register that holds a number, if one does; the one written last more often than others.
    pub(super) fn readable(&mut self) -> Option<Reg> {
        if let Some(recent) = self.recent
            && self.state.numbers.has(recent)
            && self.random.chance(1, 3)
        {
            return Some(recent);
        }
        let all = self.state.numbers.list();
        (!all.is_empty()).then(|| self.random.one_of(&all))
    }

    /// A register that holds a number.
    pub(super) fn source(&mut self) -> Reg {
        match self.readable() {
            Some(register) => register,
            None => self.fresh(),
        }
    }

    /// A register that holds a number and may be changed.
    pub(super) fn modified(&mut self) -> Reg {
        let all = self.state.numbers.without(self.reserved).list();
        if all.is_empty() {
            self.fresh()
        } else {
            self.random.one_of(&all)
        }
    }

    /// Marks a register as holding a number.
    pub(super) fn written(&mut self, register: Reg) {
        self.state.numbers.insert(register);
        self.recent = Some(register);
    }

    // Numbers

    /// Puts a number that matters into a register.
    pub(super) fn fresh(&mut self) -> Reg {
        let target = self.target();
        let value = self.random.number();
        self.set(target, value);
        target
    }

    /// Puts `value` into a register, in one of several ways, some of which a compiler can see through.
    pub(super) fn set(&mut self, register: Reg, value: u64) {
        let imm = i32::try_from(value.cast_signed()).ok();
        match self.random.below(4) {
            0 | 1 if self.constant(register, value) => {}
            2 if let Some(imm) = imm => self.code.push(mov(register, Operand::Imm(imm))),
            2 if let Ok(low) = u32::try_from(value) => {
                let imm = Operand::Imm(low.cast_signed());
                self.code.push(alu(WordSize::W32, AluOp::Mov, register, imm));
            }
            _ => self.code.push(Instruction::LoadImm64 {
                dst: register,
                value: Imm64::Constant(value),
            }),
        }
        self.written(register);
    }

    /// Loads `value` from the pool, in `main`.
    fn constant(&mut self, register: Reg, value: u64) -> bool {
        let Some(pool) = &mut self.pool else { return false };
        let Some(memory) = self.pinned.first() else {
            return false;
        };
        let position = match pool.values.iter().position(|v| *v == value) {
            Some(position) => position,
            None if pool.values.len() == POOL_VALUES => return false,
            None => {
                pool.values.push(value);
                pool.values.len() - 1
            }
        };
        self.code.push(Instruction::Load {
            width: Width::Dw,
            signed: false,
            dst: register,
            base: memory.register,
            offset: (pool.start + 8 * position as i32) as i16,
        });
        true
    }

    // Jumps

    /// Appends a jump to a label that is placed after up to `steps` steps.
    pub(super) fn jump_forward(&mut self, jump: Instruction, steps: usize) {
        let label = self.code.label();
        self.code.jump(jump, label);
        self.pending.push(Pending {
            label,
            state: self.state.clone(),
            steps,
        });
    }

    /// A condition and its operands.
    pub(super) fn comparison(&mut self) -> Instruction {
        let dst = self.source();
        let src = if self.random.chance(1, 2) {
            Operand::Reg(self.source())
        } else {
            Operand::Imm(self.random.immediate())
        };
        Instruction::JumpIf {
            size: self.size(),
            condition: self.random.one_of(&Condition::ALL),
            dst,
            src,
            offset: 0,
        }
    }

    pub(super) fn size(&mut self) -> WordSize {
        self.random.one_of(&[WordSize::W32, WordSize::W64])
    }

    /// Counts a step, and places the labels whose time it is.
    pub(super) fn step_done(&mut self) {
        for pending in &mut self.pending {
            pending.steps = pending.steps.saturating_sub(1);
        }
        self.place_labels(|pending| pending.steps == 0);
    }

    /// Places all labels.
    pub(super) fn place_all(&mut self) {
        self.place_labels(|_| true);
    }

    fn place_labels(&mut self, now: impl Fn(&Pending) -> bool) {
        for position in (0..self.pending.len()).rev() {
            if now(&self.pending[position]) {
                let Pending { label, state, .. } = self.pending.remove(position);
                self.code.place(label);
                self.state.meet(&state);
            }
        }
    }

    /// After an instruction that control does not pass: goes on where a jump goes whose label is not placed yet.
    pub(super) fn go_on_at(&mut self, position: usize) {
        let Pending { label, state, .. } = self.pending.remove(position);
        self.code.place(label);
        self.state = state;
    }

    /// How many labels are still to be placed.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    // The end

    /// Makes `into` depend on `register` without losing what it depended on: each operation can be undone. The product makes
    /// it unlikely that an error in two registers cancels out; it is left out now and then to have less to compile.
    pub(super) fn fold(&mut self, into: Reg, register: Reg) {
        let size = WordSize::W64;
        if self.random.chance(1, 2) {
            let odd = Operand::Imm(self.random.immediate() | 1);
            self.code.push(alu(size, AluOp::Mul, into, odd));
        }
        let op = self.random.one_of(&[AluOp::Add, AluOp::Sub, AluOp::Xor]);
        self.code.push(alu(size, op, into, Operand::Reg(register)));
    }

    /// Ends the function with a result that depends on every register and on the stack.
    pub(super) fn finish(mut self) -> (Vec<Instruction>, Option<Pool>) {
        self.place_all();
        self.dump();
        let into = if let Some(sum) = self.sum {
            sum
        } else {
            let into = self
                .unreserved(&[0])
                .or_else(|| self.unreserved(&SAVED))
                .unwrap_or_else(|| self.target());
            if !self.state.numbers.has(into) {
                self.set(into, 0);
            }
            into
        };
        for register in self.state.numbers.list() {
            if register != into {
                self.fold(into, register);
            }
        }
        self.reserved.insert(into);
        let scratch = self.target();
        for (from, to) in self.windows.clone() {
            for word in (from..to).step_by(8) {
                if self.state.stack_readable(word, 8) {
                    self.code.push(Instruction::Load {
                        width: Width::Dw,
                        signed: false,
                        dst: scratch,
                        base: Reg::R10,
                        offset: word as i16,
                    });
                    self.fold(into, scratch);
                }
            }
        }
        if into != Reg::R0 {
            self.code.push(mov(Reg::R0, Operand::Reg(into)));
        }
        self.code.push(Instruction::Exit);
        (self.code.finish(), self.pool)
    }

    /// Stores some registers where the caller sees them.
    fn dump(&mut self) {
        for pinned in self.pinned.clone() {
            for register in self.state.numbers.list() {
                if self.random.chance(1, 4) {
                    let at = 8 * self.random.below(pinned.bytes as usize / 8);
                    self.code.push(Instruction::Store {
                        width: Width::Dw,
                        base: pinned.register,
                        offset: at as i16,
                        src: Operand::Reg(register),
                    });
                }
            }
        }
    }
}
