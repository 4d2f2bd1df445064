//! The platform as values.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde::Deserialize;

use crate::Guid;
use crate::description::{
    ArgumentType, DataFormat, Fate, Field, HelperDescription, ProgramTypeDescription, Provider, ReturnType, Signature,
    Structure,
};

/// Everything that the loaded providers offer.
#[derive(Clone, Debug)]
pub struct Platform {
    /// The providers, in the order of their files.
    pub providers: Vec<Provider>,
    /// Program types of all providers, in provider order.
    pub program_types: Vec<Arc<ProgramType>>,
    /// Section names that select program types which no provider describes.
    pub undescribed_sections: Vec<UndescribedSection>,
    /// General helpers: those that every program type has, unless it overrides them.
    pub helpers: Vec<Helper>,
    /// Functions of Windows modules that programs can call by name, whatever their type, by ascending module GUID and name.
    pub btf_functions: Vec<BtfFunction>,
    /// Map types, by ascending number.
    pub map_types: Vec<MapType>,
    /// Structures that programs use besides their contexts, in provider order.
    pub structures: Vec<Structure>,
    /// Argument types of helpers, by ascending number.
    pub argument_types: Vec<ArgumentType>,
    /// Return types of helpers, by ascending number.
    pub return_types: Vec<ReturnType>,
    /// Argument types of helpers that name a map: `ebpf_argument_type_t` numbers, ascending.
    pub map_argument_types: Vec<u32>,
    /// Limits of the runtime.
    pub limits: Limits,
    /// Options that eBPF for Windows gives its verifier.
    pub verifier_options: VerifierOptions,
}

/// A program type.
#[derive(Clone, Debug, Default)]
pub struct ProgramType {
    /// Descriptor name; part of the program information hash.
    pub name: String,
    /// Name of the GUID in the provider's header.
    pub symbol: String,
    /// Identity.
    pub guid: Guid,
    /// Number for `bpf_prog_type` interfaces.
    pub bpf_prog_type: u32,
    /// Whether programs may leak pointers.
    pub is_privileged: bool,
    /// The structure that programs get in `r1`.
    pub context: Context,
    /// Section names that select this program type.
    pub sections: Vec<AttachPoint>,
    /// Helpers of this program type only (ids from 65536).
    pub helpers: Vec<Helper>,
    /// Ids of general helpers that the provider implements itself.
    pub helper_overrides: Vec<u32>,
    /// Return values with their meaning.
    pub return_values: Vec<ReturnValue>,
    /// Id of the provider that offers it.
    pub provider: String,
    /// Other builds of the provider, with the helpers that differ there.
    pub variants: Vec<Variant>,
    /// What else is known of it.
    pub description: ProgramTypeDescription,
}

/// Helpers of a program type as another build of its provider declares them.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Which build.
    pub id: String,
    /// Prototypes that replace those with the same ids.
    pub helpers: Vec<Helper>,
    /// What to look out for.
    pub note: Option<String>,
}

/// Layout of a context structure. Offsets and sizes in bytes; an offset of -1 means absent.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Name of the C structure.
    pub struct_name: String,
    /// Size.
    pub size: i32,
    /// Offset of the pointer to the first byte of data.
    pub data: i32,
    /// Offset of the pointer past the last byte of data.
    pub data_end: i32,
    /// Offset of the pointer to metadata before the data.
    pub data_meta: i32,
    /// Whether the provider always passes a null pointer there, which the verifier takes for a pointer to metadata.
    pub data_meta_null: bool,
    /// Fields, as far as they are known.
    pub fields: Vec<Field>,
    /// The provider's own header that declares it.
    pub header: Option<String>,
    /// What the data is.
    pub data_content: Option<String>,
    /// How people write the data; absent if as bytes.
    pub data_format: Option<DataFormat>,
    /// What it is the context of.
    pub doc: Option<String>,
    /// What to look out for.
    pub note: Option<String>,
}

/// A section name prefix that selects a program type, and the attach type that goes with it.
#[derive(Clone, Debug, Default)]
pub struct AttachPoint {
    /// The prefix, compared byte by byte.
    pub prefix: String,
    /// Expected attach type.
    pub attach_type: Guid,
    /// Name of the attach type's GUID in the provider's header.
    pub symbol: String,
    /// Number for `bpf_attach_type` interfaces.
    pub bpf_attach_type: u32,
    /// Name of that number in headers.
    pub bpf_attach_type_name: Option<String>,
    /// How many programs can be attached, in the provider's terms: see [`AttachPoint::takes_several`].
    pub attach_capability: Option<String>,
    /// Kind of link that an attachment gives.
    pub link_type: Option<String>,
    /// When its programs run.
    pub doc: Option<String>,
    /// What to look out for.
    pub note: Option<String>,
}

