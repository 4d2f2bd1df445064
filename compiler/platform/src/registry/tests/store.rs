//! What a store must have, and what is left out of it.

use super::super::RegistryProviders;
use super::machine::{ROOT, export};
use super::read;
use crate::{Guid, Platform};

/// A provider with one of everything.
const MINE: &str = r#"schema = 1
[provider]
id = "mine"

[[helper]]
id = 900
name = "my_general_helper"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = []

[[btf_resolved_function]]
module_guid = "00000000-0000-0000-0000-000000000009"
name = "my_function"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = ["EBPF_ARGUMENT_TYPE_ANYTHING"]

[[program_type]]
name = "mine"
guid = "00000000-0000-0000-0000-000000000001"
bpf_prog_type = 77
is_privileged = false

[program_type.context]
size = 32
data = 0
data_end = 8
data_meta = -1

[[program_type.section]]
prefix = "mine"
attach_type_guid = "00000000-0000-0000-0000-000000000002"
bpf_attach_type = 78

[[program_type.helper]]
id = 65536
name = "my_helper"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = ["EBPF_ARGUMENT_TYPE_PTR_TO_READABLE_MEM", "EBPF_ARGUMENT_TYPE_CONST_SIZE"]

[[program_type.helper]]
id = 65537
name = "my_other_helper"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = ["EBPF_ARGUMENT_TYPE_PTR_TO_CTX"]
"#;

/// The export of a machine that has this provider and the built-in ones.
fn machine() -> String {
    let mut files = Platform::builtin_files().to_vec();
    files.push(("mine.toml", MINE));
    export(&Platform::from_toml(&files).unwrap())
}

fn platform(toml: &str) -> Platform {
    let mut files = Platform::builtin_files().to_vec();
    files.push(("their.reg", toml));
    Platform::from_toml(&files).unwrap()
}

/// The part of the export from a key to the next.
fn of_key<'a>(text: &'a str, end: &str) -> &'a str {
    let start = text.find(&format!("{end}]\n")).unwrap();
    let start = text[..start].rfind('[').unwrap();
    let length = text[start + 1..].find("\n[").map_or(text.len() - start, |at| at + 2);
    &text[start..start + length]
}

const TYPE: &str = "ProgramData\\{00000000-0000-0000-0000-000000000001}";
const MODULE: &str = "BtfResolvedFunctions\\{00000000-0000-0000-0000-000000000009}";

