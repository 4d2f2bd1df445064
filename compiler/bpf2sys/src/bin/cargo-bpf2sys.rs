//! The `cargo-bpf2sys` executable: `cargo bpf2sys`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // As in `bpf2sys` itself.
    bpf2sys_simulator::child_main_if_requested();
    bpf2sys::cli::cargo_main()
}
