//! From JSON to the bytes of a context.
//!
//! Given: a context, and an object with values by the names of fields. Computed: bytes; 0 where nothing is given. Two things follow
//! from others if they are not given: the address family from the addresses, and sizes of fields from these.

use bpf2sys_platform::{Context, DataFormat, Field, Format};
use serde_json::Value;

use super::layout::{Instead, Layout, end, part, share};
use super::{ContextError, Given, bytes, form, number};

/// Endings of names of fields that state the size of another.
const SIZES: [&str; 2] = ["_size", "_length"];
/// Longest value in an error, in characters.
const SHOWN: usize = 60;

/// The bytes of a context, whose fields are given by their names.
pub fn encode(context: &Context, value: &Value) -> Result<Given, ContextError> {
    let Value::Object(values) = value else {
        return Err(ContextError::NotAnObject { given: short(value) });
    };
    let mut encoder = Encoder {
        layout: Layout::new(context),
        given: Given {
            context: vec![0; context.size.max(0) as usize],
            ..Given::default()
        },
        fields: Vec::new(),
    };
    for (name, value) in values {
        encoder.take(name, value)?;
    }
    encoder.family()?;
    encoder.sizes();
    Ok(encoder.given)
}

struct Encoder<'a> {
    layout: Layout<'a>,
    given: Given,
    /// The fields that have a value.
    fields: Vec<&'a Field>,
}

impl<'a> Encoder<'a> {
    fn take(&mut self, name: &str, value: &Value) -> Result<(), ContextError> {
        if self.layout.data.as_deref() == Some(name) {
            self.given.data = Some(self.block(name, value, Instead::Data)?);
            return Ok(());
        }
        if self.layout.meta.as_deref() == Some(name) {
            self.given.meta = Some(self.block(name, value, Instead::Meta)?);
            return Ok(());
        }
        let Some(field) = self.layout.field(name) else {
            return Err(self.unknown(name));
        };
        let bytes = form::parse(field, value).ok_or_else(|| ContextError::Value {
            field: name.to_owned(),
            given: short(value),
            takes: form::takes(field),
        })?;
        if let Some(other) = self.fields.iter().find(|other| share(other, field)) {
            return Err(ContextError::Overlap {
                first: other.name.clone(),
                second: name.to_owned(),
            });
        }
        self.put(field, &bytes);
        Ok(())
    }

    fn put(&mut self, field: &'a Field, bytes: &[u8]) {
        let place = self
            .given
            .context
            .get_mut(field.offset as usize..end(field) as usize)
            .filter(|place| place.len() == bytes.len());
        if let Some(place) = place {
            place.copy_from_slice(bytes);
            self.fields.push(field);
        }
    }

    /// Data or metadata.
    fn block(&self, name: &str, value: &Value, what: Instead) -> Result<Vec<u8>, ContextError> {
        let format = self.format(what);
        bytes::parse_data(format, value).ok_or_else(|| ContextError::Value {
            field: name.to_owned(),
            given: short(value),
            takes: bytes::data_takes(format).to_owned(),
        })
    }

    fn format(&self, what: Instead) -> Option<DataFormat> {
        match what {
            Instead::Data => self.layout.context.data_format,
            Instead::Meta => None,
        }
    }

    /// The error for a name that is no field's.
    fn unknown(&self, name: &str) -> ContextError {
        let pointer = self.layout.pointers.iter().find(|(pointer, _)| pointer == name);
        if let Some((_, what)) = pointer
            && let Some(instead) = match what {
                Instead::Data => &self.layout.data,
                Instead::Meta => &self.layout.meta,
            }
        {
            return ContextError::Pointer {
                field: name.to_owned(),
                instead: instead.clone(),
                takes: bytes::data_takes(self.format(*what)).to_owned(),
            };
        }
        let all = self.layout.names();
        let letters = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
        let wanted = letters(name);
        let near = |known: &&String| {
            let known = letters(known);
            wanted.len() >= 2 && (known.contains(&wanted) || wanted.contains(&known) || one_apart(&known, &wanted))
        };
        ContextError::UnknownField {
            name: name.to_owned(),
            near: all.iter().filter(near).cloned().collect(),
            all,
        }
    }

    /// Sets the address family if it is not given and follows from the addresses.
    fn family(&mut self) -> Result<(), ContextError> {
        let Some(family) = self.layout.family() else {
            return Ok(());
        };
        if self.fields.iter().any(|field| share(field, family.field)) {
            return Ok(());
        }
        let of = |format| self.fields.iter().find(|field| field.format == Some(format));
        let value = match (of(Format::Ipv4), of(Format::Ipv6)) {
            (None, None) => return Ok(()),
            (Some(_), None) => family.inet,
            (None, Some(_)) => family.inet6,
            (Some(ipv4), Some(ipv6)) => {
                return Err(ContextError::Family {
                    field: family.field.name.clone(),
                    ipv4: ipv4.name.clone(),
                    ipv6: ipv6.name.clone(),
                });
            }
        };
        let bytes = number::to_bytes(family.field, value as u64);
        self.put(family.field, &bytes);
        Ok(())
    }

    /// Sets the sizes of fields that are stated in other fields, if these are not given.
    fn sizes(&mut self) {
        for field in self.fields.clone() {
            let used = part(field, &self.given.context).and_then(|bytes| form::used(field, bytes));
            let Some(used) = used else { continue };
            let names = SIZES.map(|ending| format!("{}{ending}", field.name));
            let Some(size) = names.iter().find_map(|name| self.layout.field(name)) else {
                continue;
            };
            if !self.fields.iter().any(|given| share(given, size))
                && let Some(bytes) = form::parse(size, &used.into())
            {
                self.put(size, &bytes);
            }
        }
    }
}

/// Whether one letter more, less or other, or two that are exchanged, make one text of the other.
fn one_apart(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[start..], &b[start..]);
    let rest = |text: &[u8]| text.get(1..).unwrap_or_default().to_vec();
    let exchanged = matches!((a, b), ([a, b, rest @ ..], [c, d, other @ ..]) if (a, b, rest) == (d, c, other));
    exchanged || rest(a) == rest(b) || rest(a) == b || a == rest(b)
}

/// A value for an error.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
