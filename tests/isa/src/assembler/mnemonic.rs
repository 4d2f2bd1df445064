//! The suite's mnemonics with the opcodes of RFC 9669.

/// How an instruction is written and encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `add DST, SRC`: a register or an immediate.
    Binary { opcode: u8, offset: i16 },
    /// `neg DST`
    Unary { opcode: u8, imm: i32 },
    /// `jeq DST, SRC, TARGET`
    Branch { opcode: u8 },
    /// `ja TARGET`
    Jump { opcode: u8, in_immediate: bool },
    /// `ldxw DST, ADDRESS`
    Load { opcode: u8 },
    /// `stw ADDRESS, IMMEDIATE`
    StoreImmediate { opcode: u8 },
    /// `stxw ADDRESS, REGISTER`
    StoreRegister { opcode: u8 },
    /// `lock …`
    Lock,
    /// `lddw …`
    LoadImmediate64,
    /// `call …`
    Call,
    /// `exit`
    Exit { opcode: u8 },
}

// Classes (§3.2).
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const ALU: u8 = 4;
const JMP: u8 = 5;
const JMP32: u8 = 6;
const ALU64: u8 = 7;

// Modes (§5).
const MEM: u8 = 0x60;
const MEMSX: u8 = 0x80;

/// Code and offset of the operations with two operands (§4.1).
const ARITHMETIC: [(&str, u8, i16); 14] = [
    ("add", 0x00, 0),
    ("sub", 0x10, 0),
    ("mul", 0x20, 0),
    ("div", 0x30, 0),
    ("sdiv", 0x30, 1),
    ("or", 0x40, 0),
    ("and", 0x50, 0),
    ("lsh", 0x60, 0),
    ("rsh", 0x70, 0),
    ("mod", 0x90, 0),
    ("smod", 0x90, 1),
    ("xor", 0xA0, 0),
    ("mov", 0xB0, 0),
    ("arsh", 0xC0, 0),
];

/// Class and offset of the moves with sign extension: `movsx`, the bits of the source, the bits of the result (§4.1).
const SIGN_EXTENDING: [(&str, u8, i16); 5] = [
    ("movsx832", ALU, 8),
    ("movsx1632", ALU, 16),
    ("movsx864", ALU64, 8),
    ("movsx1664", ALU64, 16),
    ("movsx3264", ALU64, 32),
];

/// Code of the conditional jumps (§4.3).
const CONDITIONS: [(&str, u8); 11] = [
    ("jeq", 0x10),
    ("jgt", 0x20),
    ("jge", 0x30),
    ("jset", 0x40),
    ("jne", 0x50),
    ("jsgt", 0x60),
    ("jsge", 0x70),
    ("jlt", 0xA0),
    ("jle", 0xB0),
    ("jslt", 0xC0),
    ("jsle", 0xD0),
];

/// Opcodes of the byte swaps (§4.2). The suite has two names for the unconditional one.
const BYTE_SWAPS: [(&str, u8); 4] = [("le", 0xD4), ("be", 0xDC), ("swap", 0xD7), ("bswap", 0xD7)];

/// Sizes of memory accesses (§5).
const SIZES: [(&str, u8); 4] = [("w", 0x00), ("h", 0x08), ("b", 0x10), ("dw", 0x18)];

/// Immediates of the atomic operations, without FETCH but where it is always set (§5.3).
const ATOMICS: [(&str, i32); 6] = [
    ("add", 0x00),
    ("or", 0x40),
    ("and", 0x50),
    ("xor", 0xA0),
    ("xchg", 0xE1),
    ("cmpxchg", 0xF1),
];

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

/// The immediate of the atomic operation with this name, less its width.
pub(super) fn atomic(name: &str) -> Option<i32> {
    find(&ATOMICS, name)
}

/// What a mnemonic means.
pub(super) fn form(name: &str) -> Option<Form> {
    Some(match name {
        "lock" => Form::Lock,
        "lddw" => Form::LoadImmediate64,
        "call" => Form::Call,
        "exit" => Form::Exit { opcode: JMP | 0x90 },
        "ja" => Form::Jump {
            opcode: JMP,
            in_immediate: false,
        },
        "ja32" => Form::Jump {
            opcode: JMP32,
            in_immediate: true,
        },
        _ => {
            return sign_extending(name)
                .or_else(|| memory(name))
                .or_else(|| byte_swap(name))
                .or_else(|| operation(name));
        }
    })
}

fn sign_extending(name: &str) -> Option<Form> {
    let (_, class, offset) = *SIGN_EXTENDING.iter().find(|(n, ..)| *n == name)?;
    Some(Form::Binary {
        opcode: class | 0xB0,
        offset,
    })
}

fn memory(name: &str) -> Option<Form> {
    if let Some(size) = name.strip_prefix("ldxs").and_then(|size| find(&SIZES[..3], size)) {
        return Some(Form::Load {
            opcode: LDX | MEMSX | size,
        });
    }
    if let Some(size) = name.strip_prefix("ldx").and_then(|size| find(&SIZES, size)) {
        return Some(Form::Load {
            opcode: LDX | MEM | size,
        });
    }
    if let Some(size) = name.strip_prefix("stx").and_then(|size| find(&SIZES, size)) {
        return Some(Form::StoreRegister {
            opcode: STX | MEM | size,
        });
    }
    let size = name.strip_prefix("st").and_then(|size| find(&SIZES, size))?;
    Some(Form::StoreImmediate {
        opcode: ST | MEM | size,
    })
}

fn byte_swap(name: &str) -> Option<Form> {
    let (bits, imm) = [("16", 16), ("32", 32), ("64", 64)]
        .into_iter()
        .find(|(bits, _)| name.ends_with(bits))?;
    let opcode = find(&BYTE_SWAPS, name.strip_suffix(bits)?)?;
    Some(Form::Unary { opcode, imm })
}

/// Arithmetic and branches: the bare name means 64 bits, `32` behind it 32.
fn operation(name: &str) -> Option<Form> {
    let (stem, alu, jump) = match name.strip_suffix("32") {
        Some(stem) => (stem, ALU, JMP32),
        None => (name, ALU64, JMP),
    };
    if stem == "neg" {
        return Some(Form::Unary {
            opcode: alu | 0x80,
            imm: 0,
        });
    }
    if let Some(code) = find(&CONDITIONS, stem) {
        return Some(Form::Branch { opcode: jump | code });
    }
    let (_, code, offset) = *ARITHMETIC.iter().find(|(n, ..)| *n == stem)?;
    Some(Form::Binary {
        opcode: alu | code,
        offset,
    })
}
