//! An assembler for the syntax of the `bpf_conformance` suite, with what tests of a whole module need besides.
//!
//! Given: lines of text. Computed: slots, the place of every label, and the names of maps and global sections.
//! It writes slots by the numbers of RFC 9669 and shares no table with the encoder and decoder that it judges; it can
//! also write instructions that those refuse, e.g. with registers above 10.
//!
//! ```text
//! mov %r1, -1             # ALU64; `mov32` is ALU. Decimal numbers are signed, hexadecimal ones are bit patterns
//! ldxh %r3, [%r1+12]      # LDX, MEM; `ldxsh` is MEMSX
//! jne %r3, 0x81, done     # a label, or a distance: `+2`
//! lock fetch add [%r10-8], %r1
//! call local double       # a label; a subprogram begins there
//! call 5                  # a helper; also `call helper 5`; `call runtime 5` is a BTF function
//! call btf far            # the function `far` of another module (not in the suite)
//! lddw %r1, map:counters  # the address of a map (not in the suite); also `global:.data+4`
//! done:
//! exit                    # the first one is a label called `exit`, too
//! ```

mod mnemonic;
mod operand;

use std::collections::BTreeMap;

use bpf2sys_bytecode::Slot;

use mnemonic::Form;
use operand::{address, number, reference, register};

/// `src` field of the calls that do not call a helper (RFC 9669 §4.3.1).
const LOCAL: u8 = 1;
const RUNTIME: u8 = 2;

/// `src` field of `lddw` for a map and for a byte of a map's first value (RFC 9669 §5.4).
const MAP: u8 = 1;
const MAP_VALUE: u8 = 2;

/// Opcodes and opcode parts that are not in the list of mnemonics.
const LDDW: u8 = 0x18;
const CALL: u8 = 0x85;
const CALL_REGISTER: u8 = 0x8D;
const ATOMIC: u8 = 0xC3;
const REGISTER_OPERAND: u8 = 0x08;
const DOUBLE_WORD: u8 = 0x18;

/// What a text assembled to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembly {
    /// The code.
    pub slots: Vec<Slot>,
    /// The slot behind each label.
    pub labels: BTreeMap<String, u32>,
    /// Names of maps, in order of first mention: the first immediate of `lddw` is the position here.
    pub maps: Vec<String>,
    /// Names of global variable sections, likewise.
    pub globals: Vec<String>,
    /// Names of functions of another module, likewise: a call of one is a call of the helper `BTF_FUNCTIONS` plus the
    /// position here, until a module is made of it.
    pub btf_functions: Vec<String>,
}

/// Stands for the first function of another module in calls. No helper has such an id.
pub(crate) const BTF_FUNCTIONS: i32 = i32::MIN;

impl Assembly {
    /// The code as it is stored and sent.
    pub fn bytes(&self) -> Vec<u8> {
        self.slots.iter().flat_map(|slot| slot.to_bytes()).collect()
    }
}

/// Why a text cannot be assembled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct AssemblyError {
    /// The line's number.
    pub line: usize,
    /// What is wrong there.
    pub problem: AssemblyProblem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyProblem {
    /// Not an instruction.
    #[error("there is no instruction `{0}`")]
    Mnemonic(String),
    /// Too few or too many operands.
    #[error("{wanted} operands are needed, there are {found}")]
    Operands {
        /// How many are needed.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// Not a register.
    #[error("`{0}` is no register")]
    Register(String),
    /// Not a number of that many bits.
    #[error("`{text}` is no number of {bits} bits")]
    Number {
        /// The operand.
        text: String,
        /// Width.
        bits: u32,
    },
    /// Not a register with an offset in brackets.
    #[error("`{0}` is no address")]
    Address(String),
    /// Not an atomic operation.
    #[error("there is no atomic operation `{0}`")]
    Atomic(String),
    /// Not a kind of call.
    #[error("there is no kind of call `{0}`")]
    Call(String),
    /// A label that is nowhere.
    #[error("there is no label `{0}`")]
    NoLabel(String),
    /// A label that is at two places.
    #[error("there is a label `{0}` already")]
    LabelTwice(String),
    /// A jump that its offset field cannot express.
    #[error("`{0}` is too far away")]
    TooFar(String),
}

use AssemblyProblem as Problem;

/// Assembles numbered lines.
///
/// # Errors
/// The first line that is wrong.
pub fn assemble<'t>(lines: impl IntoIterator<Item = (usize, &'t str)>) -> Result<Assembly, AssemblyError> {
    let mut assembler = Assembler::default();
    for (line, text) in lines {
        assembler.line = line;
        assembler
            .text_line(text)
            .map_err(|problem| AssemblyError { line, problem })?;
    }
    assembler.finish()
}

