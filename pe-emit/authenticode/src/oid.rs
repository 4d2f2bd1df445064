//! Object identifiers.

use der::asn1::ObjectIdentifier;

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident = $dotted:literal;)*) => {
        $($(#[$doc])* pub(crate) const $name: ObjectIdentifier = ObjectIdentifier::new_unwrap($dotted);)*
    };
}

identifiers! {
    // RFC 5652 and RFC 8017.
    DATA = "1.2.840.113549.1.7.1";
    SIGNED_DATA = "1.2.840.113549.1.7.2";
    ENCRYPTED_DATA = "1.2.840.113549.1.7.6";
    CONTENT_TYPE = "1.2.840.113549.1.9.3";
    MESSAGE_DIGEST = "1.2.840.113549.1.9.4";
    SHA1 = "1.3.14.3.2.26";
    SHA256 = "2.16.840.1.101.3.4.2.1";
    SHA384 = "2.16.840.1.101.3.4.2.2";
    SHA512 = "2.16.840.1.101.3.4.2.3";
    RSA = "1.2.840.113549.1.1.1";
    SHA1_WITH_RSA = "1.2.840.113549.1.1.5";
    SHA256_WITH_RSA = "1.2.840.113549.1.1.11";
    SHA384_WITH_RSA = "1.2.840.113549.1.1.12";
    SHA512_WITH_RSA = "1.2.840.113549.1.1.13";
    // RFC 5480, RFC 5758.
    EC_PUBLIC_KEY = "1.2.840.10045.2.1";
    P256 = "1.2.840.10045.3.1.7";
    P384 = "1.3.132.0.34";
    ECDSA_WITH_SHA1 = "1.2.840.10045.4.1";
    ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";
    ECDSA_WITH_SHA384 = "1.2.840.10045.4.3.3";
    ECDSA_WITH_SHA512 = "1.2.840.10045.4.3.4";
    // "Windows Authenticode Portable Executable Signature Format" (2008), and what signing tools of Windows write.
    SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4";
    SPC_STATEMENT_TYPE = "1.3.6.1.4.1.311.2.1.11";
    SPC_OPUS_INFO = "1.3.6.1.4.1.311.2.1.12";
    SPC_PE_IMAGE_DATA = "1.3.6.1.4.1.311.2.1.15";
    SPC_INDIVIDUAL_PURPOSE = "1.3.6.1.4.1.311.2.1.21";
    SPC_PAGE_HASHES_SHA1 = "1.3.6.1.4.1.311.2.3.1";
    SPC_PAGE_HASHES_SHA256 = "1.3.6.1.4.1.311.2.3.2";
    NESTED_SIGNATURE = "1.3.6.1.4.1.311.2.4.1";
    RFC3161_TIMESTAMP = "1.3.6.1.4.1.311.3.3.1";
    /// A timestamp as it was before RFC 3161 ones (PKCS #9 countersignature).
    COUNTERSIGNATURE = "1.2.840.113549.1.9.6";
    // RFC 3161 and RFC 5816.
    TST_INFO = "1.2.840.113549.1.9.16.1.4";
    SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12";
    SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47";
    // RFC 5280.
    COMMON_NAME = "2.5.4.3";
    SUBJECT_KEY_IDENTIFIER = "2.5.29.14";
    KEY_USAGE = "2.5.29.15";
    SUBJECT_ALT_NAME = "2.5.29.17";
    ISSUER_ALT_NAME = "2.5.29.18";
    BASIC_CONSTRAINTS = "2.5.29.19";
    CRL_DISTRIBUTION_POINTS = "2.5.29.31";
    CERTIFICATE_POLICIES = "2.5.29.32";
    AUTHORITY_KEY_IDENTIFIER = "2.5.29.35";
    EXTENDED_KEY_USAGE = "2.5.29.37";
    ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0";
    CODE_SIGNING = "1.3.6.1.5.5.7.3.3";
    TIME_STAMPING = "1.3.6.1.5.5.7.3.8";
    /// eBPF for Windows: `EBPF_VERIFICATION_EKU`.
    EBPF_VERIFICATION = "1.3.6.1.4.1.311.133.1";
    // RFC 7292 (PKCS #12).
    PBE_SHA1_3DES = "1.2.840.113549.1.12.1.3";
    PBE_SHA1_RC2_128 = "1.2.840.113549.1.12.1.5";
    PBE_SHA1_RC2_40 = "1.2.840.113549.1.12.1.6";
    PBES2 = "1.2.840.113549.1.5.13";
    KEY_BAG = "1.2.840.113549.1.12.10.1.1";
    SHROUDED_KEY_BAG = "1.2.840.113549.1.12.10.1.2";
    CERTIFICATE_BAG = "1.2.840.113549.1.12.10.1.3";
    X509_CERTIFICATE = "1.2.840.113549.1.9.22.1";
    LOCAL_KEY_ID = "1.2.840.113549.1.9.21";
}

/// The name of an extended key usage, if it is a known one.
pub(crate) fn usage_name(usage: ObjectIdentifier) -> Option<&'static str> {
    match usage {
        CODE_SIGNING => Some("code signing"),
        TIME_STAMPING => Some("time stamping"),
        EBPF_VERIFICATION => Some("eBPF verification"),
        ANY_EXTENDED_KEY_USAGE => Some("any"),
        _ => None,
    }
}
