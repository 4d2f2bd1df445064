//! Stack slots that are values and no memory.
//!
//! Given: a body, and who touches the stack frames of its functions ([`FrameFacts`]).
//! Computed: the slots of which a variable can take the place, and the instructions that access each.
//! Safe because: every access to a byte of a slot, by whomever, is a load or store of the body to exactly that slot, or the key of
//! an array lookup that is made in place: where bytes escape to anything else while any instruction executes, or two accesses
//! overlap without being of the same bytes, the slot stays memory. What a load finds that nothing was stored to before is any number
//! to the verifier, and 0 here.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{FunctionIndex, InsnIndex, Instruction};
use bpf2sys_verifier::FrameFacts;

use super::{Body, Node};
use crate::lowering::ARRAY_KEY_BYTES;

/// The slots of a body that are values.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// By number: how many bytes they have: 1, 2, 4 or 8.
    pub(crate) widths: Vec<u32>,
    /// By function, frame and instruction: the slot that it accesses.
    accesses: BTreeMap<(FunctionIndex, u8, InsnIndex), usize>,
}

impl Slots {
    /// Finds them. `facts` are those of a function's frame, `in_place` says whether a call is a lookup that is made in place.
    pub(crate) fn of<'a>(
        body: &Body,
        facts: impl Fn(FunctionIndex) -> Option<&'a FrameFacts>,
        in_place: impl Fn(&Node) -> bool,
    ) -> Slots {
        let mut lookups = BTreeSet::new();
        let mut functions = BTreeSet::new();
        for node in body.nodes().map(|index| body.node(index)) {
            functions.insert((node.place.function, node.frame));
            if in_place(node) {
                lookups.insert(node.place);
            }
        }
        let atomics: BTreeSet<_> = (body.nodes().map(|index| body.node(index)))
            .filter(|node| matches!(node.op, Instruction::Atomic { .. }))
            .map(|node| node.place)
            .collect();
        let mut slots = Slots::default();
        for (function, frame) in functions {
            let Some(facts) = facts(function) else { continue };
            let is = |set: &BTreeSet<_>, instruction| {
                let place = crate::InsnPlace { function, instruction };
                set.contains(&place)
            };
            // First byte and number of bytes, by who accesses them; `None` for what no variable can serve.
            let mut touched: Vec<(i32, i32, Option<InsnIndex>)> = Vec::new();
            for access in &facts.accesses {
                let end = access.offset + access.width.cast_signed();
                let served = (!is(&atomics, access.at)).then_some(access.at);
                touched.push((access.offset, end, served));
            }
            for escape in &facts.escapes {
                let (start, end) = escape.bytes;
                let is_key = is(&lookups, escape.at) && end - start == ARRAY_KEY_BYTES.cast_signed();
                touched.push((start, end, is_key.then_some(escape.at)));
            }
            touched.sort_unstable();
            // Bytes that overlap belong together.
            let mut rest = touched.as_slice();
            while let Some((start, first_end, _)) = rest.first() {
                let mut end = *first_end;
                let mut count = 0;
                while let Some((next, next_end, _)) = rest.get(count)
                    && (*next < end || next == start)
                {
                    end = end.max(*next_end);
                    count += 1;
                }
                let (group, others) = rest.split_at(count);
                rest = others;
                let width = end - start;
                let same = group
                    .iter()
                    .all(|(from, to, by)| from == start && *to == end && by.is_some());
                if same && matches!(width, 1 | 2 | 4 | 8) {
                    for at in group.iter().filter_map(|(_, _, by)| *by) {
                        slots.accesses.insert((function, frame, at), slots.widths.len());
                    }
                    slots.widths.push(width.cast_unsigned());
                }
            }
        }
        slots
    }

    /// The slot that a node accesses.
    pub(crate) fn of_node(&self, node: &Node) -> Option<usize> {
        let key = (node.place.function, node.frame, node.place.instruction);
        self.accesses.get(&key).copied()
    }
}
