//! Maps (native module contract §4.3).

use std::collections::BTreeSet;

use bpf2sys_simulator::map_definitions::{Template, pin_path, templates};
use bpf2sys_simulator::tables::MapDefinition;

use super::{MAX_NAME, Map, Module, of};
use crate::rule::{Group, Rule, Scope, Verdict, Wrong};
use crate::subject::Subject;

const SOURCE: &str = "native module contract §4.3";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::ModuleContents, Scope::Module, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.4.3.map-names",
        [
            "names of maps have at most 63 bytes",
            "the runtime refuses to create the map",
        ],
        |s| {
            each(s, |map| {
                let length = map.name.bytes()?.len();
                (length > MAX_NAME).then(|| format!("{length} bytes"))
            })
        },
    ),
    rule(
        "contract.4.3.pinning",
        ["pinning is 0 (none) or 1 (by name)", "the runtime refuses the module"],
        |s| {
            each(s, |map| {
                let pinning = map.entry.definition.pinning.get();
                (pinning > 1).then(|| pinning.to_string())
            })
        },
    ),
    rule(
        "contract.4.3.pin-path",
        [
            "names of pinned maps make a pin path, without a colon",
            "the runtime refuses the module",
        ],
        |s| {
            each(s, |map| {
                let refused = is_pinned(map) && pin_path(&map.name.shown()).is_none();
                refused.then(|| "no pin path".to_owned())
            })
        },
    ),
    rule(
        "contract.4.3.pinned-once",
        [
            "no two maps are pinned to the same path",
            "the second gets the map of the first, or is refused for being another",
        ],
        |s| {
            of(s, |m| {
                let mut paths = BTreeSet::new();
                let pinned = m.maps.iter().filter(|map| is_pinned(map));
                let paths_of = pinned.filter_map(|map| pin_path(&map.name.shown()));
                let twice: Wrong = paths_of.filter(|path| !paths.insert(path.clone())).collect();
                judged(m, twice)
            })
        },
    ),
    rule(
        "contract.4.3.definition",
        [
            "types and sizes are ones that the runtime creates maps of",
            "the runtime refuses to create the map",
        ],
        |s| each(s, |map| refusal(s, map)),
    ),
    rule(
        "contract.4.3.inner-template",
        [
            "maps of maps have an inner template that can be created before them",
            "the runtime refuses the module",
        ],
        |s| {
            of(s, |m| {
                let names = uncreatable(m).into_iter().map(|index| m.maps[index].name.shown());
                judged(m, names.collect())
            })
        },
    ),
];

fn is_pinned(map: &Map) -> bool {
    map.entry.definition.pinning.get() == 1
}

/// Judges each map.
fn each(s: &Subject<'_>, problem: impl Fn(&Map) -> Option<String>) -> Verdict {
    of(s, |m| {
        let wrong = m
            .maps
            .iter()
            .filter_map(|map| Some(format!("map {}: {}", map.name.shown(), problem(map)?)));
        judged(m, wrong.collect())
    })
}

fn judged(m: &Module, wrong: Wrong) -> Verdict {
    if m.maps.is_empty() {
        return Verdict::none("there are no maps");
    }
    Verdict::of(wrong, format!("{} maps", m.maps.len()))
}

/// Why the runtime does not create a map.
fn refusal(s: &Subject<'_>, map: &Map) -> Option<String> {
    let stated = &map.entry.definition;
    let number = stated.map_type.get();
    let Some(known) = s.platform.map_type(number) else {
        return Some(format!("nobody offers map type {number}"));
    };
    if known.custom.as_ref().is_some_and(|custom| custom.provider.is_none()) {
        return Some(format!("no known provider offers map type {number}"));
    }
    let definition = bpf2sys_bytecode::MapDefinition {
        map_type: number,
        key_size: stated.key_size.get(),
        value_size: stated.value_size.get(),
        max_entries: stated.max_entries.get(),
        ..bpf2sys_bytecode::MapDefinition::default()
    };
    known
        .check(&definition, &s.platform.limits)
        .err()
        .map(|refusal| refusal.to_string())
}

/// Maps whose template is missing, or cannot be created before them.
fn uncreatable(m: &Module) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Unknown,
        OnTheWay,
        Known(bool),
    }
    let definitions: Vec<MapDefinition> = m.maps.iter().map(|map| map.entry.definition).collect();
    let templates = templates(&definitions);
    let mut states = vec![State::Unknown; templates.len()];
    for start in 0..templates.len() {
        // Each template leads to at most one other: follow them to one that is known, and back.
        let mut way = Vec::new();
        let mut at = start;
        let outcome = loop {
            match (states[at], templates[at]) {
                (State::Known(known), _) => break known,
                (State::OnTheWay, _) => break false,
                (State::Unknown, template) => {
                    states[at] = State::OnTheWay;
                    way.push(at);
                    match template {
                        Template::NotNeeded => break true,
                        Template::Missing => break false,
                        Template::Map(next) => at = next,
                    }
                }
            }
        };
        for index in way {
            states[index] = State::Known(outcome);
        }
    }
    (0..states.len())
        .filter(|index| states[*index] == State::Known(false))
        .collect()
}
