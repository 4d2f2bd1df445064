//! Calls of subprograms that become the subprogram's instructions.
//!
//! Given: a body, and the bodies of the functions that it calls.
//! Computed: the body with copies of some of them in place of the calls.
//! Safe because: a copy does what the call would do. Arguments and result are in registers that a call passes on as they are; what the
//! function keeps across calls has registers of its own, since it was proven not to need its caller's; its frame lies where that of the
//! call would lie, 512 bytes below; and a tail call that succeeds ends the whole program from either.

use bpf2sys_bytecode::{Callee, FunctionIndex, Instruction, WordSize};

use super::{Body, Node, NodeIndex};
use crate::lowering::{Next, RegisterSet};

/// Frames that registers are there for.
const MOST_FRAMES: u8 = 8;
/// A subprogram of at most that many instructions is copied to each of its calls.
const SMALL: u32 = 24;
/// A body does not become larger than this by the calls that it makes: longer ones take more than linear time to compile.
const MOST_NODES: u32 = 2048;

/// What is known of a subprogram, to decide whether a call of it is inlined.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// What it is made of, with its own calls inlined.
    pub(crate) body: &'a Body,
    /// How many calls of it there are in the module.
    pub(crate) calls: u32,
}

impl Body {
    /// Inlines calls; `candidate` are functions that may be.
    pub(crate) fn inline<'a>(&mut self, candidate: impl Fn(FunctionIndex) -> Option<Candidate<'a>>) {
        let mut size = self.count();
        let mut chosen: Vec<Option<&Body>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let callee = match node.op {
                Instruction::Call(Callee::Local(callee)) => candidate(callee),
                _ => None,
            };
            let callee = callee.filter(|callee| {
                let count = callee.body.count();
                (count <= SMALL || callee.calls == 1)
                    && size + count <= MOST_NODES
                    && node.frame + 1 + callee.body.deepest() < MOST_FRAMES
            });
            size += callee.map_or(0, |callee| callee.body.count());
            chosen.push(callee.map(|callee| callee.body));
        }
        if chosen.iter().all(Option::is_none) {
            return;
        }
        // Where each node comes to lie, its copy of the callee right behind it.
        let mut places = Vec::with_capacity(chosen.len());
        let mut place = 0;
        for callee in &chosen {
            places.push(NodeIndex(place));
            place += 1 + callee.map_or(0, Body::count);
        }
        let mut nodes = Vec::with_capacity(place as usize);
        for (node, callee) in self.nodes.iter().zip(chosen) {
            let next = node.next.map(|to| places[to.index()]);
            let Some(callee) = callee else {
                nodes.push(Node { next, ..*node });
                continue;
            };
            let first = nodes.len() as u32 + 1;
            nodes.push(Node {
                op: Instruction::Jump {
                    size: WordSize::W64,
                    offset: 0,
                },
                next: Next::One(NodeIndex(first)),
                reads: RegisterSet::default(),
                ..*node
            });
            nodes.extend(callee.nodes.iter().map(|copied| Node {
                frame: copied.frame + node.frame + 1,
                next: match copied.next {
                    Next::Return => next,
                    inside => inside.map(|to| NodeIndex(to.0 + first)),
                },
                // The result is where the caller finds it.
                reads: match copied.next {
                    Next::Return => RegisterSet::default(),
                    _ => copied.reads,
                },
                ..*copied
            }));
        }
        *self = Body::new(nodes);
    }
}
