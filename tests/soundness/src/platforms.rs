//! The program types that random programs are for.

use std::sync::LazyLock;

use bpf2sys_platform::Platform;

/// A provider for these tests: what no built-in type has, which is metadata that is really there, a privileged type, and the
/// rarer classes of arguments.
const PROBE: &str = include_str!("probe.toml");

/// Section names, one for each kind of context: a packet with metadata that is never there; data; numbers only; an
/// extension with functions of its own; and the two of the test provider.
pub const SECTIONS: [&str; 7] = [
    "xdp",
    "bind",
    "cgroup/connect4",
    "sample_ext",
    "sockops",
    "probe/shut",
    "probe/open",
];

/// The built-in platform with the test provider.
pub fn platform() -> &'static Platform {
    static PLATFORM: LazyLock<Platform> = LazyLock::new(|| {
        let mut files = Platform::builtin_files().to_vec();
        files.push(("probe.toml", PROBE));
        Platform::from_toml(&files).expect("the test provider is valid")
    });
    &PLATFORM
}
