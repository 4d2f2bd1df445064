//! An ARM64 object with functions of the shapes that a compiler emits, and their unwind data.

use bpf2sys_pe_emit::{
    FunctionRange, Import, Machine, NativeObject, Purpose, Relocation, RelocationKind, Section, SectionIndex,
    SectionKind, Symbol, SymbolIndex, SymbolPlace, UnwindInfo,
};

/// A signed return address, a pair and a single register saved, two epilogues, a call.
#[rustfmt::skip]
pub const SAVES: &[u32] = &[
    0xD503_237F, // 00 pacibsp
    0xA9BF_7BFD, // 04 stp fp, lr, [sp, #-16]!
    0x9100_03FD, // 08 mov fp, sp
    0xF81F_0FF5, // 0C str x21, [sp, #-16]!
    0xA9BF_53F3, // 10 stp x19, x20, [sp, #-16]!
    0xD100_83FF, // 14 sub sp, sp, #32
    0xAA00_03F3, // 18 mov x19, x0
    0xAA01_03F4, // 1C mov x20, x1
    0xAA02_03F5, // 20 mov x21, x2
    0xF900_07E3, // 24 str x3, [sp, #8]
    0x9400_0000, // 28 bl large
    0xB400_00F3, // 2C cbz x19, 48
    0x9100_83FF, // 30 add sp, sp, #32
    0xA8C1_53F3, // 34 ldp x19, x20, [sp], #16
    0xF841_07F5, // 38 ldr x21, [sp], #16
    0xA8C1_7BFD, // 3C ldp fp, lr, [sp], #16
    0xD503_23FF, // 40 autibsp
    0xD65F_03C0, // 44 ret
    0x8B15_0280, // 48 add x0, x20, x21
    0x9100_83FF, // 4C add sp, sp, #32
    0xA8C1_53F3, // 50 ldp x19, x20, [sp], #16
    0xF841_07F5, // 54 ldr x21, [sp], #16
    0xA8C1_7BFD, // 58 ldp fp, lr, [sp], #16
    0xD503_23FF, // 5C autibsp
    0xD65F_03C0, // 60 ret
];

/// A frame of a size that needs a register, and one of whole pages.
#[rustfmt::skip]
pub const LARGE: &[u32] = &[
    0xA9BF_7BFD, // 00 stp fp, lr, [sp, #-16]!
    0x9100_03FD, // 04 mov fp, sp
    0xD282_0210, // 08 mov x16, #0x1010
    0xCB30_63FF, // 0C sub sp, sp, x16
    0xF900_03E0, // 10 str x0, [sp]
    0x9400_0000, // 14 bl pages
    0xD282_0210, // 18 mov x16, #0x1010
    0x8B30_63FF, // 1C add sp, sp, x16
    0xA8C1_7BFD, // 20 ldp fp, lr, [sp], #16
    0xD65F_03C0, // 24 ret
];

#[rustfmt::skip]
pub const PAGES: &[u32] = &[
    0xA9BF_7BFD, // 00 stp fp, lr, [sp, #-16]!
    0x9100_03FD, // 04 mov fp, sp
    0xD140_07FF, // 08 sub sp, sp, #1, lsl #12
    0x9400_0000, // 0C bl leaf
    0x9140_07FF, // 10 add sp, sp, #1, lsl #12
    0xA8C1_7BFD, // 14 ldp fp, lr, [sp], #16
    0xD65F_03C0, // 18 ret
];

/// A function without frame.
#[rustfmt::skip]
pub const LEAF: &[u32] = &[
    0x8B01_0000, // 00 add x0, x0, x1
    0xD65F_03C0, // 04 ret
];

/// Instructions in all of them.
pub const INSTRUCTIONS: usize = SAVES.len() + LARGE.len() + PAGES.len() + LEAF.len();

