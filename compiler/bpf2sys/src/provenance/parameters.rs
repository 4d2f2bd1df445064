//! The options of a build that decide about its bytes, as a statement has them.

use std::collections::BTreeMap;

use bpf2sys_pe_emit::{ImageOptions, Machine, Version, VersionInfo};
use bpf2sys_verifier::Verifier;
use serde::{Deserialize, Serialize};

use crate::{BuildOptions, Form, HashAlgorithm, Optimizations, Providers, RuntimeLevel, Settings, System};

/// `externalParameters`: the options of the command line under their own names, with nothing left out, so that another
/// version of the tool has no defaults to fill in. What is unknown is refused: it could change bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(clippy::struct_excessive_bools)] // switches that have nothing to do with each other
pub(crate) struct Parameters {
    /// The object's file name, without folders: maps of global variables are named after it.
    pub object: String,
    pub arch: Arch,
    pub emit: Emit,
    #[serde(rename = "type", deserialize_with = "Option::deserialize")] // may be null, and may not be missing
    pub program_type: Option<String>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub from: Option<From>,
    /// What `BPF2SYS_FROM` said.
    #[serde(deserialize_with = "Option::deserialize")]
    pub unmarked: Option<From>,
    pub retarget: bool,
    pub allow_degraded: bool,
    /// Names with their values.
    pub set: BTreeMap<String, String>,
    pub config: BTreeMap<String, String>,
    /// File names of the descriptions besides the built-in ones, without folders, in their order.
    pub platform: Vec<String>,
    pub verifier: Engine,
    pub deny_warnings: bool,
    pub runtime: Runtime,
    pub hash: Hash,
    pub lse: bool,
    pub sign_return_address: bool,
    pub cfg: Cfg,
    #[serde(with = "optimizations")]
    pub optimize: Optimizations,
    pub force_integrity: bool,
    #[serde(deserialize_with = "Option::deserialize")]
    pub version_info: Option<VersionResource>,
}

/// `--arch`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arch {
    X64,
    Arm64,
}

/// `--emit`, as far as it makes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Emit {
    Sys,
}

/// `--from`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum From {
    Linux,
    Windows,
}

impl From {
    fn of(system: System) -> From {
        match system {
            System::Linux => From::Linux,
            System::Windows => From::Windows,
        }
    }

    fn system(self) -> System {
        match self {
            From::Linux => System::Linux,
            From::Windows => System::Windows,
        }
    }
}

/// `--verifier`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    Native,
    Prevail,
    Both,
}

/// `--runtime`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Runtime {
    #[serde(rename = "0.21")]
    V0_21,
    #[serde(rename = "1.4")]
    V1_4,
    #[serde(rename = "1.6")]
    V1_6,
}

/// `--hash`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
    None,
}

/// `--cfg`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cfg {
    On,
    Off,
}

/// What `--version-info` made: the versions, and the strings under the names that the resource has for them, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct VersionResource {
    pub file_version: [u16; 4],
    pub product_version: [u16; 4],
    pub strings: Vec<(String, String)>,
}

