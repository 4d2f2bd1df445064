//! Reads a whole object file.

use std::collections::BTreeSet;

use object::elf;

use crate::btf::{self, Btf};
use crate::decode::decode;
use crate::elf::{Elf, Home, SectionIndex};
use crate::error::{Place, Problem, ReadError};
use crate::externs::Externs;
use crate::functions::{CodeSection, Extent, FunctionTable};
use crate::lines;
use crate::linux::{self, Configuration, Kernel};
use crate::maps::{self, MapTable, Records};
use crate::relocate::{FunctionReferences, Resolved};
use crate::{
    Callee, DataTypes, Function, FunctionIndex, FunctionKind, HashAlgorithm, Instruction, Module, Slot, Unresolved,
};

/// Most slots that an object may have.
pub const MAX_SLOTS: usize = 1_000_000;

/// Reads an object file, and takes the SHA-256 of it. See [`read_with`].
///
/// # Errors
/// The first thing that is wrong with the object, with its place.
pub fn read(bytes: &[u8], name: &str) -> Result<Module, ReadError> {
    read_with(bytes, name, Some(HashAlgorithm::Sha256))
}

/// Reads an object file.
///
/// `name` is the file's name; the module is called what is left of it without folders and without everything from the
/// first `.` on.
///
/// Functions of `.text` are subprograms where another section has instructions too (native module contract §7).
/// Elsewhere a function is a subprogram when another one calls it and it is either `static` or in `.text`; all others are
/// programs.
///
/// `hash` says which hash of the file the module gets, and which hash of its program information it is going to state (`--hash`).
///
/// # Errors
/// The first thing that is wrong with the object, with its place.
pub fn read_with(bytes: &[u8], name: &str, hash: Option<HashAlgorithm>) -> Result<Module, ReadError> {
    read_as(bytes, name, hash, None)
}

/// Reads an object file that was compiled for Linux, as Linux's loaders do. What its numbers mean, of helpers, of map types and of bytes of
/// contexts, is left as it is. CO-RE relocations are applied and names of the configuration get values as `kernel` says; what it does not
/// know, and functions of the kernel, are in [`Module::unresolved`].
///
/// # Errors
/// Those of [`read_with`].
pub fn read_linux(
    bytes: &[u8],
    name: &str,
    hash: Option<HashAlgorithm>,
    kernel: &dyn Kernel,
) -> Result<Module, ReadError> {
    read_as(bytes, name, hash, Some(kernel))
}

fn read_as(
    bytes: &[u8],
    name: &str,
    hash: Option<HashAlgorithm>,
    kernel: Option<&dyn Kernel>,
) -> Result<Module, ReadError> {
    let name = module_name(name)?;
    let elf = Elf::parse(bytes)?;
    let mut code = FunctionTable::read(&elf)?;
    let btf = elf.section_by_name(".BTF")?.map(|s| Btf::parse(s.data)).transpose()?;
    let records = if kernel.is_some() {
        Records::Linux
    } else {
        Records::Windows
    };
    let mut maps = MapTable::read(&elf, btf.as_ref(), &name, &referenced_sections(&elf, &code)?, records)?;
    let (mut unresolved, mut configuration) = (Vec::new(), Configuration::default());
    if let (Some(kernel), Some(btf)) = (kernel, &btf) {
        unresolved = linux::relocate(&elf, btf, &mut code, kernel)?;
        configuration = Configuration::read(&elf, btf, kernel)?;
        maps.add_configuration(&name, &configuration)?;
    }
    let externs = Externs::read(&elf, &code, btf.as_ref(), kernel.is_some().then_some(configuration))?;
    let is_joined = elf.is_joined() || btf.as_ref().is_some_and(|b| b.objects() > 1);
    let mut functions = Vec::new();
    for section in &code.sections {
        let resolved = Resolved::read(&elf, &code, &maps, &externs, section, is_joined)?;
        for (extent, index) in section.functions.iter().zip(section.first..) {
            let here = resolved.unresolved.range(extent.start..extent.end);
            unresolved.extend(here.map(|(slot, unknown)| Unresolved {
                function: FunctionIndex(index),
                slot: slot - extent.start,
                reason: unknown.reason.clone(),
                address_of: unknown.address_of,
            }));
            functions.push(function(section, extent, &resolved)?);
        }
    }
    set_kinds(&code, &mut functions);
    check_programs(&functions)?;
    maps::resolve_initial_values(&mut maps, &elf, &code, &functions, is_joined)?;
    unresolved.sort_by_key(|unresolved| (unresolved.function, unresolved.slot));
    let lines = match (&btf, elf.section_by_name(".BTF.ext")?) {
        (Some(btf), Some(section)) => {
            let records = btf::records(section.data, btf, kernel.is_some())?;
            lines::assign(records, btf, &code.sections, &mut functions)?
        }
        (None, Some(section)) => return Err(section.place().error(Problem::Malformed("there is no .BTF"))),
        (_, None) => Vec::new(),
    };
    let types = match &btf {
        Some(btf) => DataTypes::read(&elf, btf, &maps.maps, &maps.globals),
        None => DataTypes::default(),
    };
    Ok(Module {
        types,
        name,
        hash: hash.map(|algorithm| algorithm.of(bytes)),
        functions,
        maps: maps.maps,
        globals: maps.globals,
        btf_functions: externs.called,
        lines,
        unresolved,
    })
}

