//! Jumps of x86-64 code that need not be made.
//!
//! Given: the decoded instructions of a function.
//! Computed: the same function with fewer of them, and its blocks in another order where that saves a jump:
//!
//! | code | becomes |
//! |---|---|
//! | a jump to a jump | a jump to where that goes |
//! | a jump to the next instruction | nothing |
//! | `jcc A; jmp B; A:` | `jncc B; A:` |
//! | `jcc A; jmp B` where A lies ahead and B behind | `jncc B; jmp A`: a loop goes round by one jump |
//! | `jmp B` where B is entered by jumps alone, up to a `jmp` or `ret` | B follows |
//! | both ways of a `jcc` begin with the same `mov` or `lea` | it stands before the comparison, or the `jcc`, once |
//! | the end of a loop, `A: ..; jcc head; out:` with jumps to A | the same before the head, `A: ..; jncc out; head:`: one jump in each round |
//! | what is not reached | nothing |
//!
//! Safe because: [`check`] reads both codes again and goes through them side by side, on all ways from their beginnings: each
//! step must be the same instruction, or a jump, or one of the moved ones, which must come on the old way before anything that it
//! could matter to. It knows nothing of blocks, or of what was done, but for which instructions were moved.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register, UsedMemory};

use crate::audit_x64::{Decoded, NONVOLATILE, decode};
use crate::compile::Code;
use crate::parts_x64::{Form, Part, Places, Rewritten, is_relocated_alike};

/// How often all rules are tried at most. What one makes possible for another is mostly found in the second round.
const ROUNDS: usize = 8;
/// How many jumps may lead from one to the next, and how many instructions a block may have that is moved.
const MOST_STEPS: usize = 1000;
/// How many jumps may come, and how many instructions may be led into a loop.
const MOST_ADDED: usize = 32;
const MOST_LED: usize = 8;
/// How many unconditional jumps to the end of a loop are many: the way that gets there without one takes one more.
const MANY_WAYS: usize = 3;
/// How many instructions may be moved before the same jump.
const MOST_MOVED: usize = 4;
/// How many moved ones may be ahead of the old code at most; there are never more than those of one jump.
const MOST_AHEAD: usize = 2 * MOST_MOVED;

/// Leaves out what jumps it can. Gives the second reading, if it did anything.
pub(crate) fn straighten(code: &mut Code, decoded: &Decoded) -> Result<Option<Decoded>, String> {
    let instructions = &decoded.instructions;
    let Some(parts) = Part::all(code, instructions) else {
        return Ok(None);
    };
    let mut graph = Graph::new(&parts, instructions, &code.bytes);
    if graph.is_endless() {
        return Ok(None);
    }
    let improved = (0..ROUNDS).fold(false, |changed, _| graph.improve() || changed);
    if !graph.lead_into_loops() && !improved {
        return Ok(None);
    }
    let Some((parts, moved)) = graph.parts(parts) else {
        return Ok(None);
    };
    let changed = Changed {
        moved,
        left_out: graph.left_out(),
    };
    let references = code.references.clone();
    let rewritten = Rewritten::assemble(parts, code, false);
    let relocated: BTreeSet<u32> = code.references.iter().map(|reference| reference.offset).collect();
    let after = decode(&code.bytes, &relocated)?;
    let was = Reading {
        instructions,
        bytes: &rewritten.before,
        references: Places::of(&references),
    };
    let is = Reading {
        instructions: &after.instructions,
        bytes: &code.bytes,
        references: Places::of(&code.references),
    };
    check(&was, &is, &changed)?;
    Ok(Some(after))
}

#[derive(Clone, Copy)]
struct Jump {
    target: usize,
    condition: Option<u8>,
}

/// The instructions of a function by their old positions, in a chain. Behind them are positions for jumps that come.
struct Graph<'a> {
    instructions: &'a [Instruction],
    /// The positions that are free.
    spare: Range<usize>,
    bytes: Vec<&'a [u8]>,
    /// Those that may be moved at all.
    movable: Vec<bool>,
    jumps: Vec<Option<Jump>>,
    /// What follows, and what comes before. The position behind the last is none.
    next: Vec<usize>,
    previous: Vec<usize>,
    is_there: Vec<bool>,
    /// Jumps that go to it.
    entries: Vec<u32>,
    moved: BTreeSet<usize>,
    /// How many were moved before this jump.
    gathered: Vec<usize>,
    factory: InstructionInfoFactory,
}

