//! Protection by a password: PBES2 (RFC 8018) of modern files, and the schemes of PKCS #12 (RFC 7292) of legacy ones.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, InnerIvInit, KeyIvInit};
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use hmac::{Hmac, KeyInit, Mac};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{Kdf, Parameters};
use zeroize::Zeroizing;

use super::LoadError;
use crate::asn1::{self, Reader};
use crate::digest::DigestAlgorithm;
use crate::oid;

/// Most rounds that a password is hashed. Tools use 2,000 to 600,000.
const MAX_ROUNDS: u32 = 5_000_000;
/// Most memory that scrypt may take, in bytes.
const MAX_SCRYPT: u64 = 256 << 20;
/// Rounds in files that are written here.
const ROUNDS: u32 = 100_000;

const TOO_MUCH_WORK: LoadError = LoadError::Unsupported("hashing its password takes too much work");

/// Decrypts what an `AlgorithmIdentifier` (whole) says it is encrypted with.
pub(super) fn decrypt(algorithm: &[u8], password: &str, encrypted: &[u8]) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    let mut fields = asn1::only(algorithm, asn1::SEQUENCE)?.reader();
    match fields.object_identifier()? {
        oid::PBES2 => pbes2(algorithm, password, encrypted),
        scheme @ (oid::PBE_SHA1_3DES | oid::PBE_SHA1_RC2_128 | oid::PBE_SHA1_RC2_40) => {
            let mut parameters = fields.sequence()?;
            fields.end()?;
            pbe(scheme, &mut parameters, password, encrypted)
        }
        _ => Err(LoadError::Unsupported("an encryption that is not known")),
    }
}

/// Encrypts with AES-256, and a key made from the password with PBKDF2 and HMAC-SHA-256: the algorithm, and the result.
pub(super) fn encrypt(password: &str, plain: &[u8]) -> Result<(Vec<u8>, Vec<u8>), getrandom::Error> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    getrandom::fill(&mut salt)?;
    getrandom::fill(&mut iv)?;
    let scheme = Parameters::generate_pbkdf2_sha256_aes256cbc(ROUNDS, &salt, iv).map(EncryptionScheme::from);
    let done = || {
        let scheme = scheme.ok()?;
        Some((scheme.to_der().ok()?, scheme.encrypt(password, plain).ok()?))
    };
    // Neither the salt nor the rounds are beyond any limit, and there is no other reason to fail.
    done().ok_or(getrandom::Error::UNEXPECTED)
}

fn pbes2(algorithm: &[u8], password: &str, encrypted: &[u8]) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    let unsupported = |_| LoadError::Unsupported("an encryption that is not known");
    let scheme = EncryptionScheme::from_der(algorithm).map_err(unsupported)?;
    match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Pbkdf2(kdf)) if kdf.iteration_count > MAX_ROUNDS => return Err(TOO_MUCH_WORK),
        Some(Kdf::Scrypt(kdf)) => {
            let memory = u128::from(kdf.cost_parameter) * u128::from(kdf.block_size) * 128;
            let work = memory * u128::from(kdf.parallelization);
            if work > u128::from(MAX_SCRYPT) {
                return Err(TOO_MUCH_WORK);
            }
        }
        _ => {}
    }
    let mut buffer = Zeroizing::new(encrypted.to_vec());
    let length = match scheme.decrypt_in_place(password, &mut buffer) {
        Ok(plain) => plain.len(),
        Err(_) => return Err(LoadError::WrongPassword),
    };
    buffer.truncate(length);
    Ok(buffer)
}

fn pbe(
    scheme: ObjectIdentifier,
    parameters: &mut Reader<'_>,
    password: &str,
    encrypted: &[u8],
) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    let salt = parameters.element(asn1::OCTET_STRING)?.value;
    let rounds = parameters.small_integer()?;
    parameters.end()?;
    let hashed = Hashed {
        algorithm: DigestAlgorithm::Sha1,
        password,
        salt,
        rounds,
    };
    let iv = hashed.bytes(Use::InitialVector, 8)?;
    let mut buffer = Zeroizing::new(encrypted.to_vec());
    let plain = if scheme == oid::PBE_SHA1_3DES {
        let key = hashed.bytes(Use::Key, 24)?;
        let cipher = cbc::Decryptor::<des::TdesEde3>::new_from_slices(&key, &iv).ok();
        cipher.and_then(|cipher| cipher.decrypt_padded::<Pkcs7>(&mut buffer).ok())
    } else {
        let size = if scheme == oid::PBE_SHA1_RC2_40 { 5 } else { 16 };
        let key = hashed.bytes(Use::Key, size)?;
        let cipher = rc2::Rc2::new_with_eff_key_len(&key, size * 8);
        let cipher = cbc::Decryptor::inner_iv_slice_init(cipher, &iv).ok();
        cipher.and_then(|cipher| cipher.decrypt_padded::<Pkcs7>(&mut buffer).ok())
    };
    let length = plain.ok_or(LoadError::WrongPassword)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// What bytes that are made from a password are for (RFC 7292 appendix B.3).
