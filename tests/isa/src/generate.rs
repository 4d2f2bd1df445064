//! Random valid programs, the same for the same seed.
//!
//! A program is valid when it reads only what was written on every way there, accesses only its memory and its stack,
//! computes with no address and ends. Its result and its memory then depend on nothing but the program and the memory it
//! is given, so every engine must agree on them; and a verifier can see that it is valid, because pointers stay in known
//! registers and are moved by constants and masked numbers only. What it computes is folded into the result.

mod calls;
mod memory;
mod plan;
mod state;
mod steps;
mod writer;

use bpf2sys_bytecode::{Function, FunctionKind, Insn, Instruction, Module};

use crate::Case;
use crate::random::Random;
use plan::Plan;
pub use plan::Taste;
use writer::Writer;

/// Program `index` of the run with this `seed`.
pub fn generate(seed: u64, index: u64, taste: Taste) -> Case {
    let mut random = Random::of(seed, index);
    let plan = Plan::draw(&mut random, taste);
    let mut constants = Vec::new();
    let mut functions = Vec::new();
    for function in 0..plan.signatures.len() {
        let mut writer = Writer::begin(&mut random, &plan, function);
        // Every function is called: each calls the next one somewhere.
        let before = writer.random.below(plan.lengths[function]);
        writer.steps(before);
        writer.place_all();
        let next = function + 1;
        if next < plan.signatures.len() {
            writer.calls_left = writer.calls_left.max(1);
            writer.call(next);
        }
        writer.steps(plan.lengths[function] - before);
        let (code, pool) = writer.finish();
        constants.extend(pool.map(|pool| pool.values));
        functions.push(code);
    }
    let mut memory: Vec<u8> = (0..plan.memory / 8)
        .flat_map(|_| random.number().to_le_bytes())
        .collect();
    memory.extend(constants.into_iter().flatten().flat_map(u64::to_le_bytes));
    if taste.checked {
        memory.resize(plan.memory_bytes() as usize, 0);
    }
    Case {
        module: module(functions),
        memory,
    }
}

/// A module of bare functions, of which the first is the program.
pub(crate) fn module(functions: Vec<Vec<Instruction>>) -> Module {
    let function = |(index, code): (usize, Vec<Instruction>)| {
        let (name, kind) = match index {
            0 => ("program".to_owned(), FunctionKind::Program),
            _ => (format!("function{index}"), FunctionKind::Subprogram),
        };
        Function {
            name,
            section: "program".to_owned(),
            section_offset: 0,
            kind,
            instructions: Insn::sequence(code),
        }
    };
    Module {
        name: "program".to_owned(),
        hash: None,
        functions: functions.into_iter().enumerate().map(function).collect(),
        maps: Vec::new(),
        globals: Vec::new(),
        btf_functions: Vec::new(),
        lines: Vec::new(),
        unresolved: Vec::new(),
        types: bpf2sys_bytecode::DataTypes::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bpf2sys_bytecode::{AluOp, Callee, Instruction, Operand, WordSize};

    use super::{Taste, generate};
    use crate::{Case, Engine, StrictInterpreter};

    const WHOLE: Taste = Taste {
        linux: false,
        checked: false,
        helpers: true,
    };

    fn tastes() -> [Taste; 3] {
        let linux = Taste {
            linux: true,
            helpers: false,
            ..WHOLE
        };
        [WHOLE, linux, Taste { checked: true, ..linux }]
    }

    fn instructions(case: &Case) -> impl Iterator<Item = Instruction> {
        case.module
            .functions
            .iter()
            .flat_map(|f| &f.instructions)
            .map(|insn| insn.op)
    }

    #[test]
    fn programs_depend_on_nothing_undefined_and_on_no_address() {
        let (mut here, mut there) = (StrictInterpreter::default(), StrictInterpreter::at(0x1238, 0x7712_3450));
        for taste in tastes() {
            let cases: Vec<Case> = (0..400).map(|index| generate(7, index, taste)).collect();
            for (index, (a, b)) in here.run(&cases).into_iter().zip(there.run(&cases)).enumerate() {
                assert!(a.is_ok(), "{taste:?} {index}: {a:?}");
                assert_eq!(a, b, "{taste:?} {index}");
            }
        }
    }

    #[test]
    fn every_instruction_is_generated_in_every_form() {
        let form = |op| -> String {
            let operand = |operand| {
                if matches!(operand, Operand::Reg(_)) {
                    "register"
                } else {
                    "immediate"
                }
            };
            match op {
                Instruction::Alu { size, op, src, .. } => format!("{size:?} {op:?} {}", operand(src)),
                Instruction::Movsx { size, from, .. } => format!("{size:?} movsx {from:?}"),
                Instruction::Neg { size, .. } => format!("{size:?} neg"),
                Instruction::ByteSwap { kind, width, .. } => format!("{kind:?} {width:?}"),
                Instruction::LoadImm64 { .. } => "lddw".to_owned(),
                Instruction::Load { width, signed, .. } => format!("load {width:?} {signed}"),
                Instruction::Store { width, src, .. } => format!("store {width:?} {}", operand(src)),
                Instruction::Atomic { size, op, .. } => format!("{size:?} {op:?}"),
                Instruction::Jump { size, .. } => format!("{size:?} jump"),
                Instruction::JumpIf {
                    size, condition, src, ..
                } => format!("{size:?} {condition:?} {}", operand(src)),
                Instruction::Call(Callee::Local(_)) => "local call".to_owned(),
                Instruction::Call(callee) => format!("{callee:?}"),
                Instruction::Exit => "exit".to_owned(),
                other => panic!("{other}"),
            }
        };
        let cases: Vec<Case> = (0..1500).map(|index| generate(3, index, WHOLE)).collect();
        let found: BTreeSet<String> = cases.iter().flat_map(instructions).map(form).collect();
        // 14 operations, 11 conditions: two sizes, two operands. Moves: 5. Negations, jumps: 2 each. Byte swaps: 9. Loads: 7,
        // stores: 8. Atomics: 10, two sizes. Helpers: 3. lddw, local call, exit.
        let expected = 14 * 4 + 11 * 4 + 5 + 2 + 2 + 9 + 7 + 8 + 20 + 3 + 3;
        assert_eq!(found.len(), expected, "{found:#?}");
        assert!(cases.iter().any(|case| case.module.functions.len() == 8));
    }

    #[test]
    fn immediates_that_linux_refuses_are_generated_unless_they_are_not_wanted() {
        let odd = |op: &Instruction| match *op {
            Instruction::Alu {
                size,
                op,
                src: Operand::Imm(imm),
                ..
            } => match op {
                AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => {
                    let bits = if size == WordSize::W32 { 32 } else { 64 };
                    !(0..bits).contains(&imm)
                }
                AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod => imm == 0,
                _ => false,
            },
            _ => false,
        };
        let [whole, linux, checked] = tastes().map(|taste| {
            (0..1000)
                .flat_map(|i| instructions(&generate(5, i, taste)).collect::<Vec<_>>())
                .filter(odd)
                .count()
        });
        assert!(whole > 100, "{whole}");
        assert_eq!((linux, checked), (0, 0));
    }
}
