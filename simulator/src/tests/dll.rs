//! The module of the other tests in a DLL that lld made.

use super::patch::{Break, Patched};
use super::*;
use crate::describe::{ImageKind, describe};
use crate::image::{DirectoryKind, Image, read_u32};
use crate::{Rule, Sabotage, directories, loader_rules, usermode};

fn dll_request(inputs: Vec<Input>) -> RunRequest {
    RunRequest {
        image: DLL.to_vec(),
        ..request(inputs)
    }
}

#[test]
fn a_dll_passes_every_static_check() {
    let image = Image::parse(DLL).unwrap();
    assert!(image.is_dll());
    assert_eq!(loader_rules::check(&image), []);
    assert_eq!(usermode::read(&image).unwrap().programs.len(), 11);
    let description = describe(DLL).unwrap();
    assert_eq!((description.kind, description.problems.len()), (ImageKind::Dll, 0));
    assert_eq!(description.exports, ["another_function", "get_metadata_table"]);
    assert_eq!(describe(IMAGE).unwrap().kind, ImageKind::Driver);
    // User mode does not look at the checksum.
    let mut patched = Patched::of(DLL);
    patched.put(patched.image().checksum_offset(), &[1, 2, 3, 4]);
    assert_eq!(loader_rules::check(&patched.image()), []);
}

#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
#[test]
fn programs_do_in_a_dll_what_they_do_in_a_driver() {
    let inputs = vec![
        packet("count", &[3, 9, 7]),
        packet("count", &[0x88, 9]),
        packet("tail_one", &[1, 2]),
    ];
    let mut with_inputs = request(inputs.clone());
    with_inputs.presets = vec![preset("array", &[1, 0, 0, 0], &[7; 8])];
    let mut in_dll = dll_request(inputs);
    in_dll.presets.clone_from(&with_inputs.presets);
    for (in_driver, in_dll) in [(request(vec![]), dll_request(vec![])), (with_inputs, in_dll)] {
        let (in_driver, in_dll) = (run(&in_driver), run(&in_dll));
        assert!(in_driver.is_ok(), "{in_driver:?}");
        assert_eq!(in_driver, in_dll);
    }
}

/// Offset of the directory's structure, and of what the RVA at `field` of it points to.
fn export_table(patched: &Patched, field: usize) -> (usize, usize) {
    let image = patched.image();
    let at = |rva: u32| patched.at(image.image_base + u64::from(rva));
    let directory = at(image.directory(DirectoryKind::Export).unwrap().rva.0);
    (directory, at(read_u32(&patched.bytes, directory + field).unwrap()))
}

#[test]
fn each_rule_of_a_dll_catches_its_own() {
    let cases: &[(Rule, Break)] = &[
        (Rule::Subsystem, |p| _ = p.put(p.optional() + 68, &[1])),
        // Without the mark it is a driver, and then the subsystem is wrong.
        (Rule::Subsystem, |p| _ = p.put(p.optional() - 2, &[0x22, 0])),
        (Rule::Characteristics, |p| _ = p.put(p.optional() - 2, &[0x23])),
        (Rule::EntryPoint, |p| {
            p.put(p.optional() + 16, &0x3000_u32.to_le_bytes());
        }),
        (Rule::MetadataExport, |p| {
            p.put(p.directory(DirectoryKind::Export), &[0; 8]);
        }),
        (Rule::MetadataExport, |p| {
            p.put(p.find(".rdata", b"get_metadata_table"), b"h");
        }),
        (Rule::MetadataExport, |p| {
            // No names: what is there can be found by ordinal alone.
            let (directory, _) = export_table(p, 28);
            p.put(directory + 24, &[0; 4]);
        }),
        (Rule::MetadataExport, |p| {
            let (_, addresses) = export_table(p, 28);
            p.put(addresses + 4, &0x3000_u32.to_le_bytes());
        }),
        (Rule::ExportTable, |p| {
            let (_, addresses) = export_table(p, 28);
            p.put(addresses, &0x9000_0000_u32.to_le_bytes());
        }),
        (Rule::ExportTable, |p| {
            // Inside the directory: a forwarder.
            let (_, addresses) = export_table(p, 28);
            let rva = p.image().directory(DirectoryKind::Export).unwrap().rva.0;
            p.put(addresses, &rva.to_le_bytes());
        }),
        (Rule::ExportTable, |p| _ = p.put(export_table(p, 28).0 + 20, &[0xFF; 4])),
        (Rule::ExportTable, |p| _ = p.put(export_table(p, 28).0 + 24, &[0xFF; 4])),
        (Rule::ExportTable, |p| _ = p.put(export_table(p, 28).0 + 24, &[3])),
        (Rule::ExportTable, |p| _ = p.put(export_table(p, 28).0 + 28, &[0xFF; 4])),
        (Rule::ExportTable, |p| _ = p.put(export_table(p, 28).0 + 32, &[0xFF; 4])),
        (Rule::ExportTable, |p| _ = p.put(export_table(p, 28).0 + 36, &[0xFF; 4])),
        (Rule::ExportTable, |p| _ = p.put(export_table(p, 36).1, &[9])),
        (Rule::ExportTable, |p| _ = p.put(export_table(p, 32).1, &[0xFF; 4])),
        (Rule::ExportTable, |p| {
            p.put(p.directory(DirectoryKind::Export), &[0xFF; 4]);
        }),
    ];
    for (i, (rule, break_it)) in cases.iter().enumerate() {
        let mut patched = Patched::of(DLL);
        break_it(&mut patched);
        let violations = loader_rules::check(&patched.image());
        assert!(
            violations.iter().any(|v| v.rule == *rule),
            "case {i}: {rule:?}: {violations:?}"
        );
    }
}

