//! The load configuration.

use std::collections::BTreeSet;

use bpf2sys_simulator::image::{DirectoryKind, Rva, Section};
use bpf2sys_simulator::load_config::{LoadConfig, field};

use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::Subject;

/// Most bytes of the structure that are looked at. None has so many.
const MOST: u32 = 0x400;

/// Value of a stack cookie that the loader replaces by a random one.
const COOKIE: u64 = 0x0000_2B99_2DDF_A232;

/// RVAs of everything that the structure points to, also with fields that only later versions of it have.
pub(crate) fn pointed_to(s: &Subject<'_>, config: &LoadConfig) -> BTreeSet<Rva> {
    let bytes = s.image.file_bytes(config.rva, config.size.min(MOST) as usize);
    let fields = bytes.unwrap_or_default().as_chunks::<8>().0.iter();
    fields
        .filter_map(|field| s.image.rva_of(u64::from_le_bytes(*field)))
        .collect()
}

const fn rule(id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::LoadConfiguration, Scope::Image, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "load-config.readable",
        [
            "the load configuration lies in raw data",
            "the loader reads it before the image runs",
            "PE format, \"The Load Configuration Structure (Image Only)\"",
        ],
        |s| match &s.load_config {
            None => Verdict::none(NONE),
            Some(Err(problem)) => Verdict::Fail(problem.clone()),
            Some(Ok(config)) => Verdict::Pass(format!("{:#x} bytes at {}", config.size, config.rva)),
        },
    ),
    rule(
        "load-config.size",
        [
            "its data directory states the size that it states itself",
            "readers take either for the fields that there are",
            "PE format, \"Load Configuration Layout\"; seen in shipped drivers",
        ],
        |s| {
            of(s, |config| {
                let directory = s.image.directory(DirectoryKind::LoadConfig);
                let (directory, own) = (directory.map_or(0, |directory| directory.size), config.size);
                Verdict::when(
                    directory == own,
                    format!("the directory {directory:#x}, itself {own:#x}"),
                )
            })
        },
    ),
    rule(
        "load-config.relocated",
        [
            "its addresses have base relocations",
            "they are addresses of another image once it was moved",
            "PE format, \"Load Configuration Layout\"",
        ],
        relocated,
    ),
    rule(
        "load-config.security-cookie",
        [
            "the stack cookie is in writable data and has the value that the loader replaces",
            "a cookie with another value stays what it is in every load",
            "PE format, \"Load Configuration Layout\"",
        ],
        security_cookie,
    ),
];

const NONE: &str = "there is no load configuration";

/// Judges the load configuration, if it can be read.
pub(crate) fn of(s: &Subject<'_>, judge: impl Fn(&LoadConfig) -> Verdict) -> Verdict {
    match &s.load_config {
        None => Verdict::none(NONE),
        Some(Err(_)) => Verdict::none("the load configuration can't be read"),
        Some(Ok(config)) => judge(config),
    }
}

fn relocated(s: &Subject<'_>) -> Verdict {
    if s.relocations.is_err() {
        return Verdict::none("the relocations can't be read");
    }
    of(s, |config| {
        let fields = [
            ("SecurityCookie", config.security_cookie, field::SECURITY_COOKIE),
            ("GuardCFCheckFunctionPointer", config.guard_check, field::GUARD_CHECK),
            (
                "GuardCFDispatchFunctionPointer",
                config.guard_dispatch,
                field::GUARD_DISPATCH,
            ),
            ("GuardCFFunctionTable", config.guard_table, field::GUARD_TABLE),
        ];
        let used: Vec<_> = fields.into_iter().filter(|(_, value, _)| *value != 0).collect();
        let fixed = used
            .iter()
            .filter(|(.., offset)| !s.is_relocated(Rva(config.rva.0.saturating_add(*offset))));
        Verdict::of(
            fixed.map(|(name, ..)| (*name).to_owned()).collect(),
            format!("{} addresses", used.len()),
        )
    })
}

fn security_cookie(s: &Subject<'_>) -> Verdict {
    of(s, |config| {
        if config.security_cookie == 0 {
            return Verdict::none("there is no stack cookie");
        }
        let rva = s.image.rva_of(config.security_cookie);
        let place = s.place_of(config.security_cookie);
        let writable = rva
            .and_then(|rva| s.image.section_at(rva))
            .is_some_and(|x| x.has(Section::WRITE));
        match rva.and_then(|rva| s.u64_at(rva)) {
            Some(value) => Verdict::when(writable && value == COOKIE, format!("{value:#018x} in {place}")),
            None => Verdict::Fail(place),
        }
    })
}
