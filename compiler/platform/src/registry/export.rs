//! Registry exports (`.reg`) as `reg export` and regedit write them, into a tree of keys.
//!
//! Given: the bytes of an export, and the path of the key that matters. Computed: that key with everything below, once for
//! each root (`HKEY_CURRENT_USER` and `HKEY_LOCAL_MACHINE`), as importing the file into an empty registry would leave it: keys that
//! come twice are one, of values that come twice the last one counts, `[-key]` and `"value"=-` delete.
//! Safe because: other keys of the export are read over line by line and never kept, and what is kept is bounded.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::problem::{RegistryError, RegistryPlace, RegistryProblem};
use super::text::{Encoding, Lines};
use super::tree::{BINARY, Data, Key, Name, TEXT, Value};

/// What the first line says since Windows 2000: UTF-16.
const VERSION_5: &str = "Windows Registry Editor Version 5.00";
/// What it says for older Windows: 8 bits per character.
const VERSION_4: &str = "REGEDIT4";

/// Most keys that are kept. Stores of real machines have a few hundred.
pub(super) const MAX_KEYS: usize = 16_384;
/// Most values that are kept.
pub(super) const MAX_VALUES: usize = 8 * MAX_KEYS;
/// Most bytes of all values together, each of which is counted before it is kept.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// Most bytes of a line. Exports break bytes into lines of 80 characters; a text is one line.
const MAX_LINE: usize = 4 << 20;
/// How deep keys can lie in a registry ("Registry Element Size Limits").
pub(super) const MAX_DEPTH: usize = 512;
/// Characters of a key's name (same).
const MAX_KEY_NAME: usize = 255;

/// A root of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Root {
    CurrentUser,
    LocalMachine,
}

impl Root {
    pub fn name(self) -> &'static str {
        match self {
            Root::CurrentUser => "HKEY_CURRENT_USER",
            Root::LocalMachine => "HKEY_LOCAL_MACHINE",
        }
    }

    fn named(name: &str) -> Option<Root> {
        [(Root::CurrentUser, "HKCU"), (Root::LocalMachine, "HKLM")]
            .into_iter()
            .find(|(root, short)| name.eq_ignore_ascii_case(root.name()) || name.eq_ignore_ascii_case(short))
            .map(|(root, _)| root)
    }
}

/// What an export says of one key.
#[derive(Debug, Default)]
pub(super) struct Export {
    /// The key under each root that has it.
    pub keys: BTreeMap<Root, Key>,
    /// The first key elsewhere whose path has the end of the wanted one.
    pub elsewhere: Option<String>,
}

/// Whether a text is an export, by its first line.
pub fn is_export(bytes: &[u8]) -> bool {
    let first = Lines::new(bytes).next().map(|line| line.lossy());
    first.is_some_and(|line| line.starts_with("Windows Registry Editor") || line.starts_with("REGEDIT"))
}

/// Reads the part of an export below the key `wanted`, given by the names on the way to it from the root.
pub(super) fn parse(file: &str, bytes: &[u8], wanted: &[&str]) -> Result<Export, RegistryError> {
    let mut lines = Lines::new(bytes);
    let cut = lines.is_cut_short();
    let mut parser = Parser {
        file,
        wide: lines.encoding() == Encoding::Utf16,
        wanted: wanted.iter().map(|name| Name::new(name)).collect(),
        wanted_names: wanted,
        export: Export::default(),
        state: State::Elsewhere,
        line: 1,
        kept: Kept::default(),
    };
    let first = lines.next().map(|line| line.lossy()).unwrap_or_default();
    match first.trim_end() {
        VERSION_5 => parser.wide = true,
        VERSION_4 => parser.wide = false,
        _ => return Err(parser.syntax("the first line is that of no registry editor that is known")),
    }
    while let Some(line) = lines.next() {
        parser.line = line.number;
        if line.length() > MAX_LINE {
            let (limit, of) = (MAX_LINE, "bytes in a line");
            return Err(parser.error(RegistryProblem::TooMany { limit, of }));
        }
        let lossy = line.lossy();
        let trimmed = lossy.trim_start();
        if trimmed.starts_with('[') {
            parser.finish_key()?;
            parser.key_line(trimmed)?;
            continue;
        }
        if trimmed.is_empty() || trimmed.starts_with(';') {
            continue;
        }
        if matches!(parser.state, State::Elsewhere) {
            read_over(trimmed, &mut lines);
            continue;
        }
        let text = line.text().ok_or_else(|| parser.no_text())?;
        parser.value_line(text.trim_start(), &mut lines)?;
    }
    parser.finish_key()?;
    if cut {
        return Err(parser.syntax("the file ends in the middle of a character: it was cut short"));
    }
    Ok(parser.export)
}

