//! What a rejected program is told: the violation, the registers, and the path.

use std::fmt::Write;
use std::path::Path;

use bpf2sys_bytecode::{AluOp, Condition, Instruction, Operand, Reg, Width, WordSize};
use bpf2sys_platform::Platform;

use super::build::{EXIT, add, alu, copy, helper, load, module, reg, set, store};
use crate::{LeftOut, Options, PathKind, Rejection, Verifier, VerifyError, verify};

/// What both engines tell alike.
const ENGINES: [Verifier; 2] = [Verifier::Prevail, Verifier::Native];

fn judge(module: bpf2sys_bytecode::Module, verifier: Verifier) -> Rejection {
    let options = Options {
        verifier,
        ..Options::default()
    };
    match verify(module, &Platform::builtin(), &options) {
        Err(VerifyError::Rejected(mut rejections)) => rejections.remove(0),
        other => panic!("{other:?}"),
    }
}

/// The one program of an example of the catalogue.
fn example(code: &str, verifier: Verifier) -> Rejection {
    let file = format!("../../tests/fixtures/codes/{code}.o");
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    judge(bpf2sys_bytecode::read(&bytes, "m").unwrap(), verifier)
}

fn assembled(instructions: &[Instruction], verifier: Verifier) -> Rejection {
    judge(module("xdp", &[instructions]), verifier)
}

fn jump_if(condition: Condition, dst: Reg, src: i32, offset: i16) -> Instruction {
    Instruction::JumpIf {
        size: WordSize::W64,
        condition,
        dst,
        src: Operand::Imm(src),
        offset,
    }
}

/// What is told of registers and path, a line each.
fn told(rejection: &Rejection) -> String {
    let mut text = String::new();
    let explanation = &rejection.explanation;
    for known in &explanation.registers {
        writeln!(text, "{}: {}", known.register, known.holds).unwrap();
    }
    for step in &explanation.path {
        let line = step.place.line.as_ref().map_or(0, |line| line.line);
        writeln!(text, "line {line}, {}: {}", step.place.slot, step.what).unwrap();
    }
    text
}

#[test]
fn registers_and_path_are_told() {
    let cases = [
        (
            "BPF2101",
            "r2: a pointer to byte 12 of the packet; no byte is proven to be there\n\
             line 10, 4: not taken, on to line 13: the packet has at least 12 bytes\n",
        ),
        (
            "BPF2102",
            "r2: a pointer to byte 0 to 31 of the packet; from there on 33 bytes are proven to be there\n\
             line 9, 5: not taken, on to line 12: the packet has at least 64 bytes\n",
        ),
        (
            "BPF2105",
            "r1: map `connections`\n\
             r2: the stack at r10-8\n",
        ),
        (
            "BPF2108",
            "r0: a pointer to byte 0 to 248 of the value of map `histograms` (128 bytes)\n\
             line 21, 8: not taken, on to line 24: `r0` is not null\n",
        ),
        (
            "BPF2109",
            "r1: a pointer to byte 0 to 120 of the value of map `histograms` (128 bytes)\n\
             line 21, 8: not taken, on to line 24: `r0` is not null\n",
        ),
        (
            "BPF2111",
            "r0: a pointer to the value of map `counters` (8 bytes), or null\n",
        ),
        (
            "BPF2120",
            "r1: nothing: it was never written\n\
             line 9, 1: taken: `r1` is the number 0\n",
        ),
        ("BPF2121", "r6: nothing: a call destroyed it\n"),
        (
            "BPF2138",
            "r2: a pointer to byte 1 to 4294967296 of the packet; no byte is proven to be there\n\
             r3: the end of the packet, which can be empty\n",
        ),
        ("BPF2148", "r1: one of several maps\nr2: the stack at r10-8\n"),
    ];
    for (code, expected) in cases {
        for engine in ENGINES {
            // Each of several maps is a case of its own to our engine, which accepts it.
            if (code, engine) != ("BPF2148", Verifier::Native) {
                assert_eq!(told(&example(code, engine)), expected, "{code} {engine:?}");
            }
        }
    }
}

#[test]
fn a_path_that_fails_is_found_among_many_that_do_not() {
    for engine in ENGINES {
        // r6 is written unless r1 is 7; a dozen decisions that do not matter follow.
        let mut code = vec![
            load(reg(2), Reg::R1, 24),
            jump_if(Condition::Eq, reg(2), 7, 1),
            set(reg(6), 1),
        ];
        for i in 0..12 {
            code.extend([helper(6), jump_if(Condition::Eq, Reg::R0, i, 1), set(reg(7), i)]);
        }
        code.extend([copy(Reg::R0, reg(6)), alu(AluOp::And, Reg::R0, Operand::Imm(1)), EXIT]);
        let rejection = assembled(&code, engine);
        let explanation = &rejection.explanation;
        assert_eq!(explanation.kind, PathKind::Fails, "{rejection:#?}");
        let first = &explanation.path[0];
        assert_eq!(
            (first.place.slot, first.what.as_str()),
            (1, "taken: `r2` is the number 7")
        );
        // Thirteen decisions fit.
        assert_eq!((explanation.path.len(), explanation.left_out), (13, None));
        assert!(
            rejection
                .to_string()
                .contains("`r0` is a copy of `r6`, and nothing was ever written"),
            "{rejection}"
        );
        assert_eq!(rejection, assembled(&code, engine), "the same every time");
    }
}

