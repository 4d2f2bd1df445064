//! Images with one thing wrong each: every check that needs no running must catch its own.

use super::patch::{Break, Patched};
use super::*;
use crate::image::{DirectoryKind, Image, read_u32};
use crate::{Rule, loader_rules, usermode};

#[test]
fn the_unbroken_image_passes_every_static_check() {
    let image = Image::parse(IMAGE).unwrap();
    assert_eq!(loader_rules::check(&image), []);
    let view = usermode::read(&image).unwrap();
    assert_eq!(view.programs.len(), 11);
    assert_eq!(view.programs[6].name, "count");
    assert_eq!((view.maps.len(), view.maps[17].name.as_str()), (18, "pinned/flows"));
    assert_eq!(view.elf_hash.unwrap()[..6], *"010203");
}

#[test]
fn each_rule_of_the_loader_catches_its_own() {
    let cases: &[(Rule, Break)] = &[
        (Rule::Machine, |p| _ = p.put(p.optional() - 20, &0x14Cu16.to_le_bytes())),
        (Rule::OptionalHeader, |p| {
            p.put(p.optional() + 108, &15u32.to_le_bytes());
        }),
        // Marked as a DLL, it lacks what a DLL has.
        (Rule::Subsystem, |p| {
            p.put(p.optional() - 2, &0x2022u16.to_le_bytes());
        }),
        (Rule::MetadataExport, |p| {
            p.put(p.optional() - 2, &0x2022u16.to_le_bytes());
        }),
        (Rule::Characteristics, |p| {
            p.put(p.optional() - 2, &0x23u16.to_le_bytes());
        }),
        (Rule::Subsystem, |p| _ = p.put(p.optional() + 68, &3u16.to_le_bytes())),
        (Rule::Alignment, |p| {
            p.put(p.optional() + 24, &0x1_4000_1000u64.to_le_bytes());
        }),
        (Rule::Alignment, |p| {
            p.put(p.optional() + 32, &0x20u32.to_le_bytes());
        }),
        (Rule::Alignment, |p| _ = p.put(p.optional() + 36, &0u32.to_le_bytes())),
        (Rule::HeaderSize, |p| {
            p.put(p.optional() + 60, &0x200u32.to_le_bytes());
        }),
        (Rule::HeaderSize, |p| {
            p.put(p.optional() + 60, &0xFFFF_FE00u32.to_le_bytes());
        }),
        (Rule::SectionLayout, |p| {
            p.put(p.header("xdp") + 12, &0x1_0000u32.to_le_bytes());
        }),
        (Rule::SectionLayout, |p| _ = p.put(p.header("xdp") + 8, &[0; 12])),
        (Rule::SectionRawData, |p| {
            p.put(p.header("xdp") + 20, &0x4601u32.to_le_bytes());
        }),
        (Rule::SectionRawData, |p| {
            p.put(p.header("xdp") + 20, &0x4400u32.to_le_bytes());
        }),
        (Rule::SectionRawData, |p| {
            p.put(p.header(".reloc") + 16, &0xFFFF_FE00u32.to_le_bytes());
        }),
        (Rule::ImageSize, |p| {
            p.put(p.optional() + 56, &0x10_0000u32.to_le_bytes());
        }),
        (Rule::WritableCode, |p| {
            p.put(p.header("xdp") + 36, &0xE000_0020u32.to_le_bytes());
        }),
        (Rule::EntryPoint, |p| {
            p.put(p.optional() + 16, &0x2000u32.to_le_bytes());
        }),
        (Rule::EntryPoint, |p| _ = p.put(p.optional() + 16, &[0; 4])),
        (Rule::DataDirectory, |p| {
            p.put(p.directory(DirectoryKind::Tls), &[0, 0x20, 0, 0, 8, 0, 0, 0]);
        }),
        (Rule::DataDirectory, |p| {
            p.put(p.directory(DirectoryKind::Resource), &[0, 0, 0x20, 0, 8, 0, 0, 0]);
        }),
        (Rule::DataDirectory, |p| {
            p.put(p.directory(DirectoryKind::Certificate), &[0, 0, 0x20, 0, 8, 0, 0, 0]);
        }),
        (Rule::BaseRelocation, |p| {
            p.put(p.raw(".reloc") + 4, &7u32.to_le_bytes());
        }),
        (Rule::BaseRelocation, |p| {
            p.put(p.raw(".reloc") + 4, &0x1000u32.to_le_bytes());
        }),
        (Rule::BaseRelocation, |p| {
            p.put(p.raw(".reloc"), &1u32.to_le_bytes());
        }),
        (Rule::BaseRelocation, |p| _ = p.put(p.raw(".reloc") + 9, &[0x30])),
        (Rule::BaseRelocation, |p| {
            p.put(p.directory(DirectoryKind::BaseRelocation) + 4, &9u32.to_le_bytes());
        }),
        (Rule::RelocatedCode, |p| {
            p.put(p.raw(".reloc"), &0x1000u32.to_le_bytes());
        }),
        (Rule::ImportTable, |p| {
            let at = p.at(p.image().image_base + u64::from(p.image().directory(DirectoryKind::Import).unwrap().rva.0));
            p.put(at + 12, &0x9_0000u32.to_le_bytes());
        }),
        (Rule::ImportTable, |p| {
            let table = p.image().directory(DirectoryKind::Import).unwrap().rva.0;
            let at = p.at(p.image().image_base + u64::from(table));
            let names = read_u32(&p.bytes, at).unwrap();
            let at = p.at(p.image().image_base + u64::from(names));
            p.put(at + 7, &[0x80]);
        }),
        (Rule::ImportTable, |p| {
            p.put(p.directory(DirectoryKind::ImportAddressTable), &[0; 8]);
        }),
        (Rule::UnknownImport, |p| {
            p.put(p.find(".rdata", b"NmrRegisterClient"), b"X");
        }),
        (Rule::UnknownImport, |p| _ = p.put(p.find(".rdata", b"NETIO.SYS"), b"X")),
        (Rule::ImportTableInCode, |p| {
            p.put(p.header(".rdata") + 36, &0x6000_0020u32.to_le_bytes());
        }),
        (Rule::DllCharacteristics, |p| {
            p.put(p.optional() + 70, &0x8060u16.to_le_bytes());
        }),
        (Rule::PageableSection, |p| _ = p.put(p.header("xdp"), b"PAGExdp\0")),
        (Rule::PageableSection, |p| {
            p.put(p.header("xdp") + 36, &0x6200_0020u32.to_le_bytes());
        }),
        (Rule::FunctionTable, |p| {
            p.put(p.raw(".pdata"), &0x1FF0u32.to_le_bytes());
        }),
        (Rule::FunctionTable, |p| {
            p.put(p.raw(".pdata") + 8, &0x9_0000u32.to_le_bytes());
        }),
    ];
    for (i, (rule, break_it)) in cases.iter().enumerate() {
        let mut patched = Patched::new();
        break_it(&mut patched);
        let bytes = patched.finish();
        let violations = loader_rules::check(&Image::parse(&bytes).unwrap());
        assert!(
            violations.iter().any(|v| v.rule == *rule),
            "case {i}: {rule:?}: {violations:?}"
        );
        assert!(!violations.iter().any(|v| v.rule == Rule::Checksum), "case {i}");
    }
    let mut wrong = IMAGE.to_vec();
    *wrong.last_mut().unwrap() ^= 1;
    let violations = loader_rules::check(&Image::parse(&wrong).unwrap());
    assert_eq!(violations.iter().map(|v| v.rule).collect::<Vec<_>>(), [Rule::Checksum]);
}

