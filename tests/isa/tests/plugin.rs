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
    bytes.iter().map(|byte| format!("{byte:02x}  ")).collect()
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

#[test]
fn unused_fields_must_be_zero() {
    let mut number = 0;
    for text in [
        "mov %r0, 1",
        "mov %r0, %r1",
        "neg %r0",
        "neg32 %r0",
        "le16 %r0",
        "be32 %r0",
        "swap64 %r0",
        "ja +0",
        "ja32 +0",
        "jeq %r1, 1, +0",
        "jeq %r1, %r2, +0",
        "jslt32 %r1, %r2, +0",
        "call 5",
        "ldxb %r0, [%r10-8]",
        "ldxsw %r0, [%r10-8]",
        "stw [%r10-8], 1",
        "stxw [%r10-8], %r1",
        "lddw %r0, 1",
        "movsx832 %r0, %r1",
        "exit",
    ] {
        let used = assemble_text(text).unwrap().bytes();
        // Bits that an instruction may have: those that another operand sets.
        let fields: &[usize] = match text.split(' ').next().unwrap_or_default() {
            "mov" if text.contains("%r1") => &[2, 4],
            "mov" => &[0x11, 2],
            "neg" | "neg32" => &[0x11, 2, 4],
            "le16" | "be32" | "swap64" | "lddw" => &[0x11, 2],
            "ja" => &[1, 0x11, 4],
            "ja32" => &[1, 0x11, 2],
            "jeq" if text.contains("%r2") => &[4],
            "jeq" | "stw" => &[0x11],
            "call" => &[1, 2],
            "exit" => &[1, 0x11, 2, 4],
            _ => &[4],
        };
        for field in fields {
            let mut code = used.clone();
            // 0x11 stands for `src`, the upper half of byte 1; other numbers are byte positions.
            match field {
                0x11 => code[1] |= if text.starts_with("lddw") { 0x70 } else { 0x10 },
                position => code[*position] |= 1,
            }
            let program = spaced(&code) + &assembled("mov %r0, 0\nexit");
            refuses(&["--engine", "interpreter"], &program, "instruction ");
            number += 1;
        }
    }
    assert!(number > 30);
}

#[test]
fn what_is_no_program_or_faults_is_an_error_and_no_signal() {
    refuses(&[], "zz", "the program: `z` is no hexadecimal digit");
    refuses(&["0"], "", "the memory: a byte has two hexadecimal digits");
    refuses(&[], "", "the object has no program");
    refuses(&["--arch", "riscv"], "", "riscv");
    refuses(native(), &assembled("mov %r1, 0\nldxb %r0, [%r1]\nexit"), "");
}
