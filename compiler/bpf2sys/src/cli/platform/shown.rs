//! What is told of a platform, as values that are printed or serialized.

use bpf2sys_platform::{ByteOrder, DataFormat, Fate, FieldKind, Format, Source};
use serde::Serialize;

/// Everything that a name means; kinds that it does not mean are left out.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub program_types: Vec<ShownType>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub helpers: Vec<ShownHelper>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub map_types: Vec<ShownMap>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<ShownFunction>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub structures: Vec<ShownStructure>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ShownProvider>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownType {
    pub name: String,
    pub provider: String,
    pub module: Option<String>,
    pub symbol: String,
    pub guid: String,
    pub bpf_prog_type: u32,
    pub bpf_prog_type_name: Option<String>,
    pub privileged: bool,
    pub irql: Option<String>,
    pub header: String,
    pub doc: Option<String>,
    pub note: Option<String>,
    pub sections: Vec<ShownSection>,
    pub context: ShownContext,
    pub return_doc: Option<String>,
    pub return_values: Vec<ShownResult>,
    pub helpers: Vec<ShownHelper>,
    /// General helpers that its provider implements itself.
    pub overridden_helpers: Vec<String>,
    /// General helpers that its programs can't use.
    pub missing_helpers: Vec<String>,
    pub variants: Vec<String>,
    pub unknown: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownSection {
    pub prefix: String,
    pub attach_type: String,
    pub attach_type_guid: String,
    pub bpf_attach_type: u32,
    pub bpf_attach_type_name: Option<String>,
    pub attach_capability: Option<String>,
    pub link_type: Option<String>,
    pub doc: Option<String>,
    pub note: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownContext {
    pub structure: String,
    pub header: Option<String>,
    pub size: i32,
    pub data: Option<i32>,
    pub data_end: Option<i32>,
    pub data_meta: Option<i32>,
    pub data_meta_null: bool,
    pub data_content: Option<String>,
    pub data_format: Option<DataFormat>,
    pub doc: Option<String>,
    pub note: Option<String>,
    pub fields: Vec<ShownField>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownStructure {
    pub name: String,
    pub provider: String,
    pub header: String,
    pub size: u32,
    pub doc: Option<String>,
    pub note: Option<String>,
    pub fields: Vec<ShownField>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownField {
    pub name: String,
    pub c_type: String,
    pub offset: u32,
    pub size: u32,
    /// Whether the verifier lets programs write it.
    pub writable: bool,
    pub kind: Option<FieldKind>,
    pub unit: Option<String>,
    pub byte_order: Option<ByteOrder>,
    pub format: Option<Format>,
    pub valid_for: Option<String>,
    pub store_effect: Option<String>,
    /// Whether no further program at the attach point runs once a program has changed it.
    pub change_ends_chain: bool,
    pub values: Vec<ShownValue>,
    pub doc: Option<String>,
    pub note: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownValue {
    pub name: String,
    pub value: i64,
    pub doc: Option<String>,
}

/// A return value.
#[derive(Debug, Serialize)]
pub(super) struct ShownResult {
    #[serde(flatten)]
    pub value: ShownValue,
    /// What becomes of the packet.
    pub fate: Option<Fate>,
    /// Whether no further program at the attach point runs after it.
    pub ends_chain: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownHelper {
    pub name: String,
    pub id: u32,
    /// The program type whose it is; general helpers have none.
    pub program_type: Option<String>,
    pub header_symbol: Option<String>,
    pub prototype: String,
    pub arguments: Vec<ShownArgument>,
    pub returns: ShownClass,
    /// Names of the map types that it works on; none if it takes no map, or if that is not known.
    pub map_types: Option<Vec<String>>,
    pub attach_types: Vec<String>,
    pub reallocates_packet: bool,
    pub implicit_context: Option<bool>,
    pub implemented: bool,
    /// Program types whose providers implement it themselves.
    pub overridden_by: Vec<String>,
    pub address_published: Option<bool>,
    pub doc: Option<String>,
    pub note: Option<String>,
    pub unknown: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownFunction {
    pub name: String,
    pub module: String,
    pub provider: String,
    pub prototype: String,
    pub arguments: Vec<ShownArgument>,
    pub returns: ShownClass,
    pub doc: Option<String>,
    pub note: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownArgument {
    pub register: String,
    pub name: Option<String>,
    #[serde(flatten)]
    pub class: ShownClass,
    /// Whether it is written although its class only reads.
    pub written: bool,
}

/// An argument or return type.
#[derive(Debug, Serialize)]
pub(super) struct ShownClass {
    pub class: String,
    pub number: u32,
    pub meaning: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownMap {
    pub name: String,
    pub symbol: String,
    pub number: u32,
    pub key: String,
    pub value: String,
    pub max_entries: Option<String>,
    pub per_processor: bool,
    pub creatable: bool,
    /// Of extensions: who implements it, if that is known.
    pub extension: Option<String>,
    pub helpers: Vec<String>,
    pub doc: Option<String>,
    pub note: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShownProvider {
    pub id: String,
    pub doc: Option<String>,
    pub modules: Vec<String>,
    pub source: Source,
    pub program_types: Vec<String>,
    pub helpers: Vec<String>,
    pub functions: Vec<String>,
    pub structures: Vec<String>,
    pub map_types: Vec<String>,
}
