//! A module for Linux into one for Windows.
//!
//! Given: a module that was verified against what Linux offers, with what was proven. Computed: the module with its context accesses, helper
//! calls, returned values and maps as Windows means them.
//! Safe because: nothing is assumed of the result. It is verified against what Windows offers like any other module, and that proof is
//! what is compiled.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{
    Callee, Function, FunctionIndex, FunctionKind, Imm64, Insn, InsnIndex, Instruction, Map, Module, Operand, Reg,
};
use bpf2sys_platform::{Platform, linux_helper_name};
use bpf2sys_verifier::{FunctionFacts, RegisterKind, VerifiedModule, VerifiedProgram};

use crate::calls::Called;
use crate::contexts::Access;
use crate::edit::Edits;
use crate::rules::{self, Context, Returns};
use crate::sequence::{alu32, load, mov, register, unless_equal, width};
use crate::{linux_section, liveness, results};

/// What became of a place of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The function; none for a map.
    pub function: Option<FunctionIndex>,
    /// The slot of its instruction.
    pub slot: u32,
    /// What it was on Linux: a field, a helper, a map.
    pub what: String,
    /// What the program lacks, if Linux gave it more.
    pub degraded: Option<String>,
}

/// Something of a module has no counterpart on Windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The function; none for a map.
    pub function: Option<FunctionIndex>,
    /// The slot of its instruction.
    pub slot: u32,
    /// What, and why.
    pub reason: String,
}

/// A module for Windows that was one for Linux.
#[derive(Clone, Debug)]
pub struct Retargeted {
    /// The module.
    pub module: Module,
    /// What changed, in file order.
    pub changes: Vec<Change>,
}

/// What a perf event array of Windows holds for each processor, in bytes; on Linux user mode says so.
const PERF_BYTES: u32 = 65536;
const PERF_EVENT_ARRAY: u32 = 4;

/// Finds what has no counterpart whatever its program does: sections, helpers, map types. To be asked before a module is verified.
///
/// # Errors
/// What blocks, in file order.
pub fn prospects(module: &Module) -> Result<(), Vec<Blocked>> {
    let mut blocked = Vec::new();
    for (index, function) in module.programs() {
        let section = &function.section;
        let known = linux_section(section);
        if known.is_some_and(|s| s.windows.is_none()) {
            blocked.push(Blocked {
                function: Some(index),
                slot: 0,
                reason: format!("Windows has nothing like programs of section {section}"),
            });
        }
    }
    for (index, function) in (0..).map(FunctionIndex).zip(&module.functions) {
        for insn in &function.instructions {
            if let Instruction::Call(Callee::Helper(id)) = insn.op
                && !rules::has_helper(id)
            {
                blocked.push(Blocked {
                    function: Some(index),
                    slot: insn.slot,
                    reason: format!("helper {} has no counterpart", helper_name(id)),
                });
            }
        }
    }
    for map in &module.maps {
        if let Err(reason) = map_type(map) {
            blocked.push(Blocked {
                function: None,
                slot: 0,
                reason,
            });
        }
    }
    if blocked.is_empty() { Ok(()) } else { Err(blocked) }
}

fn helper_name(id: i32) -> String {
    let name = u32::try_from(id).ok().and_then(linux_helper_name);
    name.map_or_else(|| format!("{id}"), str::to_owned)
}

/// The type of a map on Windows.
fn map_type(map: &Map) -> Result<u32, String> {
    let number = map.definition.map_type;
    let rule = rules::maps().types.iter().find(|t| t.linux == number);
    let Some(rule) = rule else {
        return Err(format!("map {} is of type {number}, which is none of Linux", map.name));
    };
    if let Some(flag) = rules::maps()
        .flags
        .iter()
        .find(|f| map.flags >> f.bit & 1 == 1 && f.refuse.is_some())
    {
        let why = flag.refuse.as_deref().unwrap_or_default();
        return Err(format!(
            "map {} has flag {}, which has no counterpart: {why}",
            map.name, flag.name
        ));
    }
    rule.windows.ok_or_else(|| {
        let why = rule.why.as_deref().unwrap_or_default();
        format!(
            "map {} is of type {}, which has no counterpart: {why}",
            map.name, rule.name
        )
    })
}

