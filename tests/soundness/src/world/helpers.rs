//! Helpers and functions of other modules as their prototypes describe them, at their worst.

use bpf2sys_bytecode::{MapDefinition, MapIndex, Reg};
use bpf2sys_platform::{BtfFunction, Fills, Helper, MapValueKind};
use bpf2sys_simulator::interpreter::HelperResult;

use super::memory::Kind;
use super::setup::{bytes, number};
use super::{Checked, Violation, mixed};
use crate::features::Feature;

/// `ebpf_return_type_t`: a pointer to a map's value, or null.
const MAP_VALUE_OR_NULL: u32 = 1;
/// A number, or no return if the program ends there: what `bpf_tail_call` gives.
const INTEGER_OR_NO_RETURN: u32 = 2;

/// A callee outside the module.
pub(super) struct Called<'a> {
    name: &'a str,
    arguments: [u32; 5],
    return_type: u32,
    writes_readable: &'a [u8],
    runtime_map_types: Option<&'a [u32]>,
    reallocate_packet: bool,
    checks_map_type: bool,
    reads_unlisted: &'a [u8],
    fills: Option<Fills>,
}

impl<'a> Called<'a> {
    pub(super) fn helper(helper: &'a Helper) -> Called<'a> {
        Called {
            name: &helper.name,
            arguments: helper.arguments,
            return_type: helper.return_type,
            writes_readable: &helper.writes_readable,
            runtime_map_types: helper.runtime_map_types.as_deref(),
            reallocate_packet: helper.reallocate_packet,
            checks_map_type: helper.checks_map_type,
            reads_unlisted: &helper.reads_unlisted,
            fills: helper.fills,
        }
    }

    pub(super) fn function(function: &'a BtfFunction) -> Called<'a> {
        Called {
            name: &function.name,
            arguments: function.arguments,
            return_type: function.return_type,
            writes_readable: &[],
            runtime_map_types: function.runtime_map_types.as_deref(),
            reallocate_packet: false,
            checks_map_type: function.checks_map_type,
            reads_unlisted: &[],
            fills: function.fills,
        }
    }

    /// Whether it writes every byte behind an argument, whatever happens.
    fn surely_fills(&self, position: usize, arguments: [u64; 5]) -> bool {
        let argument = |position: u8| arguments.get(usize::from(position) - 1);
        self.fills.is_some_and(|fills| {
            usize::from(fills.argument) == position && fills.if_equal.is_none_or(|[a, b]| argument(a) == argument(b))
        })
    }

    /// What it gives when it does nothing: null, or `-EBPF_INVALID_ARGUMENT`'s number for programs.
    fn failed(&self) -> u64 {
        let failed = if self.return_type == MAP_VALUE_OR_NULL {
            0
        } else {
            -6_i64
        };
        failed.cast_unsigned()
    }
}

impl Checked<'_> {
    /// Calls it: first everything is read, then it succeeds or not, then everything is written.
    pub(super) fn call(&mut self, called: &Called<'_>, arguments: [u64; 5]) -> Result<HelperResult, Violation> {
        let mut map: Option<MapIndex> = None;
        // Address, size, and whether all of it is surely written.
        let mut writes: Vec<(u64, u64, bool)> = Vec::new();
        let kinds = called.arguments.into_iter().take_while(|kind| *kind != 0);
        for (i, kind) in kinds.enumerate() {
            let value = arguments[i];
            let bad = |what: &str| {
                Err(Violation::Argument {
                    helper: called.name.to_owned(),
                    position: i + 1,
                    what: what.to_owned(),
                })
            };
            let defined = self.registers[i + 1].is_some();
            // `ebpf_argument_type_t`
            match kind {
                1 if self.privileged() => {}
                _ if !defined => return bad("a register that nothing has written"),
                1 => {
                    if self.is_address(value) {
                        return Err(Violation::Leak(called.name.to_owned()));
                    }
                    self.told = mixed(self.told, value);
                }
                4 | 14 => {
                    if value != self.regions.context.start && (kind == 4 || value != 0) {
                        return bad("not the context");
                    }
                }
                5 | 6 | 32 => {
                    // Compiled code gives no callee a null map.
                    if value == 0 {
                        return Ok(HelperResult::Returned(called.failed()));
                    }
                    let Some((_, index)) = self.objects.iter().find(|(address, _)| *address == value) else {
                        return bad("not a map");
                    };
                    map = Some(*index);
                    let map_type = self.definition(*index).map_type;
                    if kind == 6 && self.value_kind(map_type) != MapValueKind::Program {
                        return bad("not a map of programs");
                    }
                    if !called.checks_map_type
                        && called.runtime_map_types.is_some_and(|types| !types.contains(&map_type))
                    {
                        let helper = called.name.to_owned();
                        return Err(Violation::MapType { helper, map_type });
                    }
                }
                7 | 8 | 31 => {
                    let Some(definition) = map.map(|map| self.definition(map)) else {
                        return bad("a key or value without a map");
                    };
                    let size = u64::from(if kind == 7 {
                        definition.key_size
                    } else {
                        definition.value_size
                    });
                    if kind == 31 || called.writes_readable.contains(&(i as u8 + 1)) {
                        writes.push((value, size, false));
                    } else {
                        self.given(value, size, called, i)?;
                    }
                }
                9 | 10 | 29 | 30 | 11 | 15 => {
                    let size = arguments.get(i + 1).copied().unwrap_or(0);
                    if matches!(kind, 10 | 15 | 30) && value == 0 {
                        continue;
                    }
                    if size > 1 << 31 {
                        return bad("of a negative size");
                    }
                    if matches!(kind, 11 | 15) {
                        writes.push((value, size, called.surely_fills(i + 1, arguments)));
                    } else {
                        self.given(value, size, called, i)?;
                        if called.writes_readable.contains(&(i as u8 + 1)) {
                            writes.push((value, size, false));
                        }
                    }
                }
                2 | 3 => {
                    if kind == 2 && value == 0 {
                        return bad("a size of 0");
                    }
                    self.told = mixed(self.told, value);
                }
                21 => writes.push((value, 8, called.surely_fills(i + 1, arguments))),
                22 => writes.push((value, 4, called.surely_fills(i + 1, arguments))),
                _ => return bad("of a class that these tests do not know"),
            }
        }
        for position in called.reads_unlisted {
            let Some(register) = self
                .registers
                .get(usize::from(*position))
                .filter(|_| !self.privileged())
            else {
                continue;
            };
            match *register {
                Some(value) if !self.is_address(value) => self.told = mixed(self.told, value),
                _ => return Err(Violation::Leak(called.name.to_owned())),
            }
        }
        // What it may write it must be able to write, whether it does so or not.
        for (address, size, _) in &writes {
            self.may_write(*address, *size, called)?;
        }
        let definition = map.map(|map| self.definition(map));
        let refused = definition.is_some_and(|definition| {
            called
                .runtime_map_types
                .is_some_and(|types| !types.contains(&definition.map_type))
        });
        if refused {
            return Ok(HelperResult::Returned(called.failed()));
        }
        for (address, size, surely) in writes {
            // A privileged program may see what was there before.
            if surely || self.privileged() || self.random.chance(3, 4) {
                self.overwrite(address, size);
            }
        }
        if called.reallocate_packet {
            self.move_packet();
        }
        let seen = match definition.map(|d| d.map_type) {
            Some(3) => Some(Feature::TailCall),
            Some(6 | 7) => Some(Feature::MapOfMaps),
            Some(10 | 12) => Some(Feature::Queue),
            _ => None,
        };
        self.seen.extend(seen);
        if called.return_type == INTEGER_OR_NO_RETURN {
            return Ok(if self.random.chance(1, 3) {
                HelperResult::Ends(0)
            } else {
                HelperResult::Returned(self.random.one_of(&[-6_i64, -27, -1]).cast_unsigned())
            });
        }
        let result = match (called.return_type, map) {
            (MAP_VALUE_OR_NULL, Some(map)) => self.looked_up(map, arguments[1]),
            _ if self.random.chance(1, 3) => 0,
            _ => number(&mut self.random, self.hints),
        };
        Ok(HelperResult::Returned(result))
    }

    fn definition(&self, map: MapIndex) -> MapDefinition {
        self.module.maps[map.index()].definition
    }

    fn value_kind(&self, map_type: u32) -> MapValueKind {
        self.platform
            .map_type(map_type)
            .map_or(MapValueKind::Any, |t| t.verifier_value_kind)
    }

    /// A lookup: nothing, a value, or another map.
    fn looked_up(&mut self, map: MapIndex, key: u64) -> u64 {
        let definition = self.definition(map);
        let map_type = self.platform.map_type(definition.map_type);
        let draw = self.random.next();
        let mut slot = draw >> 8;
        let mut hit = !draw.is_multiple_of(3);
        if map_type.is_some_and(|t| t.verifier_is_array) {
            let index = self.number_at(key);
            slot = u64::from(index);
            hit &= index < definition.max_entries;
        }
        if !hit {
            return 0;
        }
        let kind = self.value_kind(definition.map_type);
        if kind == MapValueKind::Map {
            let Some(template) = self.module.maps[map.index()].inner else {
                return 0;
            };
            // The second half are maps that lookups find.
            return self.objects[self.module.maps.len() + template.index()].0;
        }
        let values: Vec<u64> = self
            .regions
            .values
            .iter()
            .filter(|(index, _)| *index == map)
            .map(|(_, range)| range.start)
            .collect();
        match values.len() as u64 {
            0 => 0,
            count => values[(slot % count) as usize],
        }
    }

    /// The index in the first four bytes of a key that was read already.
    fn number_at(&self, address: u64) -> u32 {
        let Some((region, at)) = self.memory.find(address, 4) else {
            return u32::MAX;
        };
        let bytes = &self.memory.regions[region].bytes[at..at + 4];
        bytes.try_into().map_or(u32::MAX, u32::from_le_bytes)
    }

    /// Memory that it reads: all there, all written, and without addresses.
    fn given(&mut self, address: u64, size: u64, called: &Called<'_>, i: usize) -> Result<(), Violation> {
        let what = |what: String| {
            Err(Violation::Argument {
                helper: called.name.to_owned(),
                position: i + 1,
                what,
            })
        };
        if size == 0 {
            return Ok(());
        }
        let Some((region, at)) = self.memory.find(address, size) else {
            return what(format!("{size} bytes to read: {}", self.memory.near(address)));
        };
        self.judge_callee(address, size, false);
        let source = &self.memory.regions[region];
        let range = at..at + size as usize;
        if source.kind == Kind::Stack {
            if let Some(hole) = self.hole_below_frames(address, size) {
                return what(hole);
            }
            if source.written[range.clone()].contains(&false) {
                return what(format!("{size} bytes of the stack, not all of them written"));
            }
        }
        let content = source.bytes[range.clone()].to_vec();
        if !self.privileged() && source.kind != Kind::Context {
            for window in content.windows(8) {
                if window.try_into().is_ok_and(|w| self.is_address(u64::from_le_bytes(w))) {
                    return Err(Violation::Leak(called.name.to_owned()));
                }
            }
        }
        if source.kind != Kind::Context {
            for byte in content {
                self.told = mixed(self.told, byte.into());
            }
        }
        Ok(())
    }

    /// Helpers may use the frames that there are, as the interpreter's instructions do.
    fn hole_below_frames(&self, address: u64, _size: u64) -> Option<String> {
        let lowest = self.regions.stack_end - u64::from(self.frames) * 512;
        (address < lowest).then(|| format!("{} bytes below the running function's frame", lowest - address))
    }

    fn may_write(&mut self, address: u64, size: u64, called: &Called<'_>) -> Result<(), Violation> {
        if size == 0 {
            return Ok(());
        }
        let position = (1..=5)
            .find(|i| self.registers[*i] == Some(address))
            .unwrap_or(Reg::R0.index());
        let wrong = |what| Violation::Argument {
            helper: called.name.to_owned(),
            position,
            what,
        };
        if let Some((region, _)) = self.memory.find(address, size)
            && self.memory.regions[region].kind == Kind::Stack
            && let Some(hole) = self.hole_below_frames(address, size)
        {
            return Err(wrong(hole));
        }
        self.judge_callee(address, size, true);
        match self.writable(address, size) {
            Ok(_) => Ok(()),
            Err(denied) => Err(wrong(format!("{size} bytes to write: {}", denied.near))),
        }
    }

    fn overwrite(&mut self, address: u64, size: u64) {
        let content = bytes(&mut self.random, size as usize, self.hints);
        if let Some((region, at)) = self.memory.find(address, size) {
            let target = &mut self.memory.regions[region];
            let range = at..at + size as usize;
            target.bytes[range.clone()].copy_from_slice(&content);
            if target.kind == Kind::Stack {
                target.written[range].fill(true);
            }
        }
    }
}
