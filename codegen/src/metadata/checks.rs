//! Whether the runtime can load the module at all.
//!
//! Given: a verified module.
//! Computed: nothing; the first thing that would make the runtime refuse it, or do harm, is an error.
//!
//! | what | where |
//! |---|---|
//! | names, GUIDs, global variable sections | here |
//! | maps and their templates | [`map_checks`](super::map_checks) |
//! | initial values, and which program types share a program array | [`value_checks`](super::value_checks) |
//! | helpers, functions of other modules | [`helper_tables`](super::helper_tables), [`btf_tables`](super::btf_tables) |
//! | counts that do not fit their fields | [`tables`](super::tables) |

use std::collections::BTreeSet;

use bpf2sys_bytecode::Module;
use bpf2sys_platform::{Guid, Platform};
use bpf2sys_verifier::VerifiedModule;

use super::map_checks::check_maps;
use super::map_types::ARRAY;
use super::value_checks::{check_initial_values, check_program_arrays};
use crate::error::ModuleProblem;

/// Checks names (native module contract §4.4, §10.7), GUIDs (§4.4), maps (§4.3), globals (§4.5) and initial values (§4.9).
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
    for map in &module.maps {
        check("map", &map.name)?;
        if !names.insert(&map.name) {
            return duplicate("map", &map.name);
        }
    }
    check_maps(module, platform)?;
    check_globals(module)?;
    check_initial_values(verified, platform)?;
    check_program_arrays(verified, platform)
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

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{GlobalSection, MapIndex, Module};
    use bpf2sys_platform::Guid;
    use bpf2sys_verifier::VerifiedModule;

    use crate::LowerError;
    use crate::error::ModuleProblem;
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
