//! What programs call, and the hash of it (native module contract §4.6, §4.7, §4.8).

use std::collections::BTreeSet;

use bpf2sys_platform::{Guid, HashAlgorithm, ProgramType};

use super::programs::{each, type_of};
use super::{Program, of};
use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::Subject;

const fn rule(id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::ModuleContents, Scope::Module, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.4.6.helpers-known",
        [
            "helper ids are ones that the program type has, and that somebody implements",
            "the runtime refuses the program",
            "native module contract §4.6",
        ],
        |s| each(s, |program| unknown_helper(s, program)),
    ),
    rule(
        "contract.4.6.helpers-once",
        [
            "no program has the same helper id twice",
            "the runtime counts them for the hash, which then differs, also from none",
            "native module contract §0.9, §4.6",
        ],
        |s| each(s, |program| repeated(program).map(|id| format!("helper {id}"))),
    ),
    rule(
        "contract.4.7.functions-known",
        [
            "BTF-resolved functions are ones that a known module offers",
            "the program loads only where their module is",
            "native module contract §4.7",
        ],
        |s| {
            of(s, |m| {
                if !m.programs.iter().any(|program| functions(program).next().is_some()) {
                    return Verdict::none("no program calls such functions");
                }
                each(s, |program| {
                    let unknown =
                        { functions(program) }.find(|(module, name)| s.platform.btf_function(*module, name).is_none());
                    unknown.map(|(module, name)| format!("nobody offers {name} of {module}"))
                })
            })
        },
    ),
    rule(
        "contract.4.8.hash-length",
        [
            "a program information hash has the length of its algorithm",
            "the runtime refuses the program",
            "native module contract §4.8",
        ],
        |s| {
            hashed(s, |program| {
                let (stated, due) = (program.entry.hash_length.get(), algorithm(program)?.digest(&[]).len());
                (stated != due as u64).then(|| format!("{stated} bytes, not {due}"))
            })
        },
    ),
    rule(
        "contract.4.8.hash",
        [
            "it is the hash that the runtime computes of the program type and of what is called",
            "the runtime refuses the program: it was verified for other helpers",
            "native module contract §4.8",
        ],
        |s| hashed(s, |program| wrong_hash(s, program)),
    ),
];

/// The ids of a program's helpers, without holes.
fn ids(program: &Program) -> impl Iterator<Item = u32> {
    program
        .helpers
        .iter()
        .map(|helper| helper.id.get())
        .filter(|id| *id != 0)
}

fn repeated(program: &Program) -> Option<u32> {
    let mut seen = BTreeSet::new();
    { ids(program) }.find(|id| !seen.insert(*id))
}

/// The functions of other modules, without holes.
fn functions(program: &Program) -> impl Iterator<Item = (Guid, String)> {
    let used = program
        .btf_functions
        .iter()
        .filter(|(entry, _)| entry.module != [0; 16]);
    used.map(|(entry, name)| (Guid(entry.module), name.shown()))
}

fn unknown_helper(s: &Subject<'_>, program: &Program) -> Option<String> {
    let program_type = type_of(s, program)?;
    { ids(program) }.find_map(|id| {
        let name = &program_type.name;
        match s.platform.helper(program_type, id) {
            None => Some(format!("{name} has no helper {id}")),
            Some(helper) => {
                let there = program_type.implements(helper);
                (!there).then(|| format!("nobody implements {} for {name}", helper.name))
            }
        }
    })
}

/// The algorithm of a program's hash, if it is one that is known.
fn algorithm(program: &Program) -> Option<HashAlgorithm> {
    let name = program.hash_type.shown();
    HashAlgorithm::from_cng_name(if name.is_empty() { "SHA256" } else { &name })
}

/// Judges each program that states a hash.
fn hashed(s: &Subject<'_>, problem: impl Fn(&Program) -> Option<String>) -> Verdict {
    of(s, |m| {
        let with_hash: Vec<_> = m
            .programs
            .iter()
            .filter(|program| program.entry.hash_length.get() != 0)
            .collect();
        if with_hash.is_empty() {
            return Verdict::none("no program states a hash");
        }
        let known = with_hash.iter().filter(|program| algorithm(program).is_some()).count();
        if known == 0 {
            return Verdict::none("the hash algorithm is not known here");
        }
        let wrong = with_hash
            .iter()
            .filter_map(|program| Some(format!("{}: {}", program.name.shown(), problem(program)?)));
        Verdict::of(wrong.collect(), format!("{known} programs"))
    })
}

/// Says what differs. What cannot be hashed breaks other rules.
fn wrong_hash(s: &Subject<'_>, program: &Program) -> Option<String> {
    let program_type: &ProgramType = type_of(s, program)?;
    if repeated(program).is_some() || unknown_helper(s, program).is_some() {
        return None;
    }
    let functions: Vec<(Guid, String)> = functions(program).collect();
    let functions = functions.iter().map(|(module, name)| (*module, name.as_str()));
    let algorithm = algorithm(program)?;
    let computed = s
        .platform
        .program_info_hash(algorithm, program_type, ids(program), functions)
        .ok()?;
    let same_length = program.entry.hash_length.get() == computed.len() as u64 && program.hash.len() == computed.len();
    (same_length && program.hash != computed).then(|| {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("stated {}, computed {}", hex(&program.hash), hex(&computed))
    })
}
