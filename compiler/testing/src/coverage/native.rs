//! What native code executed.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_lines::{LineTable, Place, SlotKind};
use bpf2sys_simulator::NativeTrace;
use bpf2sys_simulator::image::Rva;
use bpf2sys_simulator::program_code::{CodeInstruction, ProgramCode};

use super::bytecode::BlockCounts;
use super::flow::Known;
use super::regions::{self, Edge, Node};
use super::{Branch, Coverage, FunctionCoverage, Step, with_texts};

/// Most instructions between a branch and the code of the place that it leads to: those that keep values where they are expected.
const MOST_BETWEEN: usize = 256;

impl Coverage {
    /// What a driver executed. `code` is what its programs are made of.
    pub fn of_native(table: &LineTable, code: &[ProgramCode], trace: &NativeTrace) -> Coverage {
        let run = Run::new(table, code, trace);
        let mut coverage = with_texts(table);
        if run.knows_slots {
            coverage.add_blocks(table, &run.block_counts());
        } else {
            run.add_lines(&mut coverage);
        }
        coverage.add_branches(table, run.steps());
        coverage.files.retain(|_, file| !file.lines.is_empty());
        coverage
    }
}

/// The code of a driver, and how often each instruction was executed.
struct Run<'a> {
    table: &'a LineTable,
    /// By RVA.
    code: BTreeMap<u32, CodeInstruction>,
    executed: BTreeMap<u32, u64>,
    /// Of conditional branches: how often they were taken, and not.
    jumps: BTreeMap<u32, (u64, u64)>,
    /// Whether the table has eBPF instructions.
    knows_slots: bool,
}

/// An eBPF instruction: its function and slot.
type Instruction = (u32, u32);

