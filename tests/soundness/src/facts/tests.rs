//! A wrong fact of each kind is found.

use bpf2sys_bytecode::{
    AluOp, Callee, Condition, Function, FunctionIndex, FunctionKind, GlobalIndex, GlobalSection, Imm64, Insn,
    InsnIndex, Instruction, Map, MapDefinition, MapIndex, MapOrigin, Module, Operand, Reg, Width, WordSize,
};
use bpf2sys_simulator::interpreter::{Entry, Options, Undefined, interpret};
use bpf2sys_verifier::{
    Branch, FunctionFacts, Interval, Object, RegisterFact, RegisterKind, StackAccess, Through, VerifiedModule, verify,
};

use super::FactJudge;
use crate::judge::hints;
use crate::platforms::platform;
use crate::world::{Checked, Input};

fn reg(number: u8) -> Reg {
    Reg::new(number).expect("a register")
}

fn alu(op: AluOp, dst: u8, src: Operand) -> Instruction {
    Instruction::Alu {
        size: WordSize::W64,
        op,
        dst: reg(dst),
        src,
    }
}

fn copy(dst: u8, src: u8) -> Instruction {
    alu(AluOp::Mov, dst, Operand::Reg(reg(src)))
}

fn imm(op: AluOp, dst: u8, value: i32) -> Instruction {
    alu(op, dst, Operand::Imm(value))
}

fn load(width: Width, dst: u8, base: u8, offset: i16) -> Instruction {
    Instruction::Load {
        width,
        signed: false,
        dst: reg(dst),
        base: reg(base),
        offset,
    }
}

fn store(width: Width, base: u8, offset: i16, src: Operand) -> Instruction {
    Instruction::Store {
        width,
        base: reg(base),
        offset,
        src,
    }
}

fn jump(condition: Condition, dst: u8, src: Operand, offset: i16) -> Instruction {
    Instruction::JumpIf {
        size: WordSize::W64,
        condition,
        dst: reg(dst),
        src,
        offset,
    }
}

fn lddw(dst: u8, value: Imm64) -> Instruction {
    Instruction::LoadImm64 { dst: reg(dst), value }
}

