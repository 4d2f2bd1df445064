//! End-to-end tests: the built tool, as a user would call it, judged by what this project did not write.
//!
//! One binary with its own main, because a test whose tool is missing must count as skipped and not as passed. Each
//! module offers `trials()`; `support` says how a test asks for a tool.

mod examples;
mod packets;
mod rejected;
mod support;

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = [examples::trials(), packets::trials(), rejected::trials()].into_iter().flatten().collect();
    libtest_mimic::run(&arguments, trials).exit();
}
