//! What memory integrity (hypervisor-protected code integrity, HVCI) needs of an image's pages.

use bpf2sys_simulator::directories::ImportName;
use bpf2sys_simulator::image::{DirectoryKind, Rva, Section};

use crate::rule::{Group, Rule, Scope, Verdict, Weight};
use crate::sections::PAGE;
use crate::subject::Subject;

const fn rule(id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::MemoryIntegrity, Scope::Image, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "hvci.writable-code",
        [
            "no section is both writable and executable",
            "no page is ever both (driver verifier, code integrity 0x2003)",
            "Microsoft, \"Implement HVCI compatible code\" and \"Code integrity checking\"",
        ],
        |s| {
            let found = s
                .image
                .sections
                .iter()
                .filter(|x| x.has(Section::WRITE | Section::EXECUTE));
            let text = |x: &Section| format!("{} is {}", x.display_name(), x.protection());
            Verdict::of(found.map(text).collect(), "none is")
        },
    ),
    rule(
        "hvci.section-alignment",
        [
            "the section alignment is a whole number of pages",
            "protection is by page (driver verifier, code integrity 0x2004)",
            "Microsoft, \"Implement HVCI compatible code\" and \"Code integrity checking\"",
        ],
        |s| {
            let alignment = s.image.section_alignment;
            Verdict::when(
                alignment.is_power_of_two() && alignment >= PAGE,
                format!("{alignment:#x}"),
            )
        },
    ),
    rule(
        "hvci.page-aligned",
        [
            "every section starts at the first byte of a page",
            "protection is by page (driver verifier, code integrity 0x2004)",
            "Microsoft, \"Implement HVCI compatible code\" and \"Code integrity checking\"",
        ],
        |s| {
            let odd = s.image.sections.iter().filter(|x| !x.rva.0.is_multiple_of(PAGE));
            let text = |x: &Section| format!("{} is at {}", x.display_name(), x.rva);
            Verdict::of(odd.map(text).collect(), format!("{} sections", s.image.sections.len()))
        },
    ),
    rule(
        "hvci.import-table-in-code",
        [
            "the import address table is not in an executable section",
            "the loader writes it (driver verifier, code integrity 0x2005)",
            "Microsoft, \"Implement HVCI compatible code\" and \"Code integrity checking\"",
        ],
        |s| {
            slots(s, |slot| {
                let section = s.image.section_at(slot)?;
                let executable = section.has(Section::EXECUTE);
                executable.then(|| format!("its slot is in {}", section.display_name()))
            })
        },
    ),
    rule(
        "hvci.import-table-directory",
        [
            "all slots are inside the data directory of the import address table",
            "the kernel takes the directory to make the table read-only after binding",
            "PE format, \"Optional Header Data Directories\"",
        ],
        |s| {
            let directory = s.image.directory(DirectoryKind::ImportAddressTable).unwrap_or_default();
            let end = u64::from(directory.rva.0) + u64::from(directory.size);
            slots(s, |slot| {
                let inside = slot >= directory.rva && u64::from(slot.0) + 8 <= end;
                (!inside).then(|| format!("its slot is at {slot}"))
            })
        },
    )
    .weighing(Weight::RequiredOfModules),
    rule(
        "hvci.relocated-code",
        [
            "no base relocation is in an executable section",
            "pages of code are then compared with a file that has other bytes",
            "Microsoft, \"Implement HVCI compatible code\"; strict reading of its rule on writable code",
        ],
        |s| {
            if s.relocations.is_err() {
                return Verdict::none("the relocations can't be read");
            }
            let in_code = s.relocated.iter().filter(|rva| s.is_code(**rva));
            let wrong = in_code.map(|rva| s.place(*rva)).collect();
            Verdict::of(wrong, format!("none of {}", s.relocated.len()))
        },
    )
    .weighing(Weight::RequiredOfModules),
];

/// Judges the slot of each import; `problem` says what is wrong with one.
fn slots(s: &Subject<'_>, problem: impl Fn(Rva) -> Option<String>) -> Verdict {
    let Ok(imports) = &s.imports else {
        return Verdict::none("the imports can't be read");
    };
    if imports.is_empty() {
        return Verdict::none("nothing is imported");
    }
    let wrong = imports.iter().filter_map(|import| {
        let name = match &import.name {
            ImportName::Name(name) => name.clone(),
            ImportName::Ordinal(ordinal) => format!("ordinal {ordinal}"),
        };
        Some(format!("{}!{name}: {}", import.module, problem(import.slot)?))
    });
    Verdict::of(wrong.collect(), format!("{} slots", imports.len()))
}
