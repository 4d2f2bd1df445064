//! The `CMake` package, with each generator that can run here.

use std::fs;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::{Workplace, options, passes};
use crate::support::{Need, output, root, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    let needs = [
        Need::Program("cmake"),
        Need::Program("ninja"),
        Need::Program("clang-19"),
    ];
    let make = [Need::Program("cmake"), Need::Program("make"), Need::Program("clang-19")];
    vec![
        test_with("integration::cmake_with_ninja", &needs, || example("Ninja")),
        test_with(
            "integration::cmake_with_ninja_of_several_configurations",
            &needs,
            || example("Ninja Multi-Config"),
        ),
        test_with("integration::cmake_with_make", &make, || example("Unix Makefiles")),
        test_with("integration::cmake_gives_all_options_to_the_tool", &needs, all_options),
        test_with("integration::cmake_refuses_what_cannot_be_meant", &needs, refusals),
        test("integration::cmake_has_an_argument_for_each_option", every_option),
    ]
}

/// The command that configures a project of the workplace.
fn configure(place: &Workplace, project: &str, build: &str, generator: &str) -> Command {
    let mut cmake = place.command("cmake");
    cmake
        .args(["-G", generator, "-S", project, "-B"])
        .arg(place.path(build))
        .arg(format!("-Dbpf2sys_DIR={}", root().join("templates/cmake").display()))
        .arg(format!("-DBPF2SYS_EXECUTABLE={}", place.tool().display()));
    cmake
}

fn example(generator: &str) -> Result<(), Failed> {
    let place = Workplace::new()?;
    passes(&mut configure(&place, "cmake", "the build", generator))?;
    let build = || {
        let mut cmake = place.command("cmake");
        cmake.arg("--build").arg(place.path("the build"));
        cmake
    };
    place.judge(&build, &place.path("the build/drivers"), |line, column| {
        format!("drop_port.bpf.c:{line}:{column}")
    })?;
    passes(
        place
            .command("cmake")
            .arg("--install")
            .arg(place.path("the build"))
            .arg("--prefix")
            .arg(place.path("installed")),
    )?;
    place.has_drivers(&place.path("installed/drivers"))?;
    passes(build().args(["--target", "clean"]))?;
    assert!(!place.path("the build/drivers/drop_port.x64.sys").exists());
    passes(&mut build())?;
    assert_eq!(place.ran()?, super::PROGRAMS);
    fs::remove_file(place.path("the build/drivers/drop_port.arm64.sys"))?;
    passes(&mut build())?;
    assert_eq!(place.ran()?, ["drop_port"]);
    passes(&mut build())?;
    assert!(place.ran()?.is_empty());
    place.has_drivers(&place.path("the build/drivers"))
}

/// What is built with all options is what the command line gives with them.
fn all_options() -> Result<(), Failed> {
    let place = Workplace::new()?;
    let project = place.path("a project");
    fs::create_dir(&project)?;
    fs::create_dir(project.join("my headers"))?;
    fs::write(
        project.join("my headers/own.h"),
        "static inline int own(int x)\n{\n    return x + LIMIT;\n}\n",
    )?;
    let source = "#include \"own.h\"\n#include \"bpf2sys_xdp.h\"\nstatic const char *name(void) { return NAME; }\nSEC(\"other\") int f(xdp_md_t *context)\n{\n    (void)context;\n    return own(name()[3] == ' ' ? 0 : 1);\n}\n";
    fs::write(project.join("f.bpf.c"), source)?;
    fs::write(
        project.join("version.toml"),
        "company = \"Contoso\"\nproduct = \"Filter\"\ndescription = \"Filters\"\nfile-version = \"1.2.3\"\n",
    )?;
    passes(tool().args(["cert", "new"]).current_dir(&project))?;
    fs::write(
        project.join("CMakeLists.txt"),
        "cmake_minimum_required(VERSION 3.20)\nproject(p LANGUAGES NONE)\nfind_package(bpf2sys REQUIRED)\n\
         bpf2sys_add_driver(f EXCLUDE_FROM_ALL KEEP_OBJECT DENY_WARNINGS FORCE_INTEGRITY LSE SIGN_RETURN_ADDRESS\n\
         SIGN_PAGE_HASHES SOURCES f.bpf.c ARCH arm64 EMIT sys dll INCLUDE_DIRECTORIES \"my headers\"\n\
         DEFINITIONS LIMIT=1 \"NAME=\\\"a b c\\\"\" CFLAGS -mcpu=v4 -Wall CLANG clang-19 TYPE xdp FROM windows OPTIMIZE no-inlining RUNTIME 1.4 HASH sha512 CFG off\n\
         VERIFIER both TIME_LIMIT 50 MEMORY_LIMIT 4000 VERSION_INFO version.toml SIGN_PFX signing.pfx\n\
         SIGN_PASSWORD_ENV MY_PASSWORD SIGN_DIGEST sha384 SIGN_DESCRIPTION \"A $driver; or two\" SIGN_URL https://example.org/\n\
         OPTIONS --color never)\n\
         add_custom_command(OUTPUT copied COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_PROPERTY:f,BPF2SYS_DRIVERS> ${CMAKE_BINARY_DIR}/copies\n\
         COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_PROPERTY:f,BPF2SYS_OBJECTS> copied COMMAND_EXPAND_LISTS DEPENDS $<TARGET_PROPERTY:f,BPF2SYS_DRIVERS>)\n\
         file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/copies)\n\
         add_custom_target(user ALL DEPENDS copied)\n",
    )?;
    let project_name = project.display().to_string();
    passes(&mut configure(&place, &project_name, "b", "Ninja"))?;
    passes(
        place
            .command("cmake")
            .arg("--build")
            .arg(place.path("b"))
            .env("MY_PASSWORD", ""),
    )?;
    passes(
        tool()
            .args([
                "build",
                "f.bpf.c",
                "--out-dir",
                "hand",
                "--keep-object",
                "--deny-warnings",
                "--force-integrity",
            ])
            .args([
                "--lse",
                "--optimize=no-inlining",
                "--sign-return-address",
                "--sign-page-hashes",
                "--arch=arm64",
                "--emit=sys,dll",
            ])
            .args([
                "-Imy headers",
                "-DLIMIT=1",
                "-DNAME=\"a b c\"",
                "--cflag=-mcpu=v4",
                "--cflag=-Wall",
                "--type=xdp",
            ])
            .args([
                "--runtime=1.4",
                "--hash=sha512",
                "--cfg=off",
                "--version-info=version.toml",
            ])
            .args([
                "--sign-pfx=signing.pfx",
                "--sign-password-env=MY_PASSWORD",
                "--sign-digest=sha384",
            ])
            .args([
                "--sign-description=A $driver; or two",
                "--sign-url=https://example.org/",
            ])
            .env("MY_PASSWORD", "")
            .env("BPF2SYS_CLANG", "clang-19")
            .current_dir(&project),
    )?;
    for (built, by_hand) in [
        ("b/f.sys", "f.sys"),
        ("b/copies/f.sys", "f.sys"),
        ("b/copies/f.dll", "f.dll"),
        ("b/f.bpf.o", "f.bpf.o"),
        ("b/copied", "f.bpf.o"),
    ] {
        let by_hand = fs::read(project.join("hand").join(by_hand))?;
        assert!(fs::read(place.path(built))? == by_hand, "{built} differs");
    }
    Ok(())
}

