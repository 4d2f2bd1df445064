//! Load configuration, Control Flow Guard, debug directory.

use bpf2sys_pe_emit::Machine;
use bpf2sys_simulator::image::DirectoryKind;

use super::{RET, Row, row};
use crate::check::breaking::{LEAF, add_function, config, debug_entry, directory, in_data, targets, u32_at};
use crate::strict::patching::redirect;

pub(super) const ROWS: &[Row] = &[
    row("load-config.readable", |p| {
        p.put(config(p, 0), &0x1_0000u32.to_le_bytes());
    }),
    row("load-config.size", |p| {
        let rva = p.image().directory(DirectoryKind::LoadConfig).unwrap().rva.0;
        directory(p, DirectoryKind::LoadConfig, rva, 0x40);
    }),
    row("load-config.relocated", |p| {
        let at = config(p, 0x80);
        let table = p.u64(at);
        p.pointer_away(at);
        redirect(p, at, table);
    }),
    row("load-config.security-cookie", |p| {
        let cookie = p.at(p.u64(config(p, 0x58)));
        p.bytes[cookie] ^= 1;
    }),
    row("cfg.flags", |p| {
        p.put(config(p, 0x90), &0x100u32.to_le_bytes());
    }),
    row("cfg.pointers", |p| {
        let (pointer, data) = (p.at(p.u64(config(p, 0x70))), p.address(".data", 0));
        redirect(p, pointer, data);
    }),
    row("cfg.table", |p| {
        p.put(config(p, 0x88), &0x10_0000u64.to_le_bytes());
    }),
    row("cfg.table-sorted", |p| targets(p, |list, _| list.swap(0, 1))),
    row("cfg.targets-in-code", |p| targets(p, Vec::push)),
    row("cfg.targets-are-functions", |p| {
        targets(p, |list, _| list.insert(1, list[0] + 4));
    }),
    row("cfg.targets-complete", |p| {
        targets(p, |list, _| {
            list.pop();
        });
    }),
    // The function that unloads the driver is in no data.
    row("cfg.targets-complete", |p| {
        let known = in_data(p);
        targets(p, |list, _| {
            let before = list.len();
            list.retain(|rva| known.contains(rva));
            assert!(list.len() < before, "no function whose address only code takes");
        });
    }),
    // A function that gives its own address, by one instruction and on ARM64 by two, too.
    row("cfg.targets-complete", |p| {
        // lea rax, [rip - 7]; ret and adr x0, #0; ret
        let x64 = [0x48, 0x8D, 0x05, 0xF9, 0xFF, 0xFF, 0xFF, 0xC3];
        add_function(p, &x64, &[0x1000_0000, RET], LEAF);
    }),
    row("cfg.targets-complete", |p| {
        // adrp x0, #0; add x0, x0, #0; ret
        add_function(p, &[], &[0x9000_0000, 0x9100_0000, RET], LEAF);
    })
    .only(Machine::Arm64),
    row("cfg.calls-guarded", |p| {
        // call rax; ret
        add_function(p, &[0xFF, 0xD0, 0xC3], &[0xD63F_0100, RET], LEAF);
    }),
    // A function that is called with the address of an import in a register, and perhaps with others.
    row("cfg.calls-guarded", |p| {
        let slot = p.image().directory(DirectoryKind::ImportAddressTable).unwrap().rva.0;
        let here = p.image().image_size;
        // mov rbx, [rip + slot]; call below; ret; below: call rbx; ret
        let mut x64 = vec![0x48, 0x8B, 0x1D];
        x64.extend(slot.wrapping_sub(here + 7).to_le_bytes());
        x64.extend([0xE8, 1, 0, 0, 0, 0xC3, 0xFF, 0xD3, 0xC3]);
        // adrp x19, slot; ldr x19, [x19, #offset]; bl below; ret; below: blr x19; ret
        let pages = (slot >> 12).wrapping_sub(here >> 12);
        let adrp = 0x9000_0013 | (pages & 3) << 29 | (pages >> 2 & 0x7_FFFF) << 5;
        let ldr = 0xF940_0273 | ((slot & 0xFFF) / 8) << 10;
        add_function(p, &x64, &[adrp, ldr, 0x9400_0002, RET, 0xD63F_0260, RET], LEAF);
    }),
    // ---- debug directory
    row("debug.readable", |p| {
        let at = debug_entry(p, 16);
        p.put(at + 16, &16u32.to_le_bytes())
            .put(at + 24, &0x0FFF_FFF0u32.to_le_bytes());
    }),
    row("debug.places-agree", |p| {
        let at = debug_entry(p, 16);
        let rva = p.section(".rdata").rva.0;
        p.put(at + 20, &(rva + 4).to_le_bytes());
    }),
    row("debug.forward-cfi", |p| {
        let data = u32_at(p, debug_entry(p, 20) + 24) as usize;
        p.bytes[data] |= 0x40;
        // The entry point may have a landing pad; the function that the check pointer leads to does nothing.
        let stub = p.at(p.u64(p.at(p.u64(config(p, 0x70)))));
        p.put(stub, &[0xC3, 0xCC, 0xCC, 0xCC]);
    })
    .only(Machine::X64),
];
