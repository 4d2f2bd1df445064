//! Where a register's value comes from inside its function: what can be said without the verification engine.
//!
//! The engine copies a subprogram into its caller and lays the two stack frames side by side. To the instruction set a
//! function has registers and a frame of its own: a callee gets `r1` to `r5` and nothing else, and the frames of a caller
//! and its callee are different memory. This module knows the difference.
//!
//! Given: all functions. Computed: for each instruction and register, the [`Source`] of its value.
//! Safe because: a source is followed from the function's entry through moves and additions, and becomes `Other` at
//! anything else; where paths meet it is kept only if they agree.

use bpf2sys_bytecode::{
    AluOp, AtomicOp, Callee, Function, FunctionIndex, InsnIndex, Instruction, Module, Operand, Reg,
};
use bpf2sys_bytecode::{FunctionKind, WordSize};

/// Where the value of a register comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nothing in this function has written it, at least on one path.
    Undefined,
    /// The function's own `r10` plus this many bytes.
    OwnFrame(i32),
    /// An argument, `r1` to `r5` at entry, or one with something added that is no address in the own frame.
    Argument,
    /// Anything.
    Other,
}

/// The sources of all registers at one point.
pub(crate) type Sources = [Source; Reg::COUNT];

/// The sources at every instruction of every function.
pub(crate) struct Flow {
    functions: Vec<Vec<Sources>>,
}

impl Flow {
    /// Follows the values through all functions, callees first.
    pub fn new(module: &Module) -> Flow {
        let count = module.functions.len();
        let mut callers: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut pending = vec![0_u32; count];
        for (caller, function) in module.functions.iter().enumerate() {
            for callee in callees(function) {
                callers[callee.index()].push(caller);
                pending[caller] += 1;
            }
        }
        let mut ready: Vec<usize> = (0..count).filter(|f| pending[*f] == 0).collect();
        let mut functions: Vec<Option<Vec<Sources>>> = vec![None; count];
        // Of functions that call each other in a cycle nothing is assumed; they come last.
        let mut gives_r0 = vec![false; count];
        let mut rest = 0..count;
        while let Some(next) = ready.pop().or_else(|| rest.next()) {
            if functions[next].is_some() {
                continue;
            }
            let function = &module.functions[next];
            let sources = follow(function, &gives_r0);
            gives_r0[next] = function
                .instructions
                .iter()
                .zip(&sources)
                .all(|(insn, s)| insn.op != Instruction::Exit || s[Reg::R0.index()] != Source::Undefined);
            functions[next] = Some(sources);
            for caller in &callers[next] {
                pending[*caller] -= 1;
                if pending[*caller] == 0 {
                    ready.push(*caller);
                }
            }
        }
        Flow {
            functions: functions.into_iter().map(Option::unwrap_or_default).collect(),
        }
    }

    /// The sources before an instruction; `Other` for everything where no path leads.
    pub fn at(&self, function: FunctionIndex, index: InsnIndex) -> Sources {
        let sources = self.functions.get(function.index()).and_then(|f| f.get(index.index()));
        sources.copied().unwrap_or([Source::Other; Reg::COUNT])
    }
}

fn callees(function: &Function) -> impl Iterator<Item = FunctionIndex> + '_ {
    function.instructions.iter().filter_map(|insn| match insn.op {
        Instruction::Call(Callee::Local(callee)) => Some(callee),
        _ => None,
    })
}

/// The sources in one function. `gives_r0` tells which functions write `r0` before every exit.
fn follow(function: &Function, gives_r0: &[bool]) -> Vec<Sources> {
    let mut entry = [Source::Undefined; Reg::COUNT];
    let arguments = match function.kind {
        FunctionKind::Program => 1..2,
        FunctionKind::Subprogram => 1..6,
    };
    entry[arguments].fill(Source::Argument);
    entry[Reg::R10.index()] = Source::OwnFrame(0);
    // A source only changes to `Other` and from there to `Undefined`: each instruction is visited a few dozen times at most.
    forward(function, entry, join, |op, sources| step(op, sources, gives_r0))
        .into_iter()
        .map(|sources| sources.unwrap_or([Source::Other; Reg::COUNT]))
        .collect()
}

/// Follows values from the entry of a function to every instruction: what is known of each register before it; `None`
/// where no path leads. `join` must be monotone and change a value a few times at most.
pub(crate) fn forward<T: Copy + PartialEq>(
    function: &Function,
    entry: [T; Reg::COUNT],
    join: impl Fn(T, T) -> T,
    step: impl Fn(Instruction, [T; Reg::COUNT]) -> [T; Reg::COUNT],
) -> Vec<Option<[T; Reg::COUNT]>> {
    let mut before = vec![None; function.instructions.len()];
    let mut work = Vec::new();
    flow_into(&mut before, &mut work, 0, entry, &join);
    while let Some(index) = work.pop() {
        let Some(known) = before[index] else { continue };
        let op = function.instructions[index].op;
        let after = step(op, known);
        if let Some(target) = function.jump_target(InsnIndex(index as u32)) {
            flow_into(&mut before, &mut work, target.index(), after, &join);
        }
        if !matches!(op, Instruction::Jump { .. } | Instruction::Exit) {
            flow_into(&mut before, &mut work, index + 1, after, &join);
        }
    }
    before
}

