//! Functions that programs call by a module's GUID and a name.

use std::collections::HashSet;

use super::join::{Joined, Source};
use super::place::Place;
use super::prototype::check_map_types;
use super::{Loader, describe, guid};
use crate::model::{BtfFunction, MapType};
use crate::{Guid, PlatformError, schema};

impl Loader<'_> {
    /// Joins the functions of a file to those of the files before it.
    pub(super) fn join_functions<'a>(
        &self,
        file: &str,
        content: &'a schema::File,
        source: Source<'a>,
        map_types: &[MapType],
        joined: &mut Joined<'a>,
    ) -> Result<(), PlatformError> {
        let mut names = HashSet::new();
        for from in &content.btf_resolved_function {
            let place = Place::new(file, "btf_resolved_function", &from.name);
            place.name("name", &from.name, self.limits.max_helper_name)?;
            let module = guid(&place, "module_guid", &from.module_guid)?;
            place.check(module != Guid::ZERO, "module_guid", || {
                "is zero, which means a hole in a module's table".to_owned()
            })?;
            place.check(names.insert((module, &from.name)), "name", || {
                format!("module {module} has this function already")
            })?;
            check_map_types(
                &place,
                from.runtime_map_types.as_deref(),
                from.checks_map_type,
                map_types,
            )?;
            let function = BtfFunction {
                module,
                name: from.name.clone(),
                return_type: self.return_type(&place, &from.return_type)?,
                arguments: self.argument_types(&place, &from.args)?,
                flags: from.flags,
                runtime_map_types: from.runtime_map_types.clone(),
                checks_map_type: from.checks_map_type,
                fills: self.fills(&place, from.fills.as_ref(), &from.args)?,
                provider: content.provider.id.clone(),
                doc: from.doc.clone(),
                note: from.note.clone(),
                signature: describe::signature(&place, from.returns.as_ref(), &from.parameters)?,
                part: describe::own_part(&place, None, &content.provider)?,
            };
            joined.add_function(function, source);
        }
        Ok(())
    }
}
