//! Whether only those touch a stack frame of which it is said.

use bpf2sys_bytecode::{FunctionIndex, InsnIndex, Instruction};
use bpf2sys_simulator::interpreter::{At, FRAME_BYTES};
use bpf2sys_verifier::{FrameFacts, FunctionFacts, Through};

use super::step::accessed;
use crate::regions::Regions;

/// The functions that are active, outermost first.
#[derive(Clone, Default)]
pub(super) struct Activations(Vec<Activation>);

#[derive(Clone)]
struct Activation {
    function: FunctionIndex,
    /// The instruction that it executes.
    at: InsnIndex,
    /// Which bytes of its frame its own stores to known places have written, from the lowest on.
    written: Vec<bool>,
}

/// Some bytes of memory that are accessed.
#[derive(Clone, Copy)]
pub(super) struct Touched {
    pub address: u64,
    pub length: u64,
    pub writes: bool,
}

impl Activations {
    /// Takes in which instruction is executed next.
    pub fn executing(&mut self, at: &At<'_>) {
        self.0.truncate(at.frames as usize);
        if self.0.len() < at.frames as usize {
            self.0.push(Activation {
                function: at.function,
                at: at.instruction,
                written: vec![false; FRAME_BYTES as usize],
            });
        }
        if let Some(top) = self.0.last_mut() {
            (top.function, top.at) = (at.function, at.instruction);
        }
    }

    /// The access that an instruction is about to make itself.
    pub fn instruction(
        &mut self,
        op: &Instruction,
        at: &At<'_>,
        facts: &[&FunctionFacts],
        regions: &Regions,
    ) -> Result<(), String> {
        let Some((address, width)) = accessed(op, at) else {
            return Ok(());
        };
        let touched = Touched {
            address,
            length: width.into(),
            writes: !matches!(op, Instruction::Load { .. }),
        };
        self.judge(touched, Through::Pointer, facts, regions)?;
        let r10 = r10(self.0.len() - 1, regions);
        let (Some(top), Some(frame)) = (self.0.last_mut(), facts[at.function.index()].frame.as_deref()) else {
            return Ok(());
        };
        let Some(access) = frame.access(at.instruction) else {
            return Ok(());
        };
        if r10.wrapping_add_signed(access.offset.into()) != address || access.width != width {
            return Err(format!(
                "it is said to access {access:?}, and accesses {width} bytes at {address:#x}"
            ));
        }
        let first = usize::try_from(access.offset + FRAME_BYTES as i32).map_err(|e| e.to_string())?;
        let bytes = top
            .written
            .get_mut(first..first + width as usize)
            .ok_or_else(|| format!("{access:?} is no access to the frame"))?;
        if !matches!(op, Instruction::Store { .. }) && bytes.contains(&false) {
            let inside = |slot: &&bpf2sys_verifier::StackSlot| {
                slot.offset <= access.offset && access.offset < slot.offset + slot.size as i32
            };
            if let Some(slot) = frame.slots.iter().find(inside).filter(|slot| slot.initialized) {
                return Err(format!("it finds bytes that were not written, of {slot:?}"));
            }
        }
        bytes.fill(true);
        Ok(())
    }

    /// An access by what the running instruction has called.
    pub fn callee(&self, touched: Touched, facts: &[&FunctionFacts], regions: &Regions) -> Result<(), String> {
        self.judge(touched, Through::Callee, facts, regions)
    }

    /// An access to any frames; `by` tells who makes it, as the running function sees it.
    fn judge(&self, touched: Touched, by: Through, facts: &[&FunctionFacts], regions: &Regions) -> Result<(), String> {
        for (depth, activation) in self.0.iter().enumerate() {
            let r10 = r10(depth, regions);
            let bottom = r10 - FRAME_BYTES;
            let start = touched.address.max(bottom);
            let end = touched.address.saturating_add(touched.length).min(r10);
            if start >= end {
                continue;
            }
            let Some(frame) = facts[activation.function.index()].frame.as_deref() else {
                continue;
            };
            let offset = |address: u64| address.wrapping_sub(r10).cast_signed() as i32;
            let bytes = (offset(start), offset(end));
            let by = if depth + 1 == self.0.len() {
                by
            } else {
                Through::Subprogram
            };
            if !allowed(frame, activation.at, bytes, touched.writes, by) {
                let (writes, function) = (touched.writes, activation.function.0);
                return Err(format!(
                    "{by:?} accesses bytes {bytes:?} of the frame of function {function}, writing: {writes}, and nothing is said \
                     of that at its instruction {}",
                    activation.at.0
                ));
            }
        }
        Ok(())
    }
}

/// `r10` of the function at this depth, from 0.
fn r10(depth: usize, regions: &Regions) -> u64 {
    regions.stack_end - FRAME_BYTES * depth as u64
}

fn allowed(frame: &FrameFacts, at: InsnIndex, bytes: (i32, i32), writes: bool, by: Through) -> bool {
    let own = |access: &bpf2sys_verifier::StackAccess| {
        access.offset <= bytes.0 && bytes.1 <= access.offset + access.width as i32
    };
    if by == Through::Pointer && frame.access(at).is_some_and(own) {
        return true;
    }
    // Nothing else touches what is private.
    let private = |slot: &bpf2sys_verifier::StackSlot| {
        slot.private && slot.offset < bytes.1 && bytes.0 < slot.offset + slot.size as i32
    };
    !frame.slots.iter().any(private)
        && (bytes.0..bytes.1).all(|byte| {
            frame.escapes.iter().any(|escape| {
                escape.at == at
                    && escape.by == by
                    && (escape.bytes.0..escape.bytes.1).contains(&byte)
                    && (escape.writes || !writes)
            })
        })
}
