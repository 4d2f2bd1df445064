//! The `MSBuild` package, with mono's engine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::{PROGRAMS, Workplace, options, passes};
use crate::support::{Need, output, root, succeed, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    let needs = [
        Need::Program("xbuild"),
        Need::Program("clang-19"),
        Need::Program("python3"),
        Need::Program("unzip"),
    ];
    vec![
        test_with("integration::msbuild_with_xbuild", &needs, example),
        test_with(
            "integration::msbuild_makes_drivers_content_of_projects",
            &needs,
            content,
        ),
        test_with(
            "integration::msbuild_takes_the_property_sheet_anywhere",
            &needs,
            property_sheet,
        ),
        test_with(
            "integration::msbuild_gives_all_options_to_the_tool",
            &needs,
            all_options,
        ),
        test_with("integration::msbuild_refuses_what_cannot_be_meant", &needs, refusals),
        test_with(
            "integration::msbuild_package_is_a_container_as_nuget_reads_it",
            &needs[2..],
            package,
        ),
        test("integration::msbuild_has_metadata_for_each_option", every_option),
    ]
}

/// Makes the package, with a tool for this machine, and unpacks it.
pub(super) fn unpack(place: &Workplace) -> Result<(), Failed> {
    let file = place.path("bpf2sys.nupkg");
    pack(&file, &[&format!("linux-x64={}", place.tool().display())])?;
    succeed(
        Command::new("unzip")
            .arg("-q")
            .arg(file)
            .arg("-d")
            .arg(place.path("package")),
    )
    .map(|_| ())
}

fn pack(file: &Path, tools: &[&str]) -> Result<(), Failed> {
    let script = root().join("templates/msbuild/pack.py");
    succeed(Command::new("python3").arg(script).arg(file).args(tools)).map(|_| ())
}

/// The engine, for a project of the workplace, with the package's own tool.
fn xbuild(place: &Workplace, project: &str, words: &[&str]) -> Command {
    let mut command = place.command("xbuild");
    command
        .args(["/nologo", project])
        .arg(format!("/p:Bpf2sysPackage={}", place.path("package").display()))
        .args(words);
    command
}

fn example() -> Result<(), Failed> {
    let place = Workplace::new()?;
    unpack(&place)?;
    let build = |words: &[&str]| xbuild(&place, "msbuild/drivers.proj", words);
    let drivers = place.examples().join("msbuild/drivers");
    // xbuild names files as the tool does, and takes no errors of tools for its own list, as MSBuild does.
    place.judge(&|| build(&[]), &drivers, |line, column| {
        format!("drop_port.bpf.c({line},{column}): error BPF")
    })?;
    let ran = |words: &[&str], wanted: &[&str]| -> Result<(), Failed> {
        let said = passes(&mut build(words))?;
        let ran = place.ran()?;
        assert!(ran == wanted, "{words:?}: {ran:?} ran, not {wanted:?}\n{said}");
        Ok(())
    };
    // An output that is gone, and another option.
    fs::remove_file(drivers.join("drop_port.arm64.sys"))?;
    ran(&[], &["drop_port"])?;
    ran(&["/p:Bpf2sysHash=sha512"], &PROGRAMS)?;
    ran(&["/p:Bpf2sysHash=sha512"], &[])?;
    ran(&[], &PROGRAMS)?;
    ran(&["/t:Rebuild"], &PROGRAMS)?;
    place.has_drivers(&drivers)?;
    // All that is wrong is told at once, and told again until it is right.
    for name in PROGRAMS {
        place.edit(&format!("{name}.bpf.c"), |text| text.replace("SEC(", "SEK("))?;
    }
    for _ in 0..2 {
        let out = output(&mut build(&[]))?;
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(!out.status.success() && said.contains("Not built: "), "{said}");
        assert!(
            PROGRAMS.iter().all(|name| said.contains(&format!("{name}.bpf.c("))),
            "{said}"
        );
        assert_eq!(place.ran()?, PROGRAMS);
    }
    for name in PROGRAMS {
        place.edit(&format!("{name}.bpf.c"), |text| text.replace("SEK(", "SEC("))?;
    }
    ran(&[], &PROGRAMS)?;
    ran(&["/t:Clean"], &[])?;
    assert_eq!(fs::read_dir(&drivers)?.count(), 0);
    assert_eq!(
        fs::read_dir(place.examples().join("msbuild/obj/bpf2sys"))?.count(),
        0,
        "files of steps are left"
    );
    ran(&[], &PROGRAMS)
}