impl Parameters {
    /// Those of the driver for one machine. `object` is the object's path.
    ///
    /// Every option is named here: who adds one must decide whether it can change bytes.
    pub(crate) fn of(object: &str, machine: Machine, options: &BuildOptions) -> Parameters {
        let BuildOptions {
            program_type,
            from,
            unmarked,
            retarget,
            allow_degraded,
            linux,
            verifier,
            providers,
            // Limits decide whether there is a verdict, not which.
            time_limit: _,
            memory_limit: _,
            deny_warnings,
            // One image is for one machine, and other outputs have no part in it.
            machines: _,
            forms: _,
            runtime,
            hash,
            lse,
            sign_return_address,
            control_flow_guard,
            optimizations,
            image: ImageOptions {
                force_integrity,
                version_info,
            },
        } = options;
        let arm64 = machine == Machine::Arm64;
        Parameters {
            object: file_name(object).to_owned(),
            arch: match machine {
                Machine::X64 => Arch::X64,
                Machine::Arm64 => Arch::Arm64,
            },
            emit: Emit::Sys,
            program_type: program_type.clone(),
            from: from.map(From::of),
            unmarked: unmarked.map(From::of),
            retarget: *retarget,
            allow_degraded: *allow_degraded,
            set: linux.variables.clone(),
            config: linux.configuration.clone(),
            platform: providers
                .files()
                .iter()
                .map(|(name, _)| file_name(name).to_owned())
                .collect(),
            verifier: match verifier {
                Verifier::Native => Engine::Native,
                Verifier::Prevail => Engine::Prevail,
                Verifier::Both => Engine::Both,
            },
            deny_warnings: *deny_warnings,
            runtime: match runtime {
                RuntimeLevel::V0_21 => Runtime::V0_21,
                RuntimeLevel::V1_4 => Runtime::V1_4,
                RuntimeLevel::V1_6 => Runtime::V1_6,
            },
            hash: match hash {
                Some(HashAlgorithm::Sha256) => Hash::Sha256,
                Some(HashAlgorithm::Sha384) => Hash::Sha384,
                Some(HashAlgorithm::Sha512) => Hash::Sha512,
                None => Hash::None,
            },
            lse: arm64 && *lse,
            sign_return_address: arm64 && *sign_return_address,
            cfg: if *control_flow_guard { Cfg::On } else { Cfg::Off },
            optimize: *optimizations,
            force_integrity: *force_integrity,
            version_info: version_info.as_ref().map(|info| VersionResource {
                file_version: info.file_version.0,
                product_version: info.product_version.0,
                strings: info.strings.clone(),
            }),
        }
    }

    /// The machine that the image is for.
    pub(crate) fn machine(&self) -> Machine {
        match self.arch {
            Arch::X64 => Machine::X64,
            Arch::Arm64 => Machine::Arm64,
        }
    }

    /// The options that build it again. `limits` gives those that are not stated.
    pub(crate) fn options(&self, providers: Providers, limits: &BuildOptions) -> BuildOptions {
        BuildOptions {
            program_type: self.program_type.clone(),
            from: self.from.map(From::system),
            unmarked: self.unmarked.map(From::system),
            retarget: self.retarget,
            allow_degraded: self.allow_degraded,
            linux: Settings {
                configuration: self.config.clone(),
                variables: self.set.clone(),
            },
            providers,
            time_limit: limits.time_limit,
            memory_limit: limits.memory_limit,
            verifier: match self.verifier {
                Engine::Native => Verifier::Native,
                Engine::Prevail => Verifier::Prevail,
                Engine::Both => Verifier::Both,
            },
            deny_warnings: self.deny_warnings,
            machines: vec![self.machine()],
            forms: vec![match self.emit {
                Emit::Sys => Form::Sys,
            }],
            runtime: match self.runtime {
                Runtime::V0_21 => RuntimeLevel::V0_21,
                Runtime::V1_4 => RuntimeLevel::V1_4,
                Runtime::V1_6 => RuntimeLevel::V1_6,
            },
            hash: match self.hash {
                Hash::Sha256 => Some(HashAlgorithm::Sha256),
                Hash::Sha384 => Some(HashAlgorithm::Sha384),
                Hash::Sha512 => Some(HashAlgorithm::Sha512),
                Hash::None => None,
            },
            lse: self.lse,
            sign_return_address: self.sign_return_address,
            control_flow_guard: self.cfg == Cfg::On,
            optimizations: self.optimize,
            image: ImageOptions {
                force_integrity: self.force_integrity,
                version_info: self.version_info.as_ref().map(|info| VersionInfo {
                    file_version: Version(info.file_version),
                    product_version: Version(info.product_version),
                    strings: info.strings.clone(),
                }),
            },
        }
    }
}

