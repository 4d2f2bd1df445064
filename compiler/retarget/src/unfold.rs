//! Helpers of Linux that are more than a call: what they do, written out as functions of the module.
//!
//! Given: a module as it was compiled for Linux. Computed: the module in which calls of such helpers call functions made here, one for each
//! call.
//! Safe because: they are verified like any other function, on both systems.
//!
//! * `bpf_loop` calls a function of the module again and again: so does the loop that stands for it. No verifier needs to know callbacks.
//! * `bpf_ringbuf_reserve` gives memory of a size that the call says, or null: so does the look-up that stands for it on Linux, in a map that
//!   has one entry of that size ([`MapOrigin::Record`]). What stands for it on Windows is decided once the program is proven.
//! * `bpf_strncmp` compares with a text that the object has: so does a row of comparisons with its characters.
//! * `bpf_strtol` and `bpf_strtoul` read numbers; `bpf_jiffies64` is a clock.

mod code;
mod known;
mod numbers;

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{
    AluOp, Callee, Condition, Function, FunctionIndex, FunctionKind, Imm64, Insn, InsnIndex, Instruction, LineIndex,
    Map, MapDefinition, MapIndex, MapOrigin, Module, Operand, Reg, Unresolved, Width,
};
use bpf2sys_platform::linux_helper_name;

use crate::liveness::effect;
use crate::sequence::{alu, alu32, call, copy, load, mov, register, store};
use code::Code;
use known::{Known, Row, rows};

const JIFFIES64: i32 = 118;
const RINGBUF_RESERVE: i32 = 131;
const LOOP: i32 = 181;
const STRNCMP: i32 = 182;
const STRTOL: i32 = 105;
const STRTOUL: i32 = 106;
const UNFOLDED: [i32; 6] = [JIFFIES64, RINGBUF_RESERVE, LOOP, STRNCMP, STRTOL, STRTOUL];

const LOOKUP: u32 = 1;
const CLOCK: u32 = 5;
const PERCPU_ARRAY: u32 = 6;
const RINGBUF: u32 = 27;
/// `BPF_MAX_LOOPS`.
const MOST_ROUNDS: i32 = 1 << 23;
/// Error numbers of Linux.
const EINVAL: i32 = -22;
const E2BIG: i32 = -7;
/// Longest text that is compared with, and largest record: both are far more than a stack holds.
const MOST_TEXT: usize = 512;
const MOST_RECORD: u64 = 1 << 20;
const NANOSECONDS: i32 = 1_000_000_000;
/// Most instructions that are made for a module.
const MOST_INSTRUCTIONS: usize = 1 << 20;
/// Most steps that are followed.
const STEPS: usize = 1 << 16;

/// The helper that a function made here stands for.
pub(crate) fn stands_for(function: &Function) -> Option<&str> {
    let name = function.section.strip_suffix("()")?;
    name.starts_with("bpf_").then_some(name)
}

/// The map of the record that a function made here gives.
pub(crate) fn record_of(function: &Function) -> Option<MapIndex> {
    stands_for(function).filter(|name| *name == "bpf_ringbuf_reserve")?;
    function.instructions.iter().find_map(|insn| match insn.op {
        Instruction::LoadImm64 {
            value: Imm64::Map(map), ..
        } => Some(map),
        _ => None,
    })
}

/// Writes out the calls of a module. `ticks` is the value of `CONFIG_HZ`, if it has one.
pub(crate) fn unfold(module: &mut Module, ticks: Option<&str>) {
    let mut unfolding = Unfolding {
        addresses: BTreeMap::new(),
        made: Vec::new(),
        records: Vec::new(),
        ticks: ticks.and_then(|ticks| ticks.parse().ok()),
        left: MOST_INSTRUCTIONS,
        used: BTreeSet::new(),
        unknown: Vec::new(),
    };
    for unresolved in &module.unresolved {
        if let Some(function) = unresolved.address_of {
            unfolding
                .addresses
                .insert((unresolved.function, unresolved.slot), function);
        }
    }
    let count = module.functions.len() as u32;
    for index in (0..count).map(FunctionIndex) {
        unfolding.function(module, index);
    }
    module
        .unresolved
        .retain(|u| !unfolding.used.contains(&(u.function, u.slot)));
    module.unresolved.append(&mut unfolding.unknown);
    // Those of records are last: what is made of them on Windows needs neither them nor their maps.
    let records = unfolding.records.into_iter().map(|(map, made)| {
        module.maps.push(map);
        made
    });
    let made: Vec<Made> = unfolding.made.into_iter().chain(records).collect();
    for (made, index) in made.into_iter().zip(count..) {
        let name = format!("{}.{}", made.helper, index - count + 1);
        let (caller, position) = made.at;
        module.functions[caller.index()].instructions[position].op =
            Instruction::Call(Callee::Local(FunctionIndex(index)));
        module.functions.push(Function {
            name,
            section: format!("{}()", made.helper),
            section_offset: 0,
            kind: FunctionKind::Subprogram,
            instructions: made.instructions,
        });
    }
    module.unresolved.sort_by_key(|u| (u.function, u.slot));
}

