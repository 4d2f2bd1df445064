//! `bpf2sys init`.

use std::path::{Path, PathBuf};

use clap::ValueHint;

use super::reporter::Reporter;
use super::{Outcome, output};
use crate::{Error, ErrorKind, files};

/// What a project begins with: names of files, and what is in them.
const FILES: [(&str, &str); 2] = [
    (
        "bpf2sys.toml",
        include_str!("../../../../templates/project/bpf2sys.toml"),
    ),
    (
        "src/drop_port.bpf.c",
        include_str!("../../../../templates/project/drop_port.bpf.c"),
    ),
];

/// Start a project: a project file, and a program to begin with.
///
/// `bpf2sys build` in that folder, or in one below it, then builds the project. Files that are there are not touched: if one
/// of them is there already, nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys init                         in this folder
  bpf2sys init my_filter               in a folder of its own
  cd my_filter && bpf2sys build        writes drivers/drop_port.x64.sys and drivers/drop_port.arm64.sys")]
pub(super) struct Arguments {
    /// The project's folder, which is made if needed
    #[arg(value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    folder: PathBuf,

    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(arguments: &Arguments, reporter: &Reporter) -> Outcome {
    let folder = arguments.folder.strip_prefix(".").unwrap_or(&arguments.folder);
    let contents = FILES.map(|(name, text)| (folder.join(name), text));
    if let Some((path, _)) = contents.iter().find(|(path, _)| path.exists()) {
        return Err(exists(path));
    }
    let mut all: Vec<(&Path, &[u8])> = Vec::with_capacity(contents.len());
    for (path, text) in &contents {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            files::create_folder(parent)?;
        }
        all.push((path, text.as_bytes()));
    }
    files::write_all(&all)?;
    if arguments.quiet {
        return Ok(0);
    }
    for (path, _) in &contents {
        reporter.note(&format!("{}: written\n", path.display()))?;
    }
    let there = if folder.as_os_str().is_empty() {
        "here".to_owned()
    } else {
        format!("in `{}`", folder.display())
    };
    output::print(&format!("`bpf2sys build` {there} builds it\n"))?;
    Ok(0)
}

fn exists(path: &Path) -> Error {
    ErrorKind::Usage(format!("`{}` is there already, and is not touched", path.display())).into()
}
