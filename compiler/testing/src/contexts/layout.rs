//! What the names in a context mean, and which fields share bytes.
//!
//! Given: a context of the platform. Computed: names of the data and the metadata, fields that have values of their own, and
//! pointers, which have none.

use bpf2sys_platform::{Context, Field};

/// Width of a pointer in a context, in bytes.
const POINTER_BYTES: u32 = 8;
/// What providers put behind the name of the data in that of the pointer to it.
const START: &str = "_start";
/// Names of Winsock's address families, in providers' values of fields.
const AF_INET: &str = "AF_INET";
const AF_INET6: &str = "AF_INET6";

/// A context by names.
pub(crate) struct Layout<'a> {
    pub context: &'a Context,
    /// Fields but pointers, by ascending offset. No two have one name.
    pub fields: Vec<&'a Field>,
    /// The name under which data is given.
    pub data: Option<String>,
    /// The name under which metadata is given.
    pub meta: Option<String>,
    /// Names of pointers, with what is given instead of each.
    pub pointers: Vec<(String, Instead)>,
}

/// What is given instead of a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    Data,
    Meta,
}

/// The field that says of which family addresses are.
pub(crate) struct Family<'a> {
    pub field: &'a Field,
    /// Its value for IPv4 addresses.
    pub inet: i64,
    /// Its value for IPv6 addresses.
    pub inet6: i64,
}

impl<'a> Layout<'a> {
    pub fn new(context: &'a Context) -> Layout<'a> {
        let slots = [
            (context.data, "data", Instead::Data),
            (context.data_end, "data_end", Instead::Data),
            (context.data_meta, "data_meta", Instead::Meta),
        ];
        let slots = slots.map(|(offset, name, instead)| (u32::try_from(offset).ok(), name, instead));
        let overlaps = |field: &Field, at: u32| field.offset < at + POINTER_BYTES && at < end(field);
        let mut pointers = Vec::new();
        for (offset, name, instead) in slots {
            let Some(at) = offset else { continue };
            let own = context.fields.iter().filter(|field| overlaps(field, at));
            let before = pointers.len();
            pointers.extend(own.map(|field| (field.name.clone(), instead)));
            if pointers.len() == before {
                pointers.push((name.to_owned(), instead));
            }
        }
        let pointer = |field: &&Field| slots.iter().any(|slot| slot.0.is_some_and(|at| overlaps(field, at)));
        let mut fields: Vec<&Field> = context.fields.iter().filter(|field| !pointer(field)).collect();
        fields.sort_by_key(|field| field.offset);
        let name_at = |offset: Option<u32>, otherwise: &str| {
            let field = context.fields.iter().find(|field| Some(field.offset) == offset);
            offset.map(|_| field.map_or(otherwise, |field| field.name.as_str()).to_owned())
        };
        let data = name_at(slots[0].0, slots[0].1).map(|name| {
            let short = name.strip_suffix(START).filter(|short| !short.is_empty());
            let short = short.filter(|short| !context.fields.iter().any(|field| field.name == *short));
            short.map_or(name.clone(), str::to_owned)
        });
        let meta = name_at(slots[2].0, slots[2].1);
        // A name that means two things is the first of them.
        let mut taken: Vec<&str> = data.iter().chain(&meta).map(String::as_str).collect();
        fields.retain(|field| {
            let free = !taken.contains(&field.name.as_str());
            taken.push(&field.name);
            free
        });
        Layout {
            context,
            fields,
            data,
            meta,
            pointers,
        }
    }

    /// All names that may be given.
    pub fn names(&self) -> Vec<String> {
        let own = self.data.iter().chain(&self.meta).cloned();
        own.chain(self.fields.iter().map(|field| field.name.clone())).collect()
    }

    pub fn field(&self, name: &str) -> Option<&'a Field> {
        self.fields.iter().copied().find(|field| field.name == name)
    }

    pub fn family(&self) -> Option<Family<'a>> {
        self.fields.iter().find_map(|field| {
            let value = |name: &str| {
                let known = field.values.iter().find(|known| known.name == name);
                known.map(|known| known.value)
            };
            Some(Family {
                field,
                inet: value(AF_INET)?,
                inet6: value(AF_INET6)?,
            })
        })
    }

    /// The fields, those that share bytes with others together with them; by ascending offset.
    pub fn groups(&self) -> Vec<&[&'a Field]> {
        let mut reached = 0;
        let mut groups = Vec::new();
        let mut start = 0;
        for (i, field) in self.fields.iter().enumerate() {
            if i > start && field.offset >= reached {
                groups.push(&self.fields[start..i]);
                start = i;
            }
            reached = reached.max(end(field));
        }
        groups.extend(self.fields.get(start..).filter(|rest| !rest.is_empty()));
        groups
    }
}

/// The offset behind a field.
pub(crate) fn end(field: &Field) -> u32 {
    field.offset.saturating_add(field.size)
}

/// Whether two fields share bytes.
pub(crate) fn share(a: &Field, b: &Field) -> bool {
    a.offset < end(b) && b.offset < end(a)
}

/// The bytes of a field in those of a context.
pub(crate) fn part<'b>(field: &Field, bytes: &'b [u8]) -> Option<&'b [u8]> {
    bytes.get(field.offset as usize..end(field) as usize)
}
