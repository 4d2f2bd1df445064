//! Helpers: argument checks by prototype, then the runtime's semantics.
//!
//! Helpers that the runtime declares with a 32-bit result return it zero-extended, as their code does on x64; those
//! declared 64-bit return negative codes sign-extended.

mod general;
mod print;
mod specific;

use bpf2sys_platform::Helper;

use super::kernel::{Activity, Kernel};
use super::maps::kind;
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::rule::Rule;

/// Id of `bpf_tail_call`.
pub const TAIL_CALL: u32 = 5;

/// `ebpf_argument_type_t` numbers that the checks tell apart (platform facts, `argument_type`).
mod argument {
    pub const CONST_SIZE: u32 = 2;
    pub const CONTEXT: u32 = 4;
    pub const MAP: u32 = 5;
    pub const MAP_OF_PROGRAMS: u32 = 6;
    pub const KEY: u32 = 7;
    pub const VALUE: u32 = 8;
    pub const READABLE: u32 = 9;
    pub const READABLE_OR_NULL: u32 = 10;
    pub const WRITABLE: u32 = 11;
    pub const STACK: u32 = 12;
    pub const CONTEXT_OR_NULL: u32 = 14;
    pub const WRITABLE_OR_NULL: u32 = 15;
    pub const LONG: u32 = 21;
    pub const INT: u32 = 22;
    pub const READONLY: u32 = 29;
    pub const READONLY_OR_NULL: u32 = 30;
    pub const UNINIT_VALUE: u32 = 31;
    pub const CONST_MAP: u32 = 32;
}

/// A call of a helper whose arguments have passed the checks.
pub struct Call<'a> {
    /// The helper.
    pub helper: &'a Helper,
    /// The program that called.
    pub program: usize,
    /// r1 to r5.
    pub arguments: [u64; 5],
    /// The map argument.
    pub map: Option<usize>,
}

/// A negated result code as helpers declared `int64_t` return it.
fn negative64(code: u32) -> u64 {
    (-i64::from(code)) as u64
}

/// A negated result code as helpers declared `int` return it.
fn negative32(code: u32) -> u64 {
    u64::from((-i64::from(code)) as u32)
}

impl Kernel {
    /// Runs the helper in a slot of a program's table, which native code has called.
    pub fn helper(&mut self, program: usize, slot: usize) -> Result<u64, SimulatorError> {
        let mut arguments = [0u64; 5];
        for (i, argument) in arguments.iter_mut().enumerate() {
            *argument = self.argument(i)?;
        }
        let context = self.argument(5)?;
        let running = match self.activities.last() {
            Some(Activity::Program(running)) => *running,
            _ => return Err(self.broken(Rule::UnexpectedCall, "a helper is called outside of a program")),
        };
        let helper = self
            .module
            .programs
            .get(program)
            .and_then(|p| p.helpers.get(slot))
            .cloned()
            .flatten();
        let Some(helper) = helper else {
            return Err(self.broken(Rule::UnexpectedCall, "a helper is called that was not resolved"));
        };
        if running != program {
            let other = self.program_name(program).to_owned();
            return Err(self.broken(
                Rule::ForeignHelper,
                format!("{} of program {other} is called", helper.name),
            ));
        }
        if context != self.state.context {
            let place = self.memory.place(context);
            return Err(self.broken(
                Rule::HelperContext,
                format!("the sixth argument of {} is {place}, not the context", helper.name),
            ));
        }
        self.run_helper(program, &helper, arguments)
    }

    /// Runs a helper for a program that is running.
    pub fn run_helper(&mut self, program: usize, helper: &Helper, arguments: [u64; 5]) -> Result<u64, SimulatorError> {
        *self.state.calls.entry((program, helper.id)).or_insert(0) += 1;
        if self.request.echo_helpers.contains(&helper.id) {
            return Ok(arguments[0]);
        }
        let map = self.check_arguments(helper, &arguments)?;
        let call = Call {
            helper,
            program,
            arguments,
            map,
        };
        if helper.id <= self.platform.limits.max_general_helper_id {
            self.general_helper(&call)
        } else {
            self.specific_helper(&call)
        }
    }

