//! The TOML of a provider file, as serde types.
//!
//! Unknown keys are errors, so that a misspelt key does not vanish. Keys that follow from others, or that are for readers of
//! the file only (`documentation` below), may be present and are skipped. `schema/provider.schema.json` says the same to
//! editors; a test compares the keys.

use std::fmt;
use std::num::NonZeroU32;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::description::{ArgumentClass, ByteOrder, DataFormat, Fate, FieldKind, Format, ReturnClass};
use crate::model::MapValueKind;

macro_rules! tables {
    ($( $(#[$meta:meta])* $name:ident { $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )* } documentation { $($doc:ident)* } )*) => {
        $(
            $(#[$meta])*
            #[derive(Deserialize)]
            #[serde(deny_unknown_fields)]
            #[allow(dead_code, clippy::struct_field_names)] // documentation keys are accepted and not read; names are the file's
            pub(crate) struct $name {
                $( $(#[$field_meta])* pub $field: $type, )*
                $( #[serde(default)] $doc: IgnoredAny, )*
            }
        )*

        /// The tables with their keys, and whether a key must be there.
        #[cfg(test)]
        pub(crate) fn tables() -> Vec<(&'static str, Vec<(&'static str, bool)>)> {
            let optional = |text: &str, kind: &str| text.contains("default") || kind.starts_with("Option");
            vec![ $( (stringify!($name), vec![
                $( (stringify!($field), !optional(stringify!($(#[$field_meta])*), stringify!($type))), )*
                $( (stringify!($doc), false), )*
            ]), )* ]
        }
    };
}

tables! {
    /// A provider file.
    File {
        pub schema: u32,
        pub provider: Provider,
        pub limits: Option<Limits>,
        pub verifier_options: Option<VerifierOptions>,
        #[serde(default)]
        pub return_type: Vec<ReturnType>,
        #[serde(default)]
        pub argument_type: Vec<ArgumentType>,
        #[serde(default)]
        pub map_type: Vec<MapType>,
        #[serde(default)]
        pub custom_map_type: Vec<CustomMapType>,
        #[serde(default)]
        pub btf_resolved_function: Vec<BtfFunction>,
        #[serde(default)]
        pub helper: Vec<Helper>,
        #[serde(default)]
        pub program_type: Vec<ProgramType>,
        #[serde(default)]
        pub section: Vec<Section>,
        #[serde(default)]
        pub variant: Vec<Variant>,
        #[serde(default)]
        pub r#struct: Vec<Struct>,
    } documentation {
        abi_struct bpf_prog_type bpf_attach_type unregistered_guid
    }

    /// Who wrote the facts.
    Provider {
        pub id: String,
        /// Ids of providers of earlier files whose word counts less than that of this file.
        #[serde(default)]
        pub replaces: Vec<String>,
        pub doc: Option<String>,
        pub part: Option<String>,
        pub source_repo: Option<String>,
        pub source_commit: Option<String>,
        pub source_version: Option<String>,
        pub module: Option<String>,
        #[serde(default)]
        pub modules: Vec<String>,
    } documentation {
        source_files verifier_repo verifier_commit general_helper_provider_guid
    }

    /// Limits of the runtime.
    Limits {
        pub max_general_helper_id: u32,
        pub max_tail_call_count: u32,
        pub subprogram_stack_bytes: u32,
        pub max_call_frames: u32,
        pub max_packet_bytes: u32,
        pub max_program_type_name: u32,
        pub max_helper_name: u32,
        pub max_registry_section_name: u32,
        pub object_name_bytes: u32,
        pub max_map_allocation_bytes: u64,
    } documentation {
        first_program_type_helper_id max_meta_bytes loop_iterations context_header_bytes
        context_descriptor_min_size max_pin_path map_record_bytes
    }

    /// Options of the verifier.
    #[allow(clippy::struct_excessive_bools)] // one flag each of the verifier's own option structure
    VerifierOptions {
        pub check_for_termination: bool,
        pub must_have_exit: bool,
        pub strict: bool,
        pub allow_division_by_zero: bool,
        pub setup_constraints: bool,
        pub conformance_groups: Vec<String>,
    } documentation {
        big_endian mock_map_fds
    }

    /// A return type of helpers.
    ReturnType {
        pub name: String,
        pub value: u32,
        pub class: ReturnClass,
        pub doc: Option<String>,
    } documentation {
        nullable pointee
    }

    /// An argument type of helpers.
    ArgumentType {
        pub name: String,
        pub value: u32,
        pub class: ArgumentClass,
        pub verifier_kind: Option<String>,
        #[serde(default)]
        pub or_null: bool,
        pub doc: Option<String>,
    } documentation {
        zero_allowed access_bytes sets_alloc_size unprivileged_requires_number
    }

    /// A map type.
    MapType {
        pub name: String,
        pub value: u32,
        pub display_name: String,
        pub verifier_is_array: bool,
        pub verifier_value_kind: MapValueKind,
        pub per_cpu: bool,
        #[serde(default = "yes")]
        pub creatable: bool,
        pub key_size_required: Option<u32>,
        pub key_size_min: Option<u32>,
        pub key_bytes_read: Option<u32>,
        #[serde(default)]
        pub zero_key_allowed: bool,
        pub value_size_required: Option<u32>,
        #[serde(default)]
        pub zero_value_allowed: bool,
        #[serde(default)]
        pub max_entries_power_of_two: bool,
        pub max_entries_multiple_of: Option<NonZeroU32>,
        #[serde(default)]
        pub inner_map_required: bool,
        #[serde(default)]
        pub custom: bool,
        pub base_map_type: Option<u32>,
        pub custom_provider: Option<String>,
        pub doc: Option<String>,
        pub note: Option<String>,
    } documentation {
        array_index_key key_history key_size_checked_at_creation program_helpers value_kind verifier_known
    }

    /// A map type that an extension implements under one of the numbers that the runtime keeps for extensions.
    CustomMapType {
        pub name: String,
        pub value: u32,
        pub base_map_type: u32,
        pub key_size: Option<u32>,
        pub value_size: Option<u32>,
        #[serde(default)]
        pub updates_original_value: bool,
        pub provider_guid: String,
        pub note: Option<String>,
    } documentation {
    }

    /// A function that programs call by a module's GUID and a name.
    BtfFunction {
        pub module_guid: String,
        pub name: String,
        pub return_type: EnumValue,
        pub args: Vec<EnumValue>,
        #[serde(default)]
        pub flags: u32,
        pub runtime_map_types: Option<Vec<u32>>,
        #[serde(default = "yes")]
        pub checks_map_type: bool,
        pub fills: Option<Fills>,
        pub doc: Option<String>,
        pub note: Option<String>,
        pub returns: Option<String>,
        #[serde(default)]
        pub parameters: Vec<Parameter>,
    } documentation {
        decl_tag elf_section
    }

    /// A helper's prototype.
    Helper {
        pub id: u32,
        pub name: String,
        pub return_type: EnumValue,
        pub args: Vec<EnumValue>,
        #[serde(default)]
        pub reallocate_packet: bool,
        #[serde(default)]
        pub writes_readable: Vec<u8>,
        pub runtime_map_types: Option<Vec<u32>>,
        #[serde(default = "yes")]
        pub checks_map_type: bool,
        #[serde(default = "yes")]
        pub default_implementation: bool,
        #[serde(default)]
        pub always_fails: bool,
        #[serde(default)]
        pub reads_unlisted: Vec<u8>,
        pub fills: Option<Fills>,
        pub doc: Option<String>,
        pub note: Option<String>,
        pub header_symbol: Option<String>,
        pub returns: Option<String>,
        #[serde(default)]
        pub parameters: Vec<Parameter>,
        #[serde(default)]
        pub attach_types: Vec<String>,
        pub implicit_context: Option<bool>,
        pub address_published: Option<bool>,
        pub out_struct: Option<String>,
    } documentation {
        context_register
    }

    /// What a C declaration says of an argument.
    Parameter {
        pub name: String,
        pub r#type: Option<String>,
    } documentation {
    }

    /// A buffer of which a helper writes every byte.
    Fills {
        pub argument: u8,
        pub if_equal: Option<[u8; 2]>,
    } documentation {}

    /// A program type.
    ProgramType {
        pub name: String,
        pub symbol: Option<String>,
        pub guid: String,
        pub bpf_prog_type: u32,
        pub is_privileged: bool,
        pub context: Context,
        #[serde(default)]
        pub section: Vec<Section>,
        #[serde(default)]
        pub helper: Vec<Helper>,
        #[serde(default)]
        pub global_helper_override: Vec<Override>,
        #[serde(default)]
        pub return_value: Vec<ReturnValue>,
        pub return_enum: Option<String>,
        pub return_doc: Option<String>,
        pub bpf_prog_type_name: Option<String>,
        pub required_irql: Option<String>,
        pub module: Option<String>,
        pub part: Option<String>,
        pub doc: Option<String>,
        pub note: Option<String>,
    } documentation {
    }

    /// A context structure.
    Context {
        pub r#struct: Option<String>,
        pub size: i32,
        pub data: i32,
        pub data_end: i32,
        pub data_meta: i32,
        #[serde(default)]
        pub data_meta_null: bool,
        #[serde(default)]
        pub field: Vec<Field>,
        pub header: Option<String>,
        pub data_content: Option<String>,
        pub data_format: Option<DataFormat>,
        pub doc: Option<String>,
        pub note: Option<String>,
    } documentation {
        align
    }

    /// A structure that programs of the provider use besides their context.
    Struct {
        pub name: String,
        pub size: u32,
        pub part: Option<String>,
        pub header: Option<String>,
        pub doc: Option<String>,
        pub note: Option<String>,
        #[serde(default)]
        pub field: Vec<Field>,
    } documentation {
        align
    }

    /// A field of a context or another structure.
    Field {
        pub name: String,
        pub r#type: String,
        pub offset: u32,
        pub size: u32,
        pub doc: Option<String>,
        pub kind: Option<FieldKind>,
        pub unit: Option<String>,
        pub byte_order: Option<ByteOrder>,
        pub format: Option<Format>,
        pub valid_for: Option<String>,
        pub verifier_store: Option<bool>,
        pub store_effect: Option<String>,
        #[serde(default)]
        pub change_ends_chain: bool,
        pub r#enum: Option<String>,
        #[serde(default)]
        pub values: Enumerators,
        pub note: Option<String>,
    } documentation {
        r#union bit_width
    }

    /// A value that a field can have.
    Enumerator {
        pub name: String,
        pub value: i64,
        pub doc: Option<String>,
    } documentation {
    }

    /// A section name prefix.
    Section {
        pub prefix: String,
        /// The program type, at the top of a file: one that another file describes.
        pub program_type_guid: Option<String>,
        pub attach_type: Option<String>,
        pub attach_type_guid: String,
        pub bpf_attach_type: u32,
        pub bpf_attach_type_name: Option<String>,
        pub attach_capability: Option<String>,
        pub link_type: Option<String>,
        pub doc: Option<String>,
        pub note: Option<String>,
    } documentation {
    }

    /// A general helper that a program type implements itself.
    Override {
        pub id: u32,
        pub name: String,
        pub note: Option<String>,
    } documentation {
        return_type args reallocate_packet implicit_context context_register
    }

    /// A return value of programs.
    ReturnValue {
        pub name: String,
        pub value: i64,
        pub meaning: String,
        pub fate: Option<Fate>,
        #[serde(default)]
        pub ends_chain: bool,
        pub note: Option<String>,
    } documentation {
    }

    /// Helpers of the file's one program type as another build of the provider declares them.
    Variant {
        pub id: String,
        #[serde(default)]
        pub helper: Vec<Helper>,
        pub note: Option<String>,
    } documentation {
        source_repo source_commit source_version source_files
    }
}

fn yes() -> bool {
    true
}

/// A reference to an argument or return type: its name, or `{ name = …, value = … }`.
pub(crate) struct EnumValue {
    pub name: String,
    pub value: Option<u32>,
}

impl<'de> Deserialize<'de> for EnumValue {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = EnumValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or a table with `name` and `value`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<EnumValue, E> {
                Ok(EnumValue {
                    name: name.to_owned(),
                    value: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EnumValue, A::Error> {
                let (mut name, mut value) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "name" => name = Some(map.next_value()?),
                        "value" => value = Some(map.next_value()?),
                        _ => return Err(de::Error::unknown_field(&key, &["name", "value"])),
                    }
                }
                Ok(EnumValue {
                    name: name.ok_or_else(|| de::Error::missing_field("name"))?,
                    value: Some(value.ok_or_else(|| de::Error::missing_field("value"))?),
                })
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}

/// The values of a field: a list of tables, or a table from names to values.
#[derive(Default)]
pub(crate) struct Enumerators(pub Vec<Enumerator>);

impl<'de> Deserialize<'de> for Enumerators {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrTable;

        impl<'de> Visitor<'de> for ListOrTable {
            type Value = Enumerators;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tables with `name` and `value`, or a table from names to values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Enumerators, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Enumerators(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Enumerators, A::Error> {
                let mut values = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    values.push(Enumerator { name, value, doc: None });
                }
                // A table has no order of its own.
                values.sort_by(|a: &Enumerator, b| (a.value, &a.name).cmp(&(b.value, &b.name)));
                Ok(Enumerators(values))
            }
        }

        deserializer.deserialize_any(ListOrTable)
    }
}

#[cfg(test)]
mod tests;
