//! The rules, in the order of the contract.

mod attaching;
mod dll;
mod file;
mod maps;
mod programs;
mod sections;
mod tables;
mod together;
mod values;

use bpf2sys_simulator::Rule;

use super::{Base, Row};
use crate::simulator_trials::shared::patch::Break;

/// All of them.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    let parts = [
        together::ROWS,
        dll::ROWS,
        attaching::ROWS,
        maps::ROWS,
        programs::ROWS,
        values::ROWS,
        file::ROWS,
        tables::ROWS,
        sections::ROWS,
        dll::READING,
    ];
    parts.into_iter().flatten()
}

const fn row(
    section: &'static str,
    demand: &'static str,
    broken: &'static str,
    base: Base,
    (rule, message): (Rule, &'static str),
    break_it: Break,
) -> Row {
    Row {
        section,
        demand,
        broken,
        base,
        rule,
        message,
        break_it,
    }
}

/// What the simulator must say.
const fn says(rule: Rule, message: &'static str) -> (Rule, &'static str) {
    (rule, message)
}

/// Rules that no broken image can show: section, rule, reason.
pub const UNSHOWN: &[(&str, &str, &str)] = &[
    (
        "0.10",
        "the file is authorised, and loaded within about ten seconds",
        "it is about when and by whom a file is loaded, not about the file; `failures.md` shows a file that is not authorised",
    ),
    (
        "4.1",
        "hash of the file, module id that is known already",
        "the same image is good or bad; `failures.md` shows them",
    ),
    (
        "4.1",
        "maps have names",
        "user mode, which reads first, refuses the same image: see §5.1, name of a map zero",
    ),
    (
        "4.2",
        "order of creation, a second load of the same module",
        "it is what the runtime does; `failures.md` shows the second load, and what is undone in which order",
    ),
    ("4.3", "pin paths have at most 255 bytes", "names have at most 63"),
    (
        "4.3",
        "a map that is pinned already has the same definition",
        "it is about what is in the system; `failures.md` shows it",
    ),
    (
        "4.7, 4.8",
        "providers are attached, and their prototypes are those of the hash",
        "it is about the providers; `failures.md` shows them missing and changed",
    ),
    ("5.1", "the file's name ends in .sys", "it is not in the file"),
    (
        "5.3",
        "the function of a program is in its code section",
        "nobody looks: the contract says so",
    ),
];
