//! Whether the runtime would create the module's maps, with the templates of inner maps that the object means (native module
//! contract §4.3).
//!
//! Given: the maps of a module. Computed: the first one that the runtime would refuse.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{MapIndex, Module, Pinning};
use bpf2sys_platform::Platform;

use crate::error::{MapProblem, ModuleProblem};

/// Most bytes of a canonical pin path.
const MAX_PIN_PATH: usize = 255;

pub(super) fn check_maps(module: &Module, platform: &Platform) -> Result<(), ModuleProblem> {
    let mut by_id: BTreeMap<u32, Vec<MapIndex>> = BTreeMap::new();
    for (map, index) in module.maps.iter().zip(0..) {
        by_id.entry(map.definition.id).or_default().push(MapIndex(index));
    }
    let (mut pins, mut creatable) = (BTreeSet::new(), BTreeSet::new());
    for (map, index) in module.maps.iter().zip(0..) {
        check_definition(module, platform, MapIndex(index))
            .and_then(|()| check_template(module, platform, &by_id, MapIndex(index), &mut creatable))
            .and_then(|()| check_pinning(module, MapIndex(index), &mut pins))
            .map_err(|problem| ModuleProblem::Map {
                map: map.name.clone(),
                problem,
            })?;
    }
    Ok(())
}

fn check_definition(module: &Module, platform: &Platform, index: MapIndex) -> Result<(), MapProblem> {
    let definition = &module.maps[index.index()].definition;
    let Some(map_type) = platform.map_type(definition.map_type) else {
        let creatable = platform.map_types.iter().filter(|t| t.rules.creatable);
        return Err(MapProblem::UnknownType {
            map_type: definition.map_type,
            known: creatable.map(|t| format!("{} {}", t.value, t.name)).collect(),
        });
    };
    map_type
        .check(definition, &platform.limits)
        .map_err(|refusal| MapProblem::Definition {
            map_type: map_type.name.clone(),
            refusal,
        })
}

/// Maps of maps: the runtime must find the template that the object means, and must be able to create it before.
/// `creatable` are those of which that is known, so that a long chain is followed once.
fn check_template(
    module: &Module,
    platform: &Platform,
    by_id: &BTreeMap<u32, Vec<MapIndex>>,
    index: MapIndex,
    creatable: &mut BTreeSet<MapIndex>,
) -> Result<(), MapProblem> {
    let needs_template = |index: MapIndex| {
        let map_type = platform.map_type(module.maps[index.index()].definition.map_type);
        map_type.is_some_and(|t| t.rules.inner_map_required)
    };
    if !needs_template(index) {
        return Ok(());
    }
    let name = |index: MapIndex| module.maps[index.index()].name.clone();
    let found = runtime_template(module, by_id, index);
    let Some(meant) = module.maps[index.index()].inner else {
        return Err(MapProblem::NoTemplate);
    };
    if found != Some(meant) {
        return Err(MapProblem::Template {
            meant: name(meant),
            found: found.map(name),
        });
    }
    // A template is created before the map that needs it, so none may lead back. A chain has each map once.
    let mut chain = Vec::new();
    let mut at = Some(meant);
    while let Some(map) = at.filter(|at| needs_template(*at) && !creatable.contains(at)) {
        if chain.len() == module.maps.len() {
            return Err(MapProblem::TemplateCycle);
        }
        chain.push(map);
        at = runtime_template(module, by_id, map);
    }
    creatable.extend(chain);
    Ok(())
}

/// The inner map template as the runtime finds it: by index, else the first other map with the id.
fn runtime_template(module: &Module, by_id: &BTreeMap<u32, Vec<MapIndex>>, outer: MapIndex) -> Option<MapIndex> {
    let definition = &module.maps[outer.index()].definition;
    if definition.inner_map_idx != 0 {
        let inner = MapIndex(definition.inner_map_idx);
        return (inner.index() < module.maps.len()).then_some(inner);
    }
    let candidates = by_id.get(&definition.inner_id).filter(|_| definition.inner_id != 0)?;
    candidates.iter().copied().find(|inner| *inner != outer)
}