impl<'a> Run<'a> {
    fn new(table: &'a LineTable, code: &[ProgramCode], trace: &NativeTrace) -> Run<'a> {
        let instructions = code.iter().flat_map(|program| &program.instructions);
        let mut code: BTreeMap<u32, CodeInstruction> = instructions.map(|one| (one.rva.0, *one)).collect();
        // What only running found, behind a computed jump.
        for one in &trace.instructions {
            code.entry(one.rva).or_insert(CodeInstruction {
                rva: Rva(one.rva),
                next: None,
                target: None,
                is_conditional: false,
            });
        }
        let branches = trace.branches.iter();
        Run {
            table,
            code,
            executed: trace.instructions.iter().map(|one| (one.rva, one.count)).collect(),
            jumps: branches.map(|one| (one.rva, (one.taken, one.not_taken))).collect(),
            knows_slots: table.functions.iter().any(|function| !function.blocks.is_empty()),
        }
    }

    fn count(&self, rva: u32) -> u64 {
        self.executed.get(&rva).copied().unwrap_or_default()
    }

    /// The blocks of native code in its order, with what `keys` says of each instruction; and the ways between them.
    fn blocks<K: Ord>(&self, key: impl Fn(&Place) -> Option<K>) -> (Vec<Node<K>>, Vec<Edge>) {
        let mut starts: BTreeSet<u32> = BTreeSet::new();
        let mut behind = None;
        for (&rva, instruction) in &self.code {
            // Where code does not go on, or is not what the last instruction led to, something else begins.
            if behind != Some(rva) {
                starts.insert(rva);
            }
            let is_call = !instruction.is_conditional && instruction.next.is_some() && instruction.target.is_some();
            if !is_call {
                starts.extend(instruction.target.map(|target| target.0));
            }
            behind = instruction
                .next
                .map(|next| next.0)
                .filter(|_| !instruction.is_conditional);
        }
        let mut nodes: Vec<Node<K>> = Vec::new();
        let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
        let mut ends: Vec<(usize, CodeInstruction)> = Vec::new();
        for (&rva, instruction) in &self.code {
            if starts.contains(&rva) || nodes.is_empty() {
                numbers.insert(rva, nodes.len());
                nodes.push(Node {
                    count: self.count(rva),
                    keys: BTreeSet::new(),
                });
                ends.push((nodes.len() - 1, *instruction));
            }
            if let (Some(node), Some(end)) = (nodes.last_mut(), ends.last_mut()) {
                node.keys.extend(self.table.place(rva).and_then(|place| key(&place)));
                end.1 = *instruction;
            }
        }
        let mut edges = Vec::new();
        for (from, last) in ends {
            let count = self.count(last.rva.0);
            let (taken, not_taken) = match self.jumps.get(&last.rva.0) {
                Some(ways) => *ways,
                None if last.is_conditional => (0, 0),
                None => (count, count),
            };
            for (way, gone) in [(last.target, taken), (last.next, not_taken)] {
                if let Some(to) = way.and_then(|way| numbers.get(&way.0)) {
                    edges.push((from, *to, gone));
                }
            }
        }
        (nodes, edges)
    }

    /// How often each block of eBPF ran.
    ///
    /// Its conditional jump and instructions with effects tell that; and only where these and all blocks around it tell nothing, those that compute
    /// values.
    fn block_counts(&self) -> BlockCounts {
        let mut kinds: BTreeMap<Instruction, SlotKind> = BTreeMap::new();
        for place in self.table.rows.iter().filter_map(|row| row.place) {
            if let (Some(function), Some(slot)) = (place.function, place.slot) {
                kinds.insert((function, slot.number), slot.kind);
            }
        }
        let (nodes, edges) = self.blocks(|place| Some((place.function?, place.slot?.number)));
        let blocks = self.table.functions.iter().map(|function| &function.blocks);
        let mut best: BlockCounts = blocks.map(|blocks| vec![Known::default(); blocks.len()]).collect();
        for ((function, slot), count) in regions::counts(&nodes, &edges) {
            let Some(blocks) = self
                .table
                .functions
                .get(function as usize)
                .map(|function| &function.blocks)
            else {
                continue;
            };
            let behind = blocks.partition_point(|block| block.first <= slot);
            let Some(known) = behind
                .checked_sub(1)
                .and_then(|last| best[function as usize].get_mut(last))
            else {
                continue;
            };
            let kind = kinds.get(&(function, slot)).copied().unwrap_or_default();
            match kind {
                SlotKind::Exit | SlotKind::Value => known.hint = known.hint.max(Some(count)),
                SlotKind::Effect | SlotKind::Condition => known.count = known.count.max(Some(count)),
            }
        }
        best
    }

    /// Adds the lines and functions of a table that knows nothing of eBPF.
    fn add_lines(&self, coverage: &mut Coverage) {
        let (nodes, edges) = self.blocks(|place| Some((place.file, place.line)));
        for ((file, line), count) in regions::counts(&nodes, &edges) {
            if let Some(name) = self.table.files.get(file as usize) {
                coverage
                    .files
                    .entry(name.clone())
                    .or_default()
                    .lines
                    .insert(line, count);
            }
        }
        for function in &self.table.functions {
            let (Some(rva), Some((file, line))) = (function.rva, function.line) else {
                continue;
            };
            if let Some(name) = self
                .table
                .files
                .get(file as usize)
                .filter(|_| self.code.contains_key(&rva))
            {
                let functions = &mut coverage.files.entry(name.clone()).or_default().functions;
                let count = self.count(rva);
                functions.insert(function.name.clone(), FunctionCoverage { line, count });
            }
        }
    }

    /// Where branches go.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (&rva, instruction) in self.code.iter().filter(|(_, one)| one.is_conditional) {
            let Some(place) = self.table.place(rva) else { continue };
            let is_condition = place.slot.is_some_and(|slot| slot.kind == SlotKind::Condition);
            if self.knows_slots && !is_condition {
                continue;
            }
            let (taken, not_taken) = self.jumps.get(&rva).copied().unwrap_or_default();
            let branch = Branch {
                line: place.line,
                column: place.column,
            };
            for (way, count) in [(instruction.target, taken), (instruction.next, not_taken)] {
                steps.push(Step {
                    from: (place.file, branch),
                    to: self.follow(way, &place),
                    count,
                });
            }
        }
        steps
    }

    /// The file and line where the code goes on that a branch of a place leads to.
    fn follow(&self, way: Option<Rva>, of: &Place) -> Option<(u32, u32)> {
        let mut at = way?;
        for _ in 0..MOST_BETWEEN {
            let instruction = self.code.get(&at.0)?;
            let jumps = instruction.next.is_none() && instruction.target.is_some();
            let place = self.table.place(at.0).filter(|place| {
                if self.knows_slots {
                    // Those of the branch itself move values to where the code there expects them.
                    (place.function, place.slot) != (of.function, of.slot)
                } else {
                    !jumps
                }
            });
            if let Some(place) = place {
                return Some((place.file, place.line));
            }
            at = if jumps { instruction.target } else { instruction.next }?;
        }
        None
    }
}
