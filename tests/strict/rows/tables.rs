//! The tables as user mode finds them (§5.2).

use bpf2sys_simulator::Rule;

use super::{row, says};
use crate::strict::Base::Driver;
use crate::strict::Row;
use crate::strict::patching::{GLOBAL_SECTIONS, INITIAL_VALUES, MAPS, give_all, redirect, shift_table, string, table};

pub(super) const ROWS: &[Row] = &[
    row(
        "5.2",
        "the map table is found in steps of 8",
        "4 bytes before it",
        Driver,
        says(Rule::UserModeMapTable, "no map entry is found"),
        |p| shift_table(p, *b"maps\0\0\0\0", &[1; 4]),
    ),
    row(
        "5.2",
        "the byte before the map table is zero",
        "8 bytes before it that do not end in zero",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees maps"),
        |p| shift_table(p, *b"maps\0\0\0\0", &[1; 8]),
    ),
    row(
        "5.2",
        "the version follows 16 zero bytes",
        "marker of the first map not zero",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees maps"),
        |p| {
            p.put(p.map(0, 0), &[1]);
        },
    ),
    row(
        "5.2",
        "user mode stops at a marker that is not zero",
        "marker of the third map not zero",
        Driver,
        says(Rule::UserModeMapTable, "user mode stops at map 2"),
        |p| {
            p.put(p.map(2, 8), &[1]);
        },
    ),
    row(
        "5.2",
        "zero padding in VirtualSize is taken for maps",
        "80 zero bytes more",
        Driver,
        says(Rule::UserModeString, "the name of map 5 is NULL"),
        |p| {
            p.put(p.header("maps") + 8, &480u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "entries of maps have 80 bytes up to VirtualSize",
        "8 bytes less",
        Driver,
        says(Rule::UserModeMapTable, "no multiple of 80"),
        |p| {
            p.put(p.header("maps") + 8, &392u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "the search for maps ends 24 bytes before VirtualSize",
        "24 bytes in all",
        Driver,
        says(Rule::UserModeMapTable, "no map entry is found"),
        |p| {
            p.put(p.header("maps") + 8, &24u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "the program table is found in steps of 16",
        "8 bytes before it",
        Driver,
        says(Rule::UserModeProgramTable, ""),
        |p| shift_table(p, *b"programs", &[1; 8]),
    ),
    row(
        "5.2",
        "the byte before the program table is zero",
        "16 bytes before it that do not end in zero",
        Driver,
        says(Rule::UserModeProgramTable, ""),
        |p| shift_table(p, *b"programs", &[1; 16]),
    ),
    row(
        "5.2",
        "the first program starts with 8 zero bytes",
        "marker of the first program not zero",
        Driver,
        says(Rule::UserModeProgramTable, ""),
        |p| {
            p.put(p.program(0, 0), &[1]);
        },
    ),
    row(
        "5.2",
        "the first program has a header that is accepted",
        "version 2",
        Driver,
        says(Rule::UserModeProgramTable, "the first entry has version 2"),
        |p| {
            p.put(p.program(0, 8), &[2]);
        },
    ),
    row(
        "5.2",
        "the first program has a header that is accepted",
        "size 152",
        Driver,
        says(Rule::UserModeProgramTable, "size 152"),
        |p| {
            p.put(p.program(0, 16), &[152]);
        },
    ),
    row(
        "5.2",
        "total_size is at least 144",
        "143",
        Driver,
        says(Rule::UserModeProgramTable, "total size 143"),
        |p| {
            p.put(p.program(0, 16), &[144]);
            p.put(p.program(0, 24), &[143]);
        },
    ),
    row(
        "5.2",
        "the number of programs is VirtualSize by total_size",
        "total_size 144 of entries of 160",
        Driver,
        says(Rule::UserModeProgramTable, "no multiple of 144"),
        |p| {
            p.put(p.program(0, 16), &[144]);
            p.put(p.program(0, 24), &[144]);
        },
    ),
    row(
        "5.2",
        "a section programs without programs is an error",
        "8 bytes",
        Driver,
        says(Rule::UserModeProgramTable, "only 8 bytes follow its start"),
        |p| {
            p.put(p.header("programs") + 8, &8u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "a section programs without programs is an error",
        "7 bytes",
        Driver,
        says(Rule::UserModeProgramTable, "no program entry is found"),
        |p| {
            p.put(p.header("programs") + 8, &7u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "fewer than 32 bytes of the first program are an error",
        "24",
        Driver,
        says(Rule::UserModeProgramTable, "only 24 bytes follow its start"),
        |p| {
            p.put(p.header("programs") + 8, &24u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "raw data of maps reaches VirtualSize",
        "no raw data",
        Driver,
        says(Rule::UserModeMapTable, "maps has 0x0 raw bytes"),
        |p| {
            p.put(p.header("maps") + 16, &[0; 4]);
        },
    ),
    row(
        "5.2",
        "raw data of programs reaches VirtualSize",
        "one page less",
        Driver,
        says(Rule::UserModeProgramTable, "programs has 0x200 raw bytes"),
        |p| {
            p.put(p.header("programs") + 16, &0x200u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "a module without maps has no section maps",
        "the section, and no maps",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees maps"),
        |p| {
            // Nothing uses the maps that are not shown any more.
            for program in 0..4 {
                p.pointer_away(p.program(program, 64));
                p.put(p.program(program, 72), &[0]);
            }
            give_all(
                p,
                &[(MAPS, None, 0), (INITIAL_VALUES, None, 0), (GLOBAL_SECTIONS, None, 0)],
            );
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "name of a map in .data",
        Driver,
        says(Rule::UserModeString, "the name of map 1 is in .data"),
        |p| {
            let data = table(p, ".data");
            redirect(p, p.map(1, 72), data);
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "name of a map in another section of constants",
        Driver,
        says(Rule::UserModeString, "the name of map 1 is in hash"),
        |p| {
            let other = table(p, "hash");
            redirect(p, p.map(1, 72), other);
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "name of a map in programs",
        Driver,
        says(Rule::UserModeString, "the name of map 1 is in programs"),
        |p| {
            let other = table(p, "programs");
            redirect(p, p.map(1, 72), other);
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "name of a program in .data",
        Driver,
        says(Rule::UserModeString, "the name of program 1 is in .data"),
        |p| {
            let data = table(p, ".data");
            redirect(p, p.program(1, 56), data);
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "section name of a program in maps",
        Driver,
        says(Rule::UserModeString, "the section name of program 1 is in maps"),
        |p| {
            let other = table(p, "maps");
            redirect(p, p.program(1, 48), other);
        },
    ),
    row(
        "5.2",
        "strings are in .rdata or in the table's section",
        "code section name of a program in code",
        Driver,
        says(Rule::UserModeString, "the code section name of program 1 is in .text"),
        |p| {
            let other = table(p, ".text");
            redirect(p, p.program(1, 40), other);
        },
    ),
    row(
        "5.2",
        "strings end inside raw data",
        "name of a map up to the end of .rdata",
        Driver,
        says(Rule::UserModeString, "the name of map 1 does not end in raw data"),
        |p| {
            let name = string(p, b"endless");
            redirect(p, p.map(1, 72), name);
        },
    ),
    row(
        "5.2",
        "strings end inside raw data",
        "name of a program up to the end of .rdata",
        Driver,
        says(Rule::UserModeString, "the name of program 1 does not end in raw data"),
        |p| {
            let name = string(p, b"endless");
            redirect(p, p.program(1, 56), name);
        },
    ),
    row(
        "5.2",
        "without .rdata, strings are in the tables' sections",
        ".rdata called .rodata",
        Driver,
        says(Rule::UserModeString, "is in .rodata"),
        |p| {
            p.put(p.header(".rdata"), b".rodata\0");
        },
    ),
];
