//! What an object file says, after everything in it has been checked.

use crate::{
    Callee, DataTypes, FunctionIndex, GlobalIndex, Guid, InsnIndex, Instruction, LineIndex, MapIndex, ObjectHash,
    Unresolved,
};

/// An eBPF object file.
///
/// Every index found inside is in range, every jump lands on an instruction of its own function, and names are valid
/// UTF-8 without NUL.
#[derive(Clone, Debug)]
pub struct Module {
    /// The object's base name: the file name up to its first `.`.
    pub name: String,
    /// Hash of the file's bytes; `None` if the module is to state no hashes.
    pub hash: Option<ObjectHash>,
    /// Programs and subprograms, in order of section and of offset in it.
    pub functions: Vec<Function>,
    /// All maps in the module's table order (native module contract §7), those behind global variables included.
    pub maps: Vec<Map>,
    /// Global variable sections, in section order.
    pub globals: Vec<GlobalSection>,
    /// Functions of other Windows modules that the code calls, each once, sorted by the GUID's bytes and then by name: the order in which
    /// the runtime hashes them (native module contract §4.8).
    pub btf_functions: Vec<BtfFunction>,
    /// Source lines that instructions refer to.
    pub lines: Vec<SourceLine>,
    /// What the code refers to and nothing is known of, in order of function and slot. Empty of objects for Windows, which are refused then.
    pub unresolved: Vec<Unresolved>,
    /// What the bytes of map entries and global variables mean. Nothing that runs depends on it.
    pub types: DataTypes,
}

/// A program or subprogram.
#[derive(Clone, Debug)]
pub struct Function {
    /// Symbol name.
    pub name: String,
    /// ELF section name.
    pub section: String,
    /// Offset in bytes of the first instruction in that section.
    pub section_offset: u64,
    /// Whether the runtime can invoke it.
    pub kind: FunctionKind,
    /// The instructions; never empty.
    pub instructions: Vec<Insn>,
}

/// Whether a function is an entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// Invoked by the runtime, with a context.
    Program,
    /// Only called from other functions of the module.
    Subprogram,
}

/// One instruction at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Number of 8-byte slots before it in the function.
    pub slot: u32,
    /// What it does.
    pub op: Instruction,
    /// The source line it came from, from `.BTF.ext`.
    pub line: Option<LineIndex>,
}

impl Insn {
    /// Instructions one behind the other from slot 0 on, without source lines.
    pub fn sequence(ops: impl IntoIterator<Item = Instruction>) -> Vec<Insn> {
        let mut slot = 0;
        ops.into_iter()
            .map(|op| {
                let insn = Insn { slot, op, line: None };
                slot += op.slots();
                insn
            })
            .collect()
    }
}

/// A source line of `.BTF.ext`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceLine {
    /// File name as the compiler was given it.
    pub file: String,
    /// Line number from 1; 0 when the compiler had none.
    pub line: u32,
    /// Column from 1; 0 when the compiler had none.
    pub column: u32,
    /// The line's text; may be empty.
    pub text: String,
}

/// A map definition as the object states it: the fields of `ebpf_map_definition_in_file_t` (native module contract §1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MapDefinition {
    /// Map type number.
    pub map_type: u32,
    /// Key size in bytes.
    pub key_size: u32,
    /// Value size in bytes.
    pub value_size: u32,
    /// Capacity; bytes for ring buffers.
    pub max_entries: u32,
    /// Index of the inner map template in the map table; 0 when unused (so map 0 cannot be named this way).
    pub inner_map_idx: u32,
    /// Pinning, `Pinning::None` or `Pinning::ByName` as number.
    pub pinning: Pinning,
    /// Identity inside the module: the BTF type id of the map, or what a legacy record says.
    pub id: u32,
    /// `id` of the inner map template; 0 when unused.
    pub inner_id: u32,
}

/// Where a map is pinned when it is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Pinning {
    /// Not pinned.
    #[default]
    None = 0,
    /// Pinned under its name.
    ByName = 1,
}

