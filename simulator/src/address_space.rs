//! Reading structures by address, from a file at its preferred base or from a mapped image.

use zerocopy::FromBytes;

use crate::image::Image;
use crate::rule::{Rule, Violation};

/// Memory that can be asked for bytes at an address.
pub trait AddressSpace {
    /// `length` bytes at `address`, if all of them may be read.
    fn read(&self, address: u64, length: usize) -> Option<Vec<u8>>;

    /// What lies at `address`, for messages. Contains no absolute addresses.
    fn place(&self, address: u64) -> String;

    /// A structure at `address`.
    fn read_as<T: FromBytes>(&self, address: u64, what: &str) -> Result<T, Violation> {
        self.read(address, size_of::<T>())
            .and_then(|bytes| T::read_from_bytes(&bytes).ok())
            .ok_or_else(|| Violation::new(Rule::WildPointer, format!("{what} points to {}", self.place(address))))
    }

    /// The NUL-terminated bytes at `address`, without the NUL. At most `limit` bytes are looked at.
    fn read_string(&self, address: u64, limit: usize, what: &str) -> Result<Vec<u8>, Violation> {
        let mut text = Vec::new();
        for i in 0..limit as u64 {
            match address.checked_add(i).and_then(|a| self.read(a, 1)).as_deref() {
                Some([0]) => return Ok(text),
                Some([byte]) => text.push(*byte),
                _ => {
                    let place = self.place(address);
                    return Err(Violation::new(Rule::WildPointer, format!("{what} points to {place}")));
                }
            }
        }
        Ok(text)
    }
}

/// A file, addressed as if it were mapped at its preferred base.
pub struct FileSpace<'i, 'a>(pub &'i Image<'a>);

impl AddressSpace for FileSpace<'_, '_> {
    fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        self.0.file_bytes(self.0.rva_of(address)?, length).map(<[u8]>::to_vec)
    }

    fn place(&self, address: u64) -> String {
        match self.0.rva_of(address).map(|rva| (rva, self.0.section_at(rva))) {
            _ if address == 0 => "NULL".into(),
            Some((rva, Some(section))) => format!("{}+{:#x}", section.display_name(), rva.0 - section.rva.0),
            Some((rva, None)) => format!("no section (RVA {rva})"),
            None => "an address outside the image".into(),
        }
    }
}
