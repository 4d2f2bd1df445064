//! The tables that the runtime reads: what is in the module, by name and by number (native module contract §1.1, §7).

mod helper_tables;
mod layout;
mod map_references;
mod names;
mod section_names;
mod tables;

pub(crate) use helper_tables::HelperTables;
pub(crate) use names::check_names;
pub(crate) use section_names::{CODE_SECTION, program_sections};
pub(crate) use tables::{Tables, build};
