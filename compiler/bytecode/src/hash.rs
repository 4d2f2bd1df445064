//! Hash algorithms that a module can state (`--hash`).

use std::fmt;

use sha2::{Digest, Sha256, Sha384, Sha512};

/// A hash algorithm, under the name that Windows knows it by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// SHA-256, 32 bytes.
    #[default]
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl HashAlgorithm {
    /// All of them.
    pub const ALL: [HashAlgorithm; 3] = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];

    /// The algorithm identifier of Windows's Cryptography API: Next Generation, which a module states
    /// (native module contract §4.8, `program_info_hash_type`).
    pub fn cng_name(self) -> &'static str {
        match self {
            HashAlgorithm::Sha256 => "SHA256",
            HashAlgorithm::Sha384 => "SHA384",
            HashAlgorithm::Sha512 => "SHA512",
        }
    }

    /// The algorithm with this CNG name.
    pub fn from_cng_name(name: &str) -> Option<HashAlgorithm> {
        HashAlgorithm::ALL.into_iter().find(|a| a.cng_name() == name)
    }

    /// The digest of some bytes.
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            HashAlgorithm::Sha256 => Sha256::digest(bytes).to_vec(),
            HashAlgorithm::Sha384 => Sha384::digest(bytes).to_vec(),
            HashAlgorithm::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    /// The digest of some bytes, with the algorithm.
    pub fn of(self, bytes: &[u8]) -> ObjectHash {
        ObjectHash {
            algorithm: self,
            digest: self.digest(bytes),
        }
    }
}

/// As standards write it, e.g. `SHA-256` (FIPS 180-4).
impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HashAlgorithm::Sha256 => "SHA-256",
            HashAlgorithm::Sha384 => "SHA-384",
            HashAlgorithm::Sha512 => "SHA-512",
        })
    }
}

/// The hash of an object file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectHash {
    /// How it was computed.
    pub algorithm: HashAlgorithm,
    /// The digest: 32, 48 or 64 bytes.
    pub digest: Vec<u8>,
}

/// In lower-case hexadecimal digits.
impl fmt::Display for ObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
