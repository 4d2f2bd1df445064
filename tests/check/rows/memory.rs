//! Memory integrity, imports, base relocations.

use bpf2sys_simulator::image::{DirectoryKind, Section};

use super::{Row, row};
use crate::check::breaking::{STUB, add_import, address, constants, directory, optional, u32_at, unguarded};
use crate::strict::patching::{CODE, add_section, imports, return_zero};

pub(super) const ROWS: &[Row] = &[
    row("hvci.writable-code", |p| {
        let code = return_zero(p);
        add_section(p, STUB, CODE | Section::WRITE, &code);
    }),
    row("hvci.section-alignment", |p| optional(p, 32, 0x200)),
    row("hvci.page-aligned", |p| {
        let rva = constants(p, &[0; 16]) + 0x10;
        p.put(p.header("stub") + 12, &rva.to_le_bytes());
    }),
    row("hvci.import-table-in-code", |p| {
        // The second module's table again, in code; what calls go through stays.
        unguarded(p);
        let at = imports(p) + 20;
        let (lookup, slots) = (u32_at(p, at), u32_at(p, at + 16));
        let start = p.at(address(p, lookup));
        let table = p.bytes[start..start + 40].to_vec();
        let rva = add_section(p, STUB, CODE, &table);
        p.put(at + 16, &rva.to_le_bytes());
        let first = p.image().directory(DirectoryKind::ImportAddressTable).unwrap().rva.0;
        assert!(first <= slots);
        directory(p, DirectoryKind::ImportAddressTable, first, rva + 40 - first);
    }),
    row("hvci.import-table-directory", |p| {
        let first = p.image().directory(DirectoryKind::ImportAddressTable).unwrap().rva.0;
        directory(p, DirectoryKind::ImportAddressTable, first, 8);
    }),
    row("hvci.relocated-code", |p| {
        add_section(p, STUB, CODE, &[0; 16]);
        let (at, target) = (p.raw("stub"), p.address(".rdata", 0));
        p.pointer(at, target);
    }),
    // ---- imports
    row("import.tables", |p| {
        p.put(imports(p) + 12, &0x0FFF_FFF0u32.to_le_bytes());
    }),
    row("import.by-name", |p| add_import(p, None)),
    row("import.known", |p| add_import(p, Some("ZwClose"))),
    row("import.needed", |p| {
        p.put(p.find(".rdata", b"RtlQueryRegistryValues\0"), b"memcpy\0");
    }),
    // ---- base relocations
    row("reloc.table", |p| {
        p.put(p.raw(".reloc") + 4, &4u32.to_le_bytes());
    }),
    row("reloc.kind", |p| {
        constants(p, &[0; 16]);
        let (at, target) = (p.raw("stub"), p.address(".rdata", 0));
        p.pointer(at, target);
        // The only entry of the last block.
        let table = p.image().directory(DirectoryKind::BaseRelocation).unwrap();
        let last = p.raw(".reloc") + table.size as usize - 4;
        assert_eq!(p.bytes[last..last + 4], [0, 0xA0, 0, 0]);
        p.put(last, &[0, 0x30]);
    }),
    row("reloc.in-section", |p| {
        constants(p, &[0; 16]);
        let (at, target) = (p.raw("stub"), p.address(".rdata", 0));
        p.pointer(at, target);
        p.put(p.header("stub") + 8, &4u32.to_le_bytes());
    }),
    row("reloc.apart", |p| {
        constants(p, &[0; 16]);
        let (at, target) = (p.raw("stub"), p.address(".rdata", 0));
        p.pointer(at, target).pointer(at, target);
    }),
    row("reloc.target", |p| {
        constants(p, &[0; 16]);
        let at = p.raw("stub");
        p.pointer(at, 0x1_5000_0000);
    }),
    row("reloc.section", |p| {
        p.put(p.header(".reloc") + 36, &0xC200_0040u32.to_le_bytes());
    }),
];
