//! What every image says for the protections of Windows, as readers see it that this project did not write; and what no image
//! may say.

use std::path::{Path, PathBuf};
use std::process::Command;

use goblin::pe::PE;
use libtest_mimic::{Failed, Trial};

use crate::examples::EXAMPLES;
use crate::forms::{MACHINES, machine_name};
use crate::pe_image::{LLVM_READOBJ, llvm_readobj};
use crate::support::{Need, judge, output, root, succeed, test, test_with, tool};

const VERSION_INFO: &str = r#"company = "Contoso, Łódź"
product = "Contoso Packet Filter"
description = "Drops UDP packets to blocked ports"
file-version = "1.4.0.2"
product-version = "1.4"
copyright = "© 2026 Contoso"
"#;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("hardening::switches_change_what_they_name_and_nothing_else", switches),
        test(
            "hardening::nothing_tells_where_by_whom_and_when_it_was_built",
            tells_nothing,
        ),
        test_with(
            "hardening::llvm_readobj_reads_the_resources",
            &[Need::Program(LLVM_READOBJ)],
            resources,
        ),
    ];
    trials.push(test_with(
        "hardening::a_strict_reader_finds_nothing",
        &[Need::Judge],
        strict_reader,
    ));
    for machine in MACHINES.map(machine_name) {
        for form in ["sys", "dll"] {
            trials.push(test_with(
                &format!("hardening::llvm_readobj_and_goblin_read_every_{form}_for_{machine}"),
                &[Need::Program(LLVM_READOBJ)],
                move || is_hardened(machine, form),
            ));
        }
    }
    trials
}

fn example(name: &str) -> PathBuf {
    root().join(format!("examples/{name}/{name}.o"))
}

/// Builds an example into a folder.
fn build(folder: &Path, name: &str, arguments: &[&str]) -> Result<PathBuf, Failed> {
    let path = folder.join("image");
    succeed(
        tool()
            .arg("build")
            .args(arguments)
            .arg(example(name))
            .arg("-o")
            .arg(&path),
    )?;
    Ok(path)
}

fn is_hardened(machine: &'static str, form: &'static str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for name in EXAMPLES {
        let path = build(folder.path(), name, &["--arch", machine, "--emit", form])?;
        let text = llvm_readobj(&path)?;
        let x64 = machine == "x64";
        let mut expected = vec![
            "IMAGE_DLL_CHARACTERISTICS_DYNAMIC_BASE (0x40)",
            "IMAGE_DLL_CHARACTERISTICS_GUARD_CF (0x4000)",
            "IMAGE_DLL_CHARACTERISTICS_HIGH_ENTROPY_VA (0x20)",
            "IMAGE_DLL_CHARACTERISTICS_NX_COMPAT (0x100)",
            "CF_FUNCTION_TABLE_PRESENT (0x400)",
            "CF_INSTRUMENTED (0x100)",
            "Type: Repro (0x10)",
        ];
        if x64 {
            expected.push("IMAGE_DLL_CHARACTERISTICS_EX_CET_COMPAT (0x1)");
        }
        for line in expected {
            if !text.lines().any(|found| found.trim() == line) {
                return Err(format!("{name}: no `{line}`:\n{text}").into());
            }
        }
        assert_eq!(text.contains("CET_COMPAT"), x64, "{name}");
        let bytes = std::fs::read(&path)?;
        let pe = PE::parse(&bytes)?;
        let base = pe.image_base;
        let config = &pe
            .load_config_data
            .as_ref()
            .ok_or("goblin finds no load configuration")?
            .directory;
        // The entry point, what the tables name, and, in the eyes of both readers, as many.
        let count = config.guard_cf_function_count.unwrap_or(0);
        let shown = text.split_once("GuardFidTable [").map_or("", |(_, table)| table);
        let shown: Vec<u64> = shown
            .lines()
            .map_while(|line| match line.trim() {
                "" => Some(None),
                line => u64::from_str_radix(line.strip_prefix("0x")?, 16).ok().map(Some),
            })
            .flatten()
            .collect();
        assert_eq!(shown.len() as u64, count, "{name}");
        assert!(shown.is_sorted_by(|a, b| a < b), "{name}");
        assert!(shown.contains(&(base + u64::from(pe.entry))), "{name}");
        assert!(shown.iter().all(|function| function % 16 == 0), "{name}");
        let cookie = config.security_cookie.unwrap_or(0);
        let data = pe
            .sections
            .iter()
            .find(|section| section.name().is_ok_and(|name| name == ".data"));
        let data = data.ok_or("no .data")?;
        let start = base + u64::from(data.virtual_address);
        assert!(
            (start..start + u64::from(data.virtual_size)).contains(&cookie),
            "{name}"
        );
        assert_eq!(config.guard_cf_dispatch_function_pointer != Some(0), x64, "{name}");
        assert!(pe.exception_data.is_some() && pe.certificates.is_empty(), "{name}");
    }
    Ok(())
}

