//! `bpf2sys platform list`: what there is.

use std::fmt::Write;

use bpf2sys_platform::Platform;
use serde::Serialize;

use crate::cli::providers::ProviderOptions;
use crate::cli::reporter::Reporter;
use crate::cli::{Outcome, output};

/// List the program types, map types and functions that providers offer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys platform list                        what is built in
  bpf2sys platform list --platform mine.toml   with a provider of your own
  bpf2sys platform list --json                 for programs")]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    providers: ProviderOptions,
}

#[derive(Serialize)]
struct Listed<'a> {
    providers: Vec<&'a str>,
    program_types: Vec<ListedType<'a>>,
    map_types: Vec<ListedMap<'a>>,
    functions: Vec<ListedFunction<'a>>,
}

#[derive(Serialize)]
struct ListedType<'a> {
    name: &'a str,
    provider: &'a str,
    guid: String,
    sections: Vec<&'a str>,
    /// General helpers that its programs can use.
    general_helpers: usize,
    own_helpers: usize,
}

#[derive(Serialize)]
struct ListedMap<'a> {
    number: u32,
    name: &'a str,
    symbol: &'a str,
    creatable: bool,
    /// Of extensions: who implements it, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<&'a str>,
}

#[derive(Serialize)]
struct ListedFunction<'a> {
    name: &'a str,
    module: String,
    provider: &'a str,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let providers = arguments.providers.load(reporter)?;
    let listed = listed(providers.platform());
    if arguments.json {
        output::print_json(&listed)?;
    } else {
        output::print(&text(&listed))?;
    }
    Ok(0)
}

fn listed(platform: &Platform) -> Listed<'_> {
    let types = platform.program_types.iter().map(|t| ListedType {
        name: &t.name,
        provider: &t.provider,
        guid: t.guid.to_string(),
        sections: t.sections.iter().map(|s| s.prefix.as_str()).collect(),
        general_helpers: platform.helpers.iter().filter(|h| t.implements(h)).count(),
        own_helpers: t.helpers.len(),
    });
    let maps = platform.map_types.iter().map(|m| ListedMap {
        number: m.value,
        name: &m.name,
        symbol: &m.symbol,
        creatable: m.rules.creatable,
        extension: m.custom.as_ref().map(|c| c.provider.as_deref().unwrap_or("not known")),
    });
    let functions = platform.btf_functions.iter().map(|f| ListedFunction {
        name: &f.name,
        module: f.module.to_string(),
        provider: &f.provider,
    });
    Listed {
        providers: platform.providers.iter().map(|p| p.id.as_str()).collect(),
        program_types: types.collect(),
        map_types: maps.collect(),
        functions: functions.collect(),
    }
}

fn text(listed: &Listed<'_>) -> String {
    let types = listed.program_types.iter().map(|t| {
        let helpers = format!("{} + {}", t.general_helpers, t.own_helpers);
        [t.name.to_owned(), t.provider.to_owned(), helpers, t.sections.join(", ")]
    });
    let mut rows = vec![["program type", "provider", "helpers", "sections"].map(str::to_owned)];
    rows.extend(types);
    let mut text = table(&rows);
    let maps = listed.map_types.iter().map(|m| {
        let about = match (m.extension, m.creatable) {
            (Some(who), _) => format!("of an extension: {who}"),
            (None, false) => "can't be created".to_owned(),
            (None, true) => String::new(),
        };
        [m.name.to_owned(), m.number.to_string(), m.symbol.to_owned(), about]
    });
    let mut rows = vec![["map type", "number", "constant", ""].map(str::to_owned)];
    rows.extend(maps);
    text += "\n";
    text += &table(&rows);
    if !listed.functions.is_empty() {
        let mut rows = vec![["function", "provider", "module", ""].map(str::to_owned)];
        let function = |f: &ListedFunction<'_>| {
            [
                f.name.to_owned(),
                f.provider.to_owned(),
                format!("{{{}}}", f.module),
                String::new(),
            ]
        };
        rows.extend(listed.functions.iter().map(function));
        text += "\n";
        text += &table(&rows);
    }
    let _ = writeln!(text, "\n`bpf2sys platform show NAME` tells more of each.");
    text
}

/// Columns as wide as what is in them.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}
