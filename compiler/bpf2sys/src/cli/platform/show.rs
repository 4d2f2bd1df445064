//! `bpf2sys platform show`: everything that is known of one thing.

use std::fmt::Write;

use bpf2sys_platform::{ByteOrder, DataFormat};

use super::shown::{
    Shown, ShownArgument, ShownClass, ShownField, ShownFunction, ShownHelper, ShownMap, ShownProvider, ShownResult,
    ShownStructure, ShownType,
};
use super::view::Viewer;
use super::{names, view};
use crate::cli::providers::ProviderOptions;
use crate::cli::reporter::Reporter;
use crate::cli::{Outcome, output};

/// Show everything that is known of a program type, a helper, a map type, a function, a structure or a provider.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys platform show xdp                     a program type: context, helpers, return values, sections
  bpf2sys platform show cgroup/connect4         what a section name means
  bpf2sys platform show bpf_map_update_elem     a helper: arguments, results, map types
  bpf2sys platform show ringbuf --json          a map type, for programs
  bpf2sys platform show mine --platform mine.toml")]
pub(super) struct Arguments {
    /// Name, GUID, section name or number
    #[arg(value_name = "NAME")]
    name: String,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    providers: ProviderOptions,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let providers = arguments.providers.load(reporter)?;
    let viewer = Viewer::new(providers.platform());
    let found = names::find(providers.platform(), &arguments.name)?;
    let shown = Shown {
        program_types: found.program_types.iter().map(|t| viewer.program_type(t)).collect(),
        helpers: found.helpers.iter().map(|(t, h)| viewer.helper(*t, h)).collect(),
        map_types: found.map_types.iter().map(|m| viewer.map_type(m)).collect(),
        functions: found.functions.iter().map(|f| viewer.function(f)).collect(),
        structures: found.structures.iter().map(|s| view::structure(s)).collect(),
        providers: found.providers.iter().map(|p| viewer.provider(p)).collect(),
    };
    if arguments.json {
        output::print_json(&shown)?;
    } else {
        output::print(&text(&shown))?;
    }
    Ok(0)
}

fn text(shown: &Shown) -> String {
    let types = shown.program_types.iter().map(program_type);
    let helpers = shown.helpers.iter().map(helper_alone);
    let maps = shown.map_types.iter().map(map_type);
    let functions = shown.functions.iter().map(function);
    let structures = shown.structures.iter().map(structure);
    let providers = shown.providers.iter().map(provider);
    let all: Vec<String> = types
        .chain(helpers)
        .chain(maps)
        .chain(functions)
        .chain(structures)
        .chain(providers)
        .collect();
    all.join("\n")
}

/// Lines of a name and a value each; those without a value are left out.
fn facts(text: &mut String, facts: &[(&str, Option<String>)]) {
    let known = || {
        facts
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
    };
    let width = known().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in known() {
        let _ = writeln!(text, "  {name:width$}  {value}");
    }
}

fn joined(parts: &[Option<String>]) -> String {
    let parts: Vec<&str> = parts
        .iter()
        .flatten()
        .map(String::as_str)
        .filter(|p| !p.is_empty())
        .collect();
    parts.join("; ")
}

fn list(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(", "))
}

fn named(number: u32, name: Option<&String>) -> String {
    name.map_or_else(|| number.to_string(), |name| format!("{number} ({name})"))
}

