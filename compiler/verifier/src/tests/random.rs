//! Facts against runs: random programs over numbers and stack bytes are executed as RFC 9669 says, and at every step
//! the facts must be true.

use bpf2sys_bytecode::{
    AluOp, AtomicOp, Callee, Condition, Extension, FunctionIndex, Insn, InsnIndex, Instruction, Module, Operand, Reg,
    SwapKind, SwapWidth, Width, WordSize,
};
use bpf2sys_platform::Platform;

use super::fixture;
use crate::{Branch, Interval, Options, RegisterFact, RegisterKind, VerifiedModule, verify};

const PROGRAMS: usize = 80;
const RUNS: usize = 40;

/// The bytes of stack that programs use, at `r10 - 16`.
const STACK_BYTES: i16 = 16;

/// A xorshift generator: the same programs and runs every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// `r6` to `r9`.
    fn register(&mut self) -> Reg {
        Reg::new(6 + self.below(4) as u8).unwrap()
    }

    fn imm(&mut self) -> i32 {
        match self.below(4) {
            0 => self.below(70) as i32,
            1 => -(self.below(16) as i32),
            2 => self.next() as i32,
            _ => self.one_of(&[i32::MIN, i32::MAX, -1, 0, 1, 255, 0xffff, 1 << 30]),
        }
    }

    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => self.below(256),
            2 => i64::from(self.imm()).cast_unsigned(),
            _ => u64::MAX >> self.below(64),
        }
    }

    fn width(&mut self) -> (Width, i16) {
        let width = self.one_of(&[Width::B, Width::H, Width::W, Width::Dw]);
        let last = u64::from(STACK_BYTES.unsigned_abs()) - u64::from(width.bytes());
        (width, self.below(last + 1) as i16 - STACK_BYTES)
    }

    /// One operation; a jump goes at most `ahead` instructions forward.
    fn operation(&mut self, ahead: u64) -> Instruction {
        let size = self.one_of(&[WordSize::W32, WordSize::W64]);
        let (dst, base) = (self.register(), Reg::R10);
        let src = match self.below(2) {
            0 => Operand::Reg(self.register()),
            _ => Operand::Imm(self.imm()),
        };
        match self.below(14) {
            0..3 => Instruction::JumpIf {
                size,
                condition: self.one_of(&Condition::ALL),
                dst,
                src,
                offset: self.below(ahead) as i16,
            },
            3 => Instruction::Movsx {
                size,
                from: self.one_of(&[Extension::S8, Extension::S16]),
                dst,
                src: self.register(),
            },
            4 => Instruction::Neg { size, dst },
            5 => Instruction::ByteSwap {
                kind: self.one_of(&[SwapKind::ToLe, SwapKind::ToBe, SwapKind::Swap]),
                width: self.one_of(&[SwapWidth::W16, SwapWidth::W32, SwapWidth::W64]),
                dst,
            },
            6 => {
                let (width, offset) = self.width();
                Instruction::Store {
                    width,
                    base,
                    offset,
                    src,
                }
            }
            7 => {
                let (width, offset) = self.width();
                let signed = width != Width::Dw && self.below(2) == 0;
                Instruction::Load {
                    width,
                    signed,
                    dst,
                    base,
                    offset,
                }
            }
            8 => Instruction::Atomic {
                size: WordSize::W64,
                op: self.one_of(&[
                    AtomicOp::Add { fetch: true },
                    AtomicOp::Add { fetch: false },
                    AtomicOp::Xchg,
                ]),
                base,
                offset: self.one_of(&[-8, -16]),
                src: dst,
            },
            _ => Instruction::Alu {
                size,
                op: self.one_of(&AluOp::ALL),
                dst,
                src,
            },
        }
    }

    /// Random numbers in `r6` to `r9`, zeros on the stack, operations, and one of the registers as result.
    fn program(&mut self) -> Vec<Instruction> {
        let size = WordSize::W64;
        let mov = |dst, src| Instruction::Alu {
            size,
            op: AluOp::Mov,
            dst,
            src,
        };
        let mut code = Vec::new();
        for register in 6..10 {
            let dst = Reg::new(register).unwrap();
            code.extend([Instruction::Call(Callee::Helper(6)), mov(dst, Operand::Reg(Reg::R0))]);
            if self.below(2) == 0 {
                let src = Operand::Imm(self.imm());
                code.push(Instruction::Alu {
                    size,
                    op: AluOp::And,
                    dst,
                    src,
                });
            }
        }
        for offset in [-8, -16] {
            let (width, base, src) = (Width::Dw, Reg::R10, Operand::Imm(0));
            code.push(Instruction::Store {
                width,
                base,
                offset,
                src,
            });
        }
        let length = 6 + self.below(16);
        for i in 0..length {
            code.push(self.operation(length - i));
        }
        code.extend([mov(Reg::R0, Operand::Reg(self.register())), Instruction::Exit]);
        code
    }
}

