//! Commands that sign: a digest, or a file in place. What they make is verified by those who use it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use bpf2sys_authenticode::{Certificate, DigestAlgorithm, SignError, Signer, SignerError};

use super::run::run;
use super::template::{Template, Values};
use super::{CommandError, SigningError};

/// Longest signature that is read, in bytes; one of RSA with 4096 bits has 512.
const MAX_SIGNATURE: u64 = 16 << 10;
/// How much longer a signed file may be than it was.
const MAX_GROWTH: u64 = 16 << 20;

/// A command that signs digests.
#[derive(Debug)]
pub(crate) struct DigestCommand {
    template: Template,
    limit: Duration,
    /// Why it failed last.
    failure: Mutex<Option<CommandError>>,
}

impl DigestCommand {
    pub(crate) fn new(template: Template, limit: Duration) -> DigestCommand {
        DigestCommand {
            template,
            limit,
            failure: Mutex::default(),
        }
    }

    /// The error of the library with what the command said, if it is the command's.
    pub(super) fn explain(&self, error: SigningError) -> SigningError {
        let failure = self.failure.lock().ok().and_then(|mut failure| failure.take());
        match (error, failure) {
            (SigningError::Sign(SignError::Signer(_)), Some(failure)) => failure.into(),
            (error, _) => error,
        }
    }

    fn signature(&self, algorithm: DigestAlgorithm, digest: &[u8]) -> Result<Vec<u8>, CommandError> {
        let folder = tempfile::tempdir()?;
        let [input, info, output] = ["digest", "digest_info", "signature"].map(|name| folder.path().join(name));
        fs::write(&input, digest)?;
        fs::write(&info, algorithm.digest_info(digest))?;
        let (program, arguments) = self.template.fill(Values {
            file: None,
            digest: Some(&input),
            digest_info: Some(&info),
            signature: Some(&output),
            algorithm: algorithm.name(),
        });
        let printed = run(program, &arguments, folder.path(), self.limit)?;
        let signature = read(&output, MAX_SIGNATURE).unwrap_or_default();
        if signature.is_empty() {
            return Err(CommandError::NoSignature {
                program: program.to_owned(),
                output: printed,
            });
        }
        Ok(signature)
    }
}

impl Signer for DigestCommand {
    fn sign(&self, algorithm: DigestAlgorithm, digest: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.signature(algorithm, digest).map_err(|error| {
            let told = SignerError(error.to_string());
            if let Ok(mut failure) = self.failure.lock() {
                *failure = Some(error);
            }
            told
        })
    }
}

/// A command that signs files in place.
#[derive(Debug)]
pub(crate) struct FileCommand {
    pub template: Template,
    pub limit: Duration,
    /// Whose signature it must be.
    pub signer: Option<Certificate>,
}

impl FileCommand {
    /// Lets the command sign a copy of an image, and gives what it made of it.
    pub(super) fn sign(&self, image: &[u8], algorithm: DigestAlgorithm) -> Result<Vec<u8>, CommandError> {
        let folder = tempfile::tempdir()?;
        // Tools that sign look at the extension.
        let copy = folder.path().join("image.sys");
        fs::write(&copy, image)?;
        let (program, arguments) = self.template.fill(Values {
            file: Some(&copy),
            digest: None,
            digest_info: None,
            signature: None,
            algorithm: algorithm.name(),
        });
        run(program, &arguments, folder.path(), self.limit)?;
        Ok(read(&copy, image.len() as u64 + MAX_GROWTH)?)
    }
}

fn read(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other("what the command wrote is too large"));
    }
    Ok(bytes)
}
