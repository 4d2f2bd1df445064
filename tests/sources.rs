//! C sources as inputs: what clang makes of them, what is told of it, and which files of the machine take part.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::support::{Need, output, root, succeed, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    let clang = [Need::Program("clang-19")];
    vec![
        test_with("sources::every_example_is_built_from_c", &clang, examples),
        test_with("sources::options_reach_clang", &clang, options),
        test_with("sources::the_kept_object_gives_the_same_driver", &clang, kept_object),
        test_with("sources::bytes_do_not_depend_on_the_folder", &clang, other_folders),
        test_with("sources::errors_are_those_of_clang", &clang, errors),
        test_with("sources::warnings_can_be_denied", &clang, warnings),
        test_with("sources::a_refused_program_names_its_c_line", &clang, refused_program),
        test_with("sources::strange_names_are_names", &clang, strange_names),
        test("sources::a_compiler_must_be_there", no_compiler),
        #[cfg(unix)]
        test("sources::compilers_without_ebpf_are_passed_over", other_compilers),
        test_with(
            "sources::nothing_stays_in_the_temporary_folder",
            &clang,
            temporary_files,
        ),
    ]
}

const PASS: &str = "#include \"bpf2sys_xdp.h\"\n\nSEC(\"xdp\")\nint\npass(xdp_md_t *context)\n{\n    (void)context;\n    return XDP_PASS;\n}\n";

/// The tool with the compiler of the fixtures.
fn clang() -> Command {
    let mut tool = tool();
    tool.env("BPF2SYS_CLANG", "clang-19");
    tool
}

/// Runs a command that must fail with this status, and gives what it says.
fn fails(command: &mut Command, status: i32) -> Result<String, Failed> {
    let out = output(command)?;
    if out.status.code() != Some(status) {
        return Err(format!("{command:?}: {}, not {status}", out.status).into());
    }
    Ok(String::from_utf8_lossy(&out.stderr).into_owned())
}

fn says(text: &str, wanted: &[&str]) -> Result<(), Failed> {
    match wanted.iter().find(|wanted| !text.contains(**wanted)) {
        Some(missing) => Err(format!("does not say {missing:?}:\n{text}").into()),
        None => Ok(()),
    }
}

/// The code of the committed objects, which clang made directly, and that of the sources are the same.
fn examples() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for (name, level) in [
        ("udp_filter", "v3"),
        ("bind_policy", "v1"),
        ("connect_redirect", "v2"),
        ("flow_log", "v4"),
        ("tail_dispatch", "v3"),
        ("process_guard", "v3"),
    ] {
        let object = root().join(format!("examples/{name}/{name}.o"));
        let listing = |input: &Path| {
            let mut command = clang();
            command
                .args(["build", "--emit", "asm", "-o", "-", &format!("--cflag=-mcpu={level}")])
                .args(["--source-root".as_ref(), root().as_os_str()])
                .arg(input)
                .current_dir(&folder);
            succeed(&mut command)
        };
        // The names of the platform's headers differ; the instructions and the source lines of the program do not.
        let lines = |text: String| -> Vec<String> {
            // The first lines have the object's hash.
            let own = text.lines().skip(3).filter(|line| !line.contains("bpf2sys_"));
            own.map(|line| line.replace("./examples/", "examples/")).collect()
        };
        let of_object = lines(listing(&object)?);
        let of_source = lines(listing(&object.with_extension("c"))?);
        if of_object != of_source {
            let differing = of_object.iter().zip(&of_source).find(|(a, b)| a != b);
            return Err(format!("{name}: {differing:?}").into());
        }
    }
    Ok(())
}

fn options() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("include"))?;
    fs::write(folder.path().join("include/own.h"), "#define VERDICT XDP_DROP\n")?;
    let source = PASS
        .replace("XDP_PASS", "OTHER")
        .replace("#include", "#include \"own.h\"\n#include");
    fs::write(folder.path().join("a.bpf.c"), source)?;
    let build = |arguments: &[&str]| {
        let mut command = clang();
        command
            .args(["build", "a.bpf.c", "--emit=asm", "-o", "-"])
            .args(arguments)
            .current_dir(&folder);
        command
    };
    says(&fails(&mut build(&[]), 3)?, &["'own.h' file not found"])?;
    says(
        &fails(&mut build(&["-Iinclude"]), 3)?,
        &["undeclared identifier 'OTHER'"],
    )?;
    let listing = succeed(&mut build(&[
        "-I",
        "include",
        "-D",
        "OTHER=VERDICT",
        "--cflag=-mcpu=v4",
        "--cflag=-O1",
    ]))?;
    says(&listing, &["mov     eax, 2", "return OTHER;"])?;
    // The user's own header comes before the platform's of the same name.
    fs::write(folder.path().join("include/bpf2sys_xdp.h"), "#error mine\n")?;
    says(&fails(&mut build(&["-Iinclude"]), 3)?, &["error: mine"])
}

