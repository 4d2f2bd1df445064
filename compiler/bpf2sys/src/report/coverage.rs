//! What ran: marks in the code of a driver, and a page of its own (`--coverage FILE.html`).

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_testing::coverage::{Branch, Coverage, FileCoverage, Share, Way};

use super::html::{Html, Tag, tag};
use super::page::{self, Document};
use super::parts::{Entry, Mark, Section, Table, code, note, scrolling};

/// Most lines of source that a page shows.
const MAX_LINES: usize = 40_000;

/// How many lines without code are shown before and behind one that has code.
const AROUND: u32 = 6;

/// How often a line ran of a file as the object names it; `None` if it was not counted. A tracefile can have more or less of
/// a path than the object.
pub(super) fn count(coverage: &Coverage, file: &str, line: u32) -> Option<u64> {
    let known = coverage.files.get(file).or_else(|| {
        let mut alike = coverage
            .files
            .iter()
            .filter(|(name, _)| is_end_of(name, file) || is_end_of(file, name));
        let (_, only) = alike.next()?;
        alike.next().is_none().then_some(only)
    });
    known?.lines.get(&line).copied()
}

/// Whether a path ends with another one.
fn is_end_of(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.ends_with(['/', '\\']))
}

/// How many of some lines ran. Each counts once.
pub(super) fn share<'a>(coverage: &Coverage, lines: impl IntoIterator<Item = (&'a str, u32)>) -> Share {
    let distinct: BTreeSet<(&str, u32)> = lines.into_iter().collect();
    let counts = distinct
        .into_iter()
        .filter_map(|(file, line)| count(coverage, file, line));
    counts.fold(Share::default(), |share, count| Share {
        hit: share.hit + usize::from(count > 0),
        of: share.of + 1,
    })
}

/// A page about what ran. `source` gives the text of a file, if it is there.
pub(crate) fn coverage_page(coverage: &Coverage, source: &dyn Fn(&str) -> Option<String>) -> String {
    let (lines, ways) = (coverage.line_share(), coverage.branch_share());
    let mut left = MAX_LINES;
    let mut below = Vec::new();
    let mut listings = Html::default();
    for (number, (name, file)) in coverage.files.iter().enumerate() {
        let id = format!("file{number}");
        listings.push(tag("h3").attribute("id", &id).with(code(name)));
        listings.push(listing(name, file, source(name).as_deref(), &mut left));
        below.push(Entry {
            id,
            title: page::file_name(name).to_owned(),
        });
    }
    let explained = "A line ran as often as the number beside it says; where it has none, it has no code of its own, and \
                     where there are many such lines they are left out. Below a line \
                     that goes one way or another are the lines where it goes on, and how often each way was gone.";
    let sections = [
        Section::new("files", "Files", files(coverage)),
        Section {
            below,
            ..Section::new("lines", "Lines", Html::from(note(explained)).with(listings))
        },
    ];
    page::document(&Document {
        kicker: "Coverage",
        title: "Coverage",
        heading: "What ran",
        lead: format!("Lines: {lines}. Ways of branches: {ways}."),
        sections: &sections,
    })
}

/// A row for each file and one for each function.
fn files(coverage: &Coverage) -> Html {
    let mut files = Table::new("Files", &["File", "Lines", "Ways of branches", "Functions"]);
    let mut functions = Table::new("Functions", &["Function", "File", "First line", "Calls"]);
    for (number, (name, file)) in coverage.files.iter().enumerate() {
        let link = tag("a").attribute("href", format!("#file{number}")).with(code(name));
        let share = |share: Share| {
            if share.of == 0 {
                Html::from("none")
            } else {
                mark(share).into()
            }
        };
        files.row([
            Html::from(link),
            share(file.line_share()),
            share(file.branch_share()),
            share(file.function_share()),
        ]);
        for (function, known) in &file.functions {
            let calls = Mark::of(known.count > 0).on(known.count.to_string());
            functions.row([
                Html::from(code(function)),
                code(page::file_name(name)).into(),
                known.line.to_string().into(),
                calls.into(),
            ]);
        }
    }
    let mut all = Html::from(files);
    if !functions.is_empty() {
        all.push(functions);
    }
    all
}

fn mark(share: Share) -> Tag {
    let all = if share.hit == share.of { Mark::Good } else { Mark::Open };
    all.on(share.to_string())
}

