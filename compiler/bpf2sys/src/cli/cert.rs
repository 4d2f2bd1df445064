//! `bpf2sys cert`.

use std::path::{Path, PathBuf};

use bpf2sys_authenticode::load::write_pfx;
use bpf2sys_authenticode::{DigestAlgorithm, NewCertificateError, NewCertificates, NewKey, TestCertificates, Time};
use clap::ValueEnum;
use zeroize::Zeroizing;

use super::reporter::Reporter;
use super::{Outcome, output};
use crate::files::{self, Access};
use crate::signing::Password;
use crate::{Error, ErrorKind, SigningError};

/// Make certificates for tests.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:
  bpf2sys cert new",
    arg_required_else_help = true
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    New(New),
}

/// Make a root and a code-signing certificate for tests, and tell how Windows is made to trust them.
///
/// `root.cer` is the root, and `signing.cer` the signer's certificate, for code signing and eBPF verification; test machines have
/// to trust both. `signing.pfx` has the signer's key, too. The root's key is thrown away: nothing else can ever be signed below
/// this root.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys cert new
  bpf2sys cert new --out-dir certificates --name 'Contoso test' --days 30
  bpf2sys cert new --password-env PFX_PASSWORD
  bpf2sys sign udp_filter.sys --pfx signing.pfx")]
struct New {
    /// Write the files to this folder, which is made if needed
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,

    /// The signer's name
    #[arg(long, value_name = "TEXT", default_value = "bpf2sys test signing")]
    name: String,

    /// Kind of the keys. Driver signatures have always been of RSA keys; whether Windows takes others was not tried
    #[arg(long, value_name = "KIND", default_value = "rsa3072")]
    key: Key,

    /// For how many days they are valid
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// The environment variable that has the password to protect `signing.pfx` with; without it and a password file, there
    /// is none
    #[arg(long, value_name = "NAME", conflicts_with = "password_file")]
    password_env: Option<String>,

    /// The file whose first line is that password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Overwrite files that are there
    #[arg(long)]
    force: bool,

    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

/// `--key`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Key {
    Rsa2048,
    Rsa3072,
    Rsa4096,
    P256,
    P384,
}

impl From<Key> for NewKey {
    fn from(key: Key) -> NewKey {
        match key {
            Key::Rsa2048 => NewKey::Rsa2048,
            Key::Rsa3072 => NewKey::Rsa3072,
            Key::Rsa4096 => NewKey::Rsa4096,
            Key::P256 => NewKey::P256,
            Key::P384 => NewKey::P384,
        }
    }
}

pub(super) fn run(arguments: &Arguments, _: &mut Reporter) -> Outcome {
    let Command::New(arguments) = &arguments.command;
    let folder = arguments.out_dir.as_deref().unwrap_or(Path::new(""));
    let [root, certificate, pfx_file] = ["root.cer", "signing.cer", "signing.pfx"].map(|file| folder.join(file));
    for file in [&root, &certificate, &pfx_file] {
        if file.exists() && !arguments.force {
            let message = format!("`{}` is there already; `--force` overwrites it", file.display());
            return Err(ErrorKind::Usage(message).into());
        }
    }
    let password = password(arguments, &pfx_file)?;
    let new = NewCertificates {
        name: arguments.name.clone(),
        key: arguments.key.into(),
        from: Time::now(),
        days: arguments.days,
    };
    let made = new.make().map_err(|error| match error {
        NewCertificateError::Name => Error::from(ErrorKind::Usage(format!("`--name`: {error}"))),
        error => ErrorKind::Internal(error.to_string()).into(),
    })?;
    let pfx = write_pfx(&made.key, &[&made.signer, &made.root], &password);
    let pfx = pfx.map_err(|error| ErrorKind::Internal(error.to_string()))?;
    if let Some(folder) = &arguments.out_dir {
        files::create_folder(folder)?;
    }
    files::write_with_access(&[
        (&root, made.root.as_der(), Access::All),
        (&certificate, made.signer.as_der(), Access::All),
        (&pfx_file, &pfx, Access::Owner),
    ])?;
    if arguments.quiet {
        return Ok(0);
    }
    output::print(&instructions([&root, &certificate, &pfx_file], &made)).map(|()| 0)
}

fn password(arguments: &New, file: &Path) -> Result<Zeroizing<String>, Error> {
    let source = match (&arguments.password_env, &arguments.password_file) {
        (Some(name), _) => Password::Environment(name.clone()),
        (None, Some(file)) => Password::File(file.clone()),
        (None, None) => return Ok(Zeroizing::new(String::new())),
    };
    Ok(source.ask(file).map_err(|error| SigningError::KeyFile {
        path: file.to_owned(),
        source: error.into(),
    })?)
}

/// Text as one word of a command line, for the shells of Windows and Unix.
fn as_word(text: &str) -> String {
    if text.contains(char::is_whitespace) {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    }
}

fn instructions([root, certificate, pfx]: [&Path; 3], made: &TestCertificates) -> String {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!(
        "{root}: the root, valid until {end}
{certificate}: the signer's certificate (SHA-1 {thumbprint})
{pfx}: the signer's key and certificate; whoever has it can sign

Sign a driver:
  bpf2sys sign udp_filter.sys --pfx {word}

Let a test machine trust it, as an administrator:
  certutil -addstore root {root_name}
  certutil -addstore trustedpublisher {certificate_name}
  bcdedit /set testsigning on
and start the machine again. Where Secure Boot is on, Windows does not let test signing be turned on.
",
        root = root.display(),
        certificate = certificate.display(),
        pfx = pfx.display(),
        word = as_word(&pfx.display().to_string()),
        end = made.root.not_after(),
        thumbprint = made.signer.thumbprint(DigestAlgorithm::Sha1),
        root_name = name(root),
        certificate_name = name(certificate),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_spaces_is_shown_as_one_word() {
        assert_eq!(as_word(r"certs\signing.pfx"), r"certs\signing.pfx");
        assert_eq!(as_word(r"my certs\signing.pfx"), r#""my certs\signing.pfx""#);
    }
}