/// A function that stands for a call.
struct Made {
    helper: &'static str,
    /// The call: the function and the instruction.
    at: (FunctionIndex, usize),
    instructions: Vec<Insn>,
}

struct Unfolding {
    /// Functions whose addresses are loaded, and where.
    addresses: BTreeMap<(FunctionIndex, u32), FunctionIndex>,
    made: Vec<Made>,
    /// Those that give records, with their maps.
    records: Vec<(Map, Made)>,
    /// Ticks in a second.
    ticks: Option<i32>,
    /// How many instructions may still be made.
    left: usize,
    /// Where addresses of functions are loaded that only unfolded calls get.
    used: BTreeSet<(FunctionIndex, u32)>,
    /// Calls that nothing stands for.
    unknown: Vec<Unresolved>,
}

/// What is known at a call.
struct Site<'a> {
    row: &'a Row,
    line: Option<LineIndex>,
    module: &'a Module,
}

impl Site<'_> {
    fn of(&self, number: u8) -> Option<Known> {
        self.row[usize::from(number)]
    }

    fn constant(&self, number: u8) -> Option<u64> {
        match self.of(number) {
            Some(Known::Constant(value)) => Some(value),
            _ => None,
        }
    }
}

impl Unfolding {
    fn function(&mut self, module: &mut Module, index: FunctionIndex) {
        let function = module.function(index);
        let is_unfolded =
            |insn: &&Insn| matches!(insn.op, Instruction::Call(Callee::Helper(id)) if UNFOLDED.contains(&id));
        if function.instructions.iter().find(is_unfolded).is_none() {
            return;
        }
        let rows = rows(function, |slot| self.addresses.get(&(index, slot)).copied());
        let mut unknown = Vec::new();
        let mut calls = BTreeSet::new();
        for (position, insn) in function.instructions.iter().enumerate() {
            let (Instruction::Call(Callee::Helper(id)), Some(row)) = (insn.op, &rows[position]) else {
                continue;
            };
            let site = Site {
                row,
                line: insn.line,
                module,
            };
            if !UNFOLDED.contains(&id) {
                continue;
            }
            match self.call(&site, id, (index, position)) {
                Ok(()) => {
                    calls.insert(position);
                }
                Err(reason) => unknown.push((insn.slot, reason)),
            }
        }
        let stray = stray_addresses(function, &rows, &calls);
        self.unknown
            .extend(unknown.into_iter().map(|(slot, reason)| Unresolved {
                function: index,
                slot,
                reason,
                address_of: None,
            }));
        // What stands for the address of a function is never looked at, but has to be a number.
        let addresses = &self.addresses;
        for insn in &mut module.functions[index.index()].instructions {
            if let (Instruction::LoadImm64 { value, .. }, Some(of)) = (&mut insn.op, addresses.get(&(index, insn.slot)))
                && !stray.contains(of)
            {
                *value = Imm64::Constant(0);
                self.used.insert((index, insn.slot));
            }
        }
    }

    /// Makes the function that stands for a call, or tells what is not known at it.
    fn call(&mut self, site: &Site<'_>, id: i32, at: (FunctionIndex, usize)) -> Result<(), String> {
        let helper = u32::try_from(id).ok().and_then(linux_helper_name).unwrap_or_default();
        let code = match id {
            RINGBUF_RESERVE => {
                let (map, instructions) = self.record(site)?;
                self.records.push((
                    map,
                    Made {
                        helper,
                        at,
                        instructions,
                    },
                ));
                return Ok(());
            }
            LOOP => rounds(site)?,
            STRNCMP => compared(site)?,
            STRTOL => numbers::read_number(true),
            STRTOUL => numbers::read_number(false),
            _ => self.clock()?,
        };
        let instructions = code.finish(site.line);
        let left = self.left.checked_sub(instructions.len());
        self.left = left.ok_or("the object has too many such calls")?;
        self.made.push(Made {
            helper,
            at,
            instructions,
        });
        Ok(())
    }

