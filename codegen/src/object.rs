//! Puts code and tables into the sections of a [`NativeObject`].
//!
//! Given: sections in their final order, then code and data piece by piece, in any order.
//! Computed: the object, with every reference between pieces as a relocation against a symbol.
//! Safe because: a reference to a name that nothing defines is an error, and no offset is computed by hand: a piece is a
//! structure, and a pointer in it is named by that structure's field.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_pe_emit::{
    FunctionRange, Import, LoadConfig, Machine, NativeObject, Purpose, Relocation, RelocationKind, Section,
    SectionIndex, SectionKind, Symbol, SymbolIndex, SymbolPlace,
};
use zerocopy::{Immutable, IntoBytes};

use crate::LowerError;
use crate::compile::{Code, Reference, Target};

/// Alignment of functions: Control Flow Guard wants indirect call targets at multiples of 16.
pub(crate) const FUNCTION_ALIGN: u32 = 16;

/// What lies between functions: running into it stops at once.
const fn code_padding(machine: Machine) -> u8 {
    match machine {
        Machine::X64 => 0xCC, // int3
        Machine::Arm64 => 0,  // udf #0
    }
}

/// A byte of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The section.
    pub(crate) section: SectionIndex,
    offset: u32,
}

impl Spot {
    /// The byte `bytes` further on, for the fields of a structure.
    pub(crate) fn field(self, bytes: usize) -> Spot {
        Spot {
            offset: self.offset + bytes as u32,
            ..self
        }
    }
}

/// An address to point to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    symbol: SymbolIndex,
    addend: i64,
}

/// Where a function goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeSections {
    /// Its code.
    pub(crate) section: SectionIndex,
    /// The constants that it reads.
    pub(crate) constants: SectionIndex,
}

/// An object in the making.
pub(crate) struct ObjectWriter {
    machine: Machine,
    sections: Vec<Section>,
    /// By section: the symbol of its first byte.
    section_symbols: Vec<SymbolIndex>,
    symbols: Vec<Symbol>,
    functions: Vec<FunctionRange>,
    imports: Vec<Import>,
    /// Where the targets of code references are.
    places: BTreeMap<Target, SymbolIndex>,
    /// References whose target may not be placed yet.
    pending: Vec<(SectionIndex, Reference)>,
    strings: BTreeMap<String, Spot>,
    /// Functions whose addresses data or code holds.
    by_address: BTreeSet<SymbolIndex>,
}

impl ObjectWriter {
    /// An object without sections.
    pub(crate) fn new(machine: Machine) -> ObjectWriter {
        ObjectWriter {
            machine,
            sections: Vec::new(),
            section_symbols: Vec::new(),
            symbols: Vec::new(),
            functions: Vec::new(),
            imports: Vec::new(),
            places: BTreeMap::new(),
            pending: Vec::new(),
            strings: BTreeMap::new(),
            by_address: BTreeSet::new(),
        }
    }

    /// Adds the next section of the image.
    pub(crate) fn section(&mut self, name: &str, kind: SectionKind) -> SectionIndex {
        let section = SectionIndex(self.sections.len() as u32);
        self.sections.push(Section {
            name: name.to_owned(),
            kind,
            align: FUNCTION_ALIGN,
            data: Vec::new(),
            relocations: Vec::new(),
        });
        let symbol = self.symbol(name, Spot { section, offset: 0 });
        self.section_symbols.push(symbol);
        section
    }

    /// Appends a structure, aligned to 8 bytes.
    pub(crate) fn structure<T: IntoBytes + Immutable>(&mut self, section: SectionIndex, value: &T) -> Spot {
        self.bytes(section, 8, value.as_bytes())
    }

    /// Appends bytes at a multiple of `align`.
    pub(crate) fn bytes(&mut self, section: SectionIndex, align: usize, bytes: &[u8]) -> Spot {
        let data = &mut self.sections[section.0 as usize].data;
        data.resize(data.len().next_multiple_of(align), 0);
        let offset = data.len() as u32;
        data.extend_from_slice(bytes);
        Spot { section, offset }
    }

    /// A NUL-terminated string in `section`; equal strings are one.
    pub(crate) fn string(&mut self, section: SectionIndex, text: &str) -> Spot {
        if let Some(&spot) = self.strings.get(text) {
            return spot;
        }
        let spot = self.bytes(section, 1, &[text.as_bytes(), b"\0"].concat());
        self.strings.insert(text.to_owned(), spot);
        spot
    }

    /// Makes the 8-byte field at `field` hold the address `to`, which others may call if it is a function's.
    pub(crate) fn point(&mut self, field: Spot, to: Address) {
        self.by_address.insert(to.symbol);
        self.point_unlisted(field, to);
    }

    /// The same for a pointer that only code of the module calls through.
    pub(crate) fn point_unlisted(&mut self, field: Spot, to: Address) {
        self.sections[field.section.0 as usize].relocations.push(Relocation {
            offset: field.offset,
            kind: RelocationKind::Absolute64,
            symbol: to.symbol,
            addend: to.addend,
        });
    }

    /// The address of a spot.
    pub(crate) fn address(&self, spot: Spot) -> Address {
        Address {
            symbol: self.section_symbols[spot.section.0 as usize],
            addend: i64::from(spot.offset),
        }
    }

