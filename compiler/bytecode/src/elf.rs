//! The ELF file as tables whose every entry is in range.
//!
//! Given: the bytes of the file.
//! Computed: sections, symbols, and relocations by the section they apply to.
//! Safe because: the file type is checked first, then each range is checked against the file, each index against its
//! table, and no two sections share bytes, so that all sections together are no larger than the file.

use std::collections::{BTreeMap, BTreeSet};

use object::LittleEndian as Le;
use object::elf;
use object::read::{ReadRef, StringTable};

use crate::error::{Place, Problem, ReadError};

/// Position in the section header table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SectionIndex(pub(crate) u32);

impl SectionIndex {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A section header with its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    pub(crate) index: SectionIndex,
    pub(crate) name: &'a str,
    pub(crate) kind: elf::SectionType,
    pub(crate) flags: elf::SectionFlags,
    /// Size in bytes; larger than `data` for `SHT_NOBITS`, which has none.
    pub(crate) size: u64,
    pub(crate) data: &'a [u8],
    link: u32,
    info: u32,
    entry_size: u64,
}

impl Section<'_> {
    pub(crate) fn place(&self) -> Place {
        Place::section(self.name)
    }

    pub(crate) fn is_executable(&self) -> bool {
        self.flags.contains(elf::SHF_EXECINSTR)
    }
}

/// Where a symbol is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In another object.
    Undefined,
    /// In no section yet (`SHN_COMMON`): a linker is to make a place.
    Common,
    /// In no section (`SHN_ABS`).
    Special,
    /// In a section of this object.
    Section(SectionIndex),
}

/// An entry of the symbol table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol<'a> {
    /// Empty for section symbols.
    pub(crate) name: &'a str,
    pub(crate) kind: elf::SymbolType,
    pub(crate) bind: elf::SymbolBind,
    pub(crate) home: Home,
    /// Offset in bytes in its section.
    pub(crate) value: u64,
    pub(crate) size: u64,
}

/// A relocation without explicit addend, as eBPF uses them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocation<'e, 'a> {
    /// Offset in bytes in the section it applies to.
    pub(crate) offset: u64,
    pub(crate) kind: u32,
    pub(crate) symbol: &'e Symbol<'a>,
}

/// An object file.
pub(crate) struct Elf<'a> {
    /// All sections, the null section included.
    pub(crate) sections: Vec<Section<'a>>,
    pub(crate) symbols: Vec<Symbol<'a>>,
    symbol_table: Option<SectionIndex>,
    /// Positions in `symbols`, in their order, by the section that they are defined in.
    symbols_by_section: BTreeMap<SectionIndex, Vec<usize>>,
    /// Positions in `sections` of relocation tables, by the section that they apply to.
    relocation_tables: BTreeMap<SectionIndex, Vec<usize>>,
}

