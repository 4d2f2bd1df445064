//! Types of C, as an object's BTF has them, as text.

use std::fmt::Write;

use bpf2sys_bytecode::{DataMember, DataType, DataTypes, TypeIndex};

/// Most members that are shown of one structure, and how deep structures without names are followed.
const MAX_MEMBERS: usize = 64;
const MAX_DEPTH: usize = 4;

/// The declaration of something with this name and type: `__u32 port`, `char name[16]`.
pub(super) fn declared(types: &DataTypes, of: TypeIndex, name: &str) -> String {
    with_depth(types, of, name, 0)
}

/// What the members of a structure are: its definition. `None` for other types.
pub(super) fn definition(types: &DataTypes, of: TypeIndex) -> Option<String> {
    let DataType::Struct { .. } = types.get(types.resolve(of)) else {
        return None;
    };
    Some(structure(types, types.resolve(of), 0))
}

fn with_depth(types: &DataTypes, of: TypeIndex, name: &str, depth: usize) -> String {
    let name_of = |kind: String| {
        if name.is_empty() {
            kind
        } else {
            format!("{kind} {name}")
        }
    };
    match types.get(of) {
        DataType::Array { element, count } => with_depth(types, *element, &format!("{name}[{count}]"), depth),
        DataType::Pointer => name_of("void *".to_owned()),
        DataType::Integer { name: kind, .. }
        | DataType::Float { name: kind, .. }
        | DataType::Alias { name: kind, .. } => name_of(kind.clone()),
        DataType::Enumeration { name: tag, .. } => name_of(format!("enum {}", tag.as_deref().unwrap_or("{…}"))),
        DataType::Struct {
            name: Some(tag), union, ..
        } => name_of(format!("{} {tag}", keyword(*union))),
        DataType::Struct { name: None, union, .. } if depth >= MAX_DEPTH => {
            name_of(format!("{} {{…}}", keyword(*union)))
        }
        DataType::Struct { name: None, .. } => name_of(structure(types, of, depth)),
    }
}

fn keyword(union: bool) -> &'static str {
    if union { "union" } else { "struct" }
}

/// The structure at `of` with its members.
fn structure(types: &DataTypes, of: TypeIndex, depth: usize) -> String {
    let DataType::Struct {
        name, union, members, ..
    } = types.get(of)
    else {
        return String::new();
    };
    let mut text = keyword(*union).to_owned();
    if let Some(name) = name {
        let _ = write!(text, " {name}");
    }
    text += " {\n";
    let indent = "    ".repeat(depth + 1);
    for member in members.iter().take(MAX_MEMBERS) {
        let DataMember {
            name, of, bit_width, ..
        } = member;
        let width = bit_width.map_or_else(String::new, |width| format!(" : {width}"));
        let _ = writeln!(text, "{indent}{}{width};", with_depth(types, *of, name, depth + 1));
    }
    if let Some(more @ 1..) = members.len().checked_sub(MAX_MEMBERS) {
        let _ = writeln!(text, "{indent}… {more} more");
    }
    text += &"    ".repeat(depth);
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_c_has_them() {
        let mut types = DataTypes::default();
        let byte = DataType::Integer {
            name: "char".into(),
            size: 1,
            signed: true,
            boolean: false,
        };
        let byte = types.add(byte).unwrap();
        let text = types
            .add(DataType::Array {
                element: byte,
                count: 8,
            })
            .unwrap();
        let member = |name: &str, of, bit_offset| DataMember {
            name: name.into(),
            of,
            bit_offset,
            bit_width: None,
        };
        let inner = DataType::Struct {
            name: None,
            size: 8,
            union: true,
            members: vec![member("text", text, 0)],
        };
        let inner = types.add(inner).unwrap();
        let outer = DataType::Struct {
            name: Some("event".into()),
            size: 9,
            union: false,
            members: vec![member("kind", byte, 0), member("u", inner, 8)],
        };
        let outer = types.add(outer).unwrap();
        let list = types
            .add(DataType::Array {
                element: outer,
                count: 2,
            })
            .unwrap();
        assert_eq!(declared(&types, text, "name"), "char name[8]");
        assert_eq!(declared(&types, list, "all"), "struct event all[2]");
        assert_eq!(declared(&types, byte, ""), "char");
        let expected = "struct event {\n    char kind;\n    union {\n        char text[8];\n    } u;\n}";
        assert_eq!(definition(&types, outer).unwrap(), expected);
        assert_eq!(definition(&types, byte), None);
    }
}
