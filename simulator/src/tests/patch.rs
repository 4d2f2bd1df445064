//! Changing places of the test image, found by what they are.

use super::fixture::{image, on_arm64};
use bpf2sys_simulator::image::{DirectoryKind, Image, Section};

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// `nop` of ARM64.
pub const NOP: u32 = 0xD503_201F;

/// Code to find, bytes from there, and what to put there.
type Bytes<'a> = (&'a [u8], isize, &'a [u8]);
/// The same in instructions of ARM64, with a distance in instructions.
type Words<'a> = (&'a [u32], usize, &'a [u32]);

/// One thing to break.
pub type Break = fn(&mut Patched);

/// An image that is being broken.
pub struct Patched {
    /// The file so far.
    pub bytes: Vec<u8>,
}

impl Patched {
    pub fn new() -> Self {
        Self::of(image())
    }

    pub fn of(image: &[u8]) -> Self {
        Patched { bytes: image.to_vec() }
    }

    pub fn image(&self) -> Image<'_> {
        Image::parse(&self.bytes).unwrap()
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn u64(&self, at: usize) -> u64 {
        read_u64(&self.bytes, at).unwrap()
    }

    /// Offset of the optional header.
    pub fn optional(&self) -> usize {
        self.image().checksum_offset() - 64
    }

    /// Offset of a data directory's entry.
    pub fn directory(&self, kind: DirectoryKind) -> usize {
        self.optional() + 112 + 8 * kind as usize
    }

    pub fn section(&self, name: &str) -> Section {
        self.image()
            .sections
            .iter()
            .find(|s| s.name == name.as_bytes())
            .unwrap()
            .clone()
    }

    /// Offset of a section's header.
    pub fn header(&self, name: &str) -> usize {
        let index = self
            .image()
            .sections
            .iter()
            .position(|s| s.name == name.as_bytes())
            .unwrap();
        self.optional() + 240 + 40 * index
    }

    /// Offset of a section's raw data.
    pub fn raw(&self, name: &str) -> usize {
        self.section(name).raw_offset as usize
    }

    /// File offset of an address in terms of the preferred base.
    pub fn at(&self, address: u64) -> usize {
        let image = self.image();
        let rva = image.rva_of(address).unwrap();
        let section = image.section_at(rva).unwrap();
        (rva.0 - section.rva.0 + section.raw_offset) as usize
    }

    /// Address of a place in a section.
    pub fn address(&self, section: &str, offset: u64) -> u64 {
        self.image().image_base + u64::from(self.section(section).rva.0) + offset
    }

    /// The only place in a section where `bytes` are.
    pub fn find(&self, section: &str, bytes: &[u8]) -> usize {
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

    /// Changes code of `.text`, which is another on each machine.
    pub fn code(&mut self, x64: Bytes<'_>, arm64: Words<'_>) {
        if on_arm64() {
            let (find, distance, put) = arm64;
            self.put_code(self.find_code(find) + 4 * distance, put);
        } else {
            let (find, distance, put) = x64;
            let at = self.find(".text", find).strict_add_signed(distance);
            self.put(at, put);
        }
    }

    /// The only place of these ARM64 instructions.
    pub fn find_code(&self, words: &[u32]) -> usize {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.find(".text", &bytes)
    }

    /// Puts ARM64 instructions.
    pub fn put_code(&mut self, at: usize, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.put(at, &bytes);
    }

    /// The place of an eight-byte number in `.rdata` that a pointer into `.text` follows.
    pub fn before_code_pointer(&self, number: u64) -> usize {
        let (start, text) = (self.raw(".rdata"), self.section(".text"));
        let base = self.image().image_base + u64::from(text.rva.0);
        (start..start + self.section(".rdata").raw_size as usize - 16)
            .step_by(8)
            .find(|&at| self.u64(at) == number && (base..base + 0x1000).contains(&self.u64(at + 8)))
            .unwrap()
    }

    pub fn metadata(&self) -> usize {
        self.before_code_pointer(56)
    }

    pub fn characteristics(&self) -> usize {
        self.before_code_pointer(72 << 16)
    }

    /// The entry of a table of initial values or global sections whose number at +32 is given.
    pub fn list(&self, number: u64) -> usize {
        let (start, size) = (self.raw(".rdata"), self.section(".rdata").raw_size as usize);
        (start..start + size - 48)
            .step_by(8)
            .find(|&at| {
                [1, 48, 48] == [self.u64(at), self.u64(at + 8), self.u64(at + 16)] && self.u64(at + 32) == number
            })
            .unwrap()
    }

    /// A row of the query table: the second is the one with a routine, and asks for a value that must be there.
    pub fn query_row(&self, index: usize) -> usize {
        let (start, text) = (self.raw(".rdata"), self.section(".text"));
        let base = self.image().image_base + u64::from(text.rva.0);
        let second = (start..start + self.section(".rdata").raw_size as usize - 16)
            .step_by(8)
            .find(|&at| self.u64(at + 8) == 4 && (base..base + 0x1000).contains(&self.u64(at)))
            .unwrap();
        second - 56 + 56 * index
    }

    /// Offset of a field of a program.
    pub fn program(&self, index: usize, field: usize) -> usize {
        self.raw("programs") + 160 * index + field
    }

    /// Offset of a field of a map.
    pub fn map(&self, index: usize, field: usize) -> usize {
        self.raw("maps") + 80 * index + field
    }

    /// Offset of a field of a program's helper.
    pub fn helper(&self, program: usize, slot: usize, field: usize) -> usize {
        self.at(self.u64(self.program(program, 80))) + 40 * slot + field
    }

    /// Puts an address where there was no relocation.
    pub fn pointer(&mut self, at: usize, address: u64) -> &mut Self {
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

    /// Takes away the relocation of a pointer, and the pointer.
    pub fn pointer_away(&mut self, at: usize) {
        let image = self.image();
        let section = image
            .sections
            .iter()
            .find(|s| (s.raw_offset..s.raw_offset + s.raw_size).contains(&(at as u32)))
            .unwrap();
        let rva = at as u32 - section.raw_offset + section.rva.0;
        let entry = self.directory(DirectoryKind::BaseRelocation);
        let (mut offset, size) = (self.raw(".reloc"), read_u32(&self.bytes, entry + 4).unwrap());
        let end = offset + size as usize;
        while offset < end {
            let length = read_u32(&self.bytes, offset + 4).unwrap() as usize;
            if read_u32(&self.bytes, offset) == Some(rva & !0xFFF) {
                let wanted = (0xA000 | (rva & 0xFFF) as u16).to_le_bytes();
                let place = (offset + 8..offset + length)
                    .step_by(2)
                    .find(|&i| self.bytes[i..i + 2] == wanted);
                self.put(place.unwrap(), &[0; 2]);
            }
            offset += length;
        }
        self.put(at, &[0; 8]);
    }

    /// The bytes, with the right checksum.
    pub fn finish(mut self) -> Vec<u8> {
        let image = self.image();
        let (at, sum) = (image.checksum_offset(), image.computed_checksum());
        self.put(at, &sum.to_le_bytes());
        self.bytes
    }
}
