//! The input of the linker, as a plain value.

use std::fmt;

use crate::unwind_arm64;

/// Everything that ends up in one image or object file.
#[derive(Clone, Debug)]
pub struct NativeObject {
    /// Target machine.
    pub machine: Machine,
    /// Sections in the order they take in the image and in the file.
    pub sections: Vec<Section>,
    /// Named places, referred to by relocations.
    pub symbols: Vec<Symbol>,
    /// Every function of every code section, in any order. Ranges do not overlap. Code outside all of them unwinds as a
    /// leaf function.
    pub functions: Vec<FunctionRange>,
    /// Imported functions. Their import address table slots are places that symbols can name.
    pub imports: Vec<Import>,
    /// What it is to become.
    pub purpose: Purpose,
    /// What the load configuration of the image says; `None` for an image without.
    pub load_config: Option<LoadConfig>,
    /// x86-64: whether every `ret` of the code returns to where its `call` was, so that the image may say that it runs with
    /// shadow stacks (CET).
    pub shadow_stack: bool,
}

/// What a driver or DLL tells Windows about protections that its code takes part in (PE format, "The Load Configuration
/// Structure").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadConfig {
    /// 8 bytes of a writable section that hold [`LoadConfig::COOKIE`], at a multiple of 8. Windows puts a random number
    /// there when it loads the image.
    pub security_cookie: SymbolIndex,
    /// Control Flow Guard, for code that takes part in it.
    pub guard: Option<Guard>,
}

impl LoadConfig {
    /// What a security cookie is in the file. Windows replaces only this number.
    pub const COOKIE: u64 = 0x0000_2B99_2DDF_A232;
}

/// Control Flow Guard: every indirect call of the code but those of imports goes through one of the pointers here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// 8 bytes of a read-only section, at a multiple of 8: the address of the function that checks a target and returns.
    /// In the file, that of one which only returns.
    pub check: SymbolIndex,
    /// The same for the function that checks a target and jumps to it. x86-64 only; in the file, one which only jumps.
    pub dispatch: Option<SymbolIndex>,
    /// Every function that others may call by its address, in any order: the entry point and the exports, and all whose
    /// addresses code or data of the object take. Each starts at a multiple of 16.
    pub functions: Vec<SymbolIndex>,
}

/// What an object is to become, with what Windows or another linker must find in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A kernel driver. Exports nothing.
    Driver {
        /// `DriverEntry`: a symbol in a code section.
        entry: SymbolIndex,
    },
    /// A dynamic-link library of user mode.
    Dll {
        /// The name that the export directory states, e.g. `filter.dll`. Windows goes by the name of the file instead.
        name: String,
        /// `DllMain`: a symbol in a code section.
        entry: SymbolIndex,
        /// What it exports, under the names of the symbols.
        exports: Vec<SymbolIndex>,
    },
    /// A part of an image that another linker makes. [`link`](crate::link) refuses it.
    Object {
        /// What the other parts can refer to, by the names of the symbols.
        exports: Vec<SymbolIndex>,
    },
}

impl Purpose {
    /// What Windows calls when it loads the image.
    pub fn entry(&self) -> Option<SymbolIndex> {
        match self {
            Purpose::Driver { entry } | Purpose::Dll { entry, .. } => Some(*entry),
            Purpose::Object { .. } => None,
        }
    }

    /// The symbols that others find by name.
    pub fn exports(&self) -> &[SymbolIndex] {
        match self {
            Purpose::Driver { .. } => &[],
            Purpose::Dll { exports, .. } | Purpose::Object { exports } => exports,
        }
    }
}

/// Target machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// x86-64, `IMAGE_FILE_MACHINE_AMD64`.
    X64,
    /// ARM64, `IMAGE_FILE_MACHINE_ARM64`.
    Arm64,
}

impl fmt::Display for Machine {
    /// The name that people use: `x64`, `arm64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Machine::X64 => "x64",
            Machine::Arm64 => "arm64",
        })
    }
}

/// A position in [`NativeObject::sections`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionIndex(pub u32);

/// A position in [`NativeObject::symbols`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolIndex(pub u32);

/// A section.
#[derive(Clone, Debug)]
pub struct Section {
    /// Name, 1 to 8 bytes without NUL, not starting with `/`, `PAGE` or `INIT`, and not that of a table the linker makes
    /// (`.pdata`, `.reloc` and others). No two sections have the same. A section called `.rdata` is read-only.
    pub name: String,
    /// What it holds, which gives its page protection.
    pub kind: SectionKind,
    /// Alignment that the contents rely on: a power of two up to 4096.
    pub align: u32,
    /// The contents, not empty. `VirtualSize` becomes exactly this length, except for `.rdata`, which the linker's tables
    /// are appended to.
    pub data: Vec<u8>,
    /// Fields of `data` that depend on addresses, in any order. No two share a byte.
    pub relocations: Vec<Relocation>,
}

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionKind {
    /// Code: readable and executable.
    Code,
    /// Constants: readable.
    ReadOnlyData,
    /// Variables: readable and writable.
    Data,
}

