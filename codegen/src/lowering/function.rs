//! One eBPF function as one Cranelift function.
//!
//! | | program | subprogram |
//! |---|---|---|
//! | signature | `u64 f(context, runtime)` | `u64 g(r1, r2, r3, r4, r5, r10, context, runtime)`, without those that it does not need |
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
//!
//! A long function is more than one Cranelift function: see [`pieces`](super::pieces) and [`dispatch`](super::dispatch).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use bpf2sys_bytecode::{
    BtfFunctionIndex, Callee, Condition, Function, FunctionIndex, FunctionKind, Imm64, InsnIndex, Instruction,
    MapIndex, Module, Operand, Reg, WordSize,
};
use bpf2sys_platform::{BtfFunction, Helper, Platform};
use bpf2sys_verifier::{FrameFacts, InsnFacts, VerifiedModule};
use cranelift_codegen::entity::EntitySet;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, AbiParam, Block, FuncRef, Inst, InstBuilder, MemFlagsData, SigRef, Signature, SourceLoc, StackSlot,
    StackSlotData, StackSlotKind, UserExternalName, UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::call::MAP_LOOKUP;
use super::dispatch::piece_signature;
use super::flow::Next;
use super::inherited::RegisterSet;
use super::liveness::live_before;
use super::pieces::{self, Order, Piece};
use super::pins::Pins;
use crate::bodies::Planned;
use crate::body::{Body, Node, NodeIndex};
use crate::call_graph::CallGraph;
use crate::calls_x64::Unread;
use crate::convention::Convention;
use crate::error::{InstructionProblem, LowerError, Place};
use crate::lowered::Numbering;
use crate::metadata::map_types::ARRAY;
use crate::metadata::{BtfTables, HelperTables};
use crate::shape;
use crate::{InsnPlace, Optimization, Options, RuntimeLevel, runtime_context};

/// Namespace of Cranelift's user names of whole functions and dispatchers; piece N has N + 1. The index is a
/// [`FunctionIndex`].
const FUNCTION_NAMESPACE: u32 = 0;

/// A native function that an eBPF function became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Native {
    /// The eBPF function.
    pub(crate) function: FunctionIndex,
    /// `None` for the one with its signature, else the number of the piece.
    pub(crate) piece: Option<u32>,
}

impl Native {
    /// What a user name stands for.
    pub(crate) fn of_name(namespace: u32, index: u32) -> Native {
        Native {
            function: FunctionIndex(index),
            piece: namespace.checked_sub(FUNCTION_NAMESPACE + 1),
        }
    }

    /// The one with the function's signature.
    pub(crate) fn whole(function: FunctionIndex) -> Native {
        Native { function, piece: None }
    }

    /// The user name that [`Native::of_name`] gives back.
    pub(super) fn external_name(self) -> UserExternalName {
        let namespace = self
            .piece
            .map_or(FUNCTION_NAMESPACE, |number| FUNCTION_NAMESPACE + 1 + number);
        UserExternalName::new(namespace, self.function.0)
    }
}

/// Bytes of stack that each function has below `r10`.
pub(crate) const STACK_BYTES: i32 = 512;

/// Stacks of programs begin and end at multiples of this.
const STACK_ALIGNMENT: u32 = 16;

/// Bytes that the runtime reads as the key of an ARRAY, whatever key size its definition states.
pub(crate) const ARRAY_KEY_BYTES: u32 = 4;

/// A program with more stack than this touches its middle first. Kernel stacks end in a guard page; nothing may step over
/// it, and the frame could otherwise be larger than it.
pub(crate) const PROBE_ABOVE: i32 = 2048;

/// What the lowering of every function of a module shares.
pub(crate) struct Unit<'a> {
    /// The module and its facts.
    pub(crate) verified: &'a VerifiedModule,
    /// Numbers of its instructions.
    pub(crate) numbering: &'a Numbering,
    /// Its platform.
    pub(crate) platform: &'a Platform,
    /// The caller's choices.
    pub(crate) options: &'a Options,
    /// Helper slots.
    pub(crate) helpers: &'a HelperTables,
    /// Slots of BTF-resolved functions.
    pub(crate) btf_functions: &'a BtfTables,
    /// Who calls whom.
    pub(crate) calls: &'a CallGraph,
    /// Maps that are the inner map template of another.
    pub(crate) templates: &'a BTreeSet<MapIndex>,
    /// Target.
    pub(crate) isa: &'a dyn TargetIsa,
}