/// Everything that there are facts of. Offsets of jumps count slots.
fn module() -> Module {
    let program = [
        copy(6, 1),                                       // 0
        load(Width::Dw, 2, 6, 0),                         // 1: data
        load(Width::Dw, 3, 6, 8),                         // 2: data_end
        copy(4, 2),                                       // 3
        imm(AluOp::Add, 4, 14),                           // 4
        jump(Condition::Gt, 4, Operand::Reg(reg(3)), 24), // 5: to the end
        load(Width::B, 7, 2, 13),                         // 6
        store(Width::W, 10, -4, Operand::Imm(0)),         // 7
        copy(2, 10),                                      // 8
        imm(AluOp::Add, 2, -4),                           // 9
        lddw(1, Imm64::Map(MapIndex(0))),                 // 10, 2 slots
        Instruction::Call(Callee::Helper(1)),             // 11
        jump(Condition::Eq, 0, Operand::Imm(0), 16),      // 12: to the end
        load(Width::Dw, 8, 0, 0),                         // 13
        imm(AluOp::Add, 7, 1),                            // 14: 1 to 256
        alu(AluOp::Div, 8, Operand::Reg(reg(7))),         // 15
        jump(Condition::Gt, 7, Operand::Imm(256), 12),    // 16: never
        store(Width::Dw, 10, -16, Operand::Reg(reg(8))),  // 17
        load(Width::Dw, 8, 10, -16),                      // 18
        lddw(
            9,
            Imm64::Global {
                section: GlobalIndex(0),
                offset: 4,
            },
        ), // 19, 2 slots
        load(Width::W, 1, 9, 0),                          // 20
        jump(Condition::Gt, 7, Operand::Imm(16), 0),      // 21: both ways to the next
        imm(AluOp::And, 7, 31),                           // 22
        alu(AluOp::Lsh, 8, Operand::Reg(reg(7))),         // 23
        copy(2, 10),                                      // 24
        imm(AluOp::Add, 2, -24),                          // 25
        copy(1, 7),                                       // 26
        Instruction::Call(Callee::Local(FunctionIndex(1))), // 27
        imm(AluOp::Mov, 0, 0),                            // 28
        Instruction::Exit,                                // 29
    ];
    let subprogram = [
        store(Width::Dw, 2, 0, Operand::Reg(reg(1))),
        imm(AluOp::Mov, 0, 7),
        Instruction::Exit,
    ];
    let function = |name: &str, section: &str, kind, ops: &[Instruction]| Function {
        name: name.to_owned(),
        section: section.to_owned(),
        section_offset: 0,
        kind,
        instructions: Insn::sequence(ops.iter().copied()),
    };
    let map = |name: &str, map_type, value_size, origin| Map {
        name: name.to_owned(),
        definition: MapDefinition {
            map_type,
            key_size: 4,
            value_size,
            max_entries: 4,
            ..MapDefinition::default()
        },
        inner: None,
        origin,
        flags: 0,
        initial_values: Vec::new(),
    };
    Module {
        name: "facts".to_owned(),
        hash: None,
        functions: vec![
            function("program", "xdp", FunctionKind::Program, &program),
            function("subprogram", ".text", FunctionKind::Subprogram, &subprogram),
        ],
        maps: vec![
            map("one", 2, 8, MapOrigin::Btf),
            map("two", 2, 8, MapOrigin::Btf),
            map(".bss", 2, 8, MapOrigin::Global(GlobalIndex(0))),
        ],
        globals: vec![GlobalSection {
            section: ".bss".to_owned(),
            map: MapIndex(2),
            data: vec![0; 8],
            read_only: false,
        }],
        btf_functions: Vec::new(),
        lines: Vec::new(),
        unresolved: Vec::new(),
        types: bpf2sys_bytecode::DataTypes::default(),
    }
}

/// What the judge finds in runs on many inputs.
fn found(proof: &VerifiedModule, facts: &[FunctionFacts]) -> Option<String> {
    let module = proof.module();
    let program = FunctionIndex(0);
    let program_type = &proof.programs()[0].program_type;
    let hints = hints(module);
    (0..200_u64).find_map(|number| {
        let input = Input {
            contents: number.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            addresses: number,
        };
        let mut world = Checked::new(module, program, platform(), program_type, None, &hints, input);
        world.judged_by(FactJudge::of(module, facts.iter().collect()));
        let entry = Entry::new(program, &[world.regions().context.start], world.regions().stack_end);
        let options = Options {
            undefined: Undefined::Tracked,
            max_steps: 1000,
        };
        let outcome = interpret(module, &entry, &mut world, options).expect("the program is safe");
        world.returned(program, outcome.r0);
        world.violation().map(|violation| violation.to_string())
    })
}

/// A change of the facts of the program, and of those of the subprogram.
type Change = fn(&mut FunctionFacts, &mut FunctionFacts);

fn change(facts: &mut FunctionFacts, index: u32, register: u8, with: fn(&mut RegisterFact)) {
    let mut fact = facts.register(InsnIndex(index), reg(register));
    let before = fact;
    with(&mut fact);
    assert_ne!(fact, before, "r{register} at {index} is known");
    facts.replace(InsnIndex(index), reg(register), fact);
}

