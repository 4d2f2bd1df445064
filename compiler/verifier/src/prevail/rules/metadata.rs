//! Loads of a metadata pointer that is always null.

use bpf2sys_bytecode::{Reg, Width};
use bpf2sys_platform::ProgramType;
use prevail::crab::ebpf_domain::{DomainContext, ebpf_domain_check};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::{Assertion, Reg as EngineReg, ZeroCtxOffset};

use super::Point;
use crate::error::RejectionReason;
use crate::rules;

/// Refuses a load that may read some of the metadata pointer of a context in which it is always null.
pub(super) fn load(
    (base, offset, width): (Reg, i16, Width),
    program_type: &ProgramType,
    point: &Point<'_>,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> Option<RejectionReason> {
    if !program_type.context.data_meta_null || !point.contexts[base.index()] {
        return None;
    }
    let whole = Assertion::ZeroCtxOffset(ZeroCtxOffset {
        reg: EngineReg { v: base.number() },
        or_null: false,
    });
    let (low, high) = if ebpf_domain_check(point.state, &whole, point.label, context, names).is_none() {
        (Some(0), Some(0))
    } else {
        point.context_offsets[base.index()]
    };
    let moved = |bound: Option<i128>| bound.map(|bound| bound + i128::from(offset));
    rules::null_metadata(program_type, (moved(low), moved(high)), width.bytes())
}
