//! The `bpf2sys` executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A simulation runs native code in a child process, which is this executable again.
    bpf2sys_simulator::child_main_if_requested();
    bpf2sys::cli::main()
}
