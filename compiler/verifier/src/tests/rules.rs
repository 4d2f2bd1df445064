//! What is refused although the engine accepts it, and what next to it is not.

use bpf2sys_platform::Platform;

use super::{at, fixture, range, rejections, signed, verified};
use crate::{Interval, Options, RejectionReason, VerifyError, verify};

#[test]
fn what_the_engine_gets_wrong_is_refused_at_its_instruction() {
    let cases = [
        (
            "indexes_with_popped",
            "value[index] = 1;",
            "before the start of the memory",
        ),
        (
            "indexes_with_popped_behind_popped",
            "value[index] = 1;",
            "before the start of the memory",
        ),
        (
            "stores_negative",
            "asm volatile(\"*(u64 *)(r10 - 8) = -1;\"",
            "never written",
        ),
        (
            "adds_to_null",
            "asm volatile(\"r1 = 0;\"",
            "arithmetic on a pointer that may be null; compare it with null first",
        ),
        ("adds_null_on_one_path", "asm volatile(\"r1 = 0;\"", "may be null"),
        (
            "compares_half_pointers",
            "asm volatile(\"r2 = *(u64 *)(r1 + 0);\"",
            "`if w4 > w3 goto +0x1`",
        ),
        ("swaps_constant", "asm volatile(\"r1 = 0xf2;\"", "`r1 = bswap64 r1`"),
        (
            "writes_constant",
            "*(volatile u64 *)&limits[random_u32() & 3] = 7;",
            "writes to `.rodata`",
        ),
        (
            "adds_to_constant",
            "asm volatile(\"r1 = %[limits] ll;\"",
            "writes to `.rodata`",
        ),
        (
            "pops_to_constant",
            "pop(&queue, (void *)&limits[1]);",
            "writes to `.rodata`",
        ),
        (
            "reads_metadata",
            "asm volatile(\"r2 = *(u64 *)(r1 + 16);\"",
            "for `xdp` programs it is always null",
        ),
        (
            "reads_metadata_in_callee",
            "asm volatile(\"r1 += 8;\"",
            "function `reads_context`, instruction 1 ",
        ),
    ];
    let found = rejections("rules.o");
    assert_eq!(found.len(), cases.len(), "{found:#?}");
    for (rejection, (program, source, message)) in found.iter().zip(cases) {
        assert_eq!(rejection.program, program);
        let line = rejection.place.as_ref().and_then(|place| place.line.as_ref());
        assert_eq!(line.map(|line| line.text.trim()), Some(source), "{program}");
        let text = rejection.to_string();
        assert!(text.contains(message), "{program}: {text}");
    }
}

#[test]
fn ordinary_programs_next_to_them_are_accepted() {
    verified("near_rules.o");
}

#[test]
fn a_helper_that_writes_readable_memory_leaves_what_lies_beside() {
    let facts = verified("near_rules.o");
    for (register, expected) in [(0, range(7, 7)), (1, Interval::FULL), (2, range(7, 7))] {
        // After lddw, which has two slots.
        assert_eq!(
            signed(&facts, "knows_what_lies_beside", 12, register),
            expected,
            "r{register}"
        );
    }
}

#[test]
fn a_negative_constant_in_memory_is_the_number_it_is() {
    let facts = verified("near_rules.o");
    let registers = at(&facts, "stores_negative", 7).registers;
    assert_eq!(registers[1].unsigned, Some((u64::MAX, u64::MAX)));
    for (register, exact) in [(2, u64::from(u32::MAX) - 1), (3, 253)] {
        if let Some((low, high)) = registers[register].unsigned {
            assert!(low <= exact && exact <= high, "r{register}: {low} to {high}");
        }
    }
}

#[test]
fn a_helper_that_writes_an_unknown_number_of_bytes_is_refused() {
    let mut platform = Platform::builtin();
    let pop = platform.helpers.iter_mut().find(|h| h.id == 17).unwrap();
    // The stack, and nothing says how much of it.
    pop.arguments[1] = 12;
    let error = verify(fixture("near_rules.o"), &platform, &Options::default()).unwrap_err();
    let VerifyError::Rejected(found) = error else {
        panic!("{error:?}");
    };
    let reason = RejectionReason::UnknownWrite {
        helper: "bpf_map_pop_elem".to_owned(),
    };
    assert_eq!(found[0].program, "checks_popped");
    assert_eq!(found[0].reason, reason);
    let line = found[0].place.as_ref().and_then(|place| place.line.as_ref());
    assert_eq!(line.map(|line| line.text.trim()), Some("if (pop(&queue, &index) < 0)"));
}
