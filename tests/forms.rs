//! What a module can become beside a driver: for tests that compare what the forms do.

use bpf2sys_codegen::{Options, Skeleton, lower};
use bpf2sys_pe_emit::{Machine, NativeObject};
use bpf2sys_platform::Platform;
use bpf2sys_simulator::{HexBytes, Input, MapPreset, PresetValue, RunReport, RunRequest};
use libtest_mimic::Failed;

use crate::support::{Need, root};

/// The machines that code is generated for.
pub const MACHINES: [Machine; 2] = [Machine::X64, Machine::Arm64];

/// A machine's name, for tests.
pub fn machine_name(machine: Machine) -> &'static str {
    match machine {
        Machine::X64 => "x64",
        Machine::Arm64 => "arm64",
    }
}

/// What running a machine's code needs.
pub fn needs_to_run(machine: Machine) -> &'static [Need] {
    match machine {
        Machine::X64 => &[],
        Machine::Arm64 => &[Need::Emulator],
    }
}

/// An example's module, lowered.
pub fn lowered(example: &str, machine: Machine, skeleton: Skeleton) -> Result<NativeObject, Failed> {
    let options = Options {
        machine,
        skeleton,
        ..Options::default()
    };
    lowered_with(example, &options)
}

/// The same without Control Flow Guard, which object files never have.
pub fn lowered_unguarded(example: &str, machine: Machine, skeleton: Skeleton) -> Result<NativeObject, Failed> {
    let options = Options {
        machine,
        skeleton,
        control_flow_guard: false,
        ..Options::default()
    };
    lowered_with(example, &options)
}

/// An example, lowered as options say.
pub fn lowered_with(example: &str, options: &Options) -> Result<NativeObject, Failed> {
    let path = root().join(format!("examples/{example}/{example}.o"));
    let object = std::fs::read(path)?;
    let verified = bpf2sys::verify(&object, &format!("{example}.o"), &bpf2sys::BuildOptions::default())?;
    Ok(lower(&verified, &Platform::builtin(), options)?.object)
}

/// A program of an example, what it is run on, and map entries that are set before.
struct Case {
    example: &'static str,
    program: &'static str,
    context: Option<&'static str>,
    packets: &'static [&'static str],
    entries: &'static [(&'static str, &'static [u8], &'static [u8])],
}

/// From the pages of the examples.
const CASES: [Case; 7] = [
    Case {
        example: "bind_policy",
        program: "bind_policy",
        context: Some("bind_https.bin"),
        packets: &["nginx.bin", "other.bin"],
        entries: &[],
    },
    Case {
        example: "connect_redirect",
        program: "connect_redirect4",
        context: Some("connect4.bin"),
        packets: &[],
        entries: &[],
    },
    Case {
        example: "connect_redirect",
        program: "connect_redirect6",
        context: Some("connect6.bin"),
        packets: &[],
        entries: &[],
    },
    Case {
        example: "flow_log",
        program: "flow_log",
        context: Some("established.bin"),
        packets: &[],
        entries: &[],
    },
    Case {
        example: "process_guard",
        program: "process_guard",
        context: Some("create.bin"),
        packets: &["encoded.bin", "harmless.bin"],
        entries: &[],
    },
    Case {
        example: "tail_dispatch",
        program: "dispatch",
        context: None,
        packets: &["echo.bin", "arp.bin"],
        entries: &[],
    },
    Case {
        example: "udp_filter",
        program: "udp_filter",
        context: None,
        packets: &["dns.bin"],
        entries: &[("blocked_ports", &[0, 0x35], &[1])],
    },
];

impl Case {
    fn request(&self) -> Result<RunRequest, Failed> {
        let file = |name: &str| std::fs::read(root().join("examples").join(self.example).join(name)).map(HexBytes);
        let context = self.context.map(file).transpose()?.unwrap_or_default();
        let packets = match self.packets {
            [] => vec![HexBytes::default()],
            names => names.iter().map(|name| file(name)).collect::<Result<_, _>>()?,
        };
        let input = |packet| Input {
            program: self.program.into(),
            packet,
            context: context.clone(),
            repeat: 3,
            ..Input::default()
        };
        let preset = |(map, key, value): &(&str, &[u8], &[u8])| MapPreset {
            map: (*map).into(),
            key: HexBytes(key.to_vec()),
            value: PresetValue::Bytes(HexBytes(value.to_vec())),
        };
        Ok(RunRequest {
            inputs: packets.into_iter().map(input).collect(),
            presets: self.entries.iter().map(preset).collect(),
            ..RunRequest::default()
        })
    }
}

/// What the programs of an example do on the inputs of its page.
pub fn run(example: &str, image: &[u8]) -> Result<Vec<RunReport>, Failed> {
    CASES
        .iter()
        .filter(|case| case.example == example)
        .map(|case| {
            let mut request = case.request()?;
            request.image = image.to_vec();
            Ok(bpf2sys_simulator::run(&request)?)
        })
        .collect()
}

/// Fails unless the programs of an image do what those of the driver do.
pub fn expect_same(example: &str, what: &str, driver: &[u8], image: &[u8]) -> Result<(), Failed> {
    let wanted = run(example, driver).map_err(|e| format!("{example}.sys: {}", e.message().unwrap_or_default()))?;
    let got = run(example, image).map_err(|e| format!("{example}, {what}: {}", e.message().unwrap_or_default()))?;
    if wanted.is_empty() || wanted.iter().any(|report| report.results.is_empty()) {
        return Err(format!("{example}: nothing was run").into());
    }
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{example}, {what}: {got:#?}\nthe driver: {wanted:#?}").into())
    }
}
