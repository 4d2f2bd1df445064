//! Load configuration, guard tables, debug directory and resources, read back with `goblin`.

use goblin::pe::PE;
use goblin::pe::debug::{IMAGE_DEBUG_TYPE_EX_DLLCHARACTERISTICS, IMAGE_DEBUG_TYPE_REPRO};
use sha2::{Digest, Sha256};

use super::{link, link_with};
use crate::error::{LinkError, LoadConfigProblem};
use crate::native_object::{Guard, LoadConfig, Machine, NativeObject, RelocationKind, SymbolIndex};
use crate::test_objects::{arm64, driver, place, relocation};
use crate::{ImageOptions, Version, VersionInfo};

const CHECK: u32 = 7;
const DISPATCH: u32 = 8;

/// [`driver`] with a cookie (symbol 6), guard pointers to its leaf function (7 and 8), and its two functions that others call
/// in the table.
fn guarded() -> NativeObject {
    let mut object = driver();
    object.sections[2].data.extend(LoadConfig::COOKIE.to_le_bytes());
    let constants = &mut object.sections[1];
    constants.data.resize(32, 0);
    constants
        .relocations
        .extend([16, 24].map(|offset| relocation(offset, RelocationKind::Absolute64, 1, 0)));
    object
        .symbols
        .extend([place("cookie", 2, 24), place("check", 1, 16), place("dispatch", 1, 24)]);
    object.load_config = Some(LoadConfig {
        security_cookie: SymbolIndex(6),
        guard: Some(Guard {
            check: SymbolIndex(CHECK),
            dispatch: Some(SymbolIndex(DISPATCH)),
            // Not sorted, and one twice.
            functions: vec![SymbolIndex(5), SymbolIndex(0), SymbolIndex(5)],
        }),
    });
    object
}

fn problem(change: impl FnOnce(&mut NativeObject)) -> LoadConfigProblem {
    let mut object = guarded();
    change(&mut object);
    match link(&object).unwrap_err() {
        LinkError::LoadConfig { problem } => problem,
        error => panic!("{error}"),
    }
}

fn guard(object: &mut NativeObject) -> &mut Guard {
    object.load_config.as_mut().unwrap().guard.as_mut().unwrap()
}

#[test]
fn the_load_configuration_names_cookie_pointers_and_functions() {
    let object = guarded();
    let bytes = link(&object).unwrap().into_bytes();
    let pe = PE::parse(&bytes).unwrap();
    let config = &pe.load_config_data.as_ref().unwrap().directory;
    let base = 0x1_4000_0000;
    let section = |index: usize| base + u64::from(pe.sections[index].virtual_address);
    assert_eq!(config.size, 0x108);
    assert_eq!(config.security_cookie, Some(section(2) + 24));
    assert_eq!(config.guard_cf_check_function_pointer, Some(section(1) + 16));
    assert_eq!(config.guard_cf_dispatch_function_pointer, Some(section(1) + 24));
    assert_eq!(config.guard_flags, Some(0x500));
    assert_eq!(config.guard_cf_function_count, Some(2));
    let windows = pe.header.optional_header.unwrap().windows_fields;
    assert_eq!(windows.dll_characteristics, 0x4160);

    let rdata = &pe.sections[1];
    let file_offset =
        |address: u64| (address - base) as usize - rdata.virtual_address as usize + rdata.pointer_to_raw_data as usize;
    let table = file_offset(config.guard_cf_function_table.unwrap());
    let entries = bytes[table..table + 8].as_chunks::<4>().0;
    let entries: Vec<u32> = entries.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
    assert_eq!(
        entries,
        [pe.sections[0].virtual_address, pe.sections[4].virtual_address]
    );

    // Every address in the directory is one that Windows moves with the image.
    let relocated: Vec<u64> = pe
        .relocation_data
        .as_ref()
        .unwrap()
        .blocks()
        .flat_map(|block| {
            let block = block.unwrap();
            let page = block.rva;
            block
                .words()
                .map(move |word| u64::from(page) + u64::from(word.unwrap().offset()))
                .collect::<Vec<_>>()
        })
        .collect();
    let directory = pe.header.optional_header.unwrap().data_directories;
    let directory = u64::from(directory.get_load_config_table().unwrap().virtual_address);
    for field in [0x58, 0x70, 0x78, 0x80] {
        assert!(relocated.contains(&(directory + field)), "{field:#x}");
    }
}

