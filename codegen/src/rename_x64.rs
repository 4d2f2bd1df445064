//! Registers that need no saving, in x86-64 code.
//!
//! Given: the decoded instructions of a function in the form of Cranelift, which takes `rsi` and `rdi` early, as if they were free.
//! Computed: the same instructions with other registers in place of saved ones, so that fewer must be saved; copies from a register
//! to itself are left out.
//! What a register holds from one write of it to the last reads, on all ways, is renamed on its own; the register itself needs no saving
//! if that goes for all that it holds.
//! Safe because: two registers become one only where neither is written while the other's value is still needed. That is not trusted:
//! [`check`] reads both codes again, and follows which register of the one holds the value of which of the other, on all
//! ways through the function. It knows nothing of what was chosen, or why.
//!
//! The saves stay here; [`frame_x64`](crate::frame_x64) leaves out those of registers that nothing changes any more.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};

use crate::audit_x64::{Decoded, NONVOLATILE, decode};
use crate::compile::Code;
use crate::parts_x64::{
    Encoding, Form, Pair, Part, Places, Rewritten, became_something_else, is_relocated_alike, successors_of,
    with_least_displacement,
};
use crate::unwind_x64::{Shape, is_move, shape};

/// A register by its number.
type Number = usize;
/// Registers, a bit for each number.
type Set = u16;
/// What the registers of an instruction are named, by their old numbers.
type Names = [u8; COUNT];

const COUNT: usize = 16;
/// Registers as they are.
const SAME: Names = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const RAX: Number = 0;
const RDX: Number = 2;
/// Those that a call may change, in the order in which they are taken: without a prefix first.
const VOLATILE: [Number; 7] = [0, 1, 2, 8, 9, 10, 11];
/// Those in which a call may find arguments: `rcx`, `rdx`, `r8`, `r9`.
const ARGUMENTS: Set = 1 << 1 | 1 << 2 | 1 << 8 | 1 << 9;
const FIRST_LONG: Number = 8;

fn has(set: Set, number: Number) -> bool {
    set >> number & 1 != 0
}

fn set_of(numbers: impl IntoIterator<Item = Number>) -> Set {
    numbers.into_iter().fold(0, |set, number| set | 1 << number)
}

/// Takes other registers where that saves some. Gives the second reading, if it did. `results` is how many registers
/// the function returns its results in.
pub(crate) fn rename(code: &mut Code, decoded: &Decoded, results: usize) -> Result<Option<Decoded>, String> {
    let instructions = &decoded.instructions;
    let Some(mut parts) = Part::all(code, instructions) else {
        return Ok(None);
    };
    let Some(shape) = shape(instructions).ok().filter(Shape::has_rbp) else {
        return Ok(None);
    };
    if shape.saves.is_empty() {
        return Ok(None);
    }
    let mut factory = InstructionInfoFactory::new();
    let uses = instructions.iter().map(|one| Uses::of(one, &mut factory, results));
    let uses: Vec<Uses> = uses.collect();
    let names = Plan::new(instructions, &parts, &shape, &uses).names();
    let mut is_changed = false;
    for ((part, instruction), names) in parts.iter_mut().zip(instructions).zip(&names) {
        if shape.has(part.source) || !matches!(part.form, Form::Kept) || *names == SAME {
            continue;
        }
        let Some(renamed) = renamed(instruction, names) else {
            return Ok(None);
        };
        if renamed == with_least_displacement(instruction) {
            continue;
        }
        is_changed = true;
        part.form = if is_move(&renamed, renamed.op0_register(), renamed.op0_register()) {
            Form::Removed
        } else {
            match Encoding::of(&renamed) {
                Some(encoding) => Form::Renamed(encoding),
                None => return Ok(None),
            }
        };
    }
    if !is_changed {
        return Ok(None);
    }
    let references = code.references.clone();
    let rewritten = Rewritten::assemble(parts, code, false);
    let relocated: BTreeSet<u32> = code.references.iter().map(|reference| reference.offset).collect();
    let after = decode(&code.bytes, &relocated)?;
    let pairs = rewritten.pairs(instructions, &after.instructions)?;
    check(
        &rewritten,
        &pairs,
        (&Places::of(&references), &Places::of(&code.references)),
        (&uses, results),
    )?;
    Ok(Some(after))
}

