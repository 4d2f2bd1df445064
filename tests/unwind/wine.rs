//! The second opinion: Wine's own `RtlVirtualUnwind`, from the same places (`tests/wine/README.md`).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use libtest_mimic::Failed;

use super::check;
use crate::wine::{compile, run};

/// Unwinds with `RtlVirtualUnwind` by the tables of `unwound`, from every instruction of `image`, whose code is the same, and
/// in the state before it. Gives the addresses from which that does not lead to the caller.
pub fn rtl_virtual_unwind(image: &[u8], unwound: &[u8]) -> Result<BTreeSet<u32>, Failed> {
    let (_, places) = check(image).map_err(|errors| errors.join("\n"))?;
    let files = tempfile::tempdir()?;
    let (image_path, table_path) = (files.path().join("image.sys"), files.path().join("places.txt"));
    std::fs::write(&image_path, unwound)?;
    std::fs::write(&table_path, places.join("\n"))?;
    let out = run(&program()?, &[&image_path, &table_path])?;
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

/// The compiled program, made once.
fn program() -> Result<PathBuf, Failed> {
    static PROGRAM: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut program = PROGRAM.lock().map_err(|_| "another test panicked while it compiled")?;
    match &*program {
        Some(path) => Ok(path.clone()),
        None => Ok(program.insert(compile("unwind")?).clone()),
    }
}
