//! Tests over a real image: `testdata/module.c`, compiled by clang and linked by lld.

mod broken;
mod dll;
mod fixture;
mod module_tables;
mod patch;

// What runs native code, where that is possible.
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
#[macro_use]
mod every_trial;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod call;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod chains;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod failures;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod helpers;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod kernel;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod loads;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod maps;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod mishaps;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod programs;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod providers;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod streams;
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod traces;

pub use fixture::{ARM64_IMAGE, IMAGE, packet, preset, request, run};

use crate::{Input, RunRequest, SimulatorError};

/// The test binary is the executable that `run` starts again. libtest owns its `main`, so the child's side runs before
/// that, as a constructor.
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
#[used]
#[cfg_attr(windows, unsafe(link_section = ".CRT$XCU"))]
#[cfg_attr(not(windows), unsafe(link_section = ".init_array"))]
static CHILD: extern "C" fn() = {
    extern "C" fn child() {
        crate::child_main_if_requested();
    }
    child
};

/// The same module in a DLL.
pub const DLL: &[u8] = include_bytes!("../../testdata/module-dll.image");

/// Unit tests of the trials, for x64.
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
mod x64 {
    macro_rules! unit_tests {
        ($($module:ident { $($name:ident)* })*) => {
            $( mod $module {
                $( #[test] fn $name() { super::super::$module::$name(); } )*
            } )*
        };
    }
    every_trial!(unit_tests);
}

/// `BLESS=1` writes the table that the document ends with.
#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
#[test]
fn the_document_of_failures_ends_with_their_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/failures.md");
    let text = std::fs::read_to_string(path).unwrap();
    let start = text.find("\n| ").map_or(text.len(), |at| at + 1);
    let wanted = format!("{}{}", &text[..start], failures::table_of_failures().unwrap());
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(path, wanted).unwrap();
    } else {
        assert_eq!(text, wanted, "if that is meant, `BLESS=1` rewrites it");
    }
}