/// Where an entry of the function table is whose unwind data is elsewhere, and where that data is. The low bits of the
/// field say what it is; those of a place are 0.
fn entry_with_record(p: &Patched) -> (usize, usize) {
    let table = p.raw(".pdata");
    let entry = (table..)
        .step_by(8)
        .find(|&at| read_u32(&p.bytes, at + 4).unwrap().is_multiple_of(4))
        .unwrap();
    let rva = read_u32(&p.bytes, entry + 4).unwrap();
    (entry, p.at(p.image().image_base + u64::from(rva)))
}

#[test]
fn the_function_table_of_arm64_is_checked_as_its_own() {
    let unbroken = Image::parse(ARM64_IMAGE).unwrap();
    assert_eq!(loader_rules::check(&unbroken), []);
    assert_eq!(usermode::read(&unbroken).unwrap().programs.len(), 11);
    let cases: &[(&str, Break)] = &[
        ("not sorted", |p| {
            p.put(p.raw(".pdata"), &0x1FFCu32.to_le_bytes());
        }),
        ("not sorted", |p| {
            p.put(p.raw(".pdata"), &0x1001u32.to_le_bytes());
        }),
        ("not in code", |p| {
            p.put(p.raw(".pdata"), &0x2000u32.to_le_bytes());
        }),
        ("no multiple of 8", |p| {
            p.put(p.directory(DirectoryKind::Exception) + 4, &[0x74]);
        }),
        ("reserved kind 3", |p| {
            p.put(p.raw(".pdata") + 4, &[0xFF]);
        }),
        ("ends at 0x1000", |p| {
            p.put(p.raw(".pdata") + 4, &1u32.to_le_bytes());
        }),
        ("is not sorted", |p| {
            // The first function reaches into the second.
            p.put(p.raw(".pdata") + 4, &(0x7FFu32 << 2 | 1).to_le_bytes());
        }),
        ("unwind data at 0x90000", |p| {
            p.put(entry_with_record(p).0 + 4, &0x9_0000u32.to_le_bytes());
        }),
        ("version 1", |p| {
            let at = entry_with_record(p).1;
            p.bytes[at + 2] |= 4;
        }),
        ("its unwind data", |p| {
            // The extension of the header says that there are 65535 epilogues.
            let at = entry_with_record(p).1;
            let length = read_u32(&p.bytes, at).unwrap() & 0x3_FFFF;
            p.put(at, &length.to_le_bytes()).put(at + 4, &[0xFF; 4]);
        }),
    ];
    for (i, (text, break_it)) in cases.iter().enumerate() {
        let mut patched = Patched::of(ARM64_IMAGE);
        break_it(&mut patched);
        let bytes = patched.finish();
        let violations = loader_rules::check(&Image::parse(&bytes).unwrap());
        assert!(
            violations
                .iter()
                .any(|v| v.rule == Rule::FunctionTable && v.detail.contains(text)),
            "case {i}: {text}: {violations:?}"
        );
    }
}

