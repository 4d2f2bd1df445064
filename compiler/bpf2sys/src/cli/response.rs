//! Response files: an argument `@FILE` stands for the arguments in that file, one per line.
//!
//! A line is one argument as it is: nothing is quoted, and so nothing of a path can be misunderstood. Empty lines are left
//! out. A line that begins with `@` is no response file. `./@FILE` is a file of that name.

use std::ffi::OsString;
use std::path::Path;

use crate::{Error, ErrorKind, files};

/// The words with those of response files in place. The first one is the tool's name.
pub(super) fn expand(words: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    let is_file = |word: &OsString| word.as_encoded_bytes().first() == Some(&b'@');
    if !words.iter().skip(1).any(is_file) {
        return Ok(words);
    }
    let mut expanded = Vec::with_capacity(words.len());
    for (index, word) in words.into_iter().enumerate() {
        match word.to_str().and_then(|word| word.strip_prefix('@')) {
            Some(name) if index > 0 => expanded.extend(read(Path::new(name))?),
            _ => expanded.push(word),
        }
    }
    Ok(expanded)
}

/// The arguments of a response file.
fn read(path: &Path) -> Result<Vec<OsString>, Error> {
    let text = files::text(files::read(path)?).ok_or_else(|| {
        ErrorKind::Usage(format!(
            "the response file `{}` is no text: it must be UTF-8, or UTF-16 with a byte order mark",
            path.display()
        ))
    })?;
    Ok(text
        .lines()
        .filter(|line| !line.is_empty())
        .map(OsString::from)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_arguments_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("arguments");
        std::fs::write(&file, "\u{feff}a b.o\r\n\r\n-I\n@c\n\"d\"\n").unwrap();
        let named = format!("@{}", file.display());
        let expanded = expand(["@bpf2sys", "build", &named, "last"].map(OsString::from).to_vec()).unwrap();
        assert_eq!(expanded, ["@bpf2sys", "build", "a b.o", "-I", "@c", "\"d\"", "last"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        assert!(expand(["bpf2sys", "@no-such-file"].map(OsString::from).to_vec()).is_err());
    }
}
