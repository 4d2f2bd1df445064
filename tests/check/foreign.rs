//! Images that others made: of the simulator's test module, of clang and lld with Control Flow Guard, and of Wine.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use bpf2sys_check::{Options, Report, Status};
use libtest_mimic::{Failed, Trial};

use super::{broken, report};
use crate::simulator_trials::shared::fixture;
use crate::support::{Need, succeed, test, test_with};

const CLANG: &str = "clang-19";
const LINKER: &str = "lld-link-19";
/// Where Wine has its drivers.
const WINE: &str = "/usr/lib/x86_64-linux-gnu/wine/x86_64-windows";

pub fn trials() -> Vec<Trial> {
    let tools = [Need::Program(CLANG), Need::Program(LINKER)];
    vec![
        test("check::modules_of_another_compiler", modules_of_another_compiler),
        test_with("check::a_guarded_driver_of_lld", &tools, || guarded_driver("x86_64")),
        test_with("check::a_guarded_driver_of_lld_for_arm64", &tools, || {
            guarded_driver("aarch64")
        }),
        test_with(
            "check::an_unchecked_call_in_a_guarded_driver",
            &tools,
            an_unchecked_call_in_a_guarded_driver,
        ),
        test_with("check::drivers_of_wine", &[Need::File(WINE)], drivers_of_wine),
    ]
}

/// They have instructions that test what is done about them, and keep every other rule.
fn modules_of_another_compiler() -> Result<(), Failed> {
    let traps = BTreeSet::from(["code.no-privileged"]);
    let all_traps = BTreeSet::from(["code.no-privileged", "code.platform-register"]);
    for (image, due) in [
        (fixture::IMAGE, traps),
        (fixture::ARM64_IMAGE, all_traps),
        (fixture::SAMPLE, BTreeSet::new()),
        (fixture::ARM64_SAMPLE, BTreeSet::new()),
    ] {
        assert_eq!(broken(image, &Options::default())?, due);
    }
    Ok(())
}

/// A driver with calls through the check or dispatch function, a switch, a large frame, a table of functions, and a function whose
/// address only code takes.
const SOURCE: &str = r"
typedef long (*callback)(long);
long first(long n) { return n + 1; }
long second(long n) { return n * 3; }
callback callbacks[2] = { first, second };
long third(long n) { return n - 2; }
callback later;
__declspec(dllimport) long imported(long n);
long choose(long n) {
    switch (n) {
    case 1: return imported(7);
    case 2: return imported(9) + 1;
    case 3: return imported(2) * 5;
    case 4: return imported(4) - 8;
    case 5: return imported(n);
    default: return 0;
    }
}
long DriverEntry(long n) { later = third; return callbacks[n & 1](n) + callbacks[~n & 1](n) + choose(n); }
extern const unsigned long long guard_table[], guard_count;
extern void *check, *dispatch;
";

/// What the C library of Windows adds: the load configuration, which the linker fills in, and functions that are as good as
/// those that the loader puts in their place.
const RUNTIME: &str = r#"
extern void *__guard_fids_table, *__guard_fids_count, *__guard_flags, *__guard_iat_table, *__guard_iat_count;
static void check_nothing(void) {}
#ifdef __x86_64__
__attribute__((naked)) static void dispatch_nothing(void) { __asm__("jmp *%rax"); }
#else
__attribute__((naked)) static void dispatch_nothing(void) { __asm__("br x15"); }
#endif
__attribute__((section(".00cfg"))) void *const __guard_check_icall_fptr = (void *)check_nothing;
__attribute__((section(".00cfg"))) void *const __guard_dispatch_icall_fptr = (void *)dispatch_nothing;
unsigned long long __security_cookie = 0x00002B992DDFA232;
struct { unsigned size; unsigned zero1[21]; void *cookie; void *zero2[2]; const void *check, *dispatch;
  void *table, *count; unsigned flags; unsigned zero3; void *zero4[3]; } const _load_config_used = {
  .size = sizeof(_load_config_used), .cookie = &__security_cookie,
  .check = &__guard_check_icall_fptr, .dispatch = &__guard_dispatch_icall_fptr,
  .table = &__guard_fids_table, .count = &__guard_fids_count, .flags = 0x10500 };
