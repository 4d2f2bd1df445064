//! How fast generated code is, against that of other compilers: `cargo bench --bench speed`. `README.md` says what is measured.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod lab;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod options;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod report;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod run;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tables;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod timing;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("x64 code is run in this process, which takes x86-64 Linux");
}
