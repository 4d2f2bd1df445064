//! `bpf2sys platform list`, `show`, `header` and `schema`: what is told of a platform, and the headers that C includes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::support::{Need, output, root, succeed, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    let clang = [Need::Program("clang-19")];
    vec![
        test("headers::examples_include_what_the_tool_writes", examples_include_them),
        test_with("headers::compile_for_every_program_type", &clang, compile),
        test_with("headers::go_together_in_any_order", &clang, go_together),
        test_with("headers::of_a_strange_provider_compile", &clang, strange_provider),
        test_with("headers::make_a_program_that_verifies", &clang, make_a_program),
        test(
            "platform::everything_that_is_listed_can_be_shown",
            everything_can_be_shown,
        ),
        test("platform::shows_what_is_known_of_a_thing", shows),
        test("platform::an_unknown_name_is_an_error_with_near_names", unknown_name),
        test("platform::the_schema_is_printed", schema_is_printed),
    ]
}

fn platform(arguments: &[&str]) -> Command {
    let mut command = tool();
    command.arg("platform").args(arguments);
    command
}

fn examples_include_them() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    succeed(platform(&["header", "--all", "--out-dir"]).arg(folder.path()))?;
    let committed = root().join("examples/include");
    let mut written = BTreeSet::new();
    for file in std::fs::read_dir(folder.path())? {
        let file = file?;
        written.insert(file.file_name());
        let text = std::fs::read_to_string(file.path())?;
        let place = committed.join(file.file_name());
        if std::env::var_os("BLESS").is_some_and(|v| v == "1") {
            std::fs::write(&place, &text)?;
        }
        if std::fs::read_to_string(&place).ok().as_ref() != Some(&text) {
            return Err(format!("{} is not what the tool writes; BLESS=1 rewrites it", place.display()).into());
        }
    }
    for file in std::fs::read_dir(committed)? {
        let name = file?.file_name();
        if !written.contains(&name) {
            return Err(format!("the tool does not write {}", name.display()).into());
        }
    }
    Ok(())
}

