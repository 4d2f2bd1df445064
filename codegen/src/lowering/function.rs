//! One eBPF function as one Cranelift function.
//!
//! | | program | subprogram |
//! |---|---|---|
//! | signature | `u64 f(context, runtime)` | `u64 g(r1, r2, r3, r4, r5, r10, context, runtime)` |
//! | at entry | `r1` = context, others 0 | `r1` to `r5` and `r10` as passed; others: see [`inherited`](mod@super::inherited) |
//! | `r10` | end of its own stack | its caller's `r10` - 512 |
//!
//! Both use the platform's C convention: with any other, Cranelift would save vector registers around calls. (Native
//! module contract §6.1, §6.2.)
//!
//! **Stack.** The program's frame holds the 512 bytes of every function on the deepest chain of calls from it, one below
//! the other, because that is what the verifier proves things about: there, `r10` of a callee is `r10` of its caller minus
//! 512 and a function may touch all of its callers' bytes, through whatever pointer it computed. Separate stacks would let
//! a verified program write past the end of one.
//!
//! **Tail calls.** When helper 5 returns 0 the runtime has the next program waiting and the whole program must return 0 at
//! once (contract §6.3), also from inside a subprogram. A subprogram from which a tail call can be reached therefore has a
//! second result, in `rdx` or `x1`: not 0 means "the program ends here", and its caller passes it on.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{
    Condition, Function, FunctionIndex, FunctionKind, Imm64, InsnIndex, Instruction, MapIndex, Module, Operand, Reg,
    WordSize,
};
use bpf2sys_verifier::{FunctionFacts, VerifiedModule};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, AbiParam, Block, InstBuilder, MemFlagsData, SigRef, Signature, SourceLoc, StackSlot, StackSlotData,
    StackSlotKind, UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::flow::{Flow, Next};
use crate::call_graph::CallGraph;
use crate::error::{InstructionProblem, LowerError, Place};
use crate::metadata::HelperTables;
use crate::{Options, runtime_context};

/// Namespace of Cranelift's user names whose index is a [`FunctionIndex`].
pub(crate) const FUNCTION_NAMESPACE: u32 = 0;

/// Bytes of stack that each function has below `r10`.
pub(crate) const STACK_BYTES: i32 = 512;

/// A program with more stack than this touches its middle first. Kernel stacks end in a guard page; nothing may step over
/// it, and the frame could otherwise be larger than it.
pub(crate) const PROBE_ABOVE: i32 = 2048;

/// What the lowering of every function of a module shares.
pub(crate) struct Unit<'a> {
    /// The module and its facts.
    pub(crate) verified: &'a VerifiedModule,
    /// The caller's choices.
    pub(crate) options: &'a Options,
    /// Helper slots.
    pub(crate) helpers: &'a HelperTables,
    /// Who calls whom.
    pub(crate) calls: &'a CallGraph,
    /// Maps that are the inner map template of another.
    pub(crate) templates: &'a BTreeSet<MapIndex>,
    /// Target.
    pub(crate) isa: &'a dyn TargetIsa,
}

impl Unit<'_> {
    /// The eBPF stack in a function's frame, in bytes: its own and those of the deepest chain of calls from it, if it is a
    /// program. Subprograms have theirs in the frame of the program.
    pub(crate) fn stack_bytes(&self, index: FunctionIndex) -> u32 {
        match self.verified.module().function(index).kind {
            FunctionKind::Program => STACK_BYTES as u32 * self.calls.frames[index.index()],
            FunctionKind::Subprogram => 0,
        }
    }

    /// The signature of a function of the module.
    pub(super) fn signature(&self, index: FunctionIndex) -> Signature {
        let mut signature = Signature::new(CallConv::WindowsFastcall);
        let (parameters, results) = match self.verified.module().function(index).kind {
            FunctionKind::Program => (2, 1),
            FunctionKind::Subprogram => (
                8 + self.calls.inherited[index.index()].iter().count(),
                if self.calls.tail_calls[index.index()] { 2 } else { 1 },
            ),
        };
        signature.params = vec![AbiParam::new(types::I64); parameters];
        signature.returns = vec![AbiParam::new(types::I64); results];
        signature
    }
}

