//! Gives each instruction the source line it came from.

use std::collections::{BTreeMap, HashMap};

use crate::btf::{Btf, LineRecord};
use crate::error::{Place, Problem, ReadError};
use crate::functions::CodeSection;
use crate::{Function, LineIndex, Slot, SourceLine};

/// Most bytes of file names and source text that are kept. The text that records name may overlap, so the file's size
/// does not bound it.
const MAX_TEXT: usize = 256 << 20;

/// Sets [`Insn::line`](crate::Insn) of all instructions that `.BTF.ext` has a record for, and gives the lines.
///
/// An instruction has the record at it or the nearest one before it in the same function.
pub(crate) fn assign(
    records: Vec<LineRecord<'_>>,
    btf: &Btf<'_>,
    sections: &[CodeSection<'_>],
    functions: &mut [Function],
) -> Result<Vec<SourceLine>, ReadError> {
    let mut by_section: BTreeMap<&str, Vec<LineRecord<'_>>> = BTreeMap::new();
    for record in records {
        by_section.entry(record.section).or_default().push(record);
    }
    let mut lines = Lines {
        btf,
        all: Vec::new(),
        known: HashMap::new(),
        bytes: 0,
    };
    for code in sections {
        let Some(records) = by_section.get_mut(code.section.name) else {
            continue;
        };
        records.sort_by_key(|r| r.offset);
        for record in records.iter() {
            let offset = u64::from(record.offset);
            if !offset.is_multiple_of(Slot::SIZE as u64) || offset >= code.section.size {
                let problem = Problem::OutOfRange {
                    what: "a line record",
                    whole: "code",
                };
                return Err(code.section.place().at(offset).error(problem));
            }
        }
        let mut next = records.iter().peekable();
        let extents = code.functions.iter();
        for (extent, function) in extents.zip(functions.iter_mut().skip(code.first as usize)) {
            let mut current = None;
            for insn in &mut function.instructions {
                let slot = extent.start + insn.slot;
                while let Some(record) = next.next_if(|r| r.offset / Slot::SIZE as u32 <= slot) {
                    current = Some(record);
                }
                insn.line = current.map(|record| lines.index(record)).transpose()?;
            }
        }
    }
    Ok(lines.all)
}

struct Lines<'b, 'a> {
    btf: &'b Btf<'a>,
    all: Vec<SourceLine>,
    known: HashMap<(u32, u32, u32, u32), LineIndex>,
    bytes: usize,
}

impl Lines<'_, '_> {
    fn index(&mut self, record: &LineRecord<'_>) -> Result<LineIndex, ReadError> {
        let key = (record.file, record.text, record.line, record.column);
        if let Some(index) = self.known.get(&key) {
            return Ok(*index);
        }
        let fail = |problem| Place::section(".BTF.ext").error(problem);
        let file = self.btf.text(record.file).map_err(fail)?;
        let text = self.btf.text(record.text).map_err(fail)?;
        self.bytes += file.len() + text.len();
        if self.bytes > MAX_TEXT {
            return Err(fail(Problem::TooMuch {
                what: "bytes of source lines",
                limit: MAX_TEXT as u64,
            }));
        }
        let index = LineIndex(self.all.len() as u32);
        self.all.push(SourceLine {
            file: String::from_utf8_lossy(file).into_owned(),
            line: record.line,
            column: record.column,
            text: String::from_utf8_lossy(text).into_owned(),
        });
        self.known.insert(key, index);
        Ok(index)
    }
}
