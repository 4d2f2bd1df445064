//! Where the value of a register comes from, and what it points into.

use bpf2sys_bytecode::{MapOrigin, Reg};
use prevail::cfg::label::Label;
use prevail::ir::syntax::{ArgSingle, ArgSingleKind, Instruction};

use super::trace::{self, Origin};
use super::view::View;
use super::{Explainer, Way, sort};
use crate::flow::Source;
use crate::{Kind, Memory};

impl Explainer<'_> {
    /// Where the value of a register comes from.
    pub(super) fn origin(&self, point: &Label, way: &Way, register: Reg, through_stack: bool) -> Option<Origin> {
        if way.kind.is_whole() {
            return Some(trace::origin(self.meaning, &way.labels, register, through_stack));
        }
        let (function, index) = self.subject.code.place(self.subject.module, point.from)?;
        let undefined = self.subject.flow.at(function, index)[register.index()] == Source::Undefined;
        undefined.then_some(Origin::Nothing(register))
    }

    /// What a register points into.
    pub(super) fn memory(&self, point: &Label, way: &Way, view: &View<'_>, register: Reg) -> Memory {
        let kinds = view.kinds(register);
        if kinds == [Kind::Context] {
            return Memory::Context;
        }
        if !kinds.contains(&Kind::MapValue) && !kinds.contains(&Kind::Allocated) {
            return Memory::MapValue { map: None };
        }
        match (view.kind(register), self.origin(point, way, register, true)) {
            (Kind::Allocated, Some(Origin::Result(call))) => Memory::Given {
                helper: self.callee(way, call),
            },
            (Kind::Allocated, _) => Memory::Given { helper: None },
            (_, Some(Origin::Result(call))) => Memory::MapValue {
                map: self.map_of_call(way, call),
            },
            (_, Some(Origin::MapMemory(index))) => self.map_memory(way, index),
            _ => Memory::MapValue { map: None },
        }
    }

    fn callee(&self, way: &Way, call: usize) -> Option<String> {
        match self.instruction(way.labels.get(call)?) {
            Instruction::Call(call) => Some(call.name.to_string()),
            _ => None,
        }
    }

    /// The map that a call on the path names.
    fn map_of_call(&self, way: &Way, call: usize) -> Option<String> {
        let Instruction::Call(called) = self.instruction(way.labels.get(call)?) else {
            return None;
        };
        let of_map = |single: &&ArgSingle| single.kind == ArgSingleKind::MapFd;
        let map = called.contract.singles.iter().find(of_map)?;
        let state = self.execute(way.start.clone(), way.labels.get(..call)?)?;
        View::new(&state, self.context, &self.names)
            .map(sort::register(map.reg))
            .map(|(name, _)| name)
    }

    fn map_memory(&self, way: &Way, index: usize) -> Memory {
        let module = self.subject.module;
        let map = match way.labels.get(index).map(|label| self.meaning.instruction_at(label)) {
            Some(Instruction::LoadMapAddress(load)) => self.subject.code.maps.map_of(load.mapfd),
            _ => None,
        };
        let map = map.and_then(|map| module.maps.get(map.index()));
        match map.map(|map| &map.origin) {
            Some(MapOrigin::Global(global)) => match module.globals.get(global.index()) {
                Some(global) => Memory::Globals {
                    section: global.section.clone(),
                },
                None => Memory::MapValue { map: None },
            },
            _ => Memory::MapValue {
                map: map.map(|map| map.name.clone()),
            },
        }
    }

    /// Why nothing is known of a register.
    pub(super) fn nothing(&self, point: &Label, way: &Way, register: Reg) -> &'static str {
        match self.origin(point, way, register, false) {
            Some(Origin::Nothing(_)) => "nothing: it was never written",
            Some(Origin::Destroyed(..)) => "nothing: a call destroyed it",
            Some(Origin::Stack(_)) => "nothing known: it was read from stack memory that was not written as one value",
            Some(Origin::Loaded(_)) => "nothing known: it was read from a part of a pointer field",
            _ => "nothing that is known on every path",
        }
    }
}