/// A map.
#[derive(Clone, Debug)]
pub struct Map {
    /// Symbol name; `__anonymous_N` for inner map templates without one; object prefix and section for globals.
    pub name: String,
    /// The definition.
    pub definition: MapDefinition,
    /// Creation flags (`map_flags`), which only Linux has.
    pub flags: u32,
    /// The template of a map of maps, resolved.
    pub inner: Option<MapIndex>,
    /// Where the definition came from.
    pub origin: MapOrigin,
    /// Initial slots (`values` member): `None` leaves a slot empty. Empty when the map has no such member.
    pub initial_values: Vec<Option<InitialValue>>,
}

/// Where a map definition came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOrigin {
    /// `.maps` with BTF.
    Btf,
    /// A template that only another map's BTF definition contains.
    Anonymous,
    /// A record of a legacy `maps` section.
    Legacy,
    /// The memory behind a global variable section.
    Global(GlobalIndex),
    /// A record of this ring buffer, which an object for Linux gets before it fills it. No object for Windows has such maps.
    Record(MapIndex),
}

/// What a slot of a program array or a map of maps holds when the module is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialValue {
    /// A map of this module.
    Map(MapIndex),
    /// A program of this module.
    Program(FunctionIndex),
}

/// A function of another Windows module, which the runtime finds by name: declared `extern` in `.ksyms` with the tag `module_id:{GUID}`
/// (native module contract §4.7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BtfFunction {
    /// Identity of the module that provides it.
    pub module: Guid,
    /// Its name.
    pub name: String,
}

/// A section of global variables.
#[derive(Clone, Debug)]
pub struct GlobalSection {
    /// ELF section name, e.g. `.rodata` or `.data.config`.
    pub section: String,
    /// The map that holds it at run time.
    pub map: MapIndex,
    /// Initial bytes; zeros for `.bss`. Never empty.
    pub data: Vec<u8>,
    /// Whether programs may not write it (`.rodata*`).
    pub read_only: bool,
}

impl Module {
    /// The functions that the runtime can invoke, in file order.
    pub fn programs(&self) -> impl Iterator<Item = (FunctionIndex, &Function)> {
        self.functions
            .iter()
            .enumerate()
            .filter(|(_, f)| f.kind == FunctionKind::Program)
            .map(|(i, f)| (FunctionIndex(i as u32), f))
    }

    /// The function at `index`, which must come from this module.
    pub fn function(&self, index: FunctionIndex) -> &Function {
        &self.functions[index.index()]
    }

    /// Every other function that calls from `root` can reach, ascending.
    pub fn reachable_from(&self, root: FunctionIndex) -> Vec<FunctionIndex> {
        let mut seen = vec![false; self.functions.len()];
        let mut work = vec![root];
        seen[root.index()] = true;
        while let Some(index) = work.pop() {
            for insn in &self.function(index).instructions {
                if let Instruction::Call(Callee::Local(callee)) = insn.op
                    && !std::mem::replace(&mut seen[callee.index()], true)
                {
                    work.push(callee);
                }
            }
        }
        seen[root.index()] = false;
        (0..self.functions.len() as u32)
            .map(FunctionIndex)
            .filter(|f| seen[f.index()])
            .collect()
    }

    /// The source line of an instruction, if the object carries one.
    pub fn line(&self, insn: &Insn) -> Option<&SourceLine> {
        insn.line.map(|l| &self.lines[l.index()])
    }
}

impl Function {
    /// Length in 8-byte slots.
    pub fn slots(&self) -> u32 {
        self.instructions.last().map_or(0, |i| i.slot + i.op.slots())
    }

    /// The instruction that starts at `slot`, or `None` past the end or inside an `lddw`.
    pub fn at_slot(&self, slot: u32) -> Option<InsnIndex> {
        self.instructions
            .binary_search_by_key(&slot, |i| i.slot)
            .ok()
            .map(|i| InsnIndex(i as u32))
    }

    /// Where a jump at `index` goes when it is taken; `None` if that instruction is no jump.
    pub fn jump_target(&self, index: InsnIndex) -> Option<InsnIndex> {
        let insn = self.instructions.get(index.index())?;
        let offset = insn.op.jump_offset()?;
        let slot = i64::from(insn.slot) + 1 + i64::from(offset);
        self.at_slot(u32::try_from(slot).ok()?)
    }
}
