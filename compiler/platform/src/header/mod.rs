//! The C headers that programs include.
//!
//! Given: a [`Platform`]. Computed: a general header, and one per part of the platform with contexts, return values and helpers
//! of its program types. Parts can be included in any order and together.
//! Safe because: text of provider files reaches a header only as cleaned comment ([`text`]), as an identifier that is made of
//! it ([`names`]) and as a type that is read and printed anew ([`ctype`]); structures assert their layout.

mod constants;
mod ctype;
mod declare;
mod layout;
mod names;
mod part;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::{BtfFunction, Helper, Platform, ProgramType};
use constants::Constants;
use names::{Scope, identifier};

/// The fixed text of the general header.
const GENERAL: &str = include_str!("../../../../templates/bpf2sys.h");

/// Headers of network packets, which no provider describes: the name of the file, and its text.
const PACKET: (&str, &str) = (
    "bpf2sys_packet.h",
    include_str!("../../../../templates/bpf2sys_packet.h"),
);

/// The headers of a platform.
///
/// Names are chosen for the whole platform: each is an identifier that no other part has, so that parts go together.
#[derive(Debug)]
pub struct Headers<'a> {
    platform: &'a Platform,
    /// C names by what they name.
    names: BTreeMap<Named<'a>, String>,
    /// Names of macros, which fields and parameters must not have either.
    macros: Scope,
    constants: Constants<'a>,
}

