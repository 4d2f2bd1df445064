//! The program as the engine analyses it, where its own reading of an instruction is not what Windows runs.
//!
//! Two instructions are replaced by a pair, which does the same by steps that the engine gets right:
//! * A call of a helper that writes to memory which its prototype calls readable (`Helper::writes_readable`, such as
//!   `bpf_map_pop_elem`): the engine keeps what it knew of that memory, and would accept `value[index]` with the index
//!   that was there before the call. The call is analysed with writable memory as its argument, and the size of a map's
//!   key or value in a register of the engine's own: what was on the stack is then forgotten.
//! * A store of a negative constant, after which the engine holds a negative unsigned number in memory and calls the
//!   wrong edge of an unsigned comparison dead. The constant goes through that register too.
//!
//! The engine's assertions stay those of the instruction itself. Which map a call names is known after an analysis only,
//! so the analysis is repeated until every call that it reaches was analysed with the size that it finds there.
//!
//! The second instruction of a pair has a label of its own, with a `special_label`.

use std::collections::BTreeMap;

use bpf2sys_platform::{Helper, Platform, ProgramType};
use prevail::cfg::graph::Cfg;
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::DomainContext;
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::program::Program;
use prevail::ir::syntax::{
    ArgPair, ArgPairKind, ArgSingleKind, Bin, BinOp, Call, CallKind, Imm, Instruction, Mem, Reg, Value,
};
use prevail::result::AnalysisResult;
use prevail::spec::vm_isa::R11_ATOMIC_SCRATCH as SCRATCH;

use crate::error::RejectionReason;

/// The program with its replacements.
pub(super) struct Meaning<'a> {
    graph: &'a Program,
    cfg: Cfg,
    replaced: BTreeMap<Label, Instruction>,
    /// The calls that write as many bytes as a map's key or value has.
    calls: BTreeMap<Label, Written<'a>>,
}

/// A call that writes map memory.
struct Written<'a> {
    helper: &'a Helper,
    /// The call itself.
    call: Call,
    /// The arguments, and whether each is a key.
    arguments: Vec<(Reg, bool)>,
    /// How many bytes it was last analysed with.
    bytes: Option<u64>,
}

