//! The tables as the runtime reads them (§1.1, §1.3, §4.1).

use bpf2sys_check::Options;
use bpf2sys_simulator::module_tables::RuntimeLevel;

use super::{Base, Row, on, row};
use crate::check::breaking::unguarded;
use crate::strict::patching::{
    HASH, INITIAL_VALUES, give, global, initial, redirect, replace_functions, return_zero, state_version, table, target,
};

fn for_runtime(level: RuntimeLevel) -> Options {
    Options {
        runtime: Some(level),
        ..Options::default()
    }
}

pub(super) const ROWS: &[Row] = &[
    row("contract.4.1.metadata-table", |p| p.pointer_away(p.metadata() + HASH)),
    row("contract.4.1.metadata-size", |p| {
        p.put(p.metadata(), &[48]);
    }),
    row("contract.4.1.functions-return", |p| {
        unguarded(p);
        let code = return_zero(p);
        replace_functions(p, &[(HASH, code)]);
    }),
    row("contract.4.1.version", |p| {
        unguarded(p);
        state_version(p, 0, 20);
    })
    .asking(|| for_runtime(RuntimeLevel::V1_6)),
    row("contract.4.1.arrays", |p| {
        unguarded(p);
        let list = table(p, "hash");
        give(p, INITIAL_VALUES, Some(list), 0);
    }),
    row("contract.1.1.readable", |p| {
        // Behind the bytes of a section, in the rest of its last page.
        let place = p.address(".data", 0xF00);
        redirect(p, global(p, 40), place);
    }),
    row("contract.0.6.relocated", |p| {
        let (at, old) = (p.program(0, 80), p.u64(p.program(0, 80)));
        p.pointer_away(at);
        redirect(p, at, old);
    }),
    row("contract.1.1.program-headers", |p| {
        p.put(p.program(1, 8), &[2]);
    }),
    on(Base::Single, "contract.1.1.program-stride", |p| {
        p.put(p.program(0, 24), &[100]);
    }),
    row("contract.1.1.map-headers", |p| {
        p.put(p.map(2, 24), &[72]);
    }),
    row("contract.1.1.helper-headers", |p| {
        p.put(p.helper(0, 1, 8), &[32]);
    }),
    on(Base::Functions, "contract.1.1.btf-headers", |p| {
        p.put(target(p, p.program(0, 144)) + 48 + 8, &[40]);
    }),
    row("contract.1.1.values-headers", |p| {
        p.put(initial(p, 8), &[40]);
    }),
    row("contract.4.9.values-stride", |p| {
        p.put(initial(p, 16), &[56]);
    }),
    row("contract.1.1.global-headers", |p| {
        p.put(global(p, 0), &[0]);
    }),
    row("contract.1.1.helper-names", |p| p.pointer_away(p.helper(0, 1, 32))),
    on(Base::Functions, "contract.1.1.btf-names", |p| {
        p.put(target(p, p.program(0, 144)) + 32, &[0; 16]);
    }),
    row("contract.1.1.values-lists", |p| p.pointer_away(initial(p, 40))),
    row("contract.1.1.global-data", |p| p.pointer_away(global(p, 40))),
    row("contract.1.1.padding", |p| {
        p.put(p.map(1, 20), &[1]);
    }),
    row("contract.1.3.program-size", |_| {}).asking(|| for_runtime(RuntimeLevel::V1_4)),
    on(Base::Runtime14, "contract.1.3.map-data", |_| {}).asking(|| for_runtime(RuntimeLevel::V0_21)),
];
