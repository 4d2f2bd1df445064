//! Programs of any length in the shapes that compilers find hard, made as [`Module`]s without a file.
//!
//! All of them end, touch only their own stack, and call only helpers without arguments, so they run in the simulator as
//! they are. None of them was verified: the verifier's own time would hide the lowering's.

use bpf2sys_bytecode::{
    AluOp, Callee, Condition, Extension, Function, FunctionIndex, FunctionKind, Imm64, Insn, Instruction, Module,
    Operand, Reg, SwapKind, SwapWidth, Width, WordSize,
};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::VerifiedModule;

/// Helper id of `bpf_get_smp_processor_id`, which every program type has.
const PROCESSOR_ID: i32 = 8;

/// A family of programs.
pub struct Shape {
    /// Its name in tables and on command lines.
    pub name: &'static str,
    /// What it is like, in a few words.
    pub what: &'static str,
    /// A module of about this many instructions.
    pub make: fn(usize) -> Module,
}

/// What real programs are made of, in plenty.
pub const USUAL: [Shape; 5] = [
    Shape {
        name: "straight",
        what: "arithmetic, loads, stores",
        make: straight,
    },
    Shape {
        name: "branches",
        what: "diamonds, switches, loops, far code",
        make: branches,
    },
    Shape {
        name: "calls",
        what: "helpers and subprograms",
        make: calls,
    },
    Shape {
        name: "functions",
        what: "functions of 100 instructions",
        make: functions,
    },
    Shape {
        name: "constants",
        what: "64-bit constants as operands",
        make: constants,
    },
];

/// What nobody writes but anybody can hand in.
pub const HOSTILE: [Shape; 11] = [
    Shape {
        name: "one-target",
        what: "every jump goes to the end",
        make: one_target,
    },
    Shape {
        name: "diamonds",
        what: "a chain of diamonds, all registers live",
        make: diamonds,
    },
    Shape {
        name: "blocks",
        what: "every instruction is a block",
        make: blocks,
    },
    Shape {
        name: "adds",
        what: "one value, added to again and again",
        make: adds,
    },
    Shape {
        name: "late-use",
        what: "loads that only the end uses",
        make: late_use,
    },
    Shape {
        name: "loads",
        what: "nothing but lddw",
        make: lddw_only,
    },
    Shape {
        name: "helpers",
        what: "helper calls without anything between",
        make: helpers,
    },
    Shape {
        name: "nested",
        what: "loops in loops",
        make: nested,
    },
    Shape {
        name: "back-edges",
        what: "a state machine: every state can follow every other",
        make: back_edges,
    },
    Shape {
        name: "stack",
        what: "bytes of the stack written, then all summed",
        make: stack_bytes,
    },
    Shape {
        name: "atomics",
        what: "atomic operations, divisions",
        make: atomics,
    },
];

/// Takes a module as verified.
pub fn trusted(module: Module) -> VerifiedModule {
    let platform = Platform::builtin();
    let (program_type, attach) = platform
        .program_type_for_section("bind")
        .expect("the platform has the program type `bind`");
    VerifiedModule::assume_verified_for_instruction_tests(module, program_type, attach.attach_type)
}

/// A fixed sequence of numbers that look random: the same program each time.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        // Knuth's MMIX constants; the high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn imm(&mut self) -> i32 {
        self.next() as i32 & 0xFFFF
    }

    /// One of the registers that hold data: `r0` to `r5`, `r7`, `r8`.
    pub fn data(&mut self) -> u8 {
        [0, 1, 2, 3, 4, 5, 7, 8][self.below(8) as usize]
    }
}

/// A place to jump to.
#[derive(Clone, Copy)]
pub struct Label(usize);

/// Instructions in the making.
#[derive(Default)]
pub struct Code {
    ops: Vec<Instruction>,
    /// Jumps by position, with where they go.
    jumps: Vec<(usize, Label)>,
    /// By label: the position of the instruction behind it.
    places: Vec<Option<usize>>,
}

