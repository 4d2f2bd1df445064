//! Objects that were compiled for Linux: told apart, and made into modules for Windows.
//!
//! Given: an object and what the options say about it. Computed: a module for Windows, and what became of what it had of Linux.
//! Safe because: nothing is made of an object for Linux unless that was asked for; it is proven safe as Linux would, and what is made of it
//! is proven safe like any module for Windows.

use bpf2sys_bytecode::{Marks, Module, SourceLine};
use bpf2sys_platform::Platform;
use bpf2sys_retarget::{Fate, Recognition, Retargeted, Subject, System, Use, linux, outline, recognize, retarget};
use bpf2sys_verifier::{self as verifier, VerifyError};

use crate::diagnostic::InstructionPlace;
use crate::pipeline::verifier_options;
use crate::{BuildOptions, Diagnostic, Error};

/// Why no module for Windows is made of an object.
#[derive(Debug, thiserror::Error)]
pub enum PortingError {
    /// It was compiled for Linux, and nobody asked for it to be rewritten.
    #[error("the object was compiled for Linux: {because}")]
    ForLinux {
        /// Why it is taken for one.
        because: String,
    },
    /// It was compiled for Windows, and there is nothing to rewrite.
    #[error("the object was compiled for Windows: {because}")]
    ForWindows {
        /// Why it is taken for one.
        because: String,
    },
    /// Nothing tells which system it was compiled for.
    #[error("nothing tells whether the object was compiled for Linux or for Windows: {because}")]
    Undecided {
        /// What was looked for.
        because: String,
    },
    /// Something that it has of Linux has no counterpart: at least one.
    #[error("{}", messages(.0))]
    Blocked(Vec<PortedUse>),
    /// Something gives it less than on Linux, which nobody asked for: at least one.
    #[error("{}", messages(.0))]
    Degraded(Vec<PortedUse>),
    /// It is not proven safe: on Linux, or what was made of it on Windows.
    #[error("{source}")]
    Unsafe {
        /// By whose rules.
        system: System,
        /// Why.
        source: VerifyError,
    },
}

fn messages(uses: &[PortedUse]) -> String {
    let messages: Vec<&str> = uses.iter().map(|u| u.message.as_str()).collect();
    messages.join("\n")
}

/// What an object had of Linux, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ported {
    /// Maps first, then in file order.
    pub uses: Vec<PortedUse>,
}

/// Something that a program has of Linux.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortedUse {
    /// What it is on Linux.
    pub subject: Subject,
    /// What becomes of it.
    pub fate: Fate,
    /// What there is to tell of it, one sentence without a full stop.
    pub message: String,
    /// The source line; none for a map, or where the object has none.
    pub line: Option<SourceLine>,
    /// The instruction; none for a map.
    pub(crate) instruction: Option<InstructionPlace>,
    /// The program or subprogram; none for a map.
    pub function: Option<String>,
}

impl PortedUse {
    fn new(found: Use, module: &Module) -> PortedUse {
        let function = found.function.map(|index| module.function(index));
        let insn = function.and_then(|f| Some(&f.instructions[f.at_slot(found.slot)?.index()]));
        // What is about a whole function has no line of its own.
        let of_place = matches!(found.subject, Subject::Field(_) | Subject::Helper(_)) || found.slot > 0;
        let insn = insn.filter(|_| of_place);
        let message = match &found.fate {
            Fate::Exact(becomes) => becomes.clone(),
            Fate::Degraded(lacks) => match &found.subject {
                Subject::Helper(name) => format!("{name}: {lacks}"),
                Subject::Field(name) => format!("{name}: {lacks}"),
                _ => lacks.clone(),
            },
            Fate::Blocked { reason, .. } => reason.clone(),
        };
        PortedUse {
            message,
            line: insn.and_then(|insn| module.line(insn)).cloned(),
            instruction: insn.zip(function).map(|(insn, function)| InstructionPlace {
                function: function.name.clone(),
                slot: insn.slot,
                text: insn.op.to_string(),
            }),
            function: function.map(|f| f.name.clone()),
            subject: found.subject,
            fate: found.fate,
        }
    }

    /// Those of a module.
    pub(crate) fn all(uses: Vec<Use>, module: &Module) -> Vec<PortedUse> {
        uses.into_iter().map(|found| PortedUse::new(found, module)).collect()
    }
}

