//! The function and line records of `.BTF.ext` (Linux documentation, "BPF Type Format", §4.2).

use super::{Btf, MAGIC, Reader, Text, Type, TypeId, next_object, part};
use crate::error::{Place, Problem, ReadError};

/// What a `.BTF.ext` section says about instructions.
#[derive(Default)]
pub(crate) struct Records<'a> {
    /// In file order.
    pub(crate) lines: Vec<LineRecord<'a>>,
    /// Where functions begin. Read only where a linker left the records of several objects apart: offsets may then be those of the object
    /// that they come from, and functions tell where it went.
    pub(crate) functions: Vec<FunctionRecord<'a>>,
}

/// Where an instruction came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineRecord<'a> {
    /// The object that it comes from, of several that a linker put together.
    pub(crate) object: u32,
    /// Name of the section with the instruction.
    pub(crate) section: &'a str,
    /// Offset in bytes of the instruction in the section.
    pub(crate) offset: u32,
    /// The file's name.
    pub(crate) file: Text,
    /// The line's text.
    pub(crate) text: Text,
    /// From 1; 0 when the compiler had none.
    pub(crate) line: u32,
    /// From 1; 0 when the compiler had none.
    pub(crate) column: u32,
}

/// Where a function begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FunctionRecord<'a> {
    pub(crate) object: u32,
    pub(crate) section: &'a str,
    /// Offset in bytes in the section.
    pub(crate) offset: u32,
    pub(crate) name: &'a str,
}

/// A CO-RE relocation: what an instruction says is to be what the kernel's types say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoreRecord<'a> {
    /// Name of the section with the instruction.
    pub(crate) section: &'a str,
    /// Offset in bytes of the instruction in the section.
    pub(crate) offset: u32,
    /// The type that it is about.
    pub(crate) of: TypeId,
    /// Which part of it: positions with colons between.
    pub(crate) path: &'a str,
    /// `enum bpf_core_relo_kind`.
    pub(crate) kind: u32,
}

/// Reads the CO-RE relocations of a `.BTF.ext` section.
pub(crate) fn core_records<'a>(bytes: &[u8], btf: &Btf<'a>) -> Result<Vec<CoreRecord<'a>>, Problem> {
    let mut all = Vec::new();
    let [_, _, relocations, behind] = split(bytes)?;
    if next_object(behind).is_some() && !relocations.is_empty() {
        return Err(Problem::Unsupported(
            "a linker that knows nothing of BTF put several objects with CO-RE relocations together; use `bpftool gen object`",
        ));
    }
    let what = [
        "ends in the middle of a CO-RE relocation",
        "its CO-RE relocations are too short",
    ];
    let mut problem = None;
    for_each(relocations, btf, 0, 16, what, |section, mut record| {
        let (offset, id, path, kind) = (record.u32()?, record.u32()?, record.u32()?, record.u32()?);
        match btf.name(Text {
            object: 0,
            offset: path,
        }) {
            Ok(path) => all.push(CoreRecord {
                section,
                offset,
                of: btf.id_in(0, id),
                path,
                kind,
            }),
            Err(error) => problem = Some(error),
        }
        Some(())
    })?;
    problem.map_or(Ok(all), Err)
}

/// Reads the records of a `.BTF.ext` section.
///
/// # Errors
/// If the section is malformed, or holds CO-RE relocations that nobody applied: code without them would read wrong offsets.
pub(crate) fn records<'a>(bytes: &[u8], btf: &Btf<'a>, is_relocated: bool) -> Result<Records<'a>, ReadError> {
    read(bytes, btf, is_relocated).map_err(|problem| Place::section(".BTF.ext").error(problem))
}

