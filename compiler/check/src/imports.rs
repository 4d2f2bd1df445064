//! What the image imports.

use std::collections::BTreeSet;

use bpf2sys_simulator::directories::{Import, ImportName, is_known_import};

use crate::rule::{Group, Rule, Scope, Verdict, Wrong};
use crate::subject::Subject;

/// What every driver of a native module calls (native module contract §2.1).
const NEEDED: [(&str, &str); 5] = [
    ("ntoskrnl.exe", "RtlQueryRegistryValues"),
    ("netio.sys", "NmrRegisterClient"),
    ("netio.sys", "NmrDeregisterClient"),
    ("netio.sys", "NmrWaitForClientDeregisterComplete"),
    ("netio.sys", "NmrClientAttachProvider"),
];

const fn rule(scope: Scope, id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::Imports, scope, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        Scope::Image,
        "import.tables",
        [
            "the import tables are well formed and end with an empty descriptor",
            "Windows does not load the image, and pe-parse refuses the whole file",
            "PE format, \"The .idata Section\"; native module contract §5.1",
        ],
        |s| match &s.imports {
            Ok(list) if list.is_empty() => Verdict::none("nothing is imported"),
            Ok(list) => Verdict::Pass(format!("{} imports", list.len())),
            Err(problem) => Verdict::Fail(problem.clone()),
        },
    ),
    rule(
        Scope::Module,
        "import.by-name",
        [
            "everything is imported by name",
            "ordinals of the kernel's exports differ from version to version",
            "native module contract §2.1",
        ],
        |s| {
            let wrong = s.imports.iter().flatten().filter_map(|import| match import.name {
                ImportName::Name(_) => None,
                ImportName::Ordinal(ordinal) => Some(format!("{} ordinal {ordinal}", import.module)),
            });
            read(s, wrong.collect(), "by name")
        },
    ),
    rule(
        Scope::ModuleDriver,
        "import.known",
        [
            "only functions that Windows offers to a native module are imported",
            "the driver does not load where one of them is missing",
            "native module contract §2.1",
        ],
        |s| {
            let wrong = named(s).filter(|(module, name)| !is_known_import(module, name));
            read(
                s,
                wrong.map(|(module, name)| format!("{module}!{name}")).collect(),
                "known",
            )
        },
    ),
    rule(
        Scope::ModuleDriver,
        "import.needed",
        [
            "the functions are imported by which a module registers, attaches and unloads",
            "without one of them the life cycle of a module cannot be what the runtime expects",
            "native module contract §2.1, §2.3",
        ],
        |s| {
            let have: BTreeSet<(String, &str)> = named(s).map(|(m, n)| (m.to_ascii_lowercase(), n)).collect();
            let missing = NEEDED
                .iter()
                .filter(|(module, name)| !have.contains(&((*module).to_owned(), *name)));
            let missing: Wrong = missing.map(|(module, name)| format!("no {module}!{name}")).collect();
            match &s.imports {
                Ok(_) => Verdict::of(missing, "all five"),
                Err(_) => Verdict::none("the imports can't be read"),
            }
        },
    ),
];

fn named<'s>(s: &'s Subject<'_>) -> impl Iterator<Item = (&'s str, &'s str)> {
    s.imports
        .iter()
        .flatten()
        .filter_map(|import: &Import| match &import.name {
            ImportName::Name(name) => Some((import.module.as_str(), name.as_str())),
            ImportName::Ordinal(_) => None,
        })
}

fn read(s: &Subject<'_>, wrong: Wrong, what: &str) -> Verdict {
    match &s.imports {
        Ok(list) if list.is_empty() => Verdict::none("nothing is imported"),
        Ok(list) => Verdict::of(wrong, format!("{} imports, all {what}", list.len())),
        Err(_) => Verdict::none("the imports can't be read"),
    }
}
