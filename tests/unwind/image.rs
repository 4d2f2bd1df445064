//! What unwinding reads of an image: its code and its function table, as Windows finds them.

use goblin::pe::PE;

/// A run of executable bytes.
pub struct Code {
    pub rva: u32,
    pub bytes: Vec<u8>,
}

/// A function with an entry in the function table.
#[derive(Clone, Debug)]
pub struct Function {
    pub begin: u32,
    pub end: u32,
    pub prologue_size: u32,
    /// In the order of the record: the last operation of the prologue first.
    pub operations: Vec<Operation>,
}

/// An unwind operation with the offset of the end of its instruction.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub offset: u32,
    pub kind: OperationKind,
}

#[derive(Clone, Copy, Debug)]
pub enum OperationKind {
    Push(usize),
    Alloc(i64),
    Save { register: usize, offset: i64 },
}

/// The executable sections and the function table of an x64 image.
pub struct Image {
    pub code: Vec<Code>,
    pub functions: Vec<Function>,
    pub entry: u32,
}

impl Image {
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let pe = PE::parse(bytes).map_err(|error| error.to_string())?;
        let sections = sections(&pe, bytes)?;
        let read = |rva: u32, size: usize| {
            sections
                .iter()
                .find_map(|(_, section)| section.bytes.get(rva.checked_sub(section.rva)? as usize..)?.get(..size))
                .ok_or_else(|| format!("nothing at {rva:#x}"))
        };

        let directories = pe.header.optional_header.ok_or("no optional header")?.data_directories;
        let mut functions: Vec<Function> = Vec::new();
        if let Some(table) = directories.get_exception_table() {
            let (entries, rest) = read(table.virtual_address, table.size as usize)?.as_chunks::<12>();
            if !rest.is_empty() {
                return Err("the function table is not made of 12-byte entries".into());
            }
            for entry in entries {
                let [begin, end, record] = [0, 4, 8].map(|at| word(entry, at));
                if begin >= end || functions.last().is_some_and(|previous| previous.end > begin) {
                    return Err(format!(
                        "function table: {begin:#x}..{end:#x} is empty, out of order or overlaps"
                    ));
                }
                let header = read(record, 4)?;
                let slots = read(record.wrapping_add(4), usize::from(header[2]) * 2)?;
                functions.push(Function {
                    begin,
                    end,
                    prologue_size: u32::from(header[1]),
                    operations: operations(header, slots).map_err(|error| format!("{begin:#x}: {error}"))?,
                });
            }
        }
        let code = executable(sections);
        for function in &functions {
            let inside = |code: &Code| code.rva <= function.begin && function.end <= code.rva + code.bytes.len() as u32;
            if !code.iter().any(inside) {
                return Err(format!(
                    "function table: {:#x} is not in one code section",
                    function.begin
                ));
            }
        }
        Ok(Self {
            code,
            functions,
            entry: pe.entry,
        })
    }

    /// The function table's entry for an address.
    pub fn function(&self, rva: u32) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.begin <= rva);
        self.functions[..after].last().filter(|function| rva < function.end)
    }

    /// The first function of the table that starts after an address.
    pub fn next_function(&self, rva: u32) -> Option<&Function> {
        self.functions
            .get(self.functions.partition_point(|function| function.begin <= rva))
    }

    /// The code from an address to the end of its section.
    pub fn code_at(&self, rva: u32) -> Option<&[u8]> {
        self.code.iter().find_map(|code| {
            code.bytes
                .get(rva.checked_sub(code.rva)? as usize..)
                .filter(|rest| !rest.is_empty())
        })
    }
}

/// The flags and the contents of every section.
pub fn sections(pe: &PE<'_>, bytes: &[u8]) -> Result<Vec<(u32, Code)>, String> {
    let section = |section: &goblin::pe::section_table::SectionTable| {
        let data = bytes.get(section.pointer_to_raw_data as usize..)?;
        let code = Code {
            rva: section.virtual_address,
            bytes: data.get(..section.virtual_size as usize)?.to_vec(),
        };
        Some((section.characteristics, code))
    };
    let sections: Option<_> = pe.sections.iter().map(section).collect();
    sections.ok_or_else(|| "a section's raw data is shorter than its VirtualSize".to_owned())
}

/// The sections that are executable.
pub fn executable(sections: Vec<(u32, Code)>) -> Vec<Code> {
    // IMAGE_SCN_MEM_EXECUTE
    let executable = |(flags, _): &(u32, Code)| flags & 0x2000_0000 != 0;
    sections.into_iter().filter(executable).map(|(_, code)| code).collect()
}

/// Decodes a record's array of slots (x64 exception handling, "Unwind operation code").
fn operations(header: &[u8], slots: &[u8]) -> Result<Vec<Operation>, String> {
    if header[0] != 1 {
        return Err(format!(
            "version and flags {:#x}, expected version 1 without flags",
            header[0]
        ));
    }
    if header[3] != 0 {
        return Err("a frame register".into());
    }
    let (slots, _) = slots.as_chunks::<2>();
    let mut slots = slots.iter();
    let mut operations = Vec::new();
    while let Some([offset, code]) = slots.next() {
        let mut small = || {
            slots
                .next()
                .map(|slot| i64::from(u16::from_le_bytes(*slot)))
                .ok_or("the record is cut off")
        };
        let info = usize::from(code >> 4);
        let kind = match (code & 15, info) {
            (0, register) => OperationKind::Push(register),
            (1, 0) => OperationKind::Alloc(small()? * 8),
            (1, 1) => OperationKind::Alloc(small()? | small()? << 16),
            (2, size) => OperationKind::Alloc(size as i64 * 8 + 8),
            (4, register) => OperationKind::Save {
                register,
                offset: small()? * 8,
            },
            (5, register) => OperationKind::Save {
                register,
                offset: small()? | small()? << 16,
            },
            (other, _) => return Err(format!("unwind operation {other}")),
        };
        operations.push(Operation {
            offset: u32::from(*offset),
            kind,
        });
    }
    Ok(operations)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}
