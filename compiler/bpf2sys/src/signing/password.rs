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
    first_line_of(&text).map_err(|why| failed(&why))
}

/// The first line of text in UTF-8, or in UTF-16 with a byte order mark. The mark, which editors and shells of Windows write, is
/// no part of a password.
fn first_line_of(bytes: &[u8]) -> Result<Zeroizing<String>, &'static str> {
    // With room for all, the text is never moved: no copy stays behind.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    if let Some(wide) = bytes.strip_prefix(&[0xFF, 0xFE]) {
        let (units, []) = wide.as_chunks::<2>() else {
            return Err("it is no UTF-16 text");
        };
        for character in char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))) {
            text.push(character.map_err(|_| "it is no UTF-16 text")?);
        }
    } else {
        let narrow = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        // Only the line counts: what is behind it need not be text.
        let line = narrow.split(|byte| *byte == b'\n').next().unwrap_or_default();
        text.push_str(std::str::from_utf8(line).map_err(|_| "its first line is no UTF-8 text")?);
    }
    let line = text.split('\n').next().unwrap_or_default();
    let length = line.strip_suffix('\r').unwrap_or(line).len();
    text.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password_however_it_was_written() {
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        for bytes in [
            "p\u{e4} s".as_bytes().to_vec(),
            "p\u{e4} s\n".as_bytes().to_vec(),
            "p\u{e4} s\r\nmore".as_bytes().to_vec(),
            [b"p\xC3\xA4 s\n", &[0xFF][..]].concat(),
            "\u{feff}p\u{e4} s\r\n".as_bytes().to_vec(),
            wide("\u{feff}p\u{e4} s"),
            wide("\u{feff}p\u{e4} s\r\nmore\n"),
        ] {
            assert_eq!(first_line_of(&bytes).unwrap().as_str(), "p\u{e4} s", "{bytes:?}");
        }
        for empty in [&b""[..], b"\n", b"\xEF\xBB\xBF", b"\xFF\xFE"] {
            assert_eq!(first_line_of(empty).unwrap().as_str(), "");
        }
        for bad in [&b"\xE4"[..], b"\xFF\xFEa", b"\xFF\xFE\x00\xD8"] {
            assert!(first_line_of(bad).is_err(), "{bad:?}");
        }
    }
}
