//! Jumps whose outcome follows from a constant that a register was set to.
//!
//! Given: a body. Computed: the body with copies of nodes for what a register is known to hold there, where that decides conditional
//! jumps. A loop over a state that is only ever set to constants becomes a graph of the states.
//! Safe because: a copy for a value is entered only behind an instruction that set the register to it, or made it of a number that it was known
//! to hold, or a jump that found it to be it;
//! whatever else writes the register leads back to the nodes that know nothing. What is known is of one register, and forgotten
//! where no jump asks for it any more, so that ways meet again.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{AluOp, Condition, Instruction, Operand, WordSize};

use super::{Body, Node, NodeIndex, Predecessors, Register};
use crate::lowering::{Next, RegisterSet, registers_written};

/// How many nodes may come for each jump that goes.
const NODES_FOR_A_JUMP: usize = 12;
/// A body of so many nodes is not made larger.
const MOST_NODES: usize = 1024;

/// How many rounds of a loop become one.
const ROUNDS: u64 = 4;
/// How many nodes may come for each jump that goes from an unrolled loop: in a long one its test costs little.
const NODES_FOR_A_TEST: usize = 16;

impl Body {
    /// Threads jumps through every register that it is worth it for.
    pub(crate) fn thread(&mut self) {
        for register in (0..self.registers() as u8).map(Register) {
            if let Some(threaded) = self.thread_through(register, Low(u64::BITS), NODES_FOR_A_JUMP) {
                *self = threaded;
            }
        }
    }

    /// Unrolls loops that end when a register has been counted to a constant.
    ///
    /// That is threading through the register's low bits: where a loop counts by 1 from 0 to 100, they are 00, 01, 10 and 11 in
    /// turn, and only a test that finds them 00 can find 100.
    pub(crate) fn unroll(&mut self) {
        for register in (0..self.registers() as u8).map(Register) {
            let steps = self.nodes.iter().filter_map(|node| step(node, register));
            // One loop may count otherwise than another; they share the registers.
            let Some(smallest) = steps.map(i32::trailing_zeros).min() else {
                continue;
            };
            let low = Low(smallest + ROUNDS.trailing_zeros());
            if low.0 <= 31
                && let Some(unrolled) = self.thread_through(register, low, NODES_FOR_A_TEST)
            {
                *self = unrolled;
            }
        }
    }

    /// The body with jumps threaded through the low bits of a register, at the cost of at most `price` nodes for each; `None` if that
    /// gains nothing, or costs too much.
    fn thread_through(&self, register: Register, low: Low, price: usize) -> Option<Body> {
        let is_set = |node: &Node| low.after(node, register, None).is_some();
        let is_asked = |node: &Node| compared(node, register).is_some();
        let count = |what: &dyn Fn(&Node) -> bool| self.nodes.iter().filter(|node| what(node)).count();
        if count(&is_set) == 0 || count(&is_asked) == 0 {
            return None;
        }
        let asked = self.asked(register);
        let most = (self.nodes.len() * 3).max(ROUNDS as usize * price).min(MOST_NODES);
        // By node and what is known before it: the copy.
        let mut copies: BTreeMap<(NodeIndex, Option<u64>), NodeIndex> = BTreeMap::new();
        let mut nodes: Vec<Node> = Vec::new();
        let mut work = vec![(NodeIndex(0), None)];
        copies.insert(work[0], NodeIndex(0));
        let mut decided = 0;
        let mut place = 0;
        while let Some(&(index, known)) = work.get(place) {
            place += 1;
            if work.len() > most {
                return None;
            }
            let node = self.node(index);
            let mut copy = |to: NodeIndex, known: Option<u64>| {
                let known = known.filter(|_| asked[to.index()]);
                let next = NodeIndex(work.len() as u32);
                *copies.entry((to, known)).or_insert_with(|| {
                    work.push((to, known));
                    next
                })
            };
            let after = low.after(node, register, known);
            let next = match (node.next, compared(node, register)) {
                (Next::Two { taken, otherwise }, Some(jump)) => {
                    if let Some(holds) = after.and_then(|value| low.decides(&jump, value)) {
                        decided += 1;
                        Next::One(copy(if holds { taken } else { otherwise }, after))
                    } else {
                        let (equal, differs) = jump.tells();
                        let known = |told: Option<u64>| told.map(|value| low.of(value)).or(after);
                        let taken = copy(taken, known(equal));
                        let otherwise = copy(otherwise, known(differs));
                        Next::Two { taken, otherwise }
                    }
                }
                (next, _) => next.map(|to| copy(to, after)),
            };
            let reads = match (node.op, next) {
                // Nobody asks what is known.
                (Instruction::JumpIf { .. }, Next::One(_)) => RegisterSet::default(),
                _ => node.reads,
            };
            nodes.push(Node { next, reads, ..*node });
        }
        let more = nodes.len().saturating_sub(self.nodes.len());
        if decided == 0 || more > decided * price {
            return None;
        }
        Some(Body::new(nodes).arranged())
    }