/// What instructions read and write.
#[derive(Clone, Copy)]
struct Uses {
    reads: Set,
    writes: Set,
}

impl Uses {
    /// A call reads all registers that may hold arguments, and a return those of the results.
    fn of(instruction: &Instruction, factory: &mut InstructionInfoFactory, results: usize) -> Uses {
        let mut uses = Uses { reads: 0, writes: 0 };
        for used in factory.info(instruction).used_registers() {
            let full = used.register().full_register();
            if !full.is_gpr64() {
                continue;
            }
            let bit = 1 << full.number();
            let (reads, writes) = match used.access() {
                OpAccess::None => (false, false),
                OpAccess::Read | OpAccess::CondRead => (true, false),
                // What is written of it is a part, and the rest stays.
                OpAccess::Write => (used.register().size() < 4, true),
                _ => (true, true),
            };
            uses.reads |= if reads { bit } else { 0 };
            uses.writes |= if writes { bit } else { 0 };
        }
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                uses.reads |= ARGUMENTS;
                uses.writes |= set_of(VOLATILE);
            }
            FlowControl::Return => uses.reads |= set_of([RAX, RDX].into_iter().take(results)),
            _ => {}
        }
        uses
    }
}

/// Which registers can be which.
struct Plan<'a> {
    instructions: &'a [Instruction],
    shape: &'a Shape,
    successors: Vec<Vec<usize>>,
    /// Registers that instructions use without naming them.
    unnamed: Set,
    known: Known,
}

/// What is known of each instruction, with the names of now.
#[derive(Clone)]
struct Known {
    /// What it writes.
    written: Vec<Set>,
    /// What is needed before it, and behind it.
    before: Vec<Set>,
    needed: Vec<Set>,
    /// To which register it copies, and from which.
    copies: Vec<Option<(Number, Number)>>,
    names: Vec<Names>,
}

