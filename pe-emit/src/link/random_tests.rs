//! Any value of [`NativeObject`] links or is refused, and is written as an object file or refused; none panics, and what is
//! written can be read back.

use goblin::pe::{Coff, PE};

use super::link;
use crate::coff;
use crate::native_object::{
    FunctionRange, Guard, Import, LoadConfig, Machine, NativeObject, Purpose, Relocation, RelocationKind, Section,
    SectionIndex, SectionKind, Symbol, SymbolIndex, SymbolPlace, UnwindCodeX64, UnwindInfo, UnwindOpX64,
};
use crate::test_objects::{arm64, driver};

/// The same numbers on every run (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    /// Mostly a small number, sometimes one at the edge of its type.
    fn number(&mut self) -> u32 {
        match self.below(13) {
            0 => u32::MAX - self.below(5) as u32,
            1 => 1 << self.below(32),
            2 => self.next() as u32,
            3..=6 => self.below(16) as u32 * 8,
            _ => self.below(64) as u32,
        }
    }

    fn list<T>(&mut self, limit: u64, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(limit)).map(|_| item(self)).collect()
    }

    fn index(&mut self) -> u32 {
        if self.below(20) == 0 {
            self.number()
        } else {
            self.below(4) as u32
        }
    }

    fn name(&mut self) -> String {
        self.pick(&[
            ".text",
            ".rdata",
            ".data",
            "maps",
            "",
            "é",
            "a\0",
            "PAGE",
            "xdp",
            "123456789",
            "/1",
            ".reloc",
        ])
        .into()
    }

    fn relocation(&mut self) -> Relocation {
        use RelocationKind::{
            Absolute64, Arm64Branch26, Arm64LoadOffset12, Arm64Page21, Arm64PageOffset12, Relative32,
        };
        Relocation {
            offset: self.number(),
            kind: self.pick(&[
                Absolute64,
                Relative32,
                Relative32,
                Arm64Page21,
                Arm64PageOffset12,
                Arm64LoadOffset12,
                Arm64Branch26,
            ]),
            symbol: SymbolIndex(self.index()),
            addend: if self.below(8) == 0 {
                self.next() as i64
            } else {
                self.below(9) as i64 - 4
            },
        }
    }

    fn unwind(&mut self) -> UnwindInfo {
        match self.below(4) {
            0 => UnwindInfo::Arm64 {
                codes: self.list(9, |n| n.pick(&[0xE4, 0xE4, 0xE1, 0x81, 0xC8, 0xE0, 0xFF, 0x00])),
                epilogs: self.list(4, |n| (n.number(), n.number() as u16)),
            },
            1 => UnwindInfo::Leaf,
            _ => UnwindInfo::X64 {
                prologue_size: self.number() as u8,
                codes: self.list(4, Self::code),
            },
        }
    }

    fn code(&mut self) -> UnwindCodeX64 {
        let (register, number) = (self.number() as u8, self.number());
        let op = self.pick(&[
            UnwindOpX64::PushNonvol(register),
            UnwindOpX64::Alloc(number),
            UnwindOpX64::SaveNonvol {
                register,
                offset: number,
            },
        ]);
        UnwindCodeX64 {
            offset: self.number() as u8,
            op,
        }
    }

    fn section(&mut self) -> Section {
        Section {
            name: self.name(),
            kind: self.pick(&[SectionKind::Code, SectionKind::ReadOnlyData, SectionKind::Data]),
            align: self.pick(&[1, 8, 16, 4096, 0, 3, u32::MAX]),
            data: self.list(200, |n| n.next() as u8),
            relocations: self.list(4, Self::relocation),
        }
    }

    fn symbol(&mut self) -> Symbol {
        let (section, offset, index) = (SectionIndex(self.index()), self.number(), self.index());
        let place = self.pick(&[
            SymbolPlace::Section { section, offset },
            SymbolPlace::ImportSlot { index },
        ]);
        Symbol {
            name: self.name(),
            place,
        }
    }

    fn function(&mut self) -> FunctionRange {
        FunctionRange {
            section: SectionIndex(self.index()),
            offset: self.number(),
            size: self.number(),
            unwind: self.unwind(),
        }
    }

    fn import(&mut self) -> Import {
        Import {
            module: self.name(),
            function: self.name(),
        }
    }

    fn purpose(&mut self) -> Purpose {
        let entry = SymbolIndex(self.index());
        let exports = self.list(4, |n| SymbolIndex(n.index()));
        match self.below(8) {
            0 => Purpose::Object { exports },
            1..4 => Purpose::Driver { entry },
            _ => Purpose::Dll {
                name: self.name(),
                entry,
                exports,
            },
        }
    }

    /// An object of which nothing need fit.
    fn object(&mut self) -> NativeObject {
        NativeObject {
            machine: self.pick(&[Machine::X64, Machine::Arm64]),
            sections: self.list(6, Self::section),
            symbols: self.list(6, Self::symbol),
            functions: self.list(5, Self::function),
            imports: self.list(5, Self::import),
            purpose: self.purpose(),
            load_config: (self.below(2) == 0).then(|| self.load_config()),
            shadow_stack: self.below(2) == 0,
        }
    }

    fn load_config(&mut self) -> LoadConfig {
        LoadConfig {
            security_cookie: SymbolIndex(self.index()),
            guard: (self.below(3) > 0).then(|| Guard {
                check: SymbolIndex(self.index()),
                dispatch: (self.below(2) == 0).then(|| SymbolIndex(self.index())),
                functions: self.list(4, |n| SymbolIndex(n.index())),
            }),
        }
    }

    /// A good object with one thing changed, which often still fits.
    fn neighbour(&mut self) -> NativeObject {
        let mut object = if self.below(3) == 0 { arm64() } else { driver() };
        let section = self.below(object.sections.len() as u64) as usize;
        let section = &mut object.sections[section];
        match self.below(13) {
            0 => object.machine = Machine::Arm64,
            1 => section.name = self.name(),
            2 => section.kind = self.pick(&[SectionKind::Code, SectionKind::ReadOnlyData, SectionKind::Data]),
            3 => section.align = self.number(),
            4 => section.data.truncate(self.number() as usize),
            5 => section.data.extend(self.list(9000, |n| n.next() as u8)),
            6 => section.relocations.push(self.relocation()),
            7 => object.symbols.push(self.symbol()),
            8 => object.functions.push(self.function()),
            9 => object.functions[0].unwind = self.unwind(),
            10 => object.imports.push(self.import()),
            11 => object.load_config = Some(self.load_config()),
            _ => object.purpose = self.purpose(),
        }
        object
    }
}

