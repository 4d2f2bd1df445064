//! Object files read back with `goblin`, which shares no code with the writer.

use std::collections::BTreeMap;

use goblin::pe::Coff;
use goblin::pe::symbol::{IMAGE_SYM_CLASS_EXTERNAL, IMAGE_SYM_CLASS_STATIC};

use super::coff;
use crate::error::{ExportProblem, LinkError, RelocationProblem, SymbolProblem};
use crate::native_object::{
    FunctionRange, NativeObject, Purpose, Relocation, RelocationKind, SectionIndex, SectionKind, SymbolIndex,
    UnwindInfo,
};
use crate::test_objects::{arm64, driver, place, relocation, section};

/// `driver` as an input of another linker that exports its `leaf`.
fn object() -> NativeObject {
    let mut object = driver();
    object.purpose = Purpose::Object {
        exports: vec![SymbolIndex(1)],
    };
    object
}

fn written(object: &NativeObject) -> Vec<u8> {
    coff(object).unwrap()
}

/// A section as a reader sees it: flags, contents, relocations.
struct Read<'a> {
    flags: u32,
    data: &'a [u8],
    /// Offset, type, name and value of the symbol.
    relocations: Vec<(u32, u16, String, u32)>,
}

fn read(bytes: &[u8]) -> BTreeMap<String, Read<'_>> {
    let coff = Coff::parse(bytes).unwrap();
    let symbols = coff.symbols.as_ref().unwrap();
    let strings = coff.strings.as_ref().unwrap();
    coff.sections
        .iter()
        .map(|section| {
            let start = section.pointer_to_raw_data as usize;
            let relocations = section
                .relocations(bytes)
                .unwrap_or_default()
                .map(|found| {
                    let (_, symbol) = symbols.get(found.symbol_table_index as usize).unwrap();
                    let name = symbol.name(strings).unwrap().to_owned();
                    (found.virtual_address, found.typ, name, symbol.value)
                })
                .collect();
            let read = Read {
                flags: section.characteristics,
                data: &bytes[start..start + section.size_of_raw_data as usize],
                relocations,
            };
            (section.name().unwrap().to_owned(), read)
        })
        .collect()
}

/// Name, section number from 1, value, storage class, whether it is a function.
type ReadSymbol = (String, i16, u32, u8, bool);

fn symbols(bytes: &[u8]) -> Vec<ReadSymbol> {
    let coff = Coff::parse(bytes).unwrap();
    let strings = coff.strings.as_ref().unwrap();
    let all = coff.symbols.as_ref().unwrap().iter();
    all.map(|(_, _, s)| {
        let name = s.name(strings).unwrap().to_owned();
        (name, s.section_number, s.value, s.storage_class, s.typ == 0x20)
    })
    .collect()
}

#[test]
fn sections_keep_order_contents_and_alignment() {
    let bytes = written(&object());
    let coff = Coff::parse(&bytes).unwrap();
    assert_eq!((coff.header.machine, coff.header.time_date_stamp), (0x8664, 0));
    assert_eq!(
        (coff.header.characteristics, coff.header.size_of_optional_header),
        (0, 0)
    );
    let found: Vec<_> = coff
        .sections
        .iter()
        .map(|s| {
            (
                s.name().unwrap(),
                s.characteristics,
                s.size_of_raw_data,
                s.virtual_address,
                s.virtual_size,
            )
        })
        .collect();
    let expected = [
        (".text", 0x6050_0020, 41, 0, 0),
        (".rdata", 0x4050_0040, 10, 0, 0),
        (".data", 0xC050_0040, 24, 0, 0),
        ("maps", 0xC050_0040, 80, 0, 0),
        ("xdp", 0x6050_0020, 37, 0, 0),
        (".xdata", 0x4030_0040, 12, 0, 0),
        (".pdata", 0x4030_0040, 24, 0, 0),
    ];
    assert_eq!(found, expected);
    for (align, flag) in [
        (1, 0x0010_0000),
        (2, 0x0020_0000),
        (8, 0x0040_0000),
        (4096, 0x00D0_0000),
    ] {
        let mut object = object();
        object.sections[1].align = align;
        assert_eq!(read(&written(&object))[".rdata"].flags, 0x4000_0040 | flag);
    }
}

