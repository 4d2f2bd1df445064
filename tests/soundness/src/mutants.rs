//! Errors that are planted in the engine itself, to see that they are found.
//!
//! The list is `mutants.toml` beside this crate's manifest: for each error the text of the engine that it replaces. All of them
//! are woven into one copy of the engine, which an environment variable tells which error to make: so it is compiled once
//! and not once for each. `bpf2sys-mutants` does that and asks the judges; what they said is in `mutants.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the engine is, from the root of the workspace.
pub const ENGINE: &str = "compiler/verifier/src/native";

/// The list, from the root of the workspace.
pub const LIST: &str = "tests/soundness/mutants.toml";

/// The environment variable with the number of the error that a woven engine makes, from 1 on.
pub const CHOSEN: &str = "BPF2SYS_MUTANT";

/// Who finds an error. What one finds, those behind it are not asked.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// Random programs that are accepted run in the checking world.
    Soundness,
    /// The tests of the verifier's crate.
    Unit,
    /// The end-to-end tests of verdicts and messages.
    Rules,
}

/// An error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// What is wrong.
    pub name: String,
    /// The file of the engine, from its folder.
    pub file: String,
    /// The text that is replaced. It occurs once in the file, in the body of a function.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
    /// The first judge that finds it.
    pub found_by: Option<Judge>,
    /// Instead: why no judge can.
    pub harmless: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// The root of the workspace that this crate was compiled in.
pub fn root() -> PathBuf {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_root.ancestors().nth(2).unwrap_or(crate_root).to_path_buf()
}

/// Reads the list.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn list(root: &Path) -> Result<Vec<Mutant>, String> {
    let path = root.join(LIST);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let List { mutant } = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(mutant)
}

/// The files of the engine with all errors woven in, by their paths from the root of the workspace.
///
/// # Errors
/// Everything that is wrong with the list, a line each.
pub fn woven(root: &Path, mutants: &[Mutant]) -> Result<BTreeMap<PathBuf, String>, String> {
    let mut wrong = String::new();
    let mut files: BTreeMap<&str, Vec<(usize, &Mutant)>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for (number, mutant) in (1..).zip(mutants) {
        if !names.insert(&mutant.name) {
            let _ = writeln!(wrong, "{}: another error has this name", mutant.name);
        }
        if mutant.found_by.is_some() == mutant.harmless.is_some() {
            let _ = writeln!(wrong, "{}: give either `found_by` or `harmless`", mutant.name);
        }
        files.entry(&mutant.file).or_default().push((number, mutant));
    }
    let mut woven = BTreeMap::new();
    for (file, mutants) in files {
        let path = Path::new(ENGINE).join(file);
        match fs::read_to_string(root.join(&path)) {
            Ok(text) => {
                let text = weave(&text, &mutants, &mut wrong);
                woven.insert(path, text);
            }
            Err(error) => {
                let _ = writeln!(wrong, "{file}: {error}");
            }
        }
    }
    let library = Path::new("compiler/verifier/src/lib.rs");
    let text = fs::read_to_string(root.join(library)).map_err(|error| error.to_string())?;
    // Wrong forms leave much unused.
    let text = text.replacen("mod native;", "mod mutant;\nmod native;", 1);
    woven.insert(library.to_path_buf(), format!("#![allow(warnings)]\n{text}"));
    woven.insert(PathBuf::from("compiler/verifier/src/mutant.rs"), chooser());
    if wrong.is_empty() { Ok(woven) } else { Err(wrong) }
}

/// The module that knows which error to make.
fn chooser() -> String {
    format!(
        r#"//! Which error to make.

static CHOSEN: std::sync::OnceLock<u32> = std::sync::OnceLock::new();

/// Its number; 0 for none.
pub(crate) fn chosen() -> u32 {{
    *CHOSEN.get_or_init(|| std::env::var("{CHOSEN}").ok().and_then(|n| n.parse().ok()).unwrap_or(0))
}}
"#
    )
}

