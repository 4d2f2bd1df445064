//! Keys of prefix maps: a length in bits, then that many bits.

use std::collections::BTreeMap;

use super::HashEntry;

/// Bits of the prefix that a key states.
pub(super) fn length(key: &[u8]) -> u32 {
    key.get(..4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

/// Clears what follows the prefix, and states its length.
pub(super) fn mask(key: &mut [u8], bits: u32) {
    key[..4].copy_from_slice(&bits.to_le_bytes());
    for (i, byte) in key[4..].iter_mut().enumerate() {
        let kept = bits.saturating_sub(8 * i as u32).min(8);
        *byte &= !(0xFFu32 >> kept) as u8;
    }
}

/// The value of the longest stored prefix of a key.
pub(super) fn longest(entries: &BTreeMap<Vec<u8>, HashEntry>, key: &[u8]) -> Option<u64> {
    let bits = length(key);
    (0..=bits).rev().find_map(|bits| {
        let mut shorter = key.to_vec();
        mask(&mut shorter, bits);
        entries.get(&shorter).map(|e| e.value)
    })
}
