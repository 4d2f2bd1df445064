//! What a store says, as a provider file.
//!
//! Given: a store of which everything is usable. Computed: TOML that says the same, in an order that only depends on the store,
//! with comments that name the registry keys, and what no registry tells.

use std::fmt::Write;

use super::store::{Function, Helper, Section, Store};
use crate::PlatformError;
use crate::load::{self, Loader};

/// What no registry tells. It stands on top of each file.
const UNTOLD: &str = "\
# No registry tells the following. Programs are verified without it; add what you know of the provider.
#   program_type.symbol, section.attach_type    names of the GUIDs in the provider's headers
#   program_type.context.struct                 name of the context's C structure
#   program_type.context.field                  names, C types, offsets and sizes of its fields
#   section.attach_capability                   whether several programs can be attached there: `multi…`
#   program_type.return_value                   what the return values of programs mean, and what becomes of packets
#   program_type.global_helper_override         general helpers that the provider implements itself
#   helper.runtime_map_types                    map types that a helper works with, if it takes a map
#   helper.writes_readable                      arguments that a helper writes to although its prototype says that it reads them
#   helper.implicit_context                     whether it takes the context that programs do not pass; native code always passes it
#   custom_map_type                             map types that the provider implements
";

/// Writes the file. `source` says in one line what the store was read from.
pub(super) fn write(store: &Store, provider: &str, source: &str) -> Result<String, PlatformError> {
    load::with_core(|core| {
        Writer {
            core,
            text: String::new(),
        }
        .file(store, provider, source)
    })
}

struct Writer<'a> {
    core: &'a Loader<'a>,
    text: String,
}

impl Writer<'_> {
    fn file(mut self, store: &Store, provider: &str, source: &str) -> String {
        self.line(format_args!("# Providers of {}.", comment(source)));
        self.line(format_args!("#"));
        self.text += UNTOLD;
        self.line(format_args!("schema = 1"));
        self.line(format_args!(""));
        self.line(format_args!("[provider]"));
        self.line(format_args!("id = {}", quoted(provider)));
        for helper in &store.helpers {
            self.helper("GlobalHelpers", "[[helper]]", helper);
        }
        for function in &store.functions {
            self.function(function);
        }
        for program_type in &store.program_types {
            let name = &program_type.name;
            let [size, data, data_end, data_meta] = program_type.context;
            self.line(format_args!(""));
            self.line(format_args!("# ProgramData\\{{{}}}", program_type.guid));
            self.line(format_args!("[[program_type]]"));
            self.line(format_args!("name = {}", quoted(name)));
            self.line(format_args!("guid = \"{}\"", program_type.guid));
            self.line(format_args!("bpf_prog_type = {}", program_type.bpf_prog_type));
            self.line(format_args!("is_privileged = {}", program_type.is_privileged));
            self.line(format_args!(""));
            self.line(format_args!("[program_type.context]"));
            self.line(format_args!("size = {size}"));
            self.line(format_args!("data = {data}"));
            self.line(format_args!("data_end = {data_end}"));
            self.line(format_args!("data_meta = {data_meta}"));
            for section in store.sections.iter().filter(|s| s.program_type == program_type.guid) {
                self.section("[[program_type.section]]", section);
            }
            for helper in &program_type.helpers {
                self.helper("Helpers", "[[program_type.helper]]", helper);
            }
        }
        let described = |section: &Section| store.program_types.iter().any(|t| t.guid == section.program_type);
        for section in store.sections.iter().filter(|s| !described(s)) {
            self.section("[[section]]", section);
            self.line(format_args!("program_type_guid = \"{}\"", section.program_type));
        }
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.text, "{line}");
    }

    fn section(&mut self, table: &str, section: &Section) {
        self.line(format_args!(""));
        self.line(format_args!("# SectionData\\{}", comment(&section.prefix)));
        self.line(format_args!("{table}"));
        self.line(format_args!("prefix = {}", quoted(&section.prefix)));
        self.line(format_args!("attach_type_guid = \"{}\"", section.attach_type));
        self.line(format_args!("bpf_attach_type = {}", section.bpf_attach_type));
    }

    fn helper(&mut self, parent: &str, table: &str, helper: &Helper) {
        self.line(format_args!(""));
        self.line(format_args!("# {parent}\\{}", comment(&helper.name)));
        self.line(format_args!("{table}"));
        self.line(format_args!("id = {}  # {:#x}", helper.id, helper.id));
        self.line(format_args!("name = {}", quoted(&helper.name)));
        self.prototype(helper.return_type, helper.arguments);
        if helper.reallocate_packet {
            self.line(format_args!("reallocate_packet = true"));
        }
    }

    fn function(&mut self, function: &Function) {
        let name = comment(&function.name);
        self.line(format_args!(""));
        self.line(format_args!(
            "# BtfResolvedFunctions\\{{{}}}\\Functions\\{name}",
            function.module
        ));
        self.line(format_args!("[[btf_resolved_function]]"));
        self.line(format_args!("module_guid = \"{}\"", function.module));
        self.line(format_args!("name = {}", quoted(&function.name)));
        self.prototype(function.return_type, function.arguments);
        if function.flags != 0 {
            self.line(format_args!("flags = {}", function.flags));
        }
    }

    /// The names of the types. What is usable has only types with names.
    fn prototype(&mut self, returned: u32, arguments: [u32; 5]) {
        let name = self
            .core
            .returns
            .values()
            .find(|r| r.value == returned)
            .map(|r| r.name.as_str());
        self.line(format_args!("return_type = \"{}\"", name.unwrap_or_default()));
        let names = arguments.iter().take_while(|argument| **argument != 0).map(|argument| {
            let known = self.core.arguments.values().find(|a| a.value == *argument);
            known.map_or(String::new(), |known| format!("\"{}\"", known.name))
        });
        let names: Vec<String> = names.collect();
        self.line(format_args!("args = [{}]", names.join(", ")));
    }
}

/// A text as a TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A text in a comment: on one line.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
