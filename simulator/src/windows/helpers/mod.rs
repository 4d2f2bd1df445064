//! Helpers: argument checks by prototype, then the runtime's semantics.
//!
//! Helpers that the runtime declares with a 32-bit result return it zero-extended, as their code does on x64; those
//! declared 64-bit return negative codes sign-extended.

mod arguments;
mod btf;
mod general;
mod print;
mod sample;
mod specific;

use bpf2sys_platform::Helper;

use super::kernel::{Activity, Kernel};
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::request::{Answer, Reload};
use crate::rule::Rule;
pub use arguments::Prototype;

/// Id of `bpf_tail_call`.
pub const TAIL_CALL: u32 = 5;

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

impl Call<'_> {
    /// Nobody has said what the helper does.
    fn no_stand_in(&self) -> SimulatorError {
        SimulatorError::NoStandIn {
            helper: self.helper.name.clone(),
            id: self.helper.id,
        }
    }
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
        let helper = self.module.programs.get(program).and_then(|p| p.helpers.get(slot));
        let Some(helper) = helper.cloned().flatten() else {
            return Err(self.broken(Rule::UnexpectedCall, "a helper is called that was not resolved"));
        };
        let arguments = self.table_call(program, &helper.name)?;
        self.run_helper(program, &helper, arguments)
    }

    /// What native code passes to a function that the tables of `program` lead to: the first five of its arguments. The
    /// sixth, always there, is the context.
    fn table_call(&self, program: usize, name: &str) -> Result<[u64; 5], SimulatorError> {
        let mut arguments = [0u64; 5];
        for (i, argument) in arguments.iter_mut().enumerate() {
            *argument = self.argument(i)?;
        }
        let context = self.argument(5)?;
        let running = match self.activities.last() {
            Some(Activity::Program(running)) => *running,
            _ => {
                return Err(self.broken(Rule::UnexpectedCall, format!("{name} is called outside of a program")));
            }
        };
        if running != program {
            let other = self.program_name(program).to_owned();
            return Err(self.broken(Rule::ForeignHelper, format!("{name} of program {other} is called")));
        }
        if context != self.state.context {
            let place = self.memory.place(context);
            return Err(self.broken(
                Rule::HelperContext,
                format!("the sixth argument of {name} is {place}, not the context"),
            ));
        }
        Ok(arguments)
    }

    /// Native code has called an address that was in a table and is there no more.
    pub fn former_address(&self) -> SimulatorError {
        let what = "a helper or BTF-resolved function is called at an address that its table no longer has";
        self.broken(Rule::FormerAddress, what)
    }

    /// Runs a helper for a program that is running.
    pub fn run_helper(&mut self, program: usize, helper: &Helper, arguments: [u64; 5]) -> Result<u64, SimulatorError> {
        *self.state.calls.entry((program, helper.id)).or_insert(0) += 1;
        if self.request.echo_helpers.contains(&helper.id) {
            return Ok(arguments[0]);
        }
        let prototype = Prototype::of(helper);
        let map = self.check_arguments(&prototype, &arguments)?;
        let call = Call {
            helper,
            program,
            arguments,
            map,
        };
        let value = if let Some(value) = self.failed_call(program, Some(helper.id), &prototype) {
            value
        } else if let Some(value) = self.stated_result(&prototype, &arguments, map)? {
            value
        } else if helper.id <= self.platform.limits.max_general_helper_id {
            self.general_helper(&call)?
        } else {
            self.specific_helper(&call)?
        };
        self.after_call(program)?;
        Ok(value)
    }

    /// What the request says that a function gives; what it says that the function writes is written.
    fn stated_result(
        &mut self,
        prototype: &Prototype<'_>,
        arguments: &[u64; 5],
        map: Option<usize>,
    ) -> Result<Option<u64>, SimulatorError> {
        let Some(answer) = self.next_answer(prototype.name()) else {
            return Ok(None);
        };
        if answer.result != 0 && prototype.gives_map_value() {
            let name = prototype.name();
            let message = format!("{name} gives a pointer to a map's value; only null (0) can be said of it");
            return Err(SimulatorError::Request(message));
        }
        if let Some(bytes) = &answer.writes {
            for (address, size) in self.outputs(prototype, arguments, map) {
                // The argument checks have found it writable, which bounds it.
                let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
                let length = content.len().min(bytes.0.len());
                content[..length].copy_from_slice(&bytes.0[..length]);
                self.put(prototype.name(), address, &content)?;
            }
        }
        Ok(Some(answer.result))
    }

    /// The answer to this call of a function, if the request has any.
    fn next_answer(&mut self, function: &str) -> Option<Answer> {
        let mut answers = self
            .request
            .answers
            .iter()
            .filter(|a| a.function == function)
            .peekable();
        let mut answer = answers.next()?;
        let answered = self.state.answered.entry(function.to_owned()).or_default();
        let mut before = *answered;
        *answered += 1;
        while before >= answer.times.max(1)
            && let Some(next) = answers.next()
        {
            before -= answer.times.max(1);
            answer = next;
        }
        Some(answer.clone())
    }

    /// A provider may come back at any time, and then its functions have other addresses.
    fn after_call(&mut self, program: usize) -> Result<(), SimulatorError> {
        if self.request.reload == Reload::EachCall {
            self.reload_addresses(program)?;
        }
        Ok(())
    }

    /// Bytes that the argument checks have found readable.
    fn bytes(&self, address: u64, length: u64) -> Vec<u8> {
        self.memory
            .read(address, usize::try_from(length).unwrap_or(0))
            .unwrap_or_default()
    }

    /// Writes bytes that the argument checks have found writable.
    fn put(&mut self, function: &str, address: u64, bytes: &[u8]) -> Result<(), SimulatorError> {
        if self.memory.write(address, bytes) {
            return Ok(());
        }
        let place = self.memory.place(address);
        Err(self.broken(
            Rule::HelperArgument,
            format!("{function} writes {} bytes to {place}", bytes.len()),
        ))
    }
}
