//! Programs of any length in the shapes that verifiers find hard. All of them are safe.
//!
//! They are programs of the type `bind`, which has a packet. Those with [`Shape`]s of their own are for the lowering.

use bpf2sys_bytecode::{
    AluOp, Callee, Condition, FunctionKind, Imm64, Instruction, Map, MapDefinition, MapIndex, MapOrigin, Module,
    Operand, Width,
};

use super::shapes::{Code, Numbers, Shape, module, one, r, reg};

/// Helper id of `bpf_map_lookup_elem`.
const LOOKUP: i32 = 1;
/// Number of `BPF_MAP_TYPE_HASH`.
const HASH: u32 = 1;

/// First what needs one step for each instruction, then what needs more states, rounds or calls.
pub const PROOFS: [Shape; 11] = [
    Shape {
        name: "arithmetic",
        what: "straight, on unknown numbers",
        make: arithmetic,
    },
    Shape {
        name: "memory",
        what: "straight, half of it loads and stores of stack and packet",
        make: memory,
    },
    Shape {
        name: "diamonds",
        what: "each way leaves another number, and all numbers are used at the end",
        make: diamonds,
    },
    Shape {
        name: "correlated",
        what: "pairs of branches: the second one must know the first",
        make: correlated,
    },
    Shape {
        name: "counted",
        what: "loops of 32 rounds, one behind the other",
        make: counted,
    },
    Shape {
        name: "nested",
        what: "three loops of 8 rounds in each other, one nest behind the other",
        make: nested,
    },
    Shape {
        name: "searching",
        what: "loops of 32 rounds with branches on data and two ends",
        make: searching,
    },
    Shape {
        name: "called once",
        what: "functions of 20 instructions, each called once",
        make: called_once,
    },
    Shape {
        name: "called often",
        what: "eight functions, called again and again with numbers and addresses",
        make: called_often,
    },
    Shape {
        name: "spills",
        what: "registers that go to the stack and come back, compared meanwhile",
        make: spills,
    },
    Shape {
        name: "maps",
        what: "look-ups in many maps, each result tested and used",
        make: maps,
    },
];

const ARITHMETIC: [AluOp; 6] = [AluOp::Add, AluOp::Sub, AluOp::Xor, AluOp::Mul, AluOp::And, AluOp::Or];

/// One instruction that computes something from `r0` to `r5`, `r7` and `r8`.
fn compute(code: &mut Code, numbers: &mut Numbers) {
    let (a, b) = (numbers.data(), numbers.data());
    let op = ARITHMETIC[numbers.below(6) as usize];
    match numbers.below(8) {
        0..=2 => code.alu(op, a, r(b)),
        3 => code.alu(op, a, Operand::Imm(numbers.imm())),
        4 => code.alu32(op, a, r(b)),
        5 => code.alu32(op, a, Operand::Imm(numbers.imm())),
        6 => code.alu(AluOp::Rsh, a, Operand::Imm(numbers.below(64) as i32)),
        _ => code.copy(a, b),
    }
}

/// Where a program of about `count` instructions begins: `r6` is the start of a packet of 64 bytes at least, all other registers
/// are numbers from it, and so are the slots of the stack that it uses.
fn begin(count: usize) -> (Code, Slots) {
    let mut code = Code::default();
    let long = code.label();
    code.load(Width::Dw, 6, 1, 0);
    code.load(Width::Dw, 2, 1, 8);
    code.copy(3, 6);
    code.alu(AluOp::Add, 3, Operand::Imm(64));
    code.jump_if(Condition::Le, 3, r(2), long);
    code.mov(0, 0);
    code.exit();
    code.place(long);
    for (at, register) in (0..).zip([0, 1, 2, 3, 4, 5, 7, 8, 9]) {
        code.load(Width::W, register, 6, 4 * at);
    }
    let slots = Slots((count / 16).clamp(1, 64) as i16);
    for slot in slots.all() {
        code.store(Width::Dw, 10, slot, r(1));
    }
    (code, slots)
}

/// The slots of the stack that a program uses.
struct Slots(i16);

impl Slots {
    /// Their distances from `r10`.
    fn all(&self) -> impl Iterator<Item = i16> + use<> {
        (1..=self.0).map(|slot| -8 * slot)
    }

    fn any(&self, numbers: &mut Numbers) -> i16 {
        -8 * (1 + numbers.below(self.0.unsigned_abs().into()) as i16)
    }
}

fn arithmetic(count: usize) -> Module {
    let mut numbers = Numbers(1);
    let (mut code, _) = begin(count);
    while code.len() + 8 < count {
        compute(&mut code, &mut numbers);
    }
    code.end();
    one(code)
}

