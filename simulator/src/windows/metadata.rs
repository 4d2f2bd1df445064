//! What the provider does while a module attaches: it copies the metadata table, calls its functions and checks what they
//! return, in the runtime's order (native module contract §4.1).

use super::kernel::{Activity, Kernel};
use super::memory::Use;
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::kernel_tables::{self, Array, Tables};
use crate::request::SimulatedRuntime;
use crate::rule::Rule;
use crate::tables::{MetadataTable, Version};

impl Kernel {
    /// Every check of the provider's attach callback, in its order.
    pub(super) fn read_metadata(&mut self, dispatch: u64) -> Result<(Tables, (u32, u32, u32)), SimulatorError> {
        if dispatch == 0 {
            return Err(self.broken(Rule::MetadataTable, "no metadata table is offered"));
        }
        let size = self.memory.read_u64(dispatch).ok_or_else(|| {
            self.broken(
                Rule::WildPointer,
                format!("the metadata table is {}", self.memory.place(dispatch)),
            )
        })?;
        let mut copy = [0u8; 56];
        let length = size.min(56) as usize;
        let bytes = self.read_argument(dispatch, length as u64, "the metadata table")?;
        copy[..length].copy_from_slice(&bytes);
        let table: MetadataTable = zerocopy::FromBytes::read_from_bytes(&copy)
            .map_err(|_| self.broken(Rule::MetadataTable, "the metadata table has another size"))?;
        kernel_tables::check_metadata(&table).map_err(|v| self.refuse(v))?;

        let version = self.allocate(12, "the version", Use::Kernel)?;
        self.metadata_function("version", table.version.get(), &[version])?;
        let stated: Version = self
            .memory
            .read_as(version, "the version")
            .map_err(|v| self.refuse(v))?;
        self.memory.free(version);
        let stated = kernel_tables::check_version(&stated).map_err(|v| self.refuse(v))?;

        let mut tables = Tables::default();
        let sizes: &[u64] = match self.request.runtime {
            SimulatedRuntime::V1_6 => &kernel_tables::PROGRAM_SIZES,
            _ => &kernel_tables::PROGRAM_SIZES[..1],
        };
        let array = self.metadata_array("programs", table.programs.get())?;
        tables.programs = kernel_tables::read_programs(&self.memory, array, sizes).map_err(|v| self.refuse(v))?;
        let array = self.metadata_array("maps", table.maps.get())?;
        tables.maps = kernel_tables::read_maps(&self.memory, array).map_err(|v| self.refuse(v))?;
        let array = self.metadata_array("map_initial_values", table.initial_values.get())?;
        tables.initial_values = kernel_tables::read_initial_values(&self.memory, array).map_err(|v| self.refuse(v))?;
        let array = self.metadata_array("global_variable_sections", table.global_sections.get())?;
        tables.global_sections =
            kernel_tables::read_global_sections(&self.memory, array).map_err(|v| self.refuse(v))?;
        // The kernel never calls the hash getter, but a module must have it (user mode tools do).
        if table.hash.get() != 0 {
            let array = self.metadata_array("hash", table.hash.get())?;
            if array.count > 0 && self.memory.read(array.pointer, array.count.min(64) as usize).is_none() {
                let place = self.memory.place(array.pointer);
                return Err(self.broken(Rule::WildPointer, format!("the ELF hash points to {place}")));
            }
        }
        Ok((tables, stated))
    }

    /// Calls a getter twice: it must say the same each time.
    fn metadata_array(&mut self, name: &'static str, function: u64) -> Result<Array, SimulatorError> {
        let mut seen = None;
        for _ in 0..2 {
            let out = self.allocate_bytes(&[0xA5; 16], "the results of a metadata function")?;
            self.metadata_function(name, function, &[out, out + 8])?;
            let array = Array {
                pointer: self.memory.read_u64(out).unwrap_or(0),
                count: self.memory.read_u64(out + 8).unwrap_or(0),
            };
            self.memory.free(out);
            if seen.replace(array).is_some_and(|before| before != array) {
                return Err(self.broken(Rule::UnstableMetadata, format!("{name} gives two different answers")));
            }
        }
        Ok(seen.unwrap_or_default())
    }

    fn metadata_function(&mut self, name: &'static str, function: u64, out: &[u64]) -> Result<(), SimulatorError> {
        if !self.image.is_code(function) {
            let place = self.memory.place(function);
            return Err(self.broken(Rule::WildPointer, format!("the metadata function {name} is {place}")));
        }
        self.call(function, out, Activity::Metadata(name)).map(drop)
    }
}
