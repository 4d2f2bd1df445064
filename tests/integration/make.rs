//! The recipes for Make and Meson.

use libtest_mimic::{Failed, Trial};

use super::{PROGRAMS, Workplace, passes};
use crate::support::{Need, test_with};

pub fn trials() -> Vec<Trial> {
    let make = [Need::Program("make"), Need::Program("clang-19")];
    let meson = [
        Need::Program("meson"),
        Need::Program("ninja"),
        Need::Program("clang-19"),
    ];
    vec![
        test_with("integration::make_recipe", &make, by_make),
        test_with("integration::meson_recipe", &meson, by_meson),
    ]
}

fn by_make() -> Result<(), Failed> {
    let place = Workplace::new()?;
    let build = || {
        let mut make = place.command("make");
        make.args(["-C", "make"])
            .arg(format!("BPF2SYS={}", place.tool().display()));
        make
    };
    let drivers = place.examples().join("make/drivers");
    place.judge(&build, &drivers, |line, column| {
        format!("drop_port.bpf.c:{line}:{column}")
    })?;
    std::fs::remove_file(drivers.join("drop_port.arm64.sys"))?;
    passes(&mut build())?;
    assert_eq!(place.ran()?, ["drop_port"]);
    passes(build().arg("clean"))?;
    passes(build().arg("-j2"))?;
    assert_eq!(place.ran()?, PROGRAMS);
    place.has_drivers(&drivers)
}

fn by_meson() -> Result<(), Failed> {
    let place = Workplace::new()?;
    let native = place.path("native.ini");
    std::fs::write(&native, format!("[binaries]\nbpf2sys = '{}'\n", place.tool().display()))?;
    passes(
        place
            .command("meson")
            .args(["setup", "the build", "meson", "--prefix"])
            .arg(place.path("installed"))
            .arg("--native-file")
            .arg(native),
    )?;
    let build = || {
        let mut meson = place.command("meson");
        meson.args(["compile", "-C", "the build"]);
        meson
    };
    place.judge(&build, &place.examples().join("the build"), |line, column| {
        format!("drop_port.bpf.c:{line}:{column}")
    })?;
    passes(place.command("meson").args(["install", "-C", "the build"]))?;
    place.has_drivers(&place.path("installed/drivers"))
}
