//! The world that an accepted program runs in, and that lets nothing pass.
//!
//! Given: a module, its platform, and an [`Input`]. Computed: what the program did that no program may do.
//!
//! * Every region has its exact size and an address that nobody can guess; between regions there is nothing.
//! * Bytes of the stack that were not written hold no value, see [`Undefined::Tracked`]; a new frame holds none.
//! * Helpers do what their prototypes allow them at worst: they read all of the memory they may read, write all that they may
//!   write, and succeed or fail. What the runtime would not do for a map of that type, they do not do. Memory that is there to be
//!   written they leave as it was now and then, unless the platform says that they fill it.
//! * A null pointer as a map is no harm: the verifiers of Windows let it pass, so our compiled code tests it and does not call.
//! * In types that are not privileged, no address gets out: into maps, the packet, the context, a helper or the result.
//! * A loop goes around at most as often as the platform says.
//!
//! Two runs of the same input at different addresses get the same numbers, so that they must do the same.
//!
//! [`Undefined::Tracked`]: bpf2sys_simulator::interpreter::Undefined::Tracked

mod helpers;
mod memory;
mod setup;

use std::collections::BTreeSet;

use bpf2sys_bytecode::{
    AluOp, BtfFunctionIndex, FunctionIndex, GlobalIndex, InsnIndex, Instruction, MapIndex, Module, Operand, Reg, Width,
    WordSize,
};
use bpf2sys_isa_tests::Random;
use bpf2sys_platform::{Platform, ProgramType};
use bpf2sys_simulator::interpreter::{At, Denied, FRAME_BYTES, HelperResult, STACK_BYTES, World};

use crate::facts::FactJudge;
use crate::features::Feature;
use crate::regions::Regions;
use memory::Memory;

pub use memory::Kind;
pub use setup::Input;

/// Rounds of a loop that eBPF for Windows lets its verifier accept (platform facts, `loop_iterations`).
pub const LOOP_ROUNDS: u64 = 100_000;

/// What the world found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A helper got an argument that its prototype does not allow.
    #[error("{helper}: argument {position}: {what}")]
    Argument {
        /// The helper's name.
        helper: String,
        /// Which argument, from 1.
        position: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A helper used a map as what it is not.
    #[error("{helper} uses a map of type {map_type} without looking at its type")]
    MapType {
        /// The helper's name.
        helper: String,
        /// The type.
        map_type: u32,
    },
    /// A callee that does not exist.
    #[error("a call of something that does not exist")]
    NoCallee,
    /// An address got out.
    #[error("an address leaks into {0}")]
    Leak(String),
    /// A loop that goes around too often.
    #[error("function {0}, instruction {1}: more than {LOOP_ROUNDS} rounds")]
    Rounds(u32, u32),
    /// A fact that is not true.
    #[error("function {function}, instruction {instruction}: {what}")]
    Fact {
        /// The function.
        function: u32,
        /// The instruction's position.
        instruction: u32,
        /// What is not true.
        what: String,
    },
}

/// The world of one run.
pub struct Checked<'a> {
    module: &'a Module,
    platform: &'a Platform,
    program_type: &'a ProgramType,
    /// What was proven, if it is to be judged.
    facts: Option<FactJudge<'a>>,
    /// The instruction that runs.
    running: (FunctionIndex, InsnIndex),
    memory: Memory,
    regions: Regions,
    /// Address and definition of each map object, the module's own first.
    objects: Vec<(u64, MapIndex)>,
    /// What is random in the run; the same at all addresses.
    random: Random,
    /// Numbers that the program knows.
    hints: &'a [i64],
    /// The registers before the instruction that runs.
    registers: [Option<u64>; Reg::COUNT],
    frames: u32,
    /// By function and instruction: how often it was executed.
    visits: Vec<Vec<u64>>,
    /// By function: how many chains of calls lead to it, which the verifier counts apart.
    chains: Vec<u64>,
    /// Found where nothing could be returned.
    violation: Option<Violation>,
    /// What the run did.
    seen: BTreeSet<Feature>,
    /// Where addresses begin: the upper bits that all of them share.
    next_packet: u64,
    skew: u64,
    /// Of everything that others see of the run: what helpers were given.
    told: u64,
}

