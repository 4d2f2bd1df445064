//! Keys and values of a map, one by one.

use bpf2sys_bytecode::{DataType, DataTypes, TypeIndex, Variable};
use bpf2sys_simulator::MapEntryContents;

use super::{by_index, per_cpu};
use crate::values::read::{raw, unsigned};
use crate::values::{Json, MapTypes, ModuleTypes, ValueError, ValueProblem, exact, from_json, hex, to_json};

/// What is known of a map's keys and values.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    pub(super) of: Option<&'a MapTypes>,
    types: Option<&'a DataTypes>,
    map_type: u32,
}

impl<'a> Entries<'a> {
    pub(super) fn new(types: Option<&'a ModuleTypes>, name: &str, map_type: u32) -> Entries<'a> {
        Entries {
            of: types.and_then(|types| types.of_map(name)),
            types: types.map(ModuleTypes::types),
            map_type,
        }
    }

    fn typed(&self, of: impl Fn(&MapTypes) -> Option<TypeIndex>) -> Option<(&'a DataTypes, TypeIndex)> {
        Some((self.types?, of(self.of?)?))
    }

    fn key_type(&self) -> Option<(&'a DataTypes, TypeIndex)> {
        self.typed(|of| of.entries.key)
    }

    fn value_type(&self) -> Option<(&'a DataTypes, TypeIndex)> {
        self.typed(|of| of.entries.value)
    }

    /// A key, and whether that is all of it.
    pub(super) fn key(&self, bytes: &[u8]) -> (Json, bool) {
        match (self.key_type(), <[u8; 4]>::try_from(bytes)) {
            (None, Ok(index)) if by_index(self.map_type) => (Json::from(i64::from(u32::from_le_bytes(index))), true),
            (of, _) => shown(of, bytes),
        }
    }

    /// What orders keys as people do: numbers by their size.
    pub(super) fn order(&self, key: &[u8]) -> Vec<u8> {
        let mut bytes = key.to_vec();
        let number = self.key_type().is_none_or(|(types, of)| {
            let of = types.get(types.resolve(of));
            matches!(of, DataType::Integer { .. } | DataType::Enumeration { .. })
        });
        if number && matches!(bytes.len(), 2 | 4 | 8) {
            bytes.reverse();
        }
        bytes
    }

    /// The values of an entry in one: a list if each processor has its own, a name of what is no bytes. And whether that is all.
    pub(super) fn value(&self, entry: &MapEntryContents) -> (Json, bool) {
        if let Some(object) = &entry.object {
            return (Json::Word(object.clone()), true);
        }
        let values = entry.values.iter().map(|value| shown(self.value_type(), &value.0));
        let (mut values, exact): (Vec<Json>, Vec<bool>) = values.unzip();
        let exact = exact.iter().all(|exact| *exact);
        let value = match values.pop() {
            Some(only) if values.is_empty() && !self.is_per_cpu(entry) => only,
            last => {
                values.extend(last);
                Json::List(values)
            }
        };
        (value, exact)
    }

    /// The bytes of the values, as [`Entries::value`] has them.
    pub(super) fn value_bytes(&self, entry: &MapEntryContents) -> Json {
        let mut values = entry.values.iter().map(|value| hex(&value.0));
        if self.is_per_cpu(entry) {
            Json::List(values.collect())
        } else {
            values.next().unwrap_or(Json::Null)
        }
    }

    pub(super) fn is_per_cpu(&self, entry: &MapEntryContents) -> bool {
        per_cpu(self.map_type) || entry.values.len() > 1
    }

    pub(super) fn record(&self, bytes: &[u8]) -> Json {
        shown(self.typed(|of| of.record), bytes).0
    }

    /// The bytes of a variable among those of its section.
    pub(super) fn bytes_of<'b>(&self, variable: &Variable, section: &'b [u8]) -> Option<&'b [u8]> {
        let size = self.types?.size(variable.of) as usize;
        section.get(variable.offset as usize..)?.get(..size)
    }

    /// A variable of a section.
    pub(super) fn variable(&self, of: TypeIndex, bytes: &[u8]) -> Json {
        self.types.map_or_else(|| hex(bytes), |types| to_json(types, of, bytes))
    }

    /// The bytes of a variable.
    pub(super) fn read_variable(&self, of: TypeIndex, json: &Json) -> Result<Vec<u8>, ValueError> {
        let types = self.types.map(|types| (types, of));
        read(types, json, types.map_or(0, |(types, of)| types.size(of)))
    }

    pub(super) fn read_key(&self, json: &Json, size: u32) -> Result<Vec<u8>, ValueError> {
        read(self.key_type(), json, size)
    }

    pub(super) fn read_value(&self, json: &Json, size: u32) -> Result<Vec<u8>, ValueError> {
        read(self.value_type(), json, size)
    }

    /// Whether a value is what is given of it.
    pub(super) fn is_value(&self, given: &Json, bytes: &[u8]) -> Result<bool, ValueError> {
        is(self.value_type(), given, bytes)
    }

    /// Whether a variable is what is given of it.
    pub(super) fn is_variable(&self, of: TypeIndex, given: &Json, bytes: &[u8]) -> Result<bool, ValueError> {
        is(self.types.map(|types| (types, of)), given, bytes)
    }

    /// Whether a record is what is given of it.
    pub(super) fn is_record(&self, given: &Json, bytes: &[u8]) -> Result<bool, ValueError> {
        is(self.typed(|of| of.record), given, bytes)
    }

    /// Whether bytes are shown as this; true if their type is not known any more.
    pub(super) fn same(&self, key: bool, bytes: &[u8], json: &Json) -> bool {
        let of = if key { self.key_type() } else { self.value_type() };
        of.is_none() || shown(of, bytes).0 == *json
    }
}