#[derive(Clone, Copy, Debug)]
enum Use {
    Key = 1,
    InitialVector = 2,
    Mac = 3,
}

/// A password that is hashed as PKCS #12 does it (RFC 7292 appendix B.2).
struct Hashed<'a> {
    algorithm: DigestAlgorithm,
    password: &'a str,
    salt: &'a [u8],
    rounds: u32,
}

impl Hashed<'_> {
    fn bytes(&self, purpose: Use, count: usize) -> Result<Zeroizing<Vec<u8>>, LoadError> {
        if self.rounds > MAX_ROUNDS {
            return Err(TOO_MUCH_WORK);
        }
        // UTF-16 with a zero at the end.
        let mut password = Zeroizing::new(Vec::with_capacity(2 * self.password.len() + 2));
        for unit in self.password.encode_utf16().chain([0]) {
            password.extend(unit.to_be_bytes());
        }
        let block = match self.algorithm {
            DigestAlgorithm::Sha1 | DigestAlgorithm::Sha256 => 64,
            DigestAlgorithm::Sha384 | DigestAlgorithm::Sha512 => 128,
        };
        let diversifier = vec![purpose as u8; block];
        // Both repeated up to the end of a block; with room for all, so that no copy of the password stays behind.
        let lengths = [self.salt, &password].map(|part| part.len().next_multiple_of(block));
        let mut input = Zeroizing::new(Vec::with_capacity(lengths[0] + lengths[1]));
        input.extend(self.salt.iter().cycle().take(lengths[0]));
        input.extend(password.iter().cycle().take(lengths[1]));
        let mut bytes = Zeroizing::new(Vec::with_capacity(count + 64));
        while bytes.len() < count {
            let mut digest = Zeroizing::new(self.algorithm.digest(&[&diversifier, &input]));
            for _ in 1..self.rounds {
                digest = Zeroizing::new(self.algorithm.digest(&[&digest]));
            }
            bytes.extend_from_slice(&digest);
            // Each block of the input, plus the digest repeated, plus 1, as numbers.
            for chunk in input.chunks_mut(block) {
                let mut carry = 1u16;
                for (index, byte) in chunk.iter_mut().enumerate().rev() {
                    let sum = u16::from(*byte) + u16::from(digest[index % digest.len()]) + carry;
                    *byte = sum as u8;
                    carry = sum >> 8;
                }
            }
        }
        bytes.truncate(count);
        Ok(bytes)
    }
}

/// Whether `MacData` (its contents) is right for the contents of a file and a password.
pub(super) fn mac_is_right(mac: &mut Reader<'_>, content: &[u8], password: &str) -> Result<bool, LoadError> {
    let mut info = mac.sequence()?;
    let algorithm = info.sequence()?;
    let stated = info.element(asn1::OCTET_STRING)?.value;
    let salt = mac.element(asn1::OCTET_STRING)?.value;
    let rounds = if mac.is_empty() { 1 } else { mac.small_integer()? };
    mac.end()?;
    let Ok(Some(algorithm)) = DigestAlgorithm::read(algorithm) else {
        return Err(LoadError::Unsupported("a MAC that is not known"));
    };
    Ok(hmac(algorithm, password, salt, rounds, content)? == stated)
}

/// `MacData` for the contents of a file.
pub(super) fn mac(content: &[u8], password: &str) -> Result<Vec<u8>, getrandom::Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)?;
    let algorithm = DigestAlgorithm::Sha256;
    // The only reason to fail is too many rounds.
    let mac = hmac(algorithm, password, &salt, ROUNDS, content).map_err(|_| getrandom::Error::UNEXPECTED)?;
    let info = asn1::sequence(&[&algorithm.identifier(), &asn1::element(asn1::OCTET_STRING, &[&mac])]);
    Ok(asn1::sequence(&[
        &info,
        &asn1::element(asn1::OCTET_STRING, &[&salt]),
        &asn1::unsigned(&ROUNDS.to_be_bytes()),
    ]))
}

fn hmac(
    algorithm: DigestAlgorithm,
    password: &str,
    salt: &[u8],
    rounds: u32,
    content: &[u8],
) -> Result<Vec<u8>, LoadError> {
    fn run<M: Mac + KeyInit>(key: &[u8], content: &[u8]) -> Vec<u8> {
        // HMAC takes keys of all lengths.
        <M as KeyInit>::new_from_slice(key).map_or(Vec::new(), |mac| {
            mac.chain_update(content).finalize().into_bytes().to_vec()
        })
    }
    let (hashed, size) = (
        Hashed {
            algorithm,
            password,
            salt,
            rounds,
        },
        algorithm.digest(&[]).len(),
    );
    let key = hashed.bytes(Use::Mac, size)?;
    Ok(match algorithm {
        DigestAlgorithm::Sha1 => run::<Hmac<sha1::Sha1>>(&key, content),
        DigestAlgorithm::Sha256 => run::<Hmac<sha2::Sha256>>(&key, content),
        DigestAlgorithm::Sha384 => run::<Hmac<sha2::Sha384>>(&key, content),
        DigestAlgorithm::Sha512 => run::<Hmac<sha2::Sha512>>(&key, content),
    })
}
