//! The file form of a line table.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{Block, Function, LineTable, LinesError, Place, Row, Slot, SlotKind, malformed};

/// The form that is written, and the only one that is read.
const SCHEMA: u32 = 1;

/// The file. Rows are arrays: the RVA; and if the code came from a line also the number of the file, line and column, the number of the
/// function, the slot of the eBPF instruction, and what that is: 0 is an exit, 1
/// computes a value, 2 has an effect, 3 is a conditional jump.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    /// [`code_hash`](crate::code_hash) of the image.
    code: String,
    files: Vec<String>,
    functions: Vec<FileFunction>,
    /// What is on lines: number of the file, line, text.
    texts: Vec<(u32, u32, String)>,
    rows: Vec<FileRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFunction {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rva: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<(u32, u32)>,
    /// Of each block: the first slot, file and line of its instructions, the blocks that can come next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<FileBlock>,
}

type FileBlock = (u32, Vec<(u32, u32)>, Vec<u32>);

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
enum FileRow {
    None((u32,)),
    Line((u32, u32, u32, u32, Option<u32>, Option<u32>, u8)),
}

impl LineTable {
    /// The text of a file with this table for the image whose [`code_hash`](crate::code_hash) is given. The same table gives the
    /// same text.
    pub fn to_json(&self, code: &str) -> String {
        let mut text = format!(
            "{{\"schema\":{SCHEMA},\"code\":{},\n\"files\":{},\n",
            json(&code),
            json(&self.files)
        );
        let functions = self.functions.iter().map(|function| FileFunction {
            name: function.name.clone(),
            rva: function.rva,
            line: function.line,
            blocks: (function.blocks.iter())
                .map(|block| (block.first, block.lines.clone(), block.next.clone()))
                .collect(),
        });
        list(&mut text, "functions", functions, ",");
        let texts = self.texts.iter().map(|(&(file, line), text)| (file, line, text));
        list(&mut text, "texts", texts, ",");
        let rows = self.rows.iter().map(|row| match row.place {
            None => FileRow::None((row.rva,)),
            Some(place) => FileRow::Line((
                row.rva,
                place.file,
                place.line,
                place.column,
                place.function,
                place.slot.map(|slot| slot.number),
                place.slot.map_or(0, |slot| slot.kind as u8),
            )),
        });
        list(&mut text, "rows", rows, "");
        text.push_str("}\n");
        text
    }

    /// Reads what [`LineTable::to_json`] wrote for the image whose [`code_hash`](crate::code_hash) is given.
    ///
    /// # Errors
    /// The text is no line table, or one of another image.
    pub fn from_json(text: &[u8], code: &str) -> Result<LineTable, LinesError> {
        let file: File = serde_json::from_slice(text).map_err(malformed)?;
        if file.schema != SCHEMA {
            return Err(malformed(format!(
                "schema {} is unknown; this is {SCHEMA}",
                file.schema
            )));
        }
        if file.code != code {
            return Err(LinesError::OtherImage(
                "the code is not the one whose hash it states".into(),
            ));
        }
        let rows = file.rows.iter().map(|row| match *row {
            FileRow::None((rva,)) => Row { rva, place: None },
            FileRow::Line((rva, file, line, column, function, slot, kind)) => Row {
                rva,
                place: Some(Place {
                    file,
                    line,
                    column,
                    function,
                    slot: slot.map(|number| Slot {
                        number,
                        kind: match kind {
                            0 => SlotKind::Exit,
                            1 => SlotKind::Value,
                            2 => SlotKind::Effect,
                            _ => SlotKind::Condition,
                        },
                    }),
                }),
            },
        });
        let table = LineTable {
            rows: rows.collect(),
            functions: (file.functions.into_iter())
                .map(|function| Function {
                    name: function.name,
                    rva: function.rva,
                    line: function.line,
                    blocks: (function.blocks.into_iter())
                        .map(|(first, lines, next)| Block { first, lines, next })
                        .collect(),
                })
                .collect(),
            texts: (file.texts.into_iter())
                .map(|(file, line, text)| ((file, line), text))
                .collect(),
            files: file.files,
        };
        table.check()?;
        Ok(table)
    }