#[test]
fn without_a_guard_only_the_cookie_is_there() {
    let mut object = guarded();
    object.load_config.as_mut().unwrap().guard = None;
    let bytes = link(&object).unwrap().into_bytes();
    let pe = PE::parse(&bytes).unwrap();
    let config = &pe.load_config_data.as_ref().unwrap().directory;
    assert!(config.security_cookie.is_some_and(|cookie| cookie != 0));
    assert_eq!((config.guard_flags, config.guard_cf_function_count), (Some(0), Some(0)));
    let windows = pe.header.optional_header.unwrap().windows_fields;
    assert_eq!(windows.dll_characteristics, 0x160);
}

#[test]
fn an_object_without_constants_gets_a_section_for_the_tables() {
    let mut object = arm64();
    object.sections[1].data = LoadConfig::COOKIE.to_le_bytes().to_vec();
    object.sections[1].data.resize(16, 0);
    object.load_config = Some(LoadConfig {
        security_cookie: SymbolIndex(1),
        guard: None,
    });
    let bytes = link(&object).unwrap().into_bytes();
    let pe = PE::parse(&bytes).unwrap();
    assert_eq!(pe.sections[2].name().unwrap(), ".rdata");
    assert!(pe.load_config_data.is_some());
}

#[test]
fn rejects_a_load_configuration_that_claims_what_is_not_so() {
    let named = |name: &str| name.to_owned();
    let pointer = |name| LoadConfigProblem::Pointer { name: named(name) };
    let target = |name| LoadConfigProblem::Target { name: named(name) };
    let not_listed = |name| LoadConfigProblem::NotListed { name: named(name) };

    assert_eq!(problem(|o| o.sections[2].data[24] ^= 1), LoadConfigProblem::Cookie);
    assert_eq!(problem(|o| o.symbols[6] = place("cookie", 2, 25)), pointer("cookie"));
    assert_eq!(problem(|o| o.symbols[6] = place("cookie", 1, 16)), pointer("cookie"));
    let unknown = |config: &mut LoadConfig| config.security_cookie = SymbolIndex(99);
    assert_eq!(
        problem(|o| unknown(o.load_config.as_mut().unwrap())),
        LoadConfigProblem::UnknownSymbol { symbol: 99 }
    );
    // Slots of imports belong to others.
    assert_eq!(
        problem(|o| guard(o).check = SymbolIndex(4)),
        LoadConfigProblem::UnknownSymbol { symbol: 4 }
    );
    assert_eq!(problem(|o| o.symbols[7] = place("check", 1, 20)), pointer("check"));
    assert_eq!(problem(|o| o.symbols[7] = place("check", 2, 8)), pointer("check"));
    assert_eq!(
        problem(|o| o.sections[1].relocations.truncate(1)),
        LoadConfigProblem::EmptyPointer
    );
    assert_eq!(problem(|o| guard(o).functions.push(SymbolIndex(1))), target("leaf"));
    assert_eq!(problem(|o| guard(o).functions.push(SymbolIndex(3))), target("name"));
    assert_eq!(
        problem(|o| {
            o.functions.remove(2);
        }),
        target("program")
    );
    // The entry point; a program that a table names; a place in it; a function that other data names.
    assert_eq!(
        problem(|o| guard(o).functions.retain(|f| f.0 != 0)),
        not_listed("DriverEntry")
    );
    assert_eq!(
        problem(|o| guard(o).functions.retain(|f| f.0 != 5)),
        not_listed("program")
    );
    assert_eq!(
        problem(|o| o.sections[3].relocations[1].addend = 4),
        not_listed("program")
    );
    let other = relocation(0, RelocationKind::Absolute64, 1, 0);
    assert_eq!(problem(|o| o.sections[2].relocations.push(other)), not_listed("leaf"));

    let mut object = arm64();
    object.sections[1].data = [LoadConfig::COOKIE.to_le_bytes(); 2].concat();
    object.load_config = Some(LoadConfig {
        security_cookie: SymbolIndex(1),
        guard: Some(Guard {
            check: SymbolIndex(1),
            dispatch: Some(SymbolIndex(1)),
            functions: Vec::new(),
        }),
    });
    let problem = LoadConfigProblem::NoDispatch;
    assert_eq!(link(&object).unwrap_err(), LinkError::LoadConfig { problem });
}

