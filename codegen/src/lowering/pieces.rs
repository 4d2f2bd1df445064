//! Where a long function is cut into native functions of bounded length.
//!
//! Given: a function and its flow.
//! Computed: pieces, each a range of instructions, and where control enters each from another.
//! Safe because: every instruction that is emitted lies in exactly one piece, and every edge between pieces ends at an entry.
//!
//! Optimizer and register allocator take more than linear time and memory for one function, and some shapes (deep trees
//! of branches, thousands of constants) are quadratic. So no native function is made of more than
//! [`MOST_INSTRUCTIONS`] instructions. A longer eBPF function becomes a *dispatcher*, which has the signature, the
//! stack and the registers, and pieces, which it calls in turn: a piece takes the live registers from memory, runs until
//! control leaves its range, puts the live registers back and returns the instruction to go on with.

use std::ops::Range;

use bpf2sys_bytecode::{Function, InsnIndex};

use super::flow::{Flow, Next};

/// Most instructions of a native function. Below this a function is one native function, as compilers for eBPF expect:
/// programs that an older kernel takes have up to 4,096 instructions. The figure is a compromise: time per instruction grows
/// slowly up to here, and what crosses from piece to piece costs some tens of cycles.
pub(crate) const MOST_INSTRUCTIONS: u32 = 8192;

/// What a jump back over a cut counts, in jumps forward: loops should stay in one piece.
const BACK_EDGE: i64 = 64;

/// A part of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Positions of its instructions.
    pub(crate) range: Range<u32>,
    /// The instructions where control enters, ascending. At least one.
    pub(crate) entries: Vec<InsnIndex>,
}

/// Cuts a function into pieces of at most `most` instructions; `None` if it is no longer than that.
pub(crate) fn cut(function: &Function, flow: &Flow, most: u32) -> Option<Vec<Piece>> {
    let count = function.instructions.len() as u32;
    if count <= most {
        return None;
    }
    let crossing = crossings(count, flow);
    let mut starts = vec![0];
    let mut start = 0;
    while count - start > most {
        // The cheapest place in the second half of what is possible, the last of equal ones.
        start = (start + most.div_ceil(2)..=start + most)
            .rev()
            .min_by_key(|at| crossing[*at as usize])
            .unwrap_or(start + most);
        starts.push(start);
    }
    let piece_of = |index: InsnIndex| starts.partition_point(|start| *start <= index.0) - 1;
    let mut pieces: Vec<Piece> = (0..starts.len())
        .map(|i| Piece {
            range: starts[i]..starts.get(i + 1).copied().unwrap_or(count),
            entries: Vec::new(),
        })
        .collect();
    pieces[0].entries.push(InsnIndex(0));
    for (from, to) in edges(count, flow) {
        let piece = piece_of(to);
        if piece_of(from) != piece {
            pieces[piece].entries.push(to);
        }
    }
    for piece in &mut pieces {
        piece.entries.sort_unstable();
        piece.entries.dedup();
    }
    // Nothing goes to a piece without an entry.
    pieces.retain(|piece| !piece.entries.is_empty());
    Some(pieces)
}

/// By position: what it costs to cut before it.
fn crossings(count: u32, flow: &Flow) -> Vec<i64> {
    // Changes from each position to the next first, then their sums.
    let mut crossing = vec![0_i64; count as usize + 1];
    for (from, to) in edges(count, flow) {
        let (low, high, cost) = if to.0 > from.0 {
            (from.0 + 1, to.0 + 1, 1)
        } else {
            (to.0 + 1, from.0 + 1, BACK_EDGE)
        };
        crossing[low as usize] += cost;
        if let Some(end) = crossing.get_mut(high as usize) {
            *end -= cost;
        }
    }
    let mut sum = 0;
    for cost in &mut crossing {
        sum += *cost;
        *cost = sum;
    }
    crossing
}

fn edges(count: u32, flow: &Flow) -> impl Iterator<Item = (InsnIndex, InsnIndex)> + '_ {
    (0..count).map(InsnIndex).flat_map(|from| {
        let (first, second) = match flow.next(from) {
            None | Some(Next::Return) => (None, None),
            Some(Next::One(to)) => (Some(to), None),
            Some(Next::Two { taken, otherwise }) => (Some(taken), Some(otherwise)),
        };
        [first, second].into_iter().flatten().map(move |to| (from, to))
    })
}

/// How deep loops nest in a range of instructions, at most: jumps back to the same instruction are one loop.
pub(crate) fn loop_depth(range: Range<u32>, flow: &Flow) -> u32 {
    let mut ends = vec![None; range.len()];
    for from in range.clone() {
        let (first, second) = match flow.next(InsnIndex(from)) {
            None | Some(Next::Return) => continue,
            Some(Next::One(to)) => (to, to),
            Some(Next::Two { taken, otherwise }) => (taken, otherwise),
        };
        for to in [first, second] {
            if to.0 <= from && range.contains(&to.0) {
                ends[(to.0 - range.start) as usize] = Some(from);
            }
        }
    }
    // Loops that are open at a position: those that start at or before it and end at or behind it.
    let mut closing = vec![0_u32; range.len()];
    let (mut open, mut deepest) = (0_u32, 0);
    for (position, end) in ends.iter().enumerate() {
        if let Some(end) = end {
            open += 1;
            closing[(end - range.start) as usize] += 1;
        }
        deepest = deepest.max(open);
        open -= closing[position];
    }
    deepest
}