/// Where the functions are in `.text`: multiples of 16, `udf #0` in between.
const PLACES: [(u32, &[u32]); 4] = [(0x00, SAVES), (0x70, LARGE), (0xA0, PAGES), (0xC0, LEAF)];

/// The codes of [`SAVES`]: its prologue, and both epilogues.
#[rustfmt::skip]
pub const SAVES_CODES: &[u8] = &[
    0x02,       // 0 alloc_s 32
    0xCC, 0x01, // 1 save_regp_x x19, 16
    0xD4, 0x41, // 3 save_reg_x x21, 16
    0xE1,       // 5 set_fp
    0x81,       // 6 save_fplr_x 16
    0xFC,       // 7 pac_sign_lr
    0xE4,       // 8 end
    0x02, 0xCC, 0x01, 0xD4, 0x41, 0x81, 0xFC, 0xE4, // 9
];

/// The object. Its first three functions are framed, in the order above; its symbols are all functions in that order.
pub fn object() -> NativeObject {
    let mut text = Vec::new();
    for (place, words) in PLACES {
        text.resize(place as usize, 0);
        text.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    let call = |offset, symbol| Relocation {
        offset,
        kind: RelocationKind::Arm64Branch26,
        symbol: SymbolIndex(symbol),
        addend: 0,
    };
    let section = |name: &str, kind, data, relocations| Section {
        name: name.into(),
        kind,
        align: 16,
        data,
        relocations,
    };
    let symbol = |(name, offset): (&str, u32)| Symbol {
        name: name.into(),
        place: SymbolPlace::Section {
            section: SectionIndex(0),
            offset,
        },
    };
    let unwind = [
        UnwindInfo::Arm64 {
            codes: SAVES_CODES.to_vec(),
            epilogs: vec![(0x30, 9), (0x4C, 9)],
        },
        UnwindInfo::Arm64 {
            // alloc_m 0x1010, nop, set_fp, save_fplr_x, end; nop, alloc_m, save_fplr_x, end
            codes: vec![0xC1, 0x01, 0xE3, 0xE1, 0x81, 0xE4, 0xE3, 0xC1, 0x01, 0x81, 0xE4],
            epilogs: vec![(0x18, 6)],
        },
        UnwindInfo::Arm64 {
            // alloc_m 0x1000, set_fp, save_fplr_x, end; alloc_m, save_fplr_x, end
            codes: vec![0xC1, 0x00, 0xE1, 0x81, 0xE4, 0xC1, 0x00, 0x81, 0xE4],
            epilogs: vec![(0x10, 5)],
        },
        UnwindInfo::Leaf,
    ];
    let function = |((offset, words), unwind): ((u32, &[u32]), UnwindInfo)| FunctionRange {
        section: SectionIndex(0),
        offset,
        size: 4 * words.len() as u32,
        unwind,
    };
    NativeObject {
        machine: Machine::Arm64,
        functions: PLACES.into_iter().zip(unwind).map(function).collect(),
        sections: vec![
            section(
                ".text",
                SectionKind::Code,
                text,
                vec![call(0x28, 1), call(0x70 + 0x14, 2), call(0xA0 + 0x0C, 3)],
            ),
            section(".rdata", SectionKind::ReadOnlyData, b"handmade\0".to_vec(), vec![]),
            section(
                ".data",
                SectionKind::Data,
                vec![0; 16],
                vec![Relocation {
                    offset: 8,
                    kind: RelocationKind::Absolute64,
                    symbol: SymbolIndex(0),
                    addend: 0,
                }],
            ),
        ],
        symbols: [("saves", 0x00), ("large", 0x70), ("pages", 0xA0), ("leaf", 0xC0)]
            .map(symbol)
            .into(),
        imports: vec![Import {
            module: "ntoskrnl.exe".into(),
            function: "RtlQueryRegistryValues".into(),
        }],
        purpose: Purpose::Driver { entry: SymbolIndex(0) },
        load_config: None,
        shadow_stack: false,
    }
}
