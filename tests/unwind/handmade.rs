//! An object with functions of the shapes that a compiler emits, and their unwind data.

use bpf2sys_pe_emit::{
    FunctionRange, Import, Machine, NativeObject, Purpose, Relocation, RelocationKind, Section, SectionIndex,
    SectionKind, Symbol, SymbolIndex, SymbolPlace, UnwindCodeX64, UnwindInfo, UnwindOpX64,
};

/// Frame pointer, two registers saved by stores, a branch around a call, the address of a local.
#[rustfmt::skip]
pub const SAVES: &[u8] = &[
    0x55,                                           // 00 push rbp
    0x48, 0x89, 0xE5,                               // 01 mov rbp, rsp
    0x48, 0x83, 0xEC, 0x40,                         // 04 sub rsp, 40h
    0x48, 0x89, 0x5C, 0x24, 0x20,                   // 08 mov [rsp + 20h], rbx
    0x48, 0x89, 0x7C, 0x24, 0x28,                   // 0D mov [rsp + 28h], rdi
    0x48, 0x89, 0xCB,                               // 12 mov rbx, rcx
    0x48, 0x89, 0xD7,                               // 15 mov rdi, rdx
    0xFF, 0x15, 0, 0, 0, 0,                         // 18 call [import]
    0x85, 0xC0,                                     // 1E test eax, eax
    0x74, 0x10,                                     // 20 je 32h
    0x48, 0x8D, 0x4C, 0x24, 0x30,                   // 22 lea rcx, [rsp + 30h]
    0x48, 0x89, 0x01,                               // 27 mov [rcx], rax
    0xE8, 0, 0, 0, 0,                               // 2A call pushes
    0x48, 0x01, 0xFB,                               // 2F add rbx, rdi
    0x48, 0x89, 0xD8,                               // 32 mov rax, rbx
    0x48, 0x8B, 0x5C, 0x24, 0x20,                   // 35 mov rbx, [rsp + 20h]
    0x48, 0x8B, 0x7C, 0x24, 0x28,                   // 3A mov rdi, [rsp + 28h]
    0x0F, 0x1F, 0x00,                               // 3F nop
    0x48, 0x83, 0xC4, 0x40,                         // 42 add rsp, 40h
    0x5D,                                           // 46 pop rbp
    0xC3,                                           // 47 ret
];

/// Three pushes, a loop, two epilogues.
#[rustfmt::skip]
pub const PUSHES: &[u8] = &[
    0x53,                                           // 00 push rbx
    0x56,                                           // 01 push rsi
    0x41, 0x54,                                     // 02 push r12
    0x48, 0x83, 0xEC, 0x20,                         // 04 sub rsp, 20h
    0x48, 0x85, 0xC9,                               // 08 test rcx, rcx
    0x74, 0x22,                                     // 0B je 2Fh
    0x48, 0x89, 0xCB,                               // 0D mov rbx, rcx
    0x45, 0x31, 0xE4,                               // 10 xor r12d, r12d
    0x49, 0xFF, 0xC4,                               // 13 inc r12
    0xF0, 0x4C, 0x0F, 0xC1, 0x22,                   // 16 lock xadd [rdx], r12
    0x48, 0xFF, 0xCB,                               // 1B dec rbx
    0x75, 0xF3,                                     // 1E jne 13h
    0x4C, 0x89, 0xE6,                               // 20 mov rsi, r12
    0x48, 0x89, 0xF0,                               // 23 mov rax, rsi
    0x48, 0x83, 0xC4, 0x20,                         // 26 add rsp, 20h
    0x41, 0x5C,                                     // 2A pop r12
    0x5E,                                           // 2C pop rsi
    0x5B,                                           // 2D pop rbx
    0xC3,                                           // 2E ret
    0x31, 0xC0,                                     // 2F xor eax, eax
    0x48, 0x83, 0xC4, 0x20,                         // 31 add rsp, 20h
    0x41, 0x5C,                                     // 35 pop r12
    0x5E,                                           // 37 pop rsi
    0x5B,                                           // 38 pop rbx
    0xC3,                                           // 39 ret
];

/// A frame that needs 32-bit offsets, and a jump to another function at the end.
#[rustfmt::skip]
pub const LARGE: &[u8] = &[
    0x48, 0x81, 0xEC, 0x98, 0x02, 0, 0,             // 00 sub rsp, 298h
    0x4C, 0x89, 0xBC, 0x24, 0x90, 0x02, 0, 0,       // 07 mov [rsp + 290h], r15
    0x49, 0x89, 0xCF,                               // 0F mov r15, rcx
    0x49, 0x89, 0xE1,                               // 12 mov r9, rsp
    0x41, 0xC6, 0x41, 0x48, 0x07,                   // 15 mov byte [r9 + 48h], 7
    0xE8, 0, 0, 0, 0,                               // 1A call leaf
    0x4C, 0x89, 0xF9,                               // 1F mov rcx, r15
    0x4C, 0x8B, 0xBC, 0x24, 0x90, 0x02, 0, 0,       // 22 mov r15, [rsp + 290h]
    0x48, 0x81, 0xC4, 0x98, 0x02, 0, 0,             // 2A add rsp, 298h
    0xE9, 0, 0, 0, 0,                               // 31 jmp constant
];