#[test]
fn each_rule_of_user_mode_catches_its_own() {
    let cases: &[(Rule, Break)] = &[
        (Rule::UserModeFile, |p| {
            p.put(p.optional() - 12, &1u32.to_le_bytes());
        }),
        (Rule::UserModeFile, |p| _ = p.put(p.header("hash"), b"maps\0")),
        (Rule::UserModeFile, |p| {
            p.put(p.header("hash") + 16, &0x10_0000u32.to_le_bytes());
        }),
        (Rule::UserModeFile, |p| {
            p.put(p.raw(".reloc") + 4, &0u32.to_le_bytes());
        }),
        (Rule::UserModeMapTable, |p| {
            p.put(p.header("maps") + 8, &0x5A8u32.to_le_bytes());
        }),
        (Rule::UserModeMapTable, |p| {
            p.put(p.header("maps") + 8, &0x610u32.to_le_bytes());
        }),
        (Rule::UserModeMapTable, |p| _ = p.put(p.map(1, 0), &[1])),
        (Rule::UserModeMapTable, |p| {
            p.put(p.header("maps") + 8, &24u32.to_le_bytes());
        }),
        (Rule::UserModeString, |p| _ = p.put(p.map(1, 72), &[0; 8])),
        (Rule::UserModeString, |p| {
            p.put(p.map(1, 72), &p.address(".data", 0).to_le_bytes());
        }),
        (Rule::UserModeString, |p| {
            // .rdata after the maps in the file: their names are looked for too early.
            let section = p.section(".rdata");
            let raw = p.bytes[section.raw_offset as usize..][..section.raw_size as usize].to_vec();
            let end = p.bytes.len() as u32;
            p.bytes.extend(raw);
            p.put(p.header(".rdata") + 20, &end.to_le_bytes());
        }),
        (Rule::UserModeProgramTable, |p| {
            p.put(p.header("programs") + 8, &0x6E8u32.to_le_bytes());
        }),
        (Rule::UserModeProgramTable, |p| {
            p.put(p.header("programs") + 8, &16u32.to_le_bytes());
        }),
        (Rule::UserModeProgramTable, |p| _ = p.put(p.program(0, 16), &[150])),
        (Rule::UserModeProgramTable, |p| _ = p.put(p.program(0, 24), &[100])),
        (Rule::UserModeProgramTable, |p| _ = p.put(p.program(0, 8), &[2])),
        (Rule::UserModeString, |p| _ = p.put(p.program(2, 56), &[0; 8])),
        (Rule::UserModeString, |p| {
            p.put(p.program(2, 40), &p.address(".data", 0).to_le_bytes());
        }),
        (Rule::UserModeGuid, |p| {
            p.put(p.program(2, 104), &p.address(".rdata", 0).to_le_bytes());
        }),
        (Rule::UserModeGuid, |p| _ = p.put(p.program(2, 112), &[0; 8])),
        (Rule::UserModeCodeSection, |p| {
            p.put(p.header("sockops"), b"sockop2\0");
        }),
        (Rule::UserModeCodeSection, |p| {
            p.put(p.header("xdp") + 36, &0x6000_0000u32.to_le_bytes());
        }),
        (Rule::UserModeCodeSection, |p| {
            p.put(p.header(".text"), b"xdp\0\0\0\0\0");
        }),
        (Rule::UserModeCodeSection, |p| {
            p.put(p.header("bind") + 8, &0x201u32.to_le_bytes());
        }),
    ];
    for (i, (rule, break_it)) in cases.iter().enumerate() {
        let mut patched = Patched::new();
        break_it(&mut patched);
        let bytes = patched.finish();
        let violation = usermode::read(&Image::parse(&bytes).unwrap()).unwrap_err();
        assert_eq!(violation.rule, *rule, "case {i}: {violation}");
    }
}