fn alu64(op: AluOp, a: u64, b: u64) -> u64 {
    let (sa, sb) = (a.cast_signed(), b.cast_signed());
    match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b).unwrap_or(0),
        AluOp::Sdiv if b == 0 => 0,
        AluOp::Sdiv => sa.wrapping_div(sb).cast_unsigned(),
        AluOp::Mod => a.checked_rem(b).unwrap_or(a),
        AluOp::Smod if b == 0 => a,
        AluOp::Smod => sa.wrapping_rem(sb).cast_unsigned(),
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Xor => a ^ b,
        AluOp::Mov => b,
        AluOp::Lsh => a << (b & 63),
        AluOp::Rsh => a >> (b & 63),
        AluOp::Arsh => (sa >> (b & 63)).cast_unsigned(),
    }
}

fn alu32(op: AluOp, a: u32, b: u32) -> u32 {
    let (sa, sb) = (a.cast_signed(), b.cast_signed());
    match op {
        AluOp::Sdiv if b == 0 => 0,
        AluOp::Sdiv => sa.wrapping_div(sb).cast_unsigned(),
        AluOp::Smod if b == 0 => a,
        AluOp::Smod => sa.wrapping_rem(sb).cast_unsigned(),
        AluOp::Lsh => a << (b & 31),
        AluOp::Rsh => a >> (b & 31),
        AluOp::Arsh => (sa >> (b & 31)).cast_unsigned(),
        // The low half of the others depends on the low halves only.
        _ => alu64(op, a.into(), b.into()) as u32,
    }
}

/// Whether a condition holds, by RFC 9669 §4.3.
pub(crate) fn holds(condition: Condition, size: WordSize, a: u64, b: u64) -> bool {
    let ((a, b), (sa, sb)) = match size {
        WordSize::W64 => ((a, b), (a.cast_signed(), b.cast_signed())),
        WordSize::W32 => {
            let low = |x: u64| x as u32;
            let signed = |x: u64| i64::from(low(x).cast_signed());
            ((low(a).into(), low(b).into()), (signed(a), signed(b)))
        }
    };
    match condition {
        Condition::Eq => a == b,
        Condition::Ne => a != b,
        Condition::Gt => a > b,
        Condition::Ge => a >= b,
        Condition::Lt => a < b,
        Condition::Le => a <= b,
        Condition::Sgt => sa > sb,
        Condition::Sge => sa >= sb,
        Condition::Slt => sa < sb,
        Condition::Sle => sa <= sb,
        Condition::Set => a & b != 0,
    }
}

/// A program in execution.
struct Machine {
    registers: [u64; Reg::COUNT],
    stack: [u8; STACK_BYTES.unsigned_abs() as usize],
}

impl Machine {
    fn operand(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Reg(register) => self.registers[register.index()],
            Operand::Imm(imm) => i64::from(imm).cast_unsigned(),
        }
    }

    fn bytes(&mut self, offset: i16, width: Width) -> &mut [u8] {
        let start = (offset + STACK_BYTES) as usize;
        &mut self.stack[start..start + width.bytes() as usize]
    }

    fn load(&mut self, offset: i16, width: Width) -> u64 {
        let mut value = [0; 8];
        value[..width.bytes() as usize].copy_from_slice(self.bytes(offset, width));
        u64::from_le_bytes(value)
    }

    fn store(&mut self, offset: i16, width: Width, value: u64) {
        let bytes = value.to_le_bytes();
        self.bytes(offset, width)
            .copy_from_slice(&bytes[..width.bytes() as usize]);
    }

    /// Executes one instruction, and tells by how many instructions it jumps if it does.
    fn step(&mut self, op: Instruction, random: &mut Random) -> Option<i16> {
        match op {
            Instruction::Call(_) => self.registers[0] = random.number(),
            Instruction::Alu { size, op, dst, src } => {
                let (a, b) = (self.registers[dst.index()], self.operand(src));
                self.registers[dst.index()] = match size {
                    WordSize::W64 => alu64(op, a, b),
                    WordSize::W32 => alu32(op, a as u32, b as u32).into(),
                };
            }
            Instruction::Movsx { size, from, dst, src } => {
                let value = extend(self.registers[src.index()], from);
                self.registers[dst.index()] = in_word(size, value);
            }
            Instruction::Neg { size, dst } => {
                self.registers[dst.index()] = in_word(size, self.registers[dst.index()].wrapping_neg());
            }
            Instruction::ByteSwap { kind, width, dst } => {
                let value = self.registers[dst.index()];
                self.registers[dst.index()] = match (kind, width) {
                    (SwapKind::ToLe, SwapWidth::W16) => u64::from(value as u16),
                    (SwapKind::ToLe, SwapWidth::W32) => u64::from(value as u32),
                    (SwapKind::ToLe, SwapWidth::W64) => value,
                    (_, SwapWidth::W16) => u64::from((value as u16).swap_bytes()),
                    (_, SwapWidth::W32) => u64::from((value as u32).swap_bytes()),
                    (_, SwapWidth::W64) => value.swap_bytes(),
                };
            }
            Instruction::Store { width, offset, src, .. } => self.store(offset, width, self.operand(src)),
            Instruction::Load {
                width,
                signed,
                dst,
                offset,
                ..
            } => {
                let value = self.load(offset, width);
                self.registers[dst.index()] = match (signed, width) {
                    (true, Width::B) => extend(value, Extension::S8),
                    (true, Width::H) => extend(value, Extension::S16),
                    (true, Width::W) => extend(value, Extension::S32),
                    _ => value,
                };
            }
            Instruction::Atomic { op, offset, src, .. } => {
                let (old, operand) = (self.load(offset, Width::Dw), self.registers[src.index()]);
                let (new, fetch) = match op {
                    AtomicOp::Add { fetch } => (old.wrapping_add(operand), fetch),
                    AtomicOp::Xchg => (operand, true),
                    other => panic!("{other:?} is not generated"),
                };
                self.store(offset, Width::Dw, new);
                if fetch {
                    self.registers[src.index()] = old;
                }
            }
            Instruction::JumpIf {
                size,
                condition,
                dst,
                src,
                offset,
            } => {
                let taken = holds(condition, size, self.registers[dst.index()], self.operand(src));
                return taken.then_some(offset);
            }
            other => panic!("{other} is not generated"),
        }
        None
    }
}