/// The object's base name (native module contract §7).
fn module_name(file: &str) -> Result<String, ReadError> {
    let base = file.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = base.split('.').next().unwrap_or_default();
    if name.is_empty() || name.contains('\0') {
        return Err(Place::file().error(Problem::Name("the file's name gives no name for the module")));
    }
    Ok(name.to_owned())
}

/// The sections that relocations of code refer to.
fn referenced_sections(elf: &Elf<'_>, code: &FunctionTable<'_>) -> Result<BTreeSet<SectionIndex>, ReadError> {
    let mut referenced = BTreeSet::new();
    for section in &code.sections {
        for relocation in elf.relocations(&section.section)? {
            if let (Home::Section(home), false) = (relocation.symbol.home, relocation.kind == elf::R_BPF_NONE.0) {
                referenced.insert(home);
            }
        }
    }
    Ok(referenced)
}

fn function(code: &CodeSection<'_>, extent: &Extent, resolved: &Resolved) -> Result<Function, ReadError> {
    let slots = code
        .slots
        .get(extent.start as usize..extent.end as usize)
        .unwrap_or_default();
    let references = FunctionReferences {
        code,
        resolved,
        start: extent.start,
    };
    let place = |slot: u32| {
        let offset = u64::from(extent.start + slot) * Slot::SIZE as u64;
        code.section.place().at(offset).of_symbol(&extent.name)
    };
    let instructions = decode(slots, &references).map_err(|e| {
        place(e.slot).error(Problem::Instruction {
            bytes: e.bytes,
            reason: e.reason,
        })
    })?;
    Ok(Function {
        name: extent.name.clone(),
        section: code.section.name.to_owned(),
        section_offset: u64::from(extent.start) * Slot::SIZE as u64,
        kind: FunctionKind::Program,
        instructions,
    })
}

/// Tells programs and subprograms apart; see [`read`].
fn set_kinds(code: &FunctionTable<'_>, functions: &mut [Function]) {
    let mut called = vec![false; functions.len()];
    for (caller, function) in functions.iter().enumerate() {
        for insn in &function.instructions {
            if let Instruction::Call(Callee::Local(callee)) = insn.op
                && callee.index() != caller
                && let Some(called) = called.get_mut(callee.index())
            {
                *called = true;
            }
        }
    }
    let only_text = code.sections.iter().all(|s| s.section.name == ".text");
    for section in &code.sections {
        let is_text = section.section.name == ".text";
        for (position, extent) in section.functions.iter().enumerate() {
            let index = section.first as usize + position;
            let is_called = called.get(index).copied().unwrap_or(false);
            let is_subprogram = (is_text && !only_text) || (is_called && (is_text || extent.is_static));
            if let (Some(function), true) = (functions.get_mut(index), is_subprogram) {
                function.kind = FunctionKind::Subprogram;
            }
        }
    }
}

fn check_programs(functions: &[Function]) -> Result<(), ReadError> {
    let mut names = BTreeSet::new();
    for program in functions.iter().filter(|f| f.kind == FunctionKind::Program) {
        if !names.insert(program.name.as_str()) {
            let place = Place::section(&program.section).at(program.section_offset);
            return Err(place.of_symbol(&program.name).error(Problem::Duplicate("programs")));
        }
    }
    if names.is_empty() {
        return Err(Place::file().error(Problem::NoPrograms));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod units;
