//! What is in a test file. `docs/test-files.md` is the page for people.

use std::collections::BTreeMap;

use bpf2sys_simulator::SimulatedRuntime;
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use crate::values::Json;

/// A test file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The object that the driver is built from.
    pub object: Option<String>,
    /// The C source that the object is compiled from.
    pub source: Option<String>,
    /// The driver itself.
    pub image: Option<String>,
    /// The object with the types of the driver's maps.
    pub types: Option<String>,
    /// Descriptions of further providers.
    #[serde(default)]
    pub platform: Vec<String>,
    /// The section name that says of which type all programs are, whatever section they are in.
    #[serde(rename = "type")]
    pub section: Option<String>,
    /// The program that is run where a test does not say.
    pub program: Option<String>,
    /// Whether the interpreter must give the same.
    #[serde(default)]
    pub interpret: bool,
    /// For which machines drivers are built.
    #[serde(default = "x64")]
    pub arch: Vec<Arch>,
    /// Version of the simulated runtime.
    #[serde(default)]
    pub runtime: SimulatedRuntime,
    /// Seconds that loading, a run and unloading may take.
    #[serde(default = "ten")]
    pub time_limit: u64,
    /// Types of records, by the names of maps.
    #[serde(default)]
    pub event_types: BTreeMap<String, String>,
    /// The machine around it.
    #[serde(default)]
    pub machine: Value,
    /// What is in maps before.
    #[serde(default)]
    pub maps: Json,
    /// The tests.
    #[serde(default, rename = "test")]
    pub tests: Vec<Spanned<Test>>,
    /// What holds for every run.
    #[serde(default, rename = "property")]
    pub properties: Vec<Spanned<Property>>,
}

/// A machine that drivers are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    X64,
    /// ARM64.
    Arm64,
}

fn x64() -> Vec<Arch> {
    vec![Arch::X64]
}

fn ten() -> u64 {
    10
}

/// A test: one load of the driver, and runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// Why it is not run.
    pub ignore: Option<String>,
    /// The program.
    pub program: Option<String>,
    /// What goes in, if there is one step.
    pub packet: Option<OneOrMore<String>>,
    /// The context, if there is one step.
    pub context: Option<Contexts>,
    /// How often each input is run.
    pub repeat: Option<u32>,
    /// What is different on the machine.
    #[serde(default)]
    pub machine: Value,
    /// What is in maps before, on top of what the file says.
    #[serde(default)]
    pub maps: Json,
    /// What functions give.
    #[serde(default)]
    pub answers: Vec<String>,
    /// Helpers that fail.
    #[serde(default)]
    pub fail: Vec<String>,
    /// Maps without room.
    #[serde(default)]
    pub full: Vec<String>,
    /// Providers that are not there when the driver is loaded.
    #[serde(default)]
    pub absent: Vec<String>,
    /// What must come out.
    #[serde(default)]
    pub expect: Expect,
    /// What must not happen.
    #[serde(default)]
    pub never: Never,
    /// The file with everything that came out.
    pub golden: Option<String>,
    /// Inputs one after another.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
}

/// Some inputs of a test.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it is, for messages.
    pub name: Option<String>,
    /// The program.
    pub program: Option<String>,
    /// Packets.
    pub packet: Option<OneOrMore<String>>,
    /// Contexts.
    pub context: Option<Contexts>,
    /// How often each input is run.
    pub repeat: Option<u32>,
    /// What is different on the machine from here on.
    #[serde(default)]
    pub machine: Change,
    /// Entries that are set before.
    #[serde(default)]
    pub maps: Json,
    /// Providers that detach before.
    #[serde(default)]
    pub detach: Vec<String>,
    /// Providers that attach again before.
    #[serde(default)]
    pub attach: Vec<String>,
    /// What must come out of this step.
    #[serde(default)]
    pub expect: Expect,
    /// What must not happen in it.
    #[serde(default)]
    pub never: Never,
}

/// What is different on the machine from a step on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The processor that programs run on.
    pub cpu: Option<u32>,
    /// Time since boot, in units of 100 ns.
    pub time: Option<u64>,
    /// Process id.
    pub process_id: Option<u32>,
    /// Thread id.
    pub thread_id: Option<u32>,
}

