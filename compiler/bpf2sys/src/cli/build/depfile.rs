//! `--depfile`: which files outputs depend on, in the forms of `--depfile-form`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A rule of Make: all outputs depend on all files that were read. Each of these has a rule without anything, too, so that a
/// header that is gone is no error but a reason to build again.
pub(super) fn rules(outputs: &[PathBuf], reads: &BTreeSet<PathBuf>) -> String {
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

/// A line for each file that was read.
pub(super) fn lines(reads: &BTreeSet<PathBuf>) -> String {
    let mut text = String::new();
    for read in reads {
        let _ = writeln!(text, "{}", read.display()); // writing to a string does not fail
    }
    text
}

/// A path as Make and Ninja read it.
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
            rules(&outputs, &reads),
            "out/a\\ b.sys c.sys: \\\n  $$x.h \\\n  a\\#1.c \\\n  z.h\n\n$$x.h:\n\na\\#1.c:\n\nz.h:\n"
        );
    }

    #[test]
    fn lines_have_names_as_they_are() {
        let reads = ["z.h", "a b#1.c", "$x.h"].map(PathBuf::from).into_iter().collect();
        assert_eq!(lines(&reads), "$x.h\na b#1.c\nz.h\n");
    }
}
