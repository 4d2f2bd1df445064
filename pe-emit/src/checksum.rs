//! The image checksum that Windows verifies for every driver it loads.

/// The checksum of a file given as consecutive pieces, of which all but the last have even length. The four bytes of the
/// `CheckSum` field itself must be zero in them.
///
/// The sum of the file's little-endian 16-bit words with end-around carry, plus the file's length (PE format, "Optional
/// Header Windows-Specific Fields", names `CheckSumMappedFile` as its definition).
pub(crate) fn checksum(pieces: &[&[u8]]) -> u32 {
    let mut sum = 0u64;
    let mut length = 0u64;
    for piece in pieces {
        length += piece.len() as u64;
        let (words, last) = piece.as_chunks::<2>();
        sum += words
            .iter()
            .map(|word| u64::from(u16::from_le_bytes(*word)))
            .sum::<u64>();
        sum += last.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    // A file is at most 2 GiB long, so this is the whole sum.
    (sum + length) as u32
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn sums_words_with_end_around_carry_and_adds_the_length() {
        // 0xFFFF + 0x0002 = 0x10001, which folds to 2.
        assert_eq!(checksum(&[&[0xFF, 0xFF, 0x02, 0x00]]), 2 + 4);
        assert_eq!(checksum(&[]), 0);
    }

    #[test]
    fn an_odd_last_byte_counts_as_a_word() {
        assert_eq!(checksum(&[&[0x34, 0x12, 0x56]]), 0x1234 + 0x56 + 3);
    }

    #[test]
    fn pieces_sum_as_the_whole() {
        let file: Vec<u8> = (0..=255).cycle().take(4096 + 77).collect();
        assert_eq!(checksum(&[&file[..1024], &file[1024..]]), checksum(&[&file]));
    }
}
