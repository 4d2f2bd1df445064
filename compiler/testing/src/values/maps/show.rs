//! Maps as JSON.

use bpf2sys_simulator::{MapContents, MapEntryContents};

use super::entry::Entries;
use crate::values::{Json, ModuleTypes, hex};

/// The maps of a report, by name in their order.
pub fn maps_to_json(maps: &[MapContents], types: Option<&ModuleTypes>) -> Json {
    let maps = maps.iter().map(|map| (name(map), contents(map, types)));
    Json::Object(maps.collect())
}

/// The name of a map among those of all loads.
pub(super) fn name(map: &MapContents) -> String {
    match map.load {
        0 => map.name.clone(),
        load => format!("{}@{load}", map.name),
    }
}

fn contents(map: &MapContents, types: Option<&ModuleTypes>) -> Json {
    let known = Entries::new(types, &map.name, map.map_type);
    let number = |number: u32| Json::from(i64::from(number));
    let mut members = vec![
        ("type".to_owned(), Json::from(map.type_name.as_str())),
        ("key_size".to_owned(), number(map.key_size)),
        ("value_size".to_owned(), number(map.value_size)),
        ("max_entries".to_owned(), number(map.max_entries)),
    ];
    let mut add = |name: &str, value: Json| members.push((name.to_owned(), value));
    if map.load != 0 {
        add("load", number(map.load));
    }
    let variables = variables(map, known);
    if !variables.is_empty() {
        add("variables", Json::Object(variables));
    }
    add(
        "entries",
        Json::List(map.entries.iter().map(|e| entry(e, known)).collect()),
    );
    add("omitted", Json::Integer(map.omitted.into()));
    let records = map.records.iter().map(|record| {
        let cpu = record.cpu.map(|cpu| ("cpu".to_owned(), number(cpu)));
        let data = ("data".to_owned(), known.record(&record.data.0));
        Json::Object(cpu.into_iter().chain([data]).collect())
    });
    add("records", Json::List(records.collect()));
    Json::Object(members)
}

/// The global variables that a map holds, by name.
pub(super) fn variables(map: &MapContents, known: Entries<'_>) -> Vec<(String, Json)> {
    let section = known.of.and_then(|of| of.section.as_ref());
    let bytes = map.entries.first().and_then(|entry| entry.values.first());
    let (Some(section), Some(bytes)) = (section, bytes) else {
        return Vec::new();
    };
    let shown = section.variables.iter().filter_map(|variable| {
        let bytes = known.bytes_of(variable, &bytes.0)?;
        Some((variable.name.clone(), known.variable(variable.of, bytes)))
    });
    shown.collect()
}

fn entry(entry: &MapEntryContents, known: Entries<'_>) -> Json {
    let mut members = Vec::new();
    let mut add = |name: &str, value: Json| members.push((name.to_owned(), value));
    if !entry.key.0.is_empty() {
        let (key, exact) = known.key(&entry.key.0);
        add("key", key);
        if !exact {
            add("key_bytes", hex(&entry.key.0));
        }
    }
    let (value, exact) = known.value(entry);
    let name = match entry.object {
        Some(_) => "object",
        None if known.is_per_cpu(entry) => "values",
        None => "value",
    };
    add(name, value);
    if !exact {
        add(&format!("{name}_bytes"), known.value_bytes(entry));
    }
    Json::Object(members)
}
