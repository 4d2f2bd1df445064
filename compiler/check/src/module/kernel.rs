//! The tables as the runtime reads them, through the addresses that the module's functions return (native module contract
//! §1.1, §4.1).

use bpf2sys_simulator::kernel_tables::Array;
use bpf2sys_simulator::tables::{
    BtfEntry, GlobalSection, Header, HelperEntry, InitialValues, MapEntry, ProgramBtf, ProgramEntry,
};
use bpf2sys_simulator::{AddressSpace, FileSpace};
use zerocopy::{FromBytes, IntoBytes};

use super::{Element, Global, Map, Module, Program, Structure, Values};
use crate::subject::Subject;

/// Most elements of one array that are read, and of all arrays of its kind together.
const MOST: u64 = 65_536;
/// Most bytes of a text that are read. Names are much shorter.
const LONGEST: usize = 256;

/// A text of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text(Option<Vec<u8>>);

impl Text {
    /// The text for messages.
    pub(crate) fn shown(&self) -> String {
        self.0
            .as_ref()
            .map_or_else(|| "?".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Its bytes, if it is there.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

/// The text at an address.
pub(crate) fn read_text(s: &Subject<'_>, address: u64) -> Text {
    let Some(rva) = s.image.rva_of(address) else {
        return Text(None);
    };
    // What is longer than any name is shown as far as it was read.
    let ends = s.image.c_string(rva, LONGEST);
    Text(ends.or_else(|| s.image.file_bytes(rva, LONGEST)).map(<[u8]>::to_vec))
}

struct Reader<'r, 's, 'a> {
    s: &'s Subject<'a>,
    module: &'r mut Module,
    /// Elements that may still be read.
    left: u64,
}

/// Reads everything that the runtime reads.
pub(super) fn read(s: &Subject<'_>, module: &mut Module) {
    let known = module.known().copied();
    let mut reader = Reader { s, module, left: MOST };
    let of_section = |section: Option<(u32, usize, usize)>| match section {
        Some((rva, start, count)) if count != 0 => Array {
            pointer: s
                .image
                .image_base
                .wrapping_add(u64::from(rva))
                .wrapping_add(start as u64),
            count: count as u64,
        },
        _ => Array::default(),
    };
    let (maps, programs) = if let Some(returned) = known {
        (returned.maps, returned.programs)
    } else {
        let maps = reader.module.user_maps.as_ref();
        let programs = reader.module.user_programs.as_ref();
        (
            of_section(maps.map(|t| (t.section.rva.0, t.start.unwrap_or(0), t.entries.len()))),
            of_section(programs.map(|t| (t.section.rva.0, t.start.unwrap_or(0), t.entries.len()))),
        )
    };
    reader.maps(maps);
    reader.programs(programs);
    if let Some(returned) = known {
        reader.values(returned.initial_values);
        reader.globals(returned.global_sections);
        if returned.hash.count != 0 {
            reader.bytes(returned.hash.pointer, returned.hash.count.min(64), "the ELF hash");
        }
    }
}

impl<'a> Reader<'_, '_, 'a> {
    /// The elements of an array, each with its address; as many as can be read.
    fn elements<T: FromBytes + IntoBytes + zerocopy::Immutable>(
        &mut self,
        array: Array,
        header_at: u64,
        structure: Structure,
        what: &str,
    ) -> Vec<(u64, T)> {
        if (array.pointer == 0) != (array.count == 0) {
            let pointer = if array.pointer == 0 { "NULL" } else { "not NULL" };
            self.module
                .odd_arrays
                .push(format!("{what}: {} elements, the pointer is {pointer}", array.count));
            return Vec::new();
        }
        if array.count == 0 {
            return Vec::new();
        }
        let space = FileSpace(self.s.image);
        let unreadable = |place: u64| format!("{what} at {}", self.s.place_of(place));
        let first = space.read_as::<Header>(array.pointer.wrapping_add(header_at), what);
        let Ok(first) = first else {
            self.module.unreadable.push(unreadable(array.pointer));
            return Vec::new();
        };
        let stride = first.total_size.get();
        let mut found = Vec::new();
        for index in 0..array.count {
            if self.left == 0 {
                self.module
                    .unreadable
                    .push(format!("{what}: more than {MOST} elements in all"));
                break;
            }
            self.left -= 1;
            let address = array.pointer.wrapping_add(index.wrapping_mul(stride));
            let element = space.read_as::<T>(address, what);
            let header = space.read_as::<Header>(address.wrapping_add(header_at), what);
            let (Ok(element), Ok(header)) = (element, header) else {
                self.module.unreadable.push(unreadable(address));
                break;
            };
            self.module.headers.push(Element {
                structure,
                what: format!("{what}, {index}"),
                header,
            });
            found.push((address, element));
        }
        found
    }

    /// Notes a pointer at an address, if it is not NULL.
    fn pointer(&mut self, at: u64, value: u64, what: &str) {
        if value != 0 {
            self.module.pointers.push((at, what.to_owned()));
        }
    }

    /// Bytes that must be there.
    fn bytes(&mut self, address: u64, length: u64, what: &str) -> &'a [u8] {
        let place = self.s.image.rva_of(address).zip(usize::try_from(length).ok());
        let bytes = place.and_then(|(rva, length)| self.s.image.file_bytes(rva, length));
        bytes.unwrap_or_else(|| {
            let place = self.s.place_of(address);
            self.module
                .unreadable
                .push(format!("{what}: {length} bytes at {place}"));
            &[]
        })
    }

    /// A text that must be there.
    fn text(&mut self, address: u64, what: &str) -> Text {
        let text = read_text(self.s, address);
        if text.0.is_none() {
            self.module
                .unreadable
                .push(format!("{what} at {}", self.s.place_of(address)));
        }
        text
    }

    fn maps(&mut self, array: Array) {
        for (address, entry) in self.elements::<MapEntry>(array, 16, Structure::Map, "maps") {
            self.pointer(address.wrapping_add(72), entry.name.get(), "the name of a map");
            // User mode reads the name before the runtime does, and a rule on that judges it.
            let name = read_text(self.s, entry.name.get());
            self.module.maps.push(Map { entry, name });
        }
    }

    fn programs(&mut self, array: Array) {
        for (address, entry) in self.elements::<ProgramEntry>(array, 8, Structure::Program, "programs") {
            let name = read_text(self.s, entry.program_name.get());
            let shown = name.shown();
            for (offset, value) in [
                (32, entry.function),
                (40, entry.pe_section_name),
                (48, entry.section_name),
                (56, entry.program_name),
                (64, entry.map_indices),
                (80, entry.helpers),
                (104, entry.program_type),
                (112, entry.attach_type),
                (120, entry.hash),
                (136, entry.hash_type),
            ] {
                self.pointer(
                    address.wrapping_add(offset),
                    value.get(),
                    &format!("program {shown}, byte {offset}"),
                );
            }
            let helpers = Array {
                pointer: entry.helpers.get(),
                count: entry.helper_count.get().into(),
            };
            let helpers = self.elements::<HelperEntry>(helpers, 0, Structure::Helper, &format!("helpers of {shown}"));
            for (address, helper) in &helpers {
                self.pointer(
                    address.wrapping_add(32),
                    helper.name.get(),
                    &format!("a helper of {shown}"),
                );
            }
            let btf_functions = self.btf_functions(address, &entry, &shown);
            let count = u64::from(entry.map_index_count.get());
            let indices = if count == 0 {
                &[]
            } else {
                self.bytes(entry.map_indices.get(), 2 * count, &format!("map indices of {shown}"))
            };
            let (indices, _) = indices.as_chunks::<2>();
            let length = entry.hash_length.get();
            let hash = if length == 0 {
                &[]
            } else {
                self.bytes(entry.hash.get(), length.min(64), &format!("the hash of {shown}"))
            };
            let hash_type = match entry.hash_type.get() {
                0 => Text(Some(Vec::new())),
                address => self.text(address, &format!("the hash type of {shown}")),
            };
            let guid = FileSpace(self.s.image).read(entry.program_type.get(), 16);
            self.module.programs.push(Program {
                entry,
                name,
                section: read_text(self.s, entry.section_name.get()),
                hash_type,
                type_guid: guid.and_then(|bytes| bytes.try_into().ok()),
                map_indices: indices.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect(),
                helpers: helpers.into_iter().map(|(_, helper)| helper).collect(),
                btf_functions,
                hash: hash.to_vec(),
            });
        }
    }

    /// The BTF-resolved functions of a program, which the longer form of an entry has.
    fn btf_functions(&mut self, address: u64, entry: &ProgramEntry, shown: &str) -> Vec<(BtfEntry, Text)> {
        if entry.header.size.get() < 154 {
            return Vec::new();
        }
        let what = format!("BTF functions of {shown}");
        let at = address.wrapping_add(144);
        let Ok(list) = FileSpace(self.s.image).read_as::<ProgramBtf>(at, &what) else {
            self.module.unreadable.push(what);
            return Vec::new();
        };
        self.pointer(at, list.functions.get(), &what);
        let array = Array {
            pointer: list.functions.get(),
            count: list.count.get().into(),
        };
        let mut found = Vec::new();
        for (address, function) in self.elements::<BtfEntry>(array, 0, Structure::BtfFunction, &what) {
            self.pointer(address.wrapping_add(24), function.name.get(), &what);
            let name = match function.name.get() {
                0 => Text(None),
                name => self.text(name, &what),
            };
            found.push((function, name));
        }
        found
    }

    fn values(&mut self, array: Array) {
        for (address, entry) in self.elements::<InitialValues>(array, 0, Structure::Values, "initial values") {
            self.pointer(address.wrapping_add(24), entry.name.get(), "the map of initial values");
            self.pointer(address.wrapping_add(40), entry.values.get(), "a list of initial values");
            let name = self.text(entry.name.get(), "the map of initial values");
            let what = format!("initial values of {}", name.shown());
            let count = entry.count.get().min(self.left + 1);
            self.left = self.left.saturating_sub(count);
            let list = if entry.values.get() == 0 || count == 0 {
                &[]
            } else {
                self.bytes(entry.values.get(), 8 * count, &what)
            };
            let mut slots = Vec::new();
            for (index, bytes) in (0..).zip(list.as_chunks::<8>().0) {
                let value = u64::from_le_bytes(*bytes);
                self.pointer(entry.values.get().wrapping_add(8 * index), value, &what);
                slots.push((value != 0).then(|| self.text(value, &what)));
            }
            self.module.values.push(Values { entry, name, slots });
        }
    }

    fn globals(&mut self, array: Array) {
        for (address, entry) in self.elements::<GlobalSection>(array, 0, Structure::Global, "global sections") {
            self.pointer(
                address.wrapping_add(24),
                entry.name.get(),
                "the name of a global section",
            );
            self.pointer(
                address.wrapping_add(40),
                entry.initial_data.get(),
                "the bytes of a global section",
            );
            let name = self.text(entry.name.get(), "the name of a global section");
            if entry.initial_data.get() != 0 {
                let what = format!("global section {}", name.shown());
                self.bytes(entry.initial_data.get(), entry.size.get(), &what);
            }
            self.module.globals.push(Global { entry, name });
        }
    }
}
