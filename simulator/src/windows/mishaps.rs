//! What goes wrong on purpose while programs run: helpers that fail, maps without room, memory that runs out.
//!
//! Given: the request's mishaps. Computed: at each call, whether it is one that fails, and what the runtime answers then.

use std::cell::Cell;
use std::ops::Range;

use super::helpers::Prototype;
use super::kernel::Kernel;
use super::maps::code;
use super::module::LoadedProgram;
use crate::error::SimulatorError;
use crate::request::{Calls, Mishap};

/// Helpers that give a result of 64 bits; BTF-resolved functions do, too.
const WIDE: [u32; 3] = [UPDATE, DELETE, super::helpers::TAIL_CALL];
const UPDATE: u32 = 2;
const DELETE: u32 = 3;
const RINGBUF_OUTPUT: u32 = 11;
const PUSH: u32 = 16;
const POP_AND_PEEK: [u32; 2] = [17, 18];
const PERF_EVENT_OUTPUT: u32 = 32;
/// What a helper of which no more is known answers when it fails.
const FAILED: i64 = -1;

/// Memory for map values, which can run out.
#[derive(Clone, Debug, Default)]
pub struct Allocations {
    failing: Vec<Range<u64>>,
    made: Cell<u64>,
}

impl Allocations {
    /// Counts one. False if it is one that fails.
    pub fn succeeds(&self) -> bool {
        let number = self.made.get();
        self.made.set(number + 1);
        !self.failing.iter().any(|range| range.contains(&number))
    }
}

/// Which of the calls, counted from 0.
fn range(calls: Calls) -> Range<u64> {
    let first = calls.first.saturating_sub(1);
    match calls.count {
        0 => first..u64::MAX,
        count => first..first.saturating_add(count),
    }
}

impl Kernel {
    /// Takes the request's mishaps to heart, once the maps are there.
    pub fn begin_mishaps(&mut self) -> Result<(), SimulatorError> {
        self.state.calls_counted = vec![0; self.request.mishaps.len()];
        for mishap in self.request.mishaps.clone() {
            match mishap {
                Mishap::Helper { helper, program, .. } => {
                    let programs = &self.module.programs;
                    let mut named = programs
                        .iter()
                        .filter(|p| program.as_ref().is_none_or(|name| *name == p.name));
                    let calls = |program: &LoadedProgram| {
                        let mut helpers = program.helpers.iter().flatten().map(|known| &known.name);
                        let mut functions = program.btf_functions.iter().flatten().map(|known| &known.name);
                        helpers.any(|name| *name == helper) || functions.any(|name| *name == helper)
                    };
                    if !named.any(calls) {
                        let by = program.map_or_else(String::new, |name| format!(" by {name}"));
                        return Err(SimulatorError::Request(format!(
                            "{helper} is not called{by}: it can't fail"
                        )));
                    }
                }
                Mishap::FullMap { map } => {
                    let index = self.map_named(self.load, &map);
                    let index = index.ok_or_else(|| SimulatorError::Request(format!("there is no map {map}")))?;
                    if !self.maps.list[index].can_be_full() {
                        return Err(SimulatorError::Request(format!(
                            "map {map} is never full: there is always room for what can be put into it"
                        )));
                    }
                    self.maps.list[index].is_full = true;
                }
                Mishap::Allocation { calls } => self.maps.allocations.failing.push(range(calls)),
            }
        }
        // Those for what was in the maps before are no calls of programs.
        self.maps.allocations.made.set(0);
        Ok(())
    }

    /// What a helper, by its id, or a BTF-resolved function answers if this call is one that fails.
    pub fn failed_call(&mut self, program: usize, id: Option<u32>, prototype: &Prototype<'_>) -> Option<u64> {
        let Kernel {
            request, state, module, ..
        } = self;
        let name = &module.programs[program].name;
        let mut failed = None;
        for (mishap, counted) in request.mishaps.iter().zip(&mut state.calls_counted) {
            let Mishap::Helper {
                helper,
                program: only,
                calls,
                result,
            } = mishap
            else {
                continue;
            };
            if helper != prototype.name() || only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            if range(*calls).contains(counted) && failed.is_none() {
                let result = result.unwrap_or_else(|| usual_failure(id, prototype));
                failed = Some(if result >= 0 || id.is_none_or(|id| WIDE.contains(&id)) {
                    result as u64
                } else {
                    u64::from(result as i32 as u32)
                });
                state.failed.push(format!("{helper} (call {})", *counted + 1));
            }
            *counted += 1;
        }
        failed
    }
}

/// The runtime's own answer for want of memory, room or an entry.
fn usual_failure(id: Option<u32>, prototype: &Prototype<'_>) -> i64 {
    if prototype.gives_map_value() {
        return 0;
    }
    let Some(id) = id else {
        return FAILED;
    };
    let code = match id {
        UPDATE | RINGBUF_OUTPUT => code::NO_MEMORY,
        DELETE => code::KEY_NOT_FOUND,
        PUSH | PERF_EVENT_OUTPUT => code::OUT_OF_SPACE,
        super::helpers::TAIL_CALL => code::INVALID_ARGUMENT,
        id if POP_AND_PEEK.contains(&id) => code::OBJECT_NOT_FOUND,
        _ => return FAILED,
    };
    -i64::from(code)
}
