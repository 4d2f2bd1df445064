//! What several files say of one thing: joined where they agree, a conflict where they contradict each other.
//!
//! Given: what each file says, checked by itself, in the order of the files. Computed: what they say together. A later file may
//! repeat what an earlier one says, and may say more: helpers and sections that a program type did not have, facts that were not
//! stated. What it says otherwise is a conflict, unless the file `replaces` the provider of the earlier one: then what both
//! describe is as the later file says, and facts that it does not state stay where the rest is the same.

use std::collections::HashMap;
use std::sync::Arc;

use super::Loader;
use super::difference::{difference, type_differences};
use super::place::Place;
use crate::description::{Field, HelperDescription};
use crate::error::{Conflict, Difference};
use crate::model::{AttachPoint, BtfFunction, Context, Helper, ProgramType, ReturnValue, UndescribedSection};
use crate::{Guid, PlatformError};

/// Most conflicts that are told.
const MAX_CONFLICTS: usize = 64;

/// The file that says something.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// Position among the files.
    pub number: usize,
    pub file: &'a str,
    pub provider: &'a str,
    /// Providers whose word counts less than this file's.
    pub replaces: &'a [String],
}

impl Source<'_> {
    fn overrules(&self, other: &Source<'_>) -> bool {
        self.replaces.iter().any(|id| id == other.provider)
    }
}

/// Something with the file that says it.
struct Said<'a, T> {
    what: T,
    by: Source<'a>,
}

/// A program type as one file describes it. Names that the file does not state are `None`, and empty in the rest.
pub(super) struct NewType {
    /// Without sections and helpers.
    pub described: ProgramType,
    pub symbol: Option<String>,
    pub struct_name: Option<String>,
    pub helpers: Vec<Helper>,
}

/// A section as one file describes it. The symbol may be empty.
pub(super) struct NewSection {
    pub program_type: Guid,
    pub point: AttachPoint,
}

/// What the files say together.
pub(super) struct Joined<'a> {
    loader: &'a Loader<'a>,
    general: Helpers<'a>,
    types: Vec<Option<Type<'a>>>,
    sections: Vec<Option<Said<'a, NewSection>>>,
    prefixes: HashMap<String, usize>,
    functions: Vec<Said<'a, BtfFunction>>,
    function_names: HashMap<(Guid, String), usize>,
    conflicts: Vec<Conflict>,
}

struct Type<'a> {
    said: Said<'a, NewType>,
    helpers: Helpers<'a>,
}

/// Helpers of one scope, found by id and by name.
#[derive(Default)]
struct Helpers<'a> {
    list: Vec<Option<Said<'a, Helper>>>,
    ids: HashMap<u32, usize>,
    names: HashMap<String, usize>,
}

