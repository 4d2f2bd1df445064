//! Who signs statements.

use bpf2sys_authenticode::{PrivateKey, Signer};

use super::{ProvenanceError, PublicKey};
use crate::Error;
use crate::signing::DigestCommand;

/// A key that signs statements.
#[derive(Debug)]
pub(crate) struct Attester {
    means: Means,
    key: PublicKey,
}

#[derive(Debug)]
enum Means {
    Key(PrivateKey),
    Command(DigestCommand),
}

impl Attester {
    /// A private key.
    pub(crate) fn of_key(key: PrivateKey) -> Result<Attester, ProvenanceError> {
        let public = PublicKey::of_private(&key)?;
        Ok(Attester {
            means: Means::Key(key),
            key: public,
        })
    }

    /// A program that signs digests with the private part of a key.
    pub(crate) fn of_command(command: DigestCommand, key: PublicKey) -> Attester {
        Attester {
            means: Means::Command(command),
            key,
        }
    }

    /// The key that verifies.
    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The signature of a message. It has been verified.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signer: &dyn Signer = match &self.means {
            Means::Key(key) => key,
            Means::Command(command) => command,
        };
        let algorithm = self.key.digest();
        let signature = signer
            .sign(algorithm, &algorithm.digest(&[message]))
            .map_err(|e| ProvenanceError::Key(e.to_string()))?;
        let signature = self.key.normalized(signature);
        if !self.key.verifies(message, &signature) {
            let what = format!(
                "what was made with it is no signature by it ({})",
                self.key.description()
            );
            return Err(ProvenanceError::Key(what).into());
        }
        Ok(signature)
    }
}