/// Compiles a source with the strictest warnings, as C and as C++.
fn compiles(folder: &Path, source: &str) -> Result<(), Failed> {
    let file = folder.join("program.c");
    std::fs::write(&file, source)?;
    for language in [&["-std=c11", "-Wpedantic"][..], &["-std=gnu2x"], &["-x", "c++"]] {
        succeed(
            Command::new("clang-19")
                .args(["-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
                .args(language)
                .args(["-c", "program.c", "-o", "program.o"])
                .current_dir(folder),
        )
        .map_err(|e| format!("{}\n{source}", e.message().unwrap_or_default()))?;
    }
    Ok(())
}

fn program_types() -> Result<Vec<String>, Failed> {
    let listed: serde_json::Value = serde_json::from_str(&succeed(&mut platform(&["list", "--json"]))?)?;
    let types = listed["program_types"].as_array().ok_or("no program types")?;
    Ok(types
        .iter()
        .filter_map(|t| t["name"].as_str())
        .map(str::to_owned)
        .collect())
}

fn compile() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for name in program_types()? {
        succeed(platform(&["header", &name, "-o"]).arg(folder.path().join("all.h")))?;
        compiles(folder.path(), "#include \"all.h\"\n#include \"all.h\"\nint x;\n")?;
    }
    Ok(())
}

fn go_together() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    succeed(platform(&["header", "--all", "--out-dir"]).arg(folder.path()))?;
    succeed(platform(&["header", "--all", "-o"]).arg(folder.path().join("everything.h")))?;
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder.path())? {
        names.push(file?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let all = |names: &[String]| names.iter().map(|n| format!("#include \"{n}\"\n")).collect::<String>() + "int x;\n";
    compiles(folder.path(), &all(&names))?;
    names.reverse();
    compiles(folder.path(), &all(&names))
}

/// A provider whose names are keywords, macros and code, and whose fields lie as no compiler would put them.
const STRANGE: &str = r##"schema = 1
[provider]
id = "*/ int evil; /*"
doc = "*/ int evil; /* \" ??/ \\\n#error evil"

[[program_type]]
name = "int"
symbol = "S"
guid = "00000000-0000-0000-0000-000000000001"
bpf_prog_type = 1000
is_privileged = false
doc = "ends in a backslash \\"

[program_type.context]
struct = "struct"
size = 45
data = 8
data_end = 16
data_meta = 0
field = [
  { name = "NULL", type = "uint32_t", offset = 25, size = 4, doc = "not aligned" },
  { name = "while", type = "mystery_t", offset = 32, size = 8 },
  { name = "a", type = "uint32_t", offset = 32, size = 4, values = { AF_INET = 3, "*/" = 1 } },
  { name = "a", type = "uint8_t[5]", offset = 36, size = 5 },
  { name = "SEC", type = "struct other *", offset = 24, size = 1 },
  { name = "#define x", type = "uint16_t", offset = 41, size = 2, byte_order = "network" },
]

[[program_type.section]]
prefix = "*/ int evil; /*"
attach_type = "A"
attach_type_guid = "00000000-0000-0000-0000-000000000002"
bpf_attach_type = 0

[[program_type.helper]]
id = 65536
name = "bpf_map_lookup_elem"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = ["EBPF_ARGUMENT_TYPE_PTR_TO_CTX", "EBPF_ARGUMENT_TYPE_PTR_TO_READABLE_MEM", "EBPF_ARGUMENT_TYPE_CONST_SIZE"]

[[program_type.helper]]
id = 65537
name = "for (;;);"
return_type = "EBPF_RETURN_TYPE_PTR_TO_MAP_VALUE_OR_NULL"
args = ["EBPF_ARGUMENT_TYPE_PTR_TO_MAP", "EBPF_ARGUMENT_TYPE_PTR_TO_MAP_KEY"]
returns = "struct *"
parameters = [{ name = "int", type = "struct *" }, { name = "int", type = "int evil; int" }]

[[program_type.return_value]]
name = "XDP_PASS"
value = 9
meaning = "*/ int evil;"

[[program_type.return_value]]
name = "STATUS_SUCCESS"
value = -9223372036854775808
meaning = ""

[[btf_resolved_function]]
module_guid = "00000000-0000-0000-0000-000000000003"
name = "return"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = []

[[custom_map_type]]
name = "BPF_MAP_TYPE_HASH: mine"
value = 16
base_map_type = 1
provider_guid = "00000000-0000-0000-0000-000000000004"
note = "*/ evil"
"##;

/// A provider of which only is known what a Windows machine's registry holds.
const BARE: &str = r#"schema = 1
provider = { id = "bare" }
[[program_type]]
name = "bare"
symbol = ""
guid = "00000000-0000-0000-0000-000000000009"
bpf_prog_type = 1001
is_privileged = false
context = { struct = "bare_context", size = 40, data = 16, data_end = 24, data_meta = -1 }
[[program_type.helper]]
id = 65536
name = "bare_helper"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = ["EBPF_ARGUMENT_TYPE_PTR_TO_CTX", "EBPF_ARGUMENT_TYPE_ANYTHING"]
"#;

fn strange_provider() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for (name, text) in [("strange.toml", STRANGE), ("bare.toml", BARE)] {
        std::fs::write(folder.path().join(name), text)?;
    }
    let with = |arguments: &[&str]| {
        let mut command = platform(arguments);
        command
            .args(["--platform", "strange.toml", "--platform", "bare.toml"])
            .current_dir(folder.path());
        command
    };
    succeed(&mut with(&["header", "--all", "-o", "all.h"]))?;
    compiles(folder.path(), "#include \"all.h\"\nint x;\n")?;
    let text = std::fs::read_to_string(folder.path().join("all.h"))?;
    let bare = succeed(&mut with(&["header", "bare"]))?;
    for (header, expected) in [
        (&text, "AF_INET"),
        (&bare, "    uint8_t reserved_0[16];\n    uint8_t *data;"),
        (&bare, "BPF2SYS_SIZE(bare_context, 40);"),
        (&bare, "(bare_context *context, uint64_t value));"),
        (&bare, "Its fields are not known."),
    ] {
        if !header.contains(expected) {
            return Err(format!("no {expected:?} in\n{header}").into());
        }
    }
    let shown = succeed(&mut with(&["show", "bare"]))?;
    if !shown.contains("not known: ") || !shown.contains("the fields of its context") {
        return Err(format!("what is not known is not told:\n{shown}").into());
    }
    Ok(())
}

