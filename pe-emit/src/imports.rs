//! Import tables: how an image names the functions of other modules, and where Windows puts their addresses.
//!
//! ```text
//! import address tables   one run for each module, ended by a zero slot   (data directory 12)
//! import lookup tables    the same again; stays as it is at load
//! descriptors             one for each module, ended by a zero one        (data directory 1)
//! hints and names, names of modules
//! ```
//! (PE format, "The .idata Section".) Everything is read-only data: Windows makes the slots writable for the moment it
//! fills them, and memory integrity refuses slots in executable sections.

use std::mem::size_of;

use object::endian::{LittleEndian, U16};
use object::pe::{ImageImportByName, ImageImportDescriptor, ImageThunkData64};
use object::pod::bytes_of;

use crate::address::{Rva, align_up};
use crate::error::{ImportProblem, LinkError};
use crate::native_object::Import;

/// Slots are 8-byte addresses.
pub(crate) const ALIGN: u32 = 8;
const SLOT: usize = size_of::<ImageThunkData64>();
const DESCRIPTOR: usize = size_of::<ImageImportDescriptor>();

/// The import tables of an image, with every offset from their start known.
pub(crate) struct ImportTables<'a> {
    modules: Vec<ModuleTable<'a>>,
    /// Where the slot of each of the object's imports is.
    slots: Vec<usize>,
    /// Size of all import address tables, which come first.
    address_tables: usize,
    /// Size of everything.
    size: usize,
}

struct ModuleTable<'a> {
    name: &'a str,
    /// Where the name is.
    name_offset: usize,
    /// Where its run of slots starts, in both tables.
    first_slot: usize,
    /// Names, and where hint and name are.
    functions: Vec<(&'a str, usize)>,
}

impl<'a> ImportTables<'a> {
    /// Plans the tables. Modules stand in the order of their first import; names of modules are compared without regard
    /// to case, as Windows does.
    pub(crate) fn new(imports: &'a [Import]) -> Result<Self, LinkError> {
        let mut modules: Vec<ModuleTable<'a>> = Vec::new();
        let mut positions = Vec::with_capacity(imports.len());
        for (index, import) in imports.iter().enumerate() {
            let error = |problem| LinkError::Import { index, problem };
            if !is_name(&import.module) {
                return Err(error(ImportProblem::ModuleName {
                    name: import.module.clone(),
                }));
            }
            if !is_name(&import.function) {
                return Err(error(ImportProblem::FunctionName {
                    name: import.function.clone(),
                }));
            }
            let known = modules
                .iter()
                .position(|module| module.name.eq_ignore_ascii_case(&import.module));
            let module = known.unwrap_or(modules.len());
            if known.is_none() {
                modules.push(ModuleTable {
                    name: &import.module,
                    name_offset: 0,
                    first_slot: 0,
                    functions: Vec::new(),
                });
            }
            positions.push((module, modules[module].functions.len()));
            modules[module].functions.push((&import.function, 0));
        }

        let mut address_tables = 0;
        for module in &mut modules {
            module.first_slot = address_tables;
            address_tables += (module.functions.len() + 1) * SLOT;
        }
        let slots = positions
            .iter()
            .map(|&(module, slot)| modules[module].first_slot + slot * SLOT)
            .collect();

        if modules.is_empty() {
            return Ok(Self {
                modules,
                slots,
                address_tables,
                size: 0,
            });
        }
        let mut end = 2 * address_tables + (modules.len() + 1) * DESCRIPTOR;
        for module in &mut modules {
            for (function, offset) in &mut module.functions {
                *offset = align_up(end as u64, 2) as usize;
                end = *offset + size_of::<ImageImportByName>() + function.len() + 1;
            }
            module.name_offset = end;
            end += module.name.len() + 1;
        }
        Ok(Self {
            modules,
            slots,
            address_tables,
            size: end,
        })
    }

    /// Size of the tables in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Where the slot of an import is, if the tables are at `start`. The index is one of the object's.
    pub(crate) fn slot(&self, start: Rva, index: u32) -> Rva {
        start.plus(self.slots[index as usize] as u32)
    }

