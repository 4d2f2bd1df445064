//! The ARM64 unwind record: what prologue and epilogues did, one code for each instruction.
//!
//! A header word, a second one if counts are large, a word for each epilogue, and the codes, padded to words (ARM64
//! exception handling, ".xdata records"). Epilogues are always listed: the short form for a single one at the end of the
//! function would save four bytes. A record describes less than 1 MiB, so a larger function gets several ("Large
//! functions" there).

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use crate::error::FunctionProblem;

/// Bytes of an instruction. Lengths and offsets in the record count instructions.
pub(crate) const INSTRUCTION: u32 = 4;

/// Header word: length of the function in bits 0 to 17, version (0), handler (none) and single-epilogue (no) bits to 21,
/// count of epilogues in bits 22 to 26, words of codes in bits 27 to 31.
const LENGTH_BITS: u32 = 18;
const EPILOGUES_SHIFT: u32 = 22;
const WORDS_SHIFT: u32 = 27;
/// The most that the 5-bit counts of the header word hold. Both are 0 there if a second word has them.
const SHORT_COUNT_MAX: usize = 31;

/// Second word: count of epilogues in bits 0 to 15, words of codes in bits 16 to 23.
const LONG_EPILOGUES_MAX: usize = 0xFFFF;
const LONG_WORDS_MAX: usize = 0xFF;
const LONG_WORDS_SHIFT: u32 = 16;

/// Epilogue word: offset in bits 0 to 17, position of its first code in bits 22 to 31.
const FIRST_CODE_SHIFT: u32 = 22;

const END: u8 = 0xE4;
/// Ahead of the codes of a fragment without prologue: its first instruction is in the body already.
const END_C: u8 = 0xE5;
const NOP: u8 = 0xE3;

/// A part of a function that one record describes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// From the start of the function, in bytes.
    pub offset: u32,
    /// In bytes.
    pub size: u32,
    /// The bytes of the record, a multiple of 4.
    pub record: Vec<u8>,
}

/// The records of a function whose size is a multiple of 4: one, unless it is larger than a record can say.
pub(crate) fn encode(
    codes: &[u8],
    epilogues: &[(u32, u16)],
    function_size: u32,
) -> Result<Vec<Fragment>, FunctionProblem> {
    let starts = code_starts(codes)?;
    let epilogues = epilogue_ranges(codes, &starts, epilogues, function_size)?;
    let mut fragments = Vec::new();
    let mut begin = 0;
    while begin < function_size {
        let longest = function_size.min(begin.saturating_add(FRAGMENT_MAX));
        // An epilogue is never divided. It is far shorter than a fragment, so there is something before it.
        let cut = epilogues
            .iter()
            .find(|epilogue| epilogue.begin < longest && longest < epilogue.end);
        let end = cut.map_or(longest, |epilogue| epilogue.begin);
        let mut inside: Vec<Epilogue> = epilogues
            .iter()
            .filter(|epilogue| begin <= epilogue.begin && epilogue.begin < end)
            .copied()
            .collect();
        let record = if begin == 0 {
            record(codes, &inside, begin, end)?
        } else {
            for epilogue in &mut inside {
                epilogue.first_code += 1;
            }
            record(&[&[END_C], codes].concat(), &inside, begin, end)?
        };
        fragments.push(Fragment {
            offset: begin,
            size: end - begin,
            record,
        });
        begin = end;
    }
    Ok(fragments)
}

/// The longest fragment in bytes.
const FRAGMENT_MAX: u32 = ((1 << LENGTH_BITS) - 1) * INSTRUCTION;

#[derive(Clone, Copy)]
struct Epilogue {
    /// Offsets in the function, in bytes.
    begin: u32,
    end: u32,
    /// Position of its first code.
    first_code: u32,
}

/// Checks the epilogues and finds their lengths: a code stands for an instruction.
fn epilogue_ranges(
    codes: &[u8],
    starts: &[usize],
    epilogues: &[(u32, u16)],
    function_size: u32,
) -> Result<Vec<Epilogue>, FunctionProblem> {
    let mut previous_end = 0;
    let mut range = |&(offset, first_code): &(u32, u16)| {
        let first = starts.binary_search(&usize::from(first_code)).ok()?;
        let length = starts[first..].iter().position(|start| codes[*start] == END)? as u32 + 1;
        let end = offset.checked_add(length * INSTRUCTION)?;
        let in_place = offset.is_multiple_of(INSTRUCTION) && previous_end <= offset && end <= function_size;
        previous_end = end;
        in_place.then_some(Epilogue {
            begin: offset,
            end,
            first_code: u32::from(first_code),
        })
    };
    epilogues
        .iter()
        .map(|epilogue| range(epilogue).ok_or(FunctionProblem::Epilogue { offset: epilogue.0 }))
        .collect()
}

