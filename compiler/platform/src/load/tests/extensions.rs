//! What a provider file says of functions that programs call by name, and of map types that an extension implements.

use std::num::NonZeroU32;

use super::super::*;
use crate::model::{CustomMap, SizeRule};

const MINE: &str = r#"schema = 1
[provider]
id = "mine"

[[btf_resolved_function]]
module_guid = "00000001-0000-0000-0000-000000000000"
name = "second"
return_type = "EBPF_RETURN_TYPE_PTR_TO_MAP_VALUE_OR_NULL"
args = ["EBPF_ARGUMENT_TYPE_PTR_TO_MAP", "EBPF_ARGUMENT_TYPE_PTR_TO_MAP_KEY"]
flags = 7

[[btf_resolved_function]]
module_guid = "00000001-0000-0000-0000-000000000000"
name = "First"
return_type = { name = "EBPF_RETURN_TYPE_INTEGER", value = 0 }
args = [{ name = "EBPF_ARGUMENT_TYPE_ANYTHING", value = 1 }, { name = "EBPF_ARGUMENT_TYPE_DONTCARE", value = 0 }]
decl_tag = "module_id:{00000001-0000-0000-0000-000000000000}"
elf_section = ".ksyms"

[[btf_resolved_function]]
module_guid = "00000100-0000-0000-0000-000000000000"
name = "sample_ebpf_extension_btf_lookup"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = []

[[custom_map_type]]
name = "BPF_MAP_TYPE_FLOW_TABLE"
value = 16
base_map_type = 1
key_size = 40
provider_guid = "00000000-0000-0000-0000-000000000003"
"#;

fn load(mine: &str) -> Result<Platform, PlatformError> {
    let mut files = Platform::builtin_files().to_vec();
    files.push(("mine.toml", mine));
    Platform::from_toml(&files)
}

#[test]
fn functions_come_in_the_order_of_the_hash_with_their_prototypes() {
    let platform = load(MINE).unwrap();
    let found: Vec<(String, &str, &str)> = platform
        .btf_functions
        .iter()
        .map(|f| (f.module.to_string(), f.name.as_str(), f.provider.as_str()))
        .collect();
    let lookup = "sample_ebpf_extension_btf_lookup";
    // By the bytes in memory, so the low byte of the first number comes first.
    let (first, second) = (
        "00000100-0000-0000-0000-000000000000",
        "00000001-0000-0000-0000-000000000000",
    );
    let sample = "8f6c1f83-ce4c-4b58-8b91-654a29e23b7c";
    let expected = [
        (first.to_owned(), lookup, "mine"),
        (second.to_owned(), "First", "mine"),
        (second.to_owned(), "second", "mine"),
        (sample.to_owned(), lookup, "sample"),
    ];
    assert_eq!(found, expected);
    let of = |module: &str, name| platform.btf_function(module.parse().unwrap(), name).unwrap();
    let flagged = of(second, "second");
    assert_eq!(
        (flagged.return_type, flagged.arguments, flagged.flags),
        (1, [5, 7, 0, 0, 0], 7)
    );
    assert_eq!(of(second, "First").arguments, [1, 0, 0, 0, 0]);
    let known = of(sample, lookup);
    assert_eq!(
        (known.return_type, known.arguments, known.flags),
        (0, [1, 11, 2, 0, 0], 0)
    );
    assert!(platform.btf_function(sample.parse().unwrap(), "second").is_none());
    assert!(platform.btf_function(second.parse().unwrap(), "first").is_none());
}

#[test]
fn a_map_type_of_an_extension_takes_a_number_that_the_runtime_keeps() {
    let builtin = Platform::builtin();
    let reserved = builtin.map_type(16).unwrap();
    assert_eq!(reserved.symbol, "BPF_MAP_TYPE_XSKMAP");
    assert_eq!(reserved.custom, Some(CustomMap::default()));

    let sample = builtin.map_type(15).unwrap();
    assert_eq!(
        (sample.symbol.as_str(), sample.name.as_str()),
        ("BPF_MAP_TYPE_SAMPLE_HASH_MAP", "sample_hash_map")
    );
    let custom = CustomMap {
        provider: Some("sample".to_owned()),
        provider_guid: Some("f788ef4b-207d-4dc4-85cf-0f2ea107213c".parse().unwrap()),
        base_map_type: Some(1),
        updates_original_value: true,
    };
    assert_eq!(sample.custom, Some(custom));
    assert_eq!(sample.rules.key_size, SizeRule::Exactly(4));

    let platform = load(MINE).unwrap();
    let mine = platform.map_type(16).unwrap();
    assert_eq!(
        (mine.symbol.as_str(), mine.name.as_str()),
        ("BPF_MAP_TYPE_FLOW_TABLE", "flow_table")
    );
    let custom = CustomMap {
        provider: Some("mine".to_owned()),
        provider_guid: Some("00000000-0000-0000-0000-000000000003".parse().unwrap()),
        base_map_type: Some(1),
        updates_original_value: false,
    };
    assert_eq!(mine.custom, Some(custom));
    assert_eq!(mine.rules.key_size, SizeRule::Exactly(40));
    assert_eq!(mine.rules.value_size, SizeRule::AtLeast(NonZeroU32::MIN));
    assert!(!mine.verifier_is_array);
    assert_eq!(platform.map_types.len(), builtin.map_types.len());
    // The runtime's own types stay as they are.
    assert_eq!(platform.map_type(15).unwrap().custom, sample.custom);
    assert!(platform.map_type(14).unwrap().custom.is_none());
}

