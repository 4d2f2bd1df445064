//! `bpf2sys platform`: what providers offer, and descriptions of providers. One file per subcommand.

mod header;
mod import;
mod list;
mod names;
mod schema;
mod show;
mod shown;
mod view;

use clap::Subcommand;

use super::Outcome;
use super::reporter::Reporter;

/// Show and convert descriptions of the providers whose program types, helpers and maps programs use.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  bpf2sys platform list                                          what programs can use
  bpf2sys platform show cgroup/connect4                          all about one thing
  bpf2sys platform header xdp -o xdp.h                           the C header that an XDP program includes
  bpf2sys platform import providers.reg -o mine.toml             an extension that bpf2sys does not know"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Header(header::Arguments),
    Import(import::Arguments),
    List(list::Arguments),
    Schema(schema::Arguments),
    Show(show::Arguments),
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    match &arguments.command {
        Command::Header(arguments) => header::run(arguments, reporter),
        Command::Import(arguments) => import::run(arguments, reporter),
        Command::List(arguments) => list::run(arguments, reporter),
        Command::Schema(arguments) => schema::run(arguments),
        Command::Show(arguments) => show::run(arguments, reporter),
    }
}