/// Lets what is `known` flow into the instruction at `index`.
fn flow_into<T: Copy + PartialEq>(
    before: &mut [Option<[T; Reg::COUNT]>],
    work: &mut Vec<usize>,
    index: usize,
    known: [T; Reg::COUNT],
    join: &impl Fn(T, T) -> T,
) {
    let Some(slot) = before.get_mut(index) else { return };
    let joined = match slot {
        None => known,
        Some(old) => std::array::from_fn(|r| join(old[r], known[r])),
    };
    if *slot != Some(joined) {
        *slot = Some(joined);
        work.push(index);
    }
}

fn join(a: Source, b: Source) -> Source {
    match (a, b) {
        (Source::Undefined, _) | (_, Source::Undefined) => Source::Undefined,
        _ if a == b => a,
        _ => Source::Other,
    }
}

/// The sources after an instruction.
fn step(op: Instruction, mut sources: Sources, gives_r0: &[bool]) -> Sources {
    match op {
        Instruction::Alu { size, op, dst, src } => {
            let old = sources[dst.index()];
            let other = match src {
                Operand::Reg(src) => sources[src.index()],
                Operand::Imm(_) => Source::Other,
            };
            sources[dst.index()] = match (size, op, src, old) {
                (WordSize::W64, AluOp::Mov, Operand::Reg(_), _) => other,
                (WordSize::W64, AluOp::Add | AluOp::Sub, Operand::Imm(_), Source::Argument) => Source::Argument,
                (WordSize::W64, AluOp::Add | AluOp::Sub, Operand::Reg(_), Source::Argument)
                    if other == Source::Argument =>
                {
                    Source::Argument
                }
                (WordSize::W64, AluOp::Add, Operand::Imm(imm), Source::OwnFrame(at)) => own_frame(at.checked_add(imm)),
                (WordSize::W64, AluOp::Sub, Operand::Imm(imm), Source::OwnFrame(at)) => own_frame(at.checked_sub(imm)),
                // What was undefined stays so, unless it is written anew.
                (_, op, _, Source::Undefined) if op != AluOp::Mov => Source::Undefined,
                _ if other == Source::Undefined => Source::Undefined,
                _ => Source::Other,
            };
        }
        Instruction::Movsx { dst, .. } | Instruction::LoadImm64 { dst, .. } | Instruction::Load { dst, .. } => {
            sources[dst.index()] = Source::Other;
        }
        Instruction::Neg { dst, .. } | Instruction::ByteSwap { dst, .. } => {
            sources[dst.index()] = join(sources[dst.index()], Source::Other);
        }
        Instruction::Atomic { op, src, .. } => match op {
            AtomicOp::Cmpxchg => sources[Reg::R0.index()] = Source::Other,
            AtomicOp::Add { fetch: true }
            | AtomicOp::Or { fetch: true }
            | AtomicOp::And { fetch: true }
            | AtomicOp::Xor { fetch: true }
            | AtomicOp::Xchg => sources[src.index()] = Source::Other,
            AtomicOp::Add { .. } | AtomicOp::Or { .. } | AtomicOp::And { .. } | AtomicOp::Xor { .. } => {}
        },
        // A call destroys r1 to r5, and the engine knows that they must not be read.
        Instruction::Call(_) | Instruction::CallX(_) | Instruction::LegacyPacket { .. } => {
            let gives = match op {
                Instruction::Call(Callee::Local(callee)) => gives_r0.get(callee.index()).copied().unwrap_or(false),
                _ => true,
            };
            sources[Reg::R0.index()] = if gives { Source::Other } else { Source::Undefined };
            sources[1..6].fill(Source::Other);
        }
        Instruction::Store { .. } | Instruction::Jump { .. } | Instruction::JumpIf { .. } | Instruction::Exit => {}
    }
    sources
}

fn own_frame(at: Option<i32>) -> Source {
    at.map_or(Source::Other, Source::OwnFrame)
}

/// The registers that an instruction reads, apart from the arguments of calls.
pub(crate) fn reads(op: &Instruction) -> impl Iterator<Item = Reg> + use<> {
    let operand = |operand: Operand| match operand {
        Operand::Reg(register) => Some(register),
        Operand::Imm(_) => None,
    };
    let read = match *op {
        Instruction::Alu { op, dst, src, .. } => [(op != AluOp::Mov).then_some(dst), operand(src), None],
        Instruction::Movsx { src, .. } => [Some(src), None, None],
        Instruction::Neg { dst, .. } | Instruction::ByteSwap { dst, .. } => [Some(dst), None, None],
        Instruction::Load { base, .. } => [Some(base), None, None],
        Instruction::Store { base, src, .. } => [Some(base), operand(src), None],
        Instruction::Atomic { op, base, src, .. } => {
            [Some(base), Some(src), (op == AtomicOp::Cmpxchg).then_some(Reg::R0)]
        }
        Instruction::JumpIf { dst, src, .. } => [Some(dst), operand(src), None],
        Instruction::LegacyPacket { index, .. } => [index, None, None],
        Instruction::CallX(register) => [Some(register), None, None],
        Instruction::LoadImm64 { .. } | Instruction::Jump { .. } | Instruction::Call(_) | Instruction::Exit => {
            [None; 3]
        }
    };
    read.into_iter().flatten()
}