impl Code {
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    pub fn put(&mut self, op: Instruction) {
        self.ops.push(op);
    }

    pub fn alu(&mut self, op: AluOp, dst: u8, src: Operand) {
        let size = WordSize::W64;
        let dst = reg(dst);
        self.put(Instruction::Alu { size, op, dst, src });
    }

    pub fn alu32(&mut self, op: AluOp, dst: u8, src: Operand) {
        let size = WordSize::W32;
        let dst = reg(dst);
        self.put(Instruction::Alu { size, op, dst, src });
    }

    pub fn mov(&mut self, dst: u8, imm: i32) {
        self.alu(AluOp::Mov, dst, Operand::Imm(imm));
    }

    pub fn copy(&mut self, dst: u8, src: u8) {
        self.alu(AluOp::Mov, dst, r(src));
    }

    pub fn load(&mut self, width: Width, dst: u8, base: u8, offset: i16) {
        self.put(Instruction::Load {
            width,
            signed: false,
            dst: reg(dst),
            base: reg(base),
            offset,
        });
    }

    pub fn store(&mut self, width: Width, base: u8, offset: i16, src: Operand) {
        let base = reg(base);
        self.put(Instruction::Store {
            width,
            base,
            offset,
            src,
        });
    }

    pub fn lddw(&mut self, dst: u8, value: u64) {
        let value = Imm64::Constant(value);
        self.put(Instruction::LoadImm64 { dst: reg(dst), value });
    }

    pub fn helper(&mut self) {
        self.put(Instruction::Call(Callee::Helper(PROCESSOR_ID)));
    }

    pub fn call(&mut self, function: usize) {
        self.put(Instruction::Call(Callee::Local(FunctionIndex(function as u32))));
    }

    pub fn exit(&mut self) {
        self.put(Instruction::Exit);
    }

    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    pub fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.ops.len());
    }

    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.ops.len(), to));
        let size = WordSize::W32;
        self.put(Instruction::Jump { size, offset: 0 });
    }

    /// Reaches 32,767 slots.
    pub fn jump_if(&mut self, condition: Condition, dst: u8, src: Operand, to: Label) {
        self.jumps.push((self.ops.len(), to));
        self.put(Instruction::JumpIf {
            size: WordSize::W64,
            condition,
            dst: reg(dst),
            src,
            offset: 0,
        });
    }

    /// Sets the whole stack to something and every register to what no compiler knows, `r9` to an alias of the frame
    /// pointer.
    pub fn begin(&mut self) {
        self.copy(9, 10);
        self.lddw(0, 0x9E37_79B9_7F4A_7C15);
        for slot in 1..=64 {
            self.alu(AluOp::Mul, 0, Operand::Imm(i32::from(slot) * 2 + 1));
            self.store(Width::Dw, 10, -8 * slot, r(0));
        }
        for register in 0..9 {
            self.load(Width::Dw, register, 9, -8 * (1 + i16::from(register)));
        }
    }

    /// Folds every register into the result.
    pub fn end(&mut self) {
        for register in [1, 2, 3, 4, 5, 7, 8] {
            self.alu(AluOp::Xor, 0, r(register));
        }
        self.exit();
    }

    pub fn function(mut self, name: String, kind: FunctionKind) -> Function {
        let mut slots = Vec::with_capacity(self.ops.len());
        let mut slot = 0;
        for op in &self.ops {
            slots.push(slot);
            slot += op.slots();
        }
        for (at, label) in std::mem::take(&mut self.jumps) {
            let to = slots[self.places[label.0].expect("every label is placed")];
            let distance = i64::from(to) - i64::from(slots[at]) - 1;
            match &mut self.ops[at] {
                Instruction::Jump { offset, .. } => *offset = distance as i32,
                Instruction::JumpIf { offset, .. } => *offset = distance.try_into().expect("a near jump"),
                _ => unreachable!("only jumps have labels"),
            }
        }
        let section = if kind == FunctionKind::Program { "bind" } else { ".text" };
        Function {
            name,
            section: section.to_owned(),
            section_offset: 0,
            kind,
            instructions: slots
                .into_iter()
                .zip(self.ops)
                .map(|(slot, op)| Insn { slot, op, line: None })
                .collect(),
        }
    }
}

