//! Maps that programs pass to helpers without knowing that they are there.
//!
//! A lookup in a map of maps gives null where the outer map has no such entry. PREVAIL takes the result as a map
//! without a comparison with null, and programs use it so (a tail call through an inner program array, for one). But
//! the runtime does not look either: it would read its map object at address 0, and the machine would stop. So compiled
//! code looks, wherever the verifier has not proven which map it is, and where there is none gives what a helper gives
//! for an argument that is no map, without calling it.

use bpf2sys_bytecode::{Callee, FunctionIndex, Reg};

use super::function::Unit;
use crate::error::InstructionProblem;

/// `-EBPF_INVALID_ARGUMENT`, what a helper returns for a bad argument (`ebpf_result_t`).
const INVALID_ARGUMENT: i64 = -6;
/// `EBPF_RETURN_TYPE_PTR_TO_MAP_VALUE_OR_NULL`.
const MAP_VALUE_OR_NULL: u32 = 1;

/// Which arguments of a call are maps, and what the call gives where one of them is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapArguments {
    /// Bit n for argument n, 1 to 5.
    positions: u8,
    /// The result.
    pub(super) failure: i64,
}

impl MapArguments {
    /// No map.
    pub(super) const NONE: MapArguments = MapArguments {
        positions: 0,
        failure: INVALID_ARGUMENT,
    };

    /// Those of a call in `function`.
    ///
    /// # Errors
    /// `function` is reached by programs of several types, and in these the id stands for helpers that do not agree.
    pub(super) fn of(
        unit: &Unit<'_>,
        function: FunctionIndex,
        callee: Callee,
    ) -> Result<MapArguments, InstructionProblem> {
        let of = |return_type, arguments| {
            MapArguments::of_prototype(&unit.platform.map_argument_types, return_type, arguments)
        };
        match callee {
            Callee::Local(_) => Ok(MapArguments::NONE),
            Callee::Btf(index) => {
                let found = unit.btf_function(index).ok_or(InstructionProblem::Reference)?;
                Ok(of(found.return_type, &found.arguments))
            }
            Callee::Helper(id) => {
                let mut found = unit
                    .helpers_meant(function, id)
                    .flatten()
                    .map(|helper| of(helper.return_type, &helper.arguments));
                let first = found.next().unwrap_or(MapArguments::NONE);
                if found.any(|other| other != first) {
                    return Err(InstructionProblem::AmbiguousHelper(id));
                }
                Ok(first)
            }
        }
    }

    fn of_prototype(map_types: &[u32], return_type: u32, arguments: &[u32; 5]) -> MapArguments {
        let mut found = MapArguments::NONE;
        for (position, _) in (1..).zip(arguments).filter(|(_, kind)| map_types.contains(kind)) {
            found.positions |= 1 << position;
        }
        if found.positions != 0 && return_type == MAP_VALUE_OR_NULL {
            found.failure = 0;
        }
        found
    }

    /// The registers that hold the maps.
    pub(super) fn registers(self) -> impl Iterator<Item = Reg> {
        (1..=5)
            .filter(move |n| self.positions & 1 << n != 0)
            .filter_map(Reg::new)
    }
}
