//! The elements of the tables: headers, and pointers that must not be NULL (native module contract §1.1).

use zerocopy::IntoBytes;

use super::{Module, Structure, of};
use crate::rule::{Group, Rule, Scope, Verdict, Wrong};
use crate::subject::Subject;

const SOURCE: &str = "native module contract §1.1, §4.1";
const REFUSED: &str = "the runtime refuses the module";

const fn rule(id: &'static str, title: &'static str, why: &'static str, judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::ModuleTables, Scope::Module, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.1.1.program-headers",
        "headers of programs have version 1 and size 144 or 154, all the same",
        REFUSED,
        program_headers,
    ),
    rule(
        "contract.1.1.program-stride",
        "total_size of the first program is at least its size",
        "programs lie on top of each other for all who read them",
        |s| {
            of(s, |m| {
                let table = m.user_programs.as_ref();
                if table.is_some_and(|table| table.start.is_some() && !table.misread && table.stride == 0) {
                    return Verdict::Fail("the first program that user mode finds states less than 144 bytes".into());
                }
                let first = m
                    .user_programs
                    .as_ref()
                    .and_then(|table| table.entries.first().map(|e| e.header));
                let first = first.or_else(|| m.programs.first().map(|program| program.entry.header));
                match first.map(|header| (header.size.get(), header.total_size.get())) {
                    None => Verdict::none("no program can be read"),
                    Some((size, total)) => Verdict::when(total >= size && total >= 144, format!("{total} of {size}")),
                }
            })
        },
    ),
    rule(
        "contract.1.1.map-headers",
        "headers of maps have version 1 and size 80",
        REFUSED,
        |s| headers(s, Structure::Map, 80),
    ),
    rule(
        "contract.1.1.helper-headers",
        "headers of helpers have version 1 and size 40",
        REFUSED,
        |s| headers(s, Structure::Helper, 40),
    ),
    rule(
        "contract.1.1.btf-headers",
        "headers of BTF-resolved functions have version 1, size 48 and total size 48",
        REFUSED,
        |s| {
            exact(s, Structure::BtfFunction, |header| {
                header.size.get() == 48 && header.total_size.get() == 48
            })
        },
    ),
    rule(
        "contract.1.1.values-headers",
        "headers of initial values have version 1 and size 48",
        REFUSED,
        |s| headers(s, Structure::Values, 48),
    ),
    rule(
        "contract.4.9.values-stride",
        "total_size of initial values is 48",
        "the runtime checks them with the stated distance and uses them with that of the structure",
        |s| {
            of(s, |m| {
                let lists = m
                    .headers
                    .iter()
                    .filter(|element| element.structure == Structure::Values);
                let strides: Vec<u64> = lists.map(|element| element.header.total_size.get()).collect();
                match strides.first() {
                    None => Verdict::none("there are none"),
                    Some(stride) => Verdict::when(*stride == 48, stride.to_string()),
                }
            })
        },
    ),
    rule(
        "contract.1.1.global-headers",
        "headers of global variable sections have version 1 and size 48",
        REFUSED,
        |s| headers(s, Structure::Global, 48),
    ),
    rule(
        "contract.1.1.helper-names",
        "helpers have a name, holes an empty one",
        REFUSED,
        |s| {
            of(s, |m| {
                let helpers = m
                    .programs
                    .iter()
                    .flat_map(|program| program.helpers.iter().map(move |h| (program, h)));
                let without = helpers.clone().filter(|(_, helper)| helper.name.get() == 0);
                let wrong =
                    without.map(|(program, helper)| format!("helper {} of {}", helper.id, program.name.shown()));
                judged(wrong.collect(), helpers.count())
            })
        },
    ),
    rule(
        "contract.1.1.btf-names",
        "BTF-resolved functions have a name and a module, holes an empty name and none",
        REFUSED,
        |s| {
            of(s, |m| {
                let functions = m.programs.iter().flat_map(|program| &program.btf_functions);
                let odd = functions.clone().filter(|(entry, name)| {
                    entry.name.get() == 0 || name.bytes().is_some_and(|n| n.is_empty() != (entry.module == [0; 16]))
                });
                judged(odd.map(|(_, name)| name.shown()).collect(), functions.count())
            })
        },
    ),
    rule(
        "contract.1.1.values-lists",
        "initial values have a list",
        REFUSED,
        |s| {
            of(s, |m| {
                let without = m.values.iter().filter(|list| list.entry.values.get() == 0);
                judged(without.map(|list| list.name.shown()).collect(), m.values.len())
            })
        },
    ),
    rule(
        "contract.1.1.global-data",
        "global variable sections have initial bytes",
        REFUSED,
        |s| {
            of(s, |m| {
                let without = m.globals.iter().filter(|global| global.entry.initial_data.get() == 0);
                judged(without.map(|global| global.name.shown()).collect(), m.globals.len())
            })
        },
    ),
    rule(
        "contract.1.1.padding",
        "what is between the fields of elements is zero",
        "later versions of the structures may give it a meaning",
        padding,
    ),
];

fn judged(wrong: Wrong, count: usize) -> Verdict {
    if count == 0 {
        return Verdict::none("there are none");
    }
    Verdict::of(wrong, format!("{count} elements"))
}

fn headers(s: &Subject<'_>, structure: Structure, size: u64) -> Verdict {
    exact(s, structure, move |header| header.size.get() == size)
}

fn exact(s: &Subject<'_>, structure: Structure, fits: impl Fn(&bpf2sys_simulator::tables::Header) -> bool) -> Verdict {
    of(s, |m| {
        let all: Vec<_> = m
            .headers
            .iter()
            .filter(|element| element.structure == structure)
            .collect();
        let odd = all
            .iter()
            .filter(|element| element.header.version.get() != 1 || !fits(&element.header));
        judged(
            odd.map(|element| shown(&element.what, &element.header)).collect(),
            all.len(),
        )
    })
}

fn shown(what: &str, header: &bpf2sys_simulator::tables::Header) -> String {
    let (version, size, total) = (header.version, header.size, header.total_size);
    format!("{what}: version {version}, size {size}, total size {total}")
}

fn program_headers(s: &Subject<'_>) -> Verdict {
    of(s, |m: &Module| {
        let user = m
            .user_programs
            .iter()
            .filter_map(|table| table.entries.first().map(|e| e.header));
        let theirs = m.programs.iter().map(|program| program.entry.header);
        let all: Vec<_> = theirs.chain(user).collect();
        let size = all.first().map(|header| header.size);
        let fits = |header: &bpf2sys_simulator::tables::Header| {
            header.version.get() == 1 && matches!(header.size.get(), 144 | 154) && Some(header.size) == size
        };
        let mut wrong: Vec<String> = all.iter().filter(|h| !fits(h)).map(|h| shown("a program", h)).collect();
        wrong.dedup();
        judged(wrong.into_iter().collect(), m.programs.len().max(all.len().min(1)))
    })
}

fn padding(s: &Subject<'_>) -> Verdict {
    of(s, |m| {
        let headers = m.headers.iter().filter(|element| element.header.padding != [0; 6]);
        let mut odd: Wrong = headers.map(|element| element.what.clone()).collect();
        for program in &m.programs {
            let parts = [&program.entry.padding1, &program.entry.padding2];
            if parts.into_iter().any(|bytes| bytes.as_bytes() != [0; 6]) {
                odd.add(|| format!("program {}", program.name.shown()));
            }
        }
        judged(odd, m.headers.len())
    })
}
