//! Unwind data of ARM64 ("ARM64 exception handling", packed unwind data and `.xdata` records).

use bpf2sys_simulator::image::{Image, Rva};

use super::{Budget, Mismatch, Unwind};

const END: u8 = 0xE4;
const END_OF_FRAGMENT: u8 = 0xE5;

/// Reads the unwind data of the function at `begin`, from the second word of its entry. Gives its length in bytes (4 if that
/// is not known) and what the data says.
pub(super) fn read(image: &Image<'_>, begin: u32, unwind: u32, budget: &mut Budget) -> (u32, Result<Unwind, String>) {
    match unwind & 3 {
        0 => {}
        1 | 2 => {
            let frame = (unwind >> 23) * 16;
            let packed = Unwind { frame, mismatch: None };
            return ((unwind >> 2 & 0x7FF) * 4, Ok(packed));
        }
        _ => return (4, Err(format!("unwind data of the reserved kind 3: {unwind:#x}"))),
    }
    let outside = || format!("unwind data at {unwind:#x} is not in raw data");
    let bytes = |offset: u32, length: u32| match length {
        0 => Some(&[][..]),
        _ => image.file_bytes(Rva(unwind.checked_add(offset)?), length as usize),
    };
    let word = |offset: u32| bytes(offset, 4).and_then(|b| Some(u32::from_le_bytes(b.try_into().ok()?)));
    let Some(header) = word(0) else {
        return (4, Err(outside()));
    };
    let length = (header & 0x3_FFFF) * 4;
    let mut read = || {
        if header >> 18 & 3 != 0 {
            return Err(format!("unwind data of version {}", header >> 18 & 3));
        }
        let (mut epilogues, mut words, mut at) = (header >> 22 & 0x1F, header >> 27, 4);
        if epilogues == 0 && words == 0 {
            let extension = word(4).ok_or_else(outside)?;
            (epilogues, words, at) = (extension & 0xFFFF, extension >> 16 & 0xFF, 8);
        }
        budget.take(4 * (epilogues as usize + words as usize))?;
        let single = header >> 21 & 1 == 1;
        let mut starts = vec![0];
        if single {
            starts.push(epilogues);
        } else {
            for index in 0..epilogues {
                let scope = word(at + 4 * index).ok_or_else(outside)?;
                if (scope & 0x3_FFFF) * 4 >= length {
                    return Err(format!(
                        "an epilogue at {:#x} of {length:#x} bytes",
                        (scope & 0x3_FFFF) * 4
                    ));
                }
                starts.push(scope >> 22);
            }
            at += 4 * epilogues;
        }
        let codes = bytes(at, 4 * words).ok_or_else(outside)?;
        if header >> 20 & 1 == 1 {
            word(at + 4 * words).ok_or_else(outside)?;
        }
        starts.sort_unstable();
        starts.dedup();
        budget.take(4 * words as usize * starts.len())?;
        for start in starts {
            sequence(codes, start as usize)?;
        }
        let prologue = sequence(codes, 0)?;
        let code = image.file_bytes(Rva(begin), (4 * prologue.len()).min(length as usize));
        Ok(Unwind {
            frame: prologue.iter().map(|code| code.frame()).fold(0, u32::saturating_add),
            mismatch: mismatch(code.unwrap_or_default(), &prologue),
        })
    };
    (length, read())
}

/// An unwind code: as many bytes as it has, the others zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code([u8; 4]);

impl Code {
    /// Bytes of a code that starts with this one; `None` of those that do not exist.
    fn length(first: u8) -> Option<usize> {
        Some(match first {
            0x00..=0xBF | 0xE1 | 0xE3..=0xE6 | 0xE8..=0xEC | 0xFC => 1,
            0xC0..=0xDE | 0xE2 => 2,
            0xE7 => 3,
            0xE0 => 4,
            _ => return None,
        })
    }

    /// Bytes of stack that its instruction takes.
    fn frame(self) -> u32 {
        let [first, second, third, fourth] = self.0.map(u32::from);
        match first {
            0x00..=0x1F => first * 16,
            0x20..=0x3F => (first & 0x1F) * 8,
            0x80..=0xBF => ((first & 0x3F) + 1) * 8,
            0xC0..=0xC7 => ((first & 7) << 8 | second) * 16,
            0xCC..=0xCF | 0xDA..=0xDB => ((second & 0x3F) + 1) * 8,
            0xD4..=0xD5 | 0xDE => ((second & 0x1F) + 1) * 8,
            0xE0 => (second << 16 | third << 8 | fourth) * 16,
            _ => 0,
        }
    }

