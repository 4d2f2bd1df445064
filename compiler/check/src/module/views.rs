//! What user mode and the runtime must see alike, because they count from each other's tables (native module contract §5.4).

use super::{Module, of, read_text};
use crate::rule::{Group, Rule, Scope, Verdict, Wrong};
use crate::subject::Subject;

const SOURCE: &str = "native module contract §5.4";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::UserMode, Scope::Module, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.5.4.programs-sorted",
        [
            "programs are sorted by name, byte by byte",
            "user mode sorts its list, and pairs it with the runtime's by position",
        ],
        |s| {
            names(s, |names| {
                let pairs = names.windows(2).filter(|pair| pair[0] > pair[1]);
                pairs
                    .map(|pair| format!("{} precedes {}", shown(&pair[0]), shown(&pair[1])))
                    .collect()
            })
        },
    ),
    rule(
        "contract.5.4.program-names",
        [
            "no two programs have the same name",
            "which of them is which is left to the order in which user mode sorts equals",
        ],
        |s| {
            names(s, |names| {
                let mut sorted = names.to_vec();
                sorted.sort();
                let pairs = sorted.windows(2).filter(|pair| pair[0] == pair[1]);
                pairs.map(|pair| shown(&pair[0])).collect()
            })
        },
    ),
    rule(
        "contract.5.4.program-count",
        [
            "user mode and the runtime have as many programs",
            "user mode refuses to load the module",
        ],
        |s| {
            of(s, |m| {
                let table = m.user_programs.as_ref();
                let broken = table.is_some_and(|table| table.entries.is_empty());
                count(
                    m,
                    table.map_or(0, |table| table.entries.len()),
                    broken,
                    m.known().map(|k| k.programs.count),
                )
            })
        },
    ),
    rule(
        "contract.5.4.map-count",
        [
            "user mode and the runtime have as many maps",
            "user mode refuses to load the module",
        ],
        |s| {
            of(s, |m| {
                let table = m.user_maps.as_ref();
                let broken = table.is_some_and(|table| table.entries.is_empty());
                count(
                    m,
                    table.map_or(0, |table| table.entries.len()),
                    broken,
                    m.known().map(|k| k.maps.count),
                )
            })
        },
    ),
    rule(
        "contract.5.4.same-programs",
        [
            "they have the same programs in the same order",
            "handles are paired by position: another program is attached than the one that was named",
        ],
        |s| {
            of(s, |m| {
                let Some(table) = m.user_programs.as_ref().filter(|_| m.known().is_some()) else {
                    return Verdict::none("one of the two tables is not known");
                };
                let ours = table
                    .entries
                    .iter()
                    .map(|entry| read_text(s, entry.program_name.get()).shown());
                let theirs = m.programs.iter().map(|program| program.name.shown());
                same(ours.collect(), theirs.collect())
            })
        },
    ),
    rule(
        "contract.5.4.same-maps",
        [
            "they have the same maps in the same order",
            "handles are paired by position: another map is opened than the one that was named",
        ],
        |s| {
            of(s, |m| {
                let Some(table) = m.user_maps.as_ref().filter(|_| m.known().is_some()) else {
                    return Verdict::none("one of the two tables is not known");
                };
                let ours = table.entries.iter().map(|entry| read_text(s, entry.name.get()).shown());
                let theirs = m.maps.iter().map(|map| map.name.shown());
                same(ours.collect(), theirs.collect())
            })
        },
    ),
];

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Judges the names of the programs that user mode reads, in table order.
fn names(s: &Subject<'_>, wrong: impl Fn(&[Vec<u8>]) -> Wrong) -> Verdict {
    of(s, |m| {
        let entries = m.user_programs.iter().flat_map(|table| &table.entries);
        let names = entries.filter_map(|entry| read_text(s, entry.program_name.get()).bytes().map(<[u8]>::to_vec));
        let names: Vec<Vec<u8>> = names.collect();
        if names.is_empty() {
            return Verdict::none("user mode reads no program");
        }
        Verdict::of(wrong(&names), format!("{} programs", names.len()))
    })
}

fn count(m: &Module, ours: usize, broken: bool, theirs: Option<u64>) -> Verdict {
    let Some(theirs) = theirs else {
        return Verdict::none("what the module's functions return is not known");
    };
    if broken || !m.odd_arrays.is_empty() {
        return Verdict::none("one of the two tables can't be read");
    }
    Verdict::when(ours as u64 == theirs, format!("user mode {ours}, the runtime {theirs}"))
}

/// Compares as many as both have; how many these are is a rule of its own.
fn same(ours: Vec<String>, theirs: Vec<String>) -> Verdict {
    if ours.is_empty() || theirs.is_empty() {
        return Verdict::none("there are none");
    }
    let count = ours.len().min(theirs.len());
    let pairs = ours.into_iter().zip(theirs).enumerate().filter(|(_, (a, b))| a != b);
    let wrong = pairs.map(|(index, (a, b))| format!("number {index} is {a} and {b}"));
    Verdict::of(wrong.collect(), format!("{count} compared"))
}
