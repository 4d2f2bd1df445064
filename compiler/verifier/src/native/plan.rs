//! What a function looks like before anything is known of its values: its basic blocks, the order in which they are
//! visited, and what is read later.
//!
//! The order is a weak topological one (Bourdoncle, "Efficient chaotic iteration strategies with widenings", 1993): every
//! loop lies in one piece, its head first. An edge that leads backwards leads to the head of a loop that it lies in.

use std::ops::Range;

use bpf2sys_bytecode::{AtomicOp, Callee, Function, FunctionIndex, InsnIndex, Instruction, Module, Operand, Reg};
use bpf2sys_platform::{Platform, ProgramType};

use super::frame::{BYTES, Set};
use crate::facts::accessed;
use crate::flow::{Flow, Source, Sources, reads};
use crate::guard::Deadline;
use crate::prototype::prototype;

/// A function's blocks.
pub(super) struct Plan {
    pub blocks: Vec<Block>,
    /// The block of each instruction.
    pub block_of: Vec<u32>,
    /// The block of each position; of one behind a loop, its head.
    pub at: Vec<Stop>,
}

/// A place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Block(u32),
    /// All ways through the loop of this head have come back to it.
    Again(u32),
}

/// A basic block.
pub(super) struct Block {
    /// Its instructions.
    pub instructions: Range<u32>,
    /// Its position in the order.
    pub position: u32,
    /// For the head of a loop, the position behind the loop.
    pub again: Option<u32>,
    /// The head of the innermost loop that it lies in; of a head, the loop around its own.
    pub within: Option<u32>,
    /// For the head of a loop, whether there is a way into the loop that leads past it.
    pub entered_elsewhere: bool,
    /// Whether edges meet here.
    pub is_join: bool,
    /// Registers that are read later, one bit each.
    pub registers: u16,
    /// Bytes of the function's own frame that may be read later.
    pub bytes: Set,
}

/// The block has not been reached in the order.
const NOWHERE: u32 = u32::MAX;

impl Plan {
    pub fn new(
        module: &Module,
        platform: &Platform,
        program_type: &ProgramType,
        flow: &Flow,
        index: FunctionIndex,
        deadline: &Deadline,
    ) -> Plan {
        let function = module.function(index);
        let (mut blocks, block_of) = blocks(function);
        let successors: Vec<[Option<u32>; 2]> = blocks
            .iter()
            .map(|block| successors(function, block, &block_of))
            .collect();
        let at = order(&mut blocks, &successors, deadline);
        find_entries(&mut blocks, &successors);
        let mut entering = vec![0_u32; blocks.len()];
        for successor in successors.iter().flatten().flatten() {
            entering[*successor as usize] += 1;
        }
        for (block, entering) in blocks.iter_mut().zip(entering) {
            block.is_join = entering > 1;
        }
        let mut plan = Plan { blocks, block_of, at };
        let reader = Reader {
            module,
            platform,
            program_type,
            flow,
            function,
            index,
        };
        reader.find_live(&mut plan, &successors, deadline);
        plan
    }

    pub fn block(&self, number: u32) -> &Block {
        &self.blocks[number as usize]
    }

    /// Whether a loop has this instruction as its first.
    pub fn is_head(&self, instruction: u32) -> bool {
        let block = self.block_of.get(instruction as usize).map(|block| self.block(*block));
        block.is_some_and(|block| block.again.is_some() && block.instructions.start == instruction)
    }

    /// The conditional jumps that lead out of the loop with this first instruction.
    pub fn exits(&self, function: &Function, head: u32) -> Vec<u32> {
        let Some(head) = self.block_of.get(head as usize).map(|block| self.block(*block)) else {
            return Vec::new();
        };
        let Some(again) = head.again else { return Vec::new() };
        let inside = head.position..again;
        let mut exits: Vec<u32> = self
            .blocks
            .iter()
            .filter(|block| inside.contains(&block.position))
            .filter(|block| {
                let next = successors(function, block, &self.block_of);
                next.into_iter()
                    .flatten()
                    .any(|next| !inside.contains(&self.block(next).position))
            })
            .map(|block| block.instructions.end - 1)
            .filter(|last| matches!(function.instructions[*last as usize].op, Instruction::JumpIf { .. }))
            .collect();
        exits.sort_unstable();
        exits
    }

