//! The `bpf2sys` executable.

use std::process::ExitCode;

/// That of musl is slow where threads share it.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A simulation runs native code in a child process, which is this executable again.
    bpf2sys_simulator::child_main_if_requested();
    bpf2sys::cli::main()
}
