//! The file descriptors under which the engine knows maps.
//!
//! A map has two: one for the map itself, and one for "some map made from this template", which is what a lookup in a
//! map of maps gives. So a descriptor of the first kind is proof of one map, and one of the second kind never is.

use bpf2sys_bytecode::{MapIndex, MapOrigin, Module};
use bpf2sys_platform::{MapValueKind, Platform};
use prevail::spec::type_descriptors::EbpfMapDescriptor;

use crate::VerifyError;

/// What the engine takes for "no map".
const NONE: i32 = -1;

/// The descriptor of a map of the module: 1 for the first.
pub(super) fn of_map(map: MapIndex) -> i32 {
    (map.0 + 1).cast_signed()
}

/// The map of a descriptor, unless it means a template or nothing.
pub(super) fn map_of(fd: i32, module: &Module) -> Option<MapIndex> {
    let index = u32::try_from(fd).ok()?.checked_sub(1)?;
    ((index as usize) < module.maps.len()).then_some(MapIndex(index))
}

/// The descriptor of the maps that are made from a template.
fn of_template(map: MapIndex, module: &Module) -> i32 {
    of_map(map) + module.maps.len() as i32
}

/// All descriptors of a module, where descriptor n is entry n - 1.
pub(super) fn descriptors(module: &Module, platform: &Platform) -> Result<Vec<EbpfMapDescriptor>, VerifyError> {
    let mut all = Vec::with_capacity(2 * module.maps.len());
    for template in [false, true] {
        for (i, map) in module.maps.iter().enumerate() {
            let index = MapIndex(i as u32);
            let unusable = |reason: String| VerifyError::UnusableMap {
                map: map.name.clone(),
                reason,
            };
            let definition = &map.definition;
            for (what, size) in [("key", definition.key_size), ("value", definition.value_size)] {
                if i32::try_from(size).is_err() {
                    return Err(unusable(format!("the {what} size of {size} bytes is too large")));
                }
            }
            let map_of_maps = super::windows::value_kind(platform, definition.map_type) == MapValueKind::Map;
            if map_of_maps && map.inner.is_none() {
                return Err(unusable("a map of maps needs a template for its maps".to_owned()));
            }
            all.push(EbpfMapDescriptor {
                original_fd: if template {
                    of_template(index, module)
                } else {
                    of_map(index)
                },
                // The verifier of eBPF for Windows knows no type for the memory of global variables.
                map_type: match map.origin {
                    MapOrigin::Global(_) => 0,
                    _ => definition.map_type,
                },
                key_size: definition.key_size,
                value_size: definition.value_size,
                max_entries: definition.max_entries,
                inner_map_fd: map.inner.map_or(NONE, |inner| of_template(inner, module)),
                name: map.name.clone(),
                is_inner_map_template: template,
            });
        }
    }
    Ok(all)
}