    /// Numbers at which it makes a difference in a loop how large a counter is: the constants that numbers are compared with there, and
    /// their neighbours, as signed numbers: ascending.
    pub fn thresholds(&self, function: &Function, head: u32) -> Vec<i64> {
        let mut found: Vec<i64> = vec![
            i64::MIN,
            i32::MIN.into(),
            -1,
            0,
            1,
            i8::MAX.into(),
            u8::MAX.into(),
            i16::MAX.into(),
            u16::MAX.into(),
            i32::MAX.into(),
            u32::MAX.into(),
            i64::MAX,
        ];
        let head = self.block(head);
        let inside = head.position..head.again.unwrap_or(head.position);
        let blocks = self.at[inside.start as usize..inside.end as usize].iter();
        let ends = blocks.filter_map(|stop| match stop {
            Stop::Block(block) => Some(self.block(*block).instructions.end - 1),
            Stop::Again(_) => None,
        });
        for last in ends {
            if let Instruction::JumpIf {
                src: Operand::Imm(imm), ..
            } = function.instructions[last as usize].op
            {
                let imm = i64::from(imm);
                found.extend([imm - 1, imm, imm + 1]);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Where a state goes that an edge leads from one block to another.
    pub fn position_of_edge(&self, from: u32, to: u32) -> u32 {
        let target = self.block(to);
        if target.position <= self.block(from).position {
            // In this order, only the head of a loop around it can be before a block that leads to it.
            target.again.unwrap_or(target.position)
        } else {
            target.position
        }
    }
}

/// The blocks of a function; calls of functions of the module end one, and so do calls of helpers, which may change much.
fn blocks(function: &Function) -> (Vec<Block>, Vec<u32>) {
    let count = function.instructions.len();
    let mut starts = vec![false; count];
    if let Some(first) = starts.first_mut() {
        *first = true;
    }
    for (i, insn) in function.instructions.iter().enumerate() {
        if let Some(target) = function.jump_target(InsnIndex(i as u32)) {
            starts[target.index()] = true;
        }
        let ends = insn.op.jump_offset().is_some() || matches!(insn.op, Instruction::Exit | Instruction::Call(_));
        if ends && let Some(next) = starts.get_mut(i + 1) {
            *next = true;
        }
    }
    let mut blocks: Vec<Block> = Vec::new();
    let mut block_of = Vec::with_capacity(count);
    for (i, starts) in starts.into_iter().enumerate() {
        let i = i as u32;
        if starts {
            blocks.push(Block {
                instructions: i..i,
                position: NOWHERE,
                again: None,
                within: None,
                entered_elsewhere: false,
                is_join: false,
                registers: 0,
                bytes: Set::default(),
            });
        }
        if let Some(block) = blocks.last_mut() {
            block.instructions.end = i + 1;
        }
        block_of.push(blocks.len() as u32 - 1);
    }
    (blocks, block_of)
}

/// Where execution goes behind a block: on, and where its jump leads.
pub(super) fn successors(function: &Function, block: &Block, block_of: &[u32]) -> [Option<u32>; 2] {
    let last = block.instructions.end - 1;
    let op = &function.instructions[last as usize].op;
    let goes_on = !matches!(op, Instruction::Exit | Instruction::Jump { .. });
    let next = goes_on.then(|| block_of.get(last as usize + 1).copied()).flatten();
    let target = function
        .jump_target(InsnIndex(last))
        .map(|target| block_of[target.index()]);
    [next, target.filter(|target| next != Some(*target))]
}

/// What is still to be ordered.
enum Task {
    /// Blocks that lie in the loop of a head, or in none.
    Part(Vec<u32>, Option<u32>),
    Emit(u32),
    Again(u32),
}

/// Gives every block that can be reached its position.
fn order(blocks: &mut [Block], successors: &[[Option<u32>; 2]], deadline: &Deadline) -> Vec<Stop> {
    let mut at = Vec::new();
    // Blocks are in the part that is ordered if they have its number.
    let mut part_of = vec![0_u32; blocks.len()];
    let mut parts = 0;
    let all = reachable(successors);
    let mut walk = vec![0_u32; blocks.len()];
    for (number, block) in (0..).zip(&all) {
        walk[*block as usize] = number;
    }
    let mut tasks = vec![Task::Part(all, None)];
    while let Some(task) = tasks.pop() {
        deadline.check();
        match task {
            Task::Emit(block) => {
                blocks[block as usize].position = at.len() as u32;
                at.push(Stop::Block(block));
            }
            Task::Again(head) => {
                blocks[head as usize].again = Some(at.len() as u32);
                at.push(Stop::Again(head));
            }
            Task::Part(members, within) => {
                parts += 1;
                for block in &members {
                    part_of[*block as usize] = parts;
                    blocks[*block as usize].within = within;
                }
                let inside = |block: u32| part_of[block as usize] == parts;
                // Components come in reverse: what they lead to is there before.
                let mut next = Vec::new();
                for component in components(&members, successors, inside) {
                    match component[..] {
                        [block] if !successors[block as usize].contains(&Some(block)) => next.push(Task::Emit(block)),
                        _ => {
                            // The first that a walk from the start comes to.
                            let head = component[component.len() - 1];
                            let mut rest: Vec<u32> = component.into_iter().filter(|block| *block != head).collect();
                            rest.sort_unstable_by_key(|block| walk[*block as usize]);
                            next.push(Task::Again(head));
                            if !rest.is_empty() {
                                next.push(Task::Part(rest, Some(head)));
                            }
                            next.push(Task::Emit(head));
                        }
                    }
                }
                tasks.extend(next);
            }
        }
    }
    at
}

/// Finds the loops that are entered elsewhere than at their heads.
fn find_entries(blocks: &mut [Block], successors: &[[Option<u32>; 2]]) {
    for from in 0..blocks.len() {
        let position = blocks[from].position;
        for to in successors[from].iter().flatten().filter(|_| position != NOWHERE) {
            let mut around = blocks[*to as usize].within;
            while let Some(head) = around {
                let head = &mut blocks[head as usize];
                let is_inside = (head.position..head.again.unwrap_or(0)).contains(&position);
                head.entered_elsewhere |= !is_inside;
                around = head.within;
            }
        }
    }
}

/// The blocks that can be reached from the first, in the order of a walk.
fn reachable(successors: &[[Option<u32>; 2]]) -> Vec<u32> {
    let mut seen = vec![false; successors.len()];
    let mut found = Vec::new();
    let mut work = vec![0_u32];
    while let Some(block) = work.pop() {
        if std::mem::replace(&mut seen[block as usize], true) {
            continue;
        }
        found.push(block);
        work.extend(successors[block as usize].iter().rev().flatten());
    }
    found
}

/// The strongly connected components among some blocks (Tarjan 1972, without recursion): a component comes before those that lead
/// to it, and in each one the block that was seen first comes last.
fn components(members: &[u32], successors: &[[Option<u32>; 2]], inside: impl Fn(u32) -> bool) -> Vec<Vec<u32>> {
    use std::collections::HashMap;
    struct Visit {
        block: u32,
        number: u32,
        next: usize,
    }
    let mut numbers: HashMap<u32, u32> = HashMap::with_capacity(members.len());
    let mut lowest: Vec<u32> = Vec::with_capacity(members.len());
    let mut done: Vec<bool> = Vec::with_capacity(members.len());
    let mut stack: Vec<u32> = Vec::new();
    let mut found = Vec::new();
    for start in members {
        if numbers.contains_key(start) {
            continue;
        }
        let mut visits: Vec<Visit> = Vec::new();
        let enter =
            |block: u32, visits: &mut Vec<Visit>, stack: &mut Vec<u32>, lowest: &mut Vec<u32>, done: &mut Vec<bool>| {
                let number = lowest.len() as u32;
                lowest.push(number);
                done.push(false);
                stack.push(block);
                visits.push(Visit { block, number, next: 0 });
                number
            };
        let number = enter(*start, &mut visits, &mut stack, &mut lowest, &mut done);
        numbers.insert(*start, number);
        while let Some(visit) = visits.last_mut() {
            let (block, number) = (visit.block, visit.number as usize);
            if let Some(successor) = successors[block as usize].get(visit.next) {
                visit.next += 1;
                let Some(successor) = successor.filter(|s| inside(*s)) else {
                    continue;
                };
                match numbers.get(&successor) {
                    None => {
                        let new = enter(successor, &mut visits, &mut stack, &mut lowest, &mut done);
                        numbers.insert(successor, new);
                    }
                    Some(other) if !done[*other as usize] => lowest[number] = lowest[number].min(*other),
                    Some(_) => {}
                }
                continue;
            }
            visits.pop();
            if let Some(parent) = visits.last() {
                let parent = parent.number as usize;
                lowest[parent] = lowest[parent].min(lowest[number]);
            }
            if lowest[number] as usize == number {
                let mut component = Vec::new();
                while let Some(member) = stack.pop() {
                    if let Some(n) = numbers.get(&member) {
                        done[*n as usize] = true;
                    }
                    component.push(member);
                    if member == block {
                        break;
                    }
                }
                found.push(component);
            }
        }
    }
    found
}

/// What instructions read.
struct Reader<'a> {
    module: &'a Module,
    platform: &'a Platform,
    program_type: &'a ProgramType,
    flow: &'a Flow,
    function: &'a Function,
    index: FunctionIndex,
}

/// What is read later.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Live {
    registers: u16,
    bytes: Set,
}

impl Reader<'_> {
    /// Finds, for each block, what is read from its start on.
    fn find_live(&self, plan: &mut Plan, successors: &[[Option<u32>; 2]], deadline: &Deadline) {
        let follows_frame = self.follows_frame(plan, successors);
        // Blocks late in the order first, so that most are visited once for each loop around them.
        let order: Vec<u32> = plan
            .at
            .iter()
            .rev()
            .filter_map(|stop| match stop {
                Stop::Block(block) => Some(*block),
                Stop::Again(_) => None,
            })
            .collect();
        let mut changed = true;
        while changed {
            deadline.check();
            changed = false;
            for block in &order {
                let mut live = Live {
                    registers: 0,
                    bytes: Set::default(),
                };
                for successor in successors[*block as usize].iter().flatten() {
                    let successor = plan.block(*successor);
                    live.registers |= successor.registers;
                    live.bytes.unite(&successor.bytes);
                }
                let range = plan.block(*block).instructions.clone();
                for i in range.rev() {
                    self.step(i, &mut live, follows_frame);
                }
                let block = &mut plan.blocks[*block as usize];
                changed |= block.registers | live.registers != block.registers;
                block.registers |= live.registers;
                changed |= block.bytes.unite(&live.bytes);
            }
        }
    }

