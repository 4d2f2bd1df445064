//! What the engine did not prove: the code and the help of each violation.

use bpf2sys_verifier::{Access, Accessor, Kind, Memory, Role, Violation};

use crate::Code;

/// The code of a violation.
pub(super) fn code(violation: &Violation) -> Code {
    match violation {
        Violation::PacketEnd { .. } => Code::BPF2101,
        Violation::PacketStart { .. } => Code::BPF2102,
        Violation::StackTop { .. } => Code::BPF2103,
        Violation::StackBottom { .. } => Code::BPF2104,
        Violation::SmallBuffer { .. } => Code::BPF2105,
        Violation::UnwrittenStack { .. } => Code::BPF2106,
        Violation::PointerInBuffer { .. } => Code::BPF2107,
        Violation::MemoryEnd { .. } => Code::BPF2108,
        Violation::MemoryStart { .. } => Code::BPF2109,
        Violation::ContextPointerWrite => Code::BPF2110,
        Violation::NullAccess { .. } => Code::BPF2111,
        Violation::NullArgument { .. } => Code::BPF2112,
        Violation::NumberDereferenced { .. } => Code::BPF2113,
        Violation::MapDereferenced { .. } => Code::BPF2114,
        Violation::OpaquePointer { .. } => Code::BPF2115,
        Violation::NeverWritten { .. } => Code::BPF2120,
        Violation::Clobbered { .. } => Code::BPF2121,
        Violation::UnknownContent { .. } => Code::BPF2122,
        Violation::PartOfPointer { .. } => Code::BPF2123,
        Violation::NothingKnown { .. } => Code::BPF2124,
        Violation::NoResult => Code::BPF2125,
        Violation::MixedKinds { .. } => Code::BPF2126,
        Violation::PointerReturned { .. } => Code::BPF2130,
        Violation::PointerStored { .. } => Code::BPF2131,
        Violation::PointerTruncated { .. } => Code::BPF2132,
        Violation::PointerPassed { .. } => Code::BPF2133,
        Violation::PointerArithmetic { .. } => Code::BPF2134,
        Violation::PointerSum { .. } => Code::BPF2135,
        Violation::UnrelatedPointers { .. } => Code::BPF2136,
        Violation::PointerCompared { .. } => Code::BPF2137,
        Violation::PointerOutOfRange { .. } => Code::BPF2138,
        Violation::ArgumentNotMemory { .. } => Code::BPF2140,
        Violation::ArgumentNotMap { .. } => Code::BPF2141,
        Violation::ArgumentNotContext { .. } => Code::BPF2142,
        Violation::ContextOffset { .. } => Code::BPF2143,
        Violation::ArgumentKind { .. } => Code::BPF2144,
        Violation::NullWithSize { .. } => Code::BPF2145,
        Violation::ArgumentNotZero { .. } => Code::BPF2146,
        Violation::Size { .. } => Code::BPF2147,
        Violation::SeveralMaps { .. } => Code::BPF2148,
        Violation::MapType { .. } => Code::BPF2149,
        Violation::ArrayIndex { .. } => Code::BPF2150,
        Violation::NoMapMemory => Code::BPF2151,
        Violation::Callback => Code::BPF2152,
        Violation::DivisionByZero { .. } => Code::BPF2160,
        Violation::SubtractsMinimum => Code::BPF2161,
        Violation::Unbounded { .. } => Code::BPF2170,
        Violation::TailCallChain { .. } => Code::BPF2171,
        Violation::JumpIntoPair => Code::BPF2180,
        Violation::ConformanceGroup => Code::BPF2181,
        Violation::UnusableHelper => Code::BPF2182,
        Violation::InvalidInstruction => Code::BPF2183,
        Violation::Unsupported => Code::BPF2184,
        Violation::Unproven => Code::BPF2001,
    }
}