    /// The address of something placed under a name or function index.
    pub(crate) fn address_of(&self, target: &Target) -> Result<Address, LowerError> {
        let symbol = self.symbol_of(target)?;
        Ok(Address { symbol, addend: 0 })
    }

    /// The symbol of something placed under a name or function index.
    pub(crate) fn symbol_of(&self, target: &Target) -> Result<SymbolIndex, LowerError> {
        self.places
            .get(target)
            .copied()
            .ok_or_else(|| LowerError::Internal(format!("nothing defines {target:?}")))
    }

    /// Gives a spot the name under which the skeleton refers to it.
    pub(crate) fn define(&mut self, name: &str, spot: Spot) {
        let symbol = self.symbol(name, spot);
        self.places.insert(Target::Named(name.to_owned()), symbol);
    }

    /// Adds an imported function; code refers to its address table slot as `__imp_` and its name.
    pub(crate) fn import(&mut self, module: &str, function: &str) {
        let index = self.imports.len() as u32;
        self.imports.push(Import {
            module: module.to_owned(),
            function: function.to_owned(),
        });
        let name = format!("__imp_{function}");
        let symbol = SymbolIndex(self.symbols.len() as u32);
        self.symbols.push(Symbol {
            name: name.clone(),
            place: SymbolPlace::ImportSlot { index },
        });
        self.places.insert(Target::Named(name), symbol);
    }

    /// Appends a function to a code section, and its constants to another. Gives its position among all functions.
    pub(crate) fn code(&mut self, sections: CodeSections, target: Target, name: &str, code: Code) -> usize {
        let CodeSections { section, constants } = sections;
        let Section { align, data, .. } = &mut self.sections[section.0 as usize];
        *align = code.align.max(*align);
        data.resize(
            data.len().next_multiple_of(code.align as usize),
            code_padding(self.machine),
        );
        let offset = data.len() as u32;
        data.extend_from_slice(&code.bytes);
        let symbol = self.symbol(name, Spot { section, offset });
        self.places.insert(target, symbol);
        self.functions.push(FunctionRange {
            section,
            offset,
            size: code.bytes.len() as u32,
            unwind: code.unwind,
        });
        let constants = self.bytes(constants, 8, &code.constants);
        for reference in code.references {
            let reference = Reference {
                offset: offset + reference.offset,
                ..reference
            };
            if reference.target == Target::Constants {
                let address = self.address(constants);
                self.distance(section, &reference, address);
            } else {
                self.pending.push((section, reference));
            }
        }
        self.functions.len() - 1
    }

    /// Makes the field of `reference` hold the distance to `address`.
    fn distance(&mut self, section: SectionIndex, reference: &Reference, address: Address) {
        self.sections[section.0 as usize].relocations.push(Relocation {
            offset: reference.offset,
            kind: reference.kind,
            symbol: address.symbol,
            addend: address.addend + reference.addend,
        });
    }

    /// The functions that may be called by their addresses: data or code holds them, or others find them by `purpose`.
    fn functions_by_address(&self, purpose: &Purpose) -> Vec<SymbolIndex> {
        let starts: BTreeSet<(SectionIndex, u32)> = self.functions.iter().map(|f| (f.section, f.offset)).collect();
        let is_function = |symbol: &SymbolIndex| match self.symbols[symbol.0 as usize].place {
            SymbolPlace::Section { section, offset } => {
                starts.contains(&(section, offset)) && !self.section_symbols.contains(symbol)
            }
            SymbolPlace::ImportSlot { .. } => false,
        };
        let named = purpose.entry().into_iter().chain(purpose.exports().iter().copied());
        let functions: BTreeSet<SymbolIndex> = self.by_address.iter().copied().chain(named).collect();
        functions.into_iter().filter(is_function).collect()
    }

    /// The finished object. `load_config` gets the functions that may be called by their addresses.
    pub(crate) fn finish(
        mut self,
        purpose: Purpose,
        load_config: impl FnOnce(&ObjectWriter, Vec<SymbolIndex>) -> Result<Option<LoadConfig>, LowerError>,
    ) -> Result<NativeObject, LowerError> {
        for (section, reference) in std::mem::take(&mut self.pending) {
            let address = self.address_of(&reference.target)?;
            if !reference.is_call {
                self.by_address.insert(address.symbol);
            }
            self.distance(section, &reference, address);
        }
        let load_config = load_config(&self, self.functions_by_address(&purpose))?;
        for section in &mut self.sections {
            if i32::try_from(section.data.len()).is_err() {
                return Err(LowerError::Internal(format!("section `{}` is too large", section.name)));
            }
            section.relocations.sort_by_key(|r| r.offset);
        }
        Ok(NativeObject {
            machine: self.machine,
            sections: self.sections,
            symbols: self.symbols,
            functions: self.functions,
            imports: self.imports,
            purpose,
            load_config,
            shadow_stack: self.machine == Machine::X64,
        })
    }

    fn symbol(&mut self, name: &str, spot: Spot) -> SymbolIndex {
        let symbol = SymbolIndex(self.symbols.len() as u32);
        self.symbols.push(Symbol {
            name: name.to_owned(),
            place: SymbolPlace::Section {
                section: spot.section,
                offset: spot.offset,
            },
        });
        symbol
    }
}
