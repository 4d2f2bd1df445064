//! What a call that leaves the module does with its arguments, whoever is called: a helper, or a function of a Windows
//! module. Both are called alike (native module contract §6.4), so one set of rules holds for both.

use bpf2sys_bytecode::{Callee, Module};
use bpf2sys_platform::{BtfFunction, Platform, ProgramType};

/// The arguments of a callee outside the module.
pub(crate) struct Prototype<'a> {
    /// Argument types of `r1` to `r5`, numbers of `ebpf_argument_type_t`; 0 ends the list.
    pub arguments: [u32; 5],
    /// Positions, 1 to 5, of arguments that are written although their type says read.
    pub writes_readable: &'a [u8],
}

/// The prototype of a callee outside the module that a program of this type can call; `None` for a function of the module
/// and for what the platform does not have.
pub(crate) fn prototype<'a>(
    callee: Callee,
    module: &Module,
    platform: &'a Platform,
    program_type: &'a ProgramType,
) -> Option<Prototype<'a>> {
    match callee {
        Callee::Helper(id) => {
            let helper = platform.helper(program_type, u32::try_from(id).ok()?)?;
            Some(Prototype {
                arguments: helper.arguments,
                writes_readable: &helper.writes_readable,
            })
        }
        Callee::Btf(function) => {
            let named = module.btf_functions.get(function.index())?;
            Some(Prototype {
                arguments: offered(named, platform)?.arguments,
                writes_readable: &[],
            })
        }
        Callee::Local(_) => None,
    }
}

/// The platform's function that a module means.
pub(crate) fn offered<'a>(named: &bpf2sys_bytecode::BtfFunction, platform: &'a Platform) -> Option<&'a BtfFunction> {
    platform.btf_function(named.module, &named.name)
}
