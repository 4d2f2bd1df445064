//! `bpf2sys completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Outcome, output};

/// Print what a shell needs to complete the tool's options, subcommands and values.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys completions bash > ~/.local/share/bash-completion/completions/bpf2sys
  bpf2sys completions zsh > ~/.zfunc/_bpf2sys          with ~/.zfunc in fpath
  bpf2sys completions fish > ~/.config/fish/completions/bpf2sys.fish
  bpf2sys completions powershell >> $PROFILE")]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "bpf2sys", &mut text);
    output::print_bytes(&text)?;
    Ok(0)
}