    fn sources(&self, i: u32) -> Sources {
        self.flow.at(self.index, InsnIndex(i))
    }

    /// Whether every address in the frame stays where it can be told by its source, so that no other register holds one.
    fn follows_frame(&self, plan: &Plan, successors: &[[Option<u32>; 2]]) -> bool {
        let own = |source: Source| matches!(source, Source::OwnFrame(_));
        let stays = |(i, op): (usize, &Instruction)| {
            let sources = self.sources(i as u32);
            let of = |register: Reg| own(sources[register.index()]);
            match *op {
                Instruction::Store {
                    src: Operand::Reg(src), ..
                }
                | Instruction::Atomic { src, .. } => !of(src),
                Instruction::Call(Callee::Local(_)) => !(1..6).any(|r| own(sources[r])),
                Instruction::Alu { op, dst, src, .. } if op != bpf2sys_bytecode::AluOp::Mov => match src {
                    Operand::Reg(src) => !of(dst) && !of(src),
                    // A sum that is no address in the frame any more has no such source.
                    Operand::Imm(_) => !of(dst) || own(self.sources(i as u32 + 1)[dst.index()]),
                },
                _ => true,
            }
        };
        let ops = self.function.instructions.iter().map(|insn| &insn.op).enumerate();
        let merges = plan.blocks.iter().zip(successors).all(|(block, successors)| {
            let last = block.instructions.end - 1;
            let op = &self.function.instructions[last as usize].op;
            let before = self.sources(last);
            successors.iter().flatten().all(|successor| {
                let after = self.sources(plan.block(*successor).instructions.start);
                (0..Reg::COUNT).all(|r| {
                    // A call replaces r0 to r5; jumps replace nothing.
                    let replaced = matches!(op, Instruction::Call(_)) && r < 6;
                    replaced
                        || !own(before[r])
                        || own(after[r])
                        || after[r] == Source::Undefined
                        || written(op) == Reg::new(r as u8)
                })
            })
        });
        merges && ops.into_iter().all(stays)
    }

