//! Line tables beside the image: Microsoft's program databases.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::Cursor;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use object::Object;
use object::read::pe::PeFile64;
use pdb2::{FallibleIterator, PDB, SymbolData};

use crate::table::{Function, LineTable, Place, Row};
use crate::{LinesError, malformed};

/// Reads the line table of an image from its program database.
///
/// # Errors
/// The image or the database can't be read, or the image does not name this database.
pub fn read(image: &[u8], database: &[u8]) -> Result<LineTable, LinesError> {
    let file = PeFile64::parse(image).map_err(malformed)?;
    let stated = file.pdb_info().map_err(malformed)?;
    let stated = stated.ok_or_else(|| LinesError::OtherImage("the image names no program database".into()))?;
    // The reader is made for what linkers write, and panics on some other bytes.
    let read = quietly(|| {
        let mut database = PDB::open(Cursor::new(database))?;
        // The image has the first three fields of the GUID in little-endian order.
        let is_same = database.pdb_information()?.guid.to_bytes_le() == stated.guid();
        if is_same {
            table(&mut database).map(Some)
        } else {
            Ok(None)
        }
    });
    match read {
        Ok(Ok(Some(table))) => Ok(table),
        Ok(Ok(None)) => Err(LinesError::OtherImage(
            "the image names another program database".into(),
        )),
        Ok(Err(error)) => Err(malformed(error)),
        Err(_) => Err(malformed("no program database that can be read")),
    }
}

thread_local! {
    /// Whether a panic of this thread is answered, so that nobody needs to read of it.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Calls a function that may panic, and has nothing printed if it does.
fn quietly<T>(body: impl FnOnce() -> T) -> std::thread::Result<T> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    // What a panic leaves half done goes with it.
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    QUIET.set(false);
    result
}

fn table<'s>(database: &mut PDB<'s, Cursor<&'s [u8]>>) -> pdb2::Result<LineTable> {
    let addresses = database.address_map()?;
    let strings = database.string_table()?;
    let mut table = LineTable::default();
    let debug = database.debug_information()?;
    let mut modules = debug.modules()?;
    while let Some(module) = modules.next()? {
        let Some(info) = database.module_info(&module)? else {
            continue;
        };
        let mut symbols = info.symbols()?;
        while let Some(symbol) = symbols.next()? {
            // A kind of symbol that the reader does not know is none that is looked for.
            if let Ok(SymbolData::Procedure(procedure)) = symbol.parse() {
                table.functions.push(Function {
                    name: procedure.name.to_string().into_owned(),
                    rva: procedure.offset.to_rva(&addresses).map(|rva| rva.0),
                    line: None,
                    blocks: Vec::new(),
                });
            }
        }
        let program = info.line_program()?;
        let mut files = HashMap::new();
        let mut lines = program.lines();
        while let Some(line) = lines.next()? {
            let Some(rva) = line.offset.to_rva(&addresses) else {
                continue;
            };
            let known = files.get(&line.file_index.0).copied();
            let file = if let Some(file) = known {
                file
            } else {
                let name = program.get_file_info(line.file_index)?.name;
                let file = table.file(&name.to_string_lossy(&strings)?);
                files.insert(line.file_index.0, file);
                file
            };
            table.rows.push(Row {
                rva: rva.0,
                // Compilers write lines near 0xF00000 for code that nobody should step through.
                place: (1..0xF0_0000).contains(&line.line_start).then_some(Place {
                    file,
                    line: line.line_start,
                    column: line.column_start.unwrap_or_default(),
                    function: None,
                    slot: None,
                }),
            });
            let end = line.length.and_then(|length| rva.0.checked_add(length));
            table.rows.extend(end.map(|rva| Row { rva, place: None }));
        }
    }
    table.rows.sort_by_key(|row| (row.rva, row.place.is_some()));
    table.sort();
    Ok(table)
}