#[test]
fn exports_of_a_guarded_dll_are_listed() {
    let mut object = guarded();
    object.purpose = crate::Purpose::Dll {
        name: "a.dll".into(),
        entry: SymbolIndex(0),
        exports: vec![SymbolIndex(5), SymbolIndex(3)],
    };
    assert!(link(&object).is_ok(), "a function that is listed, and data");
    object.sections[3].relocations.pop();
    guard(&mut object).functions = vec![SymbolIndex(0)];
    let problem = LoadConfigProblem::NotListed { name: "program".into() };
    assert_eq!(link(&object).unwrap_err(), LinkError::LoadConfig { problem });
}

#[test]
fn the_debug_directory_says_what_the_time_stamp_is() {
    for (shadow_stack, machine) in [(true, Machine::X64), (false, Machine::X64), (true, Machine::Arm64)] {
        let mut object = match machine {
            Machine::X64 => driver(),
            Machine::Arm64 => arm64(),
        };
        object.shadow_stack = shadow_stack;
        let bytes = link(&object).unwrap().into_bytes();
        let pe = PE::parse(&bytes).unwrap();
        let entries: Vec<_> = pe.debug_data.as_ref().unwrap().entries().map(Result::unwrap).collect();
        let is_compatible = shadow_stack && machine == Machine::X64;
        assert_eq!(entries.len(), if is_compatible { 2 } else { 1 });
        let data = |entry: &goblin::pe::debug::ImageDebugDirectory| {
            let start = entry.pointer_to_raw_data as usize;
            start..start + entry.size_of_data as usize
        };
        let stamp = pe.header.coff_header.time_date_stamp;
        assert!(entries.iter().all(|entry| entry.time_date_stamp == stamp));
        assert_eq!(entries[0].data_type, IMAGE_DEBUG_TYPE_REPRO);
        let repro = &bytes[data(&entries[0])];
        assert_eq!((repro.len(), &repro[..4]), (36, &[32, 0, 0, 0][..]));
        assert_eq!(stamp.to_le_bytes(), repro[4..8]);
        if is_compatible {
            assert_eq!(entries[1].data_type, IMAGE_DEBUG_TYPE_EX_DLLCHARACTERISTICS);
            assert_eq!(bytes[data(&entries[1])], [1, 0, 0, 0]);
        }

        // The hash is of the file without what depends on it.
        let mut without = bytes.clone();
        let nt = u32::from_le_bytes(without[0x3C..0x40].try_into().unwrap()) as usize;
        without[nt + 8..nt + 12].fill(0); // TimeDateStamp
        without[nt + 24 + 64..nt + 24 + 68].fill(0); // CheckSum
        without[data(&entries[0])][4..].fill(0);
        let directory = entries[0].pointer_to_raw_data as usize - 28 * entries.len();
        for entry in 0..entries.len() {
            without[directory + 28 * entry + 4..][..4].fill(0);
        }
        let mut expected = Sha256::new();
        // The length of the hash stands there when it is made.
        expected.update(&without);
        assert_eq!(repro[4..], expected.finalize()[..]);
    }
}

