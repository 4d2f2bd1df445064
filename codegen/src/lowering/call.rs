//! Calls of helpers, BTF-resolved functions and subprograms (native module contract §6.2 to §6.4, §6.7).

use bpf2sys_bytecode::{
    BtfFunctionIndex, Callee, Condition, FunctionIndex, FunctionKind, MapIndex, Operand, Reg, WordSize,
};
use bpf2sys_pe_emit::Machine;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, ExtFuncData, ExternalName, FuncRef, InstBuilder, MemFlagsData, SigRef, Signature, Value, types,
};
use cranelift_codegen::isa::CallConv;

use super::function::{Lookup, Lowering, Native, STACK_BYTES, table_flags};
use super::maps::MapArguments;
use crate::convention::Convention;
use crate::error::InstructionProblem;
use crate::{guard, runtime_context};

/// Helper id of `bpf_map_lookup_elem`.
pub(super) const MAP_LOOKUP: i32 = 1;
/// Helper id of `bpf_tail_call`.
pub(crate) const TAIL_CALL: i32 = 5;

/// `r1` to `r5`, which carry arguments.
const ARGUMENTS: std::ops::RangeInclusive<u8> = 1..=5;

impl Lowering<'_, '_> {
    pub(super) fn call(&mut self, callee: Callee) -> Result<(), InstructionProblem> {
        match callee {
            Callee::Helper(_) if let Some(map) = self.unit.array_lookup(self.node.place, callee) => {
                self.array_lookup(map)
            }
            Callee::Helper(id) => self.helper(id),
            Callee::Local(function) => self.subprogram(function),
            Callee::Btf(function) => self.btf_function(function),
        }
    }

    /// `r1` to `r5`; 0 for those that the callee is known not to read.
    fn arguments(&mut self) -> Vec<Value> {
        let passed = |register: Reg| {
            if self.node.reads.contains(register) {
                self.read(register)
            } else {
                self.builder.ins().iconst(types::I64, 0)
            }
        };
        ARGUMENTS.filter_map(Reg::new).map(passed).collect()
    }

    fn helper(&mut self, id: i32) -> Result<(), InstructionProblem> {
        let address = self
            .unit
            .helpers
            .slot(self.node.place.function, id.cast_unsigned())
            .and_then(runtime_context::helper_address)
            .ok_or(InstructionProblem::UnknownHelper(id))?;
        let result = self.call_through(Callee::Helper(id), runtime_context::HELPER_DATA, address)?;
        self.set_result(result)?;
        if id == TAIL_CALL {
            self.end_program_if(IntCC::Equal, result);
        }
        Ok(())
    }

    fn btf_function(&mut self, function: BtfFunctionIndex) -> Result<(), InstructionProblem> {
        let address = self
            .unit
            .btf_functions
            .slot(self.node.place.function, function)
            .and_then(runtime_context::btf_function_address)
            .ok_or(InstructionProblem::Reference)?;
        let result = self.call_through(Callee::Btf(function), runtime_context::BTF_FUNCTION_DATA, address)?;
        self.set_result(result)
    }

    /// Calls through one of the runtime's tables: the field `table` of the runtime context points to it, and the callee's
    /// address is at `address` there. It is read at each call: the runtime may replace it while the module is loaded.
    /// The context is the sixth argument of every callee, used or not.
    ///
    /// A map that may be null is compared with null first: see [`MapArguments`](super::maps::MapArguments).
    fn call_through(&mut self, callee: Callee, table: i32, address: i32) -> Result<Value, InstructionProblem> {
        let unproven = self.unproven_maps(callee)?;
        let mut arguments = self.arguments();
        let mut after = None;
        for register in unproven.registers() {
            let after = *after.get_or_insert_with(|| {
                let block = self.builder.create_block();
                self.builder.append_block_param(block, types::I64);
                block
            });
            let onward = self.builder.create_block();
            let map = self.read(register);
            let failure = self.builder.ins().iconst(types::I64, unproven.failure);
            self.builder.ins().brif(map, onward, &[], after, &[failure.into()]);
            self.builder.switch_to_block(onward);
        }
        arguments.push(self.context);
        let table = self.builder.ins().load(types::I64, table_flags(), self.runtime, table);
        let address = self
            .builder
            .ins()
            .load(types::I64, MemFlagsData::trusted(), table, address);
        let options = self.unit.options;
        // On x86-64 the code is given guarded calls once it is made.
        let call = if options.guards_calls() && options.machine == Machine::Arm64 {
            arguments.push(address);
            let guarded = self.guarded_call(arguments.len());
            self.builder.ins().call(guarded, &arguments)
        } else {
            let signature = self.helper_signature(arguments.len());
            self.builder.ins().call_indirect(signature, address, &arguments)
        };
        let result = self.builder.inst_results(call)[0];
        let Some(after) = after else {
            return Ok(result);
        };
        self.builder.ins().jump(after, &[result.into()]);
        self.builder.switch_to_block(after);
        Ok(self.builder.block_params(after)[0])
    }

