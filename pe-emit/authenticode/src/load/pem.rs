//! PEM (RFC 7468), with text between the blocks, as tools write it.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

/// What is wrong with PEM text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// A block has no end, or the end of another.
    #[error("the PEM block `{0}` has no end")]
    NoEnd(String),
    /// The contents of a block are no base64.
    #[error("the PEM block `{0}` is no base64")]
    Base64(String),
}

/// A block.
pub(super) struct Block {
    /// What it says it is, e.g. `CERTIFICATE`.
    pub label: String,
    /// Whether there are headers in it (RFC 1421), as in old encrypted keys; then there are no contents.
    pub has_headers: bool,
    pub contents: Zeroizing<Vec<u8>>,
}

const BEGIN: &[u8] = b"-----BEGIN ";

/// The blocks of a text; `None` if it has none, and is something else.
pub(super) fn blocks(text: &[u8]) -> Result<Option<Vec<Block>>, PemError> {
    if !text.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Ok(None);
    }
    let mut blocks = Vec::new();
    // One buffer for all: it is zeroed as a whole, and there may be as many blocks as lines.
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(b"-----")) else {
            continue;
        };
        let label = String::from_utf8_lossy(label).into_owned();
        let end = format!("-----END {label}-----");
        digits.clear();
        let mut has_headers = false;
        loop {
            match lines.next() {
                Some(line) if line == end.as_bytes() => break,
                Some(line) if line.starts_with(b"-----") => return Err(PemError::NoEnd(label)),
                Some(line) => {
                    has_headers |= line.contains(&b':');
                    digits.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
                }
                None => return Err(PemError::NoEnd(label)),
            }
        }
        let contents = if has_headers {
            Vec::new()
        } else {
            decoded(&digits, &label)?
        };
        blocks.push(Block {
            label,
            has_headers,
            contents: Zeroizing::new(contents),
        });
    }
    Ok(Some(blocks))
}

fn decoded(digits: &[u8], label: &str) -> Result<Vec<u8>, PemError> {
    let malformed = || PemError::Base64(label.to_owned());
    let text = std::str::from_utf8(digits).map_err(|_| malformed())?;
    Base64::decode_vec(text).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn labels(text: &str) -> Result<Vec<(String, Vec<u8>)>, PemError> {
        let blocks = blocks(text.as_bytes())?.unwrap_or_default();
        Ok(blocks.into_iter().map(|b| (b.label, b.contents.to_vec())).collect())
    }

    #[test]
    fn blocks_may_have_text_around_them() {
        let text =
            "subject=x\r\n-----BEGIN A-----\r\nAQ\r\nI=\r\n-----END A-----\r\n\n-----BEGIN B C-----\n-----END B C-----";
        assert_eq!(
            labels(text).unwrap(),
            [("A".to_owned(), vec![1, 2]), ("B C".to_owned(), vec![])]
        );
        assert!(blocks(b"\x30\x00").unwrap().is_none());
    }

    #[test]
    fn as_many_blocks_as_lines_take_bounded_time() {
        const BLOCKS: usize = 1 << 16;
        let text = "-----BEGIN A-----\n-----END A-----\n".repeat(BLOCKS);
        let start = Instant::now();
        assert_eq!(blocks(text.as_bytes()).unwrap().unwrap().len(), BLOCKS);
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(5), "{taken:?}");
    }

    #[test]
    fn what_is_cut_off_or_no_base64_is_refused() {
        let no_end = Err(PemError::NoEnd("A".into()));
        assert_eq!(labels("-----BEGIN A-----\nAQI="), no_end);
        assert_eq!(labels("-----BEGIN A-----\nAQI=\n-----END B-----"), no_end);
        assert_eq!(
            labels("-----BEGIN A-----\nA*==\n-----END A-----"),
            Err(PemError::Base64("A".into()))
        );
    }
}
