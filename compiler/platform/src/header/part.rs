//! One part of the headers: the program types, structures and functions that it declares.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::constants::{Of, commented};
use super::ctype::CType;
use super::declare::join;
use super::layout::{Member, Placed, layout};
use super::names::guard;
use super::text::{banner, clean, comment};
use super::{Headers, Named};
use crate::{ByteOrder, Context, Field, ProgramType};

impl Headers<'_> {
    /// A part with its guard; `start` goes behind the guard.
    pub(super) fn part_body(&self, part: &str, start: &str) -> String {
        let guard = guard(part);
        let mut text = comment("", &self.about_part(part));
        let _ = write!(text, "#ifndef {guard}\n#define {guard}\n\n{start}");
        let mut declared = BTreeSet::new();
        for (i, structure) in self
            .platform
            .structures
            .iter()
            .enumerate()
            .filter(|(_, s)| s.part == part)
        {
            let of = |field: &Field| self.constants.group(Of::StructureField(i, &field.name));
            text += &self.enumerations(&structure.fields, of, &mut declared);
            let about: Vec<String> = structure.doc.iter().chain(&structure.note).cloned().collect();
            let name = self.name(Named::Structure(i));
            text += &self.structure(name, &structure.fields, structure.size, part, &about, of);
        }
        for program_type in self
            .platform
            .program_types
            .iter()
            .filter(|t| t.description.part == part)
        {
            text += &self.program_type(program_type, &mut declared);
        }
        let functions: Vec<_> = self
            .platform
            .btf_functions
            .iter()
            .enumerate()
            .filter(|(_, f)| f.part == part)
            .collect();
        if !functions.is_empty() {
            text += &banner("Functions of other Windows modules");
            // No C++ compiler keeps the module's GUID.
            text += "\n#ifndef __cplusplus\n";
            for (i, function) in functions {
                text += &self.function(i, function);
            }
            text += "#endif\n\n";
        }
        text + &format!("#endif /* {guard} */\n")
    }

    fn about_part(&self, part: &str) -> Vec<String> {
        let types: Vec<&ProgramType> = self
            .platform
            .program_types
            .iter()
            .map(AsRef::as_ref)
            .filter(|t| t.description.part == part)
            .collect();
        let mut providers: Vec<&str> = types.iter().map(|t| t.provider.as_str()).collect();
        providers.extend(
            self.platform
                .structures
                .iter()
                .filter(|s| s.part == part)
                .map(|s| s.provider.as_str()),
        );
        providers.extend(
            self.platform
                .btf_functions
                .iter()
                .filter(|f| f.part == part)
                .map(|f| f.provider.as_str()),
        );
        let mut seen = BTreeSet::new();
        let mut about = Vec::new();
        for id in providers.into_iter().filter(|id| seen.insert(*id)) {
            let Some(provider) = self.platform.providers.iter().find(|p| p.id == id) else {
                continue;
            };
            about.push(
                provider
                    .doc
                    .clone()
                    .unwrap_or_else(|| format!("What provider `{id}` offers.")),
            );
            let source = &provider.source;
            if let Some(repository) = &source.repository {
                let version = source.version.as_ref().or(source.commit.as_ref());
                let version = version.map_or_else(String::new, |v| format!(" {v}"));
                about.push(format!("Facts from {repository}{version}."));
            }
        }
        if let [only] = types.as_slice() {
            about.extend(about_type(only));
        }
        about.push("Written by `bpf2sys platform header`.".to_owned());
        about
    }

    fn program_type(&self, program_type: &ProgramType, declared: &mut BTreeSet<usize>) -> String {
        let part = program_type.description.part.as_str();
        let alone = self
            .platform
            .program_types
            .iter()
            .filter(|t| t.description.part == part)
            .count()
            == 1;
        let mut text = String::new();
        if !alone {
            text += &banner(&format!("Program type {}", program_type.name));
            text += "\n";
            text += &comment("", &about_type(program_type));
            text += "\n";
        }
        let of = |field: &Field| self.constants.group(Of::ContextField(&program_type.name, &field.name));
        let fields = context_fields(&program_type.context);
        text += &self.enumerations(&fields, of, declared);
        let size = program_type.context.size.unsigned_abs();
        text += &self.structure(
            self.context_name(program_type),
            &fields,
            size,
            part,
            &about_context(&program_type.context),
            of,
        );
        text += &self.results(program_type, declared);
        for helper in &program_type.helpers {
            text += &self.helper(Some(program_type), helper);
            text += "\n";
        }
        text
    }

    /// What programs return.
    fn results(&self, program_type: &ProgramType, declared: &mut BTreeSet<usize>) -> String {
        let group = self.constants.group(Of::Results(&program_type.name));
        let doc = &program_type.description.return_doc;
        let mut about: Vec<String> = doc.iter().cloned().collect();
        let is_declared = |name: &str, value: i64| {
            let groups = self.constants.groups();
            let group = group.and_then(|i| groups.get(i));
            group.is_some_and(|g| g.constants.iter().any(|c| c.name == name && c.value == value))
        };
        for value in program_type
            .return_values
            .iter()
            .filter(|v| !is_declared(&v.name, v.value))
        {
            about.push(format!("A program returns {}: {}.", value.value, value.meaning));
        }
        match group.filter(|i| declared.insert(*i)) {
            Some(index) => {
                if about.is_empty() {
                    about.push("What programs return.".to_owned());
                }
                self.group(index, &about)
            }
            None if about.is_empty() => String::new(),
            None => comment("", &about) + "\n",
        }
    }

    fn enumerations(
        &self,
        fields: &[Field],
        of: impl Fn(&Field) -> Option<usize>,
        declared: &mut BTreeSet<usize>,
    ) -> String {
        let groups = fields.iter().filter_map(|field| Some((field, of(field)?)));
        groups
            .filter(|(_, index)| declared.insert(*index))
            .map(|(field, index)| match self.name(Named::Enumeration(index)) {
                "" => self.group(index, &[format!("Values of {}.", field.name)]),
                _ => self.group(index, &[]),
            })
            .collect()
    }

    fn structure(
        &self,
        name: &str,
        fields: &[Field],
        size: u32,
        part: &str,
        about: &[String],
        of: impl Fn(&Field) -> Option<usize>,
    ) -> String {
        let mut scope = self.macros.clone();
        let names: Vec<String> = fields.iter().map(|field| scope.number(&field.name)).collect();
        let wanted = fields.iter().map(|field| self.field_type(field, part));
        let mut placed: Vec<Placed> = wanted
            .zip(fields)
            .map(|(c_type, field)| Placed {
                offset: field.offset,
                size: field.size,
                c_type,
            })
            .collect();
        let layout = layout(&mut placed, size);
        let mut about = about.to_vec();
        if layout.size_of != u64::from(size) {
            about.push(format!(
                "The runtime's structure ends after {size} bytes; sizeof counts the padding behind them."
            ));
        }
        let line = |i: usize| {
            let (field, placed) = (&fields[i], &placed[i]);
            let enumeration = of(field).map(|index| self.name(Named::Enumeration(index)));
            let name = &names[i];
            (
                format!("{};", placed.c_type.declare(name)),
                about_field(field, name, &placed.c_type, enumeration),
            )
        };
        let mut text = comment("", &about);
        text += "typedef struct {\n";
        let mut simple = Vec::new();
        for member in &layout.members {
            match member {
                Member::Field(i) => simple.push(line(*i)),
                Member::Gap { offset, bytes } => {
                    let name = scope.number(&format!("reserved_{offset}"));
                    simple.push((format!("{};", CType::bytes(*bytes).declare(&name)), String::new()));
                }
                Member::Union(members) => {
                    text += &commented("    ", &std::mem::take(&mut simple));
                    text += "    union {\n";
                    let mut lines = Vec::new();
                    for (before, i) in members {
                        let (declaration, about) = line(*i);
                        let declaration = match before {
                            0 => declaration,
                            bytes => {
                                let gap = CType::bytes(*bytes).declare(&scope.number(&format!("before_{}", names[*i])));
                                format!("struct {{ {gap}; {declaration} }};")
                            }
                        };
                        lines.push((declaration, about));
                    }
                    text += &commented("        ", &lines);
                    text += "    };\n";
                }
            }
        }
        text += &commented("    ", &simple);
        let _ = writeln!(text, "}} {name};\n");
        let mut order: Vec<usize> = (0..fields.len()).collect();
        order.sort_by_key(|i| (fields[*i].offset, *i));
        for i in order {
            let _ = writeln!(text, "BPF2SYS_OFFSET({name}, {}, {});", names[i], fields[i].offset);
        }
        let _ = writeln!(text, "BPF2SYS_SIZE({name}, {});\n", layout.size_of);
        text
    }

    /// The C type of a field: the one that its file names if that has the field's size and the part can use it.
    fn field_type(&self, field: &Field, part: &str) -> CType {
        let known = CType::parse(&field.c_type).and_then(|t| self.visible(t, Some(part)));
        if let Some(known) = known.filter(|t| t.size() == Some(field.size)) {
            return known;
        }
        let negative = field.values.iter().any(|v| v.value < 0);
        match u8::try_from(field.size) {
            Ok(bytes @ (1 | 2 | 4 | 8)) => CType::integer(negative, bytes),
            _ => CType::bytes(field.size),
        }
    }
}

