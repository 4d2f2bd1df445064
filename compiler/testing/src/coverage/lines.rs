//! From counts of instructions to counts of lines and functions.

use std::collections::BTreeMap;

use bpf2sys_lines::LineTable;

use super::{Coverage, FunctionCoverage};

/// Counts as they come.
#[derive(Default)]
pub(super) struct Counts {
    /// By file and line, and by the function whose code the instruction is in: the largest count.
    lines: BTreeMap<(u32, u32), BTreeMap<u32, u64>>,
    /// By source function, and by the function whose code the instruction is in: its first instruction that has code, and the largest
    /// count of it.
    functions: BTreeMap<u32, BTreeMap<u32, (u32, u64)>>,
}

impl Counts {
    /// An instruction of a line. `native` is the function whose code it is in.
    pub(super) fn add(&mut self, line: (u32, u32), native: u32, count: u64) {
        let known = self.lines.entry(line).or_default().entry(native).or_default();
        *known = count.max(*known);
    }

    /// An instruction of a source function; `position` grows through it.
    pub(super) fn add_function(&mut self, function: u32, native: u32, position: u32, count: u64) {
        let copies = self.functions.entry(function).or_default();
        let (first, most) = copies.entry(native).or_insert((position, 0));
        if position < *first {
            (*first, *most) = (position, 0);
        }
        if position == *first {
            *most = count.max(*most);
        }
    }

    /// Puts them where their lines are.
    pub(super) fn finish(self, table: &LineTable, coverage: &mut Coverage) {
        for ((file, line), copies) in self.lines {
            if let Some(name) = table.files.get(file as usize) {
                let file = coverage.files.entry(name.clone()).or_default();
                file.lines.insert(line, copies.values().sum());
            }
        }
        for (function, copies) in self.functions {
            let Some(function) = table.functions.get(function as usize) else {
                continue;
            };
            let Some((name, line)) = function
                .line
                .and_then(|(file, line)| Some((table.files.get(file as usize)?, line)))
            else {
                continue;
            };
            let file = coverage.files.entry(name.clone()).or_default();
            let known = file
                .functions
                .entry(function.name.clone())
                .or_insert(FunctionCoverage { line, count: 0 });
            known.count += copies.values().map(|(_, count)| count).sum::<u64>();
        }
    }
}
