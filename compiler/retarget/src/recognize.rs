//! Which system an object was compiled for.
//!
//! Given: the marks of an object, and the providers of Windows. Computed: the system, and the mark that tells.
//! Marks are looked at in the order of how far they can be relied on, and the first that decides does.

use bpf2sys_bytecode::Marks;
use bpf2sys_platform::{Platform, linux_helper_name};

use crate::sections::linux_section;

/// A system that eBPF programs are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Linux.
    Linux,
    /// Windows, with eBPF for Windows.
    Windows,
}

impl System {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            System::Linux => "Linux",
            System::Windows => "Windows",
        }
    }
}

/// Which system an object was compiled for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognition {
    /// The system; `None` if nothing tells.
    pub system: Option<System>,
    /// What tells, as a sentence without a full stop; what was looked for if nothing does.
    pub because: String,
}

/// The section that the headers of eBPF for Windows leave in an object.
const MARK: &str = ".ebpf_for_windows";

/// Structures of contexts that both systems have under one name: their sizes on Linux and on Windows, in bytes.
const CONTEXTS: [(&str, &[u32], u32); 3] = [
    // The size of old headers is the second.
    ("xdp_md", &[24, 20], 32),
    ("bpf_sock_addr", &[72], 64),
    ("bpf_sock_ops", &[224], 64),
];

/// Names that only headers for Windows give structures of contexts.
const OF_WINDOWS: [&str; 7] = [
    "xdp_md_",
    "_xdp_md",
    "_bpf_sock_addr",
    "_bpf_sock_ops",
    "_bind_md",
    "_process_md",
    "_netevent_event_md",
];

/// Largest id of a helper that both systems have, with other meanings mostly.
const SHARED_HELPERS: i32 = 35;
/// Smallest id of a helper of one program type on Windows.
const HELPERS_OF_TYPES: i32 = 0x1_0000;
/// Numbers of map types that Linux has (35 by now) or may come to have, and Windows has not.
const MAP_TYPES: std::ops::Range<u32> = 17..64;

/// Sections that objects for Linux have and hardly any for Windows.
const OF_LINUX: [(&str, &str); 2] = [
    ("license", "which Linux asks for"),
    ("version", "which old kernels ask for"),
];

/// The system that a mark tells, and which mark that is.
type Verdict = Option<(System, String)>;
type Rule = fn(&Marks, &Platform) -> Verdict;

/// Tells which system an object was compiled for.
pub fn recognize(marks: &Marks, platform: &Platform) -> Recognition {
    let rules: [Rule; 6] = [by_mark, by_structures, by_helpers, by_maps, by_sections, by_context];
    match rules.iter().find_map(|rule| rule(marks, platform)) {
        Some((system, because)) => Recognition {
            system: Some(system),
            because,
        },
        None => Recognition {
            system: None,
            because: format!(
                "it has no section {MARK} or license, no type of a context, and calls no helper, defines no map, has no section and \
                 loads nothing from a context that only one of the two has"
            ),
        },
    }
}

fn by_mark(marks: &Marks, _: &Platform) -> Verdict {
    let found = marks.sections.iter().any(|section| section == MARK);
    found.then(|| {
        (
            System::Windows,
            format!("it has the section {MARK}, which headers of eBPF for Windows make"),
        )
    })
}

fn by_structures(marks: &Marks, _: &Platform) -> Verdict {
    for (name, size) in &marks.structures {
        if OF_WINDOWS.contains(&name.as_str()) {
            return Some((System::Windows, format!("it has struct {name}, a context of Windows")));
        }
        for (context, linux, windows) in CONTEXTS {
            if name != context {
                continue;
            }
            // A structure that is smaller than Linux's has only the members that the program uses: CO-RE finds their places.
            let system = if *size == windows {
                System::Windows
            } else if linux.contains(size) || *size < windows {
                System::Linux
            } else {
                continue;
            };
            let system_name = system.name();
            return Some((
                system,
                format!("its struct {name} has {size} bytes, as that of {system_name} has"),
            ));
        }
    }
    None
}

fn by_helpers(marks: &Marks, _: &Platform) -> Verdict {
    let of_type = marks.helpers.iter().find(|id| **id >= HELPERS_OF_TYPES);
    if let Some(id) = of_type {
        return Some((
            System::Windows,
            format!("it calls helper {id:#x}, and Linux has none above 0xffff"),
        ));
    }
    let id = *marks.helpers.iter().find(|id| **id > SHARED_HELPERS)?;
    let name = u32::try_from(id).ok().and_then(linux_helper_name)?;
    Some((
        System::Linux,
        format!("it calls helper {id}, which is {name} on Linux and none on Windows"),
    ))
}

fn by_maps(marks: &Marks, _: &Platform) -> Verdict {
    for map in &marks.maps {
        let name = &map.name;
        if MAP_TYPES.contains(&map.map_type) {
            let number = map.map_type;
            return Some((
                System::Linux,
                format!("its map {name} is of type {number}, which only Linux has"),
            ));
        }
        // Rust's libraries write the member down for either system, with a zero.
        if let Some(flags) = map.flags.filter(|flags| *flags != 0) {
            return Some((
                System::Linux,
                format!("its map {name} has map_flags of {flags:#x}, and Windows knows none"),
            ));
        }
    }
    None
}

