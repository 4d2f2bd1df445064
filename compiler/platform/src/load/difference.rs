//! What two descriptions of one thing say differently, in words.

use super::Loader;
use crate::error::Difference;
use crate::model::{Context, Helper, ProgramType};

pub(super) fn type_differences(known: &ProgramType, new: &ProgramType) -> Vec<Difference> {
    let (a, b) = (&known.context, &new.context);
    let mut differences: Vec<Difference> = [
        difference("name", &known.name, &new.name),
        difference("bpf_prog_type", known.bpf_prog_type, new.bpf_prog_type),
        difference("is_privileged", known.is_privileged, new.is_privileged),
        difference("context: size", a.size, b.size),
        difference("context: data", a.data, b.data),
        difference("context: data_end", a.data_end, b.data_end),
        difference("context: data_meta", a.data_meta, b.data_meta),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !a.fields.is_empty() && !b.fields.is_empty() {
        let shown = |context: &Context| {
            let fields = context.fields.iter();
            let fields = fields.map(|f| format!("{} {} at {} of {} bytes", f.c_type, f.name, f.offset, f.size));
            fields.collect::<Vec<_>>()
        };
        let (before, now) = (shown(a), shown(b));
        let other = before.iter().zip(&now).find(|(before, now)| before != now);
        match other {
            Some((before, now)) => differences.extend(difference("context: field", before, now)),
            None => differences.extend(difference("context: number of fields", before.len(), now.len())),
        }
    }
    differences
}

impl Loader<'_> {
    pub(super) fn helper_differences(&self, known: &Helper, new: &Helper) -> Vec<Difference> {
        let mut differences =
            self.prototype_differences((known.return_type, known.arguments), (new.return_type, new.arguments));
        differences.extend(difference(
            "reallocate_packet",
            known.reallocate_packet,
            new.reallocate_packet,
        ));
        if let (Some(before), Some(now)) = (&known.runtime_map_types, &new.runtime_map_types) {
            let shown = |types: &Vec<u32>| format!("{types:?}");
            differences.extend(difference("runtime_map_types", shown(before), shown(now)));
        }
        differences
    }

    pub(super) fn prototype_differences(&self, known: (u32, [u32; 5]), new: (u32, [u32; 5])) -> Vec<Difference> {
        let returned = |value: u32| {
            let known = self.returns.values().find(|r| r.value == value);
            known.map_or_else(|| value.to_string(), |r| r.name.clone())
        };
        let argument = |value: u32| {
            let known = self.arguments.values().find(|a| a.value == value);
            known.map_or_else(|| value.to_string(), |a| a.name.clone())
        };
        let mut differences = Vec::new();
        differences.extend(difference("return_type", returned(known.0), returned(new.0)));
        for (position, (before, now)) in known.1.into_iter().zip(new.1).enumerate() {
            let what = format!("argument {}", position + 1);
            differences.extend(difference(&what, argument(before), argument(now)));
        }
        differences
    }
}

/// What is said of a thing, if that is not the same twice.
#[allow(clippy::needless_pass_by_value)] // called with values that are made for it
pub(super) fn difference<T: ToString + PartialEq>(what: &str, before: T, now: T) -> Option<Difference> {
    (before != now).then(|| Difference {
        what: what.to_owned(),
        before: before.to_string(),
        now: now.to_string(),
    })
}
