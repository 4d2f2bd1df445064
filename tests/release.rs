//! A release: what `release/make.py` packs, and of which executables. They are those of the tests; how the static one is compiled
//! is the script's own business, which tries every executable before it packs it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};

use crate::support::{Need, output, root, succeed, test_with};

/// The test's machine, whose executables are dynamically linked.
const TARGET: &str = "x86_64-unknown-linux-gnu";

pub fn trials() -> Vec<Trial> {
    let needs = [Need::Program("git"), Need::Program("python3"), Need::Program("strip")];
    let with = |more: &[Need]| [&needs, more].concat();
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        return Vec::new();
    }
    vec![
        test_with("release::has_the_same_bytes_anywhere", &needs, same_bytes),
        test_with(
            "release::sums_are_those_of_its_files",
            &with(&[Need::Program("sha256sum")]),
            sums,
        ),
        test_with(
            "release::an_unpacked_archive_works_as_a_prefix",
            &with(&[Need::Program("tar"), Need::Program("cmake")]),
            prefix,
        ),
        test_with(
            "release::bill_of_materials_is_valid_cyclonedx",
            &with(&[Need::PythonModule("jsonschema"), Need::PythonModule("cyclonedx")]),
            valid_bill,
        ),
        test_with(
            "release::bill_of_materials_and_licences_have_every_crate_in_the_executable",
            &with(&[Need::Program("tar")]),
            complete_bill,
        ),
        test_with("release::what_can_not_be_released_is_told", &needs, refusals),
    ]
}

/// The tests' executables without their symbols, which would be most of each archive.
fn executables() -> Result<&'static Path, Failed> {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    if let Some(folder) = FOLDER.get() {
        return Ok(folder.path());
    }
    let folder = tempfile::tempdir()?;
    for (name, file) in [
        ("bpf2sys", env!("CARGO_BIN_EXE_bpf2sys")),
        ("cargo-bpf2sys", env!("CARGO_BIN_EXE_cargo-bpf2sys")),
    ] {
        succeed(Command::new("strip").arg(file).arg("-o").arg(folder.path().join(name)))?;
    }
    Ok(FOLDER.get_or_init(|| folder).path())
}

fn make(out: &Path) -> Result<Command, Failed> {
    let mut make = Command::new("python3");
    make.arg(root().join("release/make.py")).arg(out);
    let folder = executables()?;
    make.arg(format!("--built={TARGET}={}", folder.display()));
    // Else that of the commit, which these may come before and after.
    make.env("SOURCE_DATE_EPOCH", "1700000000");
    Ok(make)
}

/// A release, which the tests share.
fn release() -> Result<&'static Path, Failed> {
    static RELEASE: OnceLock<tempfile::TempDir> = OnceLock::new();
    static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if RELEASE.get().is_none() {
        let folder = tempfile::tempdir()?;
        succeed(&mut make(&folder.path().join("release"))?)?;
        RELEASE.set(folder).map_err(|_| "made twice")?;
    }
    let folder = RELEASE.get().ok_or("not made")?;
    Ok(Box::leak(folder.path().join("release").into_boxed_path()))
}

