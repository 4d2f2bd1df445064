//! The form for `MSBuild`, read as its documentation says that it is read: "`MSBuild` and Visual Studio format for diagnostic
//! messages".

use libtest_mimic::{Failed, Trial};

use super::{equal, examples_of_codes, objects, plain_tool, rejected, told};
use crate::support::test;

pub fn trials() -> Vec<Trial> {
    vec![
        test("messages::msbuild_recognizes_every_problem", every_problem),
        test("messages::msbuild_recognizes_a_wrong_command_line", wrong_command_line),
        test(
            "messages::msbuild_takes_no_result_for_a_problem",
            no_result_is_a_problem,
        ),
    ]
}

/// What the documented pattern finds in a line: `Origin : Subcategory Category Code : Text`.
#[derive(Debug, PartialEq, Eq)]
struct Recognized {
    origin: String,
    line: Option<u32>,
    column: Option<u32>,
    category: String,
    code: String,
    text: String,
}

/// Reads a line as the build system does. An origin ends at the first colon, but for the one of a drive, and can be
/// missing; then come, without another colon, words that end with `error` or `warning` and a code, and a colon.
fn recognize(line: &str) -> Option<Recognized> {
    let line = line.trim_start();
    let drive = matches!(line.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    let colon = line[if drive { 2 } else { 0 }..].find(':')? + if drive { 2 } else { 0 };
    let candidates = [(&line[..colon], &line[colon + 1..]), ("", line)];
    candidates.into_iter().find_map(|(origin, rest)| {
        let (head, text) = rest.split_once(':')?;
        let words: Vec<&str> = head.split(' ').filter(|word| !word.is_empty()).collect();
        let (category, code) = match words.as_slice() {
            [.., category, code] if is_category(category) => (category, *code),
            [.., category] if is_category(category) => (category, ""),
            _ => return None,
        };
        let (file, line, column) = location(origin.trim());
        Some(Recognized {
            origin: file,
            line,
            column,
            category: (*category).to_owned(),
            code: code.to_owned(),
            text: text.trim().to_owned(),
        })
    })
}

fn is_category(word: &str) -> bool {
    word.eq_ignore_ascii_case("error") || word.eq_ignore_ascii_case("warning")
}

/// `file(line)` or `file(line,column)`.
fn location(origin: &str) -> (String, Option<u32>, Option<u32>) {
    let parsed = origin.strip_suffix(')').and_then(|rest| {
        let (file, numbers) = rest.rsplit_once('(')?;
        let (line, column) = match numbers.split_once(',') {
            Some((line, column)) => (line, Some(column.parse().ok()?)),
            None => (numbers, None),
        };
        Some((file.to_owned(), Some(line.parse().ok()?), column))
    });
    parsed.unwrap_or_else(|| (origin.to_owned(), None, None))
}

fn every_problem() -> Result<(), Failed> {
    // The documentation's own examples are understood.
    let found = recognize("C:\\dir1\\strings.resx(2) : error BC30188: Declaration expected.");
    equal(&found.and_then(|f| f.line), &Some(2), "the documented form")?;
    let (mut problems, mut with_columns) = (0, 0);
    for folder in [rejected(), examples_of_codes()] {
        for object in objects(&folder)? {
            let mut command = plain_tool();
            command
                .args(["verify", "--quiet", "--message-format", "msbuild", &object])
                .current_dir(&folder);
            let (status, _, text) = told(&mut command)?;
            equal(&text.is_empty(), &(status == 0), &format!("{object}: {text}")).or_else(|failed| {
                if text.contains(": warning BPF") {
                    Ok(())
                } else {
                    Err(failed)
                }
            })?;
            for line in text.lines() {
                let found = recognize(line).ok_or_else(|| format!("{object}: not recognized: {line}"))?;
                let code_is_ours = found.code.len() == 7 && found.code.starts_with("BPF");
                if !code_is_ours || found.text.is_empty() || found.origin.is_empty() {
                    return Err(format!("{object}: {found:?} of {line}").into());
                }
                if found.line.is_some() {
                    equal(&[".c", ".h"].iter().any(|end| found.origin.ends_with(end)), &true, line)?;
                }
                problems += 1;
                with_columns += usize::from(found.column.is_some());
            }
        }
    }
    if problems < 60 || with_columns < 40 {
        return Err(format!("only {problems} problems, {with_columns} of them with a column").into());
    }
    Ok(())
}

fn wrong_command_line() -> Result<(), Failed> {
    for arguments in [
        &["verify", "--what"][..],
        &["verify"],
        &[],
        &["what"],
        &["build", "a.o", "--lse"],
    ] {
        let mut command = plain_tool();
        command.args(["--message-format", "msbuild"]).args(arguments);
        let (status, out, text) = told(&mut command)?;
        equal(&(status, out.as_str()), &(2, ""), &format!("{arguments:?}: {text}"))?;
        let found = recognize(text.trim_end()).ok_or_else(|| format!("not recognized: {text}"))?;
        equal(
            &(found.origin.as_str(), found.code.as_str(), text.lines().count()),
            &("bpf2sys", "BPF9005", 1),
            &text,
        )?;
    }
    Ok(())
}

fn no_result_is_a_problem() -> Result<(), Failed> {
    let mut command = plain_tool();
    command
        .args(["verify", "--message-format", "msbuild", "BPF1001.o"])
        .current_dir(examples_of_codes());
    let (status, out, text) = told(&mut command)?;
    equal(&(status, text.as_str()), &(0, ""), "a good object")?;
    match out.lines().find(|line| recognize(line).is_some()) {
        None => Ok(()),
        Some(line) => Err(format!("would be a problem: {line}").into()),
    }
}
