//! The way of the data: read, verify, lower, link.

use std::sync::LazyLock;
use std::time::Duration;

use bpf2sys_codegen as codegen;
use bpf2sys_pe_emit as pe_emit;
use bpf2sys_platform::Platform;
use bpf2sys_verifier as verifier;

use crate::Error;

/// What a build may be told. The default is what `bpf2sys build INPUT` does.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Verify every program as this section name says (`--type`), whatever section it is in.
    pub program_type: Option<String>,
    /// How long verification of the module may take; `None` is the verifier's default of 60 s.
    pub time_limit: Option<Duration>,
}

/// What a build makes.
#[derive(Debug)]
pub struct Built {
    /// The verified module.
    pub verified: verifier::VerifiedModule,
    /// The driver.
    pub image: pe_emit::Image,
}

/// Turns the bytes of an object file into a driver. `name` is the file's name, with or without folders; its
/// first letters are part of the names of maps behind global variables.
pub fn build(object: &[u8], name: &str, options: &BuildOptions) -> Result<Built, Error> {
    let verified = verify(object, name, options)?;
    let lowered = codegen::lower(&verified, platform(), &codegen::Options::default())?;
    let image = pe_emit::link(&lowered.object)?;
    Ok(Built { verified, image })
}

/// Reads and verifies an object file, and makes nothing.
pub fn verify(object: &[u8], name: &str, options: &BuildOptions) -> Result<verifier::VerifiedModule, Error> {
    let module = bpf2sys_bytecode::read(object, name)?;
    let mut verifier_options = verifier::Options {
        program_type: options.program_type.clone(),
        ..verifier::Options::default()
    };
    if let Some(limit) = options.time_limit {
        verifier_options.time_limit = limit;
    }
    Ok(verifier::verify(module, platform(), &verifier_options)?)
}

/// The platform of the built-in providers, read once per process.
pub(crate) fn platform() -> &'static Platform {
    static PLATFORM: LazyLock<Platform> = LazyLock::new(Platform::builtin);
    &PLATFORM
}
