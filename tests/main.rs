//! End-to-end tests: the built tool, as a user would call it, judged by what this project did not write.
//!
//! One binary with its own main, because a test whose tool is missing must count as skipped and not as passed. Each
//! module offers `trials()`; `support` says how a test asks for a tool.

mod accepted;
mod batch;
mod book;
mod cache;
mod cargo;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod check;
mod codes;
mod coff;
mod comfort;
mod command_line;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod compare;
mod conformance;
mod contract;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod coverage;
mod differential;
mod dll;
mod emit;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod emulated;
mod exactness;
mod examples;
mod facts;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod failures;
mod forms;
mod fuzz;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod guard;
mod hardening;
mod headers;
mod hosts;
mod huge;
#[cfg(unix)]
mod integration;
mod interpret;
mod limits;
mod lowering;
mod messages;
mod metadata;
mod package;
mod packets;
mod parity;
mod pe_image;
mod platforms;
mod providers;
mod reading;
mod rejected;
mod release;
mod report;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod retarget;
mod rule_table;
mod runs;
mod rust;
mod signing;
mod simulator;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod simulator_trials;
mod sources;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod speed;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod strict;
mod support;
mod tables;
mod test_files;
mod units;
mod unwind;
mod wine;

fn main() {
    // The simulator runs an image's code in a child process, which is this executable again.
    bpf2sys_simulator::child_main_if_requested();
    let arguments = libtest_mimic::Arguments::from_args();
    let modules = [
        codes::trials(),
        batch::trials(),
        book::trials(),
        cache::trials(),
        cargo::trials(),
        accepted::trials(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        check::trials(),
        coff::trials(),
        comfort::trials(),
        command_line::trials(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        compare::trials(),
        conformance::trials(),
        contract::trials(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        coverage::trials(),
        differential::trials(),
        dll::trials(),
        emit::trials(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        emulated::trials(),
        exactness::trials(),
        examples::trials(),
        facts::trials(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        failures::trials(),
        fuzz::trials(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        guard::trials(),
        hardening::trials(),
        headers::trials(),
        hosts::trials(),
        huge::trials(),
        #[cfg(unix)]
        integration::trials(),
        interpret::trials(),
        limits::trials(),
        lowering::trials(),
        messages::trials(),
        metadata::trials(),
        package::trials(),
        packets::trials(),
        parity::trials(),
        pe_image::trials(),
        platforms::trials(),
        providers::trials(),
        reading::trials(),
        rejected::trials(),
        release::trials(),
        report::trials(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        retarget::trials(),
        rule_table::trials(),
        runs::trials(),
        rust::trials(),
        signing::trials(),
        simulator::trials(),
        sources::trials(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        speed::trials(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        simulator_trials::trials(),
        tables::trials(),
        test_files::trials(),
        units::trials(),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        strict::trials(),
        unwind::trials(),
        wine::drivers::trials(),
        wine::host::trials(),
    ];
    libtest_mimic::run(&arguments, modules.into_iter().flatten().collect()).exit();
}
