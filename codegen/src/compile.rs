//! Cranelift functions as machine code that may go into a driver.
//!
//! Given: a Cranelift function.
//! Computed: its bytes, its references by name, its unwind data and the size of its frame.
//! Safe because: the emitted instructions are decoded again and anything that must not be in a driver, or that the unwind
//! data could not describe, is an error ([`audit_x64`], [`unwind_x64`]); so is any
//! relocation but a 32-bit distance to a named place.

use bpf2sys_bytecode::{FunctionIndex, InsnIndex};
use bpf2sys_pe_emit::UnwindInfo;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{ExternalName, Function};
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{Context, FinalizedRelocTarget};

use crate::error::FunctionProblem;
use crate::lowered::Origin;
use crate::lowering::FUNCTION_NAMESPACE;
use crate::{audit_x64, unwind_x64};

/// A compiled function.
#[derive(Debug)]
pub(crate) struct Code {
    /// Machine code.
    pub(crate) bytes: Vec<u8>,
    /// Constants that the code reads. Cranelift puts them behind the code; they go to a data section.
    pub(crate) constants: Vec<u8>,
    /// References to other places.
    pub(crate) references: Vec<Reference>,
    /// How to unwind.
    pub(crate) unwind: UnwindInfo,
    /// Bytes of stack that a call of it takes, the return address included, its callees not.
    pub(crate) frame_bytes: u32,
    /// Which eBPF instruction the code from an offset on was made of, ascending; `None` for code of no one instruction.
    pub(crate) origins: Vec<Origin>,
    /// Cranelift IR after optimization, once somebody has put it there.
    pub(crate) ir: Option<String>,
}

/// A 4-byte field that holds the distance to a place.
#[derive(Debug)]
pub(crate) struct Reference {
    /// Offset of the field in the code.
    pub(crate) offset: u32,
    /// The place.
    pub(crate) target: Target,
    /// Added to the distance.
    pub(crate) addend: i64,
}

/// What a reference names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A function of the module.
    Function(FunctionIndex),
    /// A name of the skeleton.
    Named(String),
    /// The function's own constants.
    Constants,
}

/// Compiles one function. `scratch` keeps its allocations between calls.
pub(crate) fn compile(function: Function, isa: &dyn TargetIsa, scratch: &mut Context) -> Result<Code, FunctionProblem> {
    scratch.clear();
    scratch.func = function;
    scratch
        .compile(isa, &mut ControlPlane::default())
        .map_err(|e| FunctionProblem::Codegen(e.inner.to_string()))?;
    let compiled = scratch
        .take_compiled_code()
        .ok_or_else(|| FunctionProblem::Codegen("no code".to_owned()))?;
    let mut bytes = compiled.code_buffer().to_vec();
    let mut references = Vec::new();
    for relocation in compiled.buffer.relocs() {
        let target = match (&relocation.kind, &relocation.target) {
            (Reloc::X86CallPCRel4 | Reloc::X86PCRel4, FinalizedRelocTarget::ExternalName(name)) => {
                place(name, &scratch.func)
            }
            _ => None,
        };
        references.push(Reference {
            offset: relocation.offset,
            target: target.ok_or_else(|| FunctionProblem::BadCode(format!("relocation {relocation:?}")))?,
            addend: relocation.addend,
        });
    }
    let relocated = references.iter().map(|reference| reference.offset).collect();
    let decoded = audit_x64::decode(&bytes, &relocated).map_err(FunctionProblem::BadCode)?;
    audit_x64::check(&decoded.instructions).map_err(FunctionProblem::BadCode)?;
    let frame = unwind_x64::describe(&decoded.instructions).map_err(FunctionProblem::BadCode)?;
    let constants = bytes.split_off(decoded.constants);
    bytes.truncate(decoded.code_size);
    references.extend(decoded.constant_uses.iter().map(|used| Reference {
        offset: used.field,
        target: Target::Constants,
        addend: used.addend(decoded.constants),
    }));
    frame.make_epilogues_legal(&mut bytes);
    let origins = compiled
        .buffer
        .get_srclocs_sorted()
        .iter()
        .map(|range| Origin {
            offset: range.start,
            instruction: (!range.loc.is_default()).then(|| InsnIndex(range.loc.bits())),
        })
        .collect();
    Ok(Code {
        origins,
        ir: None,
        bytes,
        constants,
        references,
        frame_bytes: frame.bytes,
        unwind: frame.unwind,
    })
}

fn place(name: &ExternalName, function: &Function) -> Option<Target> {
    match name {
        ExternalName::User(reference) => {
            let name = function.params.user_named_funcs().get(*reference)?;
            (name.namespace == FUNCTION_NAMESPACE).then_some(Target::Function(FunctionIndex(name.index)))
        }
        ExternalName::TestCase(name) => {
            let name = String::from_utf8(name.raw().to_vec()).ok()?;
            Some(Target::Named(name))
        }
        // A call into a run-time library that a driver does not have.
        ExternalName::LibCall(_) | ExternalName::KnownSymbol(_) => None,
    }
}
