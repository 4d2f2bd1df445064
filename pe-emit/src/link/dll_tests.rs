//! DLLs read back with `goblin`, and exports that are refused.

use goblin::pe::PE;
use goblin::pe::data_directories::DataDirectoryType;

use super::link;
use crate::error::{EntryProblem, ExportProblem, LinkError};
use crate::native_object::{NativeObject, Purpose, SymbolIndex};
use crate::test_objects::{arm64, driver, place};

/// `driver` as a DLL that exports symbols of these positions, and imports nothing.
fn dll(exports: &[u32]) -> NativeObject {
    let mut object = driver();
    object.imports.clear();
    for section in [0, 4] {
        object.sections[section].relocations.pop();
    }
    object.symbols.remove(4);
    object.sections[3].relocations[1].symbol = SymbolIndex(4);
    object.purpose = Purpose::Dll {
        name: "filter.dll".into(),
        entry: SymbolIndex(0),
        exports: exports.iter().copied().map(SymbolIndex).collect(),
    };
    object
}

fn linked(object: &NativeObject) -> Vec<u8> {
    link(object).unwrap().into_bytes()
}

#[test]
fn headers_are_those_of_a_dll() {
    let mut object = arm64();
    object.purpose = Purpose::Dll {
        name: "a.dll".into(),
        entry: SymbolIndex(0),
        exports: vec![],
    };
    for (object, machine) in [(dll(&[1]), 0x8664), (object, 0xAA64)] {
        let bytes = linked(&object);
        let pe = PE::parse(&bytes).unwrap();
        let coff = &pe.header.coff_header;
        assert_eq!((coff.machine, coff.characteristics), (machine, 0x2022));
        assert_eq!(coff.size_of_optional_header, 0xF0);
        let windows = pe.header.optional_header.unwrap().windows_fields;
        assert_eq!(windows.image_base, 0x1_8000_0000);
        assert_eq!((windows.subsystem, windows.dll_characteristics), (2, 0x160));
        let versions = [
            (
                windows.major_operating_system_version,
                windows.minor_operating_system_version,
            ),
            (windows.major_image_version, windows.minor_image_version),
            (windows.major_subsystem_version, windows.minor_subsystem_version),
        ];
        assert_eq!(versions, [(6, 0), (0, 0), (6, 0)]);
        assert_eq!(pe.entry, pe.sections[0].virtual_address);
        assert!(pe.is_lib);
        let not_paged = |flags: u32| flags & 0x0800_0000 != 0;
        assert!(!pe.sections.iter().any(|section| not_paged(section.characteristics)));
        assert_eq!(bytes[0x4E..0x50], *b"Th");
        assert_eq!(bytes[0x4E..].iter().position(|byte| *byte == b'$'), Some(38));
    }
}

#[test]
fn addresses_in_a_dll_count_from_its_base() {
    let bytes = linked(&dll(&[]));
    let pe = PE::parse(&bytes).unwrap();
    let section = |name: &str| pe.sections.iter().find(|s| s.name().unwrap() == name).unwrap();
    let field = section("maps").pointer_to_raw_data as usize + 72;
    let address = u64::from_le_bytes(*bytes[field..].first_chunk().unwrap());
    assert_eq!(
        address,
        0x1_8000_0000 + u64::from(section(".rdata").virtual_address) + 6
    );
}

#[test]
fn exports_are_found_by_name_in_sorted_order() {
    // handle, DriverEntry, leaf
    let bytes = linked(&dll(&[2, 0, 1]));
    let pe = PE::parse(&bytes).unwrap();
    assert_eq!(pe.name, Some("filter.dll"));
    let found: Vec<_> = pe
        .exports
        .iter()
        .map(|e| (e.name.unwrap(), e.rva, e.reexport.is_some()))
        .collect();
    let (text, data) = (
        pe.sections[0].virtual_address as usize,
        pe.sections[2].virtual_address as usize,
    );
    let expected = [
        ("DriverEntry", text, false),
        ("handle", data + 8, false),
        ("leaf", text + 37, false),
    ];
    assert_eq!(found, expected);
    let data = pe.export_data.unwrap();
    assert_eq!(data.export_ordinal_table, [0, 1, 2]);
    let directory = data.export_directory_table;
    assert_eq!((directory.ordinal_base, directory.time_date_stamp), (1, 0));
    assert_eq!(
        (directory.address_table_entries, directory.number_of_name_pointers),
        (3, 3)
    );
    // It is in `.rdata`, and no other section grew.
    let place = *pe
        .header
        .optional_header
        .unwrap()
        .data_directories
        .get_export_table()
        .unwrap();
    let rdata = &pe.sections[1];
    assert!((rdata.virtual_address..rdata.virtual_address + rdata.virtual_size).contains(&place.virtual_address));
    assert!(place.virtual_address.is_multiple_of(4));
    assert_eq!(pe.sections[3].virtual_size, 80);
}

