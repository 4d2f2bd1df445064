//! What is known of a function's own stack frame: who touches which of its bytes.
//!
//! Bytes are named by their distance from the function's own `r10`: -512 is the first, -1 the last.

use bpf2sys_bytecode::InsnIndex;

/// Who touches which bytes of a function's own 512 bytes of stack, in every activation of the function.
///
/// Each access to a byte of the frame, by whomever, is one of `accesses`, or happens while one of `escapes` executes and lies in
/// its bytes. Nothing is said of bytes that no active function owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameFacts {
    /// Loads, stores and atomic operations of the function itself that always go to the same bytes of the frame, by instruction.
    pub accesses: Vec<StackAccess>,
    /// What else reaches bytes of the frame, by instruction.
    pub escapes: Vec<StackEscape>,
    /// The bytes that `accesses` go to, grouped so that no access goes to two groups; ascending and disjoint.
    pub slots: Vec<StackSlot>,
}

/// An access of a function to its own frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackAccess {
    /// The instruction.
    pub at: InsnIndex,
    /// Its first byte: -512 to -1.
    pub offset: i32,
    /// Number of bytes: 1, 2, 4 or 8; not more than there are up to `r10`.
    pub width: u32,
}

/// Bytes of the frame that something else may access, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackEscape {
    /// The instruction while which it may happen.
    pub at: InsnIndex,
    /// First byte, and the first behind the last: within -512 to 0.
    pub bytes: (i32, i32),
    /// Who accesses them.
    pub by: Through,
    /// Whether they may be written; they may be read in any case.
    pub writes: bool,
}

/// Who accesses bytes that escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// A helper, or a function of another Windows module, that gets their address. It keeps none.
    Callee,
    /// A function of this module, or one that it calls.
    Subprogram,
    /// The instruction itself, through an address that is not known exactly.
    Pointer,
}

/// A group of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackSlot {
    /// The first byte: -512 to -1.
    pub offset: i32,
    /// Number of bytes.
    pub size: u32,
    /// Nothing but `accesses` ever touches one of these bytes: none escapes.
    pub private: bool,
    /// Each of `accesses` that touches one of these bytes touches all of them, and there are 1, 2, 4 or 8.
    pub whole: bool,
    /// Each load and atomic operation among `accesses` finds only bytes that a store among them has written before, in the same
    /// activation of the function.
    pub initialized: bool,
}

impl FrameFacts {
    /// No byte below this one is ever touched; 0 if none is at all.
    pub fn lowest(&self) -> i32 {
        let slots = self.slots.iter().map(|slot| slot.offset);
        slots
            .chain(self.escapes.iter().map(|escape| escape.bytes.0))
            .min()
            .unwrap_or(0)
    }

    /// The access that an instruction makes to its own function's frame, if it always goes to the same bytes.
    pub fn access(&self, at: InsnIndex) -> Option<&StackAccess> {
        let index = self.accesses.binary_search_by_key(&at, |access| access.at).ok()?;
        self.accesses.get(index)
    }
}
