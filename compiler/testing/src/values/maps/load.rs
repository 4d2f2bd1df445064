//! JSON as entries of maps.

use std::collections::BTreeSet;

use bpf2sys_simulator::map_definitions::kind;
use bpf2sys_simulator::{HexBytes, MapPreset, PresetValue};

use super::entry::Entries;
use super::error::{MapsError, MapsProblem};
use super::{MapShape, by_index, holds_objects, without_keys};
use crate::values::error::near;
use crate::values::module_types::{Section, holds_records};
use crate::values::{Json, ModuleTypes, ValueError};

/// Entries to preset, in the order of the file; those of a stack in the order in which they must be put on it.
///
/// # Errors
/// What is no contents of these maps, with the path to the part that is not.
pub fn maps_from_json(
    json: &Json,
    maps: &[MapShape],
    types: Option<&ModuleTypes>,
) -> Result<Vec<MapPreset>, MapsError> {
    let mut presets = Vec::new();
    let mut keys = BTreeSet::new();
    for (name, given) in object("", "an object with maps by name", json)? {
        // A section is as good as the name of its map, which begins with the object's.
        let own = types.and_then(|types| types.map_of_section(name)).unwrap_or(name);
        let Some(map) = maps.iter().find(|map| map.name == own) else {
            let near = near(name, maps.iter().map(|map| map.name.as_str()));
            return Err(MapsError::new(name, MapsProblem::Map { near }));
        };
        let known = Entries::new(types, own, map.map_type);
        let loading = Loading { map, known, path: name };
        for preset in loading.map(given)? {
            if !without_keys(map.map_type) && !keys.insert((own, preset.key.clone())) {
                let path = format!("{name}[{}]", known.key(&preset.key.0).0);
                return Err(MapsError::new(path, MapsProblem::Twice));
            }
            presets.push(preset);
        }
    }
    Ok(presets)
}

/// The members of an object.
fn object<'a>(path: &str, needed: &'static str, json: &'a Json) -> Result<&'a [(String, Json)], MapsError> {
    match json {
        Json::Object(members) => Ok(members),
        _ => Err(MapsError::kind(path, needed, json)),
    }
}

/// That an object has no other members than these.
fn only(path: &str, json: &Json, known: &[&str]) -> Result<(), MapsError> {
    for (name, _) in object(path, "an object", json)? {
        if !known.contains(&name.as_str()) {
            let near = near(name, known.iter().copied());
            return Err(MapsError::new(format!("{path}.{name}"), MapsProblem::Member { near }));
        }
    }
    Ok(())
}

/// One map of the file.
struct Loading<'a> {
    map: &'a MapShape,
    known: Entries<'a>,
    path: &'a str,
}

