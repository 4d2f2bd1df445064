//! The options that say who signs, and how. `sign` has them as they are, `build` with `sign-` before each name.

use std::path::PathBuf;
use std::time::Duration;

use bpf2sys_authenticode::{DigestAlgorithm, Existing, SignOptions};
use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum, ValueHint};

use crate::signing::{
    self, DigestCommand, FileCommand, HttpAuthority, Means, Password, Signing, Template, TemplateSigns,
};
use crate::{Error, ErrorKind};

/// Heading of the options in help.
pub(crate) const HEADING: &str = "Signing";

/// Longest description and URL, in bytes.
const MAX_TEXT: usize = 4096;

/// Who signs, and how.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct SigningOptions {
    /// Sign with the key and the certificates of this PFX file (PKCS #12)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["key", "cert", "signer_command"])]
    pfx: Option<PathBuf>,

    /// Sign with the private key in this file: PEM or DER, of PKCS #8, PKCS #1 or SEC 1
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "cert", conflicts_with = "signer_command")]
    key: Option<PathBuf>,

    /// The certificate of the key: PEM, DER or PKCS #7. The first one in the file is the signer's
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    cert: Option<PathBuf>,

    /// Include the certificates of this file, which lead from the signer's to a root
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    chain: Vec<PathBuf>,

    /// The environment variable that has the password of the key; without it and a password file, it is asked for
    #[arg(long, value_name = "NAME", conflicts_with = "password_file")]
    password_env: Option<String>,

    /// The file whose first line is the password of the key
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    password_file: Option<PathBuf>,

    /// Sign with this command: a program and its arguments, with placeholders
    ///
    /// With `{digest}` and `{signature}` the program reads a digest from the one file and writes the signature of it to the other:
    /// RSASSA-PKCS1-v1_5, or ECDSA as DER or as its two numbers. `{digest_info}` is a file with the digest as RSA tokens want it
    /// that only add padding (`DigestInfo` of PKCS #1). `--cert` names the certificate. With `{file}` the program
    /// signs that file in place, in all by itself; `--cert` then says whose signature it must be. `{algorithm}` is `sha256` or
    /// `sha384`. Words are separated by spaces; quotes keep spaces in a word. No shell is used. What the program made is
    /// verified before it is used.
    #[arg(long, value_name = "TEMPLATE")]
    signer_command: Option<String>,

    /// Stop the signer command after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    signer_timeout: u64,

    /// The digest that is signed
    #[arg(long, value_name = "ALGORITHM", default_value = "sha256")]
    digest: Digest,

    /// What the image is, for people whom Windows asks whether they trust it
    #[arg(long, value_name = "TEXT", value_parser = description)]
    description: Option<String>,

    /// Where more is told of it
    #[arg(long, value_name = "URL", value_parser = url)]
    url: Option<String>,

    /// Have the signature stamped by this timestamp authority (RFC 3161), so that it stays good when the certificate ends
    #[arg(long, value_name = "URL", value_parser = HttpAuthority::new)]
    timestamp: Option<HttpAuthority>,

    /// Sign a digest of each page, too, so that Windows can check pages when it reads them
    #[arg(long)]
    page_hashes: bool,
}

/// `--digest`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Digest {
    Sha256,
    Sha384,
}

fn description(text: &str) -> Result<String, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("it has {} bytes, and {MAX_TEXT} are the most", text.len()));
    }
    Ok(text.to_owned())
}

fn url(text: &str) -> Result<String, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it has characters that a URL can't have".into());
    }
    description(text)
}

