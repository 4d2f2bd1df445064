//! `--depfile`: which files outputs depend on, as Make and Ninja read it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A rule of Make: all outputs depend on all files that were read. Each of these has a rule without anything, too, so that a
/// header that is gone is no error but a reason to build again.
pub(super) fn text(outputs: &[PathBuf], reads: &BTreeSet<PathBuf>) -> String {
    let targets: Vec<String> = outputs.iter().map(|path| name(path)).collect();
    let mut text = targets.join(" ") + ":";
    for read in reads {
        text += " \\\n  ";
        text += &name(read);
    }
    text.push('\n');
    for read in reads {
        let _ = write!(text, "\n{}:\n", name(read)); // writing to a string does not fail
    }
    text
}

/// A path as both read it.
fn name(path: &Path) -> String {
    let path = path.to_string_lossy();
    let path = if cfg!(windows) {
        path.replace('\\', "/")
    } else {
        path.into_owned()
    };
    let mut name = String::with_capacity(path.len());
    for character in path.chars() {
        match character {
            ' ' | '#' => name.extend(['\\', character]),
            '$' => name.push_str("$$"),
            _ => name.push(character),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_make_reads_them() {
        let outputs = [PathBuf::from("out/a b.sys"), PathBuf::from("c.sys")];
        let reads = ["z.h", "a#1.c", "$x.h"].map(PathBuf::from).into_iter().collect();
        assert_eq!(
            text(&outputs, &reads),
            "out/a\\ b.sys c.sys: \\\n  $$x.h \\\n  a\\#1.c \\\n  z.h\n\n$$x.h:\n\na\\#1.c:\n\nz.h:\n"
        );
    }
}
