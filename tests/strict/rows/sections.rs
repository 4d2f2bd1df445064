//! GUIDs and code sections, and what user mode and the runtime must see alike (§5.3, §5.4).

use bpf2sys_simulator::Rule;

use super::{row, says};
use crate::strict::Base::Driver;
use crate::strict::Row;
use crate::strict::patching::{GLOBAL_SECTIONS, MAPS, PROGRAMS, give, give_all, initial, redirect, table, target};

pub(super) const ROWS: &[Row] = &[
    row(
        "5.3",
        "GUIDs are in .data",
        "program type in .rdata",
        Driver,
        says(Rule::UserModeGuid, "the program type of program 1 is not in .data"),
        |p| {
            let other = table(p, ".rdata");
            redirect(p, p.program(1, 104), other);
        },
    ),
    row(
        "5.3",
        "GUIDs are in .data",
        "attach type in hash",
        Driver,
        says(Rule::UserModeGuid, "the attach type of program 1 is not in .data"),
        |p| {
            let other = table(p, "hash");
            redirect(p, p.program(1, 112), other);
        },
    ),
    row(
        "5.3",
        "GUIDs are inside the raw data of .data",
        "program type at its end",
        Driver,
        says(Rule::UserModeGuid, "the program type of program 1 is not in .data"),
        |p| {
            let end = p.section(".data").raw_size - 8;
            let place = p.address(".data", end.into());
            redirect(p, p.program(1, 104), place);
        },
    ),
    row(
        "5.3",
        "a code section is marked as code",
        "IMAGE_SCN_CNT_CODE cleared",
        Driver,
        says(Rule::UserModeCodeSection, "has no code section called xdp"),
        |p| {
            p.put(p.header("xdp") + 36, &0x6000_0000u32.to_le_bytes());
        },
    ),
    row(
        "5.3",
        "a code section's name is that of the table",
        "case changed",
        Driver,
        says(Rule::UserModeCodeSection, "has no code section called xdp"),
        |p| {
            p.put(p.header("xdp"), b"XDP");
        },
    ),
    row(
        "5.3",
        "two code sections of one name duplicate programs",
        ".text called as another",
        Driver,
        says(Rule::UserModeCodeSection, "two code sections are called xdp"),
        |p| {
            p.put(p.header(".text"), b"xdp\0\0");
        },
    ),
    row(
        "5.3",
        "raw data of a code section reaches VirtualSize",
        "VirtualSize past it",
        Driver,
        says(Rule::UserModeCodeSection, "xdp has 0x200 raw bytes of 0x201"),
        |p| {
            p.put(p.header("xdp") + 8, &0x201u32.to_le_bytes());
        },
    ),
    // ---- §5.4
    row(
        "5.4",
        "both sides have the same programs",
        "one less in the kernel",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees programs"),
        |p| {
            let list = table(p, "programs");
            // The program that is missing is not a value of the program array any more.
            let stage = p.u64(p.program(1, 56));
            let values = target(p, initial(p, 40));
            for slot in 0..3 {
                redirect(p, values + 8 * slot, stage);
            }
            give(p, PROGRAMS, Some(list), 3);
        },
    ),
    row(
        "5.4",
        "both sides have the same maps",
        "one less in the kernel",
        Driver,
        says(Rule::ViewsDiffer, "user mode sees maps"),
        |p| {
            let list = table(p, "maps");
            // The last map is that of the global data.
            for program in [1, 2] {
                let count = p.bytes[p.program(program, 72)];
                p.put(p.program(program, 72), &[count - 1]);
            }
            give_all(p, &[(MAPS, Some(list), 4), (GLOBAL_SECTIONS, None, 0)]);
        },
    ),
    row(
        "5.4",
        "names of programs are distinct",
        "one name twice",
        Driver,
        says(Rule::ViewsDiffer, "two programs have the same name"),
        |p| {
            let name = p.u64(p.program(2, 56));
            redirect(p, p.program(3, 56), name);
            let values = target(p, initial(p, 40));
            for slot in 0..3 {
                redirect(p, values + 8 * slot, name);
            }
        },
    ),
];
