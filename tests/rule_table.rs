//! The table of rules: for each code of a program that is refused or warned of, programs on both sides of the rule.
//!
//! The table is `compiler/verifier/docs/rules.md`, written from what the tool says (BLESS=1). The program that a rule refuses is
//! the example of its page in the catalogue; the programs next to it are in `tests/fixtures/rules/accepted.c`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use bpf2sys::Code;
use libtest_mimic::{Failed, Trial};

use crate::support::{output, root, test, tool, written_page};

/// Which accepted programs are next to which rules.
const ACCEPTED: &[(&str, &[&str])] = &[
    ("nests_eight_deep", &["BPF2004", "BPF2005"]),
    (
        "loops_with_a_limit",
        &["BPF2004", "BPF2006", "BPF2007", "BPF2120", "BPF2121", "BPF2170"],
    ),
    (
        "reads_checked_packet",
        &[
            "BPF2022", "BPF2101", "BPF2102", "BPF2134", "BPF2135", "BPF2136", "BPF2137", "BPF2138",
        ],
    ),
    (
        "reads_fields",
        &[
            "BPF2011", "BPF2024", "BPF2025", "BPF2123", "BPF2125", "BPF2126", "BPF2130",
        ],
    ),
    (
        "writes_fields",
        &[
            "BPF2003", "BPF2011", "BPF2026", "BPF2030", "BPF2110", "BPF2142", "BPF2143",
        ],
    ),
    (
        "uses_all_of_the_stack",
        &[
            "BPF2029", "BPF2103", "BPF2104", "BPF2105", "BPF2106", "BPF2133", "BPF2140", "BPF2147",
        ],
    ),
    (
        "uses_checked_value",
        &[
            "BPF2013", "BPF2021", "BPF2029", "BPF2107", "BPF2108", "BPF2109", "BPF2111", "BPF2112", "BPF2113",
            "BPF2114", "BPF2115", "BPF2131", "BPF2132", "BPF2144", "BPF2145", "BPF2148",
        ],
    ),
    ("exchanges_numbers", &["BPF2032", "BPF2122", "BPF2131"]),
    ("checks_popped_index", &["BPF2020", "BPF2050", "BPF2109", "BPF2148"]),
    ("swaps_number", &["BPF2023", "BPF2161", "BPF2180"]),
    ("calls_next_program", &["BPF2002", "BPF2052", "BPF2141", "BPF2171"]),
    ("last_program", &["BPF2052", "BPF2051"]),
    ("calls_function", &["BPF2027", "BPF2028", "BPF2033"]),
    ("passes_what_is_read", &["BPF2034"]),
    (
        "this_name_of_sixty_three_bytes_is_as_long_as_names_may_ever_get",
        &["BPF2035", "BPF2036"],
    ),
];

pub fn trials() -> Vec<Trial> {
    vec![
        test("rule_table::programs_next_to_the_rules_are_accepted", accepted),
        test("rule_table::every_rule_has_programs_on_both_sides", table),
    ]
}

fn accepted_object() -> PathBuf {
    root().join("tests/fixtures/rules/accepted.o")
}

/// The programs of the table are those of the object, and none is refused or warned of.
fn accepted() -> Result<(), Failed> {
    let out = output(tool().arg("verify").arg(accepted_object()))?;
    let told = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() || told.contains("warning[") {
        return Err(format!("{}:\n{told}", out.status).into());
    }
    let source = fs::read_to_string(accepted_object().with_extension("c"))?;
    let programs = source.matches("SEC(\"").count() - source.matches("SEC(\".maps\")").count();
    if programs != ACCEPTED.len() {
        return Err(format!("{programs} programs, and {} in the table", ACCEPTED.len()).into());
    }
    match ACCEPTED
        .iter()
        .find(|(name, _)| !source.contains(&format!("\n{name}(")))
    {
        Some((name, _)) => Err(format!("no program `{name}`").into()),
        None => Ok(()),
    }
}

/// Whether a code is about what a program does. The others of its range are about the platform, the machine and its limits.
fn is_rule(code: Code) -> bool {
    let name = code.name();
    name.starts_with("BPF2")
        && !("BPF2010".."BPF2011").contains(&name)
        && !("BPF2012".."BPF2013").contains(&name)
        && !("BPF2014".."BPF2020").contains(&name)
}

fn table() -> Result<(), Failed> {
    let mut rows = String::new();
    let mut without = BTreeSet::new();
    for code in Code::ALL.iter().filter(|code| is_rule(**code)) {
        let page = fs::read_to_string(root().join(format!("compiler/bpf2sys/docs/codes/{code}.md")))?;
        let title = page
            .lines()
            .next()
            .and_then(|line| line.split_once(": "))
            .ok_or("a page without a title")?
            .1;
        let next: Vec<String> = ACCEPTED
            .iter()
            .filter(|(_, codes)| codes.contains(&code.name()))
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let example = root().join(format!("tests/fixtures/codes/{code}.o"));
        if !example.exists() {
            without.insert((code.name(), title.to_owned()));
            continue;
        }
        if next.is_empty() {
            return Err(format!("no accepted program is next to {code}").into());
        }
        let mut verify = tool();
        // Some rules are for the one engine only.
        verify.args(["verify", "--verifier", "both"]).arg(&example);
        let provider = example.with_extension("toml");
        if provider.exists() {
            verify.arg("--platform").arg(&provider);
        }
        let out = output(&mut verify)?;
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        let first = told.lines().find(|line| line.contains(&format!("[{code}]")));
        let Some((severity, message)) = first.and_then(|line| line.split_once(&format!("[{code}]: "))) else {
            return Err(format!("{code} is not provoked:\n{told}").into());
        };
        let verdict = if severity == "error" { "refused" } else { "warned of" };
        let message = message.replace('|', "\\|");
        rows += &format!("| {code} | {title} | {verdict}: {message} | {} |\n", next.join(", "));
    }
    let list: String = without
        .iter()
        .map(|(code, title)| format!("* {code}: {title}\n"))
        .collect();
    let content = format!(
        "| Code | Rule | The example of its page | Accepted next to it |\n|---|---|---|---|\n{rows}\n\
         No program in a file gets these; their pages say why.\n\n{list}"
    );
    written_page("compiler/verifier/docs/rules.md", "rules", &content)
}
