//! A module for Linux into one for Windows.
//!
//! Given: a module that was verified against what Linux offers, with what was proven. Computed: the module with its context accesses, helper
//! calls, returned values and maps as Windows means them.
//! Safe because: nothing is assumed of the result. It is verified against what Windows offers like any other module, and that proof is
//! what is compiled.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{
    AluOp, Callee, Function, FunctionIndex, FunctionKind, Imm64, Insn, InsnIndex, Instruction, Map, MapIndex,
    MapOrigin, Module, Operand, Reg, Width,
};
use bpf2sys_platform::{Platform, linux_helper_name};
use bpf2sys_verifier::{FunctionFacts, Object, RegisterKind, VerifiedModule, VerifiedProgram};

use crate::calls::Called;
use crate::contexts::Access;
use crate::edit::Edits;
use crate::rules::{self, Context, Returns};
use crate::sections::old_section;
use crate::sequence::{alu, alu32, copy, load, mov, register, store, unless_equal, width};
use crate::{linux_section, liveness, results, unfold};

/// Something that a program has of Linux, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The function; none for a map.
    pub function: Option<FunctionIndex>,
    /// The slot of its instruction.
    pub slot: u32,
    /// What it is on Linux.
    pub subject: Subject,
    /// What becomes of it.
    pub fate: Fate,
}

/// What a program has of Linux.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The section, which says what programs are run for.
    Section(String),
    /// A field of the context, as `structure.field`, or what is no field.
    Field(String),
    /// A helper.
    Helper(String),
    /// A map.
    Map(String),
    /// What programs return.
    Return,
    /// An instruction.
    Instruction,
}

/// What becomes of something of Linux.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The same on Windows, made of this.
    Exact(String),
    /// An answer that Linux could give, too; the program lacks what is told here.
    Degraded(String),
    /// Nothing of Windows can stand for it.
    Blocked {
        /// Why.
        reason: String,
        /// What to change.
        advice: Option<String>,
    },
}

/// A module for Linux, seen with the eyes of Windows.
#[derive(Clone, Debug)]
pub struct Retargeted {
    /// The module for Windows; none if something of it is blocked.
    pub module: Option<Module>,
    /// What it has of Linux, maps first, then in file order.
    pub uses: Vec<Use>,
}

