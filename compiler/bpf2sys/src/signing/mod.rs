//! Signing images: who signs, by which means, and what comes out of it. Whatever is signed has been verified.

mod authority;
mod command;
mod error;
mod identity;
mod password;
mod run;
mod template;
pub(crate) mod words;

use bpf2sys_authenticode::{
    Existing, Identity, PrivateKey, SignError, SignOptions, Signer, TimestampAuthority, check, is_signed,
    remove_signatures, sign,
};

pub(crate) use authority::HttpAuthority;
pub(crate) use command::{DigestCommand, FileCommand};
pub use error::{CommandError, SigningError};
pub(crate) use identity::{certificate, from_key_files, from_pfx, roots};
pub(crate) use password::Password;
pub(crate) use template::{Signs as TemplateSigns, Template};

use crate::Error;

/// Who signs.
#[derive(Debug)]
pub(crate) enum Means {
    /// A key.
    Key(Identity, PrivateKey),
    /// A program that signs digests.
    Digests(Identity, DigestCommand),
    /// A program that signs files.
    Files(FileCommand),
}

/// How images are signed.
#[derive(Debug)]
pub(crate) struct Signing {
    pub means: Means,
    pub authority: Option<HttpAuthority>,
    pub options: SignOptions,
}

impl Signing {
    /// The image with a signature.
    pub(crate) fn sign(&self, image: &[u8]) -> Result<Vec<u8>, Error> {
        let by_digest = |identity, signer: &dyn Signer| {
            let authority = self.authority.as_ref().map(|a| a as &dyn TimestampAuthority);
            sign(image, identity, signer, authority, &self.options).map_err(SigningError::from)
        };
        let signed = match &self.means {
            Means::Key(identity, key) => by_digest(identity, key),
            // The library knows of a signer only that it failed; the command knows why.
            Means::Digests(identity, command) => by_digest(identity, command).map_err(|error| command.explain(error)),
            Means::Files(command) => self.by_command(image, command),
        };
        Ok(signed?)
    }

    fn by_command(&self, image: &[u8], command: &FileCommand) -> Result<Vec<u8>, SigningError> {
        let stripped;
        let image = match (is_signed(image).map_err(SignError::from)?, self.options.existing) {
            (true, Existing::Refuse) => return Err(SignError::Signed.into()),
            (true, Existing::Replace) => {
                stripped = remove_signatures(image)?;
                &stripped
            }
            _ => image,
        };
        let signed = command.sign(image, self.options.digest)?;
        check(image, &signed, command.signer.as_ref())?;
        Ok(signed)
    }
}
