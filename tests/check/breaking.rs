//! What the rows need to break an image.

use std::collections::BTreeSet;

use bpf2sys_check::{Finding, Options, Policy, SignatureFacts};
use bpf2sys_simulator::image::{DirectoryKind, Section};

use crate::simulator_trials::shared::patch::Patched;
use crate::strict::patching::{CODE, CONSTANTS, add_section, is_x64, words};

/// Name of a section that a row adds.
pub const STUB: [u8; 8] = *b"stub\0\0\0\0";

/// Adds a section of constants that nothing else refers to. Gives its RVA.
pub fn constants(p: &mut Patched, bytes: &[u8]) -> u32 {
    add_section(p, STUB, CONSTANTS, bytes)
}

/// Adds such a section with other flags.
pub fn flagged(p: &mut Patched, flags: u32) {
    constants(p, &[0; 16]);
    let at = p.header("stub") + 36;
    p.put(at, &(CONSTANTS | flags).to_le_bytes());
}

/// The address of an RVA.
pub fn address(p: &Patched, rva: u32) -> u64 {
    p.image().image_base + u64::from(rva)
}

pub fn u32_at(p: &Patched, at: usize) -> u32 {
    u32::from_le_bytes(p.bytes[at..at + 4].try_into().unwrap())
}

/// Writes a 32-bit number at an offset of the optional header.
pub fn optional(p: &mut Patched, offset: usize, value: u32) {
    p.put(p.optional() + offset, &value.to_le_bytes());
}

/// Clears bits of the 16-bit number at an offset of the optional header.
pub fn clear(p: &mut Patched, offset: usize, bits: u16) {
    let at = p.optional() + offset;
    let value = u16::from_le_bytes([p.bytes[at], p.bytes[at + 1]]) & !bits;
    p.put(at, &value.to_le_bytes());
}

/// Takes back the claim of Control Flow Guard, for rows that add functions of which its table does not know.
pub fn unguarded(p: &mut Patched) {
    clear(p, 70, 0x4000);
}

/// Sets a data directory.
pub fn directory(p: &mut Patched, kind: DirectoryKind, rva: u32, size: u32) {
    let at = p.directory(kind);
    p.put(at, &rva.to_le_bytes()).put(at + 4, &size.to_le_bytes());
}

/// File offset of what a data directory leads to.
pub fn directory_data(p: &Patched, kind: DirectoryKind) -> usize {
    let rva = p.image().directory(kind).unwrap().rva.0;
    p.at(address(p, rva))
}

/// Adds a function with an entry in the function table, given its code for either machine and what its unwind data says.
pub fn add_function(p: &mut Patched, x64: &[u8], arm64: &[u32], unwind: Unwind<'_>) -> u32 {
    let on_x64 = is_x64(p);
    let mut bytes = if on_x64 { x64.to_vec() } else { words(arm64) };
    let length = bytes.len() as u32;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let data = bytes.len() as u32;
    if on_x64 {
        let codes = unwind.x64;
        bytes.extend([1, unwind.prologue, codes.len() as u8 / 2, 0]);
        bytes.extend(codes);
    } else {
        // One epilogue with the codes of the prologue, and one word of codes.
        bytes.extend(((length / 4) | (1 << 21) | (1 << 27)).to_le_bytes());
        bytes.extend(unwind.arm64);
    }
    let rva = add_section(p, STUB, CODE, &bytes);
    let entry: Vec<u32> = if on_x64 {
        vec![rva, rva + length, rva + data]
    } else {
        vec![rva, rva + data]
    };
    add_entry(p, &entry);
    rva
}

/// What the unwind data of an added function says.
#[derive(Clone, Copy)]
pub struct Unwind<'a> {
    pub prologue: u8,
    pub x64: &'a [u8],
    pub arm64: [u8; 4],
}

/// A leaf's.
pub const LEAF: Unwind<'static> = Unwind {
    prologue: 0,
    x64: &[],
    arm64: [0xE4, 0xE3, 0xE3, 0xE3],
};

