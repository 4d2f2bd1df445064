//! Stand-in for `RtlQueryRegistryValues`: the table it is given, and the one value there is (native module contract §2.2).

use super::kernel::{Activity, Kernel};
use super::status;
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::failure::Sabotage;
use crate::rule::Rule;
use crate::tables::QueryRow;

/// The driver's key.
pub const REGISTRY_PATH: &str = r"\Registry\Machine\System\CurrentControlSet\Services\module";

const REG_SZ: u32 = 1;
const REG_BINARY: u32 = 3;
/// `RTL_QUERY_REGISTRY_SUBKEY`.
const QUERY_SUBKEY: u32 = 1;
/// `RTL_QUERY_REGISTRY_REQUIRED`.
const QUERY_REQUIRED: u32 = 4;

/// UTF-16 bytes with a terminator.
pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

impl Kernel {
    fn read_utf16(&self, address: u64, what: &str) -> Result<String, SimulatorError> {
        let mut units = Vec::new();
        for i in 0..260 {
            let unit = self.read_argument(address.wrapping_add(2 * i), 2, what)?;
            match u16::from_le_bytes([unit[0], unit[1]]) {
                0 => return Ok(String::from_utf16_lossy(&units)),
                unit => units.push(unit),
            }
        }
        Err(self.broken(Rule::QueryTable, format!("{what} does not end")))
    }

    pub(super) fn query_registry_values(
        &mut self,
        base: u64,
        path: u64,
        table: u64,
        context: u64,
    ) -> Result<u32, SimulatorError> {
        if self.activities.last() != Some(&Activity::DriverEntry) {
            return Err(self.broken(Rule::UnexpectedCall, "RtlQueryRegistryValues outside of DriverEntry"));
        }
        if let Sabotage::RegistryQueryFails(status) = self.request.sabotage {
            self.met();
            return Ok(status);
        }
        if base as u32 != 0 {
            return Err(self.broken(Rule::QueryTable, format!("RelativeTo is {}, not ABSOLUTE", base as u32)));
        }
        let key = self.read_utf16(path, "the registry path")?;
        if key != REGISTRY_PATH {
            return Err(self.broken(
                Rule::QueryTable,
                format!("the path is {key:?}, not the driver's own key"),
            ));
        }
        let mut subkey: Option<String> = None;
        for index in 0..32u64 {
            let row: QueryRow = self
                .memory
                .read_as(
                    table.wrapping_add(56 * index),
                    &format!("row {index} of the query table"),
                )
                .map_err(|v| self.refuse(v))?;
            let (routine, flags, name) = (row.routine.get(), row.flags.get(), row.name.get());
            let bad = |kernel: &Kernel, what: String| kernel.broken(Rule::QueryTable, format!("row {index}: {what}"));
            if routine == 0 && name == 0 {
                if flags != 0 {
                    return Err(bad(self, format!("the terminator has flags {flags:#x}")));
                }
                return Ok(status::SUCCESS);
            }
            if flags & !(QUERY_SUBKEY | QUERY_REQUIRED) != 0 {
                return Err(bad(self, format!("flags {flags:#x} are not those of a native module")));
            }
            let name = self.read_utf16(name, &format!("the name in row {index}"))?;
            if flags & QUERY_SUBKEY != 0 {
                if name != "Parameters" {
                    return Err(bad(self, format!("there is no subkey {name:?}")));
                }
                if routine != 0 {
                    return Err(bad(self, "a routine is given for the subkey itself".into()));
                }
                subkey = Some(name);
                continue;
            }
            if !self.image.is_code(routine) {
                return Err(bad(self, format!("the routine is {}", self.memory.place(routine))));
            }
            let here = subkey.as_deref() == Some("Parameters") && name.eq_ignore_ascii_case("NpiModuleId");
            if !here || self.request.sabotage == Sabotage::ModuleIdMissing {
                if flags & QUERY_REQUIRED != 0 {
                    if here {
                        self.met();
                    }
                    return Ok(status::OBJECT_NAME_NOT_FOUND);
                }
                if row.default_type.get() != 0 {
                    return Err(bad(self, "a default is given for the module id".into()));
                }
                continue;
            }
            let mut data = self.system.module_id.to_vec();
            let mut kind = REG_BINARY;
            match self.request.sabotage {
                Sabotage::ModuleIdWrongType => kind = REG_SZ,
                Sabotage::ModuleIdWrongLength => data.truncate(15),
                Sabotage::ModuleIdTooLong => data.push(0),
                _ => {}
            }
            if kind != REG_BINARY || data.len() != 16 {
                self.met();
            }
            let value_name = self.allocate_bytes(&utf16("NpiModuleId"), "the name of the registry value")?;
            let value = self.allocate_bytes(&data, "the data of the registry value")?;
            let arguments = [
                value_name,
                kind.into(),
                value,
                data.len() as u64,
                context,
                row.entry_context.get(),
            ];
            let status = self.call(routine, &arguments, Activity::QueryRoutine)? as u32;
            if kind != REG_BINARY || data.len() != 16 {
                if status != status::INVALID_PARAMETER {
                    return Err(self.broken(
                        Rule::ModuleId,
                        format!(
                            "the query routine returned {status:#010x} for type {kind} with {} bytes",
                            data.len()
                        ),
                    ));
                }
            } else if status != status::SUCCESS {
                return Err(self.broken(Rule::ModuleId, format!("the query routine returned {status:#010x}")));
            }
            self.memory.free(value_name);
            self.memory.free(value);
            if status != status::SUCCESS {
                return Ok(status);
            }
        }
        Err(self.broken(Rule::QueryTable, "the query table does not end"))
    }
}
