//! What of modules is in the system: service keys, authorisations, the provider's modules, objects and handles (native
//! module contract §4.1, §4.2, §9), and a snapshot of all of it.

use bpf2sys_platform::{Guid, HashAlgorithm};
use zerocopy::FromZeros;

use super::driver::Driver;
use super::kernel::Kernel;
use super::maps::NotCreated;
use super::nmr::Nmr;
use super::registry::REGISTRY_PATH;
use crate::ebpf_result::EbpfResult;
use crate::error::SimulatorError;
use crate::failure::SystemState;
use crate::tables::MapDefinition;

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
    /// How much there was when the current load began.
    pub start: Extent,
}

/// How much there is of what loads add to. A load ends before those that began before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    services: usize,
    authorised: usize,
    map_objects: usize,
    pins: usize,
    program_objects: usize,
    programs: usize,
    maps: usize,
    loads: usize,
    handles: usize,
}

/// What is its own of a load that waits while another is current.
pub struct Waiting {
    nmr: Nmr,
    driver: Driver,
    module_id: [u8; 16],
    start: Extent,
    load: usize,
}

impl Kernel {
    /// How much there is now.
    pub fn extent(&self) -> Extent {
        let system = &self.system;
        Extent {
            services: system.services.len(),
            authorised: system.authorised.len(),
            map_objects: system.maps.len(),
            pins: system.pins.len(),
            program_objects: system.programs.len(),
            programs: self.module.programs.len(),
            maps: self.maps.list.len(),
            loads: self.module.loads.len(),
            handles: system.handles,
        }
    }

    /// Makes way for the next load of the image, beside this one.
    pub fn next_load(&mut self) -> Waiting {
        let waiting = Waiting {
            nmr: std::mem::take(&mut self.nmr),
            driver: std::mem::take(&mut self.driver),
            module_id: self.system.module_id,
            start: self.system.start,
            load: self.load,
        };
        self.system.driver_loaded = false;
        self.load += 1;
        self.image = self.images[self.load].clone();
        waiting
    }

    /// Goes on with a load that has waited.
    pub fn previous_load(&mut self, waiting: Waiting) -> Result<(), SimulatorError> {
        self.nmr = waiting.nmr;
        self.driver = waiting.driver;
        self.system.module_id = waiting.module_id;
        self.system.start = waiting.start;
        self.system.driver_loaded = true;
        self.be(waiting.load)
    }

    /// Pins the maps that the request wants pinned before anything is loaded.
    pub fn pin_before(&mut self) -> Result<(), SimulatorError> {
        for pinned in std::mem::take(&mut self.request.pinned) {
            let name = pinned.name;
            let bad = |what: String| SimulatorError::Request(format!("pinned map {name}: {what}"));
            let mut definition = MapDefinition::new_zeroed();
            definition.map_type.set(pinned.map_type);
            definition.key_size.set(pinned.key_size);
            definition.value_size.set(pinned.value_size);
            definition.max_entries.set(pinned.max_entries);
            definition.pinning.set(1);
            let custom = self.custom(&name, &definition)?;
            let map = self
                .maps
                .create(&mut self.memory, &name, definition, pinned.inner, custom);
            let map = map.map_err(|e| match e {
                NotCreated::Refused(violation) => bad(violation.to_string()),
                NotCreated::NoMemory => bad("there is no room for it".into()),
            })?;
            if self.maps.list.iter().any(|other| other.pin == map.pin) {
                return Err(bad("another one is pinned there".into()));
            }
            self.system.maps.push(name.clone());
            self.system.pins.extend(map.pin.clone());
            self.maps.list.push(map);
            let index = self.maps.list.len() - 1;
            for (key, value) in pinned.entries {
                let stored = self.maps.update(&mut self.memory, index, &key.0, &value.0, 0, true);
                stored.map_err(|code| bad(format!("the runtime answers {code} to key {key}")))?;
            }
        }
        Ok(())
    }

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
        let start = self.system.start;
        for _ in start.programs..self.module.programs.len() {
            self.release_module();
        }
        let system = &mut self.system;
        // What is left is the handle of the module.
        system.handles = start.handles + 1;
        system.programs.truncate(start.program_objects);
        system.pins.truncate(start.pins);
        system.maps.truncate(start.map_objects);
        for gone in self.module.programs.drain(start.programs..) {
            self.functions.remove(&gone.function);
        }
        self.module.loads.truncate(start.loads);
        self.maps.list.truncate(start.maps);
        self.thunks.retire_helpers(start.programs);
    }

    /// What user mode does in the end. The authorisation goes with time: it is good for about ten seconds.
    pub fn finish_load(&mut self) {
        let start = self.system.start;
        self.system.services.truncate(start.services);
        self.system.authorised.truncate(start.authorised);
    }
}