/// Makes a module for Windows of one for Linux.
///
/// # Errors
/// What has no counterpart, in file order.
pub fn retarget(verified: &VerifiedModule, windows: &Platform) -> Result<Retargeted, Vec<Blocked>> {
    let mut module = verified.module().clone();
    let (mut changes, mut blocked) = (Vec::new(), Vec::new());
    for map in &mut module.maps {
        match map_type(map) {
            Ok(number) => {
                if map.definition.map_type == PERF_EVENT_ARRAY {
                    (map.definition.key_size, map.definition.value_size) = (0, 0);
                    map.definition.max_entries = PERF_BYTES;
                }
                map.definition.map_type = number;
                map.flags = 0;
            }
            Err(reason) => blocked.push(Blocked {
                function: None,
                slot: 0,
                reason,
            }),
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
            changes: Vec::new(),
        };
        match rewriter.rewrite() {
            Ok(instructions) => {
                module.functions[index.index()].instructions = instructions;
                changes.append(&mut rewriter.changes);
            }
            Err(mut found) => blocked.append(&mut found),
        }
    }
    for (section, data) in module.globals.iter_mut().zip(globals) {
        module.maps[section.map.index()].definition.value_size = data.len() as u32;
        section.data = data;
    }
    if blocked.is_empty() {
        Ok(Retargeted { module, changes })
    } else {
        Err(blocked)
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
    changes: Vec<Change>,
}

impl<'a> Rewriter<'a> {
    /// The programs that the function is, or is a part of.
    fn programs(&self) -> impl Iterator<Item = &'a VerifiedProgram> + use<'a> {
        let index = self.index;
        let programs = self.verified.programs().iter();
        programs.filter(move |p| p.function == index || p.reachable.contains(&index))
    }

    fn rewrite(&mut self) -> Result<Vec<Insn>, Vec<Blocked>> {
        let types: BTreeSet<&str> = self.programs().map(|p| p.program_type.name.as_str()).collect();
        let sections: Vec<&str> = self
            .programs()
            .map(|p| self.verified.module().function(p.function).section.as_str())
            .collect();
        let block = |slot: u32, reason: String| Blocked {
            function: Some(self.index),
            slot,
            reason,
        };
        let mut types_of = types.iter();
        let Some(program_type) = types_of.next() else {
            // Nothing runs it.
            return Ok(Insn::sequence([mov(Reg::R0, 0), Instruction::Exit]));
        };
        if let Some(other) = types_of.next() {
            let reason = format!("it is part of programs of types {program_type} and {other}; make one of it for each");
            return Err(vec![block(0, reason)]);
        }
        let Some(context) = rules::context(program_type) else {
            return Err(vec![block(
                0,
                format!("Windows has no programs of type {program_type}"),
            )]);
        };
        let is_program = self.function.kind == FunctionKind::Program;
        if is_program && self.is_called() {
            let reason = "it is a program, and other functions call it, to which its result means something else; make it two functions";
            return Err(vec![block(0, reason.into())]);
        }
        let returns = match is_program.then(|| self.returns(program_type)).transpose() {
            Ok(returns) => returns,
            Err(reason) => return Err(vec![block(0, reason)]),
        };
        let live = liveness::live_after(self.function);
        let mut edits = Edits::default();
        let mut blocked = Vec::new();
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
            match self.replace(
                index,
                insn,
                (context, program_type),
                &sections,
                (live[position], returns),
            ) {
                Ok(Some(ops)) => {
                    edits.sequences.insert(position, ops);
                }
                Ok(None) => {}
                Err(reason) => blocked.push(Blocked {
                    function: Some(self.index),
                    slot: insn.slot,
                    reason,
                }),
            }
        }
        if !blocked.is_empty() {
            return Err(blocked);
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
        edits.apply(self.function).map_err(|_| {
            vec![Blocked {
                function: Some(self.index),
                slot: 0,
                reason: "a jump goes too far for its 16 bits once the accesses that it skips are rewritten".into(),
            }]
        })
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
    fn returns(&self, program_type: &str) -> Result<&'static Returns, String> {
        let section = &self.function.section;
        let rule = rules::returns(program_type, section)
            .ok_or_else(|| format!("what programs of section {section} return means nothing to Windows"))?;
        if let Some([least, most]) = rule.range {
            let returned = self.programs().find(|p| p.function == self.index).map(|p| p.returns);
            let fits = returned.is_some_and(|r| r.min >= least && r.max <= most);
            if !fits {
                return Err(format!(
                    "it may return other numbers than {least} to {most}, which Linux does not let programs of section {section} do"
                ));
            }
        }
        Ok(rule)
    }

    /// What stands in the place of an instruction; none if itself.
    fn replace(
        &mut self,
        index: InsnIndex,
        insn: &Insn,
        (context, program_type): (&'static Context, &str),
        sections: &[&str],
        (live, returns): (u16, Option<&Returns>),
    ) -> Result<Option<Vec<Instruction>>, String> {
        let mut change = |what: String, degraded| {
            self.changes.push(Change {
                function: Some(self.index),
                slot: insn.slot,
                what,
                degraded,
            });
        };
        match insn.op {
            Instruction::Load { base, .. } | Instruction::Store { base, .. } | Instruction::Atomic { base, .. } => {
                let pointer = self.facts.register(index, base);
                match pointer.kind {
                    RegisterKind::Context => {}
                    // Where calls or ways join that know other things, one of them may be the context.
                    RegisterKind::Unknown => {
                        return Err(
                            "the address is that of the context in one case and of other memory in another".into(),
                        );
                    }
                    _ => return Ok(None),
                }
                let base_at = match pointer.offset {
                    Some((low, high)) if low == high => low,
                    _ => return Err("the address is not that of the context plus a constant, as Linux demands".into()),
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
                let replaced = access.replace()?;
                let field = &replaced.field.name;
                change(format!("{}.{field}", context.name), replaced.degraded.clone());
                Ok(Some(replaced.ops))
            }
            Instruction::Call(Callee::Helper(id)) => {
                let helper = u32::try_from(id).ok().and_then(|id| rules::helper(id, program_type));
                let helper = helper.ok_or_else(|| format!("helper {} has no counterpart", helper_name(id)))?;
                let called = Called {
                    helper,
                    facts: &self.facts.instructions[index.index()],
                    registers: self.facts.registers(index),
                    module: self.verified.module(),
                    program_type,
                    windows: self.windows,
                    number_used: results::is_number_used(self.function, index.index()),
                };
                let answer = called
                    .replace()
                    .map_err(|why| format!("helper {}: {why}", helper.name))?;
                change(helper.name.clone(), answer.degraded);
                let mut ops = Vec::new();
                if let Some((section, text)) = answer.text {
                    let data = &mut self.globals[section.index()];
                    let offset = u32::try_from(data.len()).map_err(|_| "there is no room for its text".to_owned())?;
                    let value = Imm64::Global { section, offset };
                    ops = vec![
                        Instruction::LoadImm64 { dst: Reg::R1, value },
                        mov(register(2), text.len() as i32),
                    ];
                    data.extend(text);
                }
                ops.extend(answer.ops);
                Ok(Some(ops))
            }
            Instruction::Call(Callee::Btf(_)) => Err("Windows has none of the kernel's own functions".into()),
            Instruction::Exit => Ok(returns.map(mapped)),
            _ => Ok(None),
        }
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