/// The lines of a file: of the text, if it is the one that was compiled, and otherwise those that the object has.
fn listing(name: &str, file: &FileCoverage, text: Option<&str>, left: &mut usize) -> Html {
    let text: Option<Vec<&str>> = text.map(|text| text.lines().collect());
    let is_same = text.as_ref().is_some_and(|lines| {
        let mut known = file.texts.iter();
        known.all(|(number, text)| line_of(lines, *number).is_some_and(|line| line.trim() == text.trim()))
    });
    let mut before = Html::default();
    let all: BTreeMap<u32, &str> = match (&text, is_same) {
        (Some(lines), true) => (1..).zip(lines.iter().copied()).collect(),
        (found, _) => {
            let why = match found {
                Some(_) => {
                    "The file that has this name now is not the one that was compiled: only lines that have code are shown."
                }
                None => "The file is not here: only lines that have code are shown.",
            };
            before.push(note(why));
            let texts = file
                .lines
                .keys()
                .map(|line| (*line, file.texts.get(line).map_or("", String::as_str)));
            texts.collect()
        }
    };
    let mut ways: BTreeMap<u32, Vec<&BTreeMap<Way, u64>>> = BTreeMap::new();
    for (Branch { line, .. }, of) in &file.branches {
        ways.entry(*line).or_default().push(of);
    }
    let near = |number: u32| {
        let around = number.saturating_sub(AROUND)..=number.saturating_add(AROUND);
        file.lines.range(around).next().is_some()
    };
    let wanted: Vec<(&u32, &&str)> = all.iter().filter(|(number, _)| near(**number)).collect();
    let shown = wanted.len().min(*left);
    *left -= shown;
    let mut rows = Html::default();
    let mut last = None;
    for (number, text) in wanted.iter().take(shown) {
        if is_same && last.map_or(**number > 1, |last| last + 1 < **number) {
            rows.push(tag("tr").with_all(["", "⋮", ""].map(|cell| tag("td").with(cell))));
        }
        last = Some(**number);
        let of = ways.get(number).map_or(&[][..], Vec::as_slice);
        rows.push(row(**number, file.lines.get(number).copied(), text, of));
    }
    let columns = ["Times", "Line", "Source"].map(|name| tag("th").attribute("scope", "col").with(name));
    let table = tag("table")
        .class("code")
        .with(tag("thead").with(tag("tr").with_all(columns)))
        .with(tag("tbody").with(rows));
    let more = wanted.len() - shown;
    let more = (more > 0).then(|| note(format!("{more} more lines are not shown.")));
    before.with(scrolling(&format!("Lines of {name}"), table)).with(more)
}

fn line_of<'a>(lines: &[&'a str], number: u32) -> Option<&'a str> {
    lines.get((number as usize).checked_sub(1)?).copied()
}

fn row(number: u32, count: Option<u64>, text: &str, branches: &[&BTreeMap<Way, u64>]) -> Tag {
    let ran = count.map(|count| {
        let class = if count > 0 { "ran" } else { "never-ran" };
        tag("span").class(class).with(format!("{count}×"))
    });
    let mut source = tag("td").class("whole").with(text);
    for ways in branches {
        let mut told = tag("div").class("ways").with("goes on at ");
        for (index, (way, count)) in ways.iter().enumerate() {
            if index > 0 {
                told = told.with(", ");
            }
            let place = match way {
                Way::Line(line) => format!("line {line}"),
                Way::File(file, line) => format!("{}:{line}", page::file_name(file)),
                Way::Out => "the end".to_owned(),
                Way::Number(number) => format!("way {number}"),
            };
            let class = if *count > 0 { "ran" } else { "never-ran" };
            told = told
                .with(place + " ")
                .with(tag("span").class(class).with(format!("{count}×")));
        }
        source = source.with(told);
    }
    tag("tr")
        .with(tag("td").class("count").with(ran))
        .with(tag("td").with(tag("span").class("line").with(number.to_string())))
        .with(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(names: &[&str]) -> Coverage {
        let mut file = FileCoverage {
            lines: [(1, 2), (3, 0)].into(),
            texts: [(1, "int f(void) {".into()), (3, "<i>return</i>;".into())].into(),
            ..FileCoverage::default()
        };
        let ways = [(Way::Line(3), 0), (Way::File("x/b.h".into(), 7), 2)];
        file.branches.insert(Branch { line: 1, column: 4 }, ways.into());
        Coverage {
            files: names.iter().map(|name| ((*name).to_owned(), file.clone())).collect(),
        }
    }

    #[test]
    fn lines_count_once_and_names_may_have_more_or_less_of_a_path() {
        let one = coverage(&["src/a.c"]);
        assert_eq!(count(&one, "a.c", 1), Some(2));
        assert_eq!(count(&one, "/build/src/a.c", 1), Some(2));
        assert_eq!(count(&one, "ba.c", 1), None);
        assert_eq!(count(&one, "a.c", 2), None);
        // Which of two is meant is not known, unless one has the name itself.
        assert_eq!(count(&coverage(&["x/a.c", "y/a.c"]), "a.c", 1), None);
        assert_eq!(count(&coverage(&["x/a.c", "a.c"]), "a.c", 1), Some(2));
        let share = share(&one, [("a.c", 1), ("a.c", 1), ("a.c", 2), ("a.c", 3)]);
        assert_eq!(share, Share { hit: 1, of: 2 });
    }

    #[test]
    fn a_page_shows_the_file_or_what_the_object_has_of_it() {
        let text = "int f(void) {\n\n  <i>return</i>;\n// more\n";
        let whole = coverage_page(&coverage(&["a.c"]), &|_| Some(text.to_owned()));
        assert!(whole.contains("// more") && whole.contains("&lt;i&gt;return&lt;/i&gt;;"));
        assert!(
            whole.contains("goes on at line 3 ") && whole.contains("b.h:7 "),
            "{whole}"
        );
        for other in [None, Some(text.replace("return", "go"))] {
            let page = coverage_page(&coverage(&["a.c"]), &|_| other.clone());
            assert!(page.contains("only lines that have code are shown") && !page.contains("// more"));
            assert!(page.contains("&lt;i&gt;return&lt;/i&gt;;"));
        }
        let long = text.to_owned() + &"// far\n".repeat(20);
        let page = coverage_page(&coverage(&["a.c"]), &|_| Some(long.clone()));
        assert_eq!(page.matches("// far").count(), 5);
        assert_eq!(whole, coverage_page(&coverage(&["a.c"]), &|_| Some(text.to_owned())));
    }
}
