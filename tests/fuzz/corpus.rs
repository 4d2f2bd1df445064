//! Moves inputs between folders, which cargo-fuzz works on, and the files in `corpora`, which the tests replay (README.md).

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use bpf2sys_fuzz::{TARGETS, Target};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let find = |name: &String| TARGETS.iter().find(|target| target.name == name);
    match &arguments[..] {
        [action, name, folder] => match (action.as_str(), find(name)) {
            ("unpack", Some(target)) => unpack(target, Path::new(folder)),
            ("pack", Some(target)) => pack(target, Path::new(folder)),
            _ => Err(io::Error::other("there is no such action or target")),
        },
        _ => Err(io::Error::other("usage: corpus unpack|pack TARGET FOLDER")),
    }
}

/// Writes what a target starts with, and what was found before, into a folder.
fn unpack(target: &Target, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (kind, inputs) in [
        ("seed", (target.seeds)()),
        ("found", target.corpus().unwrap_or_default()),
    ] {
        for (number, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("{kind}{number}")), input)?;
        }
    }
    Ok(())
}

/// Puts the inputs of a folder into the file of a target, without those it starts with anyway.
fn pack(target: &Target, folder: &Path) -> io::Result<()> {
    let seeds = (target.seeds)();
    let mut inputs = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let input = std::fs::read(entry?.path())?;
        if !seeds.contains(&input) {
            inputs.insert((input.len(), input));
        }
    }
    let mut file = Vec::new();
    for (length, input) in &inputs {
        let length = u32::try_from(*length).map_err(io::Error::other)?;
        file.extend(length.to_le_bytes());
        file.extend(input);
    }
    std::fs::create_dir_all(target.corpus_file().with_file_name(""))?;
    std::fs::write(target.corpus_file(), file)?;
    println!("{}: {} inputs", target.name, inputs.len());
    Ok(())
}