impl Loading<'_> {
    fn map(&self, json: &Json) -> Result<Vec<MapPreset>, MapsError> {
        let section = self.known.of.and_then(|of| of.section.as_ref());
        let long = matches!(json.get("entries"), Some(Json::List(_)))
            || matches!(json.get("variables"), Some(Json::Object(_)));
        let mut presets = match (json, section) {
            _ if long => self.long(json, section)?,
            (Json::Object(_), Some(section)) => vec![self.variables(json, section, None, self.path)?],
            (Json::List(list), _) => self.list(list)?,
            (Json::Object(members), _) => self.short(members)?,
            _ => return Err(MapsError::kind(self.path, "an object or a list with entries", json)),
        };
        if holds_records(self.map.map_type) && !presets.is_empty() {
            return Err(MapsError::new(self.path, MapsProblem::Records));
        }
        if self.map.map_type == kind::STACK {
            presets.reverse();
        }
        Ok(presets)
    }

    fn long(&self, json: &Json, section: Option<&Section>) -> Result<Vec<MapPreset>, MapsError> {
        const MEMBERS: [&str; 9] = [
            "type",
            "key_size",
            "value_size",
            "max_entries",
            "load",
            "variables",
            "entries",
            "omitted",
            "records",
        ];
        only(self.path, json, &MEMBERS)?;
        let member = |name: &str| format!("{}.{name}", self.path);
        for (name, has) in [("key_size", self.map.key_size), ("value_size", self.map.value_size)] {
            if let Some(stated) = json.get(name).filter(|stated| **stated != Json::from(i64::from(has))) {
                let given = stated.to_string();
                return Err(MapsError::new(member(name), MapsProblem::Shape { given, has }));
            }
        }
        if let Some(Json::Integer(omitted @ 1..)) = json.get("omitted") {
            return Err(MapsError::new(member("omitted"), MapsProblem::Omitted(*omitted)));
        }
        let path = member("entries");
        let entries = match json.get("entries") {
            None => &[][..],
            Some(Json::List(entries)) => entries,
            Some(other) => return Err(MapsError::kind(&path, "a list", other)),
        };
        let entries = entries.iter().enumerate();
        let mut presets = entries
            .map(|(i, entry)| self.entry(entry, &format!("{path}[{i}]")))
            .collect::<Result<Vec<_>, _>>()?;
        if let (Some(variables), Some(section)) = (json.get("variables"), section) {
            let shown = presets.pop();
            presets = vec![self.variables(variables, section, shown, &member("variables"))?];
        } else if json.get("variables").is_some() {
            return Err(MapsError::new(member("variables"), MapsProblem::NoTypes));
        }
        Ok(presets)
    }

    /// An entry of the long form.
    fn entry(&self, json: &Json, path: &str) -> Result<MapPreset, MapsError> {
        const MEMBERS: [&str; 7] = [
            "key",
            "key_bytes",
            "object",
            "value",
            "value_bytes",
            "values",
            "values_bytes",
        ];
        only(path, json, &MEMBERS)?;
        let key = if without_keys(self.map.map_type) {
            Vec::new()
        } else {
            let key = self.part(json, "key", path, self.map.key_size)?;
            key.ok_or_else(|| MapsError::new(path, MapsProblem::Missing("key")))?
        };
        let value = if holds_objects(self.map.map_type) {
            let name = json.get("object");
            let name = name.ok_or_else(|| MapsError::new(path, MapsProblem::Missing("object")))?;
            self.name(name, &format!("{path}.object"))?
        } else {
            let value = match self.part(json, "value", path, self.map.value_size)? {
                None => self.of_processors(json, path)?,
                value => value,
            };
            let value = value.ok_or_else(|| MapsError::new(path, MapsProblem::Missing("value")))?;
            PresetValue::Bytes(HexBytes(value))
        };
        Ok(self.preset(key, value))
    }

    /// A key or a value, with the bytes that may stand beside it.
    fn part(&self, json: &Json, name: &str, path: &str, size: u32) -> Result<Option<Vec<u8>>, MapsError> {
        let beside = format!("{name}_bytes");
        self.both(
            json.get(name),
            json.get(&beside),
            &format!("{path}.{name}"),
            &beside,
            size,
        )
    }

    fn both(
        &self,
        typed: Option<&Json>,
        bytes: Option<&Json>,
        path: &str,
        beside: &str,
        size: u32,
    ) -> Result<Option<Vec<u8>>, MapsError> {
        let key = beside == "key_bytes";
        let Some(bytes) = bytes else {
            let read = |json| {
                if key {
                    self.known.read_key(json, size)
                } else {
                    self.known.read_value(json, size)
                }
            };
            return typed
                .map(|json| read(json).map_err(|e| MapsError::value(path, e)))
                .transpose();
        };
        let bytes = crate::values::read::raw(bytes, size as usize)
            .unwrap_or_else(|| Err(ValueError::kind("bytes, as `hex:…`,", bytes)))
            .map_err(|e| MapsError::value(&format!("{path}_bytes"), e))?;
        if typed.is_some_and(|typed| !self.known.same(key, &bytes, typed)) {
            return Err(MapsError::new(path, MapsProblem::Contradiction(beside.to_owned())));
        }
        Ok(Some(bytes))
    }

    /// The value that all processors have, or those of all, one behind the other.
    fn of_processors(&self, json: &Json, path: &str) -> Result<Option<Vec<u8>>, MapsError> {
        let list = |name: &str| match json.get(name) {
            None => Ok(&[][..]),
            Some(Json::List(list)) => Ok(list.as_slice()),
            Some(other) => Err(MapsError::kind(&format!("{path}.{name}"), "a list", other)),
        };
        let (typed, bytes) = (list("values")?, list("values_bytes")?);
        let path = format!("{path}.values");
        let mut all: Vec<Vec<u8>> = Vec::new();
        for i in 0..typed.len().max(bytes.len()) {
            let (size, place) = (self.map.value_size, format!("{path}[{i}]"));
            all.extend(self.both(typed.get(i), bytes.get(i), &place, "values_bytes", size)?);
        }
        // The same for all is right for any number of processors.
        if all.windows(2).all(|two| two[0] == two[1]) {
            all.truncate(1);
        }
        Ok((!all.is_empty()).then(|| all.concat()))
    }

    /// Values by index, or in the order in which they are taken out.
    fn list(&self, list: &[Json]) -> Result<Vec<MapPreset>, MapsError> {
        if !by_index(self.map.map_type) && !without_keys(self.map.map_type) {
            let (needed, given) = ("an object with values by key", "a list".to_owned());
            return Err(MapsError::new(self.path, MapsProblem::Kind { needed, given }));
        }
        let mut presets = Vec::new();
        for (i, json) in list.iter().enumerate() {
            let mut key = (i as u64).to_le_bytes().to_vec();
            key.resize(self.map.key_size as usize, 0);
            let path = format!("{}[{i}]", self.path);
            presets.extend(self.short_value(key, json, &path)?);
        }
        Ok(presets)
    }

    /// Values by the text of their keys.
    fn short(&self, members: &[(String, Json)]) -> Result<Vec<MapPreset>, MapsError> {
        let mut presets = Vec::new();
        for (text, json) in members {
            let path = format!("{}[{text}]", self.path);
            let key = if text.starts_with(['{', '[']) {
                Json::parse(text).unwrap_or_else(|_| Json::from(text.as_str()))
            } else {
                Json::from(text.as_str())
            };
            let key = match (&key, self.known.read_key(&key, self.map.key_size)) {
                // A text that looks like JSON.
                (Json::Object(_) | Json::List(_), Err(error)) => {
                    let text = Json::from(text.as_str());
                    let plain = self.known.read_key(&text, self.map.key_size);
                    plain.map_err(|_| error)
                }
                (_, read) => read,
            };
            let key = key.map_err(|e| MapsError::value(&path, e))?;
            presets.extend(self.short_value(key, json, &path)?);
        }
        Ok(presets)
    }

    fn short_value(&self, key: Vec<u8>, json: &Json, path: &str) -> Result<Option<MapPreset>, MapsError> {
        let value = if holds_objects(self.map.map_type) {
            if *json == Json::Null {
                return Ok(None);
            }
            self.name(json, path)?
        } else {
            let read = self.known.read_value(json, self.map.value_size);
            PresetValue::Bytes(HexBytes(read.map_err(|e| MapsError::value(path, e))?))
        };
        Ok(Some(self.preset(key, value)))
    }

    fn name(&self, json: &Json, path: &str) -> Result<PresetValue, MapsError> {
        let needed = match self.map.map_type {
            kind::PROG_ARRAY => "the name of a program",
            _ => "the name of a map",
        };
        let name = json.text().ok_or_else(|| MapsError::kind(path, needed, json))?;
        Ok(PresetValue::Name(name.to_owned()))
    }

    /// Variables over the bytes that are shown beside them, or else over those at first. One that is as it was shown leaves its bytes.
    fn variables(
        &self,
        json: &Json,
        section: &Section,
        shown: Option<MapPreset>,
        path: &str,
    ) -> Result<MapPreset, MapsError> {
        let mut bytes = match shown.map(|preset| preset.value) {
            Some(PresetValue::Bytes(HexBytes(bytes))) => bytes,
            _ => section.initial.clone(),
        };
        for (name, given) in object(path, "an object with variables", json)? {
            let place = format!("{path}.{name}");
            let variable = section.variables.iter().find(|variable| variable.name == *name);
            let before = variable.and_then(|v| Some((v, self.known.bytes_of(v, &bytes)?)));
            let Some((variable, before)) = before else {
                let near = near(name, section.variables.iter().map(|v| v.name.as_str()));
                return Err(MapsError::new(place, MapsProblem::Variable { near }));
            };
            if self.known.variable(variable.of, before) == *given {
                continue;
            }
            let read = self.known.read_variable(variable.of, given);
            let read = read.map_err(|e| MapsError::value(&place, e))?;
            let start = variable.offset as usize;
            bytes[start..start + read.len()].copy_from_slice(&read);
        }
        let key = vec![0; self.map.key_size as usize];
        Ok(self.preset(key, PresetValue::Bytes(HexBytes(bytes))))
    }

    fn preset(&self, key: Vec<u8>, value: PresetValue) -> MapPreset {
        let key = if without_keys(self.map.map_type) {
            Vec::new()
        } else {
            key
        };
        MapPreset {
            map: self.map.name.clone(),
            key: HexBytes(key),
            value,
        }
    }
}