/// A project of the kind that .NET has, but for its compiler: `body` stands among its items.
fn library(place: &Workplace, body: &str) -> Result<(), Failed> {
    let folder = place.examples().join("library");
    fs::create_dir_all(&folder)?;
    fs::write(
        folder.join("library.csproj"),
        format!(
            r#"<Project DefaultTargets="Build" ToolsVersion="14.0" xmlns="http://schemas.microsoft.com/developer/msbuild/2003">
  <PropertyGroup>
    <Configuration>Debug</Configuration>
    <OutputPath>bin/</OutputPath>
    <OutputType>Library</OutputType>
    <AssemblyName>library</AssemblyName>
    <TargetFrameworkVersion>v4.5</TargetFrameworkVersion>
    <Language>C#</Language>
    <DefaultLanguageSourceExtension>.cs</DefaultLanguageSourceExtension>
  </PropertyGroup>
  <Import Project="$(Bpf2sysPackage)/buildTransitive/bpf2sys.props" />
  {body}
  <Import Project="$(MSBuildToolsPath)/Microsoft.Common.targets" />
  <Import Project="$(Bpf2sysPackage)/buildTransitive/bpf2sys.targets" />
  <Target Name="CreateManifestResourceNames" />
  <Target Name="CoreCompile">
    <Touch Files="@(IntermediateAssembly)" AlwaysCreate="true" />
  </Target>
</Project>
"#
        ),
    )?;
    Ok(())
}

fn content() -> Result<(), Failed> {
    let place = Workplace::new()?;
    unpack(&place)?;
    fs::copy(
        root().join("examples/udp_filter/udp_filter.o"),
        place.source("udp_filter.o"),
    )?;
    library(
        &place,
        r#"<PropertyGroup><TreatWarningsAsErrors>true</TreatWarningsAsErrors></PropertyGroup>
  <ItemGroup>
    <BpfSource Include="../programs/drop_port.bpf.c"><SourceRoot>../programs</SourceRoot></BpfSource>
    <BpfObject Include="../programs/udp_filter.o" />
  </ItemGroup>"#,
    )?;
    let folder = place.examples().join("library");
    let build = |words: &[&str]| passes(&mut xbuild(&place, "library/library.csproj", words));
    for (platform, arch) in [("x64", "x64"), ("ARM64", "arm64"), ("AnyCPU", "x64")] {
        build(&[&format!("/p:Platform={platform}")])?;
        let copied = fs::read(folder.join("bin/drop_port.sys"))?;
        let by_hand: BTreeMap<String, Vec<u8>> = place.by_hand()?.into_iter().collect();
        assert!(
            Some(&copied) == by_hand.get(&format!("drop_port.{arch}.sys")),
            "{platform}: not what the command line gives"
        );
        assert!(folder.join("bin/udp_filter.sys").exists());
        let options = match platform {
            "AnyCPU" => "library/obj/Debug/bpf2sys/_programs_udp_filter.o.rsp".to_owned(),
            platform => format!("library/obj/{platform}/Debug/bpf2sys/_programs_udp_filter.o.rsp"),
        };
        let options = fs::read_to_string(place.examples().join(options))?;
        assert!(options.lines().any(|line| line == "--deny-warnings"), "{options}");
    }
    let _ = fs::remove_file(place.path("log"));
    build(&["/p:Platform=x64"])?;
    assert!(place.ran()?.is_empty());
    build(&["/p:Platform=x64", "/t:Clean"])?;
    assert!(!folder.join("bin/drop_port.sys").exists());
    assert!(!folder.join("obj/x64/Debug/bpf2sys/drop_port.sys").exists());
    // Without programs there is nothing to do, for any platform.
    fs::remove_dir_all(folder.join("obj"))?;
    library(&place, "")?;
    build(&["/p:Platform=Win32"])?;
    assert!(place.ran()?.is_empty());
    assert!(!folder.join("obj/Win32/Debug/bpf2sys").exists());
    Ok(())
}

