//! x64: what is put into place for a call although the callee does not look at it.
//!
//! Given: the instructions of a function, and which arguments each call through a register has that its callee does not read.
//! Computed: the instructions that can go, and the loads of the callee's address that can be to `rax`, where a guarded call wants it.
//! Safe because: an instruction goes only if all it does is to set a register that is dead at the call, or the place on the stack of the
//! fifth argument of a callee that does not read it, and if nothing between it and the call reads that. Between the two there is no
//! jump; where control enters from elsewhere, nothing changes on that way.
//!
//! Cranelift's calls have as many arguments as their signature, each with a value; "any value" is none that it knows.

use std::collections::BTreeMap;

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

/// The arguments that a call has and its callee does not read: bit n for argument n, 1 to 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unread(pub(crate) u8);

impl Unread {
    pub(crate) fn has(self, argument: u8) -> bool {
        self.0 & 1 << argument != 0
    }
}

/// What becomes of instructions in front of calls, all by position.
#[derive(Debug, Default)]
pub(crate) struct BeforeCalls {
    /// Whether it goes. Empty where none does.
    pub(crate) dropped: Vec<bool>,
    /// Loads of a callee's address that can be to `rax`, with their calls.
    pub(crate) loads: BTreeMap<usize, usize>,
}

/// Where the fifth argument is on the stack, at the call.
const FIFTH: u64 = 0x20;
/// Registers of arguments 1 to 4.
const ARGUMENTS: [Register; 4] = [Register::RCX, Register::RDX, Register::R8, Register::R9];
/// Registers that no callee reads, and none keeps.
const SCRATCH: [Register; 3] = [Register::RAX, Register::R10, Register::R11];

/// What changes in front of the calls through registers, by position. `unread` says it of a call, by its position.
pub(crate) fn before_calls(code: &[Instruction], unread: impl Fn(&Instruction) -> Unread) -> BeforeCalls {
    let mut changes = BeforeCalls {
        dropped: vec![false; code.len()],
        loads: BTreeMap::new(),
    };
    let mut factory = InstructionInfoFactory::new();
    for (position, call) in code.iter().enumerate() {
        if call.flow_control() == FlowControl::IndirectCall && call.op0_kind() == OpKind::Register {
            before_call(code, position, unread(call), &mut factory, &mut changes);
        }
    }
    changes
}

fn before_call(
    code: &[Instruction],
    position: usize,
    unread: Unread,
    factory: &mut InstructionInfoFactory,
    changes: &mut BeforeCalls,
) {
    let target = code[position].op0_register();
    let mut dead: Vec<Register> = SCRATCH.into_iter().filter(|scratch| *scratch != target).collect();
    let of_arguments = (1..).zip(ARGUMENTS);
    dead.extend(
        of_arguments
            .filter(|(argument, _)| unread.has(*argument))
            .map(|(_, register)| register),
    );
    let mut fifth_is_dead = unread.has(5);
    let mut flags_are_read = false;
    // While neither it nor `rax` was seen behind: the load of the address can be to `rax`.
    let mut target_is_free = SCRATCH.contains(&target) && target != Register::RAX;
    for (at, instruction) in code[..position].iter().enumerate().rev() {
        if instruction.flow_control() != FlowControl::Next {
            return;
        }
        let set = sets_register(instruction);
        let changes_flags = instruction.rflags_modified() != 0;
        let is_dead = match set {
            Some(register) => dead.contains(&register) && !(changes_flags && flags_are_read),
            None => fifth_is_dead && is_store_of_fifth(instruction),
        };
        if is_dead {
            changes.dropped[at] = true;
            continue;
        }
        flags_are_read |= instruction.rflags_read() != 0;
        if reads_stack_at_fifth(instruction) {
            fifth_is_dead = false;
        }
        if target_is_free && loads_address(instruction) && instruction.op0_register() == target {
            changes.loads.insert(at, position);
            target_is_free = false;
        }
        for used in factory.info(instruction).used_registers() {
            let full = used.register().full_register();
            // What is only written here was dead before as well, but the instruction may do more.
            if used.access() != OpAccess::None {
                dead.retain(|register| *register != full);
            }
            target_is_free &= full != target && full != Register::RAX;
        }
    }
}

/// The register of 64 bits that an instruction sets, if it does nothing else but set flags.
fn sets_register(instruction: &Instruction) -> Option<Register> {
    if instruction.op0_kind() != OpKind::Register || instruction.op_count() != 2 {
        return None;
    }
    let register = instruction.op0_register();
    let full = register.full_register();
    // Less than 32 bits leave the others as they were.
    if !(register.is_gpr32() || register.is_gpr64()) {
        return None;
    }
    let sets = match (instruction.mnemonic(), instruction.op1_kind()) {
        (Mnemonic::Xor, OpKind::Register) => instruction.op1_register() == register,
        // Memory that others can see is read as often as the program says.
        (Mnemonic::Mov, OpKind::Memory) => is_in_frame(instruction),
        (Mnemonic::Mov | Mnemonic::Lea, _) => true,
        _ => false,
    };
    sets.then_some(full)
}

