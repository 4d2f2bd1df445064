//! Violations in words: each one clause, without a full stop.

use std::fmt;

use super::{Access, Accessor, Argument, Kind, Memory, Role, Span, Violation};

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (Some(a), Some(b)) if a == b => write!(f, "{a}"),
            (Some(a), Some(b)) => write!(f, "{a} to {b}"),
            (Some(a), None) => write!(f, "{a} or more"),
            (None, Some(b)) => write!(f, "{b} or less"),
            (None, None) => f.write_str("any number"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Number => "a number",
            Kind::Context => "a context pointer",
            Kind::Packet => "a packet pointer",
            Kind::Stack => "a stack pointer",
            Kind::MapValue => "a map value pointer",
            Kind::Map => "a map",
            Kind::ProgramArray => "a program array",
            Kind::Socket => "a socket pointer",
            Kind::KernelObject => "a pointer to a kernel object",
            Kind::Allocated => "a pointer to memory that a helper gave",
            Kind::Function => "a function",
            Kind::Unknown => "a value of unknown kind",
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Memory::MapValue { map: Some(map) } => write!(f, "the value of map `{map}`"),
            Memory::MapValue { map: None } => f.write_str("the map value"),
            Memory::Globals { section } => write!(f, "the global variables in `{section}`"),
            Memory::Context => f.write_str("the context"),
            Memory::Given { helper: Some(helper) } => write!(f, "the memory that `{helper}` gave"),
            Memory::Given { helper: None } => f.write_str("the memory that a helper gave"),
        }
    }
}

/// "2 bytes".
pub(crate) struct Bytes(pub Span);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.one() {
            Some(1) => f.write_str("1 byte"),
            _ if self.0 == Span::default() => f.write_str("an unknown number of bytes"),
            _ => write!(f, "{} bytes", self.0),
        }
    }
}

/// "reads 2 bytes", with the subject where it is a callee.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = Bytes(self.bytes);
        let map = |map: &Option<String>| map.as_ref().map_or(String::new(), |map| format!(" of map `{map}`"));
        match &self.by {
            Accessor::Load => write!(f, "this reads {bytes}"),
            Accessor::Store => write!(f, "this writes {bytes}"),
            Accessor::Atomic => write!(f, "this changes {bytes}"),
            Accessor::Call { argument, role } => {
                write!(f, "`{}` ", argument.callee)?;
                match role {
                    Role::Read => write!(f, "reads {bytes}"),
                    Role::Write => write!(f, "writes {bytes}"),
                    Role::Key { map: name } => write!(f, "takes a key{} of {bytes}", map(name)),
                    Role::Value { map: name } => write!(f, "takes a value{} of {bytes}", map(name)),
                }
            }
        }
    }
}

/// "r10-8".
pub(crate) struct OnStack(pub Span);

impl fmt::Display for OnStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.one(), self.0.min, self.0.max) {
            (Some(0), ..) => f.write_str("r10"),
            (Some(at), ..) => write!(f, "r10{at:+}"),
            (None, Some(a), Some(b)) => write!(f, "r10{a:+} to r10{b:+}"),
            (None, Some(a), None) => write!(f, "r10{a:+} or above"),
            (None, None, Some(b)) => write!(f, "r10{b:+} or below"),
            (None, None, None) => f.write_str("an unknown offset from r10"),
        }
    }
}

/// "at offset 12".
struct At(Span);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Span::default() {
            f.write_str("at any offset")
        } else {
            write!(f, "at offset {}", self.0)
        }
    }
}

/// How an argument is called.
struct Of<'a>(&'a Argument);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "argument {} of `{}`", self.0.position(), self.0.callee)
    }
}

