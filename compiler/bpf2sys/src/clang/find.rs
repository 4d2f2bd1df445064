//! Which clang compiles: the one that is named, or the first that makes eBPF.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::CompileError;

/// The environment variable that names the compiler.
const VARIABLE: &str = "BPF2SYS_CLANG";

/// Where installers put LLVM without adding it to the `PATH`.
#[cfg(windows)]
const FOLDERS: [&str; 1] = ["C:\\Program Files\\LLVM\\bin"];
/// Apple's own clang makes no eBPF, that of Homebrew does.
#[cfg(target_os = "macos")]
const FOLDERS: [&str; 2] = ["/opt/homebrew/opt/llvm/bin", "/usr/local/opt/llvm/bin"];
#[cfg(not(any(windows, target_os = "macos")))]
const FOLDERS: [&str; 0] = [];

/// The compiler: `named`, or what the environment names, or the first of `clang` and `clang-NN` (newest first) that makes
/// eBPF.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf, CompileError> {
    let of_environment = || {
        env::var_os(VARIABLE)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path)
        .chain(FOLDERS.iter().map(PathBuf::from))
        .collect();
    let (named, by) = match named {
        Some(named) => (Some(named.to_owned()), "`--clang`".to_owned()),
        None => (of_environment(), format!("`{VARIABLE}`")),
    };
    if let Some(named) = named {
        let found = of_name(&named, &folders).ok_or_else(|| CompileError::NotFound {
            searched: format!("{by} names `{}`, which is not there", named.display()),
        })?;
        return match lacks_target(&found) {
            Some(reason) => Err(CompileError::NoTarget { clang: found, reason }),
            None => Ok(found),
        };
    }
    let mut unfit = None;
    for candidate in candidates(&folders) {
        match lacks_target(&candidate) {
            None => return Ok(candidate),
            Some(reason) => {
                unfit.get_or_insert(CompileError::NoTarget {
                    clang: candidate,
                    reason,
                });
            }
        }
    }
    Err(unfit.unwrap_or_else(|| CompileError::NotFound {
        searched: "neither `clang` nor `clang-NN` is on the `PATH`".to_owned(),
    }))
}

/// The file that a name means: itself if it has a folder, else on the `PATH`.
fn of_name(name: &Path, folders: &[PathBuf]) -> Option<PathBuf> {
    let has_folder = name.parent().is_some_and(|folder| !folder.as_os_str().is_empty());
    let places = if has_folder {
        vec![name.to_owned()]
    } else {
        folders.iter().map(|folder| folder.join(name)).collect()
    };
    let with_extension = places.iter().map(|place| {
        let mut file = place.clone().into_os_string();
        file.push(env::consts::EXE_SUFFIX);
        PathBuf::from(file)
    });
    places.iter().cloned().chain(with_extension).find(|file| file.is_file())
}

/// `clang` of the first folder that has it, then all versions, newest first.
fn candidates(folders: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
    let plain = of_name(Path::new("clang"), folders);
    // Folders are only read when the plain one does not do.
    plain
        .into_iter()
        .chain(std::iter::once(folders.to_vec()).flat_map(versions))
}

fn versions(folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for folder in folders {
        let Ok(entries) = folder.read_dir() else { continue };
        for entry in entries.flatten() {
            if let Some(version) = version(&entry.file_name())
                && found.iter().all(|(other, _)| *other != version)
            {
                found.push((version, entry.path()));
            }
        }
    }
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The number of `clang-NN`.
fn version(name: &OsStr) -> Option<u32> {
    let name = name.to_str()?.strip_suffix(env::consts::EXE_SUFFIX)?;
    let number = name.strip_prefix("clang-")?;
    number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| number.parse().ok())?
}

/// Why a compiler can't make eBPF; none if it can.
fn lacks_target(clang: &Path) -> Option<String> {
    let ended = Command::new(clang).arg("--print-targets").stdin(Stdio::null()).output();
    match ended {
        Err(error) => Some(format!("it does not start: {error}")),
        Ok(ended) if !ended.status.success() => {
            Some("it does not say for which targets it compiles; clang 11 and later do".to_owned())
        }
        Ok(ended) => {
            let listed = String::from_utf8_lossy(&ended.stdout);
            let has = listed
                .lines()
                .any(|line| line.split_whitespace().next() == Some("bpfel"));
            (!has).then(|| "its LLVM was built without the target BPF".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_are_versions() {
        let of = |name: &str| version(OsStr::new(&format!("{name}{}", env::consts::EXE_SUFFIX)));
        assert_eq!(of("clang-19"), Some(19));
        for name in [
            "clang",
            "clang-",
            "clang-cpp-19",
            "clang-format",
            "clang++-19",
            "clang-19.bak",
            "clang-+19",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_newest_of_all_folders_comes_first_and_each_once() {
        let [a, b] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for (folder, names) in [
            (&a, &["clang-9", "clang-18"][..]),
            (&b, &["clang-18", "clang-20", "clang-x"]),
        ] {
            for name in names {
                std::fs::write(folder.path().join(name), "").unwrap();
            }
        }
        let folders = vec![a.path().to_owned(), b.path().to_owned()];
        let wanted = [
            b.path().join("clang-20"),
            a.path().join("clang-18"),
            a.path().join("clang-9"),
        ];
        assert_eq!(versions(folders), wanted);
    }

    #[test]
    fn what_is_named_must_be_there() {
        let error = find(Some(Path::new("no-such-clang"))).unwrap_err();
        assert!(matches!(error, CompileError::NotFound { .. }), "{error}");
    }
}
