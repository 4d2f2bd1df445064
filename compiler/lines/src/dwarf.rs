//! Line tables in the image itself: sections of DWARF, as compilers of `MinGW` write them.

use addr2line::Context;
use addr2line::gimli::{self, AttributeValue, EndianSlice, LittleEndian, Unit};
use object::read::pe::PeFile64;
use object::{Object, ObjectSection};

use crate::table::{Function, LineTable, Place, Row};
use crate::{LinesError, malformed};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// Reads the line table of an image; `None` if it has no DWARF.
///
/// Debug sections of images are loaded with them, and memory integrity makes no difference there; the tables of a driver that is
/// shipped are usually taken out.
///
/// # Errors
/// The image or its DWARF can't be read.
pub fn read(image: &[u8]) -> Result<Option<LineTable>, LinesError> {
    let file = PeFile64::parse(image).map_err(malformed)?;
    if file.section_by_name(".debug_line").is_none() {
        return Ok(None);
    }
    let base = file.relative_address_base();
    let load = |id: gimli::SectionId| -> Result<Bytes<'_>, LinesError> {
        let data = match file.section_by_name(id.name()) {
            // What is behind it in the file is padding.
            Some(section) => {
                let data = section.data().map_err(malformed)?;
                data.get(..section.size() as usize).unwrap_or(data)
            }
            None => &[],
        };
        Ok(EndianSlice::new(data, LittleEndian))
    };
    let dwarf = gimli::Dwarf::load(load)?;
    let mut table = LineTable::default();
    let mut units = dwarf.units();
    while let Some(header) = units.next().map_err(malformed)? {
        let unit = dwarf.unit(header).map_err(malformed)?;
        functions(&dwarf, &unit, base, &mut table)?;
    }
    let context = Context::from_dwarf(dwarf).map_err(malformed)?;
    for section in file.sections() {
        let (low, high) = (section.address(), section.address().saturating_add(section.size()));
        let ranges = context.find_location_range(low, high).map_err(malformed)?;
        for (start, size, location) in ranges {
            let Some(rva) = relative(start, base) else { continue };
            let place = location
                .file
                .zip(location.line)
                .filter(|(_, line)| *line > 0)
                .map(|(file, line)| Place {
                    file: table.file(file),
                    line,
                    column: location.column.unwrap_or_default(),
                    function: None,
                    slot: None,
                });
            table.rows.push(Row { rva, place });
            // What comes behind it has no line, unless a row says so.
            table
                .rows
                .extend(relative(start.saturating_add(size), base).map(|rva| Row { rva, place: None }));
        }
    }
    table.rows.sort_by_key(|row| (row.rva, row.place.is_some()));
    table.sort();
    Ok(Some(table))
}

fn relative(address: u64, base: u64) -> Option<u32> {
    u32::try_from(address.checked_sub(base)?).ok()
}

/// Adds the functions of a unit that have code.
fn functions<'a>(
    dwarf: &gimli::Dwarf<Bytes<'a>>,
    unit: &Unit<Bytes<'a>>,
    base: u64,
    table: &mut LineTable,
) -> Result<(), LinesError> {
    let mut entries = unit.entries();
    while let Some(entry) = entries.next_dfs().map_err(malformed)? {
        if entry.tag() != gimli::DW_TAG_subprogram {
            continue;
        }
        let low = match entry.attr_value(gimli::DW_AT_low_pc) {
            Some(AttributeValue::Addr(address)) => address,
            _ => continue,
        };
        let name = entry.attr_value(gimli::DW_AT_name);
        let name = name.and_then(|name| dwarf.attr_string(unit, name).ok());
        let (Some(name), Some(rva)) = (name, relative(low, base)) else {
            continue;
        };
        table.functions.push(Function {
            name: name.to_string_lossy().into_owned(),
            rva: Some(rva),
            line: None,
            blocks: Vec::new(),
        });
    }
    Ok(())
}
