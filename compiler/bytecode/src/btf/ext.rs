//! The line records of `.BTF.ext` (Linux documentation, "BPF Type Format", §4.2).

use super::{Btf, MAGIC, Reader, part};
use crate::error::{Place, Problem, ReadError};

/// Where an instruction came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineRecord<'a> {
    /// Name of the section with the instruction.
    pub(crate) section: &'a str,
    /// Offset in bytes of the instruction in the section.
    pub(crate) offset: u32,
    /// The file's name, by its offset in the string table.
    pub(crate) file: u32,
    /// The line's text, by its offset in the string table.
    pub(crate) text: u32,
    /// From 1; 0 when the compiler had none.
    pub(crate) line: u32,
    /// From 1; 0 when the compiler had none.
    pub(crate) column: u32,
}

/// Reads the line records of a `.BTF.ext` section, in file order.
///
/// # Errors
/// If the section is malformed, or holds CO-RE relocations: those are not applied, and code without them would read
/// wrong offsets.
pub(crate) fn line_records<'a>(bytes: &[u8], btf: &Btf<'a>) -> Result<Vec<LineRecord<'a>>, ReadError> {
    records(bytes, btf).map_err(|problem| Place::section(".BTF.ext").error(problem))
}

fn records<'a>(bytes: &[u8], btf: &Btf<'a>) -> Result<Vec<LineRecord<'a>>, Problem> {
    const SHORT: Problem = Problem::Malformed("shorter than its header");
    let mut reader = Reader::new(bytes);
    if reader.u16().ok_or(SHORT)? != MAGIC {
        return Err(Problem::Malformed("does not start as BTF does"));
    }
    if (reader.u8().ok_or(SHORT)?, reader.u8().ok_or(SHORT)?) != (1, 0) {
        return Err(Problem::Malformed("unknown BTF version or flags"));
    }
    let mut next = || reader.u32().ok_or(SHORT);
    let header_length = next()?;
    let (_functions, _functions_length) = (next()?, next()?);
    let (lines, lines_length) = (next()?, next()?);
    // Headers without the two fields for CO-RE relocations have 24 bytes.
    let relocations_length = if header_length >= 32 { (next()?, next()?).1 } else { 0 };
    if header_length < 24 {
        return Err(Problem::Malformed("its header is too short"));
    }
    if relocations_length != 0 {
        return Err(Problem::Unsupported(
            "the object has CO-RE relocations, which are not applied yet; build it without `preserve_access_index`",
        ));
    }
    let body = bytes.get(header_length as usize..).ok_or(SHORT)?;
    let lines = part(body, lines, lines_length).ok_or(Problem::OutOfRange {
        what: "the line table",
        whole: "section",
    })?;
    line_table(lines, btf)
}

fn line_table<'a>(table: &[u8], btf: &Btf<'a>) -> Result<Vec<LineRecord<'a>>, Problem> {
    const SHORT: Problem = Problem::Malformed("ends in the middle of a line record");
    let mut reader = Reader::new(table);
    let mut all = Vec::new();
    if reader.is_empty() {
        return Ok(all);
    }
    let size = reader.u32().ok_or(SHORT)? as usize;
    if size < 16 {
        return Err(Problem::Malformed("its line records are too short"));
    }
    while !reader.is_empty() {
        let section = btf.name(reader.u32().ok_or(SHORT)?)?;
        for _ in 0..reader.u32().ok_or(SHORT)? {
            let mut record = Reader::new(reader.bytes(size).ok_or(SHORT)?);
            let mut next = || record.u32().ok_or(SHORT);
            let (offset, file, text, position) = (next()?, next()?, next()?, next()?);
            all.push(LineRecord {
                section,
                offset,
                file,
                text,
                line: position >> 10,
                column: position & 0x3ff,
            });
        }
    }
    Ok(all)
}