impl<'a> Elf<'a> {
    /// Reads the tables of a file.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Elf<'a>, ReadError> {
        let header = header(bytes)?;
        let sections = sections(bytes, header)?;
        check_overlaps(bytes, header, &sections)?;
        let mut tables = sections.iter().filter(|s| s.kind == elf::SHT_SYMTAB);
        let symbol_table = tables.next();
        if let Some(second) = tables.next() {
            return Err(second.place().error(Problem::Malformed("a second symbol table")));
        }
        let symbols = match symbol_table {
            Some(table) => symbols(table, &sections)?,
            None => Vec::new(),
        };
        let symbol_table = symbol_table.map(|t| t.index);
        let mut symbols_by_section: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (position, symbol) in symbols.iter().enumerate() {
            if let Home::Section(section) = symbol.home {
                symbols_by_section.entry(section).or_default().push(position);
            }
        }
        let mut relocation_tables: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (position, section) in sections.iter().enumerate() {
            if matches!(section.kind, elf::SHT_REL | elf::SHT_RELA) {
                let target = SectionIndex(section.info);
                relocation_tables.entry(target).or_default().push(position);
            }
        }
        Ok(Elf {
            sections,
            symbols,
            symbol_table,
            symbols_by_section,
            relocation_tables,
        })
    }

    /// The symbols defined in a section, in order of the symbol table.
    pub(crate) fn symbols_of(&self, section: SectionIndex) -> impl Iterator<Item = &Symbol<'a>> {
        let positions = self.symbols_by_section.get(&section).map_or(&[][..], Vec::as_slice);
        positions.iter().filter_map(|p| self.symbols.get(*p))
    }

    pub(crate) fn section(&self, index: SectionIndex) -> Option<&Section<'a>> {
        self.sections.get(index.index())
    }

    /// The only section of this name that has content.
    pub(crate) fn section_by_name(&self, name: &str) -> Result<Option<&Section<'a>>, ReadError> {
        let mut found = self.sections.iter().filter(|s| s.name == name && s.size != 0);
        let first = found.next();
        match found.next() {
            Some(second) => Err(second.place().error(Problem::Duplicate("sections"))),
            None => Ok(first),
        }
    }

    /// Names of symbols that the object does without if nothing defines them.
    pub(crate) fn weak_symbols(&self) -> BTreeSet<&'a str> {
        let weak = self.symbols.iter().filter(|s| s.bind == elf::STB_WEAK);
        weak.map(|symbol| symbol.name).collect()
    }

    /// Whether a linker that knows nothing of eBPF put the object together from several (`ld -r`): there are several source files, and BTF is
    /// missing or as the compiler left it, where `bpftool gen object` merges it.
    ///
    /// Such a linker may move a section behind that of another object without telling the instructions that refer to the section, whose
    /// distance from its start they hold themselves (GNU ld 2.40 does). References to named symbols stay right.
    pub(crate) fn is_joined(&self) -> bool {
        let files = self.symbols.iter().filter(|s| s.kind == elf::STT_FILE).take(2);
        let mut btf = self
            .sections
            .iter()
            .filter(|s| s.name == ".BTF" && s.size != 0)
            .peekable();
        files.count() == 2 && (btf.peek().is_none() || btf.any(|s| self.relocation_tables.contains_key(&s.index)))
    }

    /// The relocations of a section, by offset.
    ///
    /// # Errors
    /// If they cannot be read, or two apply to one place.
    pub(crate) fn relocations(&self, target: &Section<'_>) -> Result<Vec<Relocation<'_, 'a>>, ReadError> {
        let mut all = Vec::new();
        let tables = self.relocation_tables.get(&target.index).map_or(&[][..], Vec::as_slice);
        for table in tables.iter().filter_map(|p| self.sections.get(*p)) {
            if table.kind == elf::SHT_RELA {
                return Err(table.place().error(Problem::Unsupported(
                    "eBPF objects have no relocations with explicit addends",
                )));
            }
            if Some(SectionIndex(table.link)) != self.symbol_table {
                return Err(table
                    .place()
                    .error(Problem::Malformed("does not refer to the symbol table")));
            }
            for rel in entries::<elf::Rel64<Le>>(table)? {
                let offset = rel.r_offset.get(Le);
                let place = || target.place().at(offset);
                if offset >= target.size {
                    return Err(place().error(Problem::OutOfRange {
                        what: "a relocation",
                        whole: "section",
                    }));
                }
                let symbol = self.symbols.get(rel.r_sym(Le) as usize).ok_or_else(|| {
                    place().error(Problem::OutOfRange {
                        what: "a relocation's symbol",
                        whole: "symbol table",
                    })
                })?;
                let kind = rel.r_type(Le).0;
                all.push(Relocation { offset, kind, symbol });
            }
        }
        all.sort_by_key(|r| r.offset);
        match all.windows(2).find(|w| w[0].offset == w[1].offset) {
            Some(two) => Err(target
                .place()
                .at(two[0].offset)
                .error(Problem::Malformed("two relocations apply to one place"))),
            None => Ok(all),
        }
    }
}