fn make_a_program() -> Result<(), Failed> {
    const SOURCE: &str = r#"
#include "xdp.h"
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 1);
} counters SEC(".maps");

SEC("xdp")
int
count(xdp_md_t *context)
{
    uint32_t key = 0;
    uint64_t *value = bpf_map_lookup_elem(&counters, &key);
    if (value) {
        *value += context->ingress_ifindex;
    }
    return value ? XDP_PASS : XDP_DROP;
}
"#;
    let folder = tempfile::tempdir()?;
    succeed(platform(&["header", "xdp", "-o"]).arg(folder.path().join("xdp.h")))?;
    std::fs::write(folder.path().join("count.c"), SOURCE)?;
    let compile = [
        "-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-c", "count.c", "-o", "count.o",
    ];
    succeed(Command::new("clang-19").args(compile).current_dir(folder.path()))?;
    succeed(tool().args(["verify", "count.o"]).current_dir(folder.path()))?;
    Ok(())
}

fn everything_can_be_shown() -> Result<(), Failed> {
    let listed: serde_json::Value = serde_json::from_str(&succeed(&mut platform(&["list", "--json"]))?)?;
    let text = succeed(&mut platform(&["list"]))?;
    let names = |table: &str, key: &str| -> Vec<String> {
        let table = listed[table].as_array().cloned().unwrap_or_default();
        table
            .iter()
            .filter_map(|entry| entry[key].as_str())
            .map(str::to_owned)
            .collect()
    };
    let mut all: Vec<String> = names("program_types", "name");
    all.extend(names("map_types", "name"));
    all.extend(names("functions", "name"));
    if all.len() != 7 + 17 + 1 {
        return Err(format!("{all:?}").into());
    }
    let guids = names("program_types", "guid");
    for name in all.iter().chain(&guids) {
        let shown = succeed(&mut platform(&["show", name]))?;
        let json: serde_json::Value = serde_json::from_str(&succeed(&mut platform(&["show", name, "--json"]))?)?;
        if !shown.contains(name) || json.as_object().is_none_or(serde_json::Map::is_empty) {
            return Err(format!("{name}:\n{shown}").into());
        }
        if !guids.contains(name) && !text.contains(name) {
            return Err(format!("{name} is not listed:\n{text}").into());
        }
    }
    Ok(())
}

fn shows() -> Result<(), Failed> {
    let cases = [
        ("bind", "uint64_t process_id"),
        ("bind", "read only; file name of the process's image"),
        ("bind", "1 BIND_DENY: block"),
        ("cgroup/connect4/mine", "program type sock_addr"),
        ("a82e37b1-aee7-11ec-9a30-18602489beee", "program type sock_addr"),
        ("sock_addr", "network byte order"),
        ("sock_addr", "implemented by its provider: bpf_get_current_pid_tgid"),
        (
            "sock_addr",
            "0x10001  int bpf_sock_addr_set_redirect_context(bpf_sock_addr_t *context",
        ),
        ("bpf_ringbuf_output", "map types  ringbuf"),
        ("bpf_memcpy", "bpf_memcpy_s in headers"),
        ("bpf_get_socket_cookie", "by sock_addr; no other implements it"),
        ("ringbuf", "a power of two, a multiple of 4096"),
        ("netevent_data_header_t", "100 NETEVENT_EVENT_TYPE_PKTMON_DROP"),
        ("ntosebpfext", "process, netevent_monitor"),
    ];
    for (name, expected) in cases {
        let shown = succeed(&mut platform(&["show", name]))?;
        if !shown.contains(expected) {
            return Err(format!("{name}: no {expected:?} in\n{shown}").into());
        }
    }
    Ok(())
}

fn unknown_name() -> Result<(), Failed> {
    for command in ["show", "header"] {
        let out = output(&mut platform(&[command, "sock_adr"]))?;
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.code() != Some(2) || !text.contains("did you mean `sock_addr`?") {
            return Err(format!("{command}: {}\n{text}", out.status).into());
        }
    }
    Ok(())
}

fn schema_is_printed() -> Result<(), Failed> {
    let printed = succeed(&mut platform(&["schema"]))?;
    let committed = std::fs::read_to_string(root().join("compiler/platform/schema/provider.schema.json"))?;
    if printed == committed {
        Ok(())
    } else {
        Err("another schema is printed".into())
    }
}
