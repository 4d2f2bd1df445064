//! What `--version` says.

/// `-V`, behind the tool's name: its version, and the commit that it was built from where that is known.
pub(super) fn short() -> String {
    match env!("BPF2SYS_COMMIT") {
        "" => env!("CARGO_PKG_VERSION").to_owned(),
        commit => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
    }
}

/// `--version`: also what decides what is proven and what code is made.
pub(super) fn long() -> String {
    format!(
        "{}\nCranelift {}\nPREVAIL {}\nlevels of the runtime: 1.6, 1.4, 0.21",
        short(),
        env!("BPF2SYS_CRANELIFT_VERSION"),
        env!("BPF2SYS_PREVAIL_VERSION"),
    )
}
