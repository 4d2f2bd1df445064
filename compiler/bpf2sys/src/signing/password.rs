//! Where the password of a key comes from. It never comes from the command line, which others can see.

use std::env;
use std::fs::File;
use std::io::{IsTerminal, Read, stdin};
use std::path::{Path, PathBuf};

use bpf2sys_authenticode::load::PasswordError;
use zeroize::Zeroizing;

/// Longest file of a password that is read, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Where it comes from.
#[derive(Clone, Debug)]
pub(crate) enum Password {
    /// An environment variable of this name.
    Environment(String),
    /// The first line of this file.
    File(PathBuf),
    /// A person at a terminal. The text says how else it can be given.
    Prompt(String),
}

impl Password {
    /// The password of a file.
    pub(crate) fn ask(&self, of: &Path) -> Result<Zeroizing<String>, PasswordError> {
        match self {
            Password::Environment(name) => match env::var(name) {
                Ok(password) => Ok(Zeroizing::new(password)),
                Err(env::VarError::NotPresent) => {
                    Err(PasswordError(format!("there is no environment variable `{name}`")))
                }
                Err(env::VarError::NotUnicode(_)) => Err(PasswordError(format!(
                    "the environment variable `{name}` is no Unicode text"
                ))),
            },
            Password::File(path) => first_line(path),
            Password::Prompt(_) if stdin().is_terminal() => {
                let prompt = format!("Password of {}: ", crate::messages::printable(&of.to_string_lossy()));
                let password = rpassword::prompt_password(prompt);
                password.map(Zeroizing::new).map_err(|e| PasswordError(e.to_string()))
            }
            Password::Prompt(otherwise) => Err(PasswordError(format!("there is nobody to ask; {otherwise}"))),
        }
    }
}

/// The first line of a file, without its end.
fn first_line(path: &Path) -> Result<Zeroizing<String>, PasswordError> {
    let failed = |why: &dyn std::fmt::Display| PasswordError(format!("`{}` can't be read: {why}", path.display()));
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    let file = File::open(path).map_err(|e| failed(&e))?;
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(|e| failed(&e))?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(&"it is too large for a password"));
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = std::str::from_utf8(line).map_err(|e| failed(&e))?;
    Ok(Zeroizing::new(line.to_owned()))
}
