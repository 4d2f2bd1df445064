//! Constants: the values of fields, and the return values of programs.
//!
//! Given: a platform. Computed: groups of constants, each an enumeration. A constant that several groups have is a macro, which
//! can be defined again; so is one that no enumeration can hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::text::{WIDTH, clean, comment};
use super::{Headers, Named, bare};
use crate::{Field, Platform, ProgramType};

/// What has constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of<'a> {
    /// The results of a program type's programs.
    Results(&'a str),
    /// A field of a program type's context.
    ContextField(&'a str, &'a str),
    /// A field of a structure, by place in the platform.
    StructureField(usize, &'a str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Constant<'a> {
    pub name: &'a str,
    pub value: i64,
    pub doc: Option<&'a str>,
}

/// Constants that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group<'a> {
    /// The part that declares them.
    pub part: &'a str,
    /// Wanted name of the enumeration.
    pub tag: Option<&'a str>,
    /// Whose they are.
    pub owner: &'a str,
    pub constants: Vec<Constant<'a>>,
}

/// The groups of a platform.
#[derive(Debug, Default)]
pub(super) struct Constants<'a> {
    groups: Vec<Group<'a>>,
    of: BTreeMap<Of<'a>, usize>,
    macros: BTreeSet<usize>,
}

impl<'a> Constants<'a> {
    pub(super) fn of(platform: &'a Platform) -> Constants<'a> {
        let mut found = Constants::default();
        for (i, structure) in platform.structures.iter().enumerate() {
            for field in &structure.fields {
                let of = Of::StructureField(i, &field.name);
                found.add(of, field_group(field, &structure.part, &structure.name));
            }
        }
        for program_type in &platform.program_types {
            let (part, owner) = (program_type.description.part.as_str(), program_type.name.as_str());
            for field in &program_type.context.fields {
                let of = Of::ContextField(owner, &field.name);
                found.add(of, field_group(field, part, owner));
            }
            found.add(Of::Results(owner), results(program_type, part));
        }
        found.choose_macros();
        found
    }

    /// Fields with the same constants share them.
    fn add(&mut self, of: Of<'a>, group: Group<'a>) {
        if group.constants.is_empty() {
            return;
        }
        let same = |other: &Group<'_>| {
            let values = |g: &Group<'_>| {
                g.constants
                    .iter()
                    .map(|c| (c.name.to_owned(), c.value))
                    .collect::<Vec<_>>()
            };
            other.part == group.part && other.tag == group.tag && values(other) == values(&group)
        };
        let index = self.groups.iter().position(same).unwrap_or_else(|| {
            self.groups.push(group);
            self.groups.len() - 1
        });
        self.of.insert(of, index);
    }

    fn choose_macros(&mut self) {
        let mut users: BTreeMap<(&str, i64), usize> = BTreeMap::new();
        for group in &self.groups {
            for constant in &group.constants {
                *users.entry((constant.name, constant.value)).or_default() += 1;
            }
        }
        let is_macro = |c: &Constant<'_>| i32::try_from(c.value).is_err() || users.get(&(c.name, c.value)) > Some(&1);
        let groups = self.groups.iter().enumerate();
        let macros = groups
            .filter(|(_, group)| group.constants.iter().any(is_macro))
            .map(|(i, _)| i);
        self.macros = macros.collect();
    }

    pub(super) fn groups(&self) -> &[Group<'a>] {
        &self.groups
    }

    /// Those that are macros, by name and value.
    pub(super) fn macros(&self) -> impl Iterator<Item = &Constant<'a>> {
        let groups = self.macros.iter().filter_map(|i| self.groups.get(*i));
        groups.flat_map(|group| &group.constants)
    }

    /// The group of something, by its place in [`Constants::groups`].
    pub(super) fn group(&self, of: Of<'_>) -> Option<usize> {
        self.of.get(&of).copied()
    }
}