/// Whether its memory operand is at a known distance from `rsp`.
fn is_in_frame(instruction: &Instruction) -> bool {
    instruction.memory_base() == Register::RSP && instruction.memory_index() == Register::None
}

/// Whether it is `mov r64, [r + distance]`.
fn loads_address(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_gpr64()
        && instruction.op1_kind() == OpKind::Memory
        && instruction.memory_index() == Register::None
        && !instruction.is_ip_rel_memory_operand()
}

fn is_store_of_fifth(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Memory
        && is_in_frame(instruction)
        && instruction.memory_displacement64() == FIFTH
        && instruction.memory_size().size() == 8
}

fn reads_stack_at_fifth(instruction: &Instruction) -> bool {
    let is_memory = (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    is_memory
        && instruction.memory_base() == Register::RSP
        && (instruction.memory_index() != Register::None || instruction.memory_displacement64() < FIFTH + 8)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::audit_x64::decode;
    use crate::rewrite_x64::tests::bytes;

    use super::{BeforeCalls, Unread, before_calls};

    /// What changes in code whose last call has these arguments that nobody reads.
    fn changes(text: &str, unread: &[u8]) -> BeforeCalls {
        let code = bytes(&[text, "c3"].concat());
        let decoded = decode(&code, &BTreeSet::new()).unwrap();
        let unread = Unread(unread.iter().fold(0, |all, argument| all | 1 << argument));
        before_calls(&decoded.instructions, |_| unread)
    }

    #[test]
    fn what_nobody_reads_is_not_put_into_place() {
        const ALL: &[u8] = &[1, 2, 3, 4, 5];
        let cases: &[(&str, &str, &[u8], &[usize])] = &[
            ("xor edx, edx; call r11", "33d2 41ffd3", &[2], &[0]),
            ("it is read", "33d2 41ffd3", &[3], &[]),
            (
                "a chain of copies",
                "4d33c9 4c89ca 4d89c8 41ffd3",
                &[2, 3, 4],
                &[0, 1, 2],
            ),
            (
                "a copy is for one who reads it",
                "4d33c9 4c89ca 4d89c8 41ffd3",
                &[3, 4],
                &[2],
            ),
            ("mov [rsp+0x20], r9; call r11", "4c894c2420 41ffd3", ALL, &[0]),
            ("mov [rsp+0x28], r9 is the context", "4c894c2428 41ffd3", ALL, &[]),
            ("mov [rsp+0x20], r9d is half of it", "44894c2420 41ffd3", ALL, &[]),
            (
                "mov rax, [rsp+0x20] reads it; mov [rcx], rax",
                "4c894c2420 488b442420 488901 41ffd3",
                ALL,
                &[],
            ),
            ("mov rdx, [rcx] is an access of memory", "488b11 41ffd3", ALL, &[]),
            ("mov rdx, [rsp+0x40] is of the frame", "488b542440 41ffd3", ALL, &[0]),
            ("mov dl, 1 leaves the rest", "b201 41ffd3", ALL, &[]),
            ("mov rbx, rcx is kept", "4889cb 41ffd3", ALL, &[]),
            ("the target of the call", "4989c3 41ffd3", ALL, &[]),
            ("behind a jump", "33d2 eb00 41ffd3", ALL, &[]),
            // cmp rcx, rax; xor edx, edx; setb al; mov [rcx], al
            (
                "flags that are read behind",
                "483bc8 33d2 0f92c0 8801 41ffd3",
                &[2],
                &[],
            ),
        ];
        for (name, text, unread, dropped) in cases {
            let all = changes(text, unread).dropped;
            let found: Vec<usize> = (0..all.len()).filter(|at| all[*at]).collect();
            assert_eq!(found, *dropped, "{name}");
        }
    }

    #[test]
    fn the_address_of_a_callee_is_loaded_where_a_guarded_call_wants_it() {
        let cases: &[(&str, &str, bool)] = &[
            ("mov r10, [rcx+8]; call r10", "4c8b5108 41ffd2", true),
            ("mov r10, [rax+8]; call r10", "4c8b5008 41ffd2", true),
            ("rax is read behind", "4c8b5108 4889c2 41ffd2", false),
            ("r10 is read behind", "4c8b5108 4c89d2 41ffd2", false),
            ("mov rbx, [rcx+8] is kept over the call", "488b5908 ffd3", false),
            ("mov r10d, [rcx+8] is no address", "448b5108 41ffd2", false),
            ("mov r11, [rcx+8] is another", "4c8b5908 41ffd2", false),
        ];
        for (name, text, loads) in cases {
            assert_eq!(!changes(text, &[]).loads.is_empty(), *loads, "{name}");
        }
    }
}
