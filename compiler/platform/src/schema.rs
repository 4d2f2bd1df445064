//! The TOML of a provider file, as serde types.
//!
//! Unknown keys are errors, so that a misspelt key does not vanish. Keys that only inform a reader of the file
//! (`documentation` below) may be present and are skipped.

use std::fmt;
use std::num::NonZeroU32;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};

use crate::model::MapValueKind;

macro_rules! tables {
    ($( $(#[$meta:meta])* $name:ident { $($fields:tt)* } documentation { $($doc:ident)* } )*) => { $(
        $(#[$meta])*
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, clippy::struct_field_names)] // documentation keys are accepted and not read; names are the file's
        pub(crate) struct $name {
            $($fields)*
            $( #[serde(default)] $doc: IgnoredAny, )*
        }
    )* };
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
        pub variant: Vec<Variant>,
    } documentation {
        abi_struct bpf_prog_type bpf_attach_type unregistered_guid r#struct
    }

    /// Who wrote the facts.
    Provider {
        pub id: String,
    } documentation {
        source_repo source_commit source_version source_files module modules verifier_repo verifier_commit
        general_helper_provider_guid
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
    } documentation {
        array_index_key key_history key_size_checked_at_creation note program_helpers value_kind verifier_known
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
    } documentation {
        note
    }

    /// A function that programs call by a module's GUID and a name.
    BtfFunction {
        pub module_guid: String,
        pub name: String,
        pub return_type: EnumValue,
        pub args: Vec<EnumValue>,
        #[serde(default)]
        pub flags: u32,
    } documentation {
        decl_tag elf_section note
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
        pub default_implementation: bool,
    } documentation {
        implicit_context context_register header_symbol note attach_types out_struct address_published
    }

    /// A program type.
    ProgramType {
        pub name: String,
        pub symbol: String,
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
    } documentation {
        bpf_prog_type_name required_irql module note
    }

    /// A context structure.
    Context {
        pub r#struct: String,
        pub size: i32,
        pub data: i32,
        pub data_end: i32,
        pub data_meta: i32,
        #[serde(default)]
        pub data_meta_null: bool,
        #[serde(default)]
        pub field: Vec<Field>,
    } documentation {
        header align data_content note
    }

    /// A field of a context structure.
    Field {
        pub name: String,
        pub r#type: String,
        pub offset: u32,
        pub size: u32,
    } documentation {
        kind union verifier_store store_effect unit byte_order valid_for note values bit_width
    }

    /// A section name prefix.
    Section {
        pub prefix: String,
        pub attach_type: String,
        pub attach_type_guid: String,
        pub bpf_attach_type: u32,
    } documentation {
        bpf_attach_type_name attach_capability link_type note
    }

    /// A general helper that a program type implements itself.
    Override {
        pub id: u32,
        pub name: String,
    } documentation {
        return_type args reallocate_packet implicit_context context_register note
    }

    /// A return value of programs.
    ReturnValue {
        pub name: String,
        pub value: i64,
        pub meaning: String,
    } documentation {
        note
    }

    /// Helpers of the file's one program type as another build of the provider declares them.
    Variant {
        pub id: String,
        #[serde(default)]
        pub helper: Vec<Helper>,
    } documentation {
        source_repo source_commit source_version source_files note
    }
}

fn yes() -> bool {
    true
}

/// What a helper returns.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReturnClass {
    Integer,
    MapValueOrNull,
    Pointer,
    Unsupported,
}

/// How an argument type combines with its neighbours.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ArgumentClass {
    /// Ends the argument list.
    Stop,
    /// One register.
    Single,
    /// A pointer whose size is the next argument.
    PairPointer,
    /// The size of the pointer before it.
    PairSize,
    /// A call is rejected.
    Unsupported,
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
