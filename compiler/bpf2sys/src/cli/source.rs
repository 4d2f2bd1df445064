//! The options about C sources, and inputs of either kind.

use std::path::{Path, PathBuf};

use clap::ValueHint;

use super::reporter::Reporter;
use crate::{Compiler, CompilerOptions, CompilerOutput, Error, Providers, files, is_source};

const HEADING: &str = "C sources";

/// How C sources are compiled.
#[derive(Debug, clap::Args)]
pub(super) struct SourceOptions {
    /// Compile C sources with this clang [default: that of `BPF2SYS_CLANG`, or `clang` or the newest `clang-NN` on the
    /// `PATH` that can compile eBPF]
    #[arg(long, value_name = "CLANG", help_heading = HEADING, value_hint = ValueHint::ExecutablePath)]
    clang: Option<PathBuf>,

    /// Look for headers in this folder; those that `platform header --all` writes are found without
    #[arg(short = 'I', long = "include", value_name = "DIR", help_heading = HEADING, value_hint = ValueHint::DirPath)]
    includes: Vec<PathBuf>,

    /// Define a macro
    #[arg(short = 'D', long = "define", value_name = "NAME[=VALUE]", help_heading = HEADING)]
    defines: Vec<String>,

    /// Give clang this option, too, behind `-target bpf -mcpu=v3 -O2 -g`: `--cflag=-mcpu=v4`
    #[arg(long = "cflag", value_name = "OPTION", help_heading = HEADING, allow_hyphen_values = true)]
    flags: Vec<String>,

    /// Name source files in objects, and so in messages, relative to this folder, so that the same sources give the
    /// same bytes wherever they are [default: the current folder]
    #[arg(long, value_name = "DIR", help_heading = HEADING, value_hint = ValueHint::DirPath)]
    source_root: Option<PathBuf>,
}

impl SourceOptions {
    /// The compiler for these inputs; none if none of them is a C source.
    pub(super) fn compiler(
        &self,
        inputs: &[PathBuf],
        providers: &Providers,
        deny_warnings: bool,
        reporter: &Reporter,
    ) -> Result<Option<Compiler>, Error> {
        if !inputs.iter().any(|input| is_source(input)) {
            return Ok(None);
        }
        let options = CompilerOptions {
            clang: self.clang.clone(),
            includes: self.includes.clone(),
            defines: self.defines.clone(),
            flags: self.flags.clone(),
            source_root: self.source_root.clone(),
            colors: reporter.has_colors(),
            deny_warnings,
        };
        Ok(Some(Compiler::new(options, providers.platform())?))
    }
}

/// An object, read or compiled.
#[derive(Debug)]
pub(super) struct Object {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// The files that were read for it.
    pub reads: Vec<PathBuf>,
    /// What the compiler said.
    pub said: CompilerOutput,
}

/// Reads an object, or compiles a C source to one.
pub(super) fn load(input: &Path, compiler: Option<&Compiler>) -> Result<Object, Error> {
    if let Some(compiler) = compiler.filter(|_| is_source(input)) {
        // The tool's own words for a file that is not there are those of all its inputs.
        files::readable(input)?;
        let compiled = compiler.compile(input)?;
        return Ok(Object {
            bytes: compiled.object,
            reads: compiled.reads,
            said: compiled.output,
        });
    }
    Ok(Object {
        bytes: files::read(input)?,
        reads: vec![input.to_owned()],
        said: CompilerOutput::default(),
    })
}