fn header(bytes: &[u8]) -> Result<&elf::FileHeader64<Le>, ReadError> {
    let not = |reason| Place::file().error(Problem::NotAnObject(reason));
    let header: &elf::FileHeader64<Le> = bytes.read_at(0).map_err(|()| not("shorter than an ELF header"))?;
    let ident = &header.e_ident;
    if ident.magic != elf::ELFMAG {
        return Err(not("no ELF file"));
    }
    if ident.class != elf::ELFCLASS64 || ident.data != elf::ELFDATA2LSB {
        return Err(not("not 64-bit little-endian ELF"));
    }
    if ident.version != elf::EV_CURRENT || header.e_version.get(Le) != u32::from(elf::EV_CURRENT.0) {
        return Err(not("unknown ELF version"));
    }
    if header.e_machine.get(Le) != elf::EM_BPF {
        return Err(not("made for another machine than BPF"));
    }
    if header.e_type.get(Le) != elf::ET_REL {
        return Err(not("not relocatable (ET_REL)"));
    }
    Ok(header)
}

fn section_headers<'a>(
    bytes: &'a [u8],
    header: &elf::FileHeader64<Le>,
) -> Result<&'a [elf::SectionHeader64<Le>], ReadError> {
    if header.e_shoff.get(Le) == 0 || header.e_shnum.get(Le) == 0 {
        return Err(Place::file().error(Problem::NotAnObject("no sections")));
    }
    if usize::from(header.e_shentsize.get(Le)) != size_of::<elf::SectionHeader64<Le>>() {
        return Err(Place::file().error(Problem::Malformed("section headers have an unknown size")));
    }
    bytes
        .read_slice_at(header.e_shoff.get(Le), usize::from(header.e_shnum.get(Le)))
        .map_err(|()| {
            Place::file().at(header.e_shoff.get(Le)).error(Problem::OutOfRange {
                what: "the section header table",
                whole: "file",
            })
        })
}

fn sections<'a>(bytes: &'a [u8], header: &elf::FileHeader64<Le>) -> Result<Vec<Section<'a>>, ReadError> {
    let headers = section_headers(bytes, header)?;
    let names = headers
        .get(usize::from(header.e_shstrndx.get(Le).0))
        .filter(|h| h.sh_type.get(Le) == elf::SHT_STRTAB)
        .ok_or_else(|| Place::file().error(Problem::Malformed("the table of section names is missing")))?;
    let names = strings(content(bytes, names).ok_or_else(|| {
        Place::file().error(Problem::OutOfRange {
            what: "the table of section names",
            whole: "file",
        })
    })?);
    let mut sections = Vec::with_capacity(headers.len());
    for (number, header) in headers.iter().enumerate() {
        let place = || Place::section(number.to_string());
        let name = string(names, header.sh_name.get(Le)).map_err(|p| place().error(p))?;
        let data = content(bytes, header).ok_or_else(|| {
            Place::section(if name.is_empty() {
                number.to_string()
            } else {
                name.to_owned()
            })
            .at(header.sh_offset.get(Le))
            .error(Problem::OutOfRange {
                what: "its content",
                whole: "file",
            })
        })?;
        sections.push(Section {
            index: SectionIndex(number as u32),
            name,
            kind: header.sh_type.get(Le),
            flags: header.sh_flags.get(Le),
            size: header.sh_size.get(Le),
            data,
            link: header.sh_link.get(Le),
            info: header.sh_info.get(Le),
            entry_size: header.sh_entsize.get(Le),
        });
    }
    Ok(sections)
}

/// The bytes of a section; empty for a section that has none in the file.
fn content<'a>(bytes: &'a [u8], header: &elf::SectionHeader64<Le>) -> Option<&'a [u8]> {
    match header.sh_type.get(Le) {
        elf::SHT_NOBITS | elf::SHT_NULL => Some(&[]),
        _ => bytes
            .read_bytes_at(header.sh_offset.get(Le), header.sh_size.get(Le))
            .ok(),
    }
}

