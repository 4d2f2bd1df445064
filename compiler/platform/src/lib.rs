//! What Windows offers eBPF programs: program types with their contexts, sections and helpers, and map types.
//!
//! Given: provider descriptions in TOML; those of eBPF for Windows, XDP for Windows and ntosebpfext are built in.
//! Computed: a [`Platform`] that answers which program type a section name means, what a helper id is for a program
//! type, and the program information hash that the runtime compares.
//! No program type is named in code.

mod error;
mod guid;
mod hash;
mod load;
mod lookup;
mod model;
mod schema;

pub use error::{PlatformError, UnknownHelper};
pub use guid::{Guid, GuidError};
pub use model::{
    AttachPoint, Context, ContextField, Helper, Limits, MapType, MapValueKind, Platform, ProgramType, ReturnValue,
    Variant, VerifierOptions,
};
