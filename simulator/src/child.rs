//! The process that runs an image, seen from both sides.
//!
//! The parent starts its own executable again, with [`ARGUMENT`] as first argument. The child reads the request, the
//! image and the object from its standard input, and writes the outcome to its standard output, as JSON. Whatever native code does, it
//! does to the child.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::{SimulatorError, TimeOut};
use crate::image::Image;
use crate::request::{RunReport, RunRequest};

/// Whether images run on this host: x64 images need its processor, arm64 images for now the same.
const HOST_RUNS_IMAGES: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// First argument of the process that runs an image.
const ARGUMENT: &str = "--bpf2sys-simulator-child";

/// Default time limit.
const DEFAULT_LIMIT_MS: u64 = 10_000;

/// What the child has beyond the limit to say itself that the time is up.
const GRACE: Duration = Duration::from_millis(1500);

/// Longest outcome that the parent reads.
const MAX_OUTCOME: u64 = 512 << 20;

/// Loads an image as Windows would and runs programs of it, in a process of its own.
///
/// The executable that calls this must call [`child_main_if_requested`] first thing in its `main`.
pub fn run(request: &RunRequest) -> Result<RunReport, SimulatorError> {
    let image = Image::parse(&request.image)?;
    if !matches!(image.machine, Image::X64 | Image::ARM64) {
        return Err(SimulatorError::Unsupported(format!(
            "it is for {}; images for x64 and arm64 run",
            image.machine_name()
        )));
    }
    if !HOST_RUNS_IMAGES {
        return Err(SimulatorError::Unsupported(format!(
            "the host is {} {}; images run on x86_64 Linux only",
            std::env::consts::ARCH,
            std::env::consts::OS
        )));
    }
    let mut request = request.clone();
    if request.time_limit_ms == 0 {
        request.time_limit_ms = DEFAULT_LIMIT_MS;
    }
    let process = |what: &str, e: &dyn std::fmt::Display| SimulatorError::Process(format!("{what}: {e}"));
    let executable = std::env::current_exe().map_err(|e| process("this executable cannot be found", &e))?;
    let mut child = Command::new(executable)
        .arg(ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| process("the simulator's process cannot be started", &e))?;
    let json = serde_json::to_vec(&request).map_err(|e| process("the request cannot be written", &e))?;
    let outcome = converse(
        &mut child,
        input(&json, &request),
        Duration::from_millis(request.time_limit_ms) + GRACE,
    );
    if outcome.is_err() {
        // It may have ended already; then there is nothing to kill.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (status, stdout, stderr) = outcome.map_err(|late| match late {
        Late::TimeOut => SimulatorError::TimeOut(Box::new(TimeOut {
            limit_ms: request.time_limit_ms,
            during: None,
            location: None,
        })),
        Late::Io(e) => process("the simulator's process", &e),
    })?;
    serde_json::from_slice(&stdout).unwrap_or_else(|_| {
        Err(SimulatorError::Crashed {
            status: status.to_string(),
            stderr: String::from_utf8_lossy(&stderr).trim().to_owned(),
        })
    })
}

/// What the child reads: the request as JSON, the image, and the object if there is one, each after its length.
fn input(json: &[u8], request: &RunRequest) -> Vec<u8> {
    let object = request.interpret.as_ref().map_or(&[][..], |object| &object.bytes);
    let parts = [json, &request.image, object];
    let mut input = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        input.extend_from_slice(&(part.len() as u64).to_le_bytes());
        input.extend_from_slice(part);
    }
    input
}

/// Takes the next part of the child's input.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn next_part<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = input.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    *input = rest;
    Some(part)
}

enum Late {
    TimeOut,
    Io(std::io::Error),
}

/// Writes the request, reads the outcome, and waits for the end, each on its own thread so that nobody blocks another.
fn converse(child: &mut Child, input: Vec<u8>, limit: Duration) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), Late> {
    let started = Instant::now();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A child that ends early tells why by its outcome or status.
            let _ = stdin.write_all(&input);
        }
    });
    let collect = |pipe: Option<Box<dyn Read + Send>>, most: u64| {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(pipe) = pipe {
                let _ = pipe.take(most).read_to_end(&mut bytes);
            }
            let _ = sender.send(bytes);
        });
        receiver
    };
    let outcome = collect(stdout.map(|p| Box::new(p) as _), MAX_OUTCOME);
    let errors = collect(stderr.map(|p| Box::new(p) as _), 64 << 10);
    let left = || limit.saturating_sub(started.elapsed());
    let stdout = outcome.recv_timeout(left()).map_err(|_| Late::TimeOut)?;
    let stderr = errors
        .recv_timeout(left().max(Duration::from_millis(100)))
        .map_err(|_| Late::TimeOut)?;
    let status = child.wait().map_err(Late::Io)?;
    Ok((status, stdout, stderr))
}

/// If this process was started by [`run`], runs the image and ends the process; otherwise does nothing.
pub fn child_main_if_requested() {
    if std::env::args_os().nth(1).is_some_and(|a| a == ARGUMENT) {
        let outcome = serve();
        let text = serde_json::to_vec(&outcome).unwrap_or_default();
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(&text).and_then(|()| stdout.flush());
        std::process::exit(i32::from(written.is_err()));
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn serve() -> Result<RunReport, SimulatorError> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut input);
    read.map_err(|e| SimulatorError::Process(format!("the request cannot be read: {e}")))?;
    let mut rest = input.as_slice();
    let mut part = || next_part(&mut rest).ok_or_else(|| SimulatorError::Process("the request is cut short".into()));
    let (json, image, object) = (part()?, part()?, part()?);
    let mut request: RunRequest =
        serde_json::from_slice(json).map_err(|e| SimulatorError::Process(format!("the request: {e}")))?;
    request.image = image.to_vec();
    if let Some(interpreted) = &mut request.interpret {
        interpreted.bytes = object.to_vec();
    }
    limit_process(request.time_limit_ms);
    // SAFETY: this is a process that `run` started for this one image, before it had any other thread.
    unsafe { crate::windows::execute(request) }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn serve() -> Result<RunReport, SimulatorError> {
    Err(SimulatorError::Unsupported("images run on x86_64 Linux only".into()))
}

/// No core dumps, and a timer that interrupts native code when the time is up.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn limit_process(time_limit_ms: u64) {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let time = |ms: u64| libc::timeval {
        tv_sec: (ms / 1000) as i64,
        tv_usec: (ms % 1000 * 1000) as i64,
    };
    // It repeats, because a signal that comes while the simulator itself runs is not acted on.
    let timer = libc::itimerval {
        it_value: time(time_limit_ms.max(1)),
        it_interval: time(50),
    };
    // SAFETY: both calls only read the structures, which live until they return. SIGALRM is ignored until the
    // handler for it is installed, so that the simulator's own work before is not cut off.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}
