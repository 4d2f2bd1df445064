//! Our own compiler: reading, verification, lowering and linking, as the tool does them.

use std::time::{Duration, Instant};

use bpf2sys_codegen::{LoweredFunction, Options};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::VerifiedModule;

use super::Error;
use super::workload::is_another;

/// Rounds of lowering, of which the fastest counts.
const LOWERINGS: usize = 5;

/// Reads and verifies an object.
pub fn verified(object: &[u8], name: &str, platform: &Platform) -> Result<VerifiedModule, Error> {
    let module = bpf2sys_bytecode::read(object, &format!("{name}.o")).map_err(|e| e.to_string())?;
    let options = bpf2sys_verifier::Options::default();
    bpf2sys_verifier::verify(module, platform, &options).map_err(|e| format!("{e:?}"))
}

/// What was made of a module.
pub struct Made {
    /// The driver.
    pub image: Vec<u8>,
    /// Bytes of code of the program and of subprograms.
    pub code_bytes: usize,
    /// How long lowering took.
    pub lowering: Duration,
}

/// Makes the driver. `program` is the one that is measured.
pub fn make(verified: &VerifiedModule, program: &str, platform: &Platform, options: &Options) -> Result<Made, Error> {
    let mut lowering = Duration::MAX;
    let mut lowered = None;
    for _ in 0..LOWERINGS {
        let started = Instant::now();
        lowered = Some(bpf2sys_codegen::lower(verified, platform, options).map_err(|e| e.to_string())?);
        lowering = lowering.min(started.elapsed());
    }
    let lowered = lowered.ok_or("nothing was lowered")?;
    let ranges = &lowered.object.functions;
    let module = verified.module();
    let counted = |f: &&LoweredFunction| !is_another(module, program, &module.function(f.function).name);
    let functions = lowered.functions.iter().filter(counted);
    let code_bytes = functions.map(|f| ranges[f.range].size as usize).sum();
    let image = bpf2sys_pe_emit::link(&lowered.object).map_err(|e| e.to_string())?;
    Ok(Made {
        image: image.into_bytes(),
        code_bytes,
        lowering,
    })
}
