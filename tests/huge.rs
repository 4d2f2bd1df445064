//! Very long functions: they lower for both machines, and what becomes of them still means the same.

#[path = "benches/shapes.rs"]
mod shapes;

use bpf2sys_bytecode::{Callee, Instruction, Module};
use bpf2sys_codegen::Options;
use bpf2sys_isa_tests::{Case, Engine, ImageEngine, InterpreterEngine, Placement};
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