fn names(folder: &Path) -> Result<BTreeSet<String>, Failed> {
    let mut names = BTreeSet::new();
    for file in fs::read_dir(folder)? {
        names.insert(file?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The name that files of this version begin with.
fn named() -> String {
    format!("bpf2sys-{}", env!("CARGO_PKG_VERSION"))
}

fn unpacked() -> Result<(tempfile::TempDir, PathBuf), Failed> {
    let folder = tempfile::tempdir()?;
    let archive = release()?.join(format!("{}-{TARGET}.tar.gz", named()));
    succeed(Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(folder.path()))?;
    let prefix = folder.path().join(format!("{}-{TARGET}", named()));
    Ok((folder, prefix))
}

fn same_bytes() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    // Another time, zone, language and folder, and other permissions of new files.
    let mut again = Command::new("sh");
    again
        .args(["-c", "umask 077; exec \"$@\"", "sh"])
        .arg(make(Path::new("here"))?.get_program())
        .args(make(Path::new("here"))?.get_args())
        .current_dir(folder.path())
        .envs([
            ("SOURCE_DATE_EPOCH", "1700000000"),
            ("TZ", "Asia/Tokyo"),
            ("LC_ALL", "C"),
        ]);
    succeed(&mut again)?;
    let first = release()?;
    let made = names(first)?;
    let version = env!("CARGO_PKG_VERSION");
    let expected = [
        "SHA256SUMS".to_owned(),
        format!("bpf2sys-{version}-{TARGET}.cdx.json"),
        format!("bpf2sys-{version}-{TARGET}.tar.gz"),
        format!("bpf2sys-{version}.tar.gz"),
        format!("bpf2sys.{version}.nupkg"),
    ];
    assert_eq!(made, expected.into());
    assert_eq!(made, names(&folder.path().join("here"))?);
    // The folder that it was made in is gone.
    assert_eq!(names(folder.path())?, ["here".to_owned()].into());
    for name in made {
        let same = fs::read(first.join(&name))? == fs::read(folder.path().join("here").join(&name))?;
        assert!(same, "{name} differs");
    }
    Ok(())
}

fn sums() -> Result<(), Failed> {
    let release = release()?;
    let told = succeed(
        Command::new("sha256sum")
            .args(["--check", "--strict", "SHA256SUMS"])
            .current_dir(release),
    )?;
    assert_eq!(told.lines().count() + 1, names(release)?.len(), "{told}");
    Ok(())
}

/// The archive has what installed software has, where `CMake`, man and shells look for it.
fn prefix() -> Result<(), Failed> {
    let (folder, prefix) = unpacked()?;
    let tool = prefix.join("bin/bpf2sys");
    succeed(Command::new(&tool).arg("--version"))?;
    succeed(Command::new(prefix.join("bin/cargo-bpf2sys")).args(["bpf2sys", "--version"]))?;
    let pages = succeed(
        Command::new(&tool)
            .args(["man", "--out-dir"])
            .arg(folder.path().join("man")),
    )
    .and_then(|_| names(&folder.path().join("man")))?;
    assert_eq!(pages, names(&prefix.join("share/man/man1"))?);
    for (shell, place) in [
        ("bash", "share/bash-completion/completions/bpf2sys"),
        ("zsh", "share/zsh/site-functions/_bpf2sys"),
        ("fish", "share/fish/vendor_completions.d/bpf2sys.fish"),
    ] {
        let told = succeed(Command::new(&tool).args(["completions", shell]))?;
        assert_eq!(told, fs::read_to_string(prefix.join(place))?);
    }
    let object = root().join("examples/udp_filter/udp_filter.o");
    let lists = format!(
        "cmake_minimum_required(VERSION 3.20)\nproject(filter NONE)\nfind_package(bpf2sys {} CONFIG REQUIRED)\n\
         bpf2sys_add_driver(filter SOURCES \"{}\")\n",
        env!("CARGO_PKG_VERSION"),
        object.display(),
    );
    fs::write(folder.path().join("CMakeLists.txt"), lists)?;
    let build = folder.path().join("build");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(folder.path()).arg("-B").arg(&build);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    let told = succeed(&mut configure)?;
    let cached = fs::read_to_string(build.join("CMakeCache.txt"))?;
    assert!(
        cached.contains(&*tool.to_string_lossy()),
        "another tool was found: {told}"
    );
    succeed(Command::new("cmake").arg("--build").arg(&build))?;
    assert!(build.join("udp_filter.sys").is_file() || build.join("filter/udp_filter.sys").is_file());
    Ok(())
}

fn bill() -> Result<PathBuf, Failed> {
    Ok(release()?.join(format!("{}-{TARGET}.cdx.json", named())))
}

fn valid_bill() -> Result<(), Failed> {
    let judge = |file: &Path| {
        let mut judge = Command::new("python3");
        judge
            .args(["-W", "ignore"])
            .arg(root().join("tests/bill_of_materials.py"))
            .arg(file);
        output(&mut judge)
    };
    let judged = judge(&bill()?)?;
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    // And what is wrong is seen.
    let folder = tempfile::tempdir()?;
    let text = fs::read_to_string(bill()?)?;
    for (right, wrong) in [
        ("\"type\": \"library\"", "\"type\": \"crate\""),
        ("\"bom-ref\": \"pkg:cargo/libc@", "\"bom-ref\": \"pkg:cargo/other@"),
    ] {
        assert!(text.contains(right), "no {right}");
        let file = folder.path().join("wrong.json");
        fs::write(&file, text.replace(right, wrong))?;
        assert_eq!(judge(&file)?.status.code(), Some(1), "{wrong} is not seen");
    }
    Ok(())
}

/// Panics name the files that they are in: so an executable tells which crates it has.
fn complete_bill() -> Result<(), Failed> {
    let (_folder, prefix) = unpacked()?;
    let program = fs::read(prefix.join("bin/bpf2sys"))?;
    let mark = b"/registry/src/";
    let mut crates = BTreeSet::new();
    for at in (0..program.len()).filter(|&at| program[at..].starts_with(mark)) {
        let place = String::from_utf8_lossy(&program[at + mark.len()..(at + 300).min(program.len())]).into_owned();
        let name = place.split('/').nth(1).unwrap_or_default();
        // A name and a version, which has the last dash before a digit that begins a number with a dot.
        let split = name.match_indices('-').find(|(dash, _)| {
            let version = &name[dash + 1..];
            version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.')
        });
        let (dash, _) = split.ok_or_else(|| format!("no version in `{name}`"))?;
        crates.insert((name[..dash].to_owned(), name[dash + 1..].to_owned()));
    }
    assert!(crates.len() > 50, "{crates:?}");
    let bill: serde_json::Value = serde_json::from_slice(&fs::read(bill()?)?)?;
    let components = bill["components"].as_array().ok_or("no components")?;
    let listed: BTreeSet<(String, String)> = components
        .iter()
        .filter(|component| component["scope"] == "required")
        .filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["version"].as_str()?.to_owned())))
        .collect();
    let missing: Vec<_> = crates.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the bill of materials: {missing:?}");
    let notices = fs::read_to_string(prefix.join("share/doc/bpf2sys/THIRD-PARTY.txt"))?;
    for (name, version) in &crates {
        assert!(
            notices.contains(&format!("\n{name} {version} (")),
            "no licence of {name} {version}"
        );
    }
    Ok(())
}

