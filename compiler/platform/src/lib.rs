//! What Windows offers eBPF programs: program types with their contexts, sections and helpers, and map types.
//!
//! Given: provider descriptions in TOML; those of eBPF for Windows, XDP for Windows and ntosebpfext are built in.
//! Computed: a [`Platform`] that answers which program type a section name means, what a helper id is for a program
//! type, and the program information hash that the runtime compares.
//! No program type is named in code.

mod description;
mod error;
mod hash;
mod header;
mod linux;
mod load;
mod lookup;
mod map_rules;
mod model;
pub mod registry;
mod schema;

pub use bpf2sys_bytecode::{Guid, GuidError, HashAlgorithm};
pub use description::{
    ArgumentClass, ArgumentType, ByteOrder, DataFormat, Enumerator, Fate, Field, FieldKind, Format, HelperDescription,
    Parameter, ProgramTypeDescription, Provider, ReturnClass, ReturnType, Signature, Source, Structure,
};
pub use error::{Conflict, Difference, PlatformError, UnknownCallee};
pub use header::Headers;
pub use linux::linux_helper_name;
pub use map_rules::MapRefusal;
pub use model::{
    AttachPoint, BtfFunction, Context, CustomMap, Fills, Helper, Limits, MapRules, MapType, MapValueKind, Platform,
    ProgramType, ReturnValue, SizeRule, UndescribedSection, Variant, VerifierOptions,
};
