//! Questions about one state of the engine, for messages.
//!
//! The engine keeps a state to itself, but lets it meet another that is made from constraints, and says whether anything
//! is left. So a bound is asked for in two ways: a variable is made equal to the one register whose bounds the engine
//! tells, and a difference of two is searched for between constraints. Kinds of registers and the written bytes of the stack are read from the lines in
//! which a state is printed. What is asked for here is told to people and proves nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::Reg;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain};
use prevail::crab::var_registry::VariableRegistry;

use crate::{Kind, Memory, Span};

/// A state and what it takes to ask it.
pub(super) struct View<'v> {
    state: &'v EbpfDomain,
    context: &'v DomainContext<'v>,
    names: &'v RefCell<VariableRegistry>,
    /// The lines about types: of registers, and of stack cells by first and last byte.
    registers: BTreeMap<u8, Vec<Kind>>,
    cells: BTreeMap<(i64, i64), Kind>,
    /// The bytes of the stack that hold numbers.
    numbers: BTreeSet<(i64, i64)>,
}

impl<'v> View<'v> {
    pub fn new(
        state: &'v EbpfDomain,
        context: &'v DomainContext<'v>,
        names: &'v RefCell<VariableRegistry>,
    ) -> View<'v> {
        let mut view = View {
            state,
            context,
            names,
            registers: BTreeMap::new(),
            cells: BTreeMap::new(),
            numbers: BTreeSet::new(),
        };
        let text = state.to_set(&names.borrow());
        if !text.is_bottom() {
            let mut same = Vec::new();
            for line in text.value() {
                view.read(line, &mut same);
            }
            for (register, first) in same {
                if let Some(kinds) = view.registers.get(&first).cloned() {
                    view.registers.insert(register, kinds);
                }
            }
        }
        view
    }

    /// Takes in a line; `same` collects registers that have the kinds of another.
    fn read(&mut self, line: &str, same: &mut Vec<(u8, u8)>) {
        let register = |name: &str| name.strip_prefix('r')?.strip_suffix(".type")?.parse::<u8>().ok();
        if let Some((name, kinds)) = line.split_once(" in {") {
            if let (Some(register), Some(kinds)) = (register(name), kinds.strip_suffix('}')) {
                self.registers.insert(register, kinds.split(", ").map(kind).collect());
            }
            return;
        }
        let Some((name, value)) = line.split_once('=') else {
            return;
        };
        if let Some(number) = register(name) {
            match register(value) {
                Some(first) => same.push((number, first)),
                None => {
                    self.registers.insert(number, vec![kind(value)]);
                }
            }
        } else if let Some(cell) = cell(name) {
            match kind(value) {
                Kind::Number => {
                    self.numbers.insert(cell);
                }
                Kind::Unknown => {}
                kind => {
                    self.cells.insert(cell, kind);
                }
            }
        }
    }

    /// What a register can hold, in order; empty if nothing is known.
    pub fn kinds(&self, register: Reg) -> &[Kind] {
        let kinds = self.registers.get(&register.number()).map_or(&[][..], Vec::as_slice);
        if kinds.contains(&Kind::Unknown) { &[] } else { kinds }
    }

    /// The one kind of a register.
    pub fn kind(&self, register: Reg) -> Kind {
        match self.kinds(register) {
            [kind] => *kind,
            _ => Kind::Unknown,
        }
    }

    /// The pointer in these bytes of the stack, if there is one.
    pub fn pointer_within(&self, start: i64, bytes: i64) -> Option<Kind> {
        let overlaps = |(first, last): &(i64, i64)| *first < start.saturating_add(bytes) && *last >= start;
        self.cells
            .iter()
            .find(|(cell, _)| overlaps(cell))
            .map(|(_, kind)| *kind)
    }

    /// The first run of bytes of the stack that hold no number, as offsets from `start`: first and last one.
    pub fn unwritten(&self, start: i64, bytes: i64) -> Option<(i64, i64)> {
        let mut first = start;
        let end = start.checked_add(bytes)?;
        for (from, to) in &self.numbers {
            if *to < first {
                continue;
            }
            if *from > first {
                let last = (*from).min(end) - 1;
                return (first < end).then_some((first - start, last - start));
            }
            first = *to + 1;
        }
        (first < end).then_some((first - start, bytes - 1))
    }

    /// Something of a register, e.g. `packet_offset`.
    pub fn of(&self, register: Reg, what: &str) -> Span {
        self.span(&variable(register, what))
    }

    /// How many bytes of packet are at least behind a register.
    pub fn left_in_packet(&self, register: Reg) -> i64 {
        let (mut low, mut high) = (0, i64::from(self.context.runtime.max_packet_size));
        while low < high {
            let middle = (low + high + 1) / 2;
            if self.can_be_left(register, middle - 1) {
                high = middle - 1;
            } else {
                low = middle;
            }
        }
        low
    }

    /// Whether a register points to the end of the packet.
    pub fn is_packet_end(&self, register: Reg) -> bool {
        !self.can_be_left(register, -1) && !self.can_be_before_end(register, 1)
    }

    /// Length of the packet.
    pub fn packet_size(&self) -> Span {
        self.span("packet_size")
    }

    /// Distance of a register from the `r10` of the executed function.
    pub fn stack_offset(&self, register: Reg) -> Span {
        let own = self.of(Reg::R10, "stack_offset");
        match own.one().and_then(i64::checked_neg) {
            Some(own) => self.of(register, "stack_offset").plus(own),
            None => Span::default(),
        }
    }

    /// Name of the map that a register is, and whether it is only a template of it.
    pub fn map(&self, register: Reg) -> Option<(String, bool)> {
        let what = match self.kind(register) {
            Kind::Map => "map_fd",
            Kind::ProgramArray => "map_fd_programs",
            _ => return None,
        };
        let fd = i32::try_from(self.of(register, what).one()?).ok()?;
        let map = self.context.platform.get_map_descriptor(fd)?;
        Some((map.name.clone(), map.is_inner_map_template))
    }

    /// Size of the keys or values of the map that a register is.
    pub fn map_size(&self, register: Reg, key: bool) -> Span {
        let sizes = |fd: i64| {
            let map = self.context.platform.get_map_descriptor(i32::try_from(fd).ok()?)?;
            Some(i64::from(if key { map.key_size } else { map.value_size }))
        };
        let fds = self.of(register, "map_fd");
        match (fds.min, fds.max) {
            (Some(a), Some(b)) if b.saturating_sub(a) < 64 => Span {
                min: (a..=b).filter_map(sizes).min(),
                max: (a..=b).filter_map(sizes).max(),
            },
            _ => Span::default(),
        }
    }

    /// Size of the memory that a register points into.
    pub fn size_of(&self, register: Reg, memory: &Memory) -> Option<i64> {
        match memory {
            Memory::Context => {
                let context = self.context.program_info.program_type.ctx_descriptor?;
                Some(context.size.into())
            }
            Memory::Given { .. } => self.of(register, "alloc_mem_size").min,
            Memory::MapValue { .. } | Memory::Globals { .. } => self.of(register, "shared_region_size").min,
        }
    }

    /// Size of a stack frame.
    pub fn frame_bytes(&self) -> i64 {
        self.context.runtime.subprogram_stack_size.into()
    }

    /// Bounds of a variable.
    fn span(&self, variable: &str) -> Span {
        let mut state = self.state.clone();
        if variable != R0 {
            state = self.with(&[format!("{variable}={R0}")]);
        }
        let found = state.get_r0(&mut self.names.borrow_mut());
        if found.is_bottom() {
            return Span::default();
        }
        Span {
            min: found.lb().number().and_then(|n| n.to_i64()),
            max: found.ub().number().and_then(|n| n.to_i64()),
        }
    }

    /// Whether at most `bytes` of packet can be behind a register; negative: the register can be past the end.
    fn can_be_left(&self, register: Reg, bytes: i64) -> bool {
        let at = variable(register, "packet_offset");
        !self
            .with(&[format!("packet_size={R0}"), format!("{R0}-{at}<={bytes}")])
            .is_bottom()
    }

    /// Whether a register can be `bytes` or more before the end of the packet.
    fn can_be_before_end(&self, register: Reg, bytes: i64) -> bool {
        let at = variable(register, "packet_offset");
        !self
            .with(&[format!("packet_size={R0}"), format!("{at}-{R0}<=-{bytes}")])
            .is_bottom()
    }

    /// The state with these constraints, where [`R0`] is free to be used in them.
    fn with(&self, constraints: &[String]) -> EbpfDomain {
        let mut names = self.names.borrow_mut();
        let mut state = self.state.clone();
        let r0 = names.get(R0);
        state.havoc(r0);
        let constraints: BTreeSet<String> = constraints.iter().cloned().collect();
        state.meet(&EbpfDomain::from_constraints(
            &constraints,
            false,
            self.context,
            &mut names,
        ))
    }
}

/// The variable whose bounds the engine tells.
const R0: &str = "r0.svalue";

fn variable(register: Reg, what: &str) -> String {
    format!("r{}.{what}", register.number())
}

/// `s[4088...4095].type`: first and last byte.
fn cell(name: &str) -> Option<(i64, i64)> {
    let range = name.strip_prefix("s[")?.strip_suffix("].type")?;
    if let Some((first, last)) = range.split_once("...") {
        Some((first.parse().ok()?, last.parse().ok()?))
    } else {
        let byte = range.parse().ok()?;
        Some((byte, byte))
    }
}

fn kind(name: &str) -> Kind {
    match name {
        "number" => Kind::Number,
        "map_fd" => Kind::Map,
        "map_fd_programs" => Kind::ProgramArray,
        "ctx" => Kind::Context,
        "packet" => Kind::Packet,
        "stack" => Kind::Stack,
        "shared" => Kind::MapValue,
        "socket" => Kind::Socket,
        "btf_id" => Kind::KernelObject,
        "alloc_mem" => Kind::Allocated,
        "func" => Kind::Function,
        _ => Kind::Unknown,
    }
}
