//! What provider files tell people: checked as far as other parts of the tool rely on it.

use super::place::Place;
use super::{Files, Loader};
use crate::PlatformError;
use crate::description::{
    ArgumentType, ByteOrder, Enumerator, Field, Format, HelperDescription, Parameter, ProgramTypeDescription, Provider,
    ReturnType, Signature, Source, Structure,
};
use crate::schema;

/// Longest name of a part of the generated headers, in bytes. It becomes part of a file name.
const MAX_PART: usize = 40;

pub(super) fn providers(files: &Files<'_>) -> Vec<Provider> {
    let provider = |from: &schema::Provider| Provider {
        id: from.id.clone(),
        doc: from.doc.clone(),
        source: Source {
            repository: from.source_repo.clone(),
            version: from.source_version.clone(),
            commit: from.source_commit.clone(),
        },
        modules: from.module.iter().chain(&from.modules).cloned().collect(),
    };
    files.iter().map(|(_, content)| provider(&content.provider)).collect()
}

pub(super) fn structures(files: &Files<'_>) -> Result<Vec<Structure>, PlatformError> {
    let mut structures: Vec<Structure> = Vec::new();
    for (file, content) in files {
        for from in &content.r#struct {
            let place = Place::new(file, "struct", &from.name);
            place.check(!from.name.is_empty(), "name", || "is empty".to_owned())?;
            place.check(from.size > 0, "size", || "is not positive".to_owned())?;
            // A file may repeat what an earlier one declares.
            if structures.iter().any(|s| s.name == from.name && s.size == from.size) {
                continue;
            }
            structures.push(Structure {
                name: from.name.clone(),
                size: from.size,
                header: from.header.clone(),
                doc: from.doc.clone(),
                note: from.note.clone(),
                fields: structure_fields(&place, from)?,
                provider: content.provider.id.clone(),
                part: own_part(&place, from.part.as_ref(), &content.provider)?,
            });
        }
    }
    Ok(structures)
}

/// The fields of a structure that is no context.
fn structure_fields(place: &Place<'_>, from: &schema::Struct) -> Result<Vec<Field>, PlatformError> {
    if let Some(field) = from.field.iter().find(|field| field.change_ends_chain) {
        let problem = "`change_ends_chain` is for fields of contexts";
        return Err(place.error("field", format!("`{}`: {problem}", field.name)));
    }
    fields(place, &from.field, from.size, &[])
}

/// The fields of a structure of `size` bytes, with the offsets of the pointers in it that programs must not write.
pub(super) fn fields(
    place: &Place<'_>,
    from: &[schema::Field],
    size: u32,
    pointers: &[i32],
) -> Result<Vec<Field>, PlatformError> {
    let mut fields = Vec::with_capacity(from.len());
    for field in from {
        let end = field.offset.checked_add(field.size).filter(|end| *end <= size);
        let Some(end) = end.filter(|_| field.size > 0) else {
            return Err(place.error("field", format!("`{}` lies outside of the {size} bytes", field.name)));
        };
        let overlaps = |at: &i32| u32::try_from(*at).is_ok_and(|at| at < end && field.offset < at.saturating_add(8));
        let writable = !pointers.iter().any(overlaps);
        place.check(
            field.verifier_store.is_none_or(|store| store == writable),
            "field",
            || {
                let may = if writable { "lets" } else { "does not let" };
                format!("`{}`: the verifier {may} programs write there", field.name)
            },
        )?;
        if let Some(problem) = field.format.and_then(|format| format_problem(field, format, !writable)) {
            return Err(place.error("field", format!("`{}`: {problem}", field.name)));
        }
        if field.change_ends_chain && !writable {
            let problem = "is a pointer, which no program changes: `change_ends_chain`";
            return Err(place.error("field", format!("`{}`: {problem}", field.name)));
        }
        fields.push(Field {
            name: field.name.clone(),
            c_type: field.r#type.clone(),
            offset: field.offset,
            size: field.size,
            doc: field.doc.clone(),
            kind: field.kind,
            unit: field.unit.clone(),
            byte_order: field.byte_order,
            format: field.format,
            valid_for: field.valid_for.clone(),
            store_effect: field.store_effect.clone(),
            change_ends_chain: field.change_ends_chain,
            enumeration: field.r#enum.clone(),
            values: field.values.0.iter().map(enumerator).collect(),
            note: field.note.clone(),
        });
    }
    Ok(fields)
}

