//! Programs and what they refer to (§4.4 to §4.8).

use bpf2sys_simulator::Rule;

use super::{row, says};
use crate::strict::Base::{Driver, Functions, Run};
use crate::strict::Row;
use crate::strict::patching::{global, long_name, redirect, string, table, target};

pub(super) const ROWS: &[Row] = &[
    row(
        "4.4",
        "names of programs have 1 to 63 bytes",
        "an empty one",
        Driver,
        says(Rule::NameLength, "the name of program 0 has 0 bytes"),
        |p| {
            let name = string(p, &[0]);
            redirect(p, p.program(0, 56), name);
        },
    ),
    row(
        "4.4",
        "names of programs have 1 to 63 bytes",
        "64",
        Driver,
        says(Rule::NameLength, "the name of program 3 has more than 63 bytes"),
        |p| {
            let name = string(p, &long_name(64));
            redirect(p, p.program(3, 56), name);
        },
    ),
    row(
        "4.4",
        "names of sections have 1 to 63 bytes",
        "an empty one",
        Driver,
        says(Rule::NameLength, "the section name of program dispatch has 0 bytes"),
        |p| {
            let name = string(p, &[0]);
            redirect(p, p.program(0, 48), name);
        },
    ),
    row(
        "4.4",
        "names of sections have 1 to 63 bytes",
        "64",
        Driver,
        says(
            Rule::NameLength,
            "the section name of program dispatch has more than 63 bytes",
        ),
        |p| {
            let name = string(p, &long_name(64));
            redirect(p, p.program(0, 48), name);
        },
    ),
    row(
        "4.4",
        "the name of the hash algorithm has less than 64 bytes",
        "64",
        Driver,
        says(
            Rule::NameLength,
            "the hash type of program dispatch has more than 63 bytes",
        ),
        |p| {
            let name = string(p, &long_name(64));
            redirect(p, p.program(0, 136), name);
        },
    ),
    row(
        "4.4",
        "the program type is not the zero GUID",
        "zeros",
        Driver,
        says(Rule::ProgramType, "is the zero GUID"),
        |p| {
            p.put(target(p, p.program(0, 104)), &[0; 16]);
        },
    ),
    row(
        "4.4",
        "an extension of the program type is attached",
        "a type that nobody has",
        Driver,
        says(Rule::ProgramType, "no extension offers"),
        |p| {
            p.put(target(p, p.program(0, 104)), &[0x5A; 16]);
        },
    ),
    row(
        "4.4",
        "map indices are below the number of maps",
        "index 5 of 5",
        Driver,
        says(Rule::MapIndex, "program dispatch refers to map 5 of 5"),
        |p| {
            p.put(target(p, p.program(0, 64)), &[5]);
        },
    ),
    row(
        "4.4",
        "map indices are a list of as many numbers",
        "list NULL",
        Driver,
        says(Rule::WildPointer, "the map indices of program dispatch"),
        |p| p.pointer_away(p.program(0, 64)),
    ),
    row(
        "4.4",
        "every map that is used is referred to",
        "the program array left out",
        Run,
        says(Rule::HelperArgument, "NULL"),
        |p| {
            p.put(target(p, p.program(0, 64)), &[3]);
            p.put(p.program(0, 72), &[1]);
        },
    ),
    row(
        "4.4",
        "the function is code",
        "function in .rdata",
        Driver,
        says(
            Rule::ProgramFunction,
            "the function of program dispatch is section .rdata",
        ),
        |p| {
            let data = table(p, ".rdata");
            redirect(p, p.program(0, 32), data);
        },
    ),
    // ---- §4.5
    row(
        "4.5",
        "a global section has the name of a map",
        "that of a program",
        Driver,
        says(
            Rule::GlobalSection,
            "global section dispatch: there is no map of that name",
        ),
        |p| {
            let name = p.u64(p.program(0, 56));
            redirect(p, global(p, 24), name);
        },
    ),
    row(
        "4.5",
        "that map is an ARRAY",
        "a hash",
        Driver,
        says(Rule::GlobalSection, "its map has type 1, not ARRAY"),
        |p| {
            p.put(p.map(4, 40), &[1]);
        },
    ),
    row(
        "4.5",
        "its data fits the map: the runtime does not look",
        "9 bytes into 8",
        Driver,
        says(Rule::GlobalSectionSize, "9 bytes of global section"),
        |p| {
            p.put(global(p, 32), &[9]);
        },
    ),
    row(
        "4.5",
        "its data is there",
        "outside the image",
        Driver,
        says(Rule::WildPointer, "8 bytes of global section"),
        |p| {
            redirect(p, global(p, 40), 0x1_5000_0000);
        },
    ),
    // ---- §4.6
    row(
        "4.6",
        "helper ids are known",
        "id 99",
        Driver,
        says(Rule::HelperId, "program dispatch uses helper 99"),
        |p| {
            p.put(p.helper(0, 1, 24), &[99]);
        },
    ),
    row(
        "4.6",
        "helpers above 65535 are those of the program type",
        "one that the type lacks",
        Driver,
        says(
            Rule::HelperId,
            "uses helper 65999, which program type xdp does not have",
        ),
        |p| {
            p.put(p.helper(0, 1, 24), &65999u32.to_le_bytes());
        },
    ),
    row(
        "4.6",
        "a duplicate id fails even without a hash",
        "an id twice, no hash",
        Driver,
        says(Rule::DuplicateHelper, "lists helper 1 twice"),
        |p| {
            p.put(p.program(1, 128), &[0]);
            p.put(p.helper(1, 1, 24), &[1]);
        },
    ),
    // ---- §4.7
    row(
        "4.7",
        "a function is found in its provider by exact name",
        "first letter changed",
        Functions,
        says(Rule::BtfFunction, "has no function Other_function"),
        |p| {
            p.put(p.find(".rdata", b"other_function\0"), b"O");
        },
    ),
    row(
        "4.7",
        "every module that is named has a provider",
        "a module that nobody has",
        Functions,
        says(Rule::BtfFunction, "5a5a5a5a"),
        |p| {
            p.put(target(p, p.program(0, 144)) + 32, &[0x5A; 16]);
        },
    ),
    // ---- §4.8
    row(
        "4.8",
        "the hash is the one that the runtime computes",
        "a bit of it changed",
        Driver,
        says(Rule::ProgramInfoHash, "the runtime computes"),
        |p| {
            let at = target(p, p.program(0, 120));
            p.bytes[at] ^= 1;
        },
    ),
    row(
        "4.8",
        "the hash is over the ids of the table",
        "another id, its hash kept",
        Driver,
        says(Rule::ProgramInfoHash, "the runtime computes"),
        |p| {
            p.put(p.helper(0, 1, 24), &[6]);
        },
    ),
    row(
        "4.8",
        "its length is that of the algorithm",
        "31 bytes",
        Driver,
        says(Rule::ProgramInfoHash, "it has 31 bytes"),
        |p| {
            p.put(p.program(0, 128), &[31]);
        },
    ),
    row(
        "4.8",
        "the algorithm is the stated one, by its CNG name",
        "SHA512 of a SHA256",
        Driver,
        says(Rule::ProgramInfoHash, "it has 32 bytes, SHA-512 has 64"),
        |p| {
            let name = string(p, b"SHA512\0");
            let at = p.program(0, 136);
            if p.u64(at) == 0 {
                p.pointer(at, name);
            } else {
                redirect(p, at, name);
            }
        },
    ),
    row(
        "4.8",
        "the hash is there",
        "NULL with 32 bytes",
        Driver,
        says(Rule::WildPointer, "the hash of program dispatch is NULL"),
        |p| p.pointer_away(p.program(0, 120)),
    ),
];
