//! What cannot be linked is refused, with its place.

use goblin::pe::PE;

use super::link;
use crate::error::{
    EntryProblem, FunctionProblem, ImportProblem, LinkError, RelocationProblem, SectionProblem, SymbolProblem,
};
use crate::native_object::{
    FunctionRange, Machine, NativeObject, Purpose, RelocationKind, SectionIndex, SectionKind, Symbol, SymbolIndex,
    SymbolPlace, UnwindInfo,
};
use crate::test_objects::{arm64, driver, import, place, relocation, section};

fn refused(change: impl FnOnce(&mut NativeObject)) -> LinkError {
    let mut object = driver();
    change(&mut object);
    link(&object).unwrap_err()
}

#[test]
fn rejects_sections_that_no_image_can_have() {
    let cases: [(&str, SectionProblem); 11] = [
        ("", SectionProblem::NameLength),
        ("123456789", SectionProblem::NameLength),
        ("éééé_", SectionProblem::NameLength),
        ("a\0b", SectionProblem::NameNul),
        ("/4", SectionProblem::NameSlash),
        ("PAGE", SectionProblem::NamePageable),
        ("PAGExdp", SectionProblem::NamePageable),
        ("INIT", SectionProblem::NamePageable),
        (".reloc", SectionProblem::NameReserved),
        (".pdata", SectionProblem::NameReserved),
        (".text", SectionProblem::Duplicate),
    ];
    for (name, problem) in cases {
        let error = refused(|object| object.sections[4].name = name.into());
        assert_eq!(
            error,
            LinkError::Section {
                name: name.into(),
                problem
            }
        );
    }
    for align in [0, 3, 8192, u32::MAX] {
        let error = refused(|object| object.sections[3].align = align);
        assert_eq!(
            error,
            LinkError::Section {
                name: "maps".into(),
                problem: SectionProblem::Alignment { align }
            }
        );
    }
    let error = refused(|object| object.sections[2].data.clear());
    assert_eq!(
        error,
        LinkError::Section {
            name: ".data".into(),
            problem: SectionProblem::Empty
        }
    );
    let error = refused(|object| object.sections[1].kind = SectionKind::Data);
    assert_eq!(
        error,
        LinkError::Section {
            name: ".rdata".into(),
            problem: SectionProblem::NotReadOnly
        }
    );
}

#[test]
fn rejects_more_sections_than_windows_loads() {
    let with = |count: usize| {
        let mut object = driver();
        let more =
            (object.sections.len()..count).map(|n| section(&format!("p{n}"), SectionKind::Code, &[0xC3], vec![]));
        object.sections.extend(more);
        link(&object)
    };
    let bytes = with(94).unwrap().into_bytes();
    let pe = PE::parse(&bytes).unwrap();
    assert_eq!(pe.sections.len(), 96);
    assert_eq!(
        pe.sections[0].virtual_address, 0x2000,
        "96 section headers need more than a page"
    );
    assert_eq!(
        with(95).unwrap_err(),
        LinkError::TooManySections {
            count: 97,
            generated: 2,
            limit: 96
        }
    );
}

#[test]
fn rejects_symbols_without_place() {
    let cases = [
        (
            SymbolPlace::Section {
                section: SectionIndex(5),
                offset: 0,
            },
            SymbolProblem::UnknownSection { section: 5 },
        ),
        (
            SymbolPlace::Section {
                section: SectionIndex(3),
                offset: 81,
            },
            SymbolProblem::OutOfSection {
                section: 3,
                offset: 81,
                size: 80,
            },
        ),
        (
            SymbolPlace::ImportSlot { index: 4 },
            SymbolProblem::UnknownImport { index: 4 },
        ),
    ];
    for (place, problem) in cases {
        let error = refused(|object| {
            object.symbols.push(Symbol {
                name: "lost".into(),
                place,
            });
        });
        assert_eq!(
            error,
            LinkError::Symbol {
                name: "lost".into(),
                problem
            }
        );
    }
    // The end of a section is a place.
    let mut object = driver();
    object.symbols.push(place("end", 3, 80));
    assert!(link(&object).is_ok());
}

