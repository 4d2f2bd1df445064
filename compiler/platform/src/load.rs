//! Provider files into a [`Platform`].
//!
//! Given: the text of the files. Computed: the platform, with names of argument and return types resolved.
//! Safe because: whatever the rest of the tool relies on is checked here once: ids and GUIDs are unique, prototypes
//! are ones the verifier can use, context offsets lie inside the context. An error names file, table and field.

use std::collections::BTreeMap;

use crate::model::{Limits, Platform, VerifierOptions};
use crate::schema;
use crate::{Guid, PlatformError};

mod btf;
pub(crate) mod context;
mod describe;
mod difference;
mod join;
mod maps;
pub(crate) mod place;
mod program_type;
pub(crate) mod prototype;

use join::{Joined, Source};
use maps::map_types;
use place::Place;
use prototype::Scope;

/// The providers that are built in, as (file name, text): the core first.
const BUILTIN: [(&str, &str); 5] = [
    ("core.toml", include_str!("../providers/core.toml")),
    ("netebpfext.toml", include_str!("../providers/netebpfext.toml")),
    ("xdp.toml", include_str!("../providers/xdp.toml")),
    ("ntosebpfext.toml", include_str!("../providers/ntosebpfext.toml")),
    ("sample.toml", include_str!("../providers/sample.toml")),
];

/// The only version of the schema.
const SCHEMA: u32 = 1;

/// Most bytes of a provider file; those that are built in have 30 KiB at most.
const MAX_FILE: usize = 4 << 20;

impl Platform {
    /// The platform of the providers that are built in: the core, netebpfext, xdp, ntosebpfext and sample.
    #[must_use]
    pub fn builtin() -> Platform {
        Platform::from_toml(&BUILTIN).expect("the built-in providers are part of the program, and a test loads them")
    }

    /// The JSON schema of provider files (draft 2020-12), for editors and for whoever makes such files.
    #[must_use]
    pub fn schema() -> &'static str {
        include_str!("../schema/provider.schema.json")
    }

    /// The built-in providers as (file name, text), to load together with a user's own.
    #[must_use]
    pub fn builtin_files() -> &'static [(&'static str, &'static str)] {
        &BUILTIN
    }

    /// The platform that these provider files describe, given as (file name, text). Names of argument and return types
    /// may be used in any file, whichever file defines them. A file may repeat what an earlier one says, and say more; it may
    /// not say otherwise, unless it replaces the earlier one's provider.
    ///
    /// # Errors
    /// A file is no valid TOML of the schema, or the files contradict a rule of the platform or each other.
    pub fn from_toml(files: &[(&str, &str)]) -> Result<Platform, PlatformError> {
        let parsed = parse(files)?;
        Loader::new(&parsed)?.load(&parsed)
    }
}

/// The tables of provider files.
fn parse<'a>(files: &[(&'a str, &str)]) -> Result<Vec<(&'a str, schema::File)>, PlatformError> {
    let mut parsed = Vec::with_capacity(files.len());
    for &(name, text) in files {
        if text.len() > MAX_FILE {
            let (file, limit) = (name.to_owned(), MAX_FILE);
            return Err(PlatformError::TooLarge { file, limit });
        }
        let file: schema::File = toml::from_str(text).map_err(|e| syntax_error(name, text, &e))?;
        if file.schema != SCHEMA {
            return Err(PlatformError::Inconsistent {
                file: name.to_owned(),
                table: "top level".to_owned(),
                field: "schema",
                message: format!("is {}, and only {SCHEMA} is known", file.schema),
            });
        }
        parsed.push((name, file));
    }
    Ok(parsed)
}

/// The runtime's limits and types of arguments and results, which the core describes.
pub(crate) fn with_core<T>(use_it: impl FnOnce(&Loader<'_>) -> T) -> Result<T, PlatformError> {
    let parsed = parse(&BUILTIN[..1])?;
    Loader::new(&parsed).map(|loader| use_it(&loader))
}

/// Names the table around the place where the TOML reader stopped.
fn syntax_error(file: &str, text: &str, error: &toml::de::Error) -> PlatformError {
    let at = error.span().map_or(0, |s| s.start).min(text.len());
    let before = text.get(..at).unwrap_or(text);
    let header = |line: &&str| line.starts_with('[');
    // A span inside a header means that table itself.
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let own = text.get(line_start..).and_then(|t| t.lines().next()).filter(header);
    let table = own.or_else(|| before.lines().rev().find(header)).unwrap_or("top level");
    let key = text
        .lines()
        .nth(before.matches('\n').count())
        .and_then(|line| line.split_once('='))
        .map(|(key, _)| key.trim());
    let message = error.message();
    PlatformError::Syntax {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        table: table.split('#').next().unwrap_or(table).trim().to_owned(),
        message: match key {
            Some(key) if !message.contains(&format!("`{key}`")) => format!("`{key}`: {message}"),
            _ => message.to_owned(),
        },
    }
}

type Files<'a> = [(&'a str, schema::File)];

/// What all files define together.
pub(crate) struct Loader<'a> {
    pub(crate) limits: &'a schema::Limits,
    options: &'a schema::VerifierOptions,
    pub(crate) arguments: BTreeMap<&'a str, &'a schema::ArgumentType>,
    pub(crate) returns: BTreeMap<&'a str, &'a schema::ReturnType>,
}