/// What can be done about it.
pub(super) fn help(violation: &Violation) -> Option<String> {
    Some(match violation {
        Violation::PacketEnd { access, .. } => match end(access) {
            Some(end) => format!("before it, leave if the packet is shorter: `if (data + {end} > data_end) return …;`"),
            None => "compare the very pointer that is used with the end of the data, in every round: \
                     `if (p + size > data_end) return …;`"
                .to_owned(),
        },
        Violation::PacketStart { .. } => "give the offset an unsigned type, and limit it before it is added".to_owned(),
        Violation::StackTop { .. } => "use offsets below r10 only; local variables of a function end there".to_owned(),
        Violation::StackBottom { frame, .. } => {
            format!("a function has {frame} bytes for its variables; put large ones into a per-processor array map")
        }
        Violation::SmallBuffer { access } => small_buffer(access),
        Violation::UnwrittenStack { access, .. } => match access.by {
            Accessor::Call { .. } => {
                "set every byte, those between fields too: `__builtin_memset(&variable, 0, sizeof(variable));` first"
                    .to_owned()
            }
            _ => "give the variable a value on every path before it is read".to_owned(),
        },
        Violation::PointerInBuffer { .. } => {
            "others can read what a helper is given: leave the address out, or store a number that stands for it"
                .to_owned()
        }
        Violation::MemoryEnd { access, memory, size } => memory_end(access, memory, *size),
        Violation::MemoryStart { .. } => {
            "give the index an unsigned type, or compare it with 0 too: `if (i < 0 || i >= count) return …;`".to_owned()
        }
        Violation::ContextPointerWrite => "these fields are read-only; keep a changed pointer in a variable".to_owned(),
        Violation::NullAccess { .. } => "compare it with null first: `if (!value) return …;`".to_owned(),
        Violation::NullArgument { .. } => "compare it with null before the call: `if (!value) return …;`".to_owned(),
        Violation::NumberDereferenced { .. } => {
            "addresses come from the context, the stack and map lookups only; a number can be added to one of these"
                .to_owned()
        }
        Violation::MapDereferenced { map, .. } => {
            let map = map.as_deref().unwrap_or("map");
            format!("get a pointer to a value: `bpf_map_lookup_elem(&{map}, &key)`")
        }
        Violation::OpaquePointer { .. } => "give it to a helper that takes such a pointer".to_owned(),
        Violation::NeverWritten { .. } => "give the variable a value on every path that leads here".to_owned(),
        Violation::Clobbered { .. } => "keep the value in r6 to r9 or on the stack over the call".to_owned(),
        Violation::UnknownContent { .. } => {
            "write the variable as a whole, on every path, before it is read; read it with the size it was written with"
                .to_owned()
        }
        Violation::PartOfPointer { .. } => {
            "read the field with its own type; pointers in a context have 8 bytes, also where Linux has 4".to_owned()
        }
        Violation::NothingKnown { .. } => "give the variable a value on every path that leads here".to_owned(),
        Violation::NoResult => "return a number on every path".to_owned(),
        Violation::MixedKinds { .. } => {
            "use one variable for each kind, or check which it is right where it is used".to_owned()
        }
        Violation::PointerReturned { .. } => {
            "return one of the program type's results; addresses must not get out".to_owned()
        }
        Violation::PointerStored { .. } | Violation::PointerTruncated { .. } => {
            "store the data, or a number that stands for it; pointers can be kept on the stack only".to_owned()
        }
        Violation::PointerPassed { .. } => "give the number that is meant, not its address".to_owned(),
        Violation::PointerArithmetic { .. } => {
            "only numbers can be added to and subtracted from a pointer; compute offsets apart, as numbers".to_owned()
        }
        Violation::PointerSum { .. } => "add a number to one of them".to_owned(),
        Violation::UnrelatedPointers { .. } => {
            "compare pointers into the same packet, or offsets as numbers".to_owned()
        }
        Violation::PointerCompared { .. } => {
            "compare it with null, or with another pointer into the same memory".to_owned()
        }
        Violation::PointerOutOfRange { kind: Kind::Packet, .. } => {
            "limit what is added to the pointer to less than 65536 before it is added: `if (length > 1500) return …;`"
                .to_owned()
        }
        Violation::PointerOutOfRange { .. } => "limit what is added to the pointer before it is added".to_owned(),
        Violation::ArgumentNotMemory { kind: Kind::Number, .. } => {
            "give the address of a variable that holds the data: `&variable`".to_owned()
        }
        Violation::ArgumentNotMemory { .. } => {
            "copy the data into a variable on the stack, and give its address".to_owned()
        }
        Violation::ArgumentNotMap { programs: true, .. } => {
            "give the address of a map of type BPF_MAP_TYPE_PROG_ARRAY".to_owned()
        }
        Violation::ArgumentNotMap { .. } => {
            "give the address of a map that is defined in `.maps`, and is no program array".to_owned()
        }
        Violation::ArgumentNotContext { .. } | Violation::ContextOffset { .. } => {
            "give the program's own argument, unchanged".to_owned()
        }
        Violation::ArgumentKind { needs, .. } => format!("give {needs}"),
        Violation::NullWithSize { .. } => "give a pointer to memory, or null with a size of 0".to_owned(),
        Violation::ArgumentNotZero { .. } => "give 0".to_owned(),
        Violation::Size { zero: true, .. } => {
            "give the size an unsigned type, and limit it first: `if (size > limit) return …;`".to_owned()
        }
        Violation::Size { .. } => "limit it on both sides first: `if (size == 0 || size > limit) return …;`".to_owned(),
        Violation::SeveralMaps { .. } => "call it once for each map, in branches of its own".to_owned(),
        Violation::MapType { .. } => "use a map of a type that this helper is for".to_owned(),
        Violation::ArrayIndex { .. } => "compare the key with the number of entries first".to_owned(),
        Violation::NoMapMemory => "only maps with plain values have memory that can be addressed".to_owned(),
        Violation::Callback => "give a function of this object that ends on every path".to_owned(),
        Violation::DivisionByZero { .. } => "compare the divisor with 0 first".to_owned(),
        Violation::SubtractsMinimum => "add 2147483648 as a 64-bit constant".to_owned(),
        Violation::Unbounded { .. } => {
            "count the rounds in a variable, and compare it with a constant in each: `for (int i = 0; i < 64; i++)`; \
             BPF_OPAQUE(i) keeps the compiler from replacing that comparison"
                .to_owned()
        }
        Violation::TailCallChain { limit } => {
            format!("a chain of {limit} is the most that the runtime follows; use a loop or a function call")
        }
        Violation::JumpIntoPair | Violation::InvalidInstruction => {
            "compile the program with clang, without handwritten assembly at this place".to_owned()
        }
        Violation::ConformanceGroup => "compile with `-mcpu=v3`".to_owned(),
        Violation::UnusableHelper => {
            "another helper has to be found; the provider's description of this one cannot be used".to_owned()
        }
        Violation::Unsupported => return None,
        Violation::Unproven => {
            "the words of the verifier above say what it needs to know; compare values with their limits \
                                right before they are used"
                .to_owned()
        }
    })
}

