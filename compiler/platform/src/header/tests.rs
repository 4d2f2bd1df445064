//! What the headers say, and what no provider file can make them say. That they compile is for the end-to-end tests.

use std::collections::BTreeSet;

use super::*;

/// Two program types of two providers with the names of things that are there already.
const CLASHES: &str = r#"schema = 1
provider = { id = "Acme: \"tools\"" }
[[program_type]]
name = "int"
symbol = "S"
guid = "00000000-0000-0000-0000-000000000001"
bpf_prog_type = 1000
is_privileged = false
context = { struct = "xdp_md_t", size = 26, data = 0, data_end = 8, data_meta = -1 }
[[program_type.helper]]
id = 65536
name = "bpf_map_lookup_elem"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = ["EBPF_ARGUMENT_TYPE_PTR_TO_CTX", "EBPF_ARGUMENT_TYPE_ANYTHING", "EBPF_ARGUMENT_TYPE_ANYTHING"]
[[program_type.helper]]
id = 65537
name = "while"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = []
parameters = [{ name = "struct", type = "xdp_md_t *" }, { name = "STATUS_SUCCESS", type = "mystery_t *" }]
[[program_type.return_value]]
name = "XDP_PASS"
value = 7
meaning = "another one"
[[program_type.return_value]]
name = "STATUS_SUCCESS"
value = 0
meaning = "the same one"
[[program_type.return_value]]
name = "HUGE"
value = 9223372036854775807
meaning = "more than an enumerator holds"
"#;

fn platform(own: &[&str]) -> Platform {
    let own = own.iter().map(|text| ("own.toml", *text));
    let files: Vec<(&str, &str)> = Platform::builtin_files().iter().copied().chain(own).collect();
    Platform::from_toml(&files).unwrap()
}

