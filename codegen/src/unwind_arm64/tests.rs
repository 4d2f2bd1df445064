//! Forms of prologues and epilogues, as words.

use bpf2sys_pe_emit::UnwindInfo;

use super::{FrameArm64, describe};
use crate::instruction_arm64::decode;

fn described(words: &[u32]) -> Result<FrameArm64, String> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    describe(&decode(&bytes)?)
}

const SIGN: u32 = 0xD503_237F; // pacibsp
const SAVE_FRAME: u32 = 0xA9BF_7BFD; // stp fp, lr, [sp, #-16]!
const SET_FRAME: u32 = 0x9100_03FD; // mov fp, sp
const SAVE_21: u32 = 0xF81F_0FF5; // str x21, [sp, #-16]!
const SAVE_19_20: u32 = 0xA9BF_53F3; // stp x19, x20, [sp, #-16]!
const SAVE_27_28: u32 = 0xA9BF_73FB; // stp x27, x28, [sp, #-16]!
const TAKE_32: u32 = 0xD100_83FF; // sub sp, sp, #32
const TAKE_512: u32 = 0xD108_03FF; // sub sp, sp, #512
const TAKE_PAGE: u32 = 0xD140_07FF; // sub sp, sp, #1, lsl #12
const CONSTANT: u32 = 0xD282_0210; // mov x16, #4112
const TAKE_CONSTANT: u32 = 0xCB30_63FF; // sub sp, sp, x16
const GIVE_CONSTANT: u32 = 0x8B30_63FF; // add sp, sp, x16
const GIVE_32: u32 = 0x9100_83FF; // add sp, sp, #32
const GIVE_512: u32 = 0x9108_03FF; // add sp, sp, #512
const GIVE_PAGE: u32 = 0x9140_07FF; // add sp, sp, #1, lsl #12
const RESTORE_27_28: u32 = 0xA8C1_73FB; // ldp x27, x28, [sp], #16
const RESTORE_19_20: u32 = 0xA8C1_53F3; // ldp x19, x20, [sp], #16
const RESTORE_21: u32 = 0xF841_07F5; // ldr x21, [sp], #16
const RESTORE_FRAME: u32 = 0xA8C1_7BFD; // ldp fp, lr, [sp], #16
const AUTHENTICATE: u32 = 0xD503_23FF; // autibsp
const RET: u32 = 0xD65F_03C0;
const ZERO: u32 = 0xD280_0000; // mov x0, #0

/// What it is, code, bytes of stack, unwind codes, epilogues.
type Case<'a> = (&'a str, &'a [u32], u32, &'a [u8], &'a [(u32, u16)]);

#[test]
fn each_prologue_form_has_its_codes() {
    let cases: [Case<'_>; 6] = [
        (
            "frame only: the epilogue shares the end of the prologue's codes",
            &[SAVE_FRAME, SET_FRAME, ZERO, RESTORE_FRAME, RET],
            16,
            &[0xE1, 0x81, 0xE4],
            &[(12, 1)],
        ),
        (
            "signed",
            &[SIGN, SAVE_FRAME, SET_FRAME, ZERO, RESTORE_FRAME, AUTHENTICATE, RET],
            16,
            &[0xE1, 0x81, 0xFC, 0xE4],
            &[(16, 1)],
        ),
        (
            "saves",
            &[
                SAVE_FRAME,
                SET_FRAME,
                SAVE_21,
                SAVE_27_28,
                SAVE_19_20,
                TAKE_32,
                ZERO,
                GIVE_32,
                RESTORE_19_20,
                RESTORE_27_28,
                RESTORE_21,
                RESTORE_FRAME,
                RET,
            ],
            16 + 3 * 16 + 32,
            &[
                0x02, 0xCC, 0x01, 0xCE, 0x01, 0xD4, 0x41, 0xE1, 0x81, 0xE4, 0x02, 0xCC, 0x01, 0xCE, 0x01, 0xD4, 0x41,
                0x81, 0xE4,
            ],
            &[(28, 10)],
        ),
        (
            "alloc_m",
            &[SAVE_FRAME, SET_FRAME, TAKE_512, ZERO, GIVE_512, RESTORE_FRAME, RET],
            16 + 512,
            &[0xC0, 0x20, 0xE1, 0x81, 0xE4, 0xC0, 0x20, 0x81, 0xE4],
            &[(16, 5)],
        ),
        (
            "pages",
            &[SAVE_FRAME, SET_FRAME, TAKE_PAGE, ZERO, GIVE_PAGE, RESTORE_FRAME, RET],
            16 + 4096,
            &[0xC1, 0x00, 0xE1, 0x81, 0xE4, 0xC1, 0x00, 0x81, 0xE4],
            &[(16, 5)],
        ),
        (
            "a size in a register",
            &[
                SAVE_FRAME,
                SET_FRAME,
                CONSTANT,
                TAKE_CONSTANT,
                ZERO,
                CONSTANT,
                GIVE_CONSTANT,
                RESTORE_FRAME,
                RET,
            ],
            16 + 4112,
            &[0xC1, 0x01, 0xE3, 0xE1, 0x81, 0xE4, 0xE3, 0xC1, 0x01, 0x81, 0xE4],
            &[(20, 6)],
        ),
    ];
    for (name, code, bytes, codes, epilogs) in cases {
        let found = described(code).unwrap();
        let expected = UnwindInfo::Arm64 {
            codes: codes.to_vec(),
            epilogs: epilogs.to_vec(),
        };
        assert_eq!((found.unwind, found.bytes), (expected, bytes), "{name}");
    }
}

