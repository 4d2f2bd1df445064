//! How often lines of source ran: what a page marks in its C column.

use std::collections::{BTreeMap, BTreeSet};

/// How often each line ran. A line that is not in it has no code that was counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    /// By file, as the object names it, and line.
    counts: BTreeMap<String, BTreeMap<u32, u64>>,
}

/// How many of some lines ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Lines that ran.
    pub covered: usize,
    /// Lines that were counted.
    pub all: usize,
}

/// Of files, as the object names them, lines, and how often each ran. What is said of a line twice is added up.
impl FromIterator<(String, u32, u64)> for Coverage {
    fn from_iter<I: IntoIterator<Item = (String, u32, u64)>>(lines: I) -> Coverage {
        let mut coverage = Coverage::default();
        for (file, line, count) in lines {
            let of_line = coverage.counts.entry(file).or_default().entry(line).or_default();
            *of_line = of_line.saturating_add(count);
        }
        coverage
    }
}

impl Coverage {
    /// How often a line ran; `None` if it was not counted.
    pub(super) fn count(&self, file: &str, line: u32) -> Option<u64> {
        self.counts.get(file)?.get(&line).copied()
    }

    /// How many of some lines ran. Each counts once.
    pub(super) fn share<'a>(&self, lines: impl IntoIterator<Item = (&'a str, u32)>) -> Share {
        let distinct: BTreeSet<(&str, u32)> = lines.into_iter().collect();
        let counts = distinct.into_iter().filter_map(|(file, line)| self.count(file, line));
        counts.fold(Share::default(), |share, count| Share {
            covered: share.covered + usize::from(count > 0),
            all: share.all + 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_once_and_only_if_they_were_counted() {
        let lines = [("a.c", 1, 2), ("a.c", 1, u64::MAX), ("a.c", 2, 0)];
        let coverage: Coverage = lines
            .map(|(file, line, count)| (file.to_owned(), line, count))
            .into_iter()
            .collect();
        assert_eq!(coverage.count("a.c", 1), Some(u64::MAX));
        assert_eq!(coverage.count("b.c", 1), None);
        let share = coverage.share([("a.c", 1), ("a.c", 1), ("a.c", 2), ("a.c", 3)]);
        assert_eq!(share, Share { covered: 1, all: 2 });
    }
}
