//! Types of C as types of Rust with the same bytes.
//!
//! Every type is plain data: all bits of it can be anything, and none of its bytes is padding that nobody knows: padding is a member. So
//! truth values and enumerations are integers, and unions and bit fields are bytes. A structure that Rust would lay out in
//! another way is `packed`.

use std::collections::HashMap;
use std::fmt::Write;

use bpf2sys_bytecode::{DataMember, DataType, DataTypes, TypeIndex, Variable};

use super::names::{Names, identifier};

/// Types of Rust itself, which no type of a module may be called.
const PRIMITIVES: [&str; 10] = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64"];

/// The types of a module that are used.
#[derive(Debug)]
pub(super) struct Types<'a> {
    known: &'a DataTypes,
    names: Names,
    /// What a type is called: of structures and enumerations, below `types`.
    done: HashMap<TypeIndex, Rust>,
    /// The declarations.
    text: String,
}

/// A type of Rust.
#[derive(Clone, Debug)]
struct Rust {
    /// As it is written within `types`.
    name: String,
    size: u32,
    align: u32,
}

impl<'a> Types<'a> {
    pub(super) fn new(known: &'a DataTypes) -> Types<'a> {
        let mut names = Names::default();
        for primitive in PRIMITIVES {
            names.take(primitive);
        }
        Types {
            known,
            names,
            done: HashMap::new(),
            text: String::new(),
        }
    }

    /// The type of a key or value, as it is written beside `types`. Bytes, where it is not known.
    pub(super) fn of(&mut self, of: Option<TypeIndex>, size: u32, called: &str) -> String {
        match of {
            Some(index) => outside(&self.rust(index, called).name),
            None => format!("[u8; {size}]"),
        }
    }

    /// A structure of the variables of a section.
    pub(super) fn variables(&mut self, variables: &[Variable], size: usize, called: &str) -> String {
        let members: Vec<DataMember> = variables
            .iter()
            .map(|variable| DataMember {
                name: variable.name.clone(),
                of: variable.of,
                bit_offset: variable.offset * 8,
                bit_width: None,
            })
            .collect();
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        if members.is_empty() {
            return format!("[u8; {size}]");
        }
        let name = self.names.take(&identifier(called));
        self.structure(&name, size, &members);
        outside(&name)
    }

    /// The declarations.
    pub(super) fn text(self) -> String {
        format!(
            "    /// Types of keys, values and global variables.\n    pub mod types {{\n{}    }}\n",
            self.text
        )
    }

    fn rust(&mut self, index: TypeIndex, called: &str) -> Rust {
        if let Some(done) = self.done.get(&index) {
            return done.clone();
        }
        let made = self.make(index, called);
        self.done.insert(index, made.clone());
        made
    }

    fn make(&mut self, index: TypeIndex, called: &str) -> Rust {
        let size = self.known.size(index);
        let plain = |name: String, align| Rust { name, size, align };
        match self.known.get(index) {
            DataType::Integer { signed, boolean, .. } => match (size, signed, boolean) {
                (_, _, true) if size == 1 => plain("u8".to_owned(), 1),
                (16, ..) => plain("[u64; 2]".to_owned(), 8),
                (_, true, _) => plain(format!("i{}", size * 8), size),
                _ => plain(format!("u{}", size * 8), size),
            },
            DataType::Float { .. } if matches!(size, 4 | 8) => plain(format!("f{}", size * 8), size),
            DataType::Float { .. } => plain(bytes(size), 1),
            DataType::Pointer => plain("u64".to_owned(), 8),
            DataType::Array { element, count } => {
                let element = self.rust(*element, called);
                plain(format!("[{}; {count}]", element.name), element.align)
            }
            DataType::Alias { name, of } => self.rust(*of, name),
            DataType::Struct { union: true, .. } => plain(bytes(size), 1),
            DataType::Struct { name, members, .. } => {
                let name = self.names.take(&identifier(name.as_deref().unwrap_or(called)));
                let align = self.structure(&name, size, members);
                plain(name, align)
            }
            DataType::Enumeration {
                name, signed, values, ..
            } => {
                let name = self.names.take(&identifier(name.as_deref().unwrap_or(called)));
                let integer = format!("{}{}", if *signed { 'i' } else { 'u' }, size * 8);
                let doc = format!("The enumeration `{name}`; its values are constants.");
                let _ = writeln!(
                    self.text,
                    "        #[doc = {doc:?}]\n        pub type {name} = {integer};"
                );
                for (constant, value) in values {
                    let value = if *signed {
                        value.to_string()
                    } else {
                        value.cast_unsigned().to_string()
                    };
                    let constant = self.names.take(&identifier(constant));
                    let doc = format!("Of the enumeration `{name}`.");
                    let _ = writeln!(
                        self.text,
                        "        #[doc = {doc:?}]\n        pub const {constant}: {name} = {value};"
                    );
                }
                plain(name, size)
            }
        }
    }

    /// Declares a structure, and gives its alignment.
    fn structure(&mut self, name: &str, size: u32, members: &[DataMember]) -> u32 {
        let mut fields = Fields::default();
        let mut offset = 0;
        for (place, member) in members.iter().enumerate() {
            let start = member.bit_offset / 8;
            if member.bit_width.is_some() || start < offset {
                // Bit fields share bytes; what begins among them has been said.
                continue;
            }
            // Bytes of bit fields are told from padding by who is there.
            let between = members[..place]
                .iter()
                .filter(|m| m.bit_width.is_some() && m.bit_offset / 8 >= offset);
            fields.gap(offset, start, between);
            let called = format!("{name}_{}", if member.name.is_empty() { "part" } else { &member.name });
            let rust = self.rust(member.of, &called);
            fields.add(&member.name, &rust, start);
            offset = start + rust.size;
        }
        let rest = members
            .iter()
            .filter(|m| m.bit_width.is_some() && m.bit_offset / 8 >= offset);
        fields.gap(offset, size, rest);
        let packed = fields.is_packed(size);
        let representation = if packed { "C, packed" } else { "C" };
        let _ = writeln!(
            self.text,
            "        #[doc = {:?}]\n        #[repr({representation})]\n        #[derive(Clone, Copy, Debug, PartialEq)]\n        pub struct {name} {{",
            format!("`{name}`, {size} bytes.")
        );
        for (field, rust, offset) in &fields.all {
            let _ = writeln!(
                self.text,
                "            #[doc = \"At byte {offset}.\"]\n            pub {field}: {},",
                rust.name
            );
        }
        let _ = writeln!(
            self.text,
            "        }}\n        const _: () = assert!(::core::mem::size_of::<{name}>() == {size});"
        );
        for (field, _, offset) in &fields.all {
            let _ = writeln!(
                self.text,
                "        const _: () = assert!(::core::mem::offset_of!({name}, {field}) == {offset});"
            );
        }
        if packed { 1 } else { fields.align() }
    }
}

/// The fields of a structure: name, type, offset.
#[derive(Debug, Default)]
struct Fields {
    all: Vec<(String, Rust, u32)>,
    names: Names,
}

impl Fields {
    fn add(&mut self, name: &str, rust: &Rust, offset: u32) {
        let name = self.names.take(&identifier(name));
        self.all.push((name, rust.clone(), offset));
    }

