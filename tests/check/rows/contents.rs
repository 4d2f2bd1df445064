//! Maps, programs and what they use (§4.3 to §4.9).

use super::{Base, Row, on, row};
use crate::simulator_trials::shared::patch::Patched;
use crate::strict::patching::{global, initial, is_x64, long_name, redirect, string, table, target};

/// Writes a 32-bit number of a map's definition.
fn define(p: &mut Patched, map: usize, field: usize, value: u32) {
    p.put(p.map(map, 40 + field), &value.to_le_bytes());
}

const TYPE: usize = 0;
const KEY_SIZE: usize = 4;
const VALUE_SIZE: usize = 8;
const MAX_ENTRIES: usize = 12;
const INNER_MAP: usize = 16;
const PINNING: usize = 20;
const INNER_ID: usize = 28;
const HASH_OF_MAPS: u32 = 6;
const ARRAY_OF_MAPS: u32 = 7;

/// Makes the program array a map of maps, with the second map as template and as all of its values.
fn maps_of_maps(p: &mut Patched, kind: u32) {
    define(p, 0, TYPE, kind);
    define(p, 0, INNER_MAP, 1);
    let (name, values) = (p.u64(p.map(1, 72)), target(p, initial(p, 40)));
    for slot in 0..3 {
        redirect(p, values + 8 * slot, name);
    }
}

pub(super) const ROWS: &[Row] = &[
    row("contract.4.3.map-names", |p| {
        let name = string(p, &long_name(64));
        redirect(p, p.map(2, 72), name);
    }),
    row("contract.4.3.pinning", |p| define(p, 1, PINNING, 2)),
    row("contract.4.3.pin-path", |p| {
        define(p, 1, PINNING, 1);
        let name = string(p, b"a:b\0");
        redirect(p, p.map(1, 72), name);
    }),
    row("contract.4.3.pinned-once", |p| {
        define(p, 1, PINNING, 1);
        define(p, 2, PINNING, 1);
        let name = p.u64(p.map(1, 72));
        redirect(p, p.map(2, 72), name);
    }),
    row("contract.4.3.definition", |p| define(p, 1, MAX_ENTRIES, 0)),
    row("contract.4.3.inner-template", |p| {
        define(p, 1, TYPE, ARRAY_OF_MAPS);
        define(p, 1, KEY_SIZE, 4);
        define(p, 1, VALUE_SIZE, 4);
        define(p, 1, INNER_MAP, 0);
        define(p, 1, INNER_ID, 99);
    }),
    row("contract.4.4.program-names", |p| {
        let name = string(p, &[0]);
        redirect(p, p.program(0, 56), name);
    }),
    row("contract.4.4.section-names", |p| {
        let name = string(p, &long_name(64));
        redirect(p, p.program(0, 48), name);
    }),
    row("contract.4.4.hash-type-names", |p| {
        let name = string(p, &long_name(64));
        let at = p.program(0, 136);
        if p.u64(at) == 0 {
            p.pointer(at, name);
        } else {
            redirect(p, at, name);
        }
    }),
    on(Base::Single, "contract.4.4.program-type", |p| {
        p.put(target(p, p.program(0, 104)), &[0; 16]);
    }),
    on(Base::Single, "contract.4.4.program-type-known", |p| {
        p.put(target(p, p.program(0, 104)), &[0x5A; 16]);
    }),
    row("contract.4.4.map-indices", |p| {
        p.put(target(p, p.program(0, 64)), &[5]);
    }),
    row("contract.4.4.custom-maps", |p| {
        // A type of the sample extension.
        let list = target(p, p.program(0, 64));
        let map = usize::from(*p.bytes[list..list + 4].iter().step_by(2).max().unwrap());
        define(p, map, TYPE, 15);
        define(p, map, KEY_SIZE, 4);
        define(p, map, VALUE_SIZE, 4);
    }),
    row("contract.6.1.functions", |p| {
        let data = table(p, ".rdata");
        redirect(p, p.program(0, 32), data);
    }),
    row("contract.6.1.function-starts", |p| {
        let function = p.u64(p.program(0, 32));
        // Behind its first instruction.
        let length = if is_x64(p) {
            let code = &p.bytes[target(p, p.program(0, 32))..];
            iced_x86::Decoder::new(64, code, iced_x86::DecoderOptions::NONE)
                .decode()
                .len()
        } else {
            4
        };
        redirect(p, p.program(0, 32), function + length as u64);
    })
    .also(&["cfg.targets-complete"]),
    row("contract.4.5.maps", |p| {
        let name = p.u64(p.program(0, 56));
        redirect(p, global(p, 24), name);
    }),
    row("contract.4.5.arrays", |p| define(p, 4, TYPE, 1)),
    row("contract.4.5.sizes", |p| {
        p.put(global(p, 32), &[9]);
    }),
    row("contract.4.6.helpers-known", |p| {
        p.put(p.helper(0, 1, 24), &[99]);
    }),
    row("contract.4.6.helpers-once", |p| {
        p.put(p.helper(0, 1, 24), &[1]);
    }),
    on(Base::Functions, "contract.4.7.functions-known", |p| {
        p.put(p.find(".rdata", b"other_function\0"), b"O");
    }),
    row("contract.4.8.hash-length", |p| {
        p.put(p.program(0, 128), &[31]);
    }),
    row("contract.4.8.hash", |p| {
        let at = target(p, p.program(0, 120));
        p.bytes[at] ^= 1;
    }),
    row("contract.4.9.maps", |p| {
        let name = p.u64(p.program(0, 56));
        redirect(p, initial(p, 24), name);
    }),
    row("contract.4.9.map-types", |p| {
        let name = p.u64(p.map(3, 72));
        redirect(p, initial(p, 24), name);
        // There is room for three values.
        define(p, 3, MAX_ENTRIES, 3);
        define(p, 3, KEY_SIZE, 4);
    }),
    row("contract.4.9.keys", |p| {
        maps_of_maps(p, HASH_OF_MAPS);
        define(p, 0, KEY_SIZE, 8);
    }),
    row("contract.4.9.counts", |p| define(p, 0, MAX_ENTRIES, 1)),
    row("contract.4.9.programs", |p| {
        let name = p.u64(p.program(1, 48));
        redirect(p, target(p, initial(p, 40)), name);
    }),
    row("contract.4.9.inner-maps", |p| {
        maps_of_maps(p, ARRAY_OF_MAPS);
        let name = p.u64(p.program(1, 48));
        redirect(p, target(p, initial(p, 40)), name);
    }),
    row("contract.4.9.inner-shapes", |p| {
        maps_of_maps(p, ARRAY_OF_MAPS);
        let name = p.u64(p.map(4, 72));
        redirect(p, target(p, initial(p, 40)), name);
    }),
    row("contract.4.9.program-types", |p| {
        // The type of bind programs behind the GUIDs that there are, and a program without a hash.
        let section = p.section(".data");
        let (at, start) = (section.raw_size as usize - 16, section.raw_offset as usize);
        let bind = [
            0x7C, 0x51, 0x8C, 0x60, 0x52, 0x6C, 0x26, 0x4A, 0xB6, 0x77, 0xBB, 0x1C, 0x34, 0x42, 0x5A, 0xDF,
        ];
        p.put(start + at, &bind);
        p.put(p.header(".data") + 8, &section.raw_size.to_le_bytes());
        let place = p.address(".data", at as u64);
        redirect(p, p.program(1, 104), place);
        p.put(p.program(1, 128), &[0]);
    }),
];