/// Two functions without frame: one with a loop, one without.
#[rustfmt::skip]
pub const LEAVES: &[u8] = &[
    0x48, 0x89, 0xC8,                               // 00 leaf: mov rax, rcx
    0x48, 0x83, 0xC0, 0x03,                         // 03 add rax, 3
    0x48, 0xFF, 0xCA,                               // 07 dec rdx
    0x75, 0xF7,                                     // 0A jne 3
    0xC3,                                           // 0C ret
    0x90,                                           // 0D nop
    0xB8, 0x01, 0x00, 0x00, 0x00,                   // 0E constant: mov eax, 1
    0xC3,                                           // 13 ret
];

/// Instructions in all of them, padding left out.
pub const INSTRUCTIONS: usize = 21 + 25 + 10 + 5 + 2;

/// Where the functions are in `.text`: multiples of 16, `int3` in between.
const PLACES: [(u32, &[u8]); 4] = [(0x00, SAVES), (0x50, PUSHES), (0x90, LARGE), (0xD0, LEAVES)];

fn code(offset: u8, op: UnwindOpX64) -> UnwindCodeX64 {
    UnwindCodeX64 { offset, op }
}

/// The object. Its first three functions are framed, in the order above; its symbols are the functions in that order and
/// the import.
pub fn object() -> NativeObject {
    use UnwindOpX64::{Alloc, PushNonvol, SaveNonvol};
    let mut text = Vec::new();
    for (place, bytes) in PLACES {
        text.resize(place as usize, 0xCC);
        text.extend_from_slice(bytes);
    }
    let call = |offset, symbol| Relocation {
        offset,
        kind: RelocationKind::Relative32,
        symbol: SymbolIndex(symbol),
        addend: -4,
    };
    let section = |name: &str, kind, data, relocations| Section {
        name: name.into(),
        kind,
        align: 16,
        data,
        relocations,
    };
    let symbol = |name: &str, offset| Symbol {
        name: name.into(),
        place: SymbolPlace::Section {
            section: SectionIndex(0),
            offset,
        },
    };
    let framed = [
        (
            8 + 5 + 5,
            vec![
                code(
                    0x12,
                    SaveNonvol {
                        register: 7,
                        offset: 0x28,
                    },
                ),
                code(
                    0x0D,
                    SaveNonvol {
                        register: 3,
                        offset: 0x20,
                    },
                ),
                code(0x08, Alloc(0x40)),
                code(0x01, PushNonvol(5)),
            ],
        ),
        (
            8,
            vec![
                code(0x08, Alloc(0x20)),
                code(0x04, PushNonvol(12)),
                code(0x02, PushNonvol(6)),
                code(0x01, PushNonvol(3)),
            ],
        ),
        (
            15,
            vec![
                code(
                    0x0F,
                    SaveNonvol {
                        register: 15,
                        offset: 0x290,
                    },
                ),
                code(0x07, Alloc(0x298)),
            ],
        ),
    ];
    let function = |offset, size, unwind| FunctionRange {
        section: SectionIndex(0),
        offset,
        size,
        unwind,
    };
    let framed = PLACES
        .iter()
        .zip(framed)
        .map(|((offset, bytes), (prologue_size, codes))| {
            function(*offset, bytes.len() as u32, UnwindInfo::X64 { prologue_size, codes })
        });
    let leaves = [
        function(0xD0, 0x0D, UnwindInfo::Leaf),
        function(0xDE, 6, UnwindInfo::Leaf),
    ];
    NativeObject {
        machine: Machine::X64,
        functions: framed.chain(leaves).collect(),
        sections: vec![
            section(
                ".text",
                SectionKind::Code,
                text,
                vec![call(0x1A, 5), call(0x2B, 1), call(0x90 + 0x1B, 3), call(0x90 + 0x32, 4)],
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
        symbols: vec![
            symbol("saves", 0x00),
            symbol("pushes", 0x50),
            symbol("large", 0x90),
            symbol("leaf", 0xD0),
            symbol("constant", 0xDE),
            Symbol {
                name: "import".into(),
                place: SymbolPlace::ImportSlot { index: 0 },
            },
        ],
        imports: vec![Import {
            module: "ntoskrnl.exe".into(),
            function: "RtlQueryRegistryValues".into(),
        }],
        purpose: Purpose::Driver { entry: SymbolIndex(0) },
        load_config: None,
        shadow_stack: false,
    }
}
