//! `bpf2sys.toml`: what a project is built of, and with which options.
//!
//! Keys are the options of `bpf2sys build` by their long names, and values become the words that the command line would have: one
//! parser reads both, so that nothing can be said in one place only or mean two things. What the command line says itself
//! takes the place of what the file says. Files are named relative to the file's folder.
//!
//! A `Cargo.toml` can have the same in a table `[package.metadata.bpf2sys]` or `[workspace.metadata.bpf2sys]`; its outputs
//! go to the folder `bpf2sys` of cargo's target folder.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Arguments;
use crate::cli::{providers, sign, usage};
use crate::{Error, ErrorKind, ProjectError, SourcePlace, files, version_info};

/// The name of project files.
pub(in crate::cli) const FILE_NAME: &str = "bpf2sys.toml";

/// Cargo's own file, and where it can have a project.
pub(in crate::cli) const CARGO_FILE_NAME: &str = "Cargo.toml";
const CARGO_TABLES: [[&str; 3]; 2] = [["package", "metadata", "bpf2sys"], ["workspace", "metadata", "bpf2sys"]];

/// Options that are not about a project but about one run, or have other keys.
const NOT_KEYS: [&str; 7] = ["project", "depfile", "depfile-form", "jobs", "quiet", "summary", "help"];

/// What the command line says, whatever it means: the words that take the place of a project's.
#[derive(Clone, Debug)]
pub(super) struct Given(ArgMatches);

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Given, clap::Error> {
        Ok(Given(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Given(matches.clone());
        Ok(())
    }
}

impl Given {
    /// Whether the command line has an option.
    fn has(&self, option: &Arg) -> bool {
        let id = option.get_id().as_str();
        self.0.try_contains_id(id).is_ok() && self.0.value_source(id) == Some(ValueSource::CommandLine)
    }

    /// An option's words.
    fn words(&self, option: &Arg, long: &str) -> Vec<OsString> {
        if matches!(option.get_action(), ArgAction::SetTrue) {
            return vec![format!("--{long}").into()];
        }
        let values = self.0.get_raw(option.get_id().as_str()).into_iter().flatten();
        values.map(|value| word(long, value)).collect()
    }
}

fn word(long: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(format!("--{long}="));
    word.push(value);
    word
}

/// A project file, read.
pub(super) struct Project {
    /// The file.
    pub file: PathBuf,
    /// Inputs with their options: those of the whole project, and of each `[[driver]]`.
    pub groups: Vec<Arguments>,
}

/// Reads the project file that the arguments mean.
pub(super) fn load(arguments: &Arguments) -> Result<Project, Error> {
    let file = match &arguments.project {
        Some(file) => file.clone(),
        None => nearest()?,
    };
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let text =
        files::text(files::read(&file)?).ok_or_else(|| ProjectError::new(&file, "it is no text: it must be UTF-8"))?;
    let reader = Reader {
        file: &file,
        folder,
        text: &text,
        command: Arguments::augment_args(Command::new("bpf2sys build").no_binary_name(true)),
        target: OnceCell::new(),
    };
    let groups = reader.groups(arguments)?;
    Ok(Project { file, groups })
}

/// The project file of this folder, or of the nearest one above that has one.
fn nearest() -> Result<PathBuf, Error> {
    above(FILE_NAME, Path::is_file).ok_or_else(|| {
        ErrorKind::Usage(format!(
            "no input is named, and neither this folder nor one above has a `{FILE_NAME}`; `bpf2sys init` writes one"
        ))
        .into()
    })
}

/// A file of this name that is wanted, in this folder or the nearest one above.
pub(in crate::cli) fn above(name: &str, wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut file = PathBuf::from(name);
    let here = std::env::current_dir().unwrap_or_default();
    for _ in here.ancestors() {
        if wanted(&file) {
            return Some(file);
        }
        file = Path::new("..").join(file);
    }
    None
}

/// Whether an option belongs in `[sign]`.
fn is_of_signing(option: &Arg) -> bool {
    option.get_help_heading() == Some(sign::HEADING)
}

/// A table below others.
fn table_at<'t>(table: &'t DeTable<'t>, path: &[&str]) -> Option<&'t DeTable<'t>> {
    path.iter()
        .try_fold(table, |table, key| table.get(*key)?.get_ref().as_table())
}

/// Whether a `Cargo.toml` has a project.
pub(in crate::cli) fn has_project(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    DeTable::parse(&text).is_ok_and(|table| {
        CARGO_TABLES
            .iter()
            .any(|path| table_at(table.get_ref(), path).is_some())
    })
}

