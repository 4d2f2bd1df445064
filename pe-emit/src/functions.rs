//! The function table of the exception directory, and the unwind records it points to.
//!
//! Windows finds a function's unwind data by binary search in a table sorted by address (PE format, "The .pdata
//! Section"). A function without entry is taken for a leaf.

use std::collections::BTreeMap;
use std::mem::size_of;

use object::pe::{ImageArm64RuntimeFunctionEntry, ImageRuntimeFunctionEntry};
use object::pod::bytes_of;

use crate::address::Rva;
use crate::error::{FunctionProblem, LinkError};
use crate::layout::{Layout, Part};
use crate::native_object::{FunctionRange, Machine, NativeObject, SectionIndex, SectionKind, UnwindInfo};
use crate::unwind_arm64::{self, Fragment};
use crate::unwind_x64;

/// Entries and records are made of 32-bit words.
pub(crate) const ALIGN: u32 = 4;

/// The table with its records, addresses open.
pub(crate) struct FunctionTable {
    machine: Machine,
    /// In the order of the table: sections ascend in memory as they do in the object.
    entries: Vec<Entry>,
    /// All unwind records. Equal ones are there once.
    records: Vec<u8>,
}

/// A function, or a part of one, in the table.
pub(crate) struct Entry {
    pub section: SectionIndex,
    /// First byte, as an offset in the section.
    pub offset: u32,
    /// In bytes.
    pub size: u32,
    /// Where its record starts in the records.
    pub record: u32,
}

impl FunctionTable {
    /// Checks the extents of all functions and encodes their unwind data.
    pub(crate) fn new(object: &NativeObject) -> Result<Self, LinkError> {
        let mut functions: Vec<&FunctionRange> = object.functions.iter().collect();
        functions.sort_by_key(|function| (function.section, function.offset));
        let mut previous: Option<&FunctionRange> = None;
        let mut records = Vec::new();
        let mut places = BTreeMap::new();
        let mut entries = Vec::new();
        for function in functions {
            let &FunctionRange { section, offset, .. } = function;
            let error = |problem| LinkError::Function {
                section: section.0,
                offset,
                problem,
            };
            check_extent(object, function).map_err(error)?;
            if let Some(other) = previous.filter(|p| p.section == section && offset - p.offset < p.size) {
                return Err(error(FunctionProblem::Overlap { other: other.offset }));
            }
            previous = Some(function);
            for part in encode(object.machine, function).map_err(error)? {
                let record = *places.entry(part.record).or_insert_with_key(|bytes: &Vec<u8>| {
                    let place = records.len();
                    records.extend_from_slice(bytes);
                    place
                });
                entries.push(Entry {
                    section,
                    // A section beyond 4 GiB is refused by the layout.
                    offset: offset.saturating_add(part.offset),
                    size: part.size,
                    record: u32::try_from(record).map_err(|_| LinkError::ImageTooLarge)?,
                });
            }
        }
        Ok(Self {
            machine: object.machine,
            entries,
            records,
        })
    }

    /// Size of the table in bytes.
    pub(crate) fn size(&self) -> usize {
        self.entries.len()
            * match self.machine {
                Machine::X64 => size_of::<ImageRuntimeFunctionEntry>(),
                Machine::Arm64 => size_of::<ImageArm64RuntimeFunctionEntry>(),
            }
    }

    /// The entries, in the order of the table.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The unwind records, which hold no address.
    pub(crate) fn records(&self) -> &[u8] {
        &self.records
    }

    /// The bytes of the table.
    pub(crate) fn write(&self, layout: &Layout) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        let records = layout.find(Part::UnwindRecords).map_or(Rva(0), |part| part.rva);
        for entry in &self.entries {
            let begin = layout.section(entry.section).plus(entry.offset);
            let record = records.plus(entry.record);
            match self.machine {
                Machine::X64 => out.extend_from_slice(bytes_of(&ImageRuntimeFunctionEntry {
                    begin_address: begin.0.into(),
                    end_address: begin.plus(entry.size).0.into(),
                    unwind_info_address_or_data: record.0.into(),
                })),
                // Bits 0 and 1 of the second word are 0: it is the address of a full record.
                Machine::Arm64 => out.extend_from_slice(bytes_of(&ImageArm64RuntimeFunctionEntry {
                    begin_address: begin.0.into(),
                    unwind_data: record.0.into(),
                })),
            }
        }
        out
    }
}

fn check_extent(object: &NativeObject, function: &FunctionRange) -> Result<(), FunctionProblem> {
    let &FunctionRange {
        section, offset, size, ..
    } = function;
    let section = object
        .sections
        .get(section.0 as usize)
        .ok_or(FunctionProblem::UnknownSection)?;
    if section.kind != SectionKind::Code {
        return Err(FunctionProblem::NotCode);
    }
    if size == 0 || u64::from(offset) + u64::from(size) > section.data.len() as u64 {
        return Err(FunctionProblem::OutOfSection { size });
    }
    if object.machine == Machine::Arm64 && !(offset | size).is_multiple_of(unwind_arm64::INSTRUCTION) {
        return Err(FunctionProblem::Unaligned);
    }
    Ok(())
}

/// The function's records. A leaf needs none.
fn encode(machine: Machine, function: &FunctionRange) -> Result<Vec<Fragment>, FunctionProblem> {
    let size = function.size;
    match (machine, &function.unwind) {
        (_, UnwindInfo::Leaf) => Ok(Vec::new()),
        (Machine::X64, UnwindInfo::X64 { prologue_size, codes }) => unwind_x64::encode(*prologue_size, codes, size)
            .map(|record| {
                vec![Fragment {
                    offset: 0,
                    size,
                    record,
                }]
            }),
        (Machine::Arm64, UnwindInfo::Arm64 { codes, epilogs }) => unwind_arm64::encode(codes, epilogs, size),
        (Machine::X64, UnwindInfo::Arm64 { .. }) | (Machine::Arm64, UnwindInfo::X64 { .. }) => {
            Err(FunctionProblem::WrongMachine { machine })
        }
    }
}
