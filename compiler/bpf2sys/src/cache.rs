//! Verdicts that were given before, in files of a folder.
//!
//! Given: an object and how it is to be verified. Computed: the verdict, from the folder if it has it.
//! An entry is found by a hash over everything that the verdict and its text depend on ([`key`]). It holds diagnostics as data, so
//! that a verdict that was kept is printed as a fresh one is, in every form. Only verdicts are kept: no failure of a limit, of
//! the engine or of reading.
//! Safe because: an entry counts only if its first line names its key and the hash of the rest; what is damaged, cut off, or
//! another's is as good as not there, and is replaced. Files appear complete or not at all, so processes can share a
//! folder. The hashes protect against accidents: who can write to the folder can write a verdict, and must be trusted as
//! the tool itself is. `build` takes no verdict from it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bpf2sys_verifier::{Verifier, VerifyError};
use serde::{Deserialize, Serialize};

use crate::hash::sha256;
use crate::verdict::Verdict;
use crate::{BuildOptions, Code, Diagnostic, Error, ErrorKind, System, files};

/// Changes with the form of the entries.
const FORMAT: &str = "bpf2sys-verdict-1";

/// What a verdict and its text are made of, besides the inputs.
const SOURCES: &str = env!("BPF2SYS_VERDICT_SOURCES");

/// Largest entry that is read, in bytes.
const MAX_ENTRY: u64 = 64 << 20;

/// A folder of verdicts. It is made when the first is kept.
#[derive(Clone, Debug)]
pub struct VerdictCache {
    folder: PathBuf,
}

/// What is kept.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kept {
    Safe(Verdict),
    Rejected(Vec<Diagnostic>),
}

impl VerdictCache {
    /// The verdicts in a folder.
    pub fn new(folder: impl Into<PathBuf>) -> VerdictCache {
        VerdictCache { folder: folder.into() }
    }

    /// Reads and verifies an object file as [`verify`](crate::verify) does, unless the verdict is known. One that can't be
    /// kept is a warning.
    ///
    /// # Errors
    /// Those of [`verify`](crate::verify); a rejection is an [`ErrorKind::Rejected`].
    pub fn verify(&self, object: &[u8], name: &str, options: &BuildOptions) -> Result<Verdict, Error> {
        let key = key(object, name, options);
        let mut warning = None;
        let kept = if let Some(known) = self.load(&key) {
            known
        } else {
            let fresh = match crate::prove(object, name, options) {
                Ok(proven) => Kept::Safe(Verdict::of(&proven.verified, proven.warnings())),
                Err(error) => match error.kind() {
                    ErrorKind::Verify(VerifyError::Rejected(_)) | ErrorKind::DeniedWarnings(_) => {
                        Kept::Rejected(error.diagnostics())
                    }
                    _ => return Err(error),
                },
            };
            warning = self.store(&key, &fresh).err().map(|error| self.not_kept(&error));
            fresh
        };
        match kept {
            Kept::Safe(mut verdict) => {
                verdict.warnings.extend(warning);
                Ok(verdict)
            }
            Kept::Rejected(mut diagnostics) => {
                diagnostics.extend(warning);
                Err(ErrorKind::Rejected(diagnostics).into())
            }
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key).with_extension("verdict")
    }

    fn load(&self, key: &str) -> Option<Kept> {
        let mut bytes = Vec::new();
        let file = File::open(self.path(key)).ok()?;
        file.take(MAX_ENTRY + 1).read_to_end(&mut bytes).ok()?;
        if bytes.len() as u64 > MAX_ENTRY {
            return None;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (first, rest) = (&bytes[..end], &bytes[end + 1..]);
        if first != first_line(key, rest).as_bytes() {
            return None;
        }
        let kept: Kept = serde_json::from_slice(rest).ok()?;
        // A verdict is about something.
        let is_empty = match &kept {
            Kept::Safe(verdict) => verdict.programs.is_empty(),
            Kept::Rejected(diagnostics) => diagnostics.is_empty(),
        };
        (!is_empty).then_some(kept)
    }

    fn store(&self, key: &str, kept: &Kept) -> Result<(), Error> {
        let rest = serde_json::to_vec(kept).map_err(|e| ErrorKind::Internal(e.to_string()))?;
        let entry = [first_line(key, &rest).as_bytes(), b"\n", &rest].concat();
        let path = self.path(key);
        make_folder(&self.folder).map_err(|source| ErrorKind::WriteFile {
            path: self.folder.clone(),
            source,
        })?;
        files::write_all(&[(&path, &entry)])
    }

    fn not_kept(&self, error: &Error) -> Diagnostic {
        Diagnostic {
            help: Some(format!(
                "give `--cache` a folder that can be written, or remove what is in the way in `{}`",
                self.folder.display()
            )),
            ..Diagnostic::new(Code::BPF9006, format!("the verdict is not kept: {error}"))
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)
}

fn first_line(key: &str, rest: &[u8]) -> String {
    format!("{FORMAT} {key} {}", sha256(rest))
}

/// A hash over everything that decides what is printed about an object: its bytes; its file name, because maps are named after
/// it; the engine; whether warnings are errors; the section that `--type` names; the provider files of the user, in their order; and this
/// tool. The limits are not part of it, because a verdict that keeps to them is the same under others (where the time was about
/// to pass, less may be told of a rejection).
fn key(object: &[u8], name: &str, options: &BuildOptions) -> String {
    let object = sha256(object);
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let program_type = options.program_type.as_deref();
    let mut parts = vec![
        FORMAT,
        env!("CARGO_PKG_VERSION"),
        SOURCES,
        &object,
        base,
        match options.verifier {
            Verifier::Native => "native",
            Verifier::Prevail => "prevail",
            Verifier::Both => "both",
        },
        if options.deny_warnings { "deny" } else { "warn" },
        match options.from.or(options.unmarked) {
            None => "marks",
            Some(System::Linux) => "linux",
            Some(System::Windows) => "windows",
        },
        if options.from.is_some() { "from" } else { "by marks" },
        if options.retarget { "retarget" } else { "as it is" },
        if options.allow_degraded { "degraded" } else { "exact" },
        if program_type.is_some() { "type" } else { "section" },
        program_type.unwrap_or_default(),
    ];
    for (kind, settings) in [
        ("set", &options.linux.variables),
        ("config", &options.linux.configuration),
    ] {
        for (name, value) in settings {
            parts.extend([kind, name, value]);
        }
    }
    for (name, text) in options.providers.files() {
        parts.extend([name.as_str(), text.as_str()]);
    }
    let mut all = Vec::new();
    for part in parts {
        // With their lengths, so that no two lists are the same bytes.
        all.extend((part.len() as u64).to_le_bytes());
        all.extend(part.as_bytes());
    }
    sha256(&all)
}
