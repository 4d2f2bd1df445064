//! Writes functions step by step.

use bpf2sys_bytecode::{
    AluOp, BtfFunction, Callee, Condition, Function, FunctionIndex, FunctionKind, GlobalIndex, GlobalSection, Imm64,
    Insn, Instruction, Map, MapDefinition, MapIndex, MapOrigin, Module, Operand, Reg, Width, WordSize,
};
use bpf2sys_isa_tests::Random;
use bpf2sys_isa_tests::code::{Code, Label};
use bpf2sys_platform::Context;

use super::plan::{Parameter, Plan, Step};
use super::state::{Held, Memory, State, WORDS, Word};

pub(super) fn register(number: usize) -> Reg {
    u8::try_from(number).ok().and_then(Reg::new).unwrap_or(Reg::R0)
}

pub(super) fn alu(size: WordSize, op: AluOp, dst: Reg, src: Operand) -> Instruction {
    Instruction::Alu { size, op, dst, src }
}

pub(super) fn mov(dst: Reg, src: Operand) -> Instruction {
    alu(WordSize::W64, AluOp::Mov, dst, src)
}

pub(super) fn add(dst: Reg, imm: i32) -> Instruction {
    alu(WordSize::W64, AluOp::Add, dst, Operand::Imm(imm))
}

pub(super) const WIDTHS: [Width; 4] = [Width::B, Width::H, Width::W, Width::Dw];

/// Maps, sections and functions that the code refers to.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) maps: Vec<Map>,
    pub(super) globals: Vec<GlobalSection>,
    pub(super) btf_functions: Vec<BtfFunction>,
}

impl Tables {
    pub(super) fn map(&mut self, map_type: u32, key_size: u32, value_size: u32, max_entries: u32) -> MapIndex {
        let index = self.maps.len();
        self.maps.push(Map {
            name: format!("map{index}"),
            definition: MapDefinition {
                map_type,
                key_size,
                value_size,
                max_entries,
                ..MapDefinition::default()
            },
            inner: None,
            origin: MapOrigin::Btf,
            flags: 0,
            initial_values: Vec::new(),
        });
        MapIndex(index as u32)
    }

    pub(super) fn global(&mut self, size: usize, read_only: bool) -> GlobalIndex {
        let map = self.map(2, 4, size as u32, 1);
        let index = GlobalIndex(self.globals.len() as u32);
        self.maps[map.index()].origin = MapOrigin::Global(index);
        self.globals.push(GlobalSection {
            section: if read_only { ".rodata" } else { ".data" }.to_owned(),
            map,
            data: (0..size).map(|i| (i * 7 + 1) as u8).collect(),
            read_only,
        });
        index
    }
}

/// One function.
pub(super) struct Writer<'a> {
    pub(super) random: &'a mut Random,
    pub(super) plan: &'a Plan,
    pub(super) tables: &'a mut Tables,
    /// Mistakes that are left to make.
    pub(super) slips: &'a mut u32,
    /// 0 is the program.
    pub(super) function: usize,
    pub(super) code: Code,
    pub(super) state: State,
    /// Registers that steps must leave alone.
    pub(super) pinned: Vec<Reg>,
    /// Where the function gives up.
    pub(super) out: Label,
    /// Where in the own frame the last key or value for a helper is.
    pub(super) last_key: Option<i32>,
    /// Loops and branches around the current step.
    pub(super) depth: u32,
}