impl Ported {
    /// What programs lack that got more on Linux.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = Diagnostic> + '_ {
        let degraded = self.uses.iter().filter(|u| matches!(u.fate, Fate::Degraded(_)));
        degraded.map(crate::diagnose::degraded)
    }

    /// What was changed, as a line: `5 fields, 3 helpers, 1 map, 2 results`.
    pub fn summary(&self) -> String {
        let count = |is: fn(&Subject) -> bool, one: &str, more: &str| {
            let count = self.uses.iter().filter(|u| is(&u.subject)).count();
            match count {
                0 => None,
                1 => Some(format!("1 {one}")),
                count => Some(format!("{count} {more}")),
            }
        };
        let parts = [
            count(
                |s| matches!(s, Subject::Field(_)),
                "access to the context",
                "accesses to the context",
            ),
            count(
                |s| matches!(s, Subject::Helper(_)),
                "call of a helper",
                "calls of helpers",
            ),
            count(|s| matches!(s, Subject::Map(_)), "map", "maps"),
            count(
                |s| matches!(s, Subject::Return),
                "program's return value",
                "programs' return values",
            ),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let degraded = self.uses.iter().filter(|u| matches!(u.fate, Fate::Degraded(_))).count();
        let lacks = match degraded {
            0 => String::new(),
            count => format!("; {count} of them with less than on Linux"),
        };
        format!("rewritten for Windows: {}{lacks}", parts.join(", "))
    }
}

/// Whether something may be built of an object: not of one for Linux, unless that was asked for, nor of one that may be.
pub(crate) fn buildable(object: &[u8], options: &BuildOptions) -> Result<(), Error> {
    if options.from.is_some() {
        return Ok(());
    }
    let Recognition { system, because } = recognize(&Marks::read(object)?, options.providers.platform());
    match system.or(options.unmarked) {
        Some(System::Linux) if system.is_some() && !options.retarget => Err(PortingError::ForLinux { because }.into()),
        Some(_) => Ok(()),
        None => Err(PortingError::Undecided { because }.into()),
    }
}

/// An object as a module for Windows.
pub(crate) struct Read {
    pub module: Module,
    /// What became of what it had of Linux, if it was for that.
    pub ported: Option<Ported>,
    /// Why it is for Linux, as its marks say, although it is taken for one of Windows.
    pub marked_for_linux: Option<String>,
}

/// Reads an object. One that is marked for Linux is taken for one of Windows, unless options say otherwise.
pub(crate) fn read(object: &[u8], name: &str, options: &BuildOptions) -> Result<Read, Error> {
    let mut marked_for_linux = None;
    let system = if let Some(system) = options.from {
        system
    } else {
        let Recognition { system, because } = recognize(&Marks::read(object)?, options.providers.platform());
        match system.or(options.unmarked).unwrap_or(System::Windows) {
            System::Linux if system.is_some() && !options.retarget => {
                marked_for_linux = Some(because);
                System::Windows
            }
            system => system,
        }
    };
    if system == System::Windows {
        return Ok(Read {
            module: bpf2sys_bytecode::read_with(object, name, options.hash)?,
            ported: None,
            marked_for_linux,
        });
    }
    let module = bpf2sys_retarget::read_linux(object, name, options.hash, &options.linux)?;
    let (module, ported) = port(module, options)?;
    Ok(Read {
        module,
        ported: Some(ported),
        marked_for_linux: None,
    })
}

/// Makes a module for Windows of one for Linux.
fn port(module: Module, options: &BuildOptions) -> Result<(Module, Ported), Error> {
    let windows: &Platform = options.providers.platform();
    // What has no counterpart has no prototype either, and is told rather than that.
    let by_section = |u: &Use| matches!(u.subject, Subject::Section(_)) && options.program_type.is_some();
    let outlined = outline(&module).into_iter();
    let outlined = outlined.filter(|u| u.blocked().is_some() && !by_section(u)).collect();
    let outlined = PortedUse::all(outlined, &module);
    let there = verifier::verify(module, linux(), &verifier_options(options)).map_err(|source| {
        if outlined.is_empty() {
            let system = System::Linux;
            PortingError::Unsafe { system, source }
        } else {
            PortingError::Blocked(outlined)
        }
    })?;
    let Retargeted { module, uses } = retarget(&there, windows);
    let uses = PortedUse::all(uses, there.module());
    let Some(module) = module else {
        let blocked = uses.into_iter().filter(|u| matches!(u.fate, Fate::Blocked { .. }));
        return Err(PortingError::Blocked(blocked.collect()).into());
    };
    if !options.allow_degraded {
        let degraded: Vec<PortedUse> = (uses.iter().filter(|u| matches!(u.fate, Fate::Degraded(_))))
            .cloned()
            .collect();
        if !degraded.is_empty() {
            return Err(PortingError::Degraded(degraded).into());
        }
    }
    Ok((module, Ported { uses }))
}

/// That a module for Windows is not proven safe, which was one for Linux or not.
pub(crate) fn unproven(error: VerifyError, ported: Option<&Ported>) -> Error {
    match ported {
        Some(_) => PortingError::Unsafe {
            system: System::Windows,
            source: error,
        }
        .into(),
        None => error.into(),
    }
}

/// What `port` reads: an object for Linux, whatever its marks say, and what they say.
pub(crate) fn read_linux(object: &[u8], name: &str, options: &BuildOptions) -> Result<(Module, Recognition), Error> {
    let recognition = recognize(&Marks::read(object)?, options.providers.platform());
    let module = bpf2sys_retarget::read_linux(object, name, options.hash, &options.linux)?;
    Ok((module, recognition))
}
