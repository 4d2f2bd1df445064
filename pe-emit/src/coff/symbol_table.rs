//! The symbol table: sections, the object's symbols, and labels where a relocation needs a symbol of its own.

use std::collections::{BTreeMap, BTreeSet};

use object::pe::{
    ComdatSelection, IMAGE_SYM_CLASS_EXTERNAL, IMAGE_SYM_CLASS_STATIC, IMAGE_SYM_DTYPE_FUNCTION, IMAGE_SYM_UNDEFINED,
    SymbolSection, SymbolType,
};
use object::write::coff::{AuxSymbolSection, Name, Symbol, Writer};

use super::Section;
use crate::error::{ExportProblem, LinkError, SymbolProblem};
use crate::imports::is_name;
use crate::native_object::{NativeObject, SectionIndex, SymbolIndex, SymbolPlace};

/// The symbols of the file. Indices count entries of its table, of which the symbol of a section takes two.
pub(super) struct SymbolTable<'a> {
    object: &'a NativeObject,
    entries: Vec<Entry>,
    /// The index that the next entry gets.
    next: u32,
    /// By section, those of the unwind data included: the index of its symbol.
    sections: Vec<u32>,
    /// By symbol of the object: its index.
    symbols: Vec<u32>,
    /// A symbol of each place that has one, other than those of sections.
    places: BTreeMap<(SectionIndex, u32), u32>,
}

struct Entry {
    name: String,
    /// `None`: it is defined elsewhere.
    place: Option<(SectionIndex, u32)>,
    kind: EntryKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    /// Stands for the section, and tells its size.
    Section,
    Static,
    External,
}

impl<'a> SymbolTable<'a> {
    /// The symbols of an object that has been checked, and those of the sections `generated` behind its own.
    pub(super) fn new(object: &'a NativeObject, generated: &[&str]) -> Result<Self, LinkError> {
        let mut table = SymbolTable {
            object,
            entries: Vec::new(),
            next: 0,
            sections: Vec::new(),
            symbols: Vec::with_capacity(object.symbols.len()),
            places: BTreeMap::new(),
        };
        let names = object.sections.iter().map(|section| section.name.as_str());
        for (index, name) in (0..).zip(names.chain(generated.iter().copied())) {
            let place = Some((SectionIndex(index), 0));
            let symbol = table.add(name.to_owned(), place, EntryKind::Section);
            table.sections.push(symbol);
        }
        let external = table.external()?;
        let mut stands_for_section = BTreeSet::new();
        let mut imports = BTreeMap::new();
        for (index, symbol) in (0..).map(SymbolIndex).zip(&object.symbols) {
            let entry = match symbol.place {
                SymbolPlace::ImportSlot { index } => *imports.entry(index).or_insert_with(|| {
                    let function = &object.imports[index as usize].function;
                    table.add(format!("__imp_{function}"), None, EntryKind::External)
                }),
                SymbolPlace::Section { section, offset } => {
                    let kind = match external.contains(&index) {
                        true => EntryKind::External,
                        false => EntryKind::Static,
                    };
                    let own_section = &object.sections[section.0 as usize].name;
                    if kind == EntryKind::Static
                        && offset == 0
                        && symbol.name == *own_section
                        && stands_for_section.insert(section)
                    {
                        table.sections[section.0 as usize]
                    } else {
                        if symbol.name.is_empty() || symbol.name.contains('\0') {
                            let (name, problem) = (symbol.name.clone(), SymbolProblem::Name);
                            return Err(LinkError::Symbol { name, problem });
                        }
                        let place = (section, offset);
                        let entry = table.add(symbol.name.clone(), Some(place), kind);
                        table.places.entry(place).or_insert(entry);
                        entry
                    }
                }
            };
            table.symbols.push(entry);
        }
        Ok(table)
    }

