//! Images read back with `goblin`, which shares no code with the writer.

use goblin::pe::PE;
use goblin::pe::relocation::IMAGE_REL_BASED_DIR64;

use super::link;
use crate::image_kind::ImageKind;
use crate::native_object::{NativeObject, SectionIndex, SymbolPlace, UnwindInfo};
use crate::test_objects::{arm64, driver, place};

fn linked(object: &NativeObject) -> Vec<u8> {
    link(object).unwrap().into_bytes()
}

fn parsed(bytes: &[u8]) -> PE<'_> {
    PE::parse(bytes).unwrap()
}

/// The bytes at an RVA, up to the end of its section in memory.
fn at<'a>(bytes: &'a [u8], pe: &PE<'_>, rva: u32) -> &'a [u8] {
    let section = pe
        .sections
        .iter()
        .find(|s| (s.virtual_address..s.virtual_address + s.virtual_size).contains(&rva))
        .unwrap();
    let start = section.pointer_to_raw_data as usize;
    &bytes[start..start + section.virtual_size as usize][(rva - section.virtual_address) as usize..]
}

fn u32_at(bytes: &[u8], pe: &PE<'_>, rva: u32) -> u32 {
    u32::from_le_bytes(*at(bytes, pe, rva).first_chunk().unwrap())
}

fn u64_at(bytes: &[u8], pe: &PE<'_>, rva: u32) -> u64 {
    u64::from_le_bytes(*at(bytes, pe, rva).first_chunk().unwrap())
}

#[test]
fn headers_are_those_of_a_driver() {
    let bytes = linked(&driver());
    let pe = parsed(&bytes);
    let coff = &pe.header.coff_header;
    assert_eq!(coff.machine, 0x8664);
    assert_eq!(coff.characteristics, 0x22);
    assert_eq!((coff.pointer_to_symbol_table, coff.number_of_symbol_table), (0, 0));
    assert_eq!(coff.size_of_optional_header, 0xF0);
    let optional = pe.header.optional_header.unwrap();
    let windows = optional.windows_fields;
    assert_eq!(windows.image_base, 0x1_4000_0000);
    assert_eq!((windows.section_alignment, windows.file_alignment), (0x1000, 0x200));
    assert_eq!((windows.subsystem, windows.dll_characteristics), (1, 0x160));
    assert_eq!(
        (windows.major_subsystem_version, windows.minor_subsystem_version),
        (10, 0)
    );
    assert_eq!(
        (windows.major_operating_system_version, windows.major_image_version),
        (10, 10)
    );
    assert_eq!(
        (windows.size_of_stack_reserve, windows.size_of_stack_commit),
        (0x10_0000, 0x1000)
    );
    assert_eq!(windows.number_of_rva_and_sizes, 16);
    assert_eq!(pe.entry, pe.sections[0].virtual_address);
    let last = pe.sections.last().unwrap();
    assert_eq!(
        windows.size_of_image,
        (last.virtual_address + last.virtual_size).next_multiple_of(0x1000)
    );
    assert_eq!(windows.size_of_headers, pe.sections[0].pointer_to_raw_data);
    assert_eq!(bytes.len(), (last.pointer_to_raw_data + last.size_of_raw_data) as usize);
    let code: u32 = pe
        .sections
        .iter()
        .filter(|s| s.characteristics & 0x20 != 0)
        .map(|s| s.size_of_raw_data)
        .sum();
    assert_eq!(optional.standard_fields.size_of_code, u64::from(code));
    assert_eq!(
        optional.standard_fields.base_of_code,
        u64::from(pe.sections[0].virtual_address)
    );
}

#[test]
fn sections_keep_the_callers_order_and_exact_size() {
    let object = driver();
    let bytes = linked(&object);
    let pe = parsed(&bytes);
    let found: Vec<_> = pe
        .sections
        .iter()
        .map(|s| (s.name().unwrap().to_owned(), s.characteristics, s.virtual_size))
        .collect();
    let grown = found[1].2;
    assert!(grown > 10, "import tables and unwind records are in .rdata");
    let expected = [
        (".text", 0x6800_0020, 41),
        (".rdata", 0x4800_0040, grown),
        (".data", 0xC800_0040, 24),
        ("maps", 0xC800_0040, 80),
        ("xdp", 0x6800_0020, 37),
        (".pdata", 0x4800_0040, 24),
        (".reloc", 0x4200_0040, 12),
    ];
    assert_eq!(
        found,
        expected.map(|(name, flags, size)| (name.to_owned(), flags, size))
    );
    for (section, out) in object.sections.iter().zip(&pe.sections) {
        assert_eq!(out.virtual_address % 0x1000, 0);
        assert_eq!(out.pointer_to_raw_data % 0x200, 0);
        assert_eq!(out.size_of_raw_data, out.virtual_size.next_multiple_of(0x200));
        if section.relocations.is_empty() {
            assert!(
                at(&bytes, &pe, out.virtual_address).starts_with(&section.data),
                "{}",
                section.name
            );
        }
    }
}