#[test]
fn broken_entries_are_left_out_with_a_warning_and_the_rest_stays() {
    let text = machine();
    assert_eq!(read(&text).warnings(), []);
    let helper = format!("{TYPE}\\Helpers\\my_helper");
    let descriptor = format!("{TYPE}\\TypeDescriptor");
    let function = format!("{MODULE}\\Functions\\my_function");
    // Key, what is changed in it, what it becomes, the key and value of the warning, and what it says.
    let cases = [
        (
            TYPE,
            "\"Version\"=dword:1\n",
            "",
            TYPE,
            Some("Version"),
            "the value is missing",
        ),
        (
            TYPE,
            "Version\"=dword:1",
            "Version\"=dword:2",
            TYPE,
            Some("Version"),
            "version 2 is unknown",
        ),
        (
            TYPE,
            "\"Size\"=dword:40\n",
            "",
            TYPE,
            Some("Size"),
            "the value is missing",
        ),
        (
            TYPE,
            "HelperCount\"=dword:2",
            "HelperCount\"=dword:3",
            TYPE,
            Some("HelperCount"),
            "`HelperCount` is 3, and `Helpers` has 2",
        ),
        (
            TYPE,
            "HelperCount\"=dword:2",
            "HelperCount\"=dword:1",
            TYPE,
            Some("HelperCount"),
            "`HelperCount` is 1, and `Helpers` has 2",
        ),
        (
            TYPE,
            "HelperCount\"=dword:2",
            "HelperCount\"=hex:2",
            TYPE,
            Some("HelperCount"),
            "is REG_BINARY of 1 byte, and must be REG_DWORD",
        ),
        (
            &descriptor,
            "\"Name\"=\"mine\"\n",
            "",
            &descriptor,
            Some("Name"),
            "the value is missing",
        ),
        (
            &descriptor,
            "\"Name\"=\"mine\"",
            "\"Name\"=dword:1",
            &descriptor,
            Some("Name"),
            "is REG_DWORD, and must be REG_SZ",
        ),
        (
            &descriptor,
            "\"Name\"=\"mine\"",
            "\"Name\"=hex(2):61,00",
            &descriptor,
            Some("Name"),
            "is REG_EXPAND_SZ of 2 bytes",
        ),
        (
            &descriptor,
            "\"Name\"=\"mine\"",
            "\"Name\"=\"\"",
            TYPE,
            None,
            "its name is empty",
        ),
        (
            &descriptor,
            "\"Name\"=\"mine\"",
            "\"Name\"=hex(1):61,00,00,00,62,00",
            TYPE,
            None,
            "its name contains a NUL",
        ),
        (
            &descriptor,
            "hex:20,",
            "hex:",
            &descriptor,
            Some("ContextDescriptor"),
            "is REG_BINARY of 15 bytes, and must be REG_BINARY of 16",
        ),
        (
            &descriptor,
            "hex:20,",
            "hex(7):20,",
            &descriptor,
            Some("ContextDescriptor"),
            "is REG_MULTI_SZ of 16 bytes",
        ),
        (
            &descriptor,
            "hex:20,",
            "hex:0f,",
            TYPE,
            None,
            "its context has 15 bytes, and must have 16 at least",
        ),
        (
            &descriptor,
            "hex:20,00,00,00",
            "hex:20,00,00,80",
            TYPE,
            None,
            "its context has -2147483616 bytes",
        ),
        (
            &descriptor,
            "08,00,00,00",
            "10,00,00,00",
            TYPE,
            None,
            "in its `ContextDescriptor`, `data_end`: must lie 8 bytes behind",
        ),
        (
            &descriptor,
            "\"IsPrivileged\"=dword:0\n",
            "",
            &descriptor,
            Some("IsPrivileged"),
            "the value is missing",
        ),
        (
            &helper,
            "\"Version\"=dword:1\n",
            "",
            &helper,
            Some("Version"),
            "the value is missing",
        ),
        (
            &helper,
            "\"Prototype\"=hex:00,00,01,00",
            "\"Prototype\"=hex:00,00,01",
            &helper,
            Some("Prototype"),
            "is REG_BINARY of 27 bytes",
        ),
        (
            &helper,
            "\"ReallocatePacket\"=dword:0",
            "\"ReallocatePacket\"=\"0\"",
            &helper,
            Some("ReallocatePacket"),
            "is REG_SZ",
        ),
        (
            &helper,
            "hex:00,00,01,00",
            "hex:00,00,00,00",
            &helper,
            None,
            "its id 0 is not above 65535",
        ),
        (
            &helper,
            "hex:00,00,01,00",
            "hex:00,00,01,80",
            &helper,
            None,
            "its id 2147549184 does not fit a call",
        ),
        (
            &helper,
            "hex:00,00,01,00",
            "hex:01,00,01,00",
            &helper,
            None,
            "another helper has the id 65537, too",
        ),
        (
            &helper,
            "00,00,00,00,\\",
            "03,00,00,00,\\",
            &helper,
            None,
            "its return type: `EBPF_RETURN_TYPE_UNSUPPORTED` makes",
        ),
        (
            &helper,
            "00,00,00,00,\\",
            "ff,ff,ff,ff,\\",
            &helper,
            None,
            "its return type -1 is unknown",
        ),
        (
            &helper,
            "02,00,00,00",
            "22,00,00,00",
            &helper,
            None,
            "its argument 2 has type 34, which is unknown",
        ),
        (
            &helper,
            "02,00,00,00",
            "01,00,00,00",
            &helper,
            None,
            "its arguments: a pointer to sized memory is not followed",
        ),
        (
            &function,
            "\"ReturnType\"=dword:0\n",
            "",
            &function,
            Some("ReturnType"),
            "the value is missing",
        ),
        (
            &function,
            "01,00,00,00",
            "17,00,00,00",
            &function,
            None,
            "its arguments: `EBPF_ARGUMENT_TYPE_PTR_TO_CONST_STR` makes",
        ),
        (
            MODULE,
            "\"Size\"=dword:3c\n",
            "",
            MODULE,
            Some("Size"),
            "the value is missing",
        ),
    ];
    for (key, from, to, place, value, expected) in cases {
        let before = of_key(&text, key);
        assert!(before.contains(from), "{key}: {from}");
        let broken = read(&text.replacen(before, &before.replacen(from, to, 1), 1));
        let of_place = |key: &str| key == format!("{ROOT}\\{place}");
        let warning = broken.warnings().iter().find(|w| of_place(&w.place.key));
        let warning = warning.unwrap_or_else(|| panic!("{to}: {:?}", broken.warnings()));
        assert!(warning.problem.to_string().contains(expected), "{to}: {warning}");
        assert_eq!(warning.place.value.as_deref(), value, "{to}");
        assert!(warning.place.line > 0);
        let found = platform(&broken.to_toml().unwrap());
        assert!(
            found.program_types.iter().any(|t| t.name == "xdp"),
            "the rest is there: {to}"
        );
        // What is broken is not there, and not more.
        let types = found.program_types.iter().filter(|t| t.provider == "registry").count();
        let functions = found.btf_functions.iter().filter(|f| f.provider == "registry").count();
        let helpers = found
            .program_types
            .iter()
            .find(|t| t.name == "mine")
            .map_or(0, |t| t.helpers.len());
        let expected = if place.starts_with(MODULE) {
            (1, 0, 2)
        } else if place == helper && value.is_none() {
            (1, 1, usize::from(!expected.contains("another helper")))
        } else {
            (0, 1, 0)
        };
        assert_eq!((types, functions, helpers), expected, "{to}");
    }
}

