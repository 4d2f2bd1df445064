//! A plugin of the `bpf_conformance` suite: compiles one program as bpf2sys does, executes it, and prints `r0`.
//!
//! Given: the memory as an argument, the program on standard input, both in hexadecimal. The answer is `r0` in
//! hexadecimal and exit status 0, or one line on standard error and exit status 1.

use std::io::{Read, Write};
use std::process::ExitCode;

use bpf2sys_bytecode::read_instructions;
use bpf2sys_codegen::Options;
use bpf2sys_isa_tests::{Case, Engine, ImageEngine, InterpreterEngine, Placement, parse_hex};
use bpf2sys_pe_emit::Machine;
use clap::{Parser, ValueEnum};

/// Longest program that is read, in characters: the longest that exists has a million instructions.
const MAX_INPUT: u64 = 64 << 20;

/// Most time for one program, in milliseconds; the suite's runner waits ten seconds.
const TIME_LIMIT_MS: u64 = 8_000;

/// Compiles an eBPF program as bpf2sys does, executes it, and prints r0.
///
/// The program is read from standard input, in hexadecimal. r1 is the address of the memory, r2 its size.
#[derive(Parser)]
#[command(name = "bpf2sys-conformance", version)]
struct Arguments {
    /// The memory, in hexadecimal; none if it is left out.
    #[arg(value_name = "MEMORY", default_value = "")]
    memory: String,
    /// The machine to compile for.
    #[arg(long, value_enum, default_value_t = Arch::X64)]
    arch: Arch,
    /// ARM64: use the atomic instructions of ARMv8.1.
    #[arg(long)]
    lse: bool,
    /// ARM64: sign return addresses.
    #[arg(long)]
    sign_return_address: bool,
    /// Compile the program as a subprogram that a program calls.
    #[arg(long)]
    subprogram: bool,
    /// What executes the program.
    #[arg(long, value_enum, default_value_t = Kind::Native)]
    engine: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A driver, in the simulator.
    Native,
    /// The reference interpreter; nothing is compiled.
    Interpreter,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Arch {
    X64,
    Arm64,
}

impl Arguments {
    fn engine(&self) -> Box<dyn Engine> {
        if self.engine == Kind::Interpreter {
            return Box::new(InterpreterEngine::default());
        }
        let options = Options {
            machine: match self.arch {
                Arch::X64 => Machine::X64,
                Arch::Arm64 => Machine::Arm64,
            },
            lse: self.lse,
            sign_return_address: self.sign_return_address,
            ..Options::default()
        };
        let placement = if self.subprogram {
            Placement::Subprogram
        } else {
            Placement::Program
        };
        Box::new(ImageEngine::new("image", options, placement).with_time_limit_ms(TIME_LIMIT_MS))
    }
}

fn answer(arguments: &Arguments) -> Result<u64, String> {
    let memory = parse_hex(&arguments.memory).map_err(|e| format!("the memory: {e}"))?;
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(MAX_INPUT)
        .read_to_string(&mut text)
        .map_err(|e| format!("the program cannot be read: {e}"))?;
    let code = parse_hex(&text).map_err(|e| format!("the program: {e}"))?;
    let module = read_instructions(&code, "program").map_err(|e| e.to_string())?;
    let outcome = arguments.engine().run(&[Case { module, memory }]).pop();
    outcome
        .unwrap_or_else(|| Err("there is no outcome".to_owned()))
        .map(|o| o.r0)
}

fn main() -> ExitCode {
    // The simulator runs an image's code in a child process, which is this executable again.
    bpf2sys_simulator::child_main_if_requested();
    match answer(&Arguments::parse()) {
        Ok(r0) => match writeln!(std::io::stdout(), "{r0:x}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(message) => {
            // Nobody to tell if that fails, too.
            let _ = writeln!(std::io::stderr(), "error: {message}");
            ExitCode::FAILURE
        }
    }
}