    /// Checks that pointers are what the prototype says, and finds the map among them.
    fn check_arguments(&self, helper: &Helper, arguments: &[u64; 5]) -> Result<Option<usize>, SimulatorError> {
        let bad = |position: usize, what: &str, address: u64| {
            let place = self.memory.place(address);
            self.broken(
                Rule::HelperArgument,
                format!(
                    "argument {} of {} must be {what}; it is {place}",
                    position + 1,
                    helper.name
                ),
            )
        };
        let mut map = None;
        for (i, (&kind, &value)) in helper.arguments.iter().zip(arguments).enumerate() {
            let size_after = || arguments.get(i + 1).copied().unwrap_or(0);
            let optional = matches!(
                kind,
                argument::READABLE_OR_NULL | argument::WRITABLE_OR_NULL | argument::READONLY_OR_NULL
            );
            match kind {
                0 => break,
                argument::MAP | argument::MAP_OF_PROGRAMS | argument::CONST_MAP => {
                    map = Some(self.maps.by_address(value).ok_or_else(|| bad(i, "a map", value))?);
                }
                argument::KEY | argument::VALUE | argument::UNINIT_VALUE => {
                    let Some(map) = map.and_then(|m| self.maps.list.get(m)) else {
                        continue;
                    };
                    let (size, what) = if kind == argument::KEY {
                        (
                            map.key_size(),
                            format!("a key of map {} ({} readable bytes)", map.name, map.key_size()),
                        )
                    } else {
                        (
                            map.value_size(),
                            format!("a value of map {} ({} bytes)", map.name, map.value_size()),
                        )
                    };
                    // Pop and peek write through what their prototype calls readable.
                    let written = kind == argument::UNINIT_VALUE || matches!(helper.id, 17 | 18);
                    let fine = if written {
                        self.memory.program_may_write(value, size)
                    } else {
                        self.memory.program_may_read(value, size)
                    };
                    if !fine {
                        return Err(bad(i, &what, value));
                    }
                }
                argument::CONTEXT if value != self.state.context => return Err(bad(i, "the context", value)),
                argument::CONTEXT_OR_NULL if value != 0 && value != self.state.context => {
                    return Err(bad(i, "the context or NULL", value));
                }
                _ if optional && value == 0 => {}
                argument::READABLE | argument::READABLE_OR_NULL | argument::READONLY | argument::READONLY_OR_NULL => {
                    let size = size_after();
                    if !self
                        .memory
                        .program_may_read(value, usize::try_from(size).unwrap_or(usize::MAX))
                    {
                        return Err(bad(i, &format!("{size} readable bytes"), value));
                    }
                }
                argument::WRITABLE | argument::WRITABLE_OR_NULL => {
                    let size = size_after();
                    if !self
                        .memory
                        .program_may_write(value, usize::try_from(size).unwrap_or(usize::MAX))
                    {
                        return Err(bad(i, &format!("{size} writable bytes"), value));
                    }
                }
                argument::CONST_SIZE if value == 0 => {
                    return Err(self.broken(
                        Rule::HelperArgument,
                        format!("argument {} of {} must be a size above 0", i + 1, helper.name),
                    ));
                }
                argument::LONG if !self.memory.program_may_write(value, 8) => {
                    return Err(bad(i, "8 writable bytes", value));
                }
                argument::INT if !self.memory.program_may_write(value, 4) => {
                    return Err(bad(i, "4 writable bytes", value));
                }
                argument::STACK if !self.memory.program_may_write(value, 1) => {
                    return Err(bad(i, "on the stack", value));
                }
                _ => {}
            }
        }
        // These two use the map without looking at its type: with another one the machine stops.
        let needed = match helper.id {
            11 => Some(kind::RINGBUF),
            32 => Some(kind::PERF_EVENT_ARRAY),
            _ => None,
        };
        if let (Some(needed), Some(map)) = (needed, map.and_then(|m| self.maps.list.get(m)))
            && map.kind() != needed
        {
            return Err(self.broken(
                Rule::HelperArgument,
                format!("{} is given map {} of type {}", helper.name, map.name, map.kind()),
            ));
        }
        Ok(map)
    }

    /// Bytes that the argument checks have found readable.
    fn bytes(&self, address: u64, length: u64) -> Vec<u8> {
        self.memory
            .read(address, usize::try_from(length).unwrap_or(0))
            .unwrap_or_default()
    }

    /// Writes bytes that the argument checks have found writable.
    fn put(&mut self, call: &Call<'_>, address: u64, bytes: &[u8]) -> Result<(), SimulatorError> {
        if self.memory.write(address, bytes) {
            return Ok(());
        }
        let place = self.memory.place(address);
        Err(self.broken(
            Rule::HelperArgument,
            format!("{} writes {} bytes to {place}", call.helper.name, bytes.len()),
        ))
    }
}
