//! Facts against runs: a fact must be true each time an execution gets to its instruction.
//!
//! Given: what was proven of a module, and a run of one of its programs, instruction by instruction. Computed: the first fact
//! that is not true in it. The judge knows nothing of how facts are found: it looks at the numbers in the registers and at
//! where regions of memory lie.

mod frames;
mod registers;
mod step;
#[cfg(test)]
mod tests;

use bpf2sys_bytecode::{FunctionIndex, FunctionKind, InsnIndex, Instruction, Module, Reg};
use bpf2sys_simulator::interpreter::At;
use bpf2sys_verifier::{FunctionFacts, Interval, VerifiedModule};

use crate::regions::Regions;
use frames::{Activations, Touched};

/// The facts of a module beside one run of a program.
#[derive(Clone)]
pub struct FactJudge<'a> {
    module: &'a Module,
    /// By function.
    facts: Vec<&'a FunctionFacts>,
    /// The instruction before, and its registers.
    last: Option<Last>,
    active: Activations,
}

/// An instruction that was executed.
#[derive(Clone)]
struct Last {
    function: FunctionIndex,
    instruction: InsnIndex,
    frames: u32,
    registers: [Option<u64>; Reg::COUNT],
}

impl<'a> FactJudge<'a> {
    /// A judge for one run.
    pub fn new(proof: &'a VerifiedModule) -> FactJudge<'a> {
        let functions = 0..proof.module().functions.len() as u32;
        let facts = functions.map(|function| proof.facts(FunctionIndex(function)));
        FactJudge::of(proof.module(), facts.collect())
    }

    /// A judge of other facts of the same module, by function.
    pub fn of(module: &'a Module, facts: Vec<&'a FunctionFacts>) -> FactJudge<'a> {
        FactJudge {
            module,
            facts,
            last: None,
            active: Activations::default(),
        }
    }

    /// To be told of each instruction before it is executed. What of the facts is not true, there or of the way from the
    /// instruction before.
    ///
    /// # Errors
    /// What is not true.
    pub fn executing(&mut self, at: &At<'_>, regions: &Regions) -> Result<(), String> {
        let last = self.last.replace(Last {
            function: at.function,
            instruction: at.instruction,
            frames: at.frames,
            registers: *at.registers,
        });
        self.active.executing(at);
        let facts = self.facts[at.function.index()];
        let known = facts.instructions.get(at.instruction.index());
        if known.is_some_and(|known| !known.reachable) {
            return Err("the instruction is said to be unreachable".to_owned());
        }
        if let Some(last) = last {
            self.way(&last, at, regions)?;
        }
        registers::judge(&facts.registers(at.instruction), at.registers, at.frames, regions)?;
        let Some(known) = known else { return Ok(()) };
        let instructions = &self.module.function(at.function).instructions;
        let Some(insn) = instructions.get(at.instruction.index()) else {
            return Ok(());
        };
        step::judge(facts, known, &insn.op, at, regions)?;
        self.active.instruction(&insn.op, at, &self.facts, regions)
    }

    /// To be told of memory that a helper, or a function of another module, is about to access for the instruction that runs.
    ///
    /// # Errors
    /// What is not true.
    pub fn callee(&self, address: u64, length: u64, writes: bool, regions: &Regions) -> Result<(), String> {
        let touched = Touched {
            address,
            length,
            writes,
        };
        self.active.callee(touched, &self.facts, regions)
    }

    /// To be told what the program returns, unless another program took its place.
    ///
    /// # Errors
    /// What is not true.
    pub fn returned(&self, program: FunctionIndex, r0: u64) -> Result<(), String> {
        returns("program", self.facts[program.index()].returns, Some(r0))
    }

    /// The way from one instruction to the next.
    fn way(&self, last: &Last, at: &At<'_>, regions: &Regions) -> Result<(), String> {
        let function = self.module.function(last.function);
        let Some(insn) = function.instructions.get(last.instruction.index()) else {
            return Ok(());
        };
        let facts = self.facts[last.function.index()];
        match insn.op {
            Instruction::JumpIf { .. } if last.frames == at.frames => {
                let target = function.jump_target(last.instruction);
                let next = InsnIndex(last.instruction.0 + 1);
                if target == Some(next) {
                    return Ok(());
                }
                let taken = target == Some(at.instruction);
                let way = if taken { "taken" } else { "not taken" };
                let Some(edge) = facts.edge(last.instruction, &insn.op, taken) else {
                    return Err(format!("the jump at {} is said to be never {way}", last.instruction.0));
                };
                let operands = [Some(edge.dst), edge.src];
                for (register, fact) in operands.into_iter().flatten() {
                    let value = last.registers[register.index()];
                    registers::judge_one(&fact, value, at.frames, regions).map_err(|what| {
                        format!(
                            "{register} behind the jump at {}, which is {way}, {what}",
                            last.instruction.0
                        )
                    })?;
                }
                Ok(())
            }
            Instruction::Exit if function.kind == FunctionKind::Subprogram => {
                returns("function", facts.returns, last.registers[Reg::R0.index()])
            }
            _ => Ok(()),
        }
    }
}

fn returns(what: &str, range: Interval, value: Option<u64>) -> Result<(), String> {
    match value.map(u64::cast_signed) {
        Some(value) if !(range.min..=range.max).contains(&value) => Err(format!(
            "the {what} returns {value}, and is said to return {} to {}",
            range.min, range.max
        )),
        _ => Ok(()),
    }
}
