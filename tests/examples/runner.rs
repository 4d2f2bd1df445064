//! Runs a program of an example's driver with the built tool, and reads the report.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::path::{Path, PathBuf};
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

/// A trial of what programs do, for each architecture.
pub fn programs(name: &str, body: fn() -> Result<(), Failed>) -> [Trial; 2] {
    let on = move |arch| {
        move || {
            ARCH.set(arch);
            body()
        }
    };
    [
        test(&format!("examples::{name}"), on("x64")),
        test_with(&format!("examples::arm64::{name}"), &[Need::Emulator], on("arm64")),
    ]
}

/// The driver of an example for x64, built by the tool; once per run of the tests.
pub fn image(example: &'static str) -> Result<PathBuf, Failed> {
    image_for("x64", example)
}

fn image_for(arch: &'static str, example: &'static str) -> Result<PathBuf, Failed> {
    static IMAGES: Mutex<BTreeMap<(&str, &str), PathBuf>> = Mutex::new(BTreeMap::new());
    let mut images = IMAGES
        .lock()
        .map_err(|_| "another test panicked while it built an image")?;
    if let Some(path) = images.get(&(arch, example)) {
        return Ok(path.clone());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples").join(arch);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(example).with_extension("sys");
    let object = root().join(format!("examples/{example}/{example}.o"));
    succeed(tool().args(["build", "--arch", arch]).arg(object).arg("-o").arg(&path))?;
    images.insert((arch, example), path.clone());
    Ok(path)
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

    /// Runs, and reads the report.
    pub fn report(&self) -> Result<Report, Failed> {
        let files = tempfile::tempdir()?;
        let mut command = tool();
        command
            .arg("run")
            .arg(image_for(ARCH.get(), self.example)?)
            .args(["--program", self.program, "--json"]);
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
        serde_json::from_str(&text)
            .map(Report)
            .map_err(|e| format!("{e} in {text}").into())
    }
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
