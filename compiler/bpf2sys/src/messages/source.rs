//! A source line as a terminal shows it, and where its columns are.
//!
//! Columns count bytes of the line, from 1, as the compiler does; a terminal has cells. A tab takes four of them, a wide
//! character two, an escape as many as it has characters.

use unicode_width::UnicodeWidthStr;

use super::printable;
use crate::SourcePlace;

const TAB: &str = "    ";

/// The line's text as it is shown.
pub(super) fn shown(text: &str) -> String {
    text.trim_end().split('\t').map(printable).collect::<Vec<_>>().join(TAB)
}

/// How many cells are before a place's column in its line; none if the column is not known, or the line is not.
pub(super) fn cells_before(place: &SourcePlace) -> Option<usize> {
    (!place.text.is_empty()).then_some(())?;
    let before = shown_prefix(&place.text, place.column)?;
    Some(before.width())
}

/// The column in UTF-16 code units, from 1; as the compiler counted it where the line's text is not known.
pub(super) fn utf16_column(place: &SourcePlace) -> Option<u32> {
    if place.text.is_empty() {
        return (place.column > 0).then_some(place.column);
    }
    let units = prefix(&place.text, place.column)?.encode_utf16().count();
    u32::try_from(units + 1).ok()
}

/// The bytes before a column; all of them if the line is shorter.
fn prefix(text: &str, column: u32) -> Option<&str> {
    let bytes = usize::try_from(column.checked_sub(1)?).ok()?;
    Some(&text[..text.floor_char_boundary(bytes)])
}

/// What is shown of the bytes before a column.
fn shown_prefix(text: &str, column: u32) -> Option<String> {
    let before = prefix(text, column)?;
    Some(before.split('\t').map(printable).collect::<Vec<_>>().join(TAB))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, column: u32) -> SourcePlace {
        SourcePlace {
            file: "f.c".into(),
            line: 1,
            column,
            text: text.into(),
        }
    }

    #[test]
    fn tabs_wide_characters_and_escapes_take_the_cells_that_they_take() {
        for (text, column, cells, utf16) in [
            ("return *p;", 8, 7, 8),
            ("\t\treturn *p;", 3, 8, 3),
            ("/* ü */ x", 10, 8, 9),
            ("/* 数値 */ x", 14, 11, 10),
            ("\u{1b}x", 2, 6, 2),
            ("/* 😀 */ x", 12, 9, 10),
            // Inside of a character, and past the end of the line.
            ("ü", 2, 0, 1),
            ("ab", 1023, 2, 3),
        ] {
            assert_eq!(cells_before(&place(text, column)), Some(cells), "{text:?}");
            assert_eq!(utf16_column(&place(text, column)), Some(utf16), "{text:?}");
            assert!(shown(text).width() >= cells, "{text:?}");
        }
    }

    #[test]
    fn an_unknown_column_is_nowhere() {
        assert_eq!(cells_before(&place("ab", 0)), None);
        assert_eq!(utf16_column(&place("ab", 0)), None);
        assert_eq!(utf16_column(&place("", 0)), None);
        assert_eq!(cells_before(&place("", 7)), None);
        assert_eq!(utf16_column(&place("", 7)), Some(7));
    }
}