/// A named place.
#[derive(Clone, Debug)]
pub struct Symbol {
    /// Name, for messages and object files.
    pub name: String,
    /// Where it is.
    pub place: SymbolPlace,
}

/// Where a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolPlace {
    /// In a section.
    Section {
        /// The section.
        section: SectionIndex,
        /// Offset in bytes, at most the section's length.
        offset: u32,
    },
    /// The 8-byte import address table slot of `imports[index]`.
    ImportSlot {
        /// Position in [`NativeObject::imports`].
        index: u32,
    },
}

/// A field that depends on addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Offset of the field in the section, in bytes.
    pub offset: u32,
    /// How the field is computed.
    pub kind: RelocationKind,
    /// The symbol S.
    pub symbol: SymbolIndex,
    /// The addend A.
    pub addend: i64,
}

/// How the field at address P is computed from S and A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelocationKind {
    /// 8 bytes, `S + A` as virtual address; gets a DIR64 base relocation. Only in data sections, at multiples of 8, and for
    /// places in the image.
    Absolute64,
    /// 4 bytes, `S + A` as an offset from the start of the image. Only in data sections, at multiples of 4.
    ImageRelative32,
    /// 4 bytes, `S + A - P`. (Cranelift's addend of -4 makes it relative to the end of the field.)
    Relative32,
    /// ARM64 `adrp`: `page(S + A) - page(P)`, 21 bits of pages. This and the next three only in code.
    Arm64Page21,
    /// ARM64 `add` of 64 bits with an unshifted immediate: low 12 bits of `S + A`.
    Arm64PageOffset12,
    /// ARM64 `ldr` of 64 bits: low 12 bits of `S + A`, which is a multiple of 8.
    Arm64LoadOffset12,
    /// ARM64 `bl`/`b`: `S + A - P`, 26 bits of words.
    Arm64Branch26,
}

/// A function's extent and how to unwind from it.
#[derive(Clone, Debug)]
pub struct FunctionRange {
    /// The code section.
    pub section: SectionIndex,
    /// First byte, as an offset in the section.
    pub offset: u32,
    /// Length in bytes, padding excluded.
    pub size: u32,
    /// How to unwind.
    pub unwind: UnwindInfo,
}

/// How to unwind from a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnwindInfo {
    /// A leaf function: return address on top of the stack (or in the link register), nothing saved, no table entry.
    Leaf,
    /// x86-64 `UNWIND_INFO`, version 1, without frame register and without handler.
    X64 {
        /// Length of the prologue in bytes.
        prologue_size: u8,
        /// Unwind operations, last prologue instruction first, as the format wants them; one for each instruction. Equal
        /// records of several functions are written once.
        codes: Vec<UnwindCodeX64>,
    },
    /// ARM64 `.xdata` record: function length is the range's; codes as bytes. A function of 1 MiB or more becomes several
    /// fragments with a record each.
    Arm64 {
        /// Unwind codes of the prologue, then of each epilogue, without padding; each sequence ends with `end`.
        codes: Vec<u8>,
        /// Epilogues as (offset of its first instruction from the start of the function in bytes, index of its first code
        /// byte), ascending. Each has an instruction for each of its codes, `end` (the `ret`) included.
        epilogs: Vec<(u32, u16)>,
    },
}

impl UnwindInfo {
    /// Length of the prologue in bytes, as far as the unwind data describes it.
    pub fn prologue_size(&self) -> u32 {
        match self {
            UnwindInfo::Leaf => 0,
            UnwindInfo::X64 { prologue_size, .. } => u32::from(*prologue_size),
            UnwindInfo::Arm64 { codes, .. } => unwind_arm64::prologue_size(codes),
        }
    }
}

/// One unwind operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindCodeX64 {
    /// Offset in bytes, from the start of the function, of the end of the instruction that did it.
    pub offset: u8,
    /// What it did.
    pub op: UnwindOpX64,
}

/// What a prologue instruction did (x64 exception handling, "Unwind operation code").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnwindOpX64 {
    /// `UWOP_PUSH_NONVOL`: pushed this register (hardware number, 0 to 15).
    PushNonvol(u8),
    /// `UWOP_ALLOC_SMALL` or `UWOP_ALLOC_LARGE`: took this many bytes, a multiple of 8.
    Alloc(u32),
    /// `UWOP_SAVE_NONVOL`: stored a register at `rsp + offset`, a multiple of 8.
    SaveNonvol {
        /// Hardware number of the register.
        register: u8,
        /// Offset in bytes from `rsp` after the prologue.
        offset: u32,
    },
}

/// An imported function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// DLL or driver name, e.g. `ntoskrnl.exe`.
    pub module: String,
    /// Exported name.
    pub function: String,
}
