//! Which stand-in an import runs, and the memory functions of the C library among them.

use super::kernel::Kernel;
use super::thunks::Import;
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::rule::Rule;

impl Kernel {
    /// Runs a stand-in that the image imports.
    pub fn import(&mut self, import: Import) -> Result<u64, SimulatorError> {
        let mut a = [0u64; 5];
        for (i, argument) in a.iter_mut().enumerate().take(import.arguments()) {
            *argument = self.argument(i)?;
        }
        match import {
            Import::RtlQueryRegistryValues => self.query_registry_values(a[0], a[1], a[2], a[3]).map(u64::from),
            Import::NmrRegisterClient => self.register_client(a[0], a[1], a[2]).map(u64::from),
            Import::NmrClientAttachProvider => self.client_attach_provider(a).map(u64::from),
            Import::NmrDeregisterClient => self.deregister_client(a[0]).map(u64::from),
            Import::NmrWaitForClientDeregisterComplete => self.wait_for_deregister(a[0]).map(u64::from),
            Import::Memmove => {
                let bytes = self.read_argument(a[1], a[2], "the source of memcpy")?;
                self.write_argument(a[0], &bytes, "the destination of memcpy")?;
                Ok(a[0])
            }
            Import::Memset => {
                let length = usize::try_from(a[2]).unwrap_or(usize::MAX);
                if !self.memory.fill(a[0], length, a[1] as u8) {
                    let place = self.memory.place(a[0]);
                    return Err(self.broken(Rule::WildPointer, format!("memset of {length} bytes at {place}")));
                }
                Ok(a[0])
            }
            Import::Memcmp => {
                let left = self.read_argument(a[0], a[2], "the first argument of memcmp")?;
                let right = self.read_argument(a[1], a[2], "the second argument of memcmp")?;
                Ok(u64::from(left.cmp(&right) as i32 as u32))
            }
        }
    }

    pub(super) fn read_argument(&self, address: u64, length: u64, what: &str) -> Result<Vec<u8>, SimulatorError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.memory.read(address, length).ok_or_else(|| {
            self.broken(
                Rule::WildPointer,
                format!("{what}, {length} bytes, is {}", self.memory.place(address)),
            )
        })
    }

    pub(super) fn write_argument(&mut self, address: u64, bytes: &[u8], what: &str) -> Result<(), SimulatorError> {
        if self.memory.write(address, bytes) {
            return Ok(());
        }
        let place = self.memory.place(address);
        Err(self.broken(Rule::WildPointer, format!("{what}, {} bytes, is {place}", bytes.len())))
    }
}