    /// Bytes that no member has: padding, or those of bit fields.
    fn gap<'a>(&mut self, start: u32, end: u32, bits: impl Iterator<Item = &'a DataMember>) {
        if start >= end {
            return;
        }
        let names: Vec<&str> = bits.map(|member| member.name.as_str()).collect();
        let name = if names.is_empty() {
            format!("_padding_{start}")
        } else {
            format!("_bits_{}", names.join("_"))
        };
        let size = end - start;
        let rust = Rust {
            name: bytes(size),
            size,
            align: 1,
        };
        self.add(&name, &rust, start);
    }

    fn align(&self) -> u32 {
        self.all.iter().map(|(_, rust, _)| rust.align).max().unwrap_or(1)
    }

    /// Whether a field is not where Rust would put it.
    fn is_packed(&self, size: u32) -> bool {
        let misplaced = self
            .all
            .iter()
            .any(|(_, rust, offset)| !offset.is_multiple_of(rust.align));
        misplaced || !size.is_multiple_of(self.align())
    }
}

fn bytes(size: u32) -> String {
    format!("[u8; {size}]")
}

/// A type of `types` as it is written in its sibling modules.
fn outside(name: &str) -> String {
    match name.strip_prefix('[') {
        // An array of a type that may be one of `types`.
        Some(_) => match name.rsplit_once("; ") {
            Some((element, count)) => format!("[{}; {count}", outside(&element[1..])),
            None => name.to_owned(),
        },
        None if PRIMITIVES.contains(&name) => name.to_owned(),
        None => format!("super::types::{name}"),
    }
}
