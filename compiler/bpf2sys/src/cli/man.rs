//! `bpf2sys man`.

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, ValueHint};

use super::Outcome;
use crate::{Error, ErrorKind, files};

/// Write the manual pages of the tool and of each of its subcommands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys man --out-dir ~/.local/share/man/man1        then: man bpf2sys-build")]
pub(super) struct Arguments {
    /// Write the pages to this folder, which is made if needed
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut command = super::Arguments::command();
    command.build();
    let mut written = Vec::new();
    pages(&command, "bpf2sys", &mut written)?;
    files::create_folder(&arguments.out_dir)?;
    let written: Vec<(PathBuf, Vec<u8>)> = (written.into_iter())
        .map(|(name, text)| (arguments.out_dir.join(name), text))
        .collect();
    let all: Vec<(&Path, &[u8])> = written.iter().map(|(path, text)| (path.as_path(), &**text)).collect();
    files::update_all(&all)?;
    Ok(0)
}

/// The page of a command, and those of all below it.
fn pages(command: &Command, name: &str, written: &mut Vec<(String, Vec<u8>)>) -> Result<(), Error> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name.to_owned())
        .render(&mut text)
        .map_err(|error| ErrorKind::Internal(error.to_string()))?;
    written.push((format!("{name}.1"), text));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        pages(below, &format!("{name}-{}", below.get_name()), written)?;
    }
    Ok(())
}