impl<'a> Joined<'a> {
    pub fn new(loader: &'a Loader<'a>) -> Joined<'a> {
        Joined {
            loader,
            general: Helpers::default(),
            types: Vec::new(),
            sections: Vec::new(),
            prefixes: HashMap::new(),
            functions: Vec::new(),
            function_names: HashMap::new(),
            conflicts: Vec::new(),
        }
    }

    /// The general helper with this id, so far.
    pub fn general_helper(&self, id: u32) -> Option<&Helper> {
        let place = *self.general.ids.get(&id)?;
        self.general.list.get(place)?.as_ref().map(|said| &said.what)
    }

    pub fn add_general(&mut self, helper: Helper, by: Source<'a>) {
        let what = |name: &str| format!("general helper `{name}`");
        for (other, name, difference) in self.general.add(helper, by, self.loader) {
            conflict(&mut self.conflicts, by, other, what(&name), difference);
        }
    }

    pub fn add_function(&mut self, function: BtfFunction, by: Source<'a>) {
        let key = (function.module, function.name.clone());
        let Some(known) = self.function_names.get(&key).and_then(|at| self.functions.get_mut(*at)) else {
            self.function_names.insert(key, self.functions.len());
            self.functions.push(Said { what: function, by });
            return;
        };
        let mut differences = self.loader.prototype_differences(
            (known.what.return_type, known.what.arguments),
            (function.return_type, function.arguments),
        );
        differences.extend(difference("flags", known.what.flags, function.flags));
        if differences.is_empty() {
            let known = &mut known.what;
            if known.runtime_map_types.is_none() {
                known.runtime_map_types = function.runtime_map_types;
            }
            known.checks_map_type &= function.checks_map_type;
            known.fills = known.fills.or(function.fills);
            return;
        }
        if by.overrules(&known.by) {
            *known = Said { what: function, by };
            return;
        }
        let what = format!("function `{}` of module {}", function.name, function.module);
        for difference in differences {
            conflict(&mut self.conflicts, by, known.by, what.clone(), difference);
        }
    }

    /// Adds a program type. `place` is the table's.
    pub fn add_type(&mut self, new: NewType, by: Source<'a>, place: &Place<'_>) -> Result<(), PlatformError> {
        let named = |t: &&mut Option<Type<'a>>| {
            let described = t.as_ref().map(|t| &t.said.what.described);
            described.is_some_and(|d| d.name == new.described.name && d.guid != new.described.guid)
        };
        if let Some(slot) = self.types.iter_mut().find(named)
            && let Some(known) = slot
        {
            let described = &known.said.what.described;
            if known.said.by.number == by.number {
                return Err(place.error("name", format!("is also used by program type {}", described.guid)));
            }
            if !by.overrules(&known.said.by) {
                let what = format!("program type `{}`", new.described.name);
                let other = known.said.by;
                let difference = difference("GUID", described.guid, new.described.guid);
                self.conflicts_of(by, other, &what, difference.into_iter().collect());
                return Ok(());
            }
            let gone = described.guid;
            let replaced = known.said.by;
            *slot = None;
            for slot in &mut self.sections {
                let of = |s: &Said<'_, NewSection>| s.what.program_type == gone && s.by.provider == replaced.provider;
                if let Some(section) = slot.take_if(|s| of(s)) {
                    self.prefixes.remove(&section.what.point.prefix);
                }
            }
        }
        let guid = new.described.guid;
        let same = |t: &&mut Type<'a>| t.said.what.described.guid == guid;
        let Some(known) = self.types.iter_mut().flatten().find(same) else {
            self.push_type(new, by);
            return Ok(());
        };
        let other = known.said.by;
        if other.number == by.number {
            let described = &known.said.what.described;
            return Err(place.error(
                "guid",
                format!("{guid} is also that of program type `{}`", described.name),
            ));
        }
        let replacing = by.overrules(&other);
        let what = format!("program type `{}`", known.said.what.described.name);
        let mut differences = type_differences(&known.said.what.described, &new.described);
        if differences.is_empty() || replacing {
            let replaces = !differences.is_empty();
            differences.clear();
            known.said.what.join(&new, replaces);
            if replaces {
                known.said.by = by;
                by.provider.clone_into(&mut known.said.what.described.provider);
            }
        }
        let mut found: Vec<(Source<'a>, Difference)> = differences.into_iter().map(|d| (other, d)).collect();
        let stays: Vec<u32> = new.helpers.iter().map(|h| h.id).collect();
        for helper in new.helpers {
            for (other, name, mut difference) in known.helpers.add(helper, by, self.loader) {
                difference.what = format!("helper `{name}`: {}", difference.what);
                found.push((other, difference));
            }
        }
        if replacing {
            known
                .helpers
                .remove(|helper| by.overrules(&helper.by) && !stays.contains(&helper.what.id));
        }
        for (other, difference) in found {
            conflict(&mut self.conflicts, by, other, what.clone(), difference);
        }
        Ok(())
    }

    fn push_type(&mut self, mut new: NewType, by: Source<'a>) {
        let mut helpers = Helpers::default();
        for helper in std::mem::take(&mut new.helpers) {
            helpers.push(helper, by);
        }
        self.types.push(Some(Type {
            said: Said { what: new, by },
            helpers,
        }));
    }

    /// Takes away sections of program types that a file describes anew, if it does not name them.
    pub fn forget_sections(&mut self, described: &[Guid], stay: &[&str], by: Source<'a>) {
        if by.replaces.is_empty() {
            return;
        }
        for slot in &mut self.sections {
            let gone = |s: &mut Said<'_, NewSection>| {
                by.overrules(&s.by)
                    && described.contains(&s.what.program_type)
                    && !stay.contains(&s.what.point.prefix.as_str())
            };
            if let Some(section) = slot.take_if(gone) {
                self.prefixes.remove(&section.what.point.prefix);
            }
        }
    }

    /// Adds a section. `place` is the table's.
    pub fn add_section(&mut self, new: NewSection, by: Source<'a>, place: &Place<'_>) -> Result<(), PlatformError> {
        let prefix = &new.point.prefix;
        let slot = self.prefixes.get(prefix).and_then(|at| self.sections.get_mut(*at));
        let Some(Some(known)) = slot else {
            self.prefixes.insert(prefix.clone(), self.sections.len());
            self.sections.push(Some(Said { what: new, by }));
            return Ok(());
        };
        if known.by.number == by.number {
            return Err(place.error("section", format!("the prefix `{prefix}` is used twice")));
        }
        let (point, other) = (&known.what.point, known.by);
        let mut differences = Vec::new();
        differences.extend(difference("program type", known.what.program_type, new.program_type));
        differences.extend(difference("attach type", point.attach_type, new.point.attach_type));
        differences.extend(difference(
            "bpf_attach_type",
            point.bpf_attach_type,
            new.point.bpf_attach_type,
        ));
        if differences.is_empty() {
            let known = &mut known.what.point;
            if known.symbol.is_empty() {
                known.symbol = new.point.symbol;
            }
            known.attach_capability = known.attach_capability.take().or(new.point.attach_capability);
        } else if by.overrules(&other) {
            *known = Said { what: new, by };
        } else {
            let what = format!("section `{prefix}`");
            self.conflicts_of(by, other, &what, differences);
        }
        Ok(())
    }

    fn conflicts_of(&mut self, by: Source<'a>, other: Source<'a>, what: &str, differences: Vec<Difference>) {
        for difference in differences {
            conflict(&mut self.conflicts, by, other, what.to_owned(), difference);
        }
    }

    /// What the files say together.
    pub fn finish(self) -> Result<Together, PlatformError> {
        if !self.conflicts.is_empty() {
            return Err(PlatformError::Conflicts(self.conflicts));
        }
        let mut program_types: Vec<ProgramType> = Vec::new();
        let mut places = HashMap::new();
        for known in self.types.into_iter().flatten() {
            let NewType {
                mut described,
                symbol,
                struct_name,
                ..
            } = known.said.what;
            described.symbol =
                symbol.unwrap_or_else(|| format!("EBPF_PROGRAM_TYPE_{}", identifier(&described.name).to_uppercase()));
            described.context.struct_name =
                struct_name.unwrap_or_else(|| format!("{}_context_t", identifier(&described.name).to_lowercase()));
            described.helpers = known.helpers.finish();
            places.insert(described.guid, program_types.len());
            program_types.push(described);
        }
        let mut undescribed_sections = Vec::new();
        for section in self.sections.into_iter().flatten() {
            let NewSection {
                program_type,
                mut point,
            } = section.what;
            if point.symbol.is_empty() {
                point.symbol = format!("EBPF_ATTACH_TYPE_{}", identifier(&point.prefix).to_uppercase());
            }
            match places.get(&program_type).and_then(|at| program_types.get_mut(*at)) {
                Some(of) => of.sections.push(point),
                None => undescribed_sections.push(UndescribedSection {
                    prefix: point.prefix,
                    program_type,
                }),
            }
        }
        let mut btf_functions: Vec<BtfFunction> = self.functions.into_iter().map(|f| f.what).collect();
        btf_functions.sort_by(|a, b| (a.module.0, &a.name).cmp(&(b.module.0, &b.name)));
        Ok(Together {
            helpers: self.general.finish(),
            program_types: program_types.into_iter().map(Arc::new).collect(),
            undescribed_sections,
            btf_functions,
        })
    }
}

