//! Keys and certificates out of their files.

use std::path::{Path, PathBuf};

use bpf2sys_authenticode::load::{self, LoadError};
use bpf2sys_authenticode::{Certificate, Identity, PrivateKey, SignError};
use zeroize::Zeroizing;

use super::{Password, SigningError};
use crate::{Error, files};

/// The certificate, its chain and its key of a PFX file; `chain` are files with further certificates.
pub(crate) fn from_pfx(file: &Path, chain: &[PathBuf], password: &Password) -> Result<(Identity, PrivateKey), Error> {
    let bytes = Zeroizing::new(files::read(file)?);
    let opened = load::pfx(&bytes, &mut || password.ask(file)).map_err(|source| unusable(file, source))?;
    let mut others = opened.identity.others().to_vec();
    others.extend(all(chain)?);
    let identity = identity(opened.identity.signer().clone(), others)?;
    Ok((identity, opened.key))
}

/// The same of a file with a key, and one with its certificate, behind which others may be.
pub(crate) fn from_key_files(
    key: &Path,
    certificate_file: &Path,
    chain: &[PathBuf],
    password: &Password,
) -> Result<(Identity, PrivateKey), Error> {
    let bytes = Zeroizing::new(files::read(key)?);
    let identity = certificate(certificate_file, chain)?;
    let key_of = load::private_key(&bytes, &mut || password.ask(key)).map_err(|source| unusable(key, source))?;
    if !identity.is_of(&key_of) {
        let subject = identity.signer().subject().to_owned();
        return Err(SigningError::from(SignError::OtherKey { subject }).into());
    }
    Ok((identity, key_of))
}

/// A signer's certificate, without its key: the first one of a file.
pub(crate) fn certificate(file: &Path, chain: &[PathBuf]) -> Result<Identity, Error> {
    let mut certificates = read(file)?;
    let signer = certificates.remove(0); // a file without any is an error
    certificates.extend(all(chain)?);
    identity(signer, certificates)
}

/// Certificates that are to be trusted.
pub(crate) fn roots(files: &[PathBuf]) -> Result<Vec<Certificate>, Error> {
    all(files)
}

fn identity(signer: Certificate, others: Vec<Certificate>) -> Result<Identity, Error> {
    Ok(Identity::new(signer, others)
        .map_err(SignError::from)
        .map_err(SigningError::from)?)
}

fn all(files: &[PathBuf]) -> Result<Vec<Certificate>, Error> {
    let certificates: Result<Vec<_>, _> = files.iter().map(|file| read(file)).collect();
    Ok(certificates?.concat())
}

fn read(file: &Path) -> Result<Vec<Certificate>, Error> {
    let bytes = files::read(file)?;
    load::certificates(&bytes).map_err(|source| unusable(file, source))
}

fn unusable(file: &Path, source: LoadError) -> Error {
    let path = file.to_owned();
    SigningError::KeyFile { path, source }.into()
}