fn field_group<'a>(field: &'a Field, part: &'a str, owner: &'a str) -> Group<'a> {
    // A type that has no name of its own tells nothing: the field's values get no name either.
    let named = super::ctype::CType::parse(&field.c_type).is_some_and(|t| t.named().is_some());
    let of_type = || named.then(|| bare(&field.c_type).split(':').next().unwrap_or_default().trim_end());
    Group {
        part,
        tag: field
            .enumeration
            .as_deref()
            .or_else(of_type)
            .map(|tag| tag.strip_suffix("_t").unwrap_or(tag)),
        owner,
        constants: field
            .values
            .iter()
            .map(|v| Constant {
                name: &v.name,
                value: v.value,
                doc: v.doc.as_deref(),
            })
            .collect(),
    }
}

/// Return values whose names are those of constants. Other names only tell what a value means.
fn results<'a>(program_type: &'a ProgramType, part: &'a str) -> Group<'a> {
    let is_constant = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|c| c.is_ascii_uppercase())
            && bytes.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
    };
    let values = program_type.return_values.iter().filter(|v| is_constant(&v.name));
    Group {
        part,
        tag: program_type.description.return_enum.as_deref(),
        owner: &program_type.name,
        constants: values
            .map(|v| Constant {
                name: &v.name,
                value: v.value,
                doc: Some(&v.meaning),
            })
            .collect(),
    }
}

impl Headers<'_> {
    /// Declares a group; `title` goes above it.
    pub(super) fn group(&self, index: usize, title: &[String]) -> String {
        let Some(group) = self.constants.groups.get(index) else {
            return String::new();
        };
        let mut text = comment("", title);
        if self.constants.macros.contains(&index) {
            if !text.is_empty() {
                text.push('\n');
            }
            for constant in &group.constants {
                let name = self.constant_name(constant.name, constant.value);
                let doc = constant
                    .doc
                    .map(|doc| comment("", &[doc.to_owned()]))
                    .unwrap_or_default();
                let _ = write!(
                    text,
                    "{doc}#ifndef {name}\n#define {name} {}\n#endif\n",
                    literal(constant.value)
                );
            }
            return text + "\n";
        }
        match self.name(Named::Enumeration(index)) {
            "" => text += "enum {\n",
            tag => _ = writeln!(text, "enum {tag} {{"),
        }
        let lines = group.constants.iter().map(|constant| {
            let name = self.constant_name(constant.name, constant.value);
            (
                format!("{name} = {},", constant.value),
                constant.doc.unwrap_or_default().to_owned(),
            )
        });
        text += &commented("    ", &lines.collect::<Vec<_>>());
        text + "};\n\n"
    }
}

/// Lines with their comments: beside them where all of those fit, above them where not.
pub(super) fn commented(indent: &str, lines: &[(String, String)]) -> String {
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    let fits = |doc: &str| indent.len() + width + doc.chars().count() + 7 <= WIDTH;
    let mut text = String::new();
    for (line, doc) in lines {
        let cleaned = clean(doc);
        let _ = if cleaned.is_empty() {
            writeln!(text, "{indent}{line}")
        } else if fits(&cleaned) {
            writeln!(text, "{indent}{line:width$} /* {cleaned} */")
        } else {
            writeln!(text, "{}{indent}{line}", comment(indent, std::slice::from_ref(doc)))
        };
    }
    text
}

/// A number as C reads it, in every type of constant that can hold it.
fn literal(value: i64) -> String {
    match (i32::try_from(value), u32::try_from(value)) {
        (Ok(value), _) if value < -0xFFFF => format!("((int)0x{value:08X})"),
        (Ok(value), _) if value < 0 => format!("({value})"),
        (Ok(value), _) => value.to_string(),
        (_, Ok(value)) => format!("0x{value:08X}u"),
        _ if value < 0 => format!("((int64_t)0x{value:016X})"),
        _ => format!("0x{value:X}"),
    }
}
