//! Control Flow Guard: what the load configuration claims, and whether the code keeps to it.

use std::collections::BTreeSet;

use bpf2sys_simulator::image::{Rva, Section};
use bpf2sys_simulator::load_config::{FUNCTION_TABLE_PRESENT, GUARD_CF, INSTRUMENTED, LoadConfig};

use crate::load_config;
use crate::rule::{Group, Rule, Scope, Verdict, Weight, Wrong};
use crate::subject::Subject;

const SOURCE: &str = "Microsoft, \"PE metadata\" (Control Flow Guard)";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::ControlFlowGuard, Scope::Image, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "cfg.instrumented",
        [
            "the image checks its indirect calls and has a table of valid targets",
            "Windows loads it without; its indirect calls are not checked, and calls into it from others neither",
        ],
        |s| match guarded(s) {
            Guard::Claimed(config) => Verdict::Pass(format!("guard flags {:#x}", config.guard_flags)),
            Guard::NotClaimed(why) => Verdict::Fail(why),
        },
    )
    .weighing(Weight::Advice),
    rule(
        "cfg.flags",
        [
            "an image that is marked for Control Flow Guard says so in its load configuration, too",
            "the kernel takes the mark for a promise of checks and of a table",
        ],
        flags,
    ),
    rule(
        "cfg.pointers",
        [
            "the pointers to the check and dispatch functions lie in read-only data and lead to code",
            "the loader puts its own functions there; whoever can write them redirects every call",
        ],
        |s| claimed(s, |config| pointers(s, config)),
    ),
    rule(
        "cfg.table",
        [
            "the table of targets lies in raw data",
            "the kernel reads it when it maps the image",
        ],
        |s| {
            claimed(s, |config| match config.functions(s.image) {
                Ok(list) => Verdict::Pass(format!("{} targets", list.len())),
                Err(problem) => Verdict::Fail(problem),
            })
        },
    ),
    rule(
        "cfg.table-sorted",
        [
            "the targets are ascending, each once",
            "the kernel does not load an image with another order",
        ],
        |s| {
            targets(s, |list| {
                let pairs = list.windows(2).filter(|pair| pair[0] >= pair[1]);
                pairs.map(|pair| format!("{} follows {}", pair[1], pair[0])).collect()
            })
        },
    ),
    rule(
        "cfg.targets-in-code",
        ["every target is in an executable section", "a call may lead there"],
        |s| {
            targets(s, |list| {
                list.iter()
                    .filter(|rva| !s.is_code(**rva))
                    .map(|rva| s.place(*rva))
                    .collect()
            })
        },
    ),
    rule(
        "cfg.targets-are-functions",
        [
            "no target is in the middle of a function",
            "a call may lead there, past the function's first instructions",
        ],
        |s| {
            if s.functions.is_err() {
                return Verdict::none("the function table can't be read");
            }
            targets(s, |list| {
                let inside = |rva: &&Rva| s.code.function_at(rva.0).is_some_and(|begin| begin != rva.0);
                list.iter().filter(inside).map(|rva| s.place(*rva)).collect()
            })
        },
    ),
    rule(
        "cfg.targets-aligned",
        [
            "every target is a multiple of 16",
            "for others the bitmap of valid targets lets calls to the 15 bytes around them pass",
        ],
        |s| {
            targets(s, |list| {
                list.iter()
                    .filter(|rva| !rva.0.is_multiple_of(16))
                    .map(|rva| s.place(*rva))
                    .collect()
            })
        },
    )
    .weighing(Weight::Advice),
    rule(
        "cfg.targets-complete",
        [
            "the entry point and every function whose address is in data, or which code takes, are among the targets",
            "the machine stops when such a function is called through a pointer",
        ],
        complete,
    )
    .weighing(Weight::RequiredOfModules),
    rule(
        "cfg.calls-guarded",
        [
            "indirect calls go through the import address table, the dispatch function or behind the check function",
            "the claim is not true, and a changed pointer leads anywhere",
        ],
        |s| {
            if s.imports.is_err() {
                return Verdict::none("the imports can't be read");
            }
            let guarded = format!("{} guarded calls", s.code.guarded_calls);
            claimed(s, |_| s.code.verdict(&s.code.unguarded, &guarded))
        },
    )
    // Others have code in assembler that is right without.
    .weighing(Weight::RequiredOfModules),
];

/// Whether Control Flow Guard is claimed.
enum Guard<'s> {
    Claimed(&'s LoadConfig),
    NotClaimed(String),
}