fn strict_reader() -> Result<(), Failed> {
    let (script, _) = judge().ok_or("the reader is gone")?;
    let folder = tempfile::tempdir()?;
    let version = folder.path().join("version.toml");
    std::fs::write(&version, VERSION_INFO)?;
    let version = version.to_string_lossy();
    let choices: [&[&str]; 3] = [
        &[],
        &["--version-info", &version, "--force-integrity"],
        &["--runtime", "0.21"],
    ];
    for name in EXAMPLES {
        for choice in choices {
            let images = folder.path().join("images");
            let mut command = tool();
            command.args(["build", "--arch", "x64,arm64", "--out-dir"]).arg(&images);
            succeed(command.args(choice).arg(example(name)))?;
            for machine in MACHINES.map(machine_name) {
                let path = images.join(format!("{name}.{machine}.sys"));
                let mut command = Command::new("python3");
                let out = output(command.arg(&script).arg(&path).args(["--level", "all"]))?;
                let said = String::from_utf8_lossy(&out.stdout);
                if !out.status.success() || !said.contains(" 0 failed") {
                    return Err(format!("{name} for {machine}, {choice:?}: {said}").into());
                }
            }
        }
    }
    Ok(())
}

fn dll_characteristics(bytes: &[u8]) -> Result<u16, Failed> {
    let optional = PE::parse(bytes)?.header.optional_header.ok_or("no optional header")?;
    Ok(optional.windows_fields.dll_characteristics)
}

fn switches() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let version = folder.path().join("version.toml");
    std::fs::write(&version, VERSION_INFO)?;
    let version = version.to_string_lossy();
    let built = |arguments: &[&str]| -> Result<Vec<u8>, Failed> {
        Ok(std::fs::read(build(folder.path(), "bind_policy", arguments)?)?)
    };
    let plain = built(&[])?;
    assert!(plain == built(&["--cfg", "on"])?);
    let (forced, unguarded) = (built(&["--force-integrity"])?, built(&["--cfg", "off"])?);
    let flags = [&plain, &forced, &unguarded].map(|bytes| dll_characteristics(bytes));
    let [plain_flags, forced_flags, unguarded_flags] = flags;
    assert_eq!((plain_flags?, forced_flags?, unguarded_flags?), (0x4160, 0x41E0, 0x160));
    // Only the flag, and what depends on all contents.
    let differing = plain.iter().zip(&forced).filter(|(a, b)| a != b).count();
    assert!(
        plain.len() == forced.len() && differing <= 1 + 4 + 4 + 2 * 4 + 32,
        "{differing} bytes"
    );
    let config = PE::parse(&unguarded)?.load_config_data;
    let config = config.ok_or("no load configuration")?.directory;
    assert_eq!((config.guard_flags, config.guard_cf_function_count), (Some(0), Some(0)));

    let informed = built(&["--version-info", &version])?;
    let pe = PE::parse(&informed)?;
    let resources = pe.resource_data.as_ref().and_then(|data| data.version_info.as_ref());
    let strings = &resources.ok_or("goblin finds no version information")?.string_info;
    assert_eq!(strings.company_name().as_deref(), Some("Contoso, Łódź"));
    assert_eq!(strings.product_version().as_deref(), Some("1.4"));
    assert_eq!(strings.legal_copyright().as_deref(), Some("© 2026 Contoso"));
    Ok(())
}

fn resources() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let version = folder.path().join("version.toml");
    std::fs::write(&version, VERSION_INFO)?;
    for machine in MACHINES.map(machine_name) {
        let version = version.to_string_lossy();
        let path = build(
            folder.path(),
            "flow_log",
            &["--arch", machine, "--version-info", &version],
        )?;
        let text = succeed(Command::new(LLVM_READOBJ).arg("--coff-resources").arg(&path))?;
        for part in [
            "Type: VERSIONINFO (ID 16)",
            "Name: (ID 1)",
            "Language: (ID 1033)",
            "Number of String Entries: 0",
        ] {
            if !text.contains(part) {
                return Err(format!("{machine}: no `{part}`:\n{text}").into());
            }
        }
    }
    Ok(())
}

/// Builds where the names of folder, user and machine are unmistakable, and looks for them, and for the folder of the tool's
/// sources, in every form that Windows or a linker reads.
fn tells_nothing() -> Result<(), Failed> {
    const UNMISTAKABLE: &str = "qUxZv7Jw";
    let parent = tempfile::tempdir()?;
    let folder = parent.path().join(UNMISTAKABLE);
    std::fs::create_dir(&folder)?;
    let sources = root();
    let sources = sources.to_str().ok_or("a folder that is no text")?;
    for name in EXAMPLES {
        let input = folder.join(format!("{name}.o"));
        std::fs::copy(example(name), &input)?;
        let mut command = tool();
        command
            .args(["build", "--arch", "x64,arm64", "--emit", "sys,dll,obj"])
            .arg(&input);
        let names = ["USER", "LOGNAME", "HOSTNAME", "COMPUTERNAME", "HOME"];
        succeed(
            command
                .current_dir(&folder)
                .envs(names.map(|name| (name, UNMISTAKABLE))),
        )?;
        for machine in MACHINES.map(machine_name) {
            for form in ["sys", "dll", "obj"] {
                let bytes = std::fs::read(folder.join(format!("{name}.{machine}.{form}")))?;
                for needle in [UNMISTAKABLE, sources, "/home/", "/root/", "/tmp/", ".cargo", "rustc"] {
                    let wide: Vec<u8> = needle.encode_utf16().flat_map(u16::to_le_bytes).collect();
                    for needle in [needle.as_bytes(), &wide] {
                        if bytes.windows(needle.len()).any(|window| window == needle) {
                            let needle = String::from_utf8_lossy(needle);
                            return Err(format!("{name} for {machine}: `{needle}` is in the {form}").into());
                        }
                    }
                }
            }
        }
    }
    Ok(())
}