/// A project with the targets and properties that those of C++ have: the sheet stands before what it depends on.
fn property_sheet() -> Result<(), Failed> {
    let place = Workplace::new()?;
    unpack(&place)?;
    let folder = place.examples().join("native");
    fs::create_dir(&folder)?;
    fs::write(
        folder.join("native.proj"),
        r#"<Project DefaultTargets="Build" xmlns="http://schemas.microsoft.com/developer/msbuild/2003">
  <Import Project="$(Bpf2sysPackage)/ebpf.props" />
  <PropertyGroup>
    <Platform>ARM64</Platform>
    <IntDir>ARM64/Debug/</IntDir>
    <OutDir>out/</OutDir>
  </PropertyGroup>
  <ItemGroup>
    <BpfSource Include="../programs/drop_port.bpf.c"><SourceRoot>../programs</SourceRoot></BpfSource>
  </ItemGroup>
  <Target Name="PrepareForBuild" />
  <Target Name="AssignTargetPaths" />
  <Target Name="CoreClean" />
  <Target Name="Build" DependsOnTargets="PrepareForBuild;AssignTargetPaths">
    <Message Importance="high" Text="content: @(Content)." />
  </Target>
  <Target Name="Clean" DependsOnTargets="CoreClean" />
</Project>
"#,
    )?;
    let build = |words: &[&str]| passes(&mut xbuild(&place, "native/native.proj", words));
    let said = build(&[])?;
    assert!(said.contains("content: ."), "{said}");
    assert_eq!(place.ran()?, ["drop_port"]);
    let by_hand: BTreeMap<String, Vec<u8>> = place.by_hand()?.into_iter().collect();
    assert!(Some(&fs::read(folder.join("out/drop_port.sys"))?) == by_hand.get("drop_port.arm64.sys"));
    assert_eq!(fs::read_dir(folder.join("ARM64/Debug/bpf2sys"))?.count(), 3);
    build(&["/t:Clean"])?;
    assert_eq!(fs::read_dir(folder.join("out"))?.count(), 0);
    assert_eq!(fs::read_dir(folder.join("ARM64/Debug/bpf2sys"))?.count(), 0);
    Ok(())
}

/// What each option is for an item, and as property; and the words that the tool is given for it.
const OPTIONS: [(&str, &str, &[&str]); 40] = [
    ("AllowDegraded", "true", &["--allow-degraded"]),
    ("Arch", "x64;arm64", &["--arch=x64", "--arch=arm64"]),
    ("CFlags", "-Wall;-Wextra", &["--cflag=-Wall", "--cflag=-Wextra"]),
    ("Cfg", "off", &["--cfg=off"]),
    ("Clang", "clang-19", &["--clang=clang-19"]),
    (
        "Config",
        "CONFIG_HZ=250;A=y",
        &["--config=CONFIG_HZ=250", "--config=A=y"],
    ),
    ("Definitions", "A=1;B", &["--define=A=1", "--define=B"]),
    ("DenyWarnings", "true", &["--deny-warnings"]),
    ("Emit", "sys;dll", &["--emit=sys", "--emit=dll"]),
    ("ForceIntegrity", "true", &["--force-integrity"]),
    ("From", "linux", &["--from=linux"]),
    ("Hash", "sha384", &["--hash=sha384"]),
    ("IncludeDirectories", "a b;c", &["--include=a b", "--include=c"]),
    ("KeepObject", "true", &["--keep-object"]),
    ("Lse", "true", &["--lse"]),
    ("MemoryLimit", "512", &["--memory-limit=512"]),
    ("PlatformFiles", "p.toml", &["--platform=p.toml"]),
    (
        "Optimize",
        "no-inlining,no-selects",
        &["--optimize=no-inlining,no-selects"],
    ),
    ("Retarget", "true", &["--retarget"]),
    ("Runtime", "1.4", &["--runtime=1.4"]),
    ("Set", "port=53;flag=true", &["--set=port=53", "--set=flag=true"]),
    ("SignCert", "a.cer", &["--sign-cert=a.cer"]),
    (
        "SignChain",
        "a.cer;b.cer",
        &["--sign-chain=a.cer", "--sign-chain=b.cer"],
    ),
    ("SignDescription", "A filter", &["--sign-description=A filter"]),
    ("SignDigest", "sha384", &["--sign-digest=sha384"]),
    ("SignKey", "a.pem", &["--sign-key=a.pem"]),
    ("SignPageHashes", "true", &["--sign-page-hashes"]),
    ("SignPasswordEnv", "SECRET", &["--sign-password-env=SECRET"]),
    ("SignPasswordFile", "f", &["--sign-password-file=f"]),
    ("SignPfx", "a.pfx", &["--sign-pfx=a.pfx"]),
    ("SignReturnAddress", "true", &["--sign-return-address"]),
    (
        "SignSignerCommand",
        "sign {file}",
        &["--sign-signer-command=sign {file}"],
    ),
    ("SignSignerTimeout", "9", &["--sign-signer-timeout=9"]),
    ("SignTimestamp", "http://t", &["--sign-timestamp=http://t"]),
    ("SignUrl", "http://u", &["--sign-url=http://u"]),
    ("SourceRoot", "../programs", &["--source-root=../programs"]),
    ("TimeLimit", "7", &["--time-limit=7"]),
    ("Type", "xdp", &["--type=xdp"]),
    ("Verifier", "both", &["--verifier=both"]),
    ("VersionInfo", "v.toml", &["--version-info=v.toml"]),
];