impl Checked<'_> {
    /// What was found without ending the run.
    pub fn violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// What the run did.
    pub fn seen(&self) -> &BTreeSet<Feature> {
        &self.seen
    }

    /// The instructions that were executed.
    pub fn reached(&self) -> Vec<(FunctionIndex, InsnIndex)> {
        let functions = (0..).map(FunctionIndex).zip(&self.visits);
        let instructions =
            functions.flat_map(|(function, visits)| (0..).map(InsnIndex).zip(visits).map(move |at| (function, at)));
        instructions
            .filter(|(_, (_, visits))| **visits != 0)
            .map(|(function, (instruction, _))| (function, instruction))
            .collect()
    }

    /// The addresses.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// A number that depends on everything that others see of the run, and on no address if the program gave none away.
    pub fn visible(&self) -> u64 {
        let mut hash = self.told;
        for region in &self.memory.regions {
            if region.kind == Kind::Stack {
                continue;
            }
            let skipped = |at: usize| region.kind == Kind::Context && self.is_pointer_field(at as u64, 1);
            for (at, byte) in region.bytes.iter().enumerate() {
                if !skipped(at) {
                    hash = mixed(hash, u64::from(*byte));
                }
            }
        }
        hash
    }

    /// Whether a value could be an address in or near a region.
    pub fn is_address(&self, value: u64) -> bool {
        const NEAR: u64 = 1 << 16;
        let near = |start: u64, end: u64| value >= start.saturating_sub(NEAR) && value <= end.saturating_add(NEAR);
        self.memory.regions.iter().any(|r| near(r.start, r.end())) || self.objects.iter().any(|(a, _)| near(*a, *a))
    }

    fn privileged(&self) -> bool {
        self.program_type.is_privileged
    }

    /// Whether bytes of the context at this offset belong to one of its pointers.
    fn is_pointer_field(&self, offset: u64, length: u64) -> bool {
        let context = &self.program_type.context;
        let size = setup::pointer_bytes(context) as u64;
        [context.data, context.data_end, context.data_meta]
            .into_iter()
            .filter_map(|field| u64::try_from(field).ok())
            .any(|field| offset < field + size && field < offset + length)
    }

    fn found(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    fn denied(&self, address: u64) -> Denied {
        Denied {
            near: self.memory.near(address),
        }
    }

    /// What an instruction does that its operation and its operands show.
    fn note_instruction(&mut self, at: &At<'_>) {
        let Some(insn) = self.module.functions[at.function.index()]
            .instructions
            .get(at.instruction.index())
        else {
            return;
        };
        let address = |register: Reg| at.registers[register.index()].is_some_and(|value| self.is_address(value));
        let seen = match insn.op {
            Instruction::Alu {
                size: WordSize::W64,
                op: AluOp::Add | AluOp::Sub,
                dst,
                src: Operand::Reg(src),
            } if address(dst) != address(src) => Feature::VariableAddress,
            Instruction::Alu {
                size: WordSize::W32, ..
            } => Feature::Alu32,
            Instruction::JumpIf {
                size: WordSize::W32, ..
            } => Feature::Jmp32,
            Instruction::ByteSwap { .. } => Feature::ByteSwap,
            Instruction::Atomic { .. } => Feature::Atomic,
            Instruction::Store {
                width: Width::Dw,
                src: Operand::Reg(src),
                ..
            } if address(src) => Feature::Spill,
            _ => return,
        };
        self.seen.insert(seen);
    }

    /// What writing through a pointer to `offset` of a region means.
    fn note_access(&mut self, kind: Kind, write: bool) {
        let seen = match (kind, write) {
            (Kind::Context, false) => Feature::ContextLoad,
            (Kind::Context, true) => Feature::ContextStore,
            (Kind::Packet, _) => Feature::Packet,
            (Kind::Stack, _) => Feature::Stack,
            (Kind::Value(map), _) => {
                if self.module.maps[map.index()].definition.map_type == 5 {
                    self.seen.insert(Feature::PerCpu);
                }
                Feature::MapValue
            }
            (Kind::Global(_), _) => Feature::Global,
        };
        self.seen.insert(seen);
    }

    /// Bytes of memory for writing, and what writing them is.
    fn writable(&mut self, address: u64, length: u64) -> Result<(usize, usize), Denied> {
        let Some((region, at)) = self.memory.find(address, length) else {
            return Err(self.denied(address));
        };
        let target = &self.memory.regions[region];
        if target.read_only {
            return Err(Denied {
                near: format!("{:?}, which is read-only", target.kind),
            });
        }
        if target.kind == Kind::Context && self.is_pointer_field(at as u64, length) {
            return Err(Denied {
                near: "a pointer of the context".to_owned(),
            });
        }
        self.note_access(self.memory.regions[region].kind, true);
        Ok((region, at))
    }

    /// Marks the bytes of the stack that lie in frame number `frame`, from 1, as never written.
    fn fresh_frame(&mut self, frame: u32) {
        let above = u64::from(frame) * FRAME_BYTES;
        if let Some(stack) = self.memory.regions.iter_mut().find(|r| r.kind == Kind::Stack)
            && let Some(start) = STACK_BYTES.checked_sub(above)
        {
            let (start, end) = (start as usize, (start + FRAME_BYTES) as usize);
            stack.written[start..end].fill(false);
        }
    }
}