/// Assembles a whole text, whose lines count from 1.
///
/// # Errors
/// The first line that is wrong.
pub fn assemble_text(text: &str) -> Result<Assembly, AssemblyError> {
    assemble((1..).zip(text.lines()))
}

/// A field that holds the distance to a label, once all labels are known.
struct Fixup {
    slot: usize,
    line: usize,
    label: String,
    in_immediate: bool,
}

#[derive(Default)]
struct Assembler {
    output: Assembly,
    fixups: Vec<Fixup>,
    line: usize,
    had_exit: bool,
}

impl Assembler {
    fn text_line(&mut self, text: &str) -> Result<(), Problem> {
        let text = text.split('#').next().unwrap_or_default();
        let words: Vec<&str> = text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .collect();
        let [name, operands @ ..] = words.as_slice() else {
            return Ok(());
        };
        if let Some(label) = name.strip_suffix(':') {
            exactly::<0>(operands)?;
            return self.label(label);
        }
        let form = mnemonic::form(name).ok_or_else(|| Problem::Mnemonic((*name).to_owned()))?;
        self.instruction(form, operands)
    }

    fn label(&mut self, name: &str) -> Result<(), Problem> {
        let here = self.output.slots.len() as u32;
        match self.output.labels.insert(name.to_owned(), here) {
            Some(_) => Err(Problem::LabelTwice(name.to_owned())),
            None => Ok(()),
        }
    }

    fn instruction(&mut self, form: Form, operands: &[&str]) -> Result<(), Problem> {
        let mut slot = Slot::default();
        match form {
            Form::Binary { opcode, offset } => {
                let [dst, src] = exactly(operands)?;
                slot.dst = register(dst)?;
                (slot.opcode, slot.offset) = (opcode, offset);
                source(&mut slot, src)?;
            }
            Form::Unary { opcode, imm } => {
                let [dst] = exactly(operands)?;
                slot.dst = register(dst)?;
                (slot.opcode, slot.imm) = (opcode, imm);
            }
            Form::Branch { opcode } => {
                let [dst, src, target] = exactly(operands)?;
                slot.dst = register(dst)?;
                slot.opcode = opcode;
                source(&mut slot, src)?;
                self.target(&mut slot, target, false)?;
            }
            Form::Jump { opcode, in_immediate } => {
                let [target] = exactly(operands)?;
                slot.opcode = opcode;
                self.target(&mut slot, target, in_immediate)?;
            }
            Form::Load { opcode } => {
                let [dst, from] = exactly(operands)?;
                slot.dst = register(dst)?;
                slot.opcode = opcode;
                (slot.src, slot.offset) = address(from)?;
            }
            Form::StoreImmediate { opcode } => {
                let [to, value] = exactly(operands)?;
                slot.opcode = opcode;
                (slot.dst, slot.offset) = address(to)?;
                slot.imm = number(value, 32)? as i32;
            }
            Form::StoreRegister { opcode } => {
                let [to, value] = exactly(operands)?;
                slot.opcode = opcode;
                (slot.dst, slot.offset) = address(to)?;
                slot.src = register(value)?;
            }
            Form::Lock => slot = lock(operands)?,
            Form::LoadImmediate64 => return self.load_immediate_64(operands),
            Form::Call => self.call(&mut slot, operands)?,
            Form::Exit { opcode } => {
                exactly::<0>(operands)?;
                slot.opcode = opcode;
                if !std::mem::replace(&mut self.had_exit, true) {
                    self.label("exit")?;
                }
            }
        }
        self.output.slots.push(slot);
        Ok(())
    }

    /// A label, or a signed distance in slots from the next instruction.
    fn target(&mut self, slot: &mut Slot, target: &str, in_immediate: bool) -> Result<(), Problem> {
        if target.starts_with(['+', '-']) {
            if in_immediate {
                slot.imm = number(target, 32)? as i32;
            } else {
                slot.offset = number(target, 16)? as i16;
            }
        } else {
            self.fixups.push(Fixup {
                slot: self.output.slots.len(),
                line: self.line,
                label: target.to_owned(),
                in_immediate,
            });
        }
        Ok(())
    }

