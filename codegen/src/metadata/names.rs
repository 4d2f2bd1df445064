//! Whether the runtime can take the module's names and definitions at all.
//!
//! Given: a verified module.
//! Computed: nothing; the first thing that would make the runtime refuse to load, or harm it, is an error.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{InitialValue, Module};
use bpf2sys_platform::{Guid, Platform};
use bpf2sys_verifier::VerifiedModule;

use crate::error::ModuleProblem;

/// `BPF_MAP_TYPE_ARRAY`, the only type whose memory can hold global variables.
const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_PROG_ARRAY`.
const PROGRAM_ARRAY: u32 = 3;
/// `BPF_MAP_TYPE_HASH_OF_MAPS` and `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const MAPS_OF_MAPS: [u32; 2] = [6, 7];

/// Checks names (contract §4.4, §10.7), GUIDs (§4.4), globals (§4.5) and initial values (§4.9).
pub(crate) fn check_names(verified: &VerifiedModule, platform: &Platform) -> Result<(), ModuleProblem> {
    let module = verified.module();
    let limit = platform.limits.object_name_bytes.saturating_sub(1) as usize;
    let check = |what, name: &str| check_name(what, name, limit);
    let mut names = BTreeSet::new();
    for program in verified.programs() {
        let function = module.function(program.function);
        check("program", &function.name)?;
        check("section", &function.section)?;
        if !names.insert(&function.name) {
            return duplicate("program", &function.name);
        }
        if program.program_type.guid == Guid::ZERO || program.attach_type == Guid::ZERO {
            return Err(ModuleProblem::NoProgramType(function.name.clone()));
        }
    }
    names.clear();
    for map in &module.maps {
        check("map", &map.name)?;
        if !names.insert(&map.name) {
            return duplicate("map", &map.name);
        }
    }
    check_globals(module)?;
    check_initial_values(module)
}

fn check_name(what: &'static str, name: &str, limit: usize) -> Result<(), ModuleProblem> {
    if name.contains('\0') {
        let name = name.to_owned();
        return Err(ModuleProblem::NameNul { what, name });
    }
    if name.is_empty() || name.len() > limit {
        let name = name.to_owned();
        return Err(ModuleProblem::NameLength { what, name, limit });
    }
    Ok(())
}

fn duplicate(what: &'static str, name: &str) -> Result<(), ModuleProblem> {
    let name = name.to_owned();
    Err(ModuleProblem::DuplicateName { what, name })
}

fn check_globals(module: &Module) -> Result<(), ModuleProblem> {
    for global in &module.globals {
        let map = &module.maps[global.map.index()];
        let capacity = u64::from(map.definition.value_size) * u64::from(map.definition.max_entries);
        if map.definition.map_type != ARRAY {
            return Err(ModuleProblem::GlobalMapType {
                section: global.section.clone(),
                map: map.name.clone(),
                map_type: map.definition.map_type,
            });
        }
        if global.data.is_empty() || global.data.len() as u64 > capacity {
            return Err(ModuleProblem::GlobalSize {
                section: global.section.clone(),
                map: map.name.clone(),
                bytes: global.data.len(),
                capacity,
            });
        }
    }
    Ok(())
}

fn check_initial_values(module: &Module) -> Result<(), ModuleProblem> {
    for map in module.maps.iter().filter(|m| !m.initial_values.is_empty()) {
        let holds_programs = map.definition.map_type == PROGRAM_ARRAY;
        let holds_maps = MAPS_OF_MAPS.contains(&map.definition.map_type);
        if !(holds_programs || holds_maps) || map.definition.key_size != 4 {
            return Err(ModuleProblem::InitialValues(map.name.clone()));
        }
        for (slot, value) in map.initial_values.iter().enumerate() {
            let fits = match value {
                None => true,
                Some(InitialValue::Map(_)) => holds_maps,
                Some(InitialValue::Program(_)) => holds_programs,
            };
            if !fits {
                let map = map.name.clone();
                return Err(ModuleProblem::InitialValueKind { map, slot });
            }
        }
    }
    Ok(())
}
