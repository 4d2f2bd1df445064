//! Which machine code Cranelift may emit.
//!
//! Kernel code has three rules that these settings keep: position independence without a GOT (so that relocations never
//! touch code pages), no calls into a run-time library, and no registers beyond the general ones. The compiled code is
//! checked again afterwards ([`compile`](mod@crate::compile)), so a setting that loses its meaning is an error and not a bad
//! driver.

use std::cell::OnceCell;

use bpf2sys_pe_emit::Machine;
use cranelift_codegen::isa::{self, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};

use crate::{LowerError, Options};

/// How hard Cranelift tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// The best code.
    Speed,
    /// Computes everything where it is written. With [`Effort::Speed`] Cranelift computes a pure value where it is
    /// first used; a function that reads much and uses it late then holds everything it has read at once, on the stack.
    InPlace,
}

/// The instruction set of a module, with each kind of optimization.
pub(crate) struct Isas {
    options: Options,
    speed: OwnedTargetIsa,
    /// Made when it is needed, which is seldom.
    in_place: OnceCell<OwnedTargetIsa>,
}

impl Isas {
    /// Those that `options` name.
    pub(crate) fn of_options(options: &Options) -> Result<Isas, LowerError> {
        Ok(Isas {
            options: options.clone(),
            speed: target(options, Effort::Speed)?,
            in_place: OnceCell::new(),
        })
    }

    /// The one that gives the best code.
    pub(crate) fn speed(&self) -> &dyn TargetIsa {
        &*self.speed
    }

    /// The one for a kind of optimization.
    pub(crate) fn of(&self, optimization: Effort) -> Result<&dyn TargetIsa, LowerError> {
        if optimization == Effort::Speed {
            return Ok(self.speed());
        }
        if let Some(isa) = self.in_place.get() {
            return Ok(&**isa);
        }
        let isa = target(&self.options, optimization)?;
        Ok(&**self.in_place.get_or_init(|| isa))
    }
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

/// Windows on ARM64 walks stacks by the chain of `{fp, lr}` pairs where it has no time for unwind data (ARM64 ABI
/// conventions, "Stack"), so every function has one that may be a link of it: those that call.
const ARM64_SETTINGS: &[(&str, &str)] = &[("preserve_frame_pointers", "true")];

/// The instruction set that `options` name, with one kind of optimization: the baseline of the machine, and the extensions that were asked for.
///
/// # Errors
/// [`LowerError::Arm64Only`] for an ARM64 extension with another machine.
fn target(options: &Options, optimization: Effort) -> Result<OwnedTargetIsa, LowerError> {
    let internal = |e: &dyn std::fmt::Display| LowerError::Internal(format!("Cranelift: {e}"));
    let (triple, settings) = match options.machine {
        Machine::X64 => ("x86_64-pc-windows-msvc", [].as_slice()),
        Machine::Arm64 => ("aarch64-pc-windows-msvc", ARM64_SETTINGS),
    };
    let mut flags = settings::builder();
    let level = match optimization {
        Effort::Speed => "speed",
        Effort::InPlace => "none",
    };
    for (name, value) in SETTINGS.iter().chain(settings).chain(&[("opt_level", level)]) {
        flags.set(name, value).map_err(|e| internal(&e))?;
    }
    let mut isa = isa::lookup_by_name(triple).map_err(|e| internal(&e))?;
    // Key B, because key A belongs to user mode on Windows. Without "has_pauth" the instructions are hints, which do
    // nothing on processors that do not know them.
    let extensions: [(&'static str, bool, &[&str]); 2] = [
        ("lse", options.lse, &["has_lse"]),
        (
            "sign_return_address",
            options.sign_return_address,
            &["sign_return_address", "sign_return_address_with_bkey"],
        ),
    ];
    for (option, wanted, flags) in extensions {
        if wanted && options.machine != Machine::Arm64 {
            return Err(LowerError::Arm64Only { option });
        }
        for flag in flags.iter().filter(|_| wanted) {
            isa.enable(flag).map_err(|e| internal(&e))?;
        }
    }
    isa.finish(settings::Flags::new(flags)).map_err(|e| internal(&e))
}