    fn call(&mut self, slot: &mut Slot, operands: &[&str]) -> Result<(), Problem> {
        slot.opcode = CALL;
        match operands {
            ["local", target] => {
                slot.src = LOCAL;
                self.target(slot, target, true)?;
            }
            ["runtime", id] => {
                slot.src = RUNTIME;
                slot.imm = number(id, 32)? as i32;
            }
            ["btf", name] => slot.imm = BTF_FUNCTIONS + position(&mut self.output.btf_functions, name),
            [callee] | ["helper", callee] if callee.starts_with('%') => {
                slot.opcode = CALL_REGISTER;
                slot.dst = register(callee)?;
            }
            [id] | ["helper", id] => slot.imm = number(id, 32)? as i32,
            [kind, _] => return Err(Problem::Call((*kind).to_owned())),
            _ => exactly::<1>(operands).map(drop)?,
        }
        Ok(())
    }

    fn load_immediate_64(&mut self, operands: &[&str]) -> Result<(), Problem> {
        let [dst, value] = exactly(operands)?;
        let mut first = Slot {
            opcode: LDDW,
            dst: register(dst)?,
            ..Slot::default()
        };
        let mut second = Slot::default();
        if let Some(name) = value.strip_prefix("map:") {
            first.src = MAP;
            first.imm = position(&mut self.output.maps, name);
        } else if let Some(place) = value.strip_prefix("global:") {
            let (name, offset) = reference(place)?;
            first.src = MAP_VALUE;
            first.imm = position(&mut self.output.globals, name);
            second.imm = offset;
        } else {
            let value = number(value, 64)?;
            first.imm = value as i32;
            second.imm = (value >> 32) as i32;
        }
        self.output.slots.extend([first, second]);
        Ok(())
    }

    fn finish(mut self) -> Result<Assembly, AssemblyError> {
        for fixup in self.fixups {
            let fail = |problem| AssemblyError {
                line: fixup.line,
                problem,
            };
            let Some(target) = self.output.labels.get(&fixup.label) else {
                return Err(fail(Problem::NoLabel(fixup.label)));
            };
            let distance = i64::from(*target) - fixup.slot as i64 - 1;
            let Some(slot) = self.output.slots.get_mut(fixup.slot) else {
                continue;
            };
            if fixup.in_immediate {
                slot.imm = distance as i32;
            } else {
                slot.offset = i16::try_from(distance).map_err(|_| fail(Problem::TooFar(fixup.label)))?;
            }
        }
        Ok(self.output)
    }
}

/// `lock [fetch] OPERATION ADDRESS, REGISTER`
fn lock(operands: &[&str]) -> Result<Slot, Problem> {
    let (fetch, operands) = match operands {
        ["fetch", rest @ ..] => (1, rest),
        all => (0, all),
    };
    let [operation, to, value] = exactly(operands)?;
    let (stem, size) = match operation.strip_suffix("32") {
        Some(stem) => (stem, 0),
        None => (operation, DOUBLE_WORD),
    };
    let code = mnemonic::atomic(stem).ok_or_else(|| Problem::Atomic(operation.to_owned()))?;
    let (dst, offset) = address(to)?;
    Ok(Slot {
        opcode: ATOMIC | size,
        dst,
        src: register(value)?,
        offset,
        imm: code | fetch,
    })
}

/// The second operand of an arithmetic instruction or a branch.
fn source(slot: &mut Slot, text: &str) -> Result<(), Problem> {
    if text.starts_with('%') {
        slot.opcode |= REGISTER_OPERAND;
        slot.src = register(text)?;
    } else {
        slot.imm = number(text, 32)? as i32;
    }
    Ok(())
}

/// Where `name` is in `names`, at the end if it is new.
fn position(names: &mut Vec<String>, name: &str) -> i32 {
    let found = names.iter().position(|n| n == name);
    found.unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    }) as i32
}

fn exactly<'o, const N: usize>(operands: &[&'o str]) -> Result<[&'o str; N], Problem> {
    operands.try_into().map_err(|_| Problem::Operands {
        wanted: N,
        found: operands.len(),
    })
}

#[cfg(test)]
mod tests;
