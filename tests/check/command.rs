//! The command: statuses, forms of output, options.

use std::path::{Path, PathBuf};

use bpf2sys_check::Rule;
use libtest_mimic::{Failed, Trial};

use crate::support::{output, root, succeed, test, tool};

pub fn trials() -> Vec<Trial> {
    vec![
        test("check::status_is_0_6_or_3", status_is_0_6_or_3),
        test("check::json_has_a_row_for_each_rule", json_has_a_row_for_each_rule),
        test("check::options_ask_for_more", options_ask_for_more),
        test("check::rules_are_listed", rules_are_listed),
    ]
}

/// A good driver and a broken one.
fn drivers(folder: &Path) -> Result<(PathBuf, PathBuf), Failed> {
    let (good, bad) = (folder.join("good.sys"), folder.join("bad.sys"));
    let object = root().join("examples/udp_filter/udp_filter.o");
    succeed(tool().args(["build", "-o"]).arg(&good).arg(object))?;
    let mut bytes = std::fs::read(&good)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&bad, bytes)?;
    Ok((good, bad))
}

fn status_is_0_6_or_3() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (good, bad) = drivers(folder.path())?;
    let text = folder.path().join("text.sys");
    std::fs::write(&text, "no image")?;
    let run = |images: &[&PathBuf]| output(tool().arg("check").args(images));
    let told = |out: &std::process::Output| {
        let (text, errors) = (&out.stdout, &out.stderr);
        String::from_utf8_lossy(text).into_owned() + &String::from_utf8_lossy(errors)
    };
    let kept = run(&[&good])?;
    assert_eq!(kept.status.code(), Some(0), "{}", told(&kept));
    assert!(told(&kept).contains("hvci: pass ("), "{}", told(&kept));
    let broken = run(&[&good, &bad])?;
    assert_eq!(broken.status.code(), Some(6), "{}", told(&broken));
    for part in [
        "hvci: FAIL (",
        "1 broken",
        "error[BPF5020]: `pe.checksum` is broken: stated 0x",
        "demanded: the checksum is right",
        "otherwise: Windows compares it",
        "source: PE format",
    ] {
        assert!(told(&broken).contains(part), "no `{part}`: {}", told(&broken));
    }
    let none = run(&[&text])?;
    assert_eq!(none.status.code(), Some(3), "{}", told(&none));
    assert!(told(&none).contains("error[BPF5002]"), "{}", told(&none));
    assert_eq!(run(&[&text, &bad])?.status.code(), Some(6));
    assert_eq!(run(&[&text, &folder.path().join("nothing")])?.status.code(), Some(3));
    assert_eq!(run(&[])?.status.code(), Some(2));
    Ok(())
}

fn json_has_a_row_for_each_rule() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (good, bad) = drivers(folder.path())?;
    let out = output(tool().args(["check", "--json"]).args([&good, &bad]))?;
    assert_eq!(out.status.code(), Some(6));
    assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    let reports: serde_json::Value = serde_json::from_slice(&out.stdout)?;
    let reports = reports.as_array().ok_or("no list")?;
    for (report, verdict, failures) in [(&reports[0], "pass", 0), (&reports[1], "fail", 1)] {
        assert_eq!(report["verdict"], verdict);
        assert_eq!(report["policy"], "hvci");
        assert_eq!(report["machine"], "x64");
        assert_eq!(
            (report["dll"].as_bool(), report["module"].as_bool()),
            (Some(false), Some(true))
        );
        let rows = report["rows"].as_array().ok_or("no rows")?;
        let names: Vec<&str> = rows.iter().filter_map(|row| row["rule"].as_str()).collect();
        assert_eq!(names, Rule::all().map(|rule| rule.id).collect::<Vec<_>>());
        let failed = rows.iter().filter(|row| row["status"] == "fail");
        assert_eq!(failed.count(), failures);
        for row in rows {
            for field in ["group", "title", "status", "measured", "reason", "source"] {
                assert!(row[field].is_string(), "{field} of {row}");
            }
            assert!(row["status"] != "pass" || row["measured"] != "", "{row}");
            assert!(row["status"] == "pass" || row["reason"] != "", "{row}");
        }
    }
    Ok(())
}

fn options_ask_for_more() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (good, _) = drivers(folder.path())?;
    for (options, rules) in [
        (["--policy", "test-signed"], &["sign.present"][..]),
        (["--policy", "production"], &["sign.present"]),
        (["--runtime", "1.4"], &["contract.1.3.program-size"]),
        (
            ["--runtime", "0.21"],
            &["contract.1.3.program-size", "contract.1.3.map-data"],
        ),
        (["--runtime", "1.6"], &[]),
    ] {
        let out = output(tool().arg("check").args(options).arg(&good))?;
        let errors = String::from_utf8_lossy(&out.stderr);
        assert_eq!(
            out.status.code(),
            Some(if rules.is_empty() { 0 } else { 6 }),
            "{options:?}: {errors}"
        );
        for rule in rules {
            assert!(
                errors.contains(&format!("error[BPF5020]: `{rule}` is broken: ")),
                "{options:?}: {errors}"
            );
        }
    }
    Ok(())
}

fn rules_are_listed() -> Result<(), Failed> {
    let told = succeed(tool().args(["check", "--list-rules"]))?;
    for rule in Rule::all() {
        let parts = [format!("  {} (", rule.id), format!("source: {}", rule.source)];
        if let Some(part) = parts.iter().find(|part| !told.contains(*part)) {
            return Err(format!("no `{part}`:\n{told}").into());
        }
    }
    // Every rule, with what was found.
    let folder = tempfile::tempdir()?;
    let (good, _) = drivers(folder.path())?;
    let told = succeed(tool().args(["check", "--verbose"]).arg(good))?;
    match Rule::all().find(|rule| !told.contains(&format!("  {} ", rule.id))) {
        Some(rule) => Err(format!("no line for {}:\n{told}", rule.id).into()),
        None => Ok(()),
    }
}
