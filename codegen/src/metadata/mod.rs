//! The tables that the runtime reads: what is in the module, by name and by number (native module contract §1.1, §7).

mod btf_tables;
mod checks;
mod helper_tables;
mod layout;
mod map_checks;
mod map_references;
pub(crate) mod map_types;
mod section_names;
mod slots;
mod tables;
mod value_checks;

pub(crate) use btf_tables::BtfTables;
pub(crate) use checks::check_module;
pub(crate) use helper_tables::HelperTables;
pub(crate) use section_names::{CODE_SECTION, program_sections};
pub(crate) use tables::{Tables, build};
