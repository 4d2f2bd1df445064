//! Very long functions: they lower for both machines, and what becomes of them still means the same.

#[path = "benches/shapes.rs"]
mod shapes;

use bpf2sys_bytecode::{Callee, Instruction, Module};
use bpf2sys_codegen::Options;
use bpf2sys_isa_tests::{Case, Engine, ImageEngine, InterpreterEngine, Outcome, Placement, assemble_text};
use bpf2sys_pe_emit::Machine;
use bpf2sys_platform::Platform;
use libtest_mimic::{Failed, Trial};
use shapes::{HOSTILE, Shape, USUAL, trusted};

use crate::support::{Need, test, test_with};

/// Long enough for several pieces; `BPF2SYS_HUGE` names another length.
fn instructions() -> usize {
    let given = std::env::var("BPF2SYS_HUGE").ok();
    given.and_then(|number| number.parse().ok()).unwrap_or(20_000)
}

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for shape in USUAL.iter().chain(&HOSTILE) {
        trials.push(test(&format!("huge::{}_for_arm64", shape.name), move || {
            links(shape, Machine::Arm64)
        }));
    }
    for (machine, name, needs) in [
        (Machine::X64, "x64", &[][..]),
        (Machine::Arm64, "arm64", &[Need::Emulator]),
    ] {
        if machine == Machine::X64 && !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            continue;
        }
        let mut add = |shape: &'static Shape, placement, inside: &str| {
            let name = format!(
                "huge::{}{inside}_for_{name}_gives_what_the_interpreter_gives",
                shape.name
            );
            trials.push(test_with(&name, needs, move || same_result(shape, machine, placement)));
        };
        for shape in USUAL.iter().chain(&HOSTILE) {
            add(shape, Placement::Program, "");
        }
        for shape in USUAL.iter().filter(|shape| ["branches", "calls"].contains(&shape.name)) {
            add(shape, Placement::Subprogram, "_in_a_subprogram");
        }
        let name = format!("huge::a_piece_of_a_subprogram_ends_the_program_for_{name}");
        trials.push(test_with(&name, needs, move || ends_the_program(machine)));
    }
    trials
}

/// Lowering checks the code that it emits and describes its frames; linking checks the description.
fn links(shape: &Shape, machine: Machine) -> Result<(), Failed> {
    let options = Options {
        machine,
        ..Options::default()
    };
    let verified = trusted((shape.make)(instructions()));
    let lowered = bpf2sys_codegen::lower(&verified, &Platform::builtin(), &options)?;
    bpf2sys_pe_emit::link(&lowered.object)?;
    Ok(())
}

fn same_result(shape: &Shape, machine: Machine, placement: Placement) -> Result<(), Failed> {
    let mut module = (shape.make)(instructions());
    use_the_helper_of_the_engines(&mut module);
    let cases = [Case {
        module,
        memory: vec![0; 8],
    }];
    let options = Options {
        machine,
        ..Options::default()
    };
    let mut image = ImageEngine::new("image", options, placement).with_time_limit_ms(60_000);
    let found = image.run(&cases);
    let expected = InterpreterEngine::default().run(&cases);
    if found != expected {
        return Err(format!("{}: found {found:x?}, expected {expected:x?}", shape.what).into());
    }
    // A program that ended early, or lost everything on the way, would show little.
    match &found[..] {
        [Ok(outcome)] if outcome.r0 > 0xFFFF || shape.name == "one-target" => Ok(()),
        _ => Err(format!("found {found:x?}").into()),
    }
}

/// A program that goes on after the tail call shows it in the memory.
fn ends_the_program(machine: Machine) -> Result<(), Failed> {
    // The last value of `r0` that goes from piece to piece is not 0.
    let begin = "mov %r6, %r1\nmov %r0, 7\n".to_owned() + &"add %r0, 1\n".repeat(9) + "stxdw [%r10-8], %r0\n";
    let text = begin
        + "call local outer\nstb [%r6], 1\nexit\n\
        outer:\ncall local inner\nstb [%r6+1], 1\nstb [%r6+2], 1\nexit\n\
        inner:\nmov %r1, 1\ncall 5\nmov %r1, 0\ncall 5\nstb [%r6+3], 1\nexit\n";
    let module = assemble_text(&text)?.module("program", "bind", Vec::new(), Vec::new())?;
    let cases = [Case {
        module,
        memory: vec![0; 8],
    }];
    let options = Options {
        machine,
        most_work: 8,
        ..Options::default()
    };
    for placement in [Placement::Program, Placement::Subprogram] {
        let found = ImageEngine::new("image", options.clone(), placement).run(&cases);
        let ended = Outcome {
            r0: 0,
            memory: vec![0; 8],
        };
        if found != [Ok(ended)] {
            return Err(format!("{placement:?}: {found:x?}").into());
        }
    }
    Ok(())
}

/// The engines know one helper, which returns its first argument and ends the program if that is 0.
fn use_the_helper_of_the_engines(module: &mut Module) {
    for function in &mut module.functions {
        for insn in &mut function.instructions {
            if let Instruction::Call(Callee::Helper(id)) = &mut insn.op {
                *id = 5;
            }
        }
    }
}
