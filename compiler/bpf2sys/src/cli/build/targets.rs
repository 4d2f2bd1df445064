//! Which file each output goes to.
//!
//! Without `--output`, an output is named after its input, with its form as extension: `a.o`, `a.c` and `a.bpf.c` give `a.sys`. With
//! several architectures the name has the architecture too: `a.x64.sys`, `a.arm64.sys`. Nothing else has part in a name,
//! so a build system knows all names beforehand.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use super::Arguments;
use crate::{Error, ErrorKind, Form, Machine, files, is_source};

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `-`
    StandardOutput,
    /// A file.
    File(PathBuf),
}

/// Where what is made of an input goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Targets {
    /// The outputs, in the order of [`BuildOptions::products`](crate::BuildOptions::products).
    pub outputs: Vec<Target>,
    /// The object of a C source, if it is kept.
    pub object: Option<PathBuf>,
}

/// Chooses targets for several groups of inputs, of which no two may have the same.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    /// What must not be overwritten, without links and the like.
    inputs: HashSet<PathBuf>,
    /// The targets, as [`files::name_key`] has them.
    taken: HashSet<PathBuf>,
}

impl Chooser {
    /// One for which no target is taken. `inputs` are the files that are read.
    pub(super) fn new<'a>(inputs: impl IntoIterator<Item = &'a PathBuf>) -> Chooser {
        Chooser {
            inputs: inputs
                .into_iter()
                .filter_map(|input| fs::canonicalize(input).ok())
                .collect(),
            taken: HashSet::new(),
        }
    }

    /// By input: its targets. Refuses several outputs for one file, and an output that is an input.
    pub(super) fn of(&mut self, arguments: &Arguments, products: &[(Machine, Form)]) -> Result<Vec<Targets>, Error> {
        let inputs = &arguments.inputs;
        if let Some(file) = &arguments.output {
            only_one(inputs, products, file)?;
        }
        let several = products.iter().any(|(machine, _)| *machine != products[0].0);
        let mut targets = Vec::with_capacity(inputs.len());
        for input in inputs {
            let folder = match (&arguments.output, &arguments.out_dir) {
                (Some(file), _) => file.parent().unwrap_or(Path::new("")),
                (None, folder) => folder.as_deref().unwrap_or(Path::new("")),
            };
            let outputs = match &arguments.output {
                Some(file) if file == Path::new("-") => vec![Target::StandardOutput],
                Some(file) => vec![self.file(file.clone())?],
                None => {
                    let names = names(input, products, several)?;
                    names
                        .into_iter()
                        .map(|name| self.file(folder.join(name)))
                        .collect::<Result<_, _>>()?
                }
            };
            let object = if arguments.keep_object && is_source(input) {
                let file = folder.join(input.with_extension("o").file_name().unwrap_or_default());
                self.file(file.clone())?;
                Some(file)
            } else {
                None
            };
            targets.push(Targets { outputs, object });
        }
        Ok(targets)
    }

    /// Takes a file as target.
    pub(super) fn file(&mut self, path: PathBuf) -> Result<Target, Error> {
        if fs::canonicalize(&path).is_ok_and(|path| self.inputs.contains(&path)) {
            return Err(usage(format!(
                "`{}` is an input and would be overwritten",
                path.display()
            )));
        }
        if !self.taken.insert(files::name_key(&path)) {
            return Err(usage(format!("two outputs would be written to `{}`", path.display())));
        }
        Ok(Target::File(path))
    }
}

/// The names of what is made of an input.
fn names(input: &Path, products: &[(Machine, Form)], several: bool) -> Result<Vec<OsString>, Error> {
    let stem = Path::new(input.file_stem().unwrap_or_default());
    let stem = match stem.extension() {
        // The usual names of eBPF programs are `a.bpf.c` and `a.bpf.o`.
        Some(extension) if extension == "bpf" => stem.file_stem().unwrap_or_default(),
        _ => stem.as_os_str(),
    };
    if stem == OsStr::new("") {
        return Err(usage(format!(
            "`{}` has no file name to derive the output's name from",
            input.display()
        )));
    }
    let names = products.iter().map(|(machine, form)| {
        let mut name = stem.to_owned();
        if several {
            name.push(format!(".{machine}"));
        }
        name.push(format!(".{}", form.extension()));
        name
    });
    Ok(names.collect())
}

/// Whether `--output` can name the only output.
fn only_one(inputs: &[PathBuf], products: &[(Machine, Form)], file: &Path) -> Result<(), Error> {
    let several = |what: &str| {
        usage(format!(
            "`--output` names one file, and there are several {what}; use `--out-dir`"
        ))
    };
    if inputs.len() > 1 {
        return Err(several("inputs"));
    }
    if products.len() > 1 {
        return Err(several("outputs"));
    }
    if file.as_os_str().is_empty() {
        return Err(usage("`--output` is empty".into()));
    }
    Ok(())
}

fn usage(message: String) -> Error {
    ErrorKind::Usage(message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_named_after_their_input() {
        let names = |input: &str, several| {
            let products = [(Machine::X64, Form::Sys), (Machine::Arm64, Form::Dll)];
            names(Path::new(input), &products, several)
        };
        for input in ["a.o", "a.c", "sub/a.bpf.c", "a.bpf.o", "a"] {
            assert_eq!(names(input, false).unwrap(), ["a.sys", "a.dll"], "{input}");
        }
        assert_eq!(names("a.b.o", true).unwrap(), ["a.b.x64.sys", "a.b.arm64.dll"]);
        assert_eq!(names(".bpf.o", false).unwrap(), [".bpf.sys", ".bpf.dll"]);
        assert!(names("..", false).is_err());
    }
}
