//! What the loader accepts and refuses.

mod extensions;

use super::*;

/// A provider with one of everything; `{name, value}` is the long form of a type.
const MINE: &str = r#"schema = 1
[provider]
id = "mine"
source_repo = "somewhere"

[[program_type]]
name = "mine"
symbol = "MY_TYPE"
guid = "00000000-0000-0000-0000-000000000001"
bpf_prog_type = 77
is_privileged = false
required_irql = "PASSIVE_LEVEL"

[program_type.context]
struct = "my_context"
size = 32
data = 0
data_end = 8
data_meta = -1

[[program_type.context.field]]
name = "id"
type = "uint64_t"
offset = 24
size = 8
kind = "scalar"

[[program_type.section]]
prefix = "mine"
attach_type = "MY_ATTACH"
attach_type_guid = "00000000-0000-0000-0000-000000000002"
bpf_attach_type = 78

[[program_type.helper]]
id = 65536
name = "my_helper"
return_type = { name = "EBPF_RETURN_TYPE_INTEGER", value = 0 }
args = [
  { name = "EBPF_ARGUMENT_TYPE_PTR_TO_READABLE_MEM", value = 9 },
  { name = "EBPF_ARGUMENT_TYPE_CONST_SIZE", value = 2 },
  { name = "EBPF_ARGUMENT_TYPE_DONTCARE", value = 0 },
]
runtime_map_types = [1]

[[program_type.global_helper_override]]
id = 19
name = "bpf_get_current_pid_tgid"
"#;

fn load(mine: &str) -> Result<Platform, PlatformError> {
    let mut files = Platform::builtin_files().to_vec();
    files.push(("mine.toml", mine));
    Platform::from_toml(&files)
}

#[test]
fn a_users_provider_joins_the_built_in_ones() {
    let platform = load(MINE).unwrap();
    let (program_type, attach) = platform.program_type_for_section("mine/1").unwrap();
    assert_eq!(program_type.helpers[0].arguments, [9, 2, 0, 0, 0]);
    assert_eq!(program_type.helper_overrides, [19]);
    assert_eq!(attach.bpf_attach_type, 78);
    assert_eq!(program_type.provider, "mine");
}

#[test]
fn the_built_in_providers_are_complete() {
    let platform = Platform::builtin();
    let names: Vec<&str> = platform.program_types.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "bind",
            "sock_addr",
            "sockops",
            "xdp",
            "process",
            "netevent_monitor",
            "sample"
        ]
    );
    assert_eq!(platform.helpers.len(), 35);
    assert_eq!(platform.map_types.len(), 17);
    assert_eq!(platform.map_argument_types, [5, 6, 32]);
    assert_eq!(platform.section_prefixes().len(), 16);
}

