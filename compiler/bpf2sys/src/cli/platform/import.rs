//! `bpf2sys platform import`: what a Windows machine's registry says of providers, as a provider file.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::PathBuf;

use bpf2sys_platform::registry::{Count, RegistryProviders};

use crate::cli::reporter::Reporter;
use crate::cli::{Outcome, output};
use crate::{Providers, files};

/// Make a provider file (TOML) of a registry export.
///
/// The export is one of `Software\eBPF\Providers`, as `reg export` or regedit writes it on a machine with eBPF for Windows;
/// `registry` means the registry of this machine. What the built-in providers say, too, is left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  reg export HKLM\\Software\\eBPF\\Providers providers.reg      on the Windows machine
  bpf2sys platform import providers.reg -o providers.toml
  bpf2sys build --platform providers.toml my_program.o")]
pub(super) struct Arguments {
    /// The export; `registry` for the registry of this machine
    #[arg(value_name = "FILE.reg")]
    export: PathBuf,

    /// Where to write the provider file; without it, or with `-`, to standard output
    #[arg(short, long, value_name = "FILE.toml")]
    output: Option<PathBuf>,

    /// Keep what the built-in providers say, too
    #[arg(long)]
    all: bool,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let mut found = if arguments.export.as_os_str() == OsStr::new("registry") {
        RegistryProviders::of_this_machine()?
    } else {
        let bytes = files::read(&arguments.export)?;
        RegistryProviders::of_export(&arguments.export.display().to_string(), &bytes)?
    };
    let warnings = found.warnings().iter().map(crate::diagnose::left_out).collect();
    reporter.tell(warnings, None);
    if !arguments.all {
        let omitted = found.omit_known(Providers::builtin().platform());
        let counts = [
            ("program types", omitted.program_types),
            ("further sections", omitted.sections),
            ("general helpers", omitted.helpers),
            ("functions", omitted.functions),
        ];
        let some = counts.iter().filter(|(_, count)| *count != Count::default());
        let said: Vec<String> = some
            .map(|(what, count)| format!("{} of {} {what}", count.kept, count.kept + count.omitted))
            .collect();
        // If standard error is gone there is nobody to tell.
        let _ = writeln!(
            io::stderr(),
            "{}: {} are not built in and are kept; `--all` keeps all",
            arguments.export.display(),
            if said.is_empty() {
                "0".to_owned()
            } else {
                said.join(", ")
            }
        );
    }
    let toml = found.to_toml()?;
    match &arguments.output {
        Some(path) if path.as_os_str() != OsStr::new("-") => files::write_all(&[(path, toml.as_bytes())])?,
        _ => output::print_bytes(toml.as_bytes())?,
    }
    Ok(0)
}