#[test]
fn every_return_is_an_epilogue() {
    let code = [
        SAVE_FRAME,
        SET_FRAME,
        SAVE_21,
        0xB400_0080, /* cbz x0, #16 */
        RESTORE_21,
        RESTORE_FRAME,
        RET,
        ZERO,
        RESTORE_21,
        RESTORE_FRAME,
        RET,
    ];
    let UnwindInfo::Arm64 { epilogs, .. } = described(&code).unwrap().unwind else {
        panic!("another machine")
    };
    assert_eq!(epilogs, [(16, 5), (32, 5)]);
}

#[test]
fn large_allocations_count_in_24_bits() {
    // sub sp, sp, #8, lsl #12
    let code = [SAVE_FRAME, SET_FRAME, 0xD140_23FF, 0x9140_23FF, RESTORE_FRAME, RET];
    let UnwindInfo::Arm64 { codes, .. } = described(&code).unwrap().unwind else {
        panic!("another machine")
    };
    assert_eq!(codes[..4], [0xE0, 0x00, 0x08, 0x00]);
}

#[test]
fn refuses_what_unwind_data_could_not_describe() {
    let good = [
        SAVE_FRAME,
        SET_FRAME,
        SAVE_21,
        TAKE_32,
        ZERO,
        GIVE_32,
        RESTORE_21,
        RESTORE_FRAME,
        RET,
    ];
    described(&good).unwrap();
    let changed = [
        ("no frame", 0, ZERO),
        ("no frame pointer", 1, ZERO),
        ("an odd size", 3, 0xD100_63FF),             // sub sp, sp, #24
        ("a pair of no neighbours", 2, 0xA9BF_63F3), // stp x19, x24, [sp, #-16]!
        ("a save of fp", 2, 0xF81F_0FFD),            // str fp, [sp, #-16]!
        ("another allocation than is given back", 3, TAKE_512),
        ("another register than is restored", 2, 0xF81F_0FF6), // str x22, [sp, #-16]!
        ("a change of sp", 4, TAKE_32),
        ("a change of sp to a register", 4, 0x9100_001F), // mov sp, x0
        ("a push", 4, 0xF81F_0FF6),                       // str x22, [sp, #-16]!
        ("a change of fp", 4, 0xAA00_03FD),               // mov fp, x0
        ("a change of lr", 4, 0xAA00_03FE),               // mov lr, x0
        ("an unsaved register", 4, 0xAA00_03F3),          // mov x19, x0
        ("an access below sp", 4, 0xF81F_83E0),           // stur x0, [sp, #-8]
        ("authentication of what is not signed", 4, AUTHENTICATE),
        ("a jump into the epilogue", 4, 0xB400_0040),   // cbz x0, #8
        ("a jump into the prologue", 4, 0xB4FF_FFC0),   // cbz x0, #-8
        ("a jump out of the function", 4, 0x1400_0009), // b #36
        ("a return without epilogue", 4, RET),
        ("no return", 8, ZERO),
    ];
    for (name, position, word) in changed {
        let mut code = good;
        code[position] = word;
        assert!(described(&code).is_err(), "{name}");
    }
    // A pair whose second register is not the one that is restored.
    let pair = [
        SAVE_FRAME,
        SET_FRAME,
        SAVE_19_20,
        ZERO,
        RESTORE_19_20,
        RESTORE_FRAME,
        RET,
    ];
    described(&pair).unwrap();
    let mut pair = pair;
    pair[2] = 0xA9BF_63F3; // stp x19, x24, [sp, #-16]!
    assert!(described(&pair).is_err());
    assert!(described(&[]).is_err());
    assert!(described(&[SAVE_FRAME, SET_FRAME]).is_err());
    assert!(
        described(&[SIGN, SAVE_FRAME, SET_FRAME, ZERO, RESTORE_FRAME, RET]).is_err(),
        "unauthenticated"
    );
}