/// The fields of a context. The pointers to data are there whether a file lists them or not.
fn context_fields(context: &Context) -> Vec<Field> {
    let mut fields = context.fields.clone();
    let pointers = [
        ("data", context.data, "first byte of the data"),
        ("data_end", context.data_end, "one past its last byte"),
        ("data_meta", context.data_meta, "metadata before the data"),
    ];
    for (name, offset, doc) in pointers {
        let Ok(offset) = u32::try_from(offset) else { continue };
        if !fields
            .iter()
            .any(|f| f.offset < offset.saturating_add(8) && offset < f.offset.saturating_add(f.size))
        {
            fields.push(Field {
                name: name.to_owned(),
                c_type: "uint8_t *".to_owned(),
                offset,
                size: 8,
                doc: Some(doc.to_owned()),
                kind: None,
                unit: None,
                byte_order: None,
                format: None,
                valid_for: None,
                store_effect: None,
                change_ends_chain: false,
                enumeration: None,
                values: Vec::new(),
                note: None,
            });
        }
    }
    if context.data_meta_null
        && let Some(field) = fields
            .iter_mut()
            .find(|f| i32::try_from(f.offset) == Ok(context.data_meta))
    {
        field.note = Some(join(&[
            field.note.take(),
            Some("always null: do not follow it".to_owned()),
        ]));
    }
    fields
}

