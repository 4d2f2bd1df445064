//! What one native function is made of, before it is Cranelift IR: a graph of instructions.
//!
//! Given: an eBPF function and its [`Flow`].
//! Computed: a [`Body`], whose nodes are the instructions that some execution reaches, each with where control goes after it.
//! Optimizations change it, one module each. They can copy, leave out and rejoin nodes, but not make up instructions: a node keeps the
//! instruction that was verified, and where that stands, so that facts about it can be asked for.
//! Safe because: facts hold for every execution of an instruction, so they hold for each of its copies; every other
//! argument is that of the optimization that makes it.
//!
//! Registers are still those of eBPF and not values: copies need nothing but their edges set right, and Cranelift's builder makes values
//! of them afterwards. An inlined subprogram has `r6` to `r9` of its own: see [`Node::frame`].

mod dead;
mod inline;
mod predecessors;
mod rotate;
mod slots;
mod thread;

use bpf2sys_bytecode::{Callee, Function, FunctionIndex, InsnIndex, Instruction, Reg};

pub(crate) use inline::Candidate;
pub(crate) use predecessors::Predecessors;
pub(crate) use slots::Slots;

use crate::InsnPlace;
use crate::lowering::{Flow, Next, RegisterSet, reads};

/// Position of a node in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeIndex(pub(crate) u32);

impl NodeIndex {
    /// As an index of a slice.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// An instruction of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// It.
    pub(crate) op: Instruction,
    /// Where it stands. Nodes can share a place.
    pub(crate) place: InsnPlace,
    /// How many calls were inlined around it: its function's frame lies that many frames below that of the native function.
    pub(crate) frame: u8,
    /// Where control goes after it.
    pub(crate) next: Next<NodeIndex>,
    /// The registers, of its frame, whose values it depends on.
    pub(crate) reads: RegisterSet,
}

/// One of the registers of a body: `r0` to `r5`, which all frames share as calls pass them, and `r6` to `r9` of each frame. `r10`
/// is none: what it is follows from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Register(pub(crate) u8);

impl Register {
    /// Registers that frames share.
    const SHARED: u8 = 6;
    /// Registers that each frame has.
    const OWN: u8 = 4;
    /// Registers of bodies with calls nested as deep as they may be.
    pub(crate) const MOST: usize = (Register::SHARED + 8 * Register::OWN) as usize;

    /// What a register of eBPF is in a frame; `None` for `r10`.
    pub(crate) fn of(register: Reg, frame: u8) -> Option<Register> {
        match register.number() {
            shared if shared < Register::SHARED => Some(Register(shared)),
            own if register != Reg::R10 => Some(Register(own + frame * Register::OWN)),
            _ => None,
        }
    }

    /// As an index of a slice.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A native function, or a function that is too long for one and will be cut.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    /// In the order that their code takes; the first is where it begins.
    nodes: Vec<Node>,
    /// By node: whether a block starts with it.
    starts: Vec<bool>,
}

impl Body {
    /// The instructions of a function that are reached, in the order of the bytecode; `passed` are the registers that a call reads.
    pub(crate) fn of(
        index: FunctionIndex,
        function: &Function,
        flow: &Flow,
        passed: impl Fn(InsnPlace, Callee) -> RegisterSet,
    ) -> Body {
        let reached: Vec<InsnIndex> = (0..function.instructions.len() as u32)
            .map(InsnIndex)
            .filter(|at| flow.next(*at).is_some())
            .collect();
        let mut numbers = vec![NodeIndex(0); function.instructions.len()];
        for (number, at) in (0..).map(NodeIndex).zip(&reached) {
            numbers[at.index()] = number;
        }
        let nodes = reached.iter().map(|at| {
            let op = function.instructions[at.index()].op;
            let place = InsnPlace {
                function: index,
                instruction: *at,
            };
            let next = flow.next(*at);
            Node {
                op,
                place,
                frame: 0,
                next: next.map_or(Next::Return, |next| next.map(|to: InsnIndex| numbers[to.index()])),
                reads: match (op, next) {
                    (Instruction::Call(callee), _) => passed(place, callee),
                    // Nobody asks what is known.
                    (Instruction::JumpIf { .. }, Some(Next::One(_))) => RegisterSet::default(),
                    _ => reads(op, |_| RegisterSet::default()),
                },
            }
        });
        Body::new(nodes.collect())
    }

