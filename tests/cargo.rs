//! Cargo: the example package, built by cargo with its build script, and `cargo bpf2sys`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::{Failed, Trial};

use crate::support::{Need, output, root, succeed, test_with};

pub fn trials() -> Vec<Trial> {
    let clang = [Need::Program("clang-19")];
    vec![
        test_with(
            "cargo::a_build_script_builds_and_tells_cargo_what_it_needs",
            &clang,
            build_script,
        ),
        test_with(
            "cargo::the_subcommand_builds_what_the_manifest_says",
            &clang,
            subcommand,
        ),
        #[cfg(unix)]
        crate::support::test("cargo::the_subcommand_starts_the_tool_beside_it", launcher),
    ]
}

/// A copy of the example, which depends on this repository.
struct Example {
    folder: tempfile::TempDir,
}

impl Example {
    fn new() -> Result<Example, Failed> {
        let folder = tempfile::tempdir()?;
        let example = root().join("examples/integration/cargo");
        for name in ["Cargo.toml", "build.rs", "src/main.rs", "src/drop_port.bpf.c"] {
            let text = fs::read_to_string(example.join(name))?;
            let repository = root().to_string_lossy().replace('\\', "/");
            let text = text.replace("\"../../../compiler", &format!("\"{repository}/compiler"));
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
            fs::write(path, text)?;
        }
        // The versions that are there already.
        fs::copy(root().join("Cargo.lock"), folder.path().join("Cargo.lock"))?;
        Ok(Example { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", target())
            .env("BPF2SYS_CLANG", "clang-19")
            .env("CARGO_TERM_COLOR", "never")
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTDOCFLAGS");
        cargo
    }

    /// Builds it, and gives what cargo says.
    fn build(&self) -> Result<Output, Failed> {
        output(self.cargo().args(["build", "--offline", "-v"]))
    }
}

/// Where dependencies of the example stay from run to run.
fn target() -> PathBuf {
    root().join("target/examples-integration")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the example prints, and the driver that it carries.
fn run(example: &Example) -> Result<(String, Vec<u8>), Failed> {
    let image = example.path("carried.sys");
    let exe = target()
        .join("debug")
        .join(format!("drop-port{}", std::env::consts::EXE_SUFFIX));
    let printed = succeed(Command::new(exe).arg(&image))?;
    Ok((printed, fs::read(image)?))
}

fn build_script() -> Result<(), Failed> {
    let example = Example::new()?;
    // Users of the one should find the other familiar.
    let template = fs::read_to_string(root().join("templates/project/drop_port.bpf.c"))?;
    assert_eq!(fs::read_to_string(example.path("src/drop_port.bpf.c"))?, template);
    let script_ran = |output: &Output| text(output).contains("build-script-build`");
    let first = example.build()?;
    assert!(first.status.success(), "{}", text(&first));
    let (printed, image) = run(&example)?;
    assert!(
        printed.starts_with("drop_port of type xdp\nmap dropped: 1 entry of 8 bytes\n"),
        "{printed}"
    );
    assert!(printed.contains("data { port: 13568 }"), "{printed}");
    // What is carried is what the command makes of the same source.
    let direct = example.path("direct.sys");
    let mut tool = crate::support::tool();
    tool.args([
        "build",
        "src/drop_port.bpf.c",
        "--cflag=-Wall",
        "--cflag=-Wextra",
        "-q",
        "-o",
    ])
    .arg(&direct)
    .current_dir(&example.folder)
    .env("BPF2SYS_CLANG", "clang-19");
    if cfg!(target_arch = "aarch64") {
        tool.arg("--arch=arm64");
    }
    succeed(&mut tool)?;
    assert!(fs::read(direct)? == image, "the build script made another driver");
    // Nothing has changed: nothing runs.
    let again = example.build()?;
    assert!(again.status.success() && !script_ran(&again), "{}", text(&again));
    // A header that is new to the source, and its change.
    let source = fs::read_to_string(example.path("src/drop_port.bpf.c"))?;
    fs::write(example.path("src/port.h"), "#define PORT 9\n")?;
    let with_header = format!(
        "#include \"port.h\"\n{}",
        source.replace("bpf_htons(9)", "bpf_htons(PORT)")
    );
    fs::write(example.path("src/drop_port.bpf.c"), &with_header)?;
    let changed = example.build()?;
    assert!(changed.status.success() && script_ran(&changed), "{}", text(&changed));
    later(&example.path("src/port.h"), "#define PORT 53\n")?;
    let changed = example.build()?;
    assert!(changed.status.success() && script_ran(&changed), "{}", text(&changed));
    assert!(run(&example)?.0.contains("is [0, 53]"));
    // What is wrong is cargo's error, with the line.
    later(
        &example.path("src/drop_port.bpf.c"),
        &with_header.replace("return XDP_DROP", "return XDP_DRIP"),
    )?;
    let broken = example.build()?;
    assert!(!broken.status.success());
    for says in [
        "error: drop-port@0.1.0: error[BPF8003]: use of undeclared identifier 'XDP_DRIP'",
        "src/drop_port.bpf.c:38:",
    ] {
        assert!(text(&broken).contains(says), "{says:?}:\n{}", text(&broken));
    }
    let unsafe_program = with_header.replace("if (count != NULL) {", "{");
    later(&example.path("src/drop_port.bpf.c"), &unsafe_program)?;
    let refused = example.build()?;
    assert!(!refused.status.success());
    assert!(
        text(&refused).contains("error: drop-port@0.1.0: error[BPF21"),
        "{}",
        text(&refused)
    );
    // Types of the constants are those of the source.
    later(
        &example.path("src/drop_port.bpf.c"),
        &with_header
            .replace("__type(value, uint64_t)", "__type(value, uint32_t)")
            .replace("uint64_t *count", "uint32_t *count"),
    )?;
    let mismatched = example.build()?;
    assert!(
        text(&mismatched).contains("expected `Map<u32, u64>`, found `Map<u32, u32>`"),
        "{}",
        text(&mismatched)
    );
    Ok(())
}

/// Writes a file so that cargo sees it as newer, whatever the clock's steps are.
fn later(path: &Path, contents: &str) -> Result<(), Failed> {
    fs::write(path, contents)?;
    let time = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
    fs::File::options().write(true).open(path)?.set_modified(time)?;
    // Cargo compares with when the script began.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    Ok(())
}

/// `cargo-bpf2sys` is one copy of the compiler less: it starts the `bpf2sys` beside it, whose exit is its own.
#[cfg(unix)]
fn launcher() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let launcher = folder.path().join("cargo-bpf2sys");
    fs::copy(env!("CARGO_BIN_EXE_cargo-bpf2sys"), &launcher)?;
    let alone = output(Command::new(&launcher).arg("bpf2sys").env("PATH", "/nowhere"))?;
    assert_eq!(alone.status.code(), Some(1), "{}", text(&alone));
    assert!(
        text(&alone).contains("can't run bpf2sys, which cargo-bpf2sys starts"),
        "{}",
        text(&alone)
    );
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bpf2sys"), folder.path().join("bpf2sys"))?;
    let beside = output(
        Command::new(&launcher)
            .args(["bpf2sys", "check", "no.sys"])
            .env("PATH", "/nowhere"),
    )?;
    assert_eq!(beside.status.code(), Some(1), "{}", text(&beside));
    assert!(text(&beside).contains("no.sys"), "{}", text(&beside));
    let usage = output(Command::new(&launcher).args(["bpf2sys", "check", "--no"]))?;
    assert_eq!(usage.status.code(), Some(2), "{}", text(&usage));
    Ok(())
}

fn subcommand() -> Result<(), Failed> {
    let example = Example::new()?;
    // Cargo finds subcommands on the `PATH`.
    let tool = Path::new(env!("CARGO_BIN_EXE_cargo-bpf2sys"));
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = [tool.parent().unwrap_or(tool).to_owned()]
        .into_iter()
        .chain(std::env::split_paths(&folders));
    let path = std::env::join_paths(folders)?;
    let cargo = |folder: &str, arguments: &[&str]| {
        let mut cargo = example.cargo();
        cargo
            .arg("bpf2sys")
            .args(arguments)
            .env("PATH", &path)
            .current_dir(example.path(folder))
            .env("CARGO_TARGET_DIR", example.path("target"));
        cargo
    };
    let told = succeed(&mut cargo("src", &[]))?;
    assert!(told.contains("drop_port.arm64.sys: arm64 driver"), "{told}");
    let mut made: Vec<String> = Vec::new();
    for file in fs::read_dir(example.path("target/bpf2sys"))? {
        made.push(file?.file_name().to_string_lossy().into_owned());
    }
    made.sort();
    assert_eq!(made, ["drop_port.arm64.sys", "drop_port.x64.sys"]);
    let image = fs::read(example.path("target/bpf2sys/drop_port.x64.sys"))?;
    let company = crate::packets::utf16("Contoso Packet Filter");
    assert!(
        image.windows(company.len()).any(|part| part == company),
        "no file properties"
    );
    let told = succeed(&mut cargo("", &["--arch", "arm64", "--emit=asm", "-o", "-"]))?;
    assert!(told.contains("compiled for arm64"), "{told}");
    let checked = succeed(&mut cargo("", &["inspect", "target/bpf2sys/drop_port.x64.sys"]))?;
    assert!(checked.contains("drop_port"), "{checked}");
    // Without a table in the manifest, there is nothing to build.
    let manifest = fs::read_to_string(example.path("Cargo.toml"))?;
    fs::write(
        example.path("Cargo.toml"),
        manifest.replace("metadata.bpf2sys", "metadata.other"),
    )?;
    let none = output(&mut cargo("", &[]))?;
    assert_eq!(none.status.code(), Some(2), "{}", text(&none));
    assert!(text(&none).contains("no input is named"), "{}", text(&none));
    let broken = manifest.replace("arch = [", "arhc = [");
    fs::write(example.path("Cargo.toml"), broken)?;
    let none = output(&mut cargo("", &[]))?;
    assert!(
        text(&none).contains("Cargo.toml:13:1") && text(&none).contains("`arhc`"),
        "{}",
        text(&none)
    );
    Ok(())
}
