//! From the bytes of a context to its fields.
//!
//! Given: a context and its bytes. Computed: the fields in the order of their offsets, as [`encode`](super::encode()) takes them. Of
//! fields that share bytes it takes only one, so only one is shown: the one that the address family says, or else the largest,
//! as bytes; also where the former would leave bytes out.

use bpf2sys_platform::{Context, Field, Format};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::layout::{Family, Layout, end, part, share};
use super::{bytes, form, number};

/// Fields with their values, in the order of their offsets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(pub Vec<(String, Value)>);

impl Fields {
    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Value {
        Value::Object(fields.0.into_iter().collect())
    }
}

/// The fields of a context with these bytes, and its data. Fields behind the last byte are left out.
pub fn decode(context: &Context, bytes: &[u8], data: Option<&[u8]>) -> Fields {
    let layout = Layout::new(context);
    let mut shown: Vec<(u32, String, Value)> = Vec::new();
    if let (Some(name), Some(data), Ok(offset)) = (&layout.data, data, u32::try_from(context.data)) {
        shown.push((offset, name.clone(), bytes::show_data(context.data_format, data)));
    }
    let family = layout.family();
    for group in layout.groups() {
        let group: Vec<&Field> = group
            .iter()
            .copied()
            .filter(|field| end(field) as usize <= bytes.len())
            .collect();
        shown.extend(values(&group, family.as_ref(), bytes));
    }
    shown.sort_by_key(|(offset, ..)| *offset);
    Fields(shown.into_iter().map(|(_, name, value)| (name, value)).collect())
}

/// The fields of a group that are shown. Those of a group share bytes.
fn values(group: &[&Field], family: Option<&Family<'_>>, bytes: &[u8]) -> Vec<(u32, String, Value)> {
    let show = |field: &&Field| {
        let value = form::show(field, part(field, bytes)?);
        Some((field.offset, field.name.clone(), value))
    };
    if group.len() < 2 {
        return group.iter().filter_map(show).collect();
    }
    let format = family.and_then(|family| said(family, bytes));
    let named = group
        .iter()
        .copied()
        .filter(|field| format.is_some() && field.format == format);
    let named = apart(named);
    if covers(&named, group, bytes) {
        return named.iter().filter_map(show).collect();
    }
    // Of fields of one size the first: the sort keeps their order.
    let mut largest = group.to_vec();
    largest.sort_by_key(|field| std::cmp::Reverse(field.size));
    let chosen = apart(largest.into_iter());
    let as_bytes = |(i, field): (usize, &&Field)| {
        if i > 0 || field.format.is_none() {
            return show(field);
        }
        let value = form::show_bytes(field, part(field, bytes)?);
        Some((field.offset, field.name.clone(), value))
    };
    chosen.iter().enumerate().filter_map(as_bytes).collect()
}

/// The format of addresses that a context with these bytes has.
fn said(family: &Family<'_>, bytes: &[u8]) -> Option<Format> {
    let own = part(family.field, bytes)?;
    let is = |value: i64| number::to_bytes(family.field, value as u64) == own;
    match () {
        () if is(family.inet) => Some(Format::Ipv4),
        () if is(family.inet6) => Some(Format::Ipv6),
        () => None,
    }
}

/// Those of the fields that share no bytes with one before.
fn apart<'a>(fields: impl Iterator<Item = &'a Field>) -> Vec<&'a Field> {
    let mut apart: Vec<&Field> = Vec::new();
    for field in fields {
        if !apart.iter().any(|other| share(other, field)) {
            apart.push(field);
        }
    }
    apart
}

/// Whether these fields have every byte of a group that is not 0.
fn covers(fields: &[&Field], group: &[&Field], bytes: &[u8]) -> bool {
    let within = |field: &&Field, at: u32| (field.offset..end(field)).contains(&at);
    let mut places = group.iter().flat_map(|field| field.offset..end(field));
    !fields.is_empty()
        && places.all(|at| bytes.get(at as usize) == Some(&0) || fields.iter().any(|field| within(field, at)))
}