/// The record of the fragment from `begin` to `end`.
fn record(codes: &[u8], epilogues: &[Epilogue], begin: u32, end: u32) -> Result<Vec<u8>, FunctionProblem> {
    let length = (end - begin) / INSTRUCTION;
    let code_words = codes.len().div_ceil(size_of::<U32>());
    if code_words > LONG_WORDS_MAX || epilogues.len() > LONG_EPILOGUES_MAX {
        return Err(FunctionProblem::TooManyOperations);
    }
    let mut words = Vec::with_capacity(2 + epilogues.len());
    if code_words <= SHORT_COUNT_MAX && epilogues.len() <= SHORT_COUNT_MAX {
        words.push(length | (epilogues.len() as u32) << EPILOGUES_SHIFT | (code_words as u32) << WORDS_SHIFT);
    } else {
        words.push(length);
        words.push(epilogues.len() as u32 | (code_words as u32) << LONG_WORDS_SHIFT);
    }
    // A code's position is below 4 * LONG_WORDS_MAX and fits 10 bits.
    words.extend(
        epilogues
            .iter()
            .map(|epilogue| ((epilogue.begin - begin) / INSTRUCTION) | epilogue.first_code << FIRST_CODE_SHIFT),
    );
    let words: Vec<U32> = words.into_iter().map(U32::new).collect();
    let mut out = words.as_bytes().to_vec();
    out.extend_from_slice(codes);
    out.resize(out.len().next_multiple_of(size_of::<U32>()), NOP);
    Ok(out)
}

/// Length in bytes of the prologue that these codes describe: those before the first `end`, each of one instruction.
pub(crate) fn prologue_size(codes: &[u8]) -> u32 {
    let starts = code_starts(codes).unwrap_or_default();
    let operations = starts.iter().take_while(|start| codes[**start] != END);
    operations.count() as u32 * INSTRUCTION
}

/// The position of the first byte of each code, if all are codes and the last is `end`.
fn code_starts(codes: &[u8]) -> Result<Vec<usize>, FunctionProblem> {
    let mut starts = Vec::new();
    let mut index = 0;
    while let Some(first) = codes.get(index) {
        let length = code_length(*first).filter(|length| codes.len() - index >= *length);
        starts.push(index);
        index += length.ok_or(FunctionProblem::InvalidCode { index })?;
    }
    match starts.last() {
        Some(last) if codes.get(*last) == Some(&END) => Ok(starts),
        _ => Err(FunctionProblem::NoEnd),
    }
}

