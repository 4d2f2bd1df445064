//! What was proven, beside the instructions, for people: `verify --facts`, and the phrases of it for others.
//!
//! Of registers, a line tells what is no longer as it was on the line before; where a jump leads to, all that is known. Of
//! what follows from that, a line tells what its instruction can use.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter, Write};

use bpf2sys_bytecode::{AluOp, Function, FunctionIndex, FunctionKind, InsnIndex, Instruction, Module, Operand, Reg};
use bpf2sys_verifier::{
    AccessFact, Branch, FunctionFacts, Interval, Object, Region, RegisterFact, RegisterKind, StackSlot, Through,
    VerifiedModule,
};

use crate::messages::printable;

/// The facts of all functions of a module, in its order.
pub fn listing(verified: &VerifiedModule) -> String {
    let module = verified.module();
    let mut text = String::new();
    for (index, function) in (0..).map(FunctionIndex).zip(&module.functions) {
        if index.0 > 0 {
            text.push('\n');
        }
        // Writing to a string cannot fail.
        let _ = one(&mut text, module, function, verified.facts(index));
    }
    text
}

fn one(text: &mut String, module: &Module, function: &Function, facts: &FunctionFacts) -> fmt::Result {
    let kind = match function.kind {
        FunctionKind::Program => "program",
        FunctionKind::Subprogram => "function",
    };
    let (name, section) = (printable(&function.name), printable(&function.section));
    write!(text, "{kind} `{name}` (section `{section}`)")?;
    if facts.returns != Interval::FULL {
        write!(text, ", returns {}", Range(facts.returns))?;
    }
    text.push('\n');
    for line in stack(facts) {
        writeln!(text, "  stack{line}")?;
    }
    let count = function.instructions.len() as u32;
    let targets: BTreeSet<InsnIndex> = (0..count).filter_map(|i| function.jump_target(InsnIndex(i))).collect();
    let mut before = [RegisterFact::default(); Reg::COUNT];
    let mut line = None;
    for (index, insn) in (0..).map(InsnIndex).zip(&function.instructions) {
        if insn.line.is_some() && insn.line != line {
            line = insn.line;
            if let Some(source) = module.line(insn) {
                let (file, source_text) = (printable(&source.file), printable(source.text.trim()));
                writeln!(text, "; {file}:{}: {source_text}", source.line)?;
            }
        }
        let mut notes = Vec::new();
        let known = facts.instructions.get(index.index());
        if known.is_some_and(|known| !known.reachable) {
            notes.push("never reached".to_owned());
        } else {
            let now = facts.registers(index);
            if targets.contains(&index) {
                before = [RegisterFact::default(); Reg::COUNT];
                if now == before {
                    notes.push("nothing is known".to_owned());
                }
            }
            for ((register, was), is) in (0..Reg::COUNT as u8).filter_map(Reg::new).zip(&before).zip(&now) {
                if was != is {
                    notes.push(Known(register, is, module).to_string());
                }
            }
            before = now;
            notes.extend(uses(facts, index, &insn.op, module));
        }
        write!(text, "{:6}: {:<40}", insn.slot, insn.op.to_string())?;
        // One note to a line, under the first.
        for (number, note) in notes.iter().enumerate() {
            match number {
                0 => write!(text, " | {note}")?,
                _ => write!(text, "\n{:48} | {note}", "")?,
            }
        }
        while text.ends_with(' ') {
            text.pop();
        }
        text.push('\n');
    }
    Ok(())
}

/// All that is known of registers before an instruction, each of which something is known of as a phrase.
pub(crate) fn registers(facts: &FunctionFacts, index: InsnIndex, module: &Module) -> Vec<String> {
    let all = facts.registers(index);
    let named = (0..Reg::COUNT as u8).filter_map(Reg::new).zip(&all);
    let known = named.filter(|(_, fact)| **fact != RegisterFact::default());
    known
        .map(|(register, fact)| Known(register, fact, module).to_string())
        .collect()
}

/// What an instruction can use of what is known, as phrases.
pub(crate) fn uses(facts: &FunctionFacts, index: InsnIndex, op: &Instruction, module: &Module) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(known) = facts.instructions.get(index.index()) {
        if let (Instruction::Call(_), Some(map)) = (op, known.map) {
            notes.push(format!("of {}", Name(Object::Map(map), module)));
        }
        match known.branch {
            Branch::Both => {}
            Branch::AlwaysTaken => notes.push("always taken".to_owned()),
            Branch::NeverTaken => notes.push("never taken".to_owned()),
        }
    }
    if matches!(op, Instruction::JumpIf { .. }) {
        for (taken, way) in [(true, "taken"), (false, "not taken")] {
            let Some(edge) = facts.edge(index, op, taken) else {
                continue;
            };
            for (register, fact) in [Some(edge.dst), edge.src].into_iter().flatten() {
                if fact != facts.register(index, register) {
                    notes.push(format!("if {way}: {}", Known(register, &fact, module)));
                }
            }
        }
    }
    if let Some(access) = facts.access(index, op) {
        notes.push(Access(&access, module).to_string());
    }
    let frame = facts.frame.as_deref();
    for escape in frame
        .iter()
        .flat_map(|frame| &frame.escapes)
        .filter(|escape| escape.at == index)
    {
        let by = match escape.by {
            Through::Callee => "what is called",
            Through::Subprogram => "the function that is called",
            Through::Pointer => "this instruction",
        };
        let may = if escape.writes { "read or write" } else { "read" };
        let (start, end) = escape.bytes;
        notes.push(format!("{by} may {may} the stack from {start} up to {end}"));
    }
    let arithmetic = facts.arithmetic(index, op);
    for (holds, what) in [
        (arithmetic.divisor_not_zero, "the divisor is not 0"),
        (arithmetic.shift_in_range, "the shift count is in range"),
        (arithmetic.no_signed_overflow, "no signed overflow"),
        (arithmetic.no_unsigned_overflow, "no unsigned overflow"),
    ] {
        // Of immediate operands everybody sees that.
        let seen = matches!(
            op,
            Instruction::Alu {
                src: Operand::Imm(_),
                op: AluOp::Div | AluOp::Mod | AluOp::Lsh | AluOp::Rsh | AluOp::Arsh,
                ..
            }
        );
        if holds && !seen {
            notes.push(what.to_owned());
        }
    }
    notes
}

