//! `bpf2sys inspect`: what is in a driver or in an object file.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bpf2sys_bytecode::{Callee, FunctionKind, Imm64, Instruction, Module};
use bpf2sys_platform::Platform;
use bpf2sys_simulator::describe::{ImageDescription, ProgramUses, describe};
use serde::Serialize;

use super::{Outcome, output};
use crate::{Error, ErrorKind, files};

/// Show what is in a driver or in an object file: programs, maps, helpers, sections, hash.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys inspect udp_filter.sys
  bpf2sys inspect udp_filter.o
  bpf2sys inspect --disassemble udp_filter.o
  bpf2sys inspect --json udp_filter.sys | jq '.module.programs[].name'")]
pub(super) struct Arguments {
    /// A driver (`.sys`), or an object file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print the instructions of an object's functions, with the source lines they came from
    #[arg(long, conflicts_with = "json")]
    disassemble: bool,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let bytes = files::read(&arguments.file)?;
    let inspect = || -> Result<(), Error> {
        if bytes.starts_with(b"MZ") {
            if arguments.disassemble {
                return Err(ErrorKind::Usage(
                    "`--disassemble` shows eBPF instructions, which a driver no longer has".into(),
                )
                .into());
            }
            let description = describe_image(&bytes)?;
            return if arguments.json {
                output::print_json(&description)
            } else {
                output::print(&image_text(&arguments.file, &description))
            };
        }
        if bytes.starts_with(b"\x7fELF") {
            let name = arguments.file.file_name().unwrap_or_default().to_string_lossy();
            let module = bpf2sys_bytecode::read(&bytes, &name)?;
            let platform = crate::pipeline::platform();
            if arguments.disassemble {
                return output::print(&disassembly(&module));
            }
            let description = ObjectDescription::new(&module, platform);
            return if arguments.json {
                output::print_json(&description)
            } else {
                output::print(&object_text(&arguments.file, &description))
            };
        }
        Err(ErrorKind::UnknownFormat {
            path: arguments.file.clone(),
        }
        .into())
    };
    match inspect() {
        Ok(()) => Ok(0),
        Err(error) => {
            output::report(&error, Some(&arguments.file));
            Ok(error.exit_status())
        }
    }
}

/// What `build` prints of the driver it wrote.
pub(super) fn summary(file: &Path, image: &[u8]) -> Result<String, Error> {
    Ok(image_text(file, &describe_image(image)?))
}

fn describe_image(bytes: &[u8]) -> Result<ImageDescription, Error> {
    describe(bytes).map_err(|e| bpf2sys_simulator::SimulatorError::from(e).into())
}

fn image_text(file: &Path, image: &ImageDescription) -> String {
    let platform = crate::pipeline::platform();
    let mut text = format!(
        "{}: {} driver, {} bytes, {}\n",
        file.display(),
        image.machine,
        image.file_size,
        if image.signed { "signed" } else { "not signed" }
    );
    if let Some(module) = &image.module {
        text += "programs:\n";
        for (program, uses) in module.programs.iter().zip(&image.uses) {
            let program_type = platform
                .program_types
                .iter()
                .find(|t| t.guid.to_string() == program.program_type)
                .map_or_else(|| program.program_type.clone(), |t| t.name.clone());
            let _ = writeln!(
                text,
                "  {:<24} section {}, type {program_type}, {} eBPF instructions, code in {}",
                program.name, program.section, uses.instructions, program.pe_section
            );
            if !uses.helpers.is_empty() {
                let _ = writeln!(
                    text,
                    "  {:<24} helpers {}",
                    "",
                    helper_names(platform, program_type.as_str(), uses)
                );
            }
            if !uses.maps.is_empty() {
                let _ = writeln!(text, "  {:<24} maps {}", "", uses.maps.join(", "));
            }
        }
        if !module.maps.is_empty() {
            text += "maps:\n";
        }
        for map in &module.maps {
            let _ = writeln!(
                text,
                "  {:<24} {}, key {}, value {}, {} entries{}",
                map.name,
                map_type_name(platform, map.map_type),
                map.key_size,
                map.value_size,
                map.max_entries,
                if map.pinning == 1 { ", pinned by name" } else { "" }
            );
        }
        if let Some(hash) = &module.elf_hash {
            let _ = writeln!(text, "object hash: {hash}");
        }
    }
    text += "sections:\n";
    for section in &image.sections {
        let _ = writeln!(
            text,
            "  {:<8} {} at {:#07x}, {} bytes{}",
            section.name,
            section.protection,
            section.rva,
            section.virtual_size,
            if section.discardable { ", discardable" } else { "" }
        );
    }
    let _ = writeln!(text, "imports: {}", image.imports.join(", "));
    if !image.problems.is_empty() {
        text += "problems:\n";
        for problem in &image.problems {
            let _ = writeln!(text, "  {problem}");
        }
    }
    text
}

