//! What is refused although the engine accepts it.
//!
//! Given: the states with which an analysis without an error ended. They cover every execution, so one look at each
//! point is enough. Computed: the first rejection, in the order of the code.
//!
//! | Rule | Why the engine's own verdict is not enough |
//! |---|---|
//! | A map key or value lies wholly in its memory ([`arguments`]). | Of one on the stack the engine looks at the part below the top of the stack only. |
//! | No arithmetic on a pointer that may be null ([`null`]). | Null plus an offset is not null to the engine, so `lookup() + 4` can be used without a check. |
//! | No comparison of the low halves of pointers. | The engine takes `if w4 > w3` for a comparison of the pointers, as a check of the bounds of a packet. |
//! | No number that is negative and unsigned. | It comes from a 64-bit byte swap of a constant, and the engine calls live edges of later comparisons dead. |
//! | No write to a read-only global section ([`origin`]). | To the engine it is memory of a map as any other. It is at run time too: this protects the program from itself. |
//! | No read of a metadata pointer that is always null ([`metadata`]). | The engine takes it for a pointer to the start of the data or before, and would allow an access through it. |
//!
//! Helpers that write memory which their prototype calls readable, and negative constants in memory, are put right before
//! the analysis: see [`meaning`](super::meaning).

mod arguments;
mod metadata;
mod null;
mod origin;

use bpf2sys_bytecode::{Instruction, Module, Operand, Reg, WordSize};
use bpf2sys_platform::{Platform, ProgramType};
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain};
use prevail::crab::var_registry::VariableRegistry;
use prevail::spec::ebpf_base::EbpfArgumentType as Argument;

use super::state::Bounds;
use super::windows;
use crate::error::RejectionReason;
use crate::prototype::{Prototype, prototype};
use crate::{RegisterFact, RegisterKind};

pub(super) use arguments::outside_memory;
pub(super) use origin::{Origins, origins};

/// A point of a program that the engine accepts.
pub(super) struct Point<'a> {
    /// The engine's name of the point.
    pub label: &'a Label,
    /// What the engine knows before the instruction.
    pub state: &'a EbpfDomain,
    /// The registers in that state.
    pub registers: &'a [RegisterFact; Reg::COUNT],
    /// Distances of registers from the start of the context, where they point into it.
    pub context_offsets: &'a [Bounds; Reg::COUNT],
    /// Which registers may point into it.
    pub contexts: &'a [bool; Reg::COUNT],
    /// Where the registers come from.
    pub origins: &'a Origins,
    /// Whether the engine has computed wrongly before the instruction, or in it.
    pub impossible: bool,
}

/// The program that the points are of.
pub(super) struct Rules<'a> {
    pub module: &'a Module,
    pub platform: &'a Platform,
    pub program_type: &'a ProgramType,
}

impl Rules<'_> {
    /// Why an instruction that the engine accepts is refused.
    pub fn refuse(
        &self,
        instruction: &Instruction,
        point: &Point<'_>,
        context: &DomainContext<'_>,
        names: &mut VariableRegistry,
    ) -> Option<RejectionReason> {
        if point.impossible {
            return Some(RejectionReason::ImpossibleNumber);
        }
        match *instruction {
            Instruction::JumpIf {
                size: WordSize::W32,
                dst,
                src,
                ..
            } => {
                let number = |register| point.kind(register) == RegisterKind::Number;
                let numbers = number(dst)
                    && match src {
                        Operand::Reg(src) => number(src),
                        Operand::Imm(_) => true,
                    };
                (!numbers).then_some(RejectionReason::HalfPointerCompared)
            }
            Instruction::Load {
                width, base, offset, ..
            } => metadata::load((base, offset, width), self.program_type, point, context, names),
            Instruction::Alu { .. } => null::arithmetic(instruction, point, context, names),
            Instruction::Store { base, .. } | Instruction::Atomic { base, .. } => self.write(base, point),
            Instruction::Call(callee) => {
                let called = prototype(callee, self.module, self.platform, self.program_type)?;
                written(&called).find_map(|register| self.write(register, point))
            }
            _ => None,
        }
    }

    /// A write through a register. At run time the section is memory of a map as any other, so this keeps a program from
    /// breaking itself and not the system: pointers that went through memory or a call are not followed.
    fn write(&self, register: Reg, point: &Point<'_>) -> Option<RejectionReason> {
        let section = point.origins[register.index()].read_only?;
        let section = self.module.globals.get(section.index())?;
        Some(RejectionReason::ReadOnlyWrite {
            section: section.section.clone(),
        })
    }
}

/// The arguments through which a callee outside the module writes.
fn written<'a>(called: &Prototype<'a>) -> impl Iterator<Item = Reg> + use<'a> {
    let writable = |number: u32| {
        matches!(
            windows::argument_type(number),
            Argument::PtrToWritableMem
                | Argument::PtrToWritableMemOrNull
                | Argument::PtrToUninitMapValue
                | Argument::PtrToLong
                | Argument::PtrToInt
        )
    };
    let writes_readable = called.writes_readable;
    let arguments = (1..).zip(called.arguments).take_while(|(_, argument)| *argument != 0);
    arguments
        .filter(move |(position, argument)| writable(*argument) || writes_readable.contains(position))
        .filter_map(|(position, _)| Reg::new(position))
}

impl Point<'_> {
    /// What a register holds, on all paths.
    fn kind(&self, register: Reg) -> RegisterKind {
        self.registers[register.index()].kind
    }
}
