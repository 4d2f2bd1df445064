//! What is wrong where the engine finds no proof, by what a person did.
//!
//! A violation holds what is known of the case, in this crate's own types; [`text`] puts it into words.
//! Offsets and sizes are bytes. Offsets on the stack are relative to the `r10` of the function that is executed.

mod text;

use bpf2sys_bytecode::Reg;

pub(crate) use text::{Bytes, OnStack};

/// What is wrong at an instruction that the engine did not prove safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An access that may lie past the end of the packet.
    PacketEnd {
        /// The access; its offset is from the start of the packet.
        access: Access,
        /// How long the packet is at least.
        proven: i64,
    },
    /// An access that may lie before the start of the packet.
    PacketStart {
        /// The access; its offset is from the start of the packet.
        access: Access,
    },
    /// A load or store that may lie above the stack frame.
    StackTop {
        /// The access.
        access: Access,
    },
    /// An access that may lie below the stack frame.
    StackBottom {
        /// The access.
        access: Access,
        /// Size of a frame.
        frame: i64,
    },
    /// Memory on the stack, given to a callee that uses more than there is.
    SmallBuffer {
        /// What the callee does.
        access: Access,
    },
    /// A use of stack memory that was not written.
    UnwrittenStack {
        /// The access.
        access: Access,
        /// The bytes of it that were not written, counted from its start: first and last one.
        bytes: Option<(i64, i64)>,
    },
    /// A pointer in memory that is given to a callee, where it would be seen by others.
    PointerInBuffer {
        /// The access.
        access: Access,
        /// What kind of pointer.
        kind: Kind,
    },
    /// An access that may lie past the end of memory with a fixed size.
    MemoryEnd {
        /// The access; its offset is from the start of the memory.
        access: Access,
        /// The memory.
        memory: Memory,
        /// Its size, as far as it is known.
        size: Option<i64>,
    },
    /// An access that may lie before the start of memory with a fixed size.
    MemoryStart {
        /// The access; its offset is from the start of the memory.
        access: Access,
        /// The memory.
        memory: Memory,
    },
    /// A write to a pointer field of the context.
    ContextPointerWrite,
    /// An access through a pointer that may be null.
    NullAccess {
        /// The access.
        access: Access,
        /// What gave the pointer.
        memory: Memory,
    },
    /// A pointer that may be null, given to a callee that needs memory.
    NullArgument {
        /// What the callee does.
        access: Access,
        /// What gave the pointer.
        memory: Memory,
    },
    /// A number that is used as an address.
    NumberDereferenced {
        /// The register.
        register: Reg,
    },
    /// A map that is used as an address.
    MapDereferenced {
        /// The register.
        register: Reg,
        /// Name of the map.
        map: Option<String>,
    },
    /// An access through a pointer to something whose layout is not known.
    OpaquePointer {
        /// The register.
        register: Reg,
        /// What it points to.
        kind: Kind,
    },
    /// A register that was never written.
    NeverWritten {
        /// The register that is used.
        register: Reg,
        /// The register that was never written, of which it holds a copy; or itself.
        source: Reg,
    },
    /// A register whose content a call destroyed.
    Clobbered {
        /// The register that is used.
        register: Reg,
        /// The register that the call destroyed, of which it holds a copy; or itself.
        source: Reg,
        /// The call, as text.
        call: Option<String>,
    },
    /// A register that was read from stack memory that held no one value.
    UnknownContent {
        /// The register.
        register: Reg,
        /// Where on the stack it was read.
        offset: Option<i64>,
    },
    /// A register that was read from the context, and holds neither a field's number nor its whole pointer.
    PartOfPointer {
        /// The register.
        register: Reg,
    },
    /// A register with nothing known in it, for a reason that depends on the path.
    NothingKnown {
        /// The register.
        register: Reg,
    },
    /// An exit without a result.
    NoResult,
    /// An exit with a pointer as the result.
    PointerReturned {
        /// What kind of pointer.
        kind: Kind,
    },
    /// A register that holds a value of one kind on one path and of another kind on another.
    MixedKinds {
        /// The register.
        register: Reg,
        /// The kinds.
        kinds: Vec<Kind>,
    },
    /// Arithmetic that pointers can't have.
    PointerArithmetic {
        /// The register.
        register: Reg,
        /// What it holds.
        kind: Kind,
    },
    /// A sum of two pointers.
    PointerSum {
        /// The registers.
        registers: [Reg; 2],
    },
    /// A subtraction of the smallest 32-bit number from a register.
    SubtractsMinimum,
    /// A comparison or subtraction of pointers into different memory.
    UnrelatedPointers {
        /// The registers.
        registers: [Reg; 2],
    },
    /// A comparison of a pointer with a number other than 0, or one that only numbers can have.
    PointerCompared {
        /// The register.
        register: Reg,
        /// What it holds.
        kind: Kind,
    },
    /// A comparison or subtraction of a pointer that may have left its memory.
    PointerOutOfRange {
        /// The register.
        register: Reg,
        /// What it holds.
        kind: Kind,
        /// Its offset in the memory.
        offset: Span,
    },
    /// A pointer that is stored where others can read it.
    PointerStored {
        /// The register with the pointer.
        register: Reg,
        /// What kind of pointer.
        kind: Kind,
        /// Where it is stored.
        into: Kind,
    },
    /// A pointer of which only a part is stored.
    PointerTruncated {
        /// The register with the pointer.
        register: Reg,
        /// What kind of pointer.
        kind: Kind,
    },
    /// A pointer, given to a callee as a number.
    PointerPassed {
        /// The argument.
        argument: Argument,
        /// What kind of pointer.
        kind: Kind,
    },
    /// An argument that is no pointer to memory.
    ArgumentNotMemory {
        /// The argument.
        argument: Argument,
        /// What it holds.
        kind: Kind,
    },
    /// An argument that is not the map that the callee needs.
    ArgumentNotMap {
        /// The argument.
        argument: Argument,
        /// What it holds.
        kind: Kind,
        /// Whether it has to be a program array.
        programs: bool,
    },
    /// An argument that is not the context.
    ArgumentNotContext {
        /// The argument.
        argument: Argument,
        /// What it holds.
        kind: Kind,
    },
    /// An argument of another kind than the callee needs.
    ArgumentKind {
        /// The argument.
        argument: Argument,
        /// What it holds.
        kind: Kind,
        /// What it must be.
        needs: Kind,
    },
    /// An argument that points into the context, not at its start.
    ContextOffset {
        /// The argument.
        argument: Argument,
        /// Offset from the start of the context.
        offset: Span,
    },
    /// A number where a pointer that may be null is allowed, with a size that is not zero.
    NullWithSize {
        /// The argument.
        argument: Argument,
    },
    /// An argument that must be zero.
    ArgumentNotZero {
        /// The argument.
        argument: Argument,
    },
    /// A size that is not proven to be in range.
    Size {
        /// The argument that holds the size.
        argument: Argument,
        /// What it can be.
        size: Span,
        /// Whether it can be zero.
        zero: bool,
    },
    /// A divisor that may be zero.
    DivisionByZero {
        /// The register.
        register: Option<Reg>,
    },
    /// A call whose map is not known, with maps that differ.
    SeveralMaps {
        /// The callee.
        callee: String,
    },
    /// A map of a type that the callee can't work on.
    MapType {
        /// The callee.
        callee: String,
        /// Name of the map.
        map: Option<String>,
    },
    /// A key of an array that is not proven to be an index of it.
    ArrayIndex {
        /// The callee.
        callee: String,
        /// Name of the map.
        map: Option<String>,
    },
    /// The address of a map's memory where there is none.
    NoMapMemory,
    /// A loop that is not proven to end.
    Unbounded {
        /// The most rounds that are allowed.
        limit: u64,
    },
    /// More tail calls than can follow one another.
    TailCallChain {
        /// The most that are allowed.
        limit: u64,
    },
    /// A function as an argument that can't be one.
    Callback,
    /// A jump into an instruction of which the engine sees only the whole.
    JumpIntoPair,
    /// An instruction of a conformance group that the platform does not offer.
    ConformanceGroup,
    /// A helper that no program can call.
    UnusableHelper,
    /// Bytes that are no instruction.
    InvalidInstruction,
    /// A shape of the program that the engine can't analyse.
    Unsupported,
    /// Anything else.
    Unproven,
}

