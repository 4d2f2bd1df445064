//! What is in maps, as JSON.
//!
//! Given: the maps of a report, and their types if the object that the image was built from is there. Computed: JSON of them, entries to
//! preset from such JSON, and what two reports differ in.
//! Safe because: what a typed value does not show stands beside it as bytes, so that what is loaded is what was shown.
//!
//! The long form, which is written; all members but `entries` or `variables` may be left out where it is read:
//!
//! ```json
//! { "blocked_ports": { "type": "hash", "key_size": 2, "value_size": 1, "max_entries": 1024,
//!     "entries": [ { "key": 53, "value": 1 } ], "omitted": 0, "records": [] } }
//! ```
//!
//! | | |
//! |---|---|
//! | keys and values | by their types; without types `hex:…`, and the index of an array as a number |
//! | `key_bytes`, `value_bytes` | beside `key` and `value` where those are not all: the bytes, which count when it is read |
//! | per-CPU maps | `values`, one per processor, with `values_bytes` |
//! | maps of maps, program arrays | `object` instead of `value`: the name of a map or program |
//! | queues and stacks | no key; in the order in which they would be taken out |
//! | global variables | `variables` by name besides `entries`; those that are changed count when it is read |
//! | `records` | of ring buffers, oldest first, `{ "data": … }`, and with `cpu` of perf event arrays; not read |
//! | `load` | of maps of further loads, whose names have the number behind `@`; not read |
//!
//! The short form, which is only read: `{ "blocked_ports": { "53": 1 } }`, where the name of a member is the key, as its text or, for
//! structures, as JSON; `{ "counters": [1, 2, 3] }` by index, or in the order of taking out; `{ ".bss": { "count": 3 } }` for variables.
//! In maps of maps and program arrays, `null` leaves a slot alone. Without types, unsigned numbers are read besides `hex:…` where there are
//! 1, 2, 4 or 8 bytes. An object is of the long form if it has a list `entries` or an object `variables`.

mod difference;
mod entry;
mod error;
mod expected;
mod load;
mod show;
mod text;

use bpf2sys_bytecode::Map;
use bpf2sys_simulator::MapContents;
use bpf2sys_simulator::map_definitions::kind;
use bpf2sys_simulator::usermode::UserModeMap;

pub use difference::{Change, MapChange, difference};
pub use error::{MapsError, MapsProblem};
pub use expected::{ExpectedMaps, is_record, record_to_json};
pub use load::maps_from_json;
pub use show::maps_to_json;
pub use text::lines;

/// What must be known of a map to read its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapShape {
    /// Name.
    pub name: String,
    /// Map type number.
    pub map_type: u32,
    /// Key bytes.
    pub key_size: u32,
    /// Value bytes.
    pub value_size: u32,
}

impl From<&UserModeMap> for MapShape {
    fn from(map: &UserModeMap) -> MapShape {
        MapShape {
            name: map.name.clone(),
            map_type: map.map_type,
            key_size: map.key_size,
            value_size: map.value_size,
        }
    }
}

impl From<&MapContents> for MapShape {
    fn from(map: &MapContents) -> MapShape {
        MapShape {
            name: map.name.clone(),
            map_type: map.map_type,
            key_size: map.key_size,
            value_size: map.value_size,
        }
    }
}

impl From<&Map> for MapShape {
    fn from(map: &Map) -> MapShape {
        MapShape {
            name: map.name.clone(),
            map_type: map.definition.map_type,
            key_size: map.definition.key_size,
            value_size: map.definition.value_size,
        }
    }
}

/// Whether keys are indices.
fn by_index(map_type: u32) -> bool {
    matches!(
        map_type,
        kind::ARRAY | kind::PERCPU_ARRAY | kind::PROG_ARRAY | kind::ARRAY_OF_MAPS
    )
}

/// Whether each processor has values of its own.
fn per_cpu(map_type: u32) -> bool {
    matches!(map_type, kind::PERCPU_HASH | kind::PERCPU_ARRAY | kind::LRU_PERCPU_HASH)
}

/// Whether entries have no keys.
fn without_keys(map_type: u32) -> bool {
    matches!(map_type, kind::QUEUE | kind::STACK)
}

/// Whether values are maps or programs.
fn holds_objects(map_type: u32) -> bool {
    matches!(map_type, kind::PROG_ARRAY | kind::HASH_OF_MAPS | kind::ARRAY_OF_MAPS)
}