/// Links, and reads back what links. Tells whether it did.
fn links(object: &NativeObject) -> bool {
    if let Ok(bytes) = coff(object) {
        let read = Coff::parse(&bytes).unwrap_or_else(|error| panic!("{error}: {object:?}"));
        let names = read.sections.iter().map(|section| section.name().unwrap());
        assert!(names.zip(&object.sections).all(|(name, section)| name == section.name));
    }
    let Ok(image) = link(object) else {
        return false;
    };
    let pe = PE::parse(image.bytes()).unwrap_or_else(|error| panic!("{error}: {object:?}"));
    let mut end = 0;
    for section in &pe.sections {
        assert!(section.virtual_address >= end && section.virtual_address.is_multiple_of(0x1000));
        end = section.virtual_address + section.virtual_size;
        assert!((section.pointer_to_raw_data + section.size_of_raw_data) as usize <= image.bytes().len());
    }
    for (section, out) in object.sections.iter().zip(&pe.sections) {
        assert_eq!(out.name().ok(), Some(section.name.as_str()));
        assert!(out.virtual_size as usize == section.data.len() || section.name == ".rdata");
    }
    assert_eq!(pe.imports.len(), object.imports.len());
    assert_eq!(pe.exports.len(), object.purpose.exports().len());
    true
}

#[test]
fn no_object_makes_the_linker_panic() {
    let mut numbers = Numbers(1);
    for _ in 0..20_000 {
        links(&numbers.object());
    }
}

#[test]
fn neighbours_of_a_good_object_link_or_are_refused() {
    let mut numbers = Numbers(2);
    let count = 5_000;
    let linked = (0..count).filter(|_| links(&numbers.neighbour())).count();
    assert!(
        linked > count / 20 && linked < count * 9 / 10,
        "{linked} of {count}: the changes test nothing"
    );
}
