//! Puts the programs of many cases into one module, in a form that the runtime can call.
//!
//! Given: cases. Computed: a module with one program per case. The runtime gives programs a context and looks at 32 bits of
//! what they return, so each program first loads `r1` and `r2` from the context's data pointers, and at the end stores
//! all of `r0` into its element of a global variable. What is between is the case's code, unchanged.
//!
//! The code goes into the program itself ([`Placement::Program`]), whose exits then jump to one common end, or into a
//! subprogram that the program calls ([`Placement::Subprogram`]): the lowering of the two differs.

use bpf2sys_bytecode::{
    AluOp, Callee, Function, FunctionIndex, FunctionKind, GlobalIndex, GlobalSection, Imm64, InitialValue, Insn,
    Instruction, Map, MapDefinition, MapIndex, MapOrigin, Module, Operand, Reg, Width, WordSize,
};

use crate::Case;
use crate::provider::{DATA, DATA_END, SECTION};

/// Where a case's code is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// In the program.
    #[default]
    Program,
    /// In a subprogram that the program calls.
    Subprogram,
}

/// The map behind the global variable that holds the results, eight bytes per case in order.
pub(crate) const RESULTS: &str = "results";

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;

const R2: Reg = match Reg::new(2) {
    Some(register) => register,
    None => unreachable!(),
};

/// The name of the program of the case at `position`.
pub(crate) fn program_name(position: usize) -> String {
    format!("case{position}")
}

/// One module with the programs of all cases. Each case's module must satisfy the invariants of [`Module`].
pub(crate) fn embed(cases: &[Case], placement: Placement) -> Module {
    let mut module = Module {
        name: "cases".to_owned(),
        hash: None,
        functions: Vec::new(),
        btf_functions: Vec::new(),
        unresolved: Vec::new(),
        maps: vec![Map {
            name: RESULTS.to_owned(),
            definition: MapDefinition {
                map_type: ARRAY,
                key_size: 4,
                value_size: 8 * cases.len() as u32,
                max_entries: 1,
                ..MapDefinition::default()
            },
            inner: None,
            origin: MapOrigin::Global(GlobalIndex(0)),
            flags: 0,
            initial_values: Vec::new(),
        }],
        globals: vec![GlobalSection {
            section: ".bss".to_owned(),
            map: MapIndex(0),
            data: vec![0; 8 * cases.len()],
            read_only: false,
        }],
        lines: Vec::new(),
        types: bpf2sys_bytecode::DataTypes::default(),
    };
    for (position, case) in cases.iter().enumerate() {
        Embedding {
            position,
            placement,
            functions: module.functions.len() as u32,
            maps: module.maps.len() as u32,
            globals: module.globals.len() as u32,
        }
        .add(&case.module, &mut module);
    }
    module
}

/// Where the parts of one case's module come to be.
struct Embedding {
    position: usize,
    placement: Placement,
    /// What is added to indices of functions, maps and globals.
    functions: u32,
    maps: u32,
    globals: u32,
}

impl Embedding {
    fn add(&self, case: &Module, module: &mut Module) {
        if self.placement == Placement::Subprogram {
            module.functions.push(self.caller());
        }
        for (index, function) in case.functions.iter().enumerate() {
            module.functions.push(self.function(index, function));
        }
        for map in &case.maps {
            module.maps.push(self.map(map));
        }
        for global in &case.globals {
            module.globals.push(GlobalSection {
                section: self.rename(&global.section),
                map: self.map_index(global.map),
                ..global.clone()
            });
        }
    }

    /// Names stay unique in the module.
    fn rename(&self, name: &str) -> String {
        format!("{name}.{}", self.position)
    }

    fn map_index(&self, map: MapIndex) -> MapIndex {
        MapIndex(map.0 + self.maps)
    }

    fn function_index(&self, function: FunctionIndex) -> FunctionIndex {
        let caller = u32::from(self.placement == Placement::Subprogram);
        FunctionIndex(function.0 + self.functions + caller)
    }

