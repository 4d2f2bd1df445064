//! The form of exports.

use super::super::export::{Export, Root, parse};
use super::super::is_export;
use super::super::tree::{Data, Key, Name};
use super::machine::utf16;

const WANTED: [&str; 2] = ["Software", "Wanted"];
const HEAD: &str = "Windows Registry Editor Version 5.00\n\n";

fn try_read(text: &str) -> Result<Export, String> {
    parse("x.reg", text.as_bytes(), &WANTED).map_err(|e| e.to_string())
}

/// What the export says of `HKEY_CURRENT_USER`.
fn keys(body: &str) -> Key {
    let mut export = try_read(&format!("{HEAD}{body}")).unwrap();
    export.keys.remove(&Root::CurrentUser).unwrap_or_default()
}

fn child<'a>(key: &'a Key, name: &str) -> Option<&'a Key> {
    key.keys.get(&Name::new(name))
}

fn value<'a>(key: &'a Key, name: &str) -> Option<&'a Data> {
    key.values.get(&Name::new(name)).map(|v| &v.data)
}

#[test]
fn values_of_all_forms() {
    let bytes = |kind, bytes: &[u8]| Data::Bytes(kind, bytes.to_vec());
    for (written, expected) in [
        ("\"v\"=dword:0000001c", Data::Dword(28)),
        ("\"v\"=DWORD:1C ; twenty-eight", Data::Dword(28)),
        ("\"V\" = dword: ffffffff", Data::Dword(u32::MAX)),
        ("\"v\"=\"\"", Data::Text(String::new())),
        (
            "\"v\"=\"a\\\\b \\\"c\\\" ; d\" ; e",
            Data::Text("a\\b \"c\" ; d".into()),
        ),
        (
            "\"v\"=\"one\r\ntwo [x]\r\n[three]\"",
            Data::Text("one\ntwo [x]\n[three]".into()),
        ),
        ("\"v\"=hex:", bytes(3, &[])),
        ("\"v\"=hex:01", bytes(3, &[1])),
        ("\"v\"=hex:01,2,FF", bytes(3, &[1, 2, 255])),
        ("\"v\"=hex:01,\\\r\n  02,\\\r\n  03", bytes(3, &[1, 2, 3])),
        ("\"v\"=hex:01, \\ ; more\n 02 ; last", bytes(3, &[1, 2])),
        ("\"v\"=hex(3):01,02", bytes(3, &[1, 2])),
        ("\"v\"=hex(4):1c,00,00,00", Data::Dword(28)),
        ("\"v\"=hex(4):1c,00,00", bytes(4, &[28, 0, 0])),
        ("\"v\"=hex(1):61,00,62,00,00,00", Data::Text("ab".into())),
        ("\"v\"=hex(1):61,00,62,00", Data::Text("ab".into())),
        ("\"v\"=hex(1):61", bytes(1, &[0x61])),
        ("\"v\"=hex(1):00,d8", bytes(1, &[0, 0xD8])),
        (
            "\"v\"=hex(b):01,00,00,00,00,00,00,00",
            bytes(11, &[1, 0, 0, 0, 0, 0, 0, 0]),
        ),
        ("\"v\"=dword:1\n\"V\"=dword:2", Data::Dword(2)),
        ("\"v\"=dword:1\n\"w\"=-\n  ; comment\n\n\"x\"=dword:3", Data::Dword(1)),
    ] {
        let key = keys(&format!("[HKEY_CURRENT_USER\\Software\\Wanted]\n{written}\n"));
        assert_eq!(value(&key, "v"), Some(&expected), "{written}");
    }
    let key =
        keys("[HKCU\\software\\WANTED\\Key]\n@=\"default\"\n\"a\\\\b\\\"\"=dword:1\n\"gone\"=dword:1\n\"GONE\"=-\n");
    let key = child(&key, "KEY").unwrap();
    assert_eq!(value(key, ""), Some(&Data::Text("default".into())));
    assert_eq!(value(key, "a\\b\""), Some(&Data::Dword(1)));
    assert_eq!(value(key, "gone"), None);
    assert_eq!((key.name.as_str(), key.line), ("Key", 3));
}

#[test]
fn texts_given_as_bytes_have_the_width_of_the_format() {
    let read = |first: &str| {
        let text = format!("{first}\n[HKEY_CURRENT_USER\\Software\\Wanted]\n\"v\"=hex(1):61,62,00\n");
        let export = try_read(&text).unwrap();
        value(&export.keys[&Root::CurrentUser], "v").cloned().unwrap()
    };
    assert_eq!(read("REGEDIT4"), Data::Text("ab".into()));
    assert_eq!(
        read("Windows Registry Editor Version 5.00"),
        Data::Bytes(1, vec![0x61, 0x62, 0])
    );
}

