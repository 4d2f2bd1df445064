//! Whether maps hold what somebody expects.
//!
//! Given: contents, and JSON of what must be in them, in the forms in which maps are loaded. Computed: a line for each entry or variable
//! that is otherwise. Of a structure, only the members that are given count; other entries are free, unless a map is to have no others.

use bpf2sys_simulator::{MapContents, MapEntryContents};

use super::entry::Entries;
use super::error::{MapsError, MapsProblem};
use super::{MapShape, by_index, holds_objects, maps_from_json, per_cpu, without_keys};
use crate::values::error::near;
use crate::values::{Json, ModuleTypes};
use bpf2sys_simulator::PresetValue;

/// What maps must hold.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedMaps<'a> {
    /// Entries and variables, in the short form or the long one.
    pub entries: &'a Json,
    /// Maps that hold nothing else.
    pub only: &'a [String],
    /// Keys that must not be there: lists by the name of the map.
    pub absent: &'a Json,
}

impl ExpectedMaps<'_> {
    /// What is otherwise in maps, in lines.
    ///
    /// # Errors
    /// What is expected is no contents of these maps.
    pub fn unmet(&self, maps: &[MapContents], types: Option<&ModuleTypes>) -> Result<Vec<String>, MapsError> {
        let mut lines = Vec::new();
        let mut keys: Vec<(&str, Vec<u8>)> = Vec::new();
        for (name, given) in members(self.entries) {
            let of = Of::find(name, maps, types)?;
            of.entries(name, given, &mut lines, &mut keys)?;
        }
        for name in self.only {
            let of = Of::find(name, maps, types)?;
            // Queues and stacks are compared as a whole.
            if without_keys(of.map.map_type) && self.entries.get(name).is_some() {
                continue;
            }
            let known = |key: &[u8]| keys.iter().any(|(map, known)| *map == of.map.name && known == key);
            // Of arrays, entries that are 0 are as good as none.
            let counts = |entry: &&MapEntryContents| {
                !by_index(of.map.map_type)
                    || entry.object.is_some()
                    || entry.values.iter().any(|v| v.0.iter().any(|b| *b != 0))
            };
            let others = of
                .map
                .entries
                .iter()
                .filter(counts)
                .filter(|entry| !known(&entry.key.0));
            lines.extend(others.map(|entry| format!("{name}: expected no other entry, found {}", of.shown(entry))));
        }
        for (name, given) in members(self.absent) {
            let of = Of::find(name, maps, types)?;
            let Json::List(given) = given else {
                return Err(MapsError::kind(name, "a list of keys", given));
            };
            for key in given {
                let bytes = of
                    .known
                    .read_key(key, of.map.key_size)
                    .map_err(|e| MapsError::value(name, e))?;
                if let Some(entry) = of.find_entry(&bytes) {
                    lines.push(format!(
                        "{name}[{key}]: expected no entry, found {}",
                        of.known.value(entry).0
                    ));
                }
            }
        }
        Ok(lines)
    }
}

fn members(json: &Json) -> &[(String, Json)] {
    match json {
        Json::Object(members) => members,
        _ => &[],
    }
}

/// A map that something is expected of.
struct Of<'a> {
    map: &'a MapContents,
    known: Entries<'a>,
    types: Option<&'a ModuleTypes>,
}

