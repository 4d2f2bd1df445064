//! What pages are made of: sections, tables, lists of facts.

use super::html::{Html, Tag, tag};

/// Most rows of one table.
pub(super) const MAX_ROWS: usize = 1_000;

/// A part of the page that the table of contents leads to.
pub(super) struct Section {
    /// Its id, which is a word of this program and a number at most.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// What is in it.
    pub content: Html,
    /// Parts of it that the table of contents has, too.
    pub below: Vec<Entry>,
}

/// A place that the table of contents leads to.
pub(super) struct Entry {
    pub id: String,
    pub title: String,
}

impl Section {
    pub(super) fn new(id: &str, title: &str, content: impl Into<Html>) -> Section {
        Section {
            id: id.to_owned(),
            title: title.to_owned(),
            content: content.into(),
            below: Vec::new(),
        }
    }
}

/// A paragraph.
pub(super) fn paragraph(text: impl Into<Html>) -> Tag {
    tag("p").with(text)
}

/// Words of this program, in which backticks enclose code.
pub(super) fn prose(text: &str) -> Html {
    let parts = text.split('`').enumerate();
    Html::of(parts.map(|(number, part)| match number % 2 {
        0 => Html::from(part),
        _ => code(part).into(),
    }))
}

/// A remark that is not about the driver but about the page.
pub(super) fn note(text: impl Into<Html>) -> Tag {
    tag("p").class("note").with(text)
}

/// A name, a number or another word of code.
pub(super) fn code(text: impl Into<Html>) -> Tag {
    tag("code").with(text)
}

/// A hash or another long word that may break anywhere.
pub(super) fn digits(text: impl Into<Html>) -> Tag {
    tag("code").class("digits").with(text)
}

/// A heading of the third level.
pub(super) fn heading(text: impl Into<Html>) -> Tag {
    tag("h3").with(text)
}

/// Words in a list, with commas.
pub(super) fn listed(words: impl IntoIterator<Item: Into<Html>>) -> Html {
    let mut all = Html::default();
    for (index, word) in words.into_iter().enumerate() {
        if index > 0 {
            all.push(", ");
        }
        all.push(word);
    }
    all
}

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Good,
    Bad,
    /// Neither: not judged, or does not apply.
    Open,
}

impl Mark {
    fn class(self) -> &'static str {
        match self {
            Mark::Good => "mark good",
            Mark::Bad => "mark bad",
            Mark::Open => "mark open",
        }
    }

    /// Good or bad.
    pub(super) fn of(is_good: bool) -> Mark {
        if is_good { Mark::Good } else { Mark::Bad }
    }

    /// A word with that mark.
    pub(super) fn on(self, word: impl Into<Html>) -> Tag {
        tag("span").class(self.class()).with(word)
    }
}

/// Names and what they are.
#[derive(Default)]
pub(super) struct Facts(Html);

impl Facts {
    pub(super) fn add(&mut self, name: &str, value: impl Into<Html>) {
        self.0
            .push(tag("div").with(tag("dt").with(name)).with(tag("dd").with(value)));
    }

    pub(super) fn add_some(&mut self, name: &str, value: Option<impl Into<Html>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}

impl From<Facts> for Html {
    fn from(facts: Facts) -> Html {
        tag("dl").class("facts").with(facts.0).into()
    }
}

/// A table. The first cell of each row names the row.
pub(super) struct Table {
    caption: String,
    columns: &'static [&'static str],
    rows: Html,
    /// Rows that were asked for.
    count: usize,
}

impl Table {
    pub(super) fn new(caption: impl Into<String>, columns: &'static [&'static str]) -> Table {
        Table {
            caption: caption.into(),
            columns,
            rows: Html::default(),
            count: 0,
        }
    }

    /// Adds a row; beyond [`MAX_ROWS`] it is only counted.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item: Into<Html>>) {
        self.count += 1;
        if self.count > MAX_ROWS {
            return;
        }
        let mut row = tag("tr");
        for (index, cell) in cells.into_iter().enumerate() {
            row = row.with(match index {
                0 => tag("th").attribute("scope", "row").with(cell),
                _ => tag("td").with(cell),
            });
        }
        self.rows.push(row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl From<Table> for Html {
    fn from(table: Table) -> Html {
        let head = tag("tr").with_all(
            table
                .columns
                .iter()
                .map(|c| tag("th").attribute("scope", "col").with(*c)),
        );
        let all = tag("table")
            .with(tag("caption").with(&table.caption))
            .with(tag("thead").with(head))
            .with(tag("tbody").with(table.rows));
        let more = table.count.saturating_sub(MAX_ROWS);
        let more = (more > 0).then(|| note(format!("{more} more rows are not shown.")));
        scrolling(&table.caption, all).with(more)
    }
}

/// Something wide, which scrolls in a box of its own, also by keyboard.
pub(super) fn scrolling(what: &str, wide: impl Into<Html>) -> Html {
    let scroll = tag("div")
        .class("scroll")
        .attribute("tabindex", "0")
        .attribute("role", "region")
        .attribute("aria-label", what);
    scroll.with(wide).into()
}

/// A number with its noun: `1 program`, `2 programs`.
pub(super) fn counted(count: usize, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

/// A number of bytes, in words that are read at a glance.
pub(super) fn bytes(count: u64) -> String {
    match count {
        1 => "1 byte".to_owned(),
        0..10_000 => format!("{count} bytes"),
        _ => format!("{count} bytes ({:.1} KiB)", count as f64 / 1024.0),
    }
}

/// The first sentence of a text.
pub(super) fn first_sentence(text: &str) -> &str {
    text.find(". ").map_or(text, |end| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_end_and_say_how_much_is_missing() {
        let mut table = Table::new("Numbers", &["Number"]);
        for number in 0..MAX_ROWS + 2 {
            table.row([number.to_string()]);
        }
        let markup = Html::from(table).into_markup();
        assert_eq!(markup.matches("<tr>").count(), MAX_ROWS + 1);
        assert!(markup.contains("2 more rows are not shown."));
    }

    #[test]
    fn backticks_enclose_code() {
        assert_eq!(prose("a `b<` c").into_markup(), "a <code>b&lt;</code> c");
    }
}
