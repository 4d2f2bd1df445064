//! Inputs: those of tests changed in some places, and random ones.

use std::sync::Arc;

use bpf2sys_platform::{Context, DataFormat};

use super::context::Fields;
use super::headers;
use super::random::Random;

/// Bytes of the longest packet that is made.
const MOST: usize = 4096;
/// Values of a byte that programs compare with, or overflow at.
const BYTES: [u8; 10] = [0, 1, 2, 0x0f, 0x10, 0x7f, 0x80, 0xf0, 0xfe, 0xff];
/// The same of 16 bits.
const WORDS: [u16; 12] = [0, 1, 7, 8, 19, 20, 53, 0x7fff, 0x8000, 0xff00, 0xfffe, 0xffff];
/// The same of 32 bits.
const LONGS: [u32; 8] = [0, 1, 0xff, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
/// Characters that separate words, and some that do not.
const UNITS: [u16; 10] = [0x20, 0x22, 0x5c, 0x2d, 0x2f, 0x09, 0x61, 0x5a, 0, 0xffff];

/// What a program is run on.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FuzzInput {
    /// Bytes between the data pointers.
    pub packet: Vec<u8>,
    /// The context.
    pub context: Vec<u8>,
}

/// Makes inputs, one after another. The same seed makes the same ones.
#[derive(Clone)]
pub(super) struct Generator {
    random: Random,
    seeds: Arc<Vec<FuzzInput>>,
    words: Arc<Vec<Vec<u8>>>,
    fields: Arc<Fields>,
    has_data: bool,
    is_text: bool,
}

impl Generator {
    /// One that starts from these inputs, and knows these words: keys of maps.
    pub fn new(
        random: Random,
        context: Option<&Context>,
        seeds: Arc<Vec<FuzzInput>>,
        words: Arc<Vec<Vec<u8>>>,
    ) -> Generator {
        Generator {
            random,
            seeds,
            words,
            fields: Arc::new(Fields::of(context)),
            has_data: context.is_some_and(|context| context.data >= 0),
            is_text: context.is_some_and(|context| context.data_format == Some(DataFormat::Utf16)),
        }
    }

    /// The next input.
    pub fn next(&mut self) -> FuzzInput {
        let from = self.random.below(self.seeds.len());
        let mut input = match self.seeds.get(from) {
            Some(seed) if self.random.percent(90) => seed.clone(),
            _ => self.random_input(),
        };
        if self.has_data {
            for _ in 0..=self.random.below(4) {
                self.change(&mut input.packet);
            }
            input.packet.truncate(MOST);
        }
        let changes = if self.has_data {
            self.random.below(3)
        } else {
            1 + self.random.below(4)
        };
        for _ in 0..changes {
            self.fields.change(&mut input.context, &mut self.random);
        }
        input
    }

    fn random_input(&mut self) -> FuzzInput {
        let packet = match self.random.below(4) {
            _ if !self.has_data => Vec::new(),
            0 | 1 if !self.is_text => headers::frame(&mut self.random),
            0 => self.random.bytes(0),
            1 => {
                let count = self.random.below(300);
                self.random.bytes(count)
            }
            _ => {
                let count = self.random.below(70);
                self.random.bytes(count)
            }
        };
        FuzzInput {
            packet,
            context: vec![0; self.fields.size],
        }
    }

    /// Changes a packet in one place.
    fn change(&mut self, packet: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = random.below(packet.len());
        match random.below(14) {
            0 => flip(packet, at, random),
            1 => put(packet, at, &[random.pick(&BYTES).unwrap_or_default()]),
            2 => {
                let word = number(packet.len(), at, random);
                put(packet, at, &word.to_be_bytes());
            }
            3 => {
                let long = random.pick(&LONGS).unwrap_or_default();
                put(packet, at, &long.to_be_bytes());
            }
            4 => packet.truncate(at),
            5 => {
                let cut = random.below(9);
                packet.truncate(packet.len().saturating_sub(cut));
            }
            6 => {
                let count = 1 + random.below(64);
                let more = if random.percent(50) {
                    vec![0; count]
                } else {
                    random.bytes(count)
                };
                packet.extend(more);
            }
            7 => {
                let count = 1 + random.below(8);
                let more = random.bytes(count);
                packet.splice(at..at, more);
            }
            8 => {
                let end = packet.len().min(at + 1 + random.below(8));
                packet.drain(at..end);
            }
            9 => {
                let other = random.below(self.seeds.len());
                if let Some(other) = self.seeds.get(other) {
                    let from = random.below(other.packet.len() + 1);
                    packet.truncate(at);
                    packet.extend(&other.packet[from..]);
                }
            }
            10 => {
                let word = random.below(self.words.len());
                if let Some(word) = self.words.get(word) {
                    put(packet, at, word);
                }
            }
            _ if self.is_text => {
                let unit = random.pick(&UNITS).unwrap_or_default().to_le_bytes();
                let at = at & !1;
                if random.percent(50) {
                    put(packet, at, &unit);
                } else {
                    packet.splice(at..at, unit);
                }
            }
            _ => headers::change(packet, random),
        }
    }
}

fn flip(packet: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = packet.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

/// Overwrites as much as there is.
pub(super) fn put(packet: &mut [u8], at: usize, bytes: &[u8]) {
    for (place, byte) in packet.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}

/// A number of 16 bits that means something: a length of the packet or its rest, or one at a limit.
pub(super) fn number(length: usize, at: usize, random: &mut Random) -> u16 {
    let word = match random.below(4) {
        0 => length,
        1 => length.saturating_sub(at),
        2 => return random.next() as u16,
        _ => return random.pick(&WORDS).unwrap_or_default(),
    };
    let word = word as u16;
    match random.below(4) {
        0 => word.wrapping_add(1),
        1 => word.wrapping_sub(1),
        _ => word,
    }
}