impl<'a> Plan<'a> {
    fn new(instructions: &'a [Instruction], parts: &[Part], shape: &'a Shape, uses: &[Uses]) -> Plan<'a> {
        let count = instructions.len();
        let successors = instructions.iter().enumerate();
        let mut plan = Plan {
            instructions,
            shape,
            successors: successors
                .map(|(position, instruction)| successors_of(parts, position, instruction).collect())
                .collect(),
            unnamed: 0,
            known: Known {
                written: Vec::with_capacity(count),
                before: vec![0; count],
                needed: vec![0; count],
                copies: Vec::with_capacity(count),
                names: vec![SAME; count],
            },
        };
        let known = &mut plan.known;
        let mut read = Vec::with_capacity(count);
        for (position, instruction) in instructions.iter().enumerate() {
            // What is saved and restored is the caller's.
            let is_frame = shape.has(position);
            let uses = uses[position];
            let kept = if is_frame { 0 } else { Set::MAX };
            read.push(uses.reads & kept);
            known.written.push(uses.writes & kept);
            known.copies.push(copy(instruction).filter(|_| !is_frame));
            plan.unnamed |= (uses.reads | uses.writes) & kept & !named(instruction);
        }
        let mut is_changed = true;
        while std::mem::take(&mut is_changed) {
            for position in (0..count).rev() {
                let next = plan.successors[position].iter();
                let needed = next.fold(0, |needed, next| needed | known.before[*next]);
                let first = read[position] | needed & !known.written[position];
                is_changed |= needed != known.needed[position] || first != known.before[position];
                known.needed[position] = needed;
                known.before[position] = first;
            }
        }
        plan
    }

    /// The new names of all registers, for each instruction.
    fn names(mut self) -> Vec<Names> {
        let mut saved: Vec<Number> = self.shape.saves.iter().map(|save| save.register.number()).collect();
        // Those with a prefix first: saving them takes more.
        saved.sort_unstable();
        let mut left = saved.clone();
        let at_entry = self.known.before.get(self.shape.prologue).copied().unwrap_or(Set::MAX);
        while let Some(old) = saved.pop() {
            if has(self.unnamed | at_entry, old) || !self.known.written.iter().any(|set| has(*set, old)) {
                continue;
            }
            let before = self.known.clone();
            let others: Vec<Number> = left.iter().copied().filter(|other| *other != old).collect();
            if self.rename(old, &others) && self.pays(old, &before) {
                left = others;
            } else {
                self.known = before;
            }
        }
        self.known.names
    }

    /// Gives all that a register holds other registers: free ones, or of `others`.
    fn rename(&mut self, old: Number, others: &[Number]) -> bool {
        for web in self.webs(old) {
            let mut free = VOLATILE.to_vec();
            free.sort_by_key(|new| std::cmp::Reverse(self.copies_between(&web, old, *new)));
            let found = free.into_iter().chain(others.iter().copied());
            let Some(new) = found.into_iter().find(|new| !self.interferes(&web, old, *new)) else {
                return false;
            };
            self.merge(&web, old, new);
        }
        true
    }

    /// The instructions at which a register holds something, or is given it, in groups that have nothing to do with each other.
    fn webs(&self, register: Number) -> Vec<Vec<usize>> {
        let count = self.successors.len();
        let mut groups: Vec<usize> = (0..count).collect();
        for (position, successors) in self.successors.iter().enumerate() {
            for next in successors
                .iter()
                .filter(|next| has(self.known.before[**next], register))
            {
                let (one, other) = (root(&mut groups, position), root(&mut groups, *next));
                groups[one.max(other)] = one.min(other);
            }
        }
        let mut webs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for position in 0..count {
            if has(self.known.before[position] | self.known.written[position], register) {
                webs.entry(root(&mut groups, position)).or_default().push(position);
            }
        }
        webs.into_values().collect()
    }

    fn copies_between(&self, web: &[usize], one: Number, other: Number) -> usize {
        let is_between = |position: &&usize| {
            let copy = self.known.copies[**position];
            copy == Some((one, other)) || copy == Some((other, one))
        };
        web.iter().filter(is_between).count()
    }

    /// Whether one is written where the other is needed. A copy of the one to the other makes them the same.
    fn interferes(&self, web: &[usize], one: Number, other: Number) -> bool {
        let known = &self.known;
        let is_lost = |position: usize, to: Number, from: Number| {
            has(known.written[position], to)
                && has(known.needed[position], from)
                && known.copies[position] != Some((to, from))
        };
        web.iter().any(|&position| {
            let are_written = has(known.written[position], one) && has(known.written[position], other);
            are_written || is_lost(position, one, other) || is_lost(position, other, one)
        })
    }

    fn merge(&mut self, web: &[usize], old: Number, new: Number) {
        let merged = |set: &mut Set| {
            if has(*set, old) {
                *set = *set & !(1 << old) | 1 << new;
            }
        };
        let known = &mut self.known;
        for &position in web {
            merged(&mut known.written[position]);
            merged(&mut known.before[position]);
            merged(&mut known.needed[position]);
            if let Some((to, from)) = &mut known.copies[position] {
                for number in [to, from] {
                    if *number == old {
                        *number = new;
                    }
                }
            }
            for name in &mut known.names[position] {
                if usize::from(*name) == old {
                    *name = new as u8;
                }
            }
        }
    }

    /// Whether the code gets no longer: prefixes take at most what saving takes.
    fn pays(&self, old: Number, before: &Known) -> bool {
        let per_save = if old < FIRST_LONG { 1 } else { 2 };
        let saved = per_save * (1 + self.shape.epilogues.len());
        let (mut was, mut is) = (0, 0);
        for (position, instruction) in self.instructions.iter().enumerate() {
            let names = [&before.names[position], &self.known.names[position]];
            if self.shape.has(position) || names[0] == names[1] || named(instruction) == 0 {
                continue;
            }
            let length = |names: &Names| {
                let renamed = renamed(instruction, names)?;
                let register = renamed.op0_register();
                if is_move(&renamed, register, register) {
                    return Some(0);
                }
                Some(Encoding::of(&renamed)?.as_slice().len())
            };
            let (Some(before), Some(after)) = (length(names[0]), length(names[1])) else {
                return false;
            };
            was += before;
            is += after;
        }
        is <= was + saved
    }
}

