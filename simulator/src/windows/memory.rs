//! Memory that the image and the simulated kernel share, and the record of what lies where.
//!
//! Every block sits between guard pages, and its end, not its start, is at a page boundary, so that running past it
//! faults at the first byte. All reads and writes of that memory by the simulator go through [`Memory`], which knows
//! each block's bounds.
//!
//! Where the image's code is emulated, the emulator is told of every protection, so that the code sees this memory at
//! its own addresses. The host's processor then executes none of it, and no page is executable for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use super::host::{self, Protection};
use super::unicorn::Engine;
use crate::address_space::AddressSpace;

/// Size of a page.
pub const PAGE: usize = 4096;

/// What may be done with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Nothing: guard pages and discarded sections.
    None,
    /// The kernel's own memory: helpers must not be given it.
    Kernel,
    /// The kernel's own memory, mapped read-only.
    KernelRead,
    /// Programs may hand it to helpers for reading.
    Read,
    /// Programs may hand it to helpers for reading and writing.
    ReadWrite,
}

/// A run of bytes with one meaning.
#[derive(Clone, Debug)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// What it is, for messages.
    pub label: String,
    /// What may be done with it.
    pub allowed: Use,
}

impl Region {
    fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// The host has no memory left for a block.
#[derive(Clone, Copy, Debug)]
pub struct OutOfMemory;

/// All memory of one simulated kernel.
#[derive(Default)]
pub struct Memory {
    regions: BTreeMap<u64, Region>,
    mapped: u64,
    /// Mappings of the host, by start, with their length.
    mappings: BTreeMap<u64, u64>,
    guarded_values: usize,
    /// What is left of the block that values are packed into: start and bytes.
    slab: (u64, u64),
    packed: BTreeSet<u64>,
    /// Where the poisoned parts around blocks start that are not sealed.
    slack: BTreeSet<u64>,
    emulator: Option<Rc<Engine>>,
    /// Where mappings for the emulator are still to be made.
    rest: Range<u64>,
    /// The host's pages are larger than these, so that only the emulator protects them.
    coarse: bool,
}

/// What the bytes around a block are filled with.
const SLACK: u8 = 0xC7;
/// A page of it, to compare many bytes at once.
const CLEAN: [u8; PAGE] = [SLACK; PAGE];

/// How many map values get guard pages of their own.
const GUARDED_VALUES: usize = 4096;
/// Bytes of a block that values are packed into.
const SLAB: usize = 1 << 20;

/// Most bytes that all blocks together may take: more than any test needs, less than a machine has.
const LIMIT: u64 = 4 << 30;

/// Addresses of the memory that the emulator sees: the upper half of the 44 bits that its ARM64 processor has. Some kernels for ARM64
/// give processes 39 bits only; there, a part of these in which the system places nothing by itself.
const EMULATED: [Range<u64>; 2] = [1 << 43..1 << 44, 1 << 37..1 << 38];

/// Bytes that are compared at once.
const LANES: usize = 64;

impl Memory {
    /// Memory that code in an emulator sees.
    pub fn emulated(emulator: Rc<Engine>) -> Memory {
        let range = EMULATED.into_iter().find(|range| can_map(range.start));
        Memory {
            emulator: Some(emulator),
            rest: range.unwrap_or_default(),
            coarse: host::page_size() != PAGE,
            ..Memory::default()
        }
    }

    /// Whether code in an emulator sees it.
    pub fn is_emulated(&self) -> bool {
        self.emulator.is_some()
    }

    /// A zeroed block of `length` bytes that ends at a guard page, rounded so that it starts at a multiple of
    /// `align`. Returns the address of its first byte.
    pub fn allocate(&mut self, length: usize, align: usize, label: &str, allowed: Use) -> Result<u64, OutOfMemory> {
        let used = pages_for(length, align);
        let base = self.map_pages(used + 2 * PAGE)?;
        self.protect(base + PAGE as u64, used, Protection::READ | Protection::WRITE)?;
        Ok(self.lay_out(base, used, (length, align), label, allowed))
    }