fn program_type(t: &ShownType) -> String {
    let mut text = format!("program type {}\n", t.name);
    let module = t.module.as_ref().map_or_else(String::new, |m| format!(", driver {m}"));
    facts(
        &mut text,
        &[
            ("about", t.doc.clone()),
            ("note", t.note.clone()),
            ("provider", Some(format!("{}{module}", t.provider))),
            ("GUID", Some(format!("{{{}}} {}", t.guid, t.symbol))),
            (
                "bpf_prog_type",
                Some(named(t.bpf_prog_type, t.bpf_prog_type_name.as_ref())),
            ),
            (
                "privileged",
                Some(
                    if t.privileged {
                        "yes: programs may leak pointers"
                    } else {
                        "no"
                    }
                    .to_owned(),
                ),
            ),
            ("IRQL", t.irql.clone()),
            ("header", Some(t.header.clone())),
            ("other builds", list(&t.variants)),
        ],
    );
    if !t.sections.is_empty() {
        text += "\n  sections: programs whose section name starts with\n";
    }
    for section in &t.sections {
        let number = named(section.bpf_attach_type, section.bpf_attach_type_name.as_ref());
        let about = joined(&[
            section.attach_capability.clone(),
            section.link_type.clone(),
            section.doc.clone(),
            section.note.clone(),
        ]);
        let about = if about.is_empty() { about } else { format!(", {about}") };
        let (attach_type, guid) = (&section.attach_type, &section.attach_type_guid);
        let _ = writeln!(
            text,
            "    {}\n      {attach_type} {{{guid}}}, bpf_attach_type {number}{about}",
            section.prefix
        );
    }
    let context = &t.context;
    let _ = writeln!(text, "\n  context {}: {} bytes", context.structure, context.size);
    let about = joined(&[
        context.doc.clone(),
        context.data_content.clone(),
        context.data_format.map(|DataFormat::Utf16| "given as text".to_owned()),
        context.note.clone(),
    ]);
    if !about.is_empty() {
        let _ = writeln!(text, "    {about}");
    }
    if context.data_meta_null {
        text += "    the pointer to metadata is always null\n";
    }
    text += &fields(&context.fields);
    if context.fields.is_empty() {
        let pointers = [
            ("data", context.data),
            ("data_end", context.data_end),
            ("data_meta", context.data_meta),
        ];
        for (name, offset) in pointers {
            if let Some(offset) = offset {
                let _ = writeln!(text, "    {offset:6}  {name}: pointer, read only");
            }
        }
    }
    if !t.return_values.is_empty() {
        let about = t.return_doc.as_ref().map_or_else(String::new, |doc| format!(": {doc}"));
        let _ = writeln!(text, "\n  return values{about}");
    }
    for ShownResult {
        value,
        fate,
        ends_chain,
    } in &t.return_values
    {
        let about = joined(&[
            value.doc.clone(),
            fate.map(|fate| format!("the packet is {}", fate.name().replace('_', " "))),
            ends_chain.then(|| "no further program at the attach point runs".to_owned()),
        ]);
        let _ = writeln!(text, "    {} {}: {about}", value.value, value.name);
    }
    text += "\n  helpers: the general ones (`bpf2sys platform show core`)";
    if !t.missing_helpers.is_empty() {
        let _ = write!(text, " but {}", t.missing_helpers.join(", "));
    }
    text += if t.helpers.is_empty() { "\n" } else { ", and\n" };
    for helper in &t.helpers {
        let _ = writeln!(text, "    {:#x}  {}", helper.id, helper.prototype);
        if let Some(doc) = &helper.doc {
            let _ = writeln!(text, "      {doc}");
        }
    }
    if !t.overridden_helpers.is_empty() {
        let _ = writeln!(
            text,
            "    implemented by its provider: {}",
            t.overridden_helpers.join(", ")
        );
    }
    unknown(&mut text, &t.unknown);
    text
}

fn unknown(text: &mut String, unknown: &[String]) {
    if !unknown.is_empty() {
        let _ = writeln!(text, "\n  not known: {}", unknown.join("; "));
    }
}

fn fields(fields: &[ShownField]) -> String {
    let mut text = String::new();
    let declaration = |f: &ShownField| format!("{} {}", f.c_type, f.name);
    let width = fields.iter().map(|f| declaration(f).chars().count()).max().unwrap_or(0);
    if !fields.is_empty() {
        let _ = writeln!(text, "    {:>6} {:>5}  {:width$}", "offset", "bytes", "field");
    }
    for field in fields {
        let about = joined(&[
            (!field.writable).then(|| "read only".to_owned()),
            field.doc.clone(),
            field.unit.clone(),
            (field.byte_order == Some(ByteOrder::Network)).then(|| "network byte order".to_owned()),
            field.format.map(|format| format!("given as {}", format.name())),
            field.valid_for.as_ref().map(|what| format!("{what} only")),
            field
                .store_effect
                .as_ref()
                .map(|effect| format!("when written: {effect}")),
            field
                .change_ends_chain
                .then(|| "once changed, no further program at the attach point runs".to_owned()),
            field.note.clone(),
        ]);
        let line = format!(
            "    {:>6} {:>5}  {:width$}  {about}",
            field.offset,
            field.size,
            declaration(field)
        );
        let _ = writeln!(text, "{}", line.trim_end());
        for value in &field.values {
            let doc = value.doc.as_ref().map_or_else(String::new, |doc| format!(": {doc}"));
            let _ = writeln!(text, "                   {} {}{doc}", value.value, value.name);
        }
    }
    text
}

