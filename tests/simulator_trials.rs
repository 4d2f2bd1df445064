//! The simulator's trials on ARM64: the same that its unit tests run on x64, over the same module, compiled for ARM64.
//!
//! They are here because they need the emulator, and a unit test cannot be counted as skipped.

use libtest_mimic::Trial;

use crate::support::{Need, test_with};

#[macro_use]
#[path = "../simulator/src/tests"]
pub mod shared {
    #[macro_use]
    pub mod every_trial;
    pub mod call;
    pub mod chains;
    pub mod failures;
    pub mod fixture;
    pub mod helpers;
    pub mod kernel;
    pub mod loads;
    pub mod maps;
    pub mod mishaps;
    pub mod patch;
    pub mod programs;
    pub mod providers;
    pub mod streams;
    pub mod traces;
}

pub fn trials() -> Vec<Trial> {
    macro_rules! list {
        ($($module:ident { $($name:ident)* })*) => {
            vec![$( $( test_with(
                concat!("simulator::arm64::", stringify!($module), "::", stringify!($name)),
                &[Need::Emulator],
                || {
                    shared::fixture::be_on_arm64();
                    shared::$module::$name();
                    Ok(())
                },
            ), )* )*]
        };
    }
    every_trial!(list)
}
