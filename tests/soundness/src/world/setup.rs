//! What a run finds when it begins: contents, sizes, addresses.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{FunctionIndex, GlobalIndex, InsnIndex, MapIndex, MapOrigin, Module, Reg};
use bpf2sys_isa_tests::Random;
use bpf2sys_platform::{Context, MapValueKind, Platform, ProgramType};
use bpf2sys_simulator::interpreter::{STACK_BYTES, STACK_FILL};
use bpf2sys_verifier::VerifiedModule;

use super::memory::{Kind, Memory, Region};
use super::{Checked, chains};
use crate::facts::FactJudge;
use crate::regions::Regions;

/// What differs between the runs of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// Seed of contents, sizes, and what helpers give.
    pub contents: u64,
    /// Seed of the addresses.
    pub addresses: u64,
}

/// How far a packet that is moved goes at least: more than any has.
const PACKET_STEP: u64 = 1 << 20;

/// Values of each map that lookups can find.
const VALUES: usize = 2;

/// Bytes of each of the context's pointers to the packet: as many as there are between two of them, and at most 8. Linux has
/// fields of four bytes for them.
pub(super) fn pointer_bytes(context: &Context) -> usize {
    let fields = [context.data, context.data_end, context.data_meta];
    let apart = |one: &i32, other: &i32| (*one >= 0 && *other >= 0 && one != other).then(|| one.abs_diff(*other));
    let distances = fields
        .iter()
        .flat_map(|one| fields.iter().filter_map(move |other| apart(one, other)));
    distances.min().map_or(8, |distance| distance.min(8) as usize)
}

/// Hands out addresses: each region has 4 GiB of its own, and starts somewhere in it.
struct Addresses {
    random: Random,
    next: u64,
}

impl Addresses {
    fn new(seed: u64) -> Addresses {
        let mut random = Random::of(seed, 0xADD);
        // As a kernel has them, or as an application has them.
        let top = random.one_of(&[0xFFFF_8000_0000_0000, 0x0000_0100_0000_0000]);
        let next = top + ((random.next() & 0xFFF) << 32);
        Addresses { random, next }
    }

    /// The same for a packet, which has to lie where pointers of this size reach.
    fn take_for_packet(&mut self, skew: u64, pointer_bytes: usize) -> u64 {
        if pointer_bytes == 8 {
            return self.take(skew);
        }
        // In the lower half of what four bytes reach, so that there is room to move it.
        0x2000_0000 + (self.random.next() & 0x3FFF_FFF0) + skew
    }

    /// An address that is `skew` past a multiple of 16.
    fn take(&mut self, skew: u64) -> u64 {
        let start = self.next + (self.random.next() & 0x7FFF_FFF0) + 0x10_0000 + skew;
        self.next += (1 + (self.random.next() & 3)) << 32;
        start
    }
}

impl<'a> Checked<'a> {
    /// The world of one run. `hints` are numbers that the program knows: sizes and contents are often near them.
    pub fn new(
        module: &'a Module,
        program: FunctionIndex,
        platform: &'a Platform,
        program_type: &'a ProgramType,
        proof: Option<&'a VerifiedModule>,
        hints: &'a [i64],
        input: Input,
    ) -> Checked<'a> {
        let mut addresses = Addresses::new(input.addresses);
        let mut random = Random::of(input.contents, 0xC0);
        let (mut memory, mut regions) = (Memory::default(), Regions::default());
        let pointer_bytes = pointer_bytes(&program_type.context);
        let mut add = |memory: &mut Memory, kind, bytes: Vec<u8>, skew| {
            let start = if kind == Kind::Packet {
                addresses.take_for_packet(skew, pointer_bytes)
            } else {
                addresses.take(skew)
            };
            let region = Region {
                kind,
                start,
                written: if kind == Kind::Stack {
                    vec![false; bytes.len()]
                } else {
                    Vec::new()
                },
                bytes,
                read_only: false,
            };
            let range = start..region.end();
            memory.regions.push(region);
            range
        };

        regions.stack_end = add(&mut memory, Kind::Stack, vec![STACK_FILL; STACK_BYTES as usize], 0).end;
        let layout = &program_type.context;
        let size = usize::try_from(layout.size).unwrap_or(0);
        let content = bytes(&mut random, size, hints);
        regions.context = add(&mut memory, Kind::Context, content, 0);

        let meta = if layout.data_meta >= 0 && !layout.data_meta_null {
            random.one_of(&[0, 0, 4, 8, 32])
        } else {
            0
        };
        let length = packet_size(&mut random, hints);
        let skew = random.one_of(&[0, 0, 0, 2, 14, 1]);
        let content = bytes(&mut random, meta + length, hints);
        let whole = add(&mut memory, Kind::Packet, content, skew);
        regions.meta = whole.start;
        regions.packet = whole.start + meta as u64..whole.end;