fn read<'a>(bytes: &[u8], btf: &Btf<'a>, is_relocated: bool) -> Result<Records<'a>, Problem> {
    let mut records = Records::default();
    let mut object = 0;
    let mut rest = Some(bytes);
    while let Some(section) = rest {
        let [functions, lines, relocations, behind] = split(section)?;
        if !relocations.is_empty() && !is_relocated {
            return Err(Problem::Unsupported(
                "the object has CO-RE relocations, and Windows has no such types; build it without `preserve_access_index`",
            ));
        }
        line_table(lines, btf, object, &mut records.lines)?;
        if btf.objects() > 1 {
            function_table(functions, btf, object, &mut records.functions)?;
        }
        object += 1;
        rest = next_object(behind);
    }
    // An object without instructions has types, but no records: which ones belong together cannot be told then.
    if object as usize != btf.objects() {
        return Ok(Records::default());
    }
    Ok(records)
}

/// Splits the section into its function table, its line table, its CO-RE relocations, and what is behind them.
fn split(bytes: &[u8]) -> Result<[&[u8]; 4], Problem> {
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
    let functions = (next()?, next()?);
    let lines = (next()?, next()?);
    // Headers without the two fields for CO-RE relocations have 24 bytes.
    let relocations = if header_length >= 32 {
        (next()?, next()?)
    } else {
        (0, 0)
    };
    if header_length < 24 {
        return Err(Problem::Malformed("its header is too short"));
    }
    let body = bytes.get(header_length as usize..).ok_or(SHORT)?;
    let table =
        |(offset, length), what| part(body, offset, length).ok_or(Problem::OutOfRange { what, whole: "section" });
    let ends = [functions, lines, relocations].map(|(offset, length)| offset as usize + length as usize);
    let end = ends.into_iter().max().unwrap_or(0);
    Ok([
        table(functions, "the function table")?,
        table(lines, "the line table")?,
        table(relocations, "the table of CO-RE relocations")?,
        body.get(end..).unwrap_or_default(),
    ])
}

/// Reads a table: a record size, then for each section its name, how many records there are, and these.
fn for_each<'a, 't>(
    table: &'t [u8],
    btf: &Btf<'a>,
    object: u32,
    shortest: usize,
    [ends_early, too_short]: [&'static str; 2],
    mut record: impl FnMut(&'a str, Reader<'t>) -> Option<()>,
) -> Result<(), Problem> {
    let ends_early = || Problem::Malformed(ends_early);
    let mut reader = Reader::new(table);
    if reader.is_empty() {
        return Ok(());
    }
    let size = reader.u32().ok_or_else(ends_early)? as usize;
    if size < shortest {
        return Err(Problem::Malformed(too_short));
    }
    while !reader.is_empty() {
        let offset = reader.u32().ok_or_else(ends_early)?;
        let section = btf.name(Text { object, offset })?;
        for _ in 0..reader.u32().ok_or_else(ends_early)? {
            let bytes = reader.bytes(size).ok_or_else(ends_early)?;
            record(section, Reader::new(bytes)).ok_or_else(ends_early)?;
        }
    }
    Ok(())
}

fn line_table<'a>(table: &[u8], btf: &Btf<'a>, object: u32, all: &mut Vec<LineRecord<'a>>) -> Result<(), Problem> {
    let what = ["ends in the middle of a line record", "its line records are too short"];
    let text = |offset| Text { object, offset };
    for_each(table, btf, object, 16, what, |section, mut record| {
        let (offset, file, line_text, position) = (record.u32()?, record.u32()?, record.u32()?, record.u32()?);
        all.push(LineRecord {
            object,
            section,
            offset,
            file: text(file),
            text: text(line_text),
            line: position >> 10,
            column: position & 0x3ff,
        });
        Some(())
    })
}

fn function_table<'a>(
    table: &[u8],
    btf: &Btf<'a>,
    object: u32,
    all: &mut Vec<FunctionRecord<'a>>,
) -> Result<(), Problem> {
    let what = [
        "ends in the middle of a function record",
        "its function records are too short",
    ];
    for_each(table, btf, object, 8, what, |section, mut record| {
        let (offset, id) = (record.u32()?, record.u32()?);
        if let Ok(Type::Function { name }) = btf.get(btf.id_in(object, id)) {
            all.push(FunctionRecord {
                object,
                section,
                offset,
                name,
            });
        }
        Some(())
    })
}
