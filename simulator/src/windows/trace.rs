//! Counting the instructions that programs execute.
//!
//! Given: the code of the image, or the functions that are interpreted, and each instruction before it is executed.
//! Computed: how often each was executed, and how often each conditional branch went elsewhere than to the instruction behind it.
//! Safe because: all memory is there before the first instruction. [`CodeCounts::arrive`] takes no more of it, waits for nobody and
//! cannot panic, so that a signal handler may call it.
//!
//! Where an instruction of x64 begins is only known when it is executed, because there may be data between functions. So the
//! bytes are decoded from every offset beforehand.

use bpf2sys_bytecode::{FunctionIndex, InsnIndex, Instruction, Module};
use iced_x86::{Decoder, DecoderOptions, FlowControl};

use super::mapping::{MappedImage, MappedSection};
use crate::image::{Image, read_u32};
use crate::trace::{
    ExecutedInstruction, ExecutedSlot, InterpretedTrace, NativeBranch, NativeTrace, SlotBranch, is_conditional_arm64,
};

/// What is to be known of the instruction at an offset: its length in the low bits, and these.
type Kind = u8;
const LENGTH: Kind = 0x0F;
/// It is a conditional branch.
const CONDITIONAL: Kind = 0x10;
/// The processor stops between its repetitions, which are one instruction all the same.
const REPEATED: Kind = 0x20;

/// How often something was executed, and how often it branched.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    executed: u64,
    taken: u64,
}

/// Counts of the image's code. All loads have the same code, and their counts are one.
#[derive(Debug)]
pub struct CodeCounts {
    /// First RVA with code.
    first: u32,
    /// By distance from there.
    kinds: Vec<Kind>,
    /// The same.
    counts: Vec<Counts>,
    /// Where the image is whose code runs.
    base: u64,
    /// Distance of the instruction that was executed last, if one was since the image's code went on.
    last: Option<usize>,
    /// Instructions executed.
    total: u64,
}

impl CodeCounts {
    /// None yet, of an image.
    pub fn new(image: &MappedImage) -> CodeCounts {
        let code = || image.sections.iter().filter(|section| section.is_code());
        let rva = |address: u64| (address - image.base) as u32;
        let first = code().map(|section| rva(section.start)).min().unwrap_or(0);
        let end = code().map(|section| rva(section.start + section.length)).max();
        let length = (end.unwrap_or(first) - first) as usize;
        let mut kinds = vec![0; length];
        for section in code() {
            let start = (rva(section.start) - first) as usize;
            let kinds = &mut kinds[start..start + section.length as usize];
            match image.machine {
                Image::ARM64 => arm64_kinds(image.bytes_of(section), kinds),
                _ => x64_kinds(image.bytes_of(section), kinds),
            }
        }
        CodeCounts {
            first,
            kinds,
            counts: vec![Counts::default(); length],
            base: image.base,
            last: None,
            total: 0,
        }
    }

    /// The code of the image at `base` goes on, at whatever instruction comes next.
    pub fn go_on(&mut self, base: u64) {
        self.base = base;
        self.last = None;
    }

    /// The instruction at `pc` is about to be executed. Gives whether the image's code has been left.
    pub fn arrive(&mut self, pc: u64) -> bool {
        let at = pc.wrapping_sub(self.base).wrapping_sub(u64::from(self.first)) as usize;
        if let Some(last) = self.last {
            let kind = self.kinds.get(last).copied().unwrap_or(0);
            if kind & REPEATED != 0 && last == at {
                return false;
            }
            if kind & CONDITIONAL != 0
                && at != last.wrapping_add(usize::from(kind & LENGTH))
                && let Some(counts) = self.counts.get_mut(last)
            {
                counts.taken = counts.taken.wrapping_add(1);
            }
        }
        let Some(counts) = self.counts.get_mut(at) else {
            return self.last.is_some();
        };
        counts.executed = counts.executed.wrapping_add(1);
        self.total = self.total.wrapping_add(1);
        self.last = Some(at);
        false
    }

