//! A timestamp authority on this machine: HTTP by hand, timestamps by OpenSSL.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use libtest_mimic::Failed;

use super::keys::{made, openssl};

/// How it answers: from the bytes of a request, a status line and a body.
type Answer = dyn Fn(&[u8]) -> Result<(&'static str, Vec<u8>), Failed> + Send + Sync;

/// Starts an authority that lives as long as the process. Gives its URL.
pub fn start(
    answer: impl Fn(&[u8]) -> Result<(&'static str, Vec<u8>), Failed> + Send + Sync + 'static,
) -> Result<String, Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    let answer: Arc<Answer> = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // What goes wrong here fails on the other side.
            let _ = serve(stream, &*answer);
        }
    });
    Ok(url)
}

/// An authority that does everything right.
pub fn start_good(name: &'static str) -> Result<String, Failed> {
    let folder = prepare(name)?;
    start(move |request| Ok(("200 OK", stamp(&folder, request)?)))
}

/// Answers one request.
pub fn serve(stream: impl Read + Write, answer: &Answer) -> Result<(), Failed> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut request = vec![0; length];
    reader.read_exact(&mut request)?;
    let (status, body) = answer(&request)?;
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/timestamp-reply\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    Ok(())
}

/// A folder with what `openssl ts` needs.
pub fn prepare(name: &str) -> Result<PathBuf, Failed> {
    let made = made();
    let folder = made.file(name);
    fs::create_dir(&folder)?;
    let path = |file: &str| made.text(file);
    let config = format!(
        "[tsa]\nserial = {serial}\ncrypto_device = builtin\nsigner_cert = {cert}\ncerts = {root}\nsigner_key = {key}\n\
         signer_digest = sha256\ndefault_policy = 1.2.3.4.1\ndigests = sha256, sha384\naccuracy = secs:1\n\
         ordering = yes\ntsa_name = yes\ness_cert_id_chain = no\ness_cert_id_alg = sha256\n",
        serial = folder.join("serial").display(),
        cert = path("tsa.pem"),
        root = path("tsa_root.pem"),
        key = path("tsa.key"),
    );
    fs::write(folder.join("tsa.cnf"), config)?;
    Ok(folder)
}

/// The answer of `openssl ts` to a request.
pub fn stamp(folder: &Path, request: &[u8]) -> Result<Vec<u8>, Failed> {
    let (query, reply) = (folder.join("query"), folder.join("reply"));
    fs::write(&query, request)?;
    let mut command = Command::new("openssl");
    command
        .args(["ts", "-reply", "-section", "tsa", "-config"])
        .arg(folder.join("tsa.cnf"));
    openssl(command.arg("-queryfile").arg(&query).arg("-out").arg(&reply))?;
    Ok(fs::read(reply)?)
}