    /// A record of a ring buffer: an entry of a map of its size.
    fn record(&self, site: &Site<'_>) -> Result<(Map, Vec<Insn>), String> {
        let Some(Known::Map(ring)) = site.of(1) else {
            return Err("which ring buffer the record is of is not known here".to_owned());
        };
        let definition = &site.module.maps[ring.index()].definition;
        if definition.map_type != RINGBUF {
            return Err("it is given a map that is no ring buffer".to_owned());
        }
        let size = site.constant(2).filter(|size| (1..=MOST_RECORD).contains(size));
        let size = size.ok_or_else(|| format!("its size is no constant from 1 to {MOST_RECORD}"))?;
        if site.constant(3) != Some(0) {
            return Err("its flags are not 0".to_owned());
        }
        let number = self.records.len();
        let place = (site.module.maps.len() + number) as u32;
        let map = Map {
            name: format!("record_{}", number + 1),
            definition: MapDefinition {
                map_type: PERCPU_ARRAY,
                key_size: 4,
                value_size: size as u32,
                max_entries: 1,
                ..MapDefinition::default()
            },
            flags: 0,
            inner: None,
            origin: MapOrigin::Record(ring),
            initial_values: Vec::new(),
        };
        let mut code = Code::default();
        let value = Imm64::Map(MapIndex(place));
        code.op(store(Width::W, Reg::R10, -4, Operand::Imm(0)))
            .op(Instruction::LoadImm64 { dst: Reg::R1, value })
            .op(copy(register(2), Reg::R10))
            .op(alu(AluOp::Add, register(2), Operand::Imm(-4)))
            .op(call(LOOKUP))
            .op(Instruction::Exit);
        Ok((map, code.finish(site.line)))
    }

    fn clock(&self) -> Result<Code, String> {
        let ticks = self.ticks.filter(|ticks| (1..=NANOSECONDS).contains(ticks));
        let ticks = ticks.ok_or("how many ticks a second has is not known; `--config CONFIG_HZ=250` would say so")?;
        let mut code = Code::default();
        code.op(call(CLOCK))
            .op(alu(AluOp::Div, Reg::R0, Operand::Imm(NANOSECONDS / ticks)))
            .op(Instruction::Exit);
        Ok(code)
    }
}

/// Functions whose addresses go elsewhere than into calls that were unfolded.
fn stray_addresses(function: &Function, rows: &[Option<Row>], calls: &BTreeSet<usize>) -> BTreeSet<FunctionIndex> {
    let mut stray = BTreeSet::new();
    for (position, (insn, row)) in function.instructions.iter().zip(rows).enumerate() {
        let Some(row) = row else { continue };
        let is_copy = matches!(
            insn.op,
            Instruction::Alu {
                op: AluOp::Mov,
                size: bpf2sys_bytecode::WordSize::W64,
                src: Operand::Reg(_),
                ..
            }
        );
        let (mut reads, _) = effect(&insn.op);
        if is_copy {
            continue;
        }
        if let Instruction::Call(_) = insn.op
            && (calls.contains(&position))
        {
            // The one argument that is a function.
            reads &= !(1 << 2);
        }
        for (number, held) in row.iter().enumerate() {
            if let (1, Some(Known::Function(held))) = (reads >> number & 1, held) {
                stray.insert(*held);
            }
        }
    }
    stray
}

