//! The plugin as the suite's runner calls it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use bpf2sys_isa_tests::assemble_text;

/// Runs the plugin with arguments and a program.
fn plugin(arguments: &[&str], program: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bpf2sys-conformance"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A plugin that refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(program.as_bytes());
    child.wait_with_output().unwrap()
}

/// The notation of the suite: each byte as two digits and two blanks.
fn spaced(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}  "))
}

fn assembled(text: &str) -> String {
    spaced(&assemble_text(text).unwrap().bytes()) + "\n"
}

#[track_caller]
fn answers(arguments: &[&str], program: &str, expected: &str) {
    let out = plugin(arguments, program);
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(
        (out.status.code(), text.as_ref()),
        (Some(0), expected),
        "{arguments:?}: {out:?}"
    );
}

#[track_caller]
fn refuses(arguments: &[&str], program: &str, message: &str) {
    let out = plugin(arguments, program);
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.stdout.is_empty() && text.contains(message), "{out:?}");
    assert!(out.status.code().is_some_and(|code| code > 0), "{out:?}");
}

#[test]
fn memory_comes_first_if_there_is_any_and_options_follow() {
    let sum = assembled("mov %r0, %r2\njeq %r2, 0, exit\nldxb %r1, [%r1+1]\nadd %r0, %r1\nexit");
    for engine in [&["--engine", "interpreter"][..], native()] {
        answers(engine, &sum, "0\n");
        answers(&[&[""], engine].concat(), &sum, "0\n");
        answers(&[&["05  0b  00  "], engine].concat(), &sum, "e\n");
        let negative = assembled("mov %r0, -1\nexit");
        answers(engine, &negative, "ffffffffffffffff\n");
    }
}

/// Options of the engine that runs drivers, where that is possible.
fn native() -> &'static [&'static str] {
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        &["--arch", "x64"]
    } else {
        &["--engine", "interpreter"]
    }
}

#[test]
fn groups_that_windows_lacks_are_named() {
    for (program, group) in [
        (assembled("call %r1\nexit"), "(conformance group `callx`)"),
        // ldabsw 0: class LD, mode ABS, size W.
        (
            spaced(&[0x20, 0, 0, 0, 0, 0, 0, 0]) + &assembled("exit"),
            "(conformance group `packet`)",
        ),
        (
            spaced(&[0x50, 0x10, 0, 0, 0, 0, 0, 0]) + &assembled("exit"),
            "(conformance group `packet`)",
        ),
    ] {
        for engine in [&["--engine", "interpreter"][..], native()] {
            refuses(engine, &program, group);
        }
    }
}

/// A field of an instruction's slot.
#[derive(Clone, Copy, Debug)]
enum Field {
    Dst,
    Src,
    Offset,
    Imm,
}

/// Instructions with the fields that they do not use.
const UNUSED: [(&str, &[Field]); 21] = {
    use Field::{Dst, Imm, Offset, Src};
    [
        ("mov %r0, 1", &[Src, Offset]),
        ("mov32 %r0, %r1", &[Offset, Imm]),
        ("add %r0, 1", &[Src, Offset]),
        ("sdiv %r0, %r1", &[Imm]),
        ("neg %r0", &[Src, Offset, Imm]),
        ("neg32 %r0", &[Src, Offset, Imm]),
        ("le16 %r0", &[Src, Offset]),
        ("be32 %r0", &[Src, Offset]),
        ("swap64 %r0", &[Src, Offset]),
        ("movsx832 %r0, %r1", &[Imm]),
        ("ja +0", &[Dst, Src, Imm]),
        ("ja32 +0", &[Dst, Src, Offset]),
        ("jeq %r1, 1, +0", &[Src]),
        ("jslt32 %r1, %r2, +0", &[Imm]),
        ("call 5", &[Dst, Offset]),
        ("exit", &[Dst, Src, Offset, Imm]),
        ("ldxb %r0, [%r10-8]", &[Imm]),
        ("ldxsw %r0, [%r10-8]", &[Imm]),
        ("stw [%r10-8], 1", &[Src]),
        ("stxw [%r10-8], %r1", &[Imm]),
        ("lddw %r0, 1", &[Offset]),
    ]
};

#[test]
fn unused_fields_must_be_zero() {
    for (text, fields) in UNUSED {
        for field in fields {
            let mut slots = assemble_text(text).unwrap().slots;
            match field {
                Field::Dst => slots[0].dst = 1,
                Field::Src => slots[0].src = 1,
                // Those of arithmetic with a meaning are 1, 8, 16 and 32.
                Field::Offset => slots[0].offset = 2,
                Field::Imm => slots[0].imm = 1,
            }
            let code: Vec<u8> = slots.iter().flat_map(|slot| slot.to_bytes()).collect();
            let program = spaced(&code) + &assembled("mov %r0, 0\nexit");
            refuses(
                &["--engine", "interpreter"],
                &program,
                "section `program` at 0x0: instruction ",
            );
        }
    }
}

#[test]
fn what_is_no_program_or_faults_is_an_error_and_no_signal() {
    refuses(&[], "zz", "the program: `z` is no hexadecimal digit");
    refuses(&["0"], "", "the memory: a byte has two hexadecimal digits");
    refuses(&[], "", "the object has no program");
    refuses(&["--arch", "riscv"], "", "riscv");
    refuses(native(), &assembled("mov %r1, 0\nldxb %r0, [%r1]\nexit"), "");
}
