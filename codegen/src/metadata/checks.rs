//! Whether the runtime can load the module at all.
//!
//! Given: a verified module.
//! Computed: nothing; the first thing that would make the runtime refuse it, or do harm, is an error.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{InitialValue, Map, MapIndex, Module};
use bpf2sys_platform::{Guid, Platform};
use bpf2sys_verifier::VerifiedModule;

use super::map_types::{
    ARRAY, EMPTY_VALUE, MAP_TYPES, MAPS_OF_MAPS, NARROW_VALUE, NO_KEY, PROGRAM_ARRAY,
};
use crate::error::{MapProblem, ModuleProblem};

/// Checks names (contract §4.4, §10.7), GUIDs (§4.4), maps (§4.3), globals (§4.5) and initial values (§4.9).
pub(crate) fn check_module(verified: &VerifiedModule, platform: &Platform) -> Result<(), ModuleProblem> {
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
    for (map, index) in module.maps.iter().zip(0..) {
        check("map", &map.name)?;
        if !names.insert(&map.name) {
            return duplicate("map", &map.name);
        }
        check_map(module, MapIndex(index)).map_err(|problem| ModuleProblem::Map {
            map: map.name.clone(),
            problem,
        })?;
        check_initial_values(verified, map)?;
    }
    check_globals(module)
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

/// What the runtime asks of a map when it creates it.
fn check_map(module: &Module, index: MapIndex) -> Result<(), MapProblem> {
    let map = &module.maps[index.index()];
    let definition = &map.definition;
    let map_type = definition.map_type;
    if !MAP_TYPES.contains(&map_type) {
        return Err(MapProblem::Type(map_type));
    }
    if definition.max_entries == 0 {
        return Err(MapProblem::NoEntries);
    }
    if definition.key_size == 0 && !NO_KEY.contains(&map_type) {
        return Err(MapProblem::NoKey);
    }
    if definition.value_size == 0 && !EMPTY_VALUE.contains(&map_type) {
        return Err(MapProblem::NoValue);
    }
    if definition.value_size != 4 && NARROW_VALUE.contains(&map_type) {
        return Err(MapProblem::ValueSize(definition.value_size));
    }
    if MAPS_OF_MAPS.contains(&map_type) && (map.inner.is_none() || map.inner != runtime_template(module, index)) {
        return Err(MapProblem::Template);
    }
    Ok(())
}

/// The inner map template as the runtime finds it.
fn runtime_template(module: &Module, outer: MapIndex) -> Option<MapIndex> {
    let definition = &module.maps[outer.index()].definition;
    if definition.inner_map_idx != 0 {
        return ((definition.inner_map_idx as usize) < module.maps.len()).then_some(MapIndex(definition.inner_map_idx));
    }
    let named = |(map, index): &(&Map, u32)| *index != outer.0 && map.definition.id == definition.inner_id;
    (definition.inner_id != 0)
        .then(|| module.maps.iter().zip(0..).find(named))
        .flatten()
        .map(|(_, index)| MapIndex(index))
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

fn check_initial_values(verified: &VerifiedModule, map: &Map) -> Result<(), ModuleProblem> {
    if map.initial_values.is_empty() {
        return Ok(());
    }
    let holds_programs = map.definition.map_type == PROGRAM_ARRAY;
    let holds_maps = MAPS_OF_MAPS.contains(&map.definition.map_type);
    if !(holds_programs || holds_maps) || map.definition.key_size != 4 {
        return Err(ModuleProblem::InitialValues(map.name.clone()));
    }
    for (slot, value) in map.initial_values.iter().enumerate() {
        let fits = match value {
            None => true,
            Some(InitialValue::Map(index)) => holds_maps && index.index() < verified.module().maps.len(),
            Some(InitialValue::Program(index)) => {
                holds_programs && verified.programs().iter().any(|p| p.function == *index)
            }
        };
        if !fits {
            let map = map.name.clone();
            return Err(ModuleProblem::InitialValueKind { map, slot });
        }
    }
    Ok(())
}