#[test]
fn keys_come_once_whatever_their_case_and_deleted_ones_not_at_all() {
    let key = keys(
        "[HKEY_CURRENT_USER\\Software\\Wanted\\b]\n\"v\"=dword:1\n[HKEY_CURRENT_USER\\Software\\Wanted\\A\\deep/er]\n\
         [HKEY_CURRENT_USER\\SOFTWARE\\WANTED\\B]\n\"w\"=dword:2\n[HKEY_CURRENT_USER\\Software\\Wanted\\a\\x]\n\
         [-HKEY_CURRENT_USER\\Software\\Wanted\\A\\X]\n[-HKEY_CURRENT_USER\\Software\\Wanted\\never\\there]\n",
    );
    let names: Vec<&str> = key.keys.values().map(|k| k.name.as_str()).collect();
    assert_eq!(names, ["A", "b"]);
    assert_eq!(child(&key, "b").unwrap().values.len(), 2);
    let below: Vec<&str> = child(&key, "A")
        .unwrap()
        .keys
        .values()
        .map(|k| k.name.as_str())
        .collect();
    assert_eq!(below, ["deep/er"]);
    let wanted = "[HKEY_CURRENT_USER\\Software\\Wanted\\b]\n";
    for gone in ["Software", "Software\\Wanted", "SOFTWARE\\wanted\\"] {
        let text = format!("{HEAD}{wanted}[-HKEY_CURRENT_USER\\{gone}]\n");
        assert!(try_read(&text).unwrap().keys.is_empty(), "{gone}");
        let again = try_read(&format!("{text}{wanted}")).unwrap();
        assert_eq!(again.keys.len(), 1);
    }
    assert!(keys("[-HKEY_CURRENT_USER\\Software\\Other]\n").keys.is_empty());
}

#[test]
fn other_keys_are_read_over_whatever_is_in_them() {
    let key = keys(
        "[HKEY_CLASSES_ROOT]\nnonsense\n\"x\"=strange:1\n[HKEY_CURRENT_USER\\Software\\Other]\n\"t\"=\"two\n\
         [HKEY_CURRENT_USER\\Software\\Wanted\\in a text]\nlines\"\n\"h\"=hex:00,\\\n  zz,\\\n  01\n\
         [HKEY_CURRENT_USER\\Software\\WantedNot\\x]\n\"t\"=\"a \\\"quoted\\\" word\"\n\
         [HKEY_CURRENT_USER\\Software\\Wanted\\x]\n\"v\"=dword:1\n[HKEY_USERS\\S-1-5-18]\n\"y\"=\n",
    );
    assert_eq!(key.keys.len(), 1);
    assert_eq!(value(child(&key, "x").unwrap(), "v"), Some(&Data::Dword(1)));
}

#[test]
fn what_has_no_form_is_refused_with_its_line() {
    let inside = "[HKEY_CURRENT_USER\\Software\\Wanted\\k]\n";
    for (body, line, expected) in [
        ("[HKEY_CURRENT_USER\\Software\\Wanted\n", 3, "no `]` behind it"),
        (
            "[HKEY_CURRENT_USER\\Software\\Wanted\\a\\\\b]\n",
            3,
            "it is too long, too deep, or empty",
        ),
        ("@\n", 4, "no `=` behind it"),
        ("\"v\"\n", 4, "no `=` behind it"),
        ("\"v\"=\n", 4, "a value is none of"),
        ("\"v\"=qword:1\n", 4, "a value is none of"),
        ("\"v\"=hex(:1\n", 4, "a value is none of"),
        ("\"v\"=hex(g):1\n", 4, "a value is none of"),
        ("v=dword:1\n", 4, "no key, no value and no comment"),
        ("\"v\"=dword:\n", 4, "one to eight hexadecimal digits"),
        ("\"v\"=dword:123456789\n", 4, "one to eight hexadecimal digits"),
        ("\"v\"=dword:+1\n", 4, "one to eight hexadecimal digits"),
        ("\"v\"=dword:1 2\n", 4, "something behind a value"),
        ("\"v\"=\"a\"b\n", 4, "something behind a value"),
        ("\"v\"=\"a\\n\"\n", 4, "a `\\` in a text is not followed by"),
        ("\"v\"=hex:1,,2\n", 4, "two hexadecimal digits each"),
        ("\"v\"=hex:100\n", 4, "two hexadecimal digits each"),
        ("\"v\"=hex:01,\\\n  0g\n", 5, "two hexadecimal digits each"),
        (
            "\"v\"=hex:01,\\\n",
            4,
            "the file ends inside of a value: it was cut short",
        ),
        ("\"v\"=\"a\nb\n", 5, "the file ends inside of a text: it was cut short"),
    ] {
        let text = if body.starts_with('[') {
            format!("{HEAD}{body}")
        } else {
            format!("{HEAD}{inside}{body}")
        };
        let error = try_read(&text).expect_err(body);
        assert!(error.starts_with(&format!("x.reg:{line}: ")), "{body}: {error}");
        assert!(error.contains(expected), "{body}: {error}");
    }
    for first in [
        "",
        "REGEDIT",
        "REGEDIT5",
        "Windows Registry Editor Version 6.00",
        "[HKEY_CURRENT_USER]",
    ] {
        let error = try_read(&format!("{first}\n")).unwrap_err();
        assert!(error.contains("no registry editor that is known"), "{first}: {error}");
    }
}

