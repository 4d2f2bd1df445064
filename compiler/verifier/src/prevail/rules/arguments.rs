//! Whether the map keys and values that helpers are given lie wholly in the memory that they point into.
//!
//! The engine does not ask this of the stack: its check of a key or value on the stack (`ValidMapKeyValue`) looks only at
//! those of its bytes that lie below the top of the stack, and so accepts a 16-byte key at `r10 - 8`, or a value that
//! `bpf_map_pop_elem` would write over the program's return address. The access that the helper makes is therefore checked
//! once more, as the load that it is.
//!
//! The states are those that the analysis ended with: they cover every execution, so one check of each is enough.

use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain, VerificationError, ebpf_domain_check};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::{AccessType, Assertion, Imm, ValidAccess, ValidMapKeyValue, Value};
use prevail::result::AnalysisResult;

use crate::prevail::meaning::Meaning;

/// A key or value that is not proven to lie in its memory.
pub(in crate::prevail) struct OutsideMemory<'a> {
    /// The call.
    pub label: &'a Label,
    /// What the engine knows of the argument.
    pub argument: Assertion,
    /// The access that the helper makes.
    pub access: Assertion,
    /// What the engine says of it.
    pub error: VerificationError,
}

/// The first call, in the order of the code, with a key or value that is not proven to lie in its memory.
pub(in crate::prevail) fn outside_memory<'a>(
    meaning: &Meaning<'_>,
    result: &'a AnalysisResult,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> Option<OutsideMemory<'a>> {
    for (label, states) in &result.invariants {
        if states.pre.is_bottom() {
            continue;
        }
        for assertion in meaning.assertions_at(label) {
            if let Assertion::ValidMapKeyValue(argument) = assertion
                && let Some((access, error)) = check(argument, label, &states.pre, context, names)
            {
                return Some(OutsideMemory {
                    label,
                    argument: assertion.clone(),
                    access,
                    error,
                });
            }
        }
    }
    None
}

fn check(
    argument: &ValidMapKeyValue,
    label: &Label,
    state: &EbpfDomain,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> Option<(Assertion, VerificationError)> {
    let size = if argument.key {
        state.get_map_key_size(&argument.map_fd_reg, context, names)
    } else {
        state.get_map_value_size(&argument.map_fd_reg, context, names)
    };
    // The engine itself insists on one size that fits 32 bits; without it there is nothing to check by.
    let Some(bytes) = size.singleton().filter(|bytes| bytes.fits_unsigned(32)) else {
        let error = VerificationError::new("Map key size is not singleton".to_owned());
        return Some((Assertion::ValidMapKeyValue(argument.clone()), error));
    };
    let access = Assertion::ValidAccess(ValidAccess {
        call_stack_depth: label.call_stack_depth(),
        reg: argument.access_reg,
        offset: 0,
        width: Value::Imm(Imm {
            v: bytes.narrow_to_i64().cast_unsigned(),
        }),
        or_null: false,
        access_type: AccessType::Read,
    });
    let error = ebpf_domain_check(state, &access, label, context, names)?;
    Some((access, error))
}
