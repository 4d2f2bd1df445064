//! Warnings: told in every form, also when nothing else is; and errors where they are denied.

use libtest_mimic::{Failed, Trial};

use super::{equal, examples_of_codes, plain_tool, told};
use crate::support::test;

/// An object whose one program is safe, but has a warning.
const WARNED: &str = "BPF2050.o";

pub fn trials() -> Vec<Trial> {
    vec![
        test("messages::warnings_are_told_in_every_form", every_form),
        test("messages::denied_warnings_are_errors_and_nothing_is_written", denied),
    ]
}

fn every_form() -> Result<(), Failed> {
    for (form, warning) in [
        ("human", "warning[BPF2050]: "),
        ("short", ": warning[BPF2050]: "),
        ("msbuild", ": warning BPF2050: "),
        ("json", "\"severity\":\"warning\",\"code\":\"BPF2050\""),
        ("sarif", "\"level\": \"warning\""),
    ] {
        let mut command = plain_tool();
        command
            .args(["verify", "--quiet", WARNED, "--message-format", form])
            .current_dir(examples_of_codes());
        let (status, out, err) = told(&mut command)?;
        let text = out + &err;
        equal(
            &(status, text.contains(warning)),
            &(0, true),
            &format!("{form}: {text}"),
        )?;
    }
    Ok(())
}

fn denied() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let object = examples_of_codes().join(WARNED);
    for subcommand in [&["verify"][..], &["build", "-o", "a.sys"]] {
        let mut command = plain_tool();
        command.args(subcommand).arg(&object).current_dir(&folder);
        equal(&told(&mut command)?.0, &0, "without the option")?;
        let _ = std::fs::remove_file(folder.path().join("a.sys"));
        let (status, _, text) = told(command.arg("--deny-warnings"))?;
        equal(&status, &4, &text)?;
        if !text.contains("error[BPF2050]: ") || !text.contains("`--deny-warnings`") {
            return Err(text.into());
        }
        equal(&std::fs::read_dir(&folder)?.count(), &0, "files that were written")?;
    }
    Ok(())
}