#[test]
fn rejects_entry_points_that_are_not_code() {
    let error = refused(|object| object.purpose = Purpose::Driver { entry: SymbolIndex(6) });
    assert_eq!(
        error,
        LinkError::Entry {
            problem: EntryProblem::UnknownSymbol { symbol: 6 }
        }
    );
    for (symbol, name) in [(3, "name"), (4, "__imp_NmrRegisterClient")] {
        let error = refused(|object| {
            object.purpose = Purpose::Driver {
                entry: SymbolIndex(symbol),
            }
        });
        assert_eq!(
            error,
            LinkError::Entry {
                problem: EntryProblem::NotCode { name: name.into() }
            }
        );
    }
    let error = refused(|object| object.symbols[0] = place("end", 0, 41));
    assert_eq!(
        error,
        LinkError::Entry {
            problem: EntryProblem::NotCode { name: "end".into() }
        }
    );
    let mut object = arm64();
    object.symbols[0] = place("odd", 0, 2);
    assert_eq!(
        link(&object).unwrap_err(),
        LinkError::Entry {
            problem: EntryProblem::Unaligned { name: "odd".into() }
        }
    );
}

#[test]
fn rejects_imports_that_have_no_name() {
    for name in ["", "a\0", "a b", "ä"] {
        let error = refused(|object| object.imports.push(import(name, "f")));
        let problem = ImportProblem::ModuleName { name: name.into() };
        assert_eq!(error, LinkError::Import { index: 4, problem });
        let error = refused(|object| object.imports.push(import("m.sys", name)));
        let problem = ImportProblem::FunctionName { name: name.into() };
        assert_eq!(error, LinkError::Import { index: 4, problem });
    }
}

#[test]
fn rejects_relocations_that_cannot_be_computed() {
    use RelocationKind::{Absolute64, Arm64Branch26, Relative32};
    // (section, relocation, problem)
    let cases = [
        (0, relocation(38, Relative32, 2, 0), RelocationProblem::OutOfSection),
        (
            0,
            relocation(u32::MAX, Relative32, 2, 0),
            RelocationProblem::OutOfSection,
        ),
        (3, relocation(80, Absolute64, 2, 0), RelocationProblem::OutOfSection),
        (0, relocation(0, Absolute64, 2, 0), RelocationProblem::AbsoluteInCode),
        (
            3,
            relocation(4, Absolute64, 2, 0),
            RelocationProblem::Unaligned { align: 8 },
        ),
        (
            3,
            relocation(0, Arm64Branch26, 0, 0),
            RelocationProblem::InstructionInData,
        ),
        (
            0,
            relocation(0, Arm64Branch26, 0, 0),
            RelocationProblem::WrongInstruction,
        ),
        (
            0,
            relocation(18, Relative32, 2, 0),
            RelocationProblem::Overlap { other: 16 },
        ),
        (
            3,
            relocation(76, Relative32, 2, 0),
            RelocationProblem::Overlap { other: 72 },
        ),
        (
            0,
            relocation(0, Relative32, 6, 0),
            RelocationProblem::UnknownSymbol { symbol: 6 },
        ),
        (
            3,
            relocation(0, Absolute64, 0, -0x1001),
            RelocationProblem::OutsideImage,
        ),
        (
            3,
            relocation(0, Absolute64, 0, 0x7000_1000),
            RelocationProblem::OutsideImage,
        ),
        (
            3,
            relocation(0, Absolute64, 0, i64::MAX),
            RelocationProblem::OutsideImage,
        ),
        (
            0,
            relocation(0, Relative32, 0, 0x8000_0000),
            RelocationProblem::OutOfRange { value: 0x8000_0000 },
        ),
        (
            0,
            relocation(0, Relative32, 0, i64::MIN),
            RelocationProblem::OutOfRange {
                value: i128::from(i64::MIN),
            },
        ),
    ];
    for (section, field, problem) in cases {
        let error = refused(|object| object.sections[section].relocations.push(field));
        let name = driver().sections[section].name.clone();
        assert_eq!(
            error,
            LinkError::Relocation {
                section: name,
                offset: field.offset,
                problem
            }
        );
    }
    // What would be an instruction to patch on ARM64 is none here.
    let error = refused(|object| {
        object.sections[0].data[4..8].copy_from_slice(&0x1400_0000u32.to_le_bytes());
        object.sections[0].relocations = vec![relocation(4, Arm64Branch26, 0, 0)];
    });
    let problem = RelocationProblem::WrongInstruction;
    assert_eq!(
        error,
        LinkError::Relocation {
            section: ".text".into(),
            offset: 4,
            problem
        }
    );
    let mut object = driver();
    object.sections[0]
        .relocations
        .push(relocation(0, Relative32, 0, 0x7FFF_FFFF));
    assert!(link(&object).is_ok());
}

