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
//! | No comparison of a pointer with a number that is not 0 ([`comparison`]). | The engine takes addresses for small numbers, and calls live edges dead. In privileged types it checks no comparison. |
//! | No number that is negative and unsigned. | It comes from a 64-bit byte swap of a constant, and the engine calls live edges of later comparisons dead. |
//! | No write to a read-only global section ([`origin`]). | To the engine it is memory of a map as any other. It is at run time too: this protects the program from itself. A pointer that comes back from memory or a call is told by the size of what it points into. |
//! | No read of a metadata pointer that is always null ([`metadata`]). | The engine takes it for a pointer to the start of the data or before, and would allow an access through it. |
//! | A map of the right type where the callee does not look ([`maps`]). | The engine knows no map types of helpers. |
//! | No pointer gets out by a comparison, in a buffer or in a register that no prototype lists, and none is made of a number ([`leaks`]). | The engine looks at stores, listed arguments and the result only. |
//!
//! Helpers that write memory which their prototype calls readable, and negative constants in memory, are put right before
//! the analysis: see [`meaning`](super::meaning).

mod arguments;
mod comparison;
mod leaks;
mod maps;
mod metadata;
mod null;
mod origin;

use bpf2sys_bytecode::{AtomicOp, Callee, GlobalIndex, Instruction, Module, Operand, Reg, WordSize};
use bpf2sys_platform::{Platform, ProgramType};
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain};
use prevail::crab::var_registry::VariableRegistry;

use super::state::Bounds;
use crate::error::RejectionReason;
use crate::map_type::{self, Wrong};
use crate::prototype::{Need, Prototype, prototype};
use crate::rules as shared;
use crate::{RegisterFact, RegisterKind, WarningReason};

pub(super) use arguments::{OutsideMemory, outside_memory};
pub(super) use origin::{Origins, escaped, origins};

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
    /// Sizes in bytes of the map values that registers point into, where they do.
    pub region_sizes: &'a [Bounds; Reg::COUNT],
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
    /// The read-only sections a pointer to which is where no [`Origins`] follow it.
    pub escaped: Vec<GlobalIndex>,
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
                let numbers = point.is_number(dst)
                    && match src {
                        Operand::Reg(src) => point.is_number(src),
                        Operand::Imm(_) => true,
                    };
                shared::half_comparison(numbers)
            }
            Instruction::JumpIf {
                size: WordSize::W64,
                condition,
                dst,
                src,
                ..
            } => comparison::jump((condition, dst, src), self.program_type, point, context, names),
            Instruction::Load {
                width, base, offset, ..
            } => metadata::load((base, offset, width), self.program_type, point, context, names),
            Instruction::Alu { .. } => null::arithmetic(instruction, point, context, names),
            Instruction::Store { base, .. } => self.write(base, point),
            Instruction::Atomic { op, base, .. } => {
                let pointer = match op {
                    AtomicOp::Cmpxchg => Rules::exchange(point),
                    _ => None,
                };
                pointer.or_else(|| self.write(base, point))
            }
            Instruction::Call(callee) => self.call(callee, point, context, names),
            _ => None,
        }
    }

    /// A call of a helper or of a function of another module.
    fn call(
        &self,
        callee: Callee,
        point: &Point<'_>,
        context: &DomainContext<'_>,
        names: &mut VariableRegistry,
    ) -> Option<RejectionReason> {
        let called = prototype(callee, self.module, self.platform, self.program_type)?;
        if let Some(Wrong::Refused(reason)) = self.map_type(&called, point, context, names) {
            return Some(reason);
        }
        let write = written(&called).find_map(|register| self.write(register, point));
        write.or_else(|| self.arguments(&called, point, context, names))
    }

    /// What to warn of at an instruction that is not refused.
    pub fn warn(
        &self,
        instruction: &Instruction,
        point: &Point<'_>,
        context: &DomainContext<'_>,
        names: &mut VariableRegistry,
    ) -> Option<WarningReason> {
        let Instruction::Call(callee) = *instruction else {
            return None;
        };
        let called = prototype(callee, self.module, self.platform, self.program_type)?;
        if called.always_fails {
            return Some(map_type::always_fails(&called, self.program_type));
        }
        match self.map_type(&called, point, context, names) {
            Some(Wrong::Warned(reason)) => Some(reason),
            _ => None,
        }
    }

    /// A write through a register. A pointer that was in memory or in another function is told from those to read-only sections by
    /// the size of what it points into.
    fn write(&self, register: Reg, point: &Point<'_>) -> Option<RejectionReason> {
        let origin = point.origins[register.index()];
        let escaped = || {
            let shared = matches!(point.kind(register), RegisterKind::MapValue | RegisterKind::Unknown);
            let possible = self.escaped.iter().filter(|_| origin.elsewhere && shared);
            let (low, high) = point.region_sizes[register.index()];
            possible.copied().find(|section| {
                let size = self
                    .module
                    .globals
                    .get(section.index())
                    .map_or(0, |g| g.data.len() as i128);
                low.is_none_or(|low| low <= size) && high.is_none_or(|high| size <= high)
            })
        };
        let section = origin.read_only.or_else(escaped)?;
        let section = self.module.globals.get(section.index())?;
        Some(RejectionReason::ReadOnlyWrite {
            section: section.section.clone(),
        })
    }
}

/// The arguments through which a callee outside the module writes.
fn written<'a>(called: &Prototype<'a>) -> impl Iterator<Item = Reg> + use<'a> {
    let writes_readable = called.writes_readable;
    called
        .needs()
        .filter(move |(register, need)| {
            matches!(
                need,
                Need::Memory { writes: true, .. } | Need::NewValue | Need::Number(_)
            ) || writes_readable.contains(&register.number())
        })
        .map(|(register, _)| register)
}

impl Point<'_> {
    /// What a register holds, on all paths.
    fn kind(&self, register: Reg) -> RegisterKind {
        self.registers[register.index()].kind
    }

    /// Whether a register holds a number on all paths.
    fn is_number(&self, register: Reg) -> bool {
        self.kind(register) == RegisterKind::Number
    }
}