#[test]
fn a_dll_without_imports_and_exports_has_no_directories_of_them() {
    let bytes = linked(&dll(&[]));
    let pe = PE::parse(&bytes).unwrap();
    let directories = pe.header.optional_header.unwrap().data_directories;
    let kinds: Vec<_> = directories.dirs().map(|(kind, _)| kind).collect();
    assert_eq!(
        kinds,
        [
            DataDirectoryType::ExceptionTable,
            DataDirectoryType::BaseRelocationTable,
            DataDirectoryType::DebugTable
        ]
    );
}

#[test]
fn a_thousand_exports_are_all_found() {
    let mut object = dll(&[]);
    // Names of different lengths, so that they sort differently from how they are made.
    object.symbols = (0..1000).map(|n| place(&format!("f{n}"), 0, n % 40)).collect();
    for section in &mut object.sections {
        section.relocations.clear();
    }
    let Purpose::Dll { exports, .. } = &mut object.purpose else {
        panic!()
    };
    *exports = (0..1000).map(SymbolIndex).collect();
    let bytes = linked(&object);
    let pe = PE::parse(&bytes).unwrap();
    let mut names: Vec<_> = pe.exports.iter().map(|export| export.name.unwrap()).collect();
    assert!(names.is_sorted());
    names.dedup();
    assert_eq!(names.len(), 1000);
    let text = pe.sections[0].virtual_address as usize;
    for export in &pe.exports {
        let number: usize = export.name.unwrap()[1..].parse().unwrap();
        assert_eq!(export.rva, text + number % 40);
    }
}

#[test]
fn rejects_what_cannot_be_exported() {
    let cases: [(&[u32], usize, ExportProblem); 3] = [
        (&[0, 9], 1, ExportProblem::UnknownSymbol { symbol: 9 }),
        (&[1, 2, 1], 2, ExportProblem::Duplicate { name: "leaf".into() }),
        (&[1, 5], 1, ExportProblem::Nothing { name: "end".into() }),
    ];
    for (exports, index, problem) in cases {
        let mut object = dll(exports);
        object.symbols.push(place("end", 3, 80));
        assert_eq!(link(&object).unwrap_err(), LinkError::Export { index, problem });
    }
    for name in ["", "a b", "a\0", "\u{e9}"] {
        let mut object = dll(&[0, 5]);
        object.symbols.push(place(name, 0, 0));
        let problem = ExportProblem::Name { name: name.into() };
        assert_eq!(link(&object).unwrap_err(), LinkError::Export { index: 1, problem });
    }
    // The slot of an import is in this image, and means nothing to others.
    let mut object = driver();
    object.purpose = Purpose::Dll {
        name: "a.dll".into(),
        entry: SymbolIndex(0),
        exports: vec![SymbolIndex(4)],
    };
    let name = "__imp_NmrRegisterClient".into();
    let problem = ExportProblem::Nothing { name };
    assert_eq!(link(&object).unwrap_err(), LinkError::Export { index: 0, problem });
}

#[test]
fn rejects_a_dll_without_name_or_entry_and_with_too_many_exports() {
    for bad in ["", "a b.dll", "\u{e9}.dll", "a\0"] {
        let mut object = dll(&[1]);
        let Purpose::Dll { name, .. } = &mut object.purpose else {
            panic!()
        };
        *name = bad.into();
        assert_eq!(link(&object).unwrap_err(), LinkError::DllName { name: bad.into() });
    }
    let mut object = dll(&[]);
    let Purpose::Dll { entry, .. } = &mut object.purpose else {
        panic!()
    };
    *entry = SymbolIndex(3);
    let problem = EntryProblem::NotCode { name: "name".into() };
    assert_eq!(link(&object).unwrap_err(), LinkError::Entry { problem });

    let with = |count: u32| {
        let mut object = dll(&[]);
        object.symbols.extend((0..count).map(|n| place(&format!("e{n}"), 0, 0)));
        let Purpose::Dll { exports, .. } = &mut object.purpose else {
            panic!()
        };
        *exports = (5..5 + count).map(SymbolIndex).collect();
        link(&object).map(|_| ())
    };
    assert_eq!(with(65_535), Ok(()));
    assert_eq!(with(65_536), Err(LinkError::TooManyExports { count: 65_536 }));
}

#[test]
fn an_object_for_another_linker_is_no_image() {
    let mut object = driver();
    object.purpose = Purpose::Object { exports: vec![] };
    assert_eq!(link(&object).unwrap_err(), LinkError::NotAnImage);
}
