//! Images with one thing wrong each: every check must catch its own.

use super::*;
use crate::image::{DirectoryKind, Image, Section, read_u32, read_u64};
use crate::{Rule, loader_rules, usermode};

/// An image that is being broken.
struct Patched {
    bytes: Vec<u8>,
}

impl Patched {
    fn new() -> Self {
        Patched { bytes: IMAGE.to_vec() }
    }

    fn image(&self) -> Image<'_> {
        Image::parse(&self.bytes).unwrap()
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn u64(&self, at: usize) -> u64 {
        read_u64(&self.bytes, at).unwrap()
    }

    /// Offset of the optional header.
    fn optional(&self) -> usize {
        self.image().checksum_offset() - 64
    }

    /// Offset of a data directory's entry.
    fn directory(&self, kind: DirectoryKind) -> usize {
        self.optional() + 112 + 8 * kind as usize
    }

    fn section(&self, name: &str) -> Section {
        self.image()
            .sections
            .iter()
            .find(|s| s.name == name.as_bytes())
            .unwrap()
            .clone()
    }

    /// Offset of a section's header.
    fn header(&self, name: &str) -> usize {
        let index = self
            .image()
            .sections
            .iter()
            .position(|s| s.name == name.as_bytes())
            .unwrap();
        self.optional() + 240 + 40 * index
    }

    /// Offset of a section's raw data.
    fn raw(&self, name: &str) -> usize {
        self.section(name).raw_offset as usize
    }

    /// File offset of an address in terms of the preferred base.
    fn at(&self, address: u64) -> usize {
        let image = self.image();
        let rva = image.rva_of(address).unwrap();
        let section = image.section_at(rva).unwrap();
        (rva.0 - section.rva.0 + section.raw_offset) as usize
    }

    /// Address of a place in a section.
    fn address(&self, section: &str, offset: u64) -> u64 {
        self.image().image_base + u64::from(self.section(section).rva.0) + offset
    }

    /// The only place in a section where `bytes` are.
    fn find(&self, section: &str, bytes: &[u8]) -> usize {
        let section = self.section(section);
        let start = section.raw_offset as usize;
        let data = &self.bytes[start..start + section.raw_size as usize];
        let found: Vec<usize> = data
            .windows(bytes.len())
            .enumerate()
            .filter(|(_, w)| *w == bytes)
            .map(|(i, _)| i)
            .collect();
        assert_eq!(found.len(), 1, "{bytes:x?} in {}", section.display_name());
        start + found[0]
    }

    /// The place of an eight-byte number in `.rdata` that a pointer into `.text` follows.
    fn before_code_pointer(&self, number: u64) -> usize {
        let (start, text) = (self.raw(".rdata"), self.section(".text"));
        let base = self.image().image_base + u64::from(text.rva.0);
        (start..start + self.section(".rdata").raw_size as usize - 16)
            .step_by(8)
            .find(|&at| self.u64(at) == number && (base..base + 0x1000).contains(&self.u64(at + 8)))
            .unwrap()
    }

    fn metadata(&self) -> usize {
        self.before_code_pointer(56)
    }

    fn characteristics(&self) -> usize {
        self.before_code_pointer(72 << 16)
    }

    /// The entry of a table of initial values or global sections whose number at +32 is given.
    fn list(&self, number: u64) -> usize {
        let (start, size) = (self.raw(".rdata"), self.section(".rdata").raw_size as usize);
        (start..start + size - 48)
            .step_by(8)
            .find(|&at| {
                [1, 48, 48] == [self.u64(at), self.u64(at + 8), self.u64(at + 16)] && self.u64(at + 32) == number
            })
            .unwrap()
    }

    /// A row of the query table: the second is the one with a routine, and asks for a value that must be there.
    fn query_row(&self, index: usize) -> usize {
        let (start, text) = (self.raw(".rdata"), self.section(".text"));
        let base = self.image().image_base + u64::from(text.rva.0);
        let second = (start..start + self.section(".rdata").raw_size as usize - 16)
            .step_by(8)
            .find(|&at| self.u64(at + 8) == 4 && (base..base + 0x1000).contains(&self.u64(at)))
            .unwrap();
        second - 56 + 56 * index
    }

    /// Offset of a field of a program.
    fn program(&self, index: usize, field: usize) -> usize {
        self.raw("programs") + 160 * index + field
    }

    /// Offset of a field of a map.
    fn map(&self, index: usize, field: usize) -> usize {
        self.raw("maps") + 80 * index + field
    }

