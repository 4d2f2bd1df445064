//! Where a long function is cut into native functions of bounded length.
//!
//! Given: a body.
//! Computed: pieces, each a list of nodes, and where control enters each from another.
//! Safe because: every node lies in exactly one piece, and every edge between pieces ends at an entry.
//!
//! Optimizer and register allocator take more than linear time and memory for one function, and some shapes (deep trees
//! of branches, thousands of constants) are quadratic. So no native function is made of more than
//! [`Options::most_work`](crate::Options::most_work). A longer eBPF function becomes a *dispatcher*, which has the
//! signature, the stack and the registers, and pieces, which it calls in turn: a piece takes the live registers from memory,
//! runs until control leaves it, puts the live registers back and returns the instruction to go on with.
//!
//! Compilers put unlikely code at the end of a function. It is moved to the jump that goes there before the function is
//! cut, so that it ends up in the same piece.

use std::ops::Range;

use bpf2sys_bytecode::{AluOp, Instruction, Operand};

use crate::body::{Body, NodeIndex};

/// Most work of a piece of a function whose loops nest deeper than [`DEEP_LOOPS`].
const MOST_WORK_IN_DEEP_LOOPS: u32 = 512;

/// Loops nested deeper than this make optimizer and register allocator take time that grows with the square or the cube of
/// the depth. People nest loops three or four deep.
pub(crate) const DEEP_LOOPS: u32 = 16;

/// The work of the most expensive instruction: no piece can be made of less.
const EXPENSIVE: u32 = 8;

/// What a jump back over a cut counts, in jumps forward: loops should stay in one piece.
const BACK_EDGE: i64 = 64;

/// The nodes of a body, in the order in which they are cut.
pub(crate) struct Order {
    /// Nodes by place in the order.
    nodes: Vec<NodeIndex>,
    /// Places by node.
    places: Vec<u32>,
}

/// A part of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Places of its instructions in the order.
    pub(crate) range: Range<u32>,
    /// The nodes where control enters, by ascending place. At least one.
    pub(crate) entries: Vec<NodeIndex>,
}

impl Order {
    /// As in the body.
    pub(crate) fn of_body(body: &Body) -> Order {
        Order::new(body.nodes().collect())
    }

    fn new(nodes: Vec<NodeIndex>) -> Order {
        let mut places = vec![0; nodes.len()];
        for (place, index) in (0..).zip(&nodes) {
            places[index.index()] = place;
        }
        Order { nodes, places }
    }

    /// Unlikely code where it is jumped to: a run of instructions that only one jump leads to follows that jump.
    fn for_cutting(body: &Body) -> Order {
        let count = body.count();
        let mut jumps_into: Vec<(u32, NodeIndex)> = vec![(0, NodeIndex(0)); count as usize];
        let mut falls_into = vec![false; count as usize];
        for (from, to) in edges(body) {
            if to.0 == from.0 + 1 {
                falls_into[to.index()] = true;
            } else {
                let (jumps, last) = &mut jumps_into[to.index()];
                (*jumps, *last) = (*jumps + 1, from);
            }
        }
        // Runs start where control does not fall into; by instruction, the first of its run.
        let mut run = vec![0_u32; count as usize];
        let mut jumps_to_run = vec![(0_u32, NodeIndex(0)); count as usize];
        for index in 0..count as usize {
            run[index] = if falls_into[index] {
                run[index - 1]
            } else {
                index as u32
            };
            let (jumps, last) = jumps_into[index];
            let all = &mut jumps_to_run[run[index] as usize];
            if jumps > 0 {
                *all = (all.0 + jumps, last);
            }
        }
        // By run: the jump in a run that is not moved behind which it goes.
        let mut anchor: Vec<Option<NodeIndex>> = vec![None; count as usize];
        for first in 1..count {
            if run[first as usize] != first {
                continue;
            }
            // Up to a run that stays or is done. Control gets here from the start of the function, so this ends.
            let (mut chain, mut at) = (Vec::new(), first);
            while at != 0
                && anchor[at as usize].is_none()
                && let (1, from) = jumps_to_run[at as usize]
                && chain.len() < count as usize
            {
                chain.push((at, from));
                at = run[from.index()];
            }
            let mut behind = anchor[at as usize];
            for (moved, from) in chain.into_iter().rev() {
                behind = behind.or(Some(from));
                anchor[moved as usize] = behind;
            }
        }
        let mut nodes: Vec<NodeIndex> = body.nodes().collect();
        nodes.sort_by_key(|index| match anchor[run[index.index()] as usize] {
            None => (index.0, 0),
            Some(jump) => (jump.0, 1 + index.0),
        });
        Order::new(nodes)
    }

    /// The nodes in a range of places.
    pub(crate) fn nodes(&self, range: Range<u32>) -> &[NodeIndex] {
        &self.nodes[range.start as usize..range.end as usize]
    }