    /// The block that starts at `start` and that `allocate` gave, with another length, meaning and content: as `free`
    /// and `allocate` would do it, but in place where the pages suffice, which costs the host nothing.
    pub fn reallocate(
        &mut self,
        start: u64,
        length: usize,
        align: usize,
        label: &str,
        allowed: Use,
    ) -> Result<u64, OutOfMemory> {
        let used = pages_for(length, align);
        match self.span(start) {
            Some((base, end)) if (end - base) as usize == used + 2 * PAGE => {
                self.forget(base, end);
                assert!(self.is_mapped(base + PAGE as u64, used as u64));
                // SAFETY: the bytes between a block's guard pages are in a mapping of this, and writable: only blocks
                // that live on are sealed.
                unsafe { std::ptr::write_bytes((base + PAGE as u64) as *mut u8, 0, used) };
                Ok(self.lay_out(base, used, (length, align), label, allowed))
            }
            _ => {
                self.free(start);
                self.allocate(length, align, label, allowed)
            }
        }
    }

    /// Poisons and records the parts of a block whose first guard page is at `base`.
    fn lay_out(&mut self, base: u64, used: usize, (length, align): (usize, usize), label: &str, allowed: Use) -> u64 {
        let body = base + PAGE as u64;
        let start = body + (used - length.next_multiple_of(align.max(1))) as u64;
        self.add(Region {
            start: base,
            length: PAGE as u64,
            label: format!("the guard page before {label}"),
            allowed: Use::None,
        });
        if start > body {
            self.poison(body, start - body);
            self.slack.insert(body);
            self.add(Region {
                start: body,
                length: start - body,
                label: format!("the bytes before {label}"),
                allowed: Use::Kernel,
            });
        }
        if length > 0 {
            self.add(Region {
                start,
                length: length as u64,
                label: label.to_owned(),
                allowed,
            });
        }
        let end = start + length as u64;
        let guard = body + used as u64;
        if guard > end {
            self.poison(end, guard - end);
            self.slack.insert(end);
            self.add(Region {
                start: end,
                length: guard - end,
                label: format!("the padding after {label}"),
                allowed: Use::Kernel,
            });
        }
        self.add(Region {
            start: guard,
            length: PAGE as u64,
            label: format!("the guard page after {label}"),
            allowed: Use::None,
        });
        start
    }

    /// A zeroed block for a map value: guarded like any other as long as there are few, densely packed after that,
    /// because the host limits the number of mappings.
    pub fn allocate_value(&mut self, length: usize, label: &str) -> Result<u64, OutOfMemory> {
        if self.guarded_values < GUARDED_VALUES {
            self.guarded_values += 1;
            return self.allocate(length, 8, label, Use::ReadWrite);
        }
        let size = length.next_multiple_of(8).max(8) as u64;
        if self.slab.1 < size {
            let slab = (size as usize).max(SLAB);
            let start = self.map_pages(slab)?;
            self.protect(start, slab, Protection::READ | Protection::WRITE)?;
            self.slab = (start, slab as u64);
        }
        let start = self.slab.0;
        self.slab = (start + size, self.slab.1 - size);
        self.add(Region {
            start,
            length: length as u64,
            label: label.to_owned(),
            allowed: Use::ReadWrite,
        });
        self.packed.insert(start);
        Ok(start)
    }

    /// Frees a block that `allocate_value` gave. Packed ones are not used again.
    pub fn free_value(&mut self, start: u64) {
        if self.packed.remove(&start) {
            self.regions.remove(&start);
        } else {
            self.guarded_values = self.guarded_values.saturating_sub(1);
            self.free(start);
        }
    }

    fn poison(&self, start: u64, length: u64) {
        assert!(self.is_mapped(start, length));
        // SAFETY: the bytes are in a mapping of this; `allocate` calls this for parts of a block that it has just mapped writable.
        unsafe { std::ptr::write_bytes(start as *mut u8, SLACK, length as usize) };
    }

