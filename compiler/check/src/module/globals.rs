//! Global variable sections (native module contract §4.5).

use bpf2sys_simulator::map_definitions::kind;

use super::{Global, Map, of};
use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::Subject;

const SOURCE: &str = "native module contract §4.5";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::ModuleContents, Scope::Module, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.4.5.maps",
        [
            "each global variable section has a map of its name",
            "the runtime refuses the module's programs",
        ],
        |s| each(s, |_, map| map.is_none().then(|| "no map of that name".into())),
    ),
    rule(
        "contract.4.5.arrays",
        ["it is an ARRAY", "the runtime refuses the module's programs"],
        |s| {
            each(s, |_, map| {
                let number = map?.entry.definition.map_type.get();
                (number != kind::ARRAY).then(|| format!("a map of type {number}"))
            })
        },
    ),
    rule(
        "contract.4.5.sizes",
        [
            "its initial bytes fit that map",
            "the runtime copies them without looking, over whatever is behind the map",
        ],
        |s| {
            each(s, |global, map| {
                let definition = &map?.entry.definition;
                let room = u64::from(definition.value_size.get()) * u64::from(definition.max_entries.get());
                let size = global.entry.size.get();
                (size > room).then(|| format!("{size} bytes for {room}"))
            })
        },
    ),
];

fn each(s: &Subject<'_>, problem: impl Fn(&Global, Option<&Map>) -> Option<String>) -> Verdict {
    of(s, |m| {
        if m.globals.is_empty() {
            return Verdict::none("there are none");
        }
        if m.maps.is_empty() && m.known().is_none_or(|known| known.maps.count != 0) {
            return Verdict::none("the maps can't be read");
        }
        let wrong = m.globals.iter().filter_map(|global| {
            let name = global.name.shown();
            Some(format!(
                "{name}: {}",
                problem(global, m.map_named(&name).map(|index| &m.maps[index]))?
            ))
        });
        Verdict::of(wrong.collect(), format!("{} sections", m.globals.len()))
    })
}
