//! What `inspect` says of a module's tables: the form of the JSON, the level, and what it refuses to show.

use std::path::Path;

use libtest_mimic::{Failed, Trial};

use super::builds::build;
use super::fixture;
use crate::support::{output, succeed, test, tool};

pub fn trials() -> Vec<Trial> {
    vec![
        test("metadata::keys_and_their_order_never_change", keys_in_order),
        test("metadata::json_and_module_metadata_may_be_asked_for_at_once", json_too),
        test("metadata::senseless_combinations_are_refused", senseless),
        test("metadata::objects_and_foreign_images_have_no_tables", without_tables),
    ]
}

/// All of it, for one module: what an image does not hold is null.
const DROPPACKET: &str = include_str!("droppacket.json");

fn inspect(arguments: &[&str], file: &Path) -> Result<String, Failed> {
    succeed(tool().arg("inspect").args(arguments).arg(file))
}

fn keys_in_order() -> Result<(), Failed> {
    let folder = build("droppacket", "none")?;
    for name in [
        "droppacket.x64.sys",
        "droppacket.x64.dll",
        "droppacket.arm64.sys",
        "droppacket.arm64.dll",
    ] {
        let text = inspect(&["--format", "module-metadata"], &folder.path().join(name))?;
        if text != DROPPACKET.replace("droppacket.sys", name) {
            return Err(format!("{text}\ninstead of\n{DROPPACKET}").into());
        }
    }
    Ok(())
}

fn json_too() -> Result<(), Failed> {
    let folder = build("droppacket", "sha256")?;
    let driver = folder.path().join("droppacket.arm64.sys");
    let same = [
        [
            &["--format", "module-metadata"][..],
            &["--json", "--format", "module-metadata"],
        ],
        [&["--format", "json"], &["--json", "--format", "json"]],
        [&["--format", "json"], &["--json"]],
        [&["--format", "text"], &[]],
    ];
    for [one, other] in same {
        if inspect(one, &driver)? != inspect(other, &driver)? {
            return Err(format!("{one:?} and {other:?} differ").into());
        }
    }
    Ok(())
}

/// Expects that the tool ends with a status and says something.
fn refused(arguments: &[&str], file: &Path, status: i32, words: &str) -> Result<(), Failed> {
    let out = output(tool().arg("inspect").args(arguments).arg(file))?;
    let told = String::from_utf8_lossy(&out.stderr);
    if out.status.code() == Some(status) && told.contains(words) && out.stdout.is_empty() {
        Ok(())
    } else {
        Err(format!("{arguments:?}: {}\n{told}", out.status).into())
    }
}

fn senseless() -> Result<(), Failed> {
    let object = fixture("droppacket", "o");
    refused(&["--json", "--format", "text"], &object, 2, "contradict")?;
    refused(
        &["--disassemble", "--format", "module-metadata"],
        &object,
        2,
        "--disassemble",
    )?;
    refused(&["--format", "yaml"], &object, 2, "module-metadata")
}

fn without_tables() -> Result<(), Failed> {
    let arguments = ["--format", "module-metadata"];
    refused(&arguments, &fixture("droppacket", "o"), 2, "build one first")?;
    let folder = build("droppacket", "none")?;
    let coff = folder.path().join("droppacket.obj");
    let mut command = tool();
    command
        .args(["build", "--quiet", "--emit", "obj"])
        .arg(fixture("droppacket", "o"));
    succeed(command.arg("-o").arg(&coff))?;
    refused(&arguments, &coff, 2, "build one first")?;

    // Without its size, it is no table that the runtime takes.
    let mut image = std::fs::read(folder.path().join("droppacket.x64.sys"))?;
    let table = metadata_table(&image)?;
    image[table] = 0;
    let broken = folder.path().join("broken.sys");
    std::fs::write(&broken, image)?;
    refused(&arguments, &broken, 6, "0 metadata tables are found in the image")
}

/// Offset of the metadata table in a driver: its size of 56, and then six addresses of the first section's code.
fn metadata_table(image: &[u8]) -> Result<usize, Failed> {
    const CODE: std::ops::Range<u64> = 0x1_4000_1000..0x1_4000_2000;
    let word = |at: usize| image.get(at..at + 8)?.try_into().map(u64::from_le_bytes).ok();
    (0..image.len())
        .step_by(8)
        .find(|&at| word(at) == Some(56) && (1..7).all(|i| word(at + 8 * i).is_some_and(|w| CODE.contains(&w))))
        .ok_or_else(|| "no metadata table".into())
}