impl<'a> Graph<'a> {
    fn new(parts: &[Part], instructions: &'a [Instruction], bytes: &'a [u8]) -> Graph<'a> {
        let (count, all) = (parts.len(), parts.len() + MOST_ADDED);
        let jump = |part: &Part| match part.form {
            Form::Jump { target, condition, .. } => Some(Jump { target, condition }),
            _ => None,
        };
        let mut factory = InstructionInfoFactory::new();
        let movable = parts.iter().zip(instructions);
        let mut graph = Graph {
            instructions,
            spare: count..all,
            bytes: parts.iter().map(|part| part.bytes(bytes)).collect(),
            movable: movable
                .map(|(part, instruction)| !part.is_relocated && is_movable(instruction, &mut factory))
                .collect(),
            jumps: parts.iter().map(jump).collect(),
            next: (1..count).chain([all]).collect(),
            previous: [all].into_iter().chain(0..count.saturating_sub(1)).collect(),
            is_there: vec![true; count],
            entries: vec![0; all],
            moved: BTreeSet::new(),
            gathered: vec![0; all],
            factory,
        };
        graph.bytes.resize(all, &[]);
        graph.movable.resize(all, false);
        graph.jumps.resize(all, None);
        graph.next.resize(all, all);
        graph.previous.resize(all, all);
        graph.is_there.resize(all, false);
        graph
    }

    /// Whether it has jumps that lead to themselves alone.
    fn is_endless(&self) -> bool {
        (0..self.instructions.len()).any(|position| self.last_jump(position).is_none())
    }

    /// Where execution comes from here without doing anything.
    fn last_jump(&self, mut position: usize) -> Option<usize> {
        for _ in 0..MOST_STEPS {
            match self.jumps[position] {
                Some(Jump {
                    target,
                    condition: None,
                }) => position = target,
                _ => return Some(position),
            }
        }
        None
    }

    /// Tries all rules once. Tells whether something changed.
    fn improve(&mut self) -> bool {
        let mut changed = self.thread();
        changed |= self.sweep();
        let ranks = self.ranks();
        let mut position = 0;
        while position < self.next.len() {
            let next = self.next[position];
            if let Some(jump) = self.jumps[position] {
                changed |= match jump.condition {
                    None => self.leave_out(position, jump) || self.follow(position, jump),
                    Some(_) => {
                        self.leave_out(position, jump)
                            || self.invert(position, jump)
                            || self.turn(position, jump, &ranks)
                            || self.gather(position, jump)
                    }
                };
            }
            // What was left out still knows what followed.
            position = if self.is_there[position] {
                self.next[position]
            } else {
                next
            };
        }
        changed
    }

    /// Lets jumps to jumps go where those go.
    fn thread(&mut self) -> bool {
        let mut changed = false;
        for position in 0..self.jumps.len() {
            let Some(jump) = self.jumps[position].filter(|_| self.is_there[position]) else {
                continue;
            };
            if let Some(target) = self.last_jump(jump.target).filter(|target| *target != jump.target) {
                self.jumps[position] = Some(Jump { target, ..jump });
                changed = true;
            }
        }
        changed
    }

    /// Leaves out what is not reached, and counts what leads to what is.
    fn sweep(&mut self) -> bool {
        let count = self.next.len();
        let mut is_reached = vec![false; count];
        self.entries = vec![0; count];
        let mut work = vec![0];
        while let Some(position) = work.pop() {
            if position >= count || std::mem::replace(&mut is_reached[position], true) {
                continue;
            }
            if let Some(jump) = self.jumps[position] {
                self.entries[jump.target] += 1;
                work.push(jump.target);
            }
            if !self.ends(position) {
                work.push(self.next[position]);
            }
        }
        let left: Vec<usize> = (0..count)
            .filter(|position| self.is_there[*position] && !is_reached[*position])
            .collect();
        for position in &left {
            self.unlink(*position);
        }
        !left.is_empty()
    }

    /// Whether execution does not go on behind it.
    fn ends(&self, position: usize) -> bool {
        match self.jumps[position] {
            Some(jump) => jump.condition.is_none(),
            None => self.instructions[position].flow_control() == FlowControl::Return,
        }
    }

    /// Takes one out of the chain. The first one never is.
    fn unlink(&mut self, position: usize) {
        let (previous, next) = (self.previous[position], self.next[position]);
        if let Some(slot) = self.next.get_mut(previous) {
            *slot = next;
        }
        if let Some(slot) = self.previous.get_mut(next) {
            *slot = previous;
        }
        self.is_there[position] = false;
    }

    /// Puts the chain from `first` to `last`, which is in none, behind another.
    fn link(&mut self, first: usize, last: usize, behind: usize) {
        let next = self.next[behind];
        self.next[behind] = first;
        self.previous[first] = behind;
        self.next[last] = next;
        if let Some(slot) = self.previous.get_mut(next) {
            *slot = last;
        }
    }

    /// Leaves out a jump to what follows. What goes to it goes there, from the next round on at the latest.
    fn leave_out(&mut self, position: usize, jump: Jump) -> bool {
        let is_surplus = jump.target == self.next[position] && position != 0 && self.entries[position] == 0;
        if is_surplus {
            self.entries[jump.target] -= 1;
            self.unlink(position);
        }
        is_surplus
    }

    /// `jcc A; jmp B; A:` as `jncc B`.
    fn invert(&mut self, position: usize, jump: Jump) -> bool {
        let over = self.next[position];
        let Some(Some(Jump {
            target,
            condition: None,
        })) = self.jumps.get(over).copied()
        else {
            return false;
        };
        if self.entries[over] != 0 || self.next[over] != jump.target {
            return false;
        }
        self.entries[jump.target] -= 1;
        self.unlink(over);
        self.jumps[position] = Some(Jump {
            target,
            condition: jump.condition.map(|condition| condition ^ 1),
        });
        true
    }

    /// By position: its place in the chain.
    fn ranks(&self) -> Vec<usize> {
        let mut ranks = vec![0; self.next.len()];
        let (mut position, mut rank) = (0, 0);
        while position < self.next.len() {
            ranks[position] = rank;
            rank += 1;
            position = self.next[position];
        }
        ranks
    }

    /// `jcc A; jmp B` as `jncc B; jmp A` where B is the way round a loop and A the way out.
    fn turn(&mut self, position: usize, jump: Jump, ranks: &[usize]) -> bool {
        let over = self.next[position];
        let Some(Some(Jump {
            target: round,
            condition: None,
        })) = self.jumps.get(over).copied()
        else {
            return false;
        };
        let (here, out) = (ranks[position], jump.target);
        if self.entries[over] != 0 || ranks[round] >= here || ranks[out] <= here {
            return false;
        }
        self.jumps[position] = Some(Jump {
            target: round,
            condition: jump.condition.map(|condition| condition ^ 1),
        });
        self.jumps[over] = Some(Jump {
            target: out,
            condition: None,
        });
        true
    }

    /// Puts the ends of loops that several ways lead to before the heads, so that a round takes one jump: to the end, and not another one back from
    /// there. Entering the loop takes a jump then.
    fn lead_into_loops(&mut self) -> bool {
        self.sweep();
        let ranks = self.ranks();
        let mut changed = false;
        for end in 0..self.instructions.len() {
            let back = self.jumps[end].filter(|jump| self.is_there[end] && jump.condition.is_some());
            if let Some(back) = back.filter(|back| ranks[back.target] < ranks[end]) {
                changed |= self.lead_into(end, back);
            }
        }
        changed
    }

    fn lead_into(&mut self, end: usize, back: Jump) -> bool {
        let (head, out) = (back.target, self.next[end]);
        let mut start = end;
        for _ in 0..MOST_LED {
            if self.entries[start] > 0 || start == head {
                break;
            }
            start = self.previous[start];
            if start >= self.next.len() {
                return false;
            }
        }
        let (before, before_head) = (self.previous[start], self.previous[head]);
        let is_known = |position: usize| position < self.next.len();
        // Behind the head, and with ways there by jumps that are worth it.
        if start == head || head == 0 || !is_known(before) || !is_known(before_head) || !is_known(out) {
            return false;
        }
        let jumps = (0..self.jumps.len()).filter(|position| self.is_there[*position]);
        let ways = jumps.filter(
            |position| matches!(self.jumps[*position], Some(Jump { target, condition: None }) if target == start),
        );
        let added = usize::from(!self.ends(before)) + usize::from(!self.ends(before_head));
        if ways.count() < MANY_WAYS || self.spare.len() < added {
            return false;
        }
        self.next[before] = out;
        self.previous[out] = before;
        self.jump_behind(before, start);
        self.jump_behind(before_head, head);
        let before_head = self.previous[head];
        self.link(start, end, before_head);
        self.jumps[end] = Some(Jump {
            target: out,
            condition: back.condition.map(|condition| condition ^ 1),
        });
        self.entries[head] -= 1;
        self.entries[out] += 1;
        true
    }

    /// Puts a jump behind a position from which execution goes on.
    fn jump_behind(&mut self, position: usize, target: usize) {
        if self.ends(position) {
            return;
        }
        let Some(added) = self.spare.next() else { return };
        self.jumps[added] = Some(Jump {
            target,
            condition: None,
        });
        self.entries[target] += 1;
        self.is_there[added] = true;
        self.link(added, added, position);
    }

    /// Moves the block that an unconditional jump goes to behind it, if nothing runs into it, and leaves the jump out.
    fn follow(&mut self, position: usize, jump: Jump) -> bool {
        let first = jump.target;
        let before = self.previous[first];
        if before >= self.next.len() || position == 0 || self.entries[position] != 0 || !self.ends(before) {
            return false;
        }
        let mut last = first;
        for _ in 0..MOST_STEPS {
            if last == position {
                return false;
            }
            if self.ends(last) {
                let behind = self.next[last];
                self.next[before] = behind;
                if let Some(slot) = self.previous.get_mut(behind) {
                    *slot = before;
                }
                self.link(first, last, position);
                self.entries[first] -= 1;
                self.unlink(position);
                return true;
            }
            last = self.next[last];
        }
        false
    }

    /// Moves what both ways begin with before the jump, or before the comparison in front of it.
    fn gather(&mut self, position: usize, jump: Jump) -> bool {
        let (one, other) = (self.next[position], jump.target);
        let Some(is_movable) = self.movable.get(one) else {
            return false;
        };
        if !is_movable
            || one == other
            || self.entries[one] != 0
            || self.bytes[one] != self.bytes[other]
            || self.moved.contains(&one)
            || self.moved.contains(&other)
            || !self.movable[other]
            || self.gathered[position] >= MOST_MOVED
        {
            return false;
        }
        // A processor takes a comparison and a jump together, if they are together.
        let mut place = position;
        let setter = self.previous[position];
        if self.entries[position] == 0
            && self.entries.get(setter) == Some(&0)
            && let Some(instruction) = self.instructions.get(setter)
            && matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test)
            && commutes(instruction, &self.instructions[one], &mut self.factory)
        {
            place = setter;
        }
        let before = self.previous[place];
        if self.entries[place] != 0 || before >= self.next.len() {
            return false;
        }
        self.unlink(one);
        self.is_there[one] = true;
        self.link(one, one, before);
        self.moved.insert(one);
        self.gathered[position] += 1;
        // The instruction is no end, so something follows.
        let behind = self.next[other];
        self.entries[other] -= 1;
        self.entries[behind] += 1;
        self.jumps[position] = Some(Jump { target: behind, ..jump });
        true
    }

    /// The conditional jumps that are made no more.
    fn left_out(&self) -> HashSet<usize> {
        let is_left_out = |position: &usize| {
            let jump = self.jumps[*position];
            !self.is_there[*position] && jump.is_some_and(|jump| jump.condition.is_some())
        };
        (0..self.jumps.len()).filter(is_left_out).collect()
    }

    /// The parts in their new order, and which of them were moved. `None` if something leads to what is no more.
    fn parts(&self, parts: Vec<Part>) -> Option<(Vec<Part>, HashSet<usize>)> {
        let mut order = Vec::with_capacity(parts.len());
        let mut position = 0;
        while position < self.next.len() {
            order.push(position);
            position = self.next[position];
        }
        let mut places = vec![None; self.next.len()];
        for (place, position) in order.iter().enumerate() {
            places[*position] = Some(place);
        }
        let moved = self.moved.iter().filter_map(|position| places[*position]).collect();
        let starts: Vec<u32> = parts.iter().map(|part| part.start).collect();
        let mut parts: Vec<Option<Part>> = parts.into_iter().map(Some).collect();
        let mut made = Vec::with_capacity(order.len());
        for position in order {
            let mut part = match parts.get_mut(position) {
                Some(part) => part.take()?,
                // One that came: it belongs to where it leads.
                None => Part::added(*starts.get(self.jumps[position]?.target)?),
            };
            if let Some(Jump { target, condition }) = self.jumps[position] {
                part.form = Form::Jump {
                    target: places[target]?,
                    condition,
                    short: false,
                };
            }
            made.push(part);
        }
        Some((made, moved))
    }
}