    /// Number of nodes.
    pub(crate) fn count(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// The place of a node.
    pub(crate) fn place(&self, index: NodeIndex) -> u32 {
        self.places[index.index()]
    }
}

/// Whether a function with at most `most` work in each native function must be several.
pub(crate) fn needs_cutting(body: &Body, most: u32) -> bool {
    all_work(body) > u64::from(most_of_piece(body, most))
}

fn all_work(body: &Body) -> u64 {
    body.nodes().map(|node| work(body.node(node).op)).sum()
}

/// The most work of a piece of this function.
fn most_of_piece(body: &Body, most: u32) -> u32 {
    let deep = loop_depth(&Order::of_body(body), 0..body.count(), body) > DEEP_LOOPS;
    let most = if deep { most.min(MOST_WORK_IN_DEEP_LOOPS) } else { most };
    most.max(EXPENSIVE)
}

/// Cuts a function into pieces of at most `most` work, or somewhat less if its loops nest deep; `None` if it is no more
/// than that.
pub(crate) fn cut(body: &Body, most: u32) -> Option<(Order, Vec<Piece>)> {
    let most = most_of_piece(body, most);
    if all_work(body) <= u64::from(most) {
        return None;
    }
    let order = Order::for_cutting(body);
    let crossing = crossings(&order, body);
    let mut starts = vec![0_u32];
    let mut candidates: Option<Range<u32>> = None;
    let mut done = 0;
    let mut place = 0;
    while place < order.count() {
        done += work(body.node(order.nodes[place as usize]).op);
        if done > u64::from(most) {
            // The cheapest place in the second half of what is possible, the last of equal ones.
            let candidates = candidates.take().unwrap_or(place..place + 1);
            let start = candidates
                .rev()
                .min_by_key(|at| crossing[*at as usize])
                .unwrap_or(place);
            starts.push(start.max(starts[starts.len() - 1] + 1));
            (place, done) = (starts[starts.len() - 1], 0);
            continue;
        }
        if done > u64::from(most) / 2 {
            candidates = Some(candidates.map_or(place, |c| c.start)..place + 1);
        }
        place += 1;
    }
    let mut pieces: Vec<Piece> = (0..starts.len())
        .map(|i| Piece {
            range: starts[i]..starts.get(i + 1).copied().unwrap_or(order.count()),
            entries: Vec::new(),
        })
        .collect();
    let piece_of = |index| starts.partition_point(|start| *start <= order.place(index)) - 1;
    pieces[0].entries.push(NodeIndex(0));
    for (from, to) in edges(body) {
        let piece = piece_of(to);
        if piece_of(from) != piece {
            pieces[piece].entries.push(to);
        }
    }
    for piece in &mut pieces {
        piece.entries.sort_unstable_by_key(|entry| order.place(*entry));
        piece.entries.dedup();
    }
    Some((order, pieces))
}

/// How much native code an instruction becomes, roughly, in simple instructions.
fn work(op: Instruction) -> u64 {
    match op {
        Instruction::Alu {
            op: AluOp::Div | AluOp::Mod | AluOp::Sdiv | AluOp::Smod,
            src: Operand::Reg(_),
            ..
        }
        | Instruction::Call(_)
        | Instruction::Atomic { .. } => EXPENSIVE.into(),
        Instruction::JumpIf { .. } => 3,
        _ => 1,
    }
}

/// By place: what it costs to cut before it.
fn crossings(order: &Order, body: &Body) -> Vec<i64> {
    // Changes from each place to the next first, then their sums.
    let mut crossing = vec![0_i64; order.count() as usize + 1];
    for (from, to) in edges(body) {
        let (from, to) = (order.place(from), order.place(to));
        let (low, high, cost) = if to > from {
            (from + 1, to + 1, 1)
        } else {
            (to + 1, from + 1, BACK_EDGE)
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

fn edges(body: &Body) -> impl Iterator<Item = (NodeIndex, NodeIndex)> + '_ {
    body.nodes()
        .flat_map(|from| body.successors(from).map(move |to| (from, to)))
}

/// How deep loops nest in a range of places, at most: jumps back to the same instruction are one loop.
pub(crate) fn loop_depth(order: &Order, range: Range<u32>, body: &Body) -> u32 {
    let mut ends = vec![None; range.len()];
    for place in range.clone() {
        for to in body.successors(order.nodes[place as usize]) {
            let to = order.place(to);
            if to <= place && range.contains(&to) {
                ends[(to - range.start) as usize] = Some(place);
            }
        }
    }
    // Loops that are open at a place: those that start at or before it and end at or behind it.
    let mut closing = vec![0_u32; range.len()];
    let (mut open, mut deepest) = (0_u32, 0);
    for (place, end) in ends.iter().enumerate() {
        if let Some(end) = end {
            open += 1;
            closing[(end - range.start) as usize] += 1;
        }
        deepest = deepest.max(open);
        open -= closing[place];
    }
    deepest
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{AluOp, Condition, Instruction, Operand, WordSize};

    use super::{Order, cut, edges, loop_depth, work};
    use crate::body::{Body, NodeIndex};
    use crate::testing::{EXIT, alu, body, mov, r};

    fn jump(offset: i32) -> Instruction {
        let size = WordSize::W32;
        Instruction::Jump { size, offset }
    }

    fn jump_if(offset: i16) -> Instruction {
        Instruction::JumpIf {
            size: WordSize::W64,
            condition: Condition::Eq,
            dst: r(1),
            src: Operand::Imm(7),
            offset,
        }
    }

    fn add() -> Instruction {
        alu(AluOp::Add, 0, Operand::Imm(1))
    }

    fn joined(parts: &[&[Instruction]]) -> Body {
        body(&parts.concat())
    }

    /// A loop whose body has this many additions.
    fn counted_loop(body: usize) -> Vec<Instruction> {
        let mut code = vec![add(); body];
        code.push(jump_if(-(body as i16) - 1));
        code
    }

    #[test]
    fn a_short_function_is_not_cut() {
        let body = joined(&[&[add(); 99], &[EXIT]]);
        assert!(cut(&body, 100).is_none());
        assert!(cut(&body, 99).is_some());
    }

    #[test]
    fn pieces_hold_every_instruction_once_and_every_edge_between_them_ends_at_an_entry() {
        let looped = counted_loop(30);
        let skip = [jump_if(2), add(), jump(1), add()];
        let begin = [jump_if(300)];
        let mut parts: Vec<&[Instruction]> = vec![&begin];
        for _ in 0..20 {
            parts.extend([looped.as_slice(), &skip, &skip]);
        }
        let end = [add(), EXIT];
        parts.push(&end);
        let body = joined(&parts);
        let count = body.count();
        for most in [40, 64, 200] {
            let (order, pieces) = cut(&body, most).unwrap();
            let mut piece_of = vec![None; count as usize];
            for (number, piece) in pieces.iter().enumerate() {
                let instructions = order.nodes(piece.range.clone());
                for index in instructions {
                    assert_eq!(piece_of[index.index()].replace(number), None);
                }
                let done: u64 = instructions.iter().map(|i| work(body.node(*i).op)).sum();
                assert!(done <= u64::from(most), "{done} of {most}");
            }
            assert_eq!(pieces[0].entries[0], NodeIndex(0));
            for (from, to) in edges(&body) {
                let (source, target) = (piece_of[from.index()].unwrap(), piece_of[to.index()].unwrap());
                assert!(
                    source == target || pieces[target].entries.contains(&to),
                    "{from:?} to {to:?}"
                );
            }
        }
    }

    #[test]
    fn a_loop_stays_in_one_piece_if_it_can() {
        let looped = counted_loop(40);
        let body = joined(&[&[add(); 70], &looped, &[add(); 100], &[EXIT]]);
        let (_, pieces) = cut(&body, 100).unwrap();
        let cuts: Vec<u32> = pieces.iter().map(|piece| piece.range.start).collect();
        assert!(cuts.iter().all(|cut| !(71..111).contains(cut)), "{cuts:?}");
    }

    #[test]
    fn unlikely_code_at_the_end_follows_the_jump_to_it() {
        // 0: if … goto 5; 1..4: add; 4: exit; 5: add; 6: if … goto 9; 7: goto 1; 8: (dead); 9: goto 1
        let code = [
            jump_if(4),
            add(),
            add(),
            add(),
            EXIT,
            add(),
            jump_if(2),
            jump(-7),
            EXIT,
            jump(-9),
        ];
        let body = joined(&[&code]);
        let order = Order::for_cutting(&body);
        let places: Vec<u32> = order.nodes.iter().map(|index| index.0).collect();
        // The dead instruction is no node.
        assert_eq!(places, [0, 5, 6, 7, 8, 1, 2, 3, 4]);
    }

    #[test]
    fn loops_nest_as_deep_as_they_overlap() {
        let depth = |parts: &[&[Instruction]]| {
            let body = joined(parts);
            let order = Order::of_body(&body);
            loop_depth(&order, 0..order.count(), &body)
        };
        assert_eq!(depth(&[&[add(), EXIT]]), 0);
        assert_eq!(depth(&[&counted_loop(3), &counted_loop(3), &[EXIT]]), 1);
        // two jumps back to the same instruction
        assert_eq!(depth(&[&[add(), jump_if(-2), jump_if(-3), mov(0, 0), EXIT]]), 1);
        assert_eq!(
            depth(&[&[add(), add(), add(), jump_if(-2), jump_if(-4), jump_if(-6), EXIT]]),
            3
        );
    }
}
