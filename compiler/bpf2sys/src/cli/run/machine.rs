//! The machine that programs run on, and what goes wrong there.

use std::path::PathBuf;

use bpf2sys_platform::Platform;
use bpf2sys_simulator::{
    Answer, Mishap, ProcessorKind, Provider, ProviderEvent, RunRequest, SimulatedMachine, SimulatedRuntime,
};
use bpf2sys_testing::conditions::{self, FAILURE_FORM, mishap, provider};

use crate::{Error, ErrorKind, files};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Machine")]
#[allow(clippy::doc_markdown)] // the texts are shown to people as they are
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

    /// Emulate the processor, even where this machine's own could run the driver's code. What comes out is the same
    #[arg(long)]
    emulate: bool,

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
        if self.emulate {
            request.processor = ProcessorKind::Emulated;
        }
        let read = |text: &String| {
            conditions::answer(text, platform).map_err(|message| usage(format!("`--answer {text}`: {message}")))
        };
        request.answers = self.answer.iter().map(read).collect::<Result<Vec<Answer>, Error>>()?;
        Ok(())
    }
}

impl MishapOptions {
    pub(super) fn apply(&self, request: &mut RunRequest) -> Result<(), Error> {
        for text in &self.fail {
            request
                .mishaps
                .push(mishap(text).ok_or_else(|| usage(format!("`--fail {text}`: {FAILURE_FORM}")))?);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_units_of_100_ns() {
        assert_eq!(seconds("60"), Ok(600_000_000));
        assert_eq!(seconds("0.0000001"), Ok(1));
        for bad in ["-1", "x", "inf", "NaN", "1e300"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
