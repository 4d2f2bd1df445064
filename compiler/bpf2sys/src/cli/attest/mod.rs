//! `bpf2sys attest`, and the options of those who sign statements.

mod key;
mod verify;

use std::path::PathBuf;

pub(super) use self::key::AttestOptions;
use super::reporter::Reporter;
use super::{Outcome, output};
use crate::files;
use crate::provenance::{Statement, read_envelope};

/// Judge or show statements of provenance, which `package` writes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys attest verify udp_filter.sys udp_filter.o udp_filter.sys.intoto.jsonl --key vendor.pem
  bpf2sys attest show udp_filter.sys.intoto.jsonl")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Verify(verify::Arguments),
    Show(ShowArguments),
}

/// Print what a statement says, as JSON; nothing of it is judged.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys attest show udp_filter.sys.intoto.jsonl")]
struct ShowArguments {
    /// A statement, as `package` writes it
    #[arg(value_name = "STATEMENT")]
    statement: PathBuf,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    match &arguments.command {
        Command::Verify(arguments) => verify::run(arguments, reporter),
        Command::Show(arguments) => show(arguments, reporter),
    }
}

fn show(arguments: &ShowArguments, reporter: &mut Reporter) -> Outcome {
    let file = files::read(&arguments.statement)?;
    let read = read_envelope(&file).and_then(|envelope| Statement::read(&envelope.payload));
    match read {
        Ok(statement) => {
            output::print_json(&statement)?;
            Ok(0)
        }
        Err(error) => Ok(reporter.fail(&error.into(), &arguments.statement)),
    }
}
