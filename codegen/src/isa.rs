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

/// How hard Cranelift tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Optimization {
    /// The best code.
    Speed,
    /// Computes everything where it is written. With [`Optimization::Speed`] Cranelift computes a pure value where it is
    /// first used; a function that reads much and uses it late then holds everything it has read at once, on the stack.
    InPlace,
}

/// Settings with values other than Cranelift's own.
const SETTINGS: &[(&str, &str)] = &[
    // Not "is_pic": together with colocated symbols every reference is a 32-bit distance, while "pic" goes through a GOT.
    ("is_pic", "false"),
    // Kernel stacks are committed; frames are held below a page instead.
    ("enable_probestack", "false"),
    ("unwind_info", "true"),
    ("regalloc_algorithm", "backtracking"),
    ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
];

/// The instruction set of `machine`, baseline only: no extension that needs saved state or a CPU check.
pub(crate) fn target(machine: Machine, optimization: Optimization) -> Result<OwnedTargetIsa, LowerError> {
    let triple = match machine {
        Machine::X64 => "x86_64-pc-windows-msvc",
        Machine::Arm64 => return Err(LowerError::Machine(machine)),
    };
    let internal = |e: &dyn std::fmt::Display| LowerError::Internal(format!("Cranelift: {e}"));
    let mut flags = settings::builder();
    let level = match optimization {
        Optimization::Speed => "speed",
        Optimization::InPlace => "none",
    };
    for (name, value) in SETTINGS.iter().chain(&[("opt_level", level)]) {
        flags.set(name, value).map_err(|e| internal(&e))?;
    }
    isa::lookup_by_name(triple)
        .map_err(|e| internal(&e))?
        .finish(settings::Flags::new(flags))
        .map_err(|e| internal(&e))
}
