//! The tables in their sections, as user mode finds them (native module contract §5.2).

use bpf2sys_simulator::image::{Image, Section};
use zerocopy::IntoBytes;

use super::{Module, UserTable, of};
use crate::rule::{Group, Rule, Scope, Verdict, Wrong};
use crate::subject::Subject;

const SOURCE: &str = "native module contract §5.2";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::UserMode, Scope::Module, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.5.2.maps-in-file",
        [
            "raw data of section maps reaches VirtualSize",
            "user mode reads that far, and past the end",
        ],
        |s| of(s, |m| in_file(m.user_maps.as_ref())),
    ),
    rule(
        "contract.5.2.maps-found",
        [
            "user mode finds the first map where the runtime has it",
            "it searches for 16 zero bytes before a version that is not zero, in steps of 8, behind a zero byte",
        ],
        |s| of(s, |m| found(s, m.user_maps.as_ref(), m.known().map(|k| k.maps.pointer))),
    ),
    rule(
        "contract.5.2.maps-size",
        [
            "VirtualSize of section maps is the end of a map",
            "user mode takes what is left for one more map",
        ],
        |s| of(s, |m| whole(m.user_maps.as_ref())),
    ),
    rule(
        "contract.5.2.map-markers",
        [
            "every map starts with 16 zero bytes",
            "user mode stops at the first that does not",
        ],
        |s| {
            of(s, |m| {
                entries(m.user_maps.as_ref(), |table| {
                    let odd = table
                        .entries
                        .iter()
                        .enumerate()
                        .filter(|(_, entry)| entry.marker != [0; 16]);
                    odd.map(|(index, _)| format!("map {index}")).collect()
                })
            })
        },
    ),
    rule(
        "contract.5.2.rdata-before-maps",
        [
            ".rdata precedes maps in the file if names of maps are in it",
            "user mode registers .rdata when it comes by, and takes the names for ones in maps before",
        ],
        rdata_before_maps,
    ),
    rule(
        "contract.5.2.map-names",
        [
            "names of maps are in .rdata or in maps, and end there",
            "user mode looks nowhere else",
        ],
        |s| {
            of(s, |m| {
                let count = known_count(m, |known| known.maps.count);
                entries(m.user_maps.as_ref(), |table| {
                    let places = Places::new(s.image, &table.section);
                    let names = table.entries.iter().take(count).enumerate();
                    let wrong = names.filter_map(|(index, entry)| {
                        let problem = places.problem(s, entry.name.get())?;
                        Some(format!("the name of map {index} {problem}"))
                    });
                    wrong.collect()
                })
            })
        },
    ),
    rule(
        "contract.5.2.programs-in-file",
        [
            "raw data of section programs reaches VirtualSize",
            "user mode reads that far, and past the end",
        ],
        |s| of(s, |m| in_file(m.user_programs.as_ref())),
    ),
    rule(
        "contract.5.2.programs-found",
        [
            "user mode finds the first program where the runtime has it",
            "it searches for 8 zero bytes behind a zero byte, in steps of 16, and a section without is an error",
        ],
        |s| {
            of(s, |m| {
                found(s, m.user_programs.as_ref(), m.known().map(|k| k.programs.pointer))
            })
        },
    ),
    rule(
        "contract.5.2.programs-size",
        [
            "VirtualSize of section programs is the end of a program",
            "user mode divides by the stated size of an entry, and reads as many",
        ],
        |s| {
            of(s, |m| match m.user_programs.as_ref() {
                Some(table) if table.start.is_some() && table.stride == 0 => {
                    Verdict::none("the first entry does not say how large entries are")
                }
                table => whole(table),
            })
        },
    ),
    rule(
        "contract.5.2.program-markers",
        [
            "every program starts with 8 zero bytes",
            "they are how a table is told from texts before it",
        ],
        |s| {
            of(s, |m| {
                entries(m.user_programs.as_ref(), |table| {
                    let odd = table
                        .entries
                        .iter()
                        .enumerate()
                        .filter(|(_, entry)| entry.marker != [0; 8]);
                    odd.map(|(index, _)| format!("program {index}")).collect()
                })
            })
        },
    ),
    rule(
        "contract.5.2.program-texts",
        [
            "names of programs and of their sections are in .rdata or in programs, and end there",
            "user mode looks nowhere else",
        ],
        |s| {
            of(s, |m| {
                let count = known_count(m, |known| known.programs.count);
                entries(m.user_programs.as_ref(), |table| {
                    let places = Places::new(s.image, &table.section);
                    let texts = table.entries.iter().take(count).enumerate().flat_map(|(index, entry)| {
                        [
                            (index, "code section name", entry.pe_section_name),
                            (index, "section name", entry.section_name),
                            (index, "name", entry.program_name),
                        ]
                    });
                    let wrong = texts.filter_map(|(index, what, address)| {
                        let problem = places.problem(s, address.get())?;
                        Some(format!("the {what} of program {index} {problem}"))
                    });
                    wrong.collect()
                })
            })
        },
    ),
];