/// Who stands for a group.
fn root(groups: &mut [usize], mut member: usize) -> usize {
    while groups[member] != member {
        groups[member] = groups[groups[member]];
        member = groups[member];
    }
    member
}

/// To which and from which register an instruction copies.
fn copy(instruction: &Instruction) -> Option<(Number, Number)> {
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    let is_copy = to.is_gpr64() && from.is_gpr64() && is_move(instruction, to, from);
    is_copy.then(|| (to.number(), from.number()))
}

/// The registers that operands name, in the order of the operands.
fn operands(instruction: &Instruction) -> impl Iterator<Item = Register> {
    let of_operands = (0..instruction.op_count())
        .filter(|index| instruction.op_kind(*index) == OpKind::Register)
        .map(|index| instruction.op_register(index));
    of_operands.chain([instruction.memory_base(), instruction.memory_index()])
}

fn named(instruction: &Instruction) -> Set {
    let full = operands(instruction).map(Register::full_register);
    set_of(full.filter(|register| register.is_gpr64()).map(Register::number))
}

/// The same part of another register. `None` for one of bits 8 to 15.
fn part_of(register: Register, number: Number) -> Option<Register> {
    let number = number as u32;
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => None,
        _ if register.is_gpr64() => Some(Register::RAX + number),
        _ if register.is_gpr32() => Some(Register::EAX + number),
        _ if register.is_gpr16() => Some(Register::AX + number),
        _ if register.is_gpr8() && number < 4 => Some(Register::AL + number),
        _ if register.is_gpr8() => Some(Register::SPL + (number - 4)),
        _ => None,
    }
}

/// The same instruction with other registers, in the form that encodes and compares.
fn renamed(instruction: &Instruction, names: &Names) -> Option<Instruction> {
    let name = |register: Register| -> Option<Register> {
        let full = register.full_register();
        let new = if full.is_gpr64() {
            names[full.number()].into()
        } else {
            COUNT
        };
        if new == full.number() || new == COUNT {
            return Some(register);
        }
        part_of(register, new)
    };
    let mut new = *instruction;
    for index in 0..new.op_count() {
        if new.op_kind(index) == OpKind::Register {
            new.set_op_register(index, name(new.op_register(index))?);
        }
    }
    new.set_memory_base(name(new.memory_base())?);
    new.set_memory_index(name(new.memory_index())?);
    Some(with_least_displacement(&new))
}

/// For each register of the code before those of the new code that hold the same value.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Same([Set; COUNT]);

impl Same {
    fn at_entry() -> Same {
        Same(std::array::from_fn(|number| 1 << number))
    }

    fn meet(&mut self, other: &Same) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine &= theirs;
        }
    }

    /// What holds behind an instruction, if it does the same. `registers` are those of both, operand by operand.
    fn behind(&self, (before, after): (&Uses, &Uses), registers: &[(Number, Number)]) -> Option<Same> {
        let mut names: [Option<Number>; COUNT] = [None; COUNT];
        for (old, new) in registers {
            if names[*old].is_some_and(|known| known != *new) {
                return None;
            }
            names[*old] = Some(*new);
        }
        let name = |number: Number| names[number].unwrap_or(number);
        let all = |set: Set| (0..COUNT).filter(move |number| has(set, *number));
        let same_reads = set_of(all(before.reads).map(name)) == after.reads;
        let same_writes = set_of(all(before.writes).map(name)) == after.writes;
        let none_twice = before.writes.count_ones() == after.writes.count_ones();
        let is_read = all(before.reads).all(|number| has(self.0[number], name(number)));
        if !(same_reads && same_writes && none_twice && is_read) {
            return None;
        }
        let mut behind = *self;
        for set in &mut behind.0 {
            *set &= !after.writes;
        }
        for number in all(before.writes) {
            behind.0[number] = 1 << name(number);
        }
        Some(behind)
    }
}

