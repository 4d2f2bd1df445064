//! The table itself.

use std::collections::BTreeMap;

/// The lines of an image's code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineTable {
    /// Source files, as the compiler named them.
    pub files: Vec<String>,
    /// Functions that lines are in.
    pub functions: Vec<Function>,
    /// Stretches of code, by ascending RVA.
    pub rows: Vec<Row>,
    /// What is on lines, as far as it is known: by the number of the file and that of the line, from 1.
    pub texts: BTreeMap<(u32, u32), String>,
}

/// A function of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// RVA of its own code; `None` if it has none, because all calls of it were inlined.
    pub rva: Option<u32>,
    /// The number of its file and its first line that has code, if they are known.
    pub line: Option<(u32, u32)>,
    /// Its basic blocks by ascending slot, if it was made of eBPF and the table knows it: also of code that native code shows nothing of.
    pub blocks: Vec<Block>,
}

/// A basic block of eBPF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The slot of its first instruction.
    pub first: u32,
    /// The files and lines of its instructions.
    pub lines: Vec<(u32, u32)>,
    /// The blocks that can come next: where a jump leads, then what is behind it.
    pub next: Vec<u32>,
}

/// A stretch of code, which goes on up to the next row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// First byte.
    pub rva: u32,
    /// Where it came from; `None` for code of no line.
    pub place: Option<Place>,
}

/// A place in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of its file.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 if it is not known.
    pub column: u32,
    /// Number of its function, if that is known: the one whose source it is, also where a call of it was inlined.
    pub function: Option<u32>,
    /// The eBPF instruction, if the image was made of eBPF and the table knows it.
    pub slot: Option<Slot>,
}

/// An eBPF instruction of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Number of 8-byte slots before it in its function.
    pub number: u32,
    /// What it is.
    pub kind: SlotKind,
}

/// What an eBPF instruction tells about how often its block runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotKind {
    /// Nothing: all ways out of a function can share one piece of code.
    Exit,
    /// Little: compilers compute values earlier or later, once for several, or not at all.
    #[default]
    Value,
    /// It has an effect or depends on one, and so runs as often as its block.
    Effect,
    /// It is a conditional jump, at the end of its block.
    Condition,
}

impl LineTable {
    /// Where the code at an RVA came from.
    pub fn place(&self, rva: u32) -> Option<Place> {
        let behind = self.rows.partition_point(|row| row.rva <= rva);
        self.rows.get(behind.checked_sub(1)?)?.place
    }

    /// The functions that have code of their own: RVA and number, by ascending RVA.
    pub fn native_functions(&self) -> Vec<(u32, u32)> {
        let functions = (0..).zip(&self.functions);
        let mut starts: Vec<(u32, u32)> = functions.filter_map(|(number, of)| Some((of.rva?, number))).collect();
        starts.sort_unstable();
        starts
    }

    /// The number of a file, which is added if it is new.
    pub fn file(&mut self, name: &str) -> u32 {
        let known = self.files.iter().position(|file| file == name);
        known.unwrap_or_else(|| {
            self.files.push(name.to_owned());
            self.files.len() - 1
        }) as u32
    }

    /// Puts rows in order, and makes one of neighbours that say the same. Of rows at one place the last one stays.
    pub fn sort(&mut self) {
        self.rows.sort_by_key(|row| row.rva);
        self.rows.reverse();
        self.rows.dedup_by_key(|row| row.rva);
        self.rows.reverse();
        self.rows.dedup_by(|next, row| next.place == row.place);
        // The first line of each function that has code.
        for (number, function) in (0..).zip(&mut self.functions) {
            if function.line.is_some() {
                continue;
            }
            let own = |place: &Place| place.function == Some(number);
            let at_start = || {
                let behind = self
                    .rows
                    .partition_point(|row| function.rva.is_some_and(|rva| row.rva <= rva));
                self.rows.get(behind.checked_sub(1)?)?.place
            };
            let places = self.rows.iter().filter_map(|row| row.place);
            let first = places.filter(own).map(|place| (place.file, place.line)).min();
            function.line = first.or_else(|| at_start().map(|place| (place.file, place.line)));
        }
    }
}
