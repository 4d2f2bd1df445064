//! Asking a timestamp authority over HTTP (RFC 3161 §3.4).

use std::time::Duration;

use bpf2sys_authenticode::TimestampAuthority;

/// Longest answer that is read, in bytes; they have a few KiB.
const MAX_ANSWER: u64 = 1 << 20;
/// How long an answer may take, all in all.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A timestamp authority.
#[derive(Clone, Debug)]
pub(crate) struct HttpAuthority {
    url: String,
}

impl HttpAuthority {
    /// The authority at a URL, or why it can't be asked.
    pub(crate) fn new(url: &str) -> Result<HttpAuthority, String> {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("http") => {}
            Some("https") if cfg!(feature = "https") => {}
            Some("https") => {
                return Err("this build of bpf2sys has no https; http will do, as timestamps are signed".into());
            }
            _ => return Err("a timestamp authority has a URL that begins with http:// or https://".into()),
        }
        Ok(HttpAuthority { url: url.to_owned() })
    }
}

impl TimestampAuthority for HttpAuthority {
    fn answer(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |error: ureq::Error| format!("{}: {error}", self.url);
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIME_LIMIT))
            .max_redirects(3)
            .user_agent(concat!("bpf2sys/", env!("CARGO_PKG_VERSION")));
        #[cfg(feature = "https")]
        let config = config.tls_config(tls());
        let agent = ureq::Agent::new_with_config(config.build());
        let request = agent
            .post(&self.url)
            .content_type("application/timestamp-query")
            .header("Accept", "application/timestamp-reply")
            .send(request);
        let mut response = request.map_err(failed)?;
        response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(failed)
    }
}

/// TLS with the roots of the system.
#[cfg(feature = "https")]
fn tls() -> ureq::tls::TlsConfig {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(provider)
        .build()
}
