//! Where pointers come from inside a function, as far as the rules ask.
//!
//! Given: a function. Computed: the [`Origin`] of each register at each instruction. A value that went through memory, a
//! call or another function has none, and is marked as such. A section is what some path gives; arithmetic is what every path
//! has done; maps are all that any path gives.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{
    AluOp, AtomicOp, Callee, Function, FunctionKind, GlobalIndex, Imm64, Instruction, MapIndex, Module, Operand, Reg,
    WordSize,
};

use crate::flow::forward;

/// Where the value of a register comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::prevail) struct Origin {
    /// On every path it is a sum or difference that this function has computed, or a copy of one.
    pub computed: bool,
    /// A read-only global section that it points into on some path.
    pub read_only: Option<GlobalIndex>,
    /// On some path it came from memory, from a caller or from another function of the module, so that it can be a pointer to one
    /// of the sections that got there: see [`escaped`].
    pub elsewhere: bool,
    /// It is one of these maps.
    pub maps: Option<Maps>,
}

/// A few maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::prevail) struct Maps {
    /// Ascending; those behind `count` mean nothing and are 0.
    maps: [u32; Maps::MOST],
    count: usize,
}

impl Maps {
    /// A register that may be more maps than this is not followed.
    const MOST: usize = 8;

    fn one(map: MapIndex) -> Maps {
        let mut maps = [0; Maps::MOST];
        maps[0] = map.0;
        Maps { maps, count: 1 }
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = MapIndex> + '_ {
        self.maps.iter().take(self.count).map(|map| MapIndex(*map))
    }

    /// The maps of both, if they are few.
    fn union(self, other: Maps) -> Option<Maps> {
        let mut all: Vec<u32> = self.iter().chain(other.iter()).map(|map| map.0).collect();
        all.sort_unstable();
        all.dedup();
        let mut maps = [0; Maps::MOST];
        maps.get_mut(..all.len())?.copy_from_slice(&all);
        let count = all.len();
        Some(Maps { maps, count })
    }
}

pub(in crate::prevail) type Origins = [Origin; Reg::COUNT];

/// The origins before each instruction of a function.
pub(in crate::prevail) fn origins(module: &Module, function: &Function) -> Vec<Origins> {
    let mut entry = Origins::default();
    if function.kind == FunctionKind::Subprogram {
        entry = [ELSEWHERE; Reg::COUNT];
        entry[Reg::R10.index()] = Origin::default();
    }
    let before = forward(function, entry, join, |op, origins| step(module, op, origins));
    before.into_iter().map(Option::unwrap_or_default).collect()
}

const ELSEWHERE: Origin = Origin {
    computed: false,
    read_only: None,
    elsewhere: true,
    maps: None,
};

/// The read-only sections a pointer to which a function stores, passes to another function of the module or returns.
///
/// Only what was on the stack is a pointer again when it is loaded, so this is how a pointer gets to where [`origins`] does not
/// follow it.
pub(in crate::prevail) fn escaped<'a>(
    function: &'a Function,
    origins: &'a [Origins],
) -> impl Iterator<Item = GlobalIndex> + use<'a> {
    let of = |insn: Instruction| match insn {
        Instruction::Store {
            src: Operand::Reg(src), ..
        }
        | Instruction::Atomic { src, .. } => src.index()..src.index() + 1,
        Instruction::Call(Callee::Local(_)) => 0..Reg::COUNT,
        Instruction::Exit => 0..1,
        _ => 0..0,
    };
    let instructions = function.instructions.iter().zip(origins);
    let sections =
        instructions.flat_map(move |(insn, origins)| origins[of(insn.op)].iter().filter_map(|o| o.read_only));
    sections.collect::<BTreeSet<_>>().into_iter()
}

fn join(a: Origin, b: Origin) -> Origin {
    Origin {
        computed: a.computed && b.computed,
        elsewhere: a.elsewhere || b.elsewhere,
        read_only: match (a.read_only, b.read_only) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        },
        maps: match (a.maps, b.maps) {
            (Some(a), Some(b)) => a.union(b),
            _ => None,
        },
    }
}

fn step(module: &Module, op: Instruction, mut origins: Origins) -> Origins {
    match op {
        Instruction::Alu {
            size: WordSize::W64,
            op: AluOp::Mov,
            dst,
            src: Operand::Reg(src),
        } => origins[dst.index()] = origins[src.index()],
        // Nothing is computed.
        Instruction::Alu {
            size: WordSize::W64,
            op: AluOp::Add | AluOp::Sub,
            src: Operand::Imm(0),
            ..
        } => {}
        Instruction::Alu {
            size: WordSize::W64,
            op: op @ (AluOp::Add | AluOp::Sub),
            dst,
            src,
        } => {
            let added = match src {
                Operand::Reg(src) if op == AluOp::Add => origins[src.index()],
                _ => Origin::default(),
            };
            let to = origins[dst.index()];
            origins[dst.index()] = Origin {
                computed: true,
                read_only: to.read_only.or(added.read_only),
                elsewhere: to.elsewhere || added.elsewhere,
                maps: None,
            };
        }
        Instruction::LoadImm64 { dst, value } => {
            origins[dst.index()] = Origin {
                computed: false,
                elsewhere: false,
                read_only: match value {
                    Imm64::Global { section, .. } => {
                        let global = module.globals.get(section.index());
                        global.filter(|g| g.read_only).map(|_| section)
                    }
                    _ => None,
                },
                maps: match value {
                    Imm64::Map(map) => Some(Maps::one(map)),
                    _ => None,
                },
            };
        }
        Instruction::Alu { dst, .. }
        | Instruction::Movsx { dst, .. }
        | Instruction::Neg { dst, .. }
        | Instruction::ByteSwap { dst, .. } => origins[dst.index()] = Origin::default(),
        Instruction::Load { dst, .. } => origins[dst.index()] = ELSEWHERE,
        // The source of an atomic operation is a number, and so is what it gives.
        Instruction::Atomic {
            op: AtomicOp::Cmpxchg, ..
        } => origins[Reg::R0.index()] = Origin::default(),
        Instruction::Call(callee) => {
            origins[..6].fill(Origin::default());
            if matches!(callee, Callee::Local(_)) {
                origins[0] = ELSEWHERE;
            }
        }
        Instruction::CallX(_) | Instruction::LegacyPacket { .. } => origins[..6].fill(Origin::default()),
        Instruction::Atomic { .. }
        | Instruction::Store { .. }
        | Instruction::Jump { .. }
        | Instruction::JumpIf { .. }
        | Instruction::Exit => {}
    }
    origins
}