#[test]
fn rejects_contradictions_with_file_table_and_field() {
    let cases = [
        ("schema = 1", "schema = 2", "mine.toml: top level: `schema`: is 2"),
        (
            "-000000000001\"",
            "-00000000001\"",
            "mine.toml: program_type `mine`: `guid`: `0000",
        ),
        (
            "00000000-0000-0000-0000-000000000001",
            "f1832a85-85d5-45b0-98a0-7069d63013b0",
            "program type `xdp`: `xdp` (in xdp.toml) says otherwise: name is xdp there and mine here; bpf_prog_type is 1",
        ),
        (
            "00000000-0000-0000-0000-000000000001",
            "00000000-0000-0000-0000-000000000000",
            "`guid`: is zero",
        ),
        (
            "name = \"mine\"",
            "name = \"xdp\"",
            "program type `xdp`: `xdp` (in xdp.toml) says otherwise: GUID is f1832a85-85d5-45b0-98a0-7069d63013b0 there and",
        ),
        ("name = \"mine\"", "name = \"\"", "`name`: is empty"),
        ("name = \"mine\"", "name = \"a\\u0000b\"", "`name`: contains a NUL"),
        (
            "prefix = \"mine\"",
            "prefix = \"xdp\"",
            "section `xdp`: `xdp` (in xdp.toml) says otherwise: program type is f1832a85-85d5-45b0-98a0-7069d63013b0 there",
        ),
        ("prefix = \"mine\"", "prefix = \"\"", "section ``: `prefix`: is empty"),
        (
            "prefix = \"mine\"",
            "prefix = \"a23456789012345678901234567890123456789\"",
            "`prefix`: is longer than 37 bytes",
        ),
        (
            "id = 65536",
            "id = 65535",
            "helper `my_helper`: `id`: 65535 is not above 65535",
        ),
        ("id = 65536", "id = 2147483648", "`id`: does not fit a call instruction"),
        (
            "id = 19",
            "id = 36",
            "global_helper_override `bpf_get_current_pid_tgid`: `id`: 36 is no general helper",
        ),
        ("id = 19", "id = 20", "`name`: is not the name of helper 20"),
        (
            "TYPE_INTEGER\"",
            "TYPE_FLOAT\"",
            "`return_type`: `EBPF_RETURN_TYPE_FLOAT` is no return type",
        ),
        (
            "TYPE_INTEGER\", value = 0",
            "TYPE_INTEGER\", value = 1",
            "`return_type`: `EBPF_RETURN_TYPE_INTEGER` has the value 0",
        ),
        (
            "TYPE_INTEGER\", value = 0",
            "TYPE_UNSUPPORTED\", value = 3",
            "makes the helper unusable",
        ),
        (
            "PTR_TO_READABLE_MEM",
            "PTR_TO_STONE",
            "`args`: `EBPF_ARGUMENT_TYPE_PTR_TO_STONE` is no argument type",
        ),
        (
            "PTR_TO_READABLE_MEM\", value = 9",
            "PTR_TO_CTX\", value = 4",
            "does not follow a pointer to sized memory",
        ),
        (
            "CONST_SIZE\", value = 2",
            "ANYTHING\", value = 1",
            "`args`: a pointer to sized memory is not followed by its size",
        ),
        (
            "CONST_SIZE\", value = 2",
            "CONST_SIZE\", value = 3",
            "`args`: `EBPF_ARGUMENT_TYPE_CONST_SIZE` has the value 2",
        ),
        (
            "PTR_TO_READABLE_MEM\", value = 9 },\n  { name = \"EBPF_ARGUMENT_TYPE_CONST_SIZE\", value = 2",
            "PTR_TO_MAP_KEY\", value = 7",
            "`args`: `EBPF_ARGUMENT_TYPE_PTR_TO_MAP_KEY` has no map before it",
        ),
        (
            "runtime_map_types = [1]",
            "writes_readable = [4]",
            "`writes_readable`: names an argument that is not one of 3",
        ),
        (
            "runtime_map_types = [1]",
            "writes_readable = [0]",
            "`writes_readable`: names an argument that is not one of 3",
        ),
        (
            "runtime_map_types = [1]",
            "runtime_map_types = [1, 99]",
            "`runtime_map_types`: 99 is no map type",
        ),
        (
            "runtime_map_types = [1]",
            "checks_map_type = false",
            "`checks_map_type`: needs `runtime_map_types`",
        ),
        (
            "runtime_map_types = [1]",
            "reads_unlisted = [2]",
            "`reads_unlisted`: names a register that is none of r1 to r5, or that `args` lists",
        ),
        (
            "runtime_map_types = [1]",
            "reads_unlisted = [6]",
            "`reads_unlisted`: names a register that is none of r1 to r5, or that `args` lists",
        ),
        (
            "runtime_map_types = [1]",
            "fills = { argument = 1 }",
            "`fills`: `argument` is no writable memory with a size",
        ),
        (
            "PTR_TO_READABLE_MEM\", value = 9 },\n  { name = \"EBPF_ARGUMENT_TYPE_CONST_SIZE\", value = 2 },\n  { name = \"EBPF_ARGUMENT_TYPE_DONTCARE\", value = 0 },\n]\nruntime_map_types = [1]",
            "PTR_TO_WRITABLE_MEM\", value = 11 },\n  { name = \"EBPF_ARGUMENT_TYPE_CONST_SIZE\", value = 2 },\n  { name = \"EBPF_ARGUMENT_TYPE_DONTCARE\", value = 0 },\n]\nfills = { argument = 1, if_equal = [2, 3] }",
            "`fills`: `if_equal` names an argument that is no size",
        ),
        ("size = 32", "size = 0", "context `my_context`: `size`: is not positive"),
        ("data = 0", "data = 28", "`data`: 28 lies outside of the 32 bytes"),
        (
            "data_end = 8",
            "data_end = 16",
            "`data_end`: must lie 8 bytes behind `data`",
        ),
        (
            "data_end = 8",
            "data_end = -1",
            "`data_end`: must lie 8 bytes behind `data`",
        ),
        ("data_meta = -1", "data_meta = 25", "`data_meta`: 25 lies outside"),
        (
            "data_meta = -1",
            "data_meta = -1\ndata_meta_null = true",
            "`data_meta_null`: needs `data_meta`",
        ),
        (
            "offset = 24",
            "offset = 25",
            "`field`: `id` lies outside of the 32 bytes",
        ),
        (
            "offset = 24",
            "offset = 4294967295",
            "`field`: `id` lies outside of the 32 bytes",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(MINE.contains(from), "{from}");
        let error = load(&MINE.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(error.starts_with("mine.toml: "), "{to}: {error}");
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn rejects_repeated_entries() {
    let helper = &MINE[MINE.find("[[program_type.helper]]").unwrap()..MINE.find("[[program_type.global").unwrap()];
    let error = load(&format!("{MINE}\n{helper}")).unwrap_err().to_string();
    assert_eq!(error, "mine.toml: helper `my_helper`: `id`: 65536 is used twice");
    let other_id = helper.replace("65536", "65537");
    let error = load(&format!("{MINE}\n{other_id}")).unwrap_err().to_string();
    assert_eq!(error, "mine.toml: helper `my_helper`: `name`: is used twice");
    let maps = "\n[[map_type]]\nname = \"M\"\nvalue = 2\ndisplay_name = \"m\"\nverifier_is_array = false\n\
                    verifier_value_kind = \"ANY\"\nper_cpu = false\n";
    let error = load(&format!("{MINE}{maps}")).unwrap_err().to_string();
    assert_eq!(error, "mine.toml: map_type `M`: `value`: 2 is used twice");
    let error = load(&format!(
        "{MINE}\n[[argument_type]]\nname = \"A\"\nvalue = 1\nclass = \"single\"\n"
    ))
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "mine.toml: argument_type `A`: `value`: 1 is used twice"
    );
    let error = Platform::from_toml(&[("a.toml", MINE)]).unwrap_err().to_string();
    assert_eq!(error, "no provider file has a `[limits]` table");
    let core = Platform::builtin_files()[0].1;
    let error = Platform::from_toml(&[("a.toml", core), ("b.toml", core)])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "b.toml: top level: `limits`: another file has this table already"
    );
}

#[test]
fn syntax_errors_name_line_table_and_field() {
    let cases = [
        (
            "bpf_attach_type = 78",
            "bpf_attach_typo = 78",
            "mine.toml:32: [[program_type.section]]: unknown field `bpf_attach_typo`",
        ),
        (
            "size = 32",
            "size = \"32\"",
            "mine.toml:16: [program_type.context]: `size`: invalid type: string",
        ),
        (
            "bpf_prog_type = 77\n",
            "",
            "mine.toml:6: [[program_type]]: missing field `bpf_prog_type`",
        ),
        (
            "is_privileged = false",
            "is_privileged = ",
            "mine.toml:11: [[program_type]]: `is_privileged`: ",
        ),
        ("value = 0 }", "valve = 0 }", "unknown field `valve`"),
        (
            "schema = 1",
            "skema = 1",
            "mine.toml:1: top level: unknown field `skema`",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(MINE.contains(from), "{from}");
        let error = load(&MINE.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
    for broken in [
        "",
        "[",
        "\u{0}",
        "schema = 1",
        "schema = 99999999999999999999",
        "[[program_type]]\nname = \"ä\nb",
    ] {
        assert!(load(broken).is_err(), "{broken:?}");
    }
}

#[test]
fn formats_must_suit_their_fields() {
    let at = "offset = 24\nsize = 8\nkind = \"scalar\"";
    let cases = [
        ("ipv4", 4, "", None),
        ("ipv4", 8, "", Some("`format`: ipv4 has 4 bytes, and the field 8")),
        (
            "ipv4",
            4,
            "byte_order = \"host\"",
            Some("`byte_order`: ipv4 is in network order"),
        ),
        ("ipv6", 8, "", Some("`format`: ipv6 has 16 bytes, and the field 8")),
        ("port", 4, "", None),
        (
            "port",
            1,
            "",
            Some("`format`: port has 2 bytes or more, and the field 1"),
        ),
        ("ip_protocol", 1, "", None),
        ("filetime", 8, "", None),
        (
            "filetime",
            4,
            "",
            Some("`format`: filetime has 8 bytes, and the field 4"),
        ),
        ("sid", 8, "", None),
        ("sid", 7, "", Some("`format`: sid has 8 bytes or more, and the field 7")),
        (
            "socket_address",
            8,
            "",
            Some("`format`: socket_address has 16 bytes, and the field 8"),
        ),
        (
            "ipv5",
            4,
            "",
            Some("mine.toml:26: [[program_type.context.field]]: `format`: unknown variant `ipv5`"),
        ),
    ];
    for (format, size, more, expected) in cases {
        let to = format!("offset = 24\nsize = {size}\nformat = \"{format}\"\n{more}");
        assert!(MINE.contains(at));
        let error = load(&MINE.replacen(at, &to, 1)).err().map(|e| e.to_string());
        match (expected, error) {
            (None, None) => {}
            (Some(expected), Some(error)) if error.contains(expected) => {}
            (expected, error) => panic!("{to}: {error:?} instead of {expected:?}"),
        }
    }
    let pointer = MINE.replacen(at, "offset = 0\nsize = 8\nformat = \"filetime\"", 1);
    let error = load(&pointer).unwrap_err().to_string();
    assert_eq!(
        error,
        "mine.toml: context `my_context`: `field`: `id`: is a pointer, which has no `format`"
    );
    let none = "data = -1\ndata_end = -1\ndata_format = \"utf16\"";
    let error = load(&MINE.replacen("data = 0\ndata_end = 8", none, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mine.toml: context `my_context`: `data_format`: needs `data`"
    );
}

/// A return value.
const VALUE: &str = "[[program_type.return_value]]\nname = \"GO\"\nvalue = 1\nmeaning = \"it goes\"\n";

/// [`MINE`] with a return value, of which it says more, and more of a field and of the section.
fn mine_with(value: &str, field: &str, section: &str) -> String {
    MINE.replacen("kind = \"scalar\"", &format!("kind = \"scalar\"\n{field}"), 1)
        .replacen("bpf_attach_type = 78", &format!("bpf_attach_type = 78\n{section}"), 1)
        + VALUE
        + value
}

#[test]
fn fates_and_ends_of_chains_are_kept() {
    let mine = mine_with(
        "fate = \"sent_back\"\nends_chain = true",
        "change_ends_chain = true",
        "attach_capability = \"multi_with_wildcard\"",
    );
    let platform = load(&mine).unwrap();
    let (program_type, attach) = platform.program_type_for_section("mine").unwrap();
    let value = &program_type.return_values[0];
    assert_eq!((value.fate, value.ends_chain), (Some(crate::Fate::SentBack), true));
    assert!(program_type.context.fields[0].change_ends_chain);
    assert_eq!(attach.takes_several(), Some(true));

    let platform = load(&mine_with("", "", "attach_capability = \"single_per_hook\"")).unwrap();
    let (program_type, attach) = platform.program_type_for_section("mine").unwrap();
    let value = &program_type.return_values[0];
    assert_eq!((value.fate, value.ends_chain), (None, false));
    assert!(!program_type.context.fields[0].change_ends_chain);
    assert_eq!(attach.takes_several(), Some(false));

    let platform = load(MINE).unwrap();
    let (_, attach) = platform.program_type_for_section("mine").unwrap();
    assert_eq!(attach.takes_several(), None);
}

#[test]
fn fates_and_ends_of_chains_must_suit_their_type() {
    let no_packet = "fate = \"passed\"";
    let without = [
        ("data = 0\ndata_end = 8", "data = -1\ndata_end = -1"),
        ("data_meta = -1", "data_meta = -1\ndata_format = \"utf16\""),
    ];
    for (from, to) in without {
        let mine = mine_with(no_packet, "", "").replacen(from, to, 1);
        let error = load(&mine).unwrap_err().to_string();
        assert_eq!(
            error,
            "mine.toml: program_type `mine`: `return_value`: `GO`: `fate` needs data that is a packet"
        );
    }
    let pointer = mine_with("", "change_ends_chain = true", "").replacen("offset = 24", "offset = 0", 1);
    let error = load(&pointer).unwrap_err().to_string();
    assert_eq!(
        error,
        "mine.toml: context `my_context`: `field`: `id`: is a pointer, which no program changes: `change_ends_chain`"
    );
    let field = "{ name = \"a\", type = \"int\", offset = 0, size = 4, change_ends_chain = true }";
    let structure = format!("{MINE}\n[[struct]]\nname = \"s_t\"\nsize = 4\nfield = [{field}]\n");
    let error = load(&structure).unwrap_err().to_string();
    assert_eq!(
        error,
        "mine.toml: struct `s_t`: `field`: `a`: `change_ends_chain` is for fields of contexts"
    );
}

#[test]
fn what_becomes_of_packets_is_told_of_the_built_in_types() {
    use crate::Fate::{Dropped, Passed, SentBack};
    let platform = Platform::builtin();
    let mut fates = Vec::new();
    for value in platform.program_types.iter().flat_map(|t| &t.return_values) {
        fates.extend(value.fate.map(|fate| (value.name.as_str(), fate)));
    }
    assert_eq!(
        fates,
        [("XDP_PASS", Passed), ("XDP_DROP", Dropped), ("XDP_TX", SentBack)]
    );
    let mut ends = Vec::new();
    for program_type in &platform.program_types {
        let values = program_type.return_values.iter().filter(|v| v.ends_chain);
        let fields = program_type.context.fields.iter().filter(|f| f.change_ends_chain);
        ends.extend(values.map(|v| v.name.as_str()).chain(fields.map(|f| f.name.as_str())));
    }
    assert_eq!(
        ends,
        ["BPF_SOCK_ADDR_VERDICT_REJECT", "user_ip4", "user_ip6", "user_port"]
    );
}

/// What two files say together of a program type: the fate and end of its return value, whether a change of its field ends a
/// chain, and whether several programs can be attached.
fn told_together(first: &str, second: &str) -> (Option<crate::Fate>, bool, bool, Option<bool>) {
    let mut files = Platform::builtin_files().to_vec();
    files.extend([("mine.toml", first), ("more.toml", second)]);
    let platform = Platform::from_toml(&files).unwrap();
    let (program_type, attach) = platform.program_type_for_section("mine").unwrap();
    let value = &program_type.return_values[0];
    let field = &program_type.context.fields[0];
    (
        value.fate,
        value.ends_chain,
        field.change_ends_chain,
        attach.takes_several(),
    )
}

#[test]
fn files_add_fates_and_ends_of_chains_to_what_others_say() {
    let more = mine_with(
        "fate = \"dropped\"\nends_chain = true",
        "change_ends_chain = true",
        "attach_capability = \"multi\"",
    );
    let less = mine_with("", "", "");
    let all = (Some(crate::Fate::Dropped), true, true, Some(true));
    assert_eq!(told_together(&less, &more), all);
    assert_eq!(told_together(&more, &less), all);
    // The first file's word counts, and a file that replaces another keeps what it does not state otherwise.
    let other = mine_with("fate = \"passed\"", "", "attach_capability = \"single\"");
    assert_eq!(told_together(&more, &other), all);
    let replacing = |file: &str| {
        let id = "id = \"more\"\nreplaces = [\"mine\"]";
        let file = file.replacen("id = \"mine\"", id, 1);
        file.replacen("bpf_prog_type = 77", "bpf_prog_type = 79", 1)
    };
    assert_eq!(told_together(&more, &replacing(&less)), all);
    let passed = (Some(crate::Fate::Passed), true, true, Some(true));
    assert_eq!(told_together(&more, &replacing(&other)), passed);
}