/// Checks that the code, decoded again, does the same with other registers. `uses` are those of the code before.
fn check(
    rewritten: &Rewritten,
    pairs: &[Pair<'_>],
    references: (&Places<'_>, &Places<'_>),
    (uses, results): (&[Uses], usize),
) -> Result<(), String> {
    let mut factory = InstructionInfoFactory::new();
    let returns = |instruction: &Instruction, mut uses: Uses| {
        if instruction.flow_control() == FlowControl::Return {
            uses.reads |= set_of(NONVOLATILE.into_iter().map(Register::number));
        }
        uses
    };
    let mut used = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let before = pair.before;
        let is_same = match (pair.part.form, pair.made) {
            (Form::Jump { target, .. }, [after]) => {
                after.condition_code() == before.condition_code()
                    && (after.is_jcc_short_or_near() || after.is_jmp_short_or_near())
                    && rewritten.place(target).map(u64::from) == Some(after.near_branch_target())
                    && pairs
                        .get(target)
                        .is_some_and(|to| to.before.ip() == before.near_branch_target())
            }
            (_, [after]) => {
                is_same_with_its_registers(before, after)
                    && is_relocated_alike((before, references.0), (after, references.1))
            }
            // It changes nothing where both are one register now.
            (_, []) => copy(before).is_some(),
            _ => false,
        };
        if !is_same {
            return Err(became_something_else(before));
        }
        let was = returns(before, uses[pair.part.source]);
        let is = pair.made.first().map(|after| {
            // The same instruction has the same uses.
            if before == after {
                was
            } else {
                returns(after, Uses::of(after, &mut factory, results))
            }
        });
        used.push((was, is));
    }
    let mut known: Vec<Option<Same>> = vec![None; pairs.len()];
    let mut work = vec![0];
    if let Some(first) = known.first_mut() {
        *first = Some(Same::at_entry());
    }
    while let Some(position) = work.pop() {
        let (Some(pair), Some(same)) = (pairs.get(position), known.get(position).copied().flatten()) else {
            return Err("execution runs past the end of the function".to_owned());
        };
        let behind = match (&used[position], pair.made) {
            ((before, Some(uses)), [after, ..]) => {
                let number = |register: Register| register.full_register().number();
                let both = operands(pair.before).zip(operands(after));
                let registers: Vec<(Number, Number)> = both
                    .filter(|(old, _)| old.full_register().is_gpr64())
                    .map(|(old, new)| (number(old), number(new)))
                    .collect();
                same.behind((before, uses), &registers)
            }
            _ => copy(pair.before).map(|(to, from)| {
                let mut behind = same;
                behind.0[to] = behind.0[from];
                behind
            }),
        };
        let behind = behind.ok_or_else(|| became_something_else(pair.before))?;
        let parts = &rewritten.parts;
        for next in successors_of(parts, position, pair.before) {
            let Some(there) = known.get_mut(next) else {
                return Err("execution runs past the end of the function".to_owned());
            };
            let mut met = there.unwrap_or(behind);
            met.meet(&behind);
            if *there != Some(met) {
                *there = Some(met);
                work.push(next);
            }
        }
    }
    Ok(())
}