fn by_sections(marks: &Marks, platform: &Platform) -> Verdict {
    for section in &marks.code {
        let of_windows = platform.program_type_for_section(section).is_some();
        let of_linux = linux_section(section);
        let told = match (of_windows, of_linux) {
            (true, None) => System::Windows,
            (false, Some(_)) => System::Linux,
            // With names that only begin as one that Windows has, old objects for Linux name programs.
            (true, Some(_)) | (false, None) => continue,
        };
        // `xdp_filter` is taken for `xdp` by Windows, and by Linux's old loaders.
        if of_windows && linux_prefix(section) {
            continue;
        }
        let name = told.name();
        return Some((
            told,
            format!("it has programs in section {section}, which only {name} has"),
        ));
    }
    for (section, why) in OF_LINUX {
        if marks.sections.iter().any(|s| s == section) {
            return Some((System::Linux, format!("it has a section {section}, {why}")));
        }
    }
    None
}

/// Whether a name begins with one that both systems have.
fn linux_prefix(section: &str) -> bool {
    [
        "xdp",
        "sockops",
        "cgroup/connect4",
        "cgroup/connect6",
        "cgroup/bind4",
        "cgroup/bind6",
    ]
    .iter()
    .any(|shared| section.starts_with(shared))
}

fn by_context(marks: &Marks, _: &Platform) -> Verdict {
    marks.context_loads.iter().find_map(|load| {
        if !load.section.starts_with("xdp") {
            return None;
        }
        let (offset, width) = (load.offset, load.width);
        let system = match (offset, width) {
            (0 | 4, 4) => System::Linux,
            (0 | 8, 8) => System::Windows,
            _ => return None,
        };
        let name = system.name();
        Some((
            system,
            format!("it loads {width} bytes at {offset} of the context, where {name} has a pointer of that size"),
        ))
    })
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{ContextLoad, MapMark};

    use super::*;

    fn told(marks: &Marks) -> (Option<System>, String) {
        let recognition = recognize(marks, &Platform::builtin());
        (recognition.system, recognition.because)
    }

    fn code(section: &str) -> Marks {
        Marks {
            sections: vec![section.into()],
            code: vec![section.into()],
            ..Marks::default()
        }
    }

    fn map(map_type: u32, flags: Option<u32>) -> Vec<MapMark> {
        vec![MapMark {
            name: "m".into(),
            map_type,
            flags,
        }]
    }

    #[test]
    fn each_mark_tells() {
        use System::{Linux, Windows};
        let load = |offset, width| ContextLoad {
            section: "xdp".into(),
            offset,
            width,
        };
        let base = || code("xdp");
        let structure = |name: &str, size| Marks {
            structures: [(name.to_owned(), size)].into(),
            ..base()
        };
        let helper = |id| Marks {
            helpers: [1, id].into(),
            ..base()
        };
        let context = |offset, width| Marks {
            context_loads: [load(offset, width)].into(),
            ..base()
        };
        let section = |name: &str| Marks {
            sections: vec!["xdp".into(), name.into()],
            ..base()
        };
        let maps = |map_type, flags| Marks {
            maps: map(map_type, flags),
            ..base()
        };
        for (marks, expected) in [
            (section(MARK), Some(Windows)),
            (section("license"), Some(Linux)),
            (section("version"), Some(Linux)),
            (structure("xdp_md", 24), Some(Linux)),
            (structure("xdp_md", 20), Some(Linux)),
            (structure("xdp_md", 32), Some(Windows)),
            (structure("_xdp_md", 32), Some(Windows)),
            (structure("bpf_sock_ops", 48), Some(Linux)),
            (structure("bpf_sock_addr", 64), Some(Windows)),
            (structure("iphdr", 20), None),
            (helper(35), None),
            (helper(36), Some(Linux)),
            (helper(211), Some(Linux)),
            (helper(300), None),
            (helper(0x10000), Some(Windows)),
            (maps(2, None), None),
            (maps(17, None), Some(Linux)),
            (maps(4711, None), None),
            (maps(1, Some(0)), None),
            (maps(1, Some(1)), Some(Linux)),
            (code("kprobe/x"), Some(Linux)),
            (code("bind"), Some(Windows)),
            (code("process"), Some(Windows)),
            (code("xdp_filter"), None),
            (code("sockops"), None),
            (code("nothing"), None),
            (context(0, 4), Some(Linux)),
            (context(4, 4), Some(Linux)),
            (context(0, 8), Some(Windows)),
            (context(8, 8), Some(Windows)),
            (context(24, 4), None),
        ] {
            let (system, because) = told(&marks);
            assert_eq!(system, expected, "{because}: {marks:?}");
        }
    }

    #[test]
    fn what_windows_headers_leave_outweighs_all_else() {
        let marks = Marks {
            sections: vec!["license".into(), MARK.into()],
            helpers: [100].into(),
            ..code("kprobe/x")
        };
        assert_eq!(told(&marks).0, Some(System::Windows));
    }
}
