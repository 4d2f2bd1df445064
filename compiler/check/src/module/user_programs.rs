//! Types and code sections of programs, as user mode finds them (native module contract §5.3).

use bpf2sys_simulator::image::Section;
use bpf2sys_simulator::tables::ProgramEntry;

use super::{of, read_text};
use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::Subject;

const SOURCE: &str = "native module contract §5.3";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::UserMode, Scope::Module, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.5.3.program-type-place",
        [
            "program types are GUIDs in the section called .data",
            "user mode computes their offset in that section without looking",
        ],
        |s| {
            each(s, |index, entry| {
                misplaced(s, entry.program_type.get()).map(|p| format!("program {index}: {p}"))
            })
        },
    ),
    rule(
        "contract.5.3.attach-type-place",
        [
            "attach types are GUIDs in the section called .data",
            "user mode computes their offset in that section without looking, also of NULL",
        ],
        |s| {
            each(s, |index, entry| {
                misplaced(s, entry.attach_type.get()).map(|p| format!("program {index}: {p}"))
            })
        },
    ),
    rule(
        "contract.5.3.code-section",
        [
            "each program has a section marked as code with its code section name",
            "user mode counts only programs with such a section, and loading fails when it has fewer than the runtime",
        ],
        |s| {
            each(s, |index, entry| {
                let name = read_text(s, entry.pe_section_name.get());
                let bytes = name.bytes()?;
                let found = code_sections(s, bytes).next().is_some();
                (!found).then(|| format!("program {index} has no code section called {}", name.shown()))
            })
        },
    ),
    rule(
        "contract.5.3.code-section-once",
        ["and only one", "user mode counts the program once for each"],
        |s| {
            each(s, |index, entry| {
                let name = read_text(s, entry.pe_section_name.get());
                let count = code_sections(s, name.bytes()?).count();
                (count > 1).then(|| format!("program {index} has {count} called {}", name.shown()))
            })
        },
    ),
    rule(
        "contract.5.3.code-section-data",
        [
            "raw data of code sections of programs reaches VirtualSize",
            "user mode copies that many bytes",
        ],
        |s| {
            each(s, |index, entry| {
                let name = read_text(s, entry.pe_section_name.get());
                let short = code_sections(s, name.bytes()?).find(|section| section.raw_size < section.virtual_size)?;
                let (raw, size) = (short.raw_size, short.virtual_size);
                Some(format!(
                    "{} of program {index} has {raw:#x} bytes of {size:#x}",
                    short.display_name()
                ))
            })
        },
    ),
];

fn code_sections<'s>(s: &'s Subject<'_>, name: &[u8]) -> impl Iterator<Item = &'s Section> {
    let name = name.to_vec();
    s.image
        .sections
        .iter()
        .filter(move |section| section.has(Section::CODE) && section.name == name)
}

/// Judges each program that user mode reads.
fn each(s: &Subject<'_>, problem: impl Fn(usize, &ProgramEntry) -> Option<String>) -> Verdict {
    of(s, |m| {
        let Some(table) = m.user_programs.as_ref().filter(|table| !table.entries.is_empty()) else {
            return Verdict::none("user mode reads no program");
        };
        let count = m.known().map_or(usize::MAX, |known| known.programs.count as usize);
        let entries = table.entries.iter().take(count).enumerate();
        let wrong = entries.filter_map(|(index, entry)| problem(index, entry)).collect();
        Verdict::of(wrong, format!("{} programs", table.entries.len().min(count)))
    })
}

/// What is wrong with the place of a GUID.
fn misplaced(s: &Subject<'_>, address: u64) -> Option<String> {
    let data = s.image.sections.iter().find(|section| section.name == b".data");
    let offset = data.and_then(|data| s.image.rva_of(address)?.0.checked_sub(data.rva.0));
    let inside = data
        .zip(offset)
        .is_some_and(|(data, offset)| u64::from(offset) + 16 <= u64::from(data.raw_size));
    (!inside).then(|| format!("at {}", s.place_of(address)))
}
