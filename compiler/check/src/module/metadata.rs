//! The metadata table and what its functions return (native module contract §4.1).

use bpf2sys_simulator::getters::GetterError;

use super::{Module, of};
use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::Subject;

const SOURCE: &str = "native module contract §4.1";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::ModuleTables, Scope::Module, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.4.1.metadata-table",
        [
            "there is a table of the module's six functions",
            "the runtime refuses a module without, and calls three of the six without looking",
        ],
        |s| {
            of(s, |m| match m.metadata {
                Some(_) => Verdict::Pass("six functions in code".into()),
                None if s.relocations.is_err() => Verdict::none("the relocations can't be read"),
                None => {
                    Verdict::Fail("no place with a size before six relocated pointers to code, or more than one".into())
                }
            })
        },
    ),
    rule(
        "contract.4.1.metadata-size",
        [
            "the table states a size of 56 bytes or more",
            "the runtime copies no more than that, and calls what it did not copy: the machine stops",
        ],
        |s| {
            of(s, |m| match m.metadata {
                Some(table) => Verdict::when(table.size.get() >= 56, table.size.to_string()),
                None => Verdict::none("there is no such table"),
            })
        },
    ),
    rule(
        "contract.4.1.functions-return",
        [
            "its functions return their results",
            "the runtime calls them each time it wants to know",
        ],
        functions_return,
    ),
    rule(
        "contract.4.1.version",
        [
            "the stated version is 0.21.0 or later",
            "the runtime refuses modules of earlier compilers",
        ],
        |s| {
            known(s, |m| {
                let Some(known) = m.known() else {
                    return Verdict::none(UNKNOWN);
                };
                let version = [known.version.major, known.version.minor, known.version.revision]
                    .map(zerocopy::little_endian::U32::get);
                let [major, minor, revision] = version;
                Verdict::when(version >= [0, 21, 0], format!("{major}.{minor}.{revision}"))
            })
        },
    ),
    rule(
        "contract.4.1.arrays",
        [
            "an array is NULL exactly when it has no elements",
            "the runtime refuses the module",
        ],
        |s| of(s, |m| Verdict::of(m.odd_arrays.iter().cloned().collect(), "all arrays")),
    ),
    rule(
        "contract.1.1.readable",
        [
            "everything that the tables lead to is in the file",
            "the runtime reads what is there, or stops the machine",
        ],
        |s| of(s, |m| Verdict::of(m.unreadable.iter().cloned().collect(), "everything")),
    ),
    rule(
        "contract.0.6.relocated",
        [
            "every pointer of the tables has a base relocation",
            "it leads to where the image would be at its preferred base, which is somewhere else",
        ],
        |s| {
            if s.relocations.is_err() {
                return Verdict::none("the relocations can't be read");
            }
            of(s, |m| {
                let fixed = m
                    .pointers
                    .iter()
                    .filter(|(at, _)| !s.image.rva_of(*at).is_some_and(|rva| s.is_relocated(rva)));
                Verdict::of(
                    fixed.map(|(_, what)| what.clone()).collect(),
                    format!("{} pointers", m.pointers.len()),
                )
            })
        },
    ),
];

/// Why rules on what functions return do not apply.
pub(super) const UNKNOWN: &str = "what the module's functions return is not known";

/// Judges a module whose functions' results are known.
pub(super) fn known(s: &Subject<'_>, judge: impl Fn(&Module) -> Verdict) -> Verdict {
    of(s, |m| match m.known() {
        Some(_) => judge(m),
        None => Verdict::none(UNKNOWN),
    })
}

fn functions_return(s: &Subject<'_>) -> Verdict {
    of(s, |m| match &m.returned {
        None => Verdict::none("there is no table of functions"),
        Some(Ok(returned)) => {
            let (programs, maps) = (returned.programs.count, returned.maps.count);
            Verdict::Pass(format!("{programs} programs, {maps} maps"))
        }
        // They may still return them, to whoever runs them.
        Some(Err(error @ (GetterError::NotFollowed { .. } | GetterError::TooLong(_)))) => {
            Verdict::none(error.to_string())
        }
        Some(Err(error)) => Verdict::Fail(error.to_string()),
    })
}
