//! The kernel of Linux that objects are read for: contexts and headers of packets, and what the user says of its configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bpf2sys_bytecode::{
    Callee, FunctionIndex, FunctionKind, HashAlgorithm, Instruction, Kernel, Module, ReadError, SetError, Structure,
};
use serde::Deserialize;

use crate::sections::old_section;
use crate::unfold::unfold;
use crate::{linux_section, rules};

/// What a loader of Linux would be told besides the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Values of names of the kernel's configuration.
    pub configuration: BTreeMap<String, String>,
    /// Values of global variables, which a loader would write before it loads the object.
    pub variables: BTreeMap<String, String>,
}

/// An object can't be read as one for Linux.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// It is not valid.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A global variable can't have the value that it is to have.
    #[error("{0}")]
    Set(#[from] SetError),
}

/// Reads an object that was compiled for Linux, as a loader with these settings would.
///
/// # Errors
/// If it is not valid, or a setting does not fit it.
pub fn read_linux(
    bytes: &[u8],
    name: &str,
    hash: Option<HashAlgorithm>,
    settings: &Settings,
) -> Result<Module, LinuxError> {
    let kernel = Known(&settings.configuration);
    let mut module = bpf2sys_bytecode::read_linux(bytes, name, hash, &kernel)?;
    set_kinds(&mut module);
    for (variable, value) in &settings.variables {
        module.set_variable(variable, value)?;
    }
    // Texts that are compared with have their values now.
    unfold(&mut module, kernel.configuration("CONFIG_HZ"));
    Ok(module)
}

/// Functions that others call, in sections that mean nothing to Linux's loaders, are parts of programs.
fn set_kinds(module: &mut Module) {
    let called: BTreeSet<FunctionIndex> = (module.functions.iter().flat_map(|f| &f.instructions))
        .filter_map(|insn| match insn.op {
            Instruction::Call(Callee::Local(callee)) => Some(callee),
            _ => None,
        })
        .collect();
    let programs: Vec<FunctionIndex> = module.programs().map(|(index, _)| index).collect();
    let is_part = |index: &FunctionIndex| {
        let section = &module.function(*index).section;
        called.contains(index) && linux_section(section).or_else(|| old_section(section)).is_none()
    };
    let parts: Vec<FunctionIndex> = programs.iter().copied().filter(is_part).collect();
    if parts.len() < programs.len() {
        for part in parts {
            module.functions[part.index()].kind = FunctionKind::Subprogram;
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Structures {
    fixed: Vec<String>,
}

static STRUCTURES: LazyLock<Structures> = LazyLock::new(|| {
    toml::from_str(include_str!("../data/kernel.toml")).expect("the table is part of the program, and a test reads it")
});

/// What is known of the kernel.
struct Known<'a>(&'a BTreeMap<String, String>);

impl Kernel for Known<'_> {
    fn structure(&self, name: &str) -> Structure {
        match rules::structure(name) {
            Some(context) => Structure::Known(context.size),
            None if STRUCTURES.fixed.iter().any(|fixed| fixed == name) => Structure::Fixed,
            None => Structure::Unknown,
        }
    }

    fn member(&self, structure: &str, member: &str) -> Option<(u32, u32)> {
        let context = rules::structure(structure)?;
        let field = context
            .fields
            .iter()
            .find(|f| f.name == member || f.also.iter().any(|name| name == member));
        field.map(|field| (field.at, field.size))
    }

    fn has_enumerator(&self, enumeration: &str, name: &str) -> Option<bool> {
        match enumeration {
            "bpf_func_id" => {
                let helper = format!("bpf_{}", name.strip_prefix("BPF_FUNC_")?);
                Some(rules::has_helper_named(&helper))
            }
            "bpf_map_type" => Some(
                rules::maps()
                    .types
                    .iter()
                    .any(|t| t.name == name && t.windows.is_some()),
            ),
            "xdp_action" => Some(true),
            _ => None,
        }
    }

    fn configuration(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_and_headers_of_packets_are_known() {
        let none = BTreeMap::new();
        let kernel = Known(&none);
        assert_eq!(kernel.structure("bpf_sock_ops"), Structure::Known(224));
        assert_eq!(kernel.structure("iphdr"), Structure::Fixed);
        assert_eq!(kernel.structure("task_struct"), Structure::Unknown);
        assert_eq!(kernel.member("bpf_sock_ops", "remote_port"), Some((64, 4)));
        assert_eq!(kernel.member("bpf_sock_ops", "replylong"), Some((4, 16)));
        assert_eq!(kernel.member("xdp_md", "nothing"), None);
        assert_eq!(
            kernel.has_enumerator("bpf_func_id", "BPF_FUNC_ktime_get_boot_ns"),
            Some(true)
        );
        assert_eq!(kernel.has_enumerator("bpf_func_id", "BPF_FUNC_redirect"), Some(false));
        assert_eq!(kernel.has_enumerator("pid_type", "PIDTYPE_PID"), None);
    }
}
