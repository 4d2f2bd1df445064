//! What the runtime checks when a driver attaches (§4.1).

use bpf2sys_simulator::Rule;

use super::{row, says};
use crate::strict::Base::{Driver, Functions};
use crate::strict::Row;
use crate::strict::patching::{
    GLOBAL_SECTIONS, INITIAL_VALUES, MAPS, PROGRAMS, VERSION, give, global, initial, redirect, state_version, table,
    target,
};

pub(super) const ROWS: &[Row] = &[
    row(
        "4.1",
        "a metadata table has programs",
        "programs NULL",
        Driver,
        says(Rule::MetadataTable, "programs is NULL"),
        |p| p.pointer_away(p.metadata() + PROGRAMS),
    ),
    row(
        "4.1",
        "a metadata table has maps",
        "maps NULL",
        Driver,
        says(Rule::MetadataTable, "maps is NULL"),
        |p| p.pointer_away(p.metadata() + MAPS),
    ),
    row(
        "4.1",
        "its size is at least 32",
        "size 31",
        Driver,
        says(Rule::MetadataTable, "its size is 31"),
        |p| {
            p.put(p.metadata(), &[31]);
        },
    ),
    row(
        "4.1",
        "version is called without a check",
        "version NULL",
        Driver,
        says(Rule::MetadataFunction, "version is NULL"),
        |p| p.pointer_away(p.metadata() + VERSION),
    ),
    row(
        "4.1",
        "map_initial_values is called without a check",
        "map_initial_values NULL",
        Driver,
        says(Rule::MetadataFunction, "map_initial_values is NULL"),
        |p| p.pointer_away(p.metadata() + INITIAL_VALUES),
    ),
    row(
        "4.1",
        "global_variable_sections is called without a check",
        "global_variable_sections NULL",
        Driver,
        says(Rule::MetadataFunction, "global_variable_sections is NULL"),
        |p| p.pointer_away(p.metadata() + GLOBAL_SECTIONS),
    ),
    row(
        "4.1",
        "metadata functions are code",
        "programs in .rdata",
        Driver,
        says(Rule::WildPointer, "the metadata function programs is section .rdata"),
        |p| {
            let data = table(p, ".rdata");
            redirect(p, p.metadata() + PROGRAMS, data);
        },
    ),
    row(
        "4.1",
        "the version is at least 0.21.0",
        "0.20.0",
        Driver,
        says(Rule::Version, "it states 0.20.0"),
        |p| state_version(p, 0, 20),
    ),
    row(
        "4.1",
        "programs: count > 0 exactly if the pointer is not NULL",
        "4 programs at NULL",
        Driver,
        says(
            Rule::ArrayPointer,
            "the program table: the count is 4, the pointer NULL",
        ),
        |p| give(p, PROGRAMS, None, 4),
    ),
    row(
        "4.1",
        "programs: count > 0 exactly if the pointer is not NULL",
        "no programs, but a pointer",
        Driver,
        says(Rule::ArrayPointer, "the program table: the count is 0"),
        |p| {
            let list = table(p, "programs");
            give(p, PROGRAMS, Some(list), 0);
        },
    ),
    row(
        "4.1",
        "maps: count > 0 exactly if the pointer is not NULL",
        "5 maps at NULL",
        Driver,
        says(Rule::ArrayPointer, "the map table: the count is 5, the pointer NULL"),
        |p| give(p, MAPS, None, 5),
    ),
    row(
        "4.1",
        "maps: count > 0 exactly if the pointer is not NULL",
        "no maps, but a pointer",
        Driver,
        says(Rule::ArrayPointer, "the map table: the count is 0"),
        |p| {
            let list = table(p, "maps");
            give(p, MAPS, Some(list), 0);
        },
    ),
    row(
        "4.1",
        "initial values: count > 0 exactly if the pointer is not NULL",
        "one list at NULL",
        Driver,
        says(
            Rule::ArrayPointer,
            "the table of initial values: the count is 1, the pointer NULL",
        ),
        |p| give(p, INITIAL_VALUES, None, 1),
    ),
    row(
        "4.1",
        "global sections: count > 0 exactly if the pointer is not NULL",
        "one section at NULL",
        Driver,
        says(
            Rule::ArrayPointer,
            "the table of global sections: the count is 1, the pointer NULL",
        ),
        |p| give(p, GLOBAL_SECTIONS, None, 1),
    ),
    row(
        "4.1",
        "global sections: count > 0 exactly if the pointer is not NULL",
        "no section, but a pointer",
        Driver,
        says(Rule::ArrayPointer, "the table of global sections: the count is 0"),
        |p| {
            let list = table(p, "hash");
            give(p, GLOBAL_SECTIONS, Some(list), 0);
        },
    ),
    row(
        "4.1",
        "helpers: count > 0 exactly if the pointer is not NULL",
        "no helpers, but a pointer",
        Driver,
        says(Rule::ArrayPointer, "the helpers of program 0: the count is 0"),
        |p| {
            p.put(p.program(0, 88), &[0]);
        },
    ),
    row(
        "4.1",
        "helpers: count > 0 exactly if the pointer is not NULL",
        "four helpers at NULL",
        Driver,
        says(
            Rule::ArrayPointer,
            "the helpers of program 0: the count is 4, the pointer NULL",
        ),
        |p| p.pointer_away(p.program(0, 80)),
    ),
    row(
        "4.1",
        "BTF functions: count > 0 exactly if the pointer is not NULL",
        "one function at NULL",
        Driver,
        says(Rule::ArrayPointer, "the BTF functions of program 0: the count is 1"),
        |p| {
            p.put(p.program(0, 152), &[1]);
        },
    ),
    row(
        "4.1",
        "BTF functions: count > 0 exactly if the pointer is not NULL",
        "no functions, but a pointer",
        Functions,
        says(Rule::ArrayPointer, "the BTF functions of program 0: the count is 0"),
        |p| {
            p.put(p.program(0, 152), &[0]);
        },
    ),
    row(
        "4.1",
        "each program has a header that is accepted",
        "version 2 of the second",
        Driver,
        says(Rule::ElementHeader, "program 1 has version 2 and size 154"),
        |p| {
            p.put(p.program(1, 8), &[2]);
        },
    ),
    row(
        "4.1",
        "each program has a header that is accepted",
        "size 160 of the second",
        Driver,
        says(Rule::ElementHeader, "program 1 has version 1 and size 160"),
        |p| {
            p.put(p.program(1, 16), &[160]);
        },
    ),
    row(
        "4.1",
        "each map has a header that is accepted",
        "version 0",
        Driver,
        says(Rule::ElementHeader, "map 2 has version 0"),
        |p| {
            p.put(p.map(2, 16), &[0]);
        },
    ),
    row(
        "4.1",
        "each map has a header that is accepted",
        "size 72",
        Driver,
        says(Rule::ElementHeader, "map 2 has version 1 and size 72"),
        |p| {
            p.put(p.map(2, 24), &[72]);
        },
    ),
    row(
        "4.1",
        "each helper has a header that is accepted",
        "version 2",
        Driver,
        says(Rule::ElementHeader, "helper 1 of program 0 has version 2"),
        |p| {
            p.put(p.helper(0, 1, 0), &[2]);
        },
    ),
    row(
        "4.1",
        "each helper has a header that is accepted",
        "size 32",
        Driver,
        says(Rule::ElementHeader, "helper 1 of program 0 has version 1 and size 32"),
        |p| {
            p.put(p.helper(0, 1, 8), &[32]);
        },
    ),
    row(
        "4.1",
        "each list of initial values has a header that is accepted",
        "size 40",
        Driver,
        says(Rule::ElementHeader, "initial values 0 has version 1 and size 40"),
        |p| {
            p.put(initial(p, 8), &[40]);
        },
    ),
    row(
        "4.1",
        "each global section has a header that is accepted",
        "version 0",
        Driver,
        says(Rule::ElementHeader, "global section 0 has version 0"),
        |p| {
            p.put(global(p, 0), &[0]);
        },
    ),
    row(
        "4.1",
        "each BTF function has a header that is accepted",
        "size 40",
        Functions,
        says(
            Rule::ElementHeader,
            "BTF function 1 of program 0 has version 1 and size 40",
        ),
        |p| {
            p.put(target(p, p.program(0, 144)) + 48 + 8, &[40]);
        },
    ),
    row(
        "4.1",
        "the total size of a BTF function is 48",
        "total size 56",
        Functions,
        says(Rule::ElementHeader, "has total size 56"),
        |p| {
            p.put(target(p, p.program(0, 144)) + 16, &[56]);
        },
    ),
    row(
        "4.1",
        "the stride is the first element's total size",
        "total size of the first map 88",
        Driver,
        says(Rule::ElementHeader, "map 1 has version"),
        |p| {
            p.put(p.map(0, 32), &[88]);
        },
    ),
    row(
        "4.1",
        "the stride is the first element's total size",
        "total size of the first helper 48",
        Driver,
        says(Rule::ElementHeader, "helper 1 of program 0 has version"),
        |p| {
            p.put(p.helper(0, 0, 16), &[48]);
        },
    ),
    row(
        "4.1",
        "helpers have names",
        "name NULL",
        Driver,
        says(Rule::ElementPointer, "the name of helper 1 of program 0 is NULL"),
        |p| p.pointer_away(p.helper(0, 1, 32)),
    ),
    row(
        "4.1",
        "initial values have a list",
        "list NULL",
        Driver,
        says(Rule::ElementPointer, "the list of initial values 0 is NULL"),
        |p| p.pointer_away(initial(p, 40)),
    ),
    row(
        "4.1",
        "global sections have data",
        "data NULL",
        Driver,
        says(Rule::ElementPointer, "the data of global section 0 is NULL"),
        |p| p.pointer_away(global(p, 40)),
    ),
    row(
        "4.1",
        "BTF functions have both name and module, or neither",
        "module of one zero",
        Functions,
        says(Rule::ElementPointer, "needs both a name and a module, or neither"),
        |p| {
            p.put(target(p, p.program(0, 144)) + 32, &[0; 16]);
        },
    ),
];