fn guarded<'s>(s: &'s Subject<'_>) -> Guard<'s> {
    match &s.load_config {
        None => Guard::NotClaimed("there is no load configuration".into()),
        Some(Err(_)) => Guard::NotClaimed("the load configuration can't be read".into()),
        Some(Ok(config)) if !config.is_instrumented() || s.image.dll_characteristics & GUARD_CF == 0 => {
            let dll = s.image.dll_characteristics;
            Guard::NotClaimed(format!(
                "guard flags {:#x}, DllCharacteristics {dll:#06x}",
                config.guard_flags
            ))
        }
        Some(Ok(config)) => Guard::Claimed(config),
    }
}

/// Judges what is claimed.
fn claimed(s: &Subject<'_>, judge: impl Fn(&LoadConfig) -> Verdict) -> Verdict {
    match guarded(s) {
        Guard::Claimed(config) => judge(config),
        Guard::NotClaimed(why) => Verdict::none(format!("Control Flow Guard is not claimed: {why}")),
    }
}

fn flags(s: &Subject<'_>) -> Verdict {
    if s.image.dll_characteristics & GUARD_CF == 0 {
        return Verdict::none("the image is not marked");
    }
    if s.load_config.is_none() {
        return Verdict::Fail("there is no load configuration".into());
    }
    load_config::of(s, |config| {
        let due = INSTRUMENTED | FUNCTION_TABLE_PRESENT;
        let table = (config.guard_table != 0) == (config.guard_count != 0);
        let text = format!(
            "{:#x}, {} targets at {:#x}",
            config.guard_flags, config.guard_count, config.guard_table
        );
        Verdict::when(config.guard_flags & due == due && table, text)
    })
}

fn pointers(s: &Subject<'_>, config: &LoadConfig) -> Verdict {
    let mut wrong = Wrong::default();
    let used = [("check", config.guard_check), ("dispatch", config.guard_dispatch)];
    for (name, address) in used.into_iter().filter(|(_, address)| *address != 0) {
        let rva = s.image.rva_of(address);
        let writable = rva
            .and_then(|rva| s.image.section_at(rva))
            .is_none_or(|section| section.has(Section::WRITE) || section.has(Section::EXECUTE));
        let target = rva.and_then(|rva| s.u64_at(rva)).unwrap_or(0);
        if writable {
            wrong.add(|| format!("the {name} pointer is at {}", s.place_of(address)));
        } else if !s.is_code_address(target) {
            wrong.add(|| format!("the {name} pointer leads to {}", s.place_of(target)));
        } else if s.relocations.is_ok() && !rva.is_some_and(|rva| s.is_relocated(rva)) {
            wrong.add(|| format!("the {name} pointer is not relocated"));
        }
    }
    if config.guard_check == 0 && config.guard_dispatch == 0 {
        return Verdict::Fail("neither is there".into());
    }
    Verdict::of(
        wrong,
        format!(
            "check at {}, dispatch at {}",
            s.place_of(config.guard_check),
            s.place_of(config.guard_dispatch)
        ),
    )
}

fn targets(s: &Subject<'_>, wrong: impl Fn(&[Rva]) -> Wrong) -> Verdict {
    claimed(s, |config| match config.functions(s.image) {
        Ok(list) => Verdict::of(wrong(&list), format!("{} targets", list.len())),
        Err(_) => Verdict::none("the table of targets can't be read"),
    })
}

fn complete(s: &Subject<'_>) -> Verdict {
    claimed(s, |config| {
        let Ok(mut list) = config.functions(s.image) else {
            return Verdict::none("the table of targets can't be read");
        };
        list.sort_unstable();
        // What stands in for the loader's own functions is not called through other pointers.
        let known = load_config::pointed_to(s, config);
        let pointers = s.pointers().filter(|(place, _)| !known.contains(place));
        let in_data = pointers.filter_map(|(_, value)| s.image.rva_of(value));
        // Such as the function that unloads the driver, whose address its entry point computes.
        let in_code = s.code.taken.iter().map(|rva| Rva(*rva));
        let due = in_data.chain(in_code).chain([s.image.entry]);
        let missing: BTreeSet<Rva> = due
            .filter(|rva| s.is_code(*rva) && list.binary_search(rva).is_err())
            .collect();
        match s.code.given_up {
            Some(why) if missing.is_empty() => Verdict::none(why),
            _ => Verdict::of(
                missing.iter().map(|rva| s.place(*rva)).collect(),
                format!("{} targets", list.len()),
            ),
        }
    })
}