/// Helpers by the platform's names; the module itself only states ids.
fn helper_names(platform: &Platform, program_type: &str, uses: &ProgramUses) -> String {
    let program_type = platform.program_types.iter().find(|t| t.name == program_type);
    uses.helpers
        .iter()
        .map(|helper| {
            program_type
                .and_then(|t| platform.helper(t, helper.id))
                .map_or_else(|| helper.id.to_string(), |known| known.name.clone())
        })
        .collect::<Vec<_>>()
        .join(", ")
}

fn map_type_name(platform: &Platform, value: u32) -> String {
    platform
        .map_type(value)
        .map_or_else(|| format!("type {value}"), |t| t.name.clone())
}

/// An object file, for `--json`.
#[derive(Debug, Serialize)]
struct ObjectDescription {
    sha256: String,
    programs: Vec<FunctionDescription>,
    subprograms: Vec<FunctionDescription>,
    maps: Vec<MapDescription>,
    global_sections: Vec<GlobalDescription>,
}

#[derive(Debug, Serialize)]
struct FunctionDescription {
    name: String,
    section: String,
    /// `None` when the section name selects no program type.
    program_type: Option<String>,
    /// In 8-byte slots.
    instructions: u32,
    /// What it and everything it calls can call and reach.
    helpers: Vec<String>,
    maps: Vec<String>,
}

#[derive(Debug, Serialize)]
struct MapDescription {
    name: String,
    map_type: u32,
    type_name: String,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    pinned: bool,
    inner: Option<String>,
}

#[derive(Debug, Serialize)]
struct GlobalDescription {
    section: String,
    map: String,
    size: usize,
    read_only: bool,
}

impl ObjectDescription {
    fn new(module: &Module, platform: &Platform) -> Self {
        let of_kind = |kind: FunctionKind| {
            module
                .functions
                .iter()
                .enumerate()
                .filter(|(_, f)| f.kind == kind)
                .map(|(index, _)| function_description(module, platform, index))
                .collect()
        };
        ObjectDescription {
            sha256: module
                .sha256
                .iter()
                .fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
            programs: of_kind(FunctionKind::Program),
            subprograms: of_kind(FunctionKind::Subprogram),
            maps: module
                .maps
                .iter()
                .map(|map| MapDescription {
                    name: map.name.clone(),
                    map_type: map.definition.map_type,
                    type_name: map_type_name(platform, map.definition.map_type),
                    key_size: map.definition.key_size,
                    value_size: map.definition.value_size,
                    max_entries: map.definition.max_entries,
                    pinned: map.definition.pinning == bpf2sys_bytecode::Pinning::ByName,
                    inner: map.inner.map(|inner| module.maps[inner.index()].name.clone()),
                })
                .collect(),
            global_sections: module
                .globals
                .iter()
                .map(|global| GlobalDescription {
                    section: global.section.clone(),
                    map: module.maps[global.map.index()].name.clone(),
                    size: global.data.len(),
                    read_only: global.read_only,
                })
                .collect(),
        }
    }
}

