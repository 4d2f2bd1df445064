//! What the section table says.

use bpf2sys_simulator::image::Section;

use crate::rule::{Group, Rule, Scope, Verdict, Weight, Wrong};
use crate::subject::Subject;

/// Bytes of a page, on both machines.
pub(crate) const PAGE: u32 = 0x1000;
/// Most sections that Windows maps of one image.
pub(crate) const MAX_SECTIONS: usize = 96;

const fn rule(id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::Sections, Scope::Image, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "section.count",
        [
            "there are 1 to 96 sections",
            "Windows refuses the image",
            "PE format, \"COFF File Header\"",
        ],
        |s| {
            let count = s.section_count;
            Verdict::when((1..=MAX_SECTIONS).contains(&count), format!("{count} sections"))
        },
    ),
    rule(
        "section.layout",
        [
            "each section starts in the page that follows the one before, and is not empty",
            "Windows refuses an image with gaps or overlaps",
            "PE format, \"Section Table\"",
        ],
        layout,
    ),
    rule(
        "section.raw-aligned",
        [
            "raw data of each section starts and ends at a multiple of the file alignment",
            "Windows refuses the image",
            "PE format, \"Section Table\"",
        ],
        raw_aligned,
    ),
    rule(
        "section.raw-inside-file",
        [
            "raw data of each section lies behind the headers and inside the file",
            "Windows refuses the image, and pe-parse refuses the whole file",
            "PE format, \"Section Table\"; native module contract §5.1",
        ],
        raw_inside_file,
    ),
    rule(
        "section.raw-apart",
        [
            "no two sections share raw data",
            "what is data in one is code in the other, whatever the protection of each",
            "PE format, \"Section Table\"",
        ],
        raw_apart,
    ),
    rule(
        "section.uninitialized",
        [
            "a section without raw data has no place in the file either",
            "checks of the signature fail otherwise",
            "PE format, \"Section Table\"; TechNet, ee829684",
        ],
        uninitialized,
    ),
    rule(
        "section.not-shared",
        [
            "no section is shared between processes",
            "a driver's memory is the system's; what is shared and writable belongs to every process",
            "PE format, \"Section Flags\"",
        ],
        |s| flagged(s, Section::SHARED),
    ),
    Rule::new(
        Group::Sections,
        Scope::ModuleDriver,
        "section.not-pageable",
        [
            "no section name starts with PAGE",
            "the kernel makes such sections pageable, and programs run at DISPATCH_LEVEL",
            "native module contract §2.4; Microsoft, \"Making Drivers Pageable\"",
        ],
        |s| {
            let pageable = s
                .image
                .sections
                .iter()
                .filter(|section| section.name.starts_with(b"PAGE"));
            Verdict::of(pageable.map(Section::display_name).collect(), "none")
        },
    ),
    Rule::new(
        Group::Sections,
        Scope::ModuleDriver,
        "section.kept",
        [
            "only INIT, .reloc and .rsrc are discardable",
            "the kernel frees such sections after DriverEntry",
            "native module contract §2.4",
        ],
        |s| {
            let gone = |section: &&Section| {
                section.has(Section::DISCARDABLE) && !matches!(section.name.as_slice(), b"INIT" | b".reloc" | b".rsrc")
            };
            let gone = s.image.sections.iter().filter(gone);
            Verdict::of(gone.map(Section::display_name).collect(), "no other section is")
        },
    ),
    rule(
        "section.discardable-unused",
        [
            "no pointer in kept data leads to code that is discarded",
            "the code is gone when the pointer is followed",
            "native module contract §2.4",
        ],
        discardable_unused,
    )
    // Tables of functions that only DriverEntry calls may be kept.
    .weighing(Weight::RequiredOfModules),
];

fn flagged(s: &Subject<'_>, flags: u32) -> Verdict {
    let found = s.image.sections.iter().filter(|section| section.has(flags));
    Verdict::of(found.map(Section::display_name).collect(), "none")
}

