//! The file descriptors under which the engine knows maps.
//!
//! A map has two: one for the map itself, and one for "some map made from this template", which is what a lookup in a
//! map of maps gives. So a descriptor of the first kind is proof of one map, and one of the second kind never is.

use bpf2sys_bytecode::{Map, MapIndex, MapOrigin, Module};
use bpf2sys_platform::Platform;
use prevail::spec::type_descriptors::EbpfMapDescriptor;

/// What the engine takes for "no map".
const NONE: i32 = -1;

/// Which descriptor stands for which map.
///
/// Where a register holds one of several maps, the engine keeps the range of their descriptors only, and wants one key and
/// value size in all of it. So maps whose definitions look alike to the engine have descriptors next to each other.
pub(super) struct Numbers {
    maps: Vec<i32>,
    templates: Vec<i32>,
    /// What descriptor n stands for is entry n - 1.
    order: Vec<(MapIndex, Standing)>,
}

/// What a descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// One map of the module.
    Map,
    /// Some map made from this template.
    Template,
}

impl Numbers {
    /// Those of a module's maps.
    pub fn new(module: &Module, platform: &Platform) -> Numbers {
        let count = module.maps.len() as u32;
        let both = [Standing::Map, Standing::Template];
        let indices = (0..count).map(MapIndex);
        let mut order: Vec<(MapIndex, Standing)> =
            indices.flat_map(|map| both.map(|standing| (map, standing))).collect();
        // Equal looks keep the order of the maps.
        order.sort_by_cached_key(|(map, standing)| {
            (look(&module.maps[map.index()], module, platform), *standing, map.0)
        });
        let (mut maps, mut templates) = (vec![NONE; count as usize], vec![NONE; count as usize]);
        for (fd, (map, standing)) in (1..).zip(&order) {
            let of = match standing {
                Standing::Map => &mut maps,
                Standing::Template => &mut templates,
            };
            of[map.index()] = fd;
        }
        Numbers { maps, templates, order }
    }

    /// The descriptor of a map of the module.
    pub fn of_map(&self, map: MapIndex) -> i32 {
        self.maps[map.index()]
    }

    /// The map of a descriptor, unless it means a template or nothing.
    pub fn map_of(&self, fd: i32) -> Option<MapIndex> {
        let at = usize::try_from(fd).ok()?.checked_sub(1)?;
        let (map, standing) = self.order.get(at)?;
        (*standing == Standing::Map).then_some(*map)
    }
}

/// What the engine sees of a definition: what the values are, the sizes of key and value, those of the maps in it, its type, how
/// many keys an array has.
type Look = (u8, [u32; 2], Option<[u32; 2]>, u32, u32);

fn look(map: &Map, module: &Module, platform: &Platform) -> Look {
    let sizes = |map: &Map| [map.definition.key_size, map.definition.value_size];
    let kind = super::windows::value_kind(platform, map.definition.map_type);
    let inner = map.inner.and_then(|inner| module.maps.get(inner.index())).map(sizes);
    (
        kind as u8,
        sizes(map),
        inner,
        map.definition.map_type,
        map.definition.max_entries,
    )
}

/// All descriptors of a module, where descriptor n is entry n - 1.
pub(super) fn descriptors(module: &Module, numbers: &Numbers) -> Vec<EbpfMapDescriptor> {
    let descriptor = |(fd, (index, standing)): (i32, &(MapIndex, Standing))| {
        let map = &module.maps[index.index()];
        EbpfMapDescriptor {
            original_fd: fd,
            // The verifier of eBPF for Windows knows no type for the memory of global variables.
            map_type: match map.origin {
                MapOrigin::Global(_) => 0,
                _ => map.definition.map_type,
            },
            key_size: map.definition.key_size,
            value_size: map.definition.value_size,
            max_entries: map.definition.max_entries,
            inner_map_fd: map.inner.map_or(NONE, |inner| numbers.templates[inner.index()]),
            name: map.name.clone(),
            is_inner_map_template: *standing == Standing::Template,
        }
    };
    (1..).zip(&numbers.order).map(descriptor).collect()
}
