//! What a name on the command line means in a platform.

use std::collections::BTreeSet;

use bpf2sys_platform::{BtfFunction, Guid, Helper, MapType, Platform, ProgramType, Provider, Structure};
use bpf2sys_testing::near::near;

use crate::{Error, ErrorKind};

/// Everything that a name means. A name can mean things of several kinds: `xdp` is a program type, a section and a provider.
#[derive(Debug, Default)]
pub(super) struct Meaning<'a> {
    pub program_types: Vec<&'a ProgramType>,
    /// With the program type whose it is; general ones have none.
    pub helpers: Vec<(Option<&'a ProgramType>, &'a Helper)>,
    pub map_types: Vec<&'a MapType>,
    pub functions: Vec<&'a BtfFunction>,
    pub structures: Vec<&'a Structure>,
    pub providers: Vec<&'a Provider>,
}

impl Meaning<'_> {
    fn is_empty(&self) -> bool {
        self.program_types.is_empty()
            && self.helpers.is_empty()
            && self.map_types.is_empty()
            && self.functions.is_empty()
            && self.structures.is_empty()
            && self.providers.is_empty()
    }
}

/// What a name means.
///
/// # Errors
/// Nothing has this name.
pub(super) fn find<'a>(platform: &'a Platform, name: &str) -> Result<Meaning<'a>, Error> {
    let guid: Option<Guid> = name.trim_matches(['{', '}']).to_ascii_lowercase().parse().ok();
    let types = || platform.program_types.iter().map(AsRef::as_ref);
    let general = platform.helpers.iter().map(|h| (None, h));
    let own = types().flat_map(|t| t.helpers.iter().map(move |h| (Some(t), h)));
    let is_helper = |helper: &Helper| {
        helper.name == name
            || helper.description.header_symbol.as_deref() == Some(name)
            || number(name) == Some(helper.id)
    };
    let is_map = |map: &MapType| map.name == name || map.symbol == name;
    let meaning = Meaning {
        program_types: program_types(platform, name),
        helpers: general.chain(own).filter(|(_, helper)| is_helper(helper)).collect(),
        map_types: platform.map_types.iter().filter(|m| is_map(m)).collect(),
        functions: platform
            .btf_functions
            .iter()
            .filter(|f| f.name == name || Some(f.module) == guid)
            .collect(),
        structures: platform.structures.iter().filter(|s| s.name == name).collect(),
        providers: platform.providers.iter().filter(|p| p.id == name).collect(),
    };
    if meaning.is_empty() {
        Err(unknown(platform, name))
    } else {
        Ok(meaning)
    }
}

/// The program types that a name means: its own name or symbol, a GUID of it or of an attach type, its context's structure, an
/// attach type; else, as for a program, the section that it would be in.
pub(super) fn program_types<'a>(platform: &'a Platform, name: &str) -> Vec<&'a ProgramType> {
    let guid: Option<Guid> = name.trim_matches(['{', '}']).to_ascii_lowercase().parse().ok();
    let is_meant = |t: &ProgramType| {
        let by_section = t.sections.iter().any(|s| {
            s.prefix == name
                || s.symbol == name
                || s.bpf_attach_type_name.as_deref() == Some(name)
                || Some(s.attach_type) == guid
        });
        t.name == name || t.symbol == name || t.context.struct_name == name || Some(t.guid) == guid || by_section
    };
    let found: Vec<&ProgramType> = platform
        .program_types
        .iter()
        .map(AsRef::as_ref)
        .filter(|t| is_meant(t))
        .collect();
    if found.is_empty() && name.contains('/') {
        return platform
            .program_type_for_section(name)
            .map(|(t, _)| t.as_ref())
            .into_iter()
            .collect();
    }
    found
}

/// The parts of the headers that declare what a name means.
pub(super) fn parts<'a>(platform: &'a Platform, name: &str) -> Vec<&'a str> {
    let types = program_types(platform, name).into_iter();
    let offered = platform
        .program_types
        .iter()
        .map(AsRef::as_ref)
        .filter(|t: &&ProgramType| t.provider == name);
    let named = platform
        .program_types
        .iter()
        .map(AsRef::as_ref)
        .filter(|t: &&ProgramType| t.description.part == name);
    let structures = platform
        .structures
        .iter()
        .filter(|s| s.provider == name || s.name == name);
    let functions = platform
        .btf_functions
        .iter()
        .filter(|f| f.provider == name || f.name == name);
    let types = types.chain(offered).chain(named).map(|t| t.description.part.as_str());
    types
        .chain(structures.map(|s| s.part.as_str()))
        .chain(functions.map(|f| f.part.as_str()))
        .collect()
}

