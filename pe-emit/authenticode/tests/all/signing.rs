//! Signing, signing again, and what chains are worth.

use bpf2sys_authenticode::{
    DigestAlgorithm, Existing, Identity, Mode, NewKey, PrivateKey, SignError, SignOptions, Signer, SignerError,
    remove_signatures, sign, verify,
};

use crate::support::{at, certificates, identity, image, judged, new_certificates, problems, signed};

#[test]
fn what_is_signed_verifies_and_says_what_the_signer_said() {
    let options = SignOptions {
        description: Some("Päckchen 🦀".into()),
        url: Some("https://example.com/".into()),
        page_hashes: true,
        ..SignOptions::default()
    };
    let report = judged(&signed(&image(), &options));
    assert!(report.is_good() && report.checksum_ok, "{report:?}");
    let [signature] = report.signatures.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(signature.description, options.description);
    assert_eq!(signature.url, options.url);
    assert_eq!(signature.trusted, Some(true));
    assert_eq!(signature.chain.len(), 2);
    let pages = signature.page_hashes.as_ref().unwrap();
    assert!(pages.verified && pages.pages == 3, "{pages:?}");
}

#[test]
fn both_digests_and_all_keys_sign_and_give_the_same_bytes_again() {
    for key in [NewKey::Rsa2048, NewKey::P256, NewKey::P384] {
        let made = new_certificates("Keys", key);
        let identity = Identity::new(made.signer.clone(), vec![made.root.clone()]).unwrap();
        for digest in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha384] {
            let options = SignOptions {
                digest,
                ..SignOptions::default()
            };
            let once = sign(&image(), &identity, &made.key, None, &options).unwrap();
            let again = sign(&image(), &identity, &made.key, None, &options).unwrap();
            assert_eq!(once, again, "{key:?} {digest:?}");
            let report = verify(&once, &at("2026-06-01", &[&made.root])).unwrap();
            assert!(report.is_good(), "{key:?} {digest:?}: {report:?}");
            assert_eq!(report.signatures[0].digest_algorithm, Some(digest));
        }
    }
}

#[test]
fn a_signed_image_is_signed_again_only_on_request() {
    let one = signed(&image(), &SignOptions::default());
    let with = |existing, digest| SignOptions {
        existing,
        digest,
        ..SignOptions::default()
    };
    let refused = sign(&one, &identity(), &certificates().key, None, &SignOptions::default());
    assert!(matches!(refused, Err(SignError::Signed)));
    let mut several = one.clone();
    let others = [
        new_certificates("Second", NewKey::P384),
        new_certificates("Third", NewKey::P256),
    ];
    for other in &others {
        let identity = Identity::new(other.signer.clone(), Vec::new()).unwrap();
        let options = with(Existing::Append, DigestAlgorithm::Sha384);
        several = sign(&several, &identity, &other.key, None, &options).unwrap();
    }
    let roots = [&certificates().root, &others[0].root, &others[1].root];
    let report = verify(&several, &at("2026-06-01", &roots)).unwrap();
    assert!(report.is_good(), "{report:?}");
    let nested: Vec<bool> = report.signatures.iter().map(|s| s.nested).collect();
    assert_eq!(nested, [false, true, true]);
    let digest = DigestAlgorithm::Sha256;
    assert_eq!(signed(&several, &with(Existing::Replace, digest)), one);
}

#[test]
fn a_signature_is_not_added_to_a_wrong_one() {
    let mut changed = signed(&image(), &SignOptions::default());
    changed[0x300] ^= 1;
    let options = SignOptions {
        existing: Existing::Append,
        ..SignOptions::default()
    };
    let refused = sign(&changed, &identity(), &certificates().key, None, &options);
    assert!(matches!(refused, Err(SignError::Existing(_))), "{refused:?}");
}

#[test]
fn without_signatures_the_image_is_what_it_was() {
    let signed = signed(&image(), &SignOptions::default());
    let removed = remove_signatures(&signed).unwrap();
    // The checksum was 0, and is right now.
    assert_eq!(removed.len(), image().len());
    let differing: Vec<usize> = (0..removed.len()).filter(|i| removed[*i] != image()[*i]).collect();
    assert!(
        differing.iter().all(|i| crate::support::CHECKSUM.contains(i)),
        "{differing:?}"
    );
    assert!(matches!(remove_signatures(&removed), Err(SignError::NotSigned)));
}