#[test]
fn names_that_bisection_would_miss_are_noticed() {
    let mut patched = Patched::of(DLL);
    let (_, names) = export_table(&patched, 32);
    patched.bytes[names..names + 8].rotate_left(4);
    let error = directories::exports(&patched.image()).unwrap_err();
    assert!(error.detail.contains("not sorted"), "{error}");
}

#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
#[test]
fn a_dll_without_entry_point_runs() {
    let mut patched = Patched::of(DLL);
    patched.put(patched.optional() + 16, &[0; 4]);
    assert_eq!(loader_rules::check(&patched.image()), []);
    let request = RunRequest {
        image: patched.bytes,
        ..RunRequest::default()
    };
    assert!(run(&request).is_ok());
}

#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
#[test]
fn what_a_running_dll_does_wrong_is_caught() {
    // (what went on, rule, what is wrong)
    let cases: &[(&str, Rule, Break)] = &[
        ("while the module was loaded", Rule::DllMain, |p| {
            // xor eax, eax instead of movzx eax, al
            p.put(p.find(".text", &[0x0F, 0xB6, 0xC0, 0xC3]), &[0x31, 0xC0, 0x90]);
        }),
        ("while the module was loaded", Rule::DllMain, |p| {
            // cmp edx, 1: the second call, of which the reason is 0, succeeds and the first does not.
            p.put(p.find(".text", &[0x83, 0xFA, 0x02]) + 2, &[1]);
        }),
        ("while the module was loaded", Rule::DllMain, |p| {
            // A result of 256 is FALSE, because one byte counts: shl eax, 8 in the padding behind.
            let at = p.find(".text", &[0x0F, 0xB6, 0xC0, 0xC3]);
            p.put(at, &[0xC1, 0xE0, 0x08]);
        }),
        ("while the module was loaded", Rule::MetadataTable, |p| {
            // get_metadata_table returns NULL.
            let at = p.find(".text", &[0xC3, 0x0F, 0x1F, 0x84, 0, 0, 0, 0, 0]);
            p.put(at - 7, &[0x31, 0xC0, 0xC3]);
        }),
        ("while the module was loaded", Rule::WildPointer, |p| {
            let at = p.find(".text", &[0xC3, 0x0F, 0x1F, 0x84, 0, 0, 0, 0, 0]);
            p.put(at - 1, &[0x7F]);
        }),
    ];
    for (i, (during, rule, break_it)) in cases.iter().enumerate() {
        let mut patched = Patched::of(DLL);
        break_it(&mut patched);
        let request = RunRequest {
            image: patched.bytes,
            ..RunRequest::default()
        };
        match run(&request) {
            Err(SimulatorError::Kernel {
                during: place,
                violation,
            }) => {
                assert_eq!(
                    (place.as_str(), violation.rule),
                    (*during, *rule),
                    "case {i}: {violation}"
                );
            }
            other => panic!("case {i}: {other:?}"),
        }
    }
}

#[cfg(any(windows, all(target_os = "linux", target_arch = "x86_64")))]
#[test]
fn failures_around_a_driver_cannot_be_asked_of_a_dll() {
    let mut request = dll_request(vec![]);
    request.sabotage = Sabotage::ProviderMissing;
    assert!(matches!(run(&request), Err(SimulatorError::Request(_))));
}

#[test]
fn an_object_file_is_named_as_one() {
    let mut header = vec![0; 60];
    header[..4].copy_from_slice(&[0x64, 0x86, 1, 0]);
    let error = Image::parse(&header).unwrap_err();
    assert!(error.to_string().contains("COFF object file for x64"), "{error}");
}
