//! Registers that a subprogram takes over from its caller without being passed them.
//!
//! Given: a function, its flow, and what the functions that it calls take over.
//! Computed: the registers beside `r1` to `r5` and `r10` whose value at entry can reach an instruction that reads them.
//!
//! Compilers do not write such code, except for functions without a result, which leave `r0` as it was. But the verifier
//! lets a callee read its caller's `r0` and `r6` to `r9`, and after the call it takes `r0` for unchanged where the callee did
//! not set it. What it proved from that only holds if the values really are the caller's, so they are passed along.

use bpf2sys_bytecode::{AluOp, AtomicOp, Callee, Function, FunctionIndex, InsnIndex, Instruction, Operand, Reg};

use super::flow::{Flow, Next};

/// A set of registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RegisterSet(u16);

impl RegisterSet {
    pub(crate) fn of(registers: impl IntoIterator<Item = Reg>) -> RegisterSet {
        RegisterSet(registers.into_iter().fold(0, |set, r| set | 1 << r.number()))
    }

    /// `r1` to `r5`.
    pub(crate) const ARGUMENTS: RegisterSet = RegisterSet(0b11_1110);

    /// Whether a register is in it.
    pub(crate) fn contains(self, register: Reg) -> bool {
        self.0 & 1 << register.number() != 0
    }

    pub(crate) fn union(self, other: RegisterSet) -> RegisterSet {
        RegisterSet(self.0 | other.0)
    }

    pub(crate) fn without(self, other: RegisterSet) -> RegisterSet {
        RegisterSet(self.0 & !other.0)
    }

    /// The registers, ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = Reg> {
        (0..Reg::COUNT as u8)
            .filter(move |number| self.0 & 1 << number != 0)
            .filter_map(Reg::new)
    }
}

/// What `function` takes over; `of_callee` says what its callees do.
pub(crate) fn inherited(
    function: &Function,
    flow: &Flow,
    of_callee: impl Fn(FunctionIndex) -> RegisterSet,
) -> RegisterSet {
    let passed = RegisterSet::of((1..=5).chain([10]).filter_map(Reg::new));
    // By instruction: the registers that were set, or passed, on every way to it.
    let mut set_before: Vec<Option<RegisterSet>> = vec![None; function.instructions.len()];
    let mut read_unset = RegisterSet::default();
    let mut work = vec![(InsnIndex(0), passed)];
    while let Some((index, set)) = work.pop() {
        let Some(before) = set_before.get_mut(index.index()) else {
            continue;
        };
        let met = RegisterSet(before.map_or(set.0, |before| before.0 & set.0));
        if *before == Some(met) {
            continue;
        }
        *before = Some(met);
        let op = function.instructions[index.index()].op;
        read_unset.0 |= reads(op, &of_callee).0 & !met.0;
        let after = RegisterSet(met.0 | writes(op).0);
        match flow.next(index) {
            None | Some(Next::Return) => {}
            Some(Next::One(to)) => work.push((to, after)),
            Some(Next::Two { taken, otherwise }) => work.extend([(taken, after), (otherwise, after)]),
        }
    }
    read_unset
}

/// The registers whose values `op` depends on; the arguments of calls are always passed and not counted.
pub(crate) fn reads(op: Instruction, of_callee: impl Fn(FunctionIndex) -> RegisterSet) -> RegisterSet {
    let operand = |operand: Operand| match operand {
        Operand::Reg(register) => Some(register),
        Operand::Imm(_) => None,
    };
    match op {
        Instruction::Alu {
            op: AluOp::Mov, src, ..
        } => RegisterSet::of(operand(src)),
        Instruction::Alu { dst, src, .. } | Instruction::JumpIf { dst, src, .. } => {
            RegisterSet::of(operand(src).into_iter().chain([dst]))
        }
        Instruction::Movsx { src, .. } => RegisterSet::of([src]),
        Instruction::Neg { dst, .. } | Instruction::ByteSwap { dst, .. } => RegisterSet::of([dst]),
        Instruction::Load { base, .. } => RegisterSet::of([base]),
        Instruction::Store { base, src, .. } => RegisterSet::of(operand(src).into_iter().chain([base])),
        Instruction::Atomic {
            op: AtomicOp::Cmpxchg,
            base,
            src,
            ..
        } => RegisterSet::of([base, src, Reg::R0]),
        Instruction::Atomic { base, src, .. } => RegisterSet::of([base, src]),
        Instruction::Exit => RegisterSet::of([Reg::R0]),
        Instruction::Call(Callee::Local(callee)) => of_callee(callee),
        Instruction::CallX(register) => RegisterSet::of([register]),
        Instruction::LegacyPacket { index, .. } => RegisterSet::of(index),
        Instruction::LoadImm64 { .. } | Instruction::Jump { .. } | Instruction::Call(_) => RegisterSet::default(),
    }
}

/// The registers whose value `op` replaces.
pub(super) fn writes(op: Instruction) -> RegisterSet {
    match op {
        Instruction::Alu { dst, .. }
        | Instruction::Movsx { dst, .. }
        | Instruction::Neg { dst, .. }
        | Instruction::ByteSwap { dst, .. }
        | Instruction::LoadImm64 { dst, .. }
        | Instruction::Load { dst, .. } => RegisterSet::of([dst]),
        Instruction::Atomic {
            op: AtomicOp::Cmpxchg, ..
        }
        | Instruction::Call(_)
        | Instruction::CallX(_) => RegisterSet::of([Reg::R0]),
        // An atomic operation that fetches reads what it writes, so it cannot make a register set that was not.
        _ => RegisterSet::default(),
    }
}
