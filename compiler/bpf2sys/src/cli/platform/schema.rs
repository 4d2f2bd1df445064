//! `bpf2sys platform schema`: the JSON schema of provider files.

use bpf2sys_platform::Platform;

use crate::cli::{Outcome, output};

/// Print the JSON schema of provider files.
///
/// Editors that know TOML use it: name it in the first line of a provider file, `#:schema provider.schema.json`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys platform schema > provider.schema.json")]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> Outcome {
    output::print_bytes(Platform::schema().as_bytes())?;
    Ok(0)
}