impl Unit<'_> {
    /// The eBPF stack in a function's frame, in bytes: what it and those that it calls need, if it is a program. Subprograms have
    /// theirs in the frame of the program.
    pub(crate) fn stack_bytes(&self, index: FunctionIndex, planned: &Planned) -> u32 {
        match self.verified.module().function(index).kind {
            FunctionKind::Program => planned.stack.next_multiple_of(STACK_ALIGNMENT),
            FunctionKind::Subprogram => 0,
        }
    }

    /// Whether an optimization is made.
    pub(crate) fn makes(&self, optimization: Optimization) -> bool {
        self.options.optimizations.has(optimization)
    }

    /// Who touches the stack frame of a function, if that is known.
    pub(crate) fn frame_facts(&self, index: FunctionIndex) -> Option<&FrameFacts> {
        self.verified.facts(index).frame.as_deref()
    }

    /// The map of a `bpf_map_lookup_elem` that is made in place: the runtime tells where an array's values are, the map is proven
    /// to be exactly one (in a subprogram: for all its callers), it is an ARRAY, no map of maps holds its kind, so that it cannot be the result of an outer lookup, and the verifier proved
    /// as many key bytes as are read.
    pub(crate) fn array_lookup(
        &self,
        InsnPlace { function, instruction }: InsnPlace,
        callee: Callee,
    ) -> Option<MapIndex> {
        if callee != Callee::Helper(MAP_LOOKUP) {
            return None;
        }
        let module = self.verified.module();
        if !(self.makes(Optimization::ArrayLookups) && self.options.runtime.has_array_data()) {
            return None;
        }
        let map = self
            .verified
            .facts(function)
            .instructions
            .get(instruction.index())?
            .map?;
        let is_template = self.templates.contains(&map);
        let definition = &module.maps.get(map.index())?.definition;
        (definition.map_type == ARRAY && definition.key_size == ARRAY_KEY_BYTES && !is_template).then_some(map)
    }

    /// What a helper's id means in each program that reaches a function.
    pub(super) fn helpers_meant(&self, function: FunctionIndex, id: i32) -> impl Iterator<Item = Option<&Helper>> {
        let reaching = self.verified.programs().iter();
        reaching
            .filter(move |p| p.function == function || p.reachable.binary_search(&function).is_ok())
            .map(move |p| self.platform.helper(&p.program_type, id.cast_unsigned()))
    }

    /// The platform's function that the module names there.
    pub(super) fn btf_function(&self, index: BtfFunctionIndex) -> Option<&BtfFunction> {
        let wanted = self.verified.module().btf_functions.get(index.index())?;
        self.platform.btf_function(wanted.module, &wanted.name)
    }

    /// The registers at which a callee outside of the module may look.
    pub(crate) fn read_outside(&self, place: InsnPlace, callee: Callee) -> RegisterSet {
        let known = match callee {
            _ if !self.makes(Optimization::DeadCode) => None,
            Callee::Local(_) => None,
            Callee::Helper(_) if self.array_lookup(place, callee).is_some() => Some(RegisterSet::of(Reg::new(2))),
            Callee::Helper(id) => {
                let read =
                    |helper: Option<&Helper>| Some(RegisterSet::of(helper?.registers_read()?.filter_map(Reg::new)));
                let all: Option<Vec<RegisterSet>> = self.helpers_meant(place.function, id).map(read).collect();
                all.and_then(|all| all.into_iter().reduce(RegisterSet::union))
            }
            Callee::Btf(index) => {
                let read = self.btf_function(index).and_then(BtfFunction::registers_read);
                read.map(|read| RegisterSet::of(read.filter_map(Reg::new)))
            }
        };
        known.unwrap_or(RegisterSet::ARGUMENTS)
    }

    /// The signature of a function of the module.
    pub(super) fn signature(&self, index: FunctionIndex, convention: Convention) -> Signature {
        let mut signature = Signature::new(CallConv::WindowsFastcall);
        let (parameters, results) = match self.verified.module().function(index).kind {
            FunctionKind::Program => (2, 1),
            FunctionKind::Subprogram => (
                convention.count() + self.calls.inherited[index.index()].iter().count(),
                if self.calls.tail_calls[index.index()] { 2 } else { 1 },
            ),
        };
        signature.params = vec![AbiParam::new(types::I64); parameters];
        signature.returns = vec![AbiParam::new(types::I64); results];
        signature
    }
}

