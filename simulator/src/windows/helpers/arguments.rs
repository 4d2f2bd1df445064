//! Whether a function may be called with what a program passes: memory that the program may use, of the sizes that the
//! prototype says, and maps where it says maps.

use bpf2sys_platform::{BtfFunction, Helper};

use super::negative64;
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::rule::Rule;
use crate::windows::kernel::Kernel;
use crate::windows::maps::code;

/// `ebpf_argument_type_t` numbers that the checks tell apart (platform facts, `argument_type`).
mod argument {
    pub const CONST_SIZE: u32 = 2;
    pub const CONTEXT: u32 = 4;
    pub const MAP: u32 = 5;
    pub const MAP_OF_PROGRAMS: u32 = 6;
    pub const KEY: u32 = 7;
    pub const VALUE: u32 = 8;
    pub const READABLE: u32 = 9;
    pub const READABLE_OR_NULL: u32 = 10;
    pub const WRITABLE: u32 = 11;
    pub const STACK: u32 = 12;
    pub const CONTEXT_OR_NULL: u32 = 14;
    pub const WRITABLE_OR_NULL: u32 = 15;
    pub const LONG: u32 = 21;
    pub const INT: u32 = 22;
    pub const READONLY: u32 = 29;
    pub const READONLY_OR_NULL: u32 = 30;
    pub const UNINIT_VALUE: u32 = 31;
    pub const CONST_MAP: u32 = 32;
}

/// `EBPF_RETURN_TYPE_PTR_TO_MAP_VALUE_OR_NULL`.
const MAP_VALUE_OR_NULL: u32 = 1;

/// What the checks look at in a function's prototype.
pub struct Prototype<'a> {
    name: &'a str,
    return_type: u32,
    arguments: [u32; 5],
    writes_readable: &'a [u8],
    /// The map types that it can work on, where it does not look: with another one the machine stops.
    map_types: Option<&'a [u32]>,
}

