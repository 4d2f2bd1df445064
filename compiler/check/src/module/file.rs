//! The file as user mode's reader (pe-parse) takes it (native module contract §5.1).

use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::Subject;

const fn rule(scope: Scope, id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::UserMode, scope, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        Scope::Module,
        "contract.5.1.optional-header",
        [
            "the optional header has 240 bytes with 16 data directories",
            "pe-parse looks for the section table behind so many bytes, whatever the header says",
            "native module contract §5.1",
        ],
        |s| {
            let size = s.image.optional_header_size;
            Verdict::when(size == 0xF0, format!("{size:#x} bytes"))
        },
    ),
    rule(
        Scope::Module,
        "contract.5.1.symbol-table",
        [
            "there is no COFF symbol table",
            "pe-parse reads it, and refuses the file if it does not like it",
            "native module contract §5.1",
        ],
        |s| Verdict::when(s.image.symbol_table == 0, format!("{:#x}", s.image.symbol_table)),
    ),
    rule(
        Scope::Module,
        "contract.5.2.sections-once",
        [
            "there is at most one section of each name: maps, programs, .rdata, .data",
            "user mode takes the last one for all of them",
            "native module contract §5.2",
        ],
        |s| {
            let names = ["maps", "programs", ".rdata", ".data"];
            let count = |name: &str| s.image.sections.iter().filter(|x| x.name == name.as_bytes()).count();
            let twice = names.into_iter().filter(|name| count(name) > 1).map(str::to_owned);
            Verdict::of(twice.collect(), "each once at most")
        },
    ),
];
