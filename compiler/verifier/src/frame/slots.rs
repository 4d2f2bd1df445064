//! The bytes of a frame that a function accesses at known places, in groups.

use bpf2sys_bytecode::{Function, InsnIndex, Instruction};

use super::follow::Touches;
use crate::facts::FRAME_BYTES;
use crate::{FrameFacts, StackAccess, StackSlot};

/// A set of the bytes of a frame: -512 is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes([u64; 8]);

impl Bytes {
    fn of(access: &StackAccess) -> Bytes {
        let mut bytes = Bytes::default();
        let first = access.offset.saturating_add(FRAME_BYTES).max(0) as usize;
        for byte in first..first + access.width as usize {
            if let Some(word) = bytes.0.get_mut(byte / 64) {
                *word |= 1 << (byte % 64);
            }
        }
        bytes
    }

    fn and(self, other: Bytes) -> Bytes {
        Bytes(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    fn or(self, other: Bytes) -> Bytes {
        Bytes(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }
}

/// The facts of a function's frame.
pub(super) fn facts(function: &Function, touches: Touches) -> FrameFacts {
    let Touches { accesses, escapes } = touches;
    let mut slots = groups(&accesses);
    let uninitialized = uninitialized(function, &accesses);
    for slot in &mut slots {
        let end = slot.offset.saturating_add_unsigned(slot.size);
        slot.private = !escapes.iter().any(|e| e.bytes.0 < end && slot.offset < e.bytes.1);
        slot.initialized = !uninitialized
            .iter()
            .any(|access| slot.offset <= access.offset && access.offset < end);
    }
    FrameFacts {
        accesses,
        escapes,
        slots,
    }
}

/// Groups of bytes so that no access goes to two.
fn groups(accesses: &[StackAccess]) -> Vec<StackSlot> {
    let mut ranges: Vec<(i32, u32)> = accesses.iter().map(|access| (access.offset, access.width)).collect();
    ranges.sort_unstable();
    ranges.dedup();
    let mut slots: Vec<StackSlot> = Vec::new();
    for (offset, width) in ranges {
        let end = offset.saturating_add_unsigned(width);
        match slots.last_mut() {
            Some(slot) if offset < slot.offset.saturating_add_unsigned(slot.size) => {
                slot.whole = false;
                let last = slot.offset.saturating_add_unsigned(slot.size).max(end);
                slot.size = last.abs_diff(slot.offset);
            }
            _ => slots.push(StackSlot {
                offset,
                size: width,
                private: false,
                whole: true,
                initialized: false,
            }),
        }
    }
    slots
}

/// Loads and atomic operations that may find bytes that no access has written.
fn uninitialized(function: &Function, accesses: &[StackAccess]) -> Vec<StackAccess> {
    let at = |index: usize| {
        let index = accesses
            .binary_search_by_key(&InsnIndex(index as u32), |access| access.at)
            .ok()?;
        accesses.get(index)
    };
    let store = |index: usize| matches!(function.instructions[index].op, Instruction::Store { .. });
    if accesses.iter().all(|access| store(access.at.index())) {
        return Vec::new();
    }
    // What has been written on every way to an instruction.
    let mut written: Vec<Option<Bytes>> = vec![None; function.instructions.len()];
    let mut work = Vec::new();
    let flow_into = |written: &mut Vec<Option<Bytes>>, work: &mut Vec<usize>, index: usize, bytes: Bytes| {
        let Some(known) = written.get_mut(index) else { return };
        let both = known.map_or(bytes, |known| known.and(bytes));
        if *known != Some(both) {
            *known = Some(both);
            work.push(index);
        }
    };
    flow_into(&mut written, &mut work, 0, Bytes::default());
    while let Some(index) = work.pop() {
        let Some(mut bytes) = written[index] else { continue };
        if let Some(access) = at(index).filter(|_| store(index)) {
            bytes = bytes.or(Bytes::of(access));
        }
        if let Some(target) = function.jump_target(InsnIndex(index as u32)) {
            flow_into(&mut written, &mut work, target.index(), bytes);
        }
        if !matches!(
            function.instructions[index].op,
            Instruction::Jump { .. } | Instruction::Exit
        ) {
            flow_into(&mut written, &mut work, index + 1, bytes);
        }
    }
    let missing = |access: &&StackAccess| {
        let index = access.at.index();
        let bytes = Bytes::of(access);
        !store(index) && written[index].is_some_and(|written| written.and(bytes) != bytes)
    };
    accesses.iter().filter(missing).copied().collect()
}
