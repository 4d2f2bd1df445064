//! The machine that programs run on, and what goes wrong there.

use std::path::PathBuf;

use bpf2sys_platform::Platform;
use bpf2sys_simulator::{Calls, Mishap, Provider, ProviderEvent, RunRequest, SimulatedMachine, SimulatedRuntime};

use crate::{Error, ErrorKind, files};

/// What memory for map values is called in `--fail`.
const ALLOCATION: &str = "allocation";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Machine")]
pub(super) struct MachineOptions {
    /// Number of simulated processors
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,

    /// The processor that programs run on, from 0
    #[arg(long, value_name = "N")]
    cpu: Option<u32>,

    /// Process id that programs see
    #[arg(long, value_name = "N")]
    pid: Option<u32>,

    /// Thread id that programs see
    #[arg(long, value_name = "N")]
    tid: Option<u32>,

    /// Time since boot at the first run, in seconds; the times of captured packets count from there
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    boot_time: Option<u64>,

    /// What random numbers start from
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Everything about the machine that programs can ask for, as a JSON object
    ///
    /// Its keys: cpus, cpu, stack_bytes, random_seed, boot_time (in units of 100 ns), process_id, thread_id, logon_id, is_admin,
    /// process_start_key, thread_create_time, socket_cookie, flow_id, process_image_path, account_name, account_domain. The
    /// other options go before it.
    #[arg(long, value_name = "FILE")]
    machine: Option<PathBuf>,

    /// Version of the simulated runtime: 0.21, 1.4 or 1.6
    #[arg(long, value_name = "VERSION", default_value = "1.6", value_parser = runtime)]
    runtime: SimulatedRuntime,

    /// Stop if loading, unloading or a run takes longer than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit: u64,

    /// What a helper or function gives that only its extension implements, whatever it is called with
    ///
    /// Bytes in hexadecimal behind a colon are what it writes to the memory that it is given to write to, with zeros behind.
    /// Several for one function are given one after another, the last for good; `*3` behind one gives it three times.
    #[arg(long, value_name = "FUNCTION=VALUE[:BYTES][*TIMES]")]
    answer: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What goes wrong")]
pub(super) struct MishapOptions {
    /// A helper or function fails, on all calls or some, with its usual error or another
    ///
    /// `bpf_map_update_elem` fails always, `bpf_map_update_elem@3` on the third call, `@3..` from then on, and `@3..5` up to the
    /// fifth; `=-12` behind it says what it gives. `allocation` is memory for values of maps.
    #[arg(long, value_name = "HELPER[@CALLS][=VALUE]")]
    fail: Vec<String>,

    /// A map has no room for more entries or records
    #[arg(long, value_name = "MAP")]
    full: Vec<String>,

    /// A provider is not there when the driver is loaded: that of a program type, by its name, of a map type, as `map:22`, or of
    /// functions, as `module:{GUID}`
    #[arg(long, value_name = "PROVIDER")]
    absent: Vec<String>,

    /// A provider detaches before this input, counted from 1; its programs are not run until it is back
    #[arg(long, value_name = "PROVIDER@INPUT")]
    detach: Vec<String>,

    /// A provider attaches again before this input; its functions have other addresses then
    #[arg(long, value_name = "PROVIDER@INPUT")]
    attach: Vec<String>,
}

impl MachineOptions {
    pub(super) fn apply(&self, request: &mut RunRequest, platform: &Platform) -> Result<(), Error> {
        let mut machine = SimulatedMachine {
            cpus: self.cpus,
            ..SimulatedMachine::default()
        };
        if let Some(path) = &self.machine {
            let text = files::read(path)?;
            machine = serde_json::from_slice(&text)
                .map_err(|e| ErrorKind::Usage(format!("`--machine {}`: {e}", path.display())))?;
        }
        machine.cpu = self.cpu.unwrap_or(machine.cpu);
        machine.process_id = self.pid.unwrap_or(machine.process_id);
        machine.thread_id = self.tid.unwrap_or(machine.thread_id);
        machine.boot_time = self.boot_time.unwrap_or(machine.boot_time);
        machine.random_seed = self.seed.unwrap_or(machine.random_seed);
        request.machine = machine;
        request.runtime = self.runtime;
        request.time_limit_ms = self.time_limit * 1000;
        request.answers = super::answers::answers(&self.answer, platform)?;
        Ok(())
    }
}

impl MishapOptions {
    pub(super) fn apply(&self, request: &mut RunRequest) -> Result<(), Error> {
        for text in &self.fail {
            request.mishaps.push(mishap(text).ok_or_else(|| {
                usage(format!("`--fail {text}`: expected HELPER, HELPER@CALL, HELPER@FIRST.. or HELPER@FIRST..LAST, and =VALUE behind it"))
            })?);
        }
        let full = self.full.iter().cloned().map(|map| Mishap::FullMap { map });
        request.mishaps.extend(full);
        let absent = self.absent.iter().map(|text| provider(text));
        request.absent = absent.collect();
        Ok(())
    }

