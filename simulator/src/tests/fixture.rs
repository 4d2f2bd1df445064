//! The module of `testdata/module.c` in images that clang and lld made, and requests to run it.
//!
//! Trials are the same for both machines. Those of this crate's unit tests run x64 on the host's processor; the end-to-end tests,
//! which can count a test as skipped when there is no emulator, run them for both machines in that.

use std::cell::Cell;

use bpf2sys_simulator::{
    HexBytes, Input, MapPreset, PresetValue, ProcessorKind, RunReport, RunRequest, SimulatorError,
};

/// The x64 image.
pub const IMAGE: &[u8] = include_bytes!("../../testdata/module.image");
/// The ARM64 image.
pub const ARM64_IMAGE: &[u8] = include_bytes!("../../testdata/module-arm64.image");

/// The x64 image of `testdata/sample.c`.
pub const SAMPLE: &[u8] = include_bytes!("../../testdata/sample.image");
/// Its ARM64 image.
pub const ARM64_SAMPLE: &[u8] = include_bytes!("../../testdata/sample-arm64.image");

/// An object that can be interpreted in the place of its programs, `testdata/sample-bpf.c`.
pub const SAMPLE_OBJECT: &[u8] = include_bytes!("../../testdata/sample-bpf.o");

/// What a trial is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // unit tests are for the host's processor
pub enum On {
    /// x64 on the host's processor.
    X64,
    /// x64 in the emulator.
    EmulatedX64,
    /// ARM64.
    Arm64,
}

thread_local! {
    /// What this thread's trial is for. Each trial is on one thread from start to end.
    static ON: Cell<On> = const { Cell::new(On::X64) };
}

/// Whether this thread's trial is for ARM64.
pub fn on_arm64() -> bool {
    ON.get() == On::Arm64
}

/// Whether this thread's trial is for the emulator.
pub fn is_emulated() -> bool {
    cfg!(windows) || ON.get() != On::X64
}

/// Makes this thread's trial one for that.
#[allow(dead_code)] // unit tests are for the host's processor
pub fn be_on(on: On) {
    ON.set(on);
}

/// The image for the machine that this thread's trial is for.
pub fn image() -> &'static [u8] {
    if on_arm64() { ARM64_IMAGE } else { IMAGE }
}

/// The image of `testdata/sample.c` for the machine that this thread's trial is for.
pub fn sample_image() -> &'static [u8] {
    if on_arm64() { ARM64_SAMPLE } else { SAMPLE }
}

/// The provider of `other_function`.
const OTHER_PROVIDER: &str = r#"
schema = 1
provider = { id = "other" }
[[btf_resolved_function]]
module_guid = "000000ff-0000-0000-0000-000000000001"
name = "other_function"
return_type = "EBPF_RETURN_TYPE_INTEGER"
args = []
flags = 0
"#;

/// A run of the module of `testdata/sample.c`, with every provider that it needs.
pub fn sample_request(inputs: Vec<Input>) -> RunRequest {
    RunRequest {
        image: sample_image().to_vec(),
        platform_files: vec![("other.toml".into(), OTHER_PROVIDER.into())],
        inputs,
        ..bare()
    }
}

pub fn request(inputs: Vec<Input>) -> RunRequest {
    RunRequest {
        image: image().to_vec(),
        inputs,
        ..bare()
    }
}

/// A request for the processor that this thread's trial is for, and nothing else.
pub fn bare() -> RunRequest {
    let processor = if ON.get() == On::EmulatedX64 {
        ProcessorKind::Emulated
    } else {
        ProcessorKind::Host
    };
    RunRequest {
        processor,
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
    bpf2sys_simulator::run(request)
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