    /// Offset of a field of a program's helper.
    fn helper(&self, program: usize, slot: usize, field: usize) -> usize {
        self.at(self.u64(self.program(program, 80))) + 40 * slot + field
    }

    /// Puts an address where there was no relocation.
    fn pointer(&mut self, at: usize, address: u64) -> &mut Self {
        let image = self.image();
        let section = image
            .sections
            .iter()
            .find(|s| (s.raw_offset..s.raw_offset + s.raw_size).contains(&(at as u32)))
            .unwrap();
        let rva = at as u32 - section.raw_offset + section.rva.0;
        let relocations = self.section(".reloc");
        let entry = self.directory(DirectoryKind::BaseRelocation);
        let size = read_u32(&self.bytes, entry + 4).unwrap();
        // Rules want ascending relocations: put the new block in its place.
        let start = relocations.raw_offset as usize;
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        let mut offset = start;
        while offset < start + size as usize {
            let length = read_u32(&self.bytes, offset + 4).unwrap() as usize;
            blocks.push(self.bytes[offset..offset + length].to_vec());
            offset += length;
        }
        let page = rva & !0xFFF;
        let entry_of = |rva: u32| (0xA000u16 | (rva & 0xFFF) as u16).to_le_bytes();
        if let Some(block) = blocks.iter_mut().find(|b| read_u32(b, 0) == Some(page)) {
            let mut entries: Vec<u16> = block[8..]
                .chunks_exact(2)
                .map(|c| u16::from_le_bytes([c[0], c[1]]))
                .filter(|&e| e != 0)
                .collect();
            entries.push(u16::from_le_bytes(entry_of(rva)));
            entries.sort_unstable();
            if entries.len() % 2 == 1 {
                entries.push(0);
            }
            *block = page.to_le_bytes().to_vec();
            block.extend((8 + 2 * entries.len() as u32).to_le_bytes());
            block.extend(entries.iter().flat_map(|e| e.to_le_bytes()));
        } else {
            let mut block = page.to_le_bytes().to_vec();
            block.extend(12u32.to_le_bytes());
            block.extend(entry_of(rva));
            block.extend([0, 0]);
            blocks.push(block);
            blocks.sort_by_key(|b| read_u32(b, 0));
        }
        let all = blocks.concat();
        assert!(all.len() <= relocations.raw_size as usize);
        self.put(start, &all);
        self.put(entry + 4, &(all.len() as u32).to_le_bytes());
        let header = self.header(".reloc");
        self.put(header + 8, &(all.len() as u32).to_le_bytes());
        self.put(at, &address.to_le_bytes())
    }

    /// The bytes, with the right checksum.
    fn finish(mut self) -> Vec<u8> {
        let image = self.image();
        let (at, sum) = (image.checksum_offset(), image.computed_checksum());
        self.put(at, &sum.to_le_bytes());
        self.bytes
    }
}

type Break = fn(&mut Patched);

#[test]
fn the_unbroken_image_passes_every_static_check() {
    let image = Image::parse(IMAGE).unwrap();
    assert_eq!(loader_rules::check(&image), []);
    let view = usermode::read(&image).unwrap();
    assert_eq!(view.programs.len(), 11);
    assert_eq!(view.programs[6].name, "count");
    assert_eq!((view.maps.len(), view.maps[17].name.as_str()), (18, "pinned/flows"));
    assert_eq!(view.elf_hash.unwrap()[..6], *"010203");
}