/// A file with each function that has errors replaced by a choice between it and its wrong forms.
fn weave(text: &str, mutants: &[(usize, &Mutant)], wrong: &mut String) -> String {
    let bodies = bodies(text);
    let mut forms: BTreeMap<usize, Vec<(usize, String)>> = BTreeMap::new();
    for (number, mutant) in mutants {
        let Mutant {
            name,
            file,
            find,
            replace,
            ..
        } = mutant;
        let mut found = text.match_indices(find.as_str()).map(|(at, _)| at);
        let place = match (found.next(), found.count()) {
            _ if find == replace => Err("`find` and `replace` are the same".to_owned()),
            (None, _) => Err(format!(
                "`find` does not occur in {file} any more: write what stands there now, or, if the error cannot be made any more, remove it"
            )),
            (Some(at), 0) => bodies
                .iter()
                .position(|body| body.contains(&at) && at + find.len() <= body.end)
                .map(|body| (body, at - bodies[body].start))
                .ok_or_else(|| "`find` is not in the body of a function that can be switched".to_owned()),
            (Some(_), more) => Err(format!(
                "`find` occurs {} times in {file}: take in more of what is around it",
                more + 1
            )),
        };
        match place {
            Ok((body, at)) => {
                let mut form = text[bodies[body].clone()].to_owned();
                form.replace_range(at..at + find.len(), replace);
                forms.entry(body).or_default().push((*number, form));
            }
            Err(why) => {
                let _ = writeln!(wrong, "{name}: {why}");
            }
        }
    }
    let mut result = text.to_owned();
    for (body, forms) in forms.into_iter().rev() {
        let range = bodies[body].clone();
        let mut choice = "match crate::mutant::chosen() {\n".to_owned();
        for (number, form) in forms {
            let _ = writeln!(choice, "{number} => {{{form}}}");
        }
        let _ = writeln!(choice, "_ => {{{}}}\n}}", &text[range.clone()]);
        result.replace_range(range, &choice);
    }
    result
}

/// What is between the braces of each function that runs and names its type, of functions in functions only the outer one. The
/// text has the layout of rustfmt.
fn bodies(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut header: Option<(&str, String)> = None;
    let mut open: Option<(&str, usize)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let line = line.trim_end();
        let indent = &line[..line.len() - line.trim_start().len()];
        if let Some((outer, body)) = open {
            if indent == outer && line.trim_start() == "}" {
                found.push(body..start);
                open = None;
            }
            continue;
        }
        let mut words = line.trim_start().split([' ', '<', '(']);
        let is_header = words.find(|word| !matches!(*word, "pub" | "super)" | "crate)" | "const")) == Some("fn");
        if is_header {
            header = Some((indent, String::new()));
        }
        if let Some((outer, signature)) = &mut header {
            signature.push_str(line);
            if line.ends_with('{') && indent == *outer {
                // A constant function cannot ask, and wrong forms of one type without a name are several types.
                if !signature.contains("const fn") && !signature.contains("-> impl") && !signature.contains("<impl") {
                    open = Some((outer, at));
                }
                header = None;
            } else if line.ends_with(';') {
                header = None;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_list_can_still_be_planted() {
        let root = root();
        let mutants = list(&root).unwrap();
        if let Err(wrong) = woven(&root, &mutants) {
            panic!("{LIST} no longer fits {ENGINE}:\n{wrong}");
        }
        assert!(mutants.len() >= 100, "{LIST} has become short");
    }

    fn mutant(find: &str, replace: &str) -> Mutant {
        Mutant {
            name: "n".to_owned(),
            file: "f".to_owned(),
            find: find.to_owned(),
            replace: replace.to_owned(),
            found_by: Some(Judge::Unit),
            harmless: None,
        }
    }

    const TEXT: &str = "\
const fn two() -> u32 {
    2
}

impl Number {
    pub(super) fn more(
        a: u32,
    ) -> u32 {
        fn inner() -> u32 {
            1
        }
        a + inner() + two()
    }
}
";

    #[test]
    fn a_function_becomes_a_choice() {
        let (mut wrong, first, second) = (String::new(), mutant("a + inner()", "a"), mutant("    1\n", "    7\n"));
        let woven = weave(TEXT, &[(3, &first), (5, &second)], &mut wrong);
        assert_eq!(wrong, "");
        let inner = "        fn inner() -> u32 {\n            1\n        }\n";
        let seven = inner.replace('1', "7");
        let expected = format!(
            ") -> u32 {{\nmatch crate::mutant::chosen() {{\n\
             3 => {{{inner}        a + two()\n}}\n\
             5 => {{{seven}        a + inner() + two()\n}}\n\
             _ => {{{inner}        a + inner() + two()\n}}\n}}\n    }}\n}}\n"
        );
        assert!(woven.ends_with(&expected), "{woven}");
    }

    #[test]
    fn what_cannot_be_planted_is_told() {
        for (find, replace, why) in [
            ("    2", "3", "not in the body"),
            ("gone", "3", "does not occur"),
            ("two()", "3", "occurs 2 times"),
            ("a + inner()", "a + inner()", "the same"),
        ] {
            let mut wrong = String::new();
            let text = weave(TEXT, &[(1, &mutant(find, replace))], &mut wrong);
            assert!(wrong.contains(why), "{find}: {wrong}");
            assert_eq!(text, TEXT);
        }
    }
}
