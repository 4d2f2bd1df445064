//! The forms for people: colours where they belong, the sum of all, one line for each.

use libtest_mimic::{Failed, Trial};

use super::{equal, plain_tool, rejected, told};
use crate::support::test;

pub fn trials() -> Vec<Trial> {
    vec![
        test("messages::colours_are_for_terminals_unless_asked_for", colours),
        test("messages::several_problems_are_summed_up", summary),
        test("messages::the_short_form_has_a_line_for_each_problem", short),
    ]
}

fn colours() -> Result<(), Failed> {
    #[allow(clippy::type_complexity)] // a table
    let cases: [(&[(&str, &str)], &[&str], bool); 8] = [
        (&[], &[], false),
        (&[("CLICOLOR_FORCE", "1")], &[], true),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[], false),
        (&[], &["--color", "always"], true),
        (&[("NO_COLOR", "1")], &["--color=always"], true),
        (&[("CLICOLOR_FORCE", "1")], &["--color", "never"], false),
        // These are read by machines, whatever the terminal is.
        (&[], &["--color", "always", "--message-format", "short"], false),
        (&[], &["--color", "always", "--message-format", "msbuild"], false),
    ];
    for (environment, options, expected) in cases {
        let mut command = plain_tool();
        command
            .args(["verify", "null_map_value.o"])
            .args(options)
            .current_dir(rejected());
        command.envs(environment.iter().copied());
        let (_, _, text) = told(&mut command)?;
        equal(
            &text.contains('\u{1b}'),
            &expected,
            &format!("{environment:?} {options:?}: {text}"),
        )?;
    }
    // What clap says of the command line follows, too.
    let (_, _, text) = told(plain_tool().args(["verify", "--color", "always", "--what"]))?;
    equal(&text.contains('\u{1b}'), &true, &text)
}

fn summary() -> Result<(), Failed> {
    let verify = |inputs: &[&str]| told(plain_tool().arg("verify").args(inputs).current_dir(rejected()));
    let (_, _, one) = verify(&["null_map_value.o"])?;
    if one.contains("rejected\n") || one.matches("error").count() != 1 {
        return Err(format!("one problem is its own sum:\n{one}").into());
    }
    let (_, _, three) = verify(&["null_map_value.o", "packet_off_by_one.o", "none.o"])?;
    let last = three.lines().last().unwrap_or_default();
    equal(&last, &"error: 2 programs rejected, 1 other error", &three)
}

fn short() -> Result<(), Failed> {
    let inputs = ["null_map_value.o", "packet_off_by_one.o", "none.o"];
    let mut command = plain_tool();
    command
        .args(["verify", "--message-format=short"])
        .args(inputs)
        .current_dir(rejected());
    let (status, _, text) = told(&mut command)?;
    equal(&status, &4, &text)?;
    let lines: Vec<&str> = text.lines().collect();
    let [first, second, third] = lines.as_slice() else {
        return Err(format!("not a line for each:\n{text}").into());
    };
    for (line, begin) in [
        (first, "tests/fixtures/rejected/null_map_value.c:"),
        (second, "tests/fixtures/rejected/packet_off_by_one.c:"),
        (third, "none.o: error[BPF9001]: "),
    ] {
        if !line.starts_with(begin) || !line.contains(": error[BPF") {
            return Err(format!("{line} does not begin with {begin}").into());
        }
    }
    Ok(())
}
