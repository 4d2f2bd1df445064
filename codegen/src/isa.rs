//! Which machine code Cranelift may emit.
//!
//! Kernel code has three rules that these settings keep: position independence without a GOT (so that relocations never
//! touch code pages), no calls into a run-time library, and no registers beyond the general ones. The compiled code is
//! checked again afterwards ([`compile`](mod@crate::compile)), so a setting that loses its meaning is an error and not a bad
//! driver.

use bpf2sys_pe_emit::Machine;
use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};

use crate::LowerError;

/// Settings with values other than Cranelift's own.
const SETTINGS: &[(&str, &str)] = &[
    ("opt_level", "speed"),
    // Not "is_pic": together with colocated symbols every reference is a 32-bit distance, while "pic" goes through a GOT.
    ("is_pic", "false"),
    // Kernel stacks are committed; frames are held below a page instead.
    ("enable_probestack", "false"),
    ("unwind_info", "true"),
    ("regalloc_algorithm", "backtracking"),
    ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
];

/// The instruction set of `machine`, baseline only: no extension that needs saved state or a CPU check.
pub(crate) fn target(machine: Machine) -> Result<OwnedTargetIsa, LowerError> {
    let triple = match machine {
        Machine::X64 => "x86_64-pc-windows-msvc",
        Machine::Arm64 => return Err(LowerError::Machine(machine)),
    };
    let internal = |e: &dyn std::fmt::Display| LowerError::Internal(format!("Cranelift: {e}"));
    let mut flags = settings::builder();
    for (name, value) in SETTINGS {
        flags.set(name, value).map_err(|e| internal(&e))?;
    }
    isa::lookup_by_name(triple)
        .map_err(|e| internal(&e))?
        .finish(settings::Flags::new(flags))
        .map_err(|e| internal(&e))
}
