//! The file as user mode reads it (§5.2 to §5.4), and what makes a driver that of a module (§2.2).

use super::{Row, row};
use crate::check::breaking::{address, constants, move_debug_data, unguarded};
use crate::simulator_trials::shared::patch::Patched;
use crate::strict::patching::{
    CODE, GLOBAL_SECTIONS, MAPS, PROGRAMS, add_section, give, give_all, initial, move_to_end, redirect, return_zero,
    shift_table, string, table, target,
};

/// What the pointer at a place leads to, in a section of its own.
fn elsewhere(p: &mut Patched, at: usize, bytes: usize) {
    let start = target(p, at);
    let copy = p.bytes[start..start + bytes].to_vec();
    let rva = constants(p, &copy);
    let place = address(p, rva);
    redirect(p, at, place);
}

/// Sets `VirtualSize`.
fn virtual_size(p: &mut Patched, section: &str, size: u32) {
    p.put(p.header(section) + 8, &size.to_le_bytes());
}

pub(super) const ROWS: &[Row] = &[
    row("contract.5.2.maps-in-file", |p| virtual_size(p, "maps", 0x208)),
    row("contract.5.2.maps-found", |p| {
        shift_table(p, *b"maps\0\0\0\0", &[1; 4]);
    }),
    row("contract.5.2.maps-size", |p| virtual_size(p, "maps", 408)),
    row("contract.5.2.map-markers", |p| {
        p.put(p.map(2, 8), &[1]);
    }),
    row("contract.5.2.rdata-before-maps", |p| {
        let before = p.section(".rdata").raw_offset;
        move_to_end(p, ".rdata");
        let distance = p.section(".rdata").raw_offset - before;
        move_debug_data(p, distance);
    }),
    row("contract.5.2.map-names", |p| {
        let at = p.map(1, 72);
        elsewhere(p, at, 32);
    }),
    row("contract.5.2.programs-in-file", |p| {
        virtual_size(p, "programs", 0x408);
    }),
    row("contract.5.2.programs-found", |p| {
        // The search goes on behind the marker.
        p.put(p.program(0, 0), &[1]);
    }),
    row("contract.5.2.programs-size", |p| virtual_size(p, "programs", 656)),
    row("contract.5.2.program-markers", |p| {
        p.put(p.program(2, 0), &[1]);
    }),
    row("contract.5.2.program-texts", |p| {
        let at = p.program(1, 48);
        elsewhere(p, at, 32);
    }),
    row("contract.5.3.program-type-place", |p| {
        let at = p.program(1, 104);
        elsewhere(p, at, 16);
    }),
    row("contract.5.3.attach-type-place", |p| p.pointer_away(p.program(1, 112))),
    row("contract.5.3.code-section", |p| {
        p.put(p.header("xdp") + 36, &0x6000_0000u32.to_le_bytes());
    }),
    row("contract.5.3.code-section-once", |p| {
        let code = return_zero(p);
        add_section(p, *b"xdp\0\0\0\0\0", CODE, &code);
    }),
    row("contract.5.3.code-section-data", |p| {
        let raw = p.section("xdp").raw_size;
        virtual_size(p, "xdp", raw + 1);
    }),
    row("contract.5.4.programs-sorted", |p| {
        let (a, b) = (p.program(0, 56), p.program(1, 56));
        let (first, second) = (p.u64(a), p.u64(b));
        redirect(p, a, second);
        redirect(p, b, first);
    }),
    row("contract.5.4.program-names", |p| {
        let name = p.u64(p.program(2, 56));
        redirect(p, p.program(3, 56), name);
        let values = target(p, initial(p, 40));
        for slot in 0..3 {
            redirect(p, values + 8 * slot, name);
        }
    }),
    row("contract.5.4.program-count", |p| {
        unguarded(p);
        let list = table(p, "programs");
        let stage = p.u64(p.program(1, 56));
        let values = target(p, initial(p, 40));
        for slot in 0..3 {
            redirect(p, values + 8 * slot, stage);
        }
        give(p, PROGRAMS, Some(list), 3);
    }),
    row("contract.5.4.map-count", |p| {
        unguarded(p);
        let list = table(p, "maps");
        for program in [1, 2] {
            let count = p.bytes[p.program(program, 72)];
            p.put(p.program(program, 72), &[count - 1]);
        }
        give_all(p, &[(MAPS, Some(list), 4), (GLOBAL_SECTIONS, None, 0)]);
    }),
    row("contract.5.4.same-programs", |p| {
        // User mode reads a copy, in which the last name is another.
        let other = string(p, b"zzz\0");
        shift_table(p, *b"programs", &[]);
        redirect(p, p.program(3, 56), other);
    }),
    row("contract.5.4.same-maps", |p| {
        let other = string(p, b"zzz\0");
        shift_table(p, *b"maps\0\0\0\0", &[]);
        redirect(p, p.map(1, 72), other);
    }),
    // ---- §2.2
    row("contract.2.2.npi", |p| {
        let id = p.at(p.u64(p.characteristics() + 40));
        p.bytes[id] ^= 1;
    }),
    row("contract.2.2.characteristics", |p| {
        p.put(p.characteristics() + 34, &[48]);
    }),
    row("contract.2.2.callbacks", |p| {
        let data = table(p, ".rdata");
        redirect(p, p.characteristics() + 16, data);
    }),
    row("contract.2.2.module-id", |p| {
        let id = p.at(p.u64(p.characteristics() + 48));
        p.put(id, &[20]);
    }),
    row("contract.2.2.query-table", |p| {
        p.put(p.query_row(1) + 8, &[0]);
    }),
];
