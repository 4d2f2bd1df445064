//! Which test files there are.

use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind};

/// How the name of a test file ends.
pub(super) const ENDING: &str = ".test.toml";

/// The files that are named, and those in folders that are, each once, in the order of the arguments and then by name.
pub(super) fn test_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let here = [PathBuf::from(".")];
    let mut found: Vec<PathBuf> = Vec::new();
    for path in if paths.is_empty() { &here } else { paths } {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let before = found.len();
        // Not `./udp_filter.test.toml` where nobody has said so.
        let start = if paths.is_empty() { Path::new("") } else { path };
        search(path, start, &mut found)?;
        if found.len() == before {
            let message = format!("there are no test files (`*{ENDING}`) in `{}`", path.display());
            return Err(ErrorKind::Usage(message).into());
        }
    }
    let mut known = std::collections::BTreeSet::new();
    found.retain(|path| known.insert(path.clone()));
    Ok(found)
}

fn search(folder: &Path, shown: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |source| {
        let path = folder.to_owned();
        Error::from(ErrorKind::ReadFile { path, source })
    };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        // Links to folders could lead back.
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        if is_folder && !text.starts_with('.') && text != "target" {
            search(&entry.path(), &shown.join(&name), found)?;
        } else if !is_folder && text.ends_with(ENDING) {
            found.push(shown.join(&name));
        }
    }
    Ok(())
}
