//! What makes a DLL that of a native module (native module contract §3).

use bpf2sys_simulator::directories::{Export, exports};

use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::{METADATA_FUNCTION, Subject};

const SOURCE: &str = "native module contract §3";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::LifeCycle, Scope::ModuleDll, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.3.export",
        [
            "the function get_metadata_table is exported by name, and is code",
            "whoever loads the DLL asks for it",
        ],
        |s| {
            of(s, |list| {
                match list.iter().find(|export| export.name == METADATA_FUNCTION) {
                    Some(export) => Verdict::when(s.is_code(export.rva), s.place(export.rva)),
                    None => Verdict::Fail("it is not exported".into()),
                }
            })
        },
    ),
    rule(
        "contract.3.only-export",
        ["nothing else is exported", "what is, others may come to rely on"],
        |s| {
            of(s, |list| {
                if !list.iter().any(|export| export.name == METADATA_FUNCTION) {
                    return Verdict::none("the function itself is not exported");
                }
                let others = list.iter().filter(|export| export.name != METADATA_FUNCTION);
                Verdict::of(others.map(|export| export.name.clone()).collect(), "no other")
            })
        },
    ),
];

fn of(s: &Subject<'_>, judge: impl Fn(&[Export]) -> Verdict) -> Verdict {
    match exports(s.image) {
        Ok(list) => judge(&list),
        Err(_) => Verdict::none("the exports can't be read"),
    }
}