    /// The symbols that other objects can refer to. Each has a name of its own.
    fn external(&self) -> Result<BTreeSet<SymbolIndex>, LinkError> {
        let purpose = &self.object.purpose;
        let external: BTreeSet<SymbolIndex> = purpose
            .entry()
            .into_iter()
            .chain(purpose.exports().iter().copied())
            .collect();
        let mut names = BTreeSet::new();
        for (index, symbol) in external.iter().enumerate() {
            // The check of the symbols has found it.
            let Some(symbol) = self.object.symbols.get(symbol.0 as usize) else {
                continue;
            };
            let name = || symbol.name.clone();
            let error = |problem| LinkError::Export { index, problem };
            if !is_name(&symbol.name) {
                return Err(error(ExportProblem::Name { name: name() }));
            }
            if !names.insert(&symbol.name) {
                return Err(error(ExportProblem::Duplicate { name: name() }));
            }
        }
        Ok(external)
    }

    fn add(&mut self, name: String, place: Option<(SectionIndex, u32)>, kind: EntryKind) -> u32 {
        let index = self.next;
        self.entries.push(Entry { name, place, kind });
        self.next += match kind {
            EntryKind::Section => 2,
            EntryKind::Static | EntryKind::External => 1,
        };
        index
    }

    /// The index of a symbol of the object.
    pub(super) fn symbol(&self, symbol: SymbolIndex) -> Option<u32> {
        self.symbols.get(symbol.0 as usize).copied()
    }

    /// A symbol at this place or before it in its section, and the bytes between.
    pub(super) fn near(&self, section: SectionIndex, offset: u32) -> (u32, u32) {
        match self.places.get(&(section, offset)) {
            Some(symbol) => (*symbol, 0),
            None => (self.sections[section.0 as usize], offset),
        }
    }

    /// A symbol at exactly this place; a new label if there is none.
    pub(super) fn label(&mut self, section: SectionIndex, offset: u32) -> u32 {
        if offset == 0 {
            return self.sections[section.0 as usize];
        }
        if let Some(symbol) = self.places.get(&(section, offset)) {
            return *symbol;
        }
        let place = (section, offset);
        let symbol = self.add(format!("$L{}", self.next), Some(place), EntryKind::Static);
        self.places.insert(place, symbol);
        symbol
    }

    /// Reserves the entries, and gives their names as the table has them.
    pub(super) fn reserve<'b>(&'b self, writer: &mut Writer<'b>) -> Vec<Name> {
        let name = |entry: &'b Entry| {
            writer.reserve_symbol_index();
            if entry.kind == EntryKind::Section {
                writer.reserve_aux_section();
            }
            writer.add_name(entry.name.as_bytes())
        };
        self.entries.iter().map(name).collect()
    }

    /// Writes the table.
    pub(super) fn write(&self, writer: &mut Writer<'_>, names: &[Name], sections: &[Section]) {
        let functions: BTreeSet<(SectionIndex, u32)> = self
            .object
            .functions
            .iter()
            .map(|function| (function.section, function.offset))
            .collect();
        for (entry, name) in self.entries.iter().zip(names) {
            let is_section = entry.kind == EntryKind::Section;
            writer.write_symbol(Symbol {
                name: *name,
                value: entry.place.map_or(0, |(_, offset)| offset),
                section_number: entry
                    .place
                    .map_or(IMAGE_SYM_UNDEFINED, |(section, _)| SymbolSection(section.0 as i32 + 1)),
                typ: match entry.place {
                    Some(place) if !is_section && functions.contains(&place) => IMAGE_SYM_DTYPE_FUNCTION.into(),
                    _ => SymbolType(0),
                },
                storage_class: match entry.kind {
                    EntryKind::Section | EntryKind::Static => IMAGE_SYM_CLASS_STATIC,
                    EntryKind::External => IMAGE_SYM_CLASS_EXTERNAL,
                },
                number_of_aux_symbols: u8::from(is_section),
            });
            if let Some((index, _)) = entry.place.filter(|_| is_section) {
                let section = &sections[index.0 as usize];
                writer.write_aux_section(AuxSymbolSection {
                    length: section.data.len() as u32,
                    number_of_relocations: section.relocations.len() as u32,
                    number_of_linenumbers: 0,
                    // This and the rest are for COMDAT sections.
                    check_sum: 0,
                    number: 0,
                    selection: ComdatSelection(0),
                });
            }
        }
    }
}