impl SigningOptions {
    /// The same as the rest of the tool takes them; `None` if nothing says who signs. `prefix` is what stands before the names
    /// of the options, for messages.
    pub(crate) fn signing(&self, existing: Existing, prefix: &str) -> Result<Option<Signing>, Error> {
        let usage = |message: String| Error::from(ErrorKind::Usage(message));
        let password = match (&self.password_env, &self.password_file) {
            (Some(name), _) => Password::Environment(name.clone()),
            (None, Some(file)) => Password::File(file.clone()),
            (None, None) => Password::Prompt(format!("`--{prefix}password-env` or `--{prefix}password-file` give it")),
        };
        let means = if let Some(file) = &self.pfx {
            let (identity, key) = signing::from_pfx(file, &self.chain, &password)?;
            Means::Key(identity, key)
        } else if let (Some(key), Some(certificate)) = (&self.key, &self.cert) {
            let (identity, key) = signing::from_key_files(key, certificate, &self.chain, &password)?;
            Means::Key(identity, key)
        } else if let Some(template) = &self.signer_command {
            self.command(template, prefix)?
        } else if let Some(option) = self.given_in_vain() {
            return Err(usage(format!(
                "`--{prefix}{option}` is about a signature, and nothing says who signs: `--{prefix}pfx` does, or `--{prefix}key` and \
                 `--{prefix}cert`, or `--{prefix}signer-command`"
            )));
        } else {
            return Ok(None);
        };
        Ok(Some(Signing {
            means,
            authority: self.timestamp.clone(),
            options: SignOptions {
                digest: match self.digest {
                    Digest::Sha256 => DigestAlgorithm::Sha256,
                    Digest::Sha384 => DigestAlgorithm::Sha384,
                },
                description: self.description.clone(),
                url: self.url.clone(),
                page_hashes: self.page_hashes,
                existing,
            },
        }))
    }

    fn command(&self, template: &str, prefix: &str) -> Result<Means, Error> {
        let usage = |message: String| Error::from(ErrorKind::Usage(message));
        let template =
            Template::parse(template).map_err(|why| usage(format!("`--{prefix}signer-command {template}`: {why}")))?;
        let limit = Duration::from_secs(self.signer_timeout);
        let identity = (self.cert.as_deref())
            .map(|file| signing::certificate(file, &self.chain))
            .transpose()?;
        match (template.signs, identity) {
            (TemplateSigns::Digests, Some(identity)) => {
                Ok(Means::Digests(identity, DigestCommand::new(template, limit)))
            }
            (TemplateSigns::Digests, None) => Err(usage(format!(
                "`--{prefix}cert` must name the certificate of the key that `--{prefix}signer-command` signs digests with"
            ))),
            (TemplateSigns::Files, identity) => {
                let in_vain = [
                    ("chain", !self.chain.is_empty()),
                    ("description", self.description.is_some()),
                    ("url", self.url.is_some()),
                    ("timestamp", self.timestamp.is_some()),
                    ("page-hashes", self.page_hashes),
                ];
                if let Some((option, _)) = in_vain.into_iter().find(|(_, given)| *given) {
                    return Err(usage(format!(
                        "`--{prefix}{option}` has no effect on a command that signs files: give the command its own option"
                    )));
                }
                Ok(Means::Files(FileCommand {
                    template,
                    limit,
                    signer: identity.map(|identity| identity.signer().clone()),
                }))
            }
        }
    }

    /// An option that was given although nobody signs.
    fn given_in_vain(&self) -> Option<&'static str> {
        let given = [
            ("cert", self.cert.is_some()),
            ("chain", !self.chain.is_empty()),
            ("password-env", self.password_env.is_some()),
            ("password-file", self.password_file.is_some()),
            ("description", self.description.is_some()),
            ("url", self.url.is_some()),
            ("timestamp", self.timestamp.is_some()),
            ("page-hashes", self.page_hashes),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// The files that a signature depends on.
    pub(crate) fn reads(&self) -> Vec<PathBuf> {
        let files = [&self.pfx, &self.key, &self.cert, &self.password_file];
        files.into_iter().flatten().chain(&self.chain).cloned().collect()
    }

    /// Whether any option was given that says who signs.
    pub(crate) fn says_who(&self) -> bool {
        self.pfx.is_some() || self.key.is_some() || self.signer_command.is_some()
    }
}

/// [`SigningOptions`] of `build`.
#[derive(Debug)]
pub(crate) struct PrefixedSigningOptions(pub SigningOptions);

impl PrefixedSigningOptions {
    /// What stands before the names.
    pub(crate) const PREFIX: &str = "sign-";
}

impl Args for PrefixedSigningOptions {
    fn augment_args(command: Command) -> Command {
        let options = SigningOptions::augment_args(Command::new("options"));
        let renamed = options.get_arguments().map(|argument| {
            let name = argument.get_long().unwrap_or_default();
            argument
                .clone()
                .long(format!("{}{name}", Self::PREFIX))
                .help_heading(HEADING)
        });
        command.args(renamed)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for PrefixedSigningOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        SigningOptions::from_arg_matches(matches).map(PrefixedSigningOptions)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}