#[test]
fn the_middle_of_a_long_path_is_left_out() {
    for engine in ENGINES {
        let mut code = Vec::new();
        for i in 0..20 {
            code.extend([helper(6), jump_if(Condition::Gt, Reg::R0, i, 1), set(reg(7), i)]);
        }
        code.extend([copy(Reg::R0, reg(6)), alu(AluOp::And, Reg::R0, Operand::Imm(1)), EXIT]);
        let explanation = assembled(&code, engine).explanation;
        assert_eq!(explanation.left_out, Some(LeftOut { after: 4, count: 8 }));
        assert_eq!(explanation.path.len(), 12);
        let slots: Vec<u32> = explanation.path.iter().map(|step| step.place.slot).collect();
        assert_eq!(slots[3..5], [10, 37]);
    }
}

#[test]
fn a_loop_that_fails_in_a_later_round_is_told_with_its_rounds() {
    for engine in ENGINES {
        // 64 bytes of stack are written; the rounds read them one by one, and go too far.
        let mut code: Vec<Instruction> = (1..=8).map(|i| store(Reg::R10, -8 * i, 0)).collect();
        code.extend([copy(reg(2), Reg::R10), add(reg(2), -64), set(reg(3), 0)]);
        let read = Instruction::Load {
            width: Width::Dw,
            signed: false,
            dst: Reg::R0,
            base: reg(2),
            offset: 0,
        };
        code.extend([
            read,
            add(reg(2), 8),
            add(reg(3), 1),
            jump_if(Condition::Lt, reg(3), 9, -4),
            set(Reg::R0, 0),
            EXIT,
        ]);
        let rejection = assembled(&code, engine);
        let explanation = &rejection.explanation;
        assert_eq!(explanation.kind, PathKind::Fails, "{rejection:#?}");
        let rounds: Vec<&str> = explanation.path.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(rounds, ["the loop goes round 8 times"], "{rejection:#?}");
        assert!(
            rejection
                .to_string()
                .contains("this reads 8 bytes at r10, above the stack frame"),
            "{rejection}"
        );
    }
}

#[test]
fn paths_that_fail_only_together_are_told_as_such() {
    // A pointer in r6 and a number in r7, or the other way round; and a decision that all paths have.
    let code = [
        load(reg(2), Reg::R1, 24),
        jump_if(Condition::Gt, reg(2), 99, 7),
        copy(reg(6), Reg::R10),
        set(reg(7), -8),
        jump_if(Condition::Eq, reg(2), 7, 2),
        set(reg(6), -8),
        copy(reg(7), Reg::R10),
        alu(AluOp::Add, reg(6), Operand::Reg(reg(7))),
        store(reg(6), 0, 1),
        set(Reg::R0, 0),
        EXIT,
    ];
    let rejection = assembled(&code, Verifier::Prevail);
    let explanation = &rejection.explanation;
    assert_eq!(explanation.kind, PathKind::Common, "{rejection:#?}");
    let steps: Vec<(u32, &str)> = explanation
        .path
        .iter()
        .map(|s| (s.place.slot, s.what.as_str()))
        .collect();
    assert_eq!(steps, [(1, "not taken")]);
    assert!(
        rejection
            .to_string()
            .contains("`r7` holds a number or a stack pointer, depending on the path"),
        "{rejection}"
    );
}

#[test]
fn a_search_without_an_end_is_given_up() {
    let mut code = vec![
        load(reg(2), Reg::R1, 24),
        copy(reg(6), Reg::R10),
        set(reg(7), -8),
        jump_if(Condition::Eq, reg(2), 7, 2),
        set(reg(6), -8),
        copy(reg(7), Reg::R10),
    ];
    for i in 0..30 {
        code.extend([helper(6), jump_if(Condition::Eq, Reg::R0, i, 1), set(reg(8), i)]);
    }
    code.extend([alu(AluOp::Add, reg(6), Operand::Reg(reg(7))), set(Reg::R0, 0), EXIT]);
    let explanation = assembled(&code, Verifier::Prevail).explanation;
    assert_eq!((explanation.kind, explanation.path.len()), (PathKind::Unfinished, 0));
}

#[test]
fn without_source_lines_the_instructions_around_are_listed() {
    for engine in ENGINES {
        let rejection = assembled(
            &[
                set(reg(2), 1),
                set(reg(3), 2),
                set(reg(4), 3),
                set(reg(5), 4),
                copy(Reg::R0, Reg::R10),
                EXIT,
            ],
            engine,
        );
        let listed: Vec<(u32, &str)> = rejection
            .explanation
            .around
            .iter()
            .map(|l| (l.slot, l.text.as_str()))
            .collect();
        assert_eq!(listed, [(2, "r4 = 0x3"), (3, "r5 = 0x4"), (4, "r0 = r10"), (5, "exit")]);
        assert!(example("BPF2101", engine).explanation.around.is_empty());
    }
}

#[test]
fn a_loop_without_a_limit_is_told_with_its_exits() {
    for engine in ENGINES {
        let rejection = assembled(
            &[helper(6), jump_if(Condition::Ne, Reg::R0, 7, -2), set(Reg::R0, 0), EXIT],
            engine,
        );
        assert_eq!(
            told(&rejection),
            "r0: any number, where the loop is left\n\
             line 0, 1: the loop is left here only\n"
        );
        // The limit is compared for being unequal, of which the engine learns nothing, and one exit is of no help.
        let rejection = assembled(
            &[
                set(reg(6), 0),
                helper(6),
                jump_if(Condition::Eq, Reg::R0, 7, 2),
                add(reg(6), 3),
                jump_if(Condition::Ne, reg(6), 64, -4),
                set(Reg::R0, 0),
                EXIT,
            ],
            engine,
        );
        assert_eq!(
            told(&rejection),
            "r0: any number, where the loop is left\n\
             r6: any number, where the loop is left\n\
             line 0, 2: the loop can be left here\n\
             line 0, 4: the loop can be left here\n"
        );
    }
}
