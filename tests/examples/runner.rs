//! Runs a program of an example's driver with the built tool, and reads the report.
//!
//! Each run is done a second time by the interpreter, and both must report the same: what the tests of the examples know
//! to be right is a test of both.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::support::{root, succeed, tool};

/// The process that the simulator says programs run in.
pub const SIMULATED_PROCESS: u32 = 4242;

/// The driver of an example, built by the tool; once per run of the tests.
pub fn image(example: &'static str) -> Result<PathBuf, Failed> {
    static IMAGES: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut images = IMAGES
        .lock()
        .map_err(|_| "another test panicked while it built an image")?;
    if let Some(path) = images.get(example) {
        return Ok(path.clone());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(example).with_extension("sys");
    succeed(tool().arg("build").arg(object(example)).arg("-o").arg(&path))?;
    images.insert(example, path.clone());
    Ok(path)
}

/// The object of an example.
fn object(example: &str) -> PathBuf {
    root().join(format!("examples/{example}/{example}.o"))
}

/// One start of `bpf2sys run`.
#[derive(Default)]
pub struct Run {
    example: &'static str,
    program: &'static str,
    packets: Vec<Vec<u8>>,
    context: Option<Vec<u8>>,
    entries: Vec<String>,
}

impl Run {
    /// Will run `program` of `example`.
    pub fn new(example: &'static str, program: &'static str) -> Self {
        Run {
            example,
            program,
            ..Run::default()
        }
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
        driver.arg("run").arg(image(self.example)?);
        let mut interpreter = tool();
        interpreter.args(["run", "--interpret"]).arg(object(self.example));
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
        for entry in &self.entries {
            command.args(["--set-map", entry]);
        }
        let text = succeed(&mut command)?;
        serde_json::from_str(&text).map_err(|e| format!("{e} in {text}").into())
    }
}

/// What a driver and the interpreter must report alike: all but the stack that native code takes, and how often
/// `bpf_map_lookup_elem` is called, which the driver does itself in arrays.
fn comparable(report: &Value) -> Value {
    let mut report = report.clone();
    report["max_stack_bytes"] = Value::Null;
    if let Some(calls) = report["helper_calls"].as_array_mut() {
        calls.retain(|call| call["helper"] != "bpf_map_lookup_elem");
    }
    report
}

/// What a run reported.
pub struct Report(Value);

impl Report {
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
        let records = self.map(map)?["records"].as_array().ok_or("a map without records")?;
        records.iter().map(|record| unhex(&record["data"])).collect()
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