/// Whether two instructions are the same but for the registers that they name; those have the same sizes.
fn is_same_with_its_registers(before: &Instruction, after: &Instruction) -> bool {
    let mut new = *before;
    let sizes = |old: Register, new: Register| old.size() == new.size() && old.is_gpr() == new.is_gpr();
    if before.op_count() != after.op_count() {
        return false;
    }
    for index in 0..new.op_count() {
        if new.op_kind(index) == OpKind::Register && after.op_kind(index) == OpKind::Register {
            if !sizes(before.op_register(index), after.op_register(index)) {
                return false;
            }
            new.set_op_register(index, after.op_register(index));
        }
    }
    if !sizes(before.memory_base(), after.memory_base()) || !sizes(before.memory_index(), after.memory_index()) {
        return false;
    }
    new.set_memory_base(after.memory_base());
    new.set_memory_index(after.memory_index());
    let mut after = *after;
    // Distances are filled in later.
    if new.is_ip_rel_memory_operand() && after.is_ip_rel_memory_operand() {
        new.set_memory_displacement64(0);
        after.set_memory_displacement64(0);
    }
    if new.is_call_near() && after.is_call_near() {
        new.set_near_branch64(0);
        after.set_near_branch64(0);
    }
    with_least_displacement(&new) == with_least_displacement(&after)
}

#[cfg(test)]
mod tests {
    use super::{ARGUMENTS, rename};
    use crate::audit_x64::decode;
    use crate::rewrite_x64::tests::{bytes, code};

    /// A function that saves these registers, in the middle of it `body`.
    fn function(saves: &[&str], body: &str) -> String {
        let slots = ["3424", "7c2408", "5c2410", "642418"];
        let (mut stores, mut loads) = (String::new(), String::new());
        for save in saves {
            let (rex, slot) = match *save {
                "rsi" => ("48", slots[0]),
                "rdi" => ("48", slots[1]),
                "rbx" => ("48", slots[2]),
                _ => ("4c", slots[3]),
            };
            stores += &format!("{rex}89{slot} ");
            loads += &format!("{rex}8b{slot} ");
        }
        format!("55 4889e5 4883ec20 {stores} {body} {loads} 4883c420 5d c3")
    }

    /// What becomes of code.
    fn renamed(before: &str, fields: &[u32], results: usize) -> Vec<u8> {
        let mut code = code(bytes(before), fields, &[]);
        let relocated = code.references.iter().map(|reference| reference.offset).collect();
        let decoded = decode(&code.bytes, &relocated).unwrap();
        rename(&mut code, &decoded, results).unwrap();
        code.bytes
    }

    #[test]
    fn saved_registers_become_free_ones() {
        let cases = [
            // mov rsi, [rcx]; lea rax, [rsi+rsi*2+5]
            ("base and index", &["rsi"][..], "488b31 488d447605", "488b01 488d444005"),
            // mov rsi, [rcx]; mov [rcx], sil; mov [rcx+2], si; mov [rcx+4], esi; mov rax, rsi
            (
                "all widths",
                &["rsi"],
                "488b31 408831 66897102 897104 4889f0",
                "488b01 8801 66894102 894104",
            ),
            // mov rsi, [rcx]; mov rax, [rdx]; add rax, rsi
            (
                "what is read for the last time",
                &["rsi"],
                "488b31 488b02 4801f0",
                "488b09 488b02 4801c8",
            ),
            // mov rsi, rdx; mov rdi, rcx; mov rax, [rsi]; add rax, [rdi]
            (
                "copies of arguments",
                &["rsi", "rdi"],
                "4889d6 4889cf 488b06 480307",
                "488b02 480301",
            ),
            // mov rsi, [rcx]; mov [rcx+8], rsi; add to rdx r8, r9, r10 and r11; mov rax, rcx; mov rsi, [rcx]; mov [rax], rdx; add rax, rsi
            (
                "two values, each in another register",
                &["rsi"],
                "488b31 48897108 4c01c2 4c01ca 4c01d2 4c01da 4889c8 488b31 488910 4801f0",
                "488b01 48894108 4c01c2 4c01ca 4c01d2 4c01da 4889c8 488b09 488910 4801c8",
            ),
            // mov r12, [rcx]; mov rax, [r12]; add rax, [rcx]: without the byte that r12 needs
            (
                "r12 as a base",
                &["r12"],
                "4c8b21 498b0424 480301",
                "488b01 488b00 480301",
            ),
            // mov rsi, [rcx]; mov ecx, 3; shl rsi, cl; mov rax, rsi
            (
                "a shift",
                &["rsi"],
                "488b31 b903000000 48d3e6 4889f0",
                "488b01 b903000000 48d3e0",
            ),
            // mov rsi, [rcx]; L: mov rdi, [rcx+rsi*8]; dec rsi; jne L; mov rax, rdi
            (
                "a loop",
                &["rsi", "rdi"],
                "488b31 488b3cf1 48ffce 75f7 4889f8",
                "488b11 488b04d1 48ffca 75f7",
            ),
        ];
        for (name, saves, body, after) in cases {
            let (before, after) = (function(saves, body), function(saves, after));
            assert_eq!(renamed(&before, &[], 1), bytes(&after), "{name}");
        }
    }

