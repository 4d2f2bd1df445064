//! Objects that tests link.

use crate::native_object::{
    FunctionRange, Import, Machine, NativeObject, Purpose, Relocation, RelocationKind, Section, SectionIndex,
    SectionKind, Symbol, SymbolIndex, SymbolPlace, UnwindCodeX64, UnwindInfo, UnwindOpX64,
};

pub(crate) fn section(name: &str, kind: SectionKind, data: &[u8], relocations: Vec<Relocation>) -> Section {
    Section {
        name: name.into(),
        kind,
        align: 16,
        data: data.to_vec(),
        relocations,
    }
}

pub(crate) fn relocation(offset: u32, kind: RelocationKind, symbol: u32, addend: i64) -> Relocation {
    Relocation {
        offset,
        kind,
        symbol: SymbolIndex(symbol),
        addend,
    }
}

pub(crate) fn place(name: &str, section: u32, offset: u32) -> Symbol {
    Symbol {
        name: name.into(),
        place: SymbolPlace::Section {
            section: SectionIndex(section),
            offset,
        },
    }
}

pub(crate) fn import(module: &str, function: &str) -> Import {
    Import {
        module: module.into(),
        function: function.into(),
    }
}

#[rustfmt::skip]
const DRIVER_ENTRY: [u8; 41] = [
    0x55,                                     // 0  push rbp
    0x48, 0x89, 0xE5,                         // 1  mov rbp, rsp
    0x48, 0x83, 0xEC, 0x30,                   // 4  sub rsp, 0x30
    0x48, 0x89, 0x74, 0x24, 0x20,             // 8  mov [rsp + 0x20], rsi
    0x48, 0x8D, 0x0D, 0, 0, 0, 0,             // 13 lea rcx, [handle]
    0xFF, 0x15, 0, 0, 0, 0,                   // 20 call [NmrRegisterClient]
    0x48, 0x8B, 0x74, 0x24, 0x20,             // 26 mov rsi, [rsp + 0x20]
    0x48, 0x83, 0xC4, 0x30,                   // 31 add rsp, 0x30
    0x5D, 0xC3,                               // 35 pop rbp; ret
    0x31, 0xC0, 0xC3,                         // 37 xor eax, eax; ret   (a leaf function)
    0xCC,
];

/// A small driver: a framed and a leaf function in `.text`, another framed one in `xdp`, constants, variables, and a table
/// of 80 bytes with two addresses. Symbols 0 to 5: entry, leaf, handle, name, slot of `NmrRegisterClient`, program.
pub(crate) fn driver() -> NativeObject {
    use RelocationKind::{Absolute64, Relative32};
    let frame = UnwindInfo::X64 {
        prologue_size: 13,
        codes: vec![
            UnwindCodeX64 {
                offset: 13,
                op: UnwindOpX64::SaveNonvol {
                    register: 6,
                    offset: 0x20,
                },
            },
            UnwindCodeX64 {
                offset: 8,
                op: UnwindOpX64::Alloc(0x30),
            },
            UnwindCodeX64 {
                offset: 1,
                op: UnwindOpX64::PushNonvol(5),
            },
        ],
    };
    let function = |section, offset, size, unwind: &UnwindInfo| FunctionRange {
        section: SectionIndex(section),
        offset,
        size,
        unwind: unwind.clone(),
    };
    NativeObject {
        machine: Machine::X64,
        sections: vec![
            section(
                ".text",
                SectionKind::Code,
                &DRIVER_ENTRY,
                vec![relocation(16, Relative32, 2, -4), relocation(22, Relative32, 4, -4)],
            ),
            section(".rdata", SectionKind::ReadOnlyData, b"ports\0xdp\0", vec![]),
            section(".data", SectionKind::Data, &[0; 24], vec![]),
            section(
                "maps",
                SectionKind::Data,
                &[0; 80],
                vec![relocation(72, Absolute64, 3, 0), relocation(48, Absolute64, 5, 0)],
            ),
            section(
                "xdp",
                SectionKind::Code,
                &DRIVER_ENTRY[..37],
                vec![relocation(16, Relative32, 2, 4), relocation(22, Relative32, 4, -4)],
            ),
        ],
        symbols: vec![
            place("DriverEntry", 0, 0),
            place("leaf", 0, 37),
            place("handle", 2, 8),
            place("name", 1, 6),
            Symbol {
                name: "__imp_NmrRegisterClient".into(),
                place: SymbolPlace::ImportSlot { index: 1 },
            },
            place("program", 4, 0),
        ],
        functions: vec![
            function(0, 0, 37, &frame),
            function(0, 37, 3, &UnwindInfo::Leaf),
            function(4, 0, 37, &frame),
        ],
        imports: vec![
            import("ntoskrnl.exe", "RtlQueryRegistryValues"),
            import("NETIO.SYS", "NmrRegisterClient"),
            import("netio.sys", "NmrDeregisterClient"),
            import("ntoskrnl.exe", "memset"),
        ],
        purpose: Purpose::Driver { entry: SymbolIndex(0) },
        load_config: None,
        shadow_stack: false,
    }
}

/// `stp fp, lr, [sp, #-16]!; adrp; add; bl leaf; ldp fp, lr, [sp], #16; ret; leaf: b .-24; ldr`
pub(crate) fn arm64() -> NativeObject {
    use RelocationKind::{Arm64Branch26, Arm64LoadOffset12, Arm64Page21, Arm64PageOffset12};
    let words: [u32; 8] = [
        0xA9BF_7BFD,
        0x9000_0000,
        0x9100_0000,
        0x9400_0000,
        0xA8C1_7BFD,
        0xD65F_03C0,
        0x1400_0000,
        0xF940_0000,
    ];
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    NativeObject {
        machine: Machine::Arm64,
        sections: vec![
            section(
                ".text",
                SectionKind::Code,
                &code,
                vec![
                    relocation(4, Arm64Page21, 1, 8),
                    relocation(8, Arm64PageOffset12, 1, 8),
                    relocation(12, Arm64Branch26, 2, 0),
                    relocation(24, Arm64Branch26, 0, 0),
                    relocation(28, Arm64LoadOffset12, 1, 8),
                ],
            ),
            section(".data", SectionKind::Data, &[0; 16], vec![]),
        ],
        symbols: vec![place("DriverEntry", 0, 0), place("data", 1, 0), place("leaf", 0, 24)],
        functions: vec![FunctionRange {
            section: SectionIndex(0),
            offset: 0,
            size: 24,
            unwind: UnwindInfo::Arm64 {
                codes: vec![0x81, 0xE4],
                epilogs: vec![(16, 0)],
            },
        }],
        imports: vec![],
        purpose: Purpose::Driver { entry: SymbolIndex(0) },
        load_config: None,
        shadow_stack: false,
    }
}