impl<'a> Meaning<'a> {
    /// Nothing is known of the maps of calls yet.
    pub fn new(
        graph: &'a Program,
        platform: &'a Platform,
        program_type: &'a ProgramType,
    ) -> Result<Meaning<'a>, (Label, RejectionReason)> {
        let mut meaning = Meaning {
            graph,
            cfg: copy(graph.cfg()),
            replaced: BTreeMap::new(),
            calls: BTreeMap::new(),
        };
        for label in graph.labels() {
            match graph.instruction_at(label) {
                Instruction::Mem(
                    store @ Mem {
                        value: Value::Imm(imm), ..
                    },
                ) if imm.v.cast_signed() < 0 => {
                    let through_scratch = Mem {
                        value: Value::Reg(SCRATCH),
                        ..store.clone()
                    };
                    meaning.replace(label, imm.v, Instruction::Mem(through_scratch));
                }
                Instruction::Call(call) if call.kind == CallKind::Helper => {
                    let helper = u32::try_from(call.func)
                        .ok()
                        .and_then(|id| platform.helper(program_type, id));
                    if let Some(helper) = helper.filter(|h| !h.writes_readable.is_empty()) {
                        meaning.call(label, call, helper)?;
                    }
                }
                _ => {}
            }
        }
        Ok(meaning)
    }

    /// The graph with the replacements.
    pub fn cfg(&self) -> &Cfg {
        &self.cfg
    }

    /// What to analyse at a label.
    pub fn instruction_at(&self, label: &Label) -> &Instruction {
        match self.replaced.get(label) {
            Some(instruction) => instruction,
            None => self.graph.instruction_at(label),
        }
    }

    /// The engine's own reading of the instruction at a label.
    pub fn original_at(&self, label: &Label) -> &Instruction {
        if label.special_label == "replaced" {
            return self.instruction_at(label);
        }
        self.graph.instruction_at(label)
    }

    /// A call of a helper with arguments that it writes.
    fn call(&mut self, label: &Label, call: &Call, helper: &'a Helper) -> Result<(), (Label, RejectionReason)> {
        let mut call = call.clone();
        let mut arguments = Vec::new();
        for position in &helper.writes_readable {
            let register = Reg { v: *position };
            if let Some(pair) = call.contract.pairs.iter_mut().find(|pair| pair.mem == register) {
                pair.kind = ArgPairKind::PtrToWritableMem;
                continue;
            }
            let single = call.contract.singles.iter().find(|single| single.reg == register);
            match single.map(|single| single.kind) {
                Some(ArgSingleKind::PtrToMapKey) => arguments.push((register, true)),
                Some(ArgSingleKind::PtrToMapValue) => arguments.push((register, false)),
                _ => return Err((label.clone(), unknown_size(helper))),
            }
        }
        if arguments.is_empty() {
            self.replaced.insert(label.clone(), Instruction::Call(call));
        } else {
            let written = Written {
                helper,
                call,
                arguments,
                bytes: None,
            };
            self.calls.insert(label.clone(), written);
        }
        Ok(())
    }

    /// Takes in the sizes that an analysis found. Whether there was a new one: then that analysis proves nothing.
    ///
    /// # Errors
    /// The first call that may write more than one number of bytes.
    pub fn learn(
        &mut self,
        result: &AnalysisResult,
        context: &DomainContext<'_>,
        names: &mut VariableRegistry,
    ) -> Result<bool, (Label, RejectionReason)> {
        let mut new = Vec::new();
        for (label, written) in &mut self.calls {
            let Some(states) = result.invariants.get(label).filter(|states| !states.pre.is_bottom()) else {
                continue;
            };
            let singles = &written.call.contract.singles;
            let map = singles.iter().find(|single| single.kind == ArgSingleKind::MapFd);
            let sizes = written.arguments.iter().map(|(_, key)| {
                let size = match (map, *key) {
                    (None, _) => return None,
                    (Some(map), true) => states.pre.get_map_key_size(&map.reg, context, names),
                    (Some(map), false) => states.pre.get_map_value_size(&map.reg, context, names),
                };
                let bytes = size.singleton()?.to_i64()?;
                u64::try_from(bytes).ok()
            });
            // One register holds the size, so there can only be one.
            let one = sizes.reduce(|a, b| if a == b { a } else { None }).flatten();
            match (one, written.bytes) {
                (Some(found), Some(known)) if found == known => {}
                (Some(found), None) => {
                    written.bytes = one;
                    let mut call = written.call.clone();
                    for (register, _) in &written.arguments {
                        call.contract.pairs.push(ArgPair {
                            kind: ArgPairKind::PtrToWritableMem,
                            or_null: false,
                            mem: *register,
                            size: SCRATCH,
                            can_be_zero: true,
                        });
                    }
                    new.push((label.clone(), found, Instruction::Call(call)));
                }
                _ => return Err((label.clone(), unknown_size(written.helper))),
            }
        }
        let changed = !new.is_empty();
        for (label, bytes, call) in new {
            self.replace(&label, bytes, call);
        }
        Ok(changed)
    }

    /// Puts `value` into the scratch register where `label` is, and `second` behind it.
    fn replace(&mut self, label: &Label, value: u64, second: Instruction) {
        let behind = Label {
            special_label: "replaced".to_owned(),
            ..label.clone()
        };
        self.cfg.insert_after(label, behind.clone());
        let first = Instruction::Bin(Bin {
            op: BinOp::MOV,
            dst: SCRATCH,
            v: Value::Imm(Imm { v: value }),
            is64: true,
            lddw: false,
        });
        self.replaced.insert(label.clone(), first);
        self.replaced.insert(behind, second);
    }

    /// The engine's assertions at a label.
    pub fn assertions_at(&self, label: &Label) -> &[prevail::ir::syntax::Assertion] {
        if label.special_label == "replaced" {
            return &[];
        }
        self.graph.assertions_at(label)
    }
}

fn unknown_size(helper: &Helper) -> RejectionReason {
    RejectionReason::UnknownWrite {
        helper: helper.name.clone(),
    }
}

fn copy(from: &Cfg) -> Cfg {
    let mut cfg = Cfg::new();
    for label in from.labels() {
        if !cfg.contains(label) {
            cfg.insert(label.clone());
        }
    }
    for label in from.labels() {
        for child in from.children_of(label) {
            cfg.add_child(label, child);
        }
    }
    cfg
}
