//! What the engine says of a program as a whole, without a check that has failed at one of its points.

use crate::Violation;

/// What a message means that comes with no check: from reading the program, from the shape of its graph, and from
/// instructions that the engine can't carry out.
pub(in crate::prevail) fn by_message(message: &str) -> Violation {
    let known = MESSAGES.iter().find(|(part, _)| message.contains(part));
    known.map_or(Violation::Unproven, |(_, violation)| violation.clone())
}

const MESSAGES: &[(&str, Violation)] = &[
    ("tail call chain depth exceeds", Violation::TailCallChain { limit: 33 }),
    ("requires conformance group", Violation::ConformanceGroup),
    ("rejected: ", Violation::UnusableHelper),
    ("is unavailable on this platform", Violation::UnusableHelper),
    ("mismatched EBPF_ARGUMENT_TYPE", Violation::UnusableHelper),
    ("not implemented: ", Violation::UnusableHelper),
    ("helper function id", Violation::UnusableHelper),
    ("is not an instruction boundary", Violation::JumpIntoPair),
    ("jump to undefined label", Violation::JumpIntoPair),
    ("callback function", Violation::Callback),
    ("Cannot load address of program map type", Violation::NoMapMemory),
    ("cannot be negated for SUB", Violation::SubtractsMinimum),
    ("MOVSX", Violation::InvalidInstruction),
    ("MEMSX", Violation::InvalidInstruction),
    ("bad instruction", Violation::InvalidInstruction),
    ("invalid offset for", Violation::InvalidInstruction),
    ("nonzero ", Violation::InvalidInstruction),
    ("negative module for", Violation::InvalidInstruction),
    ("unsupported immediate", Violation::InvalidInstruction),
    ("invalid target r10", Violation::InvalidInstruction),
    ("cannot modify r10", Violation::InvalidInstruction),
    ("bad register", Violation::InvalidInstruction),
    ("lddw", Violation::InvalidInstruction),
    ("invalid class", Violation::InvalidInstruction),
    ("jump out of bounds", Violation::InvalidInstruction),
    ("fallthrough in last instruction", Violation::Unsupported),
    ("too many call stack frames", Violation::Unsupported),
    ("illegal recursion", Violation::Unsupported),
    ("must have exactly one continuation", Violation::Unsupported),
    ("empty instruction sequence", Violation::Unsupported),
    ("Zero length programs", Violation::Unsupported),
    ("must be acyclic", Violation::Unsupported),
    ("Invalid verifier options", Violation::Unsupported),
    ("invalid map index", Violation::Unsupported),
    ("not found", Violation::Unsupported),
];
