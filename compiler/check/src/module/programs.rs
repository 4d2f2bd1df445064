//! Programs (native module contract §4.4).

use bpf2sys_platform::{Guid, ProgramType};
use bpf2sys_simulator::image::Rva;

use super::{MAX_NAME, Program, Text, of};
use crate::rule::{Group, Rule, Scope, Verdict};
use crate::subject::Subject;

const SOURCE: &str = "native module contract §4.4";

const fn rule(id: &'static str, [title, why]: [&'static str; 2], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::ModuleContents, Scope::Module, id, [title, why, SOURCE], judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "contract.4.4.program-names",
        [
            "names of programs have 1 to 63 bytes",
            "the runtime refuses the program",
        ],
        |s| each(s, |program| length(&program.name, 1)),
    ),
    rule(
        "contract.4.4.section-names",
        [
            "section names of programs have 1 to 63 bytes",
            "the runtime refuses the program",
        ],
        |s| each(s, |program| length(&program.section, 1)),
    ),
    rule(
        "contract.4.4.hash-type-names",
        [
            "names of hash algorithms have at most 63 bytes",
            "the runtime refuses the program",
        ],
        |s| each(s, |program| length(&program.hash_type, 0)),
    ),
    rule(
        "contract.4.4.program-type",
        ["programs have a type", "the runtime refuses the program"],
        |s| {
            each(s, |program| match program.type_guid {
                Some([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) => Some("the zero GUID".into()),
                _ if program.entry.program_type.get() == 0 => Some("NULL".into()),
                _ => None,
            })
        },
    ),
    rule(
        "contract.4.4.program-type-known",
        [
            "an extension that is known offers each program type",
            "the program loads only where an extension offers its type",
        ],
        |s| {
            each(s, |program| {
                let guid = program.type_guid.filter(|guid| *guid != [0; 16])?;
                type_of(s, program)
                    .is_none()
                    .then(|| format!("nobody offers {}", Guid(guid)))
            })
        },
    ),
    rule(
        "contract.4.4.map-indices",
        [
            "programs refer to maps that there are",
            "the runtime refuses the program",
        ],
        |s| {
            of(s, |m| {
                if m.maps.is_empty() && m.known().is_none_or(|known| known.maps.count != 0) {
                    return Verdict::none("the maps can't be read");
                }
                let count = m.maps.len();
                each(s, |program| {
                    let beyond = program.map_indices.iter().find(|index| usize::from(**index) >= count)?;
                    Some(format!("map {beyond} of {count}"))
                })
            })
        },
    ),
    rule(
        "contract.4.4.custom-maps",
        [
            "maps of an extension are used by programs of its own types only",
            "the extension refuses the program",
        ],
        |s| {
            of(s, |m| {
                each(s, |program| {
                    let program_type = type_of(s, program)?;
                    let maps = program
                        .map_indices
                        .iter()
                        .filter_map(|index| m.maps.get(usize::from(*index)));
                    let foreign = { maps }.find(|map| {
                        let known = s.platform.map_type(map.entry.definition.map_type.get());
                        let provider = known.and_then(|t| t.custom.as_ref()?.provider.as_ref());
                        provider.is_some_and(|provider| *provider != program_type.provider)
                    })?;
                    Some(format!("map {} for type {}", foreign.name.shown(), program_type.name))
                })
            })
        },
    ),
    rule(
        "contract.6.1.functions",
        [
            "functions of programs are in code",
            "the runtime calls them without looking",
        ],
        |s| {
            each(s, |program| {
                let function = program.entry.function.get();
                (!s.is_code_address(function)).then(|| s.place_of(function))
            })
        },
    ),
    rule(
        "contract.6.1.function-starts",
        [
            "functions of programs start where functions start",
            "what runs is half of one, with whatever is in the registers",
        ],
        |s| {
            each(s, |program| {
                let rva = s.image.rva_of(program.entry.function.get())?;
                let begin = s.code.function_at(rva.0).filter(|begin| *begin != rva.0)?;
                Some(format!("{}, in the function at {}", s.place(rva), s.place(Rva(begin))))
            })
        },
    ),
];

/// The type of a program, if somebody offers it.
pub(super) fn type_of<'s>(s: &'s Subject<'_>, program: &Program) -> Option<&'s ProgramType> {
    let guid = Guid(program.type_guid?);
    let types = s.platform.program_types.iter().map(std::convert::AsRef::as_ref);
    { types }.find(|t: &&ProgramType| t.guid == guid)
}

/// Judges each program.
pub(super) fn each(s: &Subject<'_>, problem: impl Fn(&Program) -> Option<String>) -> Verdict {
    of(s, |m| {
        if m.programs.is_empty() {
            return Verdict::none("there are no programs");
        }
        let wrong = m
            .programs
            .iter()
            .filter_map(|program| Some(format!("{}: {}", program.name.shown(), problem(program)?)));
        Verdict::of(wrong.collect(), format!("{} programs", m.programs.len()))
    })
}

fn length(text: &Text, least: usize) -> Option<String> {
    let length = text.bytes()?.len();
    (!(least..=MAX_NAME).contains(&length)).then(|| format!("{length} bytes"))
}
