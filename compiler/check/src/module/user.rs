//! Sections `maps` and `programs` as user mode searches them (native module contract §5.2).

use bpf2sys_simulator::image::{Image, Section};
use bpf2sys_simulator::tables::{MapEntry, ProgramEntry};
use zerocopy::FromBytes;

/// A table in a section of its own.
#[derive(Debug)]
pub(crate) struct UserTable<T> {
    /// The section.
    pub(crate) section: Section,
    /// Whether the raw data reaches as far as user mode reads: to `VirtualSize`.
    pub(crate) in_file: bool,
    /// Offset of the first entry, if user mode finds one.
    pub(crate) start: Option<usize>,
    /// Whether the runtime has the first entry elsewhere in the section. The entries are not read then.
    pub(crate) misread: bool,
    /// Bytes from one entry to the next; 0 if the first entry does not say.
    pub(crate) stride: usize,
    /// The entries up to `VirtualSize`.
    pub(crate) entries: Vec<T>,
}

impl<T> UserTable<T> {
    /// Notes where the runtime has the first entry.
    pub(crate) fn compare(&mut self, image: &Image<'_>, address: u64) {
        let theirs = image.rva_of(address).filter(|rva| self.section.contains(*rva));
        let offset = theirs.map(|rva| (rva.0 - self.section.rva.0) as usize);
        self.misread = offset.is_some() && self.start.is_some() && offset != self.start;
        if self.misread {
            self.entries.clear();
        }
    }

    /// Bytes from the first entry to `VirtualSize`.
    pub(crate) fn bytes(&self) -> usize {
        (self.section.virtual_size as usize).saturating_sub(self.start.unwrap_or(0))
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Section `maps`.
pub(crate) fn maps(image: &Image<'_>) -> Option<UserTable<MapEntry>> {
    table(image, "maps", size_of::<MapEntry>(), |data| {
        let offsets = (0..data.len()).step_by(8).take_while(|offset| offset + 24 < data.len());
        let starts = |at: &usize| {
            let entry = &data[*at..];
            is_zero(&entry[..16]) && !is_zero(&entry[16..24]) && (*at == 0 || data[at - 1] == 0)
        };
        let start = { offsets }.find(starts)?;
        Some((start, size_of::<MapEntry>()))
    })
}

/// Section `programs`.
pub(crate) fn programs(image: &Image<'_>) -> Option<UserTable<ProgramEntry>> {
    table(image, "programs", size_of::<ProgramEntry>(), |data| {
        let offsets = (0..data.len())
            .step_by(16)
            .take_while(|offset| offset + 8 <= data.len());
        let starts = |at: &usize| is_zero(&data[*at..at + 8]) && (*at == 0 || data[at - 1] == 0);
        let start = { offsets }.find(starts)?;
        let stated = data.get(start + 24..start + 32).and_then(|b| b.try_into().ok());
        let stride = u64::from_le_bytes(stated?);
        let stride = usize::try_from(stride).ok().filter(|n| *n >= size_of::<ProgramEntry>());
        Some((start, stride.unwrap_or(0)))
    })
}

/// Reads a table, given where it starts and the distance of its entries.
fn table<T: FromBytes>(
    image: &Image<'_>,
    name: &str,
    size: usize,
    find: impl Fn(&[u8]) -> Option<(usize, usize)>,
) -> Option<UserTable<T>> {
    let section = image
        .sections
        .iter()
        .find(|section| section.name == name.as_bytes())?
        .clone();
    let data = image
        .raw_data(&section)
        .and_then(|data| data.get(..section.virtual_size as usize));
    let found = data.and_then(&find);
    let mut entries = Vec::new();
    if let (Some(data), Some((start, stride))) = (data, found)
        && stride != 0
    {
        let chunks = data[start..].chunks_exact(stride);
        entries.extend(chunks.filter_map(|bytes| T::read_from_bytes(&bytes[..size]).ok()));
    }
    Some(UserTable {
        section,
        in_file: data.is_some(),
        misread: false,
        start: found.map(|(start, _)| start),
        stride: found.map_or(0, |(_, stride)| stride),
        entries,
    })
}
