//! The file form of a line table.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{Function, LineTable, LinesError, Place, Row, Slot, malformed};

/// The form that is written, and the only one that is read.
const SCHEMA: u32 = 1;

/// The file. Rows are arrays: the RVA; and if the code came from a line also the number of the file, line and column, the number of the
/// function, the slot of the eBPF instruction, and whether that is a conditional jump.
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
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
enum FileRow {
    None((u32,)),
    Line((u32, u32, u32, u32, Option<u32>, Option<u32>, bool)),
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
                place.slot.is_some_and(|slot| slot.is_conditional),
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
            FileRow::Line((rva, file, line, column, function, slot, is_conditional)) => Row {
                rva,
                place: Some(Place {
                    file,
                    line,
                    column,
                    function,
                    slot: slot.map(|number| Slot { number, is_conditional }),
                }),
            },
        });
        let table = LineTable {
            rows: rows.collect(),
            functions: (file.functions.into_iter())
                .map(|FileFunction { name, rva, line }| Function { name, rva, line })
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
        if !all {
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
