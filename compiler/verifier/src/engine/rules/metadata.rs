//! Loads of a metadata pointer that is always null.

use bpf2sys_bytecode::{Reg, Width};
use bpf2sys_platform::ProgramType;
use prevail::crab::ebpf_domain::{DomainContext, ebpf_domain_check};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::{Assertion, Reg as EngineReg, ZeroCtxOffset};

use super::Point;
use crate::error::RejectionReason;

/// Size of a pointer field of a context, in bytes.
const POINTER_BYTES: i128 = 8;

/// Refuses a load that may read some of the metadata pointer of a context in which it is always null.
pub(super) fn load(
    (base, offset, width): (Reg, i16, Width),
    program_type: &ProgramType,
    point: &Point<'_>,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> Option<RejectionReason> {
    let layout = &program_type.context;
    if !layout.data_meta_null || !point.contexts[base.index()] {
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
    let (meta, offset) = (i128::from(layout.data_meta), i128::from(offset));
    let before = high.is_some_and(|high| high + offset + i128::from(width.bytes()) <= meta);
    let behind = low.is_some_and(|low| meta + POINTER_BYTES <= low + offset);
    (!before && !behind).then(|| RejectionReason::NullMetadata {
        program_type: program_type.name.clone(),
    })
}