/// What keeps a field from being written in a format.
fn format_problem(field: &schema::Field, format: Format, pointer: bool) -> Option<String> {
    if pointer {
        return Some("is a pointer, which has no `format`".to_owned());
    }
    let (fits, sizes) = match format {
        Format::Ipv4 => (field.size == 4, "4 bytes"),
        Format::Ipv6 | Format::SocketAddress => (field.size == 16, "16 bytes"),
        Format::Port => (field.size >= 2, "2 bytes or more"),
        Format::IpProtocol => (field.size <= 8, "8 bytes at most"),
        Format::Filetime => (field.size == 8, "8 bytes"),
        Format::Sid => (field.size >= 8, "8 bytes or more"),
    };
    if !fits {
        let (name, size) = (format.name(), field.size);
        return Some(format!("`format`: {name} has {sizes}, and the field {size}"));
    }
    let network = matches!(format, Format::Ipv4 | Format::Ipv6 | Format::Port);
    let host = network && field.byte_order == Some(ByteOrder::Host);
    host.then(|| format!("`byte_order`: {} is in network order", format.name()))
}

fn enumerator(from: &schema::Enumerator) -> Enumerator {
    Enumerator {
        name: from.name.clone(),
        value: from.value,
        doc: from.doc.clone(),
    }
}

pub(super) fn program_type(
    file: &str,
    provider: &schema::Provider,
    from: &schema::ProgramType,
) -> Result<ProgramTypeDescription, PlatformError> {
    Ok(ProgramTypeDescription {
        doc: from.doc.clone(),
        note: from.note.clone(),
        part: own_part(
            &Place::new(file, "program_type", &from.name),
            from.part.as_ref(),
            provider,
        )?,
        bpf_prog_type_name: from.bpf_prog_type_name.clone(),
        required_irql: from.required_irql.clone(),
        module: from.module.clone(),
        return_enum: from.return_enum.clone(),
        return_doc: from.return_doc.clone(),
    })
}

/// The part of the generated headers that declares something: its own, or else its provider's; else one that is named after the
/// provider.
pub(super) fn own_part(
    place: &Place<'_>,
    own: Option<&String>,
    provider: &schema::Provider,
) -> Result<String, PlatformError> {
    if let Some(part) = own.or(provider.part.as_ref()) {
        check_part(place, part)?;
        return Ok(part.clone());
    }
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    let part: String = provider.id.chars().take(MAX_PART).map(plain).collect();
    Ok(if part.is_empty() { "provider".to_owned() } else { part })
}

/// A part's name goes into a file name and a macro's name.
fn check_part(place: &Place<'_>, part: &str) -> Result<(), PlatformError> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    let fits = (1..=MAX_PART).contains(&part.len()) && part.bytes().all(plain);
    place.check(fits, "part", || {
        format!("`{part}` is not made of 1 to {MAX_PART} lower-case letters, digits and `_`")
    })
}

pub(super) fn helper(place: &Place<'_>, from: &schema::Helper) -> Result<HelperDescription, PlatformError> {
    Ok(HelperDescription {
        doc: from.doc.clone(),
        note: from.note.clone(),
        header_symbol: from.header_symbol.clone(),
        signature: signature(place, from.returns.as_ref(), &from.parameters)?,
        attach_types: from.attach_types.clone(),
        implicit_context: from.implicit_context,
        address_published: from.address_published,
        out_struct: from.out_struct.clone(),
    })
}

pub(super) fn signature(
    place: &Place<'_>,
    returns: Option<&String>,
    parameters: &[schema::Parameter],
) -> Result<Signature, PlatformError> {
    place.check(parameters.len() <= 5, "parameters", || {
        format!("has {} entries, and calls pass at most 5", parameters.len())
    })?;
    let parameter = |from: &schema::Parameter| Parameter {
        name: from.name.clone(),
        c_type: from.r#type.clone(),
    };
    Ok(Signature {
        returns: returns.cloned(),
        parameters: parameters.iter().map(parameter).collect(),
    })
}

impl Loader<'_> {
    pub(super) fn argument_type_list(&self) -> Vec<ArgumentType> {
        let argument = |from: &&schema::ArgumentType| ArgumentType {
            symbol: from.name.clone(),
            value: from.value,
            class: from.class,
            kind: from.verifier_kind.clone(),
            or_null: from.or_null,
            doc: from.doc.clone(),
        };
        let mut list: Vec<ArgumentType> = self.arguments.values().map(argument).collect();
        list.sort_by_key(|a| a.value);
        list
    }

    pub(super) fn return_type_list(&self) -> Vec<ReturnType> {
        let value = |from: &&schema::ReturnType| ReturnType {
            symbol: from.name.clone(),
            value: from.value,
            class: from.class,
            doc: from.doc.clone(),
        };
        let mut list: Vec<ReturnType> = self.returns.values().map(value).collect();
        list.sort_by_key(|r| r.value);
        list
    }
}
