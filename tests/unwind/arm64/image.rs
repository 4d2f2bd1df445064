//! What unwinding reads of an ARM64 image: its code, its function table and the records that it points to.

use goblin::pe::PE;

use crate::unwind::image::{Code, executable, sections};

/// A function with an entry in the function table, or a fragment of one.
#[derive(Clone, Debug)]
pub struct Function {
    pub begin: u32,
    pub end: u32,
    /// Offset of the first instruction, in bytes, and position of the first code.
    pub epilogues: Vec<(u32, usize)>,
    pub codes: Vec<u8>,
}

/// The executable sections and the function table.
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
        let word = |rva: u32| read(rva, 4).map(|bytes| bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word)));

        let directories = pe.header.optional_header.ok_or("no optional header")?.data_directories;
        let table = *directories.get_exception_table().ok_or("no function table")?;
        if !table.size.is_multiple_of(8) {
            return Err("the function table is not made of 8-byte entries".into());
        }
        let mut functions: Vec<Function> = Vec::new();
        for entry in (table.virtual_address..table.virtual_address + table.size).step_by(8) {
            let (begin, record) = (word(entry)?, word(entry + 4)?);
            if record & 3 != 0 || begin & 3 != 0 {
                return Err(format!(
                    "{begin:#x}: packed unwind data, or no address of an instruction"
                ));
            }
            // ARM64 exception handling, ".xdata records"
            let header = word(record)?;
            let length = (header & 0x3_FFFF) * 4;
            if header >> 18 & 7 != 0 {
                return Err(format!("{begin:#x}: another version than 0, or a handler"));
            }
            if header >> 21 & 1 != 0 {
                return Err(format!("{begin:#x}: the short form of one epilogue"));
            }
            let (mut at, mut count, mut code_words) = (record + 4, header >> 22 & 31, header >> 27);
            if (count, code_words) == (0, 0) {
                let second = word(at)?;
                (at, count, code_words) = (at + 4, second & 0xFFFF, second >> 16 & 0xFF);
            }
            let mut epilogues = Vec::new();
            for position in 0..count {
                let scope = word(at + 4 * position)?;
                if scope >> 18 & 15 != 0 {
                    return Err(format!("{begin:#x}: reserved bits of an epilogue are set"));
                }
                epilogues.push(((scope & 0x3_FFFF) * 4, (scope >> 22) as usize));
            }
            if functions.last().is_some_and(|previous| previous.end > begin) || length == 0 {
                return Err(format!("function table: {begin:#x} is empty, out of order or overlaps"));
            }
            functions.push(Function {
                begin,
                end: begin + length,
                epilogues,
                codes: read(at + 4 * count, 4 * code_words as usize)?.to_vec(),
            });
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

    /// The instruction at an address.
    pub fn word(&self, rva: u32) -> Option<[u8; 4]> {
        self.code.iter().find_map(|code| {
            code.bytes
                .get(rva.checked_sub(code.rva)? as usize..)?
                .first_chunk()
                .copied()
        })
    }
}