    fn function(&self, index: usize, function: &Function) -> Function {
        let is_program = index == 0 && self.placement == Placement::Program;
        let ops = function.instructions.iter().map(|insn| self.instruction(insn.op));
        if is_program {
            let begin = Self::begin();
            // After the beginning and the case's own slots.
            let end = begin.len() as u32 + function.slots();
            let mut code = Vec::with_capacity(function.instructions.len() + 8);
            code.extend(begin);
            let mut slot = code.len() as u32;
            for op in ops {
                code.push(match op {
                    Instruction::Exit => Instruction::Jump {
                        size: WordSize::W32,
                        offset: (end - slot - 1).cast_signed(),
                    },
                    other => other,
                });
                slot += op.slots();
            }
            code.extend(self.end());
            return self.program(code);
        }
        Function {
            name: self.rename(&format!("function{index}")),
            section: ".text".to_owned(),
            section_offset: 0,
            kind: FunctionKind::Subprogram,
            instructions: Insn::sequence(ops),
        }
    }

    /// A program that calls the case's first function.
    fn caller(&self) -> Function {
        let call = Instruction::Call(Callee::Local(self.function_index(FunctionIndex(0))));
        self.program(Self::begin().into_iter().chain([call]).chain(self.end()))
    }

    fn program(&self, code: impl IntoIterator<Item = Instruction>) -> Function {
        Function {
            name: program_name(self.position),
            section: SECTION.to_owned(),
            section_offset: 0,
            kind: FunctionKind::Program,
            instructions: Insn::sequence(code),
        }
    }

    /// `r1` = data, `r2` = data end - data.
    fn begin() -> [Instruction; 3] {
        let load = |dst, offset| Instruction::Load {
            width: Width::Dw,
            signed: false,
            dst,
            base: Reg::R1,
            offset,
        };
        let length = Instruction::Alu {
            size: WordSize::W64,
            op: AluOp::Sub,
            dst: R2,
            src: Operand::Reg(Reg::R1),
        };
        [load(R2, DATA_END), load(Reg::R1, DATA), length]
    }

    /// Stores `r0` and returns it.
    fn end(&self) -> [Instruction; 3] {
        let result = Instruction::LoadImm64 {
            dst: Reg::R1,
            value: Imm64::Global {
                section: GlobalIndex(0),
                offset: 8 * self.position as u32,
            },
        };
        let store = Instruction::Store {
            width: Width::Dw,
            base: Reg::R1,
            offset: 0,
            src: Operand::Reg(Reg::R0),
        };
        [result, store, Instruction::Exit]
    }

    fn instruction(&self, op: Instruction) -> Instruction {
        match op {
            Instruction::Call(Callee::Local(function)) => {
                Instruction::Call(Callee::Local(self.function_index(function)))
            }
            Instruction::LoadImm64 {
                dst,
                value: Imm64::Map(map),
            } => Instruction::LoadImm64 {
                dst,
                value: Imm64::Map(self.map_index(map)),
            },
            Instruction::LoadImm64 {
                dst,
                value: Imm64::Global { section, offset },
            } => Instruction::LoadImm64 {
                dst,
                value: Imm64::Global {
                    section: GlobalIndex(section.0 + self.globals),
                    offset,
                },
            },
            other => other,
        }
    }

    fn map(&self, map: &Map) -> Map {
        // Ids tell maps of a module apart; 0 means that there is none.
        let id = |id: u32| if id == 0 { 0 } else { id + self.maps };
        let definition = map.definition;
        Map {
            name: self.rename(&map.name),
            definition: MapDefinition {
                id: id(definition.id),
                inner_id: id(definition.inner_id),
                inner_map_idx: match definition.inner_map_idx {
                    0 => 0,
                    index => index + self.maps,
                },
                ..definition
            },
            flags: map.flags,
            inner: map.inner.map(|inner| self.map_index(inner)),
            origin: match map.origin {
                MapOrigin::Global(section) => MapOrigin::Global(GlobalIndex(section.0 + self.globals)),
                other => other,
            },
            initial_values: map
                .initial_values
                .iter()
                .map(|value| {
                    value.map(|value| match value {
                        InitialValue::Map(map) => InitialValue::Map(self.map_index(map)),
                        InitialValue::Program(function) => InitialValue::Program(self.function_index(function)),
                    })
                })
                .collect(),
        }
    }
}