/// Translates the function `index`, whose flow is `flow`.
pub(crate) fn lower_function(
    unit: &Unit<'_>,
    index: FunctionIndex,
    flow: &Flow,
    scratch: &mut FunctionBuilderContext,
) -> Result<ir::Function, LowerError> {
    let name = UserFuncName::user(FUNCTION_NAMESPACE, index.0);
    let mut output = ir::Function::with_name_signature(name, unit.signature(index));
    let builder = FunctionBuilder::new(&mut output, scratch);
    Lowering::begin(unit, index, flow, builder).body()?;
    Ok(output)
}

/// The translation of one function, in progress.
pub(super) struct Lowering<'a, 'f> {
    pub(super) unit: &'a Unit<'a>,
    pub(super) module: &'a Module,
    pub(super) index: FunctionIndex,
    pub(super) function: &'a Function,
    pub(super) facts: &'a FunctionFacts,
    flow: &'a Flow,
    pub(super) builder: FunctionBuilder<'f>,
    /// `r0` to `r9`.
    pub(super) registers: [Variable; Reg::COUNT - 1],
    pub(super) frame_pointer: FramePointer,
    pub(super) context: Value,
    pub(super) runtime: Value,
    /// By instruction: its block, if a jump goes there.
    blocks: Vec<Option<Block>>,
    /// Where a pending tail call returns, once one was needed.
    pub(super) ending: Option<Block>,
    /// The signature of helpers, once one was called.
    pub(super) helper_signature: Option<SigRef>,
}

/// What `r10` is.
#[derive(Clone, Copy)]
pub(super) enum FramePointer {
    /// The end of a stack slot of this function.
    Own {
        /// The slot.
        slot: StackSlot,
        /// Its size in bytes.
        bytes: i32,
    },
    /// What the caller passed.
    Passed(Value),
}

/// A load from the runtime's tables. They are valid and unchanged while a program runs, the addresses of helpers
/// excepted, so Cranelift may load once and where it likes.
pub(super) fn table_flags() -> MemFlagsData {
    MemFlagsData::trusted().with_readonly().with_can_move()
}

impl<'a, 'f> Lowering<'a, 'f> {
    fn begin(unit: &'a Unit<'a>, index: FunctionIndex, flow: &'a Flow, mut builder: FunctionBuilder<'f>) -> Self {
        let module = unit.verified.module();
        let function = module.function(index);
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let parameters = builder.block_params(entry).to_vec();
        let (arguments, inherited, frame_pointer, context, runtime) = match parameters.as_slice() {
            [r1, r2, r3, r4, r5, r10, context, runtime, inherited @ ..] => (
                vec![*r1, *r2, *r3, *r4, *r5],
                inherited,
                FramePointer::Passed(*r10),
                *context,
                *runtime,
            ),
            [context, runtime] => {
                let bytes = unit.stack_bytes(index);
                let slot = builder.create_sized_stack_slot(StackSlotData::new(
                    StackSlotKind::ExplicitSlot,
                    bytes,
                    4, // 2^4 = 16-byte aligned
                ));
                let bytes = bytes.cast_signed();
                let frame_pointer = FramePointer::Own { slot, bytes };
                (vec![*context], [].as_slice(), frame_pointer, *context, *runtime)
            }
            _ => unreachable!("`Unit::signature` makes no other signature"),
        };
        let zero = builder.ins().iconst(types::I64, 0);
        let mut values = [zero; Reg::COUNT - 1];
        values[1..=arguments.len()].copy_from_slice(&arguments);
        for (register, value) in unit.calls.inherited[index.index()].iter().zip(inherited) {
            values[register.index()] = *value;
        }
        let registers = values.map(|value| {
            let register = builder.declare_var(types::I64);
            builder.def_var(register, value);
            register
        });
        if let FramePointer::Own { slot, bytes } = frame_pointer
            && bytes > PROBE_ABOVE
        {
            let middle = builder.ins().stack_addr(types::I64, slot, bytes - PROBE_ABOVE);
            builder.ins().istore8(MemFlagsData::new(), zero, middle, 0);
            builder.ins().sequence_point(); // keeps the store, as `memory` explains
        }
        let blocks = (0..function.instructions.len() as u32)
            .map(|i| flow.starts_block(InsnIndex(i)).then(|| builder.create_block()))
            .collect();
        Lowering {
            unit,
            module,
            index,
            function,
            facts: unit.verified.facts(index),
            flow,
            builder,
            registers,
            frame_pointer,
            context,
            runtime,
            blocks,
            ending: None,
            helper_signature: None,
        }
    }