    #[test]
    fn what_lives_over_a_call_becomes_nothing_that_the_call_changes() {
        // mov rsi, [rcx]; call f; mov rdi, [rax]; mov rax, rdi; add rax, rsi
        let calls = function(&["rsi", "rdi"], "488b31 e800000000 488b38 4889f8 4801f0");
        let field = 4 + 4 + 4 + 5 + 3 + 1;
        let after = function(&["rsi", "rdi"], "488b31 e800000000 488b00 4801f0");
        // The frame has 32 bytes.
        assert_eq!(renamed(&calls, &[field], 1), bytes(&after));
        assert_eq!(ARGUMENTS.count_ones(), 4);
    }

    #[test]
    fn two_saved_registers_become_one() {
        // mov rsi, [rcx]; call f; mov rax, rsi; mov rdi, [rax]; call f; mov rax, rdi
        let before = function(&["rsi", "rdi"], "488b31 e800000000 4889f0 488b38 e800000000 4889f8");
        let start = 4 + 4 + 4 + 5;
        let after = function(&["rsi", "rdi"], "488b31 e800000000 4889f0 488b30 e800000000 4889f0");
        assert_eq!(renamed(&before, &[start + 4, start + 15], 1), bytes(&after));
    }

    #[test]
    fn what_is_needed_stays() {
        let all = "4889c8 4801d0 4c01c0 4c01c8 4c01d0 4c01d8";
        let cases = [
            // mov rsi, [rcx]; mov all volatile ones; read them all, and rsi
            (
                "no register is free",
                &["rsi"][..],
                "488b31 488b01 488b4908 488b12 4d8b00 4d8b09 4d8b12 4d8b1b 4801f0".to_owned() + all,
                1,
            ),
            ("the caller's value is read", &["rsi"], "4889f0".to_owned(), 1),
            // mov rsi, rax; lodsq
            ("used without a name", &["rsi"], "4889ce 48ad".to_owned(), 1),
        ];
        for (name, saves, body, results) in cases {
            let before = function(saves, &body);
            assert_eq!(renamed(&before, &[], results), bytes(&before), "{name}");
        }
        // mov rsi, [rcx]; mov eax, [rsi]: the second result is what rdx holds
        let two = function(&["rsi"], "488b7108 8b06 8b4e04 01c8");
        assert_ne!(renamed(&two, &[], 2), bytes(&two));
        let pair = function(
            &["rsi"],
            "488b32 8b06 4c8b06 4c8b4e08 4c8b5610 4c8b5e18 488b0e 4801c8 4c01c0 4c01c8 4c01d0 4c01d8 4801f0",
        );
        assert_eq!(renamed(&pair, &[], 2), bytes(&pair), "rdx is a result");
        assert_ne!(renamed(&pair, &[], 1), bytes(&pair), "rdx is free");
    }
}
