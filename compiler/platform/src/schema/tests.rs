//! The JSON schema and the loader take the same files.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::Platform;

fn schema() -> Value {
    serde_json::from_str(Platform::schema()).unwrap()
}

/// What a table is called in the JSON schema.
fn table_name(rust: &str) -> String {
    let special = BTreeMap::from([
        ("BtfFunction", "btf_resolved_function"),
        ("Override", "global_helper_override"),
    ]);
    if let Some(name) = special.get(rust) {
        return (*name).to_owned();
    }
    let mut name = String::new();
    for c in rust.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[test]
fn both_know_the_same_keys() {
    let schema = schema();
    for (table, keys) in tables() {
        let told = if table == "File" {
            &schema
        } else {
            &schema["$defs"][table_name(table)]
        };
        let properties = told["properties"]
            .as_object()
            .unwrap_or_else(|| panic!("no table {table}"));
        let mut wanted: Vec<&str> = keys.iter().map(|(key, _)| key.trim_start_matches("r#")).collect();
        wanted.sort_unstable();
        let mut found: Vec<&str> = properties.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(wanted, found, "{table}");
        let mut wanted: Vec<&str> = keys
            .iter()
            .filter(|(_, must)| *must)
            .map(|(key, _)| key.trim_start_matches("r#"))
            .collect();
        wanted.sort_unstable();
        let mut found: Vec<&str> = told["required"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        found.sort_unstable();
        assert_eq!(wanted, found, "{table}: required");
        assert_eq!(told["additionalProperties"], json!(false), "{table}");
    }
    // And no table more.
    let tables: Vec<String> = tables().iter().map(|(name, _)| table_name(name)).collect();
    for name in schema["$defs"].as_object().unwrap().keys() {
        assert!(name == "enum_value" || tables.contains(name), "{name}");
    }
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

fn as_json(text: &str) -> Option<Value> {
    let table: toml::Table = text.parse().ok()?;
    serde_json::to_value(table).ok()
}

fn loads(text: &str) -> bool {
    let own = [("own.toml", text)];
    let files: Vec<(&str, &str)> = Platform::builtin_files().iter().copied().chain(own).collect();
    Platform::from_toml(&files).is_ok()
}

#[test]
fn built_in_files_are_valid() {
    let validator = validator();
    for (name, text) in Platform::builtin_files() {
        let value = as_json(text).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert_eq!(errors, [""; 0], "{name}");
    }
}

/// A file with every table that a user's provider has.
const OWN: &str = r#"schema = 1
[provider]
id = "own"
modules = ["own.sys"]
part = "own"

[[program_type]]
name = "own"
symbol = "OWN"
guid = "{0000000A-0000-0000-0000-000000000001}"
bpf_prog_type = 1000
is_privileged = false

[program_type.context]
struct = "own_t"
size = 32
data = 0
data_end = 8
data_meta = -1

[[program_type.context.field]]
name = "mode"
type = "mode_t"
offset = 16
size = 4
kind = "enum"
byte_order = "host"
values = { MODE_A = 0, MODE_B = -1 }

[[program_type.section]]
prefix = "own"
attach_type = "OWN_ATTACH"
attach_type_guid = "0000000a-0000-0000-0000-000000000002"
bpf_attach_type = 1000

[[program_type.helper]]
id = 65536
name = "own_helper"
return_type = { name = "EBPF_RETURN_TYPE_INTEGER", value = 0 }
args = ["EBPF_ARGUMENT_TYPE_PTR_TO_CTX"]
returns = "int"
parameters = [{ name = "context", type = "own_t *" }]
writes_readable = [1]

[[program_type.return_value]]
name = "OWN_OK"
value = 0
meaning = "fine"

[[program_type.global_helper_override]]
id = 26
name = "bpf_get_socket_cookie"

[[struct]]
name = "own_data_t"
size = 4
field = [{ name = "a", type = "uint32_t", offset = 0, size = 4, values = [{ name = "A", value = 1 }] }]

[[btf_resolved_function]]
module_guid = "0000000a-0000-0000-0000-000000000003"
name = "own_function"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = []

[[custom_map_type]]
name = "BPF_MAP_TYPE_OWN"
value = 16
base_map_type = 1
provider_guid = "0000000a-0000-0000-0000-000000000004"
"#;

#[test]
fn both_refuse_wrong_files() {
    let validator = validator();
    let valid = |text: &str| as_json(text).is_some_and(|value| validator.is_valid(&value));
    assert!(loads(OWN) && valid(OWN));
    let mut changed = Vec::new();
    for (i, line) in OWN.lines().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else {
            continue;
        };
        let with = |new: &str| {
            let lines = OWN.lines().enumerate().map(|(j, old)| if i == j { new } else { old });
            lines.collect::<Vec<_>>().join("\n")
        };
        changed.push(with(&format!("{line}\n{key}_ = 1")));
        let other = match value.as_bytes() {
            [b'"', ..] => "1",
            // The name of a type is a string, too.
            [b'{' | b'[', ..] => "true",
            _ => "\"x\"",
        };
        changed.push(with(&format!("{key} = {other}")));
        changed.push(with(&format!("{key} = [{{ x = 1 }}]")));
        changed.push(with(&format!("{key} = 1.5")));
        if value.parse::<i64>().is_ok() {
            changed.push(with(&format!("{key} = 99999999999")));
        }
    }
    changed.push(OWN.replace("kind = \"enum\"", "kind = \"list\""));
    changed.push(OWN.replace("\"host\"", "\"little\""));
    changed.push(OWN.replace("byte_order = \"host\"", "format = \"ipv5\""));
    changed.push(OWN.replace("data_meta = -1", "data_meta = -1\ndata_format = \"utf8\""));
    changed.push(OWN.replace("meaning = \"fine\"", "meaning = \"fine\"\nfate = \"lost\""));
    changed.push(OWN.replace("meaning = \"fine\"", "meaning = \"fine\"\nends_chain = 1"));
    changed.push(OWN.replace("byte_order = \"host\"", "change_ends_chain = \"true\""));
    changed.push(OWN.replace("part = \"own\"", "part = \"../own\""));
    changed.push(OWN.replace("size = 32", "size = 0"));
    changed.push(OWN.replace("MODE_A = 0", "MODE_A = \"0\""));
    changed.push(OWN.replace("0000000A-", "0000000G-"));
    changed.push(OWN.replace("type = \"own_t *\"", "tipe = \"own_t *\""));
    assert!(changed.len() > 150, "{}", changed.len());
    for text in changed {
        // Both must refuse; values of 64 bits are the exception.
        let big = text.contains("\nvalue = 99999999999\nmeaning");
        assert_eq!((loads(&text), valid(&text)), (big, big), "{text}");
    }
}

#[test]
fn both_take_every_key() {
    // Every optional key of every table that a user's file can have, with a value of its type.
    let schema = schema();
    let validator = validator();
    for (table, keys) in tables().into_iter().filter(|(t, _)| {
        !matches!(
            *t,
            "File" | "Limits" | "VerifierOptions" | "ReturnType" | "ArgumentType" | "MapType" | "Variant"
        )
    }) {
        let name = table_name(table);
        for (key, _) in keys.iter().filter(|(_, must)| !must) {
            let key = key.trim_start_matches("r#");
            // Belongs to sections at the top of a file only.
            if key == "program_type_guid" {
                continue;
            }
            let value = match schema["$defs"][&name]["properties"][key]["type"].as_str() {
                Some("string") => "\"x\"",
                Some("integer") => "1",
                Some("boolean") if matches!(key, "verifier_store" | "checks_map_type") => "true",
                Some("boolean") => "false",
                Some("array") => "[]",
                Some(_) => continue,
                None => match key {
                    "kind" => "\"scalar\"",
                    "byte_order" => "\"network\"",
                    "format" => "\"ip_protocol\"",
                    "data_format" => "\"utf16\"",
                    "fate" => "\"sent_back\"",
                    "values" => "{}",
                    // Depends on the arguments.
                    "fills" => continue,
                    _ => "1",
                },
            };
            let value = if key == "part" { "\"x\"" } else { value };
            let Some(text) = with_key(&name, key, value) else {
                continue;
            };
            let json = as_json(&text).unwrap_or_else(|| panic!("{text}"));
            assert!(validator.is_valid(&json), "{name}.{key}");
            assert!(loads(&text), "{name}.{key}");
        }
    }
}

/// [`OWN`] with one more key in a table, unless it is there.
fn with_key(table: &str, key: &str, value: &str) -> Option<String> {
    let lines: Vec<&str> = OWN.lines().collect();
    let is_header = |line: &str| {
        let name = line.trim_matches(['[', ']']);
        line.starts_with('[') && name.rsplit('.').next() == Some(table)
    };
    let at = lines.iter().position(|line| is_header(line))?;
    let end = lines[at + 1..]
        .iter()
        .position(|line| line.starts_with('['))
        .map_or(lines.len(), |n| at + 1 + n);
    let there = lines[at..end].iter().any(|line| line.split(" = ").next() == Some(key));
    // A table cannot be given twice; what is an array of tables in the file is one already.
    if there
        || lines
            .iter()
            .any(|line| line.trim_matches(['[', ']']).ends_with(&format!("{table}.{key}")))
    {
        return None;
    }
    let mut with: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    with.insert(at + 1, format!("{key} = {value}"));
    Some(with.join("\n"))
}
