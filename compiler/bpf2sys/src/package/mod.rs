//! The package for Microsoft's hardware dashboard: a cabinet with one folder per driver.
//!
//! Given: drivers, each for one or more architectures, with their symbols, and what the INF says. Computed: the bytes of
//! the cabinet. The same input gives the same bytes: files are in the order of their names, and have one date.
//!
//! What the dashboard demands (Microsoft, "Attestation sign Windows drivers", 2024): no file outside of a folder, one folder
//! per driver package, the same architectures in each folder; the driver, its INF, and symbols where there are some. Its own
//! names of folders have no special characters and fewer than 40 characters ("Create a hardware submission").

mod cabinet;
mod inf;

use std::collections::BTreeSet;

use bpf2sys_check::{Options, check};
use bpf2sys_pe_emit::Machine;
use bpf2sys_platform::Platform;
use bpf2sys_simulator::describe::{ImageKind, describe};
use time::Date;

use crate::{Error, ProvenanceError, Version};

/// Most characters of a driver's name, which is that of its folder.
const MAX_NAME: usize = 39;

/// A driver in a package.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    /// Name of its folder, its images and its INF.
    pub name: String,
    /// At least one, each for another machine.
    pub images: Vec<(Machine, Vec<u8>)>,
    /// Symbols of the image for a machine: file name and contents.
    pub symbols: Vec<(Machine, String, Vec<u8>)>,
    /// An INF to take; without one it is made.
    pub inf: Option<Vec<u8>>,
}

/// What an INF says of all drivers of a package.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    /// Who provides the drivers.
    pub provider: String,
    /// `DriverVer`
    pub date: Date,
    /// `DriverVer`
    pub version: Version,
}

/// A file of the cabinet.
struct File {
    /// With folders, separated by `\`.
    path: String,
    contents: Vec<u8>,
}

fn refused(why: impl Into<String>) -> ProvenanceError {
    ProvenanceError::Package(format!("the image can't be in a package: {}", why.into()))
}

/// Refuses an image that memory integrity or the runtime would not take: it is worth no submission.
pub(crate) fn keeps_every_rule(image: &[u8], platform: &Platform) -> Result<(), ProvenanceError> {
    let report = check(image, &Options::default(), platform).map_err(|e| refused(e.to_string()))?;
    match report.failures().next() {
        None => Ok(()),
        Some(row) => Err(refused(format!(
            "it breaks the rule that {} (`{}`): {}; `bpf2sys check` tells all",
            row.title, row.rule, row.measured
        ))),
    }
}

/// The machine that an image is for, if it is a driver.
pub(crate) fn machine(image: &[u8]) -> Result<Machine, ProvenanceError> {
    let description = describe(image).map_err(|e| refused(e.to_string()))?;
    if description.kind != ImageKind::Driver {
        return Err(refused("it is a DLL, and only drivers are signed by the dashboard"));
    }
    match description.machine.as_str() {
        "x64" => Ok(Machine::X64),
        "arm64" => Ok(Machine::Arm64),
        other => Err(refused(format!("it is for machine {other}"))),
    }
}

/// The name of the driver that a file name stands for: without the extension, and the architecture as `build` appends it.
pub(crate) fn driver_name(file_name: &str, machine: Machine) -> Result<String, ProvenanceError> {
    let stem = file_name.rsplit_once('.').map_or(file_name, |(stem, _)| stem);
    let name = stem.strip_suffix(&format!(".{machine}")).unwrap_or(stem);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty()
        || name.len() > MAX_NAME
        || !name.chars().all(allowed)
        || name.starts_with('.')
        || name.ends_with('.')
    {
        return Err(ProvenanceError::Package(format!(
            "`{name}` can't be the name of a driver in a package: it needs 1 to {MAX_NAME} characters out of letters, digits, \
             `_`, `-`, and `.` inside"
        )));
    }
    if is_device(name) {
        return Err(ProvenanceError::Package(format!(
            "`{name}` can't be the name of a driver in a package: Windows has a device of this name in every folder"
        )));
    }
    Ok(name.to_owned())
}