impl Writer<'_> {
    /// Whether to make a mistake here.
    pub(super) fn slip(&mut self) -> bool {
        let slip = *self.slips > 0 && self.random.chance(1, 3);
        if slip {
            *self.slips -= 1;
        }
        slip
    }

    pub(super) fn context(&self) -> &Context {
        &self.plan.program_type.context
    }

    pub(super) fn push(&mut self, instruction: Instruction) {
        self.code.push(instruction);
    }

    pub(super) fn jump_if(&mut self, size: WordSize, condition: Condition, dst: Reg, src: Operand, to: Label) {
        let jump = Instruction::JumpIf {
            size,
            condition,
            dst,
            src,
            offset: 0,
        };
        self.code.jump(jump, to);
    }

    /// The registers that hold something of a kind.
    pub(super) fn holding(&self, wanted: impl Fn(Held) -> bool) -> Vec<Reg> {
        (0..10)
            .map(register)
            .filter(|r| wanted(self.state.held(*r)) && !self.pinned.contains(r))
            .collect()
    }

    pub(super) fn any_holding(&mut self, wanted: impl Fn(Held) -> bool) -> Option<Reg> {
        let all: Vec<Reg> = (0..10).map(register).filter(|r| wanted(self.state.held(*r))).collect();
        (!all.is_empty()).then(|| self.random.one_of(&all))
    }

    /// A register to overwrite.
    pub(super) fn target(&mut self) -> Reg {
        let free: Vec<Reg> = self.holding(|held| !held.is_pointer());
        if !free.is_empty() && !self.random.chance(1, 12) {
            return self.random.one_of(&free);
        }
        let all = self.holding(|held| held != Held::Context);
        if all.is_empty() {
            Reg::R0
        } else {
            self.random.one_of(&all)
        }
    }

    /// A register to overwrite that calls leave alone, if possible.
    pub(super) fn lasting_target(&mut self) -> Reg {
        let saved: Vec<Reg> = self
            .holding(|held| !held.is_pointer())
            .into_iter()
            .filter(|r| (6..=9).contains(&r.number()))
            .collect();
        if saved.is_empty() || self.random.chance(1, 4) {
            self.target()
        } else {
            self.random.one_of(&saved)
        }
    }

    /// A register with a number, made if there is none.
    pub(super) fn number(&mut self) -> Reg {
        match self.any_holding(|held| held == Held::Number) {
            Some(found) if self.random.chance(4, 5) => found,
            _ => self.new_number(),
        }
    }

    /// The register with the context, if the function has it.
    pub(super) fn context_register(&mut self) -> Option<Reg> {
        self.any_holding(|held| held == Held::Context)
    }

    /// Copies a pointer that a call would lose, so that it is in `r6` to `r9` or on the stack's base.
    pub(super) fn lasting(&mut self, from: Reg) -> Reg {
        if from.number() >= 6 {
            return from;
        }
        let to = self.lasting_target();
        if to.number() < 6 {
            return from;
        }
        self.push(mov(to, Operand::Reg(from)));
        self.state.set(to, self.state.held(from));
        to
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Number => {
                self.new_number();
            }
            Step::Alu => self.arithmetic(),
            Step::Packet => self.packet(),
            Step::Meta => self.metadata(),
            Step::Context => self.context_access(),
            Step::Stack => self.stack(),
            Step::Lookup => self.lookup(),
            Step::LookupInner => self.lookup_inner(),
            Step::Global => self.global(),
            Step::Access => self.access_any(),
            Step::Indexed => self.indexed(),
            Step::Spill => self.spill(),
            Step::Helper => self.any_helper(),
            Step::Btf => self.btf(),
            Step::Call => self.call_subprogram(),
            Step::TailCall => self.tail_call(),
            Step::Branch => self.branch(),
            Step::Compare => self.compare(),
            Step::Dead => self.dead(),
            Step::Loop => self.repeat(),
            Step::Walk => self.walk(),
            Step::Relate => self.relate(),
        }
    }

    /// A few steps.
    pub(super) fn steps(&mut self, count: usize) {
        for _ in 0..count {
            let step = self.random.weighted(&self.plan.weights);
            if self.depth >= 2
                && matches!(
                    step,
                    Step::Branch | Step::Loop | Step::Dead | Step::Compare | Step::Walk
                )
            {
                continue;
            }
            self.step(step);
        }
    }

    /// The whole function.
    fn body(mut self, length: usize) -> Vec<Instruction> {
        self.steps(length);
        let result = self.any_holding(|held| held == Held::Number);
        match result {
            Some(number) if !self.slip() => {
                if number != Reg::R0 {
                    self.push(mov(Reg::R0, Operand::Reg(number)));
                }
            }
            None if !self.slip() => {
                let imm = self.random.between(0, 3);
                self.push(mov(Reg::R0, Operand::Imm(imm)));
            }
            // Whatever is in r0, or in another register.
            _ => {
                let from = register(self.random.below(10));
                self.push(mov(Reg::R0, Operand::Reg(from)));
            }
        }
        self.push(Instruction::Exit);
        self.code.place(self.out);
        self.push(mov(Reg::R0, Operand::Imm(0)));
        self.push(Instruction::Exit);
        self.code.finish()
    }
}