#[test]
fn sections_go_by_position_and_not_by_name() {
    let mut object = driver();
    object.sections.reverse();
    let flip = |section: &mut SectionIndex| section.0 = 4 - section.0;
    for symbol in &mut object.symbols {
        if let SymbolPlace::Section { section, .. } = &mut symbol.place {
            flip(section);
        }
    }
    object
        .functions
        .iter_mut()
        .for_each(|function| flip(&mut function.section));
    let bytes = linked(&object);
    let names: Vec<_> = parsed(&bytes)
        .sections
        .iter()
        .map(|s| s.name().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["xdp", "maps", ".data", ".rdata", ".text", ".pdata", ".reloc"]);
}

#[test]
fn imports_are_found_and_their_slots_are_what_code_calls() {
    let bytes = linked(&driver());
    let pe = parsed(&bytes);
    let found: Vec<_> = pe
        .imports
        .iter()
        .map(|i| (i.dll, i.name.as_ref(), i.offset as u32))
        .collect();
    let directories = pe.header.optional_header.unwrap().data_directories;
    let iat = directories.get_import_address_table().unwrap();
    let slots: Vec<_> = [0u32, 8, 24, 32]
        .iter()
        .map(|offset| iat.virtual_address + offset)
        .collect();
    // Modules in the order of their first import, one table for both spellings of a name.
    assert_eq!(
        found,
        [
            ("ntoskrnl.exe", "RtlQueryRegistryValues", slots[0]),
            ("ntoskrnl.exe", "memset", slots[1]),
            ("NETIO.SYS", "NmrRegisterClient", slots[2]),
            ("NETIO.SYS", "NmrDeregisterClient", slots[3]),
        ]
    );
    assert_eq!(iat.size, 48);
    assert_eq!(directories.get_import_table().unwrap().size, 60);
    let home = |rva: u32| {
        pe.sections
            .iter()
            .find(|s| (s.virtual_address..s.virtual_address + s.virtual_size).contains(&rva))
            .unwrap()
    };
    assert_eq!(home(iat.virtual_address).characteristics, 0x4800_0040);

    // DriverEntry: call [NmrRegisterClient]; the same in the program of the other section.
    for code in [pe.sections[0].virtual_address, pe.sections[4].virtual_address] {
        let target = (code + 26).wrapping_add(u32_at(&bytes, &pe, code + 22));
        assert_eq!(target, slots[2]);
    }
}

#[test]
fn an_import_needs_no_user_and_modules_no_import() {
    let mut object = driver();
    object.sections[0].relocations.pop();
    object.sections[4].relocations.pop();
    object.symbols[4] = place("nothing", 0, 0);
    assert_eq!(parsed(&linked(&object)).imports.len(), 4);
    object.imports.clear();
    let bytes = linked(&object);
    let pe = parsed(&bytes);
    let directories = pe.header.optional_header.unwrap().data_directories;
    assert!(pe.imports.is_empty());
    assert!(
        directories
            .get_import_table()
            .is_none_or(|d| d.virtual_address == 0 && d.size == 0)
    );
    assert!(
        directories
            .get_import_address_table()
            .is_none_or(|d| d.virtual_address == 0 && d.size == 0)
    );
}

#[test]
fn relative_fields_reach_their_symbols() {
    let bytes = linked(&driver());
    let pe = parsed(&bytes);
    let (text, data, xdp) = (
        pe.sections[0].virtual_address,
        pe.sections[2].virtual_address,
        pe.sections[4].virtual_address,
    );
    assert_eq!(text + 20 + u32_at(&bytes, &pe, text + 16), data + 8);
    // Backwards, and with another addend.
    assert_eq!((xdp + 20).wrapping_add(u32_at(&bytes, &pe, xdp + 16)), data + 16);
}