/// `bpf_loop`: calls the function with 0, 1, ... until it gives something else than 0.
fn rounds(site: &Site<'_>) -> Result<Code, String> {
    let Some(Known::Function(callback)) = site.of(2) else {
        return Err("which function it calls is not known here".to_owned());
    };
    let [most, context, round] = [6, 7, 8].map(register);
    let mut code = Code::default();
    code.jump_if(Condition::Ne, register(4), Operand::Imm(0), "flags")
        .op(alu32(AluOp::Mov, most, Operand::Reg(Reg::R1)))
        .jump_if(Condition::Gt, most, Operand::Imm(MOST_ROUNDS), "many")
        .op(copy(context, register(3)))
        .op(mov(round, 0))
        .label("next")
        .jump_if(Condition::Ge, round, Operand::Reg(most), "end")
        .op(copy(Reg::R1, round))
        .op(copy(register(2), context))
        .op(Instruction::Call(Callee::Local(callback)))
        .op(alu(AluOp::Add, round, Operand::Imm(1)))
        .jump_if(Condition::Eq, Reg::R0, Operand::Imm(0), "next")
        .label("end")
        .op(copy(Reg::R0, round))
        .op(Instruction::Exit)
        .label("flags")
        .op(mov(Reg::R0, EINVAL))
        .op(Instruction::Exit)
        .label("many")
        .op(mov(Reg::R0, E2BIG))
        .op(Instruction::Exit);
    Ok(code)
}

/// `bpf_strncmp`: memory against a text that the object has.
fn compared(site: &Site<'_>) -> Result<Code, String> {
    let unknown = || "the text that it compares with is not known here".to_owned();
    let Some(Known::Global(section, offset)) = site.of(3) else {
        return Err(unknown());
    };
    let section = &site.module.globals[section.index()];
    let text = section.data.get(offset as usize..).filter(|_| section.read_only);
    let text = text.ok_or_else(unknown)?;
    let end = text.iter().position(|c| *c == 0).filter(|end| *end < MOST_TEXT);
    let end = end.ok_or_else(|| format!("the text that it compares with has no end within {MOST_TEXT} bytes"))?;
    let (memory, size, found) = (Reg::R1, register(2), register(4));
    let mut code = Code::default();
    code.op(alu32(AluOp::Mov, size, Operand::Reg(size)));
    for (index, character) in text[..=end].iter().enumerate() {
        let index = index as i16;
        let character = Operand::Imm(i32::from(*character));
        code.jump_if(Condition::Le, size, Operand::Imm(index.into()), "equal")
            .op(load(Width::B, found, memory, index))
            .jump_if(Condition::Gt, found, character, "greater")
            .jump_if(Condition::Lt, found, character, "less");
    }
    code.label("equal")
        .op(mov(Reg::R0, 0))
        .op(Instruction::Exit)
        .label("greater")
        .op(mov(Reg::R0, 1))
        .op(Instruction::Exit)
        .label("less")
        .op(mov(Reg::R0, -1))
        .op(Instruction::Exit);
    Ok(code)
}

/// Whether a record may still be held where its call is reached again, or never sent nor dropped: on ways from the call.
pub(crate) fn is_kept(function: &Function, position: usize, is_release: impl Fn(usize) -> bool, to_end: bool) -> bool {
    let mut seen = BTreeSet::new();
    let mut work = vec![(position + 1, 1u16 << Reg::R0.number())];
    while let Some((at, held)) = work.pop() {
        if !seen.insert((at, held)) {
            continue;
        }
        if seen.len() > STEPS {
            return true;
        }
        let Some(insn) = function.instructions.get(at) else {
            continue;
        };
        if at == position {
            if to_end {
                continue;
            }
            return true;
        }
        if is_release(at) {
            continue;
        }
        let (reads, writes) = effect(&insn.op);
        let mut after = held & !writes;
        let target = function.jump_target(InsnIndex(at as u32)).map(InsnIndex::index);
        match insn.op {
            Instruction::Exit if to_end => return true,
            Instruction::Exit => continue,
            // A function that gets it may send it.
            Instruction::Call(Callee::Local(_)) if to_end && reads & held != 0 => continue,
            Instruction::Alu {
                op: AluOp::Mov,
                size: bpf2sys_bytecode::WordSize::W64,
                dst,
                src: Operand::Reg(src),
            } if held >> src.number() & 1 == 1 => after |= 1 << dst.number(),
            // Where it is null, there is none.
            Instruction::JumpIf {
                condition: condition @ (Condition::Eq | Condition::Ne),
                dst,
                src: Operand::Imm(0),
                ..
            } if held >> dst.number() & 1 == 1 => {
                let is_there = if condition == Condition::Eq {
                    Some(at + 1)
                } else {
                    target
                };
                work.extend(is_there.map(|at| (at, after)));
                continue;
            }
            _ => {}
        }
        work.extend(target.map(|target| (target, after)));
        if !matches!(insn.op, Instruction::Jump { .. }) {
            work.push((at + 1, after));
        }
    }
    false
}