fn about_type(program_type: &ProgramType) -> Vec<String> {
    let about = &program_type.description;
    let mut text: Vec<String> = about.doc.iter().chain(&about.note).cloned().collect();
    text.push(format!(
        "Program type {}, {{{}}}. Sections and attach types:",
        program_type.name, program_type.guid
    ));
    if program_type.sections.is_empty() {
        text.push("(none known: no section name selects this program type)".to_owned());
    }
    for section in &program_type.sections {
        let about = join(&[section.doc.clone(), section.note.clone()]);
        let about = if about.is_empty() {
            String::new()
        } else {
            format!(": {about}")
        };
        text.push(format!(
            "- \"{}\" {} {{{}}}{about}",
            section.prefix, section.symbol, section.attach_type
        ));
    }
    text
}

fn about_context(context: &Context) -> Vec<String> {
    let mut text: Vec<String> = context.doc.iter().cloned().collect();
    let told = |f: &Field| i32::try_from(f.offset) == Ok(context.data) && f.doc.is_some();
    let content = context
        .data_content
        .as_ref()
        .filter(|_| !context.fields.iter().any(told));
    text.extend(content.map(|content| format!("The data: {content}.")));
    text.extend(context.note.clone());
    if context.fields.is_empty() {
        text.push("Its fields are not known.".to_owned());
    }
    text
}

fn about_field(field: &Field, name: &str, c_type: &CType, enumeration: Option<&str>) -> String {
    let named = enumeration
        .filter(|tag| !tag.is_empty())
        .map(|tag| format!("enum {tag}"));
    let same = CType::parse(&field.c_type).is_some_and(|t| t == *c_type);
    let other =
        (!same && enumeration.is_none() && !clean(&field.c_type).is_empty()).then(|| format!("type {}", field.c_type));
    join(&[
        (name != field.name).then(|| format!("called `{}`", field.name)),
        field.doc.clone(),
        named,
        other,
        field.unit.clone(),
        (field.byte_order == Some(ByteOrder::Network)).then(|| "network byte order".to_owned()),
        field.valid_for.as_ref().map(|what| format!("{what} only")),
        field
            .store_effect
            .as_ref()
            .map(|effect| format!("when written: {effect}")),
        field.note.clone(),
    ])
}
