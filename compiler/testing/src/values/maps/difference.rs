//! What two reports differ in.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bpf2sys_simulator::map_definitions::kind;
use bpf2sys_simulator::{HexBytes, MapContents, MapEntryContents};

use super::entry::Entries;
use super::show::name;
use super::without_keys;
use crate::values::{Json, ModuleTypes};

/// Something that is in one report and not in the other.
///
/// Its text is one line: `blocked_ports: + 53 = 1`, `counters[2]: 0 -> 7`, `flow_lo.bss.count: 3 -> 4`, `events: + { pid = 4242 }`.
#[derive(Clone, Debug, PartialEq)]
pub struct MapChange {
    /// Name of the map, with the load behind `@` if it is not the first.
    pub map: String,
    /// What is different.
    pub change: Change,
}

/// What is different.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An entry that was not there. Those of queues and stacks have no key.
    Added(Option<Json>, Json),
    /// An entry that is not there any more.
    Removed(Option<Json>, Json),
    /// An entry with another value.
    Changed {
        /// Its key.
        key: Json,
        /// The value before.
        old: Json,
        /// The value after.
        new: Json,
    },
    /// A global variable with another value.
    Variable {
        /// Its name.
        name: String,
        /// The value before.
        old: Json,
        /// The value after.
        new: Json,
    },
    /// A record was sent, on that processor if each has its own.
    Record(Option<u32>, Json),
    /// Entries from this key on are not compared: a report has left some out.
    NotCompared(Json),
}

/// What is different after, map by map: in the order of the second report, then maps that only the first has. Entries by ascending key.
pub fn difference(before: &[MapContents], after: &[MapContents], types: Option<&ModuleTypes>) -> Vec<MapChange> {
    let identity = |map: &MapContents| (map.name.clone(), map.load);
    let first: BTreeMap<_, _> = before.iter().map(|map| (identity(map), map)).collect();
    let second: BTreeSet<_> = after.iter().map(identity).collect();
    let mut pairs: Vec<[Cow<'_, MapContents>; 2]> = Vec::new();
    for map in after {
        let old = first.get(&identity(map)).map(|old| Cow::Borrowed(*old));
        pairs.push([old.unwrap_or_else(|| Cow::Owned(empty(map))), Cow::Borrowed(map)]);
    }
    for map in before.iter().filter(|map| !second.contains(&identity(map))) {
        pairs.push([Cow::Borrowed(map), Cow::Owned(empty(map))]);
    }
    let mut changes = Vec::new();
    for [old, new] in &pairs {
        let known = Entries::new(types, &new.name, new.map_type);
        let comparing = Comparing { old, new, known };
        let map = name(new);
        changes.extend(comparing.all().into_iter().map(|change| MapChange {
            map: map.clone(),
            change,
        }));
    }
    changes
}

/// A map with nothing in it.
fn empty(map: &MapContents) -> MapContents {
    MapContents {
        name: map.name.clone(),
        map_type: map.map_type,
        load: map.load,
        ..MapContents::default()
    }
}

/// How much of the end of `old` is the beginning of `new`: what has stayed when the first were taken and others came behind.
fn overlap<T: PartialEq>(old: &[T], new: &[T]) -> usize {
    // The prefix function of Knuth, Morris and Pratt: how much of the beginning of `new` ends at each of its places.
    let mut prefix = vec![0; new.len()];
    for i in 1..new.len() {
        let mut length: usize = prefix[i - 1];
        while length > 0 && new[i] != new[length] {
            length = prefix[length - 1];
        }
        prefix[i] = length + usize::from(new[i] == new[length]);
    }
    let mut length = 0;
    for element in old {
        while length > 0 && (length == new.len() || *element != new[length]) {
            length = prefix[length - 1];
        }
        length += usize::from(length < new.len() && *element == new[length]);
    }
    length
}

/// A map before and after.
struct Comparing<'a> {
    old: &'a MapContents,
    new: &'a MapContents,
    known: Entries<'a>,
}