#[test]
fn each_rule_of_the_loader_catches_its_own() {
    let cases: &[(Rule, Break)] = &[
        (Rule::Machine, |p| _ = p.put(p.optional() - 20, &0x14Cu16.to_le_bytes())),
        (Rule::OptionalHeader, |p| {
            p.put(p.optional() + 108, &15u32.to_le_bytes());
        }),
        (Rule::Characteristics, |p| {
            p.put(p.optional() - 2, &0x2022u16.to_le_bytes());
        }),
        (Rule::Characteristics, |p| {
            p.put(p.optional() - 2, &0x23u16.to_le_bytes());
        }),
        (Rule::Subsystem, |p| _ = p.put(p.optional() + 68, &3u16.to_le_bytes())),
        (Rule::Alignment, |p| {
            p.put(p.optional() + 24, &0x1_4000_1000u64.to_le_bytes());
        }),
        (Rule::Alignment, |p| {
            p.put(p.optional() + 32, &0x20u32.to_le_bytes());
        }),
        (Rule::Alignment, |p| _ = p.put(p.optional() + 36, &0u32.to_le_bytes())),
        (Rule::HeaderSize, |p| {
            p.put(p.optional() + 60, &0x200u32.to_le_bytes());
        }),
        (Rule::HeaderSize, |p| {
            p.put(p.optional() + 60, &0xFFFF_FE00u32.to_le_bytes());
        }),
        (Rule::SectionLayout, |p| {
            p.put(p.header("xdp") + 12, &0x1_0000u32.to_le_bytes());
        }),
        (Rule::SectionLayout, |p| _ = p.put(p.header("xdp") + 8, &[0; 12])),
        (Rule::SectionRawData, |p| {
            p.put(p.header("xdp") + 20, &0x4601u32.to_le_bytes());
        }),
        (Rule::SectionRawData, |p| {
            p.put(p.header("xdp") + 20, &0x4400u32.to_le_bytes());
        }),
        (Rule::SectionRawData, |p| {
            p.put(p.header(".reloc") + 16, &0xFFFF_FE00u32.to_le_bytes());
        }),
        (Rule::ImageSize, |p| {
            p.put(p.optional() + 56, &0x10_0000u32.to_le_bytes());
        }),
        (Rule::WritableCode, |p| {
            p.put(p.header("xdp") + 36, &0xE000_0020u32.to_le_bytes());
        }),
        (Rule::EntryPoint, |p| {
            p.put(p.optional() + 16, &0x2000u32.to_le_bytes());
        }),
        (Rule::EntryPoint, |p| _ = p.put(p.optional() + 16, &[0; 4])),
        (Rule::DataDirectory, |p| {
            p.put(p.directory(DirectoryKind::Tls), &[0, 0x20, 0, 0, 8, 0, 0, 0]);
        }),
        (Rule::DataDirectory, |p| {
            p.put(p.directory(DirectoryKind::Resource), &[0, 0, 0x20, 0, 8, 0, 0, 0]);
        }),
        (Rule::DataDirectory, |p| {
            p.put(p.directory(DirectoryKind::Certificate), &[0, 0, 0x20, 0, 8, 0, 0, 0]);
        }),
        (Rule::BaseRelocation, |p| {
            p.put(p.raw(".reloc") + 4, &7u32.to_le_bytes());
        }),
        (Rule::BaseRelocation, |p| {
            p.put(p.raw(".reloc") + 4, &0x1000u32.to_le_bytes());
        }),
        (Rule::BaseRelocation, |p| {
            p.put(p.raw(".reloc"), &1u32.to_le_bytes());
        }),
        (Rule::BaseRelocation, |p| _ = p.put(p.raw(".reloc") + 9, &[0x30])),
        (Rule::BaseRelocation, |p| {
            p.put(p.directory(DirectoryKind::BaseRelocation) + 4, &9u32.to_le_bytes());
        }),
        (Rule::RelocatedCode, |p| {
            p.put(p.raw(".reloc"), &0x1000u32.to_le_bytes());
        }),
        (Rule::ImportTable, |p| {
            let at = p.at(p.image().image_base + u64::from(p.image().directory(DirectoryKind::Import).unwrap().rva.0));
            p.put(at + 12, &0x9_0000u32.to_le_bytes());
        }),
        (Rule::ImportTable, |p| {
            let table = p.image().directory(DirectoryKind::Import).unwrap().rva.0;
            let at = p.at(p.image().image_base + u64::from(table));
            let names = read_u32(&p.bytes, at).unwrap();
            let at = p.at(p.image().image_base + u64::from(names));
            p.put(at + 7, &[0x80]);
        }),
        (Rule::ImportTable, |p| {
            p.put(p.directory(DirectoryKind::ImportAddressTable), &[0; 8]);
        }),
        (Rule::UnknownImport, |p| {
            p.put(p.find(".rdata", b"NmrRegisterClient"), b"X");
        }),
        (Rule::UnknownImport, |p| _ = p.put(p.find(".rdata", b"NETIO.SYS"), b"X")),
        (Rule::ImportTableInCode, |p| {
            p.put(p.header(".rdata") + 36, &0x6000_0020u32.to_le_bytes());
        }),
        (Rule::DllCharacteristics, |p| {
            p.put(p.optional() + 70, &0x8060u16.to_le_bytes());
        }),
        (Rule::PageableSection, |p| _ = p.put(p.header("xdp"), b"PAGExdp\0")),
        (Rule::PageableSection, |p| {
            p.put(p.header("xdp") + 36, &0x6200_0020u32.to_le_bytes());
        }),
        (Rule::FunctionTable, |p| {
            p.put(p.raw(".pdata"), &0x1FF0u32.to_le_bytes());
        }),
        (Rule::FunctionTable, |p| {
            p.put(p.raw(".pdata") + 8, &0x9_0000u32.to_le_bytes());
        }),
    ];
    for (i, (rule, break_it)) in cases.iter().enumerate() {
        let mut patched = Patched::new();
        break_it(&mut patched);
        let bytes = patched.finish();
        let violations = loader_rules::check(&Image::parse(&bytes).unwrap());
        assert!(
            violations.iter().any(|v| v.rule == *rule),
            "case {i}: {rule:?}: {violations:?}"
        );
        assert!(!violations.iter().any(|v| v.rule == Rule::Checksum), "case {i}");
    }
    let mut wrong = IMAGE.to_vec();
    *wrong.last_mut().unwrap() ^= 1;
    let violations = loader_rules::check(&Image::parse(&wrong).unwrap());
    assert_eq!(violations.iter().map(|v| v.rule).collect::<Vec<_>>(), [Rule::Checksum]);
    let outcome = run(&RunRequest {
        image: wrong,
        ..RunRequest::default()
    });
    assert!(matches!(outcome, Err(SimulatorError::Loader(list)) if list[0].rule == Rule::Checksum));
}