/// A map that is pinned by name needs a name that makes a path, and one of its own.
fn check_pinning(module: &Module, index: MapIndex, pins: &mut BTreeSet<String>) -> Result<(), MapProblem> {
    let map = &module.maps[index.index()];
    if map.definition.pinning == Pinning::None {
        return Ok(());
    }
    let path = format!(r"BPF:\{}", map.name.replace('/', r"\"));
    if map.name.contains(':') || path.len() > MAX_PIN_PATH {
        return Err(MapProblem::PinPath);
    }
    if pins.contains(&path) {
        return Err(MapProblem::PinnedTwice(path));
    }
    pins.insert(path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{MapIndex, Module, Pinning};

    use crate::LowerError;
    use crate::error::{MapProblem, ModuleProblem};
    use crate::testing::{EXIT, lower, map, mov, one};

    fn lowered(maps: Vec<bpf2sys_bytecode::Map>) -> Result<(), (String, MapProblem)> {
        let mut module = one(&[mov(0, 0), EXIT]);
        module.maps = maps;
        match lower(module) {
            Ok(_) => Ok(()),
            Err(LowerError::Module(ModuleProblem::Map { map, problem })) => Err((map, problem)),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_type_that_nobody_offers_is_refused_with_those_that_are() {
        let (_, problem) = lowered(vec![map("m", 99, 4, 4)]).unwrap_err();
        let text = problem.to_string();
        assert!(
            text.starts_with("there is no map type 99; there are 1 hash, 2 array, 3 prog_array, "),
            "{text}"
        );
        assert!(!text.contains("unspec"), "{text}");
    }

    #[test]
    fn rejects_maps_that_the_runtime_would_not_create() {
        for (bad, entries, expected) in [
            (
                map("m", 0, 4, 4),
                1,
                "map type `unspec`: no map of this type can be created",
            ),
            (map("m", 1, 4, 4), 0, "map type `hash`: it has room for no entries"),
            (
                map("m", 1, 0, 4),
                1,
                "map type `hash`: its key size is 0; this type needs at least 1",
            ),
            (
                map("m", 2, 2, 4),
                1,
                "map type `array`: its key size is 2; this type needs at least 4",
            ),
            (
                map("m", 10, 4, 4),
                1,
                "map type `queue`: its key size is 4; this type needs 0",
            ),
            (
                map("m", 12, 0, 0),
                1,
                "map type `stack`: its value size is 0; this type needs at least 1",
            ),
            (
                map("m", 3, 4, 8),
                1,
                "map type `prog_array`: its value size is 8; this type needs 4",
            ),
            (
                map("m", 9, 2, 8),
                1,
                "map type `lpm_trie`: its key size is 2; this type needs at least 4",
            ),
            (
                map("m", 13, 0, 0),
                100,
                "map type `ringbuf`: its `max_entries` is 100; this type needs a power of two",
            ),
            (
                map("m", 13, 0, 0),
                64,
                "map type `ringbuf`: its `max_entries` is 64; this type needs a multiple of 4096",
            ),
        ] {
            let mut bad = bad;
            bad.definition.max_entries = entries;
            let (name, problem) = lowered(vec![map("fine", 1, 4, 4), bad]).unwrap_err();
            assert_eq!((name.as_str(), problem.to_string().as_str()), ("m", expected));
        }
        let mut ring = map("ring", 13, 0, 0);
        ring.definition.max_entries = 4096;
        assert_eq!(lowered(vec![map("queue", 10, 0, 4), ring]), Ok(()));
        // Types that extensions implement.
        assert_eq!(lowered(vec![map("sample", 15, 4, 4), map("xsk", 16, 4, 4)]), Ok(()));
    }

    /// `first`, `second` with id 9, and `outer`, which holds maps like `second`.
    fn templates(change: fn(&mut Module)) -> Result<(), MapProblem> {
        let mut module = one(&[mov(0, 0), EXIT]);
        module.maps = vec![map("first", 1, 4, 8), map("second", 1, 8, 8), map("outer", 7, 4, 4)];
        module.maps[2].inner = Some(MapIndex(1));
        module.maps[1].definition.id = 9;
        change(&mut module);
        lowered(module.maps).map_err(|(map, problem)| {
            assert_eq!(map, "outer");
            problem
        })
    }

    #[test]
    fn the_runtime_must_find_the_template_that_the_object_means() {
        let template = |meant: &str, found: Option<&str>| {
            Err(MapProblem::Template {
                meant: meant.to_owned(),
                found: found.map(str::to_owned),
            })
        };
        assert_eq!(templates(|m| m.maps[2].definition.inner_id = 9), Ok(()));
        assert_eq!(templates(|m| m.maps[2].definition.inner_map_idx = 1), Ok(()));
        assert_eq!(
            templates(|m| m.maps[2].definition.inner_map_idx = 5),
            template("second", None)
        );
        assert_eq!(
            templates(|m| m.maps[2].definition.inner_id = 8),
            template("second", None)
        );
        // The first map with that id is another one.
        let another = templates(|m| {
            m.maps[2].definition.inner_id = 9;
            m.maps[0].definition.id = 9;
        });
        assert_eq!(another, template("second", Some("first")));
        assert_eq!(templates(|m| m.maps[2].inner = None), Err(MapProblem::NoTemplate));
        // Index 0 says "none".
        let first = templates(|m| {
            m.maps[2].inner = Some(MapIndex(0));
            m.maps[2].definition.inner_map_idx = 0;
        });
        assert_eq!(first, template("first", None));
    }

    #[test]
    fn templates_may_have_templates_but_not_lead_back() {
        let nested = |innermost: u32, id: u32| {
            let mut maps = vec![map("plain", 1, 4, 4), map("middle", 7, 4, 4), map("outer", 6, 4, 4)];
            maps[2].inner = Some(MapIndex(1));
            maps[2].definition.inner_map_idx = 1;
            maps[1].inner = Some(MapIndex(innermost));
            maps[1].definition.inner_id = id;
            maps[0].definition.id = 5;
            maps[2].definition.id = 6;
            lowered(maps)
        };
        assert_eq!(nested(0, 5), Ok(()));
        assert_eq!(nested(2, 6), Err(("middle".to_owned(), MapProblem::TemplateCycle)));
        let mut own = vec![map("plain", 1, 4, 4), map("own", 7, 4, 4)];
        own[1].inner = Some(MapIndex(1));
        own[1].definition.inner_map_idx = 1;
        assert_eq!(lowered(own), Err(("own".to_owned(), MapProblem::TemplateCycle)));
    }

    #[test]
    fn pinned_maps_need_names_that_make_paths_of_their_own() {
        let pinned = |name: &str| {
            let mut map = map(name, 1, 4, 4);
            map.definition.pinning = Pinning::ByName;
            map
        };
        let both = |a, b| lowered(vec![a, b]);
        assert_eq!(both(pinned("a/b"), pinned("b")), Ok(()));
        assert_eq!(both(map("c:d", 1, 4, 4), pinned("b")), Ok(()));
        let colon = both(pinned("c:d"), pinned("b"));
        assert_eq!(colon, Err(("c:d".to_owned(), MapProblem::PinPath)));
        let twice = MapProblem::PinnedTwice(r"BPF:\a\b".to_owned());
        assert_eq!(both(pinned("a/b"), pinned(r"a\b")), Err((r"a\b".to_owned(), twice)));
        assert_eq!(both(pinned("a/b"), map(r"a\b", 1, 4, 4)), Ok(()));
    }
}
