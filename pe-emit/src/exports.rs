//! The export directory: the names that an image offers, and where they are.
//!
//! ```text
//! directory     one structure                                          (data directory 0)
//! addresses     an RVA for each export
//! names         an RVA for each name, sorted by its bytes: Windows searches it by bisection
//! ordinals      for each name, its position among the addresses
//! name of the image, names of exports
//! ```
//! (PE format, "The .edata Section".) Addresses are in the order of the names, so ordinals ascend from 0. The directory
//! spans all of it: an address inside would mean a forwarder, and no export can lie there.

use std::mem::size_of;

use object::endian::{LittleEndian, U16, U32};
use object::pe::ImageExportDirectory;
use object::pod::bytes_of;

use crate::address::Rva;
use crate::error::LinkError;
use crate::imports::is_name;
use crate::native_object::{NativeObject, Purpose, SymbolIndex};
use crate::symbols::Addresses;

/// The directory and its tables are made of 32-bit words.
pub(crate) const ALIGN: u32 = 4;

/// Ordinals count from this, as they do for every linker.
const ORDINAL_BASE: u32 = 1;
/// An export's ordinal has 16 bits.
const EXPORTS_MAX: usize = u16::MAX as usize;

/// The export directory of an image, with every offset from its start known.
pub(crate) struct ExportTable<'a> {
    image_name: &'a str,
    /// By name: the symbols to export, and where their names are.
    exports: Vec<(&'a str, SymbolIndex, usize)>,
    /// Size of everything.
    size: usize,
}

impl<'a> ExportTable<'a> {
    /// Plans the directory of an object whose symbols have been checked; empty if it exports nothing.
    pub(crate) fn new(object: &'a NativeObject) -> Result<Self, LinkError> {
        let mut table = Self {
            image_name: "",
            exports: Vec::new(),
            size: 0,
        };
        let Purpose::Dll { name, exports, .. } = &object.purpose else {
            return Ok(table);
        };
        if !is_name(name) {
            return Err(LinkError::DllName { name: name.clone() });
        }
        if exports.len() > EXPORTS_MAX {
            return Err(LinkError::TooManyExports { count: exports.len() });
        }
        if exports.is_empty() {
            return Ok(table);
        }
        table.image_name = name;
        let named = |symbol: &SymbolIndex| Some((object.symbols.get(symbol.0 as usize)?.name.as_str(), *symbol, 0));
        table.exports = exports.iter().filter_map(named).collect();
        table.exports.sort_unstable();
        let mut end = table.image_name_offset() + name.len() + 1;
        for (name, _, offset) in &mut table.exports {
            *offset = end;
            end += name.len() + 1;
        }
        table.size = end;
        Ok(table)
    }

    /// Size of everything in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    fn names_offset(&self) -> usize {
        size_of::<ImageExportDirectory>() + self.exports.len() * size_of::<u32>()
    }

    fn ordinals_offset(&self) -> usize {
        self.names_offset() + self.exports.len() * size_of::<u32>()
    }

    fn image_name_offset(&self) -> usize {
        self.ordinals_offset() + self.exports.len() * size_of::<u16>()
    }

    /// The bytes of everything at `start`.
    pub(crate) fn write(&self, start: Rva, addresses: &Addresses) -> Vec<u8> {
        let at = |offset: usize| start.plus(offset as u32).0;
        let count = self.exports.len() as u32;
        let mut out = Vec::with_capacity(self.size);
        out.extend_from_slice(bytes_of(&ImageExportDirectory {
            characteristics: 0.into(),
            time_date_stamp: 0.into(),
            major_version: 0.into(),
            minor_version: 0.into(),
            name: at(self.image_name_offset()).into(),
            base: ORDINAL_BASE.into(),
            number_of_functions: count.into(),
            number_of_names: count.into(),
            address_of_functions: at(size_of::<ImageExportDirectory>()).into(),
            address_of_names: at(self.names_offset()).into(),
            address_of_name_ordinals: at(self.ordinals_offset()).into(),
        }));
        for (_, symbol, _) in &self.exports {
            // The check of the symbols has found it.
            let address = addresses.symbol(*symbol).unwrap_or(Rva(0));
            out.extend_from_slice(bytes_of(&U32::<LittleEndian>::from(address.0)));
        }
        for (_, _, name) in &self.exports {
            out.extend_from_slice(bytes_of(&U32::<LittleEndian>::from(at(*name))));
        }
        for ordinal in 0..count {
            out.extend_from_slice(bytes_of(&U16::<LittleEndian>::from(ordinal as u16)));
        }
        for name in std::iter::once(self.image_name).chain(self.exports.iter().map(|(name, ..)| *name)) {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
        out
    }
}
