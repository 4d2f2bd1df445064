//! Which maps the runtime creates (native module contract §4.3).

use std::collections::{BTreeMap, VecDeque};

use super::lru::History;
use super::{Custom, Map, Maps, Ring, Storage, kind, pad8, shape};
use crate::map_definitions::pin_path;
use crate::rule::{Rule, Violation};
use crate::tables::MapDefinition;
use crate::windows::memory::{Memory, OutOfMemory, Use};

/// Why there is no map.
pub enum NotCreated {
    /// The runtime would refuse it.
    Refused(Violation),
    /// The simulator has no room for it.
    NoMemory,
}

impl NotCreated {
    fn pinning(detail: String) -> NotCreated {
        NotCreated::Refused(Violation::new(Rule::MapPinning, detail))
    }
}

impl Maps {
    /// Checks a definition and makes the map's storage.
    pub fn create(
        &self,
        memory: &mut Memory,
        name: &str,
        definition: MapDefinition,
        template: Option<[u32; 4]>,
        custom: Option<Custom>,
    ) -> Result<Map, NotCreated> {
        let [stated_type, key_size, value_size, max_entries] = shape(&definition);
        let map_type = custom.as_ref().map_or(stated_type, |custom| custom.base);
        let refused =
            |detail: String| NotCreated::Refused(Violation::new(Rule::MapDefinition, format!("map {name}: {detail}")));
        let pin = match definition.pinning.get() {
            0 => None,
            1 => Some(
                pin_path(name)
                    .ok_or_else(|| NotCreated::pinning(format!("map {name}: the name does not make a pin path")))?,
            ),
            other => {
                return Err(NotCreated::pinning(format!("map {name}: pinning is {other}")));
            }
        };
        if map_type == 0 || map_type >= kind::COUNT {
            return Err(refused(format!("the runtime knows no map type {map_type}")));
        }
        if max_entries == 0 {
            return Err(refused("max_entries is 0".into()));
        }
        let rings = matches!(map_type, kind::RINGBUF | kind::PERF_EVENT_ARRAY);
        let keyless = matches!(map_type, kind::QUEUE | kind::STACK | kind::RINGBUF);
        if keyless && key_size != 0 {
            return Err(refused(format!("key size is {key_size}, this type has no keys")));
        }
        if key_size == 0 && !keyless && map_type != kind::PERF_EVENT_ARRAY {
            return Err(refused("key size is 0".into()));
        }
        if value_size == 0 && !rings {
            return Err(refused("value size is 0".into()));
        }
        let objects = matches!(map_type, kind::PROG_ARRAY | kind::HASH_OF_MAPS | kind::ARRAY_OF_MAPS);
        if objects && value_size != 4 {
            return Err(refused(format!("value size is {value_size}, objects need 4")));
        }
        if map_type == kind::LPM_TRIE && key_size < 4 {
            return Err(refused(format!(
                "key size is {key_size}, a prefix length alone takes 4"
            )));
        }
        if rings && !(max_entries.is_power_of_two() && max_entries.is_multiple_of(4096)) {
            return Err(refused(format!(
                "{max_entries} bytes are no power of two of whole pages"
            )));
        }
        let arrays = matches!(
            map_type,
            kind::ARRAY | kind::PERCPU_ARRAY | kind::PROG_ARRAY | kind::ARRAY_OF_MAPS
        );
        if arrays && key_size < 4 {
            return Err(refused(format!(
                "key size is {key_size}; the runtime reads 4 bytes of each key"
            )));
        }
        let full = |_: OutOfMemory| NotCreated::NoMemory;
        let storage = match map_type {
            kind::ARRAY | kind::PERCPU_ARRAY => {
                let stride = if map_type == kind::ARRAY {
                    value_size.into()
                } else {
                    pad8(value_size) * u64::from(self.cpus)
                };
                let bytes = stride
                    .checked_mul(max_entries.into())
                    .filter(|&b| b <= 1 << 37)
                    .ok_or_else(|| refused("it is larger than 128 GiB".into()))?;
                let base = memory
                    .allocate(bytes as usize, 8, &format!("the values of map {name}"), Use::ReadWrite)
                    .map_err(full)?;
                Storage::Array { base, stride }
            }
            kind::QUEUE | kind::STACK => Storage::Queue(VecDeque::new()),
            kind::RINGBUF => Storage::Rings(vec![Ring::default()]),
            kind::PERF_EVENT_ARRAY => Storage::Rings(vec![Ring::default(); self.cpus as usize]),
            _ if objects => Storage::Objects(BTreeMap::new()),
            _ => Storage::Hash(BTreeMap::new()),
        };
        let address = memory
            .allocate(64, 16, &format!("the object of map {name}"), Use::Kernel)
            .map_err(full)?;
        Ok(Map {
            name: name.to_owned(),
            definition,
            address,
            storage,
            template,
            program_type: None,
            history: History::new(max_entries, self.cpus),
            pin,
            custom,
            is_full: false,
        })
    }
}
