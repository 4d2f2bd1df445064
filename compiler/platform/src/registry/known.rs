//! What of a store a platform has already.

use super::store::{Helper, ProgramType, Section, Store};
use crate::Platform;
use crate::model;

/// How much of a store is left out because a platform has it, and how much stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Omitted {
    /// Program types with their sections and helpers.
    pub program_types: Count,
    /// Sections of program types that are left out or not in the store.
    pub sections: Count,
    /// General helpers.
    pub helpers: Count,
    /// Functions of Windows modules.
    pub functions: Count,
}

/// What is left out and what stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Left out.
    pub omitted: usize,
    /// Still there.
    pub kept: usize,
}

/// Leaves out of a store what the platform has, exactly so.
pub(super) fn omit(store: &mut Store, platform: &Platform) -> Omitted {
    let known_type = |of: &ProgramType| {
        let mut types = platform.program_types.iter();
        types.find(|known| known.guid == of.guid && same_type(of, known))
    };
    let known_section = |of: &Section| {
        let mut types = platform.program_types.iter();
        let known = types.find(|known| known.guid == of.program_type);
        known.is_some_and(|known| has_section(known, of))
    };
    // A type stays whole if anything of it is new, so that the file can be read on its own.
    let sections = store.sections.clone();
    let whole = |of: &ProgramType| {
        let mut own = sections.iter().filter(|s| s.program_type == of.guid);
        known_type(of).is_some_and(|known| own.all(|section| has_section(known, section)))
    };
    let mut omitted = Omitted::default();
    let gone: Vec<_> = store
        .program_types
        .iter()
        .filter(|t| whole(t))
        .map(|t| t.guid)
        .collect();
    omitted.program_types = retain(&mut store.program_types, |t| !gone.contains(&t.guid));
    let described: Vec<_> = store.program_types.iter().map(|t| t.guid).collect();
    store.sections.retain(|s| !gone.contains(&s.program_type));
    omitted.sections = retain(&mut store.sections, |s| {
        described.contains(&s.program_type) || !known_section(s)
    });
    omitted.sections.kept = store
        .sections
        .iter()
        .filter(|s| !described.contains(&s.program_type))
        .count();
    omitted.helpers = retain(&mut store.helpers, |h| !has_helper(&platform.helpers, h));
    omitted.functions = retain(&mut store.functions, |f| {
        let known = platform.btf_function(f.module, &f.name);
        known.is_none_or(|k| (k.return_type, k.arguments, k.flags) != (f.return_type, f.arguments, f.flags))
    });
    omitted
}

fn retain<T>(list: &mut Vec<T>, keep: impl FnMut(&T) -> bool) -> Count {
    let before = list.len();
    list.retain(keep);
    Count {
        omitted: before - list.len(),
        kept: list.len(),
    }
}

fn same_type(of: &ProgramType, known: &model::ProgramType) -> bool {
    let context = &known.context;
    of.name == known.name
        && of.bpf_prog_type == known.bpf_prog_type
        && of.is_privileged == known.is_privileged
        && of.context == [context.size, context.data, context.data_end, context.data_meta]
        && of.helpers.iter().all(|helper| has_helper(&known.helpers, helper))
}

fn has_section(known: &model::ProgramType, of: &Section) -> bool {
    known.sections.iter().any(|section| {
        section.prefix == of.prefix
            && section.attach_type == of.attach_type
            && section.bpf_attach_type == of.bpf_attach_type
    })
}

fn has_helper(known: &[model::Helper], of: &Helper) -> bool {
    known.iter().any(|helper| {
        helper.id == of.id
            && helper.name == of.name
            && helper.return_type == of.return_type
            && helper.arguments == of.arguments
            && helper.reallocate_packet == of.reallocate_packet
    })
}
