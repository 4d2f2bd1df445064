//! ARM64 machine code with other instructions in the places of some.
//!
//! Given: a function's instructions, and what is to stand in the places of some of them.
//! Computed: the function with that, jumps and references where they lead to the same as before.
//! Safe because: what a jump leads to is looked up by the instruction that was there, and every jump that is written is decoded again
//! and must be the same one but for its distance. Whether what is put in means the same is the duty of who puts it in.

use std::collections::BTreeMap;

use crate::compile::Code;
use crate::instruction_arm64::{Insn, Opcode, Role, SIZE, decode_word};

/// By the position of an instruction: what stands in its place. What jumps to it goes to the first of that, or to what follows.
pub(crate) type Replacements = BTreeMap<usize, Vec<u32>>;

/// Makes the replacements. What refers to other places from the old instruction does so from the first new one.
pub(crate) fn replace(code: &mut Code, decoded: &[Insn], mut replacements: Replacements) -> Result<Vec<Insn>, String> {
    if replacements.is_empty() {
        return Ok(decoded.to_vec());
    }
    let mut starts = starts(decoded, &replacements);
    // A jump that no longer reaches is turned round, and goes around one that does; that may push others out of reach.
    loop {
        let far = out_of_reach(decoded, &replacements, &starts);
        if far.is_empty() {
            break;
        }
        for position in far {
            replacements.insert(position, vec![turned(&decoded[position])?, JUMP]);
        }
        starts = self::starts(decoded, &replacements);
    }
    let mut rewritten = Vec::with_capacity(decoded.len());
    for (position, insn) in decoded.iter().enumerate() {
        let jumps = is_jump(insn);
        let new = replacements.get(&position);
        let words = new.map_or_else(|| vec![u32::from_le_bytes(insn.word)], Clone::clone);
        for (index, word) in words.into_iter().enumerate() {
            let offset = starts[position] + SIZE * index as u32;
            let target = match insn.target().filter(|_| jumps) {
                // The first of two goes around the second.
                Some(_) if new.is_some() && index == 0 => Some(offset + 2 * SIZE),
                Some(target) => Some(starts[position_of(target, decoded)?]),
                None => None,
            };
            let word = target.map_or(Ok(word), |target| with_distance(word, offset, target))?;
            rewritten.push(instruction(offset, word, target)?);
        }
    }
    let new = |offset: u32| starts.get((offset / SIZE) as usize).copied();
    for reference in &mut code.references {
        reference.offset = new(reference.offset).ok_or("a reference outside of the code")?;
    }
    let origins = std::mem::take(&mut code.origins);
    let origins = origins.into_iter().filter_map(|(offset, of)| Some((new(offset)?, of)));
    // Of instructions that are gone, the last one's is the next one's.
    for (offset, origin) in origins {
        match code.origins.last_mut() {
            Some(last) if last.0 == offset => last.1 = origin,
            _ => code.origins.push((offset, origin)),
        }
    }
    Ok(rewritten)
}

/// `b`, to somewhere.
const JUMP: u32 = 0x1400_0000;

/// Where each instruction begins afterwards, and where the code ends.
fn starts(decoded: &[Insn], replacements: &Replacements) -> Vec<u32> {
    let mut offset = 0;
    let mut starts = Vec::with_capacity(decoded.len() + 1);
    for position in 0..decoded.len() {
        starts.push(offset);
        offset += SIZE * replacements.get(&position).map_or(1, |words| words.len() as u32);
    }
    starts.push(offset);
    starts
}

fn is_jump(insn: &Insn) -> bool {
    matches!(insn.role(), Some(Role::Jump | Role::Branch))
}

fn position_of(target: u32, decoded: &[Insn]) -> Result<usize, String> {
    let position = (target / SIZE) as usize;
    match decoded.get(position) {
        Some(insn) if insn.offset == target => Ok(position),
        _ => Err(format!("a jump to {target:#x}, where no instruction is")),
    }
}

/// The jumps that are not replaced and do not reach.
fn out_of_reach(decoded: &[Insn], replacements: &Replacements, starts: &[u32]) -> Vec<usize> {
    let reaches = |position: usize, insn: &Insn| {
        let target = insn.target().and_then(|target| position_of(target, decoded).ok());
        target.is_none_or(|target| {
            let word = u32::from_le_bytes(insn.word);
            with_distance(word, starts[position], starts[target]).is_ok()
        })
    };
    let jumps = decoded.iter().enumerate().filter(|(_, insn)| is_jump(insn));
    let kept = jumps.filter(|(position, _)| !replacements.contains_key(position));
    let far = kept.filter(|(position, insn)| !reaches(*position, insn));
    far.map(|(position, _)| position).collect()
}

/// The branch on the other condition.
fn turned(insn: &Insn) -> Result<u32, String> {
    let word = u32::from_le_bytes(insn.word);
    match insn.op.opcode {
        Opcode::Bcc(_) => Ok(word ^ 1),
        Opcode::CBZ | Opcode::CBNZ | Opcode::TBZ | Opcode::TBNZ => Ok(word ^ 1 << 24),
        _ => Err(format!("a jump that does not reach: {}", insn.op)),
    }
}

