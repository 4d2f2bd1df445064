//! The maps of a run: their types, what is in them before, and where their contents go.

use std::path::{Path, PathBuf};

use bpf2sys_simulator::{HexBytes, MapContents, MapPreset, PinnedMap, PresetValue, RunReport, RunRequest};
use bpf2sys_testing::values::{Json, MapShape, ModuleTypes, maps_from_json, maps_to_json};

use crate::cli::output;
use crate::origin::object_beside;
use crate::{Error, ErrorKind, files};

/// Where contents go if they go to standard output.
const STANDARD_OUTPUT: &str = "-";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Maps")]
#[allow(clippy::doc_markdown)] // the texts are shown to people as they are
pub(super) struct MapOptions {
    /// Set a map entry before the first run, in hexadecimal; for maps of maps and program arrays the value is `@` and a name
    #[arg(long, value_name = "MAP:KEY=VALUE")]
    set_map: Vec<String>,

    /// Set maps before the first run, from a JSON file as `--dump-maps` writes it, or shorter
    ///
    /// {"blocked_ports": {"53": 1}, "counters": [1, 2, 3], ".data": {"limit": 7}}: keys and values are those of the C source if
    /// its types are known, and hexadecimal bytes otherwise.
    #[arg(long, value_name = "FILE")]
    load_maps: Vec<PathBuf>,

    /// Write what is in the maps after the last run to a JSON file; `-` is standard output
    #[arg(long, value_name = "FILE")]
    dump_maps: Option<PathBuf>,

    /// Keep pinned maps in this folder: those that are there are there before the driver is loaded, and all are written back
    #[arg(long, value_name = "FOLDER")]
    pins: Option<PathBuf>,

    /// The object that the driver was built from, for the types of keys, values and records
    ///
    /// The object of the driver's name beside it is taken if the driver states its hash. With `--interpret` the object is there
    /// anyway.
    #[arg(long, value_name = "OBJECT")]
    types: Option<PathBuf>,

    /// Records of this map are of this type of the C source
    #[arg(long, value_name = "MAP=TYPE")]
    event_type: Vec<String>,
}

/// What is known of a module's maps.
#[derive(Default)]
pub(super) struct KnownMaps {
    pub shapes: Vec<MapShape>,
    /// The types of the object, if there is one.
    pub types: Option<ModuleTypes>,
}

impl MapOptions {
    /// What is known of the maps of an image, from the object that it was built from.
    pub(super) fn known(&self, image: &Path, bytes: &[u8], interpreted: Option<&[u8]>) -> Result<KnownMaps, Error> {
        let description = bpf2sys_simulator::describe::describe(bytes).ok();
        let module = description.and_then(|description| description.module);
        let shapes: Vec<MapShape> = module.iter().flat_map(|m| &m.maps).map(MapShape::from).collect();
        let stated = module.and_then(|module| module.elf_hash);
        let mut types = match (&self.types, interpreted) {
            (Some(path), _) => Some(types_of(&path.to_string_lossy(), &files::read(path)?)?),
            (None, Some(object)) => Some(types_of(&image.to_string_lossy(), object)?),
            (None, None) => stated.and_then(|stated| types_beside(image, &stated)),
        };
        for text in &self.event_type {
            let wrong = |why: String| Error::from(ErrorKind::Usage(format!("`--event-type {text}`: {why}")));
            let (map, of) = text.split_once('=').ok_or_else(|| wrong("expected MAP=TYPE".into()))?;
            let types = types.as_mut().ok_or_else(|| {
                wrong("the types are those of the object, which is not known: `--types` names it".into())
            })?;
            types
                .set_record_type(&shapes, map, of)
                .map_err(|e| wrong(e.to_string()))?;
        }
        Ok(KnownMaps { shapes, types })
    }

    /// Puts into a request what is in the maps before.
    pub(super) fn apply(&self, request: &mut RunRequest, known: &KnownMaps) -> Result<(), Error> {
        for path in &self.load_maps {
            let wrong = |message: String| {
                let name = path.display().to_string();
                Error::from(ErrorKind::MapContents { name, message })
            };
            let text = files::text(files::read(path)?).ok_or_else(|| wrong("no text".into()))?;
            let json = Json::parse(&text).map_err(|e| wrong(format!("no JSON: {e}")))?;
            let presets = maps_from_json(&json, &known.shapes, known.types.as_ref());
            request.presets.extend(presets.map_err(|e| wrong(e.to_string()))?);
        }
        for text in &self.set_map {
            request.presets.push(preset(text)?);
        }
        if let Some(folder) = &self.pins {
            request.pinned = pinned(folder)?;
        }
        Ok(())
    }

