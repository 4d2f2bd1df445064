//! Initial values of maps (native module contract §4.9).

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_simulator::map_definitions::{Template, kind, templates};
use bpf2sys_simulator::tables::MapDefinition;

use super::{Map, Module, Values, of};
use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::Subject;

const SOURCE: &str = "native module contract §4.9";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::ModuleContents, Scope::Module, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.4.9.maps",
        [
            "initial values are of maps that there are",
            "the runtime refuses the module",
        ],
        |s| each(s, |_, _, map| map.is_none().then(|| "no map of that name".into())),
    ),
    rule(
        "contract.4.9.map-types",
        [
            "these are program arrays or maps of maps",
            "the runtime refuses the module",
        ],
        |s| {
            each(s, |_, _, map| {
                let number = map?.entry.definition.map_type.get();
                (!holds_objects(number)).then(|| format!("a map of type {number}"))
            })
        },
    ),
    rule(
        "contract.4.9.keys",
        ["their keys have 4 bytes", "the runtime puts the values at 32-bit keys"],
        |s| {
            each(s, |_, _, map| {
                let size = map?.entry.definition.key_size.get();
                (size != 4).then(|| format!("keys of {size} bytes"))
            })
        },
    ),
    rule(
        "contract.4.9.counts",
        ["there is room for all values", "the runtime refuses the module"],
        |s| {
            each(s, |_, list, map| {
                let definition = &map?.entry.definition;
                let room = definition.max_entries.get() as usize;
                let array = definition.map_type.get() != kind::HASH_OF_MAPS;
                let used = list.slots.iter().flatten().count();
                let last = list
                    .slots
                    .iter()
                    .rposition(Option::is_some)
                    .map_or(0, |index| index + 1);
                let needed = if array { last } else { used };
                (needed > room).then(|| format!("{needed} values for {room}"))
            })
        },
    ),
    rule(
        "contract.4.9.programs",
        [
            "values of program arrays are programs of the module",
            "the runtime refuses the module",
        ],
        |s| {
            each(s, |m, list, map| {
                if map?.entry.definition.map_type.get() != kind::PROG_ARRAY {
                    return None;
                }
                let missing = { names(list) }.find(|name| m.program_named(name).is_none())?;
                Some(format!("no program {missing}"))
            })
        },
    ),
    rule(
        "contract.4.9.inner-maps",
        [
            "values of maps of maps are maps of the module",
            "the runtime looks at the wrong variable and stops the machine",
        ],
        |s| {
            each(s, |m, list, map| {
                if !is_map_of_maps(map?) {
                    return None;
                }
                let missing = { names(list) }.find(|name| m.map_named(name).is_none())?;
                Some(format!("no map {missing}"))
            })
        },
    ),
    rule(
        "contract.4.9.inner-shapes",
        [
            "these have type, sizes and number of entries of the inner template",
            "the runtime refuses the module",
        ],
        inner_shapes,
    ),
    rule(
        "contract.4.9.program-types",
        [
            "programs of one program array, and those that use it, are of one type",
            "the runtime refuses the second type",
        ],
        program_types,
    ),
];

fn holds_objects(map_type: u32) -> bool {
    matches!(map_type, kind::PROG_ARRAY | kind::ARRAY_OF_MAPS | kind::HASH_OF_MAPS)
}

fn is_map_of_maps(map: &Map) -> bool {
    let number = map.entry.definition.map_type.get();
    matches!(number, kind::ARRAY_OF_MAPS | kind::HASH_OF_MAPS)
}

fn names(list: &Values) -> impl Iterator<Item = String> {
    list.slots.iter().flatten().map(super::Text::shown)
}

/// Judges each list of initial values.
fn each(s: &Subject<'_>, problem: impl Fn(&Module, &Values, Option<&Map>) -> Option<String>) -> Verdict {
    of(s, |m| {
        if m.values.is_empty() {
            return Verdict::none("there are none");
        }
        if m.maps.is_empty() && m.known().is_none_or(|known| known.maps.count != 0) {
            return Verdict::none("the maps can't be read");
        }
        let wrong = m.values.iter().filter_map(|list| {
            let name = list.name.shown();
            Some(format!(
                "{name}: {}",
                problem(m, list, m.map_named(&name).map(|index| &m.maps[index]))?
            ))
        });
        Verdict::of(wrong.collect(), format!("{} maps", m.values.len()))
    })
}

fn shape(definition: &MapDefinition) -> [u32; 4] {
    [
        definition.map_type.get(),
        definition.key_size.get(),
        definition.value_size.get(),
        definition.max_entries.get(),
    ]
}

fn inner_shapes(s: &Subject<'_>) -> Verdict {
    let definitions: Vec<MapDefinition> = s
        .module
        .iter()
        .flat_map(|m| &m.maps)
        .map(|map| map.entry.definition)
        .collect();
    let templates = templates(&definitions);
    each(s, |m, list, map| {
        map.filter(|map| is_map_of_maps(map))?;
        let Template::Map(template) = templates[m.map_named(&list.name.shown())?] else {
            return None; // a rule of its own
        };
        let due = shape(&definitions[template]);
        { names(list) }.find_map(|name| {
            let found = shape(&definitions[m.map_named(&name)?]);
            (found != due).then(|| format!("{name} has {found:?}, the template {due:?}"))
        })
    })
}

fn program_types(s: &Subject<'_>) -> Verdict {
    of(s, |m| {
        let is_array = |map: &Map| map.entry.definition.map_type.get() == kind::PROG_ARRAY;
        let mut types: BTreeMap<usize, BTreeSet<[u8; 16]>> = BTreeMap::new();
        for (index, _) in m.maps.iter().enumerate().filter(|(_, map)| is_array(map)) {
            types.insert(index, BTreeSet::new());
        }
        for program in &m.programs {
            for index in &program.map_indices {
                if let Some(types) = types.get_mut(&usize::from(*index)) {
                    types.extend(program.type_guid);
                }
            }
        }
        for list in &m.values {
            let types = m.map_named(&list.name.shown()).and_then(|index| types.get_mut(&index));
            if let Some(types) = types {
                types.extend({ names(list) }.filter_map(|name| m.program_named(&name)?.type_guid));
            }
        }
        if types.is_empty() {
            return Verdict::none("there are no program arrays");
        }
        let mixed = types.iter().filter(|(_, types)| types.len() > 1);
        let wrong = mixed.map(|(index, types)| format!("{}: {} types", m.maps[*index].name.shown(), types.len()));
        Verdict::of(wrong.collect(), format!("{} program arrays", types.len()))
    })
}
