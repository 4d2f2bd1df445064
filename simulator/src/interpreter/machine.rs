//! The state between instructions: registers, frames of functions, steps.

use bpf2sys_bytecode::{Function, FunctionIndex, InsnIndex, Module, Operand, Reg, WordSize};

use super::error::{Access, InterpretError, Place, Problem};
use super::world::{At, World};
use super::{Entry, FRAME_BYTES, MAX_FRAMES, Options, Outcome, STACK_BYTES, Undefined};

/// An execution in progress.
pub(super) struct Machine<'a, W: World> {
    pub(super) module: &'a Module,
    pub(super) world: &'a mut W,
    options: Options,
    /// `r0` to `r10`; `None` is a register without a value.
    pub(super) registers: [Option<u64>; Reg::COUNT],
    /// `r10` of the first function.
    stack_end: u64,
    /// The function that runs.
    function: FunctionIndex,
    /// The instruction that is executed next, or that is being executed.
    at: InsnIndex,
    /// The functions that wait for the one that runs, outermost first.
    callers: Vec<Caller>,
    steps: u64,
    frames: u32,
}

/// A function that has called another one.
struct Caller {
    function: FunctionIndex,
    /// Where it goes on.
    resume: InsnIndex,
    /// Its `r6` to `r10`, which the call preserves.
    preserved: [Option<u64>; 5],
}

/// What an instruction does with control.
pub(super) enum Flow {
    /// To the instruction behind it.
    Next,
    /// To the target of its jump.
    Jump,
    /// Into another function.
    Call(FunctionIndex),
    /// Out of the function.
    Return,
    /// Out of the program, with this result.
    End(u64),
}

impl<'a, W: World> Machine<'a, W> {
    pub(super) fn new(module: &'a Module, entry: &Entry, world: &'a mut W, options: Options) -> Self {
        let mut registers = [None; Reg::COUNT];
        for (register, value) in registers.iter_mut().zip(entry.registers) {
            *register = match options.undefined {
                Undefined::Refused | Undefined::Tracked => value,
                Undefined::AsCompiled => Some(value.unwrap_or(0)),
            };
        }
        registers[Reg::R10.index()] = Some(entry.stack_end);
        Machine {
            module,
            world,
            options,
            registers,
            stack_end: entry.stack_end,
            function: entry.function,
            at: InsnIndex(0),
            callers: Vec::new(),
            steps: 0,
            frames: 1,
        }
    }

    /// Executes until the program ends.
    pub(super) fn run(mut self) -> Result<Outcome, Box<InterpretError<W::Error>>> {
        loop {
            match self.one() {
                Ok(None) => {}
                Ok(Some(outcome)) => return Ok(outcome),
                Err(problem) => {
                    return Err(Box::new(InterpretError {
                        place: Place::of(self.module, self.function, self.at),
                        problem,
                    }));
                }
            }
        }
    }

    /// Executes one instruction and finds the next.
    fn one(&mut self) -> Result<Option<Outcome>, Problem<W::Error>> {
        let function = self.function()?;
        let insn = function.instructions.get(self.at.index()).ok_or(Problem::FellOffEnd)?;
        if self.steps >= self.options.max_steps {
            return Err(Problem::StepLimit(self.options.max_steps));
        }
        self.steps += 1;
        self.world.executing(&At {
            function: self.function,
            instruction: self.at,
            registers: &self.registers,
            frames: self.callers.len() as u32 + 1,
        });
        if self.options.undefined == Undefined::Tracked && self.undefined_step(insn.op)? {
            self.at = InsnIndex(self.at.0 + 1);
            return Ok(None);
        }
        match self.step(insn.op)? {
            Flow::Next => self.at = InsnIndex(self.at.0 + 1),
            Flow::Jump => self.at = function.jump_target(self.at).ok_or(Problem::Missing("jump target"))?,
            Flow::Call(callee) => self.enter(callee)?,
            Flow::Return => return self.leave(),
            Flow::End(r0) => return Ok(Some(self.outcome(r0, true))),
        }
        Ok(None)
    }

