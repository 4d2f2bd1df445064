//! Modules whose ARM64 code has every shape of frame that the lowering makes; cut small, also those of pieces.

use bpf2sys_bytecode::{
    AluOp, AtomicOp, Callee, Function, FunctionIndex, FunctionKind, Insn, Instruction, Module, Operand, Reg, Width,
    WordSize,
};
use bpf2sys_codegen::Lowered;
use bpf2sys_platform::Platform;
use bpf2sys_verifier::VerifiedModule;

const W64: WordSize = WordSize::W64;
/// Helper id of `bpf_map_lookup_elem`: a call of anything.
const HELPER: i32 = 1;

/// Cuts most functions of [`frames`] into pieces.
pub const SMALL: u32 = 8;

/// Fails unless programs and subprograms were cut.
pub fn expect_pieces(lowered: &Lowered) -> Result<(), String> {
    let mut symbols = lowered.object.symbols.iter().map(|symbol| symbol.name.as_str());
    for name in ["atomics4.part1", "spills.part1", "sub6.part1"] {
        if !symbols.clone().any(|symbol| symbol == name) {
            return Err(format!("no {name} in {:?}", symbols.by_ref().collect::<Vec<_>>()));
        }
    }
    Ok(())
}

fn register(number: u8) -> Reg {
    Reg::new(number).expect("registers are 0 to 10")
}

fn mov(dst: u8, src: Operand) -> Instruction {
    alu(AluOp::Mov, dst, src)
}

fn alu(op: AluOp, dst: u8, src: Operand) -> Instruction {
    Instruction::Alu {
        size: W64,
        op,
        dst: register(dst),
        src,
    }
}

fn load(dst: u8, base: u8, offset: i16) -> Instruction {
    Instruction::Load {
        width: Width::Dw,
        signed: false,
        dst: register(dst),
        base: register(base),
        offset,
    }
}

fn store(base: u8, offset: i16, src: u8) -> Instruction {
    Instruction::Store {
        width: Width::Dw,
        base: register(base),
        offset,
        src: Operand::Reg(register(src)),
    }
}

fn call(function: u32) -> Instruction {
    Instruction::Call(Callee::Local(FunctionIndex(function)))
}

fn function(name: &str, kind: FunctionKind, code: &[Instruction]) -> Function {
    Function {
        name: name.to_owned(),
        section: "bind".to_owned(),
        section_offset: 0,
        instructions: Insn::sequence(code.iter().copied()),
        kind,
    }
}

/// `registers` of `r6` to `r9` live across calls and across an atomic operation, whose loop takes registers of its own.
fn atomics(registers: u8) -> Vec<Instruction> {
    let kept = 6..6 + registers;
    let mut code: Vec<Instruction> = kept
        .clone()
        .map(|number| load(number, 1, 8 * i16::from(number)))
        .collect();
    code.extend([
        Instruction::Call(Callee::Helper(HELPER)),
        mov(3, Operand::Reg(register(0))),
    ]);
    for op in [AtomicOp::Add { fetch: true }, AtomicOp::Xchg, AtomicOp::Cmpxchg] {
        code.push(Instruction::Atomic {
            size: W64,
            op,
            base: register(3),
            offset: 8,
            src: register(6),
        });
    }
    code.push(Instruction::Call(Callee::Helper(HELPER)));
    code.extend(kept.map(|number| alu(AluOp::Xor, 0, Operand::Reg(register(number)))));
    code.push(Instruction::Exit);
    code
}

/// Many values at once: what has no register goes to the stack. Two ways out.
fn spills() -> Vec<Instruction> {
    let mut code = vec![
        mov(6, Operand::Reg(register(1))),
        Instruction::JumpIf {
            size: W64,
            condition: bpf2sys_bytecode::Condition::Eq,
            dst: register(1),
            src: Operand::Imm(0),
            offset: 1,
        },
        Instruction::Call(Callee::Helper(HELPER)),
    ];
    for offset in 0..40 {
        code.extend([load(2, 6, 8 * offset), store(10, -8 - 8 * offset, 2)]);
    }
    code.push(mov(0, Operand::Imm(0)));
    for offset in 0..40 {
        code.extend([
            load(2, 10, -8 - 8 * offset),
            alu(AluOp::Add, 0, Operand::Reg(register(2))),
        ]);
    }
    code.push(Instruction::Exit);
    code
}

/// The module: programs first, then the subprograms that one of them calls, eight frames deep.
pub fn frames() -> VerifiedModule {
    let mut functions: Vec<Function> = (1..=4)
        .map(|registers| {
            function(
                &format!("atomics{registers}"),
                FunctionKind::Program,
                &atomics(registers),
            )
        })
        .collect();
    functions.push(function("spills", FunctionKind::Program, &spills()));
    functions.push(function("deep", FunctionKind::Program, &[call(6), Instruction::Exit]));
    for depth in 6..12 {
        let code = [
            load(6, 1, 0),
            call(depth + 1),
            alu(AluOp::Add, 0, Operand::Reg(register(6))),
            Instruction::Exit,
        ];
        functions.push(function(&format!("sub{depth}"), FunctionKind::Subprogram, &code));
    }
    // Reads registers that its caller did not pass, so that some arguments are on the stack.
    let mut last: Vec<Instruction> = [0, 6, 7, 8, 9]
        .map(|number| store(10, -8 * i16::from(number) - 8, number))
        .into();
    last.extend([mov(0, Operand::Imm(0)), Instruction::Exit]);
    functions.push(function("last", FunctionKind::Subprogram, &last));
    let module = Module {
        name: "frames".to_owned(),
        hash: None,
        functions,
        maps: Vec::new(),
        globals: Vec::new(),
        btf_functions: Vec::new(),
        lines: Vec::new(),
        unresolved: Vec::new(),
        types: bpf2sys_bytecode::DataTypes::default(),
    };
    let platform = Platform::builtin();
    let (program_type, attach) = platform
        .program_type_for_section("bind")
        .expect("the platform has `bind`");
    VerifiedModule::assume_verified_for_instruction_tests(module, program_type, attach.attach_type)
}
