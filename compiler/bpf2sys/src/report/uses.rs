//! What a program can do, from what was proven about its instructions.
//!
//! Given: a verified module. Computed: for each program the fields of its context, the packets, maps and variables that it and what
//! it calls may read and write, its helpers, and its tail calls. Only instructions that an execution can reach count; of these it is
//! known where each access goes, because the verifier has proven it.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{
    Callee, FunctionIndex, GlobalIndex, Imm64, InitialValue, InsnIndex, Instruction, MapIndex, Module,
};
use bpf2sys_platform::{Field, Helper, Platform, ProgramType};
use bpf2sys_verifier::{
    AccessFact, FunctionFacts, Object, Region, RegisterFact, RegisterKind, VerifiedModule, VerifiedProgram,
};

/// Helpers that get a map and leave it as it is: `bpf_map_lookup_elem`, `bpf_tail_call`, `bpf_map_peek_elem`. Of any other, of an
/// extension for one, it is not known.
const LOOKS_ONLY: [u32; 3] = [1, 5, 18];

/// Whether something is read, and whether it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub read: bool,
    pub written: bool,
}

impl Touched {
    fn by(op: &Instruction) -> Touched {
        Touched {
            read: !matches!(op, Instruction::Store { .. }),
            written: !matches!(op, Instruction::Load { .. }),
        }
    }

    fn add(&mut self, more: Touched) {
        self.read |= more.read;
        self.written |= more.written;
    }

    /// In a word.
    pub(super) fn word(self) -> &'static str {
        match (self.read, self.written) {
            (true, true) => "reads and writes",
            (false, true) => "writes",
            (true, false) => "reads",
            (false, false) => "does not touch",
        }
    }
}

/// How a program uses a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MapUse {
    /// Its values, through pointers.
    pub values: Touched,
    /// The helpers that get it, by name.
    pub helpers: BTreeSet<String>,
    /// Whether one of them does not only look into it.
    pub changes: bool,
}

/// What a program can do.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    /// Helpers by id, with the number of calls.
    pub helpers: BTreeMap<u32, usize>,
    /// Functions of other modules by their position in the module, with the number of calls.
    pub btf_functions: BTreeMap<usize, usize>,
    /// Maps that it names.
    pub maps: BTreeMap<MapIndex, MapUse>,
    /// Sections of global variables.
    pub globals: BTreeMap<GlobalIndex, Touched>,
    /// Values of maps, where it is not known of which.
    pub some_map: Touched,
    /// Fields of the context, by their position in it.
    pub fields: BTreeMap<usize, Touched>,
    /// Bytes of the context that are no field, or of which it is not known where they are.
    pub other_context: Touched,
    /// The packet.
    pub packet: Touched,
    /// Whether it can change where the packet begins or ends.
    pub moves_packet: bool,
    /// Tail calls; none if it makes none.
    pub tail_calls: Option<TailCalls>,
}

/// The tail calls of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TailCalls {
    /// How many calls there are.
    pub calls: usize,
    /// Their maps.
    pub maps: BTreeSet<MapIndex>,
    /// Names of programs that are in those maps at first.
    pub programs: BTreeSet<String>,
}

impl Uses {
    /// What a program can do.
    pub(super) fn of(verified: &VerifiedModule, program: &VerifiedProgram, platform: &Platform) -> Uses {
        let mut uses = Uses::default();
        let of_program = Of {
            module: verified.module(),
            platform,
            program_type: &program.program_type,
        };
        for function in std::iter::once(program.function).chain(program.reachable.iter().copied()) {
            uses.add_function(&of_program, function, verified.facts(function));
        }
        uses
    }

    fn add_function(&mut self, of: &Of<'_>, function: FunctionIndex, facts: &FunctionFacts) {
        let instructions = &of.module.function(function).instructions;
        for (index, insn) in (0..).map(InsnIndex).zip(instructions) {
            let known = facts.instructions.get(index.index());
            if known.is_some_and(|known| !known.reachable) {
                continue;
            }
            match insn.op {
                Instruction::Call(Callee::Helper(id)) => {
                    let registers = facts.registers(index);
                    self.add_helper(of, id as u32, known.and_then(|known| known.map), &registers);
                }
                Instruction::Call(Callee::Btf(index)) => *self.btf_functions.entry(index.index()).or_default() += 1,
                Instruction::LoadImm64 {
                    value: Imm64::Map(map), ..
                } => {
                    self.maps.entry(map).or_default();
                }
                Instruction::LoadImm64 {
                    value: Imm64::Global { section, .. },
                    ..
                } => {
                    self.globals.entry(section).or_default();
                }
                _ => {}
            }
            if let Some(access) = facts.access(index, &insn.op) {
                self.add_access(of, Touched::by(&insn.op), &access);
            }
        }
    }

