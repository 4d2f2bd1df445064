//! PFX files: PKCS #12 (RFC 7292).

use zeroize::Zeroizing;

use super::{AskPassword, LoadError, decrypted_key, encryption};
use crate::asn1::{self, Asn1Error, Element};
use crate::certificate::Certificate;
use crate::oid;
use crate::private_key::PrivateKey;
use crate::sign::Identity;
use crate::signed_data::{attribute, content};

/// What a PFX file holds.
#[derive(Debug)]
pub struct Pfx {
    /// The key.
    pub key: PrivateKey,
    /// The key's certificate, and the others of the file.
    pub identity: Identity,
}

/// Most parts of a file, and things in a part.
const MAX_PARTS: usize = 64;

pub(super) fn open(bytes: &[u8], ask: &mut AskPassword<'_>) -> Result<Pfx, LoadError> {
    let mut file = asn1::only(bytes, asn1::SEQUENCE)?.reader();
    if file.small_integer()? != 3 {
        return Err(Asn1Error::Value.into());
    }
    let mut safe = file.sequence()?;
    if safe.object_identifier()? != oid::DATA {
        return Err(LoadError::Unsupported("a public key"));
    }
    let safe = explicit(&mut safe, asn1::OCTET_STRING)?;
    let mac = file.optional(asn1::SEQUENCE)?;
    file.end()?;
    let opens = |password: &str| match &mac {
        Some(mac) => encryption::mac_is_right(&mut mac.reader(), safe.value, password),
        None => Ok(false),
    };
    let mut password = Zeroizing::new(String::new());
    if !opens(&password)? {
        password = ask()?;
        if mac.is_some() && !opens(&password)? {
            return Err(LoadError::WrongPassword);
        }
    }
    let mut contents = Contents::default();
    for part in elements(safe.value)? {
        let mut part = part.reader();
        match part.object_identifier()? {
            oid::DATA => contents.read(explicit(&mut part, asn1::OCTET_STRING)?.value, &password)?,
            oid::ENCRYPTED_DATA => {
                let mut data = explicit(&mut part, asn1::SEQUENCE)?.reader();
                data.small_integer()?;
                let mut encrypted = data.sequence()?;
                encrypted.object_identifier()?;
                let algorithm = encrypted.element(asn1::SEQUENCE)?;
                let bytes = encrypted.element(asn1::context_primitive(0))?;
                let plain = encryption::decrypt(algorithm.whole, &password, bytes.value)?;
                contents.read(&plain, &password)?;
            }
            _ => return Err(LoadError::Unsupported("a public key")),
        }
    }
    let key = contents.key.ok_or(LoadError::NoKey)?;
    let info = key.public_key_info();
    let of_key = contents.certificates.iter().position(|c| c.public_key_info() == info);
    let signer = contents
        .certificates
        .remove(of_key.ok_or(LoadError::NoCertificateOfKey)?);
    Ok(Pfx {
        key,
        identity: Identity::new(signer, contents.certificates)?,
    })
}

#[derive(Default)]
struct Contents {
    key: Option<PrivateKey>,
    certificates: Vec<Certificate>,
}

impl Contents {
    /// Adds what is in `SafeContents`.
    fn read(&mut self, safe: &[u8], password: &str) -> Result<(), LoadError> {
        for bag in elements(safe)? {
            let mut bag = bag.reader();
            let kind = bag.object_identifier()?;
            let value = bag.element(asn1::context(0))?;
            match kind {
                oid::KEY_BAG => self.add(PrivateKey::from_der(value.value)?)?,
                oid::SHROUDED_KEY_BAG => self.add(decrypted_key(value.value, password)?)?,
                oid::CERTIFICATE_BAG => {
                    let mut certificate = asn1::only(value.value, asn1::SEQUENCE)?.reader();
                    if certificate.object_identifier()? == oid::X509_CERTIFICATE {
                        let der = explicit(&mut certificate, asn1::OCTET_STRING)?;
                        self.certificates.push(Certificate::from_der(der.value)?);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, key: PrivateKey) -> Result<(), LoadError> {
        match self.key.replace(key) {
            None => Ok(()),
            Some(_) => Err(LoadError::SeveralKeys),
        }
    }
}

/// The only element inside of `[0]`, which comes next.
fn explicit<'a>(reader: &mut asn1::Reader<'a>, tag: u8) -> Result<Element<'a>, Asn1Error> {
    asn1::only(reader.element(asn1::context(0))?.value, tag)
}

/// The sequences in a sequence.
fn elements(bytes: &[u8]) -> Result<Vec<Element<'_>>, Asn1Error> {
    let mut reader = asn1::only(bytes, asn1::SEQUENCE)?.reader();
    let mut found = Vec::new();
    while !reader.is_empty() {
        if found.len() == MAX_PARTS {
            return Err(Asn1Error::Value);
        }
        found.push(reader.element(asn1::SEQUENCE)?);
    }
    Ok(found)
}

/// A PFX file with a key, its certificate, and others, protected by a password as Windows 10 1709 and later take it. The
/// empty password protects nothing.
pub fn write_pfx(key: &PrivateKey, certificates: &[&Certificate], password: &str) -> Result<Vec<u8>, LoadError> {
    let random = |_| LoadError::Unsupported("the system gives no random numbers");
    // What tells which certificate is the key's.
    let id = asn1::element(asn1::OCTET_STRING, &[&[1]]);
    let id = asn1::element(asn1::SET, &[&attribute(oid::LOCAL_KEY_ID, vec![id])]);
    let bag = |kind, value: &[u8], attributes: &[u8]| {
        let value = asn1::element(asn1::context(0), &[value]);
        asn1::sequence(&[&asn1::object_identifier(kind), &value, attributes])
    };
    let (algorithm, encrypted) = encryption::encrypt(password, &key.to_pkcs8()?).map_err(random)?;
    let shrouded = asn1::sequence(&[&algorithm, &asn1::element(asn1::OCTET_STRING, &[&encrypted])]);
    let key_part = asn1::sequence(&[&bag(oid::SHROUDED_KEY_BAG, &shrouded, &id)]);
    let info = key.public_key_info();
    let certificates = certificates.iter().map(|certificate| {
        let der = asn1::element(asn1::OCTET_STRING, &[certificate.as_der()]);
        let own = certificate.public_key_info() == info;
        bag(
            oid::CERTIFICATE_BAG,
            &content(oid::X509_CERTIFICATE, &der),
            if own { &id } else { &[] },
        )
    });
    let bags: Vec<Vec<u8>> = certificates.collect();
    let bags: Vec<&[u8]> = bags.iter().map(Vec::as_slice).collect();
    let (algorithm, encrypted) = encryption::encrypt(password, &asn1::sequence(&bags)).map_err(random)?;
    let certificate_part = asn1::sequence(&[
        &asn1::unsigned(&[0]),
        &asn1::sequence(&[
            &asn1::object_identifier(oid::DATA),
            &algorithm,
            &asn1::element(asn1::context_primitive(0), &[&encrypted]),
        ]),
    ]);
    let data = |part: &[u8]| content(oid::DATA, &asn1::element(asn1::OCTET_STRING, &[part]));
    let safe = asn1::sequence(&[&data(&key_part), &content(oid::ENCRYPTED_DATA, &certificate_part)]);
    let mac = encryption::mac(&safe, password).map_err(random)?;
    Ok(asn1::sequence(&[&asn1::unsigned(&[3]), &data(&safe), &mac]))
}
