//! What the platform has instead of what a program calls, as data: the text is made from it where it is shown.

use bpf2sys_bytecode as bytecode;
use bpf2sys_platform::{Guid, Helper, Platform, ProgramType, linux_helper_name};

use crate::error::RejectionReason;
use crate::nearest::{OFFERED, by_distance, is_near};
use crate::prototype::offered;

/// A helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperName {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// A helper that a program type does not have, and what there is instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingHelper {
    /// The id in the call.
    pub id: i32,
    /// Name of the program type.
    pub program_type: String,
    /// What the id means on Linux.
    pub linux: Option<&'static str>,
    /// Program types that have a helper of their own with this id, with its name.
    pub elsewhere: Vec<(String, String)>,
    /// The helper that is called on Windows as the id is on Linux, if the program type has it.
    pub same_name: Option<HelperName>,
    /// Those of the program type's helpers whose name, or else whose id, is nearest.
    pub nearest: Vec<HelperName>,
}

/// A helper that no program of the type can call, because neither the runtime nor the type's provider implements it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotImplemented {
    /// The helper.
    pub helper: HelperName,
    /// Name of the program type.
    pub program_type: String,
    /// Program types whose provider implements it.
    pub implemented_for: Vec<String>,
}

/// A function that no provider offers, and what there is instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFunction {
    /// The module in the call.
    pub module: Guid,
    /// The function's name.
    pub name: String,
    /// What the module offers, the nearest names first.
    pub offered: Vec<String>,
    /// Functions of other modules with a name like it.
    pub elsewhere: Vec<(Guid, String)>,
    /// All modules that offer something, ascending.
    pub modules: Vec<Guid>,
}

/// Why a program of this type cannot call the helper with this id, if so.
pub(crate) fn helper(id: i32, program_type: &ProgramType, platform: &Platform) -> Option<RejectionReason> {
    let known = u32::try_from(id).ok().and_then(|id| platform.helper(program_type, id));
    let Some(helper) = known else {
        return Some(RejectionReason::UnknownHelper(Box::new(missing_helper(
            id,
            program_type,
            platform,
        ))));
    };
    if program_type.implements(helper) {
        return None;
    }
    if helper.description.address_published == Some(false) {
        return Some(RejectionReason::NoAddress {
            helper: HelperName::of(helper),
            program_type: program_type.name.clone(),
        });
    }
    let by = platform.program_types.iter().filter(|t| t.implements(helper));
    Some(RejectionReason::NotImplemented(Box::new(NotImplemented {
        helper: HelperName::of(helper),
        program_type: program_type.name.clone(),
        implemented_for: by.map(|t| t.name.clone()).collect(),
    })))
}

fn missing_helper(id: i32, program_type: &ProgramType, platform: &Platform) -> MissingHelper {
    let number = u32::try_from(id).unwrap_or(0);
    let general = number <= platform.limits.max_general_helper_id;
    let all = if general {
        &platform.helpers
    } else {
        &program_type.helpers
    };
    let usable = all.iter().filter(|h| program_type.implements(h));
    let linux = linux_helper_name(number);
    let nearest = if let Some(name) = linux {
        by_distance(name, usable, |h| &h.name)
    } else {
        let mut by_id: Vec<&Helper> = usable.collect();
        by_id.sort_by_key(|h| h.id.abs_diff(number));
        by_id
    };
    let elsewhere = platform.program_types.iter().filter_map(|t| {
        let helper = t.helpers.iter().find(|h| h.id == number)?;
        Some((t.name.clone(), helper.name.clone()))
    });
    MissingHelper {
        id,
        program_type: program_type.name.clone(),
        linux,
        elsewhere: elsewhere.collect(),
        same_name: nearest
            .iter()
            .find(|h| Some(h.name.as_str()) == linux)
            .map(|h| HelperName::of(h)),
        nearest: nearest.into_iter().take(OFFERED).map(HelperName::of).collect(),
    }
}

/// Why no program can call a function of a Windows module, if so.
pub(crate) fn function(named: &bytecode::BtfFunction, platform: &Platform) -> Option<RejectionReason> {
    let (module, name) = (named.module, named.name.clone());
    match offered(named, platform) {
        Some(function) if function.flags == 0 => None,
        Some(function) => Some(RejectionReason::FunctionFlags {
            module,
            name,
            flags: function.flags,
        }),
        None => Some(RejectionReason::UnknownFunction(Box::new(missing_function(
            named, platform,
        )))),
    }
}

fn missing_function(named: &bytecode::BtfFunction, platform: &Platform) -> MissingFunction {
    let all = platform.btf_functions.iter();
    let of_module = all.clone().filter(|f| f.module == named.module);
    let elsewhere = all
        .clone()
        .filter(|f| f.module != named.module && is_near(&named.name, &f.name));
    let mut modules: Vec<Guid> = all.map(|f| f.module).collect();
    modules.dedup();
    MissingFunction {
        module: named.module,
        name: named.name.clone(),
        offered: by_distance(&named.name, of_module, |f| &f.name)
            .into_iter()
            .take(OFFERED)
            .map(|f| f.name.clone())
            .collect(),
        elsewhere: by_distance(&named.name, elsewhere, |f| &f.name)
            .into_iter()
            .take(OFFERED)
            .map(|f| (f.module, f.name.clone()))
            .collect(),
        modules,
    }
}

impl HelperName {
    fn of(helper: &Helper) -> HelperName {
        HelperName {
            id: helper.id,
            name: helper.name.clone(),
        }
    }
}
