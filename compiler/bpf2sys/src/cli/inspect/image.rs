//! What is in a driver.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use bpf2sys_platform::{Platform, ProgramType};
use bpf2sys_simulator::SimulatorError;
use bpf2sys_simulator::describe::{HelperUse, ImageDescription, ImageKind, ProgramUses};
use bpf2sys_simulator::module_tables::ModuleTables;

use super::{MapLine, uses_line};
use crate::Error;

/// Describes an image; fails where there is none.
pub(super) fn describe(bytes: &[u8]) -> Result<ImageDescription, Error> {
    bpf2sys_simulator::describe::describe(bytes).map_err(|e| SimulatorError::from(e).into())
}

/// The description as text.
pub(super) fn text(file: &Path, image: &ImageDescription, platform: &Platform) -> String {
    let mut text = format!(
        "{}: {} {}, {} bytes, {}\n",
        file.display(),
        image.machine,
        match image.kind {
            ImageKind::Driver => "driver",
            ImageKind::Dll => "DLL",
        },
        image.file_size,
        if image.signed { "signed" } else { "not signed" }
    );
    if let Some(tables) = &image.tables {
        text += &level_text(tables);
    }
    if let Some(module) = &image.module {
        text += "programs:\n";
        for (program, uses) in module.programs.iter().zip(&image.uses) {
            let program_type = platform
                .program_types
                .iter()
                .find(|t| t.guid.to_string() == program.program_type);
            let attach = program_type
                .and_then(|t| {
                    t.sections
                        .iter()
                        .find(|s| s.attach_type.to_string() == program.attach_type)
                })
                .map_or(program.attach_type.as_str(), |s| s.symbol.as_str());
            let _ = writeln!(
                text,
                "  {:<24} section {}, type {}, attach type {attach}",
                program.name,
                program.section,
                program_type.map_or(program.program_type.as_str(), |t| t.name.as_str()),
            );
            let _ = writeln!(
                text,
                "  {:<24} {} eBPF instructions, code in {}",
                "", uses.instructions, program.pe_section
            );
            text += &uses_text(platform, program_type, uses);
        }
        if !module.maps.is_empty() {
            text += "maps:\n";
        }
        for map in &module.maps {
            text += &MapLine {
                name: &map.name,
                map_type: map.map_type,
                key_size: map.key_size,
                value_size: map.value_size,
                max_entries: map.max_entries,
                pinned: map.pinning == 1,
                inner: None,
            }
            .text(platform);
        }
        if let Some(tables) = &image.tables {
            text += &contents_text(tables);
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
    for (title, names) in [("imports", &image.imports), ("exports", &image.exports)] {
        if !names.is_empty() {
            let _ = writeln!(text, "{title}: {}", names.join(", "));
        }
    }
    if !image.problems.is_empty() {
        text += "problems:\n";
        for problem in &image.problems {
            let _ = writeln!(text, "  {problem}");
        }
    }
    text
}

/// Which runtimes take the module.
fn level_text(tables: &ModuleTables) -> String {
    let [major, minor, revision] = tables.version;
    let entries = match tables.program_entry_size {
        Some(size) => format!(", with program entries of {size} bytes"),
        None => String::new(),
    };
    let level = tables.level.name();
    format!("runtime level: {level} (it states {major}.{minor}.{revision}{entries})\n")
}

/// What is in maps before the first program runs.
fn contents_text(tables: &ModuleTables) -> String {
    let mut text = String::new();
    if !tables.global_sections.is_empty() {
        text += "global variables:\n";
    }
    for section in &tables.global_sections {
        let zero = section.initial_data.bytes().all(|digit| digit == b'0');
        let what = if zero { "zero" } else { "with values" };
        let _ = writeln!(text, "  {:<24} {} bytes, {what}", section.name, section.size);
    }
    if !tables.initial_values.is_empty() {
        text += "initial values:\n";
    }
    for list in &tables.initial_values {
        let filled = list.values.iter().enumerate();
        let filled = filled.filter_map(|(index, value)| Some(format!("{index}: {}", value.as_ref()?)));
        let _ = writeln!(text, "  {:<24} {}", list.name, filled.collect::<Vec<_>>().join(", "));
    }
    text
}

/// What a program uses, one line for each kind. Helpers have the platform's names; the module itself only states ids.
fn uses_text(platform: &Platform, program_type: Option<&Arc<ProgramType>>, uses: &ProgramUses) -> String {
    let name = |helper: &HelperUse| {
        program_type
            .and_then(|t| platform.helper(t, helper.id))
            .map_or_else(|| format!("helper {}", helper.id), |known| known.name.clone())
    };
    let used: Vec<String> = uses.helpers.iter().filter(|h| h.id != 0).map(name).collect();
    let holes = uses.helpers.len() - used.len();
    let mut text = uses_line("helpers", &used);
    if holes > 0 {
        let slots = uses.helpers.len();
        let _ = writeln!(text, "  {:<24} {holes} of {slots} helper slots for other programs", "");
    }
    let named = uses.btf_functions.iter().filter(|f| !f.name.is_empty());
    let named: Vec<String> = named.map(|f| format!("{} of {}", f.name, f.module)).collect();
    text += &uses_line("BTF-resolved functions", &named);
    text += &uses_line("maps", &uses.maps);
    if let Some(hash) = &uses.program_info_hash {
        // Without a name, the runtime takes it for SHA256 (native module contract §4.8).
        let algorithm = uses
            .program_info_hash_type
            .as_deref()
            .filter(|name| !name.is_empty())
            .unwrap_or("SHA256");
        let _ = writeln!(text, "  {:<24} program info hash {algorithm} {hash}", "");
    }
    text
}
