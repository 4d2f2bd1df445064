//! The two kinds of native function that a long eBPF function becomes (see [`pieces`](super::pieces)).
//!
//! | | dispatcher | piece |
//! |---|---|---|
//! | signature | that of the eBPF function | `u64 p(at, r10, context, runtime, registers)` |
//! | takes registers from | its parameters | `registers`, 8 bytes for each of `r0` to `r9` |
//! | result | `r0` | the place of the instruction to go on with, or [`EXITED`], or [`ENDED`] |
//!
//! Only registers that are live where control goes are passed on.

use bpf2sys_bytecode::Reg;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, ExtFuncData, ExternalName, FuncRef, InstBuilder, MemFlagsData, SigRef, Signature,
    StackSlotData, StackSlotKind, Value, types,
};
use cranelift_codegen::isa::CallConv;

use super::function::{Lowering, Native};
use super::inherited::RegisterSet;
use super::pieces::Piece;
use crate::body::NodeIndex;

/// A piece's result when the function exited: its result is in `r0`.
const EXITED: i64 = -1;
/// A piece's result when a tail call is pending and the whole program ends; `r0` is 0.
const ENDED: i64 = -2;

/// Bytes of a register in memory.
const REGISTER_BYTES: i32 = 8;

/// The signature of a piece.
pub(super) fn piece_signature() -> Signature {
    let mut signature = Signature::new(CallConv::WindowsFastcall);
    signature.params = vec![AbiParam::new(types::I64); 5];
    signature.returns = vec![AbiParam::new(types::I64)];
    signature
}

/// Accesses of the registers' memory, which is the dispatcher's own and always there.
fn register_flags() -> MemFlagsData {
    MemFlagsData::trusted()
}

fn offset(register: Reg) -> i32 {
    REGISTER_BYTES * i32::from(register.number())
}

/// `r0` to `r9` of a set.
fn stored(registers: RegisterSet) -> impl Iterator<Item = Reg> {
    registers.iter().filter(|register| *register != Reg::R10)
}

impl Lowering<'_, '_> {
    /// The body of a dispatcher; `live` are the registers that are live at the function's start.
    pub(super) fn dispatch(&mut self, pieces: &[Piece], live: RegisterSet) {
        let bytes = REGISTER_BYTES as u32 * (Reg::COUNT as u32 - 1);
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3); // 2^3 = 8-byte aligned
        let slot = self.builder.create_sized_stack_slot(slot);
        let registers = self.builder.ins().stack_addr(types::I64, slot, 0);
        for register in stored(live) {
            let value = self.read(register);
            self.builder
                .ins()
                .store(register_flags(), value, registers, offset(register));
        }
        let r10 = self.below_frame_pointer(0);
        let (next, done) = (self.builder.create_block(), self.builder.create_block());
        let at = self.builder.append_block_param(next, types::I64);
        let first = self.builder.ins().iconst(types::I64, 0);
        self.builder.ins().jump(next, &[BlockArg::Value(first)]);

        self.builder.switch_to_block(next);
        let search = self.builder.create_block();
        let over = self.builder.ins().icmp_imm_s(IntCC::SignedLessThan, at, 0);
        self.builder.ins().brif(over, done, &[], search, &[]);
        self.builder.switch_to_block(search);
        let blocks: Vec<(u32, Block)> = pieces
            .iter()
            .map(|piece| (piece.range.start, self.builder.create_block()))
            .collect();
        self.search(at, &blocks);
        let signature = self.builder.import_signature(piece_signature());
        for (number, (_, block)) in blocks.into_iter().enumerate() {
            self.builder.switch_to_block(block);
            let target = self.piece(number as u32, signature);
            let arguments = [at, r10, self.context, self.runtime, registers];
            let call = self.builder.ins().call(target, &arguments);
            let result = self.builder.inst_results(call)[0];
            self.builder.ins().jump(next, &[BlockArg::Value(result)]);
        }

        self.builder.switch_to_block(done);
        let r0 = self
            .builder
            .ins()
            .load(types::I64, register_flags(), registers, offset(Reg::R0));
        let mut results = vec![r0];
        if self.builder.func.signature.returns.len() == 2 {
            let ended = self.builder.ins().icmp_imm_s(IntCC::Equal, at, ENDED);
            results.push(self.builder.ins().uextend(types::I64, ended));
        }
        self.builder.ins().return_(&results);
    }

    fn piece(&mut self, number: u32, signature: SigRef) -> FuncRef {
        let native = Native {
            function: self.index,
            piece: Some(number),
        };
        let name = self.builder.func.declare_imported_user_function(native.external_name());
        self.builder.import_function(ExtFuncData {
            name: ExternalName::user(name),
            signature,
            colocated: true,
            patchable: false,
        })
    }

    /// Goes to the last of `places` whose number is at most `at`, which must not be below the first.
    pub(super) fn search(&mut self, at: Value, places: &[(u32, Block)]) {
        match places {
            [] => unreachable!("every piece has an entry"),
            [(_, block)] => {
                self.builder.ins().jump(*block, &[]);
            }
            _ => {
                let (low, high) = places.split_at(places.len() / 2);
                let is_low = self
                    .builder
                    .ins()
                    .icmp_imm_u(IntCC::UnsignedLessThan, at, i64::from(high[0].0));
                let blocks = (self.builder.create_block(), self.builder.create_block());
                self.builder.ins().brif(is_low, blocks.0, &[], blocks.1, &[]);
                for (block, places) in [(blocks.0, low), (blocks.1, high)] {
                    self.builder.switch_to_block(block);
                    self.search(at, places);
                }
            }
        }
    }

    /// Takes `live` over from the dispatcher.
    pub(super) fn take_registers(&mut self, live: RegisterSet, registers: Value) {
        for register in stored(live) {
            let value = self
                .builder
                .ins()
                .load(types::I64, register_flags(), registers, offset(register));
            let variable = self.registers[register.index()];
            self.builder.def_var(variable, value);
        }
    }

    /// Fills the blocks that leave a piece for another.
    pub(super) fn finish_exits(&mut self) {
        let Some(piece) = &self.piece else { return };
        let registers = piece.registers;
        for (to, block) in std::mem::take(&mut self.exits) {
            let live = self
                .piece
                .as_ref()
                .map_or_else(RegisterSet::default, |p| p.live[to.index()]);
            self.builder.switch_to_block(block);
            for register in stored(live) {
                let value = self.read(register);
                self.builder
                    .ins()
                    .store(register_flags(), value, registers, offset(register));
            }
            self.leave_piece(i64::from(self.order.place(to)));
        }
    }

    /// Exits the eBPF function from a piece.
    pub(super) fn exit_from_piece(&mut self, registers: Value, value: Value, ended: bool) {
        self.builder
            .ins()
            .store(register_flags(), value, registers, offset(Reg::R0));
        self.leave_piece(if ended { ENDED } else { EXITED });
    }

    fn leave_piece(&mut self, result: i64) {
        let result = self.builder.ins().iconst(types::I64, result);
        self.builder.ins().return_(&[result]);
    }

    /// The block of an instruction outside the piece.
    pub(super) fn exit(&mut self, to: NodeIndex) -> Block {
        *self.exits.entry(to).or_insert_with(|| self.builder.create_block())
    }
}