    fn add_helper(&mut self, of: &Of<'_>, id: u32, map: Option<MapIndex>, registers: &[RegisterFact]) {
        *self.helpers.entry(id).or_default() += 1;
        let helper = of.platform.helper(of.program_type, id);
        for (position, fact) in (1..=5).zip(registers.iter().skip(1)) {
            let touched = helper.map_or(Touched::default(), |helper| of.argument(helper, position));
            match (fact.kind, fact.object) {
                (RegisterKind::Packet, _) => self.packet.add(touched),
                (RegisterKind::MapValue, Some(Object::Map(map))) => {
                    self.maps.entry(map).or_default().values.add(touched);
                }
                (RegisterKind::MapValue, Some(Object::Global(section))) => {
                    self.globals.entry(section).or_default().add(touched);
                }
                (RegisterKind::MapValue, None) => self.some_map.add(touched),
                _ => {}
            }
        }
        if let Some(map) = map {
            let name = helper.map_or_else(|| format!("helper {id}"), |helper| helper.name.clone());
            let used = self.maps.entry(map).or_default();
            used.changes |= !LOOKS_ONLY.contains(&id);
            used.helpers.insert(name);
        }
        self.moves_packet |= helper.is_some_and(|helper| helper.reallocate_packet);
        if helper.is_some_and(Helper::is_tail_call) {
            let tail_calls = self.tail_calls.get_or_insert_default();
            tail_calls.calls += 1;
            if let Some(map) = map {
                tail_calls.maps.insert(map);
                tail_calls.programs.extend(programs_of(of.module, map));
            }
        }
    }

    fn add_access(&mut self, of: &Of<'_>, touched: Touched, access: &AccessFact) {
        match access.region {
            // Nobody else sees it.
            Region::Stack => {}
            Region::Packet => self.packet.add(touched),
            Region::Shared(None) => self.some_map.add(touched),
            Region::Shared(Some(Object::Map(map))) => self.maps.entry(map).or_default().values.add(touched),
            Region::Shared(Some(Object::Global(section))) => self.globals.entry(section).or_default().add(touched),
            Region::Context => {
                let fields = of.fields(access);
                if fields.is_empty() {
                    self.other_context.add(touched);
                }
                for field in fields {
                    self.fields.entry(field).or_default().add(touched);
                }
            }
        }
    }

    /// Names of the context's fields that are written.
    pub(super) fn written_fields<'a>(&self, program_type: &'a ProgramType) -> Vec<&'a Field> {
        let written = self.fields.iter().filter(|(_, touched)| touched.written);
        written
            .filter_map(|(field, _)| program_type.context.fields.get(*field))
            .collect()
    }
}

/// What the numbers of a program's code mean.
struct Of<'a> {
    module: &'a Module,
    platform: &'a Platform,
    program_type: &'a ProgramType,
}

impl Of<'_> {
    /// What a helper does with the memory that an argument points to, by its position from 1 on.
    fn argument(&self, helper: &Helper, position: u8) -> Touched {
        let number = helper.arguments[usize::from(position) - 1];
        let kind = self.platform.argument_types.iter().find(|kind| kind.value == number);
        let kind = kind.and_then(|kind| kind.kind.as_deref()).unwrap_or_default();
        let points = kind.starts_with("PTR_TO_");
        let written = kind.contains("WRITABLE") || helper.writes_readable.contains(&position);
        Touched {
            // What is only filled is not told from what is changed.
            read: points,
            written: points && written,
        }
    }

    /// The fields of the context that an access can touch; none if that is not known.
    fn fields(&self, access: &AccessFact) -> Vec<usize> {
        let Some((low, high)) = access.offset else {
            return Vec::new();
        };
        let touched = i64::from(low)..i64::from(high) + i64::from(access.width);
        let fields = self.program_type.context.fields.iter().enumerate();
        let overlapping = fields.filter(|(_, field)| {
            let (start, end) = (i64::from(field.offset), i64::from(field.offset) + i64::from(field.size));
            start < touched.end && touched.start < end
        });
        overlapping.map(|(position, _)| position).collect()
    }
}

/// Names of the programs that are in a map at first.
fn programs_of(module: &Module, map: MapIndex) -> Vec<String> {
    let Some(map) = module.maps.get(map.index()) else {
        return Vec::new();
    };
    let programs = map.initial_values.iter().flatten().filter_map(|value| match value {
        InitialValue::Program(function) => module.functions.get(function.index()),
        InitialValue::Map(_) => None,
    });
    programs.map(|function| function.name.clone()).collect()
}