/// A jump at `from` that leads to `to`.
fn with_distance(word: u32, from: u32, to: u32) -> Result<u32, String> {
    let op = decode_word(word.to_le_bytes()).ok_or("a word that is no instruction")?;
    let (bits, shift) = match op.opcode {
        Opcode::B => (26, 0),
        Opcode::Bcc(_) | Opcode::CBZ | Opcode::CBNZ => (19, 5),
        Opcode::TBZ | Opcode::TBNZ => (14, 5),
        _ => return Err(format!("no jump: {op}")),
    };
    let words = (i64::from(to) - i64::from(from)) / i64::from(SIZE);
    let most = 1_i64 << (bits - 1);
    if !(-most..most).contains(&words) {
        return Err(format!("a jump of {words} words: {op}"));
    }
    let field = (1_u32 << bits) - 1;
    Ok(word & !(field << shift) | (words as u32 & field) << shift)
}

/// A word taken apart, which must lead to `target` if it leads somewhere.
fn instruction(offset: u32, word: u32, target: Option<u32>) -> Result<Insn, String> {
    let word = word.to_le_bytes();
    let op = decode_word(word).ok_or_else(|| format!("undecodable word at {offset:#x}"))?;
    let insn = Insn { offset, word, op };
    if target.is_some() && insn.target() != target {
        return Err(format!("a jump that leads elsewhere at {offset:#x}: {op}"));
    }
    Ok(insn)
}

/// Positions of instructions that a jump leads to.
pub(crate) fn jumped_to(decoded: &[Insn]) -> Vec<bool> {
    let mut to = vec![false; decoded.len()];
    for insn in decoded.iter().filter(|insn| is_jump(insn)) {
        let target = insn.target().map(|target| (target / SIZE) as usize);
        if let Some(to) = target.and_then(|target| to.get_mut(target)) {
            *to = true;
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bpf2sys_pe_emit::RelocationKind;

    use super::replace;
    use crate::compile::{Code, Reference, Target};
    use crate::instruction_arm64::decode;

    const NOP: u32 = 0xD503_201F;
    const RET: u32 = 0xD65F_03C0;
    const BACK_ONE: u32 = 0x17FF_FFFF; // b #-4

    fn code(references: &[u32], origins: &[(u32, Option<u32>)]) -> Code {
        let reference = |&offset: &u32| Reference {
            offset,
            kind: RelocationKind::Arm64Branch26,
            target: Target::Named("f".to_owned()),
            addend: 0,
            is_call: true,
        };
        Code {
            references: references.iter().map(reference).collect(),
            origins: origins.to_vec(),
            ..Code::leaf(Vec::new())
        }
    }

    fn replaced(code: &mut Code, words: &[u32], replacements: &[(usize, &[u32])]) -> Result<Vec<u32>, String> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let replacements: BTreeMap<_, _> = replacements.iter().map(|(at, by)| (*at, by.to_vec())).collect();
        let insns = replace(code, &decode(&bytes)?, replacements)?;
        assert!(insns.iter().zip(0..).all(|(insn, index)| insn.offset == 4 * index));
        Ok(insns.iter().map(|insn| u32::from_le_bytes(insn.word)).collect())
    }

    #[test]
    fn jumps_lead_to_what_they_led_to() {
        let cbz = |distance: u32| 0xB400_0000 | distance << 5;
        let words = [cbz(4), NOP, NOP, cbz(2), NOP, BACK_ONE, RET];
        // Gone, and what follows is jumped to instead; and two in place of one.
        let expected = [cbz(3), NOP, cbz(3), NOP, NOP, 0x17FF_FFFE, RET];
        let changed = replaced(&mut code(&[], &[]), &words, &[(1, &[]), (4, &[NOP, NOP])]);
        assert_eq!(changed, Ok(expected.to_vec()));
        let to_gone = [cbz(1), NOP, RET];
        assert_eq!(
            replaced(&mut code(&[], &[]), &to_gone, &[(1, &[])]),
            Ok(vec![cbz(1), RET])
        );
    }

    #[test]
    fn references_and_origins_move() {
        let mut moved = code(&[0, 8], &[(0, Some(1)), (4, Some(2)), (8, Some(3))]);
        let changed = replaced(&mut moved, &[NOP, NOP, NOP, RET], &[(0, &[NOP, NOP]), (1, &[])]);
        assert_eq!(changed, Ok(vec![NOP, NOP, NOP, RET]));
        let offsets: Vec<u32> = moved.references.iter().map(|reference| reference.offset).collect();
        assert_eq!(offsets, [0, 8]);
        assert_eq!(moved.origins, [(0, Some(1)), (8, Some(3))]);
    }

    #[test]
    fn branches_that_no_longer_reach_go_around_jumps() {
        // As far as `tbz` reaches, which has 14 bits for words.
        const TBZ: u32 = 0x3600_0000 | 0x1FFF << 5;
        let mut words = vec![TBZ];
        words.extend(std::iter::repeat_n(NOP, 0x1FFE));
        words.push(RET);
        let changed = replaced(&mut code(&[], &[]), &words, &[(1, &[NOP, NOP])]).unwrap();
        // tbnz w0, #0, #8; b to the end
        assert_eq!(changed[..2], [0x3700_0040, 0x1400_2000]);
        assert_eq!(changed.len(), words.len() + 2);
        assert_eq!(replaced(&mut code(&[], &[]), &words, &[]), Ok(words.clone()));
    }
}
