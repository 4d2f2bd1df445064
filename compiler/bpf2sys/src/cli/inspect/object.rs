//! What is in an object file.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use bpf2sys_bytecode::{Callee, FunctionIndex, FunctionKind, Imm64, Instruction, Module, Pinning};
use bpf2sys_platform::{Platform, linux_helper_name};
use bpf2sys_retarget::{Recognition, System, linux_section};
use serde::Serialize;

use super::{MapLine, map_type_name, uses_line};

/// An object file, for `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Description {
    compiled_for: Origin,
    sha256: Option<String>,
    programs: Vec<FunctionDescription>,
    subprograms: Vec<FunctionDescription>,
    maps: Vec<MapDescription>,
    global_sections: Vec<GlobalDescription>,
}

/// The system that an object was compiled for.
#[derive(Debug, Serialize)]
struct Origin {
    /// `linux`, `windows`, or null if nothing tells.
    system: Option<&'static str>,
    because: String,
}

impl Origin {
    fn new(recognition: &Recognition) -> Self {
        Origin {
            system: recognition.system.map(|system| match system {
                System::Linux => "linux",
                System::Windows => "windows",
            }),
            because: recognition.because.clone(),
        }
    }

    fn text(&self) -> String {
        let system = match self.system {
            Some("linux") => "Linux",
            Some(_) => "Windows",
            None => "Linux or Windows",
        };
        format!("compiled for {system}: {}\n", self.because)
    }
}

/// A function of an object.
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
    btf_functions: Vec<String>,
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

impl Description {
    pub(super) fn new(module: &Module, recognition: &Recognition, platform: &Platform) -> Self {
        let is_linux = recognition.system == Some(System::Linux);
        let of_kind = |kind: FunctionKind| {
            module
                .functions
                .iter()
                .enumerate()
                .filter(|(_, f)| f.kind == kind)
                .map(|(index, _)| function_description(module, is_linux, platform, index))
                .collect()
        };
        Description {
            compiled_for: Origin::new(recognition),
            sha256: module.hash.as_ref().map(ToString::to_string),
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
                    pinned: map.definition.pinning == Pinning::ByName,
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

fn function_description(module: &Module, is_linux: bool, platform: &Platform, index: usize) -> FunctionDescription {
    let function = &module.functions[index];
    let found = platform.program_type_for_section(&function.section);
    let (mut helpers, mut btf_functions, mut maps) = (Vec::new(), BTreeSet::new(), Vec::new());
    let reached = module.reachable_from(FunctionIndex(index as u32));
    let all = std::iter::once(function).chain(reached.iter().map(|f| module.function(*f)));
    for insn in all.flat_map(|f| &f.instructions) {
        match insn.op {
            Instruction::Call(Callee::Helper(id)) => {
                let known = found.and_then(|(t, _)| platform.helper(t, id as u32));
                let name = match (known, linux_helper_name(id as u32).filter(|_| is_linux)) {
                    (Some(helper), _) => helper.name.clone(),
                    (None, Some(name)) => name.to_owned(),
                    (None, None) => format!("helper {id}"),
                };
                if !helpers.contains(&name) {
                    helpers.push(name);
                }
            }
            Instruction::Call(Callee::Btf(index)) => {
                btf_functions.insert(&module.btf_functions[index.index()]);
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
            .or_else(|| {
                let section = linux_section(&function.section).filter(|_| is_linux)?;
                Some(section.program_type.clone())
            })
            .filter(|_| function.kind == FunctionKind::Program),
        instructions: function.slots(),
        helpers,
        btf_functions: btf_functions
            .into_iter()
            .map(|f| format!("{} of {}", f.name, f.module))
            .collect(),
        maps: maps.iter().map(|m| module.maps[m.index()].name.clone()).collect(),
    }
}

/// The description as text.
pub(super) fn text(file: &Path, object: &Description, platform: &Platform) -> String {
    let mut text = format!("{}: eBPF object\n", file.display());
    text += &object.compiled_for.text();
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
            text += &uses_line("helpers", &function.helpers);
            text += &uses_line("BTF-resolved functions", &function.btf_functions);
            text += &uses_line("maps", &function.maps);
        }
    }
    if !object.maps.is_empty() {
        text += "maps:\n";
    }
    for map in &object.maps {
        text += &MapLine {
            name: &map.name,
            map_type: map.map_type,
            key_size: map.key_size,
            value_size: map.value_size,
            max_entries: map.max_entries,
            pinned: map.pinned,
            inner: map.inner.as_deref(),
        }
        .text(platform);
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
    if let Some(hash) = &object.sha256 {
        let _ = writeln!(text, "object hash: {hash}");
    }
    text
}

/// The instructions of every function, with the source lines they came from.
pub(super) fn disassembly(module: &Module) -> String {
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