/// What all files say together.
pub(super) struct Together {
    pub helpers: Vec<Helper>,
    pub program_types: Vec<Arc<ProgramType>>,
    pub undescribed_sections: Vec<UndescribedSection>,
    /// In the order of the program information hash (native module contract §4.8).
    pub btf_functions: Vec<BtfFunction>,
}

impl<'a> Helpers<'a> {
    fn push(&mut self, helper: Helper, by: Source<'a>) {
        self.ids.insert(helper.id, self.list.len());
        self.names.insert(helper.name.clone(), self.list.len());
        self.list.push(Some(Said { what: helper, by }));
    }

    fn remove(&mut self, gone: impl Fn(&Said<'a, Helper>) -> bool) {
        for slot in &mut self.list {
            if let Some(helper) = slot.take_if(|h| gone(h)) {
                self.ids.remove(&helper.what.id);
                self.names.remove(&helper.what.name);
            }
        }
    }

    /// Adds a helper. Gives what contradicts it: who says so, of the helper with which name, and how it differs.
    fn add(&mut self, new: Helper, by: Source<'a>, loader: &Loader<'_>) -> Vec<(Source<'a>, String, Difference)> {
        let (same_id, same_name) = (self.ids.get(&new.id).copied(), self.names.get(&new.name).copied());
        let mut found = Vec::new();
        if let Some(at) = same_id
            && same_id == same_name
        {
            let Some(Some(known)) = self.list.get_mut(at) else {
                return found;
            };
            let differences = loader.helper_differences(&known.what, &new);
            if differences.is_empty() {
                add_facts(&mut known.what, &new);
            } else if by.overrules(&known.by) {
                let same_arguments = known.what.arguments == new.arguments;
                let before = std::mem::replace(known, Said { what: new, by }).what;
                if same_arguments {
                    add_facts(&mut known.what, &before);
                }
            } else {
                let all = differences.into_iter().map(|d| (known.by, new.name.clone(), d));
                found.extend(all);
            }
            return found;
        }
        for at in [same_id, same_name].into_iter().flatten() {
            if let Some(Some(known)) = self.list.get(at)
                && !by.overrules(&known.by)
            {
                let (name, id) = (&known.what.name, known.what.id);
                let mut differences = Vec::new();
                differences.extend(difference(&format!("name of helper {id}"), name, &new.name));
                differences.extend(difference("id", id, new.id));
                found.extend(differences.into_iter().map(|d| (known.by, name.clone(), d)));
            }
        }
        if found.is_empty() {
            if same_id.is_some() || same_name.is_some() {
                let gone = (new.id, new.name.clone());
                self.remove(|h| h.what.id == gone.0 || h.what.name == gone.1);
            }
            self.push(new, by);
        }
        found
    }

    fn finish(self) -> Vec<Helper> {
        self.list.into_iter().flatten().map(|said| said.what).collect()
    }
}

/// Adds what another description of the same helper states and this one does not. Of facts that restrict programs, both count.
fn add_facts(known: &mut Helper, other: &Helper) {
    if known.runtime_map_types.is_none() {
        known.runtime_map_types.clone_from(&other.runtime_map_types);
    }
    for position in &other.writes_readable {
        if !known.writes_readable.contains(position) {
            known.writes_readable.push(*position);
        }
    }
    known.writes_readable.sort_unstable();
    known.default_implementation &= other.default_implementation;
    known.checks_map_type &= other.checks_map_type;
    known.always_fails |= other.always_fails;
    for register in &other.reads_unlisted {
        if !known.reads_unlisted.contains(register) {
            known.reads_unlisted.push(*register);
        }
    }
    known.reads_unlisted.sort_unstable();
    known.fills = known.fills.or(other.fills);
    if other.description.address_published == Some(false) {
        known.description.address_published = Some(false);
    }
    if known.description == HelperDescription::default() {
        known.description.clone_from(&other.description);
    }
}

impl NewType {
    /// Takes over what another file says of the same type; `replaces` if that counts more where both say something.
    fn join(&mut self, other: &NewType, replaces: bool) {
        let (known, new) = (&mut self.described, &other.described);
        if replaces {
            known.name.clone_from(&new.name);
            known.bpf_prog_type = new.bpf_prog_type;
            known.is_privileged = new.is_privileged;
            if layout(&known.context) != layout(&new.context) {
                known.context = new.context.clone();
                self.struct_name = None;
            } else if !new.context.fields.is_empty() {
                let before = std::mem::replace(&mut known.context.fields, new.context.fields.clone());
                add_field_facts(&mut known.context.fields, &before);
            }
        } else if known.context.fields.is_empty() {
            known.context.fields.clone_from(&new.context.fields);
        } else {
            add_field_facts(&mut known.context.fields, &new.context.fields);
        }
        known.context.data_meta_null |= new.context.data_meta_null;
        let [first, second] = if replaces {
            [new.context.data_format, known.context.data_format]
        } else {
            [known.context.data_format, new.context.data_format]
        };
        known.context.data_format = first.or(second);
        for id in &new.helper_overrides {
            if !known.helper_overrides.contains(id) {
                known.helper_overrides.push(*id);
            }
        }
        if known.return_values.is_empty() || replaces && !new.return_values.is_empty() {
            let before = std::mem::replace(&mut known.return_values, new.return_values.clone());
            add_value_facts(&mut known.return_values, &before);
        } else {
            add_value_facts(&mut known.return_values, &new.return_values);
        }
        if known.description.doc.is_none() {
            known.description.doc.clone_from(&new.description.doc);
        }
        for variant in &new.variants {
            if !known.variants.iter().any(|v| v.id == variant.id) {
                known.variants.push(variant.clone());
            }
        }
        for (known, new) in [
            (&mut self.symbol, &other.symbol),
            (&mut self.struct_name, &other.struct_name),
        ] {
            if known.is_none() || replaces && new.is_some() {
                known.clone_from(new);
            }
        }
    }
}

/// Adds what another description states of the same fields and these do not.
fn add_field_facts(known: &mut [Field], other: &[Field]) {
    for field in known {
        let mut same = other
            .iter()
            .filter(|o| o.name == field.name && o.offset == field.offset);
        field.change_ends_chain |= same.any(|o| o.change_ends_chain);
    }
}

/// Adds what another description states of the same return values and these do not.
fn add_value_facts(known: &mut [ReturnValue], other: &[ReturnValue]) {
    for value in known {
        for same in other.iter().filter(|o| o.name == value.name && o.value == value.value) {
            value.fate = value.fate.or(same.fate);
            value.ends_chain |= same.ends_chain;
        }
    }
}

fn layout(context: &Context) -> [i32; 4] {
    [context.size, context.data, context.data_end, context.data_meta]
}

fn conflict(conflicts: &mut Vec<Conflict>, by: Source<'_>, other: Source<'_>, what: String, difference: Difference) {
    let same = |c: &&mut Conflict| c.what == what && c.file == by.file && c.other_file == other.file;
    if let Some(known) = conflicts.iter_mut().rev().find(same) {
        known.differences.push(difference);
    } else if conflicts.len() < MAX_CONFLICTS {
        conflicts.push(Conflict {
            file: by.file.to_owned(),
            what,
            other_file: other.file.to_owned(),
            other_provider: other.provider.to_owned(),
            differences: vec![difference],
        });
    }
}

/// A text as a C identifier.
fn identifier(text: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let letters: String = text.chars().map(letter).collect();
    let digit = letters.starts_with(|c: char| c.is_ascii_digit());
    if digit { format!("_{letters}") } else { letters }
}
