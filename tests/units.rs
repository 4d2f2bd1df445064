//! Objects of several translation units, built and run: they must do what the object of the same source in one unit does.

use libtest_mimic::{Failed, Trial};

use crate::support::{Need, root, succeed, test_with, tool};

pub fn trials() -> Vec<Trial> {
    let needs: &[Need] = if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        &[]
    } else {
        &[Need::Emulator]
    };
    [
        (
            "units::linked_by_bpftool_they_run_as_one_unit_does",
            "linked.o",
            "together.o",
        ),
        (
            "units::joined_by_another_linker_they_run_as_one_unit_does",
            "named_ld_r.o",
            "named_together.o",
        ),
    ]
    .into_iter()
    .map(|(name, linked, together)| {
        test_with(name, needs, move || {
            for program in ["entry", "second_entry", "bound"] {
                let (linked, together) = (run(linked, program)?, run(together, program)?);
                if linked != together {
                    return Err(format!("{program}: linked {linked:#?}, as one unit {together:#?}").into());
                }
            }
            Ok(())
        })
    })
    .collect()
}

/// What a program of an object returns and leaves in its maps, called three times: the lines of the report, sorted, each number in them with
/// its words sorted. The order of maps, and of variables in a section, is up to the linker.
fn run(object: &str, program: &str) -> Result<Vec<String>, Failed> {
    let folder = tempfile::tempdir()?;
    let fixtures = root().join("compiler/bytecode/tests/fixtures/units");
    // One name, because maps of global variables are named after the file.
    std::fs::copy(fixtures.join(object), folder.path().join("units.o"))?;
    succeed(tool().args(["build", "units.o"]).current_dir(&folder))?;
    // The types of the object would put variables under their names, which are not all there in both.
    std::fs::remove_file(folder.path().join("units.o"))?;
    let report = succeed(
        tool()
            .args(["run", "units.sys", "--repeat", "3", "--program", program])
            .current_dir(&folder),
    )?;
    let mut lines: Vec<String> = report.lines().map(sorted_words).collect();
    lines.sort();
    Ok(lines)
}

/// The line with the eight-digit groups of its last word in order.
fn sorted_words(line: &str) -> String {
    let (start, number) = line.rsplit_once(' ').unwrap_or(("", line));
    let number = number.strip_prefix("hex:").unwrap_or(number);
    let mut words: Vec<&[u8]> = number.as_bytes().chunks(8).collect();
    words.sort_unstable();
    format!("{start} {}", String::from_utf8_lossy(&words.concat()))
}
