//! The examples of the page for people.

use serde_json::Value;

use super::{decode, encode, platform};

const PAGE: &str = include_str!("../../../docs/contexts.md");

/// The examples, each with the heading that it is under.
fn examples() -> Vec<(String, String)> {
    let (mut heading, mut example) = (String::new(), None);
    let mut examples = Vec::new();
    for line in PAGE.lines() {
        match &mut example {
            None if line == "```json" => example = Some(String::new()),
            None => {
                if let Some(name) = line.strip_prefix("## ") {
                    heading = name.trim_matches('`').to_owned();
                }
            }
            Some(text) if line == "```" => {
                examples.push((heading.clone(), std::mem::take(text)));
                example = None;
            }
            Some(text) => *text += line,
        }
    }
    examples
}

#[test]
fn examples_are_contexts() {
    let platform = platform();
    let examples = examples();
    for program_type in &platform.program_types {
        let own: Vec<&String> = examples
            .iter()
            .filter(|(heading, _)| *heading == program_type.name)
            .map(|(_, text)| text)
            .collect();
        assert!(!own.is_empty(), "no example for {}", program_type.name);
        for text in own {
            let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let given = encode(&program_type.context, &value).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(
                given.context.iter().any(|byte| *byte != 0) || given.data.is_some(),
                "{text}"
            );
            let shown = decode(&program_type.context, &given.context, given.data.as_deref());
            let again = encode(&program_type.context, &shown.into()).unwrap();
            assert_eq!((again.context, again.data), (given.context, given.data), "{text}");
        }
    }
    let known = |heading: &String| platform.program_types.iter().any(|t| t.name == *heading);
    assert!(examples.iter().all(|(heading, _)| known(heading)), "{examples:?}");
}
