//! What a program runs in.

use bpf2sys_bytecode::{BtfFunctionIndex, FunctionIndex, GlobalIndex, InsnIndex, MapIndex, Reg};

/// What a program runs in: memory, helpers, maps and global variables. Addresses are whatever the world says they are.
pub trait World {
    /// Why a helper could not be run. It ends the execution.
    type Error: std::error::Error;

    /// Fills `bytes` with the memory at `address`. Nothing that the program may not read is given.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Denied>;

    /// Writes `bytes` at `address`, all or nothing.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Denied>;

    /// Whether some of these bytes, which the program may read, were never written. Only asked with [`Undefined::Tracked`].
    ///
    /// [`Undefined::Tracked`]: super::Undefined::Tracked
    fn is_undefined(&mut self, _address: u64, _length: u32) -> bool {
        false
    }

    /// Writes a value that nothing may depend on; only with [`Undefined::Tracked`]. Refused where others see it.
    ///
    /// [`Undefined::Tracked`]: super::Undefined::Tracked
    fn write_undefined(&mut self, _address: u64, _length: u32) -> Result<(), Denied> {
        Err(Denied {
            near: "a value that nothing has written would be seen by others".to_owned(),
        })
    }

    /// Calls the helper `id` with `r1` to `r5`. Registers without a value are given as 0: which of them a helper looks at,
    /// the world knows.
    fn helper(&mut self, id: i32, arguments: [u64; 5]) -> Result<HelperResult, Self::Error>;

    /// Calls a function of another Windows module with `r1` to `r5`, given as for helpers, and gives `r0`; `None` if the world
    /// has no such functions.
    fn btf_function(&mut self, _function: BtfFunctionIndex, _arguments: [u64; 5]) -> Result<Option<u64>, Self::Error> {
        Ok(None)
    }

    /// Told before each instruction what it finds. For judges of what was said about the program beforehand.
    fn executing(&mut self, _at: &At<'_>) {}

    /// The address that stands for a map; `None` if the program has no such map.
    fn map_address(&mut self, map: MapIndex) -> Option<u64>;

    /// The address of the first byte of a global variable section.
    fn global_address(&mut self, section: GlobalIndex) -> Option<u64>;
}

/// The state of an execution before an instruction.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The function that runs.
    pub function: FunctionIndex,
    /// The instruction that is about to be executed.
    pub instruction: InsnIndex,
    /// `r0` to `r10`; `None` is a register without a value.
    pub registers: &'a [Option<u64>; Reg::COUNT],
    /// Functions that are active, from 1.
    pub frames: u32,
}

/// What a helper gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelperResult {
    /// `r0`.
    Returned(u64),
    /// The whole program ends here, whatever function it is in, and the runtime gets this value: a tail call that
    /// succeeded.
    Ends(u64),
}

/// The program may not access these bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What is there or near: `the packet+0x40`, `read-only memory "table"`.
    pub near: String,
}
