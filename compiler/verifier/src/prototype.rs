//! What a call that leaves the module does with its arguments, whoever is called: a helper, or a function of a Windows
//! module. Both are called alike (native module contract §6.4), so one set of rules holds for both.

use bpf2sys_bytecode::{Callee, MapDefinition, MapIndex, Module, Reg};
use bpf2sys_platform::{BtfFunction, Fills, Platform, ProgramType};

/// A callee outside the module.
#[allow(clippy::struct_excessive_bools)] // one flag each of the platform facts
pub(crate) struct Prototype<'a> {
    /// Its name.
    pub name: &'a str,
    /// Argument types of `r1` to `r5`, numbers of `ebpf_argument_type_t`; 0 ends the list.
    pub arguments: [u32; 5],
    /// Positions, 1 to 5, of arguments that are written although their type says read.
    pub writes_readable: &'a [u8],
    /// Registers behind the end of the list, 1 to 5, that are read all the same.
    pub reads_unlisted: &'a [u8],
    /// Map types for which it can succeed; `None` if it takes no map, or that is not known.
    pub map_types: Option<&'a [u32]>,
    /// Whether it looks at the type of the map.
    pub checks_map_type: bool,
    /// Whether it is the runtime's own, which knows the map types of extensions by their base types.
    pub general: bool,
    /// Whether every call fails.
    pub always_fails: bool,
    /// Writable memory that it fills.
    pub fills: Option<Fills>,
    /// What it returns, a number of `ebpf_return_type_t`.
    pub return_type: u32,
    /// Whether pointers into the packet are invalid after the call.
    pub moves_packet: bool,
}

impl Prototype<'_> {
    /// Whether it returns a pointer to a value of the map that it is given, or null.
    pub fn returns_map_value(&self) -> bool {
        self.return_type == MAP_VALUE_OR_NULL
    }

    /// The registers that are listed as arguments, with what they are for.
    pub fn needs(&self) -> impl Iterator<Item = (Reg, Need)> + use<> {
        self.listed().map(|(register, number)| (register, Need::of(number)))
    }

    /// The registers that are listed as arguments, with their types.
    pub fn listed(&self) -> impl Iterator<Item = (Reg, u32)> + use<> {
        let arguments = (1..).zip(self.arguments).take_while(|(_, argument)| *argument != 0);
        arguments.filter_map(|(position, argument)| Some((Reg::new(position)?, argument)))
    }
}

/// Memory that a callee accesses through an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// None of the program's stack.
    None,
    /// That many bytes.
    Bytes(u32),
    /// A key of its map.
    Key,
    /// A value of its map.
    Value,
    /// As many bytes as the next argument says.
    Sized,
    /// Nothing is known of its size.
    Unknown,
}

/// What an argument is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A number; in privileged types anything.
    Anything,
    /// The context as the program got it.
    Context {
        or_null: bool,
    },
    Map,
    /// A map of programs.
    Programs,
    /// A key of the map before.
    Key,
    /// A value of the map before.
    Value,
    /// A value of the map before, which is written.
    NewValue,
    Stack {
        or_null: bool,
    },
    /// Memory of the size that the next argument says.
    Memory {
        writes: bool,
        or_null: bool,
    },
    /// Size of the memory before.
    Size {
        zero: bool,
    },
    /// A size that belongs to no argument.
    LoneSize,
    /// That many bytes, which are written.
    Number(u32),
    Socket,
    KernelObject,
    Allocated,
    Function,
    /// A pointer to a lock or a timer.
    Plain,
    /// Nothing is known of it, and no program can call the helper.
    Unknown,
}

impl Need {
    /// By number of `ebpf_argument_type_t`; what each means is in the platform facts, `argument_type`.
    fn of(number: u32) -> Need {
        let memory = |writes, or_null| Need::Memory { writes, or_null };
        match number {
            1 => Need::Anything,
            2 => Need::Size { zero: false },
            3 => Need::Size { zero: true },
            4 => Need::Context { or_null: false },
            5 | 32 => Need::Map,
            6 => Need::Programs,
            7 => Need::Key,
            8 => Need::Value,
            9 | 29 => memory(false, false),
            10 | 30 => memory(false, true),
            11 => memory(true, false),
            12 => Need::Stack { or_null: false },
            13 => Need::Stack { or_null: true },
            14 => Need::Context { or_null: true },
            15 => memory(true, true),
            17 | 19 => Need::Socket,
            18 | 27 => Need::Plain,
            20 | 28 => Need::KernelObject,
            21 => Need::Number(8),
            22 => Need::Number(4),
            24 => Need::Function,
            25 => Need::LoneSize,
            26 => Need::Allocated,
            31 => Need::NewValue,
            _ => Need::Unknown,
        }
    }
}

