//! Whether the runtime can put initial values into maps, and whether program arrays are used with one program type each
//! (native module contract §4.4, §4.9).
//!
//! Given: a module whose names are unique and whose maps can be created. Computed: the first value that the runtime would
//! refuse, or crash on.

use std::sync::Arc;

use bpf2sys_bytecode::{InitialValue, Map, MapIndex, Module};
use bpf2sys_platform::{MapValueKind, Platform, ProgramType};
use bpf2sys_verifier::{VerifiedModule, VerifiedProgram};

use super::map_references::referenced_maps;
use crate::error::{InitialValueProblem, ModuleProblem};

/// Size of the keys that the runtime stores initial values under.
const KEY_BYTES: u32 = 4;

fn value_kind(platform: &Platform, map: &Map) -> MapValueKind {
    let map_type = platform.map_type(map.definition.map_type);
    map_type.map_or(MapValueKind::Any, |t| t.verifier_value_kind)
}

/// Maps with initial values, in the order in which the runtime gets them.
pub(super) fn with_initial_values(module: &Module) -> Vec<MapIndex> {
    let all = (0..).map(MapIndex).zip(&module.maps);
    let mut maps: Vec<MapIndex> = all
        .filter(|(_, map)| !map.initial_values.is_empty())
        .map(|(index, _)| index)
        .collect();
    maps.sort_by_key(|index| module.maps[index.index()].name.as_bytes());
    maps
}

pub(super) fn check_initial_values(verified: &VerifiedModule, platform: &Platform) -> Result<(), ModuleProblem> {
    let module = verified.module();
    for index in with_initial_values(module) {
        let map = &module.maps[index.index()];
        let kind = value_kind(platform, map);
        if kind == MapValueKind::Any || map.definition.key_size != KEY_BYTES {
            return Err(ModuleProblem::InitialValues(map.name.clone()));
        }
        let entries = map.definition.max_entries as usize;
        let mut used = 0;
        for (slot, value) in map.initial_values.iter().enumerate() {
            let Some(value) = value else { continue };
            used += 1;
            // The position is the key, which in arrays must be below the number of entries; others hold as many.
            let indexed = platform
                .map_type(map.definition.map_type)
                .is_some_and(|t| t.verifier_is_array);
            let problem = if used > entries || indexed && slot >= entries {
                Some(InitialValueProblem::NoRoom {
                    entries: map.definition.max_entries,
                })
            } else {
                problem(verified, map, kind, *value)
            };
            if let Some(problem) = problem {
                return Err(ModuleProblem::InitialValue {
                    map: map.name.clone(),
                    slot,
                    problem,
                });
            }
        }
    }
    Ok(())
}

fn problem(
    verified: &VerifiedModule,
    map: &Map,
    kind: MapValueKind,
    value: InitialValue,
) -> Option<InitialValueProblem> {
    let module = verified.module();
    match (kind, value) {
        (MapValueKind::Program, InitialValue::Program(function)) => {
            let is_program = verified.programs().iter().any(|p| p.function == function);
            let name = || module.function(function).name.clone();
            (!is_program).then(|| InitialValueProblem::NoProgram(name()))
        }
        (MapValueKind::Map, InitialValue::Map(inner)) => {
            let inner = &module.maps[inner.index()];
            let template = map.inner.map(|template| &module.maps[template.index()]);
            let equals = template.is_some_and(|template| shape(template) == shape(inner));
            (!equals).then(|| InitialValueProblem::OtherShape {
                inner: inner.name.clone(),
                template: template.map_or(String::new(), |template| template.name.clone()),
            })
        }
        _ => Some(InitialValueProblem::Kind),
    }
}

/// What an inner map must have in common with the template.
fn shape(map: &Map) -> [u32; 4] {
    let definition = &map.definition;
    [
        definition.map_type,
        definition.key_size,
        definition.value_size,
        definition.max_entries,
    ]
}

