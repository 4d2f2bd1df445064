//! How often the blocks and ways of a function were gone through, from what is known of some of them.
//!
//! What comes into a block goes out of it: where all but one of the numbers of such an equation are known, that one follows. (Ball and
//! Larus, "Optimally Profiling and Tracing Programs", 1994, has which numbers are enough.)

use std::collections::BTreeSet;

use bpf2sys_lines::Block;

use super::regions::Edge;

/// What native code tells of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// How often it ran at least, by instructions that run with it.
    pub count: Option<u64>,
    /// How often it may have run, by others. It counts where nothing else tells.
    pub hint: Option<u64>,
}

/// How often each block ran, and each way between two was gone.
pub(super) struct Flow {
    pub blocks: Vec<u64>,
    pub edges: Vec<Edge>,
}

/// A way whose number may be known.
#[derive(Clone, Copy)]
struct Way {
    from: usize,
    to: usize,
    count: Option<u64>,
}

/// The ways into a block, or out of it.
#[derive(Clone, Default)]
struct Side {
    ways: Vec<usize>,
    unknown: usize,
    /// The sum of those that are known.
    sum: u64,
}

/// Most rounds of raising numbers: each one carries what is known one block further against the order of the code.
const ROUNDS: usize = 16;

/// Solves what can be solved. What is known of a block is the least that it ran: copies of it may have nothing that was counted. Blocks that no
/// equation tells did not run, and ways that none tells were gone as often as both ends allow.
pub(super) fn solve(blocks: &[Block], known: &[Known]) -> Flow {
    let mut counts: Vec<Option<u64>> = (0..blocks.len()).map(|b| known.get(b)?.count).collect();
    let mut ways: Vec<Way> = Vec::new();
    for (from, block) in blocks.iter().enumerate() {
        let next: BTreeSet<usize> = block.next.iter().map(|next| *next as usize).collect();
        let next = next.into_iter().filter(|to| *to < blocks.len());
        ways.extend(next.map(|to| Way { from, to, count: None }));
    }
    let mut sides: [Vec<Side>; 2] = [vec![Side::default(); blocks.len()], vec![Side::default(); blocks.len()]];
    for (number, way) in ways.iter().enumerate() {
        for (direction, block) in [(0, way.to), (1, way.from)] {
            let side = &mut sides[direction][block];
            side.ways.push(number);
            side.unknown += 1;
        }
    }
    raise(&mut counts, &ways, &sides);
    let mut waiting: Vec<usize> = (0..blocks.len()).rev().collect();
    let mut guesses = 0..blocks.len();
    loop {
        let Some(block) = waiting.pop() else {
            // All that follows has been drawn: a hint may let more follow.
            let Some(block) = guesses.find(|block| counts[*block].is_none()) else {
                break;
            };
            counts[block] = known.get(block).and_then(|known| known.hint);
            waiting.push(block);
            continue;
        };
        for direction in 0..2 {
            if !is_closed(block, direction, &sides) {
                continue;
            }
            let side = &sides[direction][block];
            match (counts[block], side.unknown) {
                (None, 0) => {
                    counts[block] = Some(side.sum);
                    waiting.push(block);
                }
                (Some(count), 1) => {
                    let Some(&number) = side.ways.iter().find(|way| ways[**way].count.is_none()) else {
                        continue;
                    };
                    let gone = count.saturating_sub(side.sum);
                    let way = &mut ways[number];
                    way.count = Some(gone);
                    for (direction, block) in [(0, way.to), (1, way.from)] {
                        let side = &mut sides[direction][block];
                        side.unknown -= 1;
                        side.sum += gone;
                    }
                    waiting.extend([way.from, way.to]);
                }
                _ => {}
            }
        }
    }
    let blocks: Vec<u64> = counts.into_iter().map(Option::unwrap_or_default).collect();
    let edges = ways.into_iter().map(|Way { from, to, count }| {
        let count = count.unwrap_or_else(|| blocks[from].min(blocks[to]));
        (from, to, count)
    });
    Flow {
        edges: edges.collect(),
        blocks,
    }
}

/// Whether all that passes a side of a block does so by the function's ways: it is entered at its first block, and left from blocks that
/// nothing comes after.
fn is_closed(block: usize, direction: usize, sides: &[Vec<Side>; 2]) -> bool {
    match direction {
        0 => block != 0,
        _ => !sides[1][block].ways.is_empty(),
    }
}

/// A block runs at least as often as those together that are only reached from it, and as those that only lead to it.
fn raise(counts: &mut [Option<u64>], ways: &[Way], sides: &[Vec<Side>; 2]) {
    for _ in 0..ROUNDS {
        let mut is_changed = false;
        for (direction, blocks) in [
            (1, (0..counts.len()).rev().collect::<Vec<_>>()),
            (0, (0..counts.len()).collect()),
        ] {
            for block in blocks {
                let neighbours = sides[direction][block].ways.iter().map(|way| match direction {
                    0 => ways[*way].from,
                    _ => ways[*way].to,
                });
                let only = neighbours.filter(|other| {
                    let back = 1 - direction;
                    *other != block && is_closed(*other, back, sides) && sides[back][*other].ways.len() == 1
                });
                let least: u64 = only.filter_map(|other| counts[other]).sum();
                if counts[block].is_some_and(|count| count < least) {
                    counts[block] = Some(least);
                    is_changed = true;
                }
            }
        }
        if !is_changed {
            return;
        }
    }
}