#[test]
fn rejects_arm64_fields_that_do_not_fit_their_instruction() {
    use RelocationKind::{Arm64Branch26, Arm64LoadOffset12, Arm64Page21, Arm64PageOffset12};
    let page = 1i64 << 32;
    let branch = 1i64 << 27;
    // (replaced relocation, new one, problem; `None` where it fits)
    let cases = [
        (0, relocation(4, Arm64Page21, 1, page - 0x2000), None),
        (
            0,
            relocation(4, Arm64Page21, 1, page),
            Some(RelocationProblem::OutOfRange {
                value: (1 << 32) + 0x1000 - 4,
            }),
        ),
        (2, relocation(12, Arm64Branch26, 0, branch + 8), None),
        (
            2,
            relocation(12, Arm64Branch26, 0, branch + 12),
            Some(RelocationProblem::OutOfRange { value: 1 << 27 }),
        ),
        (2, relocation(12, Arm64Branch26, 0, -branch + 12), None),
        (
            2,
            relocation(12, Arm64Branch26, 0, 2),
            Some(RelocationProblem::OutOfRange { value: -10 }),
        ),
        (
            1,
            relocation(12, Arm64PageOffset12, 1, 0),
            Some(RelocationProblem::WrongInstruction),
        ),
        (
            1,
            relocation(4, Arm64PageOffset12, 1, 0),
            Some(RelocationProblem::WrongInstruction),
        ),
        (
            1,
            relocation(10, Arm64PageOffset12, 1, 0),
            Some(RelocationProblem::Unaligned { align: 4 }),
        ),
        // The one of a sum, in a load, and of a load, in a sum.
        (
            4,
            relocation(28, Arm64PageOffset12, 1, 0),
            Some(RelocationProblem::WrongInstruction),
        ),
        (
            1,
            relocation(8, Arm64LoadOffset12, 1, 0),
            Some(RelocationProblem::WrongInstruction),
        ),
        (4, relocation(28, Arm64LoadOffset12, 1, 0), None),
        (
            4,
            relocation(28, Arm64LoadOffset12, 1, 4),
            Some(RelocationProblem::OutOfRange { value: 0x1000 + 4 - 28 }),
        ),
    ];
    for (replaced, field, problem) in cases {
        let mut object = arm64();
        object.sections[0].relocations[replaced] = field;
        match problem {
            None => assert!(link(&object).is_ok(), "{field:?}"),
            Some(problem) => assert_eq!(
                link(&object).unwrap_err(),
                LinkError::Relocation {
                    section: ".text".into(),
                    offset: field.offset,
                    problem
                }
            ),
        }
    }
}

#[test]
fn rejects_functions_without_sound_extent() {
    let function = |section, offset, size| FunctionRange {
        section: SectionIndex(section),
        offset,
        size,
        unwind: UnwindInfo::Leaf,
    };
    let cases = [
        (function(5, 0, 1), FunctionProblem::UnknownSection),
        (function(1, 0, 1), FunctionProblem::NotCode),
        (function(0, 40, 0), FunctionProblem::OutOfSection { size: 0 }),
        (function(0, 40, 2), FunctionProblem::OutOfSection { size: 2 }),
        (
            function(0, u32::MAX, u32::MAX),
            FunctionProblem::OutOfSection { size: u32::MAX },
        ),
        (function(0, 39, 1), FunctionProblem::Overlap { other: 37 }),
        (function(0, 37, 3), FunctionProblem::Overlap { other: 37 }),
    ];
    for (function, problem) in cases {
        let error = refused(|object| object.functions.push(function.clone()));
        assert_eq!(
            error,
            LinkError::Function {
                section: function.section.0,
                offset: function.offset,
                problem
            }
        );
    }
    let error = refused(|object| {
        object.functions[0].unwind = UnwindInfo::Arm64 {
            codes: vec![0xE4],
            epilogs: vec![],
        };
    });
    let problem = FunctionProblem::WrongMachine { machine: Machine::X64 };
    assert_eq!(
        error,
        LinkError::Function {
            section: 0,
            offset: 0,
            problem
        }
    );
    let mut object = arm64();
    object.functions[0].size = 23;
    let problem = FunctionProblem::Unaligned;
    assert_eq!(
        link(&object).unwrap_err(),
        LinkError::Function {
            section: 0,
            offset: 0,
            problem
        }
    );
}
