//! The engine's messages in plain words.

/// (part of the engine's message, what it means and what to do), the first match counts.
const EXPLANATIONS: &[(&str, &str)] = &[
    (
        "Upper bound must be at most packet_size",
        "the access may lie past the end of the data; compare the pointer with the end of the data first",
    ),
    (
        "Lower bound must be at least meta_offset",
        "the access may lie before the start of the data",
    ),
    (
        "Upper bound must be at most total_stack_size",
        "the access may lie above the stack frame",
    ),
    (
        "Lower bound must be at least r10.stack_offset",
        "the access may lie below the 512 bytes of the stack frame",
    ),
    (
        "shared_region_size",
        "the access may lie past the end of the map value or global variable section",
    ),
    (
        "Upper bound must be at most",
        "the access may lie past the end of the memory that the pointer leads to",
    ),
    (
        "Lower bound must be at least 0",
        "the access may lie before the start of the memory that the pointer leads to",
    ),
    (
        "Possible null access",
        "the pointer may be null; compare it with null before it is used",
    ),
    (
        "Stack content is not numeric",
        "stack memory is used before every byte of it was written",
    ),
    (
        "Illegal map update with a non-numerical value",
        "a map key or value on the stack holds pointers or bytes that were never written",
    ),
    (
        "Loop counter is too large",
        "the loop was not proven to end within 100000 rounds",
    ),
    ("Possible division by zero", "the divisor may be zero"),
    (
        "Only numbers can be stored to externally-visible regions",
        "a pointer would be stored where others can read it",
    ),
    ("Only numbers can be used as divisors", "the divisor is a pointer"),
    ("Only numbers can be added to pointers", "two pointers are added"),
    (
        "Cannot subtract pointers to",
        "pointers into different memory are compared or subtracted",
    ),
    (
        "Cannot write to context pointer field",
        "the program writes a pointer field of its context",
    ),
    ("Only pointers can be dereferenced", "a number is used as an address"),
    (
        "FDs cannot be dereferenced directly",
        "a map is used as an address; its values are reached through a lookup",
    ),
    (
        "Map key size is not singleton",
        "the map of this call is not known, and the candidates differ in key size",
    ),
    (
        "Map value size is not singleton",
        "the map of this call is not known, and the candidates differ in value size",
    ),
    (
        "Only stack, packet, or shared can be used as a parameter",
        "a map key or value must lie on the stack, in the packet or in a map value",
    ),
    (
        "Nonzero context offset",
        "the call needs the context pointer as the program got it, without an offset",
    ),
    ("Invalid size", "the size of the memory is not proven to be in range"),
    (
        "Invalid type",
        "a register does not hold what this instruction needs: on some path it was never written, was read from memory never written, or holds another kind of value",
    ),
    (
        "tail call chain depth exceeds",
        "more than 33 tail calls can follow one another",
    ),
    (
        "requires conformance group",
        "the instruction belongs to a conformance group that eBPF for Windows does not offer",
    ),
    (
        "is unavailable on this platform",
        "the helper's prototype is one that no program can call",
    ),
    (
        "is not an instruction boundary",
        "a jump leads into the middle of a pair of shifts that the engine takes as one instruction",
    ),
];

/// What a message of the engine means, in plain words.
pub(crate) fn explain(message: &str) -> &'static str {
    EXPLANATIONS
        .iter()
        .find(|(part, _)| message.contains(part))
        .map_or("the program was not proven to be safe", |(_, meaning)| meaning)
}