    /// The maps among a call's arguments that are not proven to be there.
    fn unproven_maps(&self, callee: Callee) -> Result<MapArguments, InstructionProblem> {
        if self.facts().is_some_and(|f| f.map.is_some()) || !self.unit.verified.is_proven() {
            return Ok(MapArguments::NONE);
        }
        MapArguments::of(self.unit, self.node.place.function, callee)
    }

    /// The signature of every helper and BTF-resolved function, declared once in the function.
    fn helper_signature(&mut self, arguments: usize) -> SigRef {
        *self.helper_signature.get_or_insert_with(|| {
            let mut signature = Signature::new(CallConv::WindowsFastcall);
            signature.params = vec![AbiParam::new(types::I64); arguments];
            signature.returns = vec![AbiParam::new(types::I64)];
            self.builder.import_signature(signature)
        })
    }

    /// ARM64: the function that has the last argument checked and calls it with the others, declared once in the function.
    fn guarded_call(&mut self, arguments: usize) -> FuncRef {
        if let Some(known) = self.guarded_call {
            return known;
        }
        let signature = self.helper_signature(arguments);
        let function = self.builder.import_function(ExtFuncData {
            name: ExternalName::testcase(guard::GUARDED_CALL),
            signature,
            colocated: true,
            patchable: false,
        });
        *self.guarded_call.insert(function)
    }

    fn subprogram(&mut self, callee: FunctionIndex) -> Result<(), InstructionProblem> {
        let function = self
            .module
            .functions
            .get(callee.index())
            .ok_or(InstructionProblem::Reference)?;
        if function.kind != FunctionKind::Subprogram {
            return Err(InstructionProblem::CallsProgram);
        }
        let convention = self.planned.callees.get(&callee).copied().unwrap_or(Convention::FULL);
        let mut arguments: Vec<Value> = convention
            .arguments
            .iter()
            .map(|register| self.read(register))
            .collect();
        if convention.frame_pointer {
            arguments.push(self.below_frame_pointer(STACK_BYTES));
        }
        arguments.extend(convention.context.then_some(self.context));
        arguments.extend(convention.runtime.then_some(self.runtime));
        for register in self.unit.calls.inherited[callee.index()].iter() {
            arguments.push(self.read(register));
        }
        let signature = self.builder.import_signature(self.unit.signature(callee, convention));
        let name = self
            .builder
            .func
            .declare_imported_user_function(Native::whole(callee).external_name());
        let target = self.builder.import_function(ExtFuncData {
            name: ExternalName::user(name),
            signature,
            colocated: true,
            patchable: false,
        });
        let call = self.builder.ins().call(target, &arguments);
        let results = self.builder.inst_results(call).to_vec();
        self.set_result(results[0])?;
        if let Some(&ended) = results.get(1) {
            self.end_program_if(IntCC::NotEqual, ended);
        }
        Ok(())
    }

    /// Sets the registers as a call leaves them. Verified programs do not look at `r1` to `r5` before they set them again;
    /// they become 0 here, so that nothing is kept alive for a later call that passes all five.
    fn set_result(&mut self, result: Value) -> Result<(), InstructionProblem> {
        self.forget_arguments()?;
        self.write(Reg::R0, result)
    }

    /// Sets `r1` to `r5` to 0.
    pub(super) fn forget_arguments(&mut self) -> Result<(), InstructionProblem> {
        let zero = self.builder.ins().iconst(types::I64, 0);
        for register in ARGUMENTS.filter_map(Reg::new) {
            self.write(register, zero)?;
        }
        Ok(())
    }