fn memory(count: usize) -> Module {
    let mut numbers = Numbers(2);
    let (mut code, slots) = begin(count);
    while code.len() + 8 < count {
        let register = numbers.data();
        let slot = slots.any(&mut numbers);
        let width = [Width::B, Width::H, Width::W, Width::Dw][numbers.below(4) as usize];
        match numbers.below(8) {
            0 => code.load(width, register, 10, slot),
            1 => code.store(width, 10, slot, r(register)),
            2 => code.load(width, register, 6, numbers.below(56) as i16),
            3 => code.store(width, 6, numbers.below(56) as i16, r(register)),
            _ => compute(&mut code, &mut numbers),
        }
    }
    code.end();
    one(code)
}

fn diamonds(count: usize) -> Module {
    let mut numbers = Numbers(3);
    let (mut code, slots) = begin(count);
    let end = 2 * slots.all().count() + 8;
    while code.len() + 7 + end < count {
        let slot = slots.any(&mut numbers);
        let (other, after) = (code.label(), code.label());
        code.load(Width::W, 0, 6, numbers.below(60) as i16);
        code.jump_if(Condition::Gt, 0, Operand::Imm(numbers.imm()), other);
        code.mov(0, numbers.imm());
        code.jump(after);
        code.place(other);
        code.mov(0, numbers.imm());
        code.place(after);
        code.store(Width::Dw, 10, slot, r(0));
    }
    for slot in slots.all() {
        code.load(Width::Dw, 0, 10, slot);
        code.alu(AluOp::Add, 1, r(0));
    }
    code.end();
    one(code)
}

/// `size = x > n ? 8 : 0; …; if (size) use(packet[size])`, where without the second test the access would be unsafe.
fn correlated(count: usize) -> Module {
    let mut numbers = Numbers(4);
    let (mut code, _) = begin(count);
    while code.len() + 20 < count {
        let limit = Operand::Imm(1 + numbers.imm());
        let (none, after) = (code.label(), code.label());
        code.load(Width::W, 7, 6, numbers.below(60) as i16);
        code.mov(8, 8);
        code.jump_if(Condition::Gt, 7, limit, none);
        code.copy(8, 6);
        code.place(none);
        compute_low(&mut code, &mut numbers);
        compute_low(&mut code, &mut numbers);
        code.jump_if(Condition::Gt, 7, limit, after);
        code.load(Width::B, 0, 8, 3);
        code.place(after);
    }
    code.mov(0, 0);
    code.exit();
    one(code)
}

/// The same with `r0` to `r5` only.
fn compute_low(code: &mut Code, numbers: &mut Numbers) {
    let (a, b) = (numbers.below(6) as u8, numbers.below(6) as u8);
    code.alu(ARITHMETIC[numbers.below(6) as usize], a, r(b));
}

fn counted(count: usize) -> Module {
    let mut numbers = Numbers(5);
    let (mut code, _) = begin(count);
    while code.len() + 20 < count {
        let head = code.label();
        code.mov(9, 0);
        code.place(head);
        for _ in 0..4 {
            compute_low(&mut code, &mut numbers);
        }
        code.alu(AluOp::Add, 9, Operand::Imm(1));
        code.jump_if(Condition::Lt, 9, Operand::Imm(32), head);
    }
    code.end();
    one(code)
}

fn nested(count: usize) -> Module {
    let mut numbers = Numbers(6);
    let (mut code, _) = begin(count);
    while code.len() + 24 < count {
        let heads = [7, 8, 9].map(|register| {
            let head = code.label();
            code.mov(register, 0);
            code.place(head);
            compute_low(&mut code, &mut numbers);
            (register, head)
        });
        for (register, head) in heads.into_iter().rev() {
            compute_low(&mut code, &mut numbers);
            code.alu(AluOp::Add, register, Operand::Imm(1));
            code.jump_if(Condition::Lt, register, Operand::Imm(8), head);
        }
    }
    code.end();
    one(code)
}

/// Like a search for an option in a packet: what a round finds decides what it does, and the loop may end early.
fn searching(count: usize) -> Module {
    let mut numbers = Numbers(7);
    let (mut code, _) = begin(count);
    while code.len() + 24 < count {
        let (head, even, end) = (code.label(), code.label(), code.label());
        code.mov(9, 0);
        code.place(head);
        code.copy(7, 6);
        code.alu(AluOp::Add, 7, r(9));
        code.load(Width::B, 0, 7, 0);
        code.jump_if(Condition::Eq, 0, Operand::Imm(numbers.imm() & 0xFF), end);
        code.jump_if(Condition::Set, 0, Operand::Imm(1), even);
        code.alu(AluOp::Add, 8, r(0));
        code.place(even);
        code.alu(AluOp::Add, 9, Operand::Imm(1));
        code.jump_if(Condition::Lt, 9, Operand::Imm(32), head);
        code.place(end);
    }
    code.mov(7, 0);
    code.end();
    one(code)
}