    /// The label of a part around a block that something has written to. Sealed blocks need no look: writing there faults.
    pub fn damaged_slack(&self) -> Option<&str> {
        self.slack
            .iter()
            .filter_map(|start| self.regions.get(start))
            .find(|r| {
                self.read(r.start, r.length as usize)
                    .is_some_and(|b| b.chunks(PAGE).any(|part| part != &CLEAN[..part.len()]))
            })
            .map(|r| r.label.as_str())
    }

    /// Makes a block that `allocate` gave read-only, for the simulator too.
    pub fn seal(&mut self, start: u64) -> Result<(), OutOfMemory> {
        let Some(length) = self.regions.get(&start).map(|r| r.length) else {
            return Ok(());
        };
        let page = start & !(PAGE as u64 - 1);
        self.protect(page, (start + length - page) as usize, Protection::READ)?;
        let end = (start + length).next_multiple_of(PAGE as u64);
        for (place, region) in self.regions.range_mut(page..end) {
            region.allowed = Use::KernelRead;
            self.slack.remove(place);
        }
        Ok(())
    }

    /// Replaces the bytes of a sealed block, which stays read-only for programs. Returns false if it is no such block or has
    /// another size.
    pub fn rewrite(&mut self, start: u64, bytes: &[u8]) -> Result<bool, OutOfMemory> {
        let fits = self
            .regions
            .get(&start)
            .is_some_and(|r| r.allowed == Use::KernelRead && r.length == bytes.len() as u64);
        if !fits {
            return Ok(false);
        }
        let page = start & !(PAGE as u64 - 1);
        let length = (start - page) as usize + bytes.len();
        self.protect(page, length, Protection::READ | Protection::WRITE)?;
        // SAFETY: the pages of the block were made writable in the line before.
        unsafe { self.write_while_mapping(start, bytes) };
        self.protect(page, length, Protection::READ)?;
        Ok(true)
    }

    /// Cuts the region that starts at `start` in two; the first part gets another meaning.
    pub fn split(&mut self, start: u64, at: u64, label: String, allowed: Use) {
        let Some(mut rest) = self.regions.remove(&start).filter(|r| at < r.length) else {
            return;
        };
        self.add(Region {
            start,
            length: at,
            label,
            allowed,
        });
        rest.start += at;
        rest.length -= at;
        self.add(rest);
    }

    /// Inaccessible pages at an address of the host's choice.
    pub fn map_pages(&mut self, length: usize) -> Result<u64, OutOfMemory> {
        self.mapped += length as u64;
        if self.mapped > LIMIT {
            return Err(OutOfMemory);
        }
        let address = if self.emulator.is_some() {
            let address = self.rest.start;
            self.rest.start += (length as u64).next_multiple_of(host::GRANULE.max(host::page_size() as u64));
            if self.rest.start > self.rest.end || host::map(address, length) != Some(address) {
                return Err(OutOfMemory);
            }
            if self.coarse {
                // SAFETY: they were mapped above, and nobody knows them yet.
                let done = unsafe { host::protect(address, length, Protection::READ | Protection::WRITE) };
                if !done {
                    return Err(OutOfMemory);
                }
            }
            address
        } else {
            host::map(0, length).ok_or(OutOfMemory)?
        };
        self.mappings.insert(address, length as u64);
        Ok(address)
    }

    /// Whether the bytes lie in one mapping of this.
    fn is_mapped(&self, start: u64, length: u64) -> bool {
        let mapping = self.mappings.range(..=start).next_back();
        mapping.is_some_and(|(&base, &size)| start - base <= size && length <= size - (start - base))
    }

