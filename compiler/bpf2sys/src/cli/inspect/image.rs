//! What is in a driver.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use bpf2sys_platform::{Platform, ProgramType};
use bpf2sys_simulator::SimulatorError;
use bpf2sys_simulator::describe::{HelperUse, ImageDescription, ImageKind, ProgramUses};

use super::{MapLine, uses_text};
use crate::Error;

/// Describes an image; fails where there is none.
pub(super) fn describe(bytes: &[u8]) -> Result<ImageDescription, Error> {
    bpf2sys_simulator::describe::describe(bytes).map_err(|e| SimulatorError::from(e).into())
}

/// The description as text.
pub(super) fn text(file: &Path, image: &ImageDescription) -> String {
    let platform = crate::pipeline::platform();
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
            text += &uses_text(&helper_names(platform, program_type, uses), &uses.maps);
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
            .text();
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

/// Helpers by the platform's names; the module itself only states ids.
fn helper_names(platform: &Platform, program_type: Option<&Arc<ProgramType>>, uses: &ProgramUses) -> Vec<String> {
    let name = |helper: &HelperUse| {
        program_type
            .and_then(|t| platform.helper(t, helper.id))
            .map_or_else(|| format!("helper {}", helper.id), |known| known.name.clone())
    };
    uses.helpers.iter().map(name).collect()
}
