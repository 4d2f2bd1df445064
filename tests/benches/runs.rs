//! How fast programs run in simulated runs: `cargo bench --bench runs`, with the number of packets behind `--` if it is not to be a
//! million. Prints packets per second for the filter example, as a driver for x64, by the interpreter and, if there is the emulator, as drivers for
//! both machines in it, with coverage and comparison; and the memory of the process that runs it, after the first part of the packets and near the end: what leaks, grows.
//!
//! Everything is measured from outside, over the built tool. Absolute figures hold for the machine they were taken on; the last column is a
//! ratio within one run.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PACKETS: u64 = 1_000_000;
/// How many are enough where it goes slowly.
const SLOW_PART: u64 = 10;
/// How often the start alone is measured.
const STARTS: usize = 21;

fn main() {
    let packets = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(PACKETS);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/udp_filter");
    let folder = tempfile::tempdir().expect("a folder");
    let object = example.join("udp_filter.o");
    for arch in ["x64", "arm64"] {
        let driver = folder.path().join(format!("{arch}.sys"));
        let built = tool()
            .args(["build", "--quiet", "--arch", arch, "-o"])
            .arg(driver)
            .arg(&object)
            .status();
        assert!(built.is_ok_and(|status| status.success()), "the example builds");
    }
    let frame = std::fs::read(example.join("dns.bin")).expect("the example has a packet");
    let (all, some) = (folder.path().join("all.pcap"), folder.path().join("some.pcap"));
    write_capture(&all, &frame, packets).expect("a capture");
    write_capture(&some, &frame, packets / SLOW_PART).expect("a capture");

    let mut starts: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let one = example.join("dns.bin");
            run(tool()
                .arg("run")
                .arg(folder.path().join("x64.sys"))
                .arg("--packet")
                .arg(one))
            .0
        })
        .collect();
    starts.sort();
    let start = starts[STARTS / 2];
    println!("start, one packet, end: {:.1} ms\n", start.as_secs_f64() * 1000.0);
    println!(
        "{:22} {:>10} {:>12} {:>14} {:>14} {:>8}",
        "", "packets", "packets/s", "KiB at first", "KiB at last", "by x64"
    );
    let mut first = None;
    let mut interpreter = tool();
    interpreter.args(["run", "--interpret"]).arg(&object);
    let mut with_data = tool();
    with_data.arg("run").arg(folder.path().join("x64.sys"));
    with_data.args(["--write-pcap", "/dev/null"]);
    let mut native = tool();
    native.arg("run").arg(folder.path().join("x64.sys"));
    let mut emulated = tool();
    emulated.arg("run").arg(folder.path().join("arm64.sys"));
    let mut emulated_x64 = tool();
    emulated_x64
        .arg("run")
        .arg(folder.path().join("x64.sys"))
        .arg("--emulate");
    let mut covered = tool();
    covered.arg("run").arg(folder.path().join("x64.sys")).arg("--emulate");
    covered.arg("--lines").arg(&object).args(["--coverage", "/dev/null"]);
    let mut compared = tool();
    compared.arg("run").arg(folder.path().join("x64.sys")).arg("--compare");
    compared.arg(folder.path().join("x64.sys"));
    for (name, mut command, capture, count) in [
        ("x64", native, &all, packets),
        ("x64, --write-pcap", with_data, &all, packets),
        ("interpreter", interpreter, &some, packets / SLOW_PART),
        ("ARM64, emulated", emulated, &some, packets / SLOW_PART),
        ("x64, emulated", emulated_x64, &some, packets / SLOW_PART),
        ("x64 emul., --coverage", covered, &some, packets / SLOW_PART),
        ("x64, --compare", compared, &some, packets / SLOW_PART),
    ] {
        command.arg("--packet").arg(capture);
        // What is in maps is told otherwise, and of two drivers only what differs.
        if name != "x64, --compare" {
            command.arg("--changes");
        }
        let (elapsed, memory, is_done) = run(&mut command);
        if !is_done {
            println!("{name:22} does not run here");
            continue;
        }
        let rate = count as f64 / elapsed.saturating_sub(start).as_secs_f64();
        let base = *first.get_or_insert(rate);
        let at = |part: usize| memory.get(part).map_or("-".to_owned(), ToString::to_string);
        println!(
            "{name:22} {count:>10} {rate:>12.0} {:>14} {:>14} {:>8.2}",
            at(memory.len() / 10),
            at(memory.len().saturating_sub(2)),
            rate / base,
        );
    }
}

fn tool() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bpf2sys"))
}

/// A pcap file of so many times the same frame.
fn write_capture(path: &Path, frame: &[u8], packets: u64) -> std::io::Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let words = |file: &mut BufWriter<std::fs::File>, words: &[u32]| {
        words.iter().try_for_each(|word| file.write_all(&word.to_le_bytes()))
    };
    words(&mut file, &[0xA1B2_C3D4, 0x0004_0002, 0, 0, 65535, 1])?;
    let length = frame.len() as u32;
    for number in 0..packets {
        let (second, microsecond) = (number / 1_000_000, number % 1_000_000);
        words(&mut file, &[second as u32, microsecond as u32, length, length])?;
        file.write_all(frame)?;
    }
    file.flush()
}

/// How long a command takes, how much memory its child has from time to time, in KiB, and whether it did what it was to.
fn run(command: &mut Command) -> (Duration, Vec<u64>, bool) {
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the tool");
    let mut memory = Vec::new();
    let mut next = Duration::from_millis(100);
    let status = loop {
        if let Some(status) = child.try_wait().expect("the tool ends") {
            break status;
        }
        if started.elapsed() >= next {
            next += Duration::from_millis(100);
            memory.extend(memory_of_child(child.id()));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    (started.elapsed(), memory, status.success())
}

/// Resident memory of the process that a process has started, in KiB. (Linux; elsewhere none.)
fn memory_of_child(process: u32) -> Option<u64> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    let child = children.split_whitespace().next()?;
    let status = std::fs::read_to_string(format!("/proc/{child}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
