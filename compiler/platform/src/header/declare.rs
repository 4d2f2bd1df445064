//! Declarations of map types, helpers and functions.

use std::fmt::Write;

use super::constants::commented;
use super::ctype::{Base, CType};
use super::text::{WIDTH, comment};
use super::{Headers, Named, bare};
use crate::{ArgumentClass, BtfFunction, Helper, ProgramType, ReturnClass, Signature};

/// A function's prototype, as numbers.
struct Prototype<'p> {
    return_type: u32,
    arguments: &'p [u32; 5],
    /// Positions from 1 of arguments that are written although their types say that they are read.
    written: &'p [u8],
    signature: &'p Signature,
}

impl Headers<'_> {
    /// The enumerators of the map types.
    pub(super) fn map_types(&self) -> String {
        let lines = self.platform.map_types.iter().map(|map_type| {
            let provider = map_type.custom.as_ref().map(|custom| match &custom.provider {
                Some(provider) => format!("offered by {provider}"),
                None => "reserved for an extension".to_owned(),
            });
            let doc = join(&[map_type.doc.clone(), map_type.note.clone(), provider]);
            let name = self.name(Named::MapType(map_type.value));
            (format!("{name} = {},", map_type.value), doc)
        });
        commented("    ", &lines.collect::<Vec<_>>())
    }

    /// A helper with what is known of it.
    pub(super) fn helper(&self, program_type: Option<&ProgramType>, helper: &Helper) -> String {
        let (result, parameters) = self.signature(program_type, helper);
        let number = if program_type.is_some() {
            format!("{:#x}", helper.id)
        } else {
            helper.id.to_string()
        };
        let name = self.helper_name(program_type, helper);
        let mut text = comment("", &self.about_helper(program_type, helper));
        let line = format!("BPF_HELPER({number}, {result}, {name}, {parameters});");
        if line.chars().count() <= WIDTH {
            let _ = writeln!(text, "{line}");
        } else {
            let _ = writeln!(
                text,
                "BPF_HELPER({number}, {result}, {name},\n           {parameters});"
            );
        }
        text
    }

    fn about_helper(&self, program_type: Option<&ProgramType>, helper: &Helper) -> Vec<String> {
        let about = &helper.description;
        let mut paragraphs: Vec<String> = about.doc.iter().cloned().collect();
        let position = |p: &u8| p.to_string();
        if !helper.writes_readable.is_empty() {
            let positions: Vec<String> = helper.writes_readable.iter().map(position).collect();
            paragraphs.push(format!(
                "Writes what argument {} points to; the verifier wants it initialised all the same.",
                positions.join(" and ")
            ));
        }
        if let Some(types) = &helper.runtime_map_types
            && !types.is_empty()
        {
            let names = types
                .iter()
                .filter_map(|t| self.platform.map_type(*t))
                .map(|t| t.name.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            paragraphs.push(if helper.checks_map_type {
                format!("Map types: {names}.")
            } else {
                format!("Map types: {names}. It takes any other map for one of these.")
            });
        }
        if helper.always_fails {
            paragraphs.push("Every call fails.".to_owned());
        }
        if !about.attach_types.is_empty() {
            paragraphs.push(format!("Works only at: {}.", about.attach_types.join(", ")));
        }
        if !helper.default_implementation && program_type.is_none() {
            let types = self.platform.program_types.iter();
            let implementing = types
                .filter(|t| t.helper_overrides.contains(&helper.id))
                .map(|t| t.name.as_str());
            let implementing = implementing.collect::<Vec<_>>().join(", ");
            paragraphs.push(match implementing.as_str() {
                "" => "No program type implements it: a program that calls it does not load.".to_owned(),
                types => format!("A program that calls it loads only as one of these types: {types}."),
            });
        }
        if helper.reallocate_packet {
            paragraphs.push("Pointers into the packet are invalid after the call.".to_owned());
        }
        if about.address_published == Some(false) {
            paragraphs
                .push("The provider does not publish its address: a program that calls it does not load.".to_owned());
        }
        paragraphs.extend(about.note.clone());
        if self.helper_name(program_type, helper) != helper.name {
            let registered = about
                .header_symbol
                .as_ref()
                .filter(|s| **s == self.helper_name(program_type, helper));
            let why = if registered.is_some() {
                "Registered as"
            } else {
                "Its name is"
            };
            paragraphs.push(format!("{why} `{}`.", helper.name));
        }
        if about.signature == Signature::default() {
            paragraphs.push(
                "Declared by its prototype: what its arguments mean and the width of numbers is not known.".to_owned(),
            );
        }
        paragraphs
    }

    /// C type of the result, and the list of parameters with its parentheses.
    pub(super) fn signature(&self, program_type: Option<&ProgramType>, helper: &Helper) -> (String, String) {
        let prototype = Prototype {
            return_type: helper.return_type,
            arguments: &helper.arguments,
            written: &helper.writes_readable,
            signature: &helper.description.signature,
        };
        let part = program_type.map(|t| t.description.part.as_str());
        self.declare(&prototype, part, program_type)
    }

    pub(super) fn function_signature(&self, function: &BtfFunction) -> (String, String) {
        let prototype = Prototype {
            return_type: function.return_type,
            arguments: &function.arguments,
            written: &[],
            signature: &function.signature,
        };
        self.declare(&prototype, Some(&function.part), None)
    }

    fn declare(
        &self,
        prototype: &Prototype<'_>,
        part: Option<&str>,
        program_type: Option<&ProgramType>,
    ) -> (String, String) {
        let known = |text: &Option<String>| text.as_deref().and_then(|text| self.visible(CType::parse(text)?, part));
        let class = self
            .platform
            .return_types
            .iter()
            .find(|r| r.value == prototype.return_type)
            .map(|r| r.class);
        let result = known(&prototype.signature.returns).unwrap_or_else(|| match class {
            Some(ReturnClass::Integer) => CType::integer(true, 8),
            _ => CType::pointer(Base::Void, false),
        });
        let count = prototype.arguments.iter().position(|a| *a == 0).unwrap_or(5);
        let count = count.max(prototype.signature.parameters.len());
        let mut scope = self.macros.clone();
        scope.reserve(self.names.values().cloned());
        let mut parameters = Vec::with_capacity(count);
        for (i, argument) in prototype.arguments.iter().enumerate().take(count) {
            let given = prototype.signature.parameters.get(i);
            let written = prototype.written.iter().any(|p| usize::from(*p) == i + 1);
            let (name, by_class) = self.by_class(*argument, written, program_type);
            let c_type = given.and_then(|p| known(&p.c_type)).unwrap_or(by_class);
            let name = scope.number(given.map_or(name, |p| p.name.as_str()));
            parameters.push(c_type.declare(&name));
        }
        let list = if parameters.is_empty() {
            "void".to_owned()
        } else {
            parameters.join(", ")
        };
        (result.declare(""), format!("({list})"))
    }

    /// Name and C type of an argument of which only the type in the prototype is known.
    fn by_class(&self, argument: u32, written: bool, program_type: Option<&ProgramType>) -> (&'static str, CType) {
        let void = |constant| CType::pointer(Base::Void, constant);
        let Some(known) = self.platform.argument_types.iter().find(|a| a.value == argument) else {
            return ("value", CType::integer(false, 8));
        };
        if known.class == ArgumentClass::PairSize {
            return ("size", CType::integer(false, 8));
        }
        match known.kind.as_deref().unwrap_or_default() {
            "PTR_TO_CTX" => {
                let own = |t: &ProgramType| Base::Named(self.context_name(t).to_owned());
                ("context", CType::pointer(program_type.map_or(Base::Void, own), false))
            }
            "MAP_FD_PROGRAMS" => ("program_array", void(false)),
            kind if kind.starts_with("MAP_FD") => ("map", void(false)),
            "PTR_TO_MAP_KEY" => ("key", void(true)),
            "PTR_TO_MAP_VALUE" => ("value", void(!written)),
            "PTR_TO_READABLE_MEM" => ("data", void(!written)),
            "PTR_TO_WRITABLE_LONG" => (
                "value",
                CType::pointer(
                    Base::Integer {
                        signed: false,
                        bytes: 8,
                    },
                    false,
                ),
            ),
            "PTR_TO_WRITABLE_INT" => (
                "value",
                CType::pointer(
                    Base::Integer {
                        signed: false,
                        bytes: 4,
                    },
                    false,
                ),
            ),
            "" | "ANYTHING" | "CONST_SIZE_OR_ZERO" => ("value", CType::integer(false, 8)),
            _ => ("buffer", void(false)),
        }
    }

    /// A type as a part can use it: types that it does not declare are left out.
    pub(super) fn visible(&self, c_type: CType, part: Option<&str>) -> Option<CType> {
        let Some(name) = c_type.named() else {
            return Some(c_type);
        };
        let contexts = self
            .platform
            .program_types
            .iter()
            .filter(|t| Some(t.description.part.as_str()) == part);
        let context = contexts
            .filter(|t| bare(&t.context.struct_name) == name)
            .map(|t| self.context_name(t));
        let structures = self.platform.structures.iter().enumerate();
        let structures = structures.filter(|(_, s)| Some(s.part.as_str()) == part && bare(&s.name) == name);
        let mut found = context.chain(structures.map(|(i, _)| self.name(Named::Structure(i))));
        let base = match found.next() {
            Some(name) => Base::Named(name.to_owned()),
            None if c_type.pointers > 0 => Base::Void,
            None => return None,
        };
        Some(CType { base, ..c_type })
    }

    /// A function of another module, or why it can't be declared.
    pub(super) fn function(&self, index: usize, function: &BtfFunction) -> String {
        let mut about: Vec<String> = function.doc.iter().chain(&function.note).cloned().collect();
        let name = self.name(Named::Function(index));
        if name != function.name {
            about.push(format!(
                "Function `{}` of module {} can't be declared: functions are found by their names, and C has no such name here.",
                function.name, function.module
            ));
            return comment("", &about);
        }
        let (result, parameters) = self.function_signature(function);
        let space = if result.ends_with('*') { "" } else { " " };
        let declaration = format!("extern {result}{space}{name}{parameters}");
        let module = format!("BPF_FUNCTION_OF(\"{}\");", function.module);
        format!("{}{declaration}\n    {module}\n", comment("", &about))
    }
}

/// Parts of a sentence, of which each may be missing.
pub(super) fn join(parts: &[Option<String>]) -> String {
    let parts: Vec<&str> = parts
        .iter()
        .flatten()
        .map(String::as_str)
        .filter(|p| !p.is_empty())
        .collect();
    parts.join("; ")
}