#[test]
fn absolute_fields_hold_addresses_at_the_preferred_base_and_are_relocated() {
    let bytes = linked(&driver());
    let pe = parsed(&bytes);
    let (rdata, maps, xdp) = (
        pe.sections[1].virtual_address,
        pe.sections[3].virtual_address,
        pe.sections[4].virtual_address,
    );
    assert_eq!(
        u64_at(&bytes, &pe, maps + 72),
        ImageKind::Driver.base() + u64::from(rdata) + 6
    );
    assert_eq!(
        u64_at(&bytes, &pe, maps + 48),
        ImageKind::Driver.base() + u64::from(xdp)
    );
    let mut fields = Vec::new();
    let mut covered = 0;
    for block in pe.relocation_data.as_ref().unwrap().blocks() {
        let block = block.unwrap();
        covered += block.size;
        for word in block.words() {
            let word = word.unwrap();
            if word.value >> 12 != 0 {
                assert_eq!(word.value >> 12, IMAGE_REL_BASED_DIR64);
                fields.push(block.rva + u32::from(word.value & 0xFFF));
            }
        }
    }
    assert_eq!(fields, [maps + 48, maps + 72]);
    let directories = pe.header.optional_header.unwrap().data_directories;
    assert_eq!(directories.get_base_relocation_table().unwrap().size, covered);
}

#[test]
fn an_image_without_addresses_has_no_relocations_and_is_still_relocatable() {
    let mut object = driver();
    object.sections[3].relocations.clear();
    let bytes = linked(&object);
    let pe = parsed(&bytes);
    assert!(pe.sections.iter().all(|s| s.name().unwrap() != ".reloc"));
    assert_eq!(pe.header.coff_header.characteristics & 1, 0);
    let optional = pe.header.optional_header.unwrap();
    assert!(
        optional
            .data_directories
            .get_base_relocation_table()
            .is_none_or(|d| d.size == 0)
    );
    assert_eq!(optional.windows_fields.dll_characteristics & 0x40, 0x40);
}

#[test]
fn every_framed_function_has_its_unwind_data() {
    let bytes = linked(&driver());
    let pe = parsed(&bytes);
    let data = pe.exception_data.as_ref().unwrap();
    let (text, xdp) = (pe.sections[0].virtual_address, pe.sections[4].virtual_address);
    let functions: Vec<_> = data.functions().map(Result::unwrap).collect();
    let ranges: Vec<_> = functions.iter().map(|f| (f.begin_address, f.end_address)).collect();
    assert_eq!(ranges, [(text, text + 37), (xdp, xdp + 37)]);
    // Equal records are shared.
    assert_eq!(functions[0].unwind_info_address, functions[1].unwind_info_address);
    let record = functions[0].unwind_info_address;
    assert_eq!(
        at(&bytes, &pe, record)[..12],
        [1, 13, 4, 0, 13, 0x64, 4, 0, 8, 0x52, 1, 0x50],
        "version, prologue, slots, frame; save rsi, alloc 0x30, push rbp"
    );
    let info = data.get_unwind_info(functions[0], &pe.sections).unwrap();
    assert_eq!(
        (info.version, info.size_of_prolog, info.frame_register_offset),
        (1, 13, 0)
    );
    let operations: Vec<_> = info
        .unwind_codes()
        .map(|code| code.map(|c| (c.code_offset, format!("{:?}", c.operation))))
        .collect();
    assert_eq!(operations.len(), 3);
    assert!(operations.iter().all(Result::is_ok), "{operations:?}");
}

#[test]
fn functions_may_come_in_any_order() {
    let mut object = driver();
    object.functions.reverse();
    assert_eq!(linked(&object), linked(&driver()));
}

#[test]
fn an_object_of_leaves_has_no_function_table() {
    let mut object = driver();
    for function in &mut object.functions {
        function.unwind = UnwindInfo::Leaf;
    }
    let bytes = linked(&object);
    let pe = parsed(&bytes);
    assert!(pe.sections.iter().all(|s| s.name().unwrap() != ".pdata"));
    assert!(pe.exception_data.is_none());
}

#[test]
fn the_linkers_tables_get_a_section_where_the_object_has_none() {
    let mut object = driver();
    object.sections[1].name = "strings".into();
    let bytes = linked(&object);
    let pe = parsed(&bytes);
    let names: Vec<_> = pe.sections.iter().map(|s| s.name().unwrap()).collect();
    assert_eq!(
        names,
        [".text", "strings", ".data", "maps", "xdp", ".rdata", ".pdata", ".reloc"]
    );
    assert_eq!(pe.sections[1].virtual_size, 10);
    assert_eq!(pe.imports.len(), 4);
}