fn layout(s: &Subject<'_>) -> Verdict {
    let mut wrong = Wrong::default();
    let page = u64::from(PAGE);
    let mut expected = u64::from(s.image.header_size).next_multiple_of(page);
    for section in &s.image.sections {
        let start = u64::from(section.rva.0);
        // Whether it starts at the page's first byte is a rule of memory integrity.
        if start / page * page != expected || section.memory_size() == 0 {
            wrong.add(|| {
                format!(
                    "{} is at {:#x} with {:#x} bytes, the next page is {expected:#x}",
                    section.display_name(),
                    start,
                    section.memory_size()
                )
            });
        }
        expected = (start + u64::from(section.memory_size())).next_multiple_of(page);
    }
    Verdict::of(wrong, format!("they end at {expected:#x}"))
}

/// The sections that have raw data, with the first offset behind it.
fn raw<'s>(s: &'s Subject<'_>) -> impl Iterator<Item = (&'s Section, u64)> {
    let with_data = s.image.sections.iter().filter(|section| section.raw_size != 0);
    with_data.map(|section| (section, u64::from(section.raw_offset) + u64::from(section.raw_size)))
}

fn raw_aligned(s: &Subject<'_>) -> Verdict {
    let alignment = s.image.file_alignment.max(1);
    let odd = |n: u32| !n.is_multiple_of(alignment);
    let wrong = raw(s).filter(|(section, _)| odd(section.raw_offset) || odd(section.raw_size));
    let text = |section: &Section| {
        let name = section.display_name();
        format!("{name} has {:#x} bytes at {:#x}", section.raw_size, section.raw_offset)
    };
    Verdict::of(
        wrong.map(|(section, _)| text(section)).collect(),
        format!("multiples of {alignment:#x}"),
    )
}

fn raw_inside_file(s: &Subject<'_>) -> Verdict {
    let (length, headers) = (s.image.bytes.len() as u64, s.image.header_size);
    let wrong = raw(s).filter(|(section, end)| section.raw_offset < headers || *end > length);
    let text = |(section, end): (&Section, u64)| {
        let (name, start) = (section.display_name(), section.raw_offset);
        format!("{name} is from {start:#x} to {end:#x}, the headers end at {headers:#x}, the file at {length:#x}")
    };
    Verdict::of(wrong.map(text).collect(), format!("the file has {length:#x} bytes"))
}

fn raw_apart(s: &Subject<'_>) -> Verdict {
    let mut parts: Vec<(u32, u64, String)> = raw(s)
        .map(|(section, end)| (section.raw_offset, end, section.display_name()))
        .collect();
    parts.sort();
    let pairs = parts.windows(2).filter(|pair| pair[0].1 > u64::from(pair[1].0));
    Verdict::of(
        pairs.map(|pair| format!("{} and {}", pair[0].2, pair[1].2)).collect(),
        "none do",
    )
}

fn uninitialized(s: &Subject<'_>) -> Verdict {
    let empty = s.image.sections.iter().filter(|section| section.raw_size == 0);
    let placed = empty.filter(|section| section.raw_offset != 0);
    let text = |section: &Section| format!("{} points to {:#x}", section.display_name(), section.raw_offset);
    Verdict::of(placed.map(text).collect(), "none has one")
}

fn discardable_unused(s: &Subject<'_>) -> Verdict {
    let discarded = |rva| {
        let section = s.image.section_at(rva)?;
        section.has(Section::DISCARDABLE).then_some(section)
    };
    let mut wrong = Wrong::default();
    let mut any = false;
    for (place, value) in s.pointers() {
        let target = s.image.rva_of(value).filter(|rva| s.is_code(*rva));
        if discarded(place).is_none()
            && let Some(target) = target.filter(|rva| discarded(*rva).is_some())
        {
            wrong.add(|| format!("{} leads to {}", s.place(place), s.place(target)));
        }
    }
    for section in &s.image.sections {
        any |= section.has(Section::DISCARDABLE | Section::EXECUTE);
    }
    if any {
        Verdict::of(wrong, "no pointer does")
    } else {
        Verdict::none("no code is discarded")
    }
}
