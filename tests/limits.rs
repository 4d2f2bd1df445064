//! Limits of verification: they are kept, the message says what to do, nothing is written, and the process is gone at once.
//!
//! It is PREVAIL that comes to them: our engine gives its verdict of the same modules in a fraction of the time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::support::{output, root, test, tool};

pub fn trials() -> Vec<Trial> {
    let cases = [
        // (fixture, limits, code, how long it may take until the limit is noticed)
        ("endless", &["--time-limit", "1"][..], "BPF2015", 1),
        ("nested", &["--time-limit", "1"], "BPF2015", 1),
        ("large", &["--time-limit", "1"], "BPF2015", 1),
        ("large", &["--memory-limit", "16"], "BPF2018", 60),
    ];
    let mut trials: Vec<Trial> = cases
        .into_iter()
        .map(|(object, limits, code, seconds)| {
            let name = format!(
                "limits::{object}_ends_at_the{}",
                limits[0].replace("--", "_").replace('-', "_")
            );
            test(&name, move || ends(object, limits, code, Duration::from_secs(seconds)))
        })
        .collect();
    trials.push(test("limits::our_engine_does_not_come_to_them", || {
        let objects = ["endless", "nested", "large"].map(fixture);
        let out = output(
            tool()
                .args(["verify", "--time-limit", "30", "--memory-limit", "512"])
                .args(objects),
        )?;
        if out.status.success() {
            return Ok(());
        }
        Err(format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr)).into())
    }));
    trials.push(test("limits::many_modules_of_many_programs_share_the_threads", share));
    trials
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/limits").join(name).with_extension("o")
}

/// `build` with these limits fails as it should, and leaves nothing behind.
fn ends(object: &str, limits: &[&str], code: &str, expected: Duration) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("image.sys");
    let started = Instant::now();
    let out = output(
        tool()
            .args(["build", "--verifier", "prevail"])
            .args(limits)
            .arg("-o")
            .arg(&image)
            .arg(fixture(object)),
    )?;
    let took = started.elapsed();
    let told = String::from_utf8_lossy(&out.stderr);
    if out.status.code() != Some(4) {
        return Err(format!("{}: {told}", out.status).into());
    }
    for part in [
        &format!("error[{code}]"),
        &format!("`{object}`"),
        &format!("`{} ", limits[0]),
    ] {
        if !told.contains(part) {
            return Err(format!("no {part} in: {told}").into());
        }
    }
    if std::fs::read_dir(folder.path())?.next().is_some() {
        return Err("something was written".into());
    }
    // Other tests run at the same time; alone it is a tenth of a second.
    if took > expected + Duration::from_secs(10) {
        return Err(format!("it took {took:?}").into());
    }
    Ok(())
}

/// Each verification gets on although there are more of them than processors.
fn share() -> Result<(), Failed> {
    let inputs = std::iter::repeat_n(fixture("many"), 4);
    let out = output(tool().args(["verify", "--time-limit", "60"]).args(inputs))?;
    let safe = String::from_utf8_lossy(&out.stdout).lines().count();
    if !out.status.success() || safe != 4 * 30 {
        return Err(format!(
            "{}: {safe} programs: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        )
        .into());
    }
    Ok(())
}