#[test]
fn the_checksum_is_that_of_the_file() {
    for size in [24, 25, 4096, 70_001] {
        let mut object = driver();
        object.sections[2].data = (0..size).map(|n| ((n * 37) >> 3) as u8).collect();
        let bytes = linked(&object);
        // Over 32-bit words with end-around carry, folded at the end: another way to the same sum.
        let field = u32::from_le_bytes(*bytes[0x3C..].first_chunk().unwrap()) as usize + 24 + 64;
        let mut sum = 0u64;
        for (index, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
            if index * 4 != field {
                sum += u64::from(u32::from_le_bytes(*word));
            }
        }
        sum = (sum & 0xFFFF) + (sum >> 16 & 0xFFFF) + (sum >> 32 & 0xFFFF) + (sum >> 48);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        let stored = u32::from_le_bytes(*bytes[field..].first_chunk().unwrap());
        assert_eq!(u64::from(stored), sum + bytes.len() as u64);
        assert_eq!(
            parsed(&bytes).header.optional_header.unwrap().windows_fields.check_sum,
            stored
        );
    }
}

#[test]
fn the_same_object_gives_the_same_bytes() {
    assert_eq!(linked(&driver()), linked(&driver()));
}

#[test]
fn arm64_images_have_their_own_table() {
    let object = arm64();
    let bytes = linked(&object);
    let pe = parsed(&bytes);
    assert_eq!(pe.header.coff_header.machine, 0xAA64);
    let (text, data) = (pe.sections[0].virtual_address, pe.sections[1].virtual_address);
    // adrp x0, data+8; add x0, x0, :lo12:data+8; bl leaf
    let distance = (data >> 12) - (text >> 12);
    assert_eq!(
        u32_at(&bytes, &pe, text + 4),
        0x9000_0000 | (distance & 3) << 29 | distance >> 2 << 5
    );
    assert_eq!(u32_at(&bytes, &pe, text + 8), 0x9100_0000 | 8 << 10);
    assert_eq!(u32_at(&bytes, &pe, text + 12), 0x9400_0000 | (24 - 12) >> 2);
    // A branch backwards.
    assert_eq!(
        u32_at(&bytes, &pe, text + 24),
        0x1400_0000 | (-6i32 as u32 & 0x03FF_FFFF)
    );

    let directories = pe.header.optional_header.unwrap().data_directories;
    let table = directories.get_exception_table().unwrap();
    assert_eq!(table.size, 8);
    assert_eq!(u32_at(&bytes, &pe, table.virtual_address), text);
    let record = u32_at(&bytes, &pe, table.virtual_address + 4);
    assert_eq!(record & 3, 0);
    assert_eq!(u32_at(&bytes, &pe, record), 0x6 | 1 << 22 | 1 << 27);
    assert_eq!(u32_at(&bytes, &pe, record + 4), 4);
    assert_eq!(
        u32_at(&bytes, &pe, record + 8),
        u32::from_le_bytes([0x81, 0xE4, 0xE3, 0xE3])
    );
}

#[test]
fn adrp_and_add_make_any_address() {
    let near = (-9..9).map(|page| page * 0x1000 + 8);
    let far = [0xFFF, 0x1234_5678, -0x1234_5678, 0xFFFF_D000, -0xFFFF_F000];
    for addend in near.chain(far) {
        let mut object = arm64();
        for field in &mut object.sections[0].relocations[..2] {
            field.addend = addend;
        }
        let bytes = linked(&object);
        let pe = parsed(&bytes);
        let (text, data) = (
            i64::from(pe.sections[0].virtual_address),
            i64::from(pe.sections[1].virtual_address),
        );
        let [adrp, add] = [4, 8].map(|offset| u32_at(&bytes, &pe, text as u32 + offset));
        // Arm Architecture Reference Manual: immhi is bits 5 to 23, immlo bits 29 and 30, together a signed number of pages.
        let pages = (adrp >> 5 & 0x7_FFFF) << 2 | adrp >> 29 & 3;
        let pages = i64::from((pages << 11) as i32 >> 11);
        let address = ((text + 4) & !0xFFF) + (pages << 12) + i64::from(add >> 10 & 0xFFF);
        assert_eq!(address, data + addend, "{addend:#x}");
    }
}