/// Whether an instruction is a `mov` or `lea` that changes a register alone, and is no part of a prologue or an epilogue.
fn is_movable(instruction: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
    let is_of_frame = |register: Register| [Register::RSP, Register::RBP].contains(&register.full_register());
    let known = matches!(
        instruction.mnemonic(),
        Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd
    );
    let to = instruction.op0_register();
    let restores = instruction.memory_base() == Register::RSP && NONVOLATILE.contains(&to.full_register());
    known
        && instruction.flow_control() == FlowControl::Next
        && to.is_gpr()
        && !is_of_frame(to)
        && !is_of_frame(instruction.op1_register())
        && !restores
        && instruction.rflags_modified() == 0
        && instruction.rflags_read() == 0
        && factory
            .info(instruction)
            .used_memory()
            .iter()
            .all(|memory| memory.access() != OpAccess::Write)
}

/// Whether two instructions, neither of which is a jump, can change places. The second one leaves flags alone.
fn commutes(one: &Instruction, other: &Instruction, factory: &mut InstructionInfoFactory) -> bool {
    if one.flow_control() != FlowControl::Next || other.flow_control() != FlowControl::Next {
        return false;
    }
    let mut used = |instruction: &Instruction| {
        let info = factory.info(instruction);
        let registers: Vec<(Register, bool)> = info
            .used_registers()
            .iter()
            .map(|used| {
                let is_written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
                (used.register().full_register(), is_written)
            })
            .filter(|(register, _)| register.is_gpr64())
            .collect();
        let is_access = |memory: &UsedMemory| memory.access() != OpAccess::NoMemAccess;
        (registers, info.used_memory().iter().any(is_access))
    };
    let (one_uses, one_has_memory) = used(one);
    let (other_uses, other_has_memory) = used(other);
    let touches = |(register, is_written): &(Register, bool)| {
        let shared = one_uses.iter().filter(|(other, _)| other == register);
        shared.clone().any(|(_, also_written)| *is_written || *also_written)
    };
    !(other_uses.iter().any(touches) || one_has_memory && other_has_memory)
}