impl Use {
    /// Why nothing of Windows can stand for it, if that is so.
    pub fn blocked(&self) -> Option<&str> {
        match &self.fate {
            Fate::Blocked { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// What the program lacks, if Linux gave it more.
    pub fn degraded(&self) -> Option<&str> {
        match &self.fate {
            Fate::Degraded(lacks) => Some(lacks),
            _ => None,
        }
    }
}

/// That nothing stands for something.
fn blocked(reason: impl Into<String>, advice: Option<&str>) -> Fate {
    Fate::Blocked {
        reason: reason.into(),
        advice: advice.map(str::to_owned),
    }
}

/// What a perf event array of Windows holds for each processor, in bytes; on Linux user mode says so.
const PERF_BYTES: u32 = 65536;
const PERF_EVENT_ARRAY: u32 = 4;
/// `bpf_ringbuf_submit` and `bpf_ringbuf_discard`.
const RELEASES: [i32; 2] = [132, 133];
/// Bytes of a function's stack.
const STACK: u32 = 512;

/// Finds what can be told whatever programs do: sections, helpers, map types. For modules that are not, or cannot be, verified.
pub fn outline(module: &Module) -> Vec<Use> {
    let mut uses: Vec<Use> = module.maps.iter().map(map_use).collect();
    for (function, index) in module.functions.iter().zip(0..) {
        let index = FunctionIndex(index);
        let at = |slot, subject, fate| Use {
            function: Some(index),
            slot,
            subject,
            fate,
        };
        if function.kind == FunctionKind::Program {
            uses.push(at(
                0,
                Subject::Section(function.section.clone()),
                section_fate(&function.section),
            ));
        }
        for insn in &function.instructions {
            match insn.op {
                Instruction::Call(Callee::Helper(id)) => {
                    let fate = match rules::helper_of_any(id) {
                        Some(helper) => helper.usual_fate(),
                        None => no_helper(id),
                    };
                    uses.push(at(insn.slot, Subject::Helper(helper_name(id)), fate));
                }
                Instruction::Call(Callee::Btf(callee)) => {
                    let name = &module.btf_functions[callee.index()].name;
                    uses.push(at(insn.slot, Subject::Instruction, no_kernel_function(name)));
                }
                _ => {}
            }
        }
    }
    uses.extend(module.unresolved.iter().map(|unresolved| Use {
        function: Some(unresolved.function),
        slot: unresolved.slot,
        subject: Subject::Instruction,
        fate: blocked(unresolved.reason.clone(), None),
    }));
    uses
}

/// What becomes of programs of a section.
fn section_fate(section: &str) -> Fate {
    let Some(known) = linux_section(section).or_else(|| old_section(section)) else {
        let reason = format!("section {section} selects no program type");
        return blocked(reason, Some("`--type SECTION` says what its programs are"));
    };
    match &known.windows {
        Some(windows) => Fate::Exact(format!("section {windows}")),
        None => blocked(format!("Windows has nothing like programs of section {section}"), None),
    }
}

fn no_helper(id: i32) -> Fate {
    let why = rules::no_helper(id);
    let because = why.map_or_else(String::new, |why| format!(": {}", why.why));
    blocked(
        format!("helper {} has no counterpart{because}", helper_name(id)),
        why.and_then(|why| why.instead.as_deref()),
    )
}

fn no_kernel_function(name: &str) -> Fate {
    let reason = format!("{name} is a function of the Linux kernel, and Windows has none of them");
    blocked(reason, None)
}

fn helper_name(id: i32) -> String {
    let name = u32::try_from(id).ok().and_then(linux_helper_name);
    name.map_or_else(|| format!("{id}"), str::to_owned)
}

/// What becomes of a map.
fn map_use(map: &Map) -> Use {
    let fate = match map_type(map) {
        Ok(rule) => Fate::Exact(rule.becomes()),
        Err(fate) => fate,
    };
    Use {
        function: None,
        slot: 0,
        subject: Subject::Map(map.name.clone()),
        fate,
    }
}

/// The type of a map, and what it becomes.
fn map_type(map: &Map) -> Result<&'static rules::MapType, Fate> {
    let number = map.definition.map_type;
    let rule = rules::maps().types.iter().find(|t| t.linux == number);
    let Some(rule) = rule else {
        let reason = format!("map {} is of type {number}, which is none of Linux", map.name);
        return Err(blocked(reason, None));
    };
    if rule.windows.is_none() {
        let why = rule.why.as_deref().unwrap_or_default();
        let reason = format!(
            "map {} is of type {}, which has no counterpart: {why}",
            map.name, rule.name
        );
        return Err(blocked(reason, None));
    }
    if let Some(flag) = rules::maps()
        .flags
        .iter()
        .find(|f| map.flags >> f.bit & 1 == 1 && f.refuse.is_some())
    {
        let why = flag.refuse.as_deref().unwrap_or_default();
        let reason = format!(
            "map {} has flag {}, which has no counterpart: {why}",
            map.name, flag.name
        );
        return Err(blocked(reason, None));
    }
    Ok(rule)
}

/// Makes a module for Windows of one for Linux, or tells why there can be none.
pub fn retarget(verified: &VerifiedModule, windows: &Platform) -> Retargeted {
    let mut module = verified.module().clone();
    let mut uses = Vec::new();
    let is_record = |map: &Map| matches!(map.origin, MapOrigin::Record(_));
    for map in module.maps.iter_mut().filter(|map| !is_record(map)) {
        uses.push(map_use(map));
        if let Ok(rule) = map_type(map) {
            if map.definition.map_type == PERF_EVENT_ARRAY {
                (map.definition.key_size, map.definition.value_size) = (0, 0);
                map.definition.max_entries = PERF_BYTES;
            }
            map.definition.map_type = rule.windows.unwrap_or_default();
            map.flags = 0;
        }
    }
    let read = read_fields(verified);
    let mut globals: Vec<Vec<u8>> = module.globals.iter().map(|g| g.data.clone()).collect();
    for index in (0..module.functions.len() as u32).map(FunctionIndex) {
        let mut rewriter = Rewriter {
            verified,
            windows,
            index,
            function: verified.module().function(index),
            facts: verified.facts(index),
            read: &read,
            globals: &mut globals,
            records: 0,
            uses: Vec::new(),
        };
        if unfold::record_of(rewriter.function).is_some() {
            continue;
        }
        let instructions = rewriter.rewrite();
        // What the functions have that stand for helpers is told where they are called.
        if unfold::stands_for(rewriter.function).is_none() || rewriter.is_blocked() {
            uses.append(&mut rewriter.uses);
        }
        if let Some(instructions) = instructions {
            module.functions[index.index()].instructions = instructions;
        }
    }
    for (section, data) in module.globals.iter_mut().zip(globals) {
        module.maps[section.map.index()].definition.value_size = data.len() as u32;
        section.data = data;
    }
    module.unresolved.clear();
    // What gave records is last, and nothing calls it any more.
    module.functions.retain(|f| unfold::record_of(f).is_none());
    module.maps.retain(|map| !is_record(map));
    let is_blocked = uses.iter().any(|u| u.blocked().is_some());
    Retargeted {
        module: (!is_blocked).then_some(module),
        uses,
    }
}

/// Fields of contexts that something of a module loads.
fn read_fields(verified: &VerifiedModule) -> BTreeSet<(&'static str, Option<u32>)> {
    let mut read = BTreeSet::new();
    for program in verified.programs() {
        let Some(context) = rules::context(&program.program_type.name) else {
            continue;
        };
        for function in std::iter::once(program.function).chain(program.reachable.iter().copied()) {
            let facts = verified.facts(function);
            for (position, insn) in verified.module().function(function).instructions.iter().enumerate() {
                if let Instruction::Load { base, .. } = insn.op
                    && facts.instructions[position].reachable
                {
                    let pointer = facts.register(InsnIndex(position as u32), base);
                    if let (RegisterKind::Context, Some((low, _))) = (pointer.kind, pointer.offset) {
                        read.insert((context.name.as_str(), context.field_of(low, &insn.op)));
                    }
                }
            }
        }
    }
    read
}

struct Rewriter<'a> {
    verified: &'a VerifiedModule,
    windows: &'a Platform,
    index: FunctionIndex,
    function: &'a Function,
    facts: &'a FunctionFacts,
    /// Fields that something of the module loads: the structure, and where they are in it.
    read: &'a BTreeSet<(&'static str, Option<u32>)>,
    /// What is in the sections of global variables.
    globals: &'a mut Vec<Vec<u8>>,
    /// Bytes of the stack below what the function has that records take.
    records: u32,
    uses: Vec<Use>,
}