#[cfg(test)]
impl<'a> Checked<'a> {
    /// Holds these facts against the run.
    pub(crate) fn judged_by(&mut self, judge: FactJudge<'a>) {
        self.facts = Some(judge);
    }
}

impl Checked<'_> {
    fn wrong_fact(&mut self, what: String) {
        let (function, instruction) = self.running;
        self.found(Violation::Fact {
            function: function.0,
            instruction: instruction.0,
            what,
        });
    }

    /// A helper is about to access memory.
    fn judge_callee(&mut self, address: u64, length: u64, writes: bool) {
        let judged = self
            .facts
            .as_ref()
            .map(|judge| judge.callee(address, length, writes, &self.regions));
        if let Some(Err(what)) = judged {
            self.wrong_fact(what);
        }
    }

    /// The program returns this.
    pub fn returned(&mut self, program: FunctionIndex, r0: u64) {
        if let Some(Err(what)) = self.facts.as_ref().map(|judge| judge.returned(program, r0)) {
            self.wrong_fact(what);
        }
    }
}

impl World for Checked<'_> {
    type Error = Violation;

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Denied> {
        let Some((region, at)) = self.memory.find(address, bytes.len() as u64) else {
            return Err(self.denied(address));
        };
        let source = &self.memory.regions[region];
        bytes.copy_from_slice(&source.bytes[at..at + bytes.len()]);
        self.note_access(source.kind, false);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Denied> {
        let (region, at) = self.writable(address, bytes.len() as u64)?;
        let kind = self.memory.regions[region].kind;
        if kind != Kind::Stack
            && !self.privileged()
            && let Ok(value) = bytes.try_into()
            && self.is_address(u64::from_le_bytes(value))
        {
            self.found(Violation::Leak(format!("{kind:?}")));
        }
        let target = &mut self.memory.regions[region];
        target.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        if kind == Kind::Stack {
            target.written[at..at + bytes.len()].fill(true);
        }
        Ok(())
    }

    fn is_undefined(&mut self, address: u64, length: u32) -> bool {
        let length = u64::from(length);
        self.memory.find(address, length).is_some_and(|(region, at)| {
            let region = &self.memory.regions[region];
            region.kind == Kind::Stack && region.written[at..at + length as usize].contains(&false)
        })
    }

    fn write_undefined(&mut self, address: u64, length: u32) -> Result<(), Denied> {
        let (region, at) = self.writable(address, u64::from(length))?;
        let privileged = self.privileged();
        let target = &mut self.memory.regions[region];
        if target.kind != Kind::Stack {
            // A privileged program may give away what it likes.
            if privileged {
                target.bytes[at..at + length as usize].fill(0);
                return Ok(());
            }
            return Err(Denied {
                near: format!("a value that was never written, into {:?}", target.kind),
            });
        }
        target.written[at..at + length as usize].fill(false);
        Ok(())
    }

    fn helper(&mut self, id: i32, arguments: [u64; 5]) -> Result<HelperResult, Violation> {
        let helper = u32::try_from(id)
            .ok()
            .and_then(|id| self.platform.helper(self.program_type, id));
        let helper = helper.ok_or(Violation::NoCallee)?;
        self.seen.insert(Feature::Helper);
        self.call(&helpers::Called::helper(helper), arguments)
    }

    fn btf_function(&mut self, function: BtfFunctionIndex, arguments: [u64; 5]) -> Result<Option<u64>, Violation> {
        let named = self
            .module
            .btf_functions
            .get(function.index())
            .ok_or(Violation::NoCallee)?;
        let offered = self.platform.btf_function(named.module, &named.name);
        let offered = offered.ok_or(Violation::NoCallee)?;
        self.seen.insert(Feature::BtfFunction);
        match self.call(&helpers::Called::function(offered), arguments)? {
            HelperResult::Returned(value) | HelperResult::Ends(value) => Ok(Some(value)),
        }
    }

    fn executing(&mut self, at: &At<'_>) {
        self.registers = *at.registers;
        if at.frames > self.frames {
            if at.frames > 1 {
                self.seen.insert(Feature::Subprogram);
            }
            self.fresh_frame(at.frames);
        }
        self.frames = at.frames;
        self.note_instruction(at);
        let (function, instruction) = (at.function.index(), at.instruction.index());
        let visits = &mut self.visits[function][instruction];
        *visits += 1;
        if *visits == 2 {
            self.seen.insert(Feature::Again);
        }
        // The verifier counts the rounds, and the program comes by once more after the last.
        if *visits == (LOOP_ROUNDS + 1) * self.chains[function] + 1 {
            self.found(Violation::Rounds(at.function.0, at.instruction.0));
        }
        self.running = (at.function, at.instruction);
        if let Some(judge) = &mut self.facts
            && self.violation.is_none()
            && let Err(what) = judge.executing(at, &self.regions)
        {
            self.wrong_fact(what);
        }
    }

    fn map_address(&mut self, map: MapIndex) -> Option<u64> {
        self.objects.get(map.index()).map(|(address, _)| *address)
    }

    fn global_address(&mut self, section: GlobalIndex) -> Option<u64> {
        let found = self.regions.globals.iter().find(|(index, _)| *index == section);
        found.map(|(_, range)| range.start)
    }
}

/// By function: how many chains of calls lead from the program to it.
fn chains(module: &Module, program: FunctionIndex) -> Vec<u64> {
    use bpf2sys_bytecode::{Callee, Instruction};
    fn visit(module: &Module, function: FunctionIndex, counts: &mut [u64], depth: u32) {
        counts[function.index()] += 1;
        if depth > 8 {
            return;
        }
        for insn in &module.function(function).instructions {
            if let Instruction::Call(Callee::Local(callee)) = insn.op {
                visit(module, callee, counts, depth + 1);
            }
        }
    }
    let mut counts = vec![0; module.functions.len()];
    visit(module, program, &mut counts, 1);
    counts
}

/// One more number in a running total that depends on the order.
fn mixed(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(5)
}

impl Violation {
    /// What kind of thing it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Violation::Argument { .. } => "argument",
            Violation::MapType { .. } => "map type",
            Violation::NoCallee => "no callee",
            Violation::Leak(_) => "leak",
            Violation::Rounds(..) => "rounds",
            Violation::Fact { .. } => "fact",
        }
    }
}
