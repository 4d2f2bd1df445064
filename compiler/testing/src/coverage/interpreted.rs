//! What the interpreter executed.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{Function, InsnIndex, Instruction, Module, SourceLine};
use bpf2sys_lines::LineTable;
use bpf2sys_simulator::InterpretedTrace;

use super::lines::Counts;
use super::{Branch, Coverage, Step, with_texts};

/// Most jumps that lead to jumps.
const MOST_JUMPS: usize = 64;

impl Coverage {
    /// What was executed of an object's programs and functions.
    pub fn of_interpreted(module: &Module, traces: &[InterpretedTrace]) -> Coverage {
        let traces: BTreeMap<&str, &InterpretedTrace> = traces.iter().map(|t| (t.function.as_str(), t)).collect();
        let mut table = LineTable::default();
        let mut counts = Counts::default();
        let mut steps = Vec::new();
        for (number, function) in (0..).zip(&module.functions) {
            let trace = traces.get(function.name.as_str());
            let executed = trace.into_iter().flat_map(|trace| &trace.instructions);
            let executed: BTreeMap<u32, u64> = executed.map(|i| (i.slot, i.count)).collect();
            let jumps = trace.into_iter().flat_map(|trace| &trace.branches);
            let jumps: BTreeMap<u32, (u64, u64)> = jumps.map(|b| (b.slot, (b.taken, b.not_taken))).collect();
            let mut first = None;
            for (index, insn) in (0..).map(InsnIndex).zip(&function.instructions) {
                let Some(line) = module.line(insn) else { continue };
                let file = table.file(&line.file);
                first = first.or(Some((file, line.line)));
                table
                    .texts
                    .entry((file, line.line))
                    .or_insert_with(|| line.text.clone());
                let count = executed.get(&insn.slot).copied().unwrap_or_default();
                counts.add((file, line.line), number, count);
                counts.add_function(number, number, insn.slot, count);
                if matches!(insn.op, Instruction::JumpIf { .. }) {
                    let (taken, not_taken) = jumps.get(&insn.slot).copied().unwrap_or_default();
                    let branch = Branch {
                        line: line.line,
                        column: line.column,
                    };
                    let behind = InsnIndex(index.0 + 1);
                    for (way, count) in [(function.jump_target(index), taken), (Some(behind), not_taken)] {
                        let to = way.and_then(|way| goes_on(module, function, way));
                        steps.push(Step {
                            from: (file, branch),
                            to: to.map(|line| (table.file(&line.file), line.line)),
                            count,
                        });
                    }
                }
            }
            table.functions.push(bpf2sys_lines::Function {
                name: function.name.clone(),
                rva: None,
                line: first,
            });
        }
        let mut coverage = with_texts(&table);
        counts.finish(&table, &mut coverage);
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
