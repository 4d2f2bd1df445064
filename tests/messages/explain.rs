//! `bpf2sys explain`: the catalogue as it is asked for.

use bpf2sys::Code;
use libtest_mimic::{Failed, Trial};

use super::{equal, plain_tool, told};
use crate::support::test;

pub fn trials() -> Vec<Trial> {
    vec![
        test(
            "messages::explain_takes_codes_as_people_write_them",
            as_people_write_them,
        ),
        test("messages::explain_lists_all_codes", lists_all),
        test("messages::explain_names_codes_near_an_unknown_one", unknown),
    ]
}

fn as_people_write_them() -> Result<(), Failed> {
    let explain = |code: &str| told(plain_tool().args(["explain", code]));
    let (status, page, _) = explain("BPF1001")?;
    equal(
        &(status, page.lines().next()),
        &(0, Some("BPF1001: not an eBPF object file")),
        &page,
    )?;
    for code in ["bpf1001", "1001", "Bpf1001"] {
        equal(&explain(code)?.1, &page, code)?;
    }
    if page.contains("```") || page.contains("## ") || page.contains('\u{1b}') {
        return Err(format!("marks are left:\n{page}").into());
    }
    let (_, colored, _) = told(plain_tool().args(["explain", "1001", "--color", "always"]))?;
    equal(&colored.contains('\u{1b}'), &true, &colored)
}

fn lists_all() -> Result<(), Failed> {
    let (_, list, _) = told(plain_tool().args(["explain", "--list"]))?;
    let listed: Vec<&str> = list
        .lines()
        .filter_map(|line| line.trim_start().split_once("  "))
        .map(|(c, _)| c)
        .collect();
    equal(
        &listed,
        &Code::ALL.iter().map(|code| code.name()).collect(),
        "the listed codes",
    )
}

fn unknown() -> Result<(), Failed> {
    for (text, near) in [("BPF1019", "BPF1018"), ("9995", "BPF9999"), ("E0308", "--list")] {
        let (status, _, err) = told(plain_tool().args(["explain", text]))?;
        if status != 2 || !err.contains("BPF9005") || !err.contains(near) {
            return Err(format!("{text}: {status}: {err}").into());
        }
    }
    Ok(())
}
