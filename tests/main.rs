//! End-to-end tests: the built tool, as a user would call it, judged by what this project did not write.
//!
//! One binary with its own main, because a test whose tool is missing must count as skipped and not as passed. Each
//! module offers `trials()`; `support` says how a test asks for a tool.

mod command_line;
mod examples;
mod huge;
mod interpret;
mod packets;
mod pe_image;
mod reading;
mod rejected;
mod simulator;
mod support;
mod unwind;

fn main() {
    // The simulator runs an image's code in a child process, which is this executable again.
    bpf2sys_simulator::child_main_if_requested();
    let arguments = libtest_mimic::Arguments::from_args();
    let modules = [
        command_line::trials(),
        examples::trials(),
        huge::trials(),
        interpret::trials(),
        packets::trials(),
        pe_image::trials(),
        reading::trials(),
        rejected::trials(),
        simulator::trials(),
        unwind::trials(),
    ];
    libtest_mimic::run(&arguments, modules.into_iter().flatten().collect()).exit();
}
