//! The parts of a code's page, and the page as plain text. `tests/codes.rs` holds all pages to the form that is read here.

use anstyle::Style;

use crate::Code;

impl Code {
    /// What is wrong, in plain words without a full stop: the title of its page.
    pub fn title(self) -> &'static str {
        let first = self.page().lines().next().unwrap_or_default();
        first.split_once(": ").map_or(first, |(_, title)| title)
    }

    /// What it means, as Markdown: the page's text before its example.
    pub(crate) fn meaning(self) -> String {
        let lines = self.page().lines().skip(1).take_while(|line| !line.starts_with("## "));
        let text = lines.collect::<Vec<_>>().join("\n");
        match text.trim() {
            "" => self.title().to_owned(),
            text => text.to_owned(),
        }
    }

    /// The page as plain text: headings in their style instead of marks, blocks indented.
    pub(crate) fn plain_page(self, heading: Style) -> String {
        let mut text = String::new();
        let mut in_block = false;
        for line in self.page().lines() {
            if line.starts_with("```") {
                in_block = !in_block;
                continue;
            }
            let line = match line.strip_prefix('#') {
                _ if in_block && !line.is_empty() => format!("    {line}"),
                Some(words) if !in_block => {
                    format!("{heading}{}{heading:#}", words.trim_start_matches('#').trim_start())
                }
                _ => line.to_owned(),
            };
            text += &line;
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_parts() {
        let code = Code::BPF1009;
        assert_eq!(code.title(), "the object has no program");
        let meaning = code.meaning();
        assert!(
            meaning.starts_with("A program is ") && meaning.ends_with('.'),
            "{meaning}"
        );
        assert!(!meaning.contains("Example"), "{meaning}");
    }

    #[test]
    fn pages_are_shown_without_marks_of_markdown() {
        for code in Code::ALL {
            let text = code.plain_page(Style::new());
            assert!(text.starts_with(&format!("{code}: {}\n", code.title())), "{text}");
            assert!(!text.contains("```") && !text.contains("\n## "), "{text}");
        }
    }
}