fn kept_object() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("a.bpf.c"), PASS)?;
    let run = |arguments: &[&str]| succeed(clang().args(arguments).current_dir(&folder));
    run(&[
        "build",
        "a.bpf.c",
        "--keep-object",
        "--out-dir",
        "one",
        "--arch",
        "x64,arm64",
    ])?;
    run(&["build", "one/a.bpf.o", "--out-dir", "two", "--arch", "x64,arm64"])?;
    for name in ["a.x64.sys", "a.arm64.sys"] {
        let [one, two] = ["one", "two"].map(|of| fs::read(folder.path().join(of).join(name)));
        assert!(one? == two?, "{name} differs");
    }
    // Without the option, there is no object.
    run(&["build", "a.bpf.c", "--out-dir", "three"])?;
    assert_eq!(fs::read_dir(folder.path().join("three"))?.count(), 1);
    Ok(())
}

fn other_folders() -> Result<(), Failed> {
    let mut seen: Option<Vec<u8>> = None;
    for (sources, here, named) in [
        ("project/src", "project", "src/a.c"),
        ("other place/src", "other place", "src/a.c"),
        ("project/src", "", "project/src/a.c"),
        ("project/src", "project/build", "../src/a.c"),
    ] {
        let folder = tempfile::tempdir()?;
        fs::create_dir_all(folder.path().join(sources))?;
        fs::create_dir_all(folder.path().join(here))?;
        fs::write(
            folder.path().join(sources).join("own.h"),
            "static inline int own(int x)\n{\n    return x * 3;\n}\n",
        )?;
        let source = PASS.replace("XDP_PASS", "own(context->data < context->data_end)");
        fs::write(
            folder.path().join(sources).join("a.c"),
            format!("#include \"own.h\"\n{source}"),
        )?;
        let root = folder.path().join(sources);
        succeed(
            clang()
                .args(["build", named, "--keep-object", "--source-root"])
                .arg(root.parent().unwrap_or(&root))
                .current_dir(folder.path().join(here)),
        )?;
        let object = fs::read(folder.path().join(here).join("a.o"))?;
        let named_folder = folder.path().to_string_lossy().into_owned();
        let text = String::from_utf8_lossy(&object);
        assert!(!text.contains(&named_folder), "the object names its folder");
        assert!(
            *seen.get_or_insert_with(|| object.clone()) == object,
            "{named} in {here:?}: another object"
        );
    }
    Ok(())
}

/// Every form has them: people see clang's own text, machines a problem for each.
fn errors() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let source = PASS.replace("XDP_PASS", "XDP_PAS + missing");
    fs::write(folder.path().join("a.c"), &source)?;
    let direct = output(
        Command::new("clang-19")
            .args([
                "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-c", "a.c", "-o", "a.o", "-isystem",
            ])
            .arg(root().join("examples/include"))
            .current_dir(&folder),
    )?;
    let include = root().join("examples/include").display().to_string();
    let direct = String::from_utf8_lossy(&direct.stderr).replace(&include, "bpf2sys");
    let build = |form: &str| {
        let mut command = clang();
        command
            .args(["build", "a.c", "--message-format", form])
            .current_dir(&folder);
        command
    };
    let human = fails(&mut build("human"), 3)?;
    assert!(human.starts_with(&direct), "clang:\n{direct}\nbpf2sys:\n{human}");
    says(&fails(&mut build("short"), 3)?, &[&direct, "a.c: error[BPF8003]"])?;
    says(
        &fails(&mut build("msbuild"), 3)?,
        &[
            "a.c(8,12): error BPF8003: use of undeclared identifier 'XDP_PAS'",
            "a.c(8,22): error BPF8003: ",
        ],
    )?;
    let out = output(&mut build("json"))?;
    let lines: Vec<serde_json::Value> = String::from_utf8(out.stdout)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let codes: Vec<_> = lines
        .iter()
        .map(|line| (&line["code"], &line["place"]["line"]))
        .collect();
    assert_eq!(codes.len(), 3, "{lines:?}");
    assert_eq!(codes[0], (&"BPF8003".into(), &8.into()));
    assert_eq!(lines[2]["errors"], 2);
    assert_eq!(lines[0]["place"]["text"], "    return XDP_PAS + missing;");
    assert!(!folder.path().join("a.sys").exists());
    Ok(())
}

