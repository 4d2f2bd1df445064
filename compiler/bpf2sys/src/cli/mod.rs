//! The command line: arguments in, library calls, exit status out. One file per subcommand; only this folder knows
//! `clap`.

mod build;
mod inspect;
mod output;
mod run;
mod verify;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{Error, ErrorKind};

const EXIT_STATUS_HELP: &str = "Exit status:
  0  done
  1  a file can't be read or written, or an internal error
  2  the command line is wrong
  3  an input is not a valid file of its kind
  4  a program was not proven safe
  5  a module can't be compiled or linked
  6  an image was refused, or its program misbehaved, in a simulated run
With several inputs, the highest status that any of them gave.";

const EXAMPLES: &str = "Examples:
  bpf2sys build udp_filter.o                      write udp_filter.sys
  bpf2sys build --out-dir drivers *.o             one driver each
  bpf2sys build --arch x64,arm64 udp_filter.o     for both machines
  bpf2sys verify udp_filter.o                     prove it safe, write nothing
  bpf2sys inspect udp_filter.sys                  what is in it
  bpf2sys run udp_filter.sys --packet dns.bin     load and run it as Windows would";

/// Compiles eBPF object files to Windows drivers that load where memory integrity (HVCI) forbids JIT compilation.
#[derive(Debug, Parser)]
#[command(name = "bpf2sys", version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS_HELP}"))]
#[command(propagate_version = true, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Arguments),
    Verify(verify::Arguments),
    Inspect(inspect::Arguments),
    Run(run::Arguments),
}

/// The `bpf2sys` command: parses the process's arguments, does the work, and gives the exit status.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, with status 0. Nothing is left to do if they can't be printed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| match arguments.command {
        Command::Build(arguments) => build::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
    }));
    let error = match result {
        Ok(Ok(status)) => return ExitCode::from(status),
        Ok(Err(error)) => error,
        Err(_) => ErrorKind::Internal("a check inside bpf2sys failed; please report it with the input".into()).into(),
    };
    output::report(&error, None);
    ExitCode::from(error.exit_status())
}

/// What a subcommand returns: its exit status, or an error that is not about one input.
type Outcome = Result<u8, Error>;
