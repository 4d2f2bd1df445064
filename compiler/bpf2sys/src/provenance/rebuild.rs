//! Building an object again, as a statement says.

use std::borrow::Cow;

use bpf2sys_authenticode::{SignError, is_signed, remove_signatures};

use super::parameters::Parameters;
use super::statement::Program;
use crate::{BuildOptions, Error, ErrorKind, Providers, SigningError, Verdict};

/// What an object gives.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    /// The image, which has no signature.
    pub image: Vec<u8>,
    /// Its programs, in the order of the verdict.
    pub programs: Vec<Program>,
}

/// Verifies and compiles an object with stated options. `limits` gives those that are not stated.
pub(crate) fn rebuild(
    object: &[u8],
    parameters: &Parameters,
    providers: &Providers,
    limits: &BuildOptions,
) -> Result<Rebuilt, Error> {
    let options = parameters.options(providers.clone(), limits);
    let mut built = crate::build(object, &parameters.object, &options)?;
    let image = match built.outputs.pop() {
        Some(output) if built.outputs.is_empty() => output.bytes,
        _ => return Err(ErrorKind::Internal("one image was to be built".into()).into()),
    };
    let description = bpf2sys_simulator::describe::describe(&image).map_err(bpf2sys_simulator::SimulatorError::from)?;
    let hash_of = |name: &str| {
        let uses = description.uses.iter().find(|uses| uses.program == name);
        uses.and_then(|uses| uses.program_info_hash.clone())
    };
    let verdict = Verdict::of(&built.verified, crate::warnings(&built.verified, built.ported.as_ref()));
    let programs = verdict.programs.into_iter().map(|program| Program {
        program_info_hash: hash_of(&program.name),
        name: program.name,
        section: program.section,
        program_type: program.program_type,
    });
    Ok(Rebuilt {
        programs: programs.collect(),
        image,
    })
}

/// An image as it was before it was signed.
pub(crate) fn without_signatures(image: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let signed = is_signed(image).map_err(SignError::from).map_err(SigningError::from)?;
    if !signed {
        return Ok(Cow::Borrowed(image));
    }
    Ok(Cow::Owned(remove_signatures(image).map_err(SigningError::from)?))
}
