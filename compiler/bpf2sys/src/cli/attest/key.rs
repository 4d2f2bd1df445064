//! The options that say who signs a statement.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bpf2sys_authenticode::load::{self, LoadError};
use zeroize::Zeroizing;

use crate::provenance::{Attester, PublicKey};
use crate::signing::{DigestCommand, Password, Template, TemplateSigns, from_pfx};
use crate::{Error, ErrorKind, SigningError, files};

/// Heading of the options in help.
const HEADING: &str = "Statement";

/// Who signs a statement.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
#[allow(clippy::struct_field_names)] // the names of the options, beside others
pub(in crate::cli) struct AttestOptions {
    /// Sign the statement with the private key in this file: PEM or DER, of PKCS #8, PKCS #1 or SEC 1, or a PFX file. The one that
    /// signed the image will do
    #[arg(long, value_name = "FILE", conflicts_with = "attest_command")]
    attest_key: Option<PathBuf>,

    /// The environment variable that has the password of the key; without it and a password file, it is asked for
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "attest_password_file",
        requires = "attest_key"
    )]
    attest_password_env: Option<String>,

    /// The file whose first line is the password of the key
    #[arg(long, value_name = "FILE", requires = "attest_key")]
    attest_password_file: Option<PathBuf>,

    /// Sign the statement with this command, e.g. by a hardware token: as `--signer-command` of `sign`, with `{digest}` and
    /// `{signature}`
    #[arg(long, value_name = "TEMPLATE", requires = "attest_cert")]
    attest_command: Option<String>,

    /// The certificate, or the public key, of the key that the command signs with
    #[arg(long, value_name = "FILE", requires = "attest_command")]
    attest_cert: Option<PathBuf>,

    /// Stop the command after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    attest_timeout: u64,
}

impl AttestOptions {
    /// The key; `None` if nothing says who signs.
    pub(in crate::cli) fn attester(&self) -> Result<Option<Attester>, Error> {
        match (&self.attest_key, &self.attest_command, &self.attest_cert) {
            (Some(file), _, _) => self.of_file(file).map(Some),
            (None, Some(template), Some(certificate)) => self.of_command(template, certificate).map(Some),
            _ => Ok(None),
        }
    }

    fn of_file(&self, file: &Path) -> Result<Attester, Error> {
        let password = match (&self.attest_password_env, &self.attest_password_file) {
            (Some(name), _) => Password::Environment(name.clone()),
            (None, Some(file)) => Password::File(file.clone()),
            (None, None) => Password::Prompt("`--attest-password-env` or `--attest-password-file` give it".into()),
        };
        let bytes = Zeroizing::new(files::read(file)?);
        let is_pfx = file
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("pfx") || e.eq_ignore_ascii_case("p12"));
        let key = if is_pfx {
            from_pfx(file, &[], &password)?.1
        } else {
            load::private_key(&bytes, &mut || password.ask(file)).map_err(|source| unusable(file, source))?
        };
        Ok(Attester::of_key(key)?)
    }

    fn of_command(&self, template: &str, certificate: &Path) -> Result<Attester, Error> {
        let usage = |why: String| Error::from(ErrorKind::Usage(format!("`--attest-command {template}`: {why}")));
        let parsed = Template::parse(template).map_err(usage)?;
        if parsed.signs != TemplateSigns::Digests {
            return Err(usage(
                "it must sign `{digest}`: a statement is no file that a signing tool knows".into(),
            ));
        }
        let command = DigestCommand::new(parsed, Duration::from_secs(self.attest_timeout));
        let file = files::read(certificate)?;
        let key = PublicKey::read(&file).or_else(|_| PublicKey::of_certificates(&file))?;
        Ok(Attester::of_command(command, key))
    }
}

fn unusable(file: &Path, source: LoadError) -> Error {
    let path = file.to_owned();
    SigningError::KeyFile { path, source }.into()
}
