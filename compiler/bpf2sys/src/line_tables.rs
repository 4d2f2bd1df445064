//! Finding out which lines of source the code of an image came from.

use std::path::Path;

use bpf2sys_lines::{LineTable, LinesError, code_hash, pdb};
use bpf2sys_simulator::describe::describe;

use crate::origin::{object_beside, of_image};
use crate::{Error, ErrorKind, Form, Providers, files};

/// What the first bytes of a program database are.
const PDB_SIGNATURE: &[u8] = b"Microsoft C/C++ MSF 7.00\r\n";

/// The line table of an image, from the file that is named, or from where it can be: beside it the file that `--emit lines`
/// writes, its object, its program database.
///
/// # Errors
/// There is none that belongs to the image.
pub(crate) fn find(path: &Path, image: &[u8], named: Option<&Path>, providers: &Providers) -> Result<LineTable, Error> {
    let table = match named {
        Some(named) => read(path, image, named, &files::read(named)?, providers)?,
        None => beside(path, image, providers)?,
    };
    if table.rows.iter().all(|row| row.place.is_none()) {
        let path = named.unwrap_or(path);
        return Err(unknown(path, "it has no lines: compile the source with `-g`"));
    }
    Ok(table)
}

fn unknown(path: &Path, message: impl Into<String>) -> Error {
    ErrorKind::Lines {
        path: path.to_owned(),
        message: message.into(),
    }
    .into()
}

/// Reads a file that is to tell the lines of an image.
fn read(path: &Path, image: &[u8], file: &Path, bytes: &[u8], providers: &Providers) -> Result<LineTable, Error> {
    let told = |error: LinesError| unknown(file, error.to_string());
    if bytes.starts_with(b"\x7fELF") {
        let name = file.to_string_lossy();
        let origin = of_image(path, image, (bytes, &name), providers)?;
        return origin.map(|origin| origin.line_table()).ok_or_else(|| {
            let message = format!(
                "building it again does not give the code of `{}`: it is another object, or was built with other options or by another \
                 version; a line table that is written together with the driver (`bpf2sys build --emit sys,lines`) always fits",
                path.display()
            );
            unknown(file, message)
        });
    }
    if bytes.starts_with(PDB_SIGNATURE) {
        return pdb::read(image, bytes).map_err(told);
    }
    if bytes.starts_with(b"{") {
        let code = code_hash(image).map_err(|e| unknown(path, e.to_string()))?;
        return LineTable::from_json(bytes, &code).map_err(told);
    }
    Err(unknown(file, "it is no line table, no object and no program database"))
}

/// What is beside an image. What does not belong to it is passed over, and named if nothing else is there.
fn beside(path: &Path, image: &[u8], providers: &Providers) -> Result<LineTable, Error> {
    let mut passed_over = Vec::new();
    let mut attempt = |file: &Path, bytes: &[u8]| {
        let table = read(path, image, file, bytes, providers);
        table.map_err(|error| passed_over.push(error.kind().to_string())).ok()
    };
    let table = path.with_extension(Form::Lines.extension());
    if let Some(table) = files::read(&table).ok().and_then(|bytes| attempt(&table, &bytes)) {
        return Ok(table);
    }
    let described = describe(image).ok().and_then(|image| image.module?.elf_hash);
    let object = described.and_then(|hash| object_beside(path, &hash));
    if let Some(table) = object.and_then(|(object, bytes)| attempt(&object, &bytes)) {
        return Ok(table);
    }
    let database = path.with_extension("pdb");
    if let Some(table) = files::read(&database).ok().and_then(|bytes| attempt(&database, &bytes)) {
        return Ok(table);
    }
    let mut message =
        String::from("it is not known which lines its code came from; `--lines` names the object or its line table");
    for passed in passed_over {
        message += &format!("\n{passed}");
    }
    Err(unknown(path, message))
}

/// The line table of an image that was just built with [`Form::Lines`] beside it.
pub(crate) fn of_build(image: &[u8], lines: &[u8]) -> Result<LineTable, Error> {
    let table = code_hash(image).and_then(|code| LineTable::from_json(lines, &code));
    table.map_err(|e| ErrorKind::Internal(e.to_string()).into())
}