/// Where an access ends at most, from the start of the memory.
fn end(access: &Access) -> Option<i64> {
    access
        .offset
        .max?
        .checked_add(access.bytes.max?)
        .filter(|end| *end <= 0xffff)
}

fn small_buffer(access: &Access) -> String {
    let bytes = access.bytes.one();
    match (&access.by, bytes) {
        (
            Accessor::Call {
                role: Role::Key { .. }, ..
            },
            Some(bytes),
        ) => format!("give the address of a variable of the map's key type, which has {bytes} bytes"),
        (
            Accessor::Call {
                role: Role::Value { .. },
                ..
            },
            Some(bytes),
        ) => format!("give the address of a variable of the map's value type, which has {bytes} bytes"),
        (_, Some(bytes)) => format!("make the buffer {bytes} bytes long, or give its own size: `sizeof(buffer)`"),
        _ => "limit the size first: `if (size > sizeof(buffer)) return …;`".to_owned(),
    }
}

fn memory_end(access: &Access, memory: &Memory, size: Option<i64>) -> String {
    let fixed = access.offset.one().is_some() && access.bytes.one().is_some();
    match (memory, size) {
        (Memory::Context, _) => {
            "include the header of the program type's own context, and read its fields by name".to_owned()
        }
        (Memory::MapValue { .. }, _) if fixed => {
            "declare the map's value with the type that is used here: `__type(value, …)`".to_owned()
        }
        (Memory::MapValue { .. } | Memory::Globals { .. }, Some(size)) => match access.bytes.one() {
            Some(bytes @ 1..) if !fixed => {
                let last = size.saturating_sub(bytes).max(0);
                format!(
                    "limit the index before it is used, so that the offset is at most {last}: `if (i >= count) return …;`"
                )
            }
            _ => "limit the size before it is used: `if (size > sizeof(*value)) return …;`".to_owned(),
        },
        _ => "limit the offset before it is used".to_owned(),
    }
}
