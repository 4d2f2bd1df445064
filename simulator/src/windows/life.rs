//! One load of a driver from its first request to the end: what user mode asks for, what the runtime does and answers, and
//! how everything goes away again (native module contract §2.3, §4.1, §4.2, §9).

use super::kernel::Kernel;
use super::mapping;
use super::nmr::Nmr;
use super::system::Module;
use crate::ebpf_result::EbpfResult;
use crate::error::SimulatorError;
use crate::failure::{Life, Sabotage};
use crate::request::RunReport;
use crate::rule::Violation;

impl Kernel {
    /// Loads the driver, lets `in_use` do something with its module if that works, and unloads it.
    pub fn live(
        &mut self,
        in_use: impl FnOnce(&mut Kernel) -> Result<RunReport, SimulatorError>,
    ) -> Result<(Life, Option<RunReport>), SimulatorError> {
        self.new_module_id();
        self.nmr = Nmr::default();
        self.system.at_failure = None;
        self.system.start = self.extent();
        if self.request.sabotage == Sabotage::ModuleIdTaken {
            let id = self.system.module_id;
            self.system.modules.push(Module {
                id,
                initialized: true,
                references: 1,
            });
        }
        let mut life = Life {
            before: self.snapshot(),
            ..Life::default()
        };

        let mut file = self.request.image.clone();
        if self.request.sabotage == Sabotage::OtherFileAuthorised {
            file.push(0);
        }
        let leave = (self.request.sabotage != Sabotage::NotAuthorised).then_some(file);
        self.prepare_load(leave.as_deref());

        life.load_module = Some(self.load_native_module(&mut life)?);
        let mut report = None;
        if life.load_module == Some(EbpfResult::Success) {
            match self.load_module() {
                Ok(()) => {
                    life.load_programs = Some(EbpfResult::Success);
                    if self.request.sabotage == Sabotage::LoadedTwice {
                        self.met();
                        life.load_programs = Some(EbpfResult::ObjectAlreadyExists);
                    }
                    life.between = self.snapshot();
                    report = Some(in_use(self)?);
                }
                Err(error) => {
                    self.met();
                    let (result, defect) = self.answer(error)?;
                    life.load_programs = Some(result);
                    life.defect = defect;
                    self.close_objects();
                }
            }
        }

        if self.request.sabotage == Sabotage::UnloadedInUse {
            // Somebody stops the service. Handles are closed while the driver waits.
            self.stop_driver()?;
        } else {
            if life.load_module == Some(EbpfResult::Success) {
                self.close_handles();
            }
            // The runtime unloads a driver whose programs are gone; user mode stops the service of one that did not get so
            // far.
            if self.system.driver_loaded {
                self.stop_driver()?;
            }
        }
        self.finish_load();
        if let Some(at_failure) = self.system.at_failure.take() {
            life.between = at_failure;
        } else if self.request.sabotage != Sabotage::None {
            return Err(SimulatorError::Request(format!(
                "nothing in this module can fail as {:?}",
                self.request.sabotage
            )));
        }
        life.after = self.snapshot();
        if life.after != life.before {
            return Err(SimulatorError::Process(format!(
                "loading and unloading left something: {:?}, not {:?}",
                life.after, life.before
            )));
        }
        Ok((life, report))
    }

    /// The request `LOAD_NATIVE_MODULE`: the driver is loaded, and the module that has attached by then is looked up. What
    /// the driver answered does not matter to it.
    fn load_native_module(&mut self, life: &mut Life) -> Result<EbpfResult, SimulatorError> {
        mapping::fill(&self.image, &mut self.memory)?;
        self.system.driver_loaded = true;
        life.driver_entry = self.start_driver()?;
        life.attach = self.nmr.attach_status;
        life.defect = self.nmr.defect.take();
        if life.driver_entry != 0 {
            self.unload_image()?;
        }
        let sabotage = self.request.sabotage;
        if sabotage == Sabotage::DetachedBeforeLoad {
            self.detach()?;
            self.met();
        }
        let Some(module) = self.attached_module() else {
            return Ok(EbpfResult::ObjectNotFound);
        };
        if std::mem::replace(&mut module.initialized, true) {
            return Ok(EbpfResult::ObjectAlreadyExists);
        }
        if sabotage == Sabotage::ModuleHandleFails {
            self.met();
            return Ok(EbpfResult::NoMemory);
        }
        module.references += 1;
        self.system.handles += 1;
        Ok(EbpfResult::Success)
    }

    /// Closes every handle: of the programs and maps, and of the module.
    pub fn close_handles(&mut self) {
        self.close_objects();
        self.system.handles -= 1;
        self.release_module();
    }

    /// Takes the driver's image out of memory.
    pub fn unload_image(&mut self) -> Result<(), SimulatorError> {
        self.system.driver_loaded = false;
        mapping::unload(&self.image, &mut self.memory)
    }

    /// What the runtime answers to a failure, and what is wrong with the module if that was the reason. Anything that it has
    /// no answer to is an error, and so are defects unless the request wants to see what becomes of them.
    fn answer(&mut self, error: SimulatorError) -> Result<(EbpfResult, Option<Violation>), SimulatorError> {
        if let Some(result) = self.system.made_to_fail.take() {
            return Ok((result, None));
        }
        match error {
            SimulatorError::Kernel { during, violation } if self.request.defects_are_answers => {
                match EbpfResult::at_load(violation.rule) {
                    Some(result) => Ok((result, Some(violation))),
                    None => Err(SimulatorError::Kernel { during, violation }),
                }
            }
            other => Err(other),
        }
    }
}