pub fn reg(number: u8) -> Reg {
    Reg::new(number).expect("a register of eBPF")
}

pub fn r(number: u8) -> Operand {
    Operand::Reg(reg(number))
}

pub fn module(functions: Vec<Function>) -> Module {
    Module {
        name: "shape".to_owned(),
        hash: None,
        functions,
        maps: Vec::new(),
        globals: Vec::new(),
        btf_functions: Vec::new(),
        lines: Vec::new(),
        unresolved: Vec::new(),
        types: bpf2sys_bytecode::DataTypes::default(),
    }
}

pub fn one(code: Code) -> Module {
    module(vec![code.function("program".to_owned(), FunctionKind::Program)])
}

/// Without AND and OR, which would soon leave nothing but zeros and ones.
const MIXED: [AluOp; 4] = [AluOp::Add, AluOp::Sub, AluOp::Xor, AluOp::Mul];
const SHIFTS: [AluOp; 3] = [AluOp::Lsh, AluOp::Rsh, AluOp::Arsh];
const WIDTHS: [Width; 4] = [Width::B, Width::H, Width::W, Width::Dw];

/// One instruction as they come in real programs: half of them arithmetic, a third memory.
fn mixed(code: &mut Code, numbers: &mut Numbers) {
    let (a, b) = (numbers.data(), numbers.data());
    let width = WIDTHS[numbers.below(4) as usize];
    let offset = -8 * (1 + numbers.below(64) as i16);
    let op = MIXED[numbers.below(4) as usize];
    match numbers.below(20) {
        0..=3 => code.alu(op, a, r(b)),
        4..=5 => code.alu(op, a, Operand::Imm(numbers.imm())),
        6..=7 => code.alu32(op, a, r(b)),
        8 => code.alu32(op, a, Operand::Imm(numbers.imm())),
        9 => {
            let shift = SHIFTS[numbers.below(3) as usize];
            code.alu(shift, a, Operand::Imm(numbers.below(64) as i32));
        }
        10 => code.copy(a, b),
        11 => code.mov(a, numbers.imm()),
        // Through an alias of the frame pointer: memory that others could see.
        12..=14 => code.load(width, a, 9, offset),
        15 => code.load(width, a, 10, offset),
        16..=17 => code.store(width, 9, offset, r(a)),
        18 => code.store(width, 10, offset, r(a)),
        _ => match numbers.below(4) {
            0 => code.alu(AluOp::Div, a, r(b)),
            1 => code.lddw(a, numbers.next() << 32 | numbers.next()),
            2 => code.put(Instruction::Movsx {
                size: WordSize::W64,
                from: Extension::S16,
                dst: reg(a),
                src: reg(b),
            }),
            _ => code.put(Instruction::ByteSwap {
                kind: SwapKind::ToBe,
                width: SwapWidth::W32,
                dst: reg(a),
            }),
        },
    }
}

fn straight(count: usize) -> Module {
    let (mut code, mut numbers) = (Code::default(), Numbers(1));
    code.begin();
    while code.len() + 8 < count {
        mixed(&mut code, &mut numbers);
    }
    code.end();
    one(code)
}

fn few(code: &mut Code, numbers: &mut Numbers, most: u64) {
    for _ in 0..=numbers.below(most) {
        mixed(code, numbers);
    }
}