    fn function(&self) -> Result<&'a Function, Problem<W::Error>> {
        let function = self.module.functions.get(self.function.index());
        function.ok_or(Problem::Missing("function"))
    }

    /// §4.3.2: the callee has its own frame below.
    fn enter(&mut self, callee: FunctionIndex) -> Result<(), Problem<W::Error>> {
        if self.module.functions.get(callee.index()).is_none() {
            return Err(Problem::Missing("function"));
        }
        if self.callers.len() as u32 + 1 >= MAX_FRAMES {
            return Err(Problem::TooManyFrames(MAX_FRAMES));
        }
        let [r0, _, _, _, _, _, r6, r7, r8, r9, r10] = &mut self.registers;
        self.callers.push(Caller {
            function: self.function,
            resume: InsnIndex(self.at.0 + 1),
            preserved: [*r6, *r7, *r8, *r9, *r10],
        });
        *r10 = r10.map(|address| address.wrapping_sub(FRAME_BYTES));
        if self.options.undefined == Undefined::Refused {
            for register in [r0, r6, r7, r8, r9] {
                *register = None;
            }
        }
        self.function = callee;
        self.at = InsnIndex(0);
        self.frames = self.frames.max(self.callers.len() as u32 + 1);
        Ok(())
    }

    /// §4.3: `EXIT` returns to the caller, or ends the program.
    fn leave(&mut self) -> Result<Option<Outcome>, Problem<W::Error>> {
        let Some(caller) = self.callers.pop() else {
            let r0 = self.get(Reg::R0)?;
            return Ok(Some(self.outcome(r0, false)));
        };
        self.forget_arguments();
        self.registers[6..].copy_from_slice(&caller.preserved);
        self.function = caller.function;
        self.at = caller.resume;
        Ok(None)
    }

    fn outcome(&self, r0: u64, ended_by_helper: bool) -> Outcome {
        Outcome {
            r0,
            ended_by_helper,
            steps: self.steps,
            frames: self.frames,
        }
    }

    /// `r1` to `r5` as any call leaves them.
    pub(super) fn forget_arguments(&mut self) {
        let left = match self.options.undefined {
            Undefined::Refused | Undefined::Tracked => None,
            Undefined::AsCompiled => Some(0),
        };
        self.registers[1..=5].fill(left);
    }

    /// `r1` to `r5` for a helper.
    pub(super) fn arguments(&self) -> [u64; 5] {
        let [_, r1, r2, r3, r4, r5, ..] = self.registers;
        [r1, r2, r3, r4, r5].map(|value| value.unwrap_or(0))
    }

    /// The value of a register.
    pub(super) fn get(&self, register: Reg) -> Result<u64, Problem<W::Error>> {
        self.registers[register.index()].ok_or(Problem::Unset(register))
    }

    /// Gives a register a value.
    pub(super) fn set(&mut self, register: Reg, value: u64) -> Result<(), Problem<W::Error>> {
        if register == Reg::R10 {
            return Err(Problem::FramePointer);
        }
        self.registers[register.index()] = Some(value);
        Ok(())
    }

    /// A source operand with 64 bits: an immediate is sign-extended (§4.1).
    pub(super) fn operand(&self, operand: Operand) -> Result<u64, Problem<W::Error>> {
        match operand {
            Operand::Reg(register) => self.get(register),
            Operand::Imm(imm) => Ok(i64::from(imm).cast_unsigned()),
        }
    }

    /// The address `base + offset` (§5).
    pub(super) fn address(&self, base: Reg, offset: i16) -> Result<u64, Problem<W::Error>> {
        Ok(self.get(base)?.wrapping_add_signed(i64::from(offset)))
    }

    /// `N` bytes of memory.
    pub(super) fn read<const N: usize>(&mut self, address: u64) -> Result<[u8; N], Problem<W::Error>> {
        self.check_frame(Access::Read, address, N as u32)?;
        let mut bytes = [0; N];
        self.world
            .read(address, &mut bytes)
            .map(|()| bytes)
            .map_err(|denied| denied_access(Access::Read, address, N as u32, denied.near))
    }

    /// Writes bytes to memory.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Problem<W::Error>> {
        let length = bytes.len() as u32;
        self.check_frame(Access::Write, address, length)?;
        self.world
            .write(address, bytes)
            .map_err(|denied| denied_access(Access::Write, address, length, denied.near))
    }

    /// The world has memory for all frames that there may be; a function may use those that there are.
    pub(super) fn check_frame(&self, access: Access, address: u64, length: u32) -> Result<(), Problem<W::Error>> {
        let used = FRAME_BYTES * (self.callers.len() as u64 + 1);
        let free = self.stack_end.saturating_sub(STACK_BYTES)..self.stack_end.saturating_sub(used);
        if address < free.end && address.saturating_add(u64::from(length)) > free.start {
            let near = format!(
                "{} bytes below the running function's frame",
                free.end - address.max(free.start)
            );
            return Err(denied_access(access, address, length, near));
        }
        Ok(())
    }

    /// The address of an atomic operation, which must be aligned.
    pub(super) fn atomic_address(&self, size: WordSize, base: Reg, offset: i16) -> Result<u64, Problem<W::Error>> {
        let length: u32 = match size {
            WordSize::W32 => 4,
            WordSize::W64 => 8,
        };
        let address = self.address(base, offset)?;
        if address.is_multiple_of(u64::from(length)) {
            Ok(address)
        } else {
            Err(Problem::Misaligned { address, length })
        }
    }
}

pub(super) fn denied_access<E>(access: Access, address: u64, length: u32, near: String) -> Problem<E> {
    Problem::Access {
        access,
        address,
        length,
        near,
    }
}