/// One thing or a list of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore<T> {
    /// One.
    One(T),
    /// A list.
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    /// All of them.
    pub fn all(&self) -> &[T] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(all) => all,
        }
    }
}

/// Contexts of runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Contexts {
    /// A file.
    File(String),
    /// By names of fields.
    Fields(Value),
}

/// What a program gives: a number or the name of one, or `not run`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a number or the name of a result")]
pub enum Outcome {
    /// The number.
    Number(i64),
    /// Its name.
    Name(String),
}

/// What must come out. What is not given is free.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// What every run gives; a list has one for each run.
    pub result: Option<OneOrMore<Outcome>>,
    /// What runs give: one of these.
    pub one_of: Option<Vec<Outcome>>,
    /// Fields of the context after every run; a list has one for each run.
    pub context: Option<OneOrMore<Value>>,
    /// The packet after every run; a list has one for each run.
    pub packet: Option<OneOrMore<String>>,
    /// What was set as redirect context.
    pub redirect_context: Option<String>,
    /// Programs that ran by tail calls, in every run.
    pub tail_calls: Option<Vec<String>>,
    /// Entries and variables after the last run.
    pub maps: Option<Json>,
    /// Maps that have no other entries.
    pub only: Vec<String>,
    /// Keys that are not there.
    pub absent: Option<Json>,
    /// What was sent, in order.
    pub events: Option<Vec<Event>>,
    /// What was printed, in order.
    pub printed: Option<Vec<String>>,
    /// How often helpers and functions were called.
    pub calls: BTreeMap<String, u64>,
    /// The code of the error that ends it, or a part of its text.
    pub error: Option<String>,
}

/// A record that was sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The ring buffer or perf event array.
    pub map: Option<String>,
    /// The processor.
    pub cpu: Option<u32>,
    /// What is in it.
    pub data: Option<Json>,
}

/// What must not happen.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Never {
    /// What no run gives.
    pub result: Vec<Outcome>,
    /// Maps that stay as they are.
    pub changes: Vec<String>,
    /// What no run changes: its packet or its context.
    pub writes: Vec<Written>,
    /// Maps to which nothing is sent.
    pub events: Vec<String>,
    /// Helpers and functions that are not called.
    pub calls: Vec<String>,
    /// Whether nothing is printed.
    pub printed: bool,
}

/// What a run can change of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Written {
    /// The packet, and metadata before it.
    Packet,
    /// The context.
    Context,
}

/// What holds for every run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// The program that it is about; otherwise all.
    pub program: Option<String>,
    /// For which runs it holds: those that meet all of these.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// What must come out.
    #[serde(default)]
    pub expect: Expect,
    /// What must not happen.
    #[serde(default)]
    pub never: Never,
}

/// Something about a run. All that is given must be so.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// Where `bytes` are in the packet.
    pub at: Option<usize>,
    /// Bytes of the packet, in hexadecimal.
    pub bytes: Option<String>,
    /// Which of their bits count, in hexadecimal.
    pub mask: Option<String>,
    /// Bytes that the packet has: `60`, `42..`, `..1514` or `42..60`.
    pub length: Option<Length>,
    /// Fields of the context before.
    pub context: Option<Value>,
    /// What the run gave: one of these.
    pub result: Option<OneOrMore<Outcome>>,
    /// It is not so.
    pub not: bool,
}

/// A range of lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// The least.
    pub least: usize,
    /// The most.
    pub most: usize,
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Length, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a length or a range of them")]
        enum Either {
            Number(usize),
            Text(String),
        }
        let text = match Either::deserialize(deserializer)? {
            Either::Number(length) => length.to_string(),
            Either::Text(text) => text,
        };
        let number = |text: &str, otherwise| match text.trim() {
            "" => Some(otherwise),
            text => text.parse().ok(),
        };
        let read = || match text.split_once("..") {
            Some((least, most)) => Some([number(least, 0)?, number(most, usize::MAX)?]),
            None => text.parse().ok().map(|length| [length, length]),
        };
        let [least, most] = read().filter(|[least, most]| least <= most).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is no length: expected 60, \"42..\", \"..1514\" or \"42..60\""
            ))
        })?;
        Ok(Length { least, most })
    }
}