    /// By node: whether a comparison that it leads to can ask for a register's value before it, or for a sum with that.
    fn asked(&self, register: Register) -> Vec<bool> {
        let before = Predecessors::of(self);
        let mut asked = vec![false; self.nodes.len()];
        let mut work: Vec<NodeIndex> = (self.nodes())
            .filter(|index| compared(self.node(*index), register).is_some())
            .collect();
        while let Some(index) = work.pop() {
            if std::mem::replace(&mut asked[index.index()], true) {
                continue;
            }
            let passes = |from: &&NodeIndex| {
                let node = self.node(**from);
                !registers_written(node).contains(register) || step(node, register).is_some()
            };
            work.extend(before.of_node(index).iter().filter(passes));
        }
        asked
    }
}

/// That many low bits of a register, which is what is known of it.
#[derive(Clone, Copy)]
struct Low(u32);

impl Low {
    /// The low bits of a number.
    fn of(self, value: u64) -> u64 {
        value & u64::MAX >> (u64::BITS - self.0)
    }

    /// What is known of a register behind a node, if that is known before it.
    fn after(self, node: &Node, register: Register, before: Option<u64>) -> Option<u64> {
        let Instruction::Alu {
            size,
            op,
            dst,
            src: Operand::Imm(imm),
        } = node.op
        else {
            return before.filter(|_| !registers_written(node).contains(register));
        };
        if Register::of(dst, node.frame) != Some(register) {
            return before;
        }
        let imm = i64::from(imm).cast_unsigned();
        // The low bits of these depend on the low bits of what they are made of, and on no others.
        let result = match op {
            AluOp::Mov => imm,
            AluOp::Add => before?.wrapping_add(imm),
            AluOp::Sub => before?.wrapping_sub(imm),
            _ => return None,
        };
        let result = match size {
            WordSize::W32 => result & u64::from(u32::MAX),
            WordSize::W64 => result,
        };
        Some(self.of(result))
    }

    /// Whether a comparison holds, if these bits of the register tell.
    fn decides(self, jump: &Comparison, bits: u64) -> Option<bool> {
        if self.0 == u64::BITS {
            return Some(jump.holds(bits));
        }
        let differs = self.of(i64::from(jump.with).cast_unsigned()) != bits;
        match jump.condition {
            Condition::Eq if differs => Some(false),
            Condition::Ne if differs => Some(true),
            _ => None,
        }
    }
}

/// By how much a node counts a register.
fn step(node: &Node, register: Register) -> Option<i32> {
    match node.op {
        Instruction::Alu {
            op: AluOp::Add | AluOp::Sub,
            dst,
            src: Operand::Imm(imm),
            ..
        } if imm != 0 && Register::of(dst, node.frame) == Some(register) => Some(imm),
        _ => None,
    }
}

/// A comparison of a register with a constant.
struct Comparison {
    size: WordSize,
    condition: Condition,
    with: i32,
}

/// The comparison of a register with a constant that a node makes.
fn compared(node: &Node, register: Register) -> Option<Comparison> {
    match node.op {
        Instruction::JumpIf {
            size,
            condition,
            dst,
            src: Operand::Imm(with),
            ..
        } if Register::of(dst, node.frame) == Some(register) => Some(Comparison { size, condition, with }),
        _ => None,
    }
}

impl Comparison {
    /// Whether it holds of a value.
    fn holds(&self, value: u64) -> bool {
        let with = i64::from(self.with).cast_unsigned();
        // 32 bits compare like the numbers of 64 bits that they extend to.
        let (unsigned, signed) = match self.size {
            WordSize::W64 => ((value, with), (value.cast_signed(), with.cast_signed())),
            WordSize::W32 => {
                let (value, with) = (value as u32, with as u32);
                let signed = (i64::from(value.cast_signed()), i64::from(with.cast_signed()));
                ((u64::from(value), u64::from(with)), signed)
            }
        };
        match self.condition {
            Condition::Eq => unsigned.0 == unsigned.1,
            Condition::Ne => unsigned.0 != unsigned.1,
            Condition::Gt => unsigned.0 > unsigned.1,
            Condition::Ge => unsigned.0 >= unsigned.1,
            Condition::Lt => unsigned.0 < unsigned.1,
            Condition::Le => unsigned.0 <= unsigned.1,
            Condition::Sgt => signed.0 > signed.1,
            Condition::Sge => signed.0 >= signed.1,
            Condition::Slt => signed.0 < signed.1,
            Condition::Sle => signed.0 <= signed.1,
            Condition::Set => unsigned.0 & unsigned.1 != 0,
        }
    }

    /// What the register holds where the jump is taken, and where it is not.
    fn tells(&self) -> (Option<u64>, Option<u64>) {
        // 32 bits tell nothing of the others.
        let value = (self.size == WordSize::W64).then_some(i64::from(self.with).cast_unsigned());
        match self.condition {
            Condition::Eq => (value, None),
            Condition::Ne => (None, value),
            _ => (None, None),
        }
    }
}