/// What of an eBPF function one native function is made of.
pub(crate) enum Part<'a> {
    /// All of it.
    Whole,
    /// Its signature, its stack and its registers.
    Dispatcher(&'a Parts),
    /// One piece.
    Piece(&'a Parts, u32),
}

/// A function that is too long for one native function.
pub(crate) struct Parts {
    order: Order,
    pieces: Vec<Piece>,
    /// By node: the registers that are live before it.
    live: Vec<RegisterSet>,
}

impl Parts {
    /// Cuts a function into pieces of at most `most` work (see [`pieces`]); `None` if it is no more than that.
    pub(crate) fn of(body: &Body, most: u32) -> Option<Parts> {
        let (order, pieces) = pieces::cut(body, most)?;
        let live = live_before(body);
        Some(Parts { order, pieces, live })
    }

    /// Number of pieces.
    pub(crate) fn count(&self) -> u32 {
        self.pieces.len() as u32
    }
}

/// A Cranelift function.
pub(crate) struct Ir {
    /// It.
    pub(crate) function: ir::Function,
    /// Instructions to delete after optimization (see [`pins`](super::pins)).
    pub(crate) pins: Vec<Inst>,
    /// How deep its loops nest, at most.
    pub(crate) loop_depth: u32,
    /// Loads that are proven to be of the packet.
    pub(crate) packet_loads: EntitySet<Inst>,
    /// By number of an instruction that is a call of a helper or BTF-resolved function: the arguments that the callee does not read.
    pub(crate) unread: BTreeMap<u32, Unread>,
}

/// Translates a part of the function `index`. Source locations are the instructions' [numbers](Numbering).
pub(crate) fn lower_part(
    unit: &Unit<'_>,
    index: FunctionIndex,
    planned: &Planned,
    part: &Part<'_>,
    scratch: &mut FunctionBuilderContext,
) -> Result<Ir, LowerError> {
    let body = &planned.body;
    let whole;
    let (piece, signature, order, range) = match part {
        Part::Whole => {
            whole = Order::of_body(body);
            (
                None,
                unit.signature(index, planned.convention),
                &whole,
                0..whole.count(),
            )
        }
        Part::Dispatcher(parts) => (None, unit.signature(index, planned.convention), &parts.order, 0..0),
        Part::Piece(parts, number) => {
            let range = parts.pieces[*number as usize].range.clone();
            (Some(*number), piece_signature(), &parts.order, range)
        }
    };
    let name = UserFuncName::User(Native { function: index, piece }.external_name());
    let mut function = ir::Function::with_name_signature(name, signature);
    let builder = FunctionBuilder::new(&mut function, scratch);
    let loop_depth = pieces::loop_depth(order, range.clone(), body);
    let unread = unread(unit, order.nodes(range.clone()).iter().map(|index| body.node(*index)));
    let mut lowering = Lowering::new(unit, index, planned, order, range, builder);
    let Built { pins, packet_loads } = match part {
        Part::Whole => {
            lowering.begin();
            lowering.body()?
        }
        Part::Dispatcher(parts) => {
            lowering.begin();
            lowering.dispatch(&parts.pieces, parts.live[0]);
            lowering.finish()
        }
        Part::Piece(parts, number) => {
            lowering.begin_piece(&parts.pieces[*number as usize], &parts.live);
            lowering.body()?
        }
    };
    shape::improve(&mut function, unit.options.optimizations);
    Ok(Ir {
        function,
        pins,
        loop_depth,
        packet_loads,
        unread,
    })
}

/// What the callees of some nodes do not read.
fn unread<'a>(unit: &Unit<'_>, nodes: impl Iterator<Item = &'a Node>) -> BTreeMap<u32, Unread> {
    let calls = nodes.filter(|node| matches!(node.op, Instruction::Call(Callee::Helper(_) | Callee::Btf(_))));
    let unread = |node: &Node| {
        let positions = RegisterSet::ARGUMENTS.without(node.reads).iter();
        Unread(positions.fold(0, |all, register| all | 1 << register.number()))
    };
    calls
        .map(|node| (unit.numbering.number(node.place), unread(node)))
        .collect()
}

/// What is known of the instructions of a translation.
struct Built {
    pins: Vec<Inst>,
    packet_loads: EntitySet<Inst>,
}