fn warnings() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    fs::write(
        folder.path().join("a.c"),
        PASS.replace("(void)context;", "int unused;\n    (void)context;"),
    )?;
    let build = |arguments: &[&str]| {
        let mut command = clang();
        command
            .args(["build", "a.c", "--cflag=-Wall"])
            .args(arguments)
            .current_dir(&folder);
        command
    };
    let out = output(&mut build(&["--message-format=msbuild"]))?;
    assert!(out.status.success());
    says(
        &String::from_utf8_lossy(&out.stderr),
        &["a.c(7,9): warning BPF8004: unused variable 'unused'"],
    )?;
    fs::remove_file(folder.path().join("a.sys"))?;
    says(
        &fails(&mut build(&["--deny-warnings"]), 3)?,
        &["error: unused variable 'unused'"],
    )?;
    assert!(!folder.path().join("a.sys").exists());
    Ok(())
}

fn refused_program() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let source = PASS.replace("return XDP_PASS", "return *(int *)context->data");
    fs::write(folder.path().join("a.c"), source)?;
    let told = fails(clang().args(["verify", "a.c"]).current_dir(&folder), 4)?;
    says(&told, &["a.c:8:", "return *(int *)context->data;"])
}

fn strange_names() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mut names = vec!["with space.c", "-D.c", "$HOME.c", "a#b.c", "größer.c", "UPPER.C"];
    if cfg!(unix) {
        names.push("quote\"'s.c");
    }
    for name in &names {
        fs::write(folder.path().join(name), PASS)?;
    }
    let depfile = folder.path().join("all.d");
    succeed(
        clang()
            .args(["build", "--out-dir", "out", "--depfile"])
            .arg(&depfile)
            .arg("--")
            .args(&names)
            .current_dir(&folder),
    )?;
    assert_eq!(fs::read_dir(folder.path().join("out"))?.count(), names.len());
    let listed = fs::read_to_string(depfile)?;
    says(&listed, &["with\\ space.c", "$$HOME.c", "a\\#b.c", "-D.c", "größer.c"])
}

fn no_compiler() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("a.c"), PASS)?;
    let build = || {
        let mut command = tool();
        command
            .args(["build", "a.c"])
            .current_dir(&folder)
            .env("PATH", folder.path())
            .env_remove("BPF2SYS_CLANG");
        command
    };
    let told = fails(&mut build(), 1)?;
    says(&told, &["BPF8001", "neither `clang` nor `clang-NN`"])?;
    let told = fails(build().arg("--clang=./none"), 1)?;
    says(&told, &["`--clang` names `./none`, which is not there"])?;
    // Objects need none.
    let object = root().join("examples/udp_filter/udp_filter.o");
    succeed(
        tool()
            .arg("build")
            .arg(object)
            .current_dir(&folder)
            .env("PATH", folder.path()),
    )?;
    Ok(())
}

/// Of several, the first that makes eBPF is taken; what stands before it is not an error.
#[cfg(unix)]
fn other_compilers() -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("a.c"), PASS)?;
    let script = |name: &str, targets: &str| -> Result<(), Failed> {
        let path = folder.path().join(name);
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --print-targets ] && echo '{targets}' && exit\necho this is {name} >&2; exit 3\n"
        );
        fs::write(&path, text)?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
    };
    let build = || {
        let mut command = tool();
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        command
            .args(["build", "a.c"])
            .current_dir(&folder)
            .env("PATH", path)
            .env_remove("BPF2SYS_CLANG");
        command
    };
    script("clang", "    x86-64 - other")?;
    script("clang-999", "    bpfel      - BPF (little endian)")?;
    script("clang-1000", "    arm - other")?;
    says(
        &fails(&mut build(), 3)?,
        &["this is clang-999", "BPF8003", "exit status: 3"],
    )?;
    // What is named is taken, whatever else there is.
    let told = fails(build().args(["--clang", "clang-1000"]), 1)?;
    says(&told, &["BPF8002", "clang-1000", "without the target BPF"])
}

fn temporary_files() -> Result<(), Failed> {
    let (folder, temporary) = (tempfile::tempdir()?, tempfile::tempdir()?);
    fs::write(folder.path().join("good.c"), PASS)?;
    fs::write(folder.path().join("bad.c"), "no C\n")?;
    let run = |name: &str| {
        output(
            clang()
                .args(["build", name])
                .current_dir(&folder)
                .env("TMPDIR", temporary.path())
                .env("TEMP", temporary.path()),
        )
    };
    assert!(run("good.c")?.status.success() && !run("bad.c")?.status.success());
    assert_eq!(fs::read_dir(temporary.path())?.count(), 0);
    Ok(())
}
