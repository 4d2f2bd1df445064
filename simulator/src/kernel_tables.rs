//! What the kernel-mode runtime reads out of a module's tables when the module attaches, with the checks it makes there,
//! in its order (native module contract §4.1).

use zerocopy::FromBytes;

use crate::address_space::AddressSpace;
use crate::rule::{Rule, Violation};
use crate::tables::{
    BtfEntry, GlobalSection, Header, HelperEntry, InitialValues, MapEntry, MetadataTable, ProgramBtf, ProgramEntry,
    Version,
};

/// Sizes of a program's entry that runtimes from 1.5 on accept: without and with BTF-resolved functions.
pub const PROGRAM_SIZES: [u64; 2] = [144, 154];

/// Most elements that one array is taken to have.
const MAX_ELEMENTS: u64 = 65_536;

/// An array as a metadata function returned it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Array {
    /// First element.
    pub pointer: u64,
    /// Number of elements.
    pub count: u64,
}

/// A program with the tables it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The entry.
    pub entry: ProgramEntry,
    /// Its helpers, holes included.
    pub helpers: Vec<HelperEntry>,
    /// Its BTF-resolved functions, holes included.
    pub btf_functions: Vec<BtfEntry>,
}

/// All tables of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Programs.
    pub programs: Vec<Program>,
    /// Maps.
    pub maps: Vec<MapEntry>,
    /// Initial values of maps.
    pub initial_values: Vec<InitialValues>,
    /// Global variable sections.
    pub global_sections: Vec<GlobalSection>,
}

/// Checks of the metadata table itself, before any of its functions is called.
pub fn check_metadata(table: &MetadataTable) -> Result<(), Violation> {
    let bad = |detail: String| Violation::new(Rule::MetadataTable, detail);
    for (name, pointer) in [("programs", table.programs), ("maps", table.maps)] {
        if pointer.get() == 0 {
            return Err(bad(format!("{name} is NULL")));
        }
    }
    if table.size.get() < 32 {
        return Err(bad(format!("its size is {}, at least 32 is needed", table.size.get())));
    }
    // The runtime calls these without looking: a table without them stops the machine.
    for (name, pointer) in [
        ("version", table.version),
        ("map_initial_values", table.initial_values),
        ("global_variable_sections", table.global_sections),
    ] {
        if pointer.get() == 0 {
            return Err(Violation::new(
                Rule::MetadataFunction,
                format!("{name} is NULL or past the table's size of {}", table.size.get()),
            ));
        }
    }
    Ok(())
}

/// Checks of the stated version.
pub fn check_version(version: &Version) -> Result<(u32, u32, u32), Violation> {
    let version = (version.major.get(), version.minor.get(), version.revision.get());
    if version < (0, 21, 0) {
        let (major, minor, revision) = version;
        return Err(Violation::new(
            Rule::Version,
            format!("it states {major}.{minor}.{revision}"),
        ));
    }
    Ok(version)
}

/// Addresses of an array's elements, after the rule that NULL means none.
fn elements(space: &impl AddressSpace, array: Array, stride_at: u64, what: &str) -> Result<Vec<u64>, Violation> {
    if (array.pointer == 0) != (array.count == 0) {
        let pointer = if array.pointer == 0 { "NULL" } else { "not NULL" };
        return Err(Violation::new(
            Rule::ArrayPointer,
            format!("{what}: the count is {}, the pointer {pointer}", array.count),
        ));
    }
    if array.count == 0 {
        return Ok(Vec::new());
    }
    if array.count > MAX_ELEMENTS {
        return Err(Violation::new(
            Rule::ArrayPointer,
            format!("{what}: the count is {}", array.count),
        ));
    }
    let header: Header = space.read_as(array.pointer.wrapping_add(stride_at), what)?;
    let stride = header.total_size.get();
    Ok((0..array.count)
        .map(|i| array.pointer.wrapping_add(i.wrapping_mul(stride)))
        .collect())
}

fn check_header(header: &Header, sizes: &[u64], what: &str) -> Result<(), Violation> {
    let (version, size) = (header.version.get(), header.size.get());
    if version != 1 || !sizes.contains(&size) {
        return Err(Violation::new(
            Rule::ElementHeader,
            format!("{what} has version {version} and size {size}"),
        ));
    }
    Ok(())
}

fn not_null(pointer: u64, what: &str) -> Result<(), Violation> {
    if pointer == 0 {
        Err(Violation::new(Rule::ElementPointer, format!("{what} is NULL")))
    } else {
        Ok(())
    }
}

