//! What an image says about itself, for `inspect`: read from the file alone, for any machine.

use bpf2sys_platform::Guid;
use serde::Serialize;

use crate::address_space::{AddressSpace, FileSpace};
use crate::directories::{base_relocations, exports, imports};
use crate::image::{DirectoryKind, Image, ImageError};
use crate::kernel_tables::{Array, read_helpers, read_program_btf};
use crate::loader_rules;
use crate::module_tables::{self, ModuleTables, TablesError};
use crate::rule::Violation;
use crate::usermode::{self, UserModeView};

/// An image and the module in it.
#[derive(Clone, Debug, Serialize)]
pub struct ImageDescription {
    /// Driver or DLL.
    pub kind: ImageKind,
    /// `x64`, `arm64`, or the machine number.
    pub machine: String,
    /// Bytes of the file.
    pub file_size: u64,
    /// Bytes in memory.
    pub image_size: u32,
    /// Preferred base.
    pub image_base: u64,
    /// RVA of the entry point.
    pub entry_point: u32,
    /// Section that holds it.
    pub entry_section: Option<String>,
    /// Operating system, image and subsystem version as `major.minor`.
    pub versions: [String; 3],
    /// `IMAGE_DLLCHARACTERISTICS_*`.
    pub dll_characteristics: u16,
    /// Time stamp field, which may be a hash.
    pub timestamp: u32,
    /// Stated checksum.
    pub checksum: u32,
    /// Whether it is right.
    pub checksum_valid: bool,
    /// Sections, in header order.
    pub sections: Vec<SectionDescription>,
    /// Imported functions as `module!function`.
    pub imports: Vec<String>,
    /// Names of exported functions.
    pub exports: Vec<String>,
    /// Number of base relocations.
    pub relocations: usize,
    /// Number of function table entries.
    pub unwind_entries: usize,
    /// Whether there is a certificate table.
    pub signed: bool,
    /// The module as user mode reads it; `None` if it would refuse the file.
    pub module: Option<UserModeView>,
    /// What each program uses, in the order of `module.programs`.
    pub uses: Vec<ProgramUses>,
    /// What only the module's functions tell; `None` if it is not known.
    pub tables: Option<ModuleTables>,
    /// Why that is not known, if the image does not hold a module or can't be told without running it.
    pub tables_unknown: Option<String>,
    /// Everything that user mode or the loader would not accept.
    pub problems: Vec<String>,
}

/// What kind of image it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// A driver.
    Driver,
    /// A DLL.
    Dll,
}

/// A section.
#[derive(Clone, Debug, Serialize)]
pub struct SectionDescription {
    /// Name.
    pub name: String,
    /// RVA.
    pub rva: u32,
    /// Bytes in memory.
    pub virtual_size: u32,
    /// Bytes in the file.
    pub raw_size: u32,
    /// `r-x`, `r--` or `rw-`.
    pub protection: String,
    /// Whether it goes away after `DriverEntry`.
    pub discardable: bool,
}

/// What a program's table entry refers to.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramUses {
    /// Program name.
    pub program: String,
    /// The helper table. Of a hole, the id is 0.
    pub helpers: Vec<HelperUse>,
    /// Names of maps, in index order.
    pub maps: Vec<String>,
    /// Indices of the same maps.
    pub map_indices: Vec<u16>,
    /// The table of BTF-resolved functions. Of a hole, the name is empty.
    pub btf_functions: Vec<BtfFunctionUse>,
    /// Program information hash in hexadecimal.
    pub program_info_hash: Option<String>,
    /// Its algorithm.
    pub program_info_hash_type: Option<String>,
    /// eBPF instructions in 8-byte slots.
    pub instructions: u64,
}

/// A function of another Windows module in a program's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BtfFunctionUse {
    /// Name.
    pub name: String,
    /// The GUID of the module that offers it.
    pub module: String,
}

/// A helper in a program's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HelperUse {
    /// Id; 0 for a hole.
    pub id: u32,
    /// Name that the module states.
    pub name: String,
}