    /// What is read before an instruction, if that is read behind it.
    fn step(&self, i: u32, live: &mut Live, follows_frame: bool) {
        let op = &self.function.instructions[i as usize].op;
        let sources = self.sources(i);
        let own = |register: Reg| match sources[register.index()] {
            Source::OwnFrame(at) => Some(i64::from(at)),
            _ => None,
        };
        // The frame first: what a register holds is asked before the instruction.
        if let Some((base, offset, width)) = accessed(op) {
            let stores = matches!(op, Instruction::Store { .. });
            match own(base) {
                Some(at) => {
                    let start = at + i64::from(offset);
                    let range = start..start + i64::from(width);
                    if stores {
                        live.bytes.remove(&range);
                    } else {
                        live.bytes.insert(&range);
                    }
                }
                None if follows_frame || stores => {}
                None => live.bytes = Set::ALL,
            }
        }
        if let Instruction::Call(callee) = *op {
            match self.arguments(callee) {
                Some(arguments) => {
                    for register in arguments {
                        match own(register) {
                            Some(at) => live.bytes.insert(&(at..BYTES.end)),
                            None if follows_frame => {}
                            None => live.bytes = Set::ALL,
                        }
                    }
                }
                None if follows_frame => {}
                None => live.bytes = Set::ALL,
            }
        }
        for register in replaced(op) {
            live.registers &= !(1 << register);
        }
        for register in reads(op) {
            live.registers |= 1 << register.index();
        }
        match *op {
            Instruction::Call(callee) => match self.arguments(callee) {
                Some(arguments) => arguments.for_each(|r| live.registers |= 1 << r.index()),
                None => live.registers |= 0b11_1110,
            },
            Instruction::CallX(_) => live.registers |= 0b11_1110,
            Instruction::Exit => live.registers |= 1,
            Instruction::LegacyPacket { .. } => live.registers |= 1 << 6,
            _ => {}
        }
    }