/// Follows the runtime: a program array belongs to the type of the first program that uses it or is put into it, and a map of
/// program arrays to that of the first one put into it; then none of another type can follow.
pub(super) fn check_program_arrays(verified: &VerifiedModule, platform: &Platform) -> Result<(), ModuleProblem> {
    let module = verified.module();
    let mut owners: Vec<Option<Owner>> = vec![None; module.maps.len()];
    let mut programs: Vec<&VerifiedProgram> = verified.programs().iter().collect();
    programs.sort_by_key(|program| module.function(program.function).name.as_bytes());
    for program in &programs {
        for index in referenced_maps(module, program) {
            let map = module.maps.get(index.index()); // the lowering refuses a reference to none
            if map.is_some_and(|map| value_kind(platform, map) == MapValueKind::Program) {
                own(module, &mut owners, index, &Owner::of(module, program))?;
            }
        }
    }
    for index in with_initial_values(module) {
        for value in module.maps[index.index()].initial_values.iter().flatten() {
            let owner = match *value {
                InitialValue::Map(inner) => owners[inner.index()].clone(),
                InitialValue::Program(function) => programs
                    .iter()
                    .find(|program| program.function == function)
                    .map(|program| Owner::of(module, program)),
            };
            if let Some(owner) = owner {
                own(module, &mut owners, index, &owner)?;
            }
        }
    }
    Ok(())
}

/// Who made a map belong to a program type.
#[derive(Clone)]
struct Owner {
    program_type: Arc<ProgramType>,
    program: String,
}

impl Owner {
    fn of(module: &Module, program: &VerifiedProgram) -> Owner {
        Owner {
            program_type: Arc::clone(&program.program_type),
            program: module.function(program.function).name.clone(),
        }
    }
}