#[test]
fn an_older_or_newer_size_of_a_structure_does_not_matter() {
    let text = machine();
    for (from, to) in [
        ("Size\"=dword:42", "Size\"=dword:40"),
        ("Size\"=dword:3d", "Size\"=dword:48"),
    ] {
        let other = read(&text.replace(from, to));
        assert_eq!(other.warnings(), []);
        assert_eq!(other.to_toml(), read(&text).to_toml());
    }
    // Writers from before the flag leave it out; a type without helpers may have no such key.
    let old = read(&text.replace("\"ReallocatePacket\"=dword:0\n", ""));
    assert_eq!(old.to_toml(), read(&text).to_toml());
}

#[test]
fn broken_sections_and_general_helpers_are_errors() {
    let text = machine();
    let read = |text: &str| RegistryProviders::of_export("their.reg", text.as_bytes());
    for (key, from, to, expected) in [
        (
            "SectionData\\mine",
            "\"ProgramType\"",
            "\"Program\"",
            "value `ProgramType`: the value is missing",
        ),
        (
            "SectionData\\mine",
            "\"AttachType\"=hex:00,",
            "\"AttachType\"=hex:",
            "value `AttachType`: is REG_BINARY of 15 bytes",
        ),
        (
            "SectionData\\mine",
            "\"BpfAttachType\"=dword:4e",
            "\"BpfAttachType\"=\"4e\"",
            "is REG_SZ, and must be REG_DWORD",
        ),
        (
            "GlobalHelpers\\my_general_helper",
            "\"Prototype\"",
            "\"Proto\"",
            "value `Prototype`: the value is missing",
        ),
        (
            "GlobalHelpers\\my_general_helper",
            "\"Size\"",
            "\"Sice\"",
            "value `Size`: the value is missing",
        ),
    ] {
        let before = of_key(&text, key);
        assert!(before.contains(from), "{key}: {before}");
        let error = read(&text.replacen(before, &before.replacen(from, to, 1), 1))
            .unwrap_err()
            .to_string();
        let line = text[..text.find(before).unwrap()].matches('\n').count() + 1;
        assert!(
            error.starts_with("their.reg:") && error.contains(key) && error.contains(expected),
            "{error}"
        );
        let told: usize = error.split(':').nth(1).unwrap().parse().unwrap();
        assert!((line..line + 10).contains(&told), "line {told} of {line}");
    }
}

