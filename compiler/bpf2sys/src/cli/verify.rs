//! `bpf2sys verify`, and the options of verification that other subcommands share.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::{Outcome, output};
use crate::{BuildOptions, files};

/// Prove the programs of object files safe, and write nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys verify udp_filter.o
  bpf2sys verify --time-limit 300 large.o && echo safe")]
pub(super) struct Arguments {
    /// Object files, as `clang -target bpf` writes them
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,

    /// Print nothing when all is well
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    options: Options,
}

/// Options of verification.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Verify every program as a program in a section of this name would be (`xdp`, `bind`, `cgroup/connect4`, ...)
    #[arg(long = "type", value_name = "SECTION")]
    program_type: Option<String>,

    /// Give up verification of a module after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit: u64,
}

impl Options {
    /// The same as the library takes them.
    pub(super) fn build_options(&self) -> BuildOptions {
        BuildOptions {
            program_type: self.program_type.clone(),
            time_limit: Some(Duration::from_secs(self.time_limit)),
            ..BuildOptions::default()
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let options = arguments.options.build_options();
    output::for_each_input(&arguments.inputs, "verifying", |_, input| {
        let object = files::read(input)?;
        let verified = crate::verify(&object, &input.to_string_lossy(), &options)?;
        let mut text = String::new();
        if !arguments.quiet {
            for program in verified.programs() {
                let function = verified.module().function(program.function);
                let _ = writeln!(
                    text,
                    "{}: program `{}` (section `{}`, type {}) is safe",
                    input.display(),
                    function.name,
                    function.section,
                    program.program_type.name
                );
            }
        }
        Ok(text)
    })
}
