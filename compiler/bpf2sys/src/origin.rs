//! The object that an image was built from, proven by building it again.
//!
//! Given: an image and an object. Computed: which eBPF instruction each of the image's instructions was made of. No image needs to
//! carry that: building is reproducible, so an object that gives the same code gives the same answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpf2sys_bytecode::{HashAlgorithm, Module};
use bpf2sys_codegen::{Lowered, RuntimeLevel};
use bpf2sys_lines::{LineTable, Place, Row, Slot, bytecode, code_hash};
use bpf2sys_pe_emit::{self as pe_emit, Machine};
use bpf2sys_simulator::describe::{ImageDescription, ImageKind, describe};
use bpf2sys_simulator::image::{DirectoryKind, Image};
use bpf2sys_simulator::module_tables;
use bpf2sys_verifier::VerifiedModule;

use crate::hash::hex;
use crate::pipeline::{Linked, link};
use crate::provenance::{self, Parameters, Statement};
use crate::{BuildOptions, Error, ErrorKind, Form, Optimizations, Providers, files};

/// What an image was built from.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The object's module.
    pub verified: VerifiedModule,
    /// The native code, and where it came from.
    pub lowered: Lowered,
    /// RVA of each native function, by its position in [`NativeObject::functions`](pe_emit::NativeObject::functions).
    pub functions: Vec<u32>,
}

impl Origin {
    /// That of an image which was just built.
    pub(crate) fn of_build(verified: VerifiedModule, Linked { lowered, image }: Linked) -> Origin {
        let functions = places(&lowered, &image);
        Origin {
            verified,
            lowered,
            functions,
        }
    }

    /// The line table of the image.
    pub(crate) fn line_table(&self) -> LineTable {
        line_table(self.verified.module(), &self.lowered, &self.functions)
    }
}

/// RVA of each native function.
fn places(lowered: &Lowered, image: &pe_emit::Image) -> Vec<u32> {
    let functions = lowered.object.functions.iter();
    functions.map(|range| image.rva(range).unwrap_or_default()).collect()
}

/// The file with the line table of an image which was just built.
pub(crate) fn line_file(module: &Module, lowered: &Lowered, image: &pe_emit::Image) -> Result<String, Error> {
    let code = code_hash(image.bytes()).map_err(|e| ErrorKind::Internal(e.to_string()))?;
    Ok(line_table(module, lowered, &places(lowered, image)).to_json(&code))
}

/// The files beside an image that can be the object that it was built from: `filter.x64.sys` is made from `filter.o` and from `filter.bpf.o`.
pub(crate) fn objects_beside(image: &Path) -> Vec<PathBuf> {
    let mut stem = image.with_extension("");
    let mut stems = vec![stem.clone()];
    if stem.extension().is_some_and(|e| e == "x64" || e == "arm64") {
        stem.set_extension("");
        stems.push(stem);
    }
    // The names that `bpf2sys build` makes this one of.
    let objects = stems
        .iter()
        .flat_map(|stem| [".o", ".bpf.o"].map(|extension| files::with_suffix(stem, extension)));
    objects.collect()
}

/// The object beside an image, if it is the one whose hash the image states; with its path. One that can't be read is none.
pub(crate) fn object_beside(image: &Path, stated: &str) -> Option<(PathBuf, Vec<u8>)> {
    objects_beside(image).into_iter().find_map(|path| {
        let object = files::read(&path).ok()?;
        let mut hashes = HashAlgorithm::ALL
            .iter()
            .map(|algorithm| hex(&algorithm.digest(&object)));
        hashes.any(|hash| hash == stated).then_some((path, object))
    })
}

/// Builds an object again as an image says that it was built; `None` if that gives other code than the image has.
///
/// Options that neither the image nor a statement of provenance beside it (`path`) tells are those of `bpf2sys build` without options; without
/// optimizations, with instructions of the Large System Extensions and with signed return addresses is tried, too.
///
/// # Errors
/// There is no driver or DLL of eBPF for Windows, or the object can't be built.
pub(crate) fn of_image(
    path: &Path,
    image: &[u8],
    (object, name): (&[u8], &str),
    providers: &Providers,
) -> Result<Option<Origin>, Error> {
    let description = describe(image).map_err(bpf2sys_simulator::SimulatorError::from)?;
    let form = match description.kind {
        ImageKind::Driver => Form::Sys,
        ImageKind::Dll => Form::Dll,
    };
    let Ok(code) = code_hash(image) else {
        return Ok(None);
    };
    let name = name_of_object(&description).unwrap_or_else(|| name.to_owned());
    let mut verified: Option<VerifiedModule> = None;
    for options in candidates(path, image, &description, providers) {
        let module = match verified.take() {
            // Candidates differ in what comes after the proof.
            Some(module) => module,
            None => crate::verify(object, &name, &options)?,
        };
        for &machine in &options.machines {
            let linked = link(&module, &options, machine, form)?;
            if code_hash(linked.image.bytes()).is_ok_and(|hash| hash == code) {
                return Ok(Some(Origin::of_build(module, linked)));
            }
        }
        verified = Some(module);
    }
    Ok(None)
}

