//! Which runtimes take the module (native module contract §1.3).

use bpf2sys_simulator::module_tables::RuntimeLevel;

use super::Module;
use super::metadata::known;
use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::Subject;

const SOURCE: &str = "native module contract §1.3";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::ModuleTables, Scope::Module, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.1.3.program-size",
        [
            "runtimes of the version that is wanted know the form of the program entries",
            "runtimes before 1.5 refuse entries of 154 bytes",
        ],
        |s| {
            known(s, |m| {
                let sizes = m.programs.iter().map(|program| program.entry.header.size.get());
                let Some(size) = sizes.max() else {
                    return Verdict::none("there are no programs");
                };
                let (wanted, text) = wanted(s, m);
                Verdict::when(
                    size < 154 || wanted >= RuntimeLevel::V1_6,
                    format!("{size} bytes; {text}"),
                )
            })
        },
    ),
    rule(
        "contract.1.3.map-data",
        [
            "runtimes of the version that is wanted lay map data out as the stated version says",
            "from 1.4.0 on code finds maps 40 bytes apart; earlier runtimes put them 32 bytes apart, and do not refuse",
        ],
        |s| {
            known(s, |m| {
                let long = stated(m) >= [1, 4, 0];
                let (wanted, text) = wanted(s, m);
                let distance = if long { 40 } else { 32 };
                Verdict::when(
                    !long || wanted >= RuntimeLevel::V1_4,
                    format!("{distance} bytes apart; {text}"),
                )
            })
        },
    ),
];

/// The stated version; zero if it is not known.
fn stated(m: &Module) -> [u32; 3] {
    let version = m.known().map(|known| known.version);
    version.map_or([0; 3], |v| [v.major.get(), v.minor.get(), v.revision.get()])
}

/// The oldest runtime that is to take the module: the one that was asked for, or the one that the stated version means.
fn wanted(s: &Subject<'_>, m: &Module) -> (RuntimeLevel, String) {
    if let Some(level) = s.options.runtime {
        return (level, format!("for runtime {}", level.name()));
    }
    let version = stated(m);
    let level = if version >= [1, 5, 0] {
        RuntimeLevel::V1_6
    } else if version >= [1, 4, 0] {
        RuntimeLevel::V1_4
    } else {
        RuntimeLevel::V0_21
    };
    let [major, minor, revision] = version;
    (level, format!("it states {major}.{minor}.{revision}"))
}