fn branches(count: usize) -> Module {
    let (mut code, mut numbers) = (Code::default(), Numbers(2));
    let mut far = Vec::new();
    code.begin();
    while code.len() + 8 + far.len() * 4 < count {
        few(&mut code, &mut numbers, 4);
        let (a, b) = (numbers.data(), numbers.data());
        match numbers.below(8) {
            // if … else …
            0..=2 => {
                let (other, after) = (code.label(), code.label());
                code.jump_if(Condition::Gt, a, r(b), other);
                few(&mut code, &mut numbers, 4);
                code.jump(after);
                code.place(other);
                few(&mut code, &mut numbers, 4);
                code.place(after);
            }
            // if …
            3..=4 => {
                let after = code.label();
                code.jump_if(Condition::Set, a, Operand::Imm(numbers.imm()), after);
                few(&mut code, &mut numbers, 4);
                code.place(after);
            }
            // switch
            5 => {
                let after = code.label();
                let cases: Vec<Label> = (0..8).map(|_| code.label()).collect();
                code.alu(AluOp::And, a, Operand::Imm(15));
                for (value, case) in cases.iter().enumerate() {
                    code.jump_if(Condition::Eq, a, Operand::Imm(value as i32), *case);
                }
                code.jump(after);
                for case in cases {
                    code.place(case);
                    few(&mut code, &mut numbers, 2);
                    code.jump(after);
                }
                code.place(after);
            }
            // a loop of four rounds
            6 => {
                let again = code.label();
                code.mov(6, 0);
                code.place(again);
                few(&mut code, &mut numbers, 6);
                code.alu(AluOp::Add, 6, Operand::Imm(1));
                code.jump_if(Condition::Lt, 6, Operand::Imm(4), again);
            }
            // unlikely code at the end of the function
            _ => {
                let (near, there, back) = (code.label(), code.label(), code.label());
                code.jump_if(Condition::Ne, a, Operand::Imm(numbers.imm()), near);
                code.jump(there);
                code.place(near);
                code.place(back);
                far.push((there, back));
            }
        }
    }
    code.end();
    for (there, back) in far {
        code.place(there);
        few(&mut code, &mut numbers, 4);
        code.jump(back);
    }
    one(code)
}

/// Calls: two in three of helpers, one in three of four subprograms.
fn calls(count: usize) -> Module {
    let (mut code, mut numbers) = (Code::default(), Numbers(3));
    code.begin();
    while code.len() + 24 < count {
        few(&mut code, &mut numbers, 4);
        code.copy(6, 0);
        for register in 1..=numbers.below(5) as u8 {
            code.alu(AluOp::Mov, register, Operand::Imm(numbers.imm()));
        }
        if numbers.below(3) == 0 {
            for register in 1..=5 {
                code.copy(register, if numbers.below(2) == 0 { 7 } else { 8 });
            }
            code.call(1 + numbers.below(4) as usize);
        } else {
            code.mov(1, numbers.imm() | 1); // where 0 would end the program
            code.helper();
            code.mov(0, numbers.imm()); // its result depends on the machine
        }
        code.alu(AluOp::Xor, 0, r(6));
        // A verified program sets the argument registers again before it looks at them.
        for register in 1..=5 {
            code.copy(register, 7);
        }
    }
    code.end();
    let mut functions = vec![code.function("program".to_owned(), FunctionKind::Program)];
    for number in 1..=4 {
        functions.push(small(&mut numbers, 20, number));
    }
    module(functions)
}

/// A subprogram without calls.
fn small(numbers: &mut Numbers, count: usize, number: usize) -> Function {
    let mut code = Code::default();
    code.copy(0, 1);
    code.copy(9, 10);
    code.copy(7, 2);
    code.copy(8, 3);
    for slot in 1..=8 {
        code.store(Width::Dw, 10, -8 * slot, r(4));
    }
    while code.len() + 8 < count.max(24) {
        let a = numbers.data();
        match numbers.below(4) {
            0 => code.load(Width::W, a, 9, -8 * (1 + numbers.below(8) as i16)),
            1 => code.store(Width::Dw, 10, -8 * (1 + numbers.below(8) as i16), r(a)),
            _ => code.alu(MIXED[numbers.below(4) as usize], a, r(numbers.data())),
        }
    }
    code.end();
    code.function(format!("sub{number}"), FunctionKind::Subprogram)
}

