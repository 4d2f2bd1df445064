//! Where the loops of x86-64 code begin.
//!
//! Given: the parts of a function. Computed: the same with padding before the first instruction of each round of a short loop.
//! Safe because: padding does nothing, and is decoded again and found to do nothing.

use std::collections::BTreeSet;

use iced_x86::{FlowControl, Instruction};

use crate::parts_x64::{Form, Part};

/// Loops of at most that many bytes begin there.
const SHORT_LOOP: u32 = 192;

/// The same with padding before the heads of short loops.
pub(crate) fn with_padding(parts: Vec<Part>, instructions: &[Instruction]) -> Vec<Part> {
    let mut heads = vec![false; parts.len()];
    let targets: BTreeSet<usize> = parts.iter().filter_map(Part::target).collect();
    for (end, head) in ways_round(&parts, instructions) {
        if head > end {
            // The end stands before the head, and others jump to where it begins.
            if let Some(start) = targets.range(..=end).next_back() {
                heads[*start] = true;
            }
        } else if parts[end].start.saturating_sub(parts[head].start) <= SHORT_LOOP {
            heads[head] = true;
        }
    }
    let mut places = Vec::with_capacity(parts.len());
    let mut place = 0;
    for is_head in &heads {
        place += usize::from(*is_head);
        places.push(place);
        place += 1;
    }
    let mut padded = Vec::with_capacity(place);
    for (mut part, is_head) in parts.into_iter().zip(heads) {
        if let Form::Jump { target, .. } = &mut part.form {
            *target = places[*target];
        }
        if is_head {
            padded.push(Part {
                length: 0,
                is_relocated: false,
                form: Form::Padding(0),
                ..part
            });
        }
        padded.push(part);
    }
    padded
}

/// The jumps that go round loops, with the heads of these: those to what execution has come through to get there, on one way at
/// least.
fn ways_round(parts: &[Part], instructions: &[Instruction]) -> Vec<(usize, usize)> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; parts.len()];
    let mut ways = Vec::new();
    // What is open, each with whether its jump, and what follows it, were gone through.
    let mut open = vec![(0, 0)];
    while let Some((position, step)) = open.last_mut() {
        let part = &parts[*position];
        let flow = instructions[part.source].flow_control();
        let ends = matches!(flow, FlowControl::Return | FlowControl::UnconditionalBranch)
            && !matches!(part.form, Form::Removed);
        let to = match *step {
            0 => Some(*position + 1).filter(|next| !ends && *next < parts.len()),
            1 => part.target(),
            _ => {
                states[*position] = State::Done;
                open.pop();
                continue;
            }
        };
        states[*position] = State::Open;
        let from = *position;
        *step += 1;
        match to.map(|to| (to, states[to])) {
            Some((to, State::New)) => open.push((to, 0)),
            Some((to, State::Open)) => ways.push((from, to)),
            _ => {}
        }
    }
    ways
}
