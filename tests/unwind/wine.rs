//! The second opinion: Wine's own `RtlVirtualUnwind`, from the same places (`tests/wine/README.md`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use libtest_mimic::Failed;

use super::check;
use crate::support::{Need, output, root, succeed};

/// What this needs.
pub const NEEDS: [Need; 2] = [Need::Program("wine"), Need::Program(COMPILER)];
const COMPILER: &str = "x86_64-w64-mingw32-gcc";

/// The compiled program, made once. Whoever holds it has Wine for itself: two at once cannot make its prefix.
static PROGRAM: Mutex<Option<PathBuf>> = Mutex::new(None);

fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn compile() -> Result<PathBuf, Failed> {
    let path = folder().join("unwind.exe");
    let source = root().join("tests/wine/unwind.c");
    succeed(
        Command::new(COMPILER)
            .args(["-O1", "-Wall", "-Werror", "-o"])
            .arg(&path)
            .arg(source),
    )?;
    Ok(path)
}

/// Unwinds with `RtlVirtualUnwind` by the tables of `unwound`, from every instruction of `image`, whose code is the same, and
/// in the state before it. Gives the addresses from which that does not lead to the caller.
pub fn rtl_virtual_unwind(image: &[u8], unwound: &[u8]) -> Result<BTreeSet<u32>, Failed> {
    let (_, places) = check(image).map_err(|errors| errors.join("\n"))?;
    let files = tempfile::tempdir()?;
    let (image_path, table_path) = (files.path().join("image.sys"), files.path().join("places.txt"));
    std::fs::write(&image_path, unwound)?;
    std::fs::write(&table_path, places.join("\n"))?;
    let mut program = PROGRAM.lock().map_err(|_| "another test panicked with Wine")?;
    let program = match &mut *program {
        Some(program) => program,
        none => none.insert(compile()?),
    };
    let out = output(
        Command::new("wine")
            .env("WINEPREFIX", folder().join("wine"))
            .env("WINEDEBUG", "-all")
            .arg(program)
            .args([&image_path, &table_path]),
    )?;
    let text = String::from_utf8_lossy(&out.stdout);
    // `RVA: what is wrong`, as often as something is; then `N places, N wrong`.
    let mut wrong = BTreeSet::new();
    for line in text.lines() {
        if let Some((rva, _)) = line.split_once(": ") {
            wrong.insert(u32::from_str_radix(rva, 16)?);
        } else if line == format!("{} places, {} wrong", places.len(), wrong.len()) {
            return Ok(wrong);
        }
    }
    Err(format!("{}\n{text}{}", out.status, String::from_utf8_lossy(&out.stderr)).into())
}
