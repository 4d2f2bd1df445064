use std::fs;
use std::process::Command;

use super::*;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
const TYPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bytecode/tests/fixtures/types/types.o");

/// Builds in a folder of its own, and has rustc compile and run a program that uses what was generated.
fn run(build: &mut Build, program: &str) {
    let folder = tempfile::tempdir().unwrap();
    build.out_dir(folder.path()).try_compile().unwrap();
    let main = folder.path().join("main.rs");
    fs::write(
        &main,
        format!("#![deny(warnings, unsafe_code)]\n#[allow(dead_code)]\nmod drivers {{\n    include!(\"bpf2sys.rs\");\n}}\nfn main() {{\n{program}\n}}\n"),
    )
    .unwrap();
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let exe = folder.path().join(format!("main{}", env::consts::EXE_SUFFIX));
    let compiled = Command::new(rustc)
        .args(["--edition=2024", "-o"])
        .args([&exe, &main])
        .output()
        .unwrap();
    let source = || fs::read_to_string(folder.path().join("bpf2sys.rs")).unwrap();
    assert!(
        compiled.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&compiled.stderr),
        source()
    );
    let ran = Command::new(exe).output().unwrap();
    assert!(
        ran.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&ran.stderr),
        source()
    );
}

#[test]
fn types_of_c_have_the_same_bytes_in_rust() {
    run(
        Build::new()
            .input(TYPES)
            .option("from", "windows")
            .machine(Machine::X64),
        r#"
        use drivers::types::{maps, sections, types};
        use core::mem::{offset_of, size_of};
        fn entries<K, V>(_: drivers::Map<K, V>) -> [usize; 2] { [size_of::<K>(), size_of::<V>()] }

        let key = types::key { address: 1, port: 2, rest: [3, 4] };
        assert_eq!(size_of::<types::key>(), 8);
        assert_eq!(key.rest[1], 4);
        assert_eq!(size_of::<types::record>(), 48);
        assert_eq!(offset_of!(types::record, kind), 8);
        assert_eq!(offset_of!(types::record, _bits_few_many), 16);
        assert_eq!(offset_of!(types::record, unnamed), 24);
        assert_eq!(offset_of!(types::record, next), 32);
        assert_eq!(offset_of!(types::record, negative), 42);
        let kind: types::kind = types::KIND_LAST;
        let level: types::level = types::LOW;
        assert_eq!((kind, level), (0xffff_ffff_u32, -1_i32));
        assert_eq!(types::WIDE, 0x100_0000_0000_u64);
        assert_eq!(entries(maps::RECORDS), [8, 48]);
        assert_eq!(entries(maps::SIZES), [4, 8]);
        assert_eq!((maps::SIZES.map_type, maps::SIZES.max_entries), (1, 16));
        let first: drivers::Map<[u8; 4], [u8; 8]> = maps::SIZES;
        assert_eq!(first.name, "sizes");
        let data: drivers::Section<types::data> = sections::DATA;
        assert_eq!((data.map.name, data.initial.len(), data.read_only), ("types.data", size_of::<types::data>(), false));
        assert_eq!(offset_of!(types::data, second), 8);
        assert_eq!(data.initial[..4], 1_u32.to_le_bytes());
        assert!(sections::RODATA.read_only);
        "#,
    );
}

#[test]
fn images_and_programs_are_constants() {
    run(
        Build::new()
            .input(format!("{EXAMPLES}/connect_redirect/connect_redirect.o"))
            .input(format!("{EXAMPLES}/bind_policy/bind_policy.o"))
            .input(format!("{EXAMPLES}/flow_log/flow_log.o"))
            .input(format!("{EXAMPLES}/process_guard/process_guard.o"))
            .machine(Machine::X64)
            .machine(Machine::Arm64)
            .emit(Form::Sys)
            .emit(Form::Dll),
        r#"
        use drivers::connect_redirect::{self as redirect, programs};
        let images = [redirect::X64_SYS, redirect::X64_DLL, redirect::ARM64_SYS, redirect::ARM64_DLL];
        assert!(images.iter().all(|image| image.starts_with(b"MZ")));
        let machine = |image: &[u8]| {
            let header = u32::from_le_bytes(image[60..64].try_into().unwrap()) as usize;
            u16::from_le_bytes(image[header + 4..header + 6].try_into().unwrap())
        };
        assert_eq!(images.map(machine), [0x8664, 0x8664, 0xaa64, 0xaa64]);
        let program = programs::CONNECT_REDIRECT4;
        assert_eq!(program.section, "cgroup/connect4");
        assert_eq!(drivers::bind_policy::programs::BIND_POLICY.program_type, "bind");
        let _ = drivers::flow_log::maps::FLOWS;
        "#,
    );
}

#[test]
fn the_machine_is_the_one_that_cargo_builds_for() {
    let mut build = Build::new();
    build.input("a.o").option("hash", "none").flag("deny-warnings");
    let words = build.arguments(Path::new("out")).unwrap();
    let arch = match env::consts::ARCH {
        "aarch64" => "--arch=arm64",
        _ => "--arch=x64",
    };
    assert_eq!(
        words,
        ["--hash=none", "--deny-warnings", arch, "--out-dir=out", "--", "a.o"]
    );
}

#[test]
fn what_is_wrong_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut build = Build::new();
    build.out_dir(folder.path());
    assert!(build.try_compile().is_err());
    build.input("no-such-file.o");
    assert!(matches!(
        build.try_compile().unwrap_err().kind(),
        ErrorKind::ReadFile { .. }
    ));
    let mut build = Build::new();
    build
        .out_dir(folder.path())
        .input(TYPES)
        .option("from", "windows")
        .option("runtime", "0.1");
    assert!(matches!(build.try_compile().unwrap_err().kind(), ErrorKind::Usage(_)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_has_not_changed_keeps_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut build = Build::new();
    build.input(TYPES).option("from", "windows").out_dir(folder.path());
    build.try_compile().unwrap();
    let times =
        || ["types.sys", "bpf2sys.rs"].map(|name| fs::metadata(folder.path().join(name)).unwrap().modified().unwrap());
    let before = times();
    std::thread::sleep(std::time::Duration::from_millis(20));
    build.try_compile().unwrap();
    assert_eq!(times(), before);
}
