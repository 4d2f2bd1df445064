//! `bpf2sys build`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Outcome, output};
use crate::{BuildOptions, Error, ErrorKind, files};

/// Verify eBPF object files and compile each to a Windows driver.
///
/// Every program of an object is verified before anything is compiled; if one is rejected, no file is written. The
/// same object gives the same bytes on every machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys build udp_filter.o
  bpf2sys build udp_filter.o -o drivers/filter.sys
  bpf2sys build --out-dir drivers *.o
  bpf2sys build --type xdp filter.o        programs in sections that name no program type")]
pub(super) struct Arguments {
    /// Object files, as `clang -target bpf` writes them
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,

    /// Write the driver to this file; `-` is standard output [default: the input's name with `.sys`, in this folder]
    #[arg(short, long, value_name = "FILE", conflicts_with = "out_dir")]
    output: Option<PathBuf>,

    /// Write the drivers to this folder, which is made if needed
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,

    /// Print nothing when all is well
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    verification: super::verify::Options,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let outputs = outputs(arguments)?;
    if let Some(folder) = &arguments.out_dir {
        std::fs::create_dir_all(folder).map_err(|source| ErrorKind::WriteFile {
            path: folder.clone(),
            source,
        })?;
    }
    let options = arguments.verification.build_options();
    output::for_each_input(&arguments.inputs, "building", |index, input| {
        build_one(input, &outputs[index], &options, arguments.quiet)
    })
}

fn build_one(input: &Path, target: &Path, options: &BuildOptions, quiet: bool) -> Result<String, Error> {
    let object = files::read(input)?;
    let built = crate::build(&object, &input.to_string_lossy(), options)?;
    if target == Path::new("-") {
        output::print_bytes(built.image.bytes())?;
        return Ok(String::new());
    }
    files::write(target, built.image.bytes())?;
    if quiet {
        return Ok(String::new());
    }
    super::inspect::summary(target, built.image.bytes())
}

/// One output path per input; refuses two inputs for one output and an output that is an input.
fn outputs(arguments: &Arguments) -> Result<Vec<PathBuf>, Error> {
    let usage = |message: String| Error::from(ErrorKind::Usage(message));
    if let Some(file) = &arguments.output {
        if arguments.inputs.len() > 1 {
            return Err(usage(
                "`--output` names one file, and there are several inputs; use `--out-dir`".into(),
            ));
        }
        if file.as_os_str().is_empty() {
            return Err(usage("`--output` is empty".into()));
        }
    }
    let mut outputs: Vec<PathBuf> = Vec::with_capacity(arguments.inputs.len());
    for input in &arguments.inputs {
        let target = match (&arguments.output, &arguments.out_dir) {
            (Some(file), _) => file.clone(),
            (None, folder) => {
                let stem = input.file_stem().filter(|s| *s != OsStr::new("")).ok_or_else(|| {
                    usage(format!(
                        "`{}` has no file name to derive the driver's name from",
                        input.display()
                    ))
                })?;
                let mut name = stem.to_owned();
                name.push(".sys");
                folder.as_ref().map_or_else(|| PathBuf::from(&name), |f| f.join(&name))
            }
        };
        if outputs.contains(&target) {
            return Err(usage(format!("two inputs would be written to `{}`", target.display())));
        }
        if arguments.inputs.iter().any(|i| files::same_file(i, &target)) {
            return Err(usage(format!(
                "`{}` is an input and would be overwritten",
                target.display()
            )));
        }
        outputs.push(target);
    }
    Ok(outputs)
}
