//! Objects that were compiled for Linux.
//!
//! An eBPF object says nowhere which system it was made for, and the two give the same numbers other meanings: of helpers, of map types, of
//! return values, of bytes of the context. [`recognize`] tells them apart by their marks.

mod calls;
mod contexts;
mod edit;
mod examine;
mod kernel;
mod liveness;
mod platform;
mod recognize;
mod results;
mod retarget;
mod rules;
mod sections;
mod sequence;
mod unfold;

pub use examine::{Examined, Level, examine};
pub use kernel::{LinuxError, Settings, read_linux};
pub use platform::linux;
pub use recognize::{Recognition, System, recognize};
pub use retarget::{Fate, Retargeted, Subject, Use, outline, retarget};
pub use sections::{LinuxSection, linux_section};