    /// Sets the protection of whole pages that `map_pages` gave.
    pub fn protect(&mut self, start: u64, length: usize, protection: Protection) -> Result<(), OutOfMemory> {
        let length = length.next_multiple_of(PAGE);
        assert!(self.is_mapped(start, length as u64), "only pages of this are protected");
        let host = match &self.emulator {
            Some(emulator) => {
                emulator.set_protection(start, length as u64, protection);
                if self.coarse {
                    return Ok(());
                }
                if protection == Protection::NONE {
                    protection
                } else {
                    protection.without_execution() | Protection::READ
                }
            }
            None => protection,
        };
        // SAFETY: the pages are in a mapping made by `map_pages`, which no Rust value lives in: Rust code reaches
        // them only through the copying functions below.
        let done = unsafe { host::protect(start, length, host) };
        if done { Ok(()) } else { Err(OutOfMemory) }
    }

    /// Records what lies at a place. Regions do not overlap.
    pub fn add(&mut self, region: Region) {
        assert!(
            self.is_mapped(region.start, region.length),
            "only memory of this has regions"
        );
        self.regions.insert(region.start, region);
    }

    /// Gives the region that starts at `start` another meaning.
    pub fn relabel(&mut self, start: u64, label: String, allowed: Use) {
        if let Some(region) = self.regions.get_mut(&start) {
            region.label = label;
            region.allowed = allowed;
        }
    }

    /// The region that holds `address`.
    pub fn region(&self, address: u64) -> Option<&Region> {
        self.regions
            .range(..=address)
            .next_back()
            .map(|(_, region)| region)
            .filter(|r| address < r.end())
    }

    /// Whether `length` bytes at `address` lie in one region that allows as much as `allowed` asks for.
    fn accessible(&self, address: u64, length: usize, test: impl Fn(Use) -> bool) -> bool {
        self.region(address)
            .is_some_and(|r| test(r.allowed) && length as u64 <= r.end() - address)
    }

    /// Whether a program may have a helper read these bytes.
    pub fn program_may_read(&self, address: u64, length: usize) -> bool {
        length == 0 || self.accessible(address, length, |u| matches!(u, Use::Read | Use::ReadWrite))
    }

    /// Whether a program may have a helper write these bytes.
    pub fn program_may_write(&self, address: u64, length: usize) -> bool {
        length == 0 || self.accessible(address, length, |u| u == Use::ReadWrite)
    }

    /// Writes bytes. Returns false, and writes nothing, unless all of them lie in one region that is mapped.
    #[must_use]
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        if !self.accessible(address, bytes.len(), |u| matches!(u, Use::Kernel | Use::ReadWrite)) {
            return false;
        }
        // SAFETY: the range lies in one region, and regions with these uses are mapped readable and writable for as
        // long as they are recorded. The source is a Rust slice, which cannot overlap memory that no Rust value owns.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
        true
    }

    /// Fills bytes. Returns false, and writes nothing, unless all of them lie in one region that is mapped.
    #[must_use]
    pub fn fill(&mut self, address: u64, length: usize, byte: u8) -> bool {
        if length == 0 {
            return true;
        }
        if !self.accessible(address, length, |u| matches!(u, Use::Kernel | Use::ReadWrite)) {
            return false;
        }
        // SAFETY: as in `write`.
        unsafe { std::ptr::write_bytes(address as *mut u8, byte, length) };
        true
    }

