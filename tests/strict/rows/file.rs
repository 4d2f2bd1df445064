//! The file as user mode reads it (§5.1).

use bpf2sys_simulator::Rule;
use bpf2sys_simulator::image::DirectoryKind;

use super::{row, says};
use crate::strict::Base::{Dll, Driver};
use crate::strict::Row;
use crate::strict::patching::{as_rva, imports, redirect, string};

pub(super) const ROWS: &[Row] = &[
    row(
        "5.1",
        "the optional header has 0xF0 bytes",
        "0xE0",
        Driver,
        says(Rule::UserModeFile, "the optional header has 0xe0 bytes"),
        |p| {
            p.put(p.optional() - 4, &[0xE0]);
        },
    ),
    row(
        "5.1",
        "raw data is in the file",
        "raw data of .reloc past the end",
        Driver,
        says(Rule::UserModeFile, "raw data of .reloc passes the end of the file"),
        |p| {
            p.put(p.header(".reloc") + 16, &0x10_0000u32.to_le_bytes());
        },
    ),
    row(
        "5.1",
        "relocation blocks have at least 8 bytes",
        "a size of 4",
        Driver,
        says(Rule::UserModeFile, "states a size of 4 bytes"),
        |p| {
            p.put(p.raw(".reloc") + 4, &4u32.to_le_bytes());
        },
    ),
    row(
        "5.1",
        "no empty block ends the relocations",
        "eight zero bytes in the directory",
        Driver,
        says(Rule::UserModeFile, "states a size of 0 bytes"),
        |p| {
            let size = p.directory(DirectoryKind::BaseRelocation) + 4;
            let bytes = p.section(".reloc").virtual_size;
            p.put(size, &(bytes + 8).to_le_bytes());
            p.put(p.header(".reloc") + 8, &(bytes + 8).to_le_bytes());
        },
    ),
    row(
        "5.1",
        "the import descriptors end with an empty one",
        "none up to the end of the section",
        Driver,
        says(Rule::UserModeFile, ""),
        |p| {
            let (at, end) = (imports(p) + 40, p.raw(".rdata") + p.section(".rdata").raw_size as usize);
            p.put(at, &vec![0xFF; end - at]);
        },
    ),
    row(
        "5.1",
        "names of imports end in their section",
        "a name up to the end of the section",
        Driver,
        says(Rule::UserModeFile, ""),
        |p| {
            let (at, end) = (
                p.find(".rdata", b"RtlQueryRegistryValues\0"),
                p.raw(".rdata") + p.section(".rdata").raw_size as usize,
            );
            p.put(at, &vec![b'A'; end - at]);
        },
    ),
    row(
        "5.1",
        "the export directory is in raw data",
        "past the image",
        Dll,
        says(Rule::UserModeFile, "the export directory at"),
        |p| {
            p.put(p.directory(DirectoryKind::Export), &[0, 0, 0, 0x70]);
        },
    ),
    row(
        "5.1",
        "there is no COFF symbol table",
        "a pointer to one",
        Driver,
        says(Rule::UserModeFile, "it has a COFF symbol table at 0x1"),
        |p| {
            p.put(p.optional() - 12, &[1]);
        },
    ),
    row(
        "5.1",
        "section names are the 8 bytes of the header",
        "a long name, /4, for .rdata",
        Driver,
        says(Rule::UserModeString, "is in /4"),
        |p| {
            p.put(p.header(".rdata"), b"/4\0\0\0\0\0\0");
        },
    ),
    row(
        "5.1",
        "section names are the 8 bytes of the header",
        "a code section's name longer than 8 bytes in the table",
        Driver,
        says(Rule::UserModeCodeSection, "has no code section called xdp/stage_arp"),
        |p| {
            let name = string(p, b"xdp/stage_arp\0");
            redirect(p, p.program(1, 40), name);
        },
    ),
    row(
        "5.1",
        "pointers are compared as addresses from the preferred base",
        "name of a map as RVA",
        Driver,
        says(Rule::UserModeString, "the name of map 0 is in outside every section"),
        |p| as_rva(p, p.map(0, 72)),
    ),
    row(
        "5.1",
        "pointers are compared as addresses from the preferred base",
        "program type as RVA",
        Driver,
        says(Rule::UserModeGuid, "the program type of program 0 is not in .data"),
        |p| as_rva(p, p.program(0, 104)),
    ),
    row(
        "5.1",
        "pointers are compared as addresses from the preferred base",
        "name of a map zero",
        Driver,
        says(Rule::UserModeString, "the name of map 0 is NULL"),
        |p| p.pointer_away(p.map(0, 72)),
    ),
];
