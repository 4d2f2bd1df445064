//! Files of keys and certificates.

use bpf2sys_authenticode::load::{self, LoadError, PasswordError};
use bpf2sys_authenticode::{NewKey, PrivateKey};
use zeroize::Zeroizing;

use crate::support::{certificates, new_certificates};

fn no_password() -> Result<Zeroizing<String>, PasswordError> {
    Err(PasswordError("nobody to ask".into()))
}

fn password(text: &'static str) -> impl FnMut() -> Result<Zeroizing<String>, PasswordError> {
    move || Ok(Zeroizing::new(text.to_owned()))
}

#[test]
fn pfx_files_are_read_as_they_are_written() {
    for key in [NewKey::Rsa2048, NewKey::P256, NewKey::P384] {
        let made = new_certificates("Pfx", key);
        let file = load::write_pfx(&made.key, &[&made.root, &made.signer], "pä55").unwrap();
        let opened = load::pfx(&file, &mut password("pä55")).unwrap();
        assert_eq!(opened.identity.signer().as_der(), made.signer.as_der());
        assert_eq!(opened.key.to_pkcs8().unwrap(), made.key.to_pkcs8().unwrap());
        assert!(matches!(
            load::pfx(&file, &mut password("other")),
            Err(LoadError::WrongPassword)
        ));
        assert!(matches!(
            load::pfx(&file, &mut no_password),
            Err(LoadError::Password(_))
        ));
    }
}

#[test]
fn the_empty_password_is_not_asked_for() {
    let made = certificates();
    let file = load::write_pfx(&made.key, &[&made.signer], "").unwrap();
    assert!(load::pfx(&file, &mut no_password).is_ok());
}

#[test]
fn a_pfx_file_needs_the_certificate_of_its_key() {
    let made = certificates();
    let file = load::write_pfx(&made.key, &[&made.root], "").unwrap();
    assert!(matches!(
        load::pfx(&file, &mut no_password),
        Err(LoadError::NoCertificateOfKey)
    ));
}

#[test]
fn keys_are_not_shown() {
    let key = PrivateKey::generate(NewKey::P256).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(ECDSA P-256)");
}

#[test]
fn certificates_come_alone_or_as_a_list() {
    let der = certificates().signer.as_der();
    assert_eq!(load::certificates(der).unwrap().len(), 1);
    assert!(matches!(
        load::certificates(b"-----BEGIN X-----\n-----END X-----\n"),
        Err(LoadError::NoCertificate)
    ));
    assert!(load::certificates(b"").is_err());
    let no_key = load::private_key(b"-----BEGIN X-----\n-----END X-----\n", &mut no_password);
    assert!(matches!(no_key, Err(LoadError::NoKey)));
}