#[test]
fn a_section_of_a_type_that_nobody_describes_does_not_fall_back_to_a_shorter_prefix() {
    let text = machine();
    let section = of_key(&text, "SectionData\\mine");
    let longer = section.replace("SectionData\\mine", "SectionData\\xdp/mine");
    let unknown = longer.replace("ProgramType\"=hex:00", "ProgramType\"=hex:77");
    let imported = read(&format!("{text}{unknown}"));
    let [warning] = imported.warnings() else {
        panic!("{:?}", imported.warnings())
    };
    assert!(
        warning.to_string().contains("is not described in `ProgramData`"),
        "{warning}"
    );
    let found = platform(&imported.to_toml().unwrap());
    let name = |section| found.program_type_for_section(section).map(|(t, _)| t.name.clone());
    assert_eq!(name("xdp/mine/1"), None);
    assert_eq!(name("xdp/other").as_deref(), Some("xdp"));
    // With a type that another file describes, it is a section of that one.
    let xdp = "85,2a,83,f1,d5,85,b0,45,\\\n  98,a0,70,69,d6,30,13,b0";
    let mine = "00,00,00,00,00,00,00,00,\\\n  00,00,00,00,00,00,00,01";
    let known = longer.replacen(
        &format!("ProgramType\"=hex:{mine}"),
        &format!("ProgramType\"=hex:{xdp}"),
        1,
    );
    assert_ne!(known, longer);
    let only = format!("Windows Registry Editor Version 5.00\n\n{known}");
    let found = platform(&read(&only).to_toml().unwrap());
    let (program_type, attach) = found.program_type_for_section("xdp/mine/1").unwrap();
    assert_eq!((program_type.name.as_str(), attach.bpf_attach_type), ("xdp", 78));
}

#[test]
fn section_names_longer_than_readers_take_are_left_out() {
    let text = machine().replace("SectionData\\mine", &format!("SectionData\\{}", "m".repeat(38)));
    let imported = read(&text);
    assert!(imported.warnings()[0].to_string().contains("longer than 37 characters"));
    assert!(!imported.to_toml().unwrap().contains("mmm"));
}

#[test]
fn the_current_users_store_counts_alone() {
    let user = machine();
    let local = export(&Platform::builtin()).replace("HKEY_CURRENT_USER", "HKEY_LOCAL_MACHINE");
    let both = format!("{}{}", user, &local[local.find('[').unwrap()..]);
    assert_eq!(read(&both).to_toml(), read(&user).to_toml());
    // An empty key is a store, too.
    let empty = format!("{local}[HKEY_CURRENT_USER\\Software\\eBPF\\Providers]\n");
    assert!(!read(&empty).to_toml().unwrap().contains("[[program_type]]"));
    assert!(read(&local).to_toml().unwrap().contains("[[program_type]]"));
}

#[test]
fn an_export_without_a_store_says_what_is_there_instead() {
    let error = |body: &str| {
        let text = format!("Windows Registry Editor Version 5.00\n\n{body}");
        RegistryProviders::of_export("their.reg", text.as_bytes())
            .unwrap_err()
            .to_string()
    };
    assert!(error("").ends_with("of HKEY_CURRENT_USER or HKEY_LOCAL_MACHINE"));
    for key in [
        "HKEY_USERS\\S-1-5-21-1\\Software\\eBPF\\Providers",
        "HKEY_LOCAL_MACHINE\\Software\\WOW6432Node\\eBPF\\Providers",
    ] {
        let error = error(&format!("[{key}]\n[{key}\\ProgramData]\n"));
        assert!(error.ends_with(&format!("; there is `{key}`")), "{error}");
    }
}

#[test]
fn names_with_anything_in_them_come_out_as_they_are() {
    let text = machine()
        .replace("Helpers\\my_helper]", "Helpers\\my \"help\u{e9}r\u{1}\u{85}# ']")
        .replace("\"Name\"=\"mine\"", "\"Name\"=\"a\\\\b\\\"c\nd\u{1F600}\"");
    let found = platform(&read(&text).to_toml().unwrap());
    let guid: Guid = "00000000-0000-0000-0000-000000000001".parse().unwrap();
    let mine = found.program_types.iter().find(|t| t.guid == guid).unwrap();
    assert_eq!(mine.name, "a\\b\"c\nd\u{1F600}");
    assert!(mine.helpers.iter().any(|h| h.name == "my \"help\u{e9}r\u{1}\u{85}# '"));
}

#[test]
fn of_two_types_with_one_name_the_first_counts() {
    let text = machine().replace("\"Name\"=\"mine\"", "\"Name\"=\"xdp\"");
    let imported = read(&text);
    let [warning, _of_its_section] = imported.warnings() else {
        panic!("{:?}", imported.warnings())
    };
    assert!(
        warning.place.key.ends_with("{f1832a85-85d5-45b0-98a0-7069d63013b0}"),
        "{warning}"
    );
    assert!(
        warning
            .to_string()
            .contains("another program type has the name `xdp`, too"),
        "{warning}"
    );
}