fn check_overlaps(bytes: &[u8], header: &elf::FileHeader64<Le>, sections: &[Section<'_>]) -> Result<(), ReadError> {
    let headers = size_of::<elf::SectionHeader64<Le>>() * sections.len();
    let start = bytes.as_ptr().addr();
    let mut ranges: Vec<(usize, usize, &str)> = vec![
        (0, size_of::<elf::FileHeader64<Le>>(), "the ELF header"),
        (header.e_shoff.get(Le) as usize, headers, "the section header table"),
    ];
    ranges.extend(
        sections
            .iter()
            .filter(|s| !s.data.is_empty())
            .map(|s| (s.data.as_ptr().addr() - start, s.data.len(), s.name)),
    );
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        let ((first, size, first_name), (second, _, second_name)) = (pair[0], pair[1]);
        if second < first + size {
            return Err(Place::section(second_name)
                .at(0)
                .error(Problem::Overlap(first_name.to_owned())));
        }
    }
    Ok(())
}

fn symbols<'a>(table: &Section<'a>, sections: &[Section<'a>]) -> Result<Vec<Symbol<'a>>, ReadError> {
    let names = sections
        .get(table.link as usize)
        .filter(|s| s.kind == elf::SHT_STRTAB)
        .ok_or_else(|| table.place().error(Problem::Malformed("its string table is missing")))?;
    let names = strings(names.data);
    let raw = entries::<elf::Sym64<Le>>(table)?;
    let mut symbols = Vec::with_capacity(raw.len());
    for (number, symbol) in raw.iter().enumerate() {
        let at = || table.place().at((number * size_of::<elf::Sym64<Le>>()) as u64);
        let name = string(names, symbol.st_name.get(Le)).map_err(|p| at().error(p))?;
        let (value, size) = (symbol.st_value.get(Le), symbol.st_size.get(Le));
        let home = match symbol.st_shndx.get(Le) {
            elf::SHN_UNDEF => Home::Undefined,
            elf::SHN_XINDEX => {
                return Err(at()
                    .of_symbol(name)
                    .error(Problem::Unsupported("extended section numbers are not read")));
            }
            elf::SHN_COMMON => Home::Common,
            index if index.is_reserved() => Home::Special,
            index => {
                let section = sections.get(usize::from(index.0)).ok_or_else(|| {
                    at().of_symbol(name).error(Problem::OutOfRange {
                        what: "the symbol's section",
                        whole: "file",
                    })
                })?;
                if value.checked_add(size).is_none_or(|end| end > section.size) {
                    return Err(section.place().of_symbol(name).error(Problem::OutOfRange {
                        what: "the symbol",
                        whole: "section",
                    }));
                }
                Home::Section(section.index)
            }
        };
        symbols.push(Symbol {
            name,
            kind: symbol.st_type(),
            bind: symbol.st_bind(),
            home,
            value,
            size,
        });
    }
    Ok(symbols)
}

/// The entries of a table section.
fn entries<'a, T: object::pod::Pod>(table: &Section<'a>) -> Result<&'a [T], ReadError> {
    let malformed = |what| table.place().error(Problem::Malformed(what));
    if table.entry_size != size_of::<T>() as u64 {
        return Err(malformed("its entries have an unknown size"));
    }
    object::pod::slice_from_all_bytes(table.data).map_err(|()| malformed("its size is no whole number of entries"))
}

fn strings(data: &[u8]) -> StringTable<'_, &[u8]> {
    StringTable::new(data, 0, data.len() as u64)
}

fn string<'a>(names: StringTable<'a, &'a [u8]>, offset: u32) -> Result<&'a str, Problem> {
    let bytes = names
        .get(offset)
        .map_err(|()| Problem::Name("its name is not in the string table"))?;
    std::str::from_utf8(bytes).map_err(|_| Problem::Name("its name is no UTF-8"))
}

#[cfg(test)]
mod tests;
