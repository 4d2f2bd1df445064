//! The options that decide what code and which image is made of an object. `build` has them, and `package`, which builds again.

use std::path::{Path, PathBuf};

use clap::{ValueEnum, ValueHint};

use crate::cli::reporter::Reporter;
use crate::cli::verify;
use crate::{
    BuildOptions, Error, ErrorKind, Form, HashAlgorithm, ImageOptions, Machine, Optimizations, RuntimeLevel,
    VersionInfo, files,
};

/// What code and which image is made.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools)] // switches that have nothing to do with each other
pub(in crate::cli) struct CompileOptions {
    /// The oldest runtime that the output must load in; newer ones take it too
    ///
    /// Do not load it in an older one: not all of them refuse it. A runtime older than 1.4 takes a module of level 1.4 and
    /// gives it the wrong memory for maps. One of level 1.6 is refused by runtimes older than 1.5.
    #[arg(long, value_name = "LEVEL", default_value = "1.6")]
    runtime: Runtime,

    /// Algorithm of the hashes that the output states: of the object, and of the helpers that each program was compiled for
    #[arg(long, value_name = "ALGORITHM", default_value = "sha256")]
    hash: Hash,

    /// arm64: use atomic instructions of the Large System Extensions; the driver then needs an ARMv8.1 processor
    #[arg(long)]
    lse: bool,

    /// arm64: sign return addresses, which protects them on processors with pointer authentication
    #[arg(long)]
    sign_return_address: bool,

    /// Whether Windows checks calls of helpers: every image but an object file says that its calls go through Control Flow
    /// Guard, and they do
    #[arg(long, value_name = "on|off", default_value = "on")]
    cfg: Cfg,

    /// Which optimizations are made: `all`, `none`, or changes with commas between, such as `no-inlining`. They change no result; to
    /// find one that does, leave them out one by one. `array-lookups`, `inlining`, `threading`, `dead-code`, `unrolling`, `rotation`,
    /// `stack-slots`, `unused-stack`, `conventions`, `proven-checks`, `selects`, `sums`, `packet-loads`, `masks`, `cheaper`, `invariants`,
    /// `both-ways`, `memory-operands`, `loop-ends`, `near-values`,
    /// `early-values`, `last-uses`, `short-encodings`, `frames`, `jumps`
    #[arg(short = 'O', long, value_name = "LIST", default_value = "all")]
    optimize: Optimizations,

    /// Have Windows check the driver's signature whenever it loads it; without a signature that the machine trusts it then
    /// never loads
    #[arg(long)]
    force_integrity: bool,

    /// What the file properties of drivers and DLLs show: company, product, description, versions, copyright; see `bpf2sys
    /// explain BPF9007` for an example
    #[arg(long, value_name = "FILE.toml", value_hint = ValueHint::FilePath)]
    version_info: Option<PathBuf>,

    /// What a project file says in its stead.
    #[arg(skip)]
    version_info_of_project: Option<VersionInfo>,

    #[command(flatten)]
    verification: verify::Options,
}

/// `--runtime`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Runtime {
    /// As bpf2c 1.6 writes it; runtimes of 1.5 take it too
    #[value(name = "1.6")]
    V1_6,
    /// Without functions of other modules that are found by name (BTF-resolved functions)
    #[value(name = "1.4")]
    V1_4,
    /// Also without lookups in array maps that need no call
    #[value(name = "0.21")]
    V0_21,
}

impl From<Runtime> for RuntimeLevel {
    fn from(runtime: Runtime) -> RuntimeLevel {
        match runtime {
            Runtime::V1_6 => RuntimeLevel::V1_6,
            Runtime::V1_4 => RuntimeLevel::V1_4,
            Runtime::V0_21 => RuntimeLevel::V0_21,
        }
    }
}

/// `--cfg`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cfg {
    On,
    Off,
}

/// `--hash`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
    /// State no hashes; the runtime then can't tell that a helper has changed
    None,
}

impl From<Hash> for Option<HashAlgorithm> {
    fn from(hash: Hash) -> Option<HashAlgorithm> {
        match hash {
            Hash::Sha256 => Some(HashAlgorithm::Sha256),
            Hash::Sha384 => Some(HashAlgorithm::Sha384),
            Hash::Sha512 => Some(HashAlgorithm::Sha512),
            Hash::None => None,
        }
    }
}

impl CompileOptions {
    /// What the file properties show if the options name no file.
    pub(super) fn set_version_info(&mut self, info: Option<VersionInfo>) {
        self.version_info_of_project = info;
    }

    /// The files that outputs depend on because of the options.
    pub(super) fn reads(&self) -> Vec<PathBuf> {
        let mut files = self.verification.providers().files();
        files.extend(self.version_info.clone());
        files
    }

    /// The same as the library takes them, to make these things for these machines. An option that could have no effect is an
    /// error.
    pub(in crate::cli) fn build_options(
        &self,
        machines: Vec<Machine>,
        forms: Vec<Form>,
        reporter: &mut Reporter,
    ) -> Result<BuildOptions, Error> {
        let options = BuildOptions {
            machines,
            forms,
            runtime: self.runtime.into(),
            hash: self.hash.into(),
            lse: self.lse,
            sign_return_address: self.sign_return_address,
            control_flow_guard: self.cfg == Cfg::On,
            optimizations: self.optimize,
            image: ImageOptions {
                force_integrity: self.force_integrity,
                version_info: match &self.version_info {
                    Some(file) => Some(version_info(file)?),
                    None => self.version_info_of_project.clone(),
                },
            },
            ..self.verification.build_options(reporter)?
        };
        let switches = [("--lse", self.lse), ("--sign-return-address", self.sign_return_address)];
        if self.cfg == Cfg::Off && options.forms.iter().all(|form| *form == Form::Obj) {
            return Err(ErrorKind::Usage(
                "`--cfg off` is without effect: an object file never goes through Control Flow Guard".into(),
            )
            .into());
        }
        let of_images = [
            ("--force-integrity", self.force_integrity),
            ("--version-info", self.version_info.is_some()),
        ];
        let makes_image = options.forms.iter().any(|form| matches!(form, Form::Sys | Form::Dll));
        if let Some((switch, _)) = of_images.into_iter().find(|(_, given)| *given && !makes_image) {
            return Err(ErrorKind::Usage(format!(
                "`{switch}` is about drivers and DLLs, and none is made; add `--emit sys` or `--emit dll`"
            ))
            .into());
        }
        match switches.into_iter().find(|(_, given)| *given) {
            Some((switch, _)) if !options.machines.contains(&Machine::Arm64) => Err(ErrorKind::Usage(format!(
                "`{switch}` is about arm64 code, and none is made; add `--arch arm64`"
            ))
            .into()),
            _ => Ok(options),
        }
    }
}

/// Reads the file for the version resource.
fn version_info(path: &Path) -> Result<VersionInfo, Error> {
    let failed = |problem| ErrorKind::VersionInfo {
        path: path.to_owned(),
        problem,
    };
    let text = files::text(files::read(path)?).ok_or_else(|| failed("it is not UTF-8 text".into()))?;
    Ok(crate::version_info::parse(&text).map_err(failed)?)
}
