//! Which mistake of a person a failure of the engine is.
//!
//! Given: the engine's message, the check that failed with it, and the state before the instruction. Computed: the
//! [`Violation`]. The message tells the case; the check and the state tell its registers, offsets and sizes. Where the
//! check is not known, or is one that the message does not go with, the message alone counts.

use bpf2sys_bytecode::Reg;
use prevail::ir::syntax::{
    AccessType, ArgSingleKind, Assertion, BoundedLoopCount, Call, Instruction, Reg as EngineReg, TypeConstraint,
    ValidAccess, ValidMapKeyValue, Value,
};

use super::messages::by_message;
use super::trace::Origin;
use super::view::View;
use crate::{Access, Accessor, Argument, Kind, Memory, Role, Span, Violation};

/// A failure and what is known of it.
pub(super) struct Failure<'f> {
    /// The engine's message.
    pub message: &'f str,
    /// The instruction, as analysed.
    pub instruction: &'f Instruction,
    /// The check that failed.
    pub check: Option<&'f Assertion>,
    /// The state before the instruction.
    pub view: &'f View<'f>,
    /// Where the value of a register comes from; the flag says to look through the stack.
    pub origin: &'f dyn Fn(Reg, bool) -> Option<Origin>,
    /// What a register points into.
    pub memory: &'f dyn Fn(Reg) -> Memory,
    /// The call at an index of the path, as text.
    pub call: &'f dyn Fn(usize) -> Option<String>,
}

