//! What a module's functions tell, by following them in the file: code of clang's, for both machines.

use super::patch::Patched;
use super::*;
use crate::describe::{ImageDescription, describe};
use crate::module_tables::{ModuleTables, RuntimeLevel};

/// `mov rax, 0x600000001`: major and minor version in the function for the version.
const VERSION_X64: [u8; 10] = [0x48, 0xB8, 1, 0, 0, 0, 6, 0, 0, 0];
/// `mov x8, #1` before `str wzr, [x0, #8]` and `movk x8, #6, lsl #32`.
const VERSION_ARM64: [u32; 3] = [0xD280_0028, 0xB900_081F, 0xF2C0_00C8];

fn words(code: &[u32]) -> Vec<u8> {
    code.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn described(patched: Patched) -> ImageDescription {
    describe(&patched.finish()).unwrap()
}

#[test]
fn functions_are_followed_in_code_of_either_machine() {
    let tables: Vec<ModuleTables> = [IMAGE, DLL, ARM64_IMAGE]
        .into_iter()
        .map(|image| describe(image).unwrap().tables.unwrap())
        .collect();
    assert_eq!(tables[0], tables[1]);
    assert_eq!(tables[0], tables[2]);
    let tables = &tables[0];
    assert_eq!(
        (tables.version, tables.level, tables.program_entry_size),
        ([1, 6, 0], RuntimeLevel::V1_6, Some(154))
    );
    let [global] = &tables.global_sections[..] else {
        panic!("{:?}", tables.global_sections)
    };
    assert_eq!(
        (global.name.as_str(), global.size, global.initial_data.as_str()),
        ("mod.data", 8, "8877665544332211")
    );
    let lists: Vec<(&str, usize)> = tables
        .initial_values
        .iter()
        .map(|l| (l.name.as_str(), l.values.len()))
        .collect();
    assert_eq!(lists, [("progs", 3), ("outer", 2)]);
    let values = [Some("tail_two"), None, Some("tail_loop")].map(|name| name.map(str::to_owned));
    assert_eq!(tables.initial_values[0].values, values);
}

/// States `version`, with program entries of `size` bytes.
fn stating(version: [u32; 2], size: u64) -> Patched {
    let mut patched = Patched::of(IMAGE);
    let at = patched.find(".text", &VERSION_X64);
    patched
        .put(at + 2, &version[0].to_le_bytes())
        .put(at + 6, &version[1].to_le_bytes());
    let (table, length) = (
        patched.raw("programs"),
        patched.section("programs").virtual_size as usize,
    );
    for entry in (table..table + length).step_by(160) {
        patched.put(entry + 16, &size.to_le_bytes());
    }
    patched
}

#[test]
fn the_level_follows_from_version_and_program_entries() {
    use RuntimeLevel::{V0_21, V1_4, V1_6};
    for (version, size, level, problem) in [
        ([0, 21], 144, V0_21, None),
        ([1, 3], 144, V0_21, None),
        ([1, 4], 144, V1_4, None),
        ([1, 6], 144, V1_4, None),
        ([2, 0], 144, V1_4, None),
        ([1, 5], 154, V1_6, None),
        ([1, 6], 154, V1_6, None),
        ([2, 0], 154, V1_6, None),
        ([1, 4], 154, V1_6, Some("it states 1.4.0, but its program entries")),
        ([0, 21], 154, V1_6, Some("it states 0.21.0, but its program entries")),
    ] {
        let image = described(stating(version, size));
        let tables = image.tables.unwrap();
        assert_eq!(
            (tables.level, tables.program_entry_size),
            (level, Some(size)),
            "{version:?}"
        );
        assert_eq!(tables.version[..2], version);
        match problem {
            None => assert_eq!(image.problems, Vec::<String>::new(), "{version:?}"),
            Some(text) => assert!(image.problems.iter().any(|p| p.contains(text)), "{:?}", image.problems),
        }
    }
}

#[test]
fn a_version_that_no_runtime_takes_has_no_level() {
    let image = described(stating([0, 20], 144));
    assert_eq!(image.tables, None);
    assert!(
        image
            .problems
            .iter()
            .any(|p| p.starts_with("version: it states 0.20.0")),
        "{:?}",
        image.problems
    );
}

#[test]
fn program_entries_of_two_sizes_are_a_problem() {
    let mut patched = stating([1, 6], 154);
    let second = patched.raw("programs") + 160;
    patched.put(second + 16, &144u64.to_le_bytes());
    let image = described(patched);
    assert!(
        image
            .problems
            .iter()
            .any(|p| p.contains("of 154 and of 144 bytes are mixed")),
        "{:?}",
        image.problems
    );
}

/// An image of each machine whose function for the version is this code. It has room at the entry point, where nobody looks.
fn with_code(x64: &[u8], arm64: &[u32]) -> [Patched; 2] {
    let mut on_x64 = Patched::of(IMAGE);
    let function = on_x64.find(".text", &VERSION_X64);
    let room = entry_point(&on_x64);
    let distance = room as i32 - (function as i32 + 5);
    on_x64
        .put(function, &[0xE9])
        .put(function + 1, &distance.to_le_bytes())
        .put(room, x64);

    let mut on_arm64 = Patched::of(ARM64_IMAGE);
    let function = on_arm64.find(".text", &words(&VERSION_ARM64));
    let room = entry_point(&on_arm64);
    let distance = (room as i32 - function as i32) / 4;
    on_arm64
        .put(function, &words(&[0x1400_0000 | distance as u32 & 0x03FF_FFFF]))
        .put(room, &words(arm64));
    [on_x64, on_arm64]
}

/// Offset of the entry point's code, which is in the same section.
fn entry_point(patched: &Patched) -> usize {
    let image = patched.image();
    patched.at(image.image_base + u64::from(image.entry.0))
}

#[test]
fn functions_that_cannot_be_followed_are_said_to_be() {
    for (x64, arm64, why) in [
        // call; bl
        (&[0xE8, 0, 0, 0, 0][..], 0x9400_0001, "an instruction at 0x"),
        // jz; cbz
        (&[0x74, 0], 0xB400_0028, "an instruction at 0x"),
        // mov rax, rax and str x8, [x1]: registers that nobody has set
        (&[0x48, 0x89, 0xC0], 0xF900_0028, "an instruction at 0x"),
        // jmp to itself; b to itself
        (&[0xEB, 0xFE], 0x1400_0000, "does not return within"),
        (&[0xC3], 0xD65F_03C0, "does not store all of its results"),
        // jmp and b out of the code
        (&[0xE9, 0, 0, 0, 0x10], 0x1500_0000, "where no code is"),
    ] {
        for patched in with_code(x64, &[arm64]) {
            let image = described(patched);
            let told = image.tables_unknown.unwrap_or_default();
            assert!(
                image.tables.is_none() && told.contains("`version`") && told.contains(why),
                "{told}"
            );
            assert!(image.module.is_some(), "{:?}", image.problems);
        }
    }
}

#[test]
fn other_ways_to_say_the_same_are_followed() {
    // What MSVC and clang make of such functions with other options: in a frame, through a jump, over the stack, with a
    // literal, in two halves.
    let x64: [&[u8]; 3] = [
        // push rbp; mov rbp, rsp; and dword [rcx], 0; or dword [rcx], 1; mov dword [rcx+4], 6; and dword [rcx+8], 0; pop rbp; ret
        &[
            0x55, 0x48, 0x89, 0xE5, 0x83, 0x21, 0, 0x83, 0x09, 1, 0xC7, 0x41, 4, 6, 0, 0, 0, 0x83, 0x61, 8, 0, 0x5D,
            0xC3,
        ],
        // endbr64; xor eax, eax; mov [rcx+8], eax; inc is not known: add eax, 1; mov [rcx], eax; add eax, 5; mov [rcx+4], eax; ret
        &[
            0xF3, 0x0F, 0x1E, 0xFA, 0x31, 0xC0, 0x89, 0x41, 8, 0x83, 0xC0, 1, 0x89, 0x01, 0x83, 0xC0, 5, 0x89, 0x41, 4,
            0xC3,
        ],
        // mov [rsp+8], rcx; mov rax, [rsp+8]; jmp +1; int3; mov dword [rax], 1; mov dword [rax+4], 6; xor edx, edx;
        // mov [rax+8], edx; ret
        &[
            0x48, 0x89, 0x4C, 0x24, 8, 0x48, 0x8B, 0x44, 0x24, 8, 0xEB, 1, 0xCC, 0xC7, 0, 1, 0, 0, 0, 0xC7, 0x40, 4, 6,
            0, 0, 0, 0x31, 0xD2, 0x89, 0x50, 8, 0xC3,
        ],
    ];
    let arm64: [&[u32]; 3] = [
        // stp x29, x30, [sp, #-16]!; mov x29, sp; mov w8, #1; mov w9, #6; stp w8, w9, [x0]; str wzr, [x0, #8];
        // ldp x29, x30, [sp], #16; ret
        &[
            0xA9BF_7BFD,
            0x9100_03FD,
            0x5280_0028,
            0x5280_00C9,
            0x2900_2408,
            0xB900_081F,
            0xA8C1_7BFD,
            0xD65F_03C0,
        ],
        // ldr x8, literal (3 instructions on); stur x8, [x0]; str wzr, [x0, #8]; b +3; 1; 6; ret
        &[0x5800_0088, 0xF800_0008, 0xB900_081F, 0x1400_0003, 1, 6, 0xD65F_03C0],
        // bti c; sub sp, sp, #16; str x0, [sp, #8]; ldr x9, [sp, #8]; movn w10, #0; add w10, w10, #2; str w10, [x9], #4;
        // mov w11, #6; str w11, [x9], #4; str wzr, [x9]; add sp, sp, #16; ret
        &[
            0xD503_245F,
            0xD100_43FF,
            0xF900_07E0,
            0xF940_07E9,
            0x1280_000A,
            0x1100_094A,
            0xB800_452A,
            0x5280_00CB,
            0xB800_452B,
            0xB900_013F,
            0x9100_43FF,
            0xD65F_03C0,
        ],
    ];
    for (x64, arm64) in x64.into_iter().zip(arm64) {
        for (patched, code) in with_code(x64, arm64).into_iter().zip([x64.to_vec(), words(arm64)]) {
            let image = described(patched);
            let told = image.tables_unknown.clone();
            assert_eq!(image.tables.map(|t| t.version), Some([1, 6, 0]), "{told:?} {code:x?}");
        }
    }
}

#[test]
fn any_code_is_looked_at_without_harm() {
    let mut state = 99u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 32
    };
    for _ in 0..2_000 {
        // Mostly instructions that are followed, with other operands.
        let x64 = [0x48, [0x89, 0x8B, 0x8D, 0x01, 0x31, 0x58][next() as usize % 6]];
        let x64: Vec<u8> = x64.into_iter().chain((0..14).map(|_| next() as u8)).collect();
        let base = [
            0xD280_0000,
            0xF900_0000,
            0xF940_0000,
            0xA980_0000,
            0x9000_0000,
            0x9100_0000,
            0x5800_0000,
            0xF800_0000,
        ];
        let arm64: Vec<u32> = (0..4)
            .map(|_| base[next() as usize % 8] | next() as u32 & 0x007F_FFFF)
            .collect();
        for patched in with_code(&x64, &arm64) {
            let image = described(patched);
            assert_eq!(
                image.tables.is_none(),
                image.tables_unknown.is_some() || !image.problems.is_empty()
            );
        }
    }
}
