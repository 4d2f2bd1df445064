//! Loads a shared object that needs no other: its segments, and relocations that only depend on where it is.
//!
//! The system's loader could do that for x86-64; this one also does it for an emulator's ARM64.

use bpf2sys_bytecode::Module;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, RelocationFlags, SymbolKind, elf};

use super::Error;
use super::memory::{Access, Mapping};
use super::workload::is_another;

/// The section with pointers to helpers, each of which holds the helper's number in the file.
const HELPERS: &str = "bpf_helpers";
/// Functions that are not counted as the program's code.
const LIBRARY: [&str; 3] = ["memset", "memcpy", "guard_dispatch_icall_nop"];

/// A shared object in memory.
pub struct Loaded {
    /// The object.
    pub memory: Mapping,
    symbols: Vec<(String, u64)>,
    /// Its functions, with their bytes.
    functions: Vec<(String, usize)>,
}

impl Loaded {
    /// Bytes of a program, and of all functions that are no other programs.
    pub fn code_bytes(&self, module: &Module, program: &str) -> usize {
        let counted = |name: &str| !LIBRARY.contains(&name) && !is_another(module, program, name);
        let functions = self.functions.iter().filter(|(name, _)| counted(name));
        functions.map(|(_, bytes)| bytes).sum()
    }

    /// The address of a symbol.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        let found = self.symbols.iter().find(|(symbol, _)| symbol == name);
        found.map(|(_, offset)| self.memory.address() + offset)
    }
}

/// Loads `file`. `helper` gives addresses of helpers; `maps` are the names of maps and what is written to the start of
/// the variables of these names.
pub fn load(file: &[u8], helper: impl Fn(u32) -> u64, maps: &[(String, [u64; 2])]) -> Result<Loaded, Error> {
    let elf = ElfFile64::<Endianness>::parse(file).map_err(|e| e.to_string())?;
    let endian = elf.endian();
    let segments: Vec<_> = (elf.elf_program_headers().iter())
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .map(|segment| {
            (
                segment,
                segment.p_vaddr(endian) as usize,
                segment.p_memsz(endian) as usize,
            )
        })
        .collect();
    let end = segments.iter().map(|(_, start, length)| start + length).max();
    let mut memory = Mapping::new(end.ok_or("a shared object without segments")?)?;
    let base = memory.address();
    let bytes = memory.bytes();
    for (segment, start, _) in &segments {
        let data = segment.data(endian, file).map_err(|()| "a segment is cut")?;
        bytes[*start..start + data.len()].copy_from_slice(data);
    }
    for (at, relocation) in elf.dynamic_relocations().into_iter().flatten() {
        let relative = match relocation.flags() {
            RelocationFlags::Elf { r_type } => [elf::R_X86_64_RELATIVE, elf::R_AARCH64_RELATIVE].contains(&r_type),
            _ => false,
        };
        if !relative {
            return Err(format!("a relocation that needs a loader: {relocation:?}"));
        }
        put(bytes, at as usize, base.wrapping_add_signed(relocation.addend()));
    }
    let symbols: Vec<_> = elf.symbols().collect();
    if let Some(section) = elf.section_by_name(HELPERS) {
        let start = section.address() as usize;
        for at in (start..start + section.size() as usize).step_by(8) {
            let id = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
            put(bytes, at, helper(id));
        }
    }
    for (name, words) in maps {
        let variable = symbols.iter().find(|symbol| symbol.name() == Ok(name));
        if let Some(variable) = variable {
            put(bytes, variable.address() as usize, words[0]);
            put(bytes, variable.address() as usize + 8, words[1]);
        }
    }
    let functions = symbols.iter().filter(|symbol| symbol.kind() == SymbolKind::Text);
    let functions = functions.filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.size() as usize)));
    let functions = functions.collect();
    for (segment, start, length) in &segments {
        let flags = segment.p_flags(endian);
        let access = if flags & elf::PF_X != elf::ProgramFlags(0) {
            Access::Execute
        } else if flags & elf::PF_W != elf::ProgramFlags(0) {
            Access::Write
        } else {
            Access::Read
        };
        memory.protect(*start..start + length, access)?;
    }
    let symbols = symbols.iter();
    let symbols = symbols.filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address())));
    Ok(Loaded {
        symbols: symbols.collect(),
        functions,
        memory,
    })
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
