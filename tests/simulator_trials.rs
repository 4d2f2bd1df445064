//! The simulator's trials in the emulator, for both machines: the same that its unit tests run for x64 on the host's processor, over
//! the same module.
//!
//! They are here because they need the emulator, and a unit test cannot be counted as skipped.

use libtest_mimic::Trial;

use self::shared::fixture::On;
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
    let mut trials = Vec::new();
    macro_rules! add {
        ($folder:literal, $on:expr, $($module:ident { $($name:ident)* })*) => {
            $( $( trials.push(test_with(
                concat!("simulator::", $folder, "::", stringify!($module), "::", stringify!($name)),
                &[Need::Emulator],
                || {
                    shared::fixture::be_on($on);
                    shared::$module::$name();
                    Ok(())
                },
            )); )* )*
        };
    }
    macro_rules! arm64 {
        ($($all:tt)*) => { add!("arm64", On::Arm64, $($all)*) };
    }
    macro_rules! emulated_x64 {
        ($($all:tt)*) => { add!("emulated_x64", On::EmulatedX64, $($all)*) };
    }
    every_trial!(arm64);
    every_trial!(emulated_x64);
    trials
}
