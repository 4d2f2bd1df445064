//! What programs do, so that nobody can say that the accepted ones are all trivial.

/// Something that a run can do. Only what was executed counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Reads or writes the packet or its metadata.
    Packet,
    /// Reads or writes a value that a lookup found.
    MapValue,
    /// The same in a map with a value for each processor.
    PerCpu,
    /// Reads the context.
    ContextLoad,
    /// Writes the context.
    ContextStore,
    /// Reads or writes the stack.
    Stack,
    /// Reads or writes a global variable.
    Global,
    /// Calls a helper.
    Helper,
    /// Calls a function of another Windows module.
    BtfFunction,
    /// Calls a subprogram.
    Subprogram,
    /// Uses a map of maps.
    MapOfMaps,
    /// Uses a queue or stack.
    Queue,
    /// Tries a tail call.
    TailCall,
    /// Executes an instruction twice: a loop went around, or a subprogram was called again.
    Again,
    /// An atomic operation.
    Atomic,
    /// A byte swap.
    ByteSwap,
    /// 32-bit arithmetic.
    Alu32,
    /// A 32-bit comparison.
    Jmp32,
    /// Stores a pointer on the stack.
    Spill,
    /// An access at an address that was computed with a number that is no constant.
    VariableAddress,
}

impl Feature {
    /// All.
    pub const ALL: [Feature; 20] = [
        Feature::Packet,
        Feature::MapValue,
        Feature::PerCpu,
        Feature::ContextLoad,
        Feature::ContextStore,
        Feature::Stack,
        Feature::Global,
        Feature::Helper,
        Feature::BtfFunction,
        Feature::Subprogram,
        Feature::MapOfMaps,
        Feature::Queue,
        Feature::TailCall,
        Feature::Again,
        Feature::Atomic,
        Feature::ByteSwap,
        Feature::Alu32,
        Feature::Jmp32,
        Feature::Spill,
        Feature::VariableAddress,
    ];
}
