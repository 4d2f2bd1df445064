//! The driver's life: `DriverEntry` with its driver object, and `DriverUnload` (native module contract §2.3).

use zerocopy::{FromZeros, IntoBytes};

use super::kernel::{Activity, Kernel, Stack, no_memory};
use super::memory::{Memory, OutOfMemory, PAGE, Use};
use super::registry::{REGISTRY_PATH, utf16};
use super::{mapping, status};
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::failure::Sabotage;
use crate::rule::Rule;
use crate::tables::UnicodeString;

/// Offset of `DriverUnload` in `DRIVER_OBJECT`, and the structure's size.
const DRIVER_UNLOAD: usize = 0x68;
const DRIVER_OBJECT_SIZE: usize = 336;

/// A started driver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Driver {
    /// Its driver object.
    object: u64,
    /// Its `DriverUnload`.
    unload: u64,
}

impl Kernel {
    /// Runs `DriverEntry`. Gives its status; a failure is an answer only to sabotage that makes it fail.
    pub fn start_driver(&mut self) -> Result<u32, SimulatorError> {
        let path = utf16(REGISTRY_PATH);
        let buffer = self.allocate_bytes(&path, "the registry path")?;
        let mut string: UnicodeString = UnicodeString::new_zeroed();
        string.length.set(path.len() as u16 - 2);
        string.maximum_length.set(path.len() as u16);
        string.buffer.set(buffer);
        let string = self.allocate_bytes(string.as_bytes(), "the registry path's UNICODE_STRING")?;
        let mut object = vec![0u8; DRIVER_OBJECT_SIZE];
        object[0] = 4; // IO_TYPE_DRIVER
        object[2..4].copy_from_slice(&(DRIVER_OBJECT_SIZE as u16).to_le_bytes());
        object[0x18..0x20].copy_from_slice(&self.image.base.to_le_bytes());
        object[0x20..0x24].copy_from_slice(&(self.image.size as u32).to_le_bytes());
        object[0x58..0x60].copy_from_slice(&self.image.entry.to_le_bytes());
        let driver = self.allocate_bytes(&object, "the DRIVER_OBJECT")?;
        let before = object;

        let entry = self.image.entry;
        let status = self.call(entry, &[driver, string], Activity::DriverEntry)? as u32;
        mapping::discard(&self.image, &mut self.memory)?;

        let object = self.memory.read(driver, DRIVER_OBJECT_SIZE).unwrap_or_default();
        let unload = self.memory.read_u64(driver + DRIVER_UNLOAD as u64).unwrap_or(0);
        let mut expected = before;
        expected[DRIVER_UNLOAD..DRIVER_UNLOAD + 8].copy_from_slice(&unload.to_le_bytes());
        if object != expected {
            return Err(self.broken(
                Rule::DriverEntry,
                "DriverEntry changed more of the driver object than DriverUnload",
            ));
        }
        let expected = match self.request.sabotage {
            Sabotage::ModuleIdMissing => status::OBJECT_NAME_NOT_FOUND,
            Sabotage::ModuleIdWrongType | Sabotage::ModuleIdWrongLength | Sabotage::ModuleIdTooLong => {
                status::INVALID_PARAMETER
            }
            Sabotage::RegistryQueryFails(status) | Sabotage::RegisterClientFails(status) => status,
            _ => status::SUCCESS,
        };
        if status != expected {
            return Err(self.broken(
                Rule::DriverEntry,
                format!("DriverEntry returned {status:#010x} where {expected:#010x} was due"),
            ));
        }
        if status != status::SUCCESS {
            if unload != 0 {
                return Err(self.broken(Rule::DriverEntry, "DriverUnload is set although DriverEntry failed"));
            }
            if self.nmr.client.is_some() {
                return Err(self.broken(Rule::DriverEntry, "DriverEntry failed and left its client registered"));
            }
            return Ok(status);
        }
        if !self.image.is_code(unload) {
            let place = self.memory.place(unload);
            return Err(self.broken(Rule::DriverEntry, format!("DriverUnload is {place}")));
        }
        if self.nmr.client.is_none() {
            return Err(self.broken(Rule::DriverEntry, "DriverEntry succeeded without NmrRegisterClient"));
        }
        self.driver = Driver { object: driver, unload };
        Ok(status)
    }

    /// Runs `DriverUnload` and takes the driver's image away. Where nothing else is to be seen, the provider detaches and
    /// attaches again before, as when ebpfcore restarts.
    pub fn stop_driver(&mut self) -> Result<(), SimulatorError> {
        if self.nmr.attached && self.request.sabotage == Sabotage::None {
            self.detach()?;
            self.attach()?;
            if !self.nmr.attached {
                return Err(self.broken(
                    Rule::ClientDetach,
                    "after a detach, the next provider was not attached to",
                ));
            }
        }
        let Driver { object, unload } = self.driver;
        self.call(unload, &[object], Activity::Unload)?;
        if self.nmr.deregistered.is_none() {
            return Err(self.broken(Rule::DriverUnload, "DriverUnload did not call NmrDeregisterClient"));
        }
        if self.nmr.client.is_some() {
            return Err(self.broken(
                Rule::DriverUnload,
                "DriverUnload returned while the deregistration was pending",
            ));
        }
        self.unload_image()
    }
}

/// The kernel stack: readable and writable pages between guard pages.
pub fn make_stack(memory: &mut Memory, bytes: u32) -> Result<Stack, SimulatorError> {
    let length = (bytes as usize).clamp(2 * PAGE, 1 << 20).next_multiple_of(PAGE);
    let bottom = memory
        .allocate(length, PAGE, "the kernel stack", Use::ReadWrite)
        .map_err(|OutOfMemory| no_memory("the kernel stack"))?;
    Ok(Stack {
        bottom,
        top: bottom + length as u64,
        used: length,
    })
}