impl AttachPoint {
    /// Whether several programs can be attached here and run one after another; `None` if that is not known.
    pub fn takes_several(&self) -> Option<bool> {
        self.attach_capability.as_ref().map(|terms| terms.starts_with("multi"))
    }
}

/// A section name prefix that selects a program type which no provider describes. Programs in such sections have no type, not that of
/// a shorter prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndescribedSection {
    /// The prefix, compared byte by byte.
    pub prefix: String,
    /// The program type.
    pub program_type: Guid,
}

/// A helper's prototype. Return and argument types are the numbers of `ebpf_return_type_t` and `ebpf_argument_type_t`.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // one flag each of the provider file
pub struct Helper {
    /// Id; general up to 65535, of one program type above.
    pub id: u32,
    /// Name as the provider registers it; part of the program information hash.
    pub name: String,
    /// Return type.
    pub return_type: u32,
    /// Argument types of `r1` to `r5`; 0 ends the list.
    pub arguments: [u32; 5],
    /// Whether packet pointers are invalid after the call.
    pub reallocate_packet: bool,
    /// Positions, 1 to 5, of arguments whose memory the helper writes although their type says that it only reads it. The
    /// verifier believes that memory unchanged.
    pub writes_readable: Vec<u8>,
    /// Map types for which it can succeed at run time; `None` when it takes no map.
    pub runtime_map_types: Option<Vec<u32>>,
    /// Whether it looks at the type of the map that it is given. If it does not, a map of a type that is not in
    /// `runtime_map_types` is taken for one that is, and the machine's memory is damaged.
    pub checks_map_type: bool,
    /// Whether the runtime implements it without a provider's override.
    pub default_implementation: bool,
    /// Whether every call fails, whatever its arguments are.
    pub always_fails: bool,
    /// Numbers, 1 to 5, of registers behind the end of `arguments` that it reads all the same.
    pub reads_unlisted: Vec<u8>,
    /// Writable memory of which it is known to write every byte; of other memory it may leave any part as it was.
    pub fills: Option<Fills>,
    /// What else is known of it.
    pub description: HelperDescription,
}

/// `EBPF_RETURN_TYPE_INTEGER_OR_NO_RETURN_IF_SUCCEED`, which only tail calls have.
const NO_RETURN_IF_SUCCEED: u32 = 2;

impl Helper {
    /// Whether another program takes over where it succeeds.
    pub fn is_tail_call(&self) -> bool {
        self.return_type == NO_RETURN_IF_SUCCEED
    }

    /// Positions, 1 to 5, of the registers that it reads: those of its prototype, of its C declaration, and of `reads_unlisted`.
    /// `None` if nobody has described how C declares it: a prototype alone, such as a registry has, does not tell.
    pub fn registers_read(&self) -> Option<impl Iterator<Item = u8> + '_> {
        let declared = declared(&self.arguments, &self.description.signature)?;
        Some((1..=5).filter(move |position| *position <= declared || self.reads_unlisted.contains(position)))
    }
}

/// How many registers a function reads by its prototype and its C declaration, if that is known.
fn declared(arguments: &[u32; 5], signature: &Signature) -> Option<u8> {
    signature.returns.as_ref()?;
    let listed = arguments.iter().take_while(|kind| **kind != 0).count();
    u8::try_from(listed.max(signature.parameters.len())).ok()
}

/// Memory that a helper writes to the last byte, whether it succeeds or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fills {
    /// Position, 1 to 5, of the pointer.
    pub argument: u8,
    /// Positions of two sizes: it fills the memory if they are equal. `None` if it always does.
    pub if_equal: Option<[u8; 2]>,
}

/// A function that a Windows module offers to programs by name. Return and argument types are numbers as in [`Helper`].
#[derive(Clone, Debug, Default)]
pub struct BtfFunction {
    /// Identity of the module.
    pub module: Guid,
    /// Name; part of the program information hash.
    pub name: String,
    /// Return type.
    pub return_type: u32,
    /// Argument types of `r1` to `r5`; 0 ends the list.
    pub arguments: [u32; 5],
    /// Flags; the verifier of eBPF for Windows refuses a function whose flags are not 0.
    pub flags: u32,
    /// Map types for which it can succeed at run time; `None` when it takes no map, or that is not known.
    pub runtime_map_types: Option<Vec<u32>>,
    /// Whether it looks at the type of the map that it is given, as for a [`Helper`].
    pub checks_map_type: bool,
    /// Writable memory that it fills, as for a [`Helper`].
    pub fills: Option<Fills>,
    /// Id of the provider that offers it.
    pub provider: String,
    /// What it does.
    pub doc: Option<String>,
    /// What to look out for.
    pub note: Option<String>,
    /// How C declares it.
    pub signature: Signature,
    /// The part of the generated headers that declares it.
    pub part: String,
}

