//! Builds objects that no compiler would write.

/// `SHT_PROGBITS`.
pub(crate) const PROGBITS: u32 = 1;
/// `SHT_NOBITS`.
pub(crate) const NOBITS: u32 = 8;
/// `SHF_ALLOC | SHF_EXECINSTR`.
pub(crate) const EXEC: u64 = 6;
/// `SHF_ALLOC | SHF_WRITE`.
pub(crate) const DATA: u64 = 3;
/// `STB_GLOBAL`, `STT_FUNC`.
pub(crate) const FUNCTION: u8 = 0x12;
/// `STB_LOCAL`, `STT_FUNC`.
pub(crate) const STATIC_FUNCTION: u8 = 0x02;
/// `STB_GLOBAL`, `STT_OBJECT`.
pub(crate) const OBJECT: u8 = 0x11;

/// `exit`.
pub(crate) const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
/// `call` of the local function at the relocated symbol.
pub(crate) const CALL: [u8; 8] = [0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff];
/// `r1 = 0 ll`.
pub(crate) const IMM64: [u8; 16] = [0x18, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A section header and its content.
#[derive(Clone, Default)]
pub(crate) struct RawSection {
    pub(crate) name: String,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) data: Vec<u8>,
    /// Stated size; the content's where it is `None`.
    pub(crate) size: Option<u64>,
    pub(crate) link: u32,
    pub(crate) info: u32,
    pub(crate) entry_size: u64,
}

/// An object in the making. Sections are numbered from 1 in the order they are added.
#[derive(Clone, Default)]
pub(crate) struct Object {
    pub(crate) sections: Vec<RawSection>,
    symbols: Vec<(String, u8, u16, u64, u64)>,
    relocations: Vec<(u16, Relocations)>,
}

/// Offset, type and symbol of each.
type Relocations = Vec<(u64, u32, u32)>;

impl Object {
    /// Adds a section and gives its number.
    pub(crate) fn section(&mut self, name: &str, kind: u32, flags: u64, data: &[u8]) -> u16 {
        self.sections.push(RawSection {
            name: name.to_owned(),
            kind,
            flags,
            data: data.to_vec(),
            ..RawSection::default()
        });
        self.sections.len() as u16
    }

    /// Adds a section without content.
    pub(crate) fn nobits(&mut self, name: &str, size: u64) -> u16 {
        let number = self.section(name, NOBITS, DATA, &[]);
        self.sections[usize::from(number) - 1].size = Some(size);
        number
    }

    /// Adds a symbol and gives its number.
    pub(crate) fn symbol(&mut self, name: &str, info: u8, section: u16, value: u64, size: u64) -> u32 {
        self.symbols.push((name.to_owned(), info, section, value, size));
        self.symbols.len() as u32
    }

    /// Adds relocations of a section: offset, type, symbol.
    pub(crate) fn relocate(&mut self, section: u16, relocations: &[(u64, u32, u32)]) {
        self.relocations.push((section, relocations.to_vec()));
    }

    /// An object with one program `entry` in section `xdp`, which is section 1.
    pub(crate) fn with_program(code: &[u8]) -> Object {
        let mut object = Object::default();
        let section = object.section("xdp", PROGBITS, EXEC, code);
        object.symbol("entry", FUNCTION, section, 0, code.len() as u64);
        object
    }

    /// The file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut string = |text: &str| {
            let offset = strings.len() as u32;
            strings.extend(text.bytes().chain([0]));
            offset
        };
        let mut symbols = vec![0; 24];
        for (name, info, section, value, size) in &self.symbols {
            symbols.extend(string(name).to_le_bytes());
            symbols.extend([*info, 0]);
            symbols.extend(section.to_le_bytes());
            symbols.extend(value.to_le_bytes());
            symbols.extend(size.to_le_bytes());
        }
        let mut sections = vec![RawSection::default()];
        sections.extend(self.sections.iter().cloned());
        let symbol_table = (sections.len() + self.relocations.len()) as u32;
        for (target, entries) in &self.relocations {
            let entries = entries.iter().flat_map(|(offset, kind, symbol)| {
                let info = u64::from(*symbol) << 32 | u64::from(*kind);
                [offset.to_le_bytes(), info.to_le_bytes()].concat()
            });
            sections.push(RawSection {
                name: format!(".rel{target}"),
                kind: 9,
                data: entries.collect(),
                link: symbol_table,
                info: u32::from(*target),
                entry_size: 16,
                ..RawSection::default()
            });
        }
        sections.push(RawSection {
            name: ".symtab".to_owned(),
            kind: 2,
            data: symbols,
            link: symbol_table + 1,
            entry_size: 24,
            ..RawSection::default()
        });
        let names: Vec<u32> = sections.iter().map(|s| string(&s.name)).collect();
        let own_name = string(".strtab");
        sections.push(RawSection {
            kind: 3,
            data: strings,
            ..RawSection::default()
        });
        write(&sections, names.into_iter().chain([own_name]))
    }
}