/// Describes the image in `bytes`. Fails only if there is no PE32+ image at all.
pub fn describe(bytes: &[u8]) -> Result<ImageDescription, ImageError> {
    let image = Image::parse(bytes)?;
    let mut problems: Vec<Violation> = loader_rules::check(&image);
    let module = usermode::read(&image)
        .map_err(|violation| problems.push(violation))
        .ok();
    let mut uses = Vec::new();
    if let Some(module) = &module {
        for program in &module.programs {
            match program_uses(&image, module, program) {
                Ok(list) => uses.push(list),
                Err(violation) => problems.push(violation),
            }
        }
    }
    let (tables, tables_unknown) = match module_tables::read(&image, &mut problems) {
        Ok(tables) => (Some(tables), None),
        Err(TablesError::Getter(error)) => (None, Some(error.to_string())),
        Err(TablesError::Violation(violation)) => {
            problems.push(violation);
            (None, None)
        }
    };
    let stride = if image.machine == Image::ARM64 { 8 } else { 12 };
    Ok(ImageDescription {
        kind: if image.is_dll() {
            ImageKind::Dll
        } else {
            ImageKind::Driver
        },
        machine: image.machine_name(),
        file_size: bytes.len() as u64,
        image_size: image.image_size,
        image_base: image.image_base,
        entry_point: image.entry.0,
        entry_section: image.section_at(image.entry).map(crate::image::Section::display_name),
        versions: image.versions.map(|(major, minor)| format!("{major}.{minor}")),
        dll_characteristics: image.dll_characteristics,
        timestamp: image.timestamp,
        checksum: image.checksum,
        checksum_valid: image.checksum == image.computed_checksum(),
        sections: image
            .sections
            .iter()
            .map(|s| SectionDescription {
                name: s.display_name(),
                rva: s.rva.0,
                virtual_size: s.virtual_size,
                raw_size: s.raw_size,
                protection: s.protection(),
                discardable: s.has(crate::image::Section::DISCARDABLE),
            })
            .collect(),
        imports: imports(&image)
            .unwrap_or_default()
            .into_iter()
            .map(|i| format!("{}!{}", i.module, i.function))
            .collect(),
        exports: exports(&image)
            .unwrap_or_default()
            .into_iter()
            .map(|export| export.name)
            .collect(),
        relocations: base_relocations(&image).map_or(0, |list| list.len()),
        unwind_entries: image
            .directory(DirectoryKind::Exception)
            .map_or(0, |d| d.size as usize / stride),
        signed: image.directory(DirectoryKind::Certificate).is_some(),
        module,
        uses,
        tables,
        tables_unknown,
        problems: problems.iter().map(ToString::to_string).collect(),
    })
}

fn program_uses(
    image: &Image<'_>,
    module: &UserModeView,
    program: &usermode::UserModeProgram,
) -> Result<ProgramUses, Violation> {
    let space = FileSpace(image);
    let entry = &program.entry;
    let what = format!("program {}", program.name);
    let list = Array {
        pointer: entry.helpers.get(),
        count: entry.helper_count.get().into(),
    };
    let mut helpers = Vec::new();
    for helper in read_helpers(&space, list, &what)? {
        let name = space.read_string(helper.name.get(), 256, &format!("a helper name of {what}"))?;
        helpers.push(HelperUse {
            id: helper.id.get(),
            name: String::from_utf8_lossy(&name).into_owned(),
        });
    }
    let mut btf_functions = Vec::new();
    for function in read_program_btf(&space, &program.entry_bytes, &what)? {
        let name = space.read_string(function.name.get(), 256, &format!("a BTF function name of {what}"))?;
        btf_functions.push(BtfFunctionUse {
            name: String::from_utf8_lossy(&name).into_owned(),
            module: Guid(function.module).to_string(),
        });
    }
    let (mut maps, mut map_indices) = (Vec::new(), Vec::new());
    for index in 0..u64::from(entry.map_index_count.get()) {
        let address = entry.map_indices.get().wrapping_add(2 * index);
        let index: zerocopy::little_endian::U16 = space.read_as(address, &format!("the map indices of {what}"))?;
        map_indices.push(index.get());
        let name = module.maps.get(usize::from(index.get())).map(|m| m.name.clone());
        maps.push(name.unwrap_or_else(|| format!("#{}", index.get())));
    }
    let length = entry.hash_length.get().min(64) as usize;
    let hash = (length > 0).then(|| space.read(entry.hash.get(), length)).flatten();
    let hash_type = match entry.hash_type.get() {
        0 => None,
        address => Some(space.read_string(address, 64, &format!("the hash type of {what}"))?),
    };
    Ok(ProgramUses {
        program: program.name.clone(),
        helpers,
        maps,
        map_indices,
        btf_functions,
        program_info_hash: hash.as_deref().map(usermode::hex),
        program_info_hash_type: hash_type.map(|t| String::from_utf8_lossy(&t).into_owned()),
        instructions: entry.instruction_count.get(),
    })
}