/// It in plain words, one clause without a full stop.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::PacketEnd { access, proven } => {
                write!(f, "{access} {} of the packet, ", At(access.offset))?;
                match proven {
                    0 => f.write_str("of which no byte is proven to be there"),
                    1 => f.write_str("of which only the first byte is proven to be there"),
                    n => write!(f, "of which only the first {n} bytes are proven to be there"),
                }
            }
            Violation::PacketStart { access } => {
                write!(
                    f,
                    "{access} {} of the packet, which can be before its start",
                    At(access.offset)
                )
            }
            Violation::StackTop { access } => {
                write!(
                    f,
                    "{access} at {}, above the stack frame, which ends at r10",
                    OnStack(access.offset)
                )
            }
            Violation::StackBottom { access, frame } => {
                write!(
                    f,
                    "{access} at {}, below the {frame} bytes of the stack frame",
                    OnStack(access.offset)
                )
            }
            Violation::SmallBuffer { access } => {
                let left = access.offset.max.and_then(i64::checked_neg).filter(|left| *left >= 0);
                match left {
                    Some(left) => {
                        let left = Span::exactly(left);
                        write!(
                            f,
                            "{access}, and from the buffer at {} only {} of stack are left",
                            OnStack(access.offset),
                            Bytes(left)
                        )
                    }
                    None => write!(f, "{access} at {}, above the stack frame", OnStack(access.offset)),
                }
            }
            Violation::UnwrittenStack { access, bytes } => {
                write!(f, "{access} of stack memory at {}, ", OnStack(access.offset))?;
                match bytes {
                    Some((a, b)) if a == b => write!(f, "and byte {a} of it was never written"),
                    Some((a, b)) => write!(f, "and bytes {a} to {b} of it were never written"),
                    None => f.write_str("and not every byte of it was written"),
                }
            }
            Violation::PointerInBuffer { access, kind } => {
                write!(
                    f,
                    "{access} of stack memory at {} that holds {kind}",
                    OnStack(access.offset)
                )
            }
            Violation::MemoryEnd { access, memory, size } => {
                write!(f, "{access} {} of {memory}, ", At(access.offset))?;
                match size {
                    Some(size) => write!(f, "which has {}", Bytes(Span::exactly(*size))),
                    None => f.write_str("which is not proven to be that long"),
                }
            }
            Violation::MemoryStart { access, memory } => {
                write!(
                    f,
                    "{access} {} of {memory}, which can be before its start",
                    At(access.offset)
                )
            }
            Violation::ContextPointerWrite => f.write_str("the program writes a pointer field of its context"),
            Violation::NullAccess { access, memory } => {
                write!(f, "{access} of {memory} through a pointer that may be null")
            }
            Violation::NullArgument { access, memory } => {
                write!(f, "{access} of {memory} through a pointer that may be null")
            }
            Violation::NumberDereferenced { register } => {
                write!(f, "`{register}` is a number, and is used as an address")
            }
            Violation::MapDereferenced { register, map } => {
                let name = map.as_ref().map_or(String::new(), |map| format!(" `{map}`"));
                write!(f, "`{register}` is the map{name} itself, and is used as an address")
            }
            Violation::OpaquePointer { register, kind } => {
                write!(f, "`{register}` is {kind}, and what it points to must not be accessed")
            }
            Violation::NeverWritten { register, source } if register == source => {
                write!(f, "`{register}` is used, and nothing was ever written to it")
            }
            Violation::NeverWritten { register, source } => {
                write!(
                    f,
                    "`{register}` is a copy of `{source}`, and nothing was ever written to that"
                )
            }
            Violation::Clobbered { register, source, call } => {
                if register == source {
                    write!(f, "`{register}` is used after a call")?;
                } else {
                    write!(f, "`{register}` is a copy of `{source}` after a call")?;
                }
                if let Some(call) = call {
                    write!(f, " (`{call}`)")?;
                }
                f.write_str(", and calls destroy r1 to r5")
            }
            Violation::UnknownContent { register, offset } => {
                write!(f, "`{register}` was read from stack memory ")?;
                if let Some(offset) = offset {
                    write!(f, "at {} ", OnStack(Span::exactly(*offset)))?;
                }
                f.write_str("that was never written, or not as one value")
            }
            Violation::PartOfPointer { register } => write!(
                f,
                "`{register}` was read from the context with the wrong size or offset: it holds a part of a pointer field"
            ),
            Violation::NothingKnown { register } => write!(
                f,
                "`{register}` is used, and on some path it was never written, was destroyed by a call, or was read from \
                 memory never written"
            ),
            Violation::NoResult => f.write_str("the program ends without a result: nothing was ever written to `r0`"),
            Violation::PointerReturned { kind } => write!(f, "the program returns {kind}, not a number"),
            Violation::MixedKinds { register, kinds } => {
                write!(f, "`{register}` holds ")?;
                for (i, kind) in kinds.iter().enumerate() {
                    let before = match i {
                        0 => "",
                        _ if i + 1 == kinds.len() => " or ",
                        _ => ", ",
                    };
                    write!(f, "{before}{kind}")?;
                }
                f.write_str(", depending on the path")
            }
            Violation::PointerArithmetic { register, kind } => {
                write!(f, "`{register}` is {kind}, and this operation is for numbers only")
            }
            Violation::PointerSum { registers: [a, b] } => {
                write!(f, "`{a}` and `{b}` are both pointers, and are added")
            }
            Violation::SubtractsMinimum => f.write_str("-2147483648 is subtracted, which the verifier can't follow"),
            Violation::UnrelatedPointers { registers: [a, b] } => {
                write!(
                    f,
                    "`{a}` and `{b}` are compared or subtracted, and do not point into the same memory"
                )
            }
            Violation::PointerCompared { register, kind } => {
                write!(f, "`{register}` is {kind}, and is compared as a number")
            }
            Violation::PointerOutOfRange { register, kind, offset } => {
                write!(
                    f,
                    "`{register}` is {kind} with an offset of {offset}, too far out for a comparison to mean anything"
                )
            }
            Violation::PointerStored { register, kind, into } => {
                write!(
                    f,
                    "`{register}` is {kind}, and is stored through {into}, where others can read it"
                )
            }
            Violation::PointerTruncated { register, kind } => {
                write!(f, "`{register}` is {kind}, and only a part of it is stored")
            }
            Violation::PointerPassed { argument, kind } => {
                write!(
                    f,
                    "{} is a number, and {kind} is given: addresses must not leave the program",
                    Of(argument)
                )
            }
            Violation::ArgumentNotMemory { argument, kind } => {
                write!(
                    f,
                    "{} is memory on the stack, in the packet or in a map value, and {kind} is given",
                    Of(argument)
                )
            }
            Violation::ArgumentNotMap {
                argument,
                kind,
                programs,
            } => {
                let map = if *programs { "a program array" } else { "a map" };
                write!(f, "{} is {map}, and {kind} is given", Of(argument))
            }
            Violation::ArgumentNotContext { argument, kind } => {
                write!(f, "{} is the context, and {kind} is given", Of(argument))
            }
            Violation::ArgumentKind { argument, kind, needs } => {
                write!(f, "{} is {needs}, and {kind} is given", Of(argument))
            }
            Violation::ContextOffset { argument, offset } => {
                write!(
                    f,
                    "{} is the context as the program got it, and a pointer to its byte {offset} is given",
                    Of(argument)
                )
            }
            Violation::NullWithSize { argument } => {
                write!(
                    f,
                    "{} is memory or null, and is not proven to be null with a size of 0",
                    Of(argument)
                )
            }
            Violation::ArgumentNotZero { argument } => write!(f, "{} must be 0, and is not proven to be", Of(argument)),
            Violation::Size { argument, size, zero } => {
                let least = i32::from(!*zero);
                write!(f, "{} is a size of at least {least}, and can be {size}", Of(argument))
            }
            Violation::DivisionByZero {
                register: Some(register),
            } => write!(f, "the divisor `{register}` may be zero"),
            Violation::DivisionByZero { register: None } => f.write_str("the divisor may be zero"),
            Violation::SeveralMaps { callee } => {
                write!(
                    f,
                    "`{callee}` is called with one of several maps, whose keys or values differ in size"
                )
            }
            Violation::MapType { callee, map } => {
                let name = map.as_ref().map_or(String::new(), |map| format!(" `{map}`"));
                write!(
                    f,
                    "`{callee}` does not work on maps of the type of{}",
                    if name.is_empty() { " this map" } else { &name }
                )
            }
            Violation::ArrayIndex { callee, map } => {
                let name = map.as_ref().map_or(String::new(), |map| format!(" `{map}`"));
                write!(
                    f,
                    "the key for `{callee}` is not proven to be an index of the array{name}"
                )
            }
            Violation::NoMapMemory => f.write_str("this takes the address of the memory of a map that has none"),
            Violation::Unbounded { limit } => write!(f, "the loop was not proven to end within {limit} rounds"),
            Violation::TailCallChain { limit } => write!(f, "more than {limit} tail calls can follow one another"),
            Violation::Callback => f.write_str("the function that is given to this helper can't be called back"),
            Violation::JumpIntoPair => f.write_str(
                "a jump leads into the middle of a pair of shifts that the verifier takes as one instruction",
            ),
            Violation::ConformanceGroup => {
                f.write_str("the instruction belongs to a conformance group that eBPF for Windows does not offer")
            }
            Violation::UnusableHelper => f.write_str("the helper's prototype is one that no program can call"),
            Violation::InvalidInstruction => f.write_str("the verifier does not take this for an instruction"),
            Violation::Unsupported => f.write_str("the verifier can't analyse a program of this shape"),
            Violation::Unproven => f.write_str("the program was not proven to be safe"),
        }
    }
}
