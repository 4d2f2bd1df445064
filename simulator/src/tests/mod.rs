//! Tests over a real image: `testdata/module.c`, compiled by clang and linked by lld.

mod broken;
mod dll;
mod patch;

// What runs native code, where that is possible.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod call;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod helpers;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kernel;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod maps;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod programs;

use crate::{HexBytes, Input, MapPreset, PresetValue, RunReport, RunRequest, SimulatorError};

/// The test binary is the executable that `run` starts again. libtest owns its `main`, so the child's side runs before
/// that, as a constructor.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[used]
#[unsafe(link_section = ".init_array")]
static CHILD: extern "C" fn() = {
    extern "C" fn child() {
        crate::child_main_if_requested();
    }
    child
};

/// The image.
pub const IMAGE: &[u8] = include_bytes!("../../testdata/module.image");

/// The same module in a DLL.
pub const DLL: &[u8] = include_bytes!("../../testdata/module.dll.image");

pub fn request(inputs: Vec<Input>) -> RunRequest {
    RunRequest {
        image: IMAGE.to_vec(),
        inputs,
        ..RunRequest::default()
    }
}

pub fn packet(program: &str, packet: &[u8]) -> Input {
    Input {
        program: program.into(),
        packet: HexBytes(packet.to_vec()),
        ..Input::default()
    }
}

pub fn preset(map: &str, key: &[u8], value: &[u8]) -> MapPreset {
    MapPreset {
        map: map.into(),
        key: HexBytes(key.to_vec()),
        value: PresetValue::Bytes(HexBytes(value.to_vec())),
    }
}

pub fn run(request: &RunRequest) -> Result<RunReport, SimulatorError> {
    crate::run(request)
}

/// Bytes of an entry's first value.
pub fn value<'a>(report: &'a RunReport, map: &str, key: &[u8]) -> Option<&'a [u8]> {
    let map = report.maps.iter().find(|m| m.name == map)?;
    map.entries
        .iter()
        .find(|e| e.key.0 == key)
        .and_then(|e| e.values.first())
        .map(|v| v.0.as_slice())
}