fn extend(value: u64, from: Extension) -> u64 {
    let signed = match from {
        Extension::S8 => i64::from(value as i8),
        Extension::S16 => i64::from(value as i16),
        Extension::S32 => i64::from(value as i32),
    };
    signed.cast_unsigned()
}

fn in_word(size: WordSize, value: u64) -> u64 {
    match size {
        WordSize::W64 => value,
        WordSize::W32 => u64::from(value as u32),
    }
}

/// What the facts say that a register cannot hold, if it holds it.
fn wrong(facts: &[RegisterFact; Reg::COUNT], registers: &[u64; Reg::COUNT]) -> Option<String> {
    facts.iter().zip(registers).enumerate().find_map(|(i, (fact, value))| {
        let signed = value.cast_signed();
        let outside = signed < fact.signed.min
            || signed > fact.signed.max
            || fact.unsigned.is_some_and(|(low, high)| *value < low || *value > high);
        (fact.kind == RegisterKind::Number && outside).then(|| format!("r{i} = {value:#x}, {fact:?}"))
    })
}

/// Runs a program once and counts facts that said something.
fn run(verified: &VerifiedModule, random: &mut Random) -> usize {
    let function = &verified.module().functions[0];
    let facts = verified.facts(FunctionIndex(0));
    let mut machine = Machine {
        registers: [0; Reg::COUNT],
        stack: [0; STACK_BYTES.unsigned_abs() as usize],
    };
    let (mut at, mut telling) = (0, 0);
    loop {
        let (op, known) = (function.instructions[at].op, &facts.instructions[at]);
        let fail = |what: String| -> ! { panic!("instruction {at} `{op}`: {what} in\n{}", listing(function)) };
        if !known.reachable {
            fail("is reached".to_owned());
        }
        let registers = facts.registers(InsnIndex(at as u32));
        if let Some(what) = wrong(&registers, &machine.registers) {
            fail(what);
        }
        telling += registers.iter().filter(|r| r.signed != Interval::FULL).count();
        if op == Instruction::Exit {
            let result = machine.registers[0].cast_signed();
            if result < facts.returns.min || result > facts.returns.max {
                fail(format!("returns {result}, {:?}", facts.returns));
            }
            return telling;
        }
        let jump = machine.step(op, random);
        match (known.branch, jump) {
            (Branch::AlwaysTaken, None) | (Branch::NeverTaken, Some(_)) => fail(format!("{:?}", known.branch)),
            _ => {}
        }
        at += 1 + jump.unwrap_or(0) as usize;
    }
}

fn listing(function: &bpf2sys_bytecode::Function) -> String {
    let lines = function
        .instructions
        .iter()
        .enumerate()
        .map(|(i, insn)| format!("{i:3} {}\n", insn.op));
    lines.collect()
}

#[test]
fn facts_are_true_on_random_runs_of_random_programs() {
    let platform = Platform::builtin();
    let options = Options {
        program_type: Some("xdp".to_owned()),
        ..Options::default()
    };
    let template: Module = fixture("sections.o");
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut accepted, mut telling) = (0, 0);
    for _ in 0..PROGRAMS {
        let mut module = template.clone();
        let code = random.program();
        module.functions[0].instructions = code
            .into_iter()
            .enumerate()
            .map(|(i, op)| Insn {
                slot: i as u32,
                op,
                line: None,
            })
            .collect();
        let Ok(verified) = verify(module, &platform, &options) else {
            continue;
        };
        accepted += 1;
        for _ in 0..RUNS {
            telling += run(&verified, &mut random);
        }
    }
    // Nearly all are accepted, and there is something to be wrong about.
    assert!(accepted > PROGRAMS * 9 / 10, "{accepted}");
    assert!(telling > accepted * RUNS * 20, "{telling}");
}
