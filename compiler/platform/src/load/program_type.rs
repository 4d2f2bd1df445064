//! Program types, each as its file describes it, with their sections and helpers.

use super::context::context;
use super::join::{Joined, NewSection, NewType, Source};
use super::place::Place;
use super::prototype::Scope;
use super::{Loader, describe, guid};
use crate::model::{AttachPoint, Helper, MapType, ProgramType, ReturnValue, Variant};
use crate::{Guid, PlatformError, schema};

impl Loader<'_> {
    /// Joins the program types and sections of a file to those of the files before it.
    pub(super) fn join_types<'a>(
        &'a self,
        file: &str,
        content: &'a schema::File,
        source: Source<'a>,
        map_types: &[MapType],
        joined: &mut Joined<'a>,
    ) -> Result<(), PlatformError> {
        let mut sections = Vec::new();
        let mut described = Vec::new();
        for from in &content.program_type {
            let mut new = self.program_type(file, content, from, map_types, joined)?;
            if let [only] = content.program_type.as_slice() {
                new.described.variants = self.variants(file, &content.variant, only, &new.helpers, map_types)?;
            } else if let Some(variant) = content.variant.first() {
                let place = Place::new(file, "variant", &variant.id);
                return Err(place.error("helper", "needs a file with exactly one program type"));
            }
            let guid = new.described.guid;
            described.push(guid);
            let place = || Place::new(file, "program_type", &from.name);
            joined.add_type(new, source, &place())?;
            for section in &from.section {
                let own = Place::new(file, "section", &section.prefix);
                own.check(section.program_type_guid.is_none(), "program_type_guid", || {
                    "is only for sections that belong to no program type of this file".to_owned()
                })?;
                sections.push((guid, self.attach_point(&own, section)?, place()));
            }
        }
        for section in &content.section {
            let place = Place::new(file, "section", &section.prefix);
            let Some(program_type) = &section.program_type_guid else {
                return Err(place.error("program_type_guid", "is missing"));
            };
            let program_type = guid(&place, "program_type_guid", program_type)?;
            sections.push((program_type, self.attach_point(&place, section)?, place));
        }
        let prefixes: Vec<&str> = sections.iter().map(|(_, point, _)| point.prefix.as_str()).collect();
        joined.forget_sections(&described, &prefixes, source);
        for (program_type, point, place) in sections {
            joined.add_section(NewSection { program_type, point }, source, &place)?;
        }
        Ok(())
    }

    /// The symbol stays empty if the file states none.
    fn attach_point(&self, place: &Place<'_>, from: &schema::Section) -> Result<AttachPoint, PlatformError> {
        place.name("prefix", &from.prefix, self.limits.max_registry_section_name + 1)?;
        Ok(AttachPoint {
            prefix: from.prefix.clone(),
            attach_type: guid(place, "attach_type_guid", &from.attach_type_guid)?,
            symbol: from.attach_type.clone().unwrap_or_default(),
            bpf_attach_type: from.bpf_attach_type,
            bpf_attach_type_name: from.bpf_attach_type_name.clone(),
            attach_capability: from.attach_capability.clone(),
            link_type: from.link_type.clone(),
            doc: from.doc.clone(),
            note: from.note.clone(),
        })
    }

    fn program_type(
        &self,
        file: &str,
        content: &schema::File,
        from: &schema::ProgramType,
        map_types: &[MapType],
        joined: &Joined<'_>,
    ) -> Result<NewType, PlatformError> {
        let place = Place::new(file, "program_type", &from.name);
        place.name("name", &from.name, self.limits.max_program_type_name)?;
        let mut helpers = Scope::default();
        for helper in &from.helper {
            self.own_helper(file, helper, map_types, &mut helpers)?;
        }
        let mut helper_overrides = Vec::with_capacity(from.global_helper_override.len());
        for entry in &from.global_helper_override {
            let place = Place::new(file, "global_helper_override", &entry.name);
            let known = joined.general_helper(entry.id);
            place.check(known.is_some(), "id", || format!("{} is no general helper", entry.id))?;
            place.check(known.is_some_and(|h| h.name == entry.name), "name", || {
                format!("is not the name of helper {}", entry.id)
            })?;
            place.check(!helper_overrides.contains(&entry.id), "id", || {
                format!("{} is overridden twice", entry.id)
            })?;
            helper_overrides.push(entry.id);
        }
        let guid = guid(&place, "guid", &from.guid)?;
        place.check(guid != Guid::ZERO, "guid", || {
            "is zero, which means unspecified".to_owned()
        })?;
        let struct_name = from.context.r#struct.clone();
        let context_place = Place::new(file, "context", struct_name.as_deref().unwrap_or(&from.name));
        let frames = from.context.data != -1 && from.context.data_format.is_none();
        if let Some(value) = from.return_value.iter().find(|v| v.fate.is_some() && !frames) {
            let what = format!("`{}`: `fate` needs data that is a packet", value.name);
            return Err(place.error("return_value", what));
        }
        let described = ProgramType {
            name: from.name.clone(),
            symbol: String::new(),
            guid,
            bpf_prog_type: from.bpf_prog_type,
            is_privileged: from.is_privileged,
            context: context(&context_place, &from.context)?,
            sections: Vec::new(),
            helpers: Vec::new(),
            helper_overrides,
            return_values: from
                .return_value
                .iter()
                .map(|v| ReturnValue {
                    name: v.name.clone(),
                    value: v.value,
                    meaning: v.meaning.clone(),
                    fate: v.fate,
                    ends_chain: v.ends_chain,
                    note: v.note.clone(),
                })
                .collect(),
            provider: content.provider.id.clone(),
            variants: Vec::new(),
            description: describe::program_type(file, &content.provider, from)?,
        };
        Ok(NewType {
            described,
            symbol: from.symbol.clone(),
            struct_name,
            helpers: helpers.finish(),
        })
    }

    fn variants(
        &self,
        file: &str,
        from: &[schema::Variant],
        of: &schema::ProgramType,
        helpers: &[Helper],
        map_types: &[MapType],
    ) -> Result<Vec<Variant>, PlatformError> {
        let mut variants: Vec<Variant> = Vec::with_capacity(from.len());
        for variant in from {
            let place = Place::new(file, "variant", &variant.id);
            let repeated = variants.iter().any(|v| v.id == variant.id);
            place.check(!repeated, "id", || "is used twice".to_owned())?;
            let mut scope = Scope::default();
            for helper in &variant.helper {
                let known = helpers.iter().any(|h| h.id == helper.id);
                place.check(known, "helper", || format!("`{}` has no helper {}", of.name, helper.id))?;
                self.own_helper(file, helper, map_types, &mut scope)?;
            }
            variants.push(Variant {
                id: variant.id.clone(),
                helpers: scope.finish(),
                note: variant.note.clone(),
            });
        }
        Ok(variants)
    }

    /// A helper of one program type.
    fn own_helper(
        &self,
        file: &str,
        helper: &schema::Helper,
        map_types: &[MapType],
        into: &mut Scope,
    ) -> Result<(), PlatformError> {
        let place = Place::new(file, "helper", &helper.name);
        place.check(helper.id > self.limits.max_general_helper_id, "id", || {
            format!(
                "{} is not above {}, the last of a general helper",
                helper.id, self.limits.max_general_helper_id
            )
        })?;
        place.check(i32::try_from(helper.id).is_ok(), "id", || {
            "does not fit a call instruction".to_owned()
        })?;
        self.add_helper(&place, helper, map_types, into)
    }
}