impl Failure<'_> {
    /// What is wrong.
    pub fn sort(&self) -> Violation {
        let sorted = match self.check {
            Some(Assertion::ValidAccess(access)) => self.access(access),
            Some(Assertion::ValidMapKeyValue(argument)) => self.key_or_value(argument),
            Some(Assertion::TypeConstraint(constraint)) => Some(self.kind(constraint)),
            Some(Assertion::Comparable(pair)) => Some(self.comparable(register(pair.r1), register(pair.r2))),
            Some(Assertion::Addable(pair)) => Some(self.sum(register(pair.ptr), register(pair.num))),
            Some(Assertion::ValidDivisor(divisor)) => Some(self.divisor(register(divisor.reg))),
            Some(Assertion::ValidStore(store)) => Some(self.stored(register(store.mem), register(store.val))),
            Some(Assertion::ValidSize(size)) => Some(Violation::Size {
                argument: self.argument(register(size.reg)),
                size: self.view.of(register(size.reg), "svalue"),
                zero: size.can_be_zero,
            }),
            Some(Assertion::ZeroCtxOffset(context)) => Some(Violation::ContextOffset {
                argument: self.argument(register(context.reg)),
                offset: self.view.of(register(context.reg), "ctx_offset"),
            }),
            Some(Assertion::ValidArgZero(zero)) => Some(Violation::ArgumentNotZero {
                argument: self.argument(register(zero.reg)),
            }),
            Some(Assertion::ValidMapType(map)) => Some(Violation::MapType {
                callee: map.helper_name.to_string(),
                map: self.map_name(register(map.map_fd_reg)),
            }),
            Some(Assertion::BoundedLoopCount(_)) => Some(Violation::Unbounded {
                limit: u64::from(BoundedLoopCount::LIMIT.unsigned_abs()),
            }),
            Some(Assertion::ValidCallbackTarget(_) | Assertion::FuncConstraint(_)) | None => None,
        };
        sorted.unwrap_or_else(|| by_message(self.message))
    }

    fn says(&self, part: &str) -> bool {
        self.message.contains(part)
    }

    fn map_name(&self, register: Reg) -> Option<String> {
        self.view.map(register).map(|(name, _)| name)
    }

    fn argument(&self, register: Reg) -> Argument {
        Argument {
            callee: self.callee(),
            register,
        }
    }

    fn callee(&self) -> String {
        match self.instruction {
            Instruction::Call(call) => call.name.to_string(),
            _ => String::new(),
        }
    }

    /// An access of a load, a store, or a callee through a pointer and a size.
    fn access(&self, check: &ValidAccess) -> Option<Violation> {
        let pointer = register(check.reg);
        if check.width == Value::Imm(prevail::ir::syntax::Imm { v: 0 }) {
            return Some(self.out_of_range(pointer));
        }
        let bytes = match check.width {
            Value::Imm(width) => Span::exactly(width.v.cast_signed()),
            Value::Reg(size) => self.view.of(register(size), "svalue"),
        };
        let by = match self.instruction {
            Instruction::Call(_) => Accessor::Call {
                argument: self.argument(pointer),
                role: match check.access_type {
                    AccessType::Write => Role::Write,
                    AccessType::Read | AccessType::Compare => Role::Read,
                },
            },
            Instruction::Atomic(_) => Accessor::Atomic,
            _ if check.access_type == AccessType::Write => Accessor::Store,
            _ => Accessor::Load,
        };
        self.memory_access(pointer, i64::from(check.offset), bytes, &by)
    }

    /// A map key or value that a callee takes.
    fn key_or_value(&self, check: &ValidMapKeyValue) -> Option<Violation> {
        if self.says("is not singleton") || self.says("out of supported range") {
            return Some(Violation::SeveralMaps { callee: self.callee() });
        }
        let (pointer, map) = (register(check.access_reg), register(check.map_fd_reg));
        let name = self.map_name(map);
        if self.says("Array index") || self.says("Pointer must be a singleton") || self.says("Max entries") {
            return Some(Violation::ArrayIndex {
                callee: self.callee(),
                map: name,
            });
        }
        let size = self.view.map_size(map, check.key);
        let by = Accessor::Call {
            argument: self.argument(pointer),
            role: if check.key {
                Role::Key { map: name }
            } else {
                Role::Value { map: name }
            },
        };
        if self.says("Only stack, packet, or shared") {
            return Some(self.not_memory(pointer));
        }
        self.memory_access(pointer, 0, size, &by)
    }

    /// An access `offset` bytes from where a register points.
    fn memory_access(&self, pointer: Reg, offset: i64, bytes: Span, by: &Accessor) -> Option<Violation> {
        let called = matches!(by, Accessor::Call { .. });
        let access = |from: Span| Access {
            by: by.clone(),
            offset: from.plus(offset),
            bytes,
        };
        let packet = || access(self.view.of(pointer, "packet_offset"));
        let stack = || access(self.view.stack_offset(pointer));
        let memory = || (self.memory)(pointer);
        // Where a register can point into several kinds of memory, the message tells which one failed.
        let fixed = || match memory() {
            Memory::Context => self.view.of(pointer, "ctx_offset"),
            Memory::Given { .. } => self.view.of(pointer, "alloc_mem_offset"),
            _ => self.view.of(pointer, "shared_offset"),
        };
        Some(if self.says("Upper bound must be at most packet_size") {
            Violation::PacketEnd {
                access: packet(),
                proven: self.view.packet_size().min.unwrap_or(0),
            }
        } else if self.says("Lower bound must be at least meta_offset") {
            Violation::PacketStart { access: packet() }
        } else if self.says("Upper bound must be at most total_stack_size") {
            if called {
                Violation::SmallBuffer { access: stack() }
            } else {
                Violation::StackTop { access: stack() }
            }
        } else if self.says("Lower bound must be at least r10.stack_offset") {
            Violation::StackBottom {
                access: stack(),
                frame: self.view.frame_bytes(),
            }
        } else if self.says("Stack content is not numeric") || self.says("non-numerical value") {
            self.stack_content(pointer, offset, bytes, stack())
        } else if self.says("Upper bound must be at most") {
            Violation::MemoryEnd {
                size: self.view.size_of(pointer, &memory()),
                access: access(fixed()),
                memory: memory(),
            }
        } else if self.says("Lower bound must be at least 0") {
            Violation::MemoryStart {
                access: access(fixed()),
                memory: memory(),
            }
        } else if self.says("Cannot write to context") {
            Violation::ContextPointerWrite
        } else if self.says("Possible null access") {
            let (access, memory) = (access(fixed()), memory());
            if called {
                Violation::NullArgument { access, memory }
            } else {
                Violation::NullAccess { access, memory }
            }
        } else if self.says("Non-null number") || self.says("Non-zero access size") {
            Violation::NullWithSize {
                argument: self.argument(pointer),
            }
        } else if self.says("Only pointers can be dereferenced") {
            match self.view.kinds(pointer) {
                [_, _, ..] => self.mixed(pointer),
                _ if called => self.not_memory(pointer),
                _ => Violation::NumberDereferenced { register: pointer },
            }
        } else if self.says("FDs cannot be dereferenced") {
            Violation::MapDereferenced {
                register: pointer,
                map: self.map_name(pointer),
            }
        } else if self.says("Invalid type") {
            self.undefined(pointer)
        } else if ["Socket", "socket", "Unsupported pointer type", "Function pointers"]
            .iter()
            .any(|part| self.says(part))
        {
            Violation::OpaquePointer {
                register: pointer,
                kind: self.view.kind(pointer),
            }
        } else {
            return None;
        })
    }

    /// Stack memory that is not all numbers.
    fn stack_content(&self, pointer: Reg, offset: i64, bytes: Span, access: Access) -> Violation {
        let start = self
            .view
            .of(pointer, "stack_offset")
            .one()
            .and_then(|at| at.checked_add(offset));
        let (Some(start), Some(length)) = (start, bytes.max) else {
            return Violation::UnwrittenStack { access, bytes: None };
        };
        match self.view.pointer_within(start, length) {
            Some(kind) => Violation::PointerInBuffer { access, kind },
            None => Violation::UnwrittenStack {
                access,
                bytes: self.view.unwritten(start, length),
            },
        }
    }

    /// A register that does not hold what an instruction needs.
    fn kind(&self, check: &TypeConstraint) -> Violation {
        let register = register(check.reg);
        let kind = match self.view.kinds(register) {
            [] => return self.undefined(register),
            [kind] => *kind,
            _ => return self.mixed(register),
        };
        match self.instruction {
            Instruction::Exit(_) => Violation::PointerReturned { kind },
            Instruction::Call(call) => self.wrong_argument(call, register, kind),
            Instruction::Mem(access) if check.reg == access.access.basereg => self.not_an_address(register, kind),
            Instruction::Atomic(access) if check.reg == access.access.basereg => self.not_an_address(register, kind),
            Instruction::Mem(_) => Violation::PointerTruncated { register, kind },
            Instruction::Jmp(_) | Instruction::Assume(_) => Violation::PointerCompared { register, kind },
            _ => Violation::PointerArithmetic { register, kind },
        }
    }

    fn not_an_address(&self, register: Reg, kind: Kind) -> Violation {
        match kind {
            Kind::Number => Violation::NumberDereferenced { register },
            Kind::Map | Kind::ProgramArray => Violation::MapDereferenced {
                register,
                map: self.map_name(register),
            },
            kind => Violation::OpaquePointer { register, kind },
        }
    }

    fn wrong_argument(&self, call: &Call, given: Reg, kind: Kind) -> Violation {
        let argument = self.argument(given);
        let of = |register: EngineReg| register.v == given.number();
        let needs = |needs| Violation::ArgumentKind {
            argument: argument.clone(),
            kind,
            needs,
        };
        let pair = call.contract.pairs.iter().find(|pair| of(pair.mem) || of(pair.size));
        if let Some(pair) = pair {
            return if of(pair.mem) {
                self.not_memory(given)
            } else {
                needs(Kind::Number)
            };
        }
        let single = call.contract.singles.iter().find(|single| of(single.reg));
        match single.map(|single| single.kind) {
            Some(ArgSingleKind::Anything) => Violation::PointerPassed { argument, kind },
            Some(ArgSingleKind::MapFd) => Violation::ArgumentNotMap {
                argument,
                kind,
                programs: false,
            },
            Some(ArgSingleKind::MapFdPrograms) => Violation::ArgumentNotMap {
                argument,
                kind,
                programs: true,
            },
            Some(ArgSingleKind::PtrToCtx) => Violation::ArgumentNotContext { argument, kind },
            Some(ArgSingleKind::PtrToStack) => needs(Kind::Stack),
            Some(ArgSingleKind::PtrToFunc) => needs(Kind::Function),
            Some(ArgSingleKind::PtrToSocket) => needs(Kind::Socket),
            Some(ArgSingleKind::PtrToBtfId) => needs(Kind::KernelObject),
            Some(ArgSingleKind::PtrToAllocMem) => needs(Kind::Allocated),
            Some(
                ArgSingleKind::PtrToMapKey
                | ArgSingleKind::PtrToMapValue
                | ArgSingleKind::PtrToSpinLock
                | ArgSingleKind::PtrToTimer
                | ArgSingleKind::PtrToWritableLong
                | ArgSingleKind::PtrToWritableInt,
            ) => self.not_memory(given),
            Some(ArgSingleKind::ConstSizeOrZero) | None => needs(Kind::Number),
        }
    }

    fn not_memory(&self, register: Reg) -> Violation {
        match self.view.kinds(register) {
            [] => self.undefined(register),
            [kind] => Violation::ArgumentNotMemory {
                argument: self.argument(register),
                kind: *kind,
            },
            _ => self.mixed(register),
        }
    }

    fn mixed(&self, register: Reg) -> Violation {
        Violation::MixedKinds {
            register,
            kinds: self.view.kinds(register).to_vec(),
        }
    }

    /// A register of which nothing is known.
    fn undefined(&self, register: Reg) -> Violation {
        match (self.origin)(register, false) {
            Some(Origin::Nothing(Reg::R0)) if matches!(self.instruction, Instruction::Exit(_)) => Violation::NoResult,
            Some(Origin::Nothing(source)) => Violation::NeverWritten { register, source },
            Some(Origin::Destroyed(call, source)) => Violation::Clobbered {
                register,
                source,
                call: (self.call)(call),
            },
            Some(Origin::Stack(offset)) => Violation::UnknownContent {
                register,
                offset: Some(offset),
            },
            Some(Origin::Loaded(_)) => Violation::PartOfPointer { register },
            _ => Violation::NothingKnown { register },
        }
    }

    fn sum(&self, a: Reg, b: Reg) -> Violation {
        for register in [a, b] {
            match self.view.kinds(register) {
                [] => return self.undefined(register),
                [_] => {}
                _ => return self.mixed(register),
            }
        }
        Violation::PointerSum { registers: [a, b] }
    }

    fn comparable(&self, a: Reg, b: Reg) -> Violation {
        for register in [a, b] {
            match self.view.kinds(register) {
                [] => return self.undefined(register),
                [_] => {}
                _ => return self.mixed(register),
            }
        }
        if self.says("Cannot subtract") {
            return Violation::UnrelatedPointers { registers: [a, b] };
        }
        // What remains are the checks that both lie in their memory.
        let beyond = |register: &Reg| match self.view.kind(*register) {
            Kind::Packet => self
                .view
                .of(*register, "packet_offset")
                .max
                .is_none_or(|max| max > 0xffff),
            _ => false,
        };
        self.out_of_range([a, b].into_iter().find(beyond).unwrap_or(a))
    }

    /// A pointer that may lie outside its memory where that matters for a comparison.
    fn out_of_range(&self, register: Reg) -> Violation {
        let kind = match self.view.kinds(register) {
            [] => return self.undefined(register),
            [kind, ..] => *kind,
        };
        let offset = match kind {
            Kind::Packet => self.view.of(register, "packet_offset"),
            Kind::Stack => self.view.stack_offset(register),
            Kind::Context => self.view.of(register, "ctx_offset"),
            _ => self.view.of(register, "shared_offset"),
        };
        Violation::PointerOutOfRange { register, kind, offset }
    }

    fn divisor(&self, register: Reg) -> Violation {
        match self.view.kinds(register) {
            [] => self.undefined(register),
            [Kind::Number] => Violation::DivisionByZero {
                register: Some(register),
            },
            [kind] => Violation::PointerArithmetic { register, kind: *kind },
            _ => self.mixed(register),
        }
    }

    fn stored(&self, into: Reg, value: Reg) -> Violation {
        match self.view.kinds(value) {
            [] => self.undefined(value),
            [kind] => Violation::PointerStored {
                register: value,
                kind: *kind,
                into: self.view.kind(into),
            },
            _ => self.mixed(value),
        }
    }
}

/// The register of an instruction; the engine knows one more that programs do not have.
pub(super) fn register(register: EngineReg) -> Reg {
    Reg::new(register.v).unwrap_or(Reg::R10)
}
