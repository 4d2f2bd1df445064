//! The JIT of the crate rbpf, which takes bytecode in one piece and addresses as constants.

use bpf2sys_bytecode::{FunctionIndex, Imm64, Instruction, Module, Reg};
use bpf2sys_verifier::VerifiedModule;

use super::bench::name;
use super::engine::{Engine, Entry, Jitted};
use super::helpers::HELPERS;
use super::memory::{Access, Mapping};
use super::world::World;
use super::{Error, flat, maps};

/// More than any workload takes.
const CODE: usize = 64 << 10;

/// Compiles a program and what it calls.
pub fn engine(verified: &VerifiedModule, world: &World, program: FunctionIndex) -> Result<Engine, Error> {
    let module = verified.module();
    let mut instructions = module.functions.iter().flat_map(|function| &function.instructions);
    if instructions.any(|insn| matches!(insn.op, Instruction::Atomic { .. })) {
        // It panics there.
        return Err("has no atomic instructions".into());
    }
    let bytecode = bytecode(module, world, program);
    let mut memory = Mapping::new(CODE)?;
    compile(&bytecode, memory.bytes()).map_err(|e| format!("{e:?}"))?;
    let last = memory.view().iter().rposition(|&byte| byte != 0);
    memory.protect(0..CODE, Access::Execute)?;
    // SAFETY: the code was made for this signature, and starts at the start of its memory, which the engine keeps.
    let entry = unsafe { std::mem::transmute::<usize, Jitted>(memory.address() as usize) };
    Ok(Engine {
        name: name::RBPF,
        code_bytes: last.map_or(0, |last| last + 1),
        entry: Entry::Jitted(entry),
        code: memory.address()..memory.address() + CODE as u64,
        _memory: memory,
        _runtime: None,
    })
}

fn compile(bytecode: &[u8], memory: &mut [u8]) -> Result<(), rbpf::lib::Error> {
    let mut machine = rbpf::EbpfVmRaw::new(None)?;
    // The programs are verified; its own check knows fewer instructions than its compiler.
    machine.set_verifier(|_| Ok(()))?;
    for helper in HELPERS {
        // SAFETY: the compiled code calls it as the System V convention says, with five numbers; nobody else does.
        let function = unsafe { std::mem::transmute::<extern "sysv64" fn(), rbpf::ebpf::Helper>(helper.unaligned) };
        machine.register_helper(helper.id, function)?;
    }
    machine.set_jit_exec_memory(memory)?;
    machine.set_program(bytecode)?;
    machine.jit_compile()
}

/// The bytecode, with addresses in place of references.
fn bytecode(module: &Module, world: &World, program: FunctionIndex) -> Vec<u8> {
    let instead = |op| match op {
        Instruction::LoadImm64 {
            dst,
            value: Imm64::Map(map),
        } => constant(dst, world.maps[map.index()]),
        Instruction::LoadImm64 {
            dst,
            value: Imm64::Global { section, offset },
        } => {
            let map = world.maps[module.globals[section.index()].map.index()];
            constant(dst, maps::values(map) + u64::from(offset))
        }
        other => other,
    };
    flat::bytecode(module, program, instead, |_| 0)
}

fn constant(dst: Reg, value: u64) -> Instruction {
    Instruction::LoadImm64 {
        dst,
        value: Imm64::Constant(value),
    }
}