    /// Start and size of the import address tables, if the tables are at `start`.
    pub(crate) fn address_table_directory(&self, start: Rva) -> (Rva, u32) {
        (start, self.address_tables as u32)
    }

    /// Start and size of the descriptors, if the tables are at `start`.
    pub(crate) fn import_directory(&self, start: Rva) -> (Rva, u32) {
        (
            start.plus(2 * self.address_tables as u32),
            ((self.modules.len() + 1) * DESCRIPTOR) as u32,
        )
    }

    /// The bytes of the tables at `start`.
    pub(crate) fn write(&self, start: Rva) -> Vec<u8> {
        let at = |offset: usize| start.plus(offset as u32).0;
        let mut out = Vec::with_capacity(self.size);
        for _table in ["address", "lookup"] {
            for module in &self.modules {
                for (_, offset) in &module.functions {
                    out.extend_from_slice(bytes_of(&ImageThunkData64(u64::from(at(*offset)).into())));
                }
                out.extend_from_slice(bytes_of(&ImageThunkData64(0.into())));
            }
        }
        for module in &self.modules {
            out.extend_from_slice(bytes_of(&ImageImportDescriptor {
                original_first_thunk: at(self.address_tables + module.first_slot).into(),
                time_date_stamp: 0.into(),
                forwarder_chain: 0.into(),
                name: at(module.name_offset).into(),
                first_thunk: at(module.first_slot).into(),
            }));
        }
        out.extend_from_slice(&[0; DESCRIPTOR]);
        for module in &self.modules {
            for (function, offset) in &module.functions {
                out.resize(*offset, 0);
                // The hint is a guess of the position in the exporter's name table; 0 where none is known.
                out.extend_from_slice(bytes_of(&ImageImportByName {
                    hint: U16::<LittleEndian>::from(0),
                }));
                out.extend_from_slice(function.as_bytes());
                out.push(0);
            }
            out.extend_from_slice(module.name.as_bytes());
            out.push(0);
        }
        out
    }
}

/// Whether import and export tables can hold it: printable ASCII.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_objects::import;

    #[test]
    fn tables_are_laid_out_as_the_format_wants() {
        let imports = [
            import("a.sys", "Even"),
            import("b.sys", "Odd"),
            import("A.SYS", "Second"),
        ];
        let tables = ImportTables::new(&imports).unwrap();
        let start = Rva(0x1000);
        let bytes = tables.write(start);
        assert_eq!(bytes.len(), tables.size());
        let slots: Vec<u64> = bytes[..80]
            .as_chunks()
            .0
            .iter()
            .map(|slot| u64::from_le_bytes(*slot))
            .collect();
        let (addresses, lookups) = slots.split_at(5);
        assert_eq!(addresses, lookups, "equal until Windows fills in the addresses");
        assert_eq!(
            [addresses[2], addresses[4]],
            [0, 0],
            "each module's run is ended by a zero slot"
        );
        for (index, name) in [(0, "Even"), (1, "Second"), (3, "Odd")] {
            let hint = addresses[index] as usize;
            assert!(hint.is_multiple_of(2), "hints are words");
            assert_eq!(
                bytes[hint - 0x1000..][..name.len() + 3],
                *format!("\0\0{name}\0").as_bytes()
            );
        }
        let descriptors: Vec<u32> = bytes[80..140]
            .as_chunks()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect();
        let name = |rva: u32| &bytes[rva as usize - 0x1000..][..6];
        assert_eq!(
            (descriptors[0], descriptors[4]),
            (0x1028, 0x1000),
            "lookup table and address table of a.sys"
        );
        assert_eq!((descriptors[5], descriptors[9]), (0x1040, 0x1018), "and of b.sys");
        assert_eq!(
            (name(descriptors[3]), name(descriptors[8])),
            (b"a.sys\0".as_slice(), b"b.sys\0".as_slice())
        );
        assert_eq!(descriptors[10..], [0; 5]);
        assert_eq!(tables.address_table_directory(start), (start, 40));
        assert_eq!(tables.import_directory(start), (Rva(0x1050), 60));
        assert_eq!(
            [0, 1, 2].map(|index| tables.slot(start, index).0),
            [0x1000, 0x1018, 0x1008]
        );
    }
}
