//! One x64 instruction.

use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, FlowControl, Instruction, InstructionInfoFactory,
    Mnemonic, OpAccess, OpKind, Register,
};

use bpf2sys_simulator::image::Rva;

use super::{Around, Known, Scan, Slot, Step, Value};

/// `int 29h`, by which Windows code ends where it can't go on.
const FAST_FAIL: u64 = 0x29;

pub(super) fn step(around: &Around<'_, '_>, rva: u32, code: &[u8], known: &mut Known, scan: &mut Scan) -> Step {
    let instruction = Decoder::with_ip(64, code, rva.into(), DecoderOptions::NONE).decode();
    let place = || around.subject.place(Rva(rva));
    if instruction.is_invalid() {
        if starts_extension(code) {
            scan.vector.add(place);
            // Its length is not known; nothing more is said of this path.
            return Step {
                length: 1,
                ..Step::default()
            };
        }
        return Step::default();
    }
    let shown = || format!("{}: {instruction}", place());
    if instruction.code().encoding() != EncodingKind::Legacy {
        scan.vector.add(shown);
    }
    if is_x87(&instruction) {
        scan.x87.add(shown);
    }
    if is_privileged(&instruction) {
        scan.privileged.add(shown);
    }
    if scan.function_at(rva).is_none() && makes_frame(&instruction) {
        scan.uncovered.add(shown);
    }
    let flow = instruction.flow_control();
    match flow {
        FlowControl::IndirectCall => match called(around, &instruction, known) {
            Slot::Check => {
                known.checked = true;
                return follow(&instruction, flow);
            }
            Slot::Import => {}
            Slot::Dispatch => scan.guarded_calls += 1,
            Slot::Other if known.checked => scan.guarded_calls += 1,
            Slot::Other => scan.unguarded.add(shown),
        },
        // Through memory it leaves the function, unless an index makes it a switch.
        FlowControl::IndirectBranch
            if instruction.op0_kind() == OpKind::Memory && instruction.memory_index() == Register::None =>
        {
            match called(around, &instruction, known) {
                Slot::Import | Slot::Check => {}
                Slot::Dispatch => scan.guarded_calls += 1,
                Slot::Other => scan.unguarded.add(shown),
            }
        }
        _ => {}
    }
    learn(&instruction, known, scan);
    follow(&instruction, flow)
}

fn follow(instruction: &Instruction, flow: FlowControl) -> Step {
    let direct = matches!(
        flow,
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::Call
    );
    let near = direct
        && (instruction.is_jmp_short_or_near()
            || instruction.is_jcc_short_or_near()
            || instruction.is_call_near()
            || instruction.is_jcx_short()
            || instruction.is_loop()
            || instruction.is_loopcc());
    let ends = match flow {
        FlowControl::Return
        | FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch
        | FlowControl::Exception => true,
        FlowControl::Interrupt => {
            instruction.code() == Code::Int3 || instruction.try_immediate(0).is_ok_and(|n| n == FAST_FAIL)
        }
        _ => false,
    };
    Step {
        length: instruction.len() as u32,
        continues: !ends,
        calls: flow == FlowControl::Call,
        // Addresses are RVAs here; those before the image wrap around.
        target: near.then(|| instruction.near_branch_target().cast_signed()),
    }
}

/// What a call or jump through a register or memory goes through.
fn called(around: &Around<'_, '_>, instruction: &Instruction, known: &Known) -> Slot {
    match instruction.op0_kind() {
        OpKind::Register => around.slot_in(known.registers[instruction.op0_register().number() & 31]),
        OpKind::Memory => address(instruction, known).map_or(Slot::Other, |rva| around.slot(rva)),
        _ => Slot::Other,
    }
}

