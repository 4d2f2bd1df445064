//! The list of files that clang read for an object: a rule of Make, as `-MD` writes it.

use std::path::PathBuf;

/// The rule's target, which clang is told to write.
pub(super) const TARGET: &str = "object";

/// The files of the rule. Clang escapes spaces and `#` by a backslash, and `$` by another one; other backslashes are those of
/// paths.
pub(super) fn parse(list: &[u8]) -> Vec<PathBuf> {
    let text = String::from_utf8_lossy(list);
    let rule = text
        .strip_prefix(TARGET)
        .and_then(|rest| rest.strip_prefix(':'))
        .unwrap_or(&text);
    let mut files = Vec::new();
    let mut file = String::new();
    let mut characters = rule.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek().copied()) {
            ('\\', Some(escaped @ (' ' | '#'))) | ('$', Some(escaped @ '$')) => {
                file.push(escaped);
                characters.next();
            }
            // The line goes on.
            ('\\', Some('\n' | '\r')) => {}
            (character, _) if character.is_ascii_whitespace() => files.push(std::mem::take(&mut file)),
            (character, _) => file.push(character),
        }
    }
    files.push(file);
    files
        .into_iter()
        .filter(|file| !file.is_empty())
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Vec<String> {
        let files = parse(list.as_bytes()).into_iter();
        files.map(|path| path.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn names_of_any_kind_are_read_as_they_are() {
        assert_eq!(parsed("object: a.c b.h \\\n  sub/c.h\n"), ["a.c", "b.h", "sub/c.h"]);
        assert_eq!(
            parsed("object: my\\ file.c \\\r\n C\\#.h $$x.h\r\n"),
            ["my file.c", "C#.h", "$x.h"]
        );
        assert_eq!(
            parsed("object: C:\\src\\a.c C:\\my\\ src\\b.h\n"),
            ["C:\\src\\a.c", "C:\\my src\\b.h"]
        );
        assert_eq!(parsed("object:\n"), [""; 0]);
    }
}
