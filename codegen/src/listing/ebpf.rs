//! The eBPF side of a listing: instructions with the names of what they refer to, and source lines.

use std::sync::Arc;

use bpf2sys_bytecode::{Callee, Function, FunctionIndex, FunctionKind, Imm64, InsnIndex, Instruction, SourceLine};
use bpf2sys_platform::{Platform, ProgramType};
use bpf2sys_verifier::VerifiedModule;

use super::escape;
use crate::{Lowered, LoweredFunction};

/// A function of the module, for people.
pub(super) struct Source<'a> {
    verified: &'a VerifiedModule,
    platform: &'a Platform,
    /// The function.
    pub(super) function: &'a Function,
    /// Its type, or that of a program that reaches it: what ids of helpers mean.
    program_type: Option<&'a Arc<ProgramType>>,
}

impl<'a> Source<'a> {
    /// The function at `index`; `None` if the module has none.
    pub(super) fn new(verified: &'a VerifiedModule, platform: &'a Platform, index: FunctionIndex) -> Option<Self> {
        let function = verified.module().functions.get(index.index())?;
        let reaches = verified
            .programs()
            .iter()
            .find(|program| program.function == index || program.reachable.contains(&index));
        Some(Source {
            verified,
            platform,
            function,
            program_type: reaches.map(|program| &program.program_type),
        })
    }

    /// What a native function made of it is, for a heading.
    pub(super) fn heading(&self, native: &LoweredFunction, lowered: &Lowered) -> String {
        let symbol = escape(&native.symbol(self.verified.module()));
        let Function { name, section, .. } = self.function;
        let kind = match self.function.kind {
            FunctionKind::Program => "program",
            FunctionKind::Subprogram => "subprogram",
        };
        let slots = self.function.slots();
        let (name, section) = (escape(name), escape(section));
        if native.piece.is_some() {
            return format!("{symbol}: piece of the {kind} {name}");
        }
        let of_function = lowered.functions.iter().filter(|f| f.function == native.function);
        let in_pieces = match of_function.count() {
            0 | 1 => String::new(),
            count => format!(", in {} pieces", count - 1),
        };
        format!("{symbol}: {kind} of section `{section}`, {slots} eBPF instructions{in_pieces}")
    }

    /// The slot of an instruction.
    pub(super) fn slot(&self, index: InsnIndex) -> u32 {
        self.function
            .instructions
            .get(index.index())
            .map_or(0, |insn| insn.slot)
    }

    /// The text of an instruction, with the names of what it refers to; empty if there is none.
    pub(super) fn text(&self, index: InsnIndex) -> String {
        let Some(insn) = self.function.instructions.get(index.index()) else {
            return String::new();
        };
        match self.meaning(index, insn.op) {
            Some(meaning) => format!("{} ({})", insn.op, escape(&meaning)),
            None => insn.op.to_string(),
        }
    }

    fn meaning(&self, index: InsnIndex, op: Instruction) -> Option<String> {
        let module = self.verified.module();
        match op {
            Instruction::Call(Callee::Helper(id)) => {
                let helper = self.platform.helper(self.program_type?, u32::try_from(id).ok()?)?;
                Some(helper.name.clone())
            }
            Instruction::Call(Callee::Local(callee)) => Some(module.functions.get(callee.index())?.name.clone()),
            Instruction::Call(Callee::Btf(callee)) => Some(module.btf_functions.get(callee.index())?.name.clone()),
            Instruction::LoadImm64 { value, .. } => match value {
                Imm64::Map(map) => Some(module.maps.get(map.index())?.name.clone()),
                Imm64::Global { section, .. } => Some(module.globals.get(section.index())?.section.clone()),
                Imm64::Constant(_) | Imm64::Pseudo { .. } => None,
            },
            _ => {
                let target = self.function.jump_target(index)?;
                Some(format!("to {}", self.slot(target)))
            }
        }
    }

    /// The source line of an instruction, if it has one, and if that is not the same line as `last`, which it becomes.
    pub(super) fn new_line(&self, index: InsnIndex, last: &mut Option<&'a SourceLine>) -> Option<&'a SourceLine> {
        let line = self
            .verified
            .module()
            .line(self.function.instructions.get(index.index())?)?;
        let before = last.replace(line);
        let is_same = before.is_some_and(|before| (before.line, &before.file) == (line.line, &line.file));
        (!is_same).then_some(line)
    }
}

/// A source line as a comment.
pub(super) fn line_text(line: &SourceLine) -> String {
    let (file, text) = (escape(&line.file), escape(&line.text));
    format!("; {file}:{}: {}", line.line, text.trim())
}

/// The first line of a listing: which object it is of.
pub(super) fn title(verified: &VerifiedModule, lowered: &Lowered) -> String {
    let module = verified.module();
    let machine = lowered.object.machine;
    let name = escape(&module.name);
    match &module.hash {
        Some(hash) => format!(
            "; {name}, compiled for {machine} from the eBPF object with {}\n; {hash}\n",
            hash.algorithm
        ),
        None => format!("; {name}, compiled for {machine}\n"),
    }
}
