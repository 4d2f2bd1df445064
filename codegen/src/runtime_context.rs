//! Where generated code finds what the runtime resolved: `program_runtime_context_t` and the tables it points to
//! (native module contract §1.2). Offsets and strides in bytes; the runtime does not fill in headers, so strides are
//! constants of the code. All structures are the same on x86-64 and ARM64.

/// `helper_data`, a pointer in the runtime context.
pub(crate) const HELPER_DATA: i32 = 24;
/// `map_data`, a pointer in the runtime context.
pub(crate) const MAP_DATA: i32 = 32;
/// `global_variable_section_data`, a pointer in the runtime context.
pub(crate) const GLOBAL_DATA: i32 = 40;

/// `helper_data[slot].address`.
pub(crate) fn helper_address(slot: u32) -> Option<i32> {
    element(slot, 40, 24)
}

/// `map_data[index].address`, for modules that state version 1.4.0 or later.
pub(crate) fn map_address(index: u32) -> Option<i32> {
    element(index, 40, 24)
}

/// `map_data[index].array_data`, for modules that state version 1.4.0 or later.
pub(crate) fn map_array_data(index: u32) -> Option<i32> {
    element(index, 40, 32)
}

/// `global_variable_section_data[index].address_of_map_value`.
pub(crate) fn global_address(index: u32) -> Option<i32> {
    element(index, 32, 24)
}

/// The offset of a field of an element; `None` where it does not fit an instruction.
fn element(index: u32, stride: u32, field: u32) -> Option<i32> {
    i32::try_from(index.checked_mul(stride)?.checked_add(field)?).ok()
}