fn own(module: &Module, owners: &mut [Option<Owner>], map: MapIndex, owner: &Owner) -> Result<(), ModuleProblem> {
    let first = owners[map.index()].get_or_insert_with(|| owner.clone());
    if first.program_type.guid == owner.program_type.guid {
        return Ok(());
    }
    let named = |owner: &Owner| Box::new((owner.program.clone(), owner.program_type.name.clone()));
    Err(ModuleProblem::ProgramArray {
        map: module.maps[map.index()].name.clone(),
        first: named(first),
        second: named(owner),
    })
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{FunctionIndex, InitialValue, Map, MapIndex, Module};
    use bpf2sys_platform::Platform;

    use crate::error::{InitialValueProblem, ModuleProblem};
    use crate::testing::{EXIT, lddw_map, lower, map, module, mov, one, program, subprogram, verified};
    use crate::{LowerError, Options};

    fn programs(indices: &[u32]) -> Vec<Option<InitialValue>> {
        let value = |index: &u32| Some(InitialValue::Program(FunctionIndex(*index)));
        indices.iter().map(value).collect()
    }

    fn maps(indices: &[u32]) -> Vec<Option<InitialValue>> {
        let value = |index: &u32| Some(InitialValue::Map(MapIndex(*index)));
        indices.iter().map(value).collect()
    }

    fn problem(all: Vec<Map>) -> Option<ModuleProblem> {
        let mut module = one(&[mov(0, 0), EXIT]);
        module.functions.push(subprogram("sub", &[mov(0, 0), EXIT]));
        module.maps = all;
        match lower(module) {
            Ok(_) => None,
            Err(LowerError::Module(problem)) => Some(problem),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// A map `m` of 7 entries, and two others.
    fn with_values(map_type: u32, key_size: u32, values: Vec<Option<InitialValue>>) -> Option<ModuleProblem> {
        let mut m = map("m", map_type, key_size, 4);
        m.initial_values = values;
        m.inner = Some(MapIndex(1));
        m.definition.inner_map_idx = 1;
        problem(vec![m, map("template", 1, 4, 8), map("other", 1, 8, 8)])
    }

    #[test]
    fn only_maps_of_programs_or_maps_with_short_keys_have_initial_values() {
        let none = || Some(ModuleProblem::InitialValues("m".to_owned()));
        assert_eq!(with_values(1, 4, programs(&[0])), none());
        assert_eq!(with_values(6, 8, maps(&[1])), none());
        assert_eq!(with_values(3, 4, programs(&[0])), None);
        assert_eq!(with_values(6, 4, maps(&[1])), None);
        assert_eq!(with_values(7, 4, maps(&[1])), None);
    }

    #[test]
    fn values_must_be_what_the_map_holds() {
        let slot = |slot, problem| {
            let map = "m".to_owned();
            Some(ModuleProblem::InitialValue { map, slot, problem })
        };
        let mut second = vec![None];
        second.extend(maps(&[1]));
        assert_eq!(with_values(3, 4, second), slot(1, InitialValueProblem::Kind));
        assert_eq!(with_values(7, 4, programs(&[0])), slot(0, InitialValueProblem::Kind));
        let no_program = InitialValueProblem::NoProgram("sub".to_owned());
        assert_eq!(with_values(3, 4, programs(&[1])), slot(0, no_program));
        let other = InitialValueProblem::OtherShape {
            inner: "other".to_owned(),
            template: "template".to_owned(),
        };
        assert_eq!(with_values(6, 4, maps(&[1, 2])), slot(1, other));
    }

    #[test]
    fn values_must_find_room() {
        let no_room = |slot| {
            let (map, problem) = ("m".to_owned(), InitialValueProblem::NoRoom { entries: 7 });
            Some(ModuleProblem::InitialValue { map, slot, problem })
        };
        let behind = || {
            let mut values = vec![None; 7];
            values.extend(maps(&[1]));
            values
        };
        assert_eq!(with_values(7, 4, maps(&[1; 7])), None);
        assert_eq!(with_values(7, 4, behind()), no_room(7));
        // Keys of a hash are any numbers, but it holds no more values than entries.
        assert_eq!(with_values(6, 4, behind()), None);
        assert_eq!(with_values(6, 4, maps(&[1; 8])), no_room(7));
        // Empty slots need no room.
        assert_eq!(with_values(3, 4, vec![None; 9]), None);
    }

    /// Programs of two types, proven; `change` makes them share something.
    fn shared(change: fn(&mut Module)) -> Result<(), (String, String, String)> {
        let mut module = module(vec![
            program("a", "bind", &[mov(0, 0), EXIT]),
            program("b", "xdp", &[mov(0, 1), EXIT]),
        ]);
        module.maps = vec![map("outer", 7, 4, 4), map("array", 3, 4, 4), map("other", 3, 4, 4)];
        module.maps[0].inner = Some(MapIndex(1));
        module.maps[0].definition.inner_map_idx = 1;
        change(&mut module);
        match crate::lower(&verified(module), &Platform::builtin(), &Options::default()) {
            Ok(_) => Ok(()),
            Err(LowerError::Module(ModuleProblem::ProgramArray { map, first, second })) => {
                assert_eq!((first.1.as_str(), second.1.as_str()), ("bind", "xdp"));
                Err((map, first.0, second.0))
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_program_array_belongs_to_one_program_type() {
        let conflict = |map: &str| Err((map.to_owned(), "a".to_owned(), "b".to_owned()));
        assert_eq!(shared(|_| ()), Ok(()));
        assert_eq!(
            shared(|m| m.maps[1].initial_values = programs(&[0, 1])),
            conflict("array")
        );
        assert_eq!(shared(|m| m.maps[1].initial_values = programs(&[1])), Ok(()));
        assert_eq!(
            shared(|m| {
                m.functions[0] = program("a", "bind", &[lddw_map(1, 1), mov(0, 0), EXIT]);
                m.functions[1] = program("b", "xdp", &[lddw_map(1, 1), mov(0, 1), EXIT]);
            }),
            conflict("array")
        );
        // Used by one, holding the other.
        assert_eq!(
            shared(|m| {
                m.functions[0] = program("a", "bind", &[lddw_map(1, 1), mov(0, 0), EXIT]);
                m.maps[1].initial_values = programs(&[1]);
            }),
            conflict("array")
        );
        // Each its own.
        assert_eq!(
            shared(|m| {
                m.maps[1].initial_values = programs(&[0]);
                m.maps[2].initial_values = programs(&[1]);
            }),
            Ok(())
        );
        // Both in one map of program arrays; `outer` comes last by name.
        assert_eq!(
            shared(|m| {
                m.maps[0].name = "z".to_owned();
                m.maps[1].initial_values = programs(&[0]);
                m.maps[2].initial_values = programs(&[1]);
                m.maps[0].initial_values = maps(&[1, 2]);
            }),
            conflict("z")
        );
    }
}
