//! What a run can tell of the instructions that its programs executed.

use serde::{Deserialize, Serialize};

/// Whether executed instructions are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trace {
    /// They are not.
    #[default]
    None,
    /// Each one that a program executes, with its subprograms and those that it tail-calls; not what helpers do, and not
    /// what the rest of the driver does. Results, maps and errors stay the same. On the host's processor, code becomes
    /// thousands of times slower; in the emulator it hardly does.
    Instructions,
}

/// The instructions that programs executed, over all invocations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceReport {
    /// Those of the image. Empty if programs were interpreted.
    pub native: NativeTrace,
    /// Those of the object, if programs were interpreted: the functions that ran, in the object's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interpreted: Vec<InterpretedTrace>,
}

/// Instructions of an image, over all loads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeTrace {
    /// By ascending RVA. An instruction with a `rep` prefix is one, however often it repeats.
    pub instructions: Vec<ExecutedInstruction>,
    /// The conditional branches among them.
    pub branches: Vec<NativeBranch>,
}

/// An instruction of an image that was executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutedInstruction {
    /// RVA of its first byte.
    pub rva: u32,
    /// How often, at least once.
    pub count: u64,
}

/// A conditional branch of an image that was executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeBranch {
    /// RVA of its first byte.
    pub rva: u32,
    /// How often something else came next than the instruction behind it.
    pub taken: u64,
    /// How often that came next.
    pub not_taken: u64,
}

/// Instructions of a function that was interpreted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterpretedTrace {
    /// The function's name.
    pub function: String,
    /// By ascending slot.
    pub instructions: Vec<ExecutedSlot>,
    /// The conditional jumps among them.
    pub branches: Vec<SlotBranch>,
}

/// An eBPF instruction that was executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutedSlot {
    /// Number of 8-byte slots before it in its function.
    pub slot: u32,
    /// How often, at least once.
    pub count: u64,
}

/// A conditional jump of eBPF that was executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotBranch {
    /// Number of 8-byte slots before it in its function.
    pub slot: u32,
    /// How often something else came next than the instruction behind it.
    pub taken: u64,
    /// How often that came next.
    pub not_taken: u64,
}

/// Whether an instruction of ARM64 is a conditional branch: `B.cond` and `BC.cond`, `CBZ` and `CBNZ`, `TBZ` and `TBNZ` ("Arm
/// Architecture Reference Manual for A-profile", "Branches, Exception Generating and System instructions").
pub(crate) fn is_conditional_arm64(instruction: u32) -> bool {
    instruction >> 24 == 0b0101_0100 || matches!(instruction >> 25 & 0b011_1111, 0b01_1010 | 0b01_1011)
}