/// Programs, with their helpers and BTF-resolved functions. `sizes` are those of entries that the runtime accepts.
pub fn read_programs(space: &impl AddressSpace, array: Array, sizes: &[u64]) -> Result<Vec<Program>, Violation> {
    let mut programs = Vec::new();
    for (index, address) in elements(space, array, 8, "the program table")?.into_iter().enumerate() {
        let what = format!("program {index}");
        let entry: ProgramEntry = space.read_as(address, &what)?;
        check_header(&entry.header, sizes, &what)?;
        let list = Array {
            pointer: entry.helpers.get(),
            count: entry.helper_count.get().into(),
        };
        let helpers = read_helpers(space, list, &what)?;
        let mut btf_functions = Vec::new();
        if entry.header.size.get() >= 154 {
            let btf: ProgramBtf = space.read_as(address.wrapping_add(144), &what)?;
            btf_functions = read_btf_functions(space, &btf, &what)?;
        }
        programs.push(Program {
            entry,
            helpers,
            btf_functions,
        });
    }
    Ok(programs)
}

/// The helper table of a program.
pub fn read_helpers(space: &impl AddressSpace, list: Array, what: &str) -> Result<Vec<HelperEntry>, Violation> {
    let mut helpers = Vec::new();
    for (slot, address) in elements(space, list, 0, &format!("the helpers of {what}"))?
        .into_iter()
        .enumerate()
    {
        let what = format!("helper {slot} of {what}");
        let helper: HelperEntry = space.read_as(address, &what)?;
        check_header(&helper.header, &[40], &what)?;
        not_null(helper.name.get(), &format!("the name of {what}"))?;
        helpers.push(helper);
    }
    Ok(helpers)
}

/// The BTF-resolved functions of a program, from the bytes of its entry.
pub(crate) fn read_program_btf(
    space: &impl AddressSpace,
    entry: &[u8],
    what: &str,
) -> Result<Vec<BtfEntry>, Violation> {
    let long = ProgramEntry::read_from_prefix(entry).is_ok_and(|(e, _)| e.header.size.get() >= 154);
    match entry.get(144..).map(ProgramBtf::read_from_prefix) {
        Some(Ok((btf, _))) if long => read_btf_functions(space, &btf, what),
        _ => Ok(Vec::new()),
    }
}

fn read_btf_functions(space: &impl AddressSpace, btf: &ProgramBtf, what: &str) -> Result<Vec<BtfEntry>, Violation> {
    let list = Array {
        pointer: btf.functions.get(),
        count: btf.count.get().into(),
    };
    let mut functions = Vec::new();
    for (slot, address) in elements(space, list, 0, &format!("the BTF functions of {what}"))?
        .into_iter()
        .enumerate()
    {
        let what = format!("BTF function {slot} of {what}");
        let function: BtfEntry = space.read_as(address, &what)?;
        check_header(&function.header, &[48], &what)?;
        if function.header.total_size.get() != 48 {
            let size = function.header.total_size.get();
            return Err(Violation::new(
                Rule::ElementHeader,
                format!("{what} has total size {size}"),
            ));
        }
        not_null(function.name.get(), &format!("the name of {what}"))?;
        let name = space.read_string(function.name.get(), 256, &what)?;
        if name.is_empty() != (function.module == [0; 16]) {
            return Err(Violation::new(
                Rule::ElementPointer,
                format!("{what} needs both a name and a module, or neither"),
            ));
        }
        functions.push(function);
    }
    Ok(functions)
}

/// Maps.
pub fn read_maps(space: &impl AddressSpace, array: Array) -> Result<Vec<MapEntry>, Violation> {
    let mut maps = Vec::new();
    for (index, address) in elements(space, array, 16, "the map table")?.into_iter().enumerate() {
        let what = format!("map {index}");
        let entry: MapEntry = space.read_as(address, &what)?;
        check_header(&entry.header, &[80], &what)?;
        not_null(entry.name.get(), &format!("the name of {what}"))?;
        maps.push(entry);
    }
    Ok(maps)
}

/// Initial values of maps.
pub fn read_initial_values(space: &impl AddressSpace, array: Array) -> Result<Vec<InitialValues>, Violation> {
    let mut lists = Vec::new();
    for (index, address) in elements(space, array, 0, "the table of initial values")?
        .into_iter()
        .enumerate()
    {
        let what = format!("initial values {index}");
        let entry: InitialValues = space.read_as(address, &what)?;
        check_header(&entry.header, &[48], &what)?;
        not_null(entry.values.get(), &format!("the list of {what}"))?;
        // Checked with the stated stride, used with the fixed one: both must agree.
        if entry.header.total_size.get() != 48 && array.count > 1 {
            return Err(Violation::new(
                Rule::ElementHeader,
                format!("{what} has a stride other than 48"),
            ));
        }
        lists.push(entry);
    }
    Ok(lists)
}

/// Global variable sections.
pub fn read_global_sections(space: &impl AddressSpace, array: Array) -> Result<Vec<GlobalSection>, Violation> {
    let mut sections = Vec::new();
    for (index, address) in elements(space, array, 0, "the table of global sections")?
        .into_iter()
        .enumerate()
    {
        let what = format!("global section {index}");
        let entry: GlobalSection = space.read_as(address, &what)?;
        check_header(&entry.header, &[48], &what)?;
        not_null(entry.initial_data.get(), &format!("the data of {what}"))?;
        sections.push(entry);
    }
    Ok(sections)
}
