//! Calls with a map of a type that the callee does not work on.
//!
//! The runtime's helpers look at the type of the map and fail. Two do not: they take any map for a ring buffer, or for a
//! perf event array, and write where its fields would be. The verifier of eBPF for Windows restricts no helper to map types
//! (`allowed_map_types` is 0 for all), so it accepts both.

use bpf2sys_bytecode::{MapIndex, Reg};
use prevail::crab::ebpf_domain::DomainContext;
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::Reg as EngineReg;

use super::{Point, Rules};
use crate::WarningReason;
use crate::error::{MapMistaken, RejectionReason};
use crate::prototype::Prototype;

/// A map that a call may get.
struct Candidate {
    /// Which one, if that is known and not only the type.
    map: Option<MapIndex>,
    map_type: u32,
}

/// What is wrong with the map of a call.
pub(super) enum Wrong {
    Refused(RejectionReason),
    Warned(WarningReason),
}

impl Rules<'_> {
    /// Refuses a map that the callee would use without looking, and warns of one that it does not work on.
    pub(super) fn map_type(
        &self,
        called: &Prototype<'_>,
        point: &Point<'_>,
        context: &DomainContext<'_>,
        names: &mut VariableRegistry,
    ) -> Option<Wrong> {
        let types = called.map_types?;
        let is_map = |argument: u32| self.platform.map_argument_types.contains(&argument);
        let (register, _) = called.listed().find(|(_, argument)| is_map(*argument))?;
        let candidates = self.candidates(register, point, context, names);
        if !called.checks_map_type {
            let mistaken = match &candidates {
                None => None,
                Some(maps) => Some(maps.iter().find(|c| !types.contains(&c.map_type))?),
            };
            return Some(Wrong::Refused(RejectionReason::MapMistaken(Box::new(MapMistaken {
                helper: called.name.to_owned(),
                map: mistaken.and_then(|c| self.map_name(c)),
                map_type: mistaken.map(|c| self.type_name(c.map_type)),
                needed: types.iter().map(|t| self.type_name(*t)).collect(),
            }))));
        }
        let candidates = candidates?;
        let first = candidates.first()?;
        let fails =
            |c: &Candidate| !(types.contains(&c.map_type) || called.general && self.stands_for_another(c.map_type));
        candidates.iter().all(fails).then(|| {
            Wrong::Warned(WarningReason::NeverSucceeds {
                helper: called.name.to_owned(),
                map: self.map_name(first),
                map_type: self.type_name(first.map_type),
            })
        })
    }

    /// The maps that a register may hold; `None` if that is not known.
    fn candidates(
        &self,
        register: Reg,
        point: &Point<'_>,
        context: &DomainContext<'_>,
        names: &mut VariableRegistry,
    ) -> Option<Vec<Candidate>> {
        if let Some(maps) = &point.origins[register.index()].maps {
            let candidate = |map: MapIndex| {
                let definition = &self.module.maps.get(map.index())?.definition;
                Some(Candidate {
                    map: Some(map),
                    map_type: definition.map_type,
                })
            };
            return maps.iter().map(candidate).collect();
        }
        let register = EngineReg { v: register.number() };
        let map_type = point.state.get_map_type(&register, context, names)?;
        Some(vec![Candidate { map: None, map_type }])
    }

    /// Whether general helpers work on maps of this type as on those of the runtime's own type that holds the values.
    fn stands_for_another(&self, map_type: u32) -> bool {
        let custom = self.platform.map_type(map_type).and_then(|t| t.custom.as_ref());
        custom.is_some_and(|custom| !custom.updates_original_value)
    }

    fn map_name(&self, candidate: &Candidate) -> Option<String> {
        let map = self.module.maps.get(candidate.map?.index())?;
        Some(map.name.clone())
    }

    fn type_name(&self, map_type: u32) -> String {
        let known = self.platform.map_type(map_type);
        known.map_or_else(|| map_type.to_string(), |t| t.name.clone())
    }
}