/// A hundredth as many functions: programs that each call ten subprograms.
fn functions(count: usize) -> Module {
    let mut numbers = Numbers(4);
    let total = (count / 100).max(2);
    let mut functions: Vec<Function> = (0..total).map(|number| small(&mut numbers, 100, number)).collect();
    for group in 0..total.div_ceil(11) {
        let first = group * 11;
        let mut code = Code::default();
        code.begin();
        for callee in first + 1..(first + 11).min(total) {
            for register in 1..=5 {
                code.copy(register, 7);
            }
            code.call(callee);
            code.alu(AluOp::Add, 7, r(0));
        }
        code.copy(0, 7);
        code.exit();
        functions[first] = code.function(format!("program{group}"), FunctionKind::Program);
    }
    module(functions)
}

fn constants(count: usize) -> Module {
    let (mut code, mut numbers) = (Code::default(), Numbers(5));
    code.begin();
    while code.len() + 8 < count {
        let dst = [0, 2, 3, 4, 5, 7, 8][numbers.below(7) as usize];
        code.lddw(1, numbers.next() << 40 | numbers.next());
        code.alu(MIXED[numbers.below(4) as usize], dst, r(1));
    }
    code.end();
    one(code)
}

/// `if r1 == n goto end`, over and over. Jumps reach 32,767 slots, so there is an end for each 30,000.
fn one_target(count: usize) -> Module {
    let mut code = Code::default();
    code.begin();
    let mut left = count.saturating_sub(code.len() + 2);
    let mut value = 0;
    while left > 0 {
        let (end, after) = (code.label(), code.label());
        for _ in 0..left.min(30_000) {
            code.jump_if(Condition::Eq, 1, Operand::Imm(value), end);
            value += 1;
        }
        left -= left.min(30_000);
        code.jump(after);
        code.place(end);
        code.mov(0, 1);
        code.exit();
        code.place(after);
    }
    code.mov(0, 2);
    code.exit();
    one(code)
}

fn diamonds(count: usize) -> Module {
    let (mut code, mut numbers) = (Code::default(), Numbers(6));
    code.begin();
    while code.len() + 10 < count {
        let (a, b, c) = (numbers.data(), numbers.data(), numbers.data());
        let (other, after) = (code.label(), code.label());
        code.jump_if(Condition::Sgt, a, r(b), other);
        code.alu(AluOp::Add, c, r(a));
        code.jump(after);
        code.place(other);
        code.alu(AluOp::Sub, c, r(b));
        code.place(after);
    }
    code.end();
    one(code)
}

fn blocks(count: usize) -> Module {
    let (mut code, mut numbers) = (Code::default(), Numbers(7));
    code.begin();
    while code.len() + 9 < count {
        let next = code.label();
        code.jump_if(Condition::Eq, numbers.data(), Operand::Imm(numbers.imm()), next);
        code.place(next);
    }
    code.end();
    one(code)
}

fn adds(count: usize) -> Module {
    let mut code = Code::default();
    code.begin();
    while code.len() + 8 < count {
        code.alu(AluOp::Add, 0, r(1));
        code.alu(AluOp::Xor, 1, r(0));
    }
    code.end();
    one(code)
}

/// What the compiler would like to compute at the very end.
fn late_use(count: usize) -> Module {
    let (mut code, mut numbers) = (Code::default(), Numbers(8));
    code.begin();
    while code.len() + 11 < count {
        code.load(Width::W, 1, 9, -8 * (1 + numbers.below(64) as i16));
        code.alu(AluOp::Add, 0, r(1));
        code.alu(AluOp::Mul, 0, Operand::Imm(31));
    }
    code.end();
    one(code)
}

fn lddw_only(count: usize) -> Module {
    let (mut code, mut numbers) = (Code::default(), Numbers(9));
    code.begin();
    while code.len() + 8 < count {
        code.lddw(numbers.data(), numbers.next() << 40 | numbers.next());
    }
    code.end();
    one(code)
}