#[test]
fn a_wrong_fact_of_each_kind_is_found() {
    let proof = verify(module(), platform(), &bpf2sys_verifier::Options::default()).expect("the program is safe");
    let facts = [0, 1].map(|function| proof.facts(FunctionIndex(function)).clone());
    assert_eq!(found(&proof, &facts), None);
    let changes: &[(&str, Change)] = &[
        ("reachable", |f, _| f.instructions[20].reachable = false),
        ("branch", |f, _| f.instructions[12].branch = Branch::NeverTaken),
        ("dead edge", |f, _| f.instructions[16].branch = Branch::AlwaysTaken),
        ("map of a call", |f, _| f.instructions[11].map = Some(MapIndex(1))),
        ("packet size", |f, _| f.instructions[6].packet_bytes += 1),
        ("returned by a function", |_, g| g.returns = Interval { min: 8, max: 8 }),
        ("returned by a program", |f, _| f.returns = Interval { min: 1, max: 1 }),
        ("signed range", |f, _| change(f, 14, 7, |r| r.signed.max = 3)),
        ("unsigned range", |f, _| {
            change(f, 15, 7, |r| r.unsigned = Some((2, 256)));
        }),
        ("kind", |f, _| change(f, 14, 7, |r| r.kind = RegisterKind::Map)),
        ("not null", |f, _| change(f, 12, 0, |r| r.non_null = true)),
        ("offset in the context", |f, _| {
            change(f, 1, 6, |r| r.offset = Some((1, 1)));
        }),
        ("room in the context", |f, _| change(f, 1, 6, |r| r.room += 1)),
        ("offset in the packet", |f, _| {
            change(f, 5, 4, |r| r.offset = Some((13, 13)));
        }),
        ("room in the packet", |f, _| change(f, 6, 2, |r| r.room += 1)),
        ("offset in a map value", |f, _| {
            change(f, 13, 0, |r| r.offset = Some((1, 1)));
        }),
        ("room in a map value", |f, _| change(f, 13, 0, |r| r.room += 1)),
        ("map of a value", |f, _| {
            change(f, 13, 0, |r| r.object = Some(Object::Map(MapIndex(1))));
        }),
        ("section", |f, _| {
            change(f, 20, 9, |r| r.object = Some(Object::Map(MapIndex(0))));
        }),
        ("offset in a section", |f, _| {
            change(f, 20, 9, |r| r.offset = Some((0, 0)));
        }),
        ("map", |f, _| {
            change(f, 11, 1, |r| r.object = Some(Object::Map(MapIndex(1))));
        }),
        ("stack offset", |f, _| change(f, 11, 2, |r| r.stack_offset = Some(-8))),
        ("range of a stack offset", |f, _| {
            change(f, 11, 2, |r| r.offset = Some((-8, -5)));
        }),
        ("room in the stack", |f, _| change(f, 11, 2, |r| r.room += 1)),
        // The frame: -4 is a key, -16 is private, -24 is written by the subprogram.
        ("escape to a helper", |f, _| {
            frame(f).escapes.retain(|e| e.by != Through::Callee);
        }),
        ("escape to a function", |f, _| {
            frame(f).escapes.retain(|e| e.by != Through::Subprogram);
        }),
        ("bytes that escape", |f, _| {
            for escape in &mut frame(f).escapes {
                escape.bytes.0 += 1;
            }
        }),
        ("written by a callee", |f, _| {
            for escape in &mut frame(f).escapes {
                escape.writes = false;
            }
        }),
        ("private", |f, _| {
            for slot in &mut frame(f).slots {
                slot.private = true;
            }
        }),
        ("access", |f, _| frame(f).accesses.retain(|access| access.offset != -16)),
        ("place of an access", |f, _| {
            for StackAccess { offset, .. } in &mut frame(f).accesses {
                *offset -= 4;
            }
        }),
        ("width of an access", |f, _| frame(f).accesses[0].width = 2),
        ("written before read", |f, _| {
            frame(f).accesses.retain(|access| access.at != InsnIndex(17));
            frame(f).escapes.push(bpf2sys_verifier::StackEscape {
                at: InsnIndex(17),
                bytes: (-16, -8),
                by: Through::Pointer,
                writes: true,
            });
            frame(f).slots.iter_mut().for_each(|slot| slot.private = false);
        }),
    ];
    for (name, change) in changes {
        let [mut program, mut subprogram] = facts.clone();
        change(&mut program, &mut subprogram);
        assert!(found(&proof, &[program, subprogram]).is_some(), "{name}");
    }
}

fn frame(facts: &mut FunctionFacts) -> &mut bpf2sys_verifier::FrameFacts {
    facts.frame.as_deref_mut().expect("the frame is known")
}