/// A code as it was read.
struct Reading<'a> {
    instructions: &'a [Instruction],
    bytes: &'a [u8],
    references: Places<'a>,
}

impl Reading<'_> {
    fn position(&self, offset: u64) -> Result<usize, String> {
        let found = self.instructions.binary_search_by_key(&offset, Instruction::ip);
        found.map_err(|_| format!("a jump to {offset:#x}, which is in an instruction"))
    }

    /// The next one that is no unconditional jump.
    fn next(&self, mut position: usize) -> Result<usize, String> {
        for _ in 0..=self.instructions.len() {
            match self.instructions.get(position) {
                Some(jump) if jump.is_jmp_short_or_near() => position = self.position(jump.near_branch_target())?,
                Some(_) => return Ok(position),
                None => break,
            }
        }
        Err("execution runs past the end of the function".to_owned())
    }

    fn bytes_of(&self, instruction: &Instruction) -> Option<&[u8]> {
        self.bytes
            .get(instruction.ip() as usize..instruction.next_ip() as usize)
    }
}

/// What was done, which is proven and not believed.
struct Changed {
    /// Positions in the new code of instructions that the old code has later.
    moved: HashSet<usize>,
    /// Positions in the old code of conditional jumps that the new code does not have: both their ways lead to the same.
    left_out: HashSet<usize>,
}