/// Optimizations as the command line names them.
mod optimizations {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Optimizations;

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it so
    pub(super) fn serialize<S: Serializer>(optimizations: &Optimizations, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(optimizations)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Optimizations, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The last part of a path of any system.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stated(options: &BuildOptions) -> Parameters {
        Parameters::of("a/filter.o", Machine::Arm64, options)
    }

    /// Every option but limits and the choice of outputs is changed once, and must show.
    #[test]
    fn each_option_that_changes_bytes_is_stated_and_read_back() {
        let toml = |text: &str| Providers::with_files(vec![("x/more.toml".into(), text.into())]).unwrap();
        let changes: Vec<fn(&mut BuildOptions)> = vec![
            |o| o.program_type = Some("xdp".into()),
            |o| o.from = Some(System::Linux),
            |o| o.from = Some(System::Windows),
            |o| o.unmarked = None,
            |o| o.unmarked = Some(System::Linux),
            |o| o.retarget = true,
            |o| o.allow_degraded = true,
            |o| o.linux.variables = [("port".to_owned(), "53".to_owned())].into(),
            |o| o.linux.configuration = [("CONFIG_HZ".to_owned(), "250".to_owned())].into(),
            |o| o.verifier = Verifier::Prevail,
            |o| o.verifier = Verifier::Both,
            |o| o.deny_warnings = true,
            |o| o.runtime = RuntimeLevel::V1_4,
            |o| o.runtime = RuntimeLevel::V0_21,
            |o| o.hash = None,
            |o| o.hash = Some(HashAlgorithm::Sha384),
            |o| o.hash = Some(HashAlgorithm::Sha512),
            |o| o.lse = true,
            |o| o.sign_return_address = true,
            |o| o.control_flow_guard = false,
            |o| o.optimizations = Optimizations::NONE,
            |o| o.optimizations = "no-inlining".parse().unwrap(),
            |o| o.image.force_integrity = true,
            |o| o.image.version_info = Some(VersionInfo::default()),
            |o| {
                o.image.version_info = Some(VersionInfo {
                    file_version: Version([1, 2, 3, 4]),
                    ..VersionInfo::default()
                });
            },
            |o| {
                o.image.version_info = Some(VersionInfo {
                    product_version: Version([1, 2, 3, 4]),
                    ..VersionInfo::default()
                });
            },
            |o| {
                o.image.version_info = Some(VersionInfo {
                    strings: vec![("CompanyName".into(), "Contoso".into())],
                    ..VersionInfo::default()
                });
            },
        ];
        let mut seen = vec![stated(&BuildOptions::default())];
        let mut all: Vec<BuildOptions> = changes
            .into_iter()
            .map(|change| {
                let mut options = BuildOptions::default();
                change(&mut options);
                options
            })
            .collect();
        all.push(BuildOptions {
            providers: toml("schema = 1\nprovider = { id = \"more\" }\n"),
            ..BuildOptions::default()
        });
        for options in all {
            let parameters = stated(&options);
            assert!(!seen.contains(&parameters), "nothing shows of {options:?}");
            let text = serde_json::to_string(&parameters).unwrap();
            let read: Parameters = serde_json::from_str(&text).unwrap();
            assert_eq!(read, parameters);
            // What is built again is stated the same.
            let again = read.options(options.providers.clone(), &BuildOptions::default());
            assert_eq!(stated(&again), parameters);
            seen.push(parameters);
        }
    }

    #[test]
    fn what_has_no_effect_is_not_stated() {
        let plain = Parameters::of("filter.o", Machine::X64, &BuildOptions::default());
        let options = BuildOptions {
            lse: true,
            sign_return_address: true,
            time_limit: Some(Duration::from_secs(1)),
            memory_limit: Some(1 << 30),
            machines: vec![Machine::Arm64, Machine::X64],
            forms: vec![Form::Asm, Form::Sys],
            ..BuildOptions::default()
        };
        assert_eq!(Parameters::of(r"c:\b\filter.o", Machine::X64, &options), plain);
    }

    #[test]
    fn unknown_missing_and_strange_options_are_refused() {
        let good = serde_json::to_value(stated(&BuildOptions::default())).unwrap();
        let fields = good.as_object().unwrap();
        for name in fields.keys() {
            let mut without = fields.clone();
            without.remove(name);
            let read = serde_json::from_value::<Parameters>(without.into());
            assert!(read.is_err(), "`{name}` may be missing");
            let mut strange = fields.clone();
            strange.insert(name.clone(), serde_json::json!({ "a": 1 }));
            assert!(serde_json::from_value::<Parameters>(strange.into()).is_err(), "{name}");
        }
        let mut more = fields.clone();
        more.insert("fast".into(), true.into());
        assert!(serde_json::from_value::<Parameters>(more.into()).is_err());
    }
}
