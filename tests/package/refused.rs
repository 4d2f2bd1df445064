//! Packages that are not made, and what is left then: what was there before.

use std::fs;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::{DETAILS, Shop};
use crate::support::{output, succeed, test};

pub fn trials() -> Vec<Trial> {
    let test = |name: &str, body: fn() -> Result<(), Failed>| test(&format!("package::refused::{name}"), body);
    vec![
        test("nothing_is_written_and_nothing_lost", nothing_is_written),
        test("files_that_are_no_drivers", no_drivers),
        test("wrong_use", wrong_use),
    ]
}

/// Runs a command that must fail with this status, and gives what it told.
pub fn refused(command: &mut Command, status: i32) -> Result<String, Failed> {
    let out = output(command)?;
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.code() != Some(status) || told.contains("[BPF9999]") || told.contains("panicked") {
        return Err(format!("{command:?}: {}, and not {status}\n{told}", out.status).into());
    }
    Ok(told)
}

fn nothing_is_written() -> Result<(), Failed> {
    let shop = Shop::new()?;
    fs::write(shop.path("filter.cab"), b"old")?;
    let before = shop.files()?;
    let good = ["filter.sys", "--object", "filter.o"];
    for (arguments, status, part) in [
        (&["--cfg", "off"][..], 7, "[BPF7021]"),
        (&["--type", "nonesuch"], 4, "error["),
        (&["--statement", "no/folder"], 1, "[BPF9003]"),
        (&["--symbols", "none.pdb"], 1, "[BPF9001]"),
        (&["--inf", "none.inf"], 1, "[BPF9001]"),
        (&["--statement", "filter.o"], 2, "would be overwritten"),
        (&["--statement", "filter.cab"], 2, "two files"),
        (
            &["--symbols", "signing.pfx", "--symbols", "signing.pfx"],
            3,
            "[BPF7028]",
        ),
    ] {
        let told = refused(shop.package(&good).args(arguments), status)?;
        assert!(told.contains(part), "{arguments:?}:\n{told}");
        assert_eq!(shop.files()?, before, "{arguments:?}");
        assert_eq!(shop.read("filter.cab")?, b"old", "{arguments:?}");
    }
    let object = shop.read("filter.o")?;
    let told = refused(
        shop.tool()
            .args(["package", "filter.sys", "--object", "filter.o", "-o", "filter.o"])
            .args(DETAILS)
            .arg("--no-statement"),
        2,
    )?;
    assert!(
        told.contains("would be overwritten") && shop.read("filter.o")? == object,
        "{told}"
    );
    Ok(())
}

fn no_drivers() -> Result<(), Failed> {
    let shop = Shop::new()?;
    succeed(shop.tool().args(["build", "-q", "--emit", "dll,obj", "filter.o"]))?;
    let mut broken = shop.read("filter.sys")?;
    let header = u32::from_le_bytes([broken[0x3C], broken[0x3D], broken[0x3E], broken[0x3F]]) as usize;
    broken[header + 24 + 64] ^= 1; // CheckSum
    fs::write(shop.path("broken.sys"), &broken)?;
    fs::write(shop.path("short.sys"), &broken[..700])?;
    fs::write(shop.path("empty.sys"), b"")?;
    for (image, part) in [
        ("filter.dll", "it is a DLL"),
        ("filter.obj", "can't be in a package"),
        ("filter.o", "can't be in a package"),
        ("broken.sys", "can't be in a package"),
        ("short.sys", "can't be in a package"),
        ("empty.sys", "can't be in a package"),
    ] {
        let told = refused(&mut shop.package(&[image, "--object", "filter.o"]), 3)?;
        assert!(told.contains("[BPF7028]") && told.contains(part), "{image}:\n{told}");
    }
    for name in [
        "a b.sys",
        "filter\u{e4}.sys",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sys",
    ] {
        fs::copy(shop.path("filter.sys"), shop.path(name))?;
        let out = output(&mut shop.package(&[name, "--object", "filter.o"]))?;
        assert!(matches!(out.status.code(), Some(2 | 3)), "{name}");
    }
    Ok(())
}

fn wrong_use() -> Result<(), Failed> {
    let shop = Shop::new()?;
    succeed(shop.tool().args(["build", "-q", "--arch", "x64,arm64", "filter.o"]))?;
    fs::copy(shop.path("filter.sys"), shop.path("other.sys"))?;
    let package = |arguments: &[&str]| {
        let mut command = shop.tool();
        command.arg("package").args(arguments).args(["-o", "filter.cab"]);
        command
    };
    let complete = [
        "--provider",
        "C",
        "--driver-version",
        "1",
        "--driver-date",
        "2026-01-01",
        "--no-statement",
    ];
    let one = ["filter.sys", "--object", "filter.o"];
    for (arguments, status, part) in [
        (&["filter.sys"][..], 2, "--object"),
        (&one, 2, "--attest-key"),
        (&[&one[..], &complete[2..]].concat(), 2, "--provider"),
        (
            &[&one[..], &complete[..2], &complete[4..]].concat(),
            2,
            "--driver-version",
        ),
        (&[&one[..], &complete[..4], &complete[6..]].concat(), 2, "--driver-date"),
        (
            &[&one[..], &["--provider", "a\nb"], &complete[2..]].concat(),
            3,
            "control characters",
        ),
        (
            &[&one[..], &complete, &["--driver-date", "2026-02-30"]].concat(),
            2,
            "--driver-date",
        ),
        (
            &[&one[..], &complete, &["--object", "filter.o"]].concat(),
            2,
            "1 drivers",
        ),
        (&[&["other.sys"], &one[..], &complete].concat(), 2, "2 drivers"),
        (
            &[&["filter.x64.sys"], &one[..], &complete].concat(),
            2,
            "two images of `filter` for x64",
        ),
        (
            &[
                &["other.sys", "--object", "filter.o", "filter.arm64.sys"],
                &complete[..],
                &["--object", "filter.o"],
            ]
            .concat(),
            3,
            "",
        ),
    ] {
        let told = refused(&mut package(arguments), status)?;
        assert!(told.contains(part), "{arguments:?}:\n{told}");
    }
    let told = refused(
        package(&[&one[..], &complete].concat()).env("SOURCE_DATE_EPOCH", "today"),
        2,
    )?;
    assert!(told.contains("SOURCE_DATE_EPOCH"), "{told}");
    assert!(!shop.path("filter.cab").exists());
    Ok(())
}
