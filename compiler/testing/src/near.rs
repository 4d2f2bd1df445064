//! Names that somebody may have meant.

/// Up to three names that differ little from this one, the nearest first.
pub fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_ascii_lowercase();
    let limit = (wanted.chars().count() / 3).max(2);
    let mut found: Vec<(usize, &str)> = known
        .map(|known| {
            let lower = known.to_ascii_lowercase();
            let part = wanted.len() >= 3 && lower.contains(&wanted);
            let far = if part { 1 } else { distance(&wanted, &lower, limit) };
            (far, known)
        })
        .filter(|(far, _)| *far <= limit)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Insertions, deletions and replacements that make one text of the other. More than `limit` is not counted further.
fn distance(from: &str, to: &str, limit: usize) -> usize {
    let [from, to]: [Vec<char>; 2] = [from.chars().collect(), to.chars().collect()];
    // Nobody mistypes names of such length.
    if from.len().abs_diff(to.len()) > limit || from.len().max(to.len()) > 256 {
        return limit + 1;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