    /// The registers that a callee outside the module gets; `None` if that is not known, or it is one of the module.
    fn arguments(&self, callee: Callee) -> Option<impl Iterator<Item = Reg> + use<>> {
        let called = prototype(callee, self.module, self.platform, self.program_type)?;
        let unlisted: Vec<Reg> = called.reads_unlisted.iter().filter_map(|n| Reg::new(*n)).collect();
        Some(called.listed().map(|(register, _)| register).chain(unlisted))
    }
}

/// The register that an instruction writes, if it is one.
pub(super) fn written(op: &Instruction) -> Option<Reg> {
    match *op {
        Instruction::Alu { dst, .. }
        | Instruction::Movsx { dst, .. }
        | Instruction::Neg { dst, .. }
        | Instruction::ByteSwap { dst, .. }
        | Instruction::LoadImm64 { dst, .. }
        | Instruction::Load { dst, .. } => Some(dst),
        Instruction::Atomic { op, src, .. } => match op {
            AtomicOp::Cmpxchg => Some(Reg::R0),
            AtomicOp::Xchg
            | AtomicOp::Add { fetch: true }
            | AtomicOp::Or { fetch: true }
            | AtomicOp::And { fetch: true }
            | AtomicOp::Xor { fetch: true } => Some(src),
            _ => None,
        },
        _ => None,
    }
}

/// The registers that hold something else, or nothing, behind an instruction.
fn replaced(op: &Instruction) -> Range<usize> {
    match op {
        Instruction::Call(_) | Instruction::CallX(_) | Instruction::LegacyPacket { .. } => 0..6,
        _ => match written(op) {
            Some(register) => register.index()..register.index() + 1,
            None => 0..0,
        },
    }
}