    /// How many bytes from this address on are `byte`, up to `length`; 0 if they are not all in one region that is mapped.
    pub fn leading(&self, address: u64, length: usize, byte: u8) -> usize {
        if length == 0 || !self.accessible(address, length, |u| u != Use::None) {
            return 0;
        }
        // SAFETY: the range lies in one region, and regions with these uses are mapped readable for as long as they are recorded. Nothing
        // writes there while the slice lives.
        let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, length) };
        // Long runs of it are the rule: many at a time.
        let is_all = |chunk: &&[u8]| chunk.iter().fold(0, |other, found| other | (found ^ byte)) == 0;
        let chunks = bytes.chunks_exact(LANES).take_while(is_all);
        let before = chunks.count() * LANES;
        before + bytes[before..].iter().take_while(|found| **found == byte).count()
    }

    /// Writes bytes whatever the region allows programs, for the image's sections while they are being set up.
    ///
    /// # Safety
    /// The range must be mapped writable at this moment.
    pub unsafe fn write_while_mapping(&mut self, address: u64, bytes: &[u8]) {
        assert!(
            self.is_mapped(address, bytes.len() as u64),
            "only memory of this is written"
        );
        // SAFETY: promised by the caller; the source cannot overlap memory that no Rust value owns.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
    }

    /// A u64 at `address`.
    pub fn read_u64(&self, address: u64) -> Option<u64> {
        self.read(address, 8)
            .and_then(|b| b.try_into().ok())
            .map(u64::from_le_bytes)
    }

    /// Where the block that starts at `start` begins and ends, guard pages included.
    fn span(&self, start: u64) -> Option<(u64, u64)> {
        let guard = self.regions.range(..start).next_back().map(|(&s, _)| s)?;
        // The block may have a region of padding between its guard page and its start.
        let base = if self.regions.get(&guard).is_some_and(|r| r.allowed == Use::None) {
            guard
        } else {
            match self.regions.range(..guard).next_back() {
                Some((&s, region)) if region.allowed == Use::None => s,
                _ => return None,
            }
        };
        let end = self
            .regions
            .range(start..)
            .find(|(_, r)| r.allowed == Use::None)
            .map(|(_, r)| r.end())?;
        Some((base, end))
    }

    /// Forgets all regions of a block.
    fn forget(&mut self, base: u64, end: u64) {
        let starts: Vec<u64> = self.regions.range(base..end).map(|(&s, _)| s).collect();
        for start in starts {
            self.regions.remove(&start);
            self.slack.remove(&start);
        }
    }

    /// Frees a block that `allocate` gave, and forgets its regions. Nothing may use it afterwards but by fault.
    pub fn free(&mut self, start: u64) {
        let Some((base, end)) = self.span(start) else { return };
        self.forget(base, end);
        self.mapped -= end - base;
        self.mappings.remove(&base);
        if let Some(emulator) = &self.emulator {
            emulator.set_protection(base, end - base, Protection::NONE);
        }
        // SAFETY: base to end is exactly one mapping of `map_pages`, guard pages included, and its regions are gone,
        // so no later read or write of the simulator reaches it.
        unsafe { host::unmap(base, (end - base) as usize) };
    }
}

/// Bytes of the pages that a block takes, without its guard pages.
fn pages_for(length: usize, align: usize) -> usize {
    length.next_multiple_of(align.max(1)).next_multiple_of(PAGE).max(PAGE)
}

/// Whether the host gives this process pages at `address`.
fn can_map(address: u64) -> bool {
    let found = host::map(address, PAGE);
    if let Some(page) = found {
        // SAFETY: the page was mapped in the line before, and nobody knows it.
        unsafe { host::unmap(page, PAGE) };
    }
    found == Some(address)
}