#[test]
fn truncated_and_garbled_files_are_errors() {
    for length in (0..IMAGE.len()).step_by(97) {
        assert!(
            run(&RunRequest {
                image: IMAGE[..length].to_vec(),
                ..RunRequest::default()
            })
            .is_err(),
            "{length}"
        );
    }
    assert!(crate::describe::describe(&[]).is_err());
    assert!(crate::describe::describe(b"MZ").is_err());
}

#[test]
fn flipped_bytes_never_panic_a_reader() {
    // A linear congruential generator, so that the flips are the same each time.
    let mut state = 12345u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    for round in 0..2_000 {
        let mut bytes = [IMAGE, DLL, ARM64_IMAGE][round % 3].to_vec();
        for _ in 0..4 {
            // Headers, tables and directories matter most.
            let limit = if next() % 2 == 0 { 0x400 } else { bytes.len() };
            let at = next() % limit;
            bytes[at] = if next() % 4 == 0 { 0xFF } else { next() as u8 };
        }
        if let Ok(description) = crate::describe::describe(&bytes) {
            assert!(description.sections.len() < 0x1_0000);
        }
    }
}

#[test]
fn describes_the_image() {
    let description = crate::describe::describe(IMAGE).unwrap();
    assert_eq!(description.machine, "x64");
    assert!(description.checksum_valid && !description.signed);
    assert_eq!(description.problems, Vec::<String>::new());
    assert_eq!(description.entry_section.as_deref(), Some(".text"));
    assert_eq!(description.imports[0], "ntoskrnl.exe!RtlQueryRegistryValues");
    assert_eq!(description.imports.len(), 5);
    let count = &description.uses[6];
    assert_eq!(
        (count.program.as_str(), count.helpers.len(), count.maps.len()),
        ("count", 35, 18)
    );
    // With a hole where a helper of other programs is.
    let ids = [0, 25, 34].map(|slot| count.helpers[slot].id);
    assert_eq!(ids, [1, 0, 65536]);
    assert_eq!((count.maps[0].as_str(), count.instructions), ("params", 7));
    let xdp = description.sections.iter().find(|s| s.name == "xdp").unwrap();
    assert_eq!(xdp.protection, "r-x");
    assert!(
        serde_json::to_string(&description)
            .unwrap()
            .contains("\"elf_hash\":\"010203")
    );
}
