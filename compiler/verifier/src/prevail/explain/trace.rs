//! Where the value of a register comes from, on one path.
//!
//! A value is followed backward through moves, additions, local calls, and stores to and loads from the stack through
//! `r10`, as compilers write them.

use bpf2sys_bytecode::Reg;
use prevail::cfg::label::Label;
use prevail::ir::syntax::{Bin, BinOp, Instruction, Mem, Reg as EngineReg, Value};
use prevail::spec::vm_isa::AccessSize;

use crate::prevail::meaning::Meaning;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nothing was ever written to this register.
    Nothing(Reg),
    /// A call destroyed what was in this register: its index on the path.
    Destroyed(usize, Reg),
    /// The result of a call out of the module: its index on the path.
    Result(usize),
    /// A load from the stack, at this offset from `r10`.
    Stack(i64),
    /// A load from other memory: its index on the path.
    Loaded(usize),
    /// The memory of a map: its index on the path.
    MapMemory(usize),
    /// Anything else.
    Other,
}

/// What is followed.
#[derive(Clone, Copy)]
enum Place {
    Register(u8),
    /// 8 bytes of the stack, by offset from `r10`, in the frame with this prefix.
    Slot(i32),
}

const R10: u8 = 10;

/// The origin of what `register` holds before the last label of `path`. With `through_stack` a value that was read from
/// the stack is followed to where it was stored.
pub(super) fn origin(meaning: &Meaning<'_>, path: &[Label], register: Reg, through_stack: bool) -> Origin {
    follow(meaning, path, register, through_stack, SUMS)
}

/// How many sums of two registers are followed into both.
const SUMS: u32 = 8;

fn follow(meaning: &Meaning<'_>, path: &[Label], register: Reg, through_stack: bool, sums: u32) -> Origin {
    let Some((end, before)) = path.split_last() else {
        return Origin::Other;
    };
    let mut place = Place::Register(register.number());
    // The frame in which the place is, by the engine's prefix for it.
    let mut frame = end.stack_frame_prefix.as_str();
    for (index, label) in before.iter().enumerate().rev() {
        let instruction = meaning.instruction_at(label);
        // A call of a function of the module: the way into it, seen from behind.
        if let (Instruction::CallLocal(call), Place::Register(number)) = (instruction, place)
            && frame == &*call.stack_frame_prefix
        {
            match number {
                1..=5 | R10 => frame = label.stack_frame_prefix.as_str(),
                _ => return Origin::Nothing(named(number)),
            }
            continue;
        }
        // The way out of one.
        if matches!(instruction, Instruction::Exit(_)) && frame != label.stack_frame_prefix {
            match place {
                Place::Register(0) => frame = label.stack_frame_prefix.as_str(),
                Place::Register(number @ 1..=5) => return Origin::Destroyed(index, named(number)),
                _ => {}
            }
            continue;
        }
        if label.stack_frame_prefix != frame {
            continue;
        }
        // Of a sum of two registers one is the pointer: where the one does not lead, the other may.
        if let (Instruction::Bin(bin), Place::Register(number)) = (instruction, place)
            && let (BinOp::ADD, Value::Reg(source)) = (bin.op, bin.v)
            && bin.dst.v == number
            && through_stack
            && sums > 0
        {
            let first = follow(meaning, &path[..=index], named(number), through_stack, sums / 2);
            if matches!(first, Origin::Result(_) | Origin::MapMemory(_)) {
                return first;
            }
            return follow(meaning, &path[..=index], named(source.v), through_stack, sums / 2);
        }
        let Some(next) = step(instruction, index, place, through_stack) else {
            continue;
        };
        match next {
            Ok(followed) => place = followed,
            Err(found) => return found,
        }
    }
    match place {
        Place::Register(1) => Origin::Other,
        Place::Register(R10) => Origin::Other,
        Place::Register(number) => Origin::Nothing(named(number)),
        Place::Slot(offset) => Origin::Stack(offset.into()),
    }
}

/// The register with a number; the engine knows one more that programs do not have.
fn named(number: u8) -> Reg {
    Reg::new(number).unwrap_or(Reg::R10)
}

/// What an instruction says of a place: nothing, another place to follow, or its origin.
fn step(instruction: &Instruction, index: usize, place: Place, through_stack: bool) -> Option<Result<Place, Origin>> {
    match (place, instruction) {
        (Place::Register(number), Instruction::Bin(Bin { op, dst, v, is64, .. })) if dst.v == number => {
            Some(match (op, v) {
                (BinOp::MOV, Value::Reg(source)) if *is64 => Ok(Place::Register(source.v)),
                (BinOp::ADD | BinOp::SUB, _) => return None,
                _ => Err(Origin::Other),
            })
        }
        (Place::Register(number), Instruction::Un(un)) if un.dst.v == number => Some(Err(Origin::Other)),
        (Place::Register(number), Instruction::Mem(load @ Mem { is_load: true, .. }))
            if load.value == Value::Reg(EngineReg { v: number }) =>
        {
            let access = &load.access;
            Some(if access.basereg.v != R10 {
                Err(Origin::Loaded(index))
            } else if through_stack && access.width == AccessSize::DWord {
                Ok(Place::Slot(access.offset))
            } else {
                Err(Origin::Stack(access.offset.into()))
            })
        }
        (Place::Slot(offset), Instruction::Mem(store @ Mem { is_load: false, .. }))
            if store.access.basereg.v == R10 && store.access.offset == offset =>
        {
            Some(match store.value {
                Value::Reg(source) => Ok(Place::Register(source.v)),
                Value::Imm(_) => Err(Origin::Other),
            })
        }
        (Place::Register(0), Instruction::Call(_) | Instruction::Callx(_)) => Some(Err(Origin::Result(index))),
        (Place::Register(number @ 1..=5), Instruction::Call(_) | Instruction::Callx(_)) => {
            Some(Err(Origin::Destroyed(index, named(number))))
        }
        (Place::Register(number), Instruction::LoadMapAddress(load)) if load.dst.v == number => {
            Some(Err(Origin::MapMemory(index)))
        }
        (Place::Register(number), Instruction::LoadMapFd(load)) if load.dst.v == number => Some(Err(Origin::Other)),
        (Place::Register(number), Instruction::LoadPseudo(load)) if load.dst.v == number => Some(Err(Origin::Other)),
        (Place::Register(number), Instruction::Atomic(atomic)) if atomic.fetch && atomic.valreg.v == number => {
            Some(Err(Origin::Other))
        }
        _ => None,
    }
}