#[test]
fn only_exports_and_imports_are_visible_to_others() {
    const STATIC: u8 = IMAGE_SYM_CLASS_STATIC;
    let found = symbols(&written(&object()));
    let of_sections = [".text", ".rdata", ".data", "maps", "xdp", ".xdata", ".pdata"];
    for (number, (name, symbol)) in (1..).zip(of_sections.iter().zip(&found)) {
        assert_eq!(*symbol, ((*name).to_owned(), number, 0, STATIC, false));
    }
    let expected = [
        ("DriverEntry", 1, 0, STATIC, true),
        ("leaf", 1, 37, IMAGE_SYM_CLASS_EXTERNAL, true),
        ("handle", 3, 8, STATIC, false),
        ("name", 2, 6, STATIC, false),
        ("__imp_NmrRegisterClient", 0, 0, IMAGE_SYM_CLASS_EXTERNAL, false),
        ("program", 5, 0, STATIC, true),
    ];
    assert_eq!(
        found[of_sections.len()..],
        expected.map(|(name, section, value, class, function)| (name.to_owned(), section, value, class, function))
    );
    // An entry point is for the linker's option of that name.
    let entry = &symbols(&written(&driver()))[of_sections.len()];
    assert_eq!((entry.0.as_str(), entry.3), ("DriverEntry", IMAGE_SYM_CLASS_EXTERNAL));
}

#[test]
fn sections_have_one_symbol_that_tells_their_size() {
    let mut object = object();
    // The first is the section's own symbol; the second is a function that has the same name.
    object.symbols.extend([place("xdp", 4, 0), place("xdp", 4, 0)]);
    object.sections[0].relocations[0].symbol = SymbolIndex(6);
    let bytes = written(&object);
    let coff = Coff::parse(&bytes).unwrap();
    let table = coff.symbols.as_ref().unwrap();
    let sections: Vec<_> = table
        .iter()
        .filter(|(_, _, symbol)| symbol.number_of_aux_symbols == 1)
        .map(|(index, ..)| table.aux_section_definition(index + 1).unwrap())
        .map(|aux| (aux.length, aux.number_of_relocations))
        .collect();
    assert_eq!(
        sections,
        [(41, 2), (10, 0), (24, 0), (80, 2), (37, 2), (12, 0), (24, 6)]
    );
    let named = |name| symbols(&bytes).iter().filter(|symbol| symbol.0 == name).count();
    assert_eq!((named("xdp"), named(".text")), (2, 1));
}

#[test]
fn x64_fields_hold_what_a_linker_adds() {
    let mut object = object();
    object.sections[2].relocations = vec![relocation(4, RelocationKind::Relative32, 3, 2)];
    let bytes = written(&object);
    let sections = read(&bytes);
    let all = |name: &str, width: usize| -> Vec<_> {
        let section = &sections[name];
        section
            .relocations
            .iter()
            .map(|(offset, typ, symbol, _)| {
                let mut field = [0; 8];
                field[..width].copy_from_slice(&section.data[*offset as usize..][..width]);
                (*offset, *typ, symbol.as_str(), i64::from_le_bytes(field))
            })
            .collect()
    };
    let (addr64, addr32nb, rel32) = (1, 3, 4);
    assert_eq!(
        all(".text", 4),
        [(16, rel32, "handle", 0), (22, rel32, "__imp_NmrRegisterClient", 0)]
    );
    // Addends of 4 and of 2 from the start of the field.
    assert_eq!(all("xdp", 4)[0], (16, rel32, "handle", 8));
    assert_eq!(all(".data", 4), [(4, rel32, "name", 6)]);
    assert_eq!(all("maps", 8), [(48, addr64, "program", 0), (72, addr64, "name", 0)]);
    assert_eq!(
        all(".pdata", 4),
        [
            (0, addr32nb, "DriverEntry", 0),
            (4, addr32nb, "DriverEntry", 37),
            (8, addr32nb, ".xdata", 0),
            (12, addr32nb, "program", 0),
            (16, addr32nb, "program", 37),
            // Equal records are one.
            (20, addr32nb, ".xdata", 0),
        ]
    );
    object.sections[3].relocations[0].addend = 4;
    let bytes = written(&object);
    assert_eq!(read(&bytes)["maps"].data[72..80], 4_u64.to_le_bytes());
}

