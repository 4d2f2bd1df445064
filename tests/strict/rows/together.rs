//! The ten rules that break modules most easily (§0).

use bpf2sys_simulator::Rule;

use super::{row, says};
use crate::strict::Base::{Driver, Functions, Run};
use crate::strict::Row;
use crate::strict::patching::{
    CODE, INITIAL_VALUES, add_section, as_rva, give, move_to_end, redirect, state_hash_of_functions, state_version,
    table, target,
};

pub(super) const ROWS: &[Row] = &[
    row(
        "0.1",
        "programs are sorted by name, bytewise",
        "names of two programs exchanged",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees programs"),
        |p| {
            let (a, b) = (p.program(0, 56), p.program(1, 56));
            let (first, second) = (p.u64(a), p.u64(b));
            redirect(p, a, second);
            redirect(p, b, first);
        },
    ),
    row(
        "0.2",
        "VirtualSize of maps is the table's size",
        "8 bytes more",
        Driver,
        says(Rule::UserModeMapTable, "no multiple of 80"),
        |p| {
            p.put(p.header("maps") + 8, &408u32.to_le_bytes());
        },
    ),
    row(
        "0.2",
        "VirtualSize of programs is the table's size",
        "16 bytes more",
        Driver,
        says(Rule::UserModeProgramTable, "no multiple of 160"),
        |p| {
            p.put(p.header("programs") + 8, &656u32.to_le_bytes());
        },
    ),
    row(
        "0.3",
        ".rdata precedes maps in the file",
        ".rdata moved to the end of the file",
        Driver,
        says(
            Rule::UserModeString,
            "is in .rdata; only .rdata, if it precedes, and maps",
        ),
        |p| move_to_end(p, ".rdata"),
    ),
    row(
        "0.4",
        "GUIDs are in a section called exactly .data",
        ".data called .dat",
        Driver,
        says(Rule::UserModeGuid, "program type of program 0 is not in .data"),
        |p| {
            p.put(p.header(".data"), b".dat\0\0\0\0");
        },
    ),
    row(
        "0.4",
        "program type and attach type are given",
        "attach type NULL",
        Driver,
        says(Rule::UserModeGuid, "attach type of program 2"),
        |p| p.pointer_away(p.program(2, 112)),
    ),
    row(
        "0.5",
        "each program has a section of code with its name",
        "code section renamed",
        Driver,
        says(Rule::UserModeCodeSection, "has no code section called xdp"),
        |p| {
            p.put(p.header("xdp"), b"pdx\0");
        },
    ),
    row(
        "0.5",
        "and exactly one",
        "a second code section of that name",
        Driver,
        says(Rule::UserModeCodeSection, "two code sections are called xdp"),
        |p| {
            add_section(p, *b"xdp\0\0\0\0\0", CODE, &[0xC3]);
        },
    ),
    row(
        "0.6",
        "pointers are addresses",
        "name of a program as RVA",
        Driver,
        says(Rule::UserModeString, "name of program 0 is in outside every section"),
        |p| as_rva(p, p.program(0, 56)),
    ),
    row(
        "0.6",
        "pointers have base relocations",
        "relocation of a program's helpers taken away",
        Driver,
        says(Rule::WildPointer, "the helpers of program 0"),
        |p| {
            let (at, old) = (p.program(0, 80), p.u64(p.program(0, 80)));
            p.pointer_away(at);
            redirect(p, at, old);
        },
    ),
    row(
        "0.7",
        "all six metadata functions are there",
        "table 48 bytes long",
        Driver,
        says(
            Rule::MetadataFunction,
            "global_variable_sections is NULL or past the table's size of 48",
        ),
        |p| {
            p.put(p.metadata(), &[48]);
        },
    ),
    row(
        "0.7",
        "an empty list is (NULL, 0)",
        "no initial values, but a pointer",
        Driver,
        says(
            Rule::ArrayPointer,
            "the table of initial values: the count is 0, the pointer not NULL",
        ),
        |p| {
            let list = table(p, "hash");
            give(p, INITIAL_VALUES, Some(list), 0);
        },
    ),
    row(
        "0.8",
        "code reads map_data with the stride of the stated version",
        "version 1.3.0 on code of 1.4.0",
        Run,
        says(Rule::HelperArgument, ""),
        |p| state_version(p, 1, 3),
    ),
    row(
        "0.9",
        "helper ids of a program are unique",
        "an id twice",
        Driver,
        says(Rule::DuplicateHelper, "program dispatch lists helper 1 twice"),
        |p| {
            p.put(p.helper(0, 1, 24), &[1]);
        },
    ),
    row(
        "0.9",
        "functions of other modules are sorted if a hash is given",
        "two of them exchanged after hashing",
        Functions,
        says(Rule::ProgramInfoHash, "the runtime computes"),
        |p| {
            state_hash_of_functions(p);
            let list = target(p, p.program(0, 144));
            let (first, third) = (
                p.bytes[list..list + 48].to_vec(),
                p.bytes[list + 96..list + 144].to_vec(),
            );
            p.put(list, &third).put(list + 96, &first);
        },
    ),
];