impl Comparing<'_> {
    fn all(&self) -> Vec<Change> {
        let mut changes = if without_keys(self.new.map_type) {
            self.sequence()
        } else {
            let variables = self.variables();
            if variables.is_empty() {
                self.entries()
            } else {
                variables
            }
        };
        changes.extend(self.records());
        changes
    }

    fn value(&self, entry: &MapEntryContents) -> Json {
        self.known.value(entry).0
    }

    /// Both values, as bytes if their difference would not be seen.
    fn both(&self, old: &MapEntryContents, new: &MapEntryContents) -> (Json, Json) {
        let (shown, other) = (self.value(old), self.value(new));
        if shown == other {
            (self.known.value_bytes(old), self.known.value_bytes(new))
        } else {
            (shown, other)
        }
    }

    /// Queues and stacks: what was taken, and what came.
    fn sequence(&self) -> Vec<Change> {
        let stack = self.new.map_type == kind::STACK;
        let values = |map: &MapContents| -> Vec<MapEntryContents> {
            let mut values = map.entries.clone();
            // A stack changes at its top, which is first.
            if stack {
                values.reverse();
            }
            values
        };
        let (old, new) = (values(self.old), values(self.new));
        let (gone, stayed) = if stack {
            let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
            (&old[same..], same)
        } else {
            let same = overlap(&old, &new);
            (&old[..old.len() - same], same)
        };
        let gone = gone.iter().map(|entry| Change::Removed(None, self.value(entry)));
        let came = new[stayed..].iter().map(|entry| Change::Added(None, self.value(entry)));
        gone.chain(came).collect()
    }

    /// Global variables that differ; none if what differs has no name.
    fn variables(&self) -> Vec<Change> {
        let section = self.known.of.and_then(|of| of.section.as_ref());
        let bytes = |map: &MapContents| Some(map.entries.first()?.values.first()?.0.clone());
        let (Some(section), Some(old), Some(new)) = (section, bytes(self.old), bytes(self.new)) else {
            return Vec::new();
        };
        let changed = section.variables.iter().filter_map(|variable| {
            let (old, new) = (
                self.known.bytes_of(variable, &old)?,
                self.known.bytes_of(variable, &new)?,
            );
            let shown = |bytes| self.known.variable(variable.of, bytes);
            (old != new).then(|| {
                let (mut before, mut after) = (shown(old), shown(new));
                if before == after {
                    (before, after) = (crate::values::hex(old), crate::values::hex(new));
                }
                Change::Variable {
                    name: variable.name.clone(),
                    old: before,
                    new: after,
                }
            })
        });
        changed.collect()
    }

    fn entries(&self) -> Vec<Change> {
        let mut pairs: BTreeMap<Vec<u8>, [Option<&MapEntryContents>; 2]> = BTreeMap::new();
        for (i, map) in [self.old, self.new].into_iter().enumerate() {
            for entry in &map.entries {
                pairs.entry(self.known.order(&entry.key.0)).or_default()[i] = Some(entry);
            }
        }
        // Behind the last entry that a report lists, others may be missing that it leaves out.
        let cut = [self.old, self.new].into_iter().filter(|map| map.omitted != 0);
        let cut = cut
            .filter_map(|map| map.entries.last())
            .min_by_key(|entry| self.known.order(&entry.key.0));
        let mut changes = Vec::new();
        for (place, [old, new]) in &pairs {
            if cut.is_some_and(|cut| *place > self.known.order(&cut.key.0)) {
                break;
            }
            changes.extend(self.entry(*old, *new));
        }
        changes.extend(cut.map(|cut| Change::NotCompared(self.known.key(&cut.key.0).0)));
        changes
    }

    fn entry(&self, old: Option<&MapEntryContents>, new: Option<&MapEntryContents>) -> Option<Change> {
        if old == new {
            return None;
        }
        let key = |entry: &MapEntryContents| self.known.key(&entry.key.0).0;
        // All elements of an array exist; those that are zero may be left out.
        let array = matches!(self.new.map_type, kind::ARRAY | kind::PERCPU_ARRAY);
        let zero = |entry: &MapEntryContents| MapEntryContents {
            values: entry
                .values
                .iter()
                .map(|value| HexBytes(vec![0; value.0.len()]))
                .collect(),
            ..entry.clone()
        };
        let (old, new) = match (old.cloned(), new.cloned()) {
            (Some(old), Some(new)) => (old, new),
            (None, Some(new)) if array => (zero(&new), new),
            (Some(old), None) if array => {
                let new = zero(&old);
                (old, new)
            }
            (None, Some(new)) => return Some(Change::Added(Some(key(&new)), self.value(&new))),
            (Some(old), None) => return Some(Change::Removed(Some(key(&old)), self.value(&old))),
            (None, None) => return None,
        };
        (old != new).then(|| {
            let (key, (old, new)) = (key(&new), self.both(&old, &new));
            Change::Changed { key, old, new }
        })
    }

    fn records(&self) -> Vec<Change> {
        let mut rings: BTreeMap<Option<u32>, [Vec<&HexBytes>; 2]> = BTreeMap::new();
        for (i, map) in [self.old, self.new].into_iter().enumerate() {
            for record in &map.records {
                rings.entry(record.cpu).or_default()[i].push(&record.data);
            }
        }
        let mut changes = Vec::new();
        for (cpu, [old, new]) in rings {
            let came = &new[overlap(&old, &new)..];
            changes.extend(came.iter().map(|data| Change::Record(cpu, self.known.record(&data.0))));
        }
        changes
    }
}