/// The translation of one function, in progress.
pub(super) struct Lowering<'a, 'f> {
    pub(super) unit: &'a Unit<'a>,
    pub(super) module: &'a Module,
    pub(super) index: FunctionIndex,
    pub(super) planned: &'a Planned,
    /// By number of a slot that is a value: the variable.
    slots: Vec<Variable>,
    /// What is being translated.
    pub(super) node: Node,
    pub(super) builder: FunctionBuilder<'f>,
    /// By register.
    pub(super) registers: Vec<Variable>,
    pub(super) frame_pointer: FramePointer,
    pub(super) context: Value,
    pub(super) runtime: Value,
    /// Of the Cranelift function.
    parameters: Vec<Value>,
    pub(super) order: &'a Order,
    /// The nodes to translate, as places in the order.
    range: Range<u32>,
    /// By place in the range: the block that starts there, if one does.
    blocks: Vec<Option<Block>>,
    /// If this is a piece: what it is given.
    pub(super) piece: Option<InPiece<'a>>,
    /// Nodes outside the piece that it goes to, with the blocks that leave for them.
    pub(super) exits: BTreeMap<NodeIndex, Block>,
    pins: Pins,
    /// Loads of the packet.
    pub(super) packet_loads: EntitySet<Inst>,
    /// Where a pending tail call returns, once one was needed.
    pub(super) ending: Option<Block>,
    /// The signature of helpers and BTF-resolved functions, once one was called.
    pub(super) helper_signature: Option<SigRef>,
    /// ARM64: the function through which they are called, once one is called.
    pub(super) guarded_call: Option<FuncRef>,
    /// The results of lookups that are made in place.
    pub(super) lookups: HashMap<Value, Lookup>,
}

/// A lookup that is made in place.
pub(super) struct Lookup {
    /// Whether there is such an entry.
    pub(super) found: Value,
    /// Where it is, if there is.
    pub(super) address: Value,
    /// The registers that were set to the result.
    pub(super) holders: Vec<Variable>,
}

