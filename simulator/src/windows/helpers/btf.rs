//! BTF-resolved functions: those of the sample extension with its semantics, others with the results that the request
//! gives them (native module contract §4.7).

use bpf2sys_platform::BtfFunction;

use super::arguments::Prototype;
use crate::error::SimulatorError;
use crate::rule::Rule;
use crate::windows::kernel::Kernel;

impl Kernel {
    /// Runs the function in a slot of a program's table, which native code has called.
    pub fn btf_function(&mut self, program: usize, slot: usize) -> Result<u64, SimulatorError> {
        let function = self
            .module
            .programs
            .get(program)
            .and_then(|p| p.btf_functions.get(slot));
        let Some(function) = function.cloned().flatten() else {
            return Err(self.broken(Rule::UnexpectedCall, "a function is called that was not resolved"));
        };
        let arguments = self.table_call(program, &function.name)?;
        self.run_btf_function(program, slot, &function, arguments)
    }

    /// Runs a function for a program that is running.
    pub fn run_btf_function(
        &mut self,
        program: usize,
        slot: usize,
        function: &BtfFunction,
        arguments: [u64; 5],
    ) -> Result<u64, SimulatorError> {
        *self.state.btf_calls.entry((program, slot)).or_insert(0) += 1;
        let prototype = Prototype::of_btf(function);
        let map = self.check_arguments(&prototype, &arguments)?;
        let stated = match self.failed_call(program, None, &prototype) {
            Some(value) => Some(value),
            None => self.stated_result(&prototype, &arguments, map)?,
        };
        let value = match (stated, function.name.as_str()) {
            (Some(value), _) => value,
            (None, "sample_ebpf_extension_btf_lookup") => self.sample_lookup(&function.name, arguments)?,
            (None, _) => 0,
        };
        self.after_call(program)?;
        Ok(value)
    }

    /// Gives the key back as the value, where there is room for its 8 bytes, and returns the key plus the room.
    fn sample_lookup(&mut self, name: &str, [key, value, size, ..]: [u64; 5]) -> Result<u64, SimulatorError> {
        if size >= 8 {
            self.put(name, value, &key.to_le_bytes())?;
        }
        Ok(key.wrapping_add(size))
    }
}
