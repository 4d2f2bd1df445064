//! What a platform says of things, as [`shown`](super::shown) to people and scripts.

use bpf2sys_platform::{
    ArgumentType, BtfFunction, Context, Field, Headers, Helper, MapType, Platform, ProgramType, Provider, SizeRule,
    Structure,
};

use super::shown::{
    ShownArgument, ShownClass, ShownContext, ShownField, ShownFunction, ShownHelper, ShownMap, ShownProvider,
    ShownResult, ShownSection, ShownStructure, ShownType, ShownValue,
};

/// A platform with the names that C knows it by.
pub(super) struct Viewer<'a> {
    pub platform: &'a Platform,
    pub headers: Headers<'a>,
}

impl<'a> Viewer<'a> {
    pub(super) fn new(platform: &'a Platform) -> Viewer<'a> {
        Viewer {
            platform,
            headers: Headers::new(platform),
        }
    }

    pub(super) fn program_type(&self, from: &ProgramType) -> ShownType {
        let about = &from.description;
        let general = |ids: &dyn Fn(&Helper) -> bool| {
            let found = self.platform.helpers.iter().filter(|h| ids(h));
            found.map(|h| h.name.clone()).collect::<Vec<_>>()
        };
        let section = |s: &bpf2sys_platform::AttachPoint| ShownSection {
            prefix: s.prefix.clone(),
            attach_type: s.symbol.clone(),
            attach_type_guid: s.attach_type.to_string(),
            bpf_attach_type: s.bpf_attach_type,
            bpf_attach_type_name: s.bpf_attach_type_name.clone(),
            attach_capability: s.attach_capability.clone(),
            link_type: s.link_type.clone(),
            doc: s.doc.clone(),
            note: s.note.clone(),
        };
        let value = |v: &bpf2sys_platform::ReturnValue| ShownResult {
            value: ShownValue {
                name: v.name.clone(),
                value: v.value,
                doc: Some(v.meaning.clone()),
            },
            fate: v.fate,
            ends_chain: v.ends_chain,
        };
        let helpers: Vec<ShownHelper> = from.helpers.iter().map(|h| self.helper(Some(from), h)).collect();
        let mut unknown = Vec::new();
        let mut ask = |missing: bool, what: &str| {
            if missing {
                unknown.push(what.to_owned());
            }
        };
        ask(about.doc.is_none(), "when its programs run");
        ask(
            about.required_irql.is_none(),
            "at which interrupt request level its programs run",
        );
        ask(from.context.fields.is_empty(), "the fields of its context");
        ask(from.return_values.is_empty(), "what its programs may return");
        ask(from.sections.is_empty(), "a section name that selects it");
        ask(
            helpers.iter().any(|h| !h.unknown.is_empty()),
            "C declarations of its helpers",
        );
        ShownType {
            name: from.name.clone(),
            provider: from.provider.clone(),
            module: about.module.clone(),
            symbol: from.symbol.clone(),
            guid: from.guid.to_string(),
            bpf_prog_type: from.bpf_prog_type,
            bpf_prog_type_name: about.bpf_prog_type_name.clone(),
            privileged: from.is_privileged,
            irql: about.required_irql.clone(),
            header: Headers::file_name(Some(&about.part)),
            doc: about.doc.clone(),
            note: about.note.clone(),
            sections: from.sections.iter().map(section).collect(),
            context: self.context(from),
            return_doc: about.return_doc.clone(),
            return_values: from.return_values.iter().map(value).collect(),
            helpers,
            overridden_helpers: general(&|h| from.helper_overrides.contains(&h.id)),
            missing_helpers: general(&|h| !from.implements(h)),
            variants: from.variants.iter().map(|v| v.id.clone()).collect(),
            unknown,
        }
    }

    fn context(&self, of: &ProgramType) -> ShownContext {
        let context = &of.context;
        let present = |offset: i32| (offset >= 0).then_some(offset);
        ShownContext {
            structure: self.headers.context_name(of).to_owned(),
            header: context.header.clone(),
            size: context.size,
            data: present(context.data),
            data_end: present(context.data_end),
            data_meta: present(context.data_meta),
            data_meta_null: context.data_meta_null,
            data_content: context.data_content.clone(),
            data_format: context.data_format,
            doc: context.doc.clone(),
            note: context.note.clone(),
            fields: context.fields.iter().map(|f| field(f, writable(context, f))).collect(),
        }
    }

    pub(super) fn helper(&self, program_type: Option<&ProgramType>, from: &Helper) -> ShownHelper {
        let about = &from.description;
        let map_name = |number: &u32| {
            self.platform
                .map_type(*number)
                .map_or_else(|| number.to_string(), |m| m.name.clone())
        };
        let types = self.platform.program_types.iter();
        let overriding = types.filter(|t| program_type.is_none() && t.helper_overrides.contains(&from.id));
        let mut unknown = Vec::new();
        let takes_map = from
            .arguments
            .iter()
            .any(|a| self.platform.map_argument_types.contains(a));
        if about.doc.is_none() {
            unknown.push("what it does".to_owned());
        }
        if about.signature.returns.is_none() {
            unknown.push("the C type of its result".to_owned());
        }
        if about.signature.parameters.is_empty() && from.arguments[0] != 0 {
            unknown.push("names and C types of its arguments".to_owned());
        }
        if takes_map && from.runtime_map_types.is_none() {
            unknown.push("the map types that it works on".to_owned());
        }
        if about.implicit_context.is_none() && program_type.is_some() {
            unknown.push("whether it gets the context without being passed it".to_owned());
        }
        ShownHelper {
            name: from.name.clone(),
            id: from.id,
            program_type: program_type.map(|t| t.name.clone()),
            header_symbol: about.header_symbol.clone(),
            prototype: self.headers.prototype(program_type, from),
            arguments: self.arguments(&from.arguments, &about.signature.parameters, &from.writes_readable),
            returns: self.returns(from.return_type),
            map_types: from
                .runtime_map_types
                .as_ref()
                .map(|types| types.iter().map(map_name).collect()),
            attach_types: about.attach_types.clone(),
            reallocates_packet: from.reallocate_packet,
            implicit_context: about.implicit_context,
            implemented: from.default_implementation,
            overridden_by: overriding.map(|t| t.name.clone()).collect(),
            address_published: about.address_published,
            doc: about.doc.clone(),
            note: about.note.clone(),
            unknown,
        }
    }

    pub(super) fn function(&self, from: &BtfFunction) -> ShownFunction {
        ShownFunction {
            name: from.name.clone(),
            module: from.module.to_string(),
            provider: from.provider.clone(),
            prototype: self.headers.function_prototype(from),
            arguments: self.arguments(&from.arguments, &from.signature.parameters, &[]),
            returns: self.returns(from.return_type),
            doc: from.doc.clone(),
            note: from.note.clone(),
        }
    }

    fn arguments(
        &self,
        types: &[u32; 5],
        parameters: &[bpf2sys_platform::Parameter],
        written: &[u8],
    ) -> Vec<ShownArgument> {
        let passed = types.iter().take_while(|a| **a != 0).enumerate();
        let argument = |(i, number): (usize, &u32)| {
            let known: Option<&ArgumentType> = self.platform.argument_types.iter().find(|a| a.value == *number);
            ShownArgument {
                register: format!("r{}", i + 1),
                name: parameters.get(i).map(|p| p.name.clone()),
                class: ShownClass {
                    class: known.map_or_else(|| number.to_string(), |a| a.symbol.clone()),
                    number: *number,
                    meaning: known.and_then(|a| a.doc.clone()),
                },
                written: written.iter().any(|p| usize::from(*p) == i + 1),
            }
        };
        passed.map(argument).collect()
    }

    fn returns(&self, number: u32) -> ShownClass {
        let known = self.platform.return_types.iter().find(|r| r.value == number);
        ShownClass {
            class: known.map_or_else(|| number.to_string(), |r| r.symbol.clone()),
            number,
            meaning: known.and_then(|r| r.doc.clone()),
        }
    }

    pub(super) fn map_type(&self, from: &MapType) -> ShownMap {
        let rules = &from.rules;
        let types = self.platform.program_types.iter();
        let all = self.platform.helpers.iter().chain(types.flat_map(|t| &t.helpers));
        let works = |h: &&Helper| {
            h.runtime_map_types
                .as_ref()
                .is_some_and(|types| types.contains(&from.value))
        };
        let mut entries = Vec::new();
        if rules.max_entries_power_of_two {
            entries.push("a power of two".to_owned());
        }
        if rules.max_entries_multiple_of.get() > 1 {
            entries.push(format!("a multiple of {}", rules.max_entries_multiple_of));
        }
        let custom = from.custom.as_ref();
        ShownMap {
            name: from.name.clone(),
            symbol: from.symbol.clone(),
            number: from.value,
            key: size(rules.key_size),
            value: size(rules.value_size),
            max_entries: (!entries.is_empty()).then(|| entries.join(", ")),
            per_processor: from.per_cpu,
            creatable: rules.creatable,
            extension: custom.map(|c| c.provider.clone().unwrap_or_else(|| "not known".to_owned())),
            helpers: all.filter(works).map(|h| h.name.clone()).collect(),
            doc: from.doc.clone(),
            note: from.note.clone(),
        }
    }

    pub(super) fn provider(&self, from: &Provider) -> ShownProvider {
        let platform = self.platform;
        // General helpers and the runtime's map types belong to the first file, the core.
        let is_core = platform.providers.first().is_some_and(|p| p.id == from.id);
        let types = platform.program_types.iter().filter(|t| t.provider == from.id);
        let own = types.clone().flat_map(|t| &t.helpers);
        let general = platform.helpers.iter().filter(|_| is_core);
        let maps = platform.map_types.iter().filter(|m| match &m.custom {
            Some(custom) => custom.provider.as_deref() == Some(&from.id),
            None => is_core,
        });
        ShownProvider {
            id: from.id.clone(),
            doc: from.doc.clone(),
            modules: from.modules.clone(),
            source: from.source.clone(),
            program_types: types.map(|t| t.name.clone()).collect(),
            helpers: general.chain(own).map(|h| h.name.clone()).collect(),
            functions: platform
                .btf_functions
                .iter()
                .filter(|f| f.provider == from.id)
                .map(|f| f.name.clone())
                .collect(),
            structures: platform
                .structures
                .iter()
                .filter(|s| s.provider == from.id)
                .map(|s| s.name.clone())
                .collect(),
            map_types: maps.map(|m| m.name.clone()).collect(),
        }
    }
}

pub(super) fn structure(from: &Structure) -> ShownStructure {
    ShownStructure {
        name: from.name.clone(),
        provider: from.provider.clone(),
        header: Headers::file_name(Some(&from.part)),
        size: from.size,
        doc: from.doc.clone(),
        note: from.note.clone(),
        fields: from.fields.iter().map(|f| field(f, true)).collect(),
    }
}

/// Whether the verifier lets programs write a field: all but the pointers to data.
fn writable(context: &Context, field: &Field) -> bool {
    let overlaps = |at: i32| u32::try_from(at).is_ok_and(|at| at < field.offset + field.size && field.offset < at + 8);
    ![context.data, context.data_end, context.data_meta]
        .into_iter()
        .any(overlaps)
}

fn field(from: &Field, writable: bool) -> ShownField {
    let value = |v: &bpf2sys_platform::Enumerator| ShownValue {
        name: v.name.clone(),
        value: v.value,
        doc: v.doc.clone(),
    };
    ShownField {
        name: from.name.clone(),
        c_type: from.c_type.clone(),
        offset: from.offset,
        size: from.size,
        writable,
        kind: from.kind,
        unit: from.unit.clone(),
        byte_order: from.byte_order,
        format: from.format,
        valid_for: from.valid_for.clone(),
        store_effect: from.store_effect.clone(),
        change_ends_chain: from.change_ends_chain,
        values: from.values.iter().map(value).collect(),
        doc: from.doc.clone(),
        note: from.note.clone(),
    }
}

fn size(rule: SizeRule) -> String {
    match rule {
        SizeRule::Any => "any size, 0 included".to_owned(),
        SizeRule::AtLeast(least) if least.get() == 1 => "any size".to_owned(),
        SizeRule::AtLeast(least) => format!("at least {least} bytes"),
        SizeRule::Exactly(0) => "none".to_owned(),
        SizeRule::Exactly(bytes) => format!("{bytes} bytes"),
    }
}