    fn body(mut self) -> Result<(), LowerError> {
        let mut open = true; // whether the current block still wants instructions
        for position in 0..self.function.instructions.len() {
            let index = InsnIndex(position as u32);
            let Some(next) = self.flow.next(index) else { continue };
            if let Some(block) = self.blocks[position] {
                if open {
                    self.builder.ins().jump(block, &[]);
                }
                self.builder.switch_to_block(block);
            }
            self.builder.set_srcloc(SourceLoc::new(index.0));
            self.instruction(index, next)
                .map_err(|problem| self.error(index, problem))?;
            open = !matches!(
                self.function.instructions[position].op,
                Instruction::Jump { .. } | Instruction::JumpIf { .. } | Instruction::Exit
            );
        }
        self.builder.set_srcloc(SourceLoc::default());
        self.finish_ending();
        self.builder.seal_all_blocks();
        self.builder.finalize(self.unit.isa.frontend_config());
        Ok(())
    }

    /// The list of RFC 9669.
    fn instruction(&mut self, index: InsnIndex, next: Next) -> Result<(), InstructionProblem> {
        let op = self.function.instructions[index.index()].op;
        match op {
            Instruction::Alu { size, op, dst, src } => self.alu(size, op, dst, src),
            Instruction::Movsx { size, from, dst, src } => self.movsx(size, from, dst, src),
            Instruction::Neg { size, dst } => self.neg(size, dst),
            Instruction::ByteSwap { kind, width, dst } => self.byte_swap(kind, width, dst),
            Instruction::LoadImm64 { dst, value } => {
                let value = self.imm64(value).ok_or(InstructionProblem::NoMeaning(op))?;
                self.write(dst, value)
            }
            Instruction::Load {
                width,
                signed,
                dst,
                base,
                offset,
            } => self.load(width, signed, dst, base, offset),
            Instruction::Store {
                width,
                base,
                offset,
                src,
            } => {
                self.store(width, base, offset, src);
                Ok(())
            }
            Instruction::Atomic {
                size,
                op,
                base,
                offset,
                src,
            } => self.atomic(size, op, base, offset, src),
            Instruction::Jump { .. } => {
                self.go(next);
                Ok(())
            }
            Instruction::JumpIf {
                size,
                condition,
                dst,
                src,
                ..
            } => {
                self.jump_if(size, condition, dst, src, next);
                Ok(())
            }
            Instruction::Call(callee) => self.call(index, callee),
            Instruction::Exit => {
                let r0 = self.read(Reg::R0);
                self.return_from_function(r0, false);
                Ok(())
            }
            Instruction::CallX(_) | Instruction::LegacyPacket { .. } => Err(InstructionProblem::NoMeaning(op)),
        }
    }

    /// Ends the block with a jump to the one place that `next` names.
    fn go(&mut self, next: Next) {
        if let Next::One(to) = next {
            let block = self.block(to);
            self.builder.ins().jump(block, &[]);
        }
    }

