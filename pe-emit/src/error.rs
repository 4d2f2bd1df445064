//! Why an object cannot be linked: each error names its place in the object.

use thiserror::Error;

use crate::native_object::Machine;

/// Why [`link`](crate::link) or [`coff`](crate::coff()) refused an object.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// A section is unusable.
    #[error("section `{}`: {problem}", name.escape_debug())]
    Section {
        /// The section's name.
        name: String,
        /// What is wrong with it.
        problem: SectionProblem,
    },
    /// More sections than Windows loads, or than an object file can have.
    #[error("{count} sections, of which {generated} are the linker's own; at most {limit} are possible")]
    TooManySections {
        /// How many there would be.
        count: usize,
        /// How many of them hold the linker's tables.
        generated: usize,
        /// The limit of the Windows loader, or of object files.
        limit: usize,
    },
    /// The image or object file would be larger than 2 GiB, in the file or in memory.
    #[error("the file would be larger than 2 GiB")]
    ImageTooLarge,
    /// A symbol names no place.
    #[error("symbol `{}`: {problem}", name.escape_debug())]
    Symbol {
        /// The symbol's name.
        name: String,
        /// What is wrong with it.
        problem: SymbolProblem,
    },
    /// The entry point is not a place in code.
    #[error("entry point: {problem}")]
    Entry {
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// The object is for another linker; see [`Purpose::Object`](crate::Purpose::Object).
    #[error("an object that is to be linked by another linker is no image")]
    NotAnImage,
    /// The name of the DLL is empty, or has a character that is not printable ASCII.
    #[error("`{}` is not the name of a DLL", name.escape_debug())]
    DllName {
        /// The name.
        name: String,
    },
    /// A symbol cannot be exported.
    #[error("export {index}: {problem}")]
    Export {
        /// Position among the exports of the [`Purpose`](crate::Purpose).
        index: usize,
        /// What is wrong with it.
        problem: ExportProblem,
    },
    /// The load configuration claims what is not so.
    #[error("load configuration: {problem}")]
    LoadConfig {
        /// What is wrong with it.
        problem: LoadConfigProblem,
    },
    /// The version information is larger than its resource can be; see
    /// [`VersionInfo::MAX_UNITS`](crate::VersionInfo::MAX_UNITS).
    #[error("the version information is larger than its resource can be")]
    VersionInfoTooLarge,
    /// More exports than an export directory has ordinals for.
    #[error("{count} exports; at most 65,535 are possible")]
    TooManyExports {
        /// How many there are.
        count: usize,
    },
    /// An import cannot be named in an import table.
    #[error("import {index}: {problem}")]
    Import {
        /// Position in [`NativeObject::imports`](crate::NativeObject::imports).
        index: usize,
        /// What is wrong with it.
        problem: ImportProblem,
    },
    /// A field cannot be computed.
    #[error("relocation at {:#x} in section `{}`: {problem}", offset, section.escape_debug())]
    Relocation {
        /// The name of the section that holds the field.
        section: String,
        /// Offset of the field in the section, in bytes.
        offset: u32,
        /// What is wrong with it.
        problem: RelocationProblem,
    },
    /// A function has no sound extent or unwind data.
    #[error("function at {:#x} in section {section}: {problem}", offset)]
    Function {
        /// Position of the section in [`NativeObject::sections`](crate::NativeObject::sections).
        section: u32,
        /// The function's offset in the section, in bytes.
        offset: u32,
        /// What is wrong with it.
        problem: FunctionProblem,
    },
}

/// What is wrong with a section.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SectionProblem {
    /// The header has 8 bytes for the name, and a reader of drivers looks nowhere else.
    #[error("a name has 1 to 8 bytes")]
    NameLength,
    /// A NUL would end the name early.
    #[error("the name contains a NUL byte")]
    NameNul,
    /// `/` and a number is how an object file refers to its string table.
    #[error("a name that starts with `/` is read as a position in a string table")]
    NameSlash,
    /// `PAGE…` and `INIT…` mean that Windows may page out, or frees, the section; both are wrong for code that runs at
    /// `DISPATCH_LEVEL` for as long as the driver is loaded.
    #[error("Windows makes sections named `PAGE…` pageable and frees those named `INIT…`")]
    NamePageable,
    /// The PE format gives the name to a table that only the linker can write.
    #[error("the name is reserved for a table of the PE format")]
    NameReserved,
    /// Readers find sections by name.
    #[error("another section has the same name")]
    Duplicate,
    /// A section without bytes has no place in an image.
    #[error("it is empty")]
    Empty,
    /// Not a power of two from 1 to 4096.
    #[error("alignment {align} is not a power of two from 1 to 4096")]
    Alignment {
        /// The alignment asked for, in bytes.
        align: u32,
    },
    /// `.rdata` also holds what the linker adds, import addresses among it, and must be read-only.
    #[error("`.rdata` must be read-only data")]
    NotReadOnly,
}

