//! `bpf2sys build` as a function of other programs: the same words, and values instead of text.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use bpf2sys_verifier::VerifiedModule;
use clap::{Args, Command, FromArgMatches};

use super::{Arguments, Plan};
use crate::cli::reporter::Reporter;
use crate::cli::usage;
use crate::{Diagnostic, Error, ErrorKind, Form, Machine};

/// What came of a build.
#[derive(Debug)]
pub struct BuildReport {
    /// By input, in the order of the inputs.
    pub inputs: Vec<BuiltInput>,
    /// Every file that was read: inputs, headers, and what options name.
    pub reads: BTreeSet<PathBuf>,
    /// Warnings about what options name.
    pub warnings: Vec<Diagnostic>,
}

/// What came of an input.
#[derive(Debug)]
pub struct BuiltInput {
    /// The input, as it was named.
    pub input: PathBuf,
    /// What was made of it, or why nothing was.
    pub result: Result<BuiltModule, Error>,
}

/// What was made of an input.
#[derive(Debug)]
pub struct BuiltModule {
    /// The verified module.
    pub verified: VerifiedModule,
    /// The files that hold the outputs, in the order of the options.
    pub files: Vec<BuiltFile>,
    /// Warnings about its programs, and those of clang.
    pub warnings: Vec<Diagnostic>,
}

/// A file that holds an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltFile {
    /// Where it is.
    pub path: PathBuf,
    /// The machine it is for.
    pub machine: Machine,
    /// What it is.
    pub form: Form,
}

/// Does what `bpf2sys build` does with these arguments, those behind `build`, one input after the other, and prints nothing.
///
/// # Errors
/// What is wrong with the arguments, or with what they name. What is wrong with an input is in the report.
pub fn run_build(arguments: impl IntoIterator<Item = OsString>) -> Result<BuildReport, Error> {
    let command = Arguments::augment_args(Command::new("bpf2sys build").no_binary_name(true));
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = parsed.map_err(|error| ErrorKind::Usage(usage::diagnostic(&error).message))?;
    let mut reporter = Reporter::silent();
    let plan = Plan::new(&arguments, &mut reporter)?;
    let mut reads = plan.reads();
    reads.extend(plan.inputs.iter().cloned());
    let mut inputs = Vec::with_capacity(plan.inputs.len());
    for (index, input) in plan.inputs.iter().enumerate() {
        let result = plan.make(index).map(|made| {
            reads.extend(made.reads);
            let mut warnings = made.said.diagnostics();
            warnings.extend(crate::warnings(&made.verified, made.ported.as_ref()));
            let files = made.files.into_iter().map(|(path, output)| BuiltFile {
                path: path.to_owned(),
                machine: output.machine,
                form: output.form,
            });
            BuiltModule {
                files: files.collect(),
                verified: made.verified,
                warnings,
            }
        });
        inputs.push(BuiltInput {
            input: input.clone(),
            result,
        });
    }
    Ok(BuildReport {
        inputs,
        reads,
        warnings: reporter.into_told(),
    })
}
