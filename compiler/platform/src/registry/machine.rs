//! The registry of this machine, where it runs Windows, as a tree of keys.
//!
//! Given: the names on the way to the key that matters. Computed: that key with everything below. Safe because: only reads, and
//! the same bounds as for exports.

use windows_registry::{CURRENT_USER, Key as WindowsKey, LOCAL_MACHINE, Type};

use super::export::{MAX_BYTES, MAX_DEPTH, MAX_KEYS, MAX_VALUES, Root};
use super::problem::{RegistryError, RegistryPlace, RegistryProblem};
use super::tree::{BINARY, DWORD, Data, Key, Name, TEXT, Value};

/// Reads the key below `HKEY_CURRENT_USER` if it can be opened there, else below `HKEY_LOCAL_MACHINE`.
pub(super) fn read(wanted: &[&str]) -> Result<(Root, Key), RegistryError> {
    let path = wanted.join("\\");
    for (root, from) in [(Root::CurrentUser, CURRENT_USER), (Root::LocalMachine, LOCAL_MACHINE)] {
        let Ok(key) = from.open(&path) else { continue };
        let mut reader = Reader {
            path: format!("{}\\{path}", root.name()),
            kept: [0; 3],
        };
        let name = wanted.last().copied().unwrap_or_default();
        return reader.key(name.to_owned(), &key, 0).map(|key| (root, key));
    }
    Err(RegistryError {
        place: place(String::new()),
        problem: RegistryProblem::NoStore { found: None },
    })
}

fn place(key: String) -> RegistryPlace {
    RegistryPlace {
        file: "registry".to_owned(),
        key,
        ..RegistryPlace::default()
    }
}

struct Reader {
    /// Path of the key that is being read.
    path: String,
    /// Keys, values, and bytes of values so far.
    kept: [usize; 3],
}

impl Reader {
    fn key(&mut self, name: String, from: &WindowsKey, depth: usize) -> Result<Key, RegistryError> {
        self.count(0, 1, MAX_KEYS, "keys")?;
        if depth > MAX_DEPTH {
            return Err(self.too_many(MAX_DEPTH, "keys below each other"));
        }
        let mut key = Key { name, ..Key::default() };
        let values = from.values().map_err(|error| self.unreadable(&error))?;
        for (name, value) in values {
            self.count(1, 1, MAX_VALUES, "values")?;
            self.count(2, value.len(), MAX_BYTES, "bytes of values")?;
            let data = Data::new(number(value.ty()), value.to_vec());
            key.values.insert(Name::new(&name), Value { line: 0, data });
        }
        let names = from.keys().map_err(|error| self.unreadable(&error))?;
        for name in names {
            let length = self.path.len();
            self.path.push('\\');
            self.path.push_str(&name);
            let below = from.open(&name).map_err(|error| self.unreadable(&error))?;
            let below = self.key(name.clone(), &below, depth + 1)?;
            self.path.truncate(length);
            key.keys.insert(Name::new(&name), below);
        }
        Ok(key)
    }

    fn count(&mut self, what: usize, more: usize, limit: usize, of: &'static str) -> Result<(), RegistryError> {
        self.kept[what] += more;
        if self.kept[what] > limit {
            return Err(self.too_many(limit, of));
        }
        Ok(())
    }

    fn too_many(&self, limit: usize, of: &'static str) -> RegistryError {
        RegistryError {
            place: place(self.path.clone()),
            problem: RegistryProblem::TooMany { limit, of },
        }
    }

    fn unreadable(&self, error: &impl std::fmt::Display) -> RegistryError {
        RegistryError {
            place: place(self.path.clone()),
            problem: RegistryProblem::Unreadable(format!("can't be read: {error}")),
        }
    }
}

fn number(kind: Type) -> u32 {
    match kind {
        Type::String => TEXT,
        Type::ExpandString => 2,
        Type::Bytes => BINARY,
        Type::U32 => DWORD,
        Type::MultiString => 7,
        Type::U64 => 11,
        Type::Other(number) => number,
    }
}
