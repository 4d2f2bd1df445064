//! Runs a program of a driver with the built tool, and reads the report. The driver is that of an example, or of another
//! object of the repository.
//!
//! Each run is done a second time by the interpreter, and both must report the same: what the tests know to be right is a
//! test of both.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::support::{Need, root, succeed, test, test_with, tool};

/// The process that the simulator says programs run in.
pub const SIMULATED_PROCESS: u32 = 4242;

thread_local! {
    /// The architecture that this thread's trial runs drivers of. Each trial is on one thread from start to end.
    static ARCH: Cell<&'static str> = const { Cell::new("x64") };
}

/// A trial of what the examples' programs do, for each architecture.
pub fn programs(name: &str, body: fn() -> Result<(), Failed>) -> [Trial; 2] {
    programs_of("examples", name, body)
}

/// A trial of what programs do, for each architecture; `topic` is what its name starts with.
pub fn programs_of(topic: &str, name: &str, body: fn() -> Result<(), Failed>) -> [Trial; 2] {
    let on = move |arch| {
        move || {
            ARCH.set(arch);
            body()
        }
    };
    [
        test(&format!("{topic}::{name}"), on("x64")),
        test_with(&format!("{topic}::arm64::{name}"), &[Need::Emulator], on("arm64")),
    ]
}

/// The driver of an example for x64, built by the tool; once per run of the tests.
pub fn image(example: &'static str) -> Result<PathBuf, Failed> {
    image_for("x64", &example_object(example), &[])
}

/// The driver of an object, by its path in the repository, built with further options.
fn image_for(arch: &'static str, object: &str, options: &[&'static str]) -> Result<PathBuf, Failed> {
    type Images = BTreeMap<(&'static str, String), PathBuf>;
    static IMAGES: Mutex<Images> = Mutex::new(Images::new());
    let mut images = IMAGES
        .lock()
        .map_err(|_| "another test panicked while it built an image")?;
    let name = format!("{object}{}", options.concat()).replace('/', "-");
    if let Some(path) = images.get(&(arch, name.clone())) {
        return Ok(path.clone());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images").join(arch);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.sys"));
    succeed(
        tool()
            .args(["build", "--arch", arch])
            .args(options)
            .arg(root().join(object))
            .arg("-o")
            .arg(&path),
    )?;
    images.insert((arch, name), path.clone());
    Ok(path)
}

/// The object of an example.
fn example_object(example: &str) -> String {
    format!("examples/{example}/{example}.o")
}

/// One start of `bpf2sys run`.
#[derive(Default)]
pub struct Run {
    object: String,
    program: &'static str,
    options: Vec<&'static str>,
    section: Option<&'static str>,
    repeat: Option<u32>,
    packets: Vec<Vec<u8>>,
    context: Option<Vec<u8>>,
    entries: Vec<String>,
}

impl Run {
    /// Will run `program` of `example`.
    pub fn new(example: &'static str, program: &'static str) -> Self {
        Run::of_object(example_object(example), program)
    }

    /// Will run `program` of an object, by its path in the repository.
    pub fn of_object(object: String, program: &'static str) -> Self {
        Run {
            object,
            program,
            ..Run::default()
        }
    }

    /// Gives `build` two more words.
    pub fn build_option(mut self, option: &'static str, value: &'static str) -> Self {
        self.options.extend([option, value]);
        self
    }

    /// Verifies the programs as those of a section of this name.
    pub fn section(mut self, section: &'static str) -> Self {
        self.section = Some(section);
        self.build_option("--type", section)
    }

    /// Runs so often on each input.
    pub fn repeat(mut self, times: u32) -> Self {
        self.repeat = Some(times);
        self
    }

    /// Sets an entry of a map of maps or of a program array first.
    pub fn refer(mut self, map: &str, key: &[u8], name: &str) -> Self {
        self.entries.push(format!("{map}:{}=@{name}", hex(key)));
        self
    }

    /// Adds a packet; each packet is one invocation.
    pub fn packet(mut self, bytes: &[u8]) -> Self {
        self.packets.push(bytes.to_vec());
        self
    }

    /// Sets the context's bytes.
    pub fn context(mut self, bytes: &[u8]) -> Self {
        self.context = Some(bytes.to_vec());
        self
    }

    /// Sets a map entry first.
    pub fn set(mut self, map: &str, key: &[u8], value: &[u8]) -> Self {
        self.entries.push(format!("{map}:{}={}", hex(key), hex(value)));
        self
    }

    /// Runs, by the driver's code and by the interpreter, and reads the report.
    pub fn report(&self) -> Result<Report, Failed> {
        let mut driver = tool();
        driver
            .arg("run")
            .arg(image_for(ARCH.get(), &self.object, &self.options)?);
        let mut interpreter = tool();
        interpreter
            .args(["run", "--interpret"])
            .arg(root().join(&self.object))
            .args(self.section.iter().flat_map(|name| ["--type", name]));
        let (driver, interpreted) = (self.run(driver)?, self.run(interpreter)?);
        let (expected, found) = (comparable(&driver), comparable(&interpreted));
        if expected != found {
            return Err(format!("the driver gives {expected}\nthe interpreter {found}").into());
        }
        Ok(Report(driver))
    }

    /// The report of one of both.
    fn run(&self, mut command: Command) -> Result<Value, Failed> {
        let files = tempfile::tempdir()?;
        command.args(["--program", self.program, "--json"]);
        for (index, packet) in self.packets.iter().enumerate() {
            let path = files.path().join(format!("packet{index}"));
            std::fs::write(&path, packet)?;
            command.arg("--packet").arg(path);
        }
        if let Some(context) = &self.context {
            let path = files.path().join("context");
            std::fs::write(&path, context)?;
            command.arg("--context").arg(path);
        }
        if let Some(times) = self.repeat {
            command.arg("--repeat").arg(times.to_string());
        }
        for entry in &self.entries {
            command.args(["--set-map", entry]);
        }
        let text = succeed(&mut command)?;
        serde_json::from_str(&text).map_err(|e| format!("{e} in {text}").into())
    }
}