fn refusals() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    fs::create_dir(&out)?;
    fs::write(out.join("mine"), "kept")?;
    let wrong_folder = format!("--built={TARGET}=/nowhere");
    let as_static = format!("--built=x86_64-unknown-linux-musl={}", executables()?.display());
    let refused = |arguments: &[&str], words: &[&str]| -> Result<(), Failed> {
        let mut make = Command::new("python3");
        make.arg(root().join("release/make.py")).args(arguments);
        let told = output(&mut make)?;
        let text = String::from_utf8_lossy(&told.stderr);
        assert!(
            !told.status.success() && words.iter().any(|words| text.contains(words)),
            "{arguments:?}: {text}"
        );
        assert!(!text.contains("Traceback"), "{text}");
        Ok(())
    };
    let new = folder.path().join("new");
    let (out, new) = (out.to_string_lossy(), new.to_string_lossy());
    refused(&[&out, &wrong_folder], &["is not empty"])?;
    refused(&[&new, &wrong_folder], &["none of the targets runs on this machine"])?;
    refused(&[&new, &as_static], &["is not linked statically"])?;
    refused(&[&new, "--built=here"], &["must be TARGET=FOLDER"])?;
    // A tree with changes is refused before cargo is asked.
    refused(
        &[&new, "--target=no-such-machine"],
        &["no-such-machine", "not committed"],
    )?;
    assert_eq!(names(folder.path())?, ["out".to_owned()].into());
    Ok(())
}
