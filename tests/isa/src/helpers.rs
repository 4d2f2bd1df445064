//! The helpers that generated programs call, written from what Windows documents about them.

/// `int bpf_csum_diff(from, from_size, to, to_size, seed)`
pub(crate) const CSUM_DIFF: i32 = 10;
/// `int bpf_strncpy_s(to, size, from, count)`
pub(crate) const STRNCPY_S: i32 = 27;
/// The tests' own: gives `r1`; where that is 0, the program ends with result 0, as after a tail call.
pub(crate) const UNWIND: i32 = crate::provider::UNWIND.cast_signed();

/// -22, `EINVAL`, as a C `int` that fills a register.
const INVALID: u64 = 0xFFFF_FFEA;
const STATUS_INVALID_PARAMETER: u64 = 0xC000_000D;
const STATUS_BUFFER_OVERFLOW: u64 = 0x8000_0005;

/// The sum of the 16-bit words of `to` and of the complements of those of `from`, and of `seed`.
pub(crate) fn csum_diff(from: &[u8], to: &[u8], seed: u64) -> u64 {
    if !from.len().is_multiple_of(4) || !to.len().is_multiple_of(4) {
        return INVALID;
    }
    let words = |bytes: &[u8], change: u16| -> i32 {
        let (pairs, _) = bytes.as_chunks();
        pairs
            .iter()
            .map(|pair| i32::from(u16::from_le_bytes(*pair) ^ change))
            .sum()
    };
    let sum = (seed as i32)
        .wrapping_add(words(to, 0))
        .wrapping_add(words(from, u16::MAX));
    u64::try_from(sum).unwrap_or(INVALID)
}

/// What is written to the `size` bytes, and the result.
pub(crate) fn strncpy_s(size: usize, from: &[u8]) -> (Vec<u8>, u64) {
    if size == 0 {
        return (Vec::new(), STATUS_INVALID_PARAMETER);
    }
    let text = from.split(|byte| *byte == 0).next().unwrap_or_default();
    let fits = text.len() < size;
    let mut written: Vec<u8> = text.iter().copied().take(size - 1).collect();
    written.resize(size, 0);
    (written, if fits { 0 } else { STATUS_BUFFER_OVERFLOW })
}