/// Entries that the runtime has; all if that is not known. More are a matter of equal counts.
fn known_count(m: &Module, count: impl Fn(&bpf2sys_simulator::getters::Returned) -> u64) -> usize {
    m.known()
        .map_or(usize::MAX, |known| usize::try_from(count(known)).unwrap_or(usize::MAX))
}

const NO_SECTION: &str = "there is no such section";

fn in_file<T>(table: Option<&UserTable<T>>) -> Verdict {
    match table {
        None => Verdict::none(NO_SECTION),
        Some(table) => {
            let (raw, size) = (table.section.raw_size, table.section.virtual_size);
            Verdict::when(table.in_file, format!("{raw:#x} bytes of {size:#x}"))
        }
    }
}

fn found<T>(s: &Subject<'_>, table: Option<&UserTable<T>>, pointer: Option<u64>) -> Verdict {
    let Some(table) = table else {
        return Verdict::none(NO_SECTION);
    };
    if !table.in_file {
        return Verdict::none("the section is not all in the file");
    }
    let Some(start) = table.start else {
        return Verdict::Fail(format!("none in {:#x} bytes", table.section.virtual_size));
    };
    // Where the runtime's table is in another section, comparing the two is a rule of its own.
    if table.misread {
        let theirs = pointer
            .and_then(|address| s.image.rva_of(address))
            .map_or(0, |rva| rva.0);
        let offset = theirs.saturating_sub(table.section.rva.0);
        return Verdict::Fail(format!("offset {start:#x}; the runtime has it at {offset:#x}"));
    }
    Verdict::Pass(format!("offset {start:#x}"))
}

fn whole<T>(table: Option<&UserTable<T>>) -> Verdict {
    let Some(table) = table else {
        return Verdict::none(NO_SECTION);
    };
    if table.start.is_none() || table.misread {
        return Verdict::none("user mode does not find the first entry");
    }
    let (bytes, stride) = (table.bytes(), table.stride);
    Verdict::when(
        bytes != 0 && bytes.is_multiple_of(stride),
        format!("{bytes} bytes in entries of {stride}"),
    )
}

fn entries<T>(table: Option<&UserTable<T>>, wrong: impl Fn(&UserTable<T>) -> Wrong) -> Verdict
where
    T: IntoBytes,
{
    match table {
        None => Verdict::none(NO_SECTION),
        Some(table) if table.entries.is_empty() => Verdict::none("user mode reads no entry"),
        Some(table) => Verdict::of(wrong(table), format!("{} entries", table.entries.len())),
    }
}

fn rdata<'i>(image: &'i Image<'_>) -> Option<&'i Section> {
    image.sections.iter().find(|section| section.name == b".rdata")
}

/// Whether an address is one of a section, going by `VirtualSize`.
fn is_in(s: &Subject<'_>, address: u64, section: &Section) -> bool {
    let start = s.image.image_base.wrapping_add(section.rva.0.into());
    address >= start && address - start < u64::from(section.virtual_size)
}

fn rdata_before_maps(s: &Subject<'_>) -> Verdict {
    of(s, |m| {
        let (Some(table), Some(rdata)) = (m.user_maps.as_ref(), rdata(s.image)) else {
            return Verdict::none("there are not both sections");
        };
        if !table.entries.iter().any(|entry| is_in(s, entry.name.get(), rdata)) {
            return Verdict::none("no name of a map is in .rdata");
        }
        let (ours, theirs) = (table.section.raw_offset, rdata.raw_offset);
        Verdict::when(theirs < ours, format!(".rdata at {theirs:#x}, maps at {ours:#x}"))
    })
}

/// Where user mode looks for the texts of a table.
struct Places<'i>(Vec<Place<'i>>);

struct Place<'i> {
    section: &'i Section,
    /// Bytes up to the last NUL in raw data: a text that starts behind it does not end.
    end: usize,
}

impl<'i> Places<'i> {
    /// `.rdata`, and the table's own section.
    fn new(image: &'i Image<'_>, own: &'i Section) -> Places<'i> {
        let place = |section| {
            let data = image.raw_data(section).unwrap_or_default();
            let end = data.iter().rposition(|byte| *byte == 0).map_or(0, |last| last + 1);
            Place { section, end }
        };
        Places(rdata(image).into_iter().chain([own]).map(place).collect())
    }

    /// What is wrong with the place of a text.
    fn problem(&self, s: &Subject<'_>, address: u64) -> Option<String> {
        let Some(place) = self.0.iter().find(|place| is_in(s, address, place.section)) else {
            return Some(format!("is at {}", s.place_of(address)));
        };
        let offset = (address - s.image.image_base - u64::from(place.section.rva.0)) as usize;
        (offset >= place.end).then(|| format!("does not end in {}", place.section.display_name()))
    }
}