/// Bytes by their type, and whether that is all of them.
fn shown(of: Option<(&DataTypes, TypeIndex)>, bytes: &[u8]) -> (Json, bool) {
    match of {
        Some((types, of)) if types.size(of) as usize == bytes.len() => {
            (to_json(types, of, bytes), exact(types, of, bytes))
        }
        _ => (hex(bytes), true),
    }
}

/// Whether bytes are what is given of them: all, or some members of structures.
fn is(of: Option<(&DataTypes, TypeIndex)>, given: &Json, bytes: &[u8]) -> Result<bool, ValueError> {
    let whole = match read(of, given, bytes.len() as u32) {
        // Another number of bytes is another value.
        Err(ValueError {
            problem: ValueProblem::Size { .. },
            ..
        }) if given.text().is_some() => return Ok(false),
        whole => whole?,
    };
    Ok(whole == bytes || has_given(given, &shown(of, &whole).0, &shown(of, bytes).0))
}

/// Whether `found` has what is `given`, which is `whole` with all members.
fn has_given(given: &Json, whole: &Json, found: &Json) -> bool {
    match (given, whole, found) {
        (Json::Object(given), Json::Object(_), Json::Object(_)) => {
            given
                .iter()
                .all(|(name, given)| match (whole.get(name), found.get(name)) {
                    (Some(whole), Some(found)) => has_given(given, whole, found),
                    _ => false,
                })
        }
        (Json::List(given), Json::List(whole), Json::List(found)) if whole.len() == found.len() => {
            let mut pairs = whole.iter().zip(found).enumerate();
            pairs.all(|(i, (whole, found))| match given.get(i) {
                Some(given) => has_given(given, whole, found),
                None => whole == found,
            })
        }
        _ => whole == found,
    }
}

fn read(of: Option<(&DataTypes, TypeIndex)>, json: &Json, size: u32) -> Result<Vec<u8>, ValueError> {
    if let Some((types, of)) = of.filter(|(types, of)| types.size(*of) == size) {
        return from_json(types, of, json);
    }
    match raw(json, size as usize) {
        Some(raw) => raw,
        None if matches!(size, 1 | 2 | 4 | 8) => unsigned(json, size as usize),
        None => Err(ValueError::kind("bytes, as `hex:…`,", json)),
    }
}