#[test]
fn arm64_instructions_refer_to_symbols_without_addend() {
    let bytes = written(&arm64());
    let sections = read(&bytes);
    let text = &sections[".text"];
    let (branch26, pagebase, pageoffset, of_load) = (3, 4, 6, 7);
    let label = "$L11";
    let expected = [
        (4, pagebase, label, 8),
        (8, pageoffset, label, 8),
        (12, branch26, "leaf", 24),
        (24, branch26, "DriverEntry", 0),
        (28, of_load, label, 8),
    ];
    assert_eq!(
        text.relocations,
        expected.map(|(offset, typ, name, value)| (offset, typ, name.to_owned(), value))
    );
    // adrp x0; add x0, x0, #0; bl; b; ldr x0, [x0], all of 0.
    for (offset, word) in [
        (4, 0x9000_0000_u32),
        (8, 0x9100_0000),
        (12, 0x9400_0000),
        (24, 0x1400_0000),
        (28, 0xF940_0000),
    ] {
        assert_eq!(text.data[offset..][..4], word.to_le_bytes(), "{offset}");
    }
    let table = &sections[".pdata"];
    assert_eq!(table.data, [0; 8]);
    let addr32nb = 2;
    assert_eq!(
        table.relocations,
        [
            (0, addr32nb, "DriverEntry".into(), 0),
            (4, addr32nb, ".xdata".into(), 0)
        ]
    );
}