#[test]
fn images_of_any_length_are_padded() {
    for extra in 1..=8 {
        let mut image = image();
        image.extend(vec![1; extra]);
        let signed = signed(&image, &SignOptions::default());
        assert!(judged(&signed).is_good(), "{extra}");
    }
}

#[test]
fn a_key_must_be_the_certificates() {
    let other = new_certificates("Other", NewKey::P256);
    assert!(!identity().is_of(&other.key) && identity().is_of(&certificates().key));
    let refused = sign(&image(), &identity(), &other.key, None, &SignOptions::default());
    assert!(matches!(refused, Err(SignError::WrongSignature { .. })), "{refused:?}");
}

#[test]
fn sha1_and_wrong_texts_are_refused() {
    let with = |options| sign(&image(), &identity(), &certificates().key, None, &options);
    let sha1 = SignOptions {
        digest: DigestAlgorithm::Sha1,
        ..SignOptions::default()
    };
    assert!(matches!(with(sha1), Err(SignError::Digest(_))));
    let url = SignOptions {
        url: Some("https://bücher.example".into()),
        ..SignOptions::default()
    };
    assert!(matches!(with(url), Err(SignError::Text(_))));
    let long = SignOptions {
        description: Some("x".repeat(5000)),
        ..SignOptions::default()
    };
    assert!(matches!(with(long), Err(SignError::Text(_))));
}

/// Gives a signature of ECDSA as its two numbers, as PKCS #11 tokens do.
struct RawNumbers<'a>(&'a PrivateKey);

impl Signer for RawNumbers<'_> {
    fn sign(&self, algorithm: DigestAlgorithm, digest: &[u8]) -> Result<Vec<u8>, SignerError> {
        let der = self.0.sign(algorithm, digest)?;
        // SEQUENCE of two INTEGERs, each with a zero before it if its first bit is set.
        let r_length = usize::from(der[3]);
        let numbers = [&der[4..4 + r_length], &der[6 + r_length..]];
        let padded = numbers.map(|n| {
            let digits: Vec<u8> = n.iter().copied().skip_while(|d| *d == 0).collect();
            [vec![0; 32 - digits.len()], digits].concat()
        });
        Ok(padded.concat())
    }
}

#[test]
fn numbers_of_ecdsa_may_be_given_one_behind_the_other() {
    let key = &certificates().key;
    let raw = sign(&image(), &identity(), &RawNumbers(key), None, &SignOptions::default()).unwrap();
    assert_eq!(raw, signed(&image(), &SignOptions::default()));
}

#[test]
fn chains_are_judged_by_roots_and_time() {
    let image = signed(&image(), &SignOptions::default());
    let root = &certificates().root;
    let judge = |options| problems(&verify(&image, &options).unwrap(), 0);
    assert_eq!(judge(at("2026-06-01", &[root])), [""; 0]);
    assert_eq!(judge(at("2026-06-01", &[])), [""; 0]);
    assert_eq!(judge(at("2025-06-01", &[root])), ["validity", "validity"]);
    assert_eq!(judge(at("2028-06-01", &[root])), ["validity", "validity"]);
    let other = new_certificates("Tests", NewKey::P256).root;
    assert_eq!(
        judge(at("2026-06-01", &[&other])),
        ["untrusted"],
        "a root of the same name"
    );
    let itself = &certificates().signer;
    assert_eq!(
        judge(at("2026-06-01", &[itself])),
        [""; 0],
        "a certificate that is trusted itself"
    );
}

#[test]
fn the_service_takes_test_signatures_only_where_it_looks_at_none() {
    let report = judged(&signed(&image(), &SignOptions::default()));
    let verdicts: Vec<(Mode, bool)> = report.ebpfsvc.iter().map(|v| (v.mode, v.accepted)).collect();
    assert_eq!(
        verdicts,
        [
            (Mode::Production, false),
            (Mode::TestSigning, true),
            (Mode::TestSigningWithProof, false)
        ]
    );
    let reasons = report.ebpfsvc[0].reasons.join("\n");
    for part in [
        "EBPF_OBJECT_NOT_FOUND",
        "8f43288ad272f3103b6fb1428485ea3014c0bcfe",
        "eBPF Verification`",
    ] {
        assert!(reasons.contains(part), "{part}: {reasons}");
    }
    assert!(!reasons.contains("lacks the extended key usage"), "{reasons}");
    let unsigned = judged(&image());
    assert!(!unsigned.is_good());
    assert!(unsigned.ebpfsvc[0].reasons[0].contains("no embedded signature"));
}