impl<'a> Loader<'a> {
    fn new(files: &'a Files<'a>) -> Result<Loader<'a>, PlatformError> {
        let limits = only_one(files, "limits", |f| f.limits.as_ref())?;
        let options = only_one(files, "verifier_options", |f| f.verifier_options.as_ref())?;
        let mut arguments = BTreeMap::new();
        let mut returns = BTreeMap::new();
        for (file, content) in files {
            for argument in &content.argument_type {
                let place = Place::new(file, "argument_type", &argument.name);
                let repeated = arguments
                    .values()
                    .any(|a: &&schema::ArgumentType| a.value == argument.value);
                place.check(!repeated, "value", || format!("{} is used twice", argument.value))?;
                let before = arguments.insert(argument.name.as_str(), argument);
                place.check(before.is_none(), "name", || "is used twice".to_owned())?;
            }
            for value in &content.return_type {
                let place = Place::new(file, "return_type", &value.name);
                let repeated = returns.values().any(|r: &&schema::ReturnType| r.value == value.value);
                place.check(!repeated, "value", || format!("{} is used twice", value.value))?;
                let before = returns.insert(value.name.as_str(), value);
                place.check(before.is_none(), "name", || "is used twice".to_owned())?;
            }
        }
        Ok(Loader {
            limits,
            options,
            arguments,
            returns,
        })
    }

    fn load(&self, files: &Files<'_>) -> Result<Platform, PlatformError> {
        let map_types = map_types(files)?;
        let mut joined = Joined::new(self);
        let sources = sources(files)?;
        for (source, (file, content)) in sources.iter().zip(files) {
            let mut scope = Scope::default();
            for helper in &content.helper {
                let place = Place::new(file, "helper", &helper.name);
                let last = self.limits.max_general_helper_id;
                place.check(helper.id <= last, "id", || {
                    format!("{} is above {last}, the last of a general helper", helper.id)
                })?;
                self.add_helper(&place, helper, &map_types, &mut scope)?;
            }
            for helper in scope.finish() {
                joined.add_general(helper, *source);
            }
        }
        for (source, (file, content)) in sources.iter().zip(files) {
            self.join_types(file, content, *source, &map_types, &mut joined)?;
            self.join_functions(file, content, *source, &map_types, &mut joined)?;
        }
        let together = joined.finish()?;
        let mut map_argument_types: Vec<u32> = self
            .arguments
            .values()
            .filter(|a| a.verifier_kind.as_deref().is_some_and(|k| k.starts_with("MAP_FD")))
            .map(|a| a.value)
            .collect();
        map_argument_types.sort_unstable();
        Ok(Platform {
            providers: describe::providers(files),
            structures: describe::structures(files)?,
            argument_types: self.argument_type_list(),
            return_types: self.return_type_list(),
            program_types: together.program_types,
            undescribed_sections: together.undescribed_sections,
            helpers: together.helpers,
            btf_functions: together.btf_functions,
            map_types,
            map_argument_types,
            limits: Limits {
                subprogram_stack_bytes: self.limits.subprogram_stack_bytes,
                max_call_frames: self.limits.max_call_frames,
                max_tail_call_count: self.limits.max_tail_call_count,
                max_packet_bytes: self.limits.max_packet_bytes,
                object_name_bytes: self.limits.object_name_bytes,
                max_general_helper_id: self.limits.max_general_helper_id,
                max_map_allocation_bytes: self.limits.max_map_allocation_bytes,
            },
            verifier_options: VerifierOptions {
                check_for_termination: self.options.check_for_termination,
                must_have_exit: self.options.must_have_exit,
                strict: self.options.strict,
                allow_division_by_zero: self.options.allow_division_by_zero,
                setup_constraints: self.options.setup_constraints,
                conformance_groups: self.options.conformance_groups.clone(),
            },
        })
    }
}

/// Who says what the files say. Only an earlier file can be replaced.
fn sources<'a>(files: &'a Files<'a>) -> Result<Vec<Source<'a>>, PlatformError> {
    let mut sources: Vec<Source<'a>> = Vec::with_capacity(files.len());
    for (number, (file, content)) in files.iter().enumerate() {
        let provider = &content.provider;
        let place = Place::new(file, "provider", &provider.id);
        for id in &provider.replaces {
            place.check(sources.iter().any(|s| s.provider == id), "replaces", || {
                format!("no file before this one has a provider `{id}`")
            })?;
        }
        sources.push(Source {
            number,
            file,
            provider: &provider.id,
            replaces: &provider.replaces,
        });
    }
    Ok(sources)
}

fn only_one<'a, T>(
    files: &'a Files<'a>,
    table: &'static str,
    get: impl Fn(&'a schema::File) -> Option<&'a T>,
) -> Result<&'a T, PlatformError> {
    let mut found = files
        .iter()
        .filter_map(|(file, content)| get(content).map(|t| (file, t)));
    let (_, first) = found.next().ok_or(PlatformError::MissingTable { table })?;
    match found.next() {
        None => Ok(first),
        Some((file, _)) => Err(PlatformError::Inconsistent {
            file: (*file).to_owned(),
            table: "top level".to_owned(),
            field: table,
            message: "another file has this table already".to_owned(),
        }),
    }
}

fn guid(place: &Place<'_>, field: &'static str, text: &str) -> Result<Guid, PlatformError> {
    text.parse()
        .map_err(|e: crate::GuidError| place.error(field, e.to_string()))
}

#[cfg(test)]
mod tests;