#[test]
fn characters_without_meaning_only_matter_where_they_are_wanted() {
    let text = |where_to: &[u8]| {
        let mut bytes = b"REGEDIT4\r\n[HKEY_CURRENT_USER\\Software\\Other]\r\n\"caf\xe9\"=\"\xe9\"\r\n".to_vec();
        bytes.extend_from_slice(b"[HKEY_CURRENT_USER\\Software\\Wanted]\r\n");
        bytes.extend_from_slice(where_to);
        parse("x.reg", &bytes, &WANTED).map_err(|e| e.to_string())
    };
    assert!(text(b"\"v\"=dword:1\r\n").is_ok());
    for bad in [
        &b"\"caf\xe9\"=dword:1\r\n"[..],
        b"[HKEY_CURRENT_USER\\Software\\Wanted\\caf\xe9]\r\n",
    ] {
        let error = text(bad).unwrap_err();
        assert!(error.contains("of an unknown code page"), "{error}");
    }
    let wide = |unit: u16| {
        let mut bytes = utf16(&format!("{HEAD}[HKEY_CURRENT_USER\\Software\\Wanted]\n\"v\"=\"x"));
        bytes.extend(unit.to_le_bytes());
        bytes.extend(b"\"\0\r\0\n\0");
        parse("x.reg", &bytes, &WANTED).map_err(|e| e.to_string())
    };
    let export = wide(u16::from(b'y')).unwrap();
    assert_eq!(
        value(&export.keys[&Root::CurrentUser], "v"),
        Some(&Data::Text("xy".into()))
    );
    let error = wide(0xD800).unwrap_err();
    assert!(error.starts_with("x.reg:4: ") && error.contains("no UTF-16"), "{error}");
}

#[test]
fn a_file_cut_in_a_character_is_refused() {
    let bytes = utf16(&format!("{HEAD}[HKEY_CURRENT_USER\\Software\\Wanted]\n"));
    assert!(parse("x.reg", &bytes, &WANTED).is_ok());
    let error = parse("x.reg", &bytes[..bytes.len() - 1], &WANTED)
        .unwrap_err()
        .to_string();
    assert!(error.contains("cut short"), "{error}");
}

#[test]
fn a_million_other_keys_do_not_matter_and_too_many_wanted_ones_are_refused() {
    let mut text = HEAD.to_owned();
    for i in 0..1_000_000 {
        text += &format!("[HKEY_CURRENT_USER\\Software\\k{i}]\n");
    }
    text += "[HKEY_CURRENT_USER\\Software\\Wanted\\k]\n";
    assert_eq!(try_read(&text).unwrap().keys[&Root::CurrentUser].keys.len(), 1);
    let many = |line: fn(usize) -> String| {
        let lines: String = (0..200_000).map(line).collect();
        try_read(&format!("{HEAD}[HKEY_CURRENT_USER\\Software\\Wanted]\n{lines}")).unwrap_err()
    };
    let error = many(|i| format!("[HKEY_CURRENT_USER\\Software\\Wanted\\k{i}]\n"));
    assert!(error.contains("more than 16384 keys"), "{error}");
    let error = many(|i| {
        format!(
            "[HKEY_CURRENT_USER\\Software\\Wanted\\{}]\n",
            format!("{i}\\").repeat(80)
        )
    });
    assert!(error.contains("more than 16384 keys"), "{error}");
    let error = many(|i| format!("\"v{i}\"=dword:1\n"));
    assert!(error.contains("more than 131072 values"), "{error}");
    let error = many(|_| format!("\"v\"=\"{}\"\n", "x".repeat(1000)));
    assert!(error.contains("more than 16777216 bytes of values"), "{error}");
    let error = try_read(&format!(
        "{HEAD}[HKCU\\Software\\Wanted]\n\"v\"=hex:{}\n",
        "00,\\\n".repeat(17 << 20)
    ));
    assert!(error.unwrap_err().contains("bytes of values"));
    let error = try_read(&format!(
        "{HEAD}[HKCU\\Software\\Wanted]\n\"v\"=\"{}\n",
        "x\n".repeat(17 << 20)
    ));
    assert!(error.unwrap_err().contains("bytes of values"));
    let error = try_read(&format!("{HEAD}\"{}\"\n", "x".repeat(5 << 20))).unwrap_err();
    assert!(error.contains("bytes in a line"), "{error}");
    for name in ["x".repeat(256), "x\\".repeat(511)] {
        let error = try_read(&format!("{HEAD}[HKCU\\Software\\Wanted\\{name}]\n")).unwrap_err();
        assert!(error.contains("it is too long, too deep"), "{error}");
    }
}

#[test]
fn an_export_is_told_by_its_first_line() {
    assert!(is_export(HEAD.as_bytes()));
    assert!(is_export(&utf16(HEAD)));
    assert!(is_export(b"REGEDIT4"));
    assert!(is_export(b"\xEF\xBB\xBFREGEDIT4\r\n"));
    for other in [
        &b""[..],
        b"schema = 1",
        b"\xFF\xFE",
        b"# REGEDIT4",
        b"\x7fELF",
        b"\xFF\xFEs\0",
    ] {
        assert!(!is_export(other), "{other:?}");
    }
}