/// A function that computes something from `r1` to `r3`.
fn of_numbers(number: usize, length: usize) -> Code {
    let (mut code, mut numbers) = (Code::default(), Numbers(100 + number as u64));
    code.copy(0, 1);
    while code.len() + 1 < length {
        let (a, b) = (numbers.below(4) as u8, numbers.below(4) as u8);
        code.alu(ARITHMETIC[numbers.below(6) as usize], a, r(b));
    }
    code.exit();
    code
}

/// A function that stores and loads through `r4`.
fn of_addresses() -> Code {
    let mut code = Code::default();
    code.store(Width::Dw, 4, 0, r(1));
    code.load(Width::W, 0, 4, 0);
    code.alu(AluOp::Add, 0, r(2));
    code.exit();
    code
}

fn called_once(count: usize) -> Module {
    let mut functions = Vec::new();
    let (mut code, _) = begin(count);
    while code.len() + 20 * functions.len() + 27 < count {
        let number = functions.len() + 1;
        functions.push(of_numbers(number, 20).function(format!("f{number}"), FunctionKind::Subprogram));
        for register in 1..4 {
            code.load(Width::W, register, 6, i16::from(register));
        }
        code.call(number);
    }
    code.exit();
    functions.insert(0, code.function("program".to_owned(), FunctionKind::Program));
    module(functions)
}

fn called_often(count: usize) -> Module {
    let mut numbers = Numbers(8);
    let functions = (1..=8_usize).map(|number| {
        let code = if number % 2 == 0 {
            of_addresses()
        } else {
            of_numbers(number, 4)
        };
        code.function(format!("f{number}"), FunctionKind::Subprogram)
    });
    let mut functions: Vec<_> = functions.collect();
    let (mut code, slots) = begin(count);
    while code.len() + 12 < count {
        let number = 1 + numbers.below(8) as usize;
        for register in 1..4 {
            code.load(Width::W, register, 6, numbers.below(60) as i16);
        }
        code.copy(4, 10);
        code.alu(AluOp::Add, 4, Operand::Imm(slots.any(&mut numbers).into()));
        code.call(number);
    }
    code.exit();
    functions.insert(0, code.function("program".to_owned(), FunctionKind::Program));
    module(functions)
}

fn spills(count: usize) -> Module {
    let mut numbers = Numbers(9);
    let (mut code, slots) = begin(count);
    while code.len() + 20 < count {
        let (a, b) = (numbers.data(), numbers.data());
        let slot = slots.any(&mut numbers);
        let after = code.label();
        code.store(Width::Dw, 10, slot, r(a));
        compute(&mut code, &mut numbers);
        code.jump_if(Condition::Ge, a, r(b), after);
        code.alu(AluOp::Add, b, Operand::Imm(1));
        code.place(after);
        compute(&mut code, &mut numbers);
        code.load(Width::Dw, b, 10, slot);
    }
    code.end();
    one(code)
}

fn maps(count: usize) -> Module {
    let mut numbers = Numbers(10);
    let tables = (count / 100).clamp(1, 512);
    let (mut code, _) = begin(count);
    while code.len() + 20 < count {
        let none = code.label();
        let table = numbers.below(tables as u64) as u32;
        code.store(Width::W, 10, -8, Operand::Imm(numbers.imm()));
        code.put(Instruction::LoadImm64 {
            dst: reg(1),
            value: Imm64::Map(MapIndex(table)),
        });
        code.copy(2, 10);
        code.alu(AluOp::Add, 2, Operand::Imm(-8));
        code.put(Instruction::Call(Callee::Helper(LOOKUP)));
        code.jump_if(Condition::Eq, 0, Operand::Imm(0), none);
        code.load(Width::Dw, 1, 0, 8);
        code.alu(AluOp::Add, 7, r(1));
        code.store(Width::Dw, 0, 8, r(7));
        code.place(none);
    }
    code.copy(0, 7);
    code.exit();
    let mut module = one(code);
    module.maps = (0..tables)
        .map(|number| Map {
            name: format!("map{number}"),
            definition: MapDefinition {
                map_type: HASH,
                key_size: 4,
                value_size: 16,
                max_entries: 8,
                ..MapDefinition::default()
            },
            inner: None,
            origin: MapOrigin::Btf,
            flags: 0,
            initial_values: Vec::new(),
        })
        .collect();
    module
}
