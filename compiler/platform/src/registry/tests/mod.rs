//! What is read of registries, and what is refused.

mod form;
mod machine;
mod mutated;
mod store;

use super::RegistryProviders;
use crate::{HashAlgorithm, Platform};
use machine::{export, utf16};

fn read(text: &str) -> RegistryProviders {
    RegistryProviders::of_export("their.reg", text.as_bytes()).unwrap()
}

/// The core without general helpers, which a registry has, too.
fn core_without_helpers() -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in Platform::builtin_files()[0].1.lines() {
        if line.starts_with('[') {
            inside = line.starts_with("[[helper]]");
        }
        if !inside {
            kept += line;
            kept += "\n";
        }
    }
    kept
}

#[test]
fn a_machines_registry_gives_the_platform_with_the_hashes_of_all_its_programs() {
    let builtin = Platform::builtin();
    let imported = read(&export(&builtin));
    assert_eq!(imported.warnings(), []);
    let toml = imported.to_toml().unwrap();
    let files = [("core.toml", core_without_helpers()), ("their.toml", toml)];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let platform = Platform::from_toml(&files).unwrap();
    assert_eq!(platform.program_types.len(), builtin.program_types.len());
    assert_eq!(platform.helpers.len(), builtin.helpers.len());
    assert_eq!(platform.section_prefixes(), builtin.section_prefixes());
    for known in &builtin.program_types {
        let found = platform.program_types.iter().find(|t| t.guid == known.guid).unwrap();
        for section in &known.sections {
            let (program_type, attach) = platform.program_type_for_section(&section.prefix).unwrap();
            assert_eq!(program_type.guid, known.guid);
            assert_eq!(attach.attach_type, section.attach_type);
            assert_eq!(attach.bpf_attach_type, section.bpf_attach_type);
        }
        let hash = |platform: &Platform, of| {
            let ids = known.helpers.iter().chain(&builtin.helpers).map(|h| h.id);
            let functions = builtin.btf_functions.iter().map(|f| (f.module, f.name.as_str()));
            platform.program_info_hash(HashAlgorithm::Sha256, of, ids, functions)
        };
        assert!(hash(&builtin, known).is_ok());
        assert_eq!(hash(&platform, found), hash(&builtin, known), "{}", known.name);
    }
}

#[test]
fn what_is_built_in_is_left_out_and_the_rest_stays() {
    let builtin = Platform::builtin();
    let mut all = read(&export(&builtin));
    let omitted = all.omit_known(&builtin);
    assert_eq!((omitted.program_types.omitted, omitted.program_types.kept), (7, 0));
    assert_eq!((omitted.helpers.omitted, omitted.helpers.kept), (35, 0));
    assert_eq!((omitted.functions.omitted, omitted.functions.kept), (1, 0));
    assert_eq!((omitted.sections.omitted, omitted.sections.kept), (0, 0));
    let toml = all.to_toml().unwrap();
    assert!(!toml.lines().any(|line| line.starts_with("[[")), "{toml}");

    // One helper differs: its type stays, whole.
    let text = export(&builtin).replacen("\"ReallocatePacket\"=dword:0", "\"ReallocatePacket\"=dword:1", 1);
    let mut changed = read(&text);
    let omitted = changed.omit_known(&builtin);
    assert_eq!((omitted.program_types.omitted, omitted.program_types.kept), (6, 1));
    let toml = changed.to_toml().unwrap();
    assert!(toml.contains("prefix = \"cgroup/connect4\""), "{toml}");
    assert!(toml.contains("bpf_sock_addr_get_network_context"), "{toml}");
}

#[test]
fn a_whole_export_joins_the_built_in_providers_without_changing_them() {
    let builtin = Platform::builtin();
    let toml = read(&export(&builtin)).to_toml().unwrap();
    let mut files = Platform::builtin_files().to_vec();
    files.push(("their.reg", &toml));
    let mut joined = Platform::from_toml(&files).unwrap();
    assert_eq!(joined.providers.pop().map(|p| p.id), Some("registry".into()));
    assert_eq!(format!("{joined:?}"), format!("{builtin:?}"));
}

#[test]
fn the_text_only_depends_on_what_the_registry_says() {
    let text = export(&Platform::builtin());
    let toml = read(&text).to_toml().unwrap();
    // Keys in the opposite order, other case, all encodings.
    let (first, keys) = text.split_once("\n\n").unwrap();
    let mut keys: Vec<String> = keys
        .split("\n[")
        .map(|k| format!("[{}", k.trim_start_matches('[')))
        .collect();
    keys.reverse();
    let reversed = format!("{first}\n\n{}\n", keys.join("\n"));
    assert_eq!(read(&reversed).to_toml().unwrap(), toml);
    let shouted = text
        .replace("\\Software\\eBPF\\", "\\SOFTWARE\\EBPF\\")
        .replace("\"Version\"", "\"VERSION\"");
    assert_eq!(read(&shouted).to_toml().unwrap(), toml);
    let of = |bytes: &[u8]| {
        RegistryProviders::of_export("C:\\x\\their.reg", bytes)
            .unwrap()
            .to_toml()
            .unwrap()
    };
    assert_eq!(of(&utf16(&text)), toml);
    assert_eq!(of(&utf16(&text)[2..]), toml, "without its mark");
    assert_eq!(of(text.replace('\n', "\r\n").as_bytes()), toml);
    assert_eq!(of(format!("\u{feff}{text}").as_bytes()), toml);
    let narrow = text.replace("Windows Registry Editor Version 5.00", "REGEDIT4");
    assert_eq!(of(narrow.as_bytes()), toml);
}

/// The example of the documentation is a file that loads, and the same that the example of an export becomes.
#[test]
fn the_documented_provider_file_loads() {
    let page = include_str!("../../../README.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (toml, _) = rest.split_once("```").unwrap();
    let mut files = Platform::builtin_files().to_vec();
    files.push(("file_guard.toml", toml));
    let export = include_bytes!("../../../../../tests/fixtures/platforms/file_guard.reg");
    let imported = RegistryProviders::of_export("file_guard.reg", export)
        .unwrap()
        .to_toml()
        .unwrap();
    files.push(("file_guard.reg", &imported));
    let platform = Platform::from_toml(&files).unwrap();
    let (program_type, _) = platform.program_type_for_section("file_guard/open").unwrap();
    assert_eq!(
        (program_type.provider.as_str(), program_type.helpers.len()),
        ("file_guard", 6)
    );
}
