//! The reference interpreter as an engine, as strict as can be: a program that reads what it did not write is an error, be
//! it a register or a byte of its stack. The outcome of a program that it accepts depends on nothing undefined.

use bpf2sys_bytecode::{FunctionIndex, GlobalIndex, MapIndex};
use bpf2sys_simulator::interpreter::{self, Denied, Entry, HelperResult, Options, STACK_BYTES, World};

use crate::engine::{Case, Engine, Outcome};
use crate::helpers;

/// Most instructions that a program executes.
const MAX_STEPS: u64 = 100_000;

/// The interpreter.
#[derive(Clone, Copy, Debug)]
pub struct StrictInterpreter {
    /// Address of the memory.
    memory: u64,
    /// Address of the end of the stack.
    stack_end: u64,
}

impl StrictInterpreter {
    /// An interpreter that gives programs these addresses, 8-aligned, for their memory and for the end of their stack. Valid
    /// programs do the same with any.
    pub fn at(memory: u64, stack_end: u64) -> StrictInterpreter {
        StrictInterpreter { memory, stack_end }
    }

    fn execute(self, case: &Case) -> Result<Outcome, String> {
        let mut world = Memory {
            memory: Region {
                start: self.memory,
                bytes: case.memory.iter().copied().map(Some).collect(),
            },
            stack: Region {
                start: self.stack_end - STACK_BYTES,
                bytes: vec![None; STACK_BYTES as usize],
            },
        };
        let arguments = [self.memory, case.memory.len() as u64];
        let entry = Entry::new(FunctionIndex(0), &arguments, self.stack_end);
        let options = Options {
            max_steps: MAX_STEPS,
            ..Options::default()
        };
        let outcome = interpreter::interpret(&case.module, &entry, &mut world, options).map_err(|e| e.to_string())?;
        Ok(Outcome {
            r0: outcome.r0,
            memory: world.memory.bytes.into_iter().flatten().collect(),
        })
    }
}

impl Default for StrictInterpreter {
    fn default() -> Self {
        StrictInterpreter::at(0x1000_0000, 0x7FFF_0000_0000)
    }
}

impl Engine for StrictInterpreter {
    fn name(&self) -> &'static str {
        "interpreter"
    }

    fn run(&mut self, cases: &[Case]) -> Vec<Result<Outcome, String>> {
        cases.iter().map(|case| self.execute(case)).collect()
    }
}

/// Bytes at an address; `None` were not written yet.
struct Region {
    start: u64,
    bytes: Vec<Option<u8>>,
}

impl Region {
    /// The bytes at these addresses, if all are here.
    fn at(&mut self, address: u64, length: usize) -> Option<&mut [Option<u8>]> {
        let from = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.bytes.get_mut(from..from.checked_add(length)?)
    }
}

/// What programs can access.
struct Memory {
    memory: Region,
    stack: Region,
}

/// Why a helper cannot be run.
#[derive(Debug, thiserror::Error)]
enum HelperError {
    #[error("helper {0} is none of those that generated programs call")]
    Unknown(i32),
    #[error("a helper is passed {0} as a size")]
    Size(u64),
    #[error("a helper is passed memory that is not there or was not written ({})", .0.near)]
    Memory(Denied),
}

/// The size of something that a program passes to a helper; shrunk programs may pass anything.
fn size(bytes: u64) -> Result<usize, HelperError> {
    match usize::try_from(bytes) {
        Ok(size) if bytes <= STACK_BYTES => Ok(size),
        _ => Err(HelperError::Size(bytes)),
    }
}

impl Memory {
    fn find(&mut self, address: u64, length: usize) -> Result<&mut [Option<u8>], Denied> {
        let found = match self.memory.at(address, length) {
            Some(found) => Some(found),
            None => self.stack.at(address, length),
        };
        found.ok_or_else(|| Denied {
            near: "neither in the memory nor in the stack".to_owned(),
        })
    }

    fn bytes(&mut self, address: u64, length: u64) -> Result<Vec<u8>, HelperError> {
        let mut bytes = vec![0; size(length)?];
        self.read(address, &mut bytes).map_err(HelperError::Memory)?;
        Ok(bytes)
    }
}

impl World for Memory {
    type Error = HelperError;

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Denied> {
        let found = self.find(address, bytes.len())?;
        for (byte, found) in bytes.iter_mut().zip(found) {
            *byte = found.ok_or_else(|| Denied {
                near: "a byte of the stack that was not written".to_owned(),
            })?;
        }
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Denied> {
        let found = self.find(address, bytes.len())?;
        for (byte, found) in bytes.iter().zip(found) {
            *found = Some(*byte);
        }
        Ok(())
    }

    fn helper(&mut self, id: i32, arguments: [u64; 5]) -> Result<HelperResult, HelperError> {
        let [r1, r2, r3, r4, r5] = arguments;
        let result = match id {
            helpers::CSUM_DIFF => {
                let (from, to) = (self.bytes(r1, r2)?, self.bytes(r3, r4)?);
                helpers::csum_diff(&from, &to, r5)
            }
            helpers::STRNCPY_S => {
                let from = self.bytes(r3, r4)?;
                let (written, result) = helpers::strncpy_s(size(r2)?, &from);
                self.write(r1, &written).map_err(HelperError::Memory)?;
                result
            }
            helpers::UNWIND if r1 == 0 => return Ok(HelperResult::Ends(0)),
            helpers::UNWIND => r1,
            id => return Err(HelperError::Unknown(id)),
        };
        Ok(HelperResult::Returned(result))
    }

    fn map_address(&mut self, _map: MapIndex) -> Option<u64> {
        None
    }

    fn global_address(&mut self, _section: GlobalIndex) -> Option<u64> {
        None
    }
}