fn helpers(count: usize) -> Module {
    let mut code = Code::default();
    code.begin();
    while code.len() + 4 < count {
        code.mov(1, 1); // where 0 would end the program
        code.helper();
    }
    code.copy(0, 7);
    code.exit();
    one(code)
}

/// Loops of one round, in blocks of 400 that nest.
fn nested(count: usize) -> Module {
    let mut code = Code::default();
    code.begin();
    while code.len() + 30 < count {
        let depth = ((count - code.len()) / 4).clamp(1, 8000);
        let heads: Vec<Label> = (0..depth).map(|_| code.label()).collect();
        for (level, head) in heads.iter().enumerate() {
            code.place(*head);
            code.alu(AluOp::Add, (level % 6) as u8, Operand::Imm(level as i32));
            code.alu(AluOp::Xor, 7, r((level % 5) as u8));
        }
        for head in heads.iter().rev() {
            code.alu(AluOp::Add, 8, Operand::Imm(1));
            code.jump_if(Condition::Eq, 8, Operand::Imm(-1), *head);
        }
    }
    code.end();
    one(code)
}

/// `state = f(state); switch (state)`, the dispatch code in the middle of each 20,000 slots.
fn back_edges(count: usize) -> Module {
    let (mut code, mut numbers) = (Code::default(), Numbers(10));
    code.begin();
    while code.len() + 40 < count {
        let states = ((count - code.len()) / 5).clamp(1, 4000);
        let (dispatch, after) = (code.label(), code.label());
        let labels: Vec<Label> = (0..states).map(|_| code.label()).collect();
        code.mov(6, 0);
        code.place(dispatch);
        code.alu(AluOp::Add, 6, Operand::Imm(1));
        code.jump_if(Condition::Gt, 6, Operand::Imm(100), after);
        for (value, label) in labels.iter().enumerate() {
            code.jump_if(Condition::Eq, 6, Operand::Imm(value as i32), *label);
        }
        for label in labels {
            code.place(label);
            for _ in 0..3 {
                mixed(&mut code, &mut numbers);
            }
            code.jump(dispatch);
        }
        code.place(after);
    }
    code.end();
    one(code)
}

fn stack_bytes(count: usize) -> Module {
    let mut code = Code::default();
    code.begin();
    while code.len() + 1600 < count {
        for byte in 1..=512_i16 {
            code.store(Width::B, 10, -byte, r((byte % 6) as u8));
            code.alu(AluOp::Add, (byte % 6) as u8, Operand::Imm(i32::from(byte)));
        }
        for byte in 1..=256_i16 {
            code.load(Width::B, 1, 10, -byte);
            code.alu(AluOp::Add, 0, r(1));
        }
    }
    code.end();
    one(code)
}

fn atomics(count: usize) -> Module {
    let (mut code, mut numbers) = (Code::default(), Numbers(11));
    code.begin();
    while code.len() + 10 < count {
        let (a, b) = (numbers.data(), numbers.data());
        let fetch = numbers.below(2) == 0;
        code.put(Instruction::Atomic {
            size: if numbers.below(2) == 0 {
                WordSize::W32
            } else {
                WordSize::W64
            },
            op: match numbers.below(4) {
                0 => bpf2sys_bytecode::AtomicOp::Add { fetch },
                1 => bpf2sys_bytecode::AtomicOp::Xor { fetch },
                2 => bpf2sys_bytecode::AtomicOp::Xchg,
                _ => bpf2sys_bytecode::AtomicOp::Cmpxchg,
            },
            base: reg(9),
            offset: -8 * (1 + numbers.below(64) as i16),
            src: reg(a),
        });
        let op = [AluOp::Div, AluOp::Sdiv, AluOp::Mod, AluOp::Smod][numbers.below(4) as usize];
        code.alu(op, b, r(a));
    }
    code.end();
    one(code)
}
