//! The examples of the page for people.

use crate::suite::parse;

const PAGE: &str = include_str!("../../../docs/test-files.md");

#[test]
fn examples_are_test_files() {
    let mut examples = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if line == "```toml" {
            let example: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            examples.push(example.join("\n"));
        }
    }
    assert!(examples.len() >= 4, "{}", examples.len());
    for example in examples {
        // Parts of files are of one that names its object.
        let names = ["object =", "source =", "image ="];
        let is_whole = example
            .lines()
            .any(|line| names.iter().any(|name| line.starts_with(name)));
        let whole = if is_whole {
            example
        } else {
            format!("object = \"f.o\"\n{example}")
        };
        parse(&whole).unwrap_or_else(|error| panic!("{whole}\nline {}: {error}", error.line));
    }
}

#[test]
fn every_key_is_on_the_page() {
    for (table, error) in [
        ("", parse("zzz = 1")),
        ("test", parse("object = \"f\"\n[[test]]\nzzz = 1")),
        (
            "step",
            parse("object = \"f\"\n[[test]]\nname = \"n\"\n[[test.step]]\nzzz = 1"),
        ),
        (
            "expect",
            parse("object = \"f\"\n[[test]]\nname = \"n\"\nexpect.zzz = 1"),
        ),
        ("never", parse("object = \"f\"\n[[test]]\nname = \"n\"\nnever.zzz = 1")),
        ("property", parse("object = \"f\"\n[[property]]\nname = \"n\"\nzzz = 1")),
        (
            "when",
            parse("object = \"f\"\n[[property]]\nname = \"n\"\nwhen = [{ zzz = 1 }]"),
        ),
    ] {
        let message = error.map(|_| ()).expect_err(table).message;
        let (_, known) = message.split_once("expected one of ").expect(&message);
        for key in known.split(", ") {
            let key = key.trim_matches(|c| c == '`' || c == '\n');
            let forms = [
                format!("`{key}`"),
                format!("`{table}.{key}`"),
                format!("`[{key}]`"),
                format!("`[[{key}]]`"),
                format!("`[[{table}.{key}]]`"),
            ];
            assert!(forms.iter().any(|form| PAGE.contains(form)), "{table}: {key}");
        }
    }
}