/// Checks that two codes do the same from their beginnings on.
fn check(was: &Reading<'_>, is: &Reading<'_>, changed: &Changed) -> Result<(), String> {
    let mut factory = InstructionInfoFactory::new();
    let mut seen = HashSet::new();
    // Positions in both, and what was executed in the second one alone, by its positions.
    let mut work = vec![(0, 0, Vec::new())];
    while let Some((old, new, ahead)) = work.pop() {
        let (old, new) = (was.next(old)?, is.next(new)?);
        if !seen.insert((old, new, ahead.clone())) {
            continue;
        }
        let (before, after) = (&was.instructions[old], &is.instructions[new]);
        let differs = || Err(format!("{before} at {:#x} became something else", before.ip()));
        let is_same = |after: &Instruction| {
            was.bytes_of(before).is_some()
                && was.bytes_of(before) == is.bytes_of(after)
                && is_relocated_alike((before, &was.references), (after, &is.references))
        };
        if let Some((first, rest)) = ahead.split_first()
            && is_same(&is.instructions[*first])
        {
            work.push((old + 1, new, rest.to_vec()));
        } else if changed.left_out.contains(&old) && before.is_jcc_short_or_near() {
            let far = was.position(before.near_branch_target())?;
            work.push((far, new, ahead.clone()));
            work.push((old + 1, new, ahead));
        } else if changed.moved.contains(&new) && ahead.len() < MOST_AHEAD && is_movable(after, &mut factory) {
            work.push((old, new + 1, [&ahead[..], &[new]].concat()));
        } else if before.is_jcc_short_or_near() && after.is_jcc_short_or_near() {
            let far = (
                was.position(before.near_branch_target())?,
                is.position(after.near_branch_target())?,
            );
            if before.condition_code() == after.condition_code() {
                work.push((far.0, far.1, ahead.clone()));
                work.push((old + 1, new + 1, ahead));
            } else if before.code().negate_condition_code().condition_code() == after.condition_code() {
                work.push((far.0, new + 1, ahead.clone()));
                work.push((old + 1, far.1, ahead));
            } else {
                return differs();
            }
        } else if !is_same(after) {
            return differs();
        } else if before.flow_control() == FlowControl::Return {
            if !ahead.is_empty() {
                return differs();
            }
        } else {
            let mut is_free = |position: &usize| commutes(before, &is.instructions[*position], &mut factory);
            if !ahead.iter().all(&mut is_free) {
                return differs();
            }
            work.push((old + 1, new + 1, ahead));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Changed, Reading, check, straighten};
    use crate::audit_x64::decode;
    use crate::parts_x64::Places;
    use crate::rewrite_x64::tests::{bytes, code};

    fn straight(before: &str) -> Vec<u8> {
        let mut code = code(bytes(before), &[], &[]);
        let decoded = decode(&code.bytes, &BTreeSet::new()).unwrap();
        straighten(&mut code, &decoded).unwrap();
        code.bytes
    }

    #[test]
    fn jumps_that_do_nothing_vanish() {
        let cases = [
            // je L; jmp M; L: nop; ret; M: dec eax; ret
            ("over a jump", "7402 eb02 90 c3 ffc8 c3", "7502 90 c3 ffc8 c3"),
            // M: dec eax; je L; jmp M; L: ret
            ("over a jump back", "ffc8 7402 ebfa c3", "ffc8 75fc c3"),
            // je L; nop; ret; L: jmp M; nop; M: dec eax; ret
            ("to a jump", "7402 90 c3 eb01 90 ffc8 c3", "7402 90 c3 ffc8 c3"),
            // je L; jne L; inc eax; ret; L: jmp M; inc ecx; N: ret; M: jmp N
            (
                "to two jumps",
                "7406 7504 ffc0 c3 90 eb03 ffc1 c3 ebfd",
                "7405 7503 ffc0 c3 c3",
            ),
            // inc eax; jmp L; L: ret
            ("to the next instruction", "ffc0 eb00 c3", "ffc0 c3"),
            // test ecx, ecx; je L; inc eax; jmp M; L: dec eax; ret; M: inc ecx; ret
            (
                "to a block behind another",
                "85c9 7404 ffc0 eb03 ffc8 c3 ffc1 c3",
                "85c9 7405 ffc0 ffc1 c3 ffc8 c3",
            ),
            // inc eax; jmp L; nop; L: ret
            ("what is not reached", "ffc0 eb01 90 c3", "ffc0 c3"),
            // a loop: L: inc eax; dec ecx; je M; jmp L; M: ret
            // je L; jmp L; L: ret
            ("both ways lead to the same", "85c9 7402 eb00 c3", "85c9 c3"),
            // je L; js M; L: jmp M; nop; M: inc eax; ret
            ("one of two", "85c9 7402 7803 eb01 90 ffc0 c3", "85c9 ffc0 c3"),
            ("a loop", "ffc0 ffc9 7402 ebf8 c3", "ffc0 ffc9 75fa c3"),
            // test edx, edx; je X; L: dec eax; test ecx, ecx; je M; jmp L; X: inc ecx; M: inc ebx; ret
            (
                "out of a loop to elsewhere",
                "90 85d2 7408 ffc8 85c9 7404 ebf8 ffc1 ffc3 c3",
                "90 85d2 7408 ffc8 85c9 75fa eb02 ffc1 ffc3 c3",
            ),
        ];
        for (name, before, after) in cases {
            assert_eq!(straight(before), bytes(after), "{name}");
        }
    }

    #[test]
    fn the_end_of_a_loop_that_many_ways_lead_to_stands_before_its_head() {
        // L: je A; je B; je C; inc edi; E: dec eax; jne L; ret; A: inc ebx; jmp E; B: inc ebp; jmp E; C: inc esi; jmp E.
        // Jumps that come are short later.
        assert_eq!(
            straight("90 85c9 740f 85d2 740f 85f6 740f ffc7 ffc8 75ee c3 ffc3 ebf7 ffc5 ebf3 ffc6 ebef"),
            bytes(
                "90 e904000000 ffc8 7413 85c9 7410 85d2 7410 85f6 7410 ffc7 e9e9ffffff c3 ffc3 ebe4 ffc5 ebe0 ffc6 ebdc"
            ),
        );
        // Without C there are too few.
        let few = "90 85c9 740b 85d2 740b ffc7 ffc8 75f2 c3 ffc3 ebf7 ffc5 ebf3";
        assert_eq!(straight(few), bytes(few));
    }

    #[test]
    fn what_both_ways_begin_with_is_there_once() {
        let cases = [
            // test ecx, ecx; je L; mov eax, 1; inc edx; ret; L: mov eax, 1; ret
            (
                "before the comparison",
                "85c9 7408 b801000000 ffc2 c3 b801000000 c3",
                "b801000000 85c9 7403 ffc2 c3 c3",
            ),
            // test eax, eax; je L; mov eax, 1; inc edx; ret; L: mov eax, 1; ret
            (
                "what the comparison reads is written: before the jump",
                "85c0 7408 b801000000 ffc2 c3 b801000000 c3",
                "85c0 b801000000 7403 ffc2 c3 c3",
            ),
            // test ecx, ecx; je L; mov eax, 1; mov rdx, rax; inc edx; ret; L: the same; ret
            (
                "two of them",
                "85c9 740b b801000000 4889c2 ffc2 c3 b801000000 4889c2 c3",
                "b801000000 4889c2 85c9 7403 ffc2 c3 c3",
            ),
            // cmp dword [rcx], 0; je L; mov eax, [rcx]; inc eax; ret; L: mov eax, [rcx]; ret
            (
                "memory is not read earlier than other memory",
                "833900 7405 8b01 ffc0 c3 8b01 c3",
                "833900 8b01 7403 ffc0 c3 c3",
            ),
            // test ecx, ecx; je L; js L; mov eax, 1; inc edx; ret; L: mov eax, 1; ret
            (
                "where others come, too",
                "85c9 740a 7808 b801000000 ffc2 c3 b801000000 c3",
                "85c9 740a b801000000 7808 ffc2 c3 b801000000 c3",
            ),
        ];
        for (name, before, after) in cases {
            // Nothing is put in front of the first instruction.
            let [before, after] = [before, after].map(|hex| format!("90 {hex}"));
            assert_eq!(straight(&before), bytes(&after), "{name}");
        }
    }

    #[test]
    fn what_must_stay_stays() {
        for (name, hex) in [
            ("a jump to itself", "85c9 7402 ebfe c3"),
            ("flags are changed", "85c9 7405 31c0 ffc2 c3 31c0 c3"),
            ("memory is written", "85c9 7405 8901 ffc2 c3 8901 c3"),
            ("other constants", "85c9 7408 b801000000 ffc2 c3 b802000000 c3"),
            (
                "a jump from elsewhere",
                "85c9 740c b801000000 ffc2 ffc9 75f5 c3 b801000000 c3",
            ),
            ("a restored register", "85c9 7407 488b3424 ffc2 c3 488b3424 c3"),
        ] {
            let hex = format!("90 {hex}");
            assert_eq!(straight(&hex), bytes(&hex), "{name}");
        }
    }

    #[test]
    fn the_second_reading_finds_what_became_something_else() {
        let before = bytes("85c9 7408 b801000000 ffc2 c3 b801000000 c3");
        let was = decode(&before, &BTreeSet::new()).unwrap();
        let judge = |after: &str, moved: &[usize], left_out: &[usize]| {
            let bytes = bytes(after);
            let is = decode(&bytes, &BTreeSet::new()).unwrap();
            let reading = |instructions, bytes| Reading {
                instructions,
                bytes,
                references: Places::default(),
            };
            let changed = Changed {
                moved: moved.iter().copied().collect(),
                left_out: left_out.iter().copied().collect(),
            };
            check(
                &reading(&was.instructions, &before),
                &reading(&is.instructions, &bytes),
                &changed,
            )
        };
        for (what, after, moved) in [
            ("the same", "85c9 7408 b801000000 ffc2 c3 b801000000 c3", &[][..]),
            ("moved", "b801000000 85c9 7403 ffc2 c3 c3", &[0]),
            ("inverted", "85c9 7506 b801000000 c3 b801000000 ffc2 c3", &[]),
        ] {
            assert_eq!(judge(after, moved, &[]), Ok(()), "{what}");
        }
        for (what, after, moved) in [
            (
                "another condition",
                "85c9 7508 b801000000 ffc2 c3 b801000000 c3",
                &[][..],
            ),
            ("another target", "85c9 7405 b801000000 ffc2 c3 b801000000 c3", &[]),
            ("one way alone", "b801000000 85c9 7403 ffc2 c3 b801000000 c3", &[0]),
            ("moved, but not named", "b801000000 85c9 7403 ffc2 c3 c3", &[]),
            ("moved, and another", "b802000000 85c9 7403 ffc2 c3 c3", &[0]),
            ("what the comparison reads", "b901000000 85c9 7403 ffc2 c3 c3", &[0]),
            ("left out", "85c9 7403 ffc2 c3 c3", &[]),
            ("a comparison left out", "7408 b801000000 ffc2 c3 b801000000 c3", &[]),
            ("flags changed between", "85c9 31c0 7403 ffc2 c3 c3", &[1]),
        ] {
            assert!(judge(after, moved, &[]).is_err(), "{what}");
        }
        let (one, other) = ("85c9 b801000000 ffc2 c3", "85c9 b801000000 c3");
        for after in [one, other] {
            assert!(judge(after, &[], &[1]).is_err(), "{after}");
        }
    }
}
