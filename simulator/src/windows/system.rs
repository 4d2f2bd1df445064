//! What of modules is in the system: service keys, authorisations, the provider's modules, objects and handles (native
//! module contract §4.1, §4.2, §9), and a snapshot of all of it.

use super::kernel::Kernel;
use super::registry::REGISTRY_PATH;
use crate::ebpf_result::EbpfResult;
use crate::error::SimulatorError;
use crate::failure::SystemState;
use bpf2sys_platform::{Guid, HashAlgorithm};

/// Id of the first module; user mode makes up one for each load.
const FIRST_MODULE: [u8; 16] = *b"\x01\x02\x03\x04\x05\x06\x47\x08\x89\x0a\x0b\x0c\x0d\x0e\x0f\x10";

/// A module that the provider knows.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Its id.
    pub id: [u8; 16],
    /// Whether it has been asked for by its id.
    pub initialized: bool,
    /// The attachment, handles of the module and its programs.
    pub references: usize,
}

/// Everything but the registrations, which are in [`super::nmr::Nmr`].
#[derive(Debug, Default)]
pub struct System {
    /// Id of the module that is being loaded.
    pub module_id: [u8; 16],
    loads: u8,
    services: Vec<String>,
    authorised: Vec<([u8; 16], Vec<u8>)>,
    /// Whether the driver's image is in memory.
    pub driver_loaded: bool,
    /// Modules that are attached.
    pub modules: Vec<Module>,
    /// Map objects, in order of creation.
    pub maps: Vec<String>,
    /// Paths to which maps are pinned.
    pub pins: Vec<String>,
    /// Program objects, in order of creation.
    pub programs: Vec<String>,
    /// Open handles.
    pub handles: usize,
    /// What the runtime answers to the failure that the request asked for.
    pub made_to_fail: Option<EbpfResult>,
    /// What there was when the request's failure was met.
    pub at_failure: Option<SystemState>,
}

impl Kernel {
    /// What there is now.
    pub fn snapshot(&self) -> SystemState {
        let guid = |id: [u8; 16]| Guid(id).to_string();
        let system = &self.system;
        SystemState {
            services: system.services.clone(),
            authorisations: system.authorised.iter().map(|a| guid(a.0)).collect(),
            drivers: system.driver_loaded.then(|| "module.sys".into()).into_iter().collect(),
            clients: usize::from(self.nmr.client.is_some()),
            bindings: usize::from(self.nmr.attached),
            modules: system.modules.iter().map(|m| guid(m.id)).collect(),
            maps: system.maps.clone(),
            pins: system.pins.clone(),
            programs: system.programs.clone(),
            handles: system.handles,
            helper_addresses: self.thunks.helpers(),
        }
    }

    /// Notes that the failure that the request asks for is met here.
    pub fn met(&mut self) {
        if self.system.at_failure.is_none() {
            self.system.at_failure = Some(self.snapshot());
        }
    }

    /// The error with which loading stops here, because the request makes something fail, and what the runtime answers.
    pub fn made_to_fail(&mut self, what: impl Into<String>, result: EbpfResult) -> SimulatorError {
        self.met();
        self.system.made_to_fail = Some(result);
        SimulatorError::Request(format!("{} was made to fail: {result}", what.into()))
    }

    /// The id that the next module gets.
    pub fn new_module_id(&mut self) {
        self.system.module_id = FIRST_MODULE;
        self.system.module_id[15] = self.system.module_id[15].wrapping_add(self.system.loads);
        self.system.loads = self.system.loads.wrapping_add(1);
    }

    /// What user mode does before it asks for a module: a service key with the module's id, and leave for the file.
    pub fn prepare_load(&mut self, authorised: Option<&[u8]>) {
        self.system.services.push(REGISTRY_PATH.into());
        let id = self.system.module_id;
        let digest = authorised.map(|file| (id, HashAlgorithm::Sha256.digest(file)));
        self.system.authorised.extend(digest);
    }

    /// Whether this file is the one that was authorised for the module's id.
    pub fn is_authorised(&self) -> bool {
        let digest = HashAlgorithm::Sha256.digest(&self.request.image);
        let entry = self.system.authorised.iter().find(|a| a.0 == self.system.module_id);
        entry.is_some_and(|a| a.1 == digest)
    }

    /// The provider's module with the id that is being loaded.
    pub fn attached_module(&mut self) -> Option<&mut Module> {
        let id = self.system.module_id;
        self.system.modules.iter_mut().find(|m| m.id == id)
    }

    /// Drops a reference to the module. The last one ends its attachment.
    pub fn release_module(&mut self) {
        let id = self.system.module_id;
        if let Some(module) = self.attached_module() {
            module.references = module.references.saturating_sub(1);
        }
        self.system.modules.retain(|m| m.id != id || m.references > 0);
    }

    /// Closes the handles of programs and maps, which then are no more, and takes back the pins that the load made: the
    /// runtime does that when a load fails, user mode when it needs the maps no longer.
    pub fn close_objects(&mut self) {
        // A program that is loaded refers to its module.
        for _ in 0..self.module.programs.len() {
            self.release_module();
        }
        let system = &mut self.system;
        system.handles -= system.programs.len() + system.maps.len();
        system.programs.clear();
        system.pins.clear();
        system.maps.clear();
        self.module.programs.clear();
        self.functions.clear();
        self.maps.list.clear();
        self.thunks.retire_helpers();
    }

    /// What user mode does in the end. The authorisation goes with time: it is good for about ten seconds.
    pub fn finish_load(&mut self) {
        self.system.services.clear();
        self.system.authorised.clear();
    }
}