impl<'a> Of<'a> {
    fn find(name: &str, maps: &'a [MapContents], types: Option<&'a ModuleTypes>) -> Result<Of<'a>, MapsError> {
        let own = types.and_then(|types| types.map_of_section(name)).unwrap_or(name);
        let Some(map) = maps.iter().find(|map| map.name == own && map.load == 0) else {
            let near = near(name, maps.iter().map(|map| map.name.as_str()));
            return Err(MapsError::new(name, MapsProblem::Map { near }));
        };
        let known = Entries::new(types, own, map.map_type);
        Ok(Of { map, known, types })
    }

    fn find_entry(&self, key: &[u8]) -> Option<&'a MapEntryContents> {
        self.map.entries.iter().find(|entry| entry.key.0 == key)
    }

    fn shown(&self, entry: &MapEntryContents) -> String {
        let value = self.known.value(entry).0;
        if without_keys(self.map.map_type) {
            return value.to_string();
        }
        format!("{} = {value}", self.known.key(&entry.key.0).0)
    }

    fn entries(
        &self,
        name: &str,
        given: &Json,
        lines: &mut Vec<String>,
        keys: &mut Vec<(&'a str, Vec<u8>)>,
    ) -> Result<(), MapsError> {
        let section = self.known.of.is_some_and(|of| of.section.is_some());
        let long = matches!(given.get("entries"), Some(Json::List(_)));
        match given {
            Json::Object(members) if section && !long => self.variables(name, members, lines)?,
            Json::List(list) if without_keys(self.map.map_type) => self.sequence(name, given, list, lines)?,
            Json::List(list) => {
                for (index, value) in list
                    .iter()
                    .enumerate()
                    .filter(|(_, value)| !matches!(value, Json::Null))
                {
                    keys.push((&self.map.name, self.entry(name, &index.to_string(), value, lines)?));
                }
            }
            _ if long => {
                let Some(Json::List(list)) = given.get("entries") else {
                    return Ok(());
                };
                for entry in list {
                    let value = ["value", "values", "object"]
                        .iter()
                        .find_map(|member| entry.get(member));
                    let one = Json::Object(vec![("entries".to_owned(), Json::List(vec![entry.clone()]))]);
                    let value = value.cloned().unwrap_or(Json::Null);
                    keys.push((&self.map.name, self.compare(name, &one, &value, lines)?));
                }
            }
            Json::Object(members) => {
                for (key, value) in members {
                    keys.push((&self.map.name, self.entry(name, key, value, lines)?));
                }
            }
            other => return Err(MapsError::kind(name, "an object or a list with entries", other)),
        }
        Ok(())
    }

    /// An entry of the short form. Gives its key.
    fn entry(&self, name: &str, key: &str, value: &Json, lines: &mut Vec<String>) -> Result<Vec<u8>, MapsError> {
        // Of the values of all processors, any will do to read the key.
        let single = match value {
            Json::List(list) if per_cpu(self.map.map_type) => list.first().unwrap_or(value),
            value => value,
        };
        let one = Json::Object(vec![(key.to_owned(), single.clone())]);
        self.compare(name, &one, value, lines)
    }

    /// The one entry of `given`, with this value.
    fn compare(&self, name: &str, given: &Json, value: &Json, lines: &mut Vec<String>) -> Result<Vec<u8>, MapsError> {
        let shape = MapShape::from(self.map);
        let given = Json::Object(vec![(self.map.name.clone(), given.clone())]);
        let presets = maps_from_json(&given, &[shape], self.types)?;
        let Some(preset) = presets.into_iter().next() else {
            return Ok(Vec::new());
        };
        let key = preset.key.0;
        let place = format!("{name}[{}]", self.known.key(&key).0);
        let Some(entry) = self.find_entry(&key) else {
            let zero = by_index(self.map.map_type) && !holds_objects(self.map.map_type);
            let is_zero = matches!(&preset.value, PresetValue::Bytes(bytes) if bytes.0.iter().all(|byte| *byte == 0));
            if !(zero && is_zero) {
                let found = if zero { "0" } else { "no entry" };
                lines.push(format!("{place}: expected {value}, found {found}"));
            }
            return Ok(key);
        };
        let same = match (&entry.object, value) {
            (Some(object), value) => value.text() == Some(object),
            (None, Json::List(list)) if per_cpu(self.map.map_type) => {
                list.len() == entry.values.len()
                    && self.all(name, list.iter().zip(entry.values.iter().map(|v| &v.0)))?
            }
            (None, value) => self.all(name, entry.values.iter().map(|bytes| (value, &bytes.0)))?,
        };
        if !same {
            lines.push(format!(
                "{place}: expected {value}, found {}",
                self.known.value(entry).0
            ));
        }
        Ok(key)
    }

    fn all<'b>(&self, name: &str, mut pairs: impl Iterator<Item = (&'b Json, &'b Vec<u8>)>) -> Result<bool, MapsError> {
        pairs.try_fold(true, |same, (given, bytes)| {
            let own = self
                .known
                .is_value(given, bytes)
                .map_err(|e| MapsError::value(name, e))?;
            Ok(same && own)
        })
    }

    fn sequence(&self, name: &str, given: &Json, list: &[Json], lines: &mut Vec<String>) -> Result<(), MapsError> {
        // Whether these are values at all.
        let whole = Json::Object(vec![(self.map.name.clone(), given.clone())]);
        maps_from_json(&whole, &[MapShape::from(self.map)], self.types)?;
        let found: Vec<&Vec<u8>> = self
            .map
            .entries
            .iter()
            .filter_map(|e| Some(&e.values.first()?.0))
            .collect();
        if list.len() != found.len() || !self.all(name, list.iter().zip(found))? {
            let found = self.map.entries.iter().map(|entry| self.known.value(entry).0);
            lines.push(format!(
                "{name}: expected {given}, found {}",
                Json::List(found.collect())
            ));
        }
        Ok(())
    }

    fn variables(&self, name: &str, given: &[(String, Json)], lines: &mut Vec<String>) -> Result<(), MapsError> {
        let section = self.known.of.and_then(|of| of.section.as_ref());
        let bytes = self.map.entries.first().and_then(|entry| entry.values.first());
        for (variable, value) in given {
            let place = format!("{name}.{variable}");
            let known = section.iter().flat_map(|section| &section.variables);
            let Some(known) = known.into_iter().find(|known| known.name == *variable) else {
                let all = section.iter().flat_map(|section| &section.variables);
                let near = near(variable, all.map(|v| v.name.as_str()));
                return Err(MapsError::new(place, MapsProblem::Variable { near }));
            };
            let Some(bytes) = bytes.and_then(|bytes| self.known.bytes_of(known, &bytes.0)) else {
                continue;
            };
            let same = self.known.is_variable(known.of, value, bytes);
            if !same.map_err(|e| MapsError::value(&place, e))? {
                let found = self.known.variable(known.of, bytes);
                lines.push(format!("{place}: expected {value}, found {found}"));
            }
        }
        Ok(())
    }
}

/// Whether a record of a map has these data. Of a structure, only the members that are given count.
///
/// # Errors
/// The data are none of its type.
pub fn is_record(
    given: &Json,
    bytes: &[u8],
    map: &str,
    types: Option<&ModuleTypes>,
) -> Result<bool, crate::values::ValueError> {
    Entries::new(types, map, bpf2sys_simulator::map_definitions::kind::RINGBUF).is_record(given, bytes)
}

/// A record of a map as JSON.
pub fn record_to_json(bytes: &[u8], map: &str, types: Option<&ModuleTypes>) -> Json {
    Entries::new(types, map, bpf2sys_simulator::map_definitions::kind::RINGBUF).record(bytes)
}