    /// Instructions executed so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// For the report.
    pub fn trace(&self) -> NativeTrace {
        let mut trace = NativeTrace::default();
        let executed = self.counts.iter().zip(&self.kinds).zip(self.first..);
        for ((counts, kind), rva) in executed.filter(|((counts, _), _)| counts.executed != 0) {
            let count = counts.executed;
            trace.instructions.push(ExecutedInstruction { rva, count });
            if kind & CONDITIONAL != 0 {
                trace.branches.push(NativeBranch {
                    rva,
                    taken: counts.taken,
                    not_taken: count - counts.taken,
                });
            }
        }
        trace
    }
}

impl MappedImage {
    fn bytes_of(&self, section: &MappedSection) -> &[u8] {
        let start = (section.start - self.base) as usize;
        self.contents()
            .get(start..start + section.length as usize)
            .unwrap_or_default()
    }
}

fn x64_kinds(code: &[u8], kinds: &mut [Kind]) {
    for (at, kind) in kinds.iter_mut().enumerate() {
        let Some(bytes) = code.get(at..) else { return };
        // No instruction has more bytes.
        let instruction = Decoder::new(64, &bytes[..bytes.len().min(15)], DecoderOptions::NONE).decode();
        *kind = instruction.len() as Kind & LENGTH;
        if instruction.flow_control() == FlowControl::ConditionalBranch {
            *kind |= CONDITIONAL;
        }
        if instruction.is_string_instruction() && (instruction.has_rep_prefix() || instruction.has_repne_prefix()) {
            *kind |= REPEATED;
        }
    }
}

fn arm64_kinds(code: &[u8], kinds: &mut [Kind]) {
    for at in (0..kinds.len()).step_by(4) {
        let conditional = read_u32(code, at).is_some_and(is_conditional_arm64);
        kinds[at] = 4 | if conditional { CONDITIONAL } else { 0 };
    }
}

/// Counts of the functions that are interpreted.
#[derive(Debug)]
pub struct SlotCounts {
    /// By function and instruction.
    functions: Vec<Vec<Counts>>,
    /// The conditional jump that was executed last, if nothing was since.
    jump: Option<(FunctionIndex, InsnIndex)>,
    /// Instructions executed.
    total: u64,
}

impl SlotCounts {
    /// None yet, of a module.
    pub fn new(module: &Module) -> SlotCounts {
        let functions = module.functions.iter();
        SlotCounts {
            functions: functions
                .map(|function| vec![Counts::default(); function.instructions.len()])
                .collect(),
            jump: None,
            total: 0,
        }
    }

    /// An instruction of the module is about to be executed.
    pub fn arrive(&mut self, module: &Module, function: FunctionIndex, at: InsnIndex) {
        if let Some((function, jump)) = self.jump.take()
            && at.0 != jump.0 + 1
        {
            self.functions[function.index()][jump.index()].taken += 1;
        }
        self.functions[function.index()][at.index()].executed += 1;
        self.total += 1;
        let op = module.functions[function.index()].instructions[at.index()].op;
        self.jump = matches!(op, Instruction::JumpIf { .. }).then_some((function, at));
    }

    /// Instructions executed so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// For the report: the functions of which something was executed, in the module's order.
    pub fn trace(&self, module: &Module) -> Vec<InterpretedTrace> {
        let mut functions = Vec::new();
        for (function, counts) in module.functions.iter().zip(&self.functions) {
            let mut trace = InterpretedTrace {
                function: function.name.clone(),
                ..InterpretedTrace::default()
            };
            let executed = function.instructions.iter().zip(counts);
            for (insn, counts) in executed.filter(|(_, counts)| counts.executed != 0) {
                let (slot, count) = (insn.slot, counts.executed);
                trace.instructions.push(ExecutedSlot { slot, count });
                if matches!(insn.op, Instruction::JumpIf { .. }) {
                    trace.branches.push(SlotBranch {
                        slot,
                        taken: counts.taken,
                        not_taken: count - counts.taken,
                    });
                }
            }
            if !trace.instructions.is_empty() {
                functions.push(trace);
            }
        }
        functions
    }
}
