//! Builds the driver, and the constants that `src/main.rs` has of it.

fn main() {
    bpf2sys_build::Build::new()
        .input("src/drop_port.bpf.c")
        .cflag("-Wall")
        .cflag("-Wextra")
        .deny_warnings()
        .compile();
}
