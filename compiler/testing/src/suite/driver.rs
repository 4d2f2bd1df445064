//! What a test file is about: a driver, and what is known of its programs and maps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bpf2sys_platform::{Guid, Platform, ProgramType};
use bpf2sys_simulator::{ObjectFile, ProcessorKind, RunRequest, SimulatorError, describe};

use super::file::Suite;
use super::parse::machine;
use crate::values::{MapShape, ModuleTypes, maps_from_json};

/// What a driver is made of.
pub struct Parts {
    /// The image.
    pub image: Vec<u8>,
    /// The object, if the interpreter is to run it, too.
    pub interpret: Option<ObjectFile>,
    /// The types of the object, if it is known.
    pub types: Option<ModuleTypes>,
    /// What executes the image's code.
    pub processor: ProcessorKind,
    /// All providers.
    pub platform: Platform,
    /// Descriptions of those that are not built in.
    pub platform_files: Vec<(String, String)>,
    /// Where the names of a test file's files start.
    pub folder: PathBuf,
    /// The code of an error.
    pub code: fn(&SimulatorError) -> &'static str,
}

/// A program of a driver.
pub(super) struct Program {
    pub name: String,
    /// Its type, if the platform has it.
    pub of: Option<Arc<ProgramType>>,
}

/// A driver that tests are about.
pub struct Driver {
    pub(super) parts: Parts,
    pub(super) programs: Vec<Program>,
    pub(super) shapes: Vec<MapShape>,
}

impl Driver {
    /// What is known of a driver.
    ///
    /// # Errors
    /// It can't be read, or a map has no such records.
    pub fn new(mut parts: Parts, suite: &Suite) -> Result<Driver, String> {
        let module = describe::describe(&parts.image).map_err(|e| e.to_string())?.module;
        let (programs, maps) = module.map_or_else(Default::default, |module| (module.programs, module.maps));
        let shapes: Vec<MapShape> = maps.iter().map(MapShape::from).collect();
        for (map, of) in &suite.event_types {
            let types = parts.types.get_or_insert_default();
            types
                .set_record_type(&shapes, map, of)
                .map_err(|e| format!("`event_types`: {e}"))?;
        }
        let programs = programs.into_iter().map(|program| {
            let guid = program.program_type.parse::<Guid>().ok();
            let types = &parts.platform.program_types;
            Program {
                of: types.iter().find(|known| Some(known.guid) == guid).cloned(),
                name: program.name,
            }
        });
        Ok(Driver {
            programs: programs.collect(),
            parts,
            shapes,
        })
    }

    /// What is known of its types.
    pub(super) fn types(&self) -> Option<&ModuleTypes> {
        self.parts.types.as_ref()
    }

    /// The program of a name, or the only one.
    pub(super) fn program(&self, name: Option<&str>) -> Result<&Program, String> {
        let names = || {
            let names: Vec<&str> = self.programs.iter().map(|program| program.name.as_str()).collect();
            names.join(", ")
        };
        match (name, self.programs.as_slice()) {
            (Some(name), programs) => programs
                .iter()
                .find(|program| program.name == name)
                .ok_or_else(|| format!("there is no program {name:?}; there are {}", names())),
            (None, [only]) => Ok(only),
            (None, _) => Err(format!("say which program to run with `program`: {}", names())),
        }
    }

    /// The type of a program, if the platform has it.
    pub(super) fn type_of(&self, program: &str) -> Option<&ProgramType> {
        self.programs.iter().find(|known| known.name == program)?.of.as_deref()
    }

    /// The request that all tests of a file start from.
    pub(super) fn request(&self, suite: &Suite) -> Result<RunRequest, String> {
        let presets = maps_from_json(&suite.maps, &self.shapes, self.types());
        Ok(RunRequest {
            image: self.parts.image.clone(),
            processor: self.parts.processor,
            platform_files: self.parts.platform_files.clone(),
            presets: presets.map_err(|e| format!("`maps`: {e}"))?,
            machine: machine(&suite.machine)?,
            time_limit_ms: suite.time_limit * 1000,
            runtime: suite.runtime,
            ..RunRequest::default()
        })
    }

    /// A file that a test file names.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.parts.folder.join(Path::new(name))
    }

    /// An error, with its code.
    pub(super) fn told(&self, error: &SimulatorError) -> String {
        format!("error[{}]: {error}", (self.parts.code)(error))
    }
}
