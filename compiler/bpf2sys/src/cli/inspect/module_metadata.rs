//! The tables of a native module as one JSON value, in the schema in which facts about modules of bpf2c are kept.
//!
//! Given: the description of an image. Computed: what the tables tell the runtime, in table order. Keys are always the
//! same, in the same order; what an image does not hold is `null`: the names of the object file, of the C symbols and of
//! subprograms, and which look-ups the code does in place.

use std::path::Path;

use bpf2sys_bytecode::{Guid, GuidError};
use bpf2sys_platform::Platform;
use bpf2sys_simulator::describe::{HelperUse, ImageDescription, ProgramUses};
use bpf2sys_simulator::usermode::UserModeProgram;
use serde::Serialize;

use super::map_type_name;
use crate::{Error, ErrorKind};

/// A native module.
#[derive(Debug, Serialize)]
pub(super) struct ModuleMetadata {
    file: String,
    /// Not in an image.
    elf_file: Option<String>,
    /// Not in an image.
    metadata_table_symbol: Option<String>,
    version: [u32; 3],
    elf_hash: Option<String>,
    /// Tables without headers are not read.
    pre_0_21_layout: bool,
    maps: Vec<MapEntry>,
    global_variable_sections: Vec<GlobalSection>,
    map_initial_values: Vec<InitialValues>,
    /// Not in an image.
    subprograms: Option<Vec<String>>,
    programs: Vec<ProgramEntry>,
}

#[derive(Debug, Serialize)]
struct MapEntry {
    index: usize,
    name: String,
    #[serde(rename = "type")]
    map_type: u32,
    type_name: String,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    inner_map_idx: u32,
    pinning: u32,
    id: u32,
    inner_id: u32,
}

#[derive(Debug, Serialize)]
struct GlobalSection {
    index: usize,
    name: String,
    size: u64,
    /// In hexadecimal.
    initial_data: String,
}

#[derive(Debug, Serialize)]
struct InitialValues {
    name: String,
    count: usize,
    values: Vec<Option<String>>,
}

#[derive(Debug, Serialize)]
struct ProgramEntry {
    index: usize,
    name: String,
    /// Not in an image.
    function: Option<String>,
    section_name: String,
    pe_section_name: String,
    bpf_instruction_count: u64,
    referenced_map_indices: Vec<u16>,
    helpers: Vec<Helper>,
    program_type: GuidBytes,
    attach_type: GuidBytes,
    program_info_hash: Option<String>,
    program_info_hash_type: Option<String>,
    btf_resolved_functions: Vec<BtfFunction>,
    /// Not in an image.
    inlined_array_lookups: Option<Vec<()>>,
}

#[derive(Debug, Serialize)]
struct Helper {
    index: usize,
    id: u32,
    name: String,
}

/// A GUID as text, and its bytes as they lie in memory.
#[derive(Debug, Serialize)]
struct GuidBytes {
    guid: String,
    bytes: String,
}

#[derive(Debug, Serialize)]
struct BtfFunction {
    index: usize,
    name: String,
    module_guid: GuidBytes,
}

impl ModuleMetadata {
    /// Of the image in `file`.
    ///
    /// # Errors
    /// The image does not have the tables of a module, or they can't be read.
    pub(super) fn new(file: &Path, image: &ImageDescription, platform: &Platform) -> Result<Self, Error> {
        let unreadable = || {
            // A user mode that can't read the file is the cause of what comes after it.
            let why = match (&image.tables_unknown, &image.module) {
                (Some(why), Some(_)) => why.clone(),
                _ => image.problems.join("; "),
            };
            Error::from(ErrorKind::NoTables(why))
        };
        let (Some(module), Some(tables)) = (&image.module, &image.tables) else {
            return Err(unreadable());
        };
        // One that can't be read is missing.
        if image.uses.len() != module.programs.len() {
            return Err(unreadable());
        }
        let mut programs: Vec<(&UserModeProgram, &ProgramUses)> = module.programs.iter().zip(&image.uses).collect();
        programs.sort_by_key(|(program, _)| program.table_index);
        Ok(ModuleMetadata {
            file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            elf_file: None,
            metadata_table_symbol: None,
            version: tables.version,
            elf_hash: module.elf_hash.clone(),
            pre_0_21_layout: false,
            maps: module
                .maps
                .iter()
                .enumerate()
                .map(|(index, map)| MapEntry {
                    index,
                    name: map.name.clone(),
                    map_type: map.map_type,
                    type_name: map_type_name(platform, map.map_type),
                    key_size: map.key_size,
                    value_size: map.value_size,
                    max_entries: map.max_entries,
                    inner_map_idx: map.inner_map_idx,
                    pinning: map.pinning,
                    id: map.id,
                    inner_id: map.inner_id,
                })
                .collect(),
            global_variable_sections: tables
                .global_sections
                .iter()
                .enumerate()
                .map(|(index, section)| GlobalSection {
                    index,
                    name: section.name.clone(),
                    size: section.size,
                    initial_data: section.initial_data.clone(),
                })
                .collect(),
            map_initial_values: tables
                .initial_values
                .iter()
                .map(|list| InitialValues {
                    name: list.name.clone(),
                    count: list.values.len(),
                    values: list.values.clone(),
                })
                .collect(),
            subprograms: None,
            programs: programs
                .into_iter()
                .map(|(program, uses)| self::program(program, uses))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn program(program: &UserModeProgram, uses: &ProgramUses) -> Result<ProgramEntry, Error> {
    let helper = |(index, helper): (usize, &HelperUse)| Helper {
        index,
        id: helper.id,
        name: helper.name.clone(),
    };
    Ok(ProgramEntry {
        index: program.table_index,
        name: program.name.clone(),
        function: None,
        section_name: program.section.clone(),
        pe_section_name: program.pe_section.clone(),
        bpf_instruction_count: uses.instructions,
        referenced_map_indices: uses.map_indices.clone(),
        helpers: uses.helpers.iter().enumerate().map(helper).collect(),
        program_type: guid_bytes(&program.program_type)?,
        attach_type: guid_bytes(&program.attach_type)?,
        program_info_hash: uses.program_info_hash.clone(),
        program_info_hash_type: uses.program_info_hash_type.clone(),
        btf_resolved_functions: uses
            .btf_functions
            .iter()
            .enumerate()
            .map(|(index, function)| {
                Ok(BtfFunction {
                    index,
                    name: function.name.clone(),
                    module_guid: guid_bytes(&function.module)?,
                })
            })
            .collect::<Result<_, Error>>()?,
        inlined_array_lookups: None,
    })
}

fn guid_bytes(text: &str) -> Result<GuidBytes, Error> {
    let guid: Guid = text
        .parse()
        .map_err(|e: GuidError| ErrorKind::Internal(e.to_string()))?;
    Ok(GuidBytes {
        guid: guid.to_string(),
        bytes: guid
            .0
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
    })
}
