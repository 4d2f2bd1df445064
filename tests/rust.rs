//! An object that no C compiler made: a program in Rust, by aya-ebpf.

use std::fs;

use libtest_mimic::{Failed, Trial};

use crate::support::{output, root, succeed, test, tool};

pub fn trials() -> Vec<Trial> {
    vec![
        test("rust::a_program_of_aya_is_verified_and_built", builds),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        test("rust::a_program_of_aya_counts", counts),
    ]
}

fn object() -> std::path::PathBuf {
    root().join("tests/fixtures/rust/count_packets.o")
}

fn builds() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for engine in ["native", "prevail"] {
        succeed(tool().args(["verify", "--verifier", engine]).arg(object()))?;
    }
    succeed(
        tool()
            .args(["build", "--from", "windows", "--arch", "x64,arm64", "--out-dir"])
            .arg(folder.path())
            .arg(object()),
    )?;
    for image in ["count_packets.x64.sys", "count_packets.arm64.sys"] {
        let checked = output(tool().arg("check").arg(folder.path().join(image)))?;
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
    // Its lines are those of the Rust source.
    let listing = succeed(
        tool()
            .args(["build", "--from", "windows", "--emit", "asm", "-o", "-"])
            .arg(object()),
    )?;
    assert!(listing.contains("src/main.rs:"), "no source lines");
    Ok(())
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn counts() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("count_packets.sys");
    succeed(
        tool()
            .args(["build", "--from", "windows"])
            .arg(object())
            .arg("-o")
            .arg(&image),
    )?;
    let mut run = tool();
    run.arg("run").arg(&image);
    for (name, packet) in [
        ("ip", crate::packets::udp4((53, 53), b"")),
        ("arp", crate::packets::arp(1)),
        ("short", vec![0; 13]),
        ("again", crate::packets::udp4((53, 53), b"")),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, packet)?;
        run.arg("--packet").arg(path);
    }
    let report = succeed(&mut run)?;
    for line in ["  0: hex:0100000000000000", "  1: hex:0200000000000000"] {
        assert!(report.contains(line), "{report}");
    }
    Ok(())
}