/// Whether a name means what every program has.
pub(super) fn is_general(platform: &Platform, name: &str) -> bool {
    name == "general" || platform.providers.iter().any(|p| p.id == name)
}

/// The error for a name that means nothing: with those that look like it.
pub(super) fn unknown(platform: &Platform, name: &str) -> Error {
    let near = near(name, known(platform).into_iter());
    let near: Vec<String> = near.into_iter().map(|name| format!("`{name}`")).collect();
    let hint = match near.as_slice() {
        [] => "`bpf2sys platform list` lists what there is".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    ErrorKind::Usage(format!("no provider offers `{name}`; {hint}")).into()
}

/// All names that can be asked for.
fn known(platform: &Platform) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for program_type in &platform.program_types {
        names.insert(program_type.name.as_str());
        names.insert(&program_type.symbol);
        names.insert(&program_type.context.struct_name);
        names.extend(
            program_type
                .sections
                .iter()
                .flat_map(|s| [s.prefix.as_str(), s.symbol.as_str()]),
        );
        names.extend(program_type.helpers.iter().map(|h| h.name.as_str()));
    }
    names.extend(platform.helpers.iter().map(|h| h.name.as_str()));
    names.extend(
        platform
            .map_types
            .iter()
            .flat_map(|m| [m.name.as_str(), m.symbol.as_str()]),
    );
    names.extend(platform.btf_functions.iter().map(|f| f.name.as_str()));
    names.extend(platform.structures.iter().map(|s| s.name.as_str()));
    names.extend(platform.providers.iter().map(|p| p.id.as_str()));
    names
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_kind_are_found() {
        let platform = Platform::builtin();
        let kinds = |name: &str| {
            let found = find(&platform, name).unwrap_or_else(|e| panic!("{name}: {e}"));
            [
                found.program_types.len(),
                found.helpers.len(),
                found.map_types.len(),
                found.functions.len(),
                found.structures.len(),
                found.providers.len(),
            ]
        };
        let cases = [
            ("xdp", [1, 0, 0, 0, 0, 1]),
            ("cgroup/connect4", [1, 0, 0, 0, 0, 0]),
            ("cgroup/connect4_mine", [1, 0, 0, 0, 0, 0]),
            ("EBPF_ATTACH_TYPE_BIND", [1, 0, 0, 0, 0, 0]),
            ("{F1832A85-85D5-45B0-98A0-7069D63013B0}", [1, 0, 0, 0, 0, 0]),
            ("xdp_md_t", [1, 0, 0, 0, 0, 0]),
            ("bpf_map_lookup_elem", [0, 1, 0, 0, 0, 0]),
            ("bpf_memcpy_s", [0, 1, 0, 0, 0, 0]),
            ("0x10000", [0, 5, 0, 0, 0, 0]),
            ("ringbuf", [0, 0, 1, 0, 0, 0]),
            ("BPF_MAP_TYPE_RINGBUF", [0, 0, 1, 0, 0, 0]),
            ("sample_ebpf_extension_btf_lookup", [0, 0, 0, 1, 0, 0]),
            ("bpf_sock_addr_network_context_t", [0, 0, 0, 0, 1, 0]),
            ("core", [0, 0, 0, 0, 0, 1]),
        ];
        for (name, expected) in cases {
            assert_eq!(kinds(name), expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_tells_near_ones() {
        let platform = Platform::builtin();
        let cases = [
            (
                "bpf_map_lookup",
                "did you mean `bpf_map_lookup_and_delete_elem` or `bpf_map_lookup_elem`?",
            ),
            ("sock_adr", "did you mean `sock_addr`?"),
            ("XDP_MD", "did you mean `xdp_md_t`?"),
            ("zzzzzzzzzzzzzzz", "`bpf2sys platform list` lists what there is"),
            ("", "`bpf2sys platform list` lists what there is"),
        ];
        for (name, expected) in cases {
            let error = find(&platform, name).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
