//! Functions that programs call by a module's GUID and a name.

use super::place::Place;
use super::{Files, Loader, guid};
use crate::model::BtfFunction;
use crate::{Guid, PlatformError};

impl Loader<'_> {
    /// The functions of all files, sorted as the program information hash wants them (native module contract §4.8).
    pub(super) fn btf_functions(&self, files: &Files<'_>) -> Result<Vec<BtfFunction>, PlatformError> {
        let mut functions: Vec<BtfFunction> = Vec::new();
        for (file, content) in files {
            for from in &content.btf_resolved_function {
                let place = Place::new(file, "btf_resolved_function", &from.name);
                place.name("name", &from.name, self.limits.max_helper_name)?;
                let module = guid(&place, "module_guid", &from.module_guid)?;
                place.check(module != Guid::ZERO, "module_guid", || {
                    "is zero, which means a hole in a module's table".to_owned()
                })?;
                if let Some(earlier) = functions.iter().find(|f| f.module == module && f.name == from.name) {
                    let offered = format!("module {module} has this function already, from `{}`", earlier.provider);
                    return Err(place.error("name", offered));
                }
                functions.push(BtfFunction {
                    module,
                    name: from.name.clone(),
                    return_type: self.return_type(&place, &from.return_type)?,
                    arguments: self.argument_types(&place, &from.args)?,
                    flags: from.flags,
                    provider: content.provider.id.clone(),
                });
            }
        }
        functions.sort_by(|a, b| (a.module.0, &a.name).cmp(&(b.module.0, &b.name)));
        Ok(functions)
    }
}
