//! Rules of the platform that both engines have, as questions about what an instruction gets.
//!
//! An engine says what it knows of a register, in the terms of its own states; whether that is allowed is decided here, or, for the
//! arguments of calls, in [`prototype`](crate::prototype) and [`map_type`](crate::map_type). What is not here is of one engine: what
//! PREVAIL's own verdict leaves open (`prevail::rules`).

use bpf2sys_bytecode::Reg;
use bpf2sys_platform::{Context, ProgramType};

use crate::error::RejectionReason;
use crate::prototype::Prototype;

/// Size in bytes of the fields of a context that are pointers into the packet.
fn pointer_bytes(layout: &Context) -> i128 {
    i128::from(layout.data_end - layout.data)
}

/// A load of a metadata pointer that is always null, or of a part of it. The first byte that is read lies at one of these offsets in the
/// context; no end is known where there is `None`.
pub(crate) fn null_metadata(
    program_type: &ProgramType,
    (low, high): (Option<i128>, Option<i128>),
    bytes: u32,
) -> Option<RejectionReason> {
    let layout = &program_type.context;
    if !layout.data_meta_null {
        return None;
    }
    let meta = i128::from(layout.data_meta);
    let before = high.is_some_and(|high| high + i128::from(bytes) <= meta);
    let behind = low.is_some_and(|low| meta + pointer_bytes(layout) <= low);
    (!before && !behind).then(|| RejectionReason::NullMetadata {
        program_type: program_type.name.clone(),
    })
}

/// A comparison of the low halves of two operands, of which each is known to be a number or not: the half of an address says nothing.
pub(crate) fn half_comparison(are_numbers: bool) -> Option<RejectionReason> {
    (!are_numbers).then_some(RejectionReason::HalfPointerCompared)
}

/// A compare-and-exchange, which compares `r0`: with a pointer it would tell whether a number in memory is that address, and leave
/// the number in its place. No type may do it.
pub(crate) fn exchange(r0_is_number: bool) -> Option<RejectionReason> {
    (!r0_is_number).then_some(RejectionReason::PointerExchanged)
}

/// Arithmetic on what may be a null pointer: null and something is not null, and no test would find it.
pub(crate) fn arithmetic(may_be_null: bool) -> Option<RejectionReason> {
    may_be_null.then_some(RejectionReason::NullArithmetic)
}

/// The first register that a callee reads although its prototype does not list it, and that holds no number: in types that are not
/// privileged an address would get out.
pub(crate) fn unlisted_argument(
    called: &Prototype<'_>,
    program_type: &ProgramType,
    is_number: impl Fn(Reg) -> bool,
) -> Option<(Reg, RejectionReason)> {
    if program_type.is_privileged {
        return None;
    }
    let mut unlisted = called.reads_unlisted.iter().filter_map(|position| Reg::new(*position));
    let register = unlisted.find(|register| !is_number(*register))?;
    let helper = called.name.to_owned();
    Some((register, RejectionReason::UnlistedArgument { helper, register }))
}

/// A buffer that a callee may leave as it was, with bytes that nobody knows to be numbers: what it holds after the call can be an
/// address, which types that are not privileged must not see.
pub(crate) fn unfilled_buffer(
    called: &Prototype<'_>,
    program_type: &ProgramType,
    fills: bool,
    is_initialised: impl FnOnce() -> bool,
) -> Option<RejectionReason> {
    let leaves = !program_type.is_privileged && !fills && !is_initialised();
    leaves.then(|| RejectionReason::BufferUnwritten {
        helper: called.name.to_owned(),
    })
}