/// What is known after an instruction.
fn learn(instruction: &Instruction, known: &mut Known, scan: &mut Scan) {
    if matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    ) {
        known.checked = false;
        // Volatile registers of the x64 calling convention.
        for number in [0, 1, 2, 8, 9, 10, 11] {
            known.registers[number] = Value::Unknown;
        }
        return;
    }
    let result = result(instruction, known);
    if instruction.mnemonic() == Mnemonic::Lea {
        scan.take(result);
    }
    let mut factory = InstructionInfoFactory::new();
    for used in factory.info(instruction).used_registers() {
        let register = used.register();
        let reads = matches!(
            used.access(),
            OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
        );
        if !reads && register.is_gpr() {
            known.registers[register.full_register().number() & 31] = Value::Unknown;
        }
    }
    if instruction.op0_kind() == OpKind::Register && instruction.op0_register().is_gpr64() {
        known.registers[instruction.op0_register().number() & 31] = result;
    }
}

/// What an instruction puts into its first operand, as far as calls may go through it.
fn result(instruction: &Instruction, known: &Known) -> Value {
    match (instruction.mnemonic(), instruction.op1_kind()) {
        (Mnemonic::Lea, OpKind::Memory) => address(instruction, known).map_or(Value::Unknown, Value::Address),
        (Mnemonic::Mov, OpKind::Memory) => address(instruction, known).map_or(Value::Unknown, Value::Loaded),
        (Mnemonic::Mov, OpKind::Register) if instruction.op1_register().is_gpr64() => {
            known.registers[instruction.op1_register().number() & 31]
        }
        // An instruction that only reads its first operand leaves it.
        (Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push, _) => {
            known.registers[instruction.op0_register().number() & 31]
        }
        _ => Value::Unknown,
    }
}

/// The RVA that a memory operand means, if it is known.
fn address(instruction: &Instruction, known: &Known) -> Option<u32> {
    let segment = instruction.memory_segment();
    if matches!(segment, Register::FS | Register::GS) || instruction.memory_index() != Register::None {
        return None;
    }
    if instruction.is_ip_rel_memory_operand() {
        return u32::try_from(instruction.ip_rel_memory_address()).ok();
    }
    match instruction.memory_base() {
        base if base.is_gpr64() => match known.registers[base.number() & 31] {
            Value::Address(from) => {
                u32::try_from(u64::from(from).wrapping_add(instruction.memory_displacement64())).ok()
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether undecodable bytes are an instruction with a VEX or EVEX prefix, which this build of the decoder does not know.
fn starts_extension(code: &[u8]) -> bool {
    let legacy = |byte: &u8| matches!(byte, 0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3);
    let first = code.iter().find(|byte| !legacy(byte));
    code.len() > 3 && matches!(first, Some(0xC4 | 0xC5 | 0x62))
}

fn is_x87(instruction: &Instruction) -> bool {
    let old = |feature: &CpuidFeature| {
        matches!(
            feature,
            CpuidFeature::FPU
                | CpuidFeature::FPU287
                | CpuidFeature::FPU287XL_ONLY
                | CpuidFeature::FPU387
                | CpuidFeature::MMX
        )
    };
    let operand = |n| {
        let register = instruction.op_register(n);
        instruction.op_kind(n) == OpKind::Register && (register.is_mm() || register.is_st())
    };
    instruction.cpuid_features().iter().any(old) || (0..instruction.op_count()).any(operand)
}

fn is_privileged(instruction: &Instruction) -> bool {
    let interrupt = instruction.mnemonic() == Mnemonic::Int;
    let fails_fast = instruction.try_immediate(0).is_ok_and(|n| n == FAST_FAIL);
    instruction.is_privileged()
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Syscall | Mnemonic::Sysenter | Mnemonic::Vmcall | Mnemonic::Vmmcall
        )
        || (interrupt && !fails_fast)
}

/// Whether a function with this instruction needs unwind data.
fn makes_frame(instruction: &Instruction) -> bool {
    let rsp = instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RSP;
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Call => true,
        Mnemonic::Sub | Mnemonic::Lea | Mnemonic::And => rsp,
        _ => false,
    }
}