fn class(class: &ShownClass) -> String {
    match &class.meaning {
        Some(meaning) => format!("{meaning} ({})", class.class),
        None => class.class.clone(),
    }
}

fn argument_facts(arguments: &[ShownArgument]) -> Vec<(&str, Option<String>)> {
    let fact = |a: &ShownArgument| {
        let name = a.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        let written = if a.written { "; is written all the same" } else { "" };
        Some(format!("{name}{}{written}", class(&a.class)))
    };
    arguments.iter().map(|a| (a.register.as_str(), fact(a))).collect()
}

fn helper_alone(h: &ShownHelper) -> String {
    let whose = h
        .program_type
        .as_ref()
        .map_or_else(|| "general".to_owned(), |t| format!("of program type {t}"));
    let mut text = format!("helper {}, {whose}\n  {}\n\n", h.name, h.prototype);
    let number = if h.program_type.is_some() {
        format!("{:#x}", h.id)
    } else {
        h.id.to_string()
    };
    let mut about = vec![
        ("about", h.doc.clone()),
        ("note", h.note.clone()),
        ("number", Some(number)),
        ("called", h.header_symbol.as_ref().map(|s| format!("{s} in headers"))),
    ];
    about.extend(argument_facts(&h.arguments));
    let only = if h.implemented { "" } else { "no other implements it" };
    about.extend([
        ("returns", Some(class(&h.returns))),
        (
            "map types",
            h.map_types
                .as_ref()
                .map(|types| list(types).unwrap_or_else(|| "none".to_owned())),
        ),
        ("works at", list(&h.attach_types)),
        (
            "packet",
            h.reallocates_packet
                .then(|| "pointers into it are invalid after the call".to_owned()),
        ),
        (
            "implemented",
            list(&h.overridden_by).map(|by| joined(&[Some(format!("by {by}")), Some(only.to_owned())])),
        ),
        (
            "address",
            (h.address_published == Some(false))
                .then(|| "not published: a program that calls it does not load".to_owned()),
        ),
    ]);
    facts(&mut text, &about);
    unknown(&mut text, &h.unknown);
    text
}

fn function(f: &ShownFunction) -> String {
    let mut text = format!("function {} of module {{{}}}\n  {}\n\n", f.name, f.module, f.prototype);
    let mut about = vec![
        ("about", f.doc.clone()),
        ("note", f.note.clone()),
        ("provider", Some(f.provider.clone())),
    ];
    about.extend(argument_facts(&f.arguments));
    about.push(("returns", Some(class(&f.returns))));
    facts(&mut text, &about);
    text
}

fn map_type(m: &ShownMap) -> String {
    let mut text = format!("map type {}\n", m.name);
    facts(
        &mut text,
        &[
            ("about", m.doc.clone()),
            ("note", m.note.clone()),
            ("number", Some(format!("{} ({})", m.number, m.symbol))),
            ("key", Some(m.key.clone())),
            (
                "value",
                Some(format!(
                    "{}{}",
                    m.value,
                    if m.per_processor { ", one per processor" } else { "" }
                )),
            ),
            ("max_entries", m.max_entries.clone()),
            ("creatable", (!m.creatable).then(|| "no".to_owned())),
            ("extension", m.extension.clone()),
            (
                "helpers",
                Some(list(&m.helpers).unwrap_or_else(|| "none known".to_owned())),
            ),
        ],
    );
    text
}

fn structure(s: &ShownStructure) -> String {
    let mut text = format!("structure {}: {} bytes\n", s.name, s.size);
    facts(
        &mut text,
        &[
            ("about", s.doc.clone()),
            ("note", s.note.clone()),
            ("provider", Some(s.provider.clone())),
            ("header", Some(s.header.clone())),
        ],
    );
    text + &fields(&s.fields)
}

fn provider(p: &ShownProvider) -> String {
    let mut text = format!("provider {}\n", p.id);
    let source = &p.source;
    let version = source.version.as_ref().or(source.commit.as_ref());
    let source = source
        .repository
        .as_ref()
        .map(|r| version.map_or_else(|| r.clone(), |v| format!("{r} {v}")));
    facts(
        &mut text,
        &[
            ("about", p.doc.clone()),
            ("drivers", list(&p.modules)),
            ("facts from", source),
            ("program types", list(&p.program_types)),
            ("helpers", list(&p.helpers)),
            ("functions", list(&p.functions)),
            ("structures", list(&p.structures)),
            ("map types", list(&p.map_types)),
        ],
    );
    text
}
