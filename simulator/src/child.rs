//! The process that runs an image, seen from both sides.
//!
//! The parent starts its own executable again, with [`ARGUMENT`] as first argument. The child reads the request, the
//! image and the object from its standard input, and then inputs, one after another; it writes what comes out of each to its standard
//! output, and the report at the end. Neither holds more of them than pipes and buffers do. Whatever native code does, it
//! does to the child.

use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{SimulatorError, TimeOut};
use crate::frames;
use crate::image::Image;
use crate::request::{Input, InvocationResult, MapContents, ProcessorKind, RunReport, RunRequest};

/// Whether images for a machine, `IMAGE_FILE_MACHINE_*`, run in the emulator here, which must be there then ([`emulator`](crate::emulator)).
pub const fn is_emulated(machine: u16, processor: ProcessorKind) -> bool {
    let is_host = cfg!(all(target_os = "linux", target_arch = "x86_64")) && machine == Image::X64;
    !(is_host && matches!(processor, ProcessorKind::Host))
}

/// First argument of the process that runs an image.
const ARGUMENT: &str = "--bpf2sys-simulator-child";

/// Default time limit.
const DEFAULT_LIMIT_MS: u64 = 10_000;

/// What the child has beyond the limit to say itself that the time is up.
const GRACE: Duration = Duration::from_millis(1500);

/// Bytes that wait to be written to a pipe.
const PIPE_BUFFER: usize = 64 << 10;
/// Results that wait to be taken.
const WAITING_RESULTS: usize = 256;
/// Bytes of error output that are kept.
const MAX_ERRORS: u64 = 64 << 10;

/// What the child says.
#[derive(Serialize, Deserialize)]
enum Message {
    /// The module is loaded, and what the request presets is in the maps, which are told if the request asks for that.
    Loaded(Vec<MapContents>),
    /// What came out of an invocation.
    Done(Box<InvocationResult>),
    /// The end. The report has no results.
    End(Box<Result<RunReport, SimulatorError>>),
}

/// Loads an image as Windows would and runs programs of it on the inputs of the request, in a process of its own. The report has
/// all results.
///
/// The executable that calls this must call [`child_main_if_requested`] first thing in its `main`.
pub fn run(request: &RunRequest) -> Result<RunReport, SimulatorError> {
    let (mut results, mut maps_before) = (Vec::new(), Vec::new());
    let mut report = run_each(request, request.inputs.iter().cloned(), |progress| {
        match progress {
            Progress::Loaded(maps) => maps_before = maps,
            Progress::Done(result) => results.push(*result),
        }
        ControlFlow::Continue(())
    })?;
    report.maps_before = maps_before;
    report.printed = results.iter().flat_map(|result| result.printed.clone()).collect();
    report.results = results;
    Ok(report)
}

/// How far a run is.
#[derive(Debug)]
pub enum Progress {
    /// The module is loaded, and what the request presets is in the maps, which are told if the request asks for that. This comes first,
    /// and once.
    Loaded(Vec<MapContents>),
    /// What came out of the next invocation.
    Done(Box<InvocationResult>),
}

