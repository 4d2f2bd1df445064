//! Messages between the process that runs an image and the one that started it: JSON, each after its length in four bytes.

use std::io::{self, BufRead, Read, Write};

use serde::Serialize;

/// Longest message.
const MAX_MESSAGE: u32 = 512 << 20;

/// Writes a message. `buffer` is for its text, and kept for the next one.
pub fn write<T: Serialize>(out: &mut impl Write, buffer: &mut Vec<u8>, message: &T) -> io::Result<()> {
    buffer.clear();
    buffer.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut *buffer, message)?;
    let length = u32::try_from(buffer.len() - 4)
        .ok()
        .filter(|length| *length <= MAX_MESSAGE);
    let length = length.ok_or_else(|| io::Error::other("a message is too long"))?;
    buffer[..4].copy_from_slice(&length.to_le_bytes());
    out.write_all(buffer)
}

/// Reads a message's text into `buffer`. False at the end.
pub fn read(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<bool> {
    if input.fill_buf()?.is_empty() {
        return Ok(false);
    }
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_MESSAGE {
        return Err(io::Error::other("a message is too long"));
    }
    buffer.clear();
    if input.take(length.into()).read_to_end(buffer)? < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_and_a_cut_is_seen() {
        let (mut pipe, mut buffer) = (Vec::new(), Vec::new());
        for message in ["one", "", "three"] {
            write(&mut pipe, &mut buffer, &message).unwrap();
        }
        let mut input = pipe.as_slice();
        let mut texts = Vec::new();
        while read(&mut input, &mut buffer).unwrap() {
            texts.push(String::from_utf8(buffer.clone()).unwrap());
        }
        assert_eq!(texts, ["\"one\"", "\"\"", "\"three\""]);
        for length in [1, 3, 4, 6, pipe.len() - 1] {
            let mut input = &pipe[..length];
            let outcome = loop {
                match read(&mut input, &mut buffer) {
                    Ok(true) => {}
                    outcome => break outcome,
                }
            };
            assert!(outcome.is_err(), "{length}");
        }
        assert!(read(&mut &[0xFF; 8][..], &mut buffer).is_err());
    }
}
