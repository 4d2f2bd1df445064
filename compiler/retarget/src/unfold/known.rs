//! What registers hold where that can be told from the code alone.
//!
//! Given: a function. Computed: for each instruction, the registers that hold one thing whichever way led there.
//! Safe because: whatever is not a plain load, move or copy leaves nothing known.

use bpf2sys_bytecode::{
    AluOp, Function, FunctionIndex, GlobalIndex, Imm64, InsnIndex, Instruction, MapIndex, Operand, Reg, WordSize,
};

use crate::liveness::effect;

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Constant(u64),
    Map(MapIndex),
    /// The address of a byte of a section of global variables.
    Global(GlobalIndex, u32),
    /// The address of a function.
    Function(FunctionIndex),
}

/// What each register holds.
pub(crate) type Row = [Option<Known>; Reg::COUNT];

/// What registers hold before each instruction; none where nothing leads. `address` tells the function whose address an instruction loads.
pub(crate) fn rows(function: &Function, address: impl Fn(u32) -> Option<FunctionIndex>) -> Vec<Option<Row>> {
    let count = function.instructions.len();
    let mut rows: Vec<Option<Row>> = vec![None; count];
    let mut work = vec![(0, [None; Reg::COUNT])];
    while let Some((at, incoming)) = work.pop() {
        let Some(insn) = function.instructions.get(at) else {
            continue;
        };
        let joined = match rows[at] {
            None => incoming,
            Some(row) => std::array::from_fn(|r| row[r].filter(|known| incoming[r] == Some(*known))),
        };
        if rows[at] == Some(joined) {
            continue;
        }
        rows[at] = Some(joined);
        let after = step(&insn.op, joined, address(insn.slot));
        if let Some(target) = function.jump_target(InsnIndex(at as u32)) {
            work.push((target.index(), after));
        }
        if !matches!(insn.op, Instruction::Jump { .. } | Instruction::Exit) {
            work.push((at + 1, after));
        }
    }
    rows
}

fn step(op: &Instruction, before: Row, address: Option<FunctionIndex>) -> Row {
    let mut after = before;
    let (_, writes) = effect(op);
    for (number, known) in after.iter_mut().enumerate() {
        if writes >> number & 1 == 1 {
            *known = None;
        }
    }
    let of = |register: Reg| before[usize::from(register.number())];
    let (dst, known) = match *op {
        Instruction::LoadImm64 { dst, value } => (
            dst,
            match (address, value) {
                (Some(function), _) => Some(Known::Function(function)),
                (None, Imm64::Constant(value)) => Some(Known::Constant(value)),
                (None, Imm64::Map(map)) => Some(Known::Map(map)),
                (None, Imm64::Global { section, offset }) => Some(Known::Global(section, offset)),
                (None, _) => None,
            },
        ),
        Instruction::Alu {
            size,
            op: AluOp::Mov,
            dst,
            src,
        } => {
            let known = match src {
                Operand::Imm(value) => Some(Known::Constant(i64::from(value).cast_unsigned())),
                Operand::Reg(src) => of(src),
            };
            let low = |known| match known {
                Known::Constant(value) => Some(Known::Constant(value & u64::from(u32::MAX))),
                _ => None,
            };
            let whole = size == WordSize::W64;
            (dst, if whole { known } else { known.and_then(low) })
        }
        _ => return after,
    };
    after[usize::from(dst.number())] = known;
    after
}
