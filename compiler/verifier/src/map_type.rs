//! Calls with a map of a type that the callee does not work on.
//!
//! The runtime's helpers look at the type of the map and fail. Two do not: they take any map for a ring buffer, or for a
//! perf event array, and write where its fields would be. The verifier of eBPF for Windows restricts no helper to map types
//! (`allowed_map_types` is 0 for all), so it accepts both.

use bpf2sys_platform::{Platform, ProgramType};

use crate::WarningReason;
use crate::error::{MapMistaken, RejectionReason};
use crate::prototype::Prototype;

/// A map that a call may get.
pub(crate) struct Candidate {
    /// Its name, if it is known which one it is, and not only the type.
    pub name: Option<String>,
    /// Number of its type.
    pub map_type: u32,
}

/// What is wrong with the map of a call.
pub(crate) enum Wrong {
    Refused(RejectionReason),
    Warned(WarningReason),
}

/// Refuses a map that the callee would use without looking, and warns of one that it does not work on. `candidates` are all that
/// the call may get; `None` if they are not known.
pub(crate) fn wrong(called: &Prototype<'_>, platform: &Platform, candidates: Option<&[Candidate]>) -> Option<Wrong> {
    let types = called.map_types?;
    let type_name = |map_type: u32| {
        let known = platform.map_type(map_type);
        known.map_or_else(|| map_type.to_string(), |t| t.name.clone())
    };
    if !called.checks_map_type {
        let mistaken = match candidates {
            None => None,
            Some(maps) => Some(maps.iter().find(|c| !types.contains(&c.map_type))?),
        };
        return Some(Wrong::Refused(RejectionReason::MapMistaken(Box::new(MapMistaken {
            helper: called.name.to_owned(),
            map: mistaken.and_then(|c| c.name.clone()),
            map_type: mistaken.map(|c| type_name(c.map_type)),
            needed: types.iter().map(|t| type_name(*t)).collect(),
        }))));
    }
    // General helpers work on maps of some extensions' types as on those of the runtime's own type that holds the values.
    let stands_for_another = |map_type: u32| {
        let custom = platform.map_type(map_type).and_then(|t| t.custom.as_ref());
        custom.is_some_and(|custom| !custom.updates_original_value)
    };
    let candidates = candidates?;
    let first = candidates.first()?;
    let fails = |c: &Candidate| !(types.contains(&c.map_type) || called.general && stands_for_another(c.map_type));
    candidates.iter().all(fails).then(|| {
        Wrong::Warned(WarningReason::NeverSucceeds {
            helper: called.name.to_owned(),
            map: first.name.clone(),
            map_type: type_name(first.map_type),
        })
    })
}

/// The warning of a call that fails whatever it is given.
pub(crate) fn always_fails(called: &Prototype<'_>, program_type: &ProgramType) -> WarningReason {
    WarningReason::AlwaysFails {
        helper: called.name.to_owned(),
        program_type: program_type.name.clone(),
    }
}