/// `PTR_TO_MAP_VALUE_OR_NULL` of `ebpf_return_type_t`.
const MAP_VALUE_OR_NULL: u32 = 1;

impl Prototype<'_> {
    /// What is accessed through `r1` (0) to `r5` (4), and whether it may be written.
    pub fn memory(&self, argument: usize) -> (Memory, bool) {
        let Some((register, need)) = self.needs().nth(argument) else {
            return (Memory::None, false);
        };
        let written = self.writes_readable.contains(&register.number());
        match need {
            Need::Size { .. } | Need::Context { .. } | Need::Map | Need::Programs => (Memory::None, false),
            Need::Key => (Memory::Key, written),
            Need::Value => (Memory::Value, written),
            Need::NewValue => (Memory::Value, true),
            Need::Memory { writes, .. } => (Memory::Sized, writes || written),
            Need::Number(bytes) => (Memory::Bytes(bytes), true),
            _ => (Memory::Unknown, true),
        }
    }

    /// Whether it is known to write every byte behind an argument; `equal` tells whether two registers hold the same number.
    pub fn fills_memory(&self, argument: Reg, equal: impl Fn(Reg, Reg) -> bool) -> bool {
        let equal = |[a, b]: [u8; 2]| Reg::new(a).zip(Reg::new(b)).is_some_and(|(a, b)| equal(a, b));
        self.fills
            .is_some_and(|fills| fills.argument == argument.number() && fills.if_equal.is_none_or(equal))
    }

    /// Size of a key or value: that of the one map, else the largest of all maps.
    pub fn map_memory(map: Option<MapIndex>, module: &Module, size: impl Fn(&MapDefinition) -> u32) -> Option<u32> {
        match map.and_then(|map| module.maps.get(map.index())) {
            Some(map) => Some(size(&map.definition)),
            None => module.maps.iter().map(|map| size(&map.definition)).max(),
        }
    }
}

/// The prototype of a callee outside the module that a program of this type can call; `None` for a function of the module
/// and for what the platform does not have.
pub(crate) fn prototype<'a>(
    callee: Callee,
    module: &Module,
    platform: &'a Platform,
    program_type: &'a ProgramType,
) -> Option<Prototype<'a>> {
    match callee {
        Callee::Helper(id) => {
            let helper = platform.helper(program_type, u32::try_from(id).ok()?)?;
            Some(Prototype {
                name: &helper.name,
                arguments: helper.arguments,
                writes_readable: &helper.writes_readable,
                reads_unlisted: &helper.reads_unlisted,
                map_types: helper.runtime_map_types.as_deref(),
                checks_map_type: helper.checks_map_type,
                general: helper.id <= platform.limits.max_general_helper_id,
                always_fails: helper.always_fails,
                fills: helper.fills,
                return_type: helper.return_type,
                moves_packet: helper.reallocate_packet,
            })
        }
        Callee::Btf(function) => {
            let function = offered(module.btf_functions.get(function.index())?, platform)?;
            Some(Prototype {
                name: &function.name,
                arguments: function.arguments,
                writes_readable: &[],
                reads_unlisted: &[],
                map_types: function.runtime_map_types.as_deref(),
                checks_map_type: function.checks_map_type,
                general: false,
                always_fails: false,
                fills: function.fills,
                return_type: function.return_type,
                moves_packet: false,
            })
        }
        Callee::Local(_) => None,
    }
}

/// The platform's function that a module means.
pub(crate) fn offered<'a>(named: &bpf2sys_bytecode::BtfFunction, platform: &'a Platform) -> Option<&'a BtfFunction> {
    platform.btf_function(named.module, &named.name)
}