    /// Providers that come and go, with the inputs before which they do, counted from 0.
    pub(super) fn events(&self) -> Result<Vec<(u64, ProviderEvent)>, Error> {
        let event = |option: &str, text: &str, make: fn(Provider) -> ProviderEvent| {
            let parts = text.rsplit_once('@').and_then(|(name, input)| {
                let input: u64 = input.parse().ok()?;
                Some((input.checked_sub(1)?, make(provider(name))))
            });
            parts.ok_or_else(|| {
                usage(format!(
                    "`{option} {text}`: expected PROVIDER@INPUT, where inputs count from 1"
                ))
            })
        };
        let detach = self
            .detach
            .iter()
            .map(|text| event("--detach", text, ProviderEvent::Detach));
        let attach = self
            .attach
            .iter()
            .map(|text| event("--attach", text, ProviderEvent::Attach));
        let mut events = detach.chain(attach).collect::<Result<Vec<_>, Error>>()?;
        events.sort_by_key(|(input, _)| *input);
        Ok(events)
    }
}

fn usage(message: String) -> Error {
    ErrorKind::Usage(message).into()
}

/// Seconds as units of 100 ns.
fn seconds(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    // More are more than the clock has room for.
    if (0.0..1e11).contains(&seconds) {
        Ok((seconds * 1e7).round() as u64)
    } else {
        Err("not a time since boot".into())
    }
}

fn runtime(text: &str) -> Result<SimulatedRuntime, String> {
    match text {
        "0.21" => Ok(SimulatedRuntime::V0_21),
        "1.4" => Ok(SimulatedRuntime::V1_4),
        "1.6" => Ok(SimulatedRuntime::V1_6),
        _ => Err("runtimes that differ are 0.21, 1.4 and 1.6".into()),
    }
}

/// Reads `HELPER[@CALLS][=VALUE]`.
fn mishap(text: &str) -> Option<Mishap> {
    let (rest, result) = match text.rsplit_once('=') {
        Some((rest, value)) => (rest, Some(value.parse().ok()?)),
        None => (text, None),
    };
    let (helper, calls) = match rest.split_once('@') {
        Some((helper, calls)) => (helper, self::calls(calls)?),
        None => (rest, Calls::default()),
    };
    match helper {
        "" => None,
        ALLOCATION if result.is_none() => Some(Mishap::Allocation { calls }),
        ALLOCATION => None,
        _ => Some(Mishap::Helper {
            helper: helper.to_owned(),
            program: None,
            calls,
            result,
        }),
    }
}

/// Reads `3`, `3..` or `3..5`.
fn calls(text: &str) -> Option<Calls> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
    let Some((first, last)) = text.split_once("..") else {
        return Some(Calls {
            first: number(text)?,
            count: 1,
        });
    };
    let first = number(first)?;
    let count = match last {
        "" => 0,
        last => number(last)?.checked_sub(first)?.checked_add(1)?,
    };
    Some(Calls { first, count })
}

/// A provider by what it offers. Whether there is one, the simulator says.
fn provider(text: &str) -> Provider {
    if let Some(guid) = text.strip_prefix("module:") {
        return Provider::BtfModule(guid.trim_matches(['{', '}']).to_owned());
    }
    match text.strip_prefix("map:").and_then(|number| number.parse().ok()) {
        Some(number) => Provider::MapType(number),
        None => Provider::ProgramType(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_fail_are_read() {
        let helper = |calls, result| {
            Some(Mishap::Helper {
                helper: "h".into(),
                program: None,
                calls,
                result,
            })
        };
        let calls = |first, count| Calls { first, count };
        let cases = [
            ("h", helper(calls(0, 0), None)),
            ("h@3", helper(calls(3, 1), None)),
            ("h@3..", helper(calls(3, 0), None)),
            ("h@3..5", helper(calls(3, 3), None)),
            ("h@3..3=-12", helper(calls(3, 1), Some(-12))),
            ("h=7", helper(calls(0, 0), Some(7))),
            ("allocation@2", Some(Mishap::Allocation { calls: calls(2, 1) })),
            ("allocation=1", None),
            ("h@", None),
            ("h@0", None),
            ("h@5..3", None),
            ("h@x", None),
            ("h=", None),
            ("@1", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(mishap(text), expected, "{text}");
        }
    }

    #[test]
    fn seconds_are_units_of_100_ns() {
        assert_eq!(seconds("60"), Ok(600_000_000));
        assert_eq!(seconds("0.0000001"), Ok(1));
        for bad in ["-1", "x", "inf", "NaN", "1e300"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