fn function_description(module: &Module, platform: &Platform, index: usize) -> FunctionDescription {
    let function = &module.functions[index];
    let found = platform.program_type_for_section(&function.section);
    let (mut helpers, mut maps) = (Vec::new(), Vec::new());
    let reached = module.reachable_from(bpf2sys_bytecode::FunctionIndex(index as u32));
    let all = std::iter::once(function).chain(reached.iter().map(|f| module.function(*f)));
    for insn in all.flat_map(|f| &f.instructions) {
        match insn.op {
            Instruction::Call(Callee::Helper(id)) => {
                let known = found.and_then(|(t, _)| platform.helper(t, id as u32));
                let name = known.map_or_else(|| format!("helper {id}"), |h| h.name.clone());
                if !helpers.contains(&name) {
                    helpers.push(name);
                }
            }
            Instruction::LoadImm64 {
                value: Imm64::Map(map), ..
            } => maps.push(map),
            Instruction::LoadImm64 {
                value: Imm64::Global { section, .. },
                ..
            } => {
                maps.push(module.globals[section.index()].map);
            }
            _ => {}
        }
    }
    maps.sort();
    maps.dedup();
    FunctionDescription {
        name: function.name.clone(),
        section: function.section.clone(),
        program_type: found
            .map(|(t, _)| t.name.clone())
            .filter(|_| function.kind == FunctionKind::Program),
        instructions: function.slots(),
        helpers,
        maps: maps.iter().map(|m| module.maps[m.index()].name.clone()).collect(),
    }
}

fn object_text(file: &Path, object: &ObjectDescription) -> String {
    let mut text = format!("{}: eBPF object\n", file.display());
    for (title, functions) in [("programs", &object.programs), ("subprograms", &object.subprograms)] {
        if !functions.is_empty() {
            let _ = writeln!(text, "{title}:");
        }
        for function in functions {
            let _ = write!(text, "  {:<24} section {}", function.name, function.section);
            if title == "programs" {
                let _ = write!(text, ", type {}", function.program_type.as_deref().unwrap_or("unknown"));
            }
            let _ = writeln!(text, ", {} instructions", function.instructions);
            if !function.helpers.is_empty() {
                let _ = writeln!(text, "  {:<24} helpers {}", "", function.helpers.join(", "));
            }
            if !function.maps.is_empty() {
                let _ = writeln!(text, "  {:<24} maps {}", "", function.maps.join(", "));
            }
        }
    }
    if !object.maps.is_empty() {
        text += "maps:\n";
    }
    for map in &object.maps {
        let _ = writeln!(
            text,
            "  {:<24} {}, key {}, value {}, {} entries{}{}",
            map.name,
            map.type_name,
            map.key_size,
            map.value_size,
            map.max_entries,
            if map.pinned { ", pinned by name" } else { "" },
            map.inner
                .as_ref()
                .map_or_else(String::new, |inner| format!(", of maps like `{inner}`"))
        );
    }
    if !object.global_sections.is_empty() {
        text += "global variables:\n";
    }
    for global in &object.global_sections {
        let _ = writeln!(
            text,
            "  {:<24} {} bytes, {}",
            global.section,
            global.size,
            if global.read_only { "read-only" } else { "writable" }
        );
    }
    let _ = writeln!(text, "object hash: {}", object.sha256);
    text
}

fn disassembly(module: &Module) -> String {
    let mut text = String::new();
    for function in &module.functions {
        let _ = writeln!(text, "{} (section {}):", function.name, function.section);
        let mut last = None;
        for insn in &function.instructions {
            if let Some(line) = module.line(insn)
                && last != insn.line
            {
                let _ = writeln!(text, "; {}:{}: {}", line.file, line.line, line.text.trim());
                last = insn.line;
            }
            let _ = writeln!(text, "{:>6}: {}", insn.slot, insn.op);
        }
        text.push('\n');
    }
    text
}
