//! Which registers hold an address in the function's own stack frame, and where in it.
//!
//! Given: one function. Computed: for each instruction and register the distance in bytes from the function's own
//! `r10`, if it is one value on every path.
//! Safe because: the value is followed from `r10` itself through moves and additions of constants, and forgotten at
//! anything else; where paths meet, it is kept only if they agree. Nothing of the verification engine is used: it
//! lays the frames of nested calls side by side and knows a caller's frame by offsets of the same kind, and compiled
//! code does not.

use bpf2sys_bytecode::{AluOp, AtomicOp, Function, InsnIndex, Instruction, Operand, Reg, WordSize};

/// Size of a frame in bytes (RFC 9669 leaves it to the runtime; eBPF for Windows and Linux have 512).
const FRAME_BYTES: i32 = 512;

/// Distance from `r10` per register; `None` is "something else, or unknown".
pub(crate) type Offsets = [Option<i32>; Reg::COUNT];

/// For each instruction, the offsets before it; all `None` where no path leads.
pub(crate) fn offsets(function: &Function) -> Vec<Offsets> {
    let count = function.instructions.len();
    let mut before: Vec<Option<Offsets>> = vec![None; count];
    let mut entry = [None; Reg::COUNT];
    entry[Reg::R10.index()] = Some(0);
    let mut work = Vec::new();
    flow(&mut before, &mut work, 0, entry);
    // Offsets only change from a value to `None`, so each instruction is visited at most twelve times.
    while let Some(index) = work.pop() {
        let Some(state) = before[index] else { continue };
        let op = function.instructions[index].op;
        let after = step(op, state);
        if let Some(target) = function.jump_target(InsnIndex(index as u32)) {
            flow(&mut before, &mut work, target.index(), after);
        }
        if !matches!(op, Instruction::Jump { .. } | Instruction::Exit) && index + 1 < count {
            flow(&mut before, &mut work, index + 1, after);
        }
    }
    before
        .into_iter()
        .map(|state| state.unwrap_or([None; Reg::COUNT]).map(in_frame))
        .collect()
}

fn in_frame(offset: Option<i32>) -> Option<i32> {
    offset.filter(|o| (-FRAME_BYTES..=0).contains(o))
}

/// Lets `state` flow into the instruction at `index`.
fn flow(before: &mut [Option<Offsets>], work: &mut Vec<usize>, index: usize, state: Offsets) {
    let Some(slot) = before.get_mut(index) else { return };
    let joined = match slot {
        None => state,
        Some(old) => std::array::from_fn(|r| old[r].filter(|o| state[r] == Some(*o))),
    };
    if *slot != Some(joined) {
        *slot = Some(joined);
        work.push(index);
    }
}

/// The offsets after an instruction.
fn step(op: Instruction, mut state: Offsets) -> Offsets {
    match op {
        Instruction::Alu { size, op, dst, src } => {
            let value = match (size, op, src) {
                (WordSize::W64, AluOp::Mov, Operand::Reg(src)) => state[src.index()],
                (WordSize::W64, AluOp::Add, Operand::Imm(imm)) => state[dst.index()].and_then(|o| o.checked_add(imm)),
                (WordSize::W64, AluOp::Sub, Operand::Imm(imm)) => state[dst.index()].and_then(|o| o.checked_sub(imm)),
                _ => None,
            };
            state[dst.index()] = value;
        }
        Instruction::Movsx { dst, .. }
        | Instruction::Neg { dst, .. }
        | Instruction::ByteSwap { dst, .. }
        | Instruction::LoadImm64 { dst, .. }
        | Instruction::Load { dst, .. } => state[dst.index()] = None,
        Instruction::Atomic { op, src, .. } => match op {
            AtomicOp::Cmpxchg => state[Reg::R0.index()] = None,
            AtomicOp::Add { fetch }
            | AtomicOp::Or { fetch }
            | AtomicOp::And { fetch }
            | AtomicOp::Xor { fetch } => {
                if fetch {
                    state[src.index()] = None;
                }
            }
            AtomicOp::Xchg => state[src.index()] = None,
        },
        // A call gives r0 and destroys r1 to r5; a legacy packet load does the same.
        Instruction::Call(_) | Instruction::CallX(_) | Instruction::LegacyPacket { .. } => state[..6].fill(None),
        Instruction::Store { .. } | Instruction::Jump { .. } | Instruction::JumpIf { .. } | Instruction::Exit => {}
    }
    state
}
