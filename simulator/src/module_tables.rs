//! What the kernel-mode runtime is told by a module's functions, beyond what user mode reads in its sections: read from the
//! file alone, for any machine.
//!
//! Given: the image. Computed: stated version, runtime level, global variable sections with their bytes, and initial values
//! of maps; or why they can't be told. Every array is read as the runtime reads it when the module attaches, with its
//! checks.

use serde::Serialize;

use crate::address_space::{AddressSpace, FileSpace};
use crate::getters::{self, GetterError};
use crate::image::Image;
use crate::kernel_tables;
use crate::rule::{Rule, Violation};
use crate::usermode::hex;

/// Most bytes of global variables that are shown of one section. No array of the runtime is larger in bpf2c's modules.
const MAX_GLOBAL_BYTES: u64 = 1 << 20;
/// Most initial values of one map that are shown.
const MAX_VALUES: u64 = 65_536;
/// Bytes of a name with its NUL (native module contract §10.7).
const MAX_NAME: usize = 256;

/// The tables that only the module's functions give away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModuleTables {
    /// Version of bpf2c that the module states: major, minor, revision.
    pub version: [u32; 3],
    /// The oldest runtime that takes the module as it is.
    pub level: RuntimeLevel,
    /// Bytes of a program entry: 144, or 154 with BTF-resolved functions. `None` without programs.
    pub program_entry_size: Option<u64>,
    /// Global variable sections, in table order.
    pub global_sections: Vec<GlobalSectionContents>,
    /// Initial values of maps, in table order.
    pub initial_values: Vec<InitialValueList>,
}

/// What a module needs of the runtime (native module contract §1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum RuntimeLevel {
    /// Map data without array data: 0.21 and later.
    #[serde(rename = "0.21")]
    V0_21,
    /// Map data with array data: 1.4 and later.
    #[serde(rename = "1.4")]
    V1_4,
    /// Program entries with BTF-resolved functions, as bpf2c 1.6 writes them: 1.5 and later.
    #[serde(rename = "1.6")]
    V1_6,
}

impl RuntimeLevel {
    /// As `--runtime` names it.
    pub fn name(self) -> &'static str {
        match self {
            RuntimeLevel::V0_21 => "0.21",
            RuntimeLevel::V1_4 => "1.4",
            RuntimeLevel::V1_6 => "1.6",
        }
    }
}

/// A section of global variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GlobalSectionContents {
    /// Name of its map.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The bytes in hexadecimal.
    pub initial_data: String,
}

/// Initial values of one map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InitialValueList {
    /// Name of the map.
    pub name: String,
    /// By index: name of a map or program, or `None` for an empty slot.
    pub values: Vec<Option<String>>,
}

/// Why the tables are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TablesError {
    /// There is no module, or its functions can't be followed without running them.
    #[error(transparent)]
    Getter(#[from] GetterError),
    /// The runtime would refuse them.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// Reads the tables. Violations that do not keep them from being read are added to `problems`.
pub(crate) fn read(image: &Image<'_>, problems: &mut Vec<Violation>) -> Result<ModuleTables, TablesError> {
    let returned = getters::follow(image)?;
    kernel_tables::check_metadata(&returned.table)?;
    let version = kernel_tables::check_version(&returned.version)?;
    let space = FileSpace(image);
    let programs = kernel_tables::read_programs(&space, returned.programs, &kernel_tables::PROGRAM_SIZES)?;
    kernel_tables::read_maps(&space, returned.maps)?;
    let text = |address: u64, what: &str| -> Result<String, Violation> {
        let bytes = space.read_string(address, MAX_NAME, what)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };

    let mut initial_values = Vec::new();
    for entry in kernel_tables::read_initial_values(&space, returned.initial_values)? {
        let name = text(entry.name.get(), "the map name of initial values")?;
        let what = format!("the initial values of {name}");
        if entry.count.get() > MAX_VALUES {
            let detail = format!("{what}: the count is {}", entry.count.get());
            return Err(Violation::new(Rule::ArrayPointer, detail).into());
        }
        let mut values = Vec::new();
        for index in 0..entry.count.get() {
            let at = entry.values.get().wrapping_add(8 * index);
            let pointer: zerocopy::little_endian::U64 = space.read_as(at, &what)?;
            values.push((pointer.get() != 0).then(|| text(pointer.get(), &what)).transpose()?);
        }
        initial_values.push(InitialValueList { name, values });
    }

    let mut global_sections = Vec::new();
    for entry in kernel_tables::read_global_sections(&space, returned.global_sections)? {
        let name = text(entry.name.get(), "the name of a global section")?;
        let (size, address) = (entry.size.get(), entry.initial_data.get());
        let data = usize::try_from(size.min(MAX_GLOBAL_BYTES + 1))
            .ok()
            .and_then(|n| space.read(address, n));
        let data = data.filter(|_| size <= MAX_GLOBAL_BYTES).ok_or_else(|| {
            let place = space.place(address);
            Violation::new(Rule::WildPointer, format!("the {size} bytes of {name} are at {place}"))
        })?;
        global_sections.push(GlobalSectionContents {
            name,
            size,
            initial_data: hex(&data),
        });
    }

    let mut sizes = programs.iter().map(|p| p.entry.header.size.get());
    let program_entry_size = sizes.next();
    if let Some(first) = program_entry_size
        && let Some(other) = sizes.find(|size| *size != first)
    {
        let detail = format!("program entries of {first} and of {other} bytes are mixed");
        problems.push(Violation::new(Rule::ElementHeader, detail));
    }
    let long = program_entry_size == Some(154);
    let (major, minor, revision) = version;
    if long && version < (1, 5, 0) {
        let detail = format!(
            "it states {major}.{minor}.{revision}, but its program entries of 154 bytes are refused by runtimes before 1.5"
        );
        problems.push(Violation::new(Rule::ElementHeader, detail));
    }
    Ok(ModuleTables {
        version: [major, minor, revision],
        level: match (version >= (1, 4, 0), long) {
            (_, true) => RuntimeLevel::V1_6,
            (true, false) => RuntimeLevel::V1_4,
            (false, false) => RuntimeLevel::V0_21,
        },
        program_entry_size,
        global_sections,
        initial_values,
    })
}