impl AddressSpace for Memory {
    fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        if length == 0 {
            return Some(Vec::new());
        }
        if !self.accessible(address, length, |u| u != Use::None) {
            return None;
        }
        let mut bytes = vec![0; length];
        // SAFETY: the range lies in one region, and regions with these uses are mapped readable for as long as they
        // are recorded. The destination is a fresh buffer of that length.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), length) };
        Some(bytes)
    }

    fn place(&self, address: u64) -> String {
        match self.region(address) {
            _ if address == 0 => "NULL".into(),
            _ if address < 0x1_0000 => format!("NULL+{address:#x}"),
            Some(region) => format!("{}+{:#x}", region.label, address - region.start),
            None => "memory that nothing was mapped at".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_around_a_block_are_watched_until_it_is_sealed_or_freed() {
        let mut memory = Memory::default();
        let sealed = memory.allocate(10, 1, "sealed", Use::ReadWrite).unwrap();
        memory.seal(sealed).unwrap();
        let open = memory.allocate(10, 1, "open", Use::ReadWrite).unwrap();
        assert_eq!((memory.slack.len(), memory.damaged_slack()), (1, None));
        assert!(memory.write(open - 1, &[0]));
        assert_eq!(memory.damaged_slack(), Some("the bytes before open"));
        memory.free(open);
        assert_eq!((memory.slack.len(), memory.damaged_slack()), (0, None));
    }

    #[test]
    fn a_block_ends_at_its_guard_page_and_is_bounded() {
        let mut memory = Memory::default();
        let start = memory.allocate(10, 1, "ten", Use::ReadWrite).unwrap();
        assert_eq!((start + 10) % PAGE as u64, 0);
        assert!(memory.write(start, &[1; 10]));
        assert!(!memory.write(start, &[1; 11]));
        assert_eq!(memory.read(start + 8, 2).unwrap(), [1, 1]);
        assert!(memory.read(start + 8, 3).is_none());
        assert_eq!(memory.place(start + 10), "the guard page after ten+0x0");
        assert_eq!(memory.place(start + 3), "ten+0x3");
        assert!(memory.program_may_write(start, 10));
        assert!(
            !memory.program_may_read(start - 1, 1),
            "bytes before a block are not the program's"
        );
    }

    #[test]
    fn a_block_gets_another_length_in_place_where_its_pages_suffice() {
        let mut memory = Memory::default();
        let start = memory.allocate(100, 1, "packet", Use::ReadWrite).unwrap();
        assert!(memory.write(start, &[7; 100]));
        let (end, mapped) = (start + 100, memory.mapped);
        let shorter = memory.reallocate(start, 0, 1, "packet", Use::ReadWrite).unwrap();
        assert_eq!((shorter, memory.mapped), (end, mapped));
        assert_eq!(memory.place(end), "the guard page after packet+0x0");
        assert_eq!(memory.damaged_slack(), None);
        let longer = memory.reallocate(shorter, 200, 16, "other", Use::Read).unwrap();
        assert_eq!(longer, end - 208);
        assert_eq!(memory.read(longer, 200).unwrap(), [0; 200]);
        assert!(memory.program_may_read(longer, 200) && !memory.program_may_write(longer, 1));
        assert_eq!(memory.place(longer + 200), "the padding after other+0x0");
        let larger = memory.reallocate(longer, PAGE + 1, 1, "large", Use::Read).unwrap();
        assert_eq!(memory.read(larger, PAGE + 1).unwrap(), [0; PAGE + 1]);
        assert_eq!(memory.mapped, 4 * PAGE as u64);
    }

    #[test]
    fn freed_blocks_are_forgotten() {
        let mut memory = Memory::default();
        let other = memory.allocate(PAGE, 8, "other", Use::ReadWrite).unwrap();
        let start = memory.allocate(24, 8, "gone", Use::ReadWrite).unwrap();
        memory.free(start);
        assert!(memory.read(start, 1).is_none());
        assert!(memory.read(other, PAGE).is_some());
        memory.free(other);
        assert!(memory.region(other).is_none());
        assert_eq!(memory.mapped, 0);
    }

    #[test]
    fn a_sealed_block_can_be_rewritten_and_stays_sealed() {
        let mut memory = Memory::default();
        let start = memory.allocate(16, 16, "table", Use::Kernel).unwrap();
        assert!(!memory.rewrite(start, &[1; 16]).unwrap(), "it is not sealed");
        memory.seal(start).unwrap();
        assert!(!memory.rewrite(start, &[1; 8]).unwrap() && !memory.rewrite(start + 8, &[1; 8]).unwrap());
        assert!(memory.rewrite(start, &[1; 16]).unwrap());
        assert_eq!(memory.read(start, 16).unwrap(), [1; 16]);
        assert!(!memory.write(start, &[2]) && !memory.program_may_read(start, 1));
    }

    #[test]
    fn huge_blocks_are_refused() {
        assert!(Memory::default().allocate(1 << 40, 8, "huge", Use::ReadWrite).is_err());
    }
}