    /// Whether standard output is for the maps alone.
    pub(super) fn takes_output(&self) -> bool {
        self.dump_maps.as_deref() == Some(Path::new(STANDARD_OUTPUT))
    }

    /// Writes what is in the maps to where it is wanted.
    pub(super) fn finish(&self, report: &RunReport, known: &KnownMaps) -> Result<(), Error> {
        if let Some(path) = &self.dump_maps {
            let text = maps_to_json(&report.maps, known.types.as_ref()).pretty() + "\n";
            if self.takes_output() {
                output::print_bytes(text.as_bytes())?;
            } else {
                files::write_all(&[(path, text.as_bytes())])?;
            }
        }
        match &self.pins {
            Some(folder) => keep_pinned(folder, report),
            None => Ok(()),
        }
    }
}

fn types_of(name: &str, object: &[u8]) -> Result<ModuleTypes, Error> {
    Ok(ModuleTypes::from_object(&bpf2sys_bytecode::read(object, name)?, object))
}

/// The types of the object beside an image, if it is the one whose hash the image states. One that can't be read is none.
fn types_beside(image: &Path, stated: &str) -> Option<ModuleTypes> {
    let (path, object) = object_beside(image, stated)?;
    types_of(&path.to_string_lossy(), &object).ok()
}

/// Parses `MAP:KEY=VALUE`.
fn preset(text: &str) -> Result<MapPreset, Error> {
    let parse = || {
        let (map, entry) = text.split_once(':')?;
        let (key, value) = entry.split_once('=')?;
        let value = match value.strip_prefix('@') {
            Some(name) => PresetValue::Name(name.to_owned()),
            None => PresetValue::Bytes(HexBytes::parse(value)?),
        };
        Some(MapPreset {
            map: map.to_owned(),
            key: HexBytes::parse(key)?,
            value,
        })
    };
    parse().ok_or_else(|| {
        ErrorKind::Usage(format!(
            "`--set-map {text}`: expected MAP:KEY=VALUE with key and value in hexadecimal, or @NAME as value"
        ))
        .into()
    })
}

/// The maps that a folder keeps.
fn pinned(folder: &Path) -> Result<Vec<PinnedMap>, Error> {
    let failed = |source| {
        let path = folder.to_owned();
        Error::from(ErrorKind::ReadFile { path, source })
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // It is made when there is something to keep.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let read = |path: &PathBuf| {
        let text = files::read(path)?;
        serde_json::from_slice(&text).map_err(|e| {
            let name = path.display().to_string();
            let message = format!("no pinned map: {e}");
            Error::from(ErrorKind::MapContents { name, message })
        })
    };
    paths.iter().map(read).collect()
}

/// Writes the pinned maps of a report to a folder.
fn keep_pinned(folder: &Path, report: &RunReport) -> Result<(), Error> {
    let maps = report.pins.iter();
    let maps = maps.filter_map(|pin| report.maps.iter().find(|map| map.name == pin.map && map.load == 0));
    let kept: Vec<(PathBuf, String)> = maps
        .map(|map| {
            let text = serde_json::to_string_pretty(&as_pinned(map)).map_err(|e| ErrorKind::Internal(e.to_string()))?;
            Ok((folder.join(file_name(&map.name)), text + "\n"))
        })
        .collect::<Result<_, Error>>()?;
    if kept.is_empty() {
        return Ok(());
    }
    files::create_folder(folder)?;
    let all: Vec<(&Path, &[u8])> = kept
        .iter()
        .map(|(path, text)| (path.as_path(), text.as_bytes()))
        .collect();
    files::write_all(&all)
}

/// The name of the file that keeps a map: names have any characters, and files do not.
fn file_name(map: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut name: String = map
        .chars()
        .map(|c| {
            if safe(c) {
                c.to_string()
            } else {
                format!("%{:x}", u32::from(c))
            }
        })
        .collect();
    if name.starts_with('.') {
        name.insert(0, '%');
    }
    name + ".json"
}

/// A map as one that somebody has pinned before. What names other maps or programs is not kept: they end with the driver.
fn as_pinned(map: &MapContents) -> PinnedMap {
    let entries = map.entries.iter().filter(|entry| entry.object.is_none());
    PinnedMap {
        name: map.name.clone(),
        map_type: map.map_type,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        inner: map.inner,
        entries: entries
            .map(|entry| {
                let value = entry.values.iter().flat_map(|value| value.0.clone()).collect();
                (entry.key.clone(), HexBytes(value))
            })
            .collect(),
    }
}
