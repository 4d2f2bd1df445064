//! Text of provider files inside C comments.
//!
//! Given: any text. Computed: comment lines that no text can end, continue or disguise.
//! Safe because: what reaches a comment is one line without control characters, without characters that change how a line
//! reads, and without the sequences that mean something to a compiler in a comment.

/// Widest line of a header, in characters.
pub(super) const WIDTH: usize = 118;

/// The text as one line that may stand in a comment.
pub(super) fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        let c = if c.is_control() || c.is_whitespace() { ' ' } else { c };
        if disguises(c) || (c == ' ' && line.ends_with(' ')) {
            continue;
        }
        // `*/` ends a comment, `/*` in one is a warning, and so are trigraphs; a backslash at the end continues a line.
        if matches!(
            (line.chars().next_back(), c),
            (Some('*'), '/') | (Some('/'), '*') | (Some('?'), '?')
        ) {
            line.push(' ');
        }
        line.push(c);
    }
    let mut line = line.trim().to_owned();
    if line.ends_with('\\') {
        line.push('.');
    }
    line
}

/// Characters that are not seen, or that change the order in which others are shown.
fn disguises(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A comment of its own, behind `indent`: on one line if it fits. `paragraphs` are cleaned here, and start a line each.
pub(super) fn comment(indent: &str, paragraphs: &[String]) -> String {
    let paragraphs: Vec<String> = paragraphs.iter().map(|p| clean(p)).filter(|p| !p.is_empty()).collect();
    if let [only] = paragraphs.as_slice()
        && indent.len() + only.chars().count() + 6 <= WIDTH
    {
        return format!("{indent}/* {only} */\n");
    }
    let room = WIDTH - indent.len() - 3;
    let lines: Vec<String> = paragraphs
        .iter()
        .flat_map(|p| {
            // Items of a list hang.
            let hang = if p.starts_with("- ") { "  " } else { "" };
            let lines = wrap(p, room - hang.len()).into_iter().enumerate();
            lines.map(move |(i, line)| if i == 0 { line } else { format!("{hang}{line}") })
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let body: String = lines.iter().map(|line| format!("{indent} * {line}\n")).collect();
    format!("{indent}/*\n{body}{indent} */\n")
}

/// Breaks a line at spaces.
fn wrap(line: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    let mut length = 0;
    for word in line.split(' ') {
        let width = word.chars().count();
        if length > 0 && length + 1 + width > room {
            lines.push(std::mem::take(&mut current));
            length = 0;
        }
        if length > 0 {
            current.push(' ');
            length += 1;
        }
        current += word;
        length += width;
    }
    // Lines may not end in a backslash.
    lines.push(current);
    lines
        .into_iter()
        .map(|line| if line.ends_with('\\') { line + "." } else { line })
        .collect()
}

/// A line that separates parts of a header.
pub(super) fn banner(title: &str) -> String {
    let title = clean(title);
    let dashes = (WIDTH - 7).saturating_sub(title.chars().count()).max(1);
    format!("/* -- {title} {} */\n", "-".repeat(dashes.saturating_sub(2).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_comment() {
        for hostile in [
            "a */ int x; /* b",
            "a *\n/ b",
            "a *\u{200b}/ b",
            "a *\u{0}/ b",
            "*/",
            "**//",
            "a ??/",
            "a *??/",
            "\\",
            "/*/",
        ] {
            let comment = comment("", &[hostile.to_owned()]);
            let inside = comment.trim_end().strip_prefix("/*").and_then(|c| c.strip_suffix("*/"));
            let inside = inside.unwrap_or_else(|| panic!("{hostile:?}: {comment}"));
            assert!(
                !inside.contains("*/") && !inside.contains("/*"),
                "{hostile:?}: {comment}"
            );
            assert!(
                !inside.contains("??") && !inside.contains("\\\n"),
                "{hostile:?}: {comment}"
            );
            assert!(inside.ends_with(' ') && comment.is_ascii(), "{hostile:?}: {comment}");
        }
    }

    #[test]
    fn characters_that_disguise_others_are_left_out() {
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{feff}"), "abc");
        assert_eq!(clean(" Größe\tin\r\nBytes\u{7} "), "Größe in Bytes");
    }

    #[test]
    fn long_text_is_wrapped() {
        let text = "word ".repeat(60);
        let comment = comment("    ", &[text, "next".to_owned()]);
        assert!(comment.lines().all(|line| line.chars().count() <= WIDTH), "{comment}");
        assert!(comment.starts_with("    /*\n     * word word") && comment.ends_with("     * next\n     */\n"));
    }

    #[test]
    fn no_line_of_a_comment_ends_in_a_backslash() {
        let text = format!("{} \\ x", "y".repeat(WIDTH - 6));
        assert!(!comment("", &[text]).contains("\\\n"));
    }
}
