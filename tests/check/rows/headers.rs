//! Headers and sections.

use bpf2sys_simulator::image::{DirectoryKind, Image, Section};

use super::{Base, Row, on, row};
use crate::check::breaking::{
    STUB, clear, constants, directory, flagged, many_sections, optional, rebase, u32_at, unguarded,
};
use crate::strict::patching::{HASH, add_section, export, exports, give};

pub(super) const ROWS: &[Row] = &[
    row("pe.machine", |p| {
        let other: u16 = if p.image().machine == Image::X64 { 0x200 } else { 0x1C4 };
        p.put(p.optional() - 20, &other.to_le_bytes());
    }),
    row("pe.directory-count", |p| {
        // 16, in a header with room for 15.
        many_sections(p, 1);
        let table = p.optional() + 240;
        p.bytes.copy_within(table..table + 40, table - 8);
        p.put(table - 244, &[0xE8]);
    }),
    row("pe.executable-image", |p| {
        let at = p.optional() - 2;
        p.bytes[at] &= !2;
    }),
    row("pe.relocations-kept", |p| {
        let at = p.optional() - 2;
        p.bytes[at] |= 1;
    }),
    row("pe.subsystem", |p| {
        p.put(p.optional() + 68, &[2]);
    }),
    row("pe.subsystem-version", |p| {
        p.put(p.optional() + 48, &[11]);
    }),
    row("pe.image-base", |p| rebase(p, 0x8000)),
    row("pe.file-alignment", |p| optional(p, 36, 0x100)),
    row("pe.headers-size", |p| optional(p, 60, 0x3F0)),
    row("pe.image-size", |p| {
        let size = p.image().image_size + 0x1000;
        optional(p, 56, size);
    }),
    row("pe.entry-point", |p| {
        let data = p.section(".rdata").rva.0;
        optional(p, 16, data);
    }),
    Row {
        after: Some(|bytes| {
            let at = Image::parse(bytes).unwrap().checksum_offset();
            bytes[at] ^= 1;
        }),
        ..row("pe.checksum", |_| {})
    },
    row("pe.nx-compatible", |p| clear(p, 70, 0x100)),
    row("pe.dynamic-base", |p| clear(p, 70, 0x40)),
    row("pe.directories", |p| {
        let at = p.directory(DirectoryKind::Clr) + 8;
        p.put(at, &0x0FFF_FFF0u32.to_le_bytes()).put(at + 4, &[8]);
    }),
    row("pe.unused-directories", |p| {
        let data = p.section(".rdata").rva.0;
        directory(p, DirectoryKind::Tls, data, 40);
    }),
    on(Base::Dll, "pe.exports", |p| {
        p.put(exports(p) + 24, &[0xFF; 4]);
    }),
    row("section.count", |p| many_sections(p, 97)),
    row("section.layout", |p| {
        constants(p, &[0; 16]);
        let (header, size) = (p.header("stub"), p.image().image_size);
        p.put(header + 12, &size.to_le_bytes());
        optional(p, 56, size + 0x1000);
    }),
    row("section.raw-aligned", |p| optional(p, 36, 0x400)),
    row("section.raw-inside-file", |p| {
        constants(p, &[0; 16]);
        p.put(p.header("stub") + 16, &0x400u32.to_le_bytes());
    }),
    row("section.raw-apart", |p| {
        constants(p, &[0; 16]);
        let other = p.section("hash").raw_offset;
        p.put(p.header("stub") + 20, &other.to_le_bytes());
    }),
    row("section.uninitialized", |p| {
        constants(p, &[0; 16]);
        p.put(p.header("stub") + 16, &[0; 4]);
    }),
    row("section.not-shared", |p| flagged(p, Section::SHARED)),
    row("section.not-pageable", |p| {
        constants(p, &[0; 16]);
        p.put(p.header("stub"), b"PAGEDATA");
    }),
    row("section.kept", |p| flagged(p, Section::DISCARDABLE)),
    row("section.discardable-unused", |p| {
        unguarded(p);
        give(p, HASH, None, 0);
        let header = p.header("stub");
        let flags = u32_at(p, header + 36) | Section::DISCARDABLE;
        p.put(header, b"INIT").put(header + 36, &flags.to_le_bytes());
    }),
    // ---- §5.1 and §5.2 of the contract, and exports
    row("contract.5.1.optional-header", |p| {
        let (start, sections) = (p.optional(), p.image().sections.len());
        let table = start + 240;
        p.bytes.copy_within(table..table + 40 * sections, table + 8);
        p.put(table, &[0; 8]).put(start - 4, &[0xF8]);
    }),
    row("contract.5.1.symbol-table", |p| {
        p.put(p.optional() - 12, &[1]);
    }),
    row("contract.5.2.sections-once", |p| {
        constants(p, &[0; 16]);
        p.put(p.header("stub"), b".data\0\0\0");
    }),
    on(Base::Dll, "contract.3.export", |p| {
        p.put(p.find(".rdata", b"get_metadata_table\0"), b"h");
    }),
    on(Base::Dll, "contract.3.only-export", |p| {
        // The tables again, with a second name, in the order of the names.
        let (old, address) = (exports(p), export(p, 28));
        let function = u32_at(p, address);
        let (header, module) = (p.bytes[old..old + 40].to_vec(), u32_at(p, export(p, 32)));
        let rva = p.image().image_size;
        let mut table = header;
        for (field, value) in [(20, 2), (24, 2), (28, rva + 40), (32, rva + 48), (36, rva + 56)] {
            table[field..field + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        for value in [function, function, module, rva + 60, 1 << 16] {
            table.extend(value.to_le_bytes());
        }
        table.extend(b"other\0");
        let length = table.len() as u32;
        assert_eq!(add_section(p, STUB, 0x4000_0040, &table), rva);
        directory(p, DirectoryKind::Export, rva, length);
    }),
    row("resource.directory", |p| {
        // One entry, a version, whose data is nowhere.
        let mut table = vec![0; 14];
        table.extend([1, 0]);
        table.extend(16u32.to_le_bytes());
        table.extend(0x4000u32.to_le_bytes());
        let rva = constants(p, &table);
        directory(p, DirectoryKind::Resource, rva, 24);
    }),
];
