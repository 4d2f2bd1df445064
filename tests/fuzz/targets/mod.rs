//! What the fuzz targets do with an input: one reader each, and what must hold of what it read.
//!
//! cargo-fuzz's package has this as its library, and the end-to-end tests as a module, so that the corpora are replayed through
//! the same functions that they were found with.

pub mod btf;
pub mod elf;
pub mod image;
pub mod reg;
pub mod signature;

use std::io;
use std::path::{Path, PathBuf};

/// A fuzz target.
pub struct Target {
    /// Name: that of its corpus too.
    pub name: &'static str,
    /// Reads an input, and panics if that went wrong. An error in the input is nothing wrong.
    pub run: fn(&[u8]),
    /// Inputs from the repository to start with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    Target {
        name: "elf",
        run: elf::run,
        seeds: elf::seeds,
    },
    Target {
        name: "btf",
        run: btf::run,
        seeds: btf::seeds,
    },
    Target {
        name: "image",
        run: image::run,
        seeds: image::seeds,
    },
    Target {
        name: "reg",
        run: reg::run,
        seeds: reg::seeds,
    },
    Target {
        name: "signature",
        run: signature::run,
        seeds: signature::seeds,
    },
];

impl Target {
    /// The file with the inputs that fuzzing found: each with its length in four bytes before it.
    pub fn corpus_file(&self) -> PathBuf {
        root().join("tests/fuzz/corpora").join(self.name)
    }

    /// The inputs that fuzzing found.
    ///
    /// # Errors
    /// There is no such file, or it ends inside of an input.
    pub fn corpus(&self) -> io::Result<Vec<Vec<u8>>> {
        let file = std::fs::read(self.corpus_file())?;
        let mut rest = &file[..];
        let mut inputs = Vec::new();
        while !rest.is_empty() {
            let (length, behind) = rest.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (input, behind) = behind.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
            inputs.push(input.to_vec());
            rest = behind;
        }
        Ok(inputs)
    }
}

/// The repository. Both packages that have this module lie two folders below.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The contents of all files of the repository below some folders whose names end with one of some extensions.
fn files(folders: &[&str], extensions: &[&str]) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = paths.pop() {
        if let Ok(entries) = std::fs::read_dir(&path) {
            paths.extend(entries.flatten().map(|entry| entry.path()));
        } else if path
            .extension()
            .is_some_and(|e| extensions.iter().any(|known| e == *known))
        {
            found.extend(std::fs::read(&path));
        }
    }
    found
}