/// Adds an entry behind those of the function table.
pub fn add_entry(p: &mut Patched, entry: &[u32]) {
    let table = p.image().directory(DirectoryKind::Exception).unwrap();
    let section = p.section(".pdata");
    assert_eq!(section.rva, table.rva, "the table starts its section");
    let size = table.size + 4 * entry.len() as u32;
    assert!(size <= section.raw_size, "no room in .pdata");
    let at = section.raw_offset as usize + table.size as usize;
    p.put(at, &words(entry));
    directory(p, DirectoryKind::Exception, table.rva.0, size);
    let header = p.header(".pdata") + 8;
    p.put(header, &size.max(section.virtual_size).to_le_bytes());
}

/// Adds a descriptor of imports: of `ntoskrnl.exe`, one function by this name, or by ordinal 5.
pub fn add_import(p: &mut Patched, name: Option<&str>) {
    let old = p.image().directory(DirectoryKind::Import).unwrap();
    let start = p.at(address(p, old.rva.0));
    let mut table = p.bytes[start..start + 40].to_vec();
    let rva = p.image().image_size;
    let (lookup, slots, module, hint) = (rva + 80, rva + 96, rva + 112, rva + 128);
    for field in [lookup, 0, 0, module, slots] {
        table.extend(field.to_le_bytes());
    }
    table.resize(80, 0);
    let thunk = name.map_or(1 << 63 | 5, |_| u64::from(hint));
    for _ in 0..2 {
        table.extend(thunk.to_le_bytes());
        table.extend([0; 8]);
    }
    table.extend(b"ntoskrnl.exe\0\0\0\0\0\0");
    table.extend(name.unwrap_or_default().as_bytes());
    table.push(0);
    assert_eq!(constants(p, &table), rva);
    directory(p, DirectoryKind::Import, rva, 80);
    let addresses = p.image().directory(DirectoryKind::ImportAddressTable).unwrap();
    directory(
        p,
        DirectoryKind::ImportAddressTable,
        addresses.rva.0,
        slots + 16 - addresses.rva.0,
    );
}

/// Adds a number to every relocated address, and to the preferred base.
pub fn rebase(p: &mut Patched, distance: u64) {
    let list = bpf2sys_simulator::directories::base_relocations(&p.image()).unwrap();
    let places: Vec<usize> = list.iter().map(|r| p.at(address(p, r.rva.0))).collect();
    for at in places {
        let value = p.u64(at) + distance;
        p.put(at, &value.to_le_bytes());
    }
    let base = p.image().image_base + distance;
    p.put(p.optional() + 24, &base.to_le_bytes());
}

/// File offset of a field of the load configuration.
pub fn config(p: &Patched, field: usize) -> usize {
    directory_data(p, DirectoryKind::LoadConfig) + field
}

/// Replaces the table of targets by one in another section.
pub fn targets(p: &mut Patched, change: impl Fn(&mut Vec<u32>, u32)) {
    let (table, count) = (p.u64(config(p, 0x80)), p.u64(config(p, 0x88)) as usize);
    let start = p.at(table);
    let mut list: Vec<u32> = (0..count).map(|i| u32_at(p, start + 4 * i)).collect();
    let rva = p.image().image_size;
    change(&mut list, rva);
    let bytes = words(&list);
    assert_eq!(constants(p, &bytes), rva);
    let (at, start) = (config(p, 0x80), address(p, rva));
    p.put(at, &start.to_le_bytes());
    p.put(at + 8, &(list.len() as u64).to_le_bytes());
}

/// The RVAs of the entry point and of everything whose address is in data.
pub fn in_data(p: &Patched) -> BTreeSet<u32> {
    let image = p.image();
    let list = bpf2sys_simulator::directories::base_relocations(&image).unwrap();
    let values = list.iter().map(|r| p.u64(p.at(address(p, r.rva.0))));
    let rvas = values.filter_map(|value| image.rva_of(value));
    rvas.chain([image.entry]).map(|rva| rva.0).collect()
}

/// File offset of the entry of the debug directory of this type, or of the first if there is none.
pub fn debug_entry(p: &Patched, kind: u32) -> usize {
    let entries = p.image().directory(DirectoryKind::Debug).unwrap().size as usize / 28;
    let start = directory_data(p, DirectoryKind::Debug);
    let mut places = (0..entries).map(|i| start + 28 * i);
    places.find(|at| u32_at(p, at + 12) == kind).unwrap_or(start)
}

