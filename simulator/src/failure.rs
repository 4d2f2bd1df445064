//! What can be made to fail around a module, and what there is of it before, in between and afterwards: plain values that
//! serialize.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ebpf_result::EbpfResult;
use crate::rule::Violation;

/// A failure around the module while it is loaded or unloaded. The driver must answer it correctly, and nothing of the
/// module may be left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sabotage {
    /// None: everything works.
    #[default]
    None,
    /// `RtlQueryRegistryValues` fails with this status before it looks at the table.
    RegistryQueryFails(u32),
    /// The registry value `NpiModuleId` is missing.
    ModuleIdMissing,
    /// It has type `REG_SZ`.
    ModuleIdWrongType,
    /// It has 15 bytes.
    ModuleIdWrongLength,
    /// It has 17 bytes.
    ModuleIdTooLong,
    /// `NmrRegisterClient` fails with this status.
    RegisterClientFails(u32),
    /// No provider is registered, so that the driver's attach callback is never called.
    ProviderMissing,
    /// `NmrClientAttachProvider` fails with this status, before the provider is asked.
    AttachProviderFails(u32),
    /// The provider has no memory for the module.
    AttachNoMemory,
    /// The file was not authorised.
    NotAuthorised,
    /// Another file was authorised for the module's id.
    OtherFileAuthorised,
    /// A module with the same id is attached already.
    ModuleIdTaken,
    /// The driver was attached and detached again before the module was asked for.
    DetachedBeforeLoad,
    /// The handle for the module cannot be made.
    ModuleHandleFails,
    /// The map that would be created after this many fails for want of memory.
    MapFails(usize),
    /// The path that a map is to be pinned to is taken by a map of another definition.
    PinTaken,
    /// The program object after this many cannot be made for want of memory.
    ProgramFails(usize),
    /// The extension of this program's type is not attached. Programs count from 0.
    ExtensionMissing(usize),
    /// The provider does not have this helper.
    HelperMissing(u32),
    /// No provider of BTF-resolved functions is attached.
    BtfProviderMissing,
    /// The provider's helpers have changed since the module was made, so that the hash of their prototypes differs.
    HelpersChanged,
    /// Maps and programs are asked for once more.
    LoadedTwice,
    /// The driver is unloaded while handles of its programs are open.
    UnloadedInUse,
    /// `NmrDeregisterClient` is done when it returns.
    DeregisteredAtOnce,
}

/// How loading went, and what was there before, in between and afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// `NTSTATUS` that `DriverEntry` returned.
    pub driver_entry: u32,
    /// `NTSTATUS` that the driver's attach callback was given by `NmrClientAttachProvider`, if it called that.
    pub attach: Option<u32>,
    /// Result of the first request (`LOAD_NATIVE_MODULE`).
    pub load_module: Option<EbpfResult>,
    /// Result of the second request (`LOAD_NATIVE_PROGRAMS`), which follows if the first succeeds.
    pub load_programs: Option<EbpfResult>,
    /// What is wrong with the module itself, if that is why it was refused.
    pub defect: Option<Violation>,
    /// What there was before.
    pub before: SystemState,
    /// What there was when the failure was met, or, without one, when the module was in use.
    pub between: SystemState,
    /// What there was after the last handle was closed.
    pub after: SystemState,
}

/// What of a module can be left in the system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemState {
    /// Service keys with a module id in them.
    pub services: Vec<String>,
    /// Module ids for which a file is authorised.
    pub authorisations: Vec<String>,
    /// Images of drivers in memory.
    pub drivers: Vec<String>,
    /// Clients that are registered with the network module registrar.
    pub clients: usize,
    /// Bindings of them to the provider.
    pub bindings: usize,
    /// Module ids that the provider knows.
    pub modules: Vec<String>,
    /// Map objects.
    pub maps: Vec<String>,
    /// Paths to which maps are pinned.
    pub pins: Vec<String>,
    /// Program objects.
    pub programs: Vec<String>,
    /// Open handles of modules, maps and programs.
    pub handles: usize,
    /// Addresses of helpers that programs were given.
    pub helper_addresses: usize,
}

impl fmt::Display for SystemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.services.len(), "service key"),
            (self.authorisations.len(), "authorisation"),
            (self.drivers.len(), "driver"),
            (self.clients, "NMR client"),
            (self.bindings, "binding"),
            (self.modules.len(), "module"),
            (self.maps.len(), "map"),
            (self.pins.len(), "pin"),
            (self.programs.len(), "program"),
            (self.handles, "handle"),
            (self.helper_addresses, "helper address"),
        ];
        let mut separator = "";
        for (count, what) in counts.into_iter().filter(|c| c.0 > 0) {
            let plural = match what {
                _ if count == 1 => "",
                "helper address" => "es",
                _ => "s",
            };
            write!(f, "{separator}{count} {what}{plural}")?;
            separator = ", ";
        }
        if separator.is_empty() {
            f.write_str("nothing")?;
        }
        Ok(())
    }
}