impl<'a> Prototype<'a> {
    /// That of a helper.
    pub fn of(helper: &'a Helper) -> Prototype<'a> {
        Prototype {
            name: &helper.name,
            return_type: helper.return_type,
            arguments: helper.arguments,
            writes_readable: &helper.writes_readable,
            map_types: helper.runtime_map_types.as_deref().filter(|_| !helper.checks_map_type),
        }
    }

    /// That of a BTF-resolved function.
    pub fn of_btf(function: &'a BtfFunction) -> Prototype<'a> {
        Prototype {
            name: &function.name,
            return_type: function.return_type,
            arguments: function.arguments,
            writes_readable: &[],
            map_types: function
                .runtime_map_types
                .as_deref()
                .filter(|_| !function.checks_map_type),
        }
    }

    /// The function's name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Whether it gives a pointer to a value of its map, or null.
    pub fn gives_map_value(&self) -> bool {
        self.return_type == MAP_VALUE_OR_NULL
    }

    /// What compiled code gives instead of a call to which a program passes null where there should be a map: the result of a
    /// lookup in a map of maps, not compared with null. Nobody may be called with it.
    pub fn without_map(&self, arguments: &[u64; 5]) -> Option<u64> {
        let is_map = |kind: u32| matches!(kind, argument::MAP | argument::MAP_OF_PROGRAMS | argument::CONST_MAP);
        let mut pairs = self.arguments.iter().zip(arguments);
        pairs.any(|(&kind, &value)| is_map(kind) && value == 0).then(|| {
            if self.return_type == MAP_VALUE_OR_NULL {
                0
            } else {
                negative64(code::INVALID_ARGUMENT)
            }
        })
    }

    /// Whether the argument at a position, from 0, is written through although its type says readable.
    fn writes(&self, position: usize) -> bool {
        self.writes_readable.iter().any(|&p| usize::from(p) == position + 1)
    }
}

impl Kernel {
    /// The memory that a function is given to write to: address and bytes of each piece that is there. The arguments have been
    /// checked.
    pub(super) fn outputs(
        &self,
        prototype: &Prototype<'_>,
        arguments: &[u64; 5],
        map: Option<usize>,
    ) -> Vec<(u64, u64)> {
        let pairs = prototype.arguments.iter().zip(arguments).enumerate();
        let pieces = pairs
            .take_while(|(_, (kind, _))| **kind != 0)
            .map(|(i, (&kind, &address))| {
                let size = match kind {
                    argument::WRITABLE | argument::WRITABLE_OR_NULL => arguments.get(i + 1).copied().unwrap_or(0),
                    argument::LONG => 8,
                    argument::INT => 4,
                    argument::UNINIT_VALUE => map
                        .and_then(|map| self.maps.list.get(map))
                        .map_or(0, |map| map.value_size() as u64),
                    _ => 0,
                };
                (address, size)
            });
        pieces.filter(|(address, size)| *address != 0 && *size > 0).collect()
    }

    /// Checks that pointers are what the prototype says, and finds the map among them.
    pub(super) fn check_arguments(
        &self,
        prototype: &Prototype<'_>,
        arguments: &[u64; 5],
    ) -> Result<Option<usize>, SimulatorError> {
        let bad = |position: usize, what: &str, address: u64| {
            let place = self.memory.place(address);
            self.broken(
                Rule::HelperArgument,
                format!(
                    "argument {} of {} must be {what}; it is {place}",
                    position + 1,
                    prototype.name
                ),
            )
        };
        let mut map = None;
        for (i, (&kind, &value)) in prototype.arguments.iter().zip(arguments).enumerate() {
            let size_after = || arguments.get(i + 1).copied().unwrap_or(0);
            let optional = matches!(
                kind,
                argument::READABLE_OR_NULL | argument::WRITABLE_OR_NULL | argument::READONLY_OR_NULL
            );
            match kind {
                0 => break,
                argument::MAP | argument::MAP_OF_PROGRAMS | argument::CONST_MAP => {
                    map = Some(self.maps.by_address(value).ok_or_else(|| bad(i, "a map", value))?);
                }
                argument::KEY | argument::VALUE | argument::UNINIT_VALUE => {
                    let Some(map) = map.and_then(|m| self.maps.list.get(m)) else {
                        continue;
                    };
                    let (size, what) = if kind == argument::KEY {
                        (
                            map.key_size(),
                            format!("a key of map {} ({} readable bytes)", map.name, map.key_size()),
                        )
                    } else {
                        (
                            map.value_size(),
                            format!("a value of map {} ({} bytes)", map.name, map.value_size()),
                        )
                    };
                    let written = kind == argument::UNINIT_VALUE || prototype.writes(i);
                    let fine = if written {
                        self.memory.program_may_write(value, size)
                    } else {
                        self.memory.program_may_read(value, size)
                    };
                    if !fine {
                        return Err(bad(i, &what, value));
                    }
                }
                argument::CONTEXT if value != self.state.context => return Err(bad(i, "the context", value)),
                argument::CONTEXT_OR_NULL if value != 0 && value != self.state.context => {
                    return Err(bad(i, "the context or NULL", value));
                }
                _ if optional && value == 0 => {}
                argument::READABLE | argument::READABLE_OR_NULL | argument::READONLY | argument::READONLY_OR_NULL => {
                    let size = size_after();
                    let length = usize::try_from(size).unwrap_or(usize::MAX);
                    if !self.memory.program_may_read(value, length) {
                        return Err(bad(i, &format!("{size} readable bytes"), value));
                    }
                    if prototype.writes(i) && !self.memory.program_may_write(value, length) {
                        return Err(bad(i, &format!("{size} writable bytes"), value));
                    }
                }
                argument::WRITABLE | argument::WRITABLE_OR_NULL => {
                    let size = size_after();
                    if !self
                        .memory
                        .program_may_write(value, usize::try_from(size).unwrap_or(usize::MAX))
                    {
                        return Err(bad(i, &format!("{size} writable bytes"), value));
                    }
                }
                argument::CONST_SIZE if value == 0 => {
                    return Err(self.broken(
                        Rule::HelperArgument,
                        format!("argument {} of {} must be a size above 0", i + 1, prototype.name),
                    ));
                }
                argument::LONG if !self.memory.program_may_write(value, 8) => {
                    return Err(bad(i, "8 writable bytes", value));
                }
                argument::INT if !self.memory.program_may_write(value, 4) => {
                    return Err(bad(i, "4 writable bytes", value));
                }
                argument::STACK if !self.memory.program_may_write(value, 1) => {
                    return Err(bad(i, "on the stack", value));
                }
                _ => {}
            }
        }
        if let (Some(needed), Some(map)) = (prototype.map_types, map.and_then(|m| self.maps.list.get(m)))
            && !needed.contains(&map.kind())
        {
            return Err(self.broken(
                Rule::HelperArgument,
                format!("{} is given map {} of type {}", prototype.name, map.name, map.kind()),
            ));
        }
        Ok(map)
    }
}
