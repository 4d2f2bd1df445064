//! Whether an access to stack memory, or a read of a register, means the same wherever the frames of functions lie.
//!
//! The engine lays the frames of nested calls side by side, gives a callee the registers of its caller, and accepts any
//! access from the bottom of the own frame to the top of the program's. Our own lowering does as the engine does, because every
//! program that is accepted must run; RFC 9669 and other code for the same contract have them apart (bpf2c's functions begin
//! with `r6` to `r9` as 0). Facts are to hold for both (see [`flow`](crate::flow)), and so are taken only from programs for which
//! the two agree:
//! * an access within the own frame, at a known distance from the own `r10`;
//! * in a function that the program itself calls: an access within the program's frame, through an argument;
//! * any access of a program that calls no other function: there is one frame;
//! * reads of registers that the function itself has written, or that are its arguments.

use bpf2sys_bytecode::{AluOp, Callee, FunctionKind, Instruction, MapDefinition, MapIndex, Module, Operand, Reg};
use bpf2sys_platform::{Platform, ProgramType};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::Reg as EngineReg;

use super::trust::Point;
use crate::RegisterKind;
use crate::facts::accessed;
use crate::flow::{Source, reads};
use crate::prototype::{Need, prototype};

/// What the accesses of a program are measured with.
pub(super) struct Frames<'a> {
    pub platform: &'a Platform,
    pub program_type: &'a ProgramType,
    /// Whether the program calls other functions of the module.
    pub several: bool,
    /// The module, for the sizes of its maps.
    pub module: &'a Module,
}

impl Frames<'_> {
    /// Whether the instruction at a point does the same with frames and registers side by side and apart. `map` is the one map
    /// of a call.
    pub fn agree(
        &self,
        op: &Instruction,
        kind: FunctionKind,
        map: Option<MapIndex>,
        point: &Point<'_>,
        names: &mut VariableRegistry,
    ) -> bool {
        if !self.several {
            return true;
        }
        let undefined = |register: Reg| point.sources[register.index()] == Source::Undefined;
        if reads(op).any(undefined) {
            return false;
        }
        if let Some((base, offset, bytes)) = accessed(op) {
            return self.access(base, offset.into(), Some(bytes.into()), point, names);
        }
        match *op {
            // Two frames lie at no known distance.
            Instruction::Alu {
                op: AluOp::Sub,
                dst,
                src: Operand::Reg(src),
                ..
            } => !(is_stack(dst, point) && is_stack(src, point)),
            Instruction::Call(callee @ (Callee::Helper(_) | Callee::Btf(_))) => self.call(callee, map, point, names),
            Instruction::Exit => kind == FunctionKind::Subprogram || !undefined(Reg::R0),
            _ => true,
        }
    }

    /// An access of `bytes` bytes, or of an unknown number, at `offset` from a register.
    fn access(
        &self,
        base: Reg,
        offset: i64,
        bytes: Option<i64>,
        point: &Point<'_>,
        names: &mut VariableRegistry,
    ) -> bool {
        if !is_stack(base, point) {
            return true;
        }
        let frame = i64::from(self.platform.limits.subprogram_stack_bytes);
        let Some(bytes) = bytes else { return false };
        let within = |start: i64, low: i64, high: i64| low <= start && start.saturating_add(bytes) <= high;
        match point.sources[base.index()] {
            Source::OwnFrame(at) => within(i64::from(at) + offset, -frame, 0),
            Source::Argument if point.label.call_stack_depth() == 2 => {
                let mut at = |register: Reg| {
                    let register = EngineReg { v: register.number() };
                    point.state.get_stack_offset(&register, names)
                };
                match (at(base), at(Reg::R10)) {
                    (Some(at), Some(own)) => within(at.saturating_sub(own).saturating_add(offset), 0, frame),
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// The accesses of a callee outside the module through its arguments.
    fn call(&self, callee: Callee, map: Option<MapIndex>, point: &Point<'_>, names: &mut VariableRegistry) -> bool {
        let Some(called) = prototype(callee, self.module, self.platform, self.program_type) else {
            return false;
        };
        called.needs().all(|(register, need)| {
            if !is_stack(register, point) {
                return true;
            }
            // The register after a pointer to sized memory is the size: of the numbers it can be, the largest counts.
            let next = point.registers.get(register.index() + 1);
            let bytes = match need {
                Need::Memory { .. } => next
                    .and_then(|r| r.unsigned)
                    .and_then(|(_, max)| i64::try_from(max).ok()),
                Need::Key => self.map_memory(map, |definition| definition.key_size),
                Need::Value | Need::NewValue => self.map_memory(map, |definition| definition.value_size),
                _ => None,
            };
            self.access(register, 0, bytes, point, names)
        })
    }

    /// Size of a key or value: that of the one map, else the largest of all maps.
    fn map_memory(&self, map: Option<MapIndex>, size: impl Fn(&MapDefinition) -> u32) -> Option<i64> {
        let known = map.and_then(|map| self.module.maps.get(map.index()));
        let bytes = match known {
            Some(map) => Some(size(&map.definition)),
            None => self.module.maps.iter().map(|m| size(&m.definition)).max(),
        };
        bytes.map(i64::from)
    }
}

/// Whether a register may hold an address on the stack.
fn is_stack(register: Reg, point: &Point<'_>) -> bool {
    matches!(
        point.registers[register.index()].kind,
        RegisterKind::Stack | RegisterKind::Unknown
    )
}