    /// Ends the whole program with result 0 if `value` compares so with 0; else goes on.
    fn end_program_if(&mut self, condition: IntCC, value: Value) {
        let ending = self.ending_block();
        let onward = self.builder.create_block();
        let ends = self.builder.ins().icmp_imm_s(condition, value, 0);
        self.builder.ins().brif(ends, ending, &[], onward, &[]);
        self.builder.switch_to_block(onward);
    }

    fn ending_block(&mut self) -> Block {
        *self.ending.get_or_insert_with(|| {
            let block = self.builder.create_block();
            self.builder.set_cold_block(block);
            block
        })
    }

    /// Fills the block that ends the program, if one is needed.
    pub(super) fn finish_ending(&mut self) {
        if let Some(block) = self.ending {
            self.builder.switch_to_block(block);
            let zero = self.builder.ins().iconst(types::I64, 0);
            self.return_from_function(zero, true);
        }
    }

    /// `r0 = key < max_entries ? array_data + key * value_size : 0`, which is what the helper does for an ARRAY.
    fn array_lookup(&mut self, map: MapIndex) -> Result<(), InstructionProblem> {
        let definition = self.module.maps[map.index()].definition;
        let key = if let Some(slot) = self.slot() {
            let key = self.builder.use_var(slot);
            self.zero_extend(key)
        } else {
            let key_pointer = self.read(Reg::new(2).ok_or(InstructionProblem::Reference)?);
            self.builder.ins().uload32(MemFlagsData::new(), key_pointer, 0)
        };
        let base = self
            .map_field(map, runtime_context::map_array_data)
            .ok_or(InstructionProblem::Reference)?;
        let value_size = self.builder.ins().iconst(types::I64, i64::from(definition.value_size));
        let offset = self.builder.ins().imul(key, value_size);
        let value = self.builder.ins().iadd(base, offset);
        let inside = self
            .builder
            .ins()
            .icmp_imm_u(IntCC::UnsignedLessThan, key, i64::from(definition.max_entries));
        let null = self.builder.ins().iconst(types::I64, 0);
        let result = self.builder.ins().select(inside, value, null);
        let (found, address) = (inside, value);
        let holders = Vec::new();
        let lookup = Lookup {
            found,
            address,
            holders,
        };
        self.lookups.insert(result, lookup);
        self.write(Reg::R0, result)
    }

    /// The result of a lookup in place in this block, if that is what a jump compares with null.
    pub(super) fn asked_lookup(
        &mut self,
        size: WordSize,
        condition: Condition,
        dst: Reg,
        src: Operand,
    ) -> Option<Value> {
        let asks = matches!(
            (size, condition, src),
            (WordSize::W64, Condition::Eq | Condition::Ne, Operand::Imm(0))
        );
        if !asks || self.lookups.is_empty() {
            return None;
        }
        let result = self.read(dst);
        let made_by = self.builder.func.dfg.value_def(result).inst()?;
        let is_here = self.builder.func.layout.inst_block(made_by) == self.builder.current_block();
        (is_here && self.lookups.contains_key(&result)).then_some(result)
    }

    /// Jumps as a comparison of a lookup's result with null says: where an entry's value is is never null. Each way, registers that hold
    /// the result hold what it is there.
    pub(super) fn jump_if_found(&mut self, result: Value, condition: Condition, taken: Block, otherwise: Block) {
        let (found, missing) = match condition {
            Condition::Eq => (otherwise, taken),
            _ => (taken, otherwise),
        };
        let Some(lookup) = self.lookups.remove(&result) else {
            return;
        };
        let mut holding = lookup.holders;
        holding.retain(|holder| self.builder.use_var(*holder) == result);
        let (with, without) = (self.builder.create_block(), self.builder.create_block());
        self.builder.ins().brif(lookup.found, with, &[], without, &[]);
        for (block, found, to) in [(with, true, found), (without, false, missing)] {
            self.builder.switch_to_block(block);
            let value = if found {
                lookup.address
            } else {
                self.builder.ins().iconst(types::I64, 0)
            };
            for register in &holding {
                self.builder.def_var(*register, value);
            }
            self.builder.ins().jump(to, &[]);
        }
    }
}
