//! Why a program is rejected: the engine's messages with their places in the module.

use bpf2sys_bytecode::{FunctionIndex, Module};
use prevail::cfg::label::Label;
use prevail::ir::unmarshal::UnmarshalError;

use super::code::Code;
use super::explain::by_message;
use crate::check::place;
use crate::error::{Rejection, RejectionPlace, RejectionReason};
use crate::flow::Flow;

/// The program under analysis, to say where something is.
pub(super) struct Subject<'a> {
    pub module: &'a Module,
    pub program: FunctionIndex,
    pub code: &'a Code,
    pub flow: &'a Flow,
}

/// A rejection by a rule of our own, to be explained.
pub(super) struct Refused {
    /// The engine's name of the point.
    pub label: Label,
    /// Why, and where in the module.
    pub rejection: Rejection,
}

impl Subject<'_> {
    /// A rejection for a message of the engine of which nothing more is known.
    pub fn reject(&self, slot: Option<i32>, message: &str) -> Rejection {
        let reason = RejectionReason::Unsafe {
            violation: Box::new(by_message(message)),
            engine: message.to_owned(),
        };
        self.rejection(slot.or_else(|| slot_in(message)), reason)
    }

    /// A rejection for a reason of our own.
    pub fn refuse(&self, label: &Label, reason: RejectionReason) -> Refused {
        Refused {
            label: label.clone(),
            rejection: self.rejection(Some(label.from), reason),
        }
    }

    /// A rejection at a slot of the code.
    pub fn rejection(&self, slot: Option<i32>, reason: RejectionReason) -> Rejection {
        Rejection {
            program: self.module.function(self.program).name.clone(),
            place: slot.and_then(|slot| self.place(slot)),
            reason,
            explanation: Box::default(),
            only_by: None,
        }
    }

    /// The instruction at a slot of the code.
    pub fn place(&self, slot: i32) -> Option<Box<RejectionPlace>> {
        let (function, index) = self.code.place(self.module, slot)?;
        place(self.module, function, index)
    }

    /// A rejection of code that the engine does not read.
    pub fn unreadable(&self, error: &UnmarshalError) -> Rejection {
        match error {
            UnmarshalError::InvalidInstruction { pc, message } => self.reject(i32::try_from(*pc).ok(), message),
            other => self.reject(None, &other.to_string()),
        }
    }
}

/// The slot that a message names, as in `(at 12)` or `target 3 at 1 is not`; it may be one in a copy of a subprogram, whose
/// name has the slots of the calls before it.
fn slot_in(message: &str) -> Option<i32> {
    let (_, behind) = message.split_once(" at ").or_else(|| message.split_once("(at "))?;
    let label = behind.split([' ', ')']).next()?;
    label.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::slot_in;

    #[test]
    fn the_slot_of_a_message_is_that_of_the_last_function() {
        for (message, slot) in [
            ("control-flow target 3 at 1 is not an instruction boundary", Some(1)),
            ("tail call chain depth exceeds 33 (at 40)", Some(40)),
            ("tail call chain depth exceeds 33 (at 2/7/40)", Some(40)),
            ("Zero length programs are not allowed", None),
            ("must be at most 12", None),
        ] {
            assert_eq!(slot_in(message), slot, "{message}");
        }
    }
}
