//! The helpers that generated programs call, as numbers.

/// `bpf_csum_diff(from, from_size, to, to_size, seed)`
pub(crate) const CSUM_DIFF: i32 = 10;
/// `bpf_strncpy_s(to, size, from, count)`
pub(crate) const STRNCPY_S: i32 = 27;