/// What is wrong with a symbol.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SymbolProblem {
    /// No such section.
    #[error("there is no section {section}")]
    UnknownSection {
        /// The position named.
        section: u32,
    },
    /// Beyond the section's end.
    #[error("offset {offset:#x} is beyond the {size:#x} bytes of section {section}")]
    OutOfSection {
        /// Position of the section.
        section: u32,
        /// The offset named, in bytes.
        offset: u32,
        /// The section's size in bytes.
        size: usize,
    },
    /// The name is empty or contains a NUL byte, which the symbol table of an object file cannot hold.
    #[error("an object file cannot name it so")]
    Name,
    /// No such import.
    #[error("there is no import {index}")]
    UnknownImport {
        /// The position named.
        index: u32,
    },
}

/// What is wrong with the entry point.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryProblem {
    /// No such symbol.
    #[error("there is no symbol {symbol}")]
    UnknownSymbol {
        /// The position named.
        symbol: u32,
    },
    /// Windows calls it.
    #[error("`{}` is not in a code section", name.escape_debug())]
    NotCode {
        /// The symbol's name.
        name: String,
    },
    /// ARM64 instructions are words.
    #[error("`{}` is not on an instruction boundary", name.escape_debug())]
    Unaligned {
        /// The symbol's name.
        name: String,
    },
}

/// What is wrong with an export.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExportProblem {
    /// No such symbol.
    #[error("there is no symbol {symbol}")]
    UnknownSymbol {
        /// The symbol named.
        symbol: u32,
    },
    /// The symbol is the end of a section, or belongs to another module.
    #[error("`{}` is nothing in this object", name.escape_debug())]
    Nothing {
        /// The symbol's name.
        name: String,
    },
    /// The name is empty, or has a character that is not printable ASCII.
    #[error("`{}` is not a name to export", name.escape_debug())]
    Name {
        /// The symbol's name.
        name: String,
    },
    /// Others find exports by name.
    #[error("`{}` is exported twice", name.escape_debug())]
    Duplicate {
        /// The symbol's name.
        name: String,
    },
}

/// What is wrong with a load configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadConfigProblem {
    /// No such symbol, or one of an import.
    #[error("there is no symbol {symbol} in this object")]
    UnknownSymbol {
        /// The symbol named.
        symbol: u32,
    },
    /// Windows writes 8 bytes there: the cookie among variables, the others among constants.
    #[error("`{}` is not 8 bytes at a multiple of 8 in a section for it", name.escape_debug())]
    Pointer {
        /// The symbol's name.
        name: String,
    },
    /// Windows replaces only the one number that stands for none.
    #[error("the security cookie does not hold the number that Windows replaces")]
    Cookie,
    /// Only x86-64 code calls through such a pointer.
    #[error("the machine has no dispatch pointer")]
    NoDispatch,
    /// A pointer through which code calls leads nowhere.
    #[error("a pointer of Control Flow Guard does not point to code")]
    EmptyPointer,
    /// An entry of the function table is not where a function starts, or not where Windows can note it.
    #[error("`{}` is not the start of a function at a multiple of 16", name.escape_debug())]
    Target {
        /// The symbol's name.
        name: String,
    },
    /// Others find a function's address that is not in the function table: the kernel would stop the machine at a call of it.
    #[error("the address of `{}`, or of a place behind it, can be called and is not listed", name.escape_debug())]
    NotListed {
        /// The symbol's name.
        name: String,
    },
}

/// What is wrong with an import.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImportProblem {
    /// The module's name is empty, or has a character that is not printable ASCII.
    #[error("`{}` is not the name of a module", name.escape_debug())]
    ModuleName {
        /// The name.
        name: String,
    },
    /// The function's name is empty, or has a character that is not printable ASCII.
    #[error("`{}` is not the name of a function", name.escape_debug())]
    FunctionName {
        /// The name.
        name: String,
    },
}