/// Whether Windows takes a name for that of a device, whatever follows its first dot (Microsoft, "Naming Files, Paths, and
/// Namespaces").
fn is_device(name: &str) -> bool {
    let name = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    match name.as_str() {
        "con" | "prn" | "aux" | "nul" => true,
        name => {
            let number = name.strip_prefix("com").or_else(|| name.strip_prefix("lpt"));
            number.is_some_and(|number| matches!(number.as_bytes(), [b'0'..=b'9']))
        }
    }
}

/// The cabinet. `details` is needed for drivers without an INF of their own; `date` is that of all files in it.
pub(crate) fn cabinet(drivers: &[Driver], details: Option<&Details>, date: Date) -> Result<Vec<u8>, Error> {
    same_architectures(drivers)?;
    let mut files = Vec::new();
    for driver in drivers {
        let name = &driver.name;
        let inf = match (&driver.inf, details) {
            (Some(inf), _) => inf.clone(),
            (None, Some(details)) => {
                let machines: Vec<Machine> = driver.images.iter().map(|(machine, _)| *machine).collect();
                inf::text(name, &machines, details)?
            }
            (None, None) => return Err(ProvenanceError::Package(format!("`{name}` has no INF")).into()),
        };
        files.push(File {
            path: format!(r"{name}\{name}.inf"),
            contents: inf,
        });
        files.extend(driver.images.iter().map(|(machine, image)| File {
            path: format!(r"{name}\{machine}\{name}.sys"),
            contents: image.clone(),
        }));
        files.extend(driver.symbols.iter().map(|(machine, file, symbols)| File {
            path: format!(r"{name}\{machine}\{file}"),
            contents: symbols.clone(),
        }));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    // Windows tells no difference between letters by their case.
    let paths: BTreeSet<String> = files.iter().map(|file| file.path.to_ascii_lowercase()).collect();
    if paths.len() != files.len() {
        return Err(ProvenanceError::Package("two files would have the same name in the package".into()).into());
    }
    cabinet::write(&files, date)
}

fn same_architectures(drivers: &[Driver]) -> Result<(), ProvenanceError> {
    let machines = |driver: &Driver| -> BTreeSet<String> { driver.images.iter().map(|(m, _)| m.to_string()).collect() };
    let listed = |driver: &Driver| machines(driver).into_iter().collect::<Vec<_>>().join(" and ");
    match drivers {
        [first, rest @ ..] => match rest.iter().find(|driver| machines(driver) != machines(first)) {
            Some(other) => Err(ProvenanceError::Package(format!(
                "all drivers of a package are for the same architectures: `{}` is for {}, and `{}` for {}",
                first.name,
                listed(first),
                other.name,
                listed(other)
            ))),
            None => Ok(()),
        },
        [] => Err(ProvenanceError::Package("there is no driver".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_drivers_are_those_of_files_without_extension_and_architecture() {
        for (file, machine, name) in [
            ("filter.sys", Machine::X64, "filter"),
            ("filter.x64.sys", Machine::X64, "filter"),
            ("filter.arm64.sys", Machine::Arm64, "filter"),
            ("filter.arm64.sys", Machine::X64, "filter.arm64"),
            ("a-b_c.1.sys", Machine::X64, "a-b_c.1"),
            ("com10.sys", Machine::X64, "com10"),
            ("a.nul.sys", Machine::X64, "a.nul"),
        ] {
            assert_eq!(driver_name(file, machine).unwrap(), name);
        }
        let long = "a".repeat(40) + ".sys";
        for bad in [
            ".sys",
            "",
            "a b.sys",
            "a\\b.sys",
            "..sys",
            "ä.sys",
            "a\"b.sys",
            "nul.sys",
            "Con.1.sys",
            "lpt9.sys",
            &long,
        ] {
            assert!(driver_name(bad, Machine::X64).is_err(), "{bad}");
        }
        assert!(driver_name(&long[1..], Machine::X64).is_ok());
    }
}
