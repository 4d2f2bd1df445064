//! Writing HTML so that nothing from a file can become markup.
//!
//! A piece of a page is an [`Html`], and there are two ways to make one: of text, which is escaped, or of a [`Tag`], whose name,
//! attribute names and classes are words of this program. Both kinds nest by values, so every element is closed. Control characters,
//! and those that turn the direction of writing, are shown as escapes; a text that is too long is cut, and says so.
//!
//! No crate for templates: none of them makes control characters visible, cuts texts, or keeps ids apart, and what is left to do is
//! this file.

use std::fmt::{Display, Write};

use crate::messages::printable;

/// Most characters of one text. Names are shorter; a line of C that is longer was made by a program.
const MAX_TEXT: usize = 2_000;

/// A finished piece of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    /// Pieces one behind the other.
    pub(super) fn of(pieces: impl IntoIterator<Item: Into<Html>>) -> Html {
        let mut all = Html::default();
        for piece in pieces {
            all.push(piece);
        }
        all
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: impl Into<Html>) {
        self.0 += &piece.into().0;
    }

    /// The same with another piece behind it.
    pub(super) fn with(mut self, piece: impl Into<Html>) -> Html {
        self.push(piece);
        self
    }

    /// A style sheet of this program: the one text that is not escaped.
    pub(super) fn style(sheet: &'static str) -> Html {
        Html(format!("<style>{sheet}</style>"))
    }

    /// The markup.
    pub(super) fn into_markup(self) -> String {
        self.0
    }

    /// Bytes of markup.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<&str> for Html {
    fn from(text: &str) -> Html {
        let mut html = String::with_capacity(text.len());
        // `nth` finds the cut without counting the rest of a long text.
        let (shown, cut) = match text.char_indices().nth(MAX_TEXT) {
            Some((end, _)) => text.split_at(end),
            None => (text, ""),
        };
        escape(&mut html, shown);
        if !cut.is_empty() {
            let _ = write!(html, "… ({} more characters)", cut.chars().count());
        }
        Html(html)
    }
}

impl From<String> for Html {
    fn from(text: String) -> Html {
        text.as_str().into()
    }
}

impl From<&String> for Html {
    fn from(text: &String) -> Html {
        text.as_str().into()
    }
}

impl From<Tag> for Html {
    fn from(tag: Tag) -> Html {
        let Tag { name, mut start, inner } = tag;
        start.push('>');
        if !VOID.contains(&name) {
            start += &inner.0;
            let _ = write!(start, "</{name}>");
        }
        Html(start)
    }
}

impl<T: Into<Html>> From<Option<T>> for Html {
    fn from(piece: Option<T>) -> Html {
        piece.map_or_else(Html::default, Into::into)
    }
}

/// Elements that have no content and no end.
const VOID: [&str; 3] = ["br", "meta", "wbr"];

/// Adds text as HTML has it, in content and in attributes. Lines end where the text says so; every other control character is shown.
fn escape(html: &mut String, text: &str) {
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            html.push('\n');
        }
        for c in printable(line).chars() {
            match c {
                '&' => html.push_str("&amp;"),
                '<' => html.push_str("&lt;"),
                '>' => html.push_str("&gt;"),
                '"' => html.push_str("&quot;"),
                '\'' => html.push_str("&#39;"),
                c => html.push(c),
            }
        }
    }
}

/// An element in the making.
#[derive(Clone, Debug)]
pub(super) struct Tag {
    name: &'static str,
    /// The start of the element, without its `>`.
    start: String,
    inner: Html,
}

/// An element without attributes and content.
pub(super) fn tag(name: &'static str) -> Tag {
    Tag {
        name,
        start: format!("<{name}"),
        inner: Html::default(),
    }
}

impl Tag {
    /// The same with a class.
    pub(super) fn class(self, class: &'static str) -> Tag {
        if class.is_empty() {
            self
        } else {
            self.attribute("class", class)
        }
    }

    /// The same with an attribute.
    pub(super) fn attribute(mut self, name: &'static str, value: impl Display) -> Tag {
        let _ = write!(self.start, " {name}=\"");
        escape(&mut self.start, &value.to_string());
        self.start.push('"');
        self
    }

    /// The same with an attribute that has no value.
    pub(super) fn flag(mut self, name: &'static str) -> Tag {
        let _ = write!(self.start, " {name}");
        self
    }

    /// The same with another piece at the end of its content.
    pub(super) fn with(mut self, piece: impl Into<Html>) -> Tag {
        self.inner.push(piece);
        self
    }

    /// The same with more pieces at the end of its content.
    pub(super) fn with_all(self, pieces: impl IntoIterator<Item: Into<Html>>) -> Tag {
        self.with(Html::of(pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_escaped_and_elements_closed() {
        let hostile = "</p><script>alert(\"1\")</script>&'";
        let page = Html::from(
            tag("p")
                .class("a")
                .attribute("title", hostile)
                .with(hostile)
                .with(tag("br")),
        );
        let escaped = "&lt;/p&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;";
        assert_eq!(
            page.into_markup(),
            format!("<p class=\"a\" title=\"{escaped}\">{escaped}<br></p>")
        );
    }

    #[test]
    fn control_characters_are_shown_and_lines_are_kept() {
        let text = "a\u{1b}[2J\n\u{202e}b\tc\r";
        assert_eq!(Html::from(text).into_markup(), "a\\u{1b}[2J\n\\u{202e}b c\\u{d}");
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let text = "é".repeat(MAX_TEXT + 3);
        let page = Html::from(text.as_str()).into_markup();
        assert_eq!(page, "é".repeat(MAX_TEXT) + "… (3 more characters)");
        assert_eq!(Html::from("é".repeat(MAX_TEXT)).into_markup(), "é".repeat(MAX_TEXT));
    }
}
