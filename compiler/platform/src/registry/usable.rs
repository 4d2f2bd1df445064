//! What of a store programs can use.
//!
//! Given: a store whose entries are complete. Computed: the same without what contradicts a rule of the platform. A program could
//! not use that on Windows either: the verifier refuses calls of such helpers, and programs with such contexts.
//! What is left out is told in warnings.

use std::collections::HashSet;

use super::problem::{RegistryError, RegistryPlace, RegistryProblem};
use super::store::{Function, Helper, ProgramType, Store};
use crate::load::{self, Loader, place::name_problem, prototype};
use crate::{Guid, PlatformError};

/// Least size of a context that readers of the store take, in bytes.
const MIN_CONTEXT: i32 = 16;

/// Leaves out what is not usable.
pub(super) fn keep(store: &mut Store, warnings: &mut Vec<RegistryError>) -> Result<(), PlatformError> {
    load::with_core(|core| keep_usable(core, store, warnings))
}

fn keep_usable(core: &Loader<'_>, store: &mut Store, warnings: &mut Vec<RegistryError>) {
    let last = core.limits.max_general_helper_id;
    let mut refuse = |place: &RegistryPlace, problem| {
        let place = place.clone();
        warnings.push(RegistryError { place, problem });
    };
    let mut names = HashSet::new();
    store.program_types.retain_mut(|program_type| {
        let usable = usable_type(core, program_type).and_then(|()| {
            // Windows tells types by their GUIDs; to name one, its name must mean it.
            let new = names.insert(program_type.name.clone());
            new.then_some(())
                .ok_or_else(|| format!("another program type has the name `{}`, too", program_type.name))
        });
        if let Err(message) = usable {
            refuse(&program_type.place, RegistryProblem::Unusable(message));
            return false;
        }
        keep_helpers(core, &mut program_type.helpers, &mut refuse, |id| {
            if id <= last {
                return Err(format!("its id {id} is not above {last}, the last of a general helper"));
            }
            i32::try_from(id)
                .map(|_| ())
                .map_err(|_| format!("its id {id} does not fit a call instruction"))
        });
        true
    });
    keep_helpers(core, &mut store.helpers, &mut refuse, |id| {
        (id <= last)
            .then_some(())
            .ok_or_else(|| format!("its id {id} is above {last}, the last of a general helper"))
    });
    store
        .functions
        .retain(|function| match usable_function(core, function) {
            Ok(()) => true,
            Err(message) => {
                refuse(&function.place, RegistryProblem::Unusable(message));
                false
            }
        });
    store.sections.retain(|section| {
        // An empty prefix never matches.
        let problem = name_problem(&section.prefix, core.limits.max_registry_section_name + 1);
        if let Some(problem) = problem {
            let message = format!("its prefix {problem}");
            refuse(&section.place, RegistryProblem::Unusable(message));
            return false;
        }
        true
    });
    for section in &store.sections {
        let described = |t: &ProgramType| t.guid == section.program_type;
        if !store.program_types.iter().any(described) {
            refuse(&section.place, RegistryProblem::NoProgramType(section.program_type));
        }
    }
}

fn usable_type(core: &Loader<'_>, program_type: &ProgramType) -> Result<(), String> {
    if let Some(problem) = name_problem(&program_type.name, core.limits.max_program_type_name) {
        return Err(format!("its name {problem}"));
    }
    if program_type.guid == Guid::ZERO {
        return Err("its GUID is zero, which means unspecified".to_owned());
    }
    let [size, data, data_end, data_meta] = program_type.context;
    if size < MIN_CONTEXT {
        return Err(format!(
            "its context has {size} bytes, and must have {MIN_CONTEXT} at least"
        ));
    }
    load::context::layout(size, data, data_end, data_meta)
        .map_err(|(field, message)| format!("in its `ContextDescriptor`, `{field}`: {message}"))
}

/// Leaves out the helpers that calls can't use, and all that share their id: which one it means is not said.
fn keep_helpers(
    core: &Loader<'_>,
    helpers: &mut Vec<Helper>,
    refuse: &mut impl FnMut(&RegistryPlace, RegistryProblem),
    usable_id: impl Fn(u32) -> Result<(), String>,
) {
    let mut ids: Vec<u32> = helpers.iter().map(|h| h.id).collect();
    ids.sort_unstable();
    let is_shared = |id: u32| {
        let first = ids.partition_point(|other| *other < id);
        ids.get(first + 1) == Some(&id)
    };
    helpers.retain(|helper| {
        let usable = || -> Result<(), String> {
            usable_id(helper.id)?;
            if is_shared(helper.id) {
                return Err(format!("another helper has the id {}, too", helper.id));
            }
            usable_prototype(core, &helper.name, helper.return_type, helper.arguments)
        };
        match usable() {
            Ok(()) => true,
            Err(message) => {
                refuse(&helper.place, RegistryProblem::Unusable(message));
                false
            }
        }
    });
}

fn usable_function(core: &Loader<'_>, function: &Function) -> Result<(), String> {
    if function.module == Guid::ZERO {
        return Err("the module's GUID is zero, which means a hole in a module's table".to_owned());
    }
    usable_prototype(core, &function.name, function.return_type, function.arguments)
}

fn usable_prototype(core: &Loader<'_>, name: &str, returned: u32, arguments: [u32; 5]) -> Result<(), String> {
    if let Some(problem) = name_problem(name, core.limits.max_helper_name) {
        return Err(format!("its name {problem}"));
    }
    let known = core.returns.values().find(|r| r.value == returned);
    let known = known.ok_or_else(|| format!("its return type {} is unknown", returned as i32))?;
    prototype::returned(known).map_err(|message| format!("its return type: {message}"))?;
    let mut types = Vec::with_capacity(arguments.len());
    for (number, argument) in arguments.iter().enumerate() {
        let known = core.arguments.values().find(|a| a.value == *argument);
        types.push(*known.ok_or_else(|| {
            format!(
                "its argument {} has type {}, which is unknown",
                number + 1,
                *argument as i32
            )
        })?);
    }
    prototype::arguments(&types)
        .map(|_| ())
        .map_err(|message| format!("its arguments: {message}"))
}
