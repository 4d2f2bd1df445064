//! What the interpreter executed.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{Function, InsnIndex, Instruction, Module, SourceLine};
use bpf2sys_lines::bytecode;
use bpf2sys_simulator::InterpretedTrace;

use super::flow::Known;
use super::{Branch, Coverage, Step, with_texts};

/// Most jumps that lead to jumps.
const MOST_JUMPS: usize = 64;

impl Coverage {
    /// What was executed of an object's programs and functions.
    pub fn of_interpreted(module: &Module, traces: &[InterpretedTrace]) -> Coverage {
        let traces: BTreeMap<&str, &InterpretedTrace> = traces.iter().map(|t| (t.function.as_str(), t)).collect();
        let table = bytecode::of_module(module);
        let files: BTreeMap<&str, u32> = table.files.iter().map(String::as_str).zip(0..).collect();
        let place = |line: &SourceLine| Some((*files.get(line.file.as_str())?, line.line));
        let mut counts = Vec::new();
        let mut steps = Vec::new();
        for (function, described) in module.functions.iter().zip(&table.functions) {
            let trace = traces.get(function.name.as_str());
            let executed = trace.into_iter().flat_map(|trace| &trace.instructions);
            let executed: BTreeMap<u32, u64> = executed.map(|i| (i.slot, i.count)).collect();
            let blocks = described.blocks.iter();
            let of_block = blocks.map(|block| Known {
                count: Some(executed.get(&block.first).copied().unwrap_or_default()),
                hint: None,
            });
            counts.push(of_block.collect());
            let jumps = trace.into_iter().flat_map(|trace| &trace.branches);
            let jumps: BTreeMap<u32, (u64, u64)> = jumps.map(|b| (b.slot, (b.taken, b.not_taken))).collect();
            for (index, insn) in (0..).map(InsnIndex).zip(&function.instructions) {
                let from = module.line(insn).and_then(|line| Some((place(line)?, line.column)));
                let (Some(((file, line), column)), Instruction::JumpIf { .. }) = (from, &insn.op) else {
                    continue;
                };
                let (taken, not_taken) = jumps.get(&insn.slot).copied().unwrap_or_default();
                let behind = InsnIndex(index.0 + 1);
                for (way, count) in [(function.jump_target(index), taken), (Some(behind), not_taken)] {
                    steps.push(Step {
                        from: (file, Branch { line, column }),
                        to: way.and_then(|way| goes_on(module, function, way)).and_then(place),
                        count,
                    });
                }
            }
        }
        let mut coverage = with_texts(&table);
        coverage.add_blocks(&table, &counts);
        coverage.add_branches(&table, steps);
        coverage
    }
}

/// The line where a function goes on, behind plain jumps.
fn goes_on<'a>(module: &'a Module, function: &Function, mut at: InsnIndex) -> Option<&'a SourceLine> {
    for _ in 0..MOST_JUMPS {
        let insn = function.instructions.get(at.index())?;
        match insn.op {
            Instruction::Jump { .. } => at = function.jump_target(at)?,
            _ => return module.line(insn),
        }
    }
    None
}
