//! Maps (§4.3).

use bpf2sys_simulator::Rule;

use super::{row, says};
use crate::strict::Base::{Driver, EveryMap};
use crate::strict::Row;
use crate::strict::patching::{long_name, redirect, string, target};

pub(super) const ROWS: &[Row] = &[
    row(
        "4.3",
        "pinning is 0 or 1",
        "pinning 2",
        Driver,
        says(Rule::MapPinning, "pinning is 2"),
        |p| {
            p.put(p.map(1, 60), &[2]);
        },
    ),
    row(
        "4.3",
        "the name of a pinned map makes a path",
        "a colon in it",
        EveryMap,
        says(Rule::MapPinning, "the name does not make a pin path"),
        |p| {
            p.put(target(p, p.map(17, 72)), b":");
        },
    ),
    row(
        "4.3",
        "a map of maps has a template",
        "inner id that no map has",
        EveryMap,
        says(Rule::InnerTemplate, "map outer has no inner template"),
        |p| {
            p.put(p.map(14, 68), &[99]);
        },
    ),
    row(
        "4.3",
        "a map of maps has a template",
        "index of the inner map past the maps",
        EveryMap,
        says(Rule::InnerTemplate, "has no inner template"),
        |p| {
            p.put(p.map(15, 56), &[18]);
        },
    ),
    row(
        "4.3",
        "a map of maps has a template",
        "itself named as template",
        EveryMap,
        says(Rule::InnerTemplate, "map outer_hash has no inner template"),
        |p| {
            p.put(p.map(15, 56), &[15]);
        },
    ),
    row(
        "4.3",
        "map types are below 17",
        "type 17",
        Driver,
        says(Rule::MapDefinition, "17"),
        |p| {
            p.put(p.map(1, 40), &[17]);
        },
    ),
    row(
        "4.3",
        "custom map types need a provider",
        "type 16 without one",
        Driver,
        says(Rule::MapProvider, "no provider of map type 16 is attached"),
        |p| {
            p.put(p.map(1, 40), &[16]);
        },
    ),
    row(
        "4.3",
        "max_entries is not 0",
        "0",
        Driver,
        says(Rule::MapDefinition, "max_entries is 0"),
        |p| {
            p.put(p.map(1, 52), &[0; 4]);
        },
    ),
    row(
        "4.3",
        "key_size is not 0",
        "0",
        Driver,
        says(Rule::MapDefinition, "key size is 0"),
        |p| {
            p.put(p.map(2, 44), &[0; 4]);
        },
    ),
    row(
        "4.3",
        "value_size is not 0",
        "0",
        Driver,
        says(Rule::MapDefinition, "value size is 0"),
        |p| {
            p.put(p.map(2, 48), &[0; 4]);
        },
    ),
    row(
        "4.3",
        "program arrays have value_size 4",
        "8",
        Driver,
        says(Rule::MapDefinition, "value size is 8, objects need 4"),
        |p| {
            p.put(p.map(0, 48), &[8]);
        },
    ),
    row(
        "4.3",
        "names of maps have less than 64 bytes",
        "64",
        Driver,
        says(Rule::NameLength, "the name of map 2 has more than 63 bytes"),
        |p| {
            let name = string(p, &long_name(64));
            redirect(p, p.map(2, 72), name);
        },
    ),
];
