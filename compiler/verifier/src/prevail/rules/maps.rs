//! The maps that a call may get: see [`map_type`](crate::map_type).

use bpf2sys_bytecode::{MapIndex, Reg};
use prevail::crab::ebpf_domain::DomainContext;
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::Reg as EngineReg;

use super::{Point, Rules};
use crate::map_type::{self, Candidate, Wrong};
use crate::prototype::Prototype;

impl Rules<'_> {
    /// Refuses a map that the callee would use without looking, and warns of one that it does not work on.
    pub(super) fn map_type(
        &self,
        called: &Prototype<'_>,
        point: &Point<'_>,
        context: &DomainContext<'_>,
        names: &mut VariableRegistry,
    ) -> Option<Wrong> {
        let is_map = |argument: u32| self.platform.map_argument_types.contains(&argument);
        let (register, _) = called.listed().find(|(_, argument)| is_map(*argument))?;
        let candidates = self.candidates(register, point, context, names);
        map_type::wrong(called, self.platform, candidates.as_deref())
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
                let map = self.module.maps.get(map.index())?;
                Some(Candidate {
                    name: Some(map.name.clone()),
                    map_type: map.definition.map_type,
                })
            };
            return maps.iter().map(candidate).collect();
        }
        let register = EngineReg { v: register.number() };
        let map_type = point.state.get_map_type(&register, context, names)?;
        Some(vec![Candidate { name: None, map_type }])
    }
}