        for (i, section) in module.globals.iter().enumerate() {
            let index = GlobalIndex(i as u32);
            let content = if section.read_only {
                section.data.clone()
            } else {
                bytes(&mut random, section.data.len(), hints)
            };
            let range = add(&mut memory, Kind::Global(index), content, 0);
            if let Some(region) = memory.regions.last_mut() {
                region.read_only = section.read_only;
            }
            regions.globals.push((index, range));
        }
        for (i, map) in module.maps.iter().enumerate() {
            let index = MapIndex(i as u32);
            let plain = platform
                .map_type(map.definition.map_type)
                .is_none_or(|t| t.verifier_value_kind == MapValueKind::Any);
            if !plain || matches!(map.origin, MapOrigin::Global(_)) {
                continue;
            }
            for _ in 0..VALUES {
                let content = bytes(&mut random, map.definition.value_size as usize, hints);
                let range = add(&mut memory, Kind::Value(index), content, 0);
                regions.values.push((index, range));
            }
        }
        // One object for each map of the module, and for each template one that a lookup finds.
        let mut objects = Vec::new();
        for _ in 0..2 {
            for i in 0..module.maps.len() {
                let address = addresses.take(0);
                regions.maps.push(address);
                objects.push((address, MapIndex(i as u32)));
            }
        }
        let mut world = Checked {
            module,
            platform,
            program_type,
            facts: proof.map(FactJudge::new),
            running: (FunctionIndex(0), InsnIndex(0)),
            memory,
            regions,
            objects,
            random,
            hints,
            registers: [None; Reg::COUNT],
            frames: 0,
            visits: module.functions.iter().map(|f| vec![0; f.instructions.len()]).collect(),
            chains: chains(module, program),
            violation: None,
            seen: BTreeSet::new(),
            next_packet: addresses.take_for_packet(0, pointer_bytes) + PACKET_STEP,
            skew,
            told: 0,
        };
        world.point_context();
        world
    }

    /// Puts the addresses of the packet into the context.
    pub(super) fn point_context(&mut self) {
        let layout = &self.program_type.context;
        let meta = if layout.data_meta_null { 0 } else { self.regions.meta };
        let fields = [
            (layout.data, self.regions.packet.start),
            (layout.data_end, self.regions.packet.end),
            (layout.data_meta, meta),
        ];
        if let Some(context) = self.memory.regions.iter_mut().find(|r| r.kind == Kind::Context) {
            for (offset, address) in fields {
                if let Ok(offset) = usize::try_from(offset) {
                    let size = pointer_bytes(layout);
                    context.bytes[offset..offset + size].copy_from_slice(&address.to_le_bytes()[..size]);
                }
            }
        }
    }

    /// Another packet in another place, as after a helper that reallocates it. What was there is gone.
    pub(super) fn move_packet(&mut self) {
        let length = packet_size(&mut self.random, self.hints);
        let meta = (self.regions.packet.start - self.regions.meta) as usize;
        let content = bytes(&mut self.random, meta + length, self.hints);
        let start = self.next_packet + self.skew;
        self.next_packet += PACKET_STEP;
        if let Some(packet) = self.memory.regions.iter_mut().find(|r| r.kind == Kind::Packet) {
            packet.start = start;
            packet.bytes = content;
        }
        self.regions.meta = start;
        self.regions.packet = start + meta as u64..start + (meta + length) as u64;
        self.point_context();
    }
}

/// A number near one that the program knows, more often than not.
pub(super) fn number(random: &mut Random, hints: &[i64]) -> u64 {
    if hints.is_empty() || random.chance(1, 3) {
        return random.number();
    }
    let near = random.one_of(hints).wrapping_add(i64::from(random.between(-2, 2)));
    near.cast_unsigned()
}

/// Random bytes, with numbers in them that matter to the program.
pub(super) fn bytes(random: &mut Random, length: usize, hints: &[i64]) -> Vec<u8> {
    let mut all = Vec::with_capacity(length + 8);
    while all.len() < length {
        let word = number(random, hints);
        let width = random.one_of(&[8, 8, 4, 2, 1]);
        all.extend(&word.to_le_bytes()[..width]);
    }
    all.truncate(length);
    all
}

/// Sizes at which the program behaves differently are likely.
fn packet_size(random: &mut Random, hints: &[i64]) -> usize {
    let most = 0xFFFE;
    match random.below(8) {
        0 => 0,
        1 => random.below(64),
        2 => random.one_of(&[1, 14, 64, 1514]),
        _ => {
            let small: Vec<i64> = hints.iter().copied().filter(|h| (0..2000).contains(h)).collect();
            if small.is_empty() {
                return random.below(80);
            }
            let mut size = random.one_of(&small);
            if random.chance(1, 3) {
                size += random.one_of(&small);
            }
            (size + i64::from(random.between(-2, 2))).clamp(0, most) as usize
        }
    }
}