/// What a driver and the interpreter must report alike: all but the stack that native code takes, the version that the
/// driver states, which options choose, what only an object tells, and how often `bpf_map_lookup_elem` is called, which the driver does itself in
/// arrays.
fn comparable(report: &Value) -> Value {
    let mut report = report.clone();
    report["max_stack_bytes"] = Value::Null;
    report["stated_version"] = Value::Null;
    // Without its object beside it, the driver has no types.
    report["values"] = Value::Null;
    if let Some(calls) = report["helper_calls"].as_array_mut() {
        calls.retain(|call| call["helper"] != "bpf_map_lookup_elem");
    }
    report
}

/// What a run reported.
pub struct Report(Value);

impl Report {
    /// The version that the driver states to be made for.
    pub fn stated_version(&self) -> Option<&str> {
        self.0["stated_version"].as_str()
    }

    fn invocation(&self, index: usize) -> Result<&Value, Failed> {
        self.0["results"]
            .get(index)
            .ok_or_else(|| format!("no invocation {index} in {}", self.0).into())
    }

    /// What invocation `index` returned.
    pub fn result(&self, index: usize) -> Result<u64, Failed> {
        let result = &self.invocation(index)?["result"];
        result.as_u64().ok_or_else(|| format!("`{result}` is no result").into())
    }

    /// What every invocation returned.
    pub fn results(&self) -> Result<Vec<u64>, Failed> {
        let count = self.0["results"].as_array().map_or(0, Vec::len);
        (0..count).map(|index| self.result(index)).collect()
    }

    /// The name of what invocation `index` returned.
    pub fn result_name(&self, index: usize) -> Result<Option<&str>, Failed> {
        Ok(self.invocation(index)?["result_name"].as_str())
    }

    /// The programs that invocation `index` went through by tail calls.
    pub fn tail_calls(&self, index: usize) -> Result<Vec<&str>, Failed> {
        let calls = &self.invocation(index)?["tail_calls"];
        Ok(calls
            .as_array()
            .map_or_else(Vec::new, |c| c.iter().filter_map(Value::as_str).collect()))
    }

    /// The packet, context or redirect context after invocation `index`.
    pub fn bytes(&self, index: usize, what: &str) -> Result<Vec<u8>, Failed> {
        unhex(&self.invocation(index)?[what])
    }

    fn map(&self, name: &str) -> Result<&Value, Failed> {
        self.0["maps"]
            .as_array()
            .and_then(|maps| maps.iter().find(|map| map["name"] == name))
            .ok_or_else(|| format!("no map `{name}` in {}", self.0).into())
    }

    /// The values of a map's entry, one per processor in per-CPU maps; empty if there is no such entry.
    pub fn values(&self, map: &str, key: &[u8]) -> Result<Vec<Vec<u8>>, Failed> {
        let key = hex(key);
        let entries = self.map(map)?["entries"].as_array().ok_or("a map without entries")?;
        match entries.iter().find(|entry| entry["key"] == *key) {
            Some(entry) => entry["values"]
                .as_array()
                .ok_or("an entry without values")?
                .iter()
                .map(unhex)
                .collect(),
            None => Ok(Vec::new()),
        }
    }

    /// The numbers in an array of counters of 8 bytes, those of all processors added up.
    pub fn counters(&self, map: &str, count: u32) -> Result<Vec<u64>, Failed> {
        (0..count)
            .map(|index| {
                let values = self.values(map, &index.to_le_bytes())?;
                values.iter().map(|value| read_u64(value, 0)).sum()
            })
            .collect()
    }

    /// The records in a ring buffer.
    pub fn records(&self, map: &str) -> Result<Vec<Vec<u8>>, Failed> {
        self.map(map)?;
        let results = self.0["results"].as_array().ok_or("a report without results")?;
        let sent = results
            .iter()
            .filter_map(|result| result["records"].as_array())
            .flatten();
        let records = sent.filter(|record| record["map"] == map);
        records.map(|record| unhex(&record["data"])).collect()
    }
}

/// Little-endian numbers at an offset; out of range is a failure of the test.
pub fn read_u64(bytes: &[u8], offset: usize) -> Result<u64, Failed> {
    let found = bytes
        .get(offset..offset + 8)
        .ok_or_else(|| format!("no 8 bytes at {offset} in {bytes:x?}"))?;
    Ok(u64::from_le_bytes(found.try_into()?))
}

/// See [`read_u64`].
pub fn read_u32(bytes: &[u8], offset: usize) -> Result<u32, Failed> {
    let found = bytes
        .get(offset..offset + 4)
        .ok_or_else(|| format!("no 4 bytes at {offset} in {bytes:x?}"))?;
    Ok(u32::from_le_bytes(found.try_into()?))
}

/// Fails unless both are equal.
#[allow(clippy::needless_pass_by_value)] // what was found is mostly a temporary
pub fn expect<T: PartialEq<U> + Debug, U: Debug>(what: &str, got: T, wanted: U) -> Result<(), Failed> {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what}: got {got:x?}, not {wanted:x?}").into())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &Value) -> Result<Vec<u8>, Failed> {
    let text = text.as_str().ok_or_else(|| format!("`{text}` is no text of bytes"))?;
    let byte = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len())
        .step_by(2)
        .map(|at| byte(at).ok_or_else(|| format!("`{text}` is not hexadecimal").into()))
        .collect()
}
