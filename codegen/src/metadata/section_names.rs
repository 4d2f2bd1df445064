//! In which PE section a program's code lies.
//!
//! User mode pairs a program with a code section by the name in its table entry, so the name is ours to choose; bpf2c's
//! choice (native module contract §7, "`pe_section_name`") is kept where it is safe. Where it is not, the program's code
//! lies in `.text` beside the driver's, which the contract allows (§10.8) and which always loads.

use std::collections::BTreeSet;

use bpf2sys_bytecode::Function;
use bpf2sys_verifier::VerifiedModule;

/// The section of the driver's own code and of subprograms.
pub(crate) const CODE_SECTION: &str = ".text";

/// The most program sections an image gets. Windows maps at most 96 sections of an image (PE format, "COFF File Header",
/// `NumberOfSections`); this leaves room for tables, imports, unwind data, resources and relocations.
const MAX_PROGRAM_SECTIONS: usize = 64;

/// Names, without regard to case, that Windows, the runtime or debuggers give a meaning of their own. Names that start
/// with `PAGE` are pageable, `INIT` is discarded after `DriverEntry`, and so on.
const RESERVED: &[&str] = &[
    ".rdata", ".data", ".bss", ".idata", ".didat", ".edata", ".pdata", ".xdata", ".reloc", ".rsrc", ".tls", ".crt",
    ".debug", ".drectve", ".gfids", ".giats", ".gljmp", ".gehcont", ".00cfg", ".buildid", ".fptable", "_rdata",
    "gfids", "maps", "programs", "hash", "init", "nonpaged", "cfgro", "mrdata", "shared", "alloctab", "retpol",
    "rt_code", "rt_const",
];

/// The PE section name of each program, in the order of [`VerifiedModule::programs`].
pub(crate) fn program_sections(verified: &VerifiedModule) -> Vec<String> {
    let functions: Vec<&Function> = verified
        .programs()
        .iter()
        .map(|program| verified.module().function(program.function))
        .collect();
    let mut names: Vec<String> = pe_section_names(&functions)
        .into_iter()
        .map(|name| if is_safe(&name) { name } else { CODE_SECTION.to_owned() })
        .collect();
    let mut sections = BTreeSet::new();
    for name in &mut names {
        if !sections.contains(name) && sections.len() == MAX_PROGRAM_SECTIONS {
            CODE_SECTION.clone_into(name);
        } else {
            sections.insert(name.clone());
        }
    }
    names
}

/// bpf2c's names. A section name of up to 8 bytes stays. A longer one is cut and gets `~N`, where N counts the programs
/// with long section names from the last one in the file backwards.
fn pe_section_names(functions: &[&Function]) -> Vec<String> {
    let mut long = 0;
    let mut names: Vec<String> = functions
        .iter()
        .rev()
        .map(|function| {
            if function.section.len() <= 8 {
                return function.section.clone();
            }
            long += 1;
            let suffix = format!("~{long}");
            let kept = &function.section.as_bytes()[..8_usize.saturating_sub(suffix.len())];
            String::from_utf8_lossy(kept).into_owned() + &suffix
        })
        .collect();
    names.reverse();
    names
}

/// Whether a section of this name is nothing but a section. A name that starts with `/` is an offset to debuggers.
fn is_safe(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    (1..=8).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic())
        && !name.starts_with('/')
        && !lower.starts_with("page")
        && !RESERVED.contains(&lower.as_str())
}

#[cfg(test)]
mod tests {
    use super::{CODE_SECTION, MAX_PROGRAM_SECTIONS, program_sections};
    use crate::testing::{EXIT, module, mov, program, trusted};

    fn names(sections: &[&str]) -> Vec<String> {
        let code = [mov(0, 0), EXIT];
        let functions = sections
            .iter()
            .zip(0..)
            .map(|(section, i)| program(&format!("p{i}"), section, &code));
        program_sections(&trusted(module(functions.collect())))
    }

    /// What bpf2c 1.6 gives `cgroup_sock_addr` and other modules of eBPF for Windows.
    #[test]
    fn long_names_are_cut_and_counted_from_the_last_program() {
        let sock_addr = [
            "cgroup/connect4",
            "cgroup/connect6",
            "cgroup/recv_accept4",
            "cgroup/recv_accept6",
            "cgroup/bind4",
            "cgroup/bind6",
            "cgroup/listen4",
            "cgroup/listen6",
        ];
        let expected: Vec<String> = (1..=8).rev().map(|n| format!("cgroup~{n}")).collect();
        assert_eq!(names(&sock_addr), expected);
        assert_eq!(names(&["bind", "bind"]), ["bind", "bind"]);
        assert_eq!(names(&["sample_ext"]), ["sample~1"]);
        assert_eq!(
            names(&["bind/123", "xdp", "bind/1234"]),
            ["bind/123", "xdp", "bind/1~1"]
        );
        let many = names(&["cgroup/bind4"; 12]);
        assert_eq!(many[..4], ["cgrou~12", "cgrou~11", "cgrou~10", "cgroup~9"]);
        let many = names(&["sample_ext"; 101]);
        assert_eq!(many[..3], ["samp~101", "samp~100", "sampl~99"]);
    }

    #[test]
    fn a_name_that_means_something_else_becomes_text() {
        for section in [
            "PAGE",
            "PAGExdp",
            "page",
            "PAGE/long/name",
            "INIT",
            "init",
            ".rdata",
            ".data",
            ".reloc",
            "maps",
            "programs",
            "hash",
            "MAPS",
            "/4",
            ".pdata",
            "xdp\u{e9}",
            "bind/\u{e9}\u{e9}\u{e9}\u{e9}",
            "a b",
            ".text",
        ] {
            assert_eq!(names(&[section]), [CODE_SECTION], "{section}");
        }
        for section in ["xdp", "bind/1", "PAG", "hash1", "mapsx", "socket/4"] {
            assert_eq!(names(&[section]), [section]);
        }
    }

    #[test]
    fn sections_beyond_what_an_image_can_have_become_text() {
        let sections: Vec<String> = (0..MAX_PROGRAM_SECTIONS + 3).map(|i| format!("bind/{i}")).collect();
        let sections: Vec<&str> = sections.iter().map(String::as_str).collect();
        let mut named = names(&sections);
        assert_eq!(named.split_off(MAX_PROGRAM_SECTIONS), [CODE_SECTION; 3]);
        assert_eq!(named, sections[..MAX_PROGRAM_SECTIONS]);
    }
}