/// Lower and upper bound of a number, both included; `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The smallest that it can be.
    pub min: Option<i64>,
    /// The largest that it can be.
    pub max: Option<i64>,
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A number.
    Number,
    /// A pointer to the context.
    Context,
    /// A pointer into the packet, or to its end.
    Packet,
    /// A pointer into the stack.
    Stack,
    /// A pointer into a map value or global variable section.
    MapValue,
    /// A map.
    Map,
    /// A program array.
    ProgramArray,
    /// A pointer to a socket.
    Socket,
    /// A pointer to a kernel object with a BTF type.
    KernelObject,
    /// A pointer to memory that a helper allocated.
    Allocated,
    /// A function.
    Function,
    /// Nothing, or nothing that is known.
    Unknown,
}

/// Memory with a fixed size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A value of a map.
    MapValue {
        /// Name of the map.
        map: Option<String>,
    },
    /// A section of global variables.
    Globals {
        /// Name of the section.
        section: String,
    },
    /// The context.
    Context,
    /// Memory that a helper gave.
    Given {
        /// Name of the helper.
        helper: Option<String>,
    },
}

/// A use of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// What uses it.
    pub by: Accessor,
    /// Where it starts, in the memory.
    pub offset: Span,
    /// How many bytes it has.
    pub bytes: Span,
}

/// What uses memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accessor {
    /// A load instruction.
    Load,
    /// A store instruction.
    Store,
    /// An atomic instruction.
    Atomic,
    /// A callee, through an argument.
    Call {
        /// The argument.
        argument: Argument,
        /// What it is used for.
        role: Role,
    },
}

/// An argument of a callee outside the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Name of the callee.
    pub callee: String,
    /// The register with the argument.
    pub register: Reg,
}

/// What a callee does with memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
    /// Takes it for the key of a map.
    Key {
        /// Name of the map.
        map: Option<String>,
    },
    /// Takes it for a value of a map.
    Value {
        /// Name of the map.
        map: Option<String>,
    },
}

impl Span {
    /// Exactly this number.
    pub fn exactly(number: i64) -> Span {
        Span {
            min: Some(number),
            max: Some(number),
        }
    }

    /// The number, if there is only one.
    pub fn one(self) -> Option<i64> {
        self.min.filter(|_| self.min == self.max)
    }

    /// The span of this plus a number.
    pub(crate) fn plus(self, number: i64) -> Span {
        Span {
            min: self.min.and_then(|n| n.checked_add(number)),
            max: self.max.and_then(|n| n.checked_add(number)),
        }
    }
}

impl Argument {
    /// Position of the argument, from 1.
    pub fn position(&self) -> u8 {
        self.register.number()
    }
}
