//! Keeps the optimizer from computing everything as late as it could.
//!
//! Cranelift computes a pure value where it is first needed. A long computation whose result is needed late, such as a
//! checksum, would so move behind all the loads that it takes values from, and all of them would have to be kept until
//! then: in registers while there are some, on the stack afterwards. The bytecode does not have that problem: its compiler
//! made it fit ten registers. So where a register's pending computation takes more than [`MOST_INPUTS`] values, it
//! is *pinned*: a store, that nothing can remove, makes Cranelift compute the value where the bytecode does. After
//! optimization, before code is generated, the stores are deleted ([`compile`](mod@crate::compile)); the values stay where
//! they are.
//!
//! For the same reason what both ways of a branch need would be computed behind it, once on either way, and each time that a loop goes round
//! between its test and what it does. The bytecode's compiler knew better: what it computed before the branch, and both ways need, is pinned
//! before the branch ([`Pins::computed`]).
//!
//! Safe because: a pin adds a use of a value and takes it away again. Whether or where there are pins changes nothing but
//! the place of pure computations.

use bpf2sys_bytecode::{AluOp, AtomicOp, Instruction, Operand, Reg, WordSize};
use cranelift_codegen::ir::{AliasRegion, AliasRegionData, Inst, InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::reads::{Registers, registers_written};
use crate::body::{Node, Register};

/// Most values that a pending computation may take. Ordinary expressions have fewer, and all registers together
/// cannot keep more than some tens of values waiting.
const MOST_INPUTS: usize = 8;

/// Something that cannot be computed later: the result of a load, of a call, or of a pinned computation.
type Input = u32;

/// The inputs of the pending computation of a register, ascending.
#[derive(Clone, Copy, Default)]
struct Inputs {
    count: u8,
    all: [Input; MOST_INPUTS],
}

impl Inputs {
    fn one(input: Input) -> Inputs {
        let mut inputs = Inputs {
            count: 1,
            ..Inputs::default()
        };
        inputs.all[0] = input;
        inputs
    }

    fn as_slice(&self) -> &[Input] {
        &self.all[..usize::from(self.count)]
    }

    /// Both together; `None` if they are too many.
    fn union(&self, other: &Inputs) -> Option<Inputs> {
        let (mut a, mut b) = (self.as_slice(), other.as_slice());
        let mut both = Inputs::default();
        loop {
            let next = match (a.first(), b.first()) {
                (None, None) => return Some(both),
                (Some(x), Some(y)) => *x.min(y),
                (Some(x), None) | (None, Some(x)) => *x,
            };
            a = a.strip_prefix(&[next]).unwrap_or(a);
            b = b.strip_prefix(&[next]).unwrap_or(b);
            *both.all.get_mut(usize::from(both.count))? = next;
            both.count += 1;
        }
    }
}

/// The pins of a function, and what its registers wait for.
pub(super) struct Pins {
    /// By register; the last is `r10`.
    registers: [Inputs; Register::MOST + 1],
    /// The registers that were computed in this block.
    computed: Registers,
    next: Input,
    region: Option<AliasRegion>,
    /// The stores, to be deleted.
    pub(super) stores: Vec<Inst>,
}

impl Pins {
    pub(super) fn new() -> Pins {
        Pins {
            registers: [Inputs::default(); Register::MOST + 1],
            computed: Registers::default(),
            next: 0,
            region: None,
            stores: Vec::new(),
        }
    }

    fn fresh(&mut self) -> Inputs {
        self.next += 1;
        Inputs::one(self.next)
    }

    /// Another block begins.
    pub(super) fn begin_block(&mut self) {
        self.computed = Registers::default();
    }

    /// The registers whose values were computed in this block, and not only copied, loaded or addressed.
    pub(super) fn computed(&self) -> Registers {
        self.computed
    }

    /// Follows which registers are computed.
    fn compute(&mut self, node: &Node) {
        let of = |register: Reg| Register::of(register, node.frame);
        let is_computed = |register: Reg| of(register).is_some_and(|register| self.computed.contains(register));
        let stays = match node.op {
            Instruction::Alu {
                op: AluOp::Mov,
                src: Operand::Reg(src),
                ..
            } => is_computed(src),
            Instruction::Alu { op: AluOp::Mov, .. } => false,
            // Where accesses or others add it themselves.
            Instruction::Alu {
                size: WordSize::W64,
                op: AluOp::Add | AluOp::Sub,
                dst,
                src: Operand::Imm(_),
            } => is_computed(dst),
            Instruction::Alu { .. }
            | Instruction::Neg { .. }
            | Instruction::ByteSwap { .. }
            | Instruction::Movsx { .. } => true,
            _ => false,
        };
        let written = registers_written(node);
        self.computed = if stays {
            self.computed.union(written)
        } else {
            self.computed.without(written)
        };
    }

    /// Follows what a node does. True if its result is to be pinned.
    pub(super) fn step(&mut self, node: &Node) -> bool {
        self.compute(node);
        let at = |register: Reg| Register::of(register, node.frame).map_or(Register::MOST, Register::index);
        let mut computed = |dst: Reg, src: Operand| {
            let a = self.registers[at(dst)];
            let b = match src {
                Operand::Reg(src) => self.registers[at(src)],
                Operand::Imm(_) => Inputs::default(),
            };
            let union = a.union(&b);
            self.registers[at(dst)] = union.unwrap_or_else(|| self.fresh());
            union.is_none()
        };
        match node.op {
            Instruction::Alu {
                op: AluOp::Mov,
                dst,
                src,
                ..
            } => {
                self.registers[at(dst)] = match src {
                    Operand::Reg(src) => self.registers[at(src)],
                    Operand::Imm(_) => Inputs::default(),
                };
            }
            Instruction::Alu { dst, src, .. } => return computed(dst, src),
            Instruction::Movsx { dst, src, .. } => self.registers[at(dst)] = self.registers[at(src)],
            Instruction::LoadImm64 { dst, .. } => self.registers[at(dst)] = Inputs::default(),
            Instruction::Load { dst, base, .. } => {
                self.used(at(base));
                self.registers[at(dst)] = self.fresh();
            }
            Instruction::Store { base, src, .. } => {
                self.used(at(base));
                self.used_operand(src, at);
            }
            Instruction::Atomic { op, base, src, .. } => {
                self.used(at(base));
                self.registers[at(src)] = self.fresh();
                if op == AtomicOp::Cmpxchg {
                    self.registers[0] = self.fresh();
                }
            }
            Instruction::JumpIf { dst, src, .. } => {
                self.used(at(dst));
                self.used_operand(src, at);
            }
            Instruction::Call(_) | Instruction::CallX(_) | Instruction::LegacyPacket { .. } => {
                self.registers[0] = self.fresh();
                for register in 1..=5 {
                    self.registers[register] = Inputs::default();
                }
            }
            Instruction::Neg { .. } | Instruction::ByteSwap { .. } | Instruction::Jump { .. } | Instruction::Exit => {}
        }
        false
    }

    /// The register's value is needed here, so it waits no longer.
    fn used(&mut self, register: usize) {
        if self.registers[register].count > 1 {
            self.registers[register] = self.fresh();
        }
    }

    fn used_operand(&mut self, operand: Operand, at: impl Fn(Reg) -> usize) {
        if let Operand::Reg(register) = operand {
            self.used(at(register));
        }
    }

    /// Makes `value` needed here. The stores go to a region of memory of their own, so that they do not come between other
    /// accesses, and each to another address, so that none makes another superfluous.
    pub(super) fn pin(&mut self, builder: &mut FunctionBuilder<'_>, value: Value) {
        let region = *self.region.get_or_insert_with(|| {
            builder.func.dfg.alias_regions.insert(AliasRegionData {
                user_id: 0,
                description: "pins".into(),
            })
        });
        let flags = MemFlagsData::trusted().with_alias_region(Some(region));
        let nowhere = builder.ins().iconst(types::I64, 0);
        let offset = 8 * self.stores.len() as i32;
        self.stores.push(builder.ins().store(flags, value, nowhere, offset));
    }
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{AluOp, Instruction, Operand, Width};

    use super::{MOST_INPUTS, Pins};
    use crate::body::NodeIndex;
    use crate::testing::{alu, body, load, mov_reg, r, store};

    fn step(pins: &mut Pins, op: Instruction) -> bool {
        pins.step(body(&[op]).node(NodeIndex(0)))
    }

    #[test]
    fn a_sum_is_pinned_when_it_waits_for_too_many_loads() {
        let mut pins = Pins::new();
        let mut pinned = Vec::new();
        for term in 0..4 * MOST_INPUTS {
            step(&mut pins, load(Width::W, 1, 9, 0));
            if step(&mut pins, alu(AluOp::Add, 0, Operand::Reg(r(1)))) {
                pinned.push(term);
            }
        }
        // A pinned sum is an input itself.
        assert_eq!(pinned, [8, 16, 24]);
    }

    #[test]
    fn what_is_needed_anyway_or_comes_from_few_loads_is_not_pinned() {
        let mut pins = Pins::new();
        step(&mut pins, load(Width::W, 1, 9, 0));
        for _ in 0..100 {
            assert!(!step(&mut pins, alu(AluOp::Add, 0, Operand::Reg(r(1)))));
            assert!(!step(&mut pins, mov_reg(2, 0)));
        }
        for _ in 0..100 {
            step(&mut pins, load(Width::W, 1, 9, 0));
            assert!(!step(&mut pins, alu(AluOp::Add, 0, Operand::Reg(r(1)))));
            step(&mut pins, store(Width::Dw, 10, -8, Operand::Reg(r(0))));
        }
    }
}