fn refusals() -> Result<(), Failed> {
    let place = Workplace::new()?;
    let project = place.path("p");
    fs::create_dir(&project)?;
    for (call, said) in [
        (
            "bpf2sys_add_driver(d SOURCES a.c SIGN_PASSWORD secret)",
            "unknown argument SIGN_PASSWORD behind SOURCES",
        ),
        (
            "bpf2sys_add_driver(d NO_ARGUMENT SOURCES a.c)",
            "unknown arguments: NO_ARGUMENT",
        ),
        (
            "bpf2sys_add_driver(d NO_ARGUMENT SOURCES a.c)",
            "unknown arguments: NO_ARGUMENT",
        ),
        ("bpf2sys_add_driver(d SOURCES)", "no value for SOURCES"),
        ("bpf2sys_add_driver(d ARCH x64)", "SOURCES names no file"),
        (
            "bpf2sys_add_driver(d SOURCES a.c sub/a.bpf.c)",
            "two sources would give",
        ),
        ("find_package(bpf2sys 0.2 REQUIRED)", "requested version \"0.2\""),
        ("find_package(bpf2sys 0.0.9 REQUIRED)", "requested version \"0.0.9\""),
        (
            "find_package(bpf2sys 0.1 REQUIRED)\nmessage(FATAL_ERROR \"found\")",
            "found",
        ),
    ] {
        let text = format!(
            "cmake_minimum_required(VERSION 3.20)\nproject(p LANGUAGES NONE)\nfind_package(bpf2sys REQUIRED)\n{call}\n"
        );
        fs::write(project.join("CMakeLists.txt"), text)?;
        let out = output(&mut configure(&place, &project.display().to_string(), "b", "Ninja"))?;
        let told = String::from_utf8_lossy(&out.stderr)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(!out.status.success() && told.contains(said), "{call}: {told}");
    }
    // Without the tool.
    let out = output(
        configure(&place, &project.display().to_string(), "other", "Ninja")
            .args(["-UBPF2SYS_EXECUTABLE", "-DCMAKE_FIND_USE_CMAKE_ENVIRONMENT_PATH=OFF"])
            .env("PATH", "/usr/bin:/bin"),
    )?;
    let told = String::from_utf8_lossy(&out.stderr)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(told.contains("-DBPF2SYS_EXECUTABLE=FILE names it"), "{told}");
    Ok(())
}

fn every_option() -> Result<(), Failed> {
    let package = fs::read_to_string(root().join("templates/cmake/bpf2sys-config.cmake"))?;
    // Those that have other names in CMake.
    let other = [
        ("out-dir", "OUTPUT_DIRECTORY"),
        ("include", "INCLUDE_DIRECTORIES"),
        ("define", "DEFINITIONS"),
        ("cflag", "CFLAGS"),
    ];
    let start = package.find("set(switches").ok_or("no arguments")?;
    let end = package.find("cmake_parse_arguments").ok_or("no arguments")?;
    let names: Vec<&str> = package[start..end].split([' ', '(', ')', '\n']).collect();
    for option in options()? {
        let name = other.iter().find(|(long, _)| *long == option).map_or_else(
            || option.to_uppercase().replace('-', "_"),
            |(_, name)| (*name).to_owned(),
        );
        assert!(names.contains(&name.as_str()), "--{option} has no argument {name}");
    }
    let version = fs::read_to_string(root().join("templates/cmake/bpf2sys-config-version.cmake"))?;
    let line = format!("set(PACKAGE_VERSION \"{}\")", env!("CARGO_PKG_VERSION"));
    assert!(version.contains(&line), "the package has another version than the tool");
    Ok(())
}