/// Loads an image as [`run`] does, and runs programs of it on inputs as they come, those of the request aside. `each` is given what
/// comes out of every invocation, in order, and can end the run: the image is unloaded then as always. The report has no results.
///
/// Several inputs are under way at any time: none can depend on the results of those just before it.
pub fn run_each(
    request: &RunRequest,
    inputs: impl Iterator<Item = Input> + Send,
    mut each: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<RunReport, SimulatorError> {
    let image = Image::parse(&request.image)?;
    if !matches!(image.machine, Image::X64 | Image::ARM64) {
        return Err(SimulatorError::Unsupported(format!(
            "it is for {}; images for x64 and arm64 run",
            image.machine_name()
        )));
    }
    let limit_ms = match request.time_limit_ms {
        0 => DEFAULT_LIMIT_MS,
        limit => limit,
    };
    let request = RunRequest {
        time_limit_ms: limit_ms,
        inputs: Vec::new(),
        ..request.clone()
    };
    let head = head(&request)?;
    let executable = std::env::current_exe().map_err(|e| process("this executable cannot be found", &e))?;
    let mut child = Command::new(executable)
        .arg(ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| process("the simulator's process cannot be started", &e))?;
    let sending = Sending::default();
    std::thread::scope(|scope| {
        let (sender, messages) = sync_channel(WAITING_RESULTS);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        scope.spawn(|| stdin.map(|stdin| sending.send(&head, inputs, stdin)));
        scope.spawn(move || stdout.map(|stdout| receive(stdout, &sender)));
        let errors = scope.spawn(move || collect(stderr));
        let limit = Duration::from_millis(limit_ms) + GRACE;
        let ended = converse(&messages, &sending, limit, &mut each);
        sending.stopped.store(true, Ordering::Relaxed);
        // So that nobody waits for the other end of a pipe.
        drop(messages);
        if !matches!(ended, Ended::Told(_)) {
            let _ = child.kill(); // it may have ended already
        }
        match ended {
            Ended::Told(outcome) => {
                let _ = child.wait();
                *outcome
            }
            Ended::TimeOut => {
                let _ = child.wait();
                Err(SimulatorError::TimeOut(Box::new(TimeOut {
                    limit_ms,
                    during: None,
                    location: None,
                })))
            }
            Ended::Silent => Err(crashed(&mut child, &errors.join().unwrap_or_default())),
        }
    })
}

fn process(what: &str, e: &dyn std::fmt::Display) -> SimulatorError {
    SimulatorError::Process(format!("{what}: {e}"))
}

fn crashed(child: &mut Child, stderr: &[u8]) -> SimulatorError {
    match child.wait() {
        Ok(status) => SimulatorError::Crashed {
            status: status.to_string(),
            stderr: String::from_utf8_lossy(stderr).trim().to_owned(),
        },
        Err(e) => process("the simulator's process", &e),
    }
}

/// What the child reads first: the request as JSON, the image, and the object if there is one, each after its length.
fn head(request: &RunRequest) -> Result<Vec<u8>, SimulatorError> {
    let json = serde_json::to_vec(request).map_err(|e| process("the request cannot be written", &e))?;
    let object = request.interpret.as_ref().map_or(&[][..], |object| &object.bytes);
    let parts = [&json, &request.image, object];
    let mut head = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        head.extend_from_slice(&(part.len() as u64).to_le_bytes());
        head.extend_from_slice(part);
    }
    Ok(head)
}

/// The side that gives inputs.
#[derive(Default)]
struct Sending {
    /// Nothing more is wanted.
    stopped: AtomicBool,
    /// It waits for an input to come, so that the child has nothing to do.
    waits: AtomicBool,
}

impl Sending {
    /// A child that ends early tells why by its last message or its status, so that a broken pipe is no news.
    fn send(&self, head: &[u8], mut inputs: impl Iterator<Item = Input>, stdin: ChildStdin) -> Option<()> {
        let mut pipe = BufWriter::with_capacity(PIPE_BUFFER, stdin);
        pipe.write_all(head).ok()?;
        let mut buffer = Vec::new();
        while !self.stopped.load(Ordering::Relaxed) {
            self.waits.store(true, Ordering::Relaxed);
            let input = inputs.next();
            self.waits.store(false, Ordering::Relaxed);
            frames::write(&mut pipe, &mut buffer, &input?).ok()?;
        }
        Some(())
    }
}

/// Takes the child's messages, up to its last one or to where it fell silent.
fn receive(stdout: ChildStdout, messages: &SyncSender<Message>) -> Option<()> {
    let mut pipe = BufReader::with_capacity(PIPE_BUFFER, stdout);
    let mut buffer = Vec::new();
    while frames::read(&mut pipe, &mut buffer).ok()? {
        let message: Message = serde_json::from_slice(&buffer).ok()?;
        messages.send(message).ok()?;
    }
    Some(())
}

fn collect(stderr: Option<ChildStderr>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stderr) = stderr {
        let _ = stderr.take(MAX_ERRORS).read_to_end(&mut bytes);
    }
    bytes
}