/// The name that an object had when an image was built from it, as far as that matters: maps of global variables are called after it.
/// The object may have another name now.
fn name_of_object(image: &ImageDescription) -> Option<String> {
    let sections = image.tables.iter().flat_map(|tables| &tables.global_sections);
    let names = sections.filter_map(|section| {
        let ends = [".rodata", ".data", ".bss"]
            .into_iter()
            .filter_map(|of| section.name.rfind(of));
        section.name.get(..ends.max()?)
    });
    names.map(|name| format!("{name}.o")).next()
}

/// Options that an image can have been built with, likely ones first.
fn candidates(path: &Path, image: &[u8], description: &ImageDescription, providers: &Providers) -> Vec<BuildOptions> {
    if let Some(parameters) = stated(path) {
        return vec![parameters.options(providers.clone(), &BuildOptions::default())];
    }
    let machine = match description.machine.as_str() {
        "x64" => Machine::X64,
        "arm64" => Machine::Arm64,
        _ => return Vec::new(),
    };
    let level = description.tables.as_ref().map(|tables| match tables.level {
        module_tables::RuntimeLevel::V0_21 => RuntimeLevel::V0_21,
        module_tables::RuntimeLevel::V1_4 => RuntimeLevel::V1_4,
        module_tables::RuntimeLevel::V1_6 => RuntimeLevel::V1_6,
    });
    let stated = description.module.as_ref().and_then(|module| module.elf_hash.as_ref());
    let guard = Image::parse(image).is_ok_and(|image| {
        let has_table = image.directory(DirectoryKind::LoadConfig).is_some();
        has_table && description.dll_characteristics & bpf2sys_simulator::load_config::GUARD_CF != 0
    });
    let likely = BuildOptions {
        providers: providers.clone(),
        machines: vec![machine],
        runtime: level.unwrap_or_default(),
        hash: HashAlgorithm::ALL
            .into_iter()
            .find(|algorithm| stated.is_some_and(|hash| hash.len() == 2 * algorithm.digest(&[]).len())),
        control_flow_guard: guard,
        ..BuildOptions::default()
    };
    let plain = BuildOptions {
        optimizations: Optimizations::NONE,
        ..likely.clone()
    };
    let mut all = vec![likely, plain];
    if machine == Machine::Arm64 {
        for (lse, sign_return_address) in [(true, false), (false, true), (true, true)] {
            for index in 0..2 {
                all.push(BuildOptions {
                    lse,
                    sign_return_address,
                    ..all[index].clone()
                });
            }
        }
    }
    all
}

/// What a statement of provenance beside an image says about its options. It need not be signed: what it says is tried.
fn stated(image: &Path) -> Option<Parameters> {
    let file = files::with_suffix(image, provenance::STATEMENT_EXTENSION);
    let envelope = provenance::read_envelope(&files::read(&file).ok()?).ok()?;
    Some(Statement::read(&envelope.payload).ok()?.parameters().clone())
}

/// The line table of an image with this code.
fn line_table(module: &Module, lowered: &Lowered, starts: &[u32]) -> LineTable {
    let mut table = bytecode::of_module(module);
    let files: BTreeMap<String, u32> = table.files.iter().cloned().zip(0..).collect();
    for function in &lowered.functions {
        let (Some(&start), Some(range)) = (starts.get(function.range), lowered.object.functions.get(function.range))
        else {
            continue;
        };
        if function.piece.is_none() {
            table.functions[function.function.index()].rva = Some(start);
        }
        // What is before the first row of a function, and behind the last one, has no line.
        table.rows.push(Row {
            rva: start,
            place: None,
        });
        for origin in &function.origins {
            let insn = origin.instruction.and_then(|place| {
                let of = module.functions.get(place.function.index())?;
                Some((place.function, of.instructions.get(place.instruction.index())?))
            });
            let place = insn.and_then(|(of, insn)| {
                let line = module.line(insn)?;
                let file = *files.get(&line.file)?;
                Some(Place {
                    file,
                    line: line.line,
                    column: line.column,
                    function: Some(of.0),
                    slot: Some(Slot {
                        number: insn.slot,
                        kind: bytecode::kind(&insn.op),
                    }),
                })
            });
            table.rows.push(Row {
                rva: start + origin.offset,
                place,
            });
        }
        table.rows.push(Row {
            rva: start + range.size,
            place: None,
        });
    }
    table.sort();
    table
}