/// Writes the program, and tells how many mistakes it has.
pub(super) fn write(random: &mut Random, plan: &Plan) -> (Module, u32) {
    let mut tables = Tables::default();
    let mut slips = plan.slips;
    let mut functions = Vec::new();
    for (function, length) in plan.lengths.iter().enumerate() {
        let mut code = Code::default();
        let out = code.label();
        let mut state = State::new();
        if function == 0 {
            // As compilers do: the context outlives calls.
            code.push(mov(register(6), Operand::Reg(Reg::R1)));
            state.set(register(6), Held::Context);
            state.set(Reg::R1, Held::Context);
        } else {
            for (position, parameter) in plan.signatures[function - 1].iter().enumerate() {
                let held = match *parameter {
                    Parameter::Number => Held::Number,
                    Parameter::Context => Held::Context,
                    Parameter::Lent(bytes) => Held::Memory(Memory {
                        low: 0,
                        high: bytes,
                        nullable: false,
                        writable: true,
                    }),
                };
                state.set(register(position + 1), held);
            }
        }
        let writer = Writer {
            random: &mut *random,
            plan,
            tables: &mut tables,
            slips: &mut slips,
            function,
            code,
            state,
            pinned: Vec::new(),
            out,
            last_key: None,
            depth: 0,
        };
        functions.push(writer.body(*length));
    }
    (module_of(plan.section, called(functions), tables), plan.slips - slips)
}

/// Without the functions that nothing calls.
fn called(functions: Vec<Vec<Instruction>>) -> Vec<Vec<Instruction>> {
    let mut used = vec![false; functions.len()];
    used[0] = true;
    // Functions call later ones only.
    for caller in 0..functions.len() {
        for instruction in &functions[caller] {
            if let Instruction::Call(Callee::Local(callee)) = instruction {
                used[callee.index()] |= used[caller];
            }
        }
    }
    let renumber = |mut instruction: Instruction| {
        if let Instruction::Call(Callee::Local(callee)) = &mut instruction {
            *callee = FunctionIndex(used[..callee.index()].iter().filter(|used| **used).count() as u32);
        }
        instruction
    };
    let kept = functions.into_iter().zip(&used).filter(|(_, used)| **used);
    kept.map(|(code, _)| code.into_iter().map(renumber).collect()).collect()
}

/// The module of a program in a section, and its subprograms that are called.
pub(super) fn module_of(section: &str, functions: Vec<Vec<Instruction>>, tables: Tables) -> Module {
    let function = |(index, instructions): (usize, Vec<Instruction>)| Function {
        name: format!("f{index}"),
        section: if index == 0 { section } else { ".text" }.to_owned(),
        section_offset: 0,
        kind: if index == 0 {
            FunctionKind::Program
        } else {
            FunctionKind::Subprogram
        },
        instructions: Insn::sequence(instructions),
    };
    Module {
        name: "random".to_owned(),
        hash: None,
        functions: functions.into_iter().enumerate().map(function).collect(),
        maps: tables.maps,
        globals: tables.globals,
        btf_functions: tables.btf_functions,
        lines: Vec::new(),
        unresolved: Vec::new(),
        types: bpf2sys_bytecode::DataTypes::default(),
    }
}

/// A call of a subprogram.
pub(super) fn call_local(function: usize) -> Instruction {
    Instruction::Call(Callee::Local(FunctionIndex(function as u32)))
}

pub(super) fn load_map(dst: Reg, map: MapIndex) -> Instruction {
    Instruction::LoadImm64 {
        dst,
        value: Imm64::Map(map),
    }
}

/// Words of the stack that are free for a buffer of `bytes` bytes, as the offset of its start.
pub(super) fn buffer_place(random: &mut Random, bytes: i32) -> i32 {
    let words = (bytes + 7) / 8;
    let last = (WORDS as i32 - words).max(0);
    -8 * (words + random.between(0, last))
}

pub(super) fn words(low: i32, high: i32) -> impl Iterator<Item = usize> {
    (low..high)
        .step_by(8)
        .chain([high - 1])
        .filter_map(|at| usize::try_from((-at - 1) / 8).ok())
        .filter(|word| *word < WORDS)
}

impl State {
    /// Notes a write of numbers to the own frame.
    pub(super) fn wrote(&mut self, low: i32, high: i32) {
        if low < high {
            for word in words(low, high) {
                let whole = low <= -8 * (word as i32 + 1) && -8 * (word as i32) <= high;
                self.stack[word] = match self.stack[word] {
                    _ if whole => Word::Number,
                    Word::Number => Word::Number,
                    _ => Word::Empty,
                };
            }
        }
    }
}