/// Each as metadata and as property; what the item says comes first.
fn all_options() -> Result<(), Failed> {
    let place = Workplace::new()?;
    unpack(&place)?;
    // Takes everything down and makes what the engine expects.
    fs::write(place.tool(), "#!/bin/sh\nexit 0\n")?;
    fs::copy(place.tool(), place.path("package/tools/linux-x64/bpf2sys"))?;
    let project = place.examples().join("msbuild/options.proj");
    let of = |prefix: &str| -> String {
        OPTIONS
            .iter()
            .map(|(name, value, _)| format!("<{prefix}{name}>{value}</{prefix}{name}>"))
            .collect()
    };
    let others: String = OPTIONS
        .iter()
        .map(|(name, ..)| format!("<Bpf2sys{name}>no</Bpf2sys{name}>"))
        .collect();
    let words: Vec<&str> = OPTIONS.iter().flat_map(|(.., words)| words.iter().copied()).collect();
    for (properties, metadata) in [(of("Bpf2sys"), String::new()), (others, of(""))] {
        fs::write(
            &project,
            format!(
                r#"<Project DefaultTargets="Bpf2sysBuild" xmlns="http://schemas.microsoft.com/developer/msbuild/2003">
  <PropertyGroup>{properties}<Bpf2sysOptions>--color;never</Bpf2sysOptions></PropertyGroup>
  <Import Project="$(Bpf2sysPackage)/ebpf.props" />
  <ItemGroup><BpfSource Include="a.bpf.c">{metadata}<OutputDirectory>out</OutputDirectory></BpfSource></ItemGroup>
</Project>"#
            ),
        )?;
        fs::write(place.examples().join("msbuild/a.bpf.c"), "")?;
        passes(&mut xbuild(&place, "msbuild/options.proj", &[]))?;
        let given = fs::read_to_string(place.examples().join("msbuild/obj/bpf2sys/a.bpf.c.rsp"))?;
        let given: Vec<&str> = given.lines().collect();
        for word in words.iter().chain(&["--color", "never", "out/", "a.bpf.c"]) {
            assert!(given.contains(word), "no {word} in {given:?}");
        }
        // `build`, and the words about this run.
        assert_eq!(given.len(), words.len() + 2 + 3 + 2 + 2 + 1 + 2, "{given:?}");
    }
    Ok(())
}

fn refusals() -> Result<(), Failed> {
    let place = Workplace::new()?;
    unpack(&place)?;
    let items = r#"<ItemGroup><BpfSource Include="../programs/drop_port.bpf.c" /></ItemGroup>"#;
    library(&place, items)?;
    let fails = |words: &[&str], said: &str| -> Result<(), Failed> {
        let out = output(&mut xbuild(&place, "library/library.csproj", words))?;
        let told = String::from_utf8_lossy(&out.stdout);
        assert!(!out.status.success() && told.contains(said), "{told}");
        assert!(place.ran()?.is_empty());
        Ok(())
    };
    fails(&["/p:Platform=Win32"], "There are no drivers for the platform 'Win32'")?;
    // Cleaning such a platform is no error.
    passes(&mut xbuild(
        &place,
        "library/library.csproj",
        &["/p:Platform=Win32", "/t:Clean"],
    ))?;
    fs::copy(place.source("drop_port.bpf.c"), place.source("drop_port.c"))?;
    let items = r#"<ItemGroup><BpfSource Include="../programs/drop_port.bpf.c;../programs/drop_port.c" /></ItemGroup>"#;
    library(&place, items)?;
    fails(&["/p:Platform=x64"], "Two items would give the same file")
}

