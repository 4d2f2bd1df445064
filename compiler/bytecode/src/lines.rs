//! Gives each instruction the source line it came from.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::btf::{Btf, FunctionRecord, LineRecord, Records, Text};
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
    records: Records<'_>,
    btf: &Btf<'_>,
    sections: &[CodeSection<'_>],
    functions: &mut [Function],
) -> Result<Vec<SourceLine>, ReadError> {
    let records = if btf.objects() > 1 {
        moved(records, sections)
    } else {
        records.lines
    };
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

/// Most functions of one name that are looked at to find where an object's instructions went.
const MAX_NAMESAKES: usize = 64;

/// The line records of objects that a linker put together, at the offsets that the instructions have now.
///
/// An object's part of a section went as far as its functions did. Where these do not tell one distance, the part has no lines.
fn moved<'a>(records: Records<'a>, sections: &[CodeSection<'_>]) -> Vec<LineRecord<'a>> {
    // By section and name, the offsets where functions begin.
    let mut starts: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    for code in sections {
        for extent in &code.functions {
            let key = (code.section.name, extent.name.as_str());
            starts.entry(key).or_default().push(extent.start * Slot::SIZE as u32);
        }
    }
    let mut distances: BTreeMap<(u32, &str), BTreeSet<u32>> = BTreeMap::new();
    for FunctionRecord {
        object,
        section,
        offset,
        name,
    } in records.functions
    {
        let starts = starts.get(&(section, name)).map_or(&[][..], Vec::as_slice);
        let possible = starts
            .iter()
            .take(MAX_NAMESAKES)
            .filter_map(|s| s.checked_sub(offset))
            .collect();
        distances
            .entry((object, section))
            .and_modify(|all| all.retain(|d| BTreeSet::contains(&possible, d)))
            .or_insert(possible);
    }
    let distance = |record: &LineRecord<'_>| {
        let all = distances.get(&(record.object, record.section))?;
        all.first().filter(|_| all.len() == 1).copied()
    };
    let lines = records.lines.into_iter().filter_map(|record| {
        let offset = record.offset.checked_add(distance(&record)?)?;
        Some(LineRecord { offset, ..record })
    });
    lines.collect()
}

struct Lines<'b, 'a> {
    btf: &'b Btf<'a>,
    all: Vec<SourceLine>,
    known: HashMap<(Text, Text, u32, u32), LineIndex>,
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

#[cfg(test)]
mod tests {
    use crate::testing::{EXEC, EXIT, FUNCTION, Object, PROGBITS, Types};
    use crate::{Module, read};

    /// A `.BTF.ext` section of these parts: line table, CO-RE relocations.
    fn ext(lines: &[u32], relocations: &[u32]) -> Vec<u8> {
        let length = |part: &[u32]| part.len() as u32 * 4;
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        let header = [32, 0, 0, 0, length(lines), length(lines), length(relocations)];
        for field in header.iter().chain(lines).chain(relocations) {
            bytes.extend(field.to_le_bytes());
        }
        bytes
    }

    /// Two functions of two instructions each in `xdp`, with a `.BTF.ext` that `build` makes of (section name, file
    /// name, text).
    fn object(build: impl FnOnce(u32, u32, u32) -> Vec<u8>) -> Object {
        let mut types = Types::new();
        let (section, file, text) = (types.string("xdp"), types.string("a.c"), types.string("text"));
        let mut object = Object::default();
        object.section("xdp", PROGBITS, EXEC, &EXIT.repeat(4));
        object.symbol("first", FUNCTION, 1, 0, 16);
        object.symbol("second", FUNCTION, 1, 16, 16);
        object.section(".BTF", PROGBITS, 0, &types.build());
        object.section(".BTF.ext", PROGBITS, 0, &build(section, file, text));
        object
    }

    fn with_lines(records: &[(u32, u32)]) -> Result<Module, String> {
        let object = object(|section, file, text| {
            let mut table = vec![16, section, records.len() as u32];
            for (offset, line) in records {
                table.extend([*offset, file, text, line << 10 | 5]);
            }
            ext(&table, &[])
        });
        read(&object.build(), "test.o").map_err(|e| e.to_string())
    }

    fn lines(records: &[(u32, u32)]) -> Vec<Option<u32>> {
        let module = with_lines(records).unwrap();
        let insns = module.functions.iter().flat_map(|f| &f.instructions);
        insns.map(|i| module.line(i).map(|l| l.line)).collect()
    }

    #[test]
    fn an_instruction_has_the_record_at_or_before_it_in_its_function() {
        for (records, expected) in [
            (&[][..], [None; 4]),
            (
                &[(0, 1), (8, 2), (16, 3), (24, 4)],
                [Some(1), Some(2), Some(3), Some(4)],
            ),
            (&[(0, 1), (16, 3)], [Some(1), Some(1), Some(3), Some(3)]),
            // Not from the function before.
            (&[(0, 1)], [Some(1), Some(1), None, None]),
            (&[(8, 2), (24, 4)], [None, Some(2), None, Some(4)]),
            // In any order; of two records at one place the later one.
            (&[(24, 4), (0, 1), (0, 7)], [Some(7), Some(7), None, Some(4)]),
        ] {
            assert_eq!(lines(records), expected, "{records:?}");
        }
    }

    /// The lines of `first` and `second`, which come from two objects that were joined: the first with line 1 at its start, the second with
    /// line 9 at `line`, and functions of these names and offsets.
    fn joined(functions: &[(&str, u32)], line: u32) -> Vec<Option<u32>> {
        let part = |functions: &[(&str, u32)], line: u32, number: u32| {
            let mut types = Types::new();
            let (section, text) = (types.string("xdp"), types.string("text"));
            let mut table = vec![8, section, functions.len() as u32];
            for (name, offset) in functions {
                table.extend([*offset, types.function(name)]);
            }
            let lines = [16, section, 1, line, text, text, number << 10];
            let (functions_length, lines_length) = (table.len() as u32 * 4, lines.len() as u32 * 4);
            let header = [24, 0, functions_length, functions_length, lines_length];
            let words = header.iter().chain(&table).chain(&lines);
            let ext: Vec<u8> = [0x9f, 0xeb, 1, 0]
                .into_iter()
                .chain(words.flat_map(|w| w.to_le_bytes()))
                .collect();
            // Linkers align the next one.
            let mut btf = types.build();
            btf.resize(btf.len().next_multiple_of(4), 0);
            (btf, ext)
        };
        let ((first_btf, first_ext), (second_btf, second_ext)) =
            (part(&[("first", 0)], 0, 1), part(functions, line, 9));
        let mut object = Object::default();
        object.section("xdp", PROGBITS, EXEC, &EXIT.repeat(4));
        object.symbol("first", FUNCTION, 1, 0, 16);
        object.symbol("second", FUNCTION, 1, 16, 16);
        object.section(".BTF", PROGBITS, 0, &[first_btf, second_btf].concat());
        object.section(".BTF.ext", PROGBITS, 0, &[first_ext, second_ext].concat());
        let module = read(&object.build(), "test.o").unwrap();
        let insns = module.functions.iter().flat_map(|f| &f.instructions);
        insns.map(|i| module.line(i).map(|l| l.line)).collect()
    }

    #[test]
    fn lines_of_joined_objects_are_where_their_functions_went() {
        // As the linker found them, and moved along with the code.
        for offset in [0, 16] {
            assert_eq!(
                joined(&[("second", offset)], offset + 8),
                [Some(1), Some(1), None, Some(9)]
            );
        }
    }

    #[test]
    fn where_functions_do_not_tell_one_distance_there_are_no_lines() {
        for functions in [
            &[][..],
            &[("elsewhere", 0)],
            &[("second", 0), ("second", 8)],
            &[("second", 0), ("elsewhere", 0)],
            // It would have gone backwards.
            &[("second", 24)],
        ] {
            assert_eq!(joined(functions, 8), [Some(1), Some(1), None, None], "{functions:?}");
        }
    }

    #[test]
    fn a_line_is_kept_once() {
        let module = with_lines(&[(0, 1), (8, 2), (16, 1), (24, 2)]).unwrap();
        assert_eq!(module.lines.len(), 2);
        assert_eq!((module.lines[0].column, module.lines[0].file.as_str()), (5, "a.c"));
    }

    #[test]
    fn longer_records_are_read() {
        let object = object(|section, file, text| ext(&[20, section, 1, 0, file, text, 3 << 10, 99], &[]));
        let module = read(&object.build(), "test.o").unwrap();
        assert_eq!(module.lines[0].line, 3);
    }

    #[test]
    fn source_text_need_not_be_utf_8() {
        let object = object(|section, file, text| ext(&[16, section, 1, 0, file, text, 3 << 10], &[]));
        let mut file = object.build();
        let at = file.windows(4).position(|w| w == b"text").unwrap();
        file[at + 1] = 0xe9;
        let module = read(&file, "test.o").unwrap();
        assert_eq!(module.lines[0].text, "t\u{fffd}xt");
    }

    #[test]
    fn refuses_tables_that_make_no_sense() {
        type Build = fn(u32, u32, u32) -> Vec<u8>;
        let cases: [(Build, &str); 9] = [
            (|_, _, _| vec![0x9f], "section `.BTF.ext`: shorter than its header"),
            (|_, _, _| vec![0; 32], "section `.BTF.ext`: does not start as BTF does"),
            (
                |_, _, _| vec![0x9f, 0xeb, 2, 0],
                "section `.BTF.ext`: unknown BTF version or flags",
            ),
            (
                |_, _, _| ext(&[12], &[]),
                "section `.BTF.ext`: its line records are too short",
            ),
            (
                |s, f, t| ext(&[16, s, 2, 0, f, t, 0], &[]),
                "section `.BTF.ext`: ends in the middle of a line record",
            ),
            (
                |s, f, _| ext(&[16, s, 1, 0, f, 9999, 0], &[]),
                "section `.BTF.ext`: a name lies outside of the BTF string table",
            ),
            (
                |s, f, t| ext(&[16, s, 1, 32, f, t, 0], &[]),
                "section `xdp` at 0x20: a line record lies outside of the code",
            ),
            (
                |s, f, t| ext(&[16, s, 1, 4, f, t, 0], &[]),
                "section `xdp` at 0x4: a line record lies outside of the code",
            ),
            (
                |_, _, _| {
                    let mut bytes = ext(&[16], &[]);
                    bytes[20] = 8;
                    bytes
                },
                "section `.BTF.ext`: the line table lies outside of the section",
            ),
        ];
        for (build, expected) in cases {
            let error = read(&object(build).build(), "test.o").map(|_| ()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn refuses_relocations_that_are_not_applied() {
        let object = object(|section, _, _| ext(&[], &[16, section, 1, 0, 1, 0, 0]));
        let error = read(&object.build(), "test.o").map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("CO-RE relocations"), "{error}");
    }

    #[test]
    fn line_information_needs_types() {
        let mut object = object(|_, _, _| ext(&[], &[]));
        object.sections.retain(|s| s.name != ".BTF");
        let error = read(&object.build(), "test.o").map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "section `.BTF.ext`: there is no .BTF");
    }
}
