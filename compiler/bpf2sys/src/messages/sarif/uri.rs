//! File names as URIs (RFC 3986, RFC 8089): relative where the name is, without the folder that it is relative to.

use std::fmt::Write;

/// The URI of a file on this machine.
pub(super) fn of_input(path: &str) -> String {
    of(path, cfg!(windows))
}

/// The URI of a source file, named by a compiler on whatever machine. There, a backslash separates folders: hardly any name
/// on another system has one.
pub(super) fn of_source(path: &str) -> String {
    of(path, true)
}

fn of(path: &str, windows: bool) -> String {
    let path = if windows {
        path.replace('\\', "/")
    } else {
        path.to_owned()
    };
    let path = if windows { without_verbatim_prefix(path) } else { path };
    let has_drive = windows && matches!(path.as_bytes(), [letter, b':', b'/', ..] if letter.is_ascii_alphabetic());
    if has_drive {
        let (drive, rest) = path.split_at(2);
        format!("file:///{drive}{}", encoded(rest))
    } else if let (true, Some(share)) = (windows, path.strip_prefix("//")) {
        format!("file://{}", encoded(share))
    } else if path.starts_with('/') {
        format!("file://{}", encoded(&path))
    } else {
        // Segments that change nothing are left out, as a reader who compares URIs expects.
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty() && *s != ".").collect();
        encoded(&segments.join("/"))
    }
}

/// Without the prefix that makes Windows take a path as it is, which is no part of the file's name.
fn without_verbatim_prefix(path: String) -> String {
    match (path.strip_prefix("//?/UNC/"), path.strip_prefix("//?/")) {
        (Some(share), _) => format!("//{share}"),
        (None, Some(path)) => path.to_owned(),
        (None, None) => path,
    }
}

/// With everything escaped that is no unreserved character of a path, and no `/`.
fn encoded(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_uris() {
        for (path, uri) in [
            ("f.c", "f.c"),
            ("./dir//f.c", "dir/f.c"),
            ("../dir/f.c", "../dir/f.c"),
            ("dir\\f.c", "dir/f.c"),
            ("/src/f.c", "file:///src/f.c"),
            ("C:\\src\\a b\\f.c", "file:///C:/src/a%20b/f.c"),
            ("\\\\server\\share\\f.c", "file://server/share/f.c"),
            (r"\\?\C:\src\f.c", "file:///C:/src/f.c"),
            (r"\\?\UNC\server\share\f.c", "file://server/share/f.c"),
            ("100% größer#?.c", "100%25%20gr%C3%B6%C3%9Fer%23%3F.c"),
            // A colon in the first segment would make it a scheme.
            ("a:b.c", "a%3Ab.c"),
            ("\n\u{1b}", "%0A%1B"),
        ] {
            assert_eq!(of_source(path), uri, "{path:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_backslash_in_the_name_of_an_input_is_itself() {
        assert_eq!(of_input("a\\b.o"), "a%5Cb.o");
    }
}
