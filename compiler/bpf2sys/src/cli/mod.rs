//! The command line: arguments in, library calls, exit status out. One file per subcommand; only this folder knows
//! `clap`.

mod attest;
mod build;
mod cargo;
mod cert;
mod check;
mod completions;
mod coverage;
mod explain;
mod init;
mod inspect;
mod man;
mod messages;
mod output;
mod package;
mod platform;
mod port;
mod providers;
mod report;
mod reporter;
mod response;
mod run;
mod sign;
mod signature;
mod source;
mod test;
mod usage;
mod verify;
mod version;
mod work;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::build::embedded::{BuildReport, BuiltFile, BuiltInput, BuiltModule, run_build};
use self::messages::{Early, MessageFormat, MessageOptions};
use self::reporter::{Reporter, Stream};
use crate::{Error, ErrorKind};

const EXIT_STATUS_HELP: &str = "Exit status:
  0  done
  1  a file can't be read or written, no compiler for C is found, or an internal error
  2  the command line is wrong
  3  an input is not a valid file of its kind
  4  a program was not proven safe
  5  a module can't be compiled or linked
  6  an image breaks a rule, was refused, or misbehaved in a simulated run; or a test failed
  7  a signature or a statement is missing or wrong, or can't be made
With several inputs, the highest status that any of them gave.";

const EXAMPLES: &str = "Examples:
  bpf2sys build udp_filter.o                      write udp_filter.sys
  bpf2sys build udp_filter.bpf.c                  the same from C, with clang
  bpf2sys init my_filter && cd my_filter          start a project
  bpf2sys build                                   build it
  bpf2sys build --out-dir drivers *.o             one driver each
  bpf2sys build --arch x64,arm64 udp_filter.o     for both machines
  bpf2sys verify udp_filter.o                     prove it safe, write nothing
  bpf2sys inspect udp_filter.sys                  what is in it
  bpf2sys port xdp_firewall.o                     what becomes of an object for Linux
  bpf2sys check udp_filter.sys                    would Windows and the runtime take it
  bpf2sys report udp_filter.sys -o report.html    a page about it, for whoever signs it
  bpf2sys run udp_filter.sys --packet dns.bin     load and run it as Windows would
  bpf2sys cert new                                certificates for test machines
  bpf2sys test                                    run the tests beside the programs
  bpf2sys sign udp_filter.sys --pfx signing.pfx   sign it
  bpf2sys signature udp_filter.sys                what its signature is worth
  bpf2sys package udp_filter.sys --object udp_filter.o -o udp_filter.cab --attest-key key.pem
                                                  for Microsoft's dashboard, with a statement of provenance
  bpf2sys attest verify udp_filter.sys udp_filter.o udp_filter.sys.intoto.jsonl
                                                  was it really built from that?
  bpf2sys explain BPF2001                         what a code means, and what to do";

