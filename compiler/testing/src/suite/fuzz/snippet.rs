//! Inputs as tests that can be pasted into a test file.

use std::fmt::Write;

use bpf2sys_platform::{Context, Field};
use bpf2sys_simulator::HexBytes;
use serde_json::Value;

use super::generate::FuzzInput;
use crate::contexts::decode;
use crate::suite::file::Test;
use crate::values::Json;

/// A test with these inputs, on a driver as in another test.
pub(super) fn snippet(
    name: &str,
    program: &str,
    inputs: &[FuzzInput],
    context: Option<&Context>,
    like: Option<&Test>,
) -> String {
    let mut text = format!("[[test]]\nname = {}\nprogram = {}\n", quoted(name), quoted(program));
    if let Some(like) = like {
        if like.maps != Json::default() {
            let _ = writeln!(text, "maps = {}", inline(&like.maps));
        }
        if like.machine.as_object().is_some_and(|machine| !machine.is_empty()) {
            let _ = writeln!(text, "machine = {}", inline(&Json::from(like.machine.clone())));
        }
        for (key, list) in [
            ("answers", &like.answers),
            ("fail", &like.fail),
            ("full", &like.full),
            ("absent", &like.absent),
        ] {
            if !list.is_empty() {
                let list = list.iter().map(|text| Json::from(text.as_str())).collect();
                let _ = writeln!(text, "{key} = {}", inline(&Json::List(list)));
            }
        }
    }
    for input in inputs {
        if inputs.len() > 1 {
            text += "[[test.step]]\n";
        }
        let has_data = context.is_some_and(|context| context.data >= 0);
        if has_data {
            let _ = writeln!(text, "packet = \"hex:{}\"", HexBytes(input.packet.clone()));
        }
        let fields = context.map_or_else(Default::default, |context| decode(context, &input.context, None));
        let is_zero = |value: &Value| matches!(value, Value::Number(number) if number.as_u64() == Some(0));
        let known = |name: &str| context.and_then(|of| of.fields.iter().find(|field| field.name == *name));
        let is_empty = |name: &str| known(name).is_some_and(|field| is_all_zero(field, &input.context));
        let named: Vec<(String, Json)> = fields
            .0
            .into_iter()
            .filter(|(name, value)| !is_zero(value) && !is_empty(name))
            .map(|(name, value)| (name, value.into()))
            .collect();
        if !named.is_empty() || !has_data {
            let _ = writeln!(text, "context = {}", inline(&Json::Object(named)));
        }
    }
    text
}

fn is_all_zero(field: &Field, context: &[u8]) -> bool {
    let bytes = context.iter().skip(field.offset as usize).take(field.size as usize);
    bytes.into_iter().all(|byte| *byte == 0)
}

fn quoted(text: &str) -> String {
    // A JSON text is one of TOML, too, but for what nobody writes into names.
    Json::from(text).pretty().replace('\u{7f}', "\\u007f")
}

/// A value on one line.
fn inline(json: &Json) -> String {
    match json {
        Json::Object(members) if members.is_empty() => "{}".to_owned(),
        Json::Object(members) => {
            let bare = |name: &str| {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                if !name.is_empty() && name.chars().all(plain) {
                    name.to_owned()
                } else {
                    quoted(name)
                }
            };
            let members = members
                .iter()
                .map(|(name, value)| format!("{} = {}", bare(name), inline(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        Json::List(list) => format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Json::Text(text) | Json::Word(text) => quoted(text),
        // Beyond 64 bits with a sign there are no numbers in TOML; a text with the number is read as one.
        Json::Integer(number) if i64::try_from(*number).is_err() => quoted(&number.to_string()),
        other => other.to_string(),
    }
}