#[test]
fn rejects_what_contradicts_the_platform_or_another_provider() {
    let function = "btf_resolved_function `second`: ";
    let map = "custom_map_type `BPF_MAP_TYPE_FLOW_TABLE`: ";
    let again = "module 00000001-0000-0000-0000-000000000000 has this function already";
    for (from, to, place, expected) in [
        ("\"First\"", "\"second\"", function, again),
        (
            "00000100-0000-0000-0000-000000000000",
            "8f6c1f83-ce4c-4b58-8b91-654a29e23b7c",
            "function `sample_ebpf_extension_btf_lookup` of module 8f6c1f83-ce4c-4b58-8b91-654a29e23b7c: ",
            "`sample` (in sample.toml) says otherwise: argument 1 is EBPF_ARGUMENT_TYPE_ANYTHING there and EBPF_ARGUMENT_TYPE_DONTCARE here",
        ),
        ("\"second\"", "\"\"", "btf_resolved_function ``: ", "`name`: is empty"),
        ("\"second\"", "\"a\\u0000b\"", "", "`name`: contains a NUL"),
        ("00000001-0000", "00000000-0000", function, "`module_guid`: is zero"),
        (
            "00000001-0000",
            "0000001-0000",
            function,
            "`module_guid`: `0000001-0000",
        ),
        (
            "TYPE_PTR_TO_MAP_VALUE_OR_NULL",
            "TYPE_NONE",
            function,
            "`return_type`: `EBPF_RETURN_TYPE_NONE` is no",
        ),
        (
            "TYPE_PTR_TO_MAP_VALUE_OR_NULL",
            "TYPE_UNSUPPORTED",
            function,
            "makes the helper unusable",
        ),
        (
            "\"EBPF_ARGUMENT_TYPE_PTR_TO_MAP\", ",
            "",
            function,
            "`EBPF_ARGUMENT_TYPE_PTR_TO_MAP_KEY` has no map before it",
        ),
        (
            "TYPE_PTR_TO_MAP_KEY",
            "TYPE_PTR_TO_READABLE_MEM",
            function,
            "is not followed by its size",
        ),
        ("flags = 7", "flags = -1", "", "flags"),
        ("flags = 7", "flag = 7", "", "unknown field `flag`"),
        (
            "value = 16",
            "value = 15",
            map,
            "`value`: 15 is `BPF_MAP_TYPE_SAMPLE_HASH_MAP` of `sample` already",
        ),
        (
            "value = 16",
            "value = 9",
            map,
            "`value`: 9 is `BPF_MAP_TYPE_LPM_TRIE`, which the runtime itself implements",
        ),
        ("value = 16", "value = 0", map, "which the runtime itself implements"),
        (
            "value = 16",
            "value = 17",
            map,
            "`value`: 17 is no map type; the runtime's last is 16",
        ),
        (
            "value = 16",
            "value = 4294967295",
            map,
            "`value`: 4294967295 is no map type",
        ),
        (
            "base_map_type = 1",
            "base_map_type = 0",
            map,
            "`base_map_type`: 0 is no map type of the runtime itself",
        ),
        (
            "base_map_type = 1",
            "base_map_type = 15",
            map,
            "`base_map_type`: 15 is no map type of the runtime itself",
        ),
        (
            "base_map_type = 1",
            "base_map_type = 99",
            map,
            "`base_map_type`: 99 is no",
        ),
        (
            "key_size = 40",
            "key_size = 0",
            map,
            "`key_size`: is 0, and the runtime creates no such map",
        ),
        ("key_size = 40", "value_size = 0", map, "`value_size`: is 0"),
        ("-000000000003", "-00000000003", map, "`provider_guid`: `00000000-"),
        (
            "FLOW_TABLE",
            "HASH",
            "custom_map_type `BPF_MAP_TYPE_HASH`: ",
            "`name`: is that of another map type",
        ),
    ] {
        assert!(MINE.contains(from), "{from}");
        let error = load(&MINE.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(
            error.starts_with("mine.toml:") && error.contains(place),
            "{to}: {error}"
        );
        assert!(error.contains(expected), "{to}: {error}");
    }
    let twice = format!("{MINE}{}", &MINE[MINE.find("[[custom_map_type]]").unwrap()..]);
    let error = load(&twice).unwrap_err().to_string();
    assert_eq!(
        error,
        "mine.toml: custom_map_type `BPF_MAP_TYPE_FLOW_TABLE`: `value`: 16 is `BPF_MAP_TYPE_FLOW_TABLE` of `mine` already"
    );
}

/// A file of the runtime may say which extension a number is for.
#[test]
fn a_number_that_is_kept_for_one_provider_is_not_for_another() {
    let core = Platform::builtin_files()[0].1;
    let kept = |by: &str| {
        let core = core.replace(
            "custom = true\n",
            &format!("custom = true\ncustom_provider = \"{by}\"\nbase_map_type = 2\n"),
        );
        Platform::from_toml(&[("core.toml", &core), ("mine.toml", MINE)]).map_err(|e| e.to_string())
    };
    let error = kept("theirs").unwrap_err();
    assert!(
        error.contains("`value`: 16 is `BPF_MAP_TYPE_XSKMAP` of `theirs` already"),
        "{error}"
    );
    let error = kept("mine").unwrap_err();
    assert!(error.contains("`base_map_type`: another file says 2"), "{error}");
}

#[test]
fn two_map_types_have_different_names() {
    let core = Platform::builtin_files()[0].1;
    let core = core.replace("\"BPF_MAP_TYPE_STACK\"", "\"BPF_MAP_TYPE_QUEUE\"");
    let error = Platform::from_toml(&[("core.toml", &core)]).unwrap_err().to_string();
    assert_eq!(error, "core.toml: map_type `BPF_MAP_TYPE_QUEUE`: `name`: is used twice");
}
