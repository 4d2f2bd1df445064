//! Maps with entries that are set between runs, so that nobody takes these for changes by a program.

use bpf2sys_simulator::map_definitions::kind;
use bpf2sys_simulator::{HexBytes, MapContents, MapEntryContents, MapPreset, PresetValue};

/// Maps as they are once entries are set.
pub(in crate::suite) fn with_presets(maps: &[MapContents], presets: &[MapPreset]) -> Vec<MapContents> {
    let mut maps = maps.to_vec();
    for preset in presets {
        let map = maps.iter_mut().find(|map| map.name == preset.map && map.load == 0);
        if let Some(map) = map {
            set(map, preset);
        }
    }
    maps
}

fn set(map: &mut MapContents, preset: &MapPreset) {
    let size = map.value_size as usize;
    let known = map.entries.iter().position(|entry| entry.key == preset.key);
    let like = known.or((!map.entries.is_empty()).then_some(0));
    let copies = like.map_or(1, |index| map.entries[index].values.len().max(1));
    let mut entry = MapEntryContents {
        key: preset.key.clone(),
        ..MapEntryContents::default()
    };
    match &preset.value {
        PresetValue::Name(name) => entry.object = Some(name.clone()),
        // One value is that of each processor.
        PresetValue::Bytes(bytes) if bytes.0.len() == size => entry.values = vec![bytes.clone(); copies],
        PresetValue::Bytes(bytes) => {
            entry.values = bytes
                .0
                .chunks(size.max(1))
                .map(|value| HexBytes(value.to_vec()))
                .collect();
        }
    }
    match (map.map_type, known) {
        (kind::STACK, _) => map.entries.insert(0, entry),
        (kind::QUEUE, _) | (_, None) => map.entries.push(entry),
        (_, Some(index)) => map.entries[index] = entry,
    }
}