#[test]
fn each_rule_of_user_mode_catches_its_own() {
    let cases: &[(Rule, Break)] = &[
        (Rule::UserModeFile, |p| {
            p.put(p.optional() - 12, &1u32.to_le_bytes());
        }),
        (Rule::UserModeFile, |p| _ = p.put(p.header("hash"), b"maps\0")),
        (Rule::UserModeFile, |p| {
            p.put(p.header("hash") + 16, &0x10_0000u32.to_le_bytes());
        }),
        (Rule::UserModeFile, |p| {
            p.put(p.raw(".reloc") + 4, &0u32.to_le_bytes());
        }),
        (Rule::UserModeMapTable, |p| {
            p.put(p.header("maps") + 8, &0x5A8u32.to_le_bytes());
        }),
        (Rule::UserModeMapTable, |p| {
            p.put(p.header("maps") + 8, &0x610u32.to_le_bytes());
        }),
        (Rule::UserModeMapTable, |p| _ = p.put(p.map(1, 0), &[1])),
        (Rule::UserModeMapTable, |p| {
            p.put(p.header("maps") + 8, &24u32.to_le_bytes());
        }),
        (Rule::UserModeString, |p| _ = p.put(p.map(1, 72), &[0; 8])),
        (Rule::UserModeString, |p| {
            p.put(p.map(1, 72), &p.address(".data", 0).to_le_bytes());
        }),
        (Rule::UserModeString, |p| {
            // .rdata after the maps in the file: their names are looked for too early.
            let section = p.section(".rdata");
            let raw = p.bytes[section.raw_offset as usize..][..section.raw_size as usize].to_vec();
            let end = p.bytes.len() as u32;
            p.bytes.extend(raw);
            p.put(p.header(".rdata") + 20, &end.to_le_bytes());
        }),
        (Rule::UserModeProgramTable, |p| {
            p.put(p.header("programs") + 8, &0x6E8u32.to_le_bytes());
        }),
        (Rule::UserModeProgramTable, |p| {
            p.put(p.header("programs") + 8, &16u32.to_le_bytes());
        }),
        (Rule::UserModeProgramTable, |p| _ = p.put(p.program(0, 16), &[150])),
        (Rule::UserModeProgramTable, |p| _ = p.put(p.program(0, 24), &[100])),
        (Rule::UserModeProgramTable, |p| _ = p.put(p.program(0, 8), &[2])),
        (Rule::UserModeString, |p| _ = p.put(p.program(2, 56), &[0; 8])),
        (Rule::UserModeString, |p| {
            p.put(p.program(2, 40), &p.address(".data", 0).to_le_bytes());
        }),
        (Rule::UserModeGuid, |p| {
            p.put(p.program(2, 104), &p.address(".rdata", 0).to_le_bytes());
        }),
        (Rule::UserModeGuid, |p| _ = p.put(p.program(2, 112), &[0; 8])),
        (Rule::UserModeCodeSection, |p| {
            p.put(p.header("sockops"), b"sockop2\0");
        }),
        (Rule::UserModeCodeSection, |p| {
            p.put(p.header("xdp") + 36, &0x6000_0000u32.to_le_bytes());
        }),
        (Rule::UserModeCodeSection, |p| {
            p.put(p.header(".text"), b"xdp\0\0\0\0\0");
        }),
        (Rule::UserModeCodeSection, |p| {
            p.put(p.header("bind") + 8, &0x201u32.to_le_bytes());
        }),
    ];
    for (i, (rule, break_it)) in cases.iter().enumerate() {
        let mut patched = Patched::new();
        break_it(&mut patched);
        let bytes = patched.finish();
        let violation = usermode::read(&Image::parse(&bytes).unwrap()).unwrap_err();
        assert_eq!(violation.rule, *rule, "case {i}: {violation}");
    }
}

