//! The x64 instructions that getters are made of.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::{ARGUMENTS, Machine, RETURN, STACK, Unknown};

const RSP: usize = 4;

/// What a caller leaves in the registers and on the stack (Microsoft x64 calling convention).
pub(super) fn enter(machine: &mut Machine<'_, '_>) {
    let [first, second] = ARGUMENTS.map(Some);
    (machine.registers[1], machine.registers[2]) = (first, second); // rcx, rdx
    for saved in [3, 5, 6, 7, 12, 13, 14, 15] {
        machine.registers[saved] = Some(0);
    }
    machine.registers[RSP] = Some(STACK);
    machine.store(STACK, 8, RETURN);
}

pub(super) fn step(machine: &mut Machine<'_, '_>, code: &[u8]) -> Result<(), Unknown> {
    let instruction = Decoder::with_ip(64, code, machine.pc, DecoderOptions::NONE).decode();
    if instruction.is_invalid() || instruction.has_lock_prefix() || instruction.has_rep_prefix() {
        return Err(Unknown);
    }
    let mut next = instruction.next_ip();
    let value = |machine: &Machine<'_, '_>, operand| read(machine, &instruction, operand);
    match instruction.mnemonic() {
        Mnemonic::Nop | Mnemonic::Endbr64 => {}
        Mnemonic::Mov => {
            let source = value(machine, 1)?;
            write(machine, &instruction, source)?;
        }
        Mnemonic::Lea => {
            let address = address(machine, &instruction)?;
            write(machine, &instruction, address)?;
        }
        // A register xor itself is zero, whatever is in it.
        Mnemonic::Xor | Mnemonic::Sub if same_register(&instruction) => write(machine, &instruction, 0)?,
        // MSVC stores a zero as `and [memory], 0` where it goes for size.
        Mnemonic::And if value(machine, 1).is_ok_and(|v| v == 0) => write(machine, &instruction, 0)?,
        operation @ (Mnemonic::Add | Mnemonic::Sub | Mnemonic::Xor | Mnemonic::Or | Mnemonic::And) => {
            let (left, right) = (value(machine, 0)?, value(machine, 1)?);
            let result = match operation {
                Mnemonic::Add => left.wrapping_add(right),
                Mnemonic::Sub => left.wrapping_sub(right),
                Mnemonic::Xor => left ^ right,
                Mnemonic::Or => left | right,
                _ => left & right,
            };
            write(machine, &instruction, result)?;
        }
        Mnemonic::Push
            if matches!(
                instruction.code(),
                Code::Push_r64 | Code::Pushq_imm8 | Code::Pushq_imm32
            ) =>
        {
            let pushed = value(machine, 0)?;
            let top = machine.register(RSP)?.wrapping_sub(8);
            machine.store(top, 8, pushed);
            machine.set_register(RSP, top)?;
        }
        Mnemonic::Pop if instruction.code() == Code::Pop_r64 => {
            let top = machine.register(RSP)?;
            let popped = machine.load(top, 8)?;
            machine.set_register(RSP, top.wrapping_add(8))?;
            write(machine, &instruction, popped)?;
        }
        Mnemonic::Jmp if instruction.is_jmp_short_or_near() => next = instruction.near_branch_target(),
        Mnemonic::Ret if instruction.code() == Code::Retnq => {
            let top = machine.register(RSP)?;
            next = machine.load(top, 8)?;
        }
        _ => return Err(Unknown),
    }
    machine.pc = next;
    Ok(())
}

fn same_register(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == instruction.op1_register()
        && instruction.op0_register().size() >= 4
}

/// Number of a 32-bit or 64-bit general register.
fn number(register: Register) -> Result<usize, Unknown> {
    if register.is_gpr32() || register.is_gpr64() {
        Ok(register.number())
    } else {
        Err(Unknown)
    }
}

fn address(machine: &Machine<'_, '_>, instruction: &Instruction) -> Result<u64, Unknown> {
    if instruction.memory_segment() == Register::FS || instruction.memory_segment() == Register::GS {
        return Err(Unknown);
    }
    if instruction.is_ip_rel_memory_operand() {
        return Ok(instruction.ip_rel_memory_address());
    }
    let part = |register: Register| match register {
        Register::None => Ok(0),
        register if register.is_gpr64() => machine.register(register.number()),
        _ => Err(Unknown),
    };
    let scaled = part(instruction.memory_index())?.wrapping_mul(instruction.memory_index_scale().into());
    let base = part(instruction.memory_base())?;
    Ok(base
        .wrapping_add(scaled)
        .wrapping_add(instruction.memory_displacement64()))
}

fn memory_bytes(instruction: &Instruction) -> Result<u64, Unknown> {
    match instruction.memory_size().size() {
        size @ (4 | 8) => Ok(size as u64),
        _ => Err(Unknown),
    }
}

fn read(machine: &Machine<'_, '_>, instruction: &Instruction, operand: u32) -> Result<u64, Unknown> {
    match instruction.op_kind(operand) {
        OpKind::Register => {
            let register = instruction.op_register(operand);
            let value = machine.register(number(register)?)?;
            Ok(if register.is_gpr32() {
                value & 0xFFFF_FFFF
            } else {
                value
            })
        }
        OpKind::Memory => machine.load(address(machine, instruction)?, memory_bytes(instruction)?),
        _ => instruction.try_immediate(operand).map_err(|_| Unknown),
    }
}

/// Writes the first operand. A 32-bit register is zero-extended.
fn write(machine: &mut Machine<'_, '_>, instruction: &Instruction, value: u64) -> Result<(), Unknown> {
    match instruction.op0_kind() {
        OpKind::Register => {
            let register = instruction.op0_register();
            let value = if register.is_gpr32() {
                value & 0xFFFF_FFFF
            } else {
                value
            };
            machine.set_register(number(register)?, value)
        }
        OpKind::Memory => {
            let (address, size) = (address(machine, instruction)?, memory_bytes(instruction)?);
            machine.store(address, size, value);
            Ok(())
        }
        _ => Err(Unknown),
    }
}
