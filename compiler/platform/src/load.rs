//! Provider files into a [`Platform`].
//!
//! Given: the text of the files. Computed: the platform, with names of argument and return types resolved.
//! Safe because: whatever the rest of the tool relies on is checked here once: ids and GUIDs are unique, prototypes
//! are ones the verifier can use, context offsets lie inside the context. An error names file, table and field.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    AttachPoint, Context, ContextField, Helper, Limits, MapType, Platform, ProgramType, ReturnValue, Variant,
    VerifierOptions,
};
use crate::schema;
use crate::{Guid, PlatformError};

mod btf;
mod maps;
mod place;
mod prototype;

use maps::map_types;
use place::Place;

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

/// Width of the pointers in a context structure: both targets have 64 bits.
const POINTER_BYTES: i32 = 8;

impl Platform {
    /// The platform of the providers that are built in: the core, netebpfext, xdp, ntosebpfext and sample.
    #[must_use]
    pub fn builtin() -> Platform {
        Platform::from_toml(&BUILTIN).expect("the built-in providers are part of the program, and a test loads them")
    }

    /// The built-in providers as (file name, text), to load together with a user's own.
    #[must_use]
    pub fn builtin_files() -> &'static [(&'static str, &'static str)] {
        &BUILTIN
    }

    /// The platform that these provider files describe, given as (file name, text). Names of argument and return types
    /// may be used in any file, whichever file defines them.
    ///
    /// # Errors
    /// A file is no valid TOML of the schema, or the files contradict a rule of the platform or each other.
    pub fn from_toml(files: &[(&str, &str)]) -> Result<Platform, PlatformError> {
        let mut parsed = Vec::with_capacity(files.len());
        for &(name, text) in files {
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
        Loader::new(&parsed)?.load(&parsed)
    }
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
struct Loader<'a> {
    limits: &'a schema::Limits,
    options: &'a schema::VerifierOptions,
    arguments: BTreeMap<&'a str, &'a schema::ArgumentType>,
    returns: BTreeMap<&'a str, &'a schema::ReturnType>,
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
        let mut helpers: Vec<Helper> = Vec::new();
        for (file, content) in files {
            for helper in &content.helper {
                let place = Place::new(file, "helper", &helper.name);
                let general = helper.id <= self.limits.max_general_helper_id;
                place.check(general, "id", || {
                    format!(
                        "{} is above {}, the last of a general helper",
                        helper.id, self.limits.max_general_helper_id
                    )
                })?;
                self.add_helper(&place, helper, &map_types, &mut helpers)?;
            }
        }
        let mut program_types: Vec<Arc<ProgramType>> = Vec::new();
        for (file, content) in files {
            for program_type in &content.program_type {
                let mut loaded = self.program_type(file, content, program_type, &helpers, &map_types)?;
                if let [only] = content.program_type.as_slice() {
                    let variants = self.variants(file, &content.variant, only, &loaded, &map_types)?;
                    loaded.variants = variants;
                } else if let Some(variant) = content.variant.first() {
                    let place = Place::new(file, "variant", &variant.id);
                    return Err(place.error("helper", "needs a file with exactly one program type"));
                }
                Self::check_against(&Place::new(file, "program_type", &loaded.name), &loaded, &program_types)?;
                program_types.push(Arc::new(loaded));
            }
        }
        let mut map_argument_types: Vec<u32> = self
            .arguments
            .values()
            .filter(|a| a.verifier_kind.as_deref().is_some_and(|k| k.starts_with("MAP_FD")))
            .map(|a| a.value)
            .collect();
        map_argument_types.sort_unstable();
        Ok(Platform {
            program_types,
            helpers,
            btf_functions: self.btf_functions(files)?,
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

    fn program_type(
        &self,
        file: &str,
        content: &schema::File,
        from: &schema::ProgramType,
        general: &[Helper],
        map_types: &[MapType],
    ) -> Result<ProgramType, PlatformError> {
        let place = Place::new(file, "program_type", &from.name);
        place.name("name", &from.name, self.limits.max_program_type_name)?;
        let mut sections = Vec::with_capacity(from.section.len());
        for section in &from.section {
            let place = Place::new(file, "section", &section.prefix);
            place.name("prefix", &section.prefix, self.limits.max_registry_section_name + 1)?;
            sections.push(AttachPoint {
                prefix: section.prefix.clone(),
                attach_type: guid(&place, "attach_type_guid", &section.attach_type_guid)?,
                symbol: section.attach_type.clone(),
                bpf_attach_type: section.bpf_attach_type,
            });
        }
        let mut helpers = Vec::with_capacity(from.helper.len());
        for helper in &from.helper {
            self.own_helper(file, helper, map_types, &mut helpers)?;
        }
        let mut helper_overrides = Vec::with_capacity(from.global_helper_override.len());
        for entry in &from.global_helper_override {
            let place = Place::new(file, "global_helper_override", &entry.name);
            let known = general.iter().find(|h| h.id == entry.id);
            place.check(known.is_some(), "id", || format!("{} is no general helper", entry.id))?;
            place.check(known.is_some_and(|h| h.name == entry.name), "name", || {
                format!("is not the name of helper {}", entry.id)
            })?;
            place.check(!helper_overrides.contains(&entry.id), "id", || {
                format!("{} is overridden twice", entry.id)
            })?;
            helper_overrides.push(entry.id);
        }
        Ok(ProgramType {
            name: from.name.clone(),
            symbol: from.symbol.clone(),
            guid: guid(&place, "guid", &from.guid)?,
            bpf_prog_type: from.bpf_prog_type,
            is_privileged: from.is_privileged,
            context: context(&Place::new(file, "context", &from.context.r#struct), &from.context)?,
            sections,
            helpers,
            helper_overrides,
            return_values: from
                .return_value
                .iter()
                .map(|v| ReturnValue {
                    name: v.name.clone(),
                    value: v.value,
                    meaning: v.meaning.clone(),
                })
                .collect(),
            provider: content.provider.id.clone(),
            variants: Vec::new(),
        })
    }

    fn variants(
        &self,
        file: &str,
        from: &[schema::Variant],
        of: &schema::ProgramType,
        loaded: &ProgramType,
        map_types: &[MapType],
    ) -> Result<Vec<Variant>, PlatformError> {
        let mut variants: Vec<Variant> = Vec::with_capacity(from.len());
        for variant in from {
            let place = Place::new(file, "variant", &variant.id);
            let repeated = variants.iter().any(|v| v.id == variant.id);
            place.check(!repeated, "id", || "is used twice".to_owned())?;
            let mut helpers = Vec::with_capacity(variant.helper.len());
            for helper in &variant.helper {
                let known = loaded.helpers.iter().any(|h| h.id == helper.id);
                place.check(known, "helper", || format!("`{}` has no helper {}", of.name, helper.id))?;
                self.own_helper(file, helper, map_types, &mut helpers)?;
            }
            variants.push(Variant {
                id: variant.id.clone(),
                helpers,
            });
        }
        Ok(variants)
    }

    /// A helper of one program type.
    fn own_helper(
        &self,
        file: &str,
        helper: &schema::Helper,
        map_types: &[MapType],
        into: &mut Vec<Helper>,
    ) -> Result<(), PlatformError> {
        let place = Place::new(file, "helper", &helper.name);
        place.check(helper.id > self.limits.max_general_helper_id, "id", || {
            format!(
                "{} is not above {}, the last of a general helper",
                helper.id, self.limits.max_general_helper_id
            )
        })?;
        place.check(i32::try_from(helper.id).is_ok(), "id", || {
            "does not fit a call instruction".to_owned()
        })?;
        self.add_helper(&place, helper, map_types, into)
    }

    /// Identities must be unique over all files.
    fn check_against(place: &Place<'_>, new: &ProgramType, others: &[Arc<ProgramType>]) -> Result<(), PlatformError> {
        place.check(new.guid != Guid::ZERO, "guid", || {
            "is zero, which means unspecified".to_owned()
        })?;
        for (i, section) in new.sections.iter().enumerate() {
            let mut earlier = others.iter().flat_map(|o| &o.sections).chain(&new.sections[..i]);
            let repeated = earlier.any(|s| s.prefix == section.prefix);
            place.check(!repeated, "section", || {
                format!("the prefix `{}` is used twice", section.prefix)
            })?;
        }
        for other in others {
            place.check(other.guid != new.guid, "guid", || {
                format!("{} is also that of `{}` of `{}`", new.guid, other.name, other.provider)
            })?;
            place.check(other.name != new.name, "name", || {
                format!("is also used by `{}`", other.provider)
            })?;
        }
        Ok(())
    }
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

fn context(place: &Place<'_>, from: &schema::Context) -> Result<Context, PlatformError> {
    place.check(from.size > 0, "size", || "is not positive".to_owned())?;
    for (field, offset) in [
        ("data", from.data),
        ("data_end", from.data_end),
        ("data_meta", from.data_meta),
    ] {
        let inside = offset == -1 || (offset >= 0 && offset <= from.size - POINTER_BYTES);
        place.check(inside, field, || {
            format!("{offset} lies outside of the {} bytes", from.size)
        })?;
    }
    // The verifier takes the distance of the two for the width of a pointer.
    let pair = (from.data == -1) == (from.data_end == -1)
        && (from.data == -1 || from.data_end.checked_sub(from.data) == Some(POINTER_BYTES));
    place.check(pair, "data_end", || {
        format!("must lie {POINTER_BYTES} bytes behind `data`, or both be -1")
    })?;
    place.check(from.data_meta == -1 || from.data != -1, "data_meta", || {
        "needs `data`".to_owned()
    })?;
    place.check(from.data_meta != -1 || !from.data_meta_null, "data_meta_null", || {
        "needs `data_meta`".to_owned()
    })?;
    let mut fields = Vec::with_capacity(from.field.len());
    for field in &from.field {
        let end = field.offset.checked_add(field.size);
        let inside = field.size > 0 && end.is_some_and(|end| end <= from.size.unsigned_abs());
        place.check(inside, "field", || {
            format!("`{}` lies outside of the {} bytes", field.name, from.size)
        })?;
        fields.push(ContextField {
            name: field.name.clone(),
            c_type: field.r#type.clone(),
            offset: field.offset,
            size: field.size,
        });
    }
    Ok(Context {
        struct_name: from.r#struct.clone(),
        size: from.size,
        data: from.data,
        data_end: from.data_end,
        data_meta: from.data_meta,
        data_meta_null: from.data_meta_null,
        fields,
    })
}

#[cfg(test)]
mod tests;