/// Who touches a function's stack frame: phrases that go behind the word `stack`.
pub(crate) fn stack(facts: &FunctionFacts) -> Vec<String> {
    let Some(frame) = &facts.frame else {
        return vec![": nothing is known".to_owned()];
    };
    if frame.slots.is_empty() && frame.escapes.is_empty() {
        return vec![": not touched".to_owned()];
    }
    frame.slots.iter().map(|slot| format!(" {}", Slot(slot))).collect()
}

/// A slot of a stack frame.
struct Slot<'a>(&'a StackSlot);

impl Display for Slot<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let StackSlot {
            offset,
            size,
            private,
            whole,
            initialized,
        } = *self.0;
        write!(f, "{offset}: {size} bytes")?;
        for (holds, what) in [
            (private, "private"),
            (whole, "always whole"),
            (initialized, "written before read"),
        ] {
            if holds {
                write!(f, ", {what}")?;
            }
        }
        Ok(())
    }
}

/// A range of signed numbers.
pub(crate) struct Range(pub Interval);

impl Display for Range {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Interval { min, max } = self.0;
        if min == max {
            return write!(f, "{min}");
        }
        write!(f, "{min} to {max}")
    }
}

/// A register and what is known of it.
struct Known<'a>(Reg, &'a RegisterFact, &'a Module);

impl Display for Known<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, Fact(self.1, self.2))
    }
}

/// What is known of a register.
struct Fact<'a>(&'a RegisterFact, &'a Module);

impl Display for Fact<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (fact, module) = (self.0, self.1);
        match fact.kind {
            RegisterKind::Unknown => f.write_str("anything")?,
            RegisterKind::Number => {
                let range = fact.range();
                let signed = Interval {
                    min: range.signed.0,
                    max: range.signed.1,
                };
                if signed != Interval::FULL {
                    return write!(f, "= {}", Range(signed));
                }
                match fact.unsigned {
                    Some((low, high)) => return write!(f, "= {low} to {high}, unsigned"),
                    None => f.write_str("a number")?,
                }
            }
            RegisterKind::Map | RegisterKind::MapOfPrograms => match fact.object {
                Some(object) => write!(f, "{}", Name(object, module))?,
                None => f.write_str("a map")?,
            },
            RegisterKind::Context => f.write_str("context")?,
            RegisterKind::Packet => f.write_str("packet")?,
            RegisterKind::Stack => f.write_str("stack")?,
            RegisterKind::MapValue => match fact.object {
                Some(object @ Object::Map(_)) => write!(f, "value of {}", Name(object, module))?,
                Some(object) => write!(f, "{}", Name(object, module))?,
                None => f.write_str("map value")?,
            },
        }
        if let Some((low, high)) = fact.offset {
            write!(f, " {}", Offset(low, high))?;
        }
        if fact.room > 0 {
            write!(f, ", {} bytes there", fact.room)?;
        }
        let known = matches!(
            fact.kind,
            RegisterKind::Stack | RegisterKind::Context | RegisterKind::Packet
        );
        if fact.non_null && !known {
            f.write_str(", not null")?;
        }
        Ok(())
    }
}

/// A distance from the start of something.
struct Offset(i32, i32);

impl Display for Offset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Offset(low, high) = *self;
        if low == high {
            write!(f, "{low:+}")
        } else {
            write!(f, "{low:+} to {high:+}")
        }
    }
}

/// The name of a map or section.
struct Name<'a>(Object, &'a Module);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let module = self.1;
        match self.0 {
            Object::Map(map) => match module.maps.get(map.index()) {
                Some(map) => write!(f, "map `{}`", printable(&map.name)),
                None => write!(f, "map {}", map.0),
            },
            Object::Global(section) => match module.globals.get(section.index()) {
                Some(global) => write!(f, "`{}`", printable(&global.section)),
                None => write!(f, "section {}", section.0),
            },
        }
    }
}

/// Where an access goes.
struct Access<'a>(&'a AccessFact, &'a Module);

impl Display for Access<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (access, module) = (self.0, self.1);
        write!(f, "accesses {} bytes of ", access.width)?;
        match access.region {
            Region::Stack => f.write_str("stack")?,
            Region::Context => f.write_str("context")?,
            Region::Packet => f.write_str("packet")?,
            Region::Shared(Some(object @ Object::Map(_))) => write!(f, "a value of {}", Name(object, module))?,
            Region::Shared(Some(object)) => write!(f, "{}", Name(object, module))?,
            Region::Shared(None) => f.write_str("a map value")?,
        }
        if let Some((low, high)) = access.offset {
            write!(f, " {}", Offset(low, high))?;
        }
        if access.room > access.width {
            write!(f, ", {} are there", access.room)?;
        }
        Ok(())
    }
}
