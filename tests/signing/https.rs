//! A timestamp by https. What the system trusts is given by the variable that takes the place of its roots on Linux.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use libtest_mimic::{Failed, Trial};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::authority::{prepare, serve, stamp};
use super::keys::{KINDS, made};
use super::{TOOLS, driver, our_report, sign};
use crate::support::{output, test_with};

pub fn trials() -> Vec<Trial> {
    vec![test_with("signing::timestamps_come_by_https", TOOLS, timestamps)]
}

/// Starts an authority that does everything right, with a certificate and its key (PEM). Gives its URL.
fn start(certificate: &Path, key: &Path) -> Result<String, Failed> {
    let folder = prepare("tls_tsa")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)?.collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain?, PrivateKeyDer::from_pem_file(key)?)?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("https://{}/", listener.local_addr()?);
    thread::spawn(move || {
        let answer = move |request: &[u8]| Ok(("200 OK", stamp(&folder, request)?));
        for stream in listener.incoming().flatten() {
            let Ok(connection) = ServerConnection::new(Arc::clone(&config)) else {
                continue;
            };
            let mut stream = StreamOwned::new(connection, stream);
            // What goes wrong here fails on the other side.
            let _ = serve(&mut stream, &answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    Ok(url)
}

fn timestamps() -> Result<(), Failed> {
    const SERVER: &str = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n";
    let (made, folder) = (made(), tempfile::tempdir()?);
    let image = driver(folder.path())?;
    let before = fs::read(&image)?;
    made.issue("server", KINDS[3].1, "/CN=Judge server", Some("root"), SERVER)?;
    let url = start(&made.file("server.pem"), &made.file("server.key"))?;
    let stamped = |trusted: &Path| {
        let mut command = sign(&image, &["--timestamp", &url]);
        command.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        output(command.args(made.signer("p256")))
    };
    let refused = stamped(&made.timestamp_root)?;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(7) && told.contains("BPF7008") && told.contains("certificate"),
        "{told}"
    );
    assert_eq!(fs::read(&image)?, before);
    let taken = stamped(&made.root)?;
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let report = our_report(&image, &[&made.root, &made.timestamp_root])?;
    assert_eq!(report["signatures"][0]["timestamp"]["verified"], true, "{report}");
    Ok(())
}
