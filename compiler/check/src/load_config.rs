//! The load configuration.

use std::collections::BTreeSet;

use bpf2sys_simulator::image::{DirectoryKind, Image, Rva, Section};

use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::Subject;

/// The fields of `IMAGE_LOAD_CONFIG_DIRECTORY64` that rules ask for; 0 of those that the structure does not reach to.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadConfig {
    /// Where it is.
    pub(crate) rva: Rva,
    /// Bytes that the data directory states.
    pub(crate) directory_size: u32,
    /// Bytes that it states of itself.
    pub(crate) size: u32,
    /// Address of the stack cookie.
    pub(crate) security_cookie: u64,
    /// Address of the pointer to the function that checks a target.
    pub(crate) check: u64,
    /// Address of the pointer to the function that checks a target and jumps to it.
    pub(crate) dispatch: u64,
    /// Address of the table of valid targets.
    pub(crate) table: u64,
    /// Entries of that table.
    pub(crate) count: u64,
    /// `IMAGE_GUARD_*`.
    pub(crate) flags: u32,
    /// RVAs of everything that it points to: of the pointers above, and those of later versions of the structure.
    pub(crate) pointed_to: BTreeSet<Rva>,
}

/// Most bytes of the structure that are looked at. None has so many.
const MOST: u32 = 0x400;

/// Offsets of the fields.
pub(crate) mod field {
    pub(crate) const SECURITY_COOKIE: u32 = 0x58;
    pub(crate) const CHECK: u32 = 0x70;
    pub(crate) const DISPATCH: u32 = 0x78;
    pub(crate) const TABLE: u32 = 0x80;
    pub(crate) const COUNT: u32 = 0x88;
    pub(crate) const FLAGS: u32 = 0x90;
}

/// Value of a stack cookie that the loader replaces by a random one.
const COOKIE: u64 = 0x0000_2B99_2DDF_A232;

impl LoadConfig {
    /// Reads it; `None` if the image has none.
    pub(crate) fn read(image: &Image<'_>) -> Option<Result<LoadConfig, String>> {
        let directory = image.directory(DirectoryKind::LoadConfig)?;
        let bytes = |offset: u32, length: usize| {
            let rva = Rva(directory.rva.0.checked_add(offset)?);
            image.file_bytes(rva, length)
        };
        let Some(size) = bytes(0, 4).and_then(|b| Some(u32::from_le_bytes(b.try_into().ok()?))) else {
            return Some(Err(format!("at {}, which is not in raw data", directory.rva)));
        };
        if bytes(0, size as usize).is_none() {
            return Some(Err(format!(
                "{size:#x} bytes at {} are not all in raw data",
                directory.rva
            )));
        }
        let number = |offset: u32, width: u32| {
            let reached = size >= offset + width;
            let bytes = bytes(offset, width as usize).filter(|_| reached).unwrap_or_default();
            bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        Some(Ok(LoadConfig {
            rva: directory.rva,
            directory_size: directory.size,
            size,
            security_cookie: number(field::SECURITY_COOKIE, 8),
            check: number(field::CHECK, 8),
            dispatch: number(field::DISPATCH, 8),
            table: number(field::TABLE, 8),
            count: number(field::COUNT, 8),
            flags: number(field::FLAGS, 4) as u32,
            pointed_to: (0..MOST)
                .step_by(8)
                .filter_map(|offset| image.rva_of(number(offset, 8)))
                .collect(),
        }))
    }
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
                let (directory, own) = (config.directory_size, config.size);
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
            ("GuardCFCheckFunctionPointer", config.check, field::CHECK),
            ("GuardCFDispatchFunctionPointer", config.dispatch, field::DISPATCH),
            ("GuardCFFunctionTable", config.table, field::TABLE),
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