/// Cargo's target folder, as cargo says; or where it is if nothing else is said.
fn cargo_target(manifest: &Path) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let said = std::process::Command::new(cargo)
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--offline",
            "--manifest-path",
        ])
        .arg(manifest)
        .stdin(std::process::Stdio::null())
        .output();
    let target = |said: &[u8]| {
        let metadata: serde_json::Value = serde_json::from_slice(said).ok()?;
        Some(PathBuf::from(metadata.get("target_directory")?.as_str()?))
    };
    said.ok()
        .and_then(|said| target(&said.stdout))
        .unwrap_or_else(|| manifest.with_file_name("target"))
}

/// A value of the file, and where its key is.
type Entry<'t> = (&'t Spanned<DeValue<'t>>, Range<usize>);

struct Reader<'t> {
    file: &'t Path,
    /// Empty for the current one.
    folder: PathBuf,
    text: &'t str,
    command: Command,
    /// Cargo's target folder, once it is asked for.
    target: OnceCell<PathBuf>,
}

impl Reader<'_> {
    fn groups(&self, arguments: &Arguments) -> Result<Vec<Arguments>, Error> {
        let whole = DeTable::parse(self.text).map_err(|error| self.error(error.span(), error.message()))?;
        let table = if self.is_of_cargo() {
            let mut tables = CARGO_TABLES.iter();
            tables
                .find_map(|path| table_at(whole.get_ref(), path))
                .ok_or_else(|| self.error(None, "it has no table `[package.metadata.bpf2sys]`"))?
        } else {
            whole.get_ref()
        };
        let mut common = self.entries(table, &["inputs", "driver", "sign", "version-info"])?;
        let top = |key: &str| table.get(key);
        let version_info = self.version_info(&mut common)?;
        let mut groups = Vec::new();
        let inputs = common.remove("inputs");
        if inputs.is_some() || top("driver").is_none() {
            let mut group = self.group(&common, arguments)?;
            group.inputs = inputs.map(|entry| self.inputs(&entry)).transpose()?.unwrap_or_default();
            groups.push(group);
        }
        for driver in top("driver")
            .map(|drivers| self.drivers(drivers))
            .transpose()?
            .unwrap_or_default()
        {
            let mut all = common.clone();
            let own = self.entries(driver, &["inputs", "output", "sign"])?;
            if own.contains_key("output") {
                all.remove("out-dir");
            }
            all.extend(own);
            let Some(inputs) = all.remove("inputs") else {
                return Err(self.error(None, "a `[[driver]]` names no `inputs`"));
            };
            let mut group = self.group(&all, arguments)?;
            group.inputs = self.inputs(&inputs)?;
            groups.push(group);
        }
        if !arguments.inputs.is_empty() {
            groups = self.only(arguments, groups, &common)?;
        } else if groups.iter().all(|group| group.inputs.is_empty()) {
            return Err(self.error(None, "it names no `inputs`"));
        }
        for group in &mut groups {
            group.compilation.set_version_info(version_info.clone());
        }
        Ok(groups)
    }

    /// Groups with only the inputs that the command line names: with the options of the group that has them, or else with those
    /// of the project.
    fn only(
        &self,
        arguments: &Arguments,
        mut groups: Vec<Arguments>,
        common: &BTreeMap<String, Entry<'_>>,
    ) -> Result<Vec<Arguments>, Error> {
        let real = |path: &PathBuf| fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let mut wanted: Vec<(PathBuf, PathBuf)> =
            arguments.inputs.iter().map(|path| (real(path), path.clone())).collect();
        for group in &mut groups {
            let of_group: Vec<PathBuf> = group.inputs.iter().map(real).collect();
            let (own, others) = wanted.into_iter().partition(|(real, _)| of_group.contains(real));
            wanted = others;
            let own: Vec<(PathBuf, PathBuf)> = own;
            group.inputs = own.into_iter().map(|(_, path)| path).collect();
        }
        groups.retain(|group| !group.inputs.is_empty());
        if !wanted.is_empty() {
            let mut others = self.group(common, arguments)?;
            others.inputs = wanted.into_iter().map(|(_, path)| path).collect();
            groups.push(others);
        }
        Ok(groups)
    }

    fn is_of_cargo(&self) -> bool {
        self.file.file_name() == Some(OsStr::new(CARGO_FILE_NAME))
    }

    /// The entries of a table, with those of `sign` by their long names. `special` are keys that are no options.
    fn entries<'t>(&self, table: &'t DeTable<'t>, special: &[&str]) -> Result<BTreeMap<String, Entry<'t>>, Error> {
        let mut entries = BTreeMap::new();
        for (key, value) in table {
            let (name, place) = (key.get_ref().as_ref(), key.span());
            match (name, value.get_ref()) {
                ("driver", _) if special.contains(&"driver") => {}
                ("sign", DeValue::Table(sign)) if special.contains(&"sign") => {
                    for (key, value) in sign {
                        let long = format!("sign-{}", key.get_ref());
                        if !self.option(&long).is_some_and(is_of_signing) {
                            return Err(self.unknown(&format!("sign.{}", key.get_ref()), key.span()));
                        }
                        entries.insert(long, (value, key.span()));
                    }
                }
                _ if special.contains(&name) => {
                    entries.insert(name.to_owned(), (value, place));
                }
                _ if name != "output" && self.option(name).is_some_and(|option| !is_of_signing(option)) => {
                    entries.insert(name.to_owned(), (value, place));
                }
                _ => return Err(self.unknown(name, place)),
            }
        }
        Ok(entries)
    }

    /// The option that a key means.
    fn option(&self, key: &str) -> Option<&Arg> {
        if NOT_KEYS.contains(&key) {
            return None;
        }
        self.command
            .get_arguments()
            .find(|option| option.get_long() == Some(key))
    }

    fn unknown(&self, key: &str, place: Range<usize>) -> Error {
        let mut error = self.project_error(Some(place), &format!("`{key}` is no key of a project file"));
        let known = self.command.get_arguments().filter(|option| !is_of_signing(option));
        let known: Vec<&str> = known
            .filter_map(Arg::get_long)
            .filter(|long| !NOT_KEYS.contains(long) && *long != "output")
            .collect();
        error.help = Some(format!(
            "keys are `inputs`, `[[driver]]`, `[version-info]`, `[sign]`, and these options of `bpf2sys build`: {}",
            known.join(", ")
        ));
        error.into()
    }

    /// The tables of `[[driver]]`.
    fn drivers<'t>(&self, value: &'t Spanned<DeValue<'t>>) -> Result<Vec<&'t DeTable<'t>>, Error> {
        let tables = value.get_ref().as_array().map(|array| {
            array
                .iter()
                .map(|item| item.get_ref().as_table())
                .collect::<Option<Vec<_>>>()
        });
        tables
            .flatten()
            .ok_or_else(|| self.error(Some(value.span()), "`driver` is a list of tables: write `[[driver]]`"))
    }

    /// The table `version-info`, taken from the entries; what is no table names a file, as the option does.
    fn version_info(&self, entries: &mut BTreeMap<String, Entry<'_>>) -> Result<Option<crate::VersionInfo>, Error> {
        let Some((value, place)) = entries.get("version-info").cloned() else {
            return Ok(None);
        };
        if !value.get_ref().is_table() {
            return Ok(None);
        }
        entries.remove("version-info");
        version_info::of_table(value.clone()).map(Some).map_err(|problem| {
            self.error(
                Some(place.clone()),
                &format!("the version information can't be used: {problem}"),
            )
        })
    }

    /// The files that `inputs` means: names, and patterns with `*`, `?` and `[`.
    fn inputs(&self, (value, place): &Entry<'_>) -> Result<Vec<PathBuf>, Error> {
        let not_texts = || self.error(Some(place.clone()), "`inputs` is a list of file names and patterns");
        let items = value.get_ref().as_array().ok_or_else(not_texts)?;
        let mut found: Vec<PathBuf> = Vec::new();
        for item in items {
            let name = item.get_ref().as_str().ok_or_else(not_texts)?;
            if !name.contains(['*', '?', '[']) {
                found.push(self.joined(name));
                continue;
            }
            let folder = glob::Pattern::escape(&self.folder.to_string_lossy());
            let pattern = Path::new(&folder).join(name).to_string_lossy().into_owned();
            let failed = |why: String| self.error(Some(item.span()), &format!("the pattern `{name}`: {why}"));
            let matches = glob::glob(&pattern).map_err(|error| failed(error.to_string()))?;
            let before = found.len();
            for path in matches {
                let path = path.map_err(|error| failed(error.to_string()))?;
                if !found.contains(&path) {
                    found.push(path);
                }
            }
            if found.len() == before {
                return Err(failed("no file matches it".to_owned()));
            }
        }
        Ok(found)
    }

    /// The arguments of a group: what the command line says, and for the rest what the file says.
    fn group(&self, entries: &BTreeMap<String, Entry<'_>>, arguments: &Arguments) -> Result<Arguments, Error> {
        let given = &arguments.given;
        let mut words: Vec<OsString> = Vec::new();
        let mut has_place = false;
        for option in self.command.get_arguments() {
            let Some(long) = option.get_long() else { continue };
            if given.has(option) {
                words.extend(given.words(option, long));
            } else if let Some(entry) = entries.get(long) {
                // `-o` on the command line has the place of the file's folder.
                if long == "out-dir" && arguments.output.is_some() || long == "output" && arguments.out_dir.is_some() {
                    continue;
                }
                words.extend(self.words(option, long, entry)?);
            } else {
                continue;
            }
            has_place |= matches!(long, "out-dir" | "output");
        }
        if self.is_of_cargo() && !has_place {
            let target = self.target.get_or_init(|| cargo_target(self.file));
            words.push(word("out-dir", target.join("bpf2sys").as_os_str()));
            has_place = true;
        }
        if !self.folder.as_os_str().is_empty() {
            // As if the tool were run there.
            let folder = self.folder.as_os_str();
            if !has_place {
                words.push(word("out-dir", folder));
            }
            if words
                .iter()
                .all(|word| !word.to_string_lossy().starts_with("--source-root="))
            {
                words.push(word("source-root", folder));
            }
        }
        let matches =
            (self.command.clone().try_get_matches_from(&words)).map_err(|error| self.refused(&error, entries))?;
        Arguments::from_arg_matches(&matches).map_err(|error| self.refused(&error, entries))
    }

    /// What the command line would say instead of an entry.
    fn words(&self, option: &Arg, long: &str, (value, place): &Entry<'_>) -> Result<Vec<OsString>, Error> {
        let wrong = |what: &str| self.error(Some(place.clone()), &format!("`{long}` is {what}"));
        let text = |value: &DeValue<'_>| match value {
            DeValue::String(text) => Some(self.value(option, long, text)),
            // `runtime = 1.6` means what it says.
            DeValue::Integer(number) => Some(number.as_str().into()),
            DeValue::Float(number) => Some(number.as_str().into()),
            _ => None,
        };
        match (value.get_ref(), option.get_action()) {
            (DeValue::Boolean(true), ArgAction::SetTrue) => Ok(vec![format!("--{long}").into()]),
            (DeValue::Boolean(false), ArgAction::SetTrue) => Ok(Vec::new()),
            (_, ArgAction::SetTrue) => Err(wrong("true or false")),
            (DeValue::Array(items), ArgAction::Append) => items
                .iter()
                .map(|item| Some(word(long, &text(item.get_ref())?)))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| wrong("a list of texts")),
            (value, action) => match (text(value), action) {
                (Some(text), _) => Ok(vec![word(long, &text)]),
                (None, ArgAction::Append) => Err(wrong("a text, or a list of texts")),
                (None, _) => Err(wrong("a text")),
            },
        }
    }

    /// A text as the command line would have it: files are relative to the project.
    fn value(&self, option: &Arg, long: &str, text: &str) -> OsString {
        let is_file = match option.get_value_hint() {
            ValueHint::FilePath | ValueHint::DirPath => {
                !(long == "platform" && providers::is_registry(Path::new(text)))
            }
            // A name alone is looked for on the `PATH`.
            ValueHint::ExecutablePath => text.contains(std::path::is_separator),
            _ => false,
        };
        if is_file { self.joined(text).into() } else { text.into() }
    }

    fn joined(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the parser of command lines refused, as an error of the file where it has the option.
    fn refused(&self, error: &clap::Error, entries: &BTreeMap<String, Entry<'_>>) -> Error {
        let told = usage::diagnostic(error);
        let about = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(option)) => option.as_str(),
            Some(ContextValue::Strings(options)) => options.first().map_or("", String::as_str),
            _ => "",
        };
        let long = about
            .trim_start_matches('-')
            .split([' ', '='])
            .next()
            .unwrap_or_default();
        match entries.get(long) {
            Some((_, place)) => {
                let mut error = self.project_error(Some(place.clone()), &told.message);
                error.help = told.help;
                error.into()
            }
            None => ErrorKind::Usage(told.message).into(),
        }
    }

    fn error(&self, place: Option<Range<usize>>, message: &str) -> Error {
        self.project_error(place, message).into()
    }

    fn project_error(&self, place: Option<Range<usize>>, message: &str) -> ProjectError {
        let mut error = ProjectError::new(self.file, message);
        error.place = place.map(|span| self.place(span.start));
        error
    }

    fn place(&self, offset: usize) -> SourcePlace {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        SourcePlace {
            file: self.file.display().to_string(),
            line: number(before.matches('\n').count() + 1),
            column: number(before.len() - start + 1),
            text: self.text[start..].lines().next().unwrap_or_default().to_owned(),
        }
    }
}