fn write(sections: &[RawSection], names: impl Iterator<Item = u32>) -> Vec<u8> {
    let content: u64 = sections.iter().map(|s| s.data.len() as u64).sum();
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\xf7\0\x01\0\0\0".to_vec();
    file.extend([0; 16]);
    file.extend((64 + content).to_le_bytes());
    for field in [0, 0, 64, 0, 0, 64, sections.len() as u16, sections.len() as u16 - 1] {
        file.extend(u16::to_le_bytes(field));
    }
    let mut headers = Vec::new();
    for (section, name) in sections.iter().zip(names) {
        headers.extend(name.to_le_bytes());
        headers.extend(section.kind.to_le_bytes());
        for field in [
            section.flags,
            0,
            file.len() as u64,
            section.size.unwrap_or(section.data.len() as u64),
        ] {
            headers.extend(field.to_le_bytes());
        }
        headers.extend(section.link.to_le_bytes());
        headers.extend(section.info.to_le_bytes());
        headers.extend(1u64.to_le_bytes());
        headers.extend(section.entry_size.to_le_bytes());
        file.extend(&section.data);
    }
    file.extend(headers);
    file
}

/// BTF in the making. Each method gives the id of the type that it adds.
#[derive(Clone)]
pub(crate) struct Types {
    words: Vec<u32>,
    count: u32,
    strings: Vec<u8>,
}

impl Types {
    pub(crate) fn new() -> Types {
        Types {
            words: Vec::new(),
            count: 0,
            strings: vec![0],
        }
    }

    /// The offset of a new string.
    pub(crate) fn string(&mut self, text: &str) -> u32 {
        let offset = self.strings.len() as u32;
        self.strings.extend(text.bytes().chain([0]));
        offset
    }

    fn add(&mut self, name: &str, kind: u32, count: usize, size_or_type: u32, rest: &[u32]) -> u32 {
        let name = if name.is_empty() { 0 } else { self.string(name) };
        self.words.extend([name, kind << 24 | count as u32, size_or_type]);
        self.words.extend(rest);
        self.count += 1;
        self.count
    }

    pub(crate) fn int(&mut self, size: u32) -> u32 {
        self.add("int", 1, 0, size, &[size * 8])
    }

    pub(crate) fn pointer(&mut self, to: u32) -> u32 {
        self.add("", 2, 0, to, &[])
    }

    pub(crate) fn array(&mut self, of: u32, count: u32) -> u32 {
        self.add("", 3, 0, 0, &[of, 1, count])
    }

    /// A structure of these members, one pointer after the other.
    pub(crate) fn structure(&mut self, members: &[(&str, u32)]) -> u32 {
        let members: Vec<u32> = members
            .iter()
            .enumerate()
            .flat_map(|(i, (name, of))| [self.string(name), *of, i as u32 * 64])
            .collect();
        let count = members.len() / 3;
        self.add("", 4, count, count as u32 * 8, &members)
    }

    pub(crate) fn typedef(&mut self, of: u32) -> u32 {
        self.add("name", 8, 0, of, &[])
    }

    pub(crate) fn constant(&mut self, of: u32) -> u32 {
        self.add("", 10, 0, of, &[])
    }

    pub(crate) fn signature(&mut self) -> u32 {
        self.add("", 13, 0, 0, &[])
    }

    /// An `extern` function.
    pub(crate) fn function(&mut self, name: &str) -> u32 {
        let signature = self.signature();
        self.add(name, 12, 2, signature, &[])
    }

    /// What `btf_decl_tag` makes of a text: a note on a type, or on a component of it that is not `u32::MAX`.
    pub(crate) fn tag(&mut self, text: &str, of: u32, component: u32) -> u32 {
        self.add(text, 17, 0, of, &[component])
    }

    pub(crate) fn variable(&mut self, name: &str, of: u32) -> u32 {
        self.add(name, 14, 0, of, &[1])
    }

    /// A variable that is only declared.
    pub(crate) fn extern_variable(&mut self, name: &str, of: u32) -> u32 {
        self.add(name, 14, 0, of, &[2])
    }

    pub(crate) fn data_section(&mut self, name: &str, size: u32, variables: &[u32]) -> u32 {
        let entries: Vec<u32> = variables.iter().flat_map(|v| [*v, 0, 0]).collect();
        self.add(name, 15, variables.len(), size, &entries)
    }

    /// What `__uint` makes of a number.
    pub(crate) fn uint(&mut self, number: u32) -> u32 {
        let int = self.int(4);
        let array = self.array(int, number);
        self.pointer(array)
    }

    /// A `.BTF` section.
    pub(crate) fn build(&self) -> Vec<u8> {
        let length = self.words.len() as u32 * 4;
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for field in [24, 0, length, length, self.strings.len() as u32] {
            bytes.extend(u32::to_le_bytes(field));
        }
        bytes.extend(self.words.iter().flat_map(|w| w.to_le_bytes()));
        bytes.extend(&self.strings);
        bytes
    }
}

/// A kernel that nothing is known of.
pub(crate) struct NoKernel;

impl crate::Kernel for NoKernel {
    fn structure(&self, _: &str) -> crate::Structure {
        crate::Structure::Unknown
    }

    fn member(&self, _: &str, _: &str) -> Option<(u32, u32)> {
        None
    }

    fn has_enumerator(&self, _: &str, _: &str) -> Option<bool> {
        None
    }

    fn configuration(&self, _: &str) -> Option<&str> {
        None
    }
}
