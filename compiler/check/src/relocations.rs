//! Base relocations.

use bpf2sys_simulator::directories::BaseRelocation;
use bpf2sys_simulator::image::{DirectoryKind, Rva, Section};

use crate::rule::{Group, Rule, Scope, Verdict, Weight, Wrong};
use crate::subject::Subject;

const fn rule(id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::Relocations, Scope::Image, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "reloc.table",
        [
            "the blocks are well formed and fill the directory, without an empty one at the end",
            "Windows refuses the image, and pe-parse refuses the whole file",
            "PE format, \"The .reloc Section\"; native module contract §5.1",
        ],
        |s| match &s.relocations {
            Ok(_) if s.image.directory(DirectoryKind::BaseRelocation).is_none() => Verdict::none("there are none"),
            Ok(list) => Verdict::Pass(format!("{} relocations", list.len())),
            Err(problem) => Verdict::Fail(problem.clone()),
        },
    ),
    rule(
        "reloc.kind",
        [
            "all relocations are of 64-bit addresses (DIR64)",
            "nothing else needs relocating in position-independent 64-bit code",
            "PE format, \"Base Relocation Types\"",
        ],
        |s| {
            each(s, |r| {
                (r.kind != BaseRelocation::DIR64).then(|| format!("type {} at {}", r.kind, s.place(r.rva)))
            })
        },
    ),
    rule(
        "reloc.in-section",
        [
            "each relocated address lies inside one section",
            "the loader would write elsewhere",
            "PE format, \"The .reloc Section\"",
        ],
        |s| {
            each(s, |r| {
                let last = Rva(r.rva.0.saturating_add(7));
                let inside = s.image.section_at(r.rva).is_some_and(|section| section.contains(last));
                (!inside).then(|| s.place(r.rva))
            })
        },
    ),
    rule(
        "reloc.apart",
        [
            "no two relocations touch the same byte",
            "the address is moved twice",
            "PE format, \"The .reloc Section\"",
        ],
        |s| {
            let pairs = s.relocated.windows(2).filter(|pair| pair[1].0 - pair[0].0 < 8);
            judged(s, pairs.map(|pair| format!("{} and {}", pair[0], pair[1])).collect())
        },
    ),
    rule(
        "reloc.target",
        [
            "each relocated field holds an address inside the image",
            "what the loader adds to it is meaningful only then",
            "native module contract §5.1",
        ],
        |s| {
            let end = s.image.image_base.saturating_add(s.image.image_size.into());
            let outside = s
                .pointers()
                .filter(|(_, value)| *value < s.image.image_base || *value > end);
            judged(
                s,
                outside
                    .map(|(place, value)| format!("{} holds {value:#x}", s.place(place)))
                    .collect(),
            )
        },
    )
    // Compilers may address what is before the first or behind the last element of something.
    .weighing(Weight::RequiredOfModules),
    rule(
        "reloc.section",
        [
            "relocations lie in a section that is neither writable nor executable",
            "they are data for the loader alone",
            "PE format, \"The .reloc Section\"",
        ],
        |s| {
            let Some(directory) = s.image.directory(DirectoryKind::BaseRelocation) else {
                return Verdict::none("there are none");
            };
            match s.image.section_at(directory.rva) {
                Some(section) => Verdict::when(
                    !section.has(Section::WRITE) && !section.has(Section::EXECUTE),
                    format!("{} is {}", section.display_name(), section.protection()),
                ),
                None => Verdict::none("the relocations can't be read"),
            }
        },
    ),
    rule(
        "reloc.discardable",
        [
            "the section of the relocations is discardable",
            "they take memory after they were applied",
            "PE format, \"The .reloc Section\"",
        ],
        |s| {
            let directory = s.image.directory(DirectoryKind::BaseRelocation);
            match directory.and_then(|d| s.image.section_at(d.rva)) {
                Some(section) => Verdict::when(section.has(Section::DISCARDABLE), format!("{:#010x}", section.flags)),
                None => Verdict::none("there are none"),
            }
        },
    )
    .weighing(Weight::Advice),
];

fn each(s: &Subject<'_>, problem: impl Fn(&BaseRelocation) -> Option<String>) -> Verdict {
    judged(s, s.relocations.iter().flatten().filter_map(problem).collect())
}

fn judged(s: &Subject<'_>, wrong: Wrong) -> Verdict {
    match &s.relocations {
        Ok(list) if list.is_empty() => Verdict::none("there are none"),
        Ok(list) => Verdict::of(wrong, format!("{} relocations", list.len())),
        Err(_) => Verdict::none("the relocations can't be read"),
    }
}
