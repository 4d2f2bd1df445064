//! Which file each output goes to.
//!
//! Without `--output`, an output is named after its input, with its form as extension: `a.o` gives `a.sys`. With several
//! architectures the name has the architecture too: `a.x64.sys`, `a.arm64.sys`. Nothing else has part in a name, so a build
//! system knows all names beforehand.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Arguments;
use crate::{Error, ErrorKind, Form, Machine, files};

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `-`
    StandardOutput,
    /// A file.
    File(PathBuf),
}

/// By input: the targets of `products`. Refuses several outputs for one file, and an output that is an input.
pub(super) fn of(arguments: &Arguments, products: &[(Machine, Form)]) -> Result<Vec<Vec<Target>>, Error> {
    if let Some(file) = &arguments.output {
        return one(arguments, products, file).map(|target| vec![vec![target]]);
    }
    let mut taken: Vec<PathBuf> = Vec::new();
    let several = products.iter().any(|(machine, _)| *machine != products[0].0);
    let mut targets = Vec::with_capacity(arguments.inputs.len());
    for input in &arguments.inputs {
        let stem = input
            .file_stem()
            .filter(|stem| *stem != OsStr::new(""))
            .ok_or_else(|| {
                usage(format!(
                    "`{}` has no file name to derive the output's name from",
                    input.display()
                ))
            })?;
        let mut of_input = Vec::with_capacity(products.len());
        for (machine, form) in products {
            let mut name = stem.to_owned();
            if several {
                name.push(format!(".{machine}"));
            }
            name.push(format!(".{}", form.extension()));
            let target = arguments.out_dir.as_deref().unwrap_or(Path::new("")).join(name);
            if taken.contains(&target) {
                return Err(usage(format!("two inputs would be written to `{}`", target.display())));
            }
            refuse_input(arguments, &target)?;
            taken.push(target.clone());
            of_input.push(Target::File(target));
        }
        targets.push(of_input);
    }
    Ok(targets)
}

/// The target that `--output` names.
fn one(arguments: &Arguments, products: &[(Machine, Form)], file: &Path) -> Result<Target, Error> {
    let several = |what: &str| {
        usage(format!(
            "`--output` names one file, and there are several {what}; use `--out-dir`"
        ))
    };
    if arguments.inputs.len() > 1 {
        return Err(several("inputs"));
    }
    if products.len() > 1 {
        return Err(several("outputs"));
    }
    if file.as_os_str().is_empty() {
        return Err(usage("`--output` is empty".into()));
    }
    if file == Path::new("-") {
        return Ok(Target::StandardOutput);
    }
    refuse_input(arguments, file)?;
    Ok(Target::File(file.to_owned()))
}

fn refuse_input(arguments: &Arguments, target: &Path) -> Result<(), Error> {
    if arguments.inputs.iter().any(|input| files::same_file(input, target)) {
        let message = format!("`{}` is an input and would be overwritten", target.display());
        return Err(usage(message));
    }
    Ok(())
}

fn usage(message: String) -> Error {
    ErrorKind::Usage(message).into()
}
