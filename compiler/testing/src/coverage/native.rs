//! What native code executed.

use std::collections::BTreeMap;

use bpf2sys_lines::{LineTable, Place};
use bpf2sys_simulator::NativeTrace;
use bpf2sys_simulator::image::Rva;
use bpf2sys_simulator::program_code::{CodeInstruction, ProgramCode};

use super::lines::Counts;
use super::{Branch, Coverage, Step, with_texts};

/// Most instructions between a branch and the code of the place that it leads to: those that keep values where they are expected.
const MOST_BETWEEN: usize = 256;

impl Coverage {
    /// What a driver executed. `code` is what its programs are made of.
    pub fn of_native(table: &LineTable, code: &[ProgramCode], trace: &NativeTrace) -> Coverage {
        let executed: BTreeMap<u32, u64> = trace.instructions.iter().map(|i| (i.rva, i.count)).collect();
        let jumps = trace.branches.iter();
        let jumps: BTreeMap<u32, (u64, u64)> = jumps.map(|b| (b.rva, (b.taken, b.not_taken))).collect();
        let mut possible: BTreeMap<u32, CodeInstruction> = BTreeMap::new();
        for instruction in code.iter().flat_map(|program| &program.instructions) {
            possible.insert(instruction.rva.0, *instruction);
        }
        // What only running found, behind a computed jump.
        for rva in executed.keys() {
            possible.entry(*rva).or_insert(CodeInstruction {
                rva: Rva(*rva),
                next: None,
                target: None,
                is_conditional: false,
            });
        }
        let ways = Ways {
            table,
            code: &possible,
            knows_slots: table
                .rows
                .iter()
                .any(|row| row.place.is_some_and(|place| place.slot.is_some())),
        };
        let functions = table.native_functions();
        let mut counts = Counts::default();
        let mut steps = Vec::new();
        for (&rva, instruction) in &possible {
            let Some(place) = table.place(rva) else { continue };
            let count = executed.get(&rva).copied().unwrap_or_default();
            let behind = functions.partition_point(|(start, _)| *start <= rva);
            let native = behind.checked_sub(1).map_or(u32::MAX, |last| functions[last].1);
            counts.add((place.file, place.line), native, count);
            let position = place.slot.map_or(rva, |slot| slot.number);
            counts.add_function(place.function.unwrap_or(native), native, position, count);
            if ways.is_branch(instruction, &place) {
                let (taken, not_taken) = jumps.get(&rva).copied().unwrap_or_default();
                for (way, count) in [(instruction.target, taken), (instruction.next, not_taken)] {
                    let branch = Branch {
                        line: place.line,
                        column: place.column,
                    };
                    steps.push(Step {
                        from: (place.file, branch),
                        to: ways.follow(way, &place),
                        count,
                    });
                }
            }
        }
        let mut coverage = with_texts(table);
        counts.finish(table, &mut coverage);
        coverage.add_branches(table, steps);
        coverage.files.retain(|_, file| !file.lines.is_empty());
        coverage
    }
}

/// Finds out where branches lead.
struct Ways<'a> {
    table: &'a LineTable,
    code: &'a BTreeMap<u32, CodeInstruction>,
    /// Whether the table has eBPF instructions.
    knows_slots: bool,
}

impl Ways<'_> {
    fn is_branch(&self, instruction: &CodeInstruction, place: &Place) -> bool {
        let is_of_source = !self.knows_slots || place.slot.is_some_and(|slot| slot.is_conditional);
        instruction.is_conditional && is_of_source
    }

    /// The file and line where the code goes on that a branch of this place leads to.
    fn follow(&self, way: Option<Rva>, of: &Place) -> Option<(u32, u32)> {
        let mut at = way?;
        for _ in 0..MOST_BETWEEN {
            let instruction = self.code.get(&at.0)?;
            let jumps = instruction.next.is_none() && instruction.target.is_some();
            if let Some(place) = self.table.place(at.0)
                // Of the branch itself: values are moved to where the code there expects them.
                && (self.knows_slots && (place.function, place.slot) != (of.function, of.slot) || !self.knows_slots && !jumps)
            {
                return Some((place.file, place.line));
            }
            at = if jumps { instruction.target } else { instruction.next }?;
        }
        None
    }
}