/// A driver that is no module, with this many sections, of which the first is code.
pub fn many_sections(p: &mut Patched, count: u32) {
    const HEADERS: u32 = 0x1200;
    const FIRST: u32 = 0x2000;
    let headers = p.optional() + 240;
    p.bytes.truncate(headers);
    for index in 0..count {
        let code = index == 0;
        let mut name = format!(".s{index}").into_bytes();
        name.resize(8, 0);
        p.bytes.extend(name);
        let raw = if code { [0x200, HEADERS] } else { [0, 0] };
        let flags = if code {
            CODE
        } else {
            0x80 | Section::READ | Section::WRITE
        };
        for field in [0x1000, FIRST + 0x1000 * index, raw[0], raw[1], 0, 0, 0, flags] {
            p.bytes.extend(field.to_le_bytes());
        }
    }
    assert!(p.bytes.len() <= HEADERS as usize);
    p.bytes.resize(HEADERS as usize, 0);
    p.bytes.extend([0xC3; 0x200]);
    let at = headers - 128;
    p.put(at, &[0; 128]);
    p.put(headers - 240 - 18, &(count as u16).to_le_bytes());
    unguarded(p);
    optional(p, 16, FIRST);
    optional(p, 56, FIRST + 0x1000 * count);
    optional(p, 60, HEADERS);
}

/// Adds a certificate table with one entry that nobody can read.
pub fn sign(p: &mut Patched) {
    let start = p.bytes.len().next_multiple_of(8);
    p.bytes.resize(start, 0);
    p.bytes.extend(24u32.to_le_bytes());
    p.bytes.extend([0, 2, 2, 0]);
    p.bytes.extend([0x30; 16]);
    directory(p, DirectoryKind::Certificate, start as u32, 24);
}

/// What a reader says of a signature that a production machine takes.
pub fn microsoft() -> SignatureFacts {
    SignatureFacts {
        digest: Some(finding(true)),
        signature: Some(finding(true)),
        production_root: Some(finding(true)),
        production_subject: Some(finding(true)),
        production_usages: Some(finding(true)),
        page_hashes: Some(true),
    }
}

/// What was found about one demand of production systems.
pub fn finding(kept: bool) -> Finding {
    let measured = if kept { "Microsoft's" } else { "another's" }.into();
    Finding { kept, measured }
}

/// A policy, with a signature of which this is known.
pub fn asking(policy: Policy, signature: SignatureFacts) -> Options {
    Options {
        policy,
        signature,
        ..Options::default()
    }
}

/// The address of a data directory as it is stated: of certificates, an offset in the file.
pub fn directory_offset(p: &Patched, kind: DirectoryKind) -> u32 {
    p.image().directory(kind).unwrap().rva.0
}

/// Tells the debug directory that its data is that much further back in the file.
pub fn move_debug_data(p: &mut Patched, distance: u32) {
    let entries = p.image().directory(DirectoryKind::Debug).unwrap().size as usize / 28;
    let start = directory_data(p, DirectoryKind::Debug);
    for at in (0..entries).map(|i| start + 28 * i + 24) {
        let moved = u32_at(p, at) + distance;
        p.put(at, &moved.to_le_bytes());
    }
}

/// Adds a resource directory with a version: 1.2.3.4.
pub fn add_version(p: &mut Patched) {
    let rva = p.image().image_size;
    let mut table: Vec<u8> = Vec::new();
    // Type, name and language, a table with one entry each.
    for (number, next) in [(16u32, 0x8000_0018u32), (1, 0x8000_0030), (0x409, 0x48)] {
        table.extend([0; 12]);
        table.extend([0, 0, 1, 0]);
        table.extend(words(&[number, next]));
    }
    table.extend(words(&[rva + 0x58, 20, 0, 0]));
    table.extend(words(&[0xFEEF_04BD, 0x1_0000, 1 << 16 | 2, 3 << 16 | 4, 0]));
    let length = table.len() as u32;
    assert_eq!(constants(p, &table), rva);
    directory(p, DirectoryKind::Resource, rva, length);
}
