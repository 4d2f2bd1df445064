//! What map definitions mean to the runtime before any map is created: templates, order of creation, pin paths (native
//! module contract §4.3).

use std::collections::BTreeMap;

use crate::rule::{Rule, Violation};
use crate::tables::MapDefinition;

/// Map type numbers that the runtime treats in a way of their own.
#[allow(missing_docs)]
pub mod kind {
    pub const ARRAY: u32 = 2;
    pub const PROG_ARRAY: u32 = 3;
    pub const PERCPU_HASH: u32 = 4;
    pub const PERCPU_ARRAY: u32 = 5;
    pub const HASH_OF_MAPS: u32 = 6;
    pub const ARRAY_OF_MAPS: u32 = 7;
    pub const LRU_HASH: u32 = 8;
    pub const LPM_TRIE: u32 = 9;
    pub const QUEUE: u32 = 10;
    pub const LRU_PERCPU_HASH: u32 = 11;
    pub const STACK: u32 = 12;
    pub const RINGBUF: u32 = 13;
    pub const PERF_EVENT_ARRAY: u32 = 14;
    /// One past the last type that the runtime knows.
    pub const COUNT: u32 = 17;
}

/// The order in which templates allow creation: indices of maps, each with that of its template.
///
/// # Errors
/// A map of maps without a template that can be created before it.
pub fn creation_order(
    definitions: &[MapDefinition],
    names: &[String],
) -> Result<Vec<(usize, Option<usize>)>, Violation> {
    let templates = templates(definitions);
    let mut created = vec![false; definitions.len()];
    let mut order: Vec<(usize, Option<usize>)> = Vec::new();
    let mut waiting: Vec<usize> = (0..definitions.len()).collect();
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|&i| match templates[i] {
            Template::NotNeeded => true,
            Template::Map(t) => created[t],
            Template::Missing => false,
        });
        let Some(position) = ready else {
            let name = waiting.first().and_then(|&i| names.get(i)).map_or("", String::as_str);
            return Err(Violation::new(
                Rule::InnerTemplate,
                format!("map {name} has no inner template that can be created"),
            ));
        };
        let index = waiting.remove(position);
        created[index] = true;
        let template = match templates[index] {
            Template::Map(t) => Some(t),
            _ => None,
        };
        order.push((index, template));
    }
    Ok(order)
}

/// The canonical pin path of a map name.
pub fn pin_path(name: &str) -> Option<String> {
    let path = format!(r"BPF:\{}", name.replace('/', r"\"));
    (!name.contains(':') && path.len() <= 255).then_some(path)
}

/// The inner template of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// Maps of its type have none.
    NotNeeded,
    /// The map with this index.
    Map(usize),
    /// There is none, and maps of its type need one.
    Missing,
}

/// The inner template of each map: by index if that is not 0, else the first other map with that id.
pub fn templates(definitions: &[MapDefinition]) -> Vec<Template> {
    let mut by_id: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, definition) in definitions.iter().enumerate() {
        let same = by_id.entry(definition.id.get()).or_default();
        // The second is for the first, which cannot be its own template.
        if same.len() < 2 {
            same.push(index);
        }
    }
    let of = |(index, definition): (usize, &MapDefinition)| {
        if !matches!(definition.map_type.get(), kind::HASH_OF_MAPS | kind::ARRAY_OF_MAPS) {
            return Template::NotNeeded;
        }
        let by_index = definition.inner_map_idx.get() as usize;
        let id = definition.inner_id.get();
        let found = if by_index != 0 {
            (by_index < definitions.len()).then_some(by_index)
        } else if id != 0 {
            by_id
                .get(&id)
                .and_then(|same| same.iter().copied().find(|&i| i != index))
        } else {
            None
        };
        found.map_or(Template::Missing, Template::Map)
    };
    definitions.iter().enumerate().map(of).collect()
}