#[test]
fn immediates_that_a_compiler_left_are_cleared() {
    let mut object = arm64();
    // adrp x0, +1 page; add x0, x0, #1; bl +4
    for (offset, word) in [(4, 0xB000_0000_u32), (8, 0x9100_0400), (12, 0x9400_0001)] {
        object.sections[0].data[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
    }
    assert_eq!(written(&object), written(&arm64()));
}

#[test]
fn a_function_in_fragments_has_an_entry_for_each() {
    let mut object = arm64();
    object.sections[0].data.resize(2 << 20, 0);
    object.functions = vec![FunctionRange {
        section: SectionIndex(0),
        offset: 0,
        size: 2 << 20,
        unwind: UnwindInfo::Arm64 {
            codes: vec![0x81, 0xE4],
            epilogs: vec![],
        },
    }];
    let bytes = written(&object);
    let table = &read(&bytes)[".pdata"];
    let begins: Vec<_> = table
        .relocations
        .iter()
        .step_by(2)
        .map(|(at, _, name, _)| {
            let field = table.data[*at as usize..].first_chunk().unwrap();
            (name.as_str(), u32::from_le_bytes(*field))
        })
        .collect();
    let longest = (1 << 20) - 4;
    assert_eq!(begins, [("DriverEntry", 0), (".text", longest), (".text", 2 * longest)]);
}

#[test]
fn more_relocations_than_a_header_counts_are_counted_by_the_first() {
    use object::read::coff::{CoffFile, CoffHeader};
    use object::{Object, ObjectSection, pe::ImageFileHeader};

    let mut object = object();
    for (count, overflows) in [(0xFFFF, false), (0x1_0000, true), (100_000, true)] {
        object.sections[3] = section("maps", SectionKind::Data, &vec![0; 8 * count as usize], Vec::new());
        let fields = (0..count).map(|n| relocation(8 * n, RelocationKind::Absolute64, 3, 0));
        object.sections[3].relocations = fields.collect();
        let bytes = written(&object);
        let header = read(&bytes);
        assert_eq!(header["maps"].flags & 0x0100_0000 != 0, overflows, "{count}");
        assert!(ImageFileHeader::parse(bytes.as_slice(), &mut 0).is_ok());
        let file = CoffFile::<_>::parse(bytes.as_slice()).unwrap();
        let maps = file.section_by_name("maps").unwrap();
        let offsets: Vec<u64> = maps.relocations().map(|(offset, _)| offset).collect();
        assert_eq!(offsets.len(), count as usize);
        assert_eq!(offsets.last(), Some(&(8 * u64::from(count) - 8)));
        // What follows the relocations is in its place.
        assert_eq!(header["xdp"].data.len(), 37);
    }
}

#[test]
fn the_same_object_gives_the_same_file() {
    assert_eq!(written(&object()), written(&object()));
    assert_eq!(written(&arm64()), written(&arm64()));
}

fn refused(change: impl FnOnce(&mut NativeObject)) -> LinkError {
    let mut object = object();
    change(&mut object);
    coff(&object).unwrap_err()
}

#[test]
fn rejects_what_an_object_file_cannot_say() {
    for name in ["", "a\0b"] {
        let error = refused(|object| object.symbols.push(place(name, 0, 0)));
        let problem = SymbolProblem::Name;
        assert_eq!(
            error,
            LinkError::Symbol {
                name: name.into(),
                problem
            }
        );
    }
    let sections = |count| {
        let mut object = object();
        let add = |n| section(&format!("{n:x}"), SectionKind::Data, &[0], Vec::new());
        object.sections.extend((object.sections.len()..count).map(add));
        coff(&object)
    };
    assert!(sections(0xFEFF - 2).is_ok());
    let error = LinkError::TooManySections {
        count: 0xFF00,
        generated: 2,
        limit: 0xFEFF,
    };
    assert_eq!(sections(0xFF00 - 2), Err(error));
}

#[test]
fn rejects_fields_that_a_linker_could_not_compute() {
    use RelocationKind::{Absolute64, Relative32};
    let cases: [(Relocation, RelocationProblem); 6] = [
        (relocation(0, Absolute64, 3, 5), RelocationProblem::OutsideSection),
        (relocation(0, Absolute64, 3, -7), RelocationProblem::OutsideSection),
        (
            relocation(0, Absolute64, 3, i64::MIN),
            RelocationProblem::OutsideSection,
        ),
        (relocation(0, Absolute64, 4, 0), RelocationProblem::OutsideSection),
        (
            relocation(0, Relative32, 3, i64::MAX),
            RelocationProblem::OutOfRange {
                value: i128::from(i64::MAX) + 4,
            },
        ),
        (
            relocation(0, Relative32, 99, 0),
            RelocationProblem::UnknownSymbol { symbol: 99 },
        ),
    ];
    for (field, problem) in cases {
        let error = refused(|object| object.sections[2].relocations.push(field));
        let section = ".data".to_owned();
        assert_eq!(
            error,
            LinkError::Relocation {
                section,
                offset: 0,
                problem
            },
            "{field:?}"
        );
    }
    let mut object = arm64();
    object.sections[0].relocations[0].addend = 17;
    assert!(matches!(
        coff(&object),
        Err(LinkError::Relocation {
            offset: 4,
            problem: RelocationProblem::OutsideSection,
            ..
        })
    ));
}

#[test]
fn rejects_external_symbols_that_share_a_name() {
    let error = refused(|object| {
        object.symbols[0].name = "leaf".into();
        object.purpose = Purpose::Dll {
            name: "a.dll".into(),
            entry: SymbolIndex(0),
            exports: vec![SymbolIndex(1)],
        };
    });
    let problem = ExportProblem::Duplicate { name: "leaf".into() };
    assert_eq!(error, LinkError::Export { index: 1, problem });
}
