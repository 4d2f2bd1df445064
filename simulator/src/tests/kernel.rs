//! Images with one thing wrong each: every check that the running driver meets must catch its own.

use bpf2sys_simulator::{Rule, RunRequest, SimulatorError};

use super::fixture::{bare, image, on_arm64, packet, preset, run};
use super::patch::{Break, NOP, Patched};

pub fn each_check_of_the_kernel_catches_its_own() {
    let cases: &[(Rule, Break)] = &[
        // The driver's own structures and code.
        (Rule::QueryTable, |p| _ = p.put(p.query_row(1) + 8, &[0x24])),
        (Rule::QueryTable, |p| _ = p.put(p.query_row(2) + 8, &[4])),
        (Rule::QueryTable, |p| {
            let at = p.at(p.u64(p.query_row(0) + 16));
            p.put(at, b"Q");
        }),
        (Rule::QueryTable, |p| {
            // mov w0, #1 instead of mov w0, wzr
            p.code(
                (&[0x31, 0xC9, 0x45, 0x31, 0xC9], 0, &[0xB1, 1]),
                (&[0x2A1F_03E0, 0xAA1F_03E3], 0, &[0x5280_0020]),
            );
        }),
        (Rule::DriverEntry, |p| {
            // A value of another name is not found.
            let at = p.at(p.u64(p.query_row(1) + 16));
            p.put(at, b"X");
        }),
        (Rule::ModuleId, |p| {
            p.put(p.find(".data", &[24, 0, 0, 0, 1, 0, 0, 0]), &[23]);
        }),
        (Rule::ModuleId, |p| {
            p.put(p.find(".data", &[24, 0, 0, 0, 1, 0, 0, 0]) + 4, &[2]);
        }),
        (Rule::ModuleId, |p| {
            p.code(
                (&[0x44, 0x88, 0x4C, 0x0A, 0x08], 0, &[0x90; 5]),
                (&[0x3900_216A], 0, &[NOP]),
            );
        }),
        (Rule::ClientCharacteristics, |p| _ = p.put(p.characteristics(), &[1])),
        (Rule::ClientCharacteristics, |p| {
            p.put(p.characteristics() + 2, &[64]);
        }),
        (Rule::ClientCharacteristics, |p| {
            p.put(p.characteristics() + 8, &p.address(".rdata", 0).to_le_bytes());
        }),
        (Rule::ClientCharacteristics, |p| {
            p.put(p.find(".rdata", &[0xC8, 0xAA, 0x47, 0xC8]), &[0]);
        }),
        (Rule::ClientAttach, |p| {
            // attach answers a second provider with another status
            p.code(
                (&[0x0D, 0, 0, 0xC0, 0x48, 0x83, 0x3D], 0, &[1]),
                (&[0x5280_01A0, 0x72B8_0000, 0x1400_000B], 0, &[0x5280_0020]),
            );
        }),
        (Rule::ClientAttach, |p| {
            // attach does not look whether it is attached
            p.code(
                (&[0x0D, 0, 0, 0xC0, 0x48, 0x83, 0x3D], 12, &[0x90, 0x90]),
                // b instead of cbz x8
                (&[0xB400_0088], 0, &[0x1400_0004]),
            );
        }),
        (Rule::ClientAttach, |p| {
            // detach does not forget the binding, so the next provider is refused
            p.code(
                (&[0, 0, 0, 0, 0x31, 0xC0, 0xC3], -7, &[0x90; 11]),
                (&[0xF900_691F], 0, &[NOP]),
            );
        }),
        (Rule::ClientDetach, |p| {
            p.code(
                (&[0, 0, 0, 0, 0x31, 0xC0, 0xC3], 4, &[0x90; 2]),
                (&[0x2A1F_03E0, 0xF900_691F], 0, &[0x5280_0020]),
            );
        }),
        (Rule::DriverUnload, |p| {
            // cmp w0, #0x104
            p.code((&[0x3D, 3, 1, 0, 0], 1, &[4]), (&[0x7104_0C1F], 0, &[0x7104_101F]));
        }),
        (Rule::DriverUnload, |p| {
            // DriverUnload goes straight to its end
            p.code(
                (&[0x3D, 3, 1, 0, 0], -17 + 4, &[0x48, 0x83, 0xC4, 0x28, 0xC3]),
                (&[0x9000_0033, 0xF000_0008], 0, &[0x1400_000E]),
            );
        }),
        (Rule::DriverEntry, |p| {
            p.code(
                (&[0x48, 0x89, 0x4E, 0x68], 3, &[0x60]),
                (&[0xF900_3668], 0, &[0xF900_3268]),
            );
        }),
        (Rule::DriverEntry, |p| {
            p.code((&[0x48, 0x89, 0x4E, 0x68], 0, &[0x90; 4]), (&[0xF900_3668], 0, &[NOP]));
        }),
        (Rule::UnexpectedCall, |p| {
            // DriverUnload as entry point
            let distance = if on_arm64() { 0x78 } else { 0x60 };
            p.put(p.optional() + 16, &(p.image().entry.0 + distance).to_le_bytes());
        }),
        // The metadata table and the arrays it leads to.
        (Rule::MetadataTable, |p| _ = p.put(p.metadata(), &[31])),
        (Rule::MetadataFunction, |p| _ = p.put(p.metadata(), &[40])),
        (Rule::WildPointer, |p| {
            p.put(p.metadata() + 32, &p.address(".rdata", 0).to_le_bytes());
        }),
        (Rule::Version, |p| {
            p.code(
                (&[1, 0, 0, 0, 6, 0, 0, 0], 0, &[0, 0, 0, 0, 20]),
                (
                    &[0xD280_0028, 0xB900_081F, 0xF2C0_00C8],
                    0,
                    &[0xD280_0008, 0xB900_081F, 0xF2C0_0288],
                ),
            );
        }),
        (Rule::ArrayPointer, |p| _ = p.put(p.program(1, 88), &[0, 0])),
        (Rule::ArrayPointer, |p| {
            p.code(
                (&[0x48, 0xC7, 0x02, 2, 0, 0, 0], 3, &[0]),
                (&[0x5280_0048], 0, &[0x5280_0008]),
            );
        }),
        (Rule::ArrayPointer, |p| {
            // mov w8, #0x20000
            p.code(
                (&[0x48, 0xC7, 0x02, 1, 0, 0, 0], 3, &[1, 0, 1]),
                (&[0x5280_0028], 0, &[0x52A0_0048]),
            );
        }),
        (Rule::ElementHeader, |p| _ = p.put(p.program(1, 8), &[2])),
        (Rule::ElementHeader, |p| _ = p.put(p.program(3, 16), &[160])),
        (Rule::ElementHeader, |p| _ = p.put(p.helper(1, 5, 8), &[48])),
        (Rule::ElementHeader, |p| _ = p.put(p.map(4, 24), &[72])),
        (Rule::ElementHeader, |p| _ = p.put(p.list(3) + 8, &[40])),
        (Rule::ElementHeader, |p| _ = p.put(p.list(8), &[0])),
        (Rule::UnstableMetadata, |p| {
            // get_programs counts its calls in the unused end of .data, and adds that to the number.
            if on_arm64() {
                let at = p.find_code(&[0x5280_0168]);
                let end = p.raw(".text") + p.section(".text").virtual_size as usize;
                p.put_code(at + 16, &[0x1400_0000 + (end - at - 16) as u32 / 4]);
                p.put_code(
                    end,
                    &[
                        0x9000_0029, // adrp x9, .data
                        0xB948_012A, // ldr w10, [x9, #0x800]
                        0x1100_054A, // add w10, w10, #1
                        0xB908_012A, // str w10, [x9, #0x800]
                        0x8B0A_0108, // add x8, x8, x10
                        0xF900_0028, // str x8, [x1]
                        0xD65F_03C0, // ret
                    ],
                );
                return;
            }
            let at = p.find(".text", &[0x48, 0xC7, 0x02, 0x0B, 0, 0, 0]) + 7;
            let text = p.section(".text");
            let rva = at as u32 - text.raw_offset + text.rva.0;
            let cell = p.section(".data").rva.0 + 0x800;
            let mut code = vec![0xFF, 0x05];
            code.extend((cell - rva - 6).to_le_bytes());
            code.extend([0x8B, 0x05]);
            code.extend((cell - rva - 12).to_le_bytes());
            code.extend([0x01, 0x02, 0xC3]);
            p.put(at, &code);
        }),
        (Rule::WildPointer, |p| {
            p.put(p.program(1, 80), &0x1_5000_0000u64.to_le_bytes());
        }),
        // Maps.
        (Rule::MapPinning, |p| _ = p.put(p.map(2, 60), &[2])),
        (Rule::MapPinning, |p| {
            let at = p.at(p.u64(p.map(17, 72)));
            p.put(at, b":");
        }),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 40), &[0])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 40), &[15])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 40), &[17])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 52), &[0])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 44), &[0])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(1, 44), &[2])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(2, 48), &[0])),
        (Rule::MapDefinition, |p| {
            p.put(p.map(2, 48), &[0xFF; 8]);
            p.put(p.map(2, 40), &[2]);
        }),
        (Rule::MapDefinition, |p| _ = p.put(p.map(8, 44), &[4])),
        (Rule::MapDefinition, |p| {
            p.put(p.map(10, 52), &5000u32.to_le_bytes());
        }),
        (Rule::MapDefinition, |p| _ = p.put(p.map(14, 48), &[8])),
        (Rule::MapDefinition, |p| _ = p.put(p.map(7, 44), &[3])),
        (Rule::InnerTemplate, |p| _ = p.put(p.map(14, 68), &[99])),
        (Rule::InnerTemplate, |p| _ = p.put(p.map(15, 56), &[15])),
        // Programs.
        (Rule::NameLength, |p| {
            let at = p.at(p.u64(p.program(1, 48)));
            p.put(at, &[0]);
            // user mode finds the code section by the same text
            p.put(p.header("bind"), &[0; 8]);
        }),
        (Rule::ProgramType, |p| {
            p.put(p.find(".data", &[0x7C, 0x51, 0x8C, 0x60]), &[1]);
        }),
        (Rule::ProgramType, |p| {
            p.put(p.find(".data", &[0x7C, 0x51, 0x8C, 0x60]), &[0; 16]);
        }),
        (Rule::MapIndex, |p| _ = p.put(p.at(p.u64(p.program(1, 64))), &[18])),
        (Rule::WildPointer, |p| {
            p.put(p.program(1, 64), &0x1_5000_0000u64.to_le_bytes());
        }),
        (Rule::ProgramArrayType, |p| _ = p.put(p.program(1, 72), &[18])),
        (Rule::GlobalSectionSize, |p| _ = p.put(p.list(8) + 32, &[9])),
        (Rule::GlobalSection, |p| _ = p.put(p.map(16, 40), &[5])),
        (Rule::GlobalSection, |p| {
            let params = p.u64(p.program(0, 48));
            p.put(p.list(8) + 24, &params.to_le_bytes());
        }),
        (Rule::WildPointer, |p| {
            p.put(p.list(8) + 40, &0x1_4000_8FFFu64.to_le_bytes());
        }),
        (Rule::BtfFunction, |p| {
            // A table of one function in the unused bytes of section hash.
            let at = p.raw("hash") + 64;
            p.put(at, &[1, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 48]);
            p.put(at + 32, &[7; 16]);
            let name = p.u64(p.program(0, 56));
            p.put(p.header("hash") + 8, &128u32.to_le_bytes());
            p.pointer(at + 24, name);
            p.pointer(p.program(1, 144), p.address("hash", 64));
            p.put(p.program(1, 152), &[1]);
        }),
        (Rule::HelperId, |p| _ = p.put(p.helper(6, 0, 24), &[99])),
        (Rule::HelperId, |p| {
            p.put(p.helper(6, 0, 24), &65537u32.to_le_bytes());
        }),
        (Rule::HelperId, |p| _ = p.put(p.helper(6, 0, 24), &[26])),
        (Rule::DuplicateHelper, |p| _ = p.put(p.helper(6, 0, 24), &[2])),
        (Rule::ProgramInfoHash, |p| {
            p.pointer(p.program(6, 120), p.address("hash", 0));
            p.put(p.program(6, 128), &[32]);
        }),
        (Rule::ProgramInfoHash, |p| {
            p.pointer(p.program(6, 120), p.address("hash", 0));
            p.put(p.program(6, 128), &[31]);
        }),
        (Rule::WildPointer, |p| _ = p.put(p.program(6, 128), &[32])),
        (Rule::ProgramFunction, |p| {
            p.put(p.program(6, 32), &p.address(".rdata", 0).to_le_bytes());
        }),
        (Rule::InitialValue, |p| {
            let other = p.u64(p.program(0, 48));
            p.put(p.list(3) + 24, &other.to_le_bytes());
        }),
        (Rule::InitialValue, |p| {
            let hash = p.u64(p.map(2, 72));
            p.put(p.list(3) + 24, &hash.to_le_bytes());
        }),
        (Rule::InitialValue, |p| {
            let (values, other) = (p.at(p.u64(p.list(3) + 40)), p.u64(p.program(0, 48)));
            p.put(values, &other.to_le_bytes());
        }),
        (Rule::InitialMap, |p| {
            let (values, other) = (p.at(p.u64(p.list(2) + 40)), p.u64(p.program(0, 48)));
            p.put(values + 8, &other.to_le_bytes());
        }),
        (Rule::InitialValue, |p| {
            let (values, params) = (p.at(p.u64(p.list(2) + 40)), p.u64(p.map(0, 72)));
            p.put(values + 8, &params.to_le_bytes());
        }),
        (Rule::InitialValue, |p| _ = p.put(p.map(12, 52), &[1])),
        // Both sides.
        (Rule::ViewsDiffer, |p| {
            let (a, b) = (p.program(0, 0), p.program(1, 0));
            let (first, second) = (p.bytes[a..a + 160].to_vec(), p.bytes[b..b + 160].to_vec());
            p.put(a, &second).put(b, &first);
        }),
        (Rule::ViewsDiffer, |p| {
            let name = p.u64(p.program(6, 56));
            p.put(p.program(7, 56), &name.to_le_bytes());
        }),
        (Rule::ViewsDiffer, |p| {
            // the kernel is shown one program less; the one that misses is no initial value
            p.code(
                (&[0x48, 0xC7, 0x02, 0x0B, 0, 0, 0], 3, &[10]),
                (&[0x5280_0168], 0, &[0x5280_0148]),
            );
            let (values, other) = (p.at(p.u64(p.list(3) + 40)), p.u64(p.program(9, 56)));
            p.put(values, &other.to_le_bytes());
        }),
        (Rule::ViewsDiffer, |p| {
            // the kernel is shown one map less; no program uses the one that misses
            p.code(
                (&[0x48, 0xC7, 0x02, 0x12, 0, 0, 0], 3, &[17]),
                (&[0x5280_0248], 0, &[0x5280_0228]),
            );
            p.put(p.at(p.u64(p.program(1, 64))) + 32, &[16]);
        }),
    ];
    let mut wrong = Vec::new();
    for (i, (rule, break_it)) in cases.iter().enumerate() {
        let mut patched = Patched::new();
        break_it(&mut patched);
        let outcome = run(&RunRequest {
            image: patched.finish(),
            ..bare()
        });
        let found = match &outcome {
            Err(SimulatorError::Kernel { violation, .. } | SimulatorError::UserMode(violation)) => Some(violation.rule),
            _ => None,
        };
        if found != Some(*rule) {
            let outcome = outcome.map_or_else(|e| e.to_string(), |_| "no error".into());
            wrong.push(format!("case {i}: {rule:?}: {outcome}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub fn the_right_program_info_hash_is_accepted() {
    let platform = bpf2sys_platform::Platform::builtin();
    let xdp = platform.program_types.iter().find(|t| t.name == "xdp").unwrap();
    let ids = (1..=25).chain(27..=34).chain([65536]);
    let hash = platform
        .program_info_hash(bpf2sys_platform::HashAlgorithm::Sha256, xdp, ids, [])
        .unwrap();
    let mut patched = Patched::new();
    let at = patched.raw("hash");
    patched.put(at, &hash);
    let place = patched.address("hash", 0);
    let (pointer, length) = (patched.program(6, 120), patched.program(6, 128));
    patched.pointer(pointer, place).put(length, &[32]);
    run(&RunRequest {
        image: patched.finish(),
        ..bare()
    })
    .unwrap();
}

pub fn programs_of_older_versions_get_the_shorter_map_table() {
    let mut patched = Patched::new();
    patched.code(
        (&[1, 0, 0, 0, 6, 0, 0, 0], 4, &[3]),
        (&[0xF2C0_00C8], 0, &[0xF2C0_0068]),
    );
    let image = patched.finish();
    // This image reads the longer one, so all but its first map are wrong for it.
    let request = RunRequest {
        image,
        inputs: vec![packet("count", &[1, 2])],
        ..bare()
    };
    let outcome = run(&request);
    assert!(
        matches!(&outcome, Err(SimulatorError::Kernel { violation, .. }) if violation.rule == Rule::HelperArgument)
    );
}

pub fn images_that_the_loader_refuses_are_not_run() {
    let mut image = image().to_vec();
    *image.last_mut().unwrap() ^= 1;
    let outcome = run(&RunRequest { image, ..bare() });
    assert!(matches!(outcome, Err(SimulatorError::Loader(list)) if list[0].rule == Rule::Checksum));
}

pub fn large_arrays_are_reported_by_what_is_in_them() {
    let mut patched = Patched::new();
    let entries = patched.map(1, 52);
    patched.put(entries, &20_000_000u32.to_le_bytes());
    let key = 19_999_999u32.to_le_bytes();
    let request = RunRequest {
        image: patched.finish(),
        presets: vec![preset("array", &key, &[7; 8]), preset("array", &[3, 0, 0, 0], &[6; 8])],
        ..bare()
    };
    let report = run(&request).unwrap();
    let array = report.maps.iter().find(|m| m.name == "array").unwrap();
    let found: Vec<_> = array
        .entries
        .iter()
        .map(|e| (e.key.0.as_slice(), e.values[0].0[0]))
        .collect();
    assert_eq!(found, [([3, 0, 0, 0].as_slice(), 6), (key.as_slice(), 7)]);
    assert_eq!(array.omitted, 0);
}

pub fn what_does_not_fit_is_an_error_and_not_a_crash() {
    // 2^32 - 1 entries of 8 bytes are more than the simulator gives, and less than the runtime would.
    let mut patched = Patched::new();
    let entries = patched.map(1, 52);
    patched.put(entries, &u32::MAX.to_le_bytes());
    let outcome = run(&RunRequest {
        image: patched.finish(),
        ..bare()
    });
    assert!(
        matches!(&outcome, Err(SimulatorError::NotSimulated(what)) if what == "map array of this size"),
        "{outcome:?}"
    );
}

pub fn garbled_images_end_in_an_answer() {
    // Right checksums, so that the garbage gets as far as it can. A linear congruential generator, so that it is the same
    // each time.
    let mut state = 99u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    for round in 0..150 {
        let mut patched = Patched::new();
        let start = patched.raw(".text");
        for _ in 0..=round % 3 {
            let at = start + next() % (patched.bytes.len() - start);
            patched.bytes[at] = if next() % 3 == 0 { 0xFF } else { next() as u8 };
        }
        let inputs = vec![packet("count", &[1, 2]), packet("tail_one", &[0, 0])];
        let outcome = run(&RunRequest {
            image: patched.finish(),
            inputs,
            time_limit_ms: 1000,
            ..bare()
        });
        assert!(
            !matches!(
                outcome,
                Err(SimulatorError::Crashed { .. } | SimulatorError::Process(_))
            ),
            "round {round}: {outcome:?}"
        );
    }
}