/// What a piece is given.
pub(super) struct InPiece<'a> {
    /// Address of the registers.
    pub(super) registers: Value,
    /// By node of the function: the registers that are live before it.
    pub(super) live: &'a [RegisterSet],
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
    fn new(
        unit: &'a Unit<'a>,
        index: FunctionIndex,
        planned: &'a Planned,
        order: &'a Order,
        range: Range<u32>,
        mut builder: FunctionBuilder<'f>,
    ) -> Self {
        let module = unit.verified.module();
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let body = &planned.body;
        let slots = planned.slots.widths.iter();
        let slots = slots.map(|width| builder.declare_var(slot_type(*width))).collect();
        let registers = (0..body.registers()).map(|_| builder.declare_var(types::I64)).collect();
        let blocks = (order.nodes(range.clone()).iter())
            .map(|index| body.starts_block(*index).then(|| builder.create_block()))
            .collect();
        let parameters = builder.block_params(entry).to_vec();
        // Until the function begins. One that needs nothing is passed nothing.
        let unknown = match parameters.first() {
            Some(parameter) => *parameter,
            None => builder.ins().iconst(types::I64, 0),
        };
        Lowering {
            unit,
            module,
            index,
            planned,
            slots,
            node: *body.node(NodeIndex(0)),
            builder,
            registers,
            frame_pointer: FramePointer::Passed(unknown),
            context: unknown,
            runtime: unknown,
            parameters,
            order,
            range,
            blocks,
            piece: None,
            exits: BTreeMap::new(),
            pins: Pins::new(),
            packet_loads: EntitySet::new(),
            ending: None,
            helper_signature: None,
            guarded_call: None,
            lookups: HashMap::new(),
        }
    }

    /// The start of a function that is not a piece.
    fn begin(&mut self) {
        let (unit, index) = (self.unit, self.index);
        let zero = self.builder.ins().iconst(types::I64, 0);
        let mut values = vec![zero; self.registers.len()];
        let mut passed = self.parameters.iter().copied();
        let mut next = || passed.next().expect("`Unit::signature` counts as this does");
        if self.module.function(index).kind == FunctionKind::Program {
            let bytes = unit.stack_bytes(index, self.planned);
            let shift = STACK_ALIGNMENT.trailing_zeros() as u8;
            let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, shift);
            let slot = self.builder.create_sized_stack_slot(slot);
            let bytes = bytes.cast_signed();
            self.frame_pointer = FramePointer::Own { slot, bytes };
            (self.context, self.runtime) = (next(), next());
            values[1] = self.context;
        } else {
            let convention = self.planned.convention;
            for register in convention.arguments.iter() {
                values[register.index()] = next();
            }
            let mut or_zero = |is_passed| if is_passed { next() } else { zero };
            self.frame_pointer = FramePointer::Passed(or_zero(convention.frame_pointer));
            self.context = or_zero(convention.context);
            self.runtime = or_zero(convention.runtime);
            for register in unit.calls.inherited[index.index()].iter() {
                values[register.index()] = next();
            }
        }
        for (register, value) in self.registers.iter().zip(values) {
            self.builder.def_var(*register, value);
        }
        for (slot, width) in self.slots.iter().zip(&self.planned.slots.widths) {
            let zero = self.builder.ins().iconst(slot_type(*width), 0);
            self.builder.def_var(*slot, zero);
        }
        if let FramePointer::Own { slot, bytes } = self.frame_pointer
            && bytes > PROBE_ABOVE
        {
            let middle = self.builder.ins().stack_addr(types::I64, slot, bytes - PROBE_ABOVE);
            self.builder.ins().istore8(MemFlagsData::new(), zero, middle, 0);
            self.builder.ins().sequence_point(); // keeps the store, as `memory` explains
        }
    }

    /// The start of a piece.
    fn begin_piece(&mut self, piece: &Piece, live: &'a [RegisterSet]) {
        let [at, r10, context, runtime, registers] = self.parameters[..] else {
            unreachable!("`piece_signature` is the only signature of a piece")
        };
        (self.context, self.runtime) = (context, runtime);
        self.frame_pointer = FramePointer::Passed(r10);
        self.piece = Some(InPiece { registers, live });
        let zero = self.builder.ins().iconst(types::I64, 0);
        for register in &self.registers {
            self.builder.def_var(*register, zero);
        }
        let entries = piece.entries.iter();
        let needed = entries.fold(RegisterSet::default(), |all, entry| all.union(live[entry.index()]));
        self.take_registers(needed, registers);
        let mut places = Vec::with_capacity(piece.entries.len());
        for entry in &piece.entries {
            let place = self.order.place(*entry);
            let block = &mut self.blocks[(place - self.range.start) as usize];
            places.push((place, *block.get_or_insert_with(|| self.builder.create_block())));
        }
        self.search(at, &places);
    }

    /// Translates the nodes of the range.
    fn body(mut self) -> Result<Built, LowerError> {
        // Whether the block before goes on here. A piece starts with a jump to one of its entries.
        let mut open = self.piece.is_none();
        let nodes = self.order.nodes(self.range.clone());
        let both_ways = if self.piece.is_none() && self.unit.makes(Optimization::BothWays) {
            self.planned.body.needed_both_ways()
        } else {
            Vec::new()
        };
        for (place, &index) in nodes.iter().enumerate() {
            if let Some(block) = self.blocks[place] {
                if open {
                    self.builder.ins().jump(block, &[]);
                }
                self.builder.switch_to_block(block);
                self.pins.begin_block();
            }
            self.node = *self.planned.body.node(index);
            let op = self.node.op;
            let number = self.unit.numbering.number(self.node.place);
            self.builder.set_srcloc(SourceLoc::new(number));
            if let Some(needed) = both_ways.get(index.index()) {
                for register in needed.shared_with(self.pins.computed()).iter() {
                    let value = self.builder.use_var(self.registers[register.index()]);
                    self.pins.pin(&mut self.builder, value);
                }
            }
            self.instruction().map_err(|problem| self.error(problem))?;
            if self.pins.step(&self.node)
                && let Instruction::Alu { dst, .. } = op
            {
                let value = self.read(dst);
                self.pins.pin(&mut self.builder, value);
            }
            open = false;
            if let Next::One(to) = self.node.next
                && !matches!(
                    op,
                    Instruction::JumpIf { .. } | Instruction::Jump { .. } | Instruction::Exit
                )
            {
                open = nodes.get(place + 1) == Some(&to);
                if !open {
                    let onward = self.block(to);
                    self.builder.ins().jump(onward, &[]);
                }
            }
        }
        self.builder.set_srcloc(SourceLoc::default());
        Ok(self.finish())
    }

    /// Ends the translation.
    fn finish(mut self) -> Built {
        self.finish_ending();
        self.finish_exits();
        self.builder.seal_all_blocks();
        self.builder.finalize(self.unit.isa.frontend_config());
        Built {
            pins: self.pins.stores,
            packet_loads: self.packet_loads,
        }
    }

    /// The list of RFC 9669.
    fn instruction(&mut self) -> Result<(), InstructionProblem> {
        let Node { op, next, .. } = self.node;
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
            Instruction::Call(callee) => self.call(callee),
            Instruction::Exit if next != Next::Return => {
                // Of an inlined subprogram.
                self.forget_arguments()?;
                self.go(next);
                Ok(())
            }
            Instruction::Exit => {
                let r0 = self.read(Reg::R0);
                self.return_from_function(r0, false);
                Ok(())
            }
            Instruction::CallX(_) | Instruction::LegacyPacket { .. } => Err(InstructionProblem::NoMeaning(op)),
        }
    }

    /// Ends the block with a jump to the one place that `next` names.
    fn go(&mut self, next: Next<NodeIndex>) {
        if let Next::One(to) = next {
            let block = self.block(to);
            self.builder.ins().jump(block, &[]);
        }
    }

    fn jump_if(&mut self, size: WordSize, condition: Condition, dst: Reg, src: Operand, next: Next<NodeIndex>) {
        let Next::Two { taken, otherwise } = next else {
            return self.go(next); // proven: the condition is not computed
        };
        let (taken, otherwise) = (self.block(taken), self.block(otherwise));
        if let Some(result) = self.asked_lookup(size, condition, dst, src) {
            return self.jump_if_found(result, condition, taken, otherwise);
        }
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
    pub(super) fn map_field(&mut self, map: MapIndex, field: fn(RuntimeLevel, u32) -> Option<i32>) -> Option<Value> {
        self.module.maps.get(map.index())?;
        let field = field(self.unit.options.runtime, map.0)?;
        Some(self.table_entry(runtime_context::MAP_DATA, field))
    }

    /// The pointer at `offset` in the table whose address is the field `table` of the runtime context.
    fn table_entry(&mut self, table: i32, offset: i32) -> Value {
        let table = self.builder.ins().load(types::I64, table_flags(), self.runtime, table);
        self.builder.ins().load(types::I64, table_flags(), table, offset)
    }

    /// Returns from the Cranelift function: `value` is `r0`, `ended` whether a tail call is pending.
    pub(super) fn return_from_function(&mut self, value: Value, ended: bool) {
        if let Some(piece) = &self.piece {
            return self.exit_from_piece(piece.registers, value, ended);
        }
        let mut results = vec![value];
        if self.builder.func.signature.returns.len() == 2 {
            results.push(self.builder.ins().iconst(types::I64, i64::from(ended)));
        }
        self.builder.ins().return_(&results);
    }

    /// The block that starts with a node, or the one that leaves the piece for it.
    fn block(&mut self, index: NodeIndex) -> Block {
        let place = self.order.place(index);
        if self.range.contains(&place) {
            self.blocks[(place - self.range.start) as usize].expect("every node that is jumped to starts a block")
        } else {
            self.exit(index)
        }
    }

    /// What is known of the instruction that is being translated.
    pub(super) fn facts(&self) -> Option<&'a InsnFacts> {
        let InsnPlace { function, instruction } = self.node.place;
        let facts = self.unit.verified.facts(function);
        facts.instructions.get(instruction.index())
    }

    /// The variable of the stack slot that the instruction accesses, if the slot is a value.
    pub(super) fn slot(&self) -> Option<Variable> {
        let slot = self.planned.slots.of_node(&self.node)?;
        self.slots.get(slot).copied()
    }

    fn error(&self, problem: InstructionProblem) -> LowerError {
        let InsnPlace { function, instruction } = self.node.place;
        instruction_error(self.module, self.module.function(function), instruction, problem)
    }
}

/// The type of a stack slot that is a value, by its number of bytes.
fn slot_type(width: u32) -> ir::Type {
    match width {
        1 => types::I8,
        2 => types::I16,
        4 => types::I32,
        _ => types::I64,
    }
}

/// The error for a problem of the instruction at `index`.
pub(crate) fn instruction_error(
    module: &Module,
    function: &Function,
    index: InsnIndex,
    problem: InstructionProblem,
) -> LowerError {
    let place = place(module, function, index);
    LowerError::Instruction { place, problem }
}

/// The place of the instruction at `index`.
pub(crate) fn place(module: &Module, function: &Function, index: InsnIndex) -> Place {
    let insn = function.instructions.get(index.index());
    Place {
        function: function.name.clone(),
        slot: insn.map_or(0, |insn| insn.slot),
        line: insn.and_then(|insn| module.line(insn)).cloned(),
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