impl<'a> Rewriter<'a> {
    /// The programs that the function is, or is a part of.
    fn programs(&self) -> impl Iterator<Item = &'a VerifiedProgram> + use<'a> {
        let index = self.index;
        let programs = self.verified.programs().iter();
        programs.filter(move |p| p.function == index || p.reachable.contains(&index))
    }

    /// Notes what becomes of something at a slot of the function.
    fn note(&mut self, slot: u32, subject: Subject, fate: Fate) {
        self.uses.push(Use {
            function: Some(self.index),
            slot,
            subject,
            fate,
        });
    }

    /// Its instructions for Windows; none if something is blocked, which is noted then.
    fn rewrite(&mut self) -> Option<Vec<Insn>> {
        let types: BTreeSet<&str> = self.programs().map(|p| p.program_type.name.as_str()).collect();
        let sections: Vec<&str> = self
            .programs()
            .map(|p| self.verified.module().function(p.function).section.as_str())
            .collect();
        let mut types_of = types.iter();
        let Some(program_type) = types_of.next() else {
            // Nothing runs it.
            return Some(Insn::sequence([mov(Reg::R0, 0), Instruction::Exit]));
        };
        if let Some(other) = types_of.next() {
            let reason = format!(
                "{} is part of programs of types {program_type} and {other}",
                self.function.name
            );
            let advice = "make one function of it for each";
            self.note(0, Subject::Instruction, blocked(reason, Some(advice)));
            return None;
        }
        let Some(context) = rules::context(program_type) else {
            let fate = blocked(format!("Windows has no programs of type {program_type}"), None);
            self.note(0, Subject::Section(self.function.section.clone()), fate);
            return None;
        };
        let is_program = self.function.kind == FunctionKind::Program;
        if is_program {
            let section = self.function.section.clone();
            let fate = section_fate(&section);
            // `--type` says what others are.
            let fate = if linux_section(&section).is_some() {
                fate
            } else {
                Fate::Exact(format!("type {program_type}"))
            };
            self.note(0, Subject::Section(section), fate);
        }
        if is_program && self.is_called() {
            let reason = format!(
                "{} is a program, and other functions call it, to which its result means something else",
                self.function.name
            );
            self.note(
                0,
                Subject::Instruction,
                blocked(reason, Some("make two functions of it")),
            );
            return None;
        }
        let returns = match is_program.then(|| self.returns(program_type)).transpose() {
            Ok(returns) => returns,
            Err(fate) => {
                self.note(0, Subject::Return, fate);
                None
            }
        };
        if let Some(rule) = returns {
            self.note(0, Subject::Return, Fate::Exact(rule.becomes()));
        }
        let live = liveness::live_after(self.function);
        let mut edits = Edits::default();
        let mut targets = BTreeSet::new();
        for index in (0..self.function.instructions.len() as u32).map(InsnIndex) {
            targets.extend(self.function.jump_target(index));
        }
        let mut dead_before = false;
        for (position, insn) in self.function.instructions.iter().enumerate() {
            let index = InsnIndex(position as u32);
            let facts = &self.facts.instructions[position];
            if !facts.reachable {
                // On Windows, other numbers might lead there, to code that was never looked at.
                let ops = if dead_before && !targets.contains(&index) {
                    Vec::new()
                } else {
                    let harmless = returns.and_then(|r| r.otherwise).unwrap_or(0);
                    vec![mov(Reg::R0, harmless), Instruction::Exit]
                };
                dead_before = true;
                edits.sequences.insert(position, ops);
                continue;
            }
            dead_before = false;
            let ops = self.replace(
                index,
                insn,
                (context, program_type),
                &sections,
                (live[position], returns),
            );
            if let Some(ops) = ops {
                edits.sequences.insert(position, ops);
            }
        }
        if let (true, Some(only)) = (is_program, context.only_if)
            && let Some(byte) = width(1)
        {
            edits.prologue = vec![
                load(byte, Reg::R0, Reg::R1, only.at),
                if_equal(only.is),
                mov(Reg::R0, 0),
                Instruction::Exit,
            ];
        }
        if self.is_blocked() {
            return None;
        }
        let edited = edits.apply(self.function);
        if edited.is_err() {
            let reason = format!(
                "a jump of {} goes too far for its 16 bits once the accesses that it skips are rewritten",
                self.function.name
            );
            let advice = "move a part of it to another function";
            self.note(0, Subject::Instruction, blocked(reason, Some(advice)));
        }
        edited.ok()
    }

