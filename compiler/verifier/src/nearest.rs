//! The names most like a name that does not exist, for "did you mean".

/// How many names a message offers.
pub(crate) const OFFERED: usize = 3;

/// What is longer than this is not compared letter by letter; the runtime's own names are at most 255 bytes long.
const LONGEST: usize = 256;

/// The candidates by ascending distance from `wanted`, upper and lower case being equal; of equally near ones the first
/// comes first. A name of absurd length is near to nothing.
pub(crate) fn by_distance<T>(
    wanted: &str,
    candidates: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> &str,
) -> Vec<T> {
    let mut all: Vec<(usize, T)> = candidates
        .into_iter()
        .map(|candidate| (distance(wanted, name(&candidate)), candidate))
        .collect();
    all.sort_by_key(|(distance, _)| *distance);
    all.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Whether one is most likely a misspelling of the other: a third of the letters may differ.
pub(crate) fn is_near(wanted: &str, name: &str) -> bool {
    distance(wanted, name) <= (name.len() / 3).max(1)
}

/// The section prefixes that `section` may have been meant to start with, nearest first.
pub(crate) fn prefixes_meant(section: &str, prefixes: &[&str]) -> Vec<String> {
    let mut near: Vec<(usize, &str)> = prefixes
        .iter()
        .map(|prefix| (distance_to_start(prefix, section), *prefix))
        .filter(|(distance, prefix)| *distance <= prefix.len() / 3)
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    let nearest = near.first().map_or(0, |(distance, _)| *distance);
    near.into_iter()
        .take_while(|(distance, _)| *distance <= nearest + 1)
        .take(OFFERED)
        .map(|(_, prefix)| prefix.to_owned())
        .collect()
}

/// Insertions, deletions and substitutions of letters between two names (Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    distances(a, b).last().copied().unwrap_or_default()
}

/// The distance of `prefix` to that start of `name` which is nearest to it.
fn distance_to_start(prefix: &str, name: &str) -> usize {
    let start: String = name.chars().take(2 * prefix.len()).collect();
    distances(prefix, &start).into_iter().min().unwrap_or_default()
}

/// The distance of `a` to each start of `b`, the empty one first.
fn distances(a: &str, b: &str) -> Vec<usize> {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_changed_letters() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("XDP", "xdp", 0),
            ("conect4", "connect4", 1),
            ("ä", "a", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
        assert_eq!(distance(&"x".repeat(1 << 20), "x"), usize::MAX);
    }

    #[test]
    fn a_misspelt_prefix_is_found_whatever_follows_it() {
        let prefixes = ["bind", "cgroup/connect4", "cgroup/connect6", "sample_ext", "xdp"];
        for (section, expected) in [
            ("cgroup/conect4", &["cgroup/connect4", "cgroup/connect6"][..]),
            ("cgroup/conect6/mine", &["cgroup/connect6", "cgroup/connect4"]),
            ("XDP", &["xdp"]),
            ("xpd/filter", &["xdp"]),
            ("bnd", &["bind"]),
            ("sampl_ext/1", &["sample_ext"]),
            ("kprobe/do_unlinkat", &[]),
            (&"x".repeat(1 << 20), &[]),
            (".text", &[]),
            ("", &[]),
            ("tc", &[]),
        ] {
            assert_eq!(prefixes_meant(section, &prefixes), expected, "{section}");
        }
    }
}
