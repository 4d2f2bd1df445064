//! From counts of eBPF blocks to counts of lines and functions.

use bpf2sys_lines::LineTable;

use super::regions::{self, Node};
use super::{Coverage, FunctionCoverage, flow};

/// How often each block of each function ran, in the table's order, as far as it is known.
pub(super) type BlockCounts = Vec<Vec<flow::Known>>;

impl Coverage {
    /// Adds the lines and functions of a table that has blocks.
    pub(super) fn add_blocks(&mut self, table: &LineTable, counts: &BlockCounts) {
        for (function, counts) in table.functions.iter().zip(counts) {
            let flow = flow::solve(&function.blocks, counts);
            let nodes: Vec<Node<(u32, u32)>> = (function.blocks.iter().zip(&flow.blocks))
                .map(|(block, count)| Node {
                    count: *count,
                    keys: block.lines.iter().copied().collect(),
                })
                .collect();
            for ((file, line), count) in regions::counts(&nodes, &flow.edges) {
                if let Some(name) = table.files.get(file as usize) {
                    let lines = &mut self.files.entry(name.clone()).or_default().lines;
                    *lines.entry(line).or_default() += count;
                }
            }
            let name = function
                .line
                .and_then(|(file, line)| Some((table.files.get(file as usize)?, line)));
            if let (Some((file, line)), Some(count)) = (name, flow.blocks.first()) {
                let functions = &mut self.files.entry(file.clone()).or_default().functions;
                let known = FunctionCoverage { line, count: 0 };
                functions.entry(function.name.clone()).or_insert(known).count += count;
            }
        }
    }
}
