//! Initial values of maps (§4.9).

use bpf2sys_simulator::Rule;

use super::{row, says};
use crate::strict::Base::{Driver, EveryMap};
use crate::strict::Row;
use crate::strict::patching::{initial, redirect, target};

pub(super) const ROWS: &[Row] = &[
    row(
        "4.9",
        "initial values are of a map of the module",
        "of no map",
        Driver,
        says(Rule::InitialValue, "there is no map dispatch"),
        |p| {
            let name = p.u64(p.program(0, 56));
            redirect(p, initial(p, 24), name);
        },
    ),
    row(
        "4.9",
        "initial values of a program array are names of programs",
        "the name of a section",
        Driver,
        says(Rule::InitialValue, "map stages: there is no program xdp/stage"),
        |p| {
            let name = p.u64(p.program(1, 48));
            redirect(p, target(p, initial(p, 40)), name);
        },
    ),
    row(
        "4.9",
        "initial values of a map of maps are names of maps: the runtime does not look",
        "the name of a section",
        EveryMap,
        says(Rule::InitialMap, "map outer: there is no map"),
        |p| {
            let name = p.u64(p.program(0, 48));
            redirect(p, target(p, p.list(2) + 40) + 8, name);
        },
    ),
    row(
        "4.9",
        "other maps have no initial values",
        "values of an array",
        Driver,
        says(Rule::InitialValue, "which has no initial values"),
        |p| {
            let name = p.u64(p.map(3, 72));
            redirect(p, initial(p, 24), name);
        },
    ),
    row(
        "4.9",
        "keys have 4 bytes",
        "8",
        Driver,
        says(Rule::InitialValue, "keys of map stages have 8 bytes, not 4"),
        |p| {
            p.put(p.map(0, 44), &[8]);
        },
    ),
    row(
        "4.9",
        "values fit the map",
        "three values for one entry",
        Driver,
        says(Rule::InitialValue, "the runtime answers"),
        |p| {
            p.put(p.map(0, 52), &[1]);
        },
    ),
    row(
        "4.9",
        "lists of initial values are 48 bytes apart whatever their headers say",
        "total size 56",
        EveryMap,
        says(Rule::ElementHeader, ""),
        |p| {
            p.put(p.list(3) + 16, &[56]);
        },
    ),
    row(
        "4.9",
        "programs in a program array have one type",
        "one of another type that refers to it",
        EveryMap,
        says(Rule::ProgramArrayType, "belongs to another type"),
        |p| {
            p.put(p.program(1, 72), &[18]);
        },
    ),
];