/// Bytes of the code that starts with this one (ARM64 exception handling, "Unwind codes"). `None` for what compiled
/// functions do not have: codes of assembly stubs, of the scalable vector extension and of fragments, and reserved ones.
fn code_length(first: u8) -> Option<usize> {
    match first {
        // 0x00 to 0xBF: alloc_s, save_r19r20_x, save_fplr, save_fplr_x; then set_fp, save_next, pac_sign_lr
        0x00..=0xBF | 0xE1 | NOP | END | 0xE6 | 0xFC => Some(1),
        // alloc_m and the saves of registers and pairs; add_fp
        0xC0..=0xDE | 0xE2 => Some(2),
        // save_any_reg
        0xE7 => Some(3),
        // alloc_l
        0xE0 => Some(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(codes: &[u8], epilogues: &[(u32, u16)], size: u32) -> Vec<u32> {
        let fragments = encode(codes, epilogues, size).unwrap();
        assert_eq!((fragments.len(), fragments[0].offset, fragments[0].size), (1, 0, size));
        let (words, rest) = fragments[0].record.as_chunks();
        assert!(rest.is_empty());
        words.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }

    #[test]
    fn a_record_has_header_epilogues_and_padded_codes() {
        // stp fp, lr, [sp, #-16]!; mov fp, sp … ldp fp, lr, [sp], #16; ret
        let codes = [0xE1, 0x81, 0xE4, 0x81, 0xE4];
        assert_eq!(
            words(&codes, &[(0x20, 3)], 0x28),
            [0xA | 1 << 22 | 2 << 27, 0x8 | 3 << 22, 0x81E4_81E1, 0xE3E3_E3E4]
        );
    }

    #[test]
    fn counts_of_more_than_31_move_to_a_second_word() {
        let epilogues: Vec<_> = (0..32).map(|n| (n * 4, 0)).collect();
        assert_eq!(words(&[END], &epilogues, 0x100)[..2], [0x40, 0x20 | 1 << 16]);
        assert_eq!(words(&[END], &epilogues[..31], 0x100)[0], 0x40 | 31 << 22 | 1 << 27);
        let codes = [[NOP; 127].as_slice(), &[END]].concat();
        assert_eq!(words(&codes, &[], 0x100)[..2], [0x40, 32 << 16]);
        assert_eq!(words(&codes[4..], &[], 0x100)[0], 0x40 | 31 << 27);
    }

    #[test]
    fn rejects_codes_that_are_not_whole_known_and_ended() {
        let cases: [(&[u8], FunctionProblem); 7] = [
            (&[], FunctionProblem::NoEnd),
            (&[0xE1], FunctionProblem::NoEnd),
            (&[0xE4, 0xE1], FunctionProblem::NoEnd),
            (&[0xE1, 0xC8], FunctionProblem::InvalidCode { index: 1 }),
            (&[0xE0, 0, 0xE4], FunctionProblem::InvalidCode { index: 0 }),
            (&[0xE5, 0xE4], FunctionProblem::InvalidCode { index: 0 }),
            // The E4 is the second byte of an alloc_m.
            (&[0xC0, 0xE4], FunctionProblem::NoEnd),
        ];
        for (codes, problem) in cases {
            assert_eq!(encode(codes, &[], 8), Err(problem), "{codes:x?}");
        }
    }

    #[test]
    fn rejects_epilogues_out_of_place() {
        let codes = [0xC0, 0x10, 0xE4];
        for (epilogues, offset) in [
            (vec![(2, 0)], 2),
            (vec![(8, 0)], 8),
            (vec![(4, 1)], 4),
            (vec![(4, 3)], 4),
            (vec![(0, 0), (4, 2)], 4),
            (vec![(4, 0)], 4),
        ] {
            assert_eq!(
                encode(&codes, &epilogues, 8),
                Err(FunctionProblem::Epilogue { offset }),
                "{epilogues:?}"
            );
        }
    }

    #[test]
    fn rejects_what_one_record_cannot_count() {
        let codes = [[NOP; 1019].as_slice(), &[END]].concat();
        assert!(encode(&codes, &[], 8).is_ok());
        let codes = [[NOP; 1020].as_slice(), &[END]].concat();
        assert_eq!(encode(&codes, &[], 8), Err(FunctionProblem::TooManyOperations));
    }

    #[test]
    fn a_function_of_more_than_a_record_is_described_in_fragments() {
        let codes = [0x81, END];
        let longest = (1 << 20) - 4;
        assert_eq!(encode(&codes, &[(longest - 8, 0)], longest).unwrap().len(), 1);
        // The middle epilogue would be cut by the limit of the first fragment.
        let epilogues = [(0x100, 0), (longest - 4, 0), (2 * longest - 12, 0)];
        let fragments = encode(&codes, &epilogues, 2 * longest - 4).unwrap();
        let places: Vec<_> = fragments
            .iter()
            .map(|fragment| (fragment.offset, fragment.size))
            .collect();
        assert_eq!(places, [(0, longest - 4), (longest - 4, longest)]);
        let first = record(
            &codes,
            &[Epilogue {
                begin: 0x100,
                end: 0x108,
                first_code: 0,
            }],
            0,
            longest - 4,
        );
        assert_eq!(Ok(&fragments[0].record), first.as_ref());
        // end_c, then the prologue's codes; offsets count from the fragment's start.
        let words: Vec<u32> = fragments[1]
            .record
            .as_chunks()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect();
        assert_eq!(
            words,
            [
                (longest / 4) | 2 << 22 | 1 << 27,
                1 << 22,
                ((longest - 8) / 4) | 1 << 22,
                u32::from_le_bytes([END_C, 0x81, END, NOP])
            ]
        );
    }
}