impl BtfFunction {
    /// Positions of the registers that it reads, as [`Helper::registers_read`].
    pub fn registers_read(&self) -> Option<impl Iterator<Item = u8> + use<>> {
        Some(1..=declared(&self.arguments, &self.signature)?)
    }
}

/// A return value with its meaning.
#[derive(Clone, Debug)]
pub struct ReturnValue {
    /// Name of the constant.
    pub name: String,
    /// Value.
    pub value: i64,
    /// What the provider does on it.
    pub meaning: String,
    /// What becomes of the packet, if the context is one.
    pub fate: Option<Fate>,
    /// Whether no further program at the attach point runs after it.
    pub ends_chain: bool,
    /// What to look out for.
    pub note: Option<String>,
}

/// What the values of a map are, to the verifier.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum MapValueKind {
    /// Plain memory.
    Any,
    /// Maps.
    Map,
    /// Programs.
    Program,
}

/// A map type.
#[derive(Clone, Debug)]
pub struct MapType {
    /// Number.
    pub value: u32,
    /// Name of the constant in headers, e.g. `BPF_MAP_TYPE_PERCPU_ARRAY`.
    pub symbol: String,
    /// Short name, e.g. `percpu_array`.
    pub name: String,
    /// Whether the verifier treats keys as indices below `max_entries`.
    pub verifier_is_array: bool,
    /// What the verifier believes the values are.
    pub verifier_value_kind: MapValueKind,
    /// Whether the runtime keeps one value per processor.
    pub per_cpu: bool,
    /// What it is good for.
    pub doc: Option<String>,
    /// What to look out for.
    pub note: Option<String>,
    /// What the runtime asks of the definition of a map of this type; see [`MapType::check`].
    pub rules: MapRules,
    /// For a type that an extension implements: what is known of that.
    pub custom: Option<CustomMap>,
}

/// What the runtime asks of a map's definition when it creates the map (native module contract §4.3), and what must hold
/// so that it does no harm with the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRules {
    /// Whether maps of this type can be created at all.
    pub creatable: bool,
    /// Size of a key.
    pub key_size: SizeRule,
    /// Size of a value.
    pub value_size: SizeRule,
    /// Whether `max_entries` must be a power of two.
    pub max_entries_power_of_two: bool,
    /// What `max_entries` must be a multiple of; 1 if that does not matter.
    pub max_entries_multiple_of: NonZeroU32,
    /// Whether a template for inner maps must be found.
    pub inner_map_required: bool,
}

/// Which sizes of a key or value the runtime takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeRule {
    /// Any, 0 included.
    Any,
    /// This one or more.
    AtLeast(NonZeroU32),
    /// This one only.
    Exactly(u32),
}

/// A map type that an extension implements. A map of it can only be created while the extension is there.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CustomMap {
    /// Id of the provider; `None` if no file says which one offers the type.
    pub provider: Option<String>,
    /// Identity of the extension's map provider.
    pub provider_guid: Option<Guid>,
    /// The runtime's own map type that holds the values.
    pub base_map_type: Option<u32>,
    /// Whether the extension keeps other bytes in the map than a program's values, so that general map helpers refuse the
    /// map when a program calls them.
    pub updates_original_value: bool,
}

/// Limits of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Stack bytes of each frame.
    pub subprogram_stack_bytes: u32,
    /// Nested frames, the program's own included.
    pub max_call_frames: u32,
    /// Tail calls in a chain.
    pub max_tail_call_count: u32,
    /// Bytes of a packet.
    pub max_packet_bytes: u32,
    /// Size of a buffer for map, program and section names, the NUL included.
    pub object_name_bytes: u32,
    /// Largest id of a general helper; those of one program type start above.
    pub max_general_helper_id: u32,
    /// Bytes of one block of memory for a map.
    pub max_map_allocation_bytes: u64,
}

/// Options that eBPF for Windows gives its verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one flag each of the verifier's own option structure
pub struct VerifierOptions {
    /// Loops must be proven to end.
    pub check_for_termination: bool,
    /// A program must have an exit.
    pub must_have_exit: bool,
    /// Stricter pointer rules.
    pub strict: bool,
    /// Division by zero gives 0 instead of a rejection.
    pub allow_division_by_zero: bool,
    /// The entry state holds the context and stack.
    pub setup_constraints: bool,
    /// Conformance groups that programs may use.
    pub conformance_groups: Vec<String>,
}