/// What has a name of its own in the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named<'a> {
    /// By number.
    MapType(u32),
    /// Of the general ones by id; of others, by program type and id.
    Helper(Option<&'a str>, u32),
    /// The context of a program type.
    Context(&'a str),
    /// By place in the platform.
    Structure(usize),
    /// By place in [`Constants::groups`].
    Enumeration(usize),
    /// A constant by name and value.
    Constant(&'a str, i64),
    /// By place in the platform.
    Function(usize),
}

impl<'a> Headers<'a> {
    /// Chooses the names.
    pub fn new(platform: &'a Platform) -> Headers<'a> {
        let constants = Constants::of(platform);
        let mut macros = Scope::default();
        let mut scope = Scope::default();
        let mut names = BTreeMap::new();
        let mut give = |named, wanted: &str, qualifier: &str| {
            names.entry(named).or_insert_with(|| scope.take(wanted, qualifier));
        };
        for map_type in &platform.map_types {
            give(Named::MapType(map_type.value), &map_type.symbol, "BPF_MAP_TYPE");
        }
        for helper in &platform.helpers {
            give(Named::Helper(None, helper.id), symbol(helper), "bpf");
        }
        for (i, structure) in platform.structures.iter().enumerate() {
            give(Named::Structure(i), bare(&structure.name), &structure.provider);
        }
        for program_type in &platform.program_types {
            let name = program_type.name.as_str();
            give(Named::Context(name), bare(&program_type.context.struct_name), name);
            for helper in &program_type.helpers {
                give(Named::Helper(Some(name), helper.id), symbol(helper), name);
            }
        }
        for (i, group) in constants.groups().iter().enumerate() {
            if let Some(tag) = group.tag {
                give(Named::Enumeration(i), tag, group.owner);
            }
            for constant in &group.constants {
                give(
                    Named::Constant(constant.name, constant.value),
                    constant.name,
                    group.owner,
                );
            }
        }
        for (i, function) in platform.btf_functions.iter().enumerate() {
            give(Named::Function(i), &function.name, &function.provider);
        }
        let macro_name = |c: &constants::Constant<'a>| names.get(&Named::Constant(c.name, c.value)).cloned();
        macros.reserve(constants.macros().filter_map(macro_name));
        Headers {
            platform,
            names,
            macros,
            constants,
        }
    }

    /// The parts besides the general one, in the order of the program types: each is a file of its own.
    pub fn parts(&self) -> Vec<&'a str> {
        let mut seen = BTreeSet::new();
        let types = self.platform.program_types.iter().map(|t| t.description.part.as_str());
        let structures = self.platform.structures.iter().map(|s| s.part.as_str());
        let functions = self.platform.btf_functions.iter().map(|f| f.part.as_str());
        types
            .chain(structures)
            .chain(functions)
            .filter(|part| seen.insert(*part))
            .collect()
    }

    /// The name of a part's file, or of the general one.
    pub fn file_name(part: Option<&str>) -> String {
        match part {
            Some(part) => format!("bpf2sys_{part}.h"),
            None => "bpf2sys.h".to_owned(),
        }
    }

    /// The general header.
    pub fn general(&self) -> String {
        let map_types = self.map_types();
        let helpers: String = self
            .platform
            .helpers
            .iter()
            .map(|h| self.helper(None, h) + "\n")
            .collect();
        let mut text = String::new();
        for line in GENERAL.split_inclusive('\n') {
            match line.trim_end() {
                "@PARTS@" => text += &self.list_of_parts(),
                "@MAP_TYPES@};" => text += &(map_types.clone() + "};\n"),
                "@HELPERS@#endif /* BPF2SYS_H */" => text += &(helpers.clone() + "#endif /* BPF2SYS_H */\n"),
                _ => text += &line.replace("@STACK@", &self.platform.limits.subprogram_stack_bytes.to_string()),
            }
        }
        text
    }

    /// All headers, as (file name, text): the general one, those of the parts, and that of network packets, which a part of
    /// this name replaces.
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files = self.files_of(&self.parts());
        if files.iter().all(|(name, _)| name != PACKET.0) {
            files.push((PACKET.0.to_owned(), PACKET.1.to_owned()));
        }
        files
    }

    /// The general header and those of these parts, as (file name, text).
    pub fn files_of(&self, parts: &[&str]) -> Vec<(String, String)> {
        let parts = parts
            .iter()
            .map(|part| (Headers::file_name(Some(part)), self.part(part)));
        [(Headers::file_name(None), self.general())]
            .into_iter()
            .chain(parts)
            .collect()
    }

    /// The header of a part, which includes the general one; of a part that does not exist, nothing but that.
    pub fn part(&self, part: &str) -> String {
        format!(
            "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n{}",
            self.part_body(part, "#include \"bpf2sys.h\"\n\n")
        )
    }

    /// One header with the general part and these.
    pub fn together(&self, parts: &[&str]) -> String {
        let bodies: String = parts
            .iter()
            .map(|part| format!("\n{}", self.part_body(part, "")))
            .collect();
        self.general() + &bodies
    }

    /// The C declaration of a helper, without what makes it one: `int bpf_map_delete_elem(void *map, const void *key)`.
    pub fn prototype(&self, program_type: Option<&ProgramType>, helper: &Helper) -> String {
        let (result, parameters) = self.signature(program_type, helper);
        let name = self.helper_name(program_type, helper);
        let space = if result.ends_with('*') { "" } else { " " };
        format!("{result}{space}{name}{parameters}")
    }

    /// The C declaration of a function of another module.
    pub fn function_prototype(&self, function: &BtfFunction) -> String {
        let (result, parameters) = self.function_signature(function);
        let space = if result.ends_with('*') { "" } else { " " };
        format!("{result}{space}{}{parameters}", identifier(&function.name))
    }

    /// The C name of a context's structure.
    pub fn context_name<'n>(&'n self, program_type: &'n ProgramType) -> &'n str {
        self.name(Named::Context(&program_type.name))
    }

    fn helper_name<'n>(&'n self, program_type: Option<&'n ProgramType>, helper: &Helper) -> &'n str {
        self.name(Named::Helper(program_type.map(|t| t.name.as_str()), helper.id))
    }

    fn constant_name<'n>(&'n self, name: &'n str, value: i64) -> &'n str {
        self.name(Named::Constant(name, value))
    }

    /// A name that was given in [`Headers::new`].
    fn name<'n>(&'n self, named: Named<'n>) -> &'n str {
        self.names.get(&named).map_or("", String::as_str)
    }

    fn list_of_parts(&self) -> String {
        let parts = self.parts();
        if parts.is_empty() {
            return String::new();
        }
        let files: Vec<String> = parts.iter().map(|part| Headers::file_name(Some(part))).collect();
        let width = files.iter().map(String::len).max().unwrap_or(0);
        let mut text =
            " * Include one of these for the hook the program attaches to; each includes this file:\n *\n".to_owned();
        for (part, file) in parts.iter().zip(&files) {
            let summary = text::clean(&self.summary(part));
            let _ = writeln!(text, "{}", format!(" *   {file:width$}  {summary}").trim_end());
        }
        text + " *\n"
    }

    /// What a part is for: the names of its program types and its drivers.
    fn summary(&self, part: &str) -> String {
        let types = self
            .platform
            .program_types
            .iter()
            .filter(|t| t.description.part == part);
        let (mut names, mut modules) = (Vec::new(), BTreeSet::new());
        for program_type in types {
            names.push(program_type.name.as_str());
            let provider = self.platform.providers.iter().find(|p| p.id == program_type.provider);
            let module = program_type.description.module.as_deref();
            modules.extend(module.or_else(|| provider.and_then(|p| p.modules.first()).map(String::as_str)));
        }
        let modules: Vec<&str> = modules.into_iter().collect();
        if modules.is_empty() {
            names.join(", ")
        } else {
            format!("{} ({})", names.join(", "), modules.join(", "))
        }
    }
}

/// The name that a program calls a helper by.
fn symbol(helper: &Helper) -> &str {
    helper.description.header_symbol.as_deref().unwrap_or(&helper.name)
}

/// A type's name without `struct` or `enum`.
fn bare(name: &str) -> &str {
    let name = name.trim();
    name.strip_prefix("struct ")
        .or_else(|| name.strip_prefix("enum "))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests;
