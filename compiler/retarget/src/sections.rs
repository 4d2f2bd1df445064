//! Section names of Linux (libbpf's table of section definitions).

use std::sync::LazyLock;

use serde::Deserialize;

/// A section name that Linux's loader knows.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct LinuxSection {
    /// The name; with a `+` at its end, also followed by `/` and more.
    pub name: String,
    /// The program type, as in `BPF_PROG_TYPE_*`, in lower case.
    pub program_type: String,
    /// The section of Windows with the same purpose, if there is one.
    pub windows: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sections: Vec<LinuxSection>,
}

static SECTIONS: LazyLock<Vec<LinuxSection>> = LazyLock::new(|| {
    let file: File = toml::from_str(include_str!("../data/sections.toml"))
        .expect("the table is part of the program, and a test reads it");
    file.sections
});

impl LinuxSection {
    fn is(&self, section: &str) -> bool {
        match self.name.strip_suffix('+') {
            Some(name) => section
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            None => section == self.name,
        }
    }
}

/// What a section name means to Linux's loader; `None` if nothing.
pub fn linux_section(section: &str) -> Option<&'static LinuxSection> {
    SECTIONS.iter().find(|known| known.is(section))
}

/// What a section name means to loaders before libbpf 1.0, which looked only at how it begins: `xdp_prog` is a program of type xdp. Only for
/// what Windows has, too.
pub(crate) fn old_section(section: &str) -> Option<&'static LinuxSection> {
    let base = ["xdp", "sockops"].into_iter().find(|base| section.starts_with(base))?;
    linux_section(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_or_followed_by_more() {
        let windows = |section| linux_section(section).map(|s| s.windows.as_deref());
        assert_eq!(SECTIONS.len(), 116);
        assert_eq!(windows("xdp"), Some(Some("xdp")));
        assert_eq!(windows("xdp/devmap"), Some(None));
        assert_eq!(windows("kprobe/sys_open"), Some(None));
        assert_eq!(windows("kprobes"), None);
        assert_eq!(windows("cgroup/connect4"), Some(Some("cgroup/connect4")));
        assert_eq!(windows("xdp_prog"), None);
        for section in SECTIONS.iter() {
            let name = section.name.trim_end_matches('+');
            assert_eq!(linux_section(name), Some(section), "{name}");
        }
    }
}
