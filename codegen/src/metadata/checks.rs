//! Whether the runtime can load the module at all.
//!
//! Given: a verified module.
//! Computed: nothing; the first thing that would make the runtime refuse it, or do harm, is an error.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{FunctionIndex, InitialValue, Map, MapIndex, Module};
use bpf2sys_platform::{Guid, Platform};
use bpf2sys_verifier::VerifiedModule;

use super::map_types::{ARRAY, EMPTY_VALUE, MAP_TYPES, MAPS_OF_MAPS, NARROW_VALUE, NO_KEY, PROGRAM_ARRAY};
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
    let mut by_id: BTreeMap<u32, Vec<MapIndex>> = BTreeMap::new();
    for (map, index) in module.maps.iter().zip(0..) {
        by_id.entry(map.definition.id).or_default().push(MapIndex(index));
    }
    let programs: BTreeSet<FunctionIndex> = verified.programs().iter().map(|p| p.function).collect();
    for (map, index) in module.maps.iter().zip(0..) {
        check("map", &map.name)?;
        if !names.insert(&map.name) {
            return duplicate("map", &map.name);
        }
        check_map(module, &by_id, MapIndex(index)).map_err(|problem| ModuleProblem::Map {
            map: map.name.clone(),
            problem,
        })?;
        check_initial_values(&programs, map)?;
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
fn check_map(module: &Module, by_id: &BTreeMap<u32, Vec<MapIndex>>, index: MapIndex) -> Result<(), MapProblem> {
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
    if MAPS_OF_MAPS.contains(&map_type) && (map.inner.is_none() || map.inner != runtime_template(module, by_id, index))
    {
        return Err(MapProblem::Template);
    }
    Ok(())
}

/// The inner map template as the runtime finds it: by index, else the first other map with the id.
fn runtime_template(module: &Module, by_id: &BTreeMap<u32, Vec<MapIndex>>, outer: MapIndex) -> Option<MapIndex> {
    let definition = &module.maps[outer.index()].definition;
    if definition.inner_map_idx != 0 {
        let inner = MapIndex(definition.inner_map_idx);
        return (inner.index() < module.maps.len()).then_some(inner);
    }
    let candidates = by_id.get(&definition.inner_id).filter(|_| definition.inner_id != 0)?;
    candidates.iter().copied().find(|inner| *inner != outer)
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

fn check_initial_values(programs: &BTreeSet<FunctionIndex>, map: &Map) -> Result<(), ModuleProblem> {
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
            Some(InitialValue::Map(_)) => holds_maps,
            Some(InitialValue::Program(index)) => holds_programs && programs.contains(index),
        };
        if !fits {
            let map = map.name.clone();
            return Err(ModuleProblem::InitialValueKind { map, slot });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{FunctionIndex, GlobalSection, InitialValue, MapIndex, Module};
    use bpf2sys_platform::Guid;
    use bpf2sys_verifier::VerifiedModule;

    use crate::LowerError;
    use crate::error::{MapProblem, ModuleProblem};
    use crate::testing::{EXIT, lower, map, mov, one, program};

    fn problem(change: impl FnOnce(&mut Module)) -> ModuleProblem {
        let mut module = one(&[mov(0, 0), EXIT]);
        module.maps = vec![map("m", 1, 4, 8)];
        assert!(lower(module.clone()).is_ok());
        change(&mut module);
        match lower(module) {
            Err(LowerError::Module(problem)) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_must_fit_the_runtime() {
        let long = "n".repeat(64);
        let length = |what, name: &str| ModuleProblem::NameLength {
            what,
            name: name.to_owned(),
            limit: 63,
        };
        assert_eq!(
            problem(|m| m.functions[0].name.clone_from(&long)),
            length("program", &long)
        );
        assert_eq!(
            problem(|m| m.functions[0].section.clone_from(&long)),
            length("section", &long)
        );
        assert_eq!(problem(|m| m.maps[0].name.clone_from(&long)), length("map", &long));
        assert_eq!(problem(|m| m.maps[0].name.clear()), length("map", ""));
        let nul = problem(|m| m.maps[0].name = "a\0b".to_owned());
        assert_eq!(
            nul,
            ModuleProblem::NameNul {
                what: "map",
                name: "a\0b".to_owned()
            }
        );
        let mut fits = one(&[mov(0, 0), EXIT]);
        fits.functions[0].name = "n".repeat(63);
        assert!(lower(fits).is_ok());
    }

    #[test]
    fn rejects_two_programs_or_maps_sharing_a_name() {
        let duplicate = |what, name: &str| ModuleProblem::DuplicateName {
            what,
            name: name.to_owned(),
        };
        let again = program("program", "xdp", &[mov(0, 0), EXIT]);
        assert_eq!(problem(|m| m.functions.push(again)), duplicate("program", "program"));
        assert_eq!(problem(|m| m.maps.push(map("m", 2, 4, 4))), duplicate("map", "m"));
    }

    #[test]
    fn rejects_maps_that_the_runtime_would_not_create() {
        let cases = [
            (map("m", 0, 4, 4), MapProblem::Type(0)),
            (map("m", 17, 4, 4), MapProblem::Type(17)),
            (map("m", 1, 0, 4), MapProblem::NoKey),
            (map("m", 10, 4, 0), MapProblem::NoValue),
            (map("m", 3, 4, 8), MapProblem::ValueSize(8)),
            (map("m", 6, 4, 4), MapProblem::Template),
        ];
        for (bad, expected) in cases {
            let found = problem(|m| m.maps[0] = bad);
            assert_eq!(
                found,
                ModuleProblem::Map {
                    map: "m".to_owned(),
                    problem: expected
                }
            );
        }
        let empty = problem(|m| m.maps[0].definition.max_entries = 0);
        assert_eq!(
            empty,
            ModuleProblem::Map {
                map: "m".to_owned(),
                problem: MapProblem::NoEntries
            }
        );
        let mut module = one(&[mov(0, 0), EXIT]);
        module.maps = vec![map("queue", 10, 0, 4), map("ring", 13, 0, 0)];
        assert!(lower(module).is_ok());
    }

    #[test]
    fn the_runtime_must_find_the_template_that_the_object_means() {
        let with = |change: fn(&mut Module)| {
            let mut module = one(&[mov(0, 0), EXIT]);
            module.maps = vec![map("first", 1, 4, 8), map("second", 1, 8, 8), map("outer", 7, 4, 4)];
            module.maps[2].inner = Some(MapIndex(1));
            module.maps[1].definition.id = 9;
            change(&mut module);
            lower(module).is_ok()
        };
        assert!(with(|m| m.maps[2].definition.inner_id = 9));
        assert!(with(|m| m.maps[2].definition.inner_map_idx = 1));
        assert!(!with(|m| m.maps[2].definition.inner_map_idx = 5));
        assert!(!with(|m| m.maps[2].definition.inner_id = 8));
        // The first map with that id is another one.
        assert!(!with(|m| {
            m.maps[2].definition.inner_id = 9;
            m.maps[0].definition.id = 9;
        }));
    }

    #[test]
    fn global_data_must_fit_an_array() {
        let global = |bytes| GlobalSection {
            section: ".data".to_owned(),
            map: MapIndex(0),
            data: vec![1; bytes],
            read_only: false,
        };
        let found = problem(|m| m.globals.push(global(8)));
        assert!(matches!(found, ModuleProblem::GlobalMapType { map_type: 1, .. }));
        let found = problem(|m| {
            m.maps[0] = map("m", 2, 4, 8);
            m.maps[0].definition.max_entries = 1;
            m.globals.push(global(9));
        });
        assert!(matches!(
            found,
            ModuleProblem::GlobalSize {
                bytes: 9,
                capacity: 8,
                ..
            }
        ));
    }

    #[test]
    fn initial_values_must_fit_their_map() {
        let program = vec![Some(InitialValue::Program(FunctionIndex(0)))];
        let found = problem(|m| m.maps[0].initial_values.clone_from(&program));
        assert_eq!(found, ModuleProblem::InitialValues("m".to_owned()));
        let found = problem(|m| {
            m.maps[0] = map("m", 3, 8, 4);
            m.maps[0].initial_values.clone_from(&program);
        });
        assert_eq!(found, ModuleProblem::InitialValues("m".to_owned()));
        let found = problem(|m| {
            m.maps[0] = map("m", 3, 4, 4);
            m.maps[0].initial_values = vec![None, Some(InitialValue::Map(MapIndex(0)))];
        });
        assert_eq!(
            found,
            ModuleProblem::InitialValueKind {
                map: "m".to_owned(),
                slot: 1
            }
        );
    }

    #[test]
    fn rejects_a_program_without_attach_type() {
        let platform = bpf2sys_platform::Platform::builtin();
        let (program_type, _) = platform.program_type_for_section("bind").unwrap();
        let module = one(&[mov(0, 0), EXIT]);
        let verified = VerifiedModule::assume_verified_for_instruction_tests(module, program_type, Guid::ZERO);
        let error = crate::lower(&verified, &platform, &crate::Options::default()).unwrap_err();
        assert_eq!(
            error,
            LowerError::Module(ModuleProblem::NoProgramType("program".to_owned()))
        );
    }
}