    fn new(nodes: Vec<Node>) -> Body {
        let mut starts = vec![false; nodes.len()];
        let mut entered = vec![false; nodes.len()];
        for (number, node) in nodes.iter().enumerate() {
            let jumps = matches!(
                node.op,
                Instruction::Jump { .. } | Instruction::JumpIf { .. } | Instruction::Exit
            );
            for to in node.next.places() {
                // Also where two ways meet, or what comes next in another order.
                starts[to.index()] |= jumps || to.index() != number + 1 || entered[to.index()];
                entered[to.index()] = true;
            }
        }
        Body { nodes, starts }
    }

    /// The same in an order in which a node comes after one that leads to it, loops aside, and what follows when a condition does not
    /// hold comes next. Nodes that nothing leads to are left out, and so are unconditional jumps.
    fn arranged(&self) -> Body {
        let count = self.nodes.len();
        // A chain of jumps ends: nothing that was verified goes in a circle of them, and this stops after as many as there are.
        let through = |mut to: NodeIndex| {
            for _ in 0..count {
                match self.node(to) {
                    Node {
                        op: Instruction::Jump { .. },
                        next: Next::One(onward),
                        ..
                    } => to = *onward,
                    _ => break,
                }
            }
            to
        };
        let entry = through(NodeIndex(0));
        let mut order = Vec::with_capacity(count);
        let mut seen = vec![false; count];
        seen[entry.index()] = true;
        // Depth first, each node behind all that it leads to: the other way round is the order.
        let mut chain = vec![(entry, 0)];
        while let Some((index, done)) = chain.last_mut() {
            let successor = self.successors(*index).nth(*done).map(through);
            *done += 1;
            match successor {
                Some(to) if !std::mem::replace(&mut seen[to.index()], true) => chain.push((to, 0)),
                Some(_) => {}
                None => {
                    order.push(*index);
                    chain.pop();
                }
            }
        }
        order.reverse();
        self.in_order(&order, through)
    }

    /// The body of some of the nodes, in this order. `through` gives for each node that one leads to the first that is among them.
    fn in_order(&self, order: &[NodeIndex], through: impl Fn(NodeIndex) -> NodeIndex) -> Body {
        let mut places = vec![NodeIndex(0); self.nodes.len()];
        for (place, index) in (0..).map(NodeIndex).zip(order) {
            places[index.index()] = place;
        }
        let nodes = order.iter().map(|index| Node {
            next: self.node(*index).next.map(|to| places[through(to).index()]),
            ..*self.node(*index)
        });
        Body::new(nodes.collect())
    }

    /// A node.
    pub(crate) fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.index()]
    }

    /// All nodes, in the order that their code takes.
    pub(crate) fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeIndex> + use<> {
        (0..self.count()).map(NodeIndex)
    }

    /// Number of nodes.
    pub(crate) fn count(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// How many registers its nodes name, at most.
    pub(crate) fn registers(&self) -> usize {
        usize::from(Register::SHARED + Register::OWN * (self.deepest() + 1))
    }

    /// The deepest frame of its nodes.
    fn deepest(&self) -> u8 {
        self.nodes.iter().map(|node| node.frame).max().unwrap_or(0)
    }

    /// Where control may go from a node, each place once.
    pub(crate) fn successors(&self, index: NodeIndex) -> impl Iterator<Item = NodeIndex> + use<> {
        self.node(index).next.places()
    }

    /// Whether a block starts with a node: a jump, or more than one way, leads there.
    pub(crate) fn starts_block(&self, index: NodeIndex) -> bool {
        self.starts[index.index()]
    }
}