/// Where the lines that come next belong.
enum State {
    /// To a key that does not matter, or to none.
    Elsewhere,
    /// To a key below the wanted one: the names on the way from there, and the values so far.
    Below {
        root: Root,
        path: Vec<String>,
        line: u32,
        values: Vec<(Name, Option<Value>)>,
    },
}

/// What has been kept so far.
#[derive(Default)]
struct Kept {
    keys: usize,
    values: usize,
    bytes: usize,
}

struct Parser<'a> {
    file: &'a str,
    /// Whether strings given as bytes are UTF-16.
    wide: bool,
    wanted: Vec<Name>,
    wanted_names: &'a [&'a str],
    export: Export,
    state: State,
    line: u32,
    kept: Kept,
}

impl Parser<'_> {
    fn error(&self, problem: RegistryProblem) -> RegistryError {
        let key = match &self.state {
            State::Elsewhere => String::new(),
            State::Below { root, path, .. } => {
                let names = self.wanted_names.iter().copied().chain(path.iter().map(String::as_str));
                let names: Vec<&str> = names.collect();
                format!("{}\\{}", root.name(), names.join("\\"))
            }
        };
        RegistryError {
            place: RegistryPlace {
                file: self.file.to_owned(),
                line: self.line,
                key,
                value: None,
            },
            problem,
        }
    }

    fn syntax(&self, message: &'static str) -> RegistryError {
        self.error(RegistryProblem::Syntax(message))
    }

    fn no_text(&self) -> RegistryError {
        self.syntax(if self.wide {
            "the line has characters that are no UTF-16"
        } else {
            "the line has characters of an unknown code page; export it in version 5.00 of the format, which has none"
        })
    }

    /// `[ROOT\key\key]` or `[-ROOT\key\key]`.
    fn key_line(&mut self, line: &str) -> Result<(), RegistryError> {
        self.state = State::Elsewhere;
        let end = line.rfind(']');
        let Some(inside) = end.and_then(|end| line.get(1..end)) else {
            return Err(self.syntax("the name of a key has no `]` behind it"));
        };
        let (path, delete) = match inside.strip_prefix('-') {
            Some(path) => (path, true),
            None => (inside, false),
        };
        let mut names = path.split('\\');
        let Some(root) = names.next().and_then(Root::named) else {
            self.note_elsewhere(path);
            return Ok(());
        };
        let mut names: Vec<&str> = names.take(MAX_DEPTH + 1).collect();
        if names.last() == Some(&"") {
            names.pop(); // `[HKEY_CURRENT_USER\Software\]`
        }
        let same = names.iter().zip(&self.wanted).take_while(|(a, b)| Name::new(a) == **b);
        let same = same.count();
        if same < self.wanted.len() {
            if delete && same == names.len() {
                // A key on the way to the wanted one goes, and the wanted one with it.
                self.export.keys.remove(&root);
            } else {
                self.note_elsewhere(path);
            }
            return Ok(());
        }
        let below: Vec<String> = names.split_off(same).into_iter().map(str::to_owned).collect();
        if delete {
            self.delete(root, &below);
            return Ok(());
        }
        let long = names.len() + below.len() > MAX_DEPTH;
        let bad = |name: &String| name.is_empty() || name.chars().count() > MAX_KEY_NAME;
        let not_text = inside.contains(char::REPLACEMENT_CHARACTER);
        let bad_name = below.iter().any(bad);
        self.state = State::Below {
            root,
            path: below,
            line: self.line,
            values: Vec::new(),
        };
        if long || bad_name {
            return Err(self.syntax("a registry has no key of this name: it is too long, too deep, or empty"));
        }
        if not_text {
            return Err(self.no_text());
        }
        Ok(())
    }

    /// Remembers where something of the name lies that is not wanted, for the message that says that nothing was found.
    fn note_elsewhere(&mut self, path: &str) {
        if self.export.elsewhere.is_some() || path.len() > 1024 {
            return;
        }
        let names: Vec<Name> = path.split('\\').map(Name::new).collect();
        let end = &self.wanted[self.wanted.len().saturating_sub(2)..];
        if let Some(at) = names.windows(end.len()).position(|window| window == end) {
            let shown: Vec<&str> = path.split('\\').take(at + end.len()).collect();
            self.export.elsewhere = Some(shown.join("\\"));
        }
    }

    fn delete(&mut self, root: Root, path: &[String]) {
        let Some((last, way)) = path.split_last() else {
            self.export.keys.remove(&root);
            return;
        };
        let mut key = self.export.keys.get_mut(&root);
        for name in way {
            key = key.and_then(|key| key.keys.get_mut(&Name::new(name)));
        }
        if let Some(key) = key {
            key.keys.remove(&Name::new(last));
        }
    }

    /// Enters the key that ends here, with its values.
    fn finish_key(&mut self) -> Result<(), RegistryError> {
        let State::Below {
            root,
            path,
            line,
            values,
        } = std::mem::replace(&mut self.state, State::Elsewhere)
        else {
            return Ok(());
        };
        let name = self.wanted_names.last().copied().unwrap_or_default();
        let mut key = self.export.keys.entry(root).or_insert_with(|| Key {
            name: name.to_owned(),
            line,
            ..Key::default()
        });
        for name in path {
            key = match key.keys.entry(Name::new(&name)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    self.kept.keys += 1;
                    place.insert(Key {
                        name,
                        line,
                        ..Key::default()
                    })
                }
            };
        }
        for (name, value) in values {
            match value {
                Some(value) => key.values.insert(name, value),
                None => key.values.remove(&name),
            };
        }
        if self.kept.keys > MAX_KEYS {
            let (limit, of) = (MAX_KEYS, "keys");
            return Err(self.error(RegistryProblem::TooMany { limit, of }));
        }
        Ok(())
    }

    /// `"name"=value`, with the lines that it continues on.
    fn value_line(&mut self, line: &str, lines: &mut Lines<'_>) -> Result<(), RegistryError> {
        let number = self.line;
        let (name, rest) = match line.strip_prefix('@') {
            Some(rest) => (String::new(), rest.to_owned()),
            None => match line.strip_prefix('"') {
                Some(rest) => self.quoted(rest, lines)?,
                None => return Err(self.syntax("the line is no key, no value and no comment")),
            },
        };
        let Some(rest) = rest.trim_start().strip_prefix('=') else {
            return Err(self.syntax("the name of a value has no `=` behind it"));
        };
        let rest = rest.trim_start();
        let data = if rest.starts_with('-') {
            None
        } else {
            Some(self.data(rest, lines)?)
        };
        self.kept.values += 1;
        self.kept.bytes += name.len();
        self.kept.bytes += match &data {
            Some(Data::Text(text)) => text.len(),
            Some(Data::Bytes(_, bytes)) => bytes.len(),
            Some(Data::Dword(_)) | None => 4,
        };
        if self.kept.values > MAX_VALUES {
            let (limit, of) = (MAX_VALUES, "values");
            return Err(self.error(RegistryProblem::TooMany { limit, of }));
        }
        self.check_bytes(0)?;
        if let State::Below { values, .. } = &mut self.state {
            let key = Name::new(&name);
            let value = data.map(|data| Value { line: number, data });
            values.push((key, value));
        }
        Ok(())
    }

    fn check_bytes(&self, more: usize) -> Result<(), RegistryError> {
        if self.kept.bytes + more > MAX_BYTES {
            let (limit, of) = (MAX_BYTES, "bytes of values");
            return Err(self.error(RegistryProblem::TooMany { limit, of }));
        }
        Ok(())
    }

    /// What stands behind `=`.
    fn data(&mut self, text: &str, lines: &mut Lines<'_>) -> Result<Data, RegistryError> {
        if let Some(rest) = text.strip_prefix('"') {
            let (text, rest) = self.quoted(rest, lines)?;
            self.nothing_behind(&rest)?;
            return Ok(Data::Text(text));
        }
        let Some((kind, rest)) = text.split_once(':') else {
            return Err(self.syntax("a value is none of `\"text\"`, `dword:`, `hex:` and `hex(n):`"));
        };
        let kind = kind.trim_end().to_ascii_lowercase();
        if kind == "dword" {
            let rest = rest.trim_start();
            let digits = rest.split([' ', '\t', ';']).next().unwrap_or_default();
            self.nothing_behind(rest.get(digits.len()..).unwrap_or_default())?;
            let number = hexadecimal(digits, 8);
            return number
                .map(Data::Dword)
                .ok_or_else(|| self.syntax("`dword:` is not followed by one to eight hexadecimal digits"));
        }
        let number = kind.strip_prefix("hex").and_then(|kind| {
            if kind.is_empty() {
                return Some(BINARY);
            }
            hexadecimal(kind.strip_prefix('(')?.strip_suffix(')')?.trim(), 8)
        });
        let Some(number) = number else {
            return Err(self.syntax("a value is none of `\"text\"`, `dword:`, `hex:` and `hex(n):`"));
        };
        let mut bytes = self.bytes(rest, lines)?;
        if !self.wide && matches!(number, TEXT | 2 | 7) {
            if !bytes.is_ascii() {
                return Err(self.no_text());
            }
            bytes = bytes.iter().flat_map(|b| [*b, 0]).collect();
        }
        Ok(Data::new(number, bytes))
    }

    /// Hexadecimal bytes with commas between them; `\` at the end of a line means that the next one goes on.
    fn bytes(&mut self, first: &str, lines: &mut Lines<'_>) -> Result<Vec<u8>, RegistryError> {
        const EXPECTED: &str = "the bytes of a value are not two hexadecimal digits each, with commas between them";
        let mut bytes = Vec::new();
        let mut text = first.to_owned();
        let mut continued = false;
        loop {
            let own = text.split(';').next().unwrap_or_default().trim();
            let (own, more) = match own.strip_suffix('\\') {
                Some(own) => (own.trim_end(), true),
                None => (own, false),
            };
            if own.is_empty() && continued {
                return Err(self.syntax("a value goes on in the next line, and that is empty: the file was cut short"));
            }
            // The comma before the end of a line belongs to the byte in the next one.
            let own = if more {
                own.strip_suffix(',').unwrap_or(own)
            } else {
                own
            };
            self.check_bytes(bytes.len() + own.len() / 2)?;
            if !own.is_empty() {
                for byte in own.split(',') {
                    let byte = hexadecimal(byte.trim(), 2).and_then(|b| u8::try_from(b).ok());
                    bytes.push(byte.ok_or_else(|| self.syntax(EXPECTED))?);
                }
            }
            if !more {
                return Ok(bytes);
            }
            let Some(line) = lines.next() else {
                return Err(self.syntax("the file ends inside of a value: it was cut short"));
            };
            self.line = line.number;
            text = line.text().ok_or_else(|| self.no_text())?;
            continued = true;
        }
    }

    /// A text up to the quote that ends it, with its escapes resolved, and what stands behind on the same line. A text of
    /// several lines is written with its line ends.
    fn quoted(&mut self, first: &str, lines: &mut Lines<'_>) -> Result<(String, String), RegistryError> {
        let mut text = String::new();
        let mut line = first.to_owned();
        loop {
            let mut characters = line.chars();
            while let Some(c) = characters.next() {
                match c {
                    '"' => return Ok((text, characters.as_str().to_owned())),
                    '\\' => match characters.next() {
                        Some(c @ ('\\' | '"')) => text.push(c),
                        _ => return Err(self.syntax("a `\\` in a text is not followed by `\\` or `\"`")),
                    },
                    c => text.push(c),
                }
            }
            self.check_bytes(text.len())?;
            let Some(next) = lines.next() else {
                return Err(self.syntax("the file ends inside of a text: it was cut short"));
            };
            self.line = next.number;
            text.push('\n');
            line = next.text().ok_or_else(|| self.no_text())?;
        }
    }

    fn nothing_behind(&self, rest: &str) -> Result<(), RegistryError> {
        let rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with(';') {
            return Ok(());
        }
        Err(self.syntax("there is something behind a value"))
    }
}

/// Goes over a value that does not matter: to the end of its text, if it is one of several lines.
fn read_over(first: &str, lines: &mut Lines<'_>) {
    let mut line = first.to_owned();
    let mut inside = false;
    loop {
        let mut characters = line.chars();
        while let Some(c) = characters.next() {
            match c {
                '"' => inside = !inside,
                '\\' if inside => {
                    characters.next();
                }
                ';' if !inside => break,
                _ => {}
            }
        }
        if !inside {
            return;
        }
        match lines.next() {
            Some(next) => line = next.lossy(),
            None => return,
        }
    }
}

/// A number of one to `most` hexadecimal digits.
fn hexadecimal(digits: &str, most: usize) -> Option<u32> {
    let plain = (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}