"#;

/// Compiles, links and checks a driver, whose first source is `source`.
fn linked(folder: &Path, architecture: &str, source: &str) -> Result<Report, Failed> {
    let target = format!("--target={architecture}-pc-windows-msvc");
    let machine = if architecture == "x86_64" { "x64" } else { "arm64" };
    let path = |name: &str| folder.join(name);
    std::fs::write(path("imports.def"), "LIBRARY ntoskrnl.exe\nEXPORTS\nimported\n")?;
    let library = path("imports.lib");
    succeed(
        Command::new(LINKER)
            .arg("/lib")
            .arg(format!("/machine:{machine}"))
            .arg(format!("/def:{}", path("imports.def").display()))
            .arg(format!("/out:{}", library.display())),
    )?;
    for (name, text) in [("driver", source), ("runtime", RUNTIME)] {
        std::fs::write(path(&format!("{name}.c")), text)?;
        let mut clang = Command::new(CLANG);
        clang.args([
            target.as_str(),
            "-O1",
            "-ffreestanding",
            "-fno-stack-protector",
            "-fasynchronous-unwind-tables",
            "-w",
            "-c",
        ]);
        clang.args(["-Xclang", "-cfguard", "-o"]);
        succeed(clang.arg(path(&format!("{name}.obj"))).arg(path(&format!("{name}.c"))))?;
    }
    let image = path("driver.sys");
    let mut link = Command::new(LINKER);
    link.args([
        "/driver",
        "/subsystem:native,10.00",
        "/nodefaultlib",
        "/entry:DriverEntry",
    ]);
    link.args([
        "/guard:cf",
        "/dynamicbase",
        "/nxcompat",
        "/release",
        "/brepro",
        "/fixed:no",
    ]);
    link.arg(format!("/out:{}", image.display()));
    succeed(link.args([path("driver.obj"), path("runtime.obj"), library]))?;
    report(&std::fs::read(image)?, &Options::default())
}

fn guarded_driver(architecture: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let report = linked(folder.path(), architecture, SOURCE)?;
    let failures: Vec<_> = report.failures().collect();
    assert!(failures.is_empty() && !report.module, "{failures:#?}");
    for rule in [
        "load-config.security-cookie",
        "load-config.relocated",
        "cfg.instrumented",
        "cfg.pointers",
        "cfg.table-sorted",
        "cfg.targets-complete",
        "cfg.calls-guarded",
        "unwind.matches-code",
        "unwind.covers-frames",
    ] {
        let row = report.rows.iter().find(|row| row.rule == rule).ok_or(rule)?;
        assert_eq!(row.status, Status::Pass, "{row:#?}");
    }
    Ok(())
}

/// Windows loads such a driver, but the row has the value.
fn an_unchecked_call_in_a_guarded_driver() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let unchecked = SOURCE.replace("long DriverEntry", "__declspec(guard(nocf)) long DriverEntry");
    let report = linked(folder.path(), "x86_64", &unchecked)?;
    let row = report
        .rows
        .iter()
        .find(|row| row.rule == "cfg.calls-guarded")
        .ok_or("no row")?;
    assert_eq!(row.status, Status::NotApplicable, "{row:#?}");
    assert!(row.measured.contains("call"), "{row:#?}");
    assert_eq!(report.failures().count(), 0);
    Ok(())
}

/// Their checksums are those of before their symbols were taken away, which Windows would not have; all else is right.
fn drivers_of_wine() -> Result<(), Failed> {
    let mut seen = 0;
    for entry in std::fs::read_dir(WINE)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "sys") {
            continue;
        }
        seen += 1;
        let found = broken(&std::fs::read(&path)?, &Options::default())?;
        let rest: Vec<_> = found.iter().filter(|rule| **rule != "pe.checksum").collect();
        if !rest.is_empty() {
            return Err(format!("{}: {rest:?}", path.display()).into());
        }
    }
    assert!(seen > 0, "no drivers");
    Ok(())
}