#[test]
fn integrity_checks_are_forced_only_on_request() {
    let forced = ImageOptions {
        force_integrity: true,
        ..ImageOptions::default()
    };
    for (options, flags) in [(ImageOptions::default(), 0x160), (forced, 0x1E0)] {
        let bytes = link_with(&driver(), &options).unwrap().into_bytes();
        let windows = PE::parse(&bytes)
            .unwrap()
            .header
            .optional_header
            .unwrap()
            .windows_fields;
        assert_eq!(windows.dll_characteristics, flags);
    }
}

fn version_info() -> VersionInfo {
    let strings = [
        ("CompanyName", "Contoso, Łódź"),
        ("FileDescription", "Drops what must not pass"),
        ("FileVersion", "1.2.3.4"),
    ];
    VersionInfo {
        file_version: Version([1, 2, 3, 4]),
        product_version: Version([65535, 0, 0, 1]),
        strings: strings.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec(),
    }
}

#[test]
fn version_information_is_a_resource_that_others_read() {
    let options = ImageOptions {
        version_info: Some(version_info()),
        ..ImageOptions::default()
    };
    let bytes = link_with(&guarded(), &options).unwrap().into_bytes();
    let pe = PE::parse(&bytes).unwrap();
    let section = pe
        .sections
        .iter()
        .find(|section| section.name().unwrap() == ".rsrc")
        .unwrap();
    assert_eq!(section.characteristics, 0x4000_0040);
    let resources = pe.resource_data.as_ref().unwrap();
    let version = resources.version_info.as_ref().unwrap();
    let fixed = version.fixed_info.unwrap();
    assert_eq!(
        (fixed.file_version_ms, fixed.file_version_ls),
        (0x0001_0002, 0x0003_0004)
    );
    assert_eq!((fixed.product_version_ms, fixed.product_version_ls), (0xFFFF_0000, 1));
    assert_eq!((fixed.file_type, fixed.file_subtype), (3, 7));
    assert_eq!(version.string_info.company_name().as_deref(), Some("Contoso, Łódź"));
    assert_eq!(
        version.string_info.file_description().as_deref(),
        Some("Drops what must not pass")
    );
    assert_eq!(version.string_info.file_version().as_deref(), Some("1.2.3.4"));
}

#[test]
fn rejects_version_information_that_does_not_fit() {
    let with = |units: usize| {
        let text = "x".repeat(units);
        let options = ImageOptions {
            version_info: Some(VersionInfo {
                strings: vec![("Comments".to_owned(), text)],
                ..VersionInfo::default()
            }),
            ..ImageOptions::default()
        };
        link_with(&driver(), &options)
    };
    assert!(with(VersionInfo::MAX_UNITS - 100).is_ok());
    assert_eq!(
        with(VersionInfo::MAX_UNITS).unwrap_err(),
        LinkError::VersionInfoTooLarge
    );
    assert_eq!(with(1 << 20).unwrap_err(), LinkError::VersionInfoTooLarge);
}

#[test]
fn an_offset_from_the_start_of_the_image_is_data() {
    let mut object = driver();
    object.sections[2]
        .relocations
        .push(relocation(4, RelocationKind::ImageRelative32, 5, 2));
    let bytes = link(&object).unwrap().into_bytes();
    let pe = PE::parse(&bytes).unwrap();
    let field = pe.sections[2].pointer_to_raw_data as usize + 4;
    let expected = pe.sections[4].virtual_address + 2;
    assert_eq!(bytes[field..field + 4], expected.to_le_bytes());

    let refused = |change: &dyn Fn(&mut NativeObject)| {
        let mut object = driver();
        change(&mut object);
        link(&object).is_err()
    };
    let field = |offset, addend| relocation(offset, RelocationKind::ImageRelative32, 5, addend);
    assert!(refused(&|o| o.sections[2].relocations.push(field(6, 0))));
    assert!(refused(&|o| o.sections[2].relocations.push(field(4, 1 << 40))));
    assert!(refused(&|o| o.sections[0].relocations = vec![field(0, 0)]));
}