impl MapChange {
    /// As JSON: `{ "map": …, "change": "added", "key": …, "value": … }`, with `old` and `new` where a value is another one.
    pub fn to_json(&self) -> Json {
        let mut members = vec![("map", Json::from(self.map.as_str()))];
        let mut add = |list: Vec<(&'static str, Option<Json>)>| {
            members.extend(list.into_iter().filter_map(|(name, value)| Some((name, value?))));
        };
        let what = |text: &str| ("change", Some(Json::from(text)));
        match self.change.clone() {
            Change::Added(key, value) => add(vec![what("added"), ("key", key), ("value", Some(value))]),
            Change::Removed(key, value) => add(vec![what("removed"), ("key", key), ("value", Some(value))]),
            Change::Changed { key, old, new } => {
                add(vec![
                    what("changed"),
                    ("key", Some(key)),
                    ("old", Some(old)),
                    ("new", Some(new)),
                ]);
            }
            Change::Variable { name, old, new } => {
                let name = Some(Json::Text(name));
                add(vec![
                    what("changed"),
                    ("variable", name),
                    ("old", Some(old)),
                    ("new", Some(new)),
                ]);
            }
            Change::Record(cpu, data) => {
                let cpu = cpu.map(|cpu| Json::from(i64::from(cpu)));
                add(vec![what("record"), ("cpu", cpu), ("data", Some(data))]);
            }
            Change::NotCompared(key) => add(vec![what("not_compared"), ("key", Some(key))]),
        }
        Json::Object(
            members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }
}

impl fmt::Display for MapChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.map)?;
        match &self.change {
            Change::Added(Some(key), value) => write!(f, ": + {key} = {value}"),
            Change::Added(None, value) | Change::Record(None, value) => write!(f, ": + {value}"),
            Change::Removed(Some(key), value) => write!(f, ": - {key} = {value}"),
            Change::Removed(None, value) => write!(f, ": - {value}"),
            Change::Changed { key, old, new } => write!(f, "[{key}]: {old} -> {new}"),
            Change::Variable { name, old, new } => write!(f, ".{name}: {old} -> {new}"),
            Change::Record(Some(cpu), data) => write!(f, "[cpu {cpu}]: + {data}"),
            Change::NotCompared(key) => write!(f, ": entries behind {key} are not compared"),
        }
    }
}