/// What is wrong with a relocation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RelocationProblem {
    /// No such symbol.
    #[error("there is no symbol {symbol}")]
    UnknownSymbol {
        /// The position named.
        symbol: u32,
    },
    /// The field is not inside the section.
    #[error("the field is not inside the section")]
    OutOfSection,
    /// Two relocations write the same bytes.
    #[error("the field overlaps the one at {other:#x}")]
    Overlap {
        /// Offset of the other field, in bytes.
        other: u32,
    },
    /// Addresses are 8-aligned, so that no base relocation crosses a page; ARM64 instructions are 4-aligned.
    #[error("the field is not aligned to {align} bytes")]
    Unaligned {
        /// The alignment it needs.
        align: u32,
    },
    /// Code pages are never written at load: memory integrity forbids it.
    #[error("code cannot hold an absolute address")]
    AbsoluteInCode,
    /// The kind patches an instruction, and the field is in data.
    #[error("the field is not in a code section")]
    InstructionInData,
    /// The kind patches an instruction that is not at this place, or of another machine.
    #[error("the field is not an instruction of the kind that the relocation patches")]
    WrongInstruction,
    /// The value does not fit the field.
    #[error("value {value:#x} does not fit the field")]
    OutOfRange {
        /// The value, in bytes.
        value: i128,
    },
    /// An absolute address that points at nothing.
    #[error("the symbol plus the addend is not inside the image")]
    OutsideImage,
    /// Another linker places each section on its own, so only the symbol's section has a place relative to the symbol.
    #[error("the symbol plus the addend is not inside the symbol's section")]
    OutsideSection,
}

/// What is wrong with a function.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FunctionProblem {
    /// No such section.
    #[error("there is no such section")]
    UnknownSection,
    /// Functions are code.
    #[error("the section is not code")]
    NotCode,
    /// Size 0, or beyond the section's end.
    #[error("its {size:#x} bytes are not inside the section")]
    OutOfSection {
        /// The function's size in bytes.
        size: u32,
    },
    /// Two functions share bytes, so that an address has no single unwind entry.
    #[error("it overlaps the function at {other:#x}")]
    Overlap {
        /// Offset of the other function, in bytes.
        other: u32,
    },
    /// ARM64 instructions are words.
    #[error("its extent is not in whole instructions")]
    Unaligned,
    /// Unwind data of another machine.
    #[error("its unwind data is not for {machine:?}")]
    WrongMachine {
        /// The object's machine.
        machine: Machine,
    },
    /// The prologue is longer than the function.
    #[error("its prologue of {size} bytes is longer than the function")]
    PrologueTooLong {
        /// Length of the prologue in bytes.
        size: u8,
    },
    /// An operation is not inside the prologue.
    #[error("an unwind operation ends at {offset:#x}, which is not inside the prologue")]
    OperationOutsidePrologue {
        /// Where the operation's instruction ends, in bytes from the start of the function.
        offset: u8,
    },
    /// Operations are listed from the last instruction to the first, one for each.
    #[error("the unwind operation at {offset:#x} is not before the one listed ahead of it")]
    OperationOrder {
        /// Where the operation's instruction ends, in bytes from the start of the function.
        offset: u8,
    },
    /// Only the registers that the calling convention preserves can be restored.
    #[error("register {register} is not one that a function preserves")]
    NotPreserved {
        /// Hardware number of the register.
        register: u8,
    },
    /// Zero, or not a multiple of 8.
    #[error("{bytes} is not a size or offset in the stack")]
    StackBytes {
        /// The size or offset.
        bytes: u32,
    },
    /// More than 255 slots of operations on x64; on ARM64 more than 255 words of codes or 65,535 epilogues.
    #[error("its unwind operations do not fit one record")]
    TooManyOperations,
    /// An ARM64 unwind code that does not exist, or is cut off.
    #[error("the ARM64 unwind code at byte {index} is not valid")]
    InvalidCode {
        /// Position of its first byte.
        index: usize,
    },
    /// The codes do not end with `end`.
    #[error("its ARM64 unwind codes do not end with `end`")]
    NoEnd,
    /// An epilogue is not inside the function, not behind the one before it, or names no code.
    #[error("its epilogue at {offset:#x} is out of order, out of the function, or does not name the start of a code")]
    Epilogue {
        /// Offset of the epilogue from the start of the function, in bytes.
        offset: u32,
    },
}