/// Compiles eBPF object files to Windows drivers that load where memory integrity (HVCI) forbids JIT compilation.
#[derive(Debug, Parser)]
#[command(name = "bpf2sys", version = version::short(), long_version = version::long(), after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS_HELP}"))]
#[command(propagate_version = true, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    messages: MessageOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Arguments),
    Build(Box<build::Arguments>),
    Verify(verify::Arguments),
    Inspect(inspect::Arguments),
    Port(port::Arguments),
    Check(check::Arguments),
    Report(report::Arguments),
    Run(run::Arguments),
    Test(Box<test::Arguments>),
    Sign(sign::Arguments),
    Signature(signature::Arguments),
    Cert(cert::Arguments),
    Package(package::Arguments),
    Attest(attest::Arguments),
    Platform(platform::Arguments),
    Explain(explain::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

impl Command {
    /// Where the forms of messages go that nothing else may be among.
    fn message_stream(&self) -> Stream {
        match self {
            Command::Build(arguments) if !arguments.writes_to_standard_output() => Stream::Output,
            Command::Verify(_) | Command::Sign(_) => Stream::Output,
            _ => Stream::Error,
        }
    }
}

/// The `bpf2sys` command: parses the process's arguments, does the work, and gives the exit status.
pub fn main() -> ExitCode {
    // Shells of Windows leave `*.o` to the program. Elsewhere these are the words as they are.
    let words: Vec<OsString> = wild::args_os().collect();
    // So the executable `cargo-bpf2sys` begins its words.
    match words.get(1) {
        Some(word) if word == "cargo" => run_words(&cargo::words(words.into_iter().skip(1))),
        _ => run_words(&words),
    }
}

/// Does what the words of a command line say, the first of which is the tool's name.
fn run_words(words: &[OsString]) -> ExitCode {
    let words = match response::expand(words.to_vec()) {
        Ok(words) => words,
        Err(error) => {
            let mut reporter = early_reporter(words);
            reporter.report(&error, None);
            return ExitCode::from(reporter.finish(error.exit_status()));
        }
    };
    let arguments = match parse(&words) {
        Ok(arguments) => arguments,
        Err(status) => return ExitCode::from(status),
    };
    let mut reporter = Reporter::new(arguments.messages, arguments.command.message_stream());
    let result = catch_unwind(AssertUnwindSafe(|| match arguments.command {
        Command::Init(arguments) => init::run(&arguments, &reporter),
        Command::Build(arguments) => build::run(&arguments, &mut reporter),
        Command::Verify(arguments) => verify::run(&arguments, &mut reporter),
        Command::Port(arguments) => port::run(&arguments, &mut reporter),
        Command::Inspect(arguments) => inspect::run(&arguments, &mut reporter),
        Command::Check(arguments) => check::run(&arguments, &mut reporter),
        Command::Report(arguments) => report::run(&arguments, &mut reporter),
        Command::Run(arguments) => run::run(&arguments, &mut reporter),
        Command::Test(arguments) => test::run(&arguments, &mut reporter),
        Command::Sign(arguments) => sign::run(&arguments, &mut reporter),
        Command::Signature(arguments) => signature::run(&arguments, &mut reporter),
        Command::Cert(arguments) => cert::run(&arguments, &mut reporter),
        Command::Package(arguments) => package::run(&arguments, &mut reporter),
        Command::Attest(arguments) => attest::run(&arguments, &mut reporter),
        Command::Platform(arguments) => platform::run(&arguments, &mut reporter),
        Command::Explain(arguments) => explain::run(&arguments, &reporter),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }));
    let error = match result {
        Ok(Ok(status)) => return ExitCode::from(reporter.finish(status)),
        Ok(Err(error)) => error,
        Err(_) => ErrorKind::Internal("a check inside bpf2sys failed; please report it with the input".into()).into(),
    };
    reporter.report(&error, None);
    ExitCode::from(reporter.finish(error.exit_status()))
}

/// Parses the arguments. If they ask for help or are wrong, that is told, and the exit status is the error.
fn parse(words: &[OsString]) -> Result<Arguments, u8> {
    let early = Early::of(words.get(1..).unwrap_or_default());
    let command = Arguments::command().color(early.options.color);
    let parsed = command
        .try_get_matches_from(words)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let error = match parsed {
        Ok(arguments) => return Ok(arguments),
        Err(error) => error,
    };
    let status = u8::try_from(error.exit_code()).unwrap_or(2);
    let for_people = matches!(
        early.options.message_format,
        MessageFormat::Human | MessageFormat::Short
    );
    if for_people || !error.use_stderr() {
        // Help and version come this way too, with status 0. Nothing is left to do if they can't be printed.
        let _ = error.print();
        return Err(status);
    }
    let mut reporter = early_reporter(words);
    reporter.tell(vec![usage::diagnostic(&error)], None);
    Err(reporter.finish(status))
}

/// One for what is wrong with the command line itself.
fn early_reporter(words: &[OsString]) -> Reporter {
    let early = Early::of(words.get(1..).unwrap_or_default());
    let stream = match early.subcommand {
        Some("build" | "verify" | "sign") | None => Stream::Output,
        Some(_) => Stream::Error,
    };
    Reporter::new(early.options, stream)
}

/// What a subcommand returns: its exit status, or an error that is not about one input.
type Outcome = Result<u8, Error>;