    fn jump_if(&mut self, size: WordSize, condition: Condition, dst: Reg, src: Operand, next: Next) {
        let Next::Two { taken, otherwise } = next else {
            return self.go(next); // proven: the condition is not computed
        };
        let (taken, otherwise) = (self.block(taken), self.block(otherwise));
        let (a, b) = (self.read_word(size, dst), self.operand(size, src));
        let holds = match int_condition(condition) {
            Some(cc) => self.builder.ins().icmp(cc, a, b),
            None => self.builder.ins().band(a, b),
        };
        self.builder.ins().brif(holds, taken, &[], otherwise, &[]);
    }

    /// The value of an `lddw`; `None` if it has none on Windows.
    fn imm64(&mut self, value: Imm64) -> Option<Value> {
        match value {
            Imm64::Constant(value) => Some(self.builder.ins().iconst(types::I64, value.cast_signed())),
            Imm64::Map(map) => self.map_field(map, runtime_context::map_address),
            Imm64::Global { section, offset } => {
                self.module.globals.get(section.index())?;
                let field = runtime_context::global_address(section.0)?;
                let base = self.table_entry(runtime_context::GLOBAL_DATA, field);
                Some(self.builder.ins().iadd_imm_u(base, i64::from(offset)))
            }
            Imm64::Pseudo { .. } => None,
        }
    }

    /// A field of `map_data[map]`.
    pub(super) fn map_field(&mut self, map: MapIndex, field: fn(u32) -> Option<i32>) -> Option<Value> {
        self.module.maps.get(map.index())?;
        Some(self.table_entry(runtime_context::MAP_DATA, field(map.0)?))
    }

    /// The pointer at `offset` in the table whose address is the field `table` of the runtime context.
    fn table_entry(&mut self, table: i32, offset: i32) -> Value {
        let table = self.builder.ins().load(types::I64, table_flags(), self.runtime, table);
        self.builder.ins().load(types::I64, table_flags(), table, offset)
    }

    /// Returns from the Cranelift function: `value` is `r0`, `ended` whether a tail call is pending.
    pub(super) fn return_from_function(&mut self, value: Value, ended: bool) {
        let mut results = vec![value];
        if self.builder.func.signature.returns.len() == 2 {
            results.push(self.builder.ins().iconst(types::I64, i64::from(ended)));
        }
        self.builder.ins().return_(&results);
    }

    /// The block of an instruction that a jump goes to.
    fn block(&self, index: InsnIndex) -> Block {
        self.blocks[index.index()].expect("every jump target of the flow starts a block")
    }

    fn error(&self, index: InsnIndex, problem: InstructionProblem) -> LowerError {
        instruction_error(self.module, self.function, index, problem)
    }
}

/// The error for a problem of the instruction at `index`.
pub(crate) fn instruction_error(
    module: &Module,
    function: &Function,
    index: InsnIndex,
    problem: InstructionProblem,
) -> LowerError {
    let insn = function.instructions.get(index.index());
    LowerError::Instruction {
        place: Place {
            function: function.name.clone(),
            slot: insn.map_or(0, |insn| insn.slot),
            line: insn.and_then(|insn| module.line(insn)).cloned(),
        },
        problem,
    }
}

/// The comparison that a condition means; `None` for `JSET`, which tests bits.
fn int_condition(condition: Condition) -> Option<IntCC> {
    Some(match condition {
        Condition::Eq => IntCC::Equal,
        Condition::Ne => IntCC::NotEqual,
        Condition::Gt => IntCC::UnsignedGreaterThan,
        Condition::Ge => IntCC::UnsignedGreaterThanOrEqual,
        Condition::Lt => IntCC::UnsignedLessThan,
        Condition::Le => IntCC::UnsignedLessThanOrEqual,
        Condition::Sgt => IntCC::SignedGreaterThan,
        Condition::Sge => IntCC::SignedGreaterThanOrEqual,
        Condition::Slt => IntCC::SignedLessThan,
        Condition::Sle => IntCC::SignedLessThanOrEqual,
        Condition::Set => return None,
    })
}