    /// Whether nothing can stand for something of it.
    fn is_blocked(&self) -> bool {
        self.uses.iter().any(|u| u.blocked().is_some())
    }

    /// Whether another function calls it.
    fn is_called(&self) -> bool {
        let module = self.verified.module();
        let calls = module.functions.iter().flat_map(|f| &f.instructions);
        calls
            .into_iter()
            .any(|insn| insn.op == Instruction::Call(Callee::Local(self.index)))
    }

    /// What becomes of what it returns.
    fn returns(&self, program_type: &str) -> Result<&'static Returns, Fate> {
        let section = &self.function.section;
        let rule = rules::returns(program_type, section).ok_or_else(|| {
            let reason = format!("what programs of section {section} return means nothing to Windows");
            blocked(reason, None)
        })?;
        if let Some([least, most]) = rule.range {
            let returned = self.programs().find(|p| p.function == self.index).map(|p| p.returns);
            let fits = returned.is_some_and(|r| r.min >= least && r.max <= most);
            if !fits {
                let reason = format!(
                    "it may return other numbers than {least} to {most}, which Linux does not let programs of section {section} do"
                );
                return Err(blocked(reason, Some("return one of these numbers on each way")));
            }
        }
        Ok(rule)
    }

    /// What stands in the place of an instruction; none if itself, or if nothing can, which is noted.
    fn replace(
        &mut self,
        index: InsnIndex,
        insn: &Insn,
        (context, program_type): (&'static Context, &str),
        sections: &[&str],
        (live, returns): (u16, Option<&Returns>),
    ) -> Option<Vec<Instruction>> {
        let unresolved = &self.verified.module().unresolved;
        if let Ok(place) = unresolved.binary_search_by_key(&(self.index, insn.slot), |u| (u.function, u.slot)) {
            let fate = blocked(unresolved[place].reason.clone(), None);
            self.note(insn.slot, Subject::Instruction, fate);
            return None;
        }
        match insn.op {
            Instruction::Load { base, .. } | Instruction::Store { base, .. } | Instruction::Atomic { base, .. } => {
                self.access(index, insn, base, (context, sections, live))
            }
            Instruction::Call(Callee::Helper(id)) => self.call(index, insn, id, program_type),
            Instruction::Call(Callee::Local(callee)) => self.call_of_made(index, insn, callee),
            Instruction::Call(Callee::Btf(callee)) => {
                let name = &self.verified.module().btf_functions[callee.index()].name;
                self.note(insn.slot, Subject::Instruction, no_kernel_function(name));
                None
            }
            Instruction::Exit => returns.map(mapped),
            _ => None,
        }
    }

    /// An access to memory, which may be the context.
    fn access(
        &mut self,
        index: InsnIndex,
        insn: &Insn,
        base: Reg,
        (context, sections, live): (&'static Context, &[&str], u16),
    ) -> Option<Vec<Instruction>> {
        let whole = || Subject::Field(format!("struct {}", context.name));
        let pointer = self.facts.register(index, base);
        match pointer.kind {
            RegisterKind::Context => {}
            // Where calls or ways join that know other things, one of them may be the context.
            RegisterKind::Unknown => {
                let reason = "the address is that of the context in one case and of other memory in another";
                let advice = "access each by an expression of its own";
                self.note(insn.slot, whole(), blocked(reason, Some(advice)));
                return None;
            }
            _ => return None,
        }
        let base_at = match pointer.offset {
            Some((low, high)) if low == high => low,
            _ => {
                let reason = "the address is not that of the context plus a constant, as Linux demands";
                self.note(insn.slot, whole(), blocked(reason, None));
                return None;
            }
        };
        let at = context.field_of(base_at, &insn.op);
        let access = Access {
            op: insn.op,
            base_at,
            context,
            sections,
            live,
            read_too: self.read.contains(&(context.name.as_str(), at)),
        };
        match access.replace() {
            Ok(replaced) => {
                let name = format!("{}.{}", context.name, replaced.field.name);
                let becomes = match replaced.degraded {
                    Some(lacks) => Fate::Degraded(lacks),
                    None => Fate::Exact(replaced.becomes),
                };
                self.note(insn.slot, Subject::Field(name), becomes);
                Some(replaced.ops)
            }
            Err(reason) => {
                let field = at.and_then(|at| context.fields.iter().find(|f| f.at == at));
                let subject = field.map_or_else(whole, |f| Subject::Field(format!("{}.{}", context.name, f.name)));
                self.note(insn.slot, subject, blocked(reason, None));
                None
            }
        }
    }

    /// A call of a function that stands for a helper.
    fn call_of_made(&mut self, index: InsnIndex, insn: &Insn, callee: FunctionIndex) -> Option<Vec<Instruction>> {
        let made = self.verified.module().function(callee);
        let name = unfold::stands_for(made)?;
        let becomes = rules::helper_named(name).map_or_else(String::new, rules::Helper::becomes);
        let record = match unfold::record_of(made).map(|map| self.record(index, map)) {
            Some(Err(reason)) => {
                let reason = format!("helper {name}: {reason}");
                let advice = "fill the record in a variable, and send it by `bpf_ringbuf_output`";
                self.note(
                    insn.slot,
                    Subject::Helper(name.to_owned()),
                    blocked(reason, Some(advice)),
                );
                return None;
            }
            Some(Ok(ops)) => Some(ops),
            None => None,
        };
        self.note(insn.slot, Subject::Helper(name.to_owned()), Fate::Exact(becomes));
        record
    }

    /// Memory on the stack for a record: below what the function has there, and zero, as the driver's stack holds what is not the program's.
    fn record(&mut self, at: InsnIndex, map: MapIndex) -> Result<Vec<Instruction>, String> {
        // `unknown`: of which record nothing is known.
        let is_release = |position: usize, unknown: bool| {
            let op = self.function.instructions[position].op;
            let released = self.facts.register(InsnIndex(position as u32), Reg::R1).object;
            matches!(op, Instruction::Call(Callee::Helper(id)) if RELEASES.contains(&id))
                && released.map_or(unknown, |object| object == Object::Map(map))
        };
        if unfold::is_kept(self.function, at.index(), |position| is_release(position, true), true) {
            return Err("its record is neither sent nor dropped on a way to the end".to_owned());
        }
        if unfold::is_kept(self.function, at.index(), |position| is_release(position, false), false) {
            return Err("it may be called again before its record is sent or dropped".to_owned());
        }
        let size = self.verified.module().maps[map.index()].definition.value_size;
        let lowest = self.facts.frame.as_ref().map(|frame| frame.lowest());
        let lowest = lowest.ok_or("what the function has on the stack is not known")?;
        let taken = self.records + lowest.unsigned_abs();
        let start = taken.next_multiple_of(8) + size.next_multiple_of(8);
        if start > STACK {
            return Err(format!(
                "its record of {size} bytes does not fit on the stack, of which the function may use {taken}"
            ));
        }
        self.records = start - lowest.unsigned_abs();
        let start = start as i16;
        let mut ops: Vec<Instruction> = (0..size.next_multiple_of(8) as i16)
            .step_by(8)
            .map(|at| store(Width::Dw, Reg::R10, at - start, Operand::Imm(0)))
            .collect();
        ops.extend([
            copy(Reg::R0, Reg::R10),
            alu(AluOp::Add, Reg::R0, Operand::Imm(-i32::from(start))),
        ]);
        Ok(ops)
    }

    /// A call of a helper.
    fn call(&mut self, index: InsnIndex, insn: &Insn, id: i32, program_type: &str) -> Option<Vec<Instruction>> {
        let subject = Subject::Helper(helper_name(id));
        let helper = u32::try_from(id).ok().and_then(|id| rules::helper(id, program_type));
        let Some(helper) = helper else {
            self.note(insn.slot, subject, no_helper(id));
            return None;
        };
        let called = Called {
            helper,
            facts: &self.facts.instructions[index.index()],
            registers: self.facts.registers(index),
            module: self.verified.module(),
            program_type,
            windows: self.windows,
            number_used: results::is_number_used(self.function, index.index()),
        };
        let answer = match called.replace() {
            Ok(answer) => answer,
            Err(why) => {
                let reason = format!("helper {}: {why}", helper.name);
                self.note(insn.slot, subject, blocked(reason, None));
                return None;
            }
        };
        let becomes = match answer.degraded {
            Some(lacks) => Fate::Degraded(lacks),
            None => Fate::Exact(helper.becomes()),
        };
        self.note(insn.slot, subject, becomes);
        let mut ops = Vec::new();
        if let Some((section, text)) = answer.text {
            let data = &mut self.globals[section.index()];
            // Sections are far smaller than 4 GiB.
            let offset = data.len() as u32;
            let value = Imm64::Global { section, offset };
            ops = vec![
                Instruction::LoadImm64 { dst: Reg::R1, value },
                mov(register(2), text.len() as i32),
            ];
            data.extend(text);
        }
        ops.extend(answer.ops);
        Some(ops)
    }
}

/// Skips the two instructions behind it if `r0` has this value.
fn if_equal(value: i32) -> Instruction {
    crate::sequence::jump(
        bpf2sys_bytecode::WordSize::W32,
        bpf2sys_bytecode::Condition::Eq,
        Reg::R0,
        Operand::Imm(value),
        2,
    )
}

/// The end of a program, whose result is as Windows means it.
fn mapped(rule: &Returns) -> Vec<Instruction> {
    let mut ops = Vec::new();
    if let Some(bits) = rule.keep_bits {
        ops.push(alu32(bpf2sys_bytecode::AluOp::And, Reg::R0, Operand::Imm(bits)));
    }
    for [linux, windows] in &rule.map {
        ops.extend([
            unless_equal(Reg::R0, *linux, 2),
            mov(Reg::R0, *windows),
            Instruction::Exit,
        ]);
    }
    ops.extend(rule.otherwise.map(|value| mov(Reg::R0, value)));
    ops.push(Instruction::Exit);
    ops
}
