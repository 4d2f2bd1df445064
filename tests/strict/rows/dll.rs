//! The DLL form: its skeleton (§3), and where its reader differs from that of drivers.

use bpf2sys_simulator::Rule;
use bpf2sys_simulator::image::DirectoryKind;

use super::{row, says};
use crate::strict::Base::Dll;
use crate::strict::Row;
use crate::strict::patching::{
    CODE, add_section, entry_returns_zero, export, exports, redirect, return_zero, shift_table, table,
};

/// The skeleton.
pub(super) const ROWS: &[Row] = &[
    row(
        "3",
        "get_metadata_table is exported by name",
        "exported by another name",
        Dll,
        says(Rule::MetadataExport, "it is not exported"),
        |p| {
            p.put(p.find(".rdata", b"get_metadata_table\0"), b"h");
        },
    ),
    row(
        "3",
        "get_metadata_table is exported by name",
        "no exports",
        Dll,
        says(Rule::MetadataExport, "it is not exported"),
        |p| {
            p.put(p.directory(DirectoryKind::Export), &[0; 8]);
        },
    ),
    row(
        "3",
        "get_metadata_table is a function",
        "exported in .rdata",
        Dll,
        says(Rule::MetadataExport, "which is not code"),
        |p| {
            let rva = p.section(".rdata").rva.0;
            p.put(export(p, 28), &rva.to_le_bytes());
        },
    ),
    row(
        "3",
        "the export table is well formed",
        "no names in it",
        Dll,
        says(Rule::MetadataExport, "it is not exported"),
        |p| {
            p.put(exports(p) + 24, &[0; 4]);
        },
    ),
    row(
        "3",
        "the export table is well formed",
        "more names than there are",
        Dll,
        says(Rule::ExportTable, ""),
        |p| {
            p.put(exports(p) + 24, &[0xFF; 4]);
        },
    ),
    row(
        "3",
        "DllMain returns 1",
        "returns 0",
        Dll,
        says(Rule::DllMain, "DllMain(DLL_PROCESS_ATTACH) returned 0x00000000"),
        entry_returns_zero,
    ),
    row(
        "3",
        "get_metadata_table returns the table",
        "returns NULL",
        Dll,
        says(Rule::MetadataTable, "no metadata table is offered"),
        |p| {
            let rva = export(p, 28);
            let stub = add_section(p, *b"stub\0\0\0\0", CODE, &return_zero(p));
            p.put(rva, &stub.to_le_bytes());
        },
    ),
    row(
        "3",
        "the subsystem is one of user mode",
        "NATIVE",
        Dll,
        says(Rule::Subsystem, "the subsystem is 1"),
        |p| {
            p.put(p.optional() + 68, &[1]);
        },
    ),
];

/// Where the reader of DLLs differs.
pub(super) const READING: &[Row] = &[
    row(
        "5.2",
        "DLL: the map table is found behind strings",
        "strings that do not end in zero",
        Dll,
        says(Rule::ViewsDiffer, "user mode sees maps"),
        |p| shift_table(p, *b"maps\0\0\0\0", b"abcdefgh"),
    ),
    row(
        "5.2",
        "DLL: VirtualSize of maps is the table's size",
        "8 bytes more",
        Dll,
        says(Rule::UserModeMapTable, "no multiple of 80"),
        |p| {
            p.put(p.header("maps") + 8, &408u32.to_le_bytes());
        },
    ),
    row(
        "5.2",
        "DLL: strings are in .rdata or in the table's section",
        "name of a map in .data",
        Dll,
        says(Rule::UserModeString, "the name of map 1 is in .data"),
        |p| {
            let data = table(p, ".data");
            redirect(p, p.map(1, 72), data);
        },
    ),
    row(
        "5.3",
        "DLL: GUIDs are in .data",
        "attach type NULL",
        Dll,
        says(Rule::UserModeGuid, "the attach type of program 1"),
        |p| p.pointer_away(p.program(1, 112)),
    ),
    row(
        "5.4",
        "DLL: programs are sorted by name",
        "names of two programs exchanged",
        Dll,
        says(Rule::ViewsDiffer, "user mode sees programs"),
        |p| {
            let (a, b) = (p.program(0, 56), p.program(1, 56));
            let (first, second) = (p.u64(a), p.u64(b));
            redirect(p, a, second);
            redirect(p, b, first);
        },
    ),
];
