//! Which providers are there: those of program types, of BTF-resolved functions and of custom map types, and what their
//! coming and going means for programs that are loaded (native module contract §4.4, §4.7, §4.8).
//!
//! A provider that comes back has its functions at other addresses. If it has other prototypes than before, programs that
//! state a hash of them do not run with it.

use std::sync::Arc;

use bpf2sys_platform::{Guid, Platform, ProgramType};

use super::kernel::Kernel;
use crate::error::SimulatorError;
use crate::request::{Provider, ProviderEvent};

/// A provider, by what it is registered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registered {
    ProgramType(Guid),
    BtfModule(Guid),
    MapType(u32),
}

/// The providers that are not there. All that the platform knows are, otherwise.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    absent: Vec<Registered>,
}

impl Providers {
    /// All but those of `absent`.
    pub fn without(absent: &[Provider], platform: &Platform) -> Result<Providers, SimulatorError> {
        let absent = absent.iter().map(|provider| registered(provider, platform));
        Ok(Providers {
            absent: absent.collect::<Result<_, _>>()?,
        })
    }

    /// Whether the provider of a program type is there.
    pub fn has_program_type(&self, program_type: &ProgramType) -> bool {
        !self.absent.contains(&Registered::ProgramType(program_type.guid))
    }

    /// Whether there is a provider of functions of a module.
    pub fn has_btf_module(&self, platform: &Platform, module: Guid) -> bool {
        platform.btf_functions.iter().any(|f| f.module == module)
            && !self.absent.contains(&Registered::BtfModule(module))
    }

    /// Whether there is a provider of a map type.
    pub fn has_map_type(&self, platform: &Platform, map_type: u32) -> bool {
        let custom = platform.map_type(map_type).and_then(|t| t.custom.as_ref());
        custom.is_some_and(|c| c.provider.is_some()) && !self.absent.contains(&Registered::MapType(map_type))
    }
}

fn registered(provider: &Provider, platform: &Platform) -> Result<Registered, SimulatorError> {
    let unknown = |what: String| SimulatorError::Request(format!("no provider offers {what}"));
    match provider {
        Provider::ProgramType(name) => {
            let mut types = platform.program_types.iter();
            let found = types.find(|t| t.name == *name).map(|t| Registered::ProgramType(t.guid));
            found.ok_or_else(|| unknown(format!("program type {name}")))
        }
        Provider::BtfModule(text) => {
            let bad = |e| SimulatorError::Request(format!("module {text:?}: {e}"));
            let module: Guid = text.parse().map_err(bad)?;
            let found = platform.btf_functions.iter().any(|f| f.module == module);
            found
                .then_some(Registered::BtfModule(module))
                .ok_or_else(|| unknown(format!("functions of module {module}")))
        }
        Provider::MapType(number) => {
            let custom = platform.map_type(*number).is_some_and(|t| t.custom.is_some());
            custom
                .then_some(Registered::MapType(*number))
                .ok_or_else(|| unknown(format!("map type {number}")))
        }
    }
}

impl Kernel {
    /// Lets providers come and go, in this order.
    pub(super) fn provider_events(&mut self, events: &[ProviderEvent]) -> Result<(), SimulatorError> {
        for event in events {
            let provider = match event {
                ProviderEvent::Detach(p) | ProviderEvent::Attach(p) | ProviderEvent::AttachChanged(p) => p,
            };
            let provider = registered(provider, &self.original_platform)?;
            if let Registered::MapType(number) = provider
                && self.maps.list.iter().any(|m| m.kind() == number)
            {
                return Err(SimulatorError::Request(format!(
                    "the provider of map type {number} stays as long as there are maps of it"
                )));
            }
            self.providers.absent.retain(|&p| p != provider);
            match event {
                ProviderEvent::Detach(_) => {
                    self.providers.absent.push(provider);
                    continue;
                }
                ProviderEvent::Attach(_) => self.set_prototypes(provider, false),
                ProviderEvent::AttachChanged(_) => self.set_prototypes(provider, true),
            }
            for program in 0..self.module.programs.len() {
                if self.uses(program, provider) {
                    self.reload_addresses(program)?;
                    self.module.programs[program].hash_is_right = self.hash_is_right(program);
                }
            }
        }
        Ok(())
    }

    fn uses(&self, program: usize, provider: Registered) -> bool {
        let program = &self.module.programs[program];
        match provider {
            Registered::ProgramType(guid) => program.program_type.guid == guid,
            Registered::BtfModule(module) => program.btf_functions.iter().flatten().any(|f| f.module == module),
            Registered::MapType(_) => false,
        }
    }

    /// The provider's prototypes are those that the platform files give, or others.
    fn set_prototypes(&mut self, provider: Registered, changed: bool) {
        match provider {
            Registered::ProgramType(guid) => {
                let original = self.original_platform.program_types.iter().find(|t| t.guid == guid);
                let place = self.platform.program_types.iter_mut().find(|t| t.guid == guid);
                if let (Some(original), Some(place)) = (original, place) {
                    *place = Arc::clone(original);
                    if changed {
                        // The descriptor's name is hashed for every program of the type.
                        Arc::make_mut(place).name.push_str("_changed");
                    }
                }
            }
            Registered::BtfModule(module) => {
                let originals = self.original_platform.btf_functions.iter();
                for (place, original) in self.platform.btf_functions.iter_mut().zip(originals) {
                    if original.module == module {
                        place.flags = original.flags ^ u32::from(changed);
                    }
                }
            }
            Registered::MapType(_) => {}
        }
    }

    /// Why the runtime would not invoke a program now: the provider of its type is not there, or has other prototypes than
    /// the program was made for.
    pub(super) fn without_provider(&self, program: usize) -> Option<String> {
        let loaded = &self.module.programs[program];
        if !self.providers.has_program_type(&loaded.program_type) {
            let name = &loaded.program_type.name;
            return Some(format!("the provider of program type {name} is detached"));
        }
        (!loaded.hash_is_right).then(|| "its program information hash is no longer the right one".into())
    }

    /// Whether the hash that a program states, if it does, is the one of the prototypes that providers have now.
    fn hash_is_right(&self, program: usize) -> bool {
        let loaded = &self.module.programs[program];
        let Some((algorithm, stated)) = &loaded.info_hash else {
            return true;
        };
        let mut types = self.platform.program_types.iter();
        let Some(program_type) = types.find(|t| t.guid == loaded.program_type.guid) else {
            return false;
        };
        let ids = loaded.helpers.iter().flatten().map(|h| h.id);
        let functions = loaded.btf_functions.iter().flatten();
        let functions = functions.map(|f| (f.module, f.name.as_str()));
        let platform = &self.platform;
        let hash = platform.program_info_hash(*algorithm, program_type, ids, functions);
        hash.as_ref() == Ok(stated)
    }

    /// Why the runtime would not run a program now, not even after a tail call: a provider of functions of it is not there.
    pub(super) fn without_functions(&self, program: usize) -> Option<String> {
        let mut functions = self.module.programs[program].btf_functions.iter().flatten();
        let missing = functions.find(|f| !self.providers.has_btf_module(&self.platform, f.module))?;
        Some(format!(
            "the provider of functions of module {} is detached",
            missing.module
        ))
    }
}