    /// Whether an instruction may be what the code stands for; codes that are rarely used may be anything.
    fn fits(self, word: u32) -> bool {
        let frame = self.frame();
        match self.0[0] {
            0x00..=0x1F | 0xC0..=0xC7 | 0xE0 => {
                let sub = |shift: u32| 0xD100_03FF | shift << 22 | (frame >> (12 * shift)) << 10;
                let short = frame < 0x1000 && word == sub(0);
                let long = frame.is_multiple_of(0x1000) && frame < 0x100_0000 && word == sub(1);
                // Extended register: by a register, after a probe.
                short || long || word & 0xFFE0_03FF == 0xCB20_03FF
            }
            // stp x29, x30, [sp, #-frame]!
            0x80..=0xBF => word == 0xA980_7BFD | (0u32.wrapping_sub(frame / 8) & 0x7F) << 15,
            // mov x29, sp
            0xE1 => word == 0x9100_03FD,
            // pacibsp
            0xFC => word == 0xD503_237F,
            // stp, with or without moving the stack pointer
            0x20..=0x7F | 0xC8..=0xCF | 0xD6..=0xD7 => word & 0xFE40_03E0 == 0xA800_03E0,
            // str
            0xD0..=0xD5 => word & 0xFFC0_03E0 == 0xF900_03E0 || word & 0xFFE0_0FE0 == 0xF800_0FE0,
            _ => true,
        }
    }
}

/// The codes from `start` to the end of their sequence, which is not one of them.
fn sequence(codes: &[u8], start: usize) -> Result<Vec<Code>, String> {
    let mut found = Vec::new();
    let mut at = start;
    loop {
        let first = *codes
            .get(at)
            .ok_or_else(|| format!("unwind codes from {start} do not end"))?;
        let length = Code::length(first).ok_or_else(|| format!("unwind code {first:#04x} at {at}"))?;
        let bytes = codes
            .get(at..at + length)
            .ok_or_else(|| format!("unwind code {first:#04x} at {at} is cut off"))?;
        if matches!(first, END | END_OF_FRAGMENT) {
            return Ok(found);
        }
        let mut code = [0; 4];
        code[..length].copy_from_slice(bytes);
        found.push(Code(code));
        at += length;
    }
}

/// Codes stand for the instructions of the prologue one by one, last instruction first.
fn mismatch(code: &[u8], prologue: &[Code]) -> Option<Mismatch> {
    let (words, _) = code.as_chunks::<4>();
    let mut pairs = prologue.iter().rev().enumerate();
    let (index, _) = pairs.find(|(index, code)| {
        words
            .get(*index)
            .is_none_or(|word| !code.fits(u32::from_le_bytes(*word)))
    })?;
    Some(Mismatch {
        offset: 4 * (index as u32 + 1),
        says: "what its unwind code stands for",
    })
}

#[cfg(test)]
mod tests {
    use super::{mismatch, sequence};

    fn code(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_sequence_has_an_end() {
        assert_eq!(sequence(&[0x02, 0xE1, 0x81, 0xE4], 0).unwrap().len(), 3);
        assert!(sequence(&[0x02, 0xE1, 0x81, 0xE3], 0).is_err());
        assert!(sequence(&[0xE0, 0, 0], 0).is_err(), "cut off");
        assert!(sequence(&[0xDF, 0xE4], 0).is_err(), "no such code");
        assert!(sequence(&[0xE4], 4).is_err(), "an epilogue elsewhere");
    }

    #[test]
    fn codes_stand_for_instructions() {
        // stp x29, x30, [sp, #-16]!; mov x29, sp; sub sp, sp, #32
        let words = [0xA9BF_7BFD, 0x9100_03FD, 0xD100_83FF];
        let prologue = sequence(&[0x02, 0xE1, 0x81, 0xE4], 0).unwrap();
        assert!(mismatch(&code(&words), &prologue).is_none());
        for (index, other) in [(0, 0xA9BE_7BFD), (1, 0xD503_201F), (2, 0xD100_C3FF)] {
            let mut words = words;
            words[index] = other;
            assert_eq!(
                mismatch(&code(&words), &prologue).unwrap().offset,
                4 * (index as u32 + 1)
            );
        }
        assert!(mismatch(&code(&words[..2]), &prologue).is_some());
    }
}