/// How a conversation ended.
enum Ended {
    /// By the child's last message.
    Told(Box<Result<RunReport, SimulatorError>>),
    /// By nothing for too long.
    TimeOut,
    /// Without a last message.
    Silent,
}

fn converse(
    messages: &Receiver<Message>,
    sending: &Sending,
    limit: Duration,
    each: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Ended {
    loop {
        let progress = match messages.recv_timeout(limit) {
            Ok(Message::Loaded(maps)) => Progress::Loaded(maps),
            Ok(Message::Done(result)) => Progress::Done(result),
            Ok(Message::End(outcome)) => return Ended::Told(outcome),
            Err(RecvTimeoutError::Timeout) if sending.waits.load(Ordering::Relaxed) => continue,
            Err(RecvTimeoutError::Timeout) => return Ended::TimeOut,
            Err(RecvTimeoutError::Disconnected) => return Ended::Silent,
        };
        if !sending.stopped.load(Ordering::Relaxed) && each(progress).is_break() {
            sending.stopped.store(true, Ordering::Relaxed);
        }
    }
}

/// If this process was started by [`run`] or [`run_each`], runs the image and ends the process; otherwise does nothing.
pub fn child_main_if_requested() {
    if std::env::args_os().nth(1).is_some_and(|a| a == ARGUMENT) {
        let mut exchange = Pipes {
            input: BufReader::with_capacity(PIPE_BUFFER, std::io::stdin().lock()),
            output: BufWriter::with_capacity(PIPE_BUFFER, std::io::stdout().lock()),
            buffer: Vec::new(),
        };
        let end = Message::End(Box::new(exchange.serve()));
        let written = exchange.tell(&end).and_then(|()| exchange.output.flush());
        std::process::exit(i32::from(written.is_err()));
    }
}

/// The child's ends of the pipes.
struct Pipes<I, O: Write> {
    input: BufReader<I>,
    output: BufWriter<O>,
    buffer: Vec<u8>,
}

impl<I: Read, O: Write> Pipes<I, O> {
    fn tell(&mut self, message: &Message) -> std::io::Result<()> {
        frames::write(&mut self.output, &mut self.buffer, message)
    }

    fn serve(&mut self) -> Result<RunReport, SimulatorError> {
        let mut part = || {
            self.part()
                .map_err(|e| SimulatorError::Process(format!("the request cannot be read: {e}")))
        };
        let (json, image, object) = (part()?, part()?, part()?);
        let mut request: RunRequest =
            serde_json::from_slice(&json).map_err(|e| SimulatorError::Process(format!("the request: {e}")))?;
        request.image = image;
        if let Some(interpreted) = &mut request.interpret {
            interpreted.bytes = object;
        }
        // SAFETY: this process has no handlers yet.
        unsafe { crate::windows::prepare(request.time_limit_ms) }.map_err(|e| process("the timer", &e))?;
        // SAFETY: this is a process that `run_each` started for this one image, before it had any other thread.
        unsafe { crate::windows::execute(request, self) }
    }

    /// A part of the request.
    fn part(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 8];
        self.input.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let mut part = Vec::new();
        if (&mut self.input).take(length).read_to_end(&mut part)? as u64 == length {
            Ok(part)
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }
}

impl<I: Read, O: Write> crate::windows::Exchange for Pipes<I, O> {
    fn next(&mut self) -> Result<Option<Input>, SimulatorError> {
        let bad = |e: std::io::Error| process("the next input", &e);
        // Before waiting, all that is known is told.
        if self.input.buffer().is_empty() {
            self.output.flush().map_err(bad)?;
        }
        if !frames::read(&mut self.input, &mut self.buffer).map_err(bad)? {
            return Ok(None);
        }
        serde_json::from_slice(&self.buffer)
            .map(Some)
            .map_err(|e| bad(e.into()))
    }

    fn loaded(&mut self, maps: Vec<MapContents>) -> Result<(), SimulatorError> {
        self.tell(&Message::Loaded(maps)).map_err(|e| process("the maps", &e))
    }

    fn done(&mut self, result: InvocationResult) -> Result<(), SimulatorError> {
        self.tell(&Message::Done(Box::new(result)))
            .map_err(|e| process("a result", &e))
    }
}
