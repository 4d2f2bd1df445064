//! Holes that are made on purpose, to see that they are found.
//!
//! Either the verifier is told something untrue (of the platform, or of the program's maps), or what runs is not quite what it saw.
//! Facts are not judged: it is the misbehaviour that must be seen.

use std::sync::Arc;

use bpf2sys_bytecode::{AluOp, Condition, Instruction, Map, MapOrigin, Module, Operand, Reg, WordSize};
use bpf2sys_platform::{Helper, MapValueKind, Platform, ProgramType};
use bpf2sys_verifier::Verifier;

use crate::generate::generate;
use crate::judge::{Change, Hole, Judge, Verdict};
use crate::sweep::inputs_of;

/// A hole.
#[derive(Clone, Copy)]
pub struct Plant {
    /// What is wrong.
    pub name: &'static str,
    wrong: Wrong,
}

/// Who is wrong.
#[derive(Clone, Copy)]
enum Wrong {
    /// The verifier is told this of the platform.
    Told(fn(&mut Platform)),
    /// The verifier sees this of the module.
    Sees(fn(&mut Module)),
    /// This runs instead of an instruction.
    Runs(Change),
}

const fn told(name: &'static str, change: fn(&mut Platform)) -> Plant {
    let wrong = Wrong::Told(change);
    Plant { name, wrong }
}

const fn sees(name: &'static str, change: fn(&mut Module)) -> Plant {
    let wrong = Wrong::Sees(change);
    Plant { name, wrong }
}

const fn runs(name: &'static str, change: Change) -> Plant {
    let wrong = Wrong::Runs(change);
    Plant { name, wrong }
}

/// All of them.
pub const PLANTS: [Plant; 19] = [
    told("the context is 8 bytes larger", |told| {
        types(told, |t| t.context.size += 8);
    }),
    told("loops need not end", |told| {
        told.verifier_options.check_for_termination = false;
    }),
    told("a frame has 520 bytes", |told| told.limits.subprogram_stack_bytes = 520),
    told("types that are not privileged are", |told| {
        types(told, |t| t.is_privileged = true);
    }),
    told("metadata that is always null is there", |told| {
        types(told, |t| t.context.data_meta_null = false);
    }),
    told("the packet stays where it is", |told| {
        helpers(told, |h| h.reallocate_packet = false);
    }),
    told("what is popped does not overwrite anything", |told| {
        helpers(told, |h| h.writes_readable.clear());
    }),
    told("memory that a helper reads is a number", |told| {
        helpers(told, |h| replace(h, &[9, 10], 1));
    }),
    told("memory that a helper writes is a number", |told| {
        helpers(told, |h| replace(h, &[11], 1));
    }),
    told("keys are numbers", |told| {
        helpers(told, |h| replace(h, &[7], 1));
    }),
    told("maps in maps are plain memory", |told| {
        for map_type in &mut told.map_types {
            if map_type.verifier_value_kind == MapValueKind::Map {
                map_type.verifier_value_kind = MapValueKind::Any;
            }
        }
    }),
    sees("values of maps have 8 bytes more", |module| {
        maps(module, |map| map.definition.value_size += 8);
    }),
    sees("keys of maps have a byte less", |module| {
        maps(module, |map| {
            map.definition.key_size = map.definition.key_size.saturating_sub(1).max(1);
        });
    }),
    sees("constants are variables", |module| {
        for global in &mut module.globals {
            global.read_only = false;
        }
    }),
    runs("no pointer is checked for null", |_, _, op| match op {
        Instruction::JumpIf {
            condition: Condition::Eq,
            src: Operand::Imm(0),
            ..
        } => Some(NOTHING),
        _ => None,
    }),
    runs("checks of the packet's end are a byte short", |function, at, op| {
        let next = function.instructions.get(at.index() + 1).map(|insn| insn.op);
        match (op, next) {
            (
                Instruction::Alu {
                    size: WordSize::W64,
                    op: AluOp::Add,
                    dst,
                    src: Operand::Imm(imm),
                },
                Some(Instruction::JumpIf {
                    src: Operand::Reg(_), ..
                }),
            ) if imm > 0 => Some(Instruction::Alu {
                size: WordSize::W64,
                op: AluOp::Add,
                dst,
                src: Operand::Imm(imm - 1),
            }),
            _ => None,
        }
    }),
    runs("indices may be greater by one", |_, _, op| match op {
        Instruction::JumpIf {
            size,
            condition: condition @ (Condition::Gt | Condition::Ge),
            dst,
            src: Operand::Imm(imm),
            offset,
        } => Some(Instruction::JumpIf {
            size,
            condition,
            dst,
            src: Operand::Imm(imm.wrapping_add(1)),
            offset,
        }),
        _ => None,
    }),
    runs("words of the stack are not written", |_, _, op| match op {
        Instruction::Store {
            base: Reg::R10,
            src: Operand::Imm(_),
            ..
        } => Some(NOTHING),
        _ => None,
    }),
    runs("loops go around forever", |_, _, op| match op {
        Instruction::JumpIf { offset, .. } if offset < 0 => Some(Instruction::Jump {
            size: WordSize::W64,
            offset: offset.into(),
        }),
        _ => None,
    }),
];

/// An instruction without effect.
const NOTHING: Instruction = Instruction::Jump {
    size: WordSize::W64,
    offset: 0,
};

impl Plant {
    /// A judge with the hole.
    pub fn judge(&self) -> Judge {
        let mut judge = Judge {
            facts: false,
            ..Judge::default()
        };
        match self.wrong {
            Wrong::Told(change) => change(&mut judge.told),
            Wrong::Sees(change) => judge.sees = Some(change),
            Wrong::Runs(change) => judge.runs = Some(change),
        }
        judge
    }

    /// The number of programs until it is found, and what is found; `None` if that are more than `most`.
    pub fn find(&self, verifier: Verifier, seed: u64, most: u64) -> Option<(u64, Hole)> {
        let by = |judge| Judge { verifier, ..judge };
        let (judge, honest) = (by(self.judge()), by(Judge::default()));
        (0..most).find_map(|index| {
            let module = generate(seed, index).module;
            let found = |judge: &Judge| match judge.judge(&module, inputs_of(seed, index)).verdict {
                Verdict::Hole(hole) => Some(hole),
                _ => None,
            };
            // What is found without it as well is another hole.
            found(&judge)
                .filter(|_| found(&honest).is_none())
                .map(|hole| (index + 1, hole))
        })
    }
}

fn types(told: &mut Platform, change: impl Fn(&mut ProgramType)) {
    for program_type in &mut told.program_types {
        change(Arc::make_mut(program_type));
    }
}

fn helpers(told: &mut Platform, change: impl Fn(&mut Helper)) {
    for helper in &mut told.helpers {
        change(helper);
    }
    types(told, |program_type| {
        for helper in &mut program_type.helpers {
            change(helper);
        }
    });
}

/// Replaces arguments of these classes and, of memory, its size.
fn replace(helper: &mut Helper, classes: &[u32], by: u32) {
    for i in 0..helper.arguments.len() {
        if classes.contains(&helper.arguments[i]) {
            helper.arguments[i] = by;
            if let Some(size @ (2 | 3)) = helper.arguments.get_mut(i + 1) {
                *size = by;
            }
        }
    }
}

fn maps(module: &mut Module, change: impl Fn(&mut Map)) {
    for map in &mut module.maps {
        if !matches!(map.origin, MapOrigin::Global(_)) && map.definition.key_size > 0 {
            change(map);
        }
    }
}