#[test]
fn each_check_of_the_kernel_catches_its_own() {
    let cases: &[(Rule, Break)] = &[
        // The driver's own structures and code.
        (Rule::QueryTable, |p| _ = p.put(p.query_row(1) + 8, &[0x24])),
        (Rule::QueryTable, |p| _ = p.put(p.query_row(2) + 8, &[4])),
        (Rule::QueryTable, |p| {
            let at = p.at(p.u64(p.query_row(0) + 16));
            p.put(at, b"Q");
        }),
        (Rule::QueryTable, |p| {
            p.put(p.find(".text", &[0x31, 0xC9, 0x45, 0x31, 0xC9]), &[0xB1, 1]);
        }),
        (Rule::DriverEntry, |p| {
            // A value of another name is not found.
            let at = p.at(p.u64(p.query_row(1) + 16));
            p.put(at, b"X");
        }),
        (Rule::ModuleId, |p| {
            p.put(p.find(".data", &[24, 0, 0, 0, 1, 0, 0, 0]), &[23]);
        }),
        (Rule::ModuleId, |p| {
            p.put(p.find(".data", &[24, 0, 0, 0, 1, 0, 0, 0]) + 4, &[2]);
        }),
        (Rule::ModuleId, |p| {
            p.put(p.find(".text", &[0x44, 0x88, 0x4C, 0x0A, 0x08]), &[0x90; 5]);
        }),
        (Rule::ClientCharacteristics, |p| _ = p.put(p.characteristics(), &[1])),
        (Rule::ClientCharacteristics, |p| {
            p.put(p.characteristics() + 2, &[64]);
        }),
        (Rule::ClientCharacteristics, |p| {
            p.put(p.characteristics() + 8, &p.address(".rdata", 0).to_le_bytes());
        }),
        (Rule::ClientCharacteristics, |p| {
            p.put(p.find(".rdata", &[0xC8, 0xAA, 0x47, 0xC8]), &[0]);
        }),
        (Rule::ClientAttach, |p| {
            // attach answers a second provider with another status
            let at = p.find(".text", &[0x0D, 0, 0, 0xC0, 0x48, 0x83, 0x3D]);
            p.put(at, &[1]);
        }),
        (Rule::ClientAttach, |p| {
            // attach does not look whether it is attached
            let at = p.find(".text", &[0x0D, 0, 0, 0xC0, 0x48, 0x83, 0x3D]);
            p.put(at + 12, &[0x90, 0x90]);
        }),
        (Rule::ClientAttach, |p| {
            // detach does not forget the binding, so the next provider is refused
            let at = p.find(".text", &[0, 0, 0, 0, 0x31, 0xC0, 0xC3]);
            p.put(at - 7, &[0x90; 11]);
        }),
        (Rule::ClientDetach, |p| {
            p.put(p.find(".text", &[0, 0, 0, 0, 0x31, 0xC0, 0xC3]) + 4, &[0x90; 2]);
        }),
        (Rule::DriverUnload, |p| {
            p.put(p.find(".text", &[0x3D, 3, 1, 0, 0]) + 1, &[4]);
        }),
        (Rule::DriverUnload, |p| {
            // DriverUnload goes straight to its end
            let at = p.find(".text", &[0x3D, 3, 1, 0, 0]);
            p.put(at - 17 + 4, &[0x48, 0x83, 0xC4, 0x28, 0xC3]);
        }),
        (Rule::DriverEntry, |p| {
            p.put(p.find(".text", &[0x48, 0x89, 0x4E, 0x68]) + 3, &[0x60]);
        }),
        (Rule::DriverEntry, |p| {
            p.put(p.find(".text", &[0x48, 0x89, 0x4E, 0x68]), &[0x90; 4]);
        }),
        (Rule::UnexpectedCall, |p| {
            p.put(p.optional() + 16, &(p.image().entry.0 + 0x60).to_le_bytes());
        }),
        // The metadata table and the arrays it leads to.
        (Rule::MetadataTable, |p| _ = p.put(p.metadata(), &[31])),
        (Rule::MetadataTable, |p| _ = p.put(p.metadata(), &[40])),
        (Rule::WildPointer, |p| {
            p.put(p.metadata() + 32, &p.address(".rdata", 0).to_le_bytes());
        }),
        (Rule::Version, |p| {
            p.put(p.find(".text", &[1, 0, 0, 0, 6, 0, 0, 0]), &[0, 0, 0, 0, 20]);
        }),
        (Rule::ArrayPointer, |p| _ = p.put(p.program(1, 88), &[0, 0])),
        (Rule::ArrayPointer, |p| {
            p.put(p.find(".text", &[0x48, 0xC7, 0x02, 2, 0, 0, 0]) + 3, &[0]);
        }),
        (Rule::ArrayPointer, |p| {
            p.put(p.find(".text", &[0x48, 0xC7, 0x02, 1, 0, 0, 0]) + 3, &[1, 0, 1]);
        }),
        (Rule::ElementHeader, |p| _ = p.put(p.program(1, 8), &[2])),
        (Rule::ElementHeader, |p| _ = p.put(p.program(3, 16), &[160])),
        (Rule::ElementHeader, |p| _ = p.put(p.helper(1, 5, 8), &[48])),
        (Rule::ElementHeader, |p| _ = p.put(p.map(4, 24), &[72])),
        (Rule::ElementHeader, |p| _ = p.put(p.list(3) + 8, &[40])),
        (Rule::ElementHeader, |p| _ = p.put(p.list(8), &[0])),
        (Rule::UnstableMetadata, |p| {
            // get_programs counts its calls in the unused end of .data, and adds that to the number.
            let at = p.find(".text", &[0x48, 0xC7, 0x02, 0x0B, 0, 0, 0]) + 7;
            let text = p.section(".text");
            let rva = at as u32 - text.raw_offset + text.rva.0;
            let cell = p.section(".data").rva.0 + 0x800;
            let mut code = vec![0xFF, 0x05];
            code.extend((cell - rva - 6).to_le_bytes());
            code.extend([0x8B, 0x05]);
            code.extend((cell - rva - 12).to_le_bytes());
            code.extend([0x01, 0x02, 0xC3]);
            p.put(at, &code);
        }),
        (Rule::WildPointer, |p| {
            p.put(p.program(1, 80), &0x1_5000_0000u64.to_le_bytes());
        }),
        // Maps.
        (Rule::MapPinning, |p| _ = p.put(p.map(2, 60), &[2])),
        (Rule::MapPinning, |p| {
            let at = p.at(p.u64(p.map(17, 72)));
            p.put(at, b":");
        }),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 40), &[0])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 40), &[15])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 40), &[17])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 52), &[0])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 44), &[0])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(1, 44), &[2])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 48), &[0])),
        (Rule::MapDefinition, |p| {
            p.put(p.map(2, 48), &[0xFF; 8]);
            p.put(p.map(2, 40), &[2]);
        }),
        (Rule::MapDefinition, |p| _ = p.put(p.map(8, 44), &[4])),
        (Rule::MapDefinition, |p| {
            p.put(p.map(10, 52), &5000u32.to_le_bytes());
        }),
        (Rule::MapDefinition, |p| _ = p.put(p.map(14, 48), &[8])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(7, 44), &[3])),
        (Rule::InnerTemplate, |p| _ = p.put(p.map(14, 68), &[99])),
        (Rule::InnerTemplate, |p| _ = p.put(p.map(15, 56), &[15])),
        // Programs.
        (Rule::NameLength, |p| {
            let at = p.at(p.u64(p.program(1, 48)));
            p.put(at, &[0]);
            // user mode finds the code section by the same text
            p.put(p.header("bind"), &[0; 8]);
        }),
        (Rule::ProgramType, |p| {
            p.put(p.find(".data", &[0x7C, 0x51, 0x8C, 0x60]), &[1]);
        }),
        (Rule::ProgramType, |p| {
            p.put(p.find(".data", &[0x7C, 0x51, 0x8C, 0x60]), &[0; 16]);
        }),
        (Rule::MapIndex, |p| _ = p.put(p.at(p.u64(p.program(1, 64))), &[18])),
        (Rule::WildPointer, |p| {
            p.put(p.program(1, 64), &0x1_5000_0000u64.to_le_bytes());
        }),
        (Rule::ProgramArrayType, |p| _ = p.put(p.program(1, 72), &[18])),
        (Rule::GlobalSection, |p| _ = p.put(p.list(8) + 32, &[9])),
        (Rule::GlobalSection, |p| _ = p.put(p.map(16, 40), &[5])),
        (Rule::GlobalSection, |p| {
            let params = p.u64(p.program(0, 48));
            p.put(p.list(8) + 24, &params.to_le_bytes());
        }),
        (Rule::WildPointer, |p| {
            p.put(p.list(8) + 40, &0x1_4000_8FFFu64.to_le_bytes());
        }),
        (Rule::BtfFunction, |p| {
            // A table of one function in the unused bytes of section hash.
            let at = p.raw("hash") + 64;
            p.put(at, &[1, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 48]);
            p.put(at + 32, &[7; 16]);
            let name = p.u64(p.program(0, 56));
            p.put(p.header("hash") + 8, &128u32.to_le_bytes());
            p.pointer(at + 24, name);
            p.pointer(p.program(1, 144), p.address("hash", 64));
            p.put(p.program(1, 152), &[1]);
        }),
        (Rule::HelperId, |p| _ = p.put(p.helper(6, 0, 24), &[99])),
        (Rule::HelperId, |p| {
            p.put(p.helper(6, 0, 24), &65537u32.to_le_bytes());
        }),
        (Rule::HelperId, |p| _ = p.put(p.helper(6, 0, 24), &[26])),
        (Rule::DuplicateHelper, |p| _ = p.put(p.helper(6, 0, 24), &[2])),
        (Rule::ProgramInfoHash, |p| {
            p.pointer(p.program(6, 120), p.address("hash", 0));
            p.put(p.program(6, 128), &[32]);
        }),
        (Rule::ProgramInfoHash, |p| {
            p.pointer(p.program(6, 120), p.address("hash", 0));
            p.put(p.program(6, 128), &[31]);
        }),
        (Rule::WildPointer, |p| _ = p.put(p.program(6, 128), &[32])),
        (Rule::ProgramFunction, |p| {
            p.put(p.program(6, 32), &p.address(".rdata", 0).to_le_bytes());
        }),
        (Rule::InitialValue, |p| {
            let other = p.u64(p.program(0, 48));
            p.put(p.list(3) + 24, &other.to_le_bytes());
        }),
        (Rule::InitialValue, |p| {
            let hash = p.u64(p.map(2, 72));
            p.put(p.list(3) + 24, &hash.to_le_bytes());
        }),
        (Rule::InitialValue, |p| {
            let (values, other) = (p.at(p.u64(p.list(3) + 40)), p.u64(p.program(0, 48)));
            p.put(values, &other.to_le_bytes());
        }),
        (Rule::InitialValue, |p| {
            let (values, params) = (p.at(p.u64(p.list(2) + 40)), p.u64(p.map(0, 72)));
            p.put(values + 8, &params.to_le_bytes());
        }),
        (Rule::InitialValue, |p| _ = p.put(p.map(12, 52), &[1])),
        // Both sides.
        (Rule::ViewsDiffer, |p| {
            let (a, b) = (p.program(0, 0), p.program(1, 0));
            let (first, second) = (p.bytes[a..a + 160].to_vec(), p.bytes[b..b + 160].to_vec());
            p.put(a, &second).put(b, &first);
        }),
        (Rule::ViewsDiffer, |p| {
            let name = p.u64(p.program(6, 56));
            p.put(p.program(7, 56), &name.to_le_bytes());
        }),
        (Rule::ViewsDiffer, |p| {
            // the kernel is shown one program less; the one that misses is no initial value
            p.put(p.find(".text", &[0x48, 0xC7, 0x02, 0x0B, 0, 0, 0]) + 3, &[10]);
            let (values, other) = (p.at(p.u64(p.list(3) + 40)), p.u64(p.program(9, 56)));
            p.put(values, &other.to_le_bytes());
        }),
        (Rule::ViewsDiffer, |p| {
            // the kernel is shown one map less; no program uses the one that misses
            p.put(p.find(".text", &[0x48, 0xC7, 0x02, 0x12, 0, 0, 0]) + 3, &[17]);
            p.put(p.at(p.u64(p.program(1, 64))) + 32, &[16]);
        }),
    ];
    let mut wrong = Vec::new();
    for (i, (rule, break_it)) in cases.iter().enumerate() {
        let mut patched = Patched::new();
        break_it(&mut patched);
        let outcome = run(&RunRequest {
            image: patched.finish(),
            ..RunRequest::default()
        });
        let found = match &outcome {
            Err(SimulatorError::Kernel { violation, .. } | SimulatorError::UserMode(violation)) => Some(violation.rule),
            _ => None,
        };
        if found != Some(*rule) {
            let outcome = outcome.map_or_else(|e| e.to_string(), |_| "no error".into());
            wrong.push(format!("case {i}: {rule:?}: {outcome}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_right_program_info_hash_is_accepted() {
    let platform = bpf2sys_platform::Platform::builtin();
    let xdp = platform.program_types.iter().find(|t| t.name == "xdp").unwrap();
    let ids = (1..=25).chain(27..=34).chain([65536]);
    let hash = platform.program_info_hash(xdp, ids).unwrap();
    let mut patched = Patched::new();
    let at = patched.raw("hash");
    patched.put(at, &hash);
    let place = patched.address("hash", 0);
    let (pointer, length) = (patched.program(6, 120), patched.program(6, 128));
    patched.pointer(pointer, place).put(length, &[32]);
    run(&RunRequest {
        image: patched.finish(),
        ..RunRequest::default()
    })
    .unwrap();
}

#[test]
fn programs_of_older_versions_get_the_shorter_map_table() {
    let mut patched = Patched::new();
    let version = patched.find(".text", &[1, 0, 0, 0, 6, 0, 0, 0]);
    patched.put(version + 4, &[3]);
    let image = patched.finish();
    // This image reads the longer one, so all but its first map are wrong for it.
    let request = RunRequest {
        image,
        inputs: vec![packet("count", &[1, 2])],
        ..RunRequest::default()
    };
    let outcome = run(&request);
    assert!(
        matches!(&outcome, Err(SimulatorError::Kernel { violation, .. }) if violation.rule == Rule::HelperArgument)
    );
}

#[test]
fn truncated_and_garbled_files_are_errors() {
    for length in (0..IMAGE.len()).step_by(97) {
        assert!(
            run(&RunRequest {
                image: IMAGE[..length].to_vec(),
                ..RunRequest::default()
            })
            .is_err(),
            "{length}"
        );
    }
    assert!(crate::describe::describe(&[]).is_err());
    assert!(crate::describe::describe(b"MZ").is_err());
}

#[test]
fn flipped_bytes_never_panic_a_reader() {
    // A linear congruential generator, so that the flips are the same each time.
    let mut state = 12345u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    for _ in 0..1_500 {
        let mut bytes = IMAGE.to_vec();
        for _ in 0..4 {
            // Headers, tables and directories matter most.
            let limit = if next() % 2 == 0 { 0x400 } else { bytes.len() };
            let at = next() % limit;
            bytes[at] = if next() % 4 == 0 { 0xFF } else { next() as u8 };
        }
        if let Ok(description) = crate::describe::describe(&bytes) {
            assert!(description.sections.len() < 0x1_0000);
        }
    }
}

#[test]
fn describes_the_image() {
    let description = crate::describe::describe(IMAGE).unwrap();
    assert_eq!(description.machine, "x64");
    assert!(description.checksum_valid && !description.signed);
    assert_eq!(description.problems, Vec::<String>::new());
    assert_eq!(description.entry_section.as_deref(), Some(".text"));
    assert_eq!(description.imports[0], "ntoskrnl.exe!RtlQueryRegistryValues");
    assert_eq!(description.imports.len(), 5);
    let count = &description.uses[6];
    assert_eq!(
        (count.program.as_str(), count.helpers.len(), count.maps.len()),
        ("count", 34, 18)
    );
    assert_eq!((count.helpers[0].id, count.helpers[33].id), (1, 65536));
    assert_eq!((count.maps[0].as_str(), count.instructions), ("params", 7));
    let xdp = description.sections.iter().find(|s| s.name == "xdp").unwrap();
    assert_eq!(xdp.protection, "r-x");
    assert!(
        serde_json::to_string(&description)
            .unwrap()
            .contains("\"elf_hash\":\"010203")
    );
}