/// What the standard of such containers wants: every part has a type, relations lead to parts, and no time is in it.
fn package() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let [one, two, small] = ["one", "two", "small"].map(|name| folder.path().join(name));
    let tools = ["win-x64", "linux-x64"].map(|rid| format!("{rid}={}", root().join("README.md").display()));
    let tools = [tools[0].as_str(), &tools[1]];
    pack(&one, &tools)?;
    std::thread::sleep(std::time::Duration::from_millis(2100));
    pack(&two, &tools)?;
    assert!(fs::read(&one)? == fs::read(&two)?, "packed twice, it differs");
    pack(&small, &[])?;
    let script = r"
import sys, zipfile
from xml.etree import ElementTree as tree
package = zipfile.ZipFile(sys.argv[1])
assert package.testzip() is None
names = package.namelist()
assert len(set(names)) == len(names)
space = '{http://schemas.openxmlformats.org/package/2006/content-types}'
types = tree.fromstring(package.read('[Content_Types].xml'))
extensions = {e.get('Extension') for e in types.iter(space + 'Default')}
parts = {e.get('PartName') for e in types.iter(space + 'Override')}
for name in names:
    last = name.rsplit('/', 1)[-1]
    if name != '[Content_Types].xml':
        assert '/' + name in parts or ('.' in last and last.rsplit('.', 1)[1] in extensions), name
relations = tree.fromstring(package.read('_rels/.rels'))
targets = [e.get('Target')[1:] for e in relations]
assert len(targets) == 2 and set(targets) <= set(names), targets
for name in names:
    if name.endswith(('.xml', '.rels', '.nuspec', '.psmdcp', '.props', '.targets')):
        tree.fromstring(package.read(name))
space = '{http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd}'
metadata = tree.fromstring(package.read('bpf2sys.nuspec'))[0]
assert metadata.findtext(space + 'version') == sys.argv[2]
assert metadata.findtext(space + 'readme') in names
print(*sorted(names))
";
    let names = |file: &Path| {
        succeed(
            Command::new("python3")
                .args(["-c", script])
                .arg(file)
                .arg(env!("CARGO_PKG_VERSION")),
        )
    };
    let all = names(&one)?;
    for name in [
        "build/bpf2sys.props",
        "build/bpf2sys.targets",
        "buildTransitive/bpf2sys.targets",
        "tools/linux-x64/bpf2sys",
        "tools/win-x64/bpf2sys.exe",
    ] {
        assert!(all.split_whitespace().any(|found| found == name), "no {name}: {all}");
    }
    assert!(!names(&small)?.contains("tools/"));
    let out = output(
        Command::new("python3")
            .arg(root().join("templates/msbuild/pack.py"))
            .arg(&small)
            .arg("amiga=x"),
    )?;
    assert!(!out.status.success());
    Ok(())
}

fn every_option() -> Result<(), Failed> {
    let mut known: Vec<String> = OPTIONS
        .iter()
        .flat_map(|(.., words)| words.iter())
        .map(|word| word[2..].split('=').next().unwrap_or_default().to_owned())
        .collect();
    known.push("out-dir".into());
    for option in options()? {
        assert!(known.contains(&option), "--{option} has no metadata");
    }
    let page = fs::read_to_string(root().join("templates/msbuild/README.md"))?;
    for (name, ..) in OPTIONS {
        assert!(page.contains(&format!("`{name}`")), "the page does not name {name}");
    }
    let properties = fs::read_to_string(root().join("templates/msbuild/build/bpf2sys.props"))?;
    assert!(properties.contains(&format!(
        "<Bpf2sysVersion>{}</Bpf2sysVersion>",
        env!("CARGO_PKG_VERSION")
    )));
    // The tool is one that knows what it is given.
    let help = succeed(tool().args(["build", "--help"]))?;
    assert!(known.iter().all(|option| help.contains(&format!("--{option}"))));
    Ok(())
}
