//! Where generated code finds what the runtime resolved: `program_runtime_context_t` and the tables it points to
//! (native module contract §1.2). Offsets and strides in bytes; the runtime does not fill in headers, so strides are
//! constants of the code. All structures are the same on x86-64 and ARM64.

use crate::RuntimeLevel;

/// `helper_data`, a pointer in the runtime context.
pub(crate) const HELPER_DATA: i32 = 24;
/// `map_data`, a pointer in the runtime context.
pub(crate) const MAP_DATA: i32 = 32;
/// `global_variable_section_data`, a pointer in the runtime context.
pub(crate) const GLOBAL_DATA: i32 = 40;
/// `btf_resolved_function_data`, a pointer in the runtime context of runtimes since 1.5.
pub(crate) const BTF_FUNCTION_DATA: i32 = 48;

/// `helper_data[slot].address`.
pub(crate) fn helper_address(slot: u32) -> Option<i32> {
    element(slot, 40, 24)
}

/// `map_data[index].address`.
pub(crate) fn map_address(level: RuntimeLevel, index: u32) -> Option<i32> {
    element(index, map_data_bytes(level), 24)
}

/// `map_data[index].array_data`; `None` also if the runtime has none.
pub(crate) fn map_array_data(level: RuntimeLevel, index: u32) -> Option<i32> {
    let offset = element(index, map_data_bytes(level), 32);
    offset.filter(|_| level.has_array_data())
}

/// Size of a `map_data` element, which depends on the version that the module states.
fn map_data_bytes(level: RuntimeLevel) -> u32 {
    if level.has_array_data() { 40 } else { 32 }
}

/// `global_variable_section_data[index].address_of_map_value`.
pub(crate) fn global_address(index: u32) -> Option<i32> {
    element(index, 32, 24)
}

/// `btf_resolved_function_data[slot].address`.
pub(crate) fn btf_function_address(slot: u32) -> Option<i32> {
    element(slot, 32, 24)
}

/// The offset of a field of an element; `None` where it does not fit an instruction.
fn element(index: u32, stride: u32, field: u32) -> Option<i32> {
    i32::try_from(index.checked_mul(stride)?.checked_add(field)?).ok()
}
