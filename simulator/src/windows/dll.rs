//! A DLL's life: `DllMain`, and the module found by the DLL's export (native module contract §3). Nothing attaches by itself:
//! who loads the DLL hands its metadata table to the runtime.

use super::kernel::{Activity, Kernel};
use crate::error::SimulatorError;
use crate::rule::Rule;

/// Reasons that `DllMain` is given.
const DLL_PROCESS_ATTACH: u64 = 1;
const DLL_PROCESS_DETACH: u64 = 0;

/// A DLL in memory.
#[derive(Clone, Copy, Debug)]
pub struct Dll {
    /// Its function `get_metadata_table`.
    pub metadata_function: u64,
}

impl Kernel {
    /// Runs `DllMain`, and takes the module as the runtime does when a driver attaches.
    pub fn start_dll(&mut self, dll: Dll) -> Result<(), SimulatorError> {
        self.dll_main(DLL_PROCESS_ATTACH, "DLL_PROCESS_ATTACH")?;
        let table = self.metadata_table(dll)?;
        self.nmr.tables = Some(self.read_metadata(table)?);
        Ok(())
    }

    /// Takes the module once more, which must be the same, and runs `DllMain` as when the DLL is unloaded.
    pub fn stop_dll(&mut self, dll: Dll) -> Result<(), SimulatorError> {
        let table = self.metadata_table(dll)?;
        let shown = self.read_metadata(table)?;
        if self.nmr.tables.as_ref() != Some(&shown) {
            return Err(self.broken(Rule::UnstableMetadata, "other tables are shown the second time"));
        }
        self.dll_main(DLL_PROCESS_DETACH, "DLL_PROCESS_DETACH")
    }

    fn metadata_table(&mut self, dll: Dll) -> Result<u64, SimulatorError> {
        self.call(dll.metadata_function, &[], Activity::MetadataTable)
    }

    fn dll_main(&mut self, reason: u64, name: &str) -> Result<(), SimulatorError> {
        let (base, entry) = (self.image.base, self.image.entry);
        if entry == base {
            return Ok(());
        }
        let result = self.call(entry, &[base, reason, 0], Activity::DllMain)?;
        // Windows takes it for a BOOLEAN, which is a byte.
        if result as u8 == 0 {
            return Err(self.broken(
                Rule::DllMain,
                format!("DllMain({name}) returned {:#010x}", result as u32),
            ));
        }
        Ok(())
    }
}
