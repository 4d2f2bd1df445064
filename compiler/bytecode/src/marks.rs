//! What an object shows of the system that it was compiled for, before anything in it is read as one system or the other means it.
//!
//! Given: the bytes of an object. Computed: names of its sections, structures, helpers and types of maps, as they stand there.
//! Safe because: nothing is concluded here, and what cannot be read as far as this is no mark.

use std::collections::BTreeSet;

use crate::btf::{Btf, Type};
use crate::elf::Elf;
use crate::error::ReadError;
use crate::functions::FunctionTable;
use crate::{Callee, FunctionIndex, Imm64, Instruction, Operand, References, Reg, Width, decode, maps};

/// What an object shows of the system that it was compiled for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Names of the sections that have content, in file order.
    pub sections: Vec<String>,
    /// Names of those with instructions.
    pub code: Vec<String>,
    /// Structures that BTF names, with their sizes in bytes.
    pub structures: BTreeSet<(String, u32)>,
    /// Ids of the helpers that are called.
    pub helpers: BTreeSet<i32>,
    /// Maps that are defined.
    pub maps: Vec<MapMark>,
    /// Loads from the context on the way straight from the start of a function to its first jump.
    pub context_loads: BTreeSet<ContextLoad>,
}

/// A map that is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapMark {
    /// Its name.
    pub name: String,
    /// Number of its type.
    pub map_type: u32,
    /// What its `map_flags` member says, if BTF defines it and it has one.
    pub flags: Option<u32>,
}

/// A load from the context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextLoad {
    /// The section that it is in.
    pub section: String,
    /// Distance from the context's start, in bytes.
    pub offset: i16,
    /// Bytes that are loaded.
    pub width: u32,
}

/// References that lead anywhere: what an instruction refers to is no mark.
struct Anywhere;

impl References for Anywhere {
    fn imm64(&self, _slot: u32) -> Option<Imm64> {
        Some(Imm64::Constant(0))
    }

    fn call(&self, _slot: u32, _imm: i32) -> Option<Callee> {
        Some(Callee::Local(FunctionIndex(0)))
    }
}

impl Marks {
    /// Looks for marks in an object.
    ///
    /// # Errors
    /// It is no ELF object for eBPF of little endian, or its tables or types are damaged.
    pub fn read(bytes: &[u8]) -> Result<Marks, ReadError> {
        let elf = Elf::parse(bytes)?;
        let table = FunctionTable::read(&elf)?;
        let btf = elf.section_by_name(".BTF")?.map(|s| Btf::parse(s.data)).transpose()?;
        let mut marks = Marks {
            sections: elf
                .sections
                .iter()
                .filter(|s| s.size != 0 && !s.name.is_empty())
                .map(|s| s.name.to_owned())
                .collect(),
            ..Marks::default()
        };
        for section in &table.sections {
            marks.code.push(section.section.name.to_owned());
            for extent in &section.functions {
                let slots = section.slots.get(extent.start as usize..extent.end as usize);
                if let Ok(instructions) = decode(slots.unwrap_or_default(), &Anywhere) {
                    marks.instructions(section.section.name, instructions.iter().map(|insn| insn.op));
                }
            }
        }
        if let Some(btf) = &btf {
            for (_, entry) in btf.types() {
                if let Type::Struct { size, name, .. } = entry
                    && let Ok(name) = btf.name(*name)
                    && !name.is_empty()
                {
                    marks.structures.insert((name.to_owned(), *size));
                }
            }
        }
        marks.maps = maps::marks(&elf, btf.as_ref());
        Ok(marks)
    }

    /// Takes note of a function's instructions.
    fn instructions(&mut self, section: &str, ops: impl Iterator<Item = Instruction>) {
        // Registers with the context's address, as long as there was no jump.
        let mut context = Some([false; Reg::COUNT]);
        if let Some(registers) = &mut context {
            registers[Reg::R1.index()] = true;
        }
        for op in ops {
            if let Instruction::Call(Callee::Helper(id)) = op {
                self.helpers.insert(id);
            }
            let Some(registers) = &mut context else { continue };
            match op {
                Instruction::Load {
                    width,
                    dst,
                    base,
                    offset,
                    ..
                } => {
                    if registers[base.index()] {
                        self.context_loads.insert(ContextLoad {
                            section: section.to_owned(),
                            offset,
                            width: Width::bytes(width),
                        });
                    }
                    registers[dst.index()] = false;
                }
                Instruction::Alu {
                    op: crate::AluOp::Mov,
                    size: crate::WordSize::W64,
                    dst,
                    src: Operand::Reg(src),
                } => registers[dst.index()] = registers[src.index()],
                Instruction::Alu { dst, .. }
                | Instruction::Movsx { dst, .. }
                | Instruction::Neg { dst, .. }
                | Instruction::ByteSwap { dst, .. }
                | Instruction::LoadImm64 { dst, .. } => registers[dst.index()] = false,
                Instruction::Call(_) | Instruction::CallX(_) | Instruction::LegacyPacket { .. } => {
                    registers[..6].fill(false);
                }
                // Behind a conditional jump that is not taken, registers are as before.
                Instruction::Store { .. } | Instruction::JumpIf { .. } => {}
                Instruction::Atomic { src, .. } => {
                    registers[src.index()] = false;
                    registers[0] = false;
                }
                Instruction::Jump { .. } | Instruction::Exit => context = None,
            }
        }
    }
}
