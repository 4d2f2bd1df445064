//! Judges an image by the rules of Windows, of memory integrity (HVCI) and of the eBPF for Windows runtime.
//!
//! Given: the bytes of an image, what is asked of it ([`Options`]), and what providers offer. Computed: a [`Report`] with
//! one row for each of [`Rule::all`]: pass, fail or not applicable, with the value that was found, the reason and the
//! source. Nothing is executed, and nothing but the bytes is looked at.
//!
//! A rule looks at one thing. What has to be read before it can be asked is a rule of its own, so that one mistake fails
//! one row, and rows that need what is broken say that they do not apply.

mod code;
mod debug;
mod dll;
mod driver;
mod exception;
mod guard;
mod headers;
mod imports;
mod load_config;
mod memory_integrity;
mod module;
mod options;
mod relocations;
mod report;
mod resources;
mod rule;
mod rules_page;
mod sections;
mod signature;
mod subject;

pub use options::{Finding, Options, Policy, SignatureFacts, UnknownName};
pub use report::{Report, Row, Status};
pub use rule::{Group, Rule, Scope, Weight};
pub use rules_page::rules_page;

use bpf2sys_platform::Platform;
use bpf2sys_simulator::image::{Image, ImageError};

use subject::Subject;

/// Judges the image in `bytes`, with `platform` as what is known of program types, helpers and maps.
///
/// # Errors
/// The bytes are no PE32+ image.
pub fn check(bytes: &[u8], options: &Options, platform: &Platform) -> Result<Report, ImageError> {
    let mut image = Image::parse(bytes)?;
    let section_count = image.sections.len();
    // Windows maps no more, and whoever looks for the section of an address looks at each.
    image.sections.truncate(sections::MAX_SECTIONS);
    let subject = Subject::new(&image, section_count, options, platform);
    Ok(Report::new(&subject))
}
