//! Exception data and machine code.

use bpf2sys_pe_emit::Machine;
use bpf2sys_simulator::image::DirectoryKind;

use super::{RET, Row, row};
use crate::check::breaking::{LEAF, Unwind, add_entry, add_function, address, constants, directory, u32_at};
use crate::simulator_trials::shared::patch::Patched;
use crate::strict::patching::is_x64;

/// File offset of the unwind data of the function whose entry is at `index`.
fn unwind(p: &Patched, index: usize) -> usize {
    let (width, field) = if is_x64(p) { (12, 8) } else { (8, 4) };
    let rva = u32_at(p, p.raw(".pdata") + width * index + field);
    p.at(address(p, rva))
}

pub(super) const ROWS: &[Row] = &[
    row("unwind.table", |p| {
        let table = p.image().directory(DirectoryKind::Exception).unwrap();
        directory(p, DirectoryKind::Exception, table.rva.0, table.size - 1);
    }),
    row("unwind.sorted", |p| {
        let width = if is_x64(p) { 12 } else { 8 };
        let start = p.raw(".pdata");
        let first = p.bytes[start..start + width].to_vec();
        let second = p.bytes[start + width..start + 2 * width].to_vec();
        p.put(start, &second).put(start + width, &first);
    }),
    row("unwind.in-code", |p| {
        let rva = constants(p, &[0, 0, 0, 0, 1, 0, 0, 0]);
        if is_x64(p) {
            add_entry(p, &[rva, rva + 4, rva + 4]);
        } else {
            // Packed, one instruction.
            add_entry(p, &[rva, 1 << 2 | 1]);
        }
    }),
    row("unwind.data", |p| {
        let at = unwind(p, 0);
        if is_x64(p) {
            p.bytes[at] |= 3;
        } else {
            p.bytes[at + 2] |= 4;
        }
    }),
    row("unwind.matches-code", |p| {
        // push rbx; the codes say rbp
        let codes = Unwind {
            prologue: 1,
            x64: &[1, 0x50],
            // sub sp, sp, #16; the codes say 32
            arm64: [0x02, 0xE4, 0xE3, 0xE3],
        };
        add_function(p, &[0x53, 0x5B, 0xC3], &[0xD100_43FF, 0x9100_43FF, RET], codes);
    }),
    row("unwind.covers-frames", |p| {
        let table = p.image().directory(DirectoryKind::Exception).unwrap();
        let width = if is_x64(p) { 12 } else { 8 };
        directory(p, DirectoryKind::Exception, table.rva.0, table.size - width);
    }),
    row("stack.frame", |p| {
        let codes = Unwind {
            prologue: 7,
            x64: &[7, 0x01, 0x00, 0x04],
            arm64: [0xC2, 0x00, 0xE4, 0xE3],
        };
        // sub rsp, 0x2000; add rsp, 0x2000; ret
        let x64 = [0x48, 0x81, 0xEC, 0, 0x20, 0, 0, 0x48, 0x81, 0xC4, 0, 0x20, 0, 0, 0xC3];
        add_function(p, &x64, &[0xD140_0BFF, 0x9140_0BFF, RET], codes);
    }),
    // ---- machine code
    row("code.decodes", |p| {
        add_function(p, &[0x06], &[0x0200_0000], LEAF);
    }),
    row("code.branches", |p| {
        add_function(p, &[0xE9, 0, 0, 0, 0x10], &[0x1500_0000], LEAF);
    }),
    row("code.no-x87", |p| {
        // fld1; ret
        add_function(p, &[0xD9, 0xE8, 0xC3], &[RET], LEAF);
    })
    .only(Machine::X64),
    row("code.no-vector-extension", |p| {
        // vzeroupper; ret and cntb x0; ret
        add_function(p, &[0xC5, 0xF8, 0x77, 0xC3], &[0x0420_E3E0, RET], LEAF);
    }),
    row("code.no-privileged", |p| {
        // cli; ret and svc #0; ret
        add_function(p, &[0xFA, 0xC3], &[0xD400_0001, RET], LEAF);
    }),
    row("code.platform-register", |p| {
        // mov x18, x0; ret
        add_function(p, &[0xC3], &[0xAA00_03F2, RET], LEAF);
    })
    .only(Machine::Arm64),
];
