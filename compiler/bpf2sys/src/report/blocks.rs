//! What the graph of a function says of its blocks.

use std::ops::RangeInclusive;

use bpf2sys_bytecode::{Callee, FunctionIndex, InsnIndex, Instruction};
use bpf2sys_verifier::VerifiedModule;

use super::Context;
use super::summary::helper_name;

/// Most lines of text in a block.
const MAX_LINES: usize = 5;

/// The slots of a block, its lines of source, and what it calls.
pub(super) fn lines(
    context: &Context<'_>,
    verified: &VerifiedModule,
    index: FunctionIndex,
    range: RangeInclusive<InsnIndex>,
) -> Vec<String> {
    let module = verified.module();
    let all = module
        .function(index)
        .instructions
        .get(range.start().index()..=range.end().index());
    let all = all.unwrap_or_default();
    let slots = all.iter().map(|insn| insn.slot);
    let sources = all.iter().filter_map(|insn| module.line(insn)).map(|line| line.line);
    let mut lines: Vec<String> = span(slots).map(|slots| slots.1).into_iter().collect();
    lines.extend(span(sources).map(|(several, text)| format!("{} {text}", if several { "lines" } else { "line" })));
    let mut programs = verified.programs().iter();
    let program = programs.find(|program| program.function == index || program.reachable.contains(&index));
    for insn in all {
        match insn.op {
            Instruction::Call(Callee::Helper(id)) => lines.push(program.map_or_else(
                || format!("helper {id}"),
                |program| helper_name(context, &program.program_type, id as u32),
            )),
            Instruction::Call(Callee::Local(callee)) => lines.push(module.function(callee).name.clone()),
            Instruction::Exit => lines.push("exit".to_owned()),
            _ => {}
        }
    }
    if lines.len() > MAX_LINES {
        lines.truncate(MAX_LINES - 1);
        lines.push("…".to_owned());
    }
    lines
}

/// The lowest and the highest number as text, and whether they differ.
fn span(numbers: impl Iterator<Item = u32> + Clone) -> Option<(bool, String)> {
    let (low, high) = (numbers.clone().min()?, numbers.max()?);
    Some(if low == high {
        (false, low.to_string())
    } else {
        (true, format!("{low}–{high}"))
    })
}