    /// Whether all numbers are of something, and rows are in order.
    fn check(&self) -> Result<(), LinesError> {
        let is_file = |file: u32| (file as usize) < self.files.len();
        let is_function =
            |function: Option<u32>| function.is_none_or(|number| (number as usize) < self.functions.len());
        let places = self.rows.iter().filter_map(|row| row.place);
        let of_rows = places
            .into_iter()
            .all(|place| is_file(place.file) && is_function(place.function));
        let of_functions = self.functions.iter().filter_map(|function| function.line);
        let all = of_rows
            && of_functions.into_iter().all(|(file, _)| is_file(file))
            && self.texts.keys().all(|(file, _)| is_file(*file));
        let of_blocks = self.functions.iter().all(|function| {
            let count = function.blocks.len();
            let blocks = function.blocks.iter();
            let mut known = blocks.map(|block| {
                block.lines.iter().all(|(file, _)| is_file(*file))
                    && block.next.iter().all(|next| (*next as usize) < count)
            });
            known.all(|known| known) && function.blocks.is_sorted_by(|block, next| block.first < next.first)
        });
        if !all || !of_blocks {
            return Err(malformed("it names a file or a function that it does not have"));
        }
        if !self.rows.is_sorted_by(|row, next| row.rva < next.rva) {
            return Err(malformed("the rows are not in the order of their addresses"));
        }
        Ok(())
    }
}

/// A list with an element on each line.
fn list<T: Serialize>(text: &mut String, name: &str, elements: impl Iterator<Item = T>, behind: &str) {
    let _ = write!(text, "\"{name}\":[");
    for (number, element) in elements.enumerate() {
        text.push_str(if number == 0 { "\n" } else { ",\n" });
        text.push_str(&json(&element));
    }
    let _ = writeln!(text, "]{behind}");
}

fn json(value: &impl Serialize) -> String {
    // Of strings and numbers: neither has a reason to fail.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> LineTable {
        let place = |line, slot| {
            Some(Place {
                file: 1,
                line,
                column: 7,
                function: Some(0),
                slot,
            })
        };
        let slot = |number, kind| Some(Slot { number, kind });
        LineTable {
            files: vec!["a.h".into(), "ä\"\n.c".into()],
            functions: vec![Function {
                name: "f".into(),
                rva: Some(4096),
                line: Some((1, 3)),
                blocks: vec![
                    Block {
                        first: 0,
                        lines: vec![(1, 3), (0, 9)],
                        next: vec![1],
                    },
                    Block {
                        first: 4,
                        ..Block::default()
                    },
                ],
            }],
            rows: vec![
                Row { rva: 4096, place: None },
                Row {
                    rva: 4097,
                    place: place(3, slot(0, SlotKind::Value)),
                },
                Row {
                    rva: 4099,
                    place: place(4, slot(2, SlotKind::Effect)),
                },
                Row {
                    rva: 4105,
                    place: place(4, slot(3, SlotKind::Condition)),
                },
                Row {
                    rva: 4107,
                    place: place(5, slot(4, SlotKind::Exit)),
                },
                Row {
                    rva: 4109,
                    place: place(6, None),
                },
            ],
            texts: [((1, 3), "int f(void)".into())].into(),
        }
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let text = table().to_json("abc");
        assert_eq!(LineTable::from_json(text.as_bytes(), "abc"), Ok(table()));
        assert_eq!(text.lines().count(), 14, "{text}");
        let other = LineTable::from_json(text.as_bytes(), "abd").unwrap_err();
        assert!(matches!(other, LinesError::OtherImage(_)));
    }

    #[test]
    fn tables_that_name_what_they_do_not_have_are_refused() {
        let changes: [fn(&mut LineTable); 8] = [
            |table| table.files.truncate(1),
            |table| table.functions.clear(),
            |table| table.rows.swap(1, 2),
            |table| table.rows[2].rva = 4097,
            |table| table.functions[0].line = Some((2, 1)),
            |table| table.functions[0].blocks[0].next = vec![2],
            |table| table.functions[0].blocks[0].lines = vec![(2, 1)],
            |table| table.functions[0].blocks[1].first = 0,
        ];
        for change in changes {
            let mut table = table();
            change(&mut table);
            let text = table.to_json("abc");
            assert!(LineTable::from_json(text.as_bytes(), "abc").is_err(), "{text}");
        }
        for text in ["", "{}", "[]", "{\"schema\":2}"] {
            assert!(LineTable::from_json(text.as_bytes(), "abc").is_err());
        }
        let text = table().to_json("abc").replace("\"schema\":1", "\"schema\":2");
        assert!(LineTable::from_json(text.as_bytes(), "abc").is_err());
    }
}
