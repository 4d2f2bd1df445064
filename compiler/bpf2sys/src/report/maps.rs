//! Maps and global variables.

use bpf2sys_bytecode::{DataTypes, GlobalIndex, MapIndex, Module};
use bpf2sys_simulator::usermode::UserModeMap;
use bpf2sys_testing::values::to_text;

use super::Context;
use super::html::{Html, tag};
use super::parts::{MAX_ROWS, Section, Table, code, counted, heading, note, paragraph};
use super::types::{declared, definition};

/// `PIN_GLOBAL_NS` and `LIBBPF_PIN_BY_NAME` of the map table (native module contract §4.3).
const PINNED_BY_NAME: u32 = 1;

pub(super) fn section(context: &Context<'_>) -> Section {
    let maps = context.image.module.as_ref().map_or(&[][..], |module| &module.maps);
    let module = context.source().map(|source| source.verified.module());
    let mut table = Table::new("Maps", &["Map", "Type", "Key", "Value", "Entries", "Kept"]);
    for map in maps {
        let types = module.and_then(|module| types_of(module, &map.name));
        table.row(row(context, map, maps, types));
    }
    let mut content = if table.is_empty() {
        Html::from(paragraph("It has no maps."))
    } else {
        Html::from(table)
    };
    if let Some(module) = module {
        content.push(definitions(module));
        content.push(variables(module));
    } else {
        content.push(note(
            "Types of keys and values, and the names of global variables, are in the object, which is not known.",
        ));
    }
    content.push(initial(context));
    Section::new("maps", "Maps and global variables", content)
}

fn types_of<'a>(module: &'a Module, name: &str) -> Option<(&'a DataTypes, MapIndex)> {
    let index = module.maps.iter().position(|map| map.name == name)?;
    Some((&module.types, MapIndex(index as u32)))
}

fn row(
    context: &Context<'_>,
    map: &UserModeMap,
    all: &[UserModeMap],
    types: Option<(&DataTypes, MapIndex)>,
) -> [Html; 6] {
    let known = context.subject.platform.map_type(map.map_type);
    let kind = known.map_or_else(|| format!("type {}", map.map_type), |known| known.name.clone());
    let doc = known.and_then(|known| known.doc.as_ref());
    let kind = tag("span").with(code(kind)).with(doc.map(|doc| tag("small").with(doc)));
    let sized = |size: u32, of: Option<String>| {
        let of = of.map(|of| Html::from(code(of)).with(", "));
        Html::from(of).with(counted(size as usize, "byte"))
    };
    let entries = types.map(|(types, index)| (types, types.of_map(index)));
    let name = |of| entries.and_then(|(types, _)| Some(declared(types, of?, "")));
    let template = all.iter().find(|other| map.inner_id != 0 && other.id == map.inner_id);
    let value = match template {
        Some(inner) => Html::from("maps like ").with(code(&inner.name)),
        None => sized(
            map.value_size,
            name(entries.and_then(|(_, entries)| entries.value)).map(one_line),
        ),
    };
    [
        code(&map.name).into(),
        kind.into(),
        sized(
            map.key_size,
            name(entries.and_then(|(_, entries)| entries.key)).map(one_line),
        ),
        value,
        map.max_entries.to_string().into(),
        (if map.pinning == PINNED_BY_NAME {
            "pinned by name: other modules and later loads see it"
        } else {
            "while the driver is loaded"
        })
        .into(),
    ]
}

/// A declaration on one line, without the members of a structure that has no name.
fn one_line(text: String) -> String {
    match (text.split_once('\n'), text.rsplit_once('\n')) {
        (Some((first, _)), Some((_, last))) => format!("{first} … {}", last.trim_start()),
        _ => text,
    }
}

/// Definitions of the structures that keys and values are.
fn definitions(module: &Module) -> Html {
    let mut shown: Vec<String> = Vec::new();
    for index in 0..module.maps.len() {
        if module.globals.iter().any(|global| global.map.index() == index) {
            continue;
        }
        let entries = module.types.of_map(MapIndex(index as u32));
        for of in [entries.key, entries.value].into_iter().flatten() {
            if let Some(text) = definition(&module.types, of)
                && !shown.contains(&text)
                && shown.len() < MAX_ROWS
            {
                shown.push(text);
            }
        }
    }
    if shown.is_empty() {
        return Html::default();
    }
    let blocks = shown
        .into_iter()
        .map(|text| tag("pre").attribute("tabindex", "0").with(text + ";"));
    Html::from(heading("Types of keys and values")).with(Html::of(blocks))
}

/// Global variables with the values that they have at first.
fn variables(module: &Module) -> Html {
    let mut table = Table::new(
        "Global variables",
        &["Variable", "Section", "Access", "Bytes", "At first"],
    );
    for (index, global) in module.globals.iter().enumerate() {
        let access = if global.read_only {
            "read-only"
        } else {
            "writable, also by user mode"
        };
        let variables = module.types.variables(GlobalIndex(index as u32));
        for variable in variables {
            let (start, size) = (variable.offset as usize, module.types.size(variable.of) as usize);
            let initial = global.data.get(start..start + size);
            let initial = initial.map(|bytes| to_text(&module.types, variable.of, bytes));
            table.row([
                Html::from(code(one_line(declared(&module.types, variable.of, &variable.name)))),
                code(&global.section).into(),
                access.into(),
                size.to_string().into(),
                Html::from(initial.map(code)),
            ]);
        }
        if variables.is_empty() {
            let what = if global.data.iter().all(|byte| *byte == 0) {
                "zero"
            } else {
                "with values"
            };
            table.row([
                Html::from("without names"),
                code(&global.section).into(),
                access.into(),
                global.data.len().to_string().into(),
                what.into(),
            ]);
        }
    }
    if table.is_empty() {
        Html::default()
    } else {
        Html::from(heading("Global variables")).with(table)
    }
}

/// Programs and maps that are in maps at first.
fn initial(context: &Context<'_>) -> Html {
    let mut table = Table::new("What is in maps at first", &["Map", "Slot", "Holds"]);
    for list in context.image.tables.iter().flat_map(|tables| &tables.initial_values) {
        let filled = list
            .values
            .iter()
            .enumerate()
            .filter_map(|(slot, value)| Some((slot, value.as_ref()?)));
        for (slot, value) in filled {
            table.row([
                Html::from(code(&list.name)),
                slot.to_string().into(),
                code(value).into(),
            ]);
        }
    }
    if table.is_empty() {
        Html::default()
    } else {
        Html::from(heading("Initial contents")).with(table)
    }
}
