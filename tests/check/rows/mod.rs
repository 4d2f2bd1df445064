//! The rules, each broken once.

mod code;
mod contents;
mod guard;
mod headers;
mod memory;
mod module;
mod signature;
mod tables;

use bpf2sys_check::{Options, Policy};
use bpf2sys_pe_emit::Machine;

use super::breaking::{asking, clear, debug_entry, microsoft, sign};
use crate::simulator_trials::shared::patch::Break;
use bpf2sys_check::SignatureFacts;

/// An ARM64 return.
const RET: u32 = 0xD65F_03C0;

/// A good image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// A driver with several programs, maps, initial values and global variables.
    Driver,
    /// The same module as a DLL.
    Dll,
    /// A driver with one program.
    Single,
    /// The simulator's test module that calls functions of other modules; another compiler made it.
    Functions,
    /// A driver with one program, for runtime 1.4.
    Runtime14,
}

/// A rule, and one way to break it.
pub struct Row {
    pub rule: &'static str,
    pub base: Base,
    pub break_it: Break,
    /// What is done to the file once its checksum is right.
    pub after: Option<fn(&mut [u8])>,
    /// Rules that can't be kept then, either.
    pub also: &'static [&'static str],
    /// What is asked of the image.
    pub options: fn() -> Options,
    /// The only machine that it can be shown on.
    pub only: Option<Machine>,
}

/// A row on the driver.
const fn row(rule: &'static str, break_it: Break) -> Row {
    on(Base::Driver, rule, break_it)
}

/// A row on another image.
const fn on(base: Base, rule: &'static str, break_it: Break) -> Row {
    Row {
        rule,
        base,
        break_it,
        after: None,
        also: &[],
        options: Options::default,
        only: None,
    }
}

impl Row {
    const fn also(mut self, rules: &'static [&'static str]) -> Row {
        self.also = rules;
        self
    }

    const fn asking(mut self, options: fn() -> Options) -> Row {
        self.options = options;
        self
    }

    const fn only(mut self, machine: Machine) -> Row {
        self.only = Some(machine);
        self
    }
}

/// All of them.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    let parts = [
        headers::ROWS,
        memory::ROWS,
        guard::ROWS,
        code::ROWS,
        module::ROWS,
        tables::ROWS,
        contents::ROWS,
        signature::ROWS,
    ];
    parts.into_iter().flatten()
}

/// What is recommended: the row says what was found, and no other fails.
pub const ADVICE: &[Row] = &[
    row("pe.large-address-aware", |p| {
        let at = p.optional() - 2;
        p.bytes[at] &= !0x20;
    }),
    row("pe.versions", |p| {
        p.put(p.optional() + 44, &[6, 0]);
    }),
    row("pe.high-entropy", |p| clear(p, 70, 0x20)),
    row("pe.wdm-driver", |p| clear(p, 70, 0x2000)),
    row("pe.force-integrity", |p| clear(p, 70, 0x80)),
    row("reloc.discardable", |p| {
        p.put(p.header(".reloc") + 36, &0x4000_0040u32.to_le_bytes());
    }),
    row("cfg.instrumented", |p| clear(p, 70, 0x4000)),
    row("debug.reproducible", |p| {
        p.put(debug_entry(p, 16) + 12, &[11]);
    }),
    row("debug.cet-compatible", |p| {
        p.put(debug_entry(p, 20) + 12, &[11]);
    })
    .only(Machine::X64),
    row("resource.version", |_| {}),
    row("sign.page-hashes", sign).asking(|| {
        asking(
            Policy::Hvci,
            SignatureFacts {
                page_hashes: Some(false),
                ..microsoft()
            },
        )
    }),
];

/// Rules that no image of these breaks: rule and reason.
pub const UNSHOWN: &[(&str, &str)] = &[(
    "cfg.targets-aligned",
    "a function that does not start at a multiple of 16 would have to be moved with everything behind it",
)];