#[test]
fn names_that_are_taken_are_given_once() {
    let platform = platform(&[CLASHES]);
    let headers = Headers::new(&platform);
    let part = headers.part("acme___tools_");
    for expected in [
        "} int_xdp_md_t;",
        "BPF_HELPER(0x10000, int64_t, int_bpf_map_lookup_elem, (int_xdp_md_t *context, uint64_t value, uint64_t value_2));",
        "BPF_HELPER(0x10001, int64_t, while_, (int_xdp_md_t *struct_, void *STATUS_SUCCESS_2));",
        "#define int_XDP_PASS 7\n",
        "#define STATUS_SUCCESS 0\n",
        "#define HUGE 0x7FFFFFFFFFFFFFFF\n",
        "Its name is `bpf_map_lookup_elem`.",
        "BPF2SYS_SIZE(int_xdp_md_t, 32);",
        "The runtime's structure ends after 26 bytes",
        "What provider `Acme: \"tools\"` offers.",
    ] {
        assert!(part.contains(expected), "{expected}\n{part}");
    }
    let names: Vec<&String> = headers.names.values().collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
fn the_names_of_built_in_providers_do_not_depend_on_other_files() {
    let (plain, more) = (platform(&[]), platform(&[CLASHES]));
    let (plain, more) = (Headers::new(&plain), Headers::new(&more));
    for (named, name) in &plain.names {
        // Enumerations are counted through, so their keys are not the same; functions, too.
        if !matches!(named, Named::Enumeration(_)) {
            assert_eq!(Some(name), more.names.get(named), "{named:?}");
        }
    }
}

#[test]
fn every_helper_context_and_map_type_is_declared() {
    let platform = platform(&[]);
    let headers = Headers::new(&platform);
    let text = headers.together(&headers.parts());
    for map_type in &platform.map_types {
        assert!(
            text.contains(&format!("    {} = {},", map_type.symbol, map_type.value)),
            "{}",
            map_type.name
        );
    }
    for helper in &platform.helpers {
        assert!(text.contains(&format!("BPF_HELPER({}, ", helper.id)), "{}", helper.name);
    }
    for program_type in &platform.program_types {
        let context = &program_type.context;
        assert!(text.contains(&format!("BPF2SYS_SIZE({}, {});", context.struct_name, context.size)));
        for field in &context.fields {
            let assertion = format!(
                "BPF2SYS_OFFSET({}, {}, {});",
                context.struct_name, field.name, field.offset
            );
            assert!(text.contains(&assertion), "{assertion}");
        }
        for section in &program_type.sections {
            assert!(text.contains(&format!("\"{}\"", section.prefix)), "{}", section.prefix);
        }
        for helper in &program_type.helpers {
            assert!(text.contains(&format!(" {}, (", helper.name)) || text.contains(&format!(" {},\n", helper.name)));
        }
    }
}

#[test]
fn built_in_helpers_are_declared_as_their_files_say() {
    let platform = platform(&[]);
    let own = platform.program_types.iter().flat_map(|t| &t.helpers);
    for helper in platform.helpers.iter().chain(own) {
        let signature = &helper.description.signature;
        assert!(
            signature.returns.is_some() && helper.description.doc.is_some(),
            "{}",
            helper.name
        );
        let types = signature
            .parameters
            .iter()
            .filter_map(|p| p.c_type.as_ref())
            .chain(&signature.returns);
        for text in types {
            assert!(ctype::CType::parse(text).is_some(), "{}: {text}", helper.name);
        }
        let passed = helper.arguments.iter().take_while(|a| **a != 0).count();
        assert!(signature.parameters.len() >= passed, "{}", helper.name);
    }
}

/// Every text of the file is hostile; what remains of it in a header must be inside a comment.
#[test]
fn no_text_of_a_file_gets_out_of_a_comment() {
    // As TOML escapes it. Names of helpers and program types can't hold a NUL, and prefixes are short.
    const EVIL: &str = r#"*/ evil(); /* \" ' ??/ \\\n#define evil \u0000 \u202E */ evil(); // \\"#;
    const NAME: &str = r#"*/ evil(); /* \" ' ??/ \\\n#define evil */ evil(); // \\"#;
    const PREFIX: &str = r"*/ evil(); /*\n#define evil \\";
    let text = r#"schema = 1
provider = { id = "EVIL", doc = "EVIL", source_repo = "EVIL", source_version = "EVIL" }
[[program_type]]
name = "NAME"
symbol = "EVIL"
guid = "00000000-0000-0000-0000-000000000001"
bpf_prog_type = 1000
is_privileged = false
module = "EVIL"
doc = "EVIL"
note = "EVIL"
return_enum = "EVIL"
return_doc = "EVIL"
[program_type.context]
struct = "EVIL"
size = 32
data = 0
data_end = 8
data_meta = -1
header = "EVIL"
data_content = "EVIL"
doc = "EVIL"
note = "EVIL"
[[program_type.context.field]]
name = "EVIL"
type = "EVIL"
offset = 17
size = 3
doc = "EVIL"
unit = "EVIL"
valid_for = "EVIL"
store_effect = "EVIL"
enum = "EVIL"
values = [{ name = "EVIL", value = 1, doc = "EVIL" }]
note = "EVIL"
[[program_type.section]]
prefix = "PREFIX"
attach_type = "EVIL"
attach_type_guid = "00000000-0000-0000-0000-000000000002"
bpf_attach_type = 0
doc = "EVIL"
note = "EVIL"
[[program_type.helper]]
id = 65536
name = "NAME"
header_symbol = "EVIL"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = ["EBPF_ARGUMENT_TYPE_PTR_TO_CTX"]
doc = "EVIL"
note = "EVIL"
returns = "int evil(); int"
parameters = [{ name = "EVIL", type = "EVIL" }]
attach_types = ["EVIL"]
[[program_type.return_value]]
name = "EVIL"
value = 1
meaning = "EVIL"
[[btf_resolved_function]]
module_guid = "00000000-0000-0000-0000-000000000003"
name = "NAME"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = []
doc = "EVIL"
note = "EVIL"
[[struct]]
name = "EVIL"
size = 4
doc = "EVIL"
note = "EVIL"
field = [{ name = "EVIL", type = "EVIL", offset = 0, size = 4, values = { "EVIL" = 1 } }]
[[custom_map_type]]
name = "EVIL"
value = 16
base_map_type = 1
provider_guid = "00000000-0000-0000-0000-000000000004"
note = "EVIL"
"#;
    let text = text
        .replace("EVIL", EVIL)
        .replace("NAME", NAME)
        .replace("PREFIX", PREFIX);
    let platform = platform(&[&text]);
    let headers = Headers::new(&platform);
    for header in [headers.general(), headers.together(&headers.parts())] {
        let code = without_comments(&header);
        for line in code.lines().filter(|line| line.contains("evil")) {
            // Identifiers that were made of it are all that is left.
            assert!(!line.contains("evil()") && !line.contains("define evil "), "{line}");
        }
        assert!(!code.contains('\u{202e}') && !header.contains('\u{202e}'));
        assert!(!header.chars().any(|c| c.is_control() && c != '\n'));
    }
}

fn without_comments(header: &str) -> String {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once("/*") {
        code += before;
        let (comment, behind) = after.split_once("*/").expect("a comment ends");
        assert!(!comment.contains("/*"), "{comment}");
        rest = behind;
    }
    code + rest
}
