//! What programs are run on.
//!
//! Given: files with packets and contexts. Computed: inputs, one after another, as they are asked for: a capture of a million
//! packets is never held whole.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::Sender;

use bpf2sys_platform::{Context, ProgramType};
use bpf2sys_simulator::{HexBytes, Input, ProviderEvent};
use bpf2sys_testing::captures::{CaptureError, Packets, parse_hex};
use bpf2sys_testing::contexts::{self, Given};

use super::report::EACH;
use crate::{Error, ErrorKind, files};

/// What makes an argument of `--packet` bytes and not a file.
const INLINE: &str = "hex:";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Input")]
#[allow(clippy::doc_markdown)] // the texts are shown to people as they are
pub(super) struct InputOptions {
    /// Packets, or what else the program type has between its data pointers
    ///
    /// A pcap or pcapng file, or a text of hexadecimal bytes (`.hex`, `.txt`; also what tcpdump -xx and xxd print) has any
    /// number of packets; any other file is one. `hex:0011aa` is one, too. Given several times, the program runs on all, in
    /// this order, with the same maps.
    #[arg(long, value_name = "FILE")]
    packet: Vec<String>,

    /// The context: a JSON object with its fields, a JSON file of one or of a list, or a file of its bytes
    ///
    /// Fields are written as people do: {"user_ip4": "192.0.2.1", "user_port": 443}. What is left out is zero. A file that does not
    /// end in `.json` has the bytes of the structure, from its first one. Data pointers are set. With packets, one context goes
    /// with all of them.
    #[arg(long, value_name = "JSON|FILE")]
    context: Option<String>,

    /// Run this many times on each input
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repeat: u32,
}

/// Where an input came from.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// The packet's number in its file, of files that can have several.
    pub number: Option<u64>,
    /// When it was captured, in nanoseconds since 1970.
    pub time_ns: Option<u64>,
    /// Bytes that it had on its link.
    pub original_length: u32,
    /// The context, as far as it was given.
    pub context: Vec<u8>,
}

/// All inputs of a run.
pub(super) struct Inputs {
    /// What all of them have.
    common: Input,
    sources: VecDeque<Source>,
    /// The context that goes with packets of files.
    context: Vec<u8>,
    events: VecDeque<(u64, ProviderEvent)>,
    /// Time since boot at the first of them, in units of 100 ns.
    boot_time: u64,
    /// Whether results are to have packets and contexts whatever their number.
    is_all_told: bool,
}

/// Where inputs come from.
enum Source {
    Given(Given),
    File(String),
}

/// A file that is being read.
struct Open {
    name: String,
    packets: Packets,
    can_have_several: bool,
}

impl InputOptions {
    /// Whether there are any.
    pub(super) fn are_given(&self) -> bool {
        self.context.is_some() || !self.packet.is_empty()
    }

    /// How often programs run on each.
    pub(super) fn repeat(&self) -> u32 {
        self.repeat
    }

    /// The inputs for a program of this type, if it is known, and for others that are attached behind it.
    pub(super) fn read(
        &self,
        (program, then): (String, Vec<String>),
        program_type: Option<&ProgramType>,
        (events, boot_time, is_all_told): (Vec<(u64, ProviderEvent)>, u64, bool),
    ) -> Result<Inputs, Error> {
        let mut contexts = match &self.context {
            Some(text) => read_contexts(text, program_type.map(|t| &t.context))?,
            None => vec![Given::default()],
        };
        let mut with_packets = Vec::new();
        if !self.packet.is_empty() {
            let count = contexts.len();
            let [only] = <[Given; 1]>::try_from(contexts).map_err(|_| {
                ErrorKind::Usage(format!("with packets, there is one context for all, and not {count}"))
            })?;
            with_packets.clone_from(&only.context);
            contexts = Vec::new();
        }
        let mut sources: VecDeque<Source> = contexts.into_iter().map(Source::Given).collect();
        for name in &self.packet {
            let Some(text) = name.strip_prefix(INLINE) else {
                sources.push_back(Source::File(name.clone()));
                continue;
            };
            sources.extend(
                parse_hex(text)
                    .map_err(|e| unreadable(name, e))?
                    .into_iter()
                    .map(|packet| {
                        Source::Given(Given {
                            context: with_packets.clone(),
                            data: Some(packet),
                            meta: None,
                        })
                    }),
            );
        }
        Ok(Inputs {
            common: Input {
                program,
                then,
                repeat: self.repeat,
                ..Input::default()
            },
            sources,
            context: with_packets,
            events: events.into(),
            boot_time,
            is_all_told,
        })
    }
}

/// The contexts that an argument of `--context` means.
fn read_contexts(text: &str, context: Option<&Context>) -> Result<Vec<Given>, Error> {
    let is_inline = text.trim_start().starts_with(['{', '[']);
    let path = Path::new(text);
    if !is_inline && !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        return Ok(vec![Given {
            context: files::read(path)?,
            ..Given::default()
        }]);
    }
    let wrong = |message: String| {
        let name = if is_inline { "--context" } else { text }.to_owned();
        Error::from(ErrorKind::Context { name, message })
    };
    let context =
        context.ok_or_else(|| wrong("the program's type is not known, and so its context has no fields".into()))?;
    let json = if is_inline {
        text.as_bytes().to_vec()
    } else {
        files::read(path)?
    };
    let value = serde_json::from_slice(&json).map_err(|e| wrong(format!("no JSON: {e}")))?;
    let values = match value {
        serde_json::Value::Array(values) => values,
        value => vec![value],
    };
    let given = values.iter().enumerate().map(|(index, value)| {
        contexts::encode(context, value).map_err(|e| match values.len() {
            1 => wrong(e.to_string()),
            _ => wrong(format!("context {}: {e}", index + 1)),
        })
    });
    given.collect()
}

/// Why there are no more inputs, if not because all were given.
pub(super) type Failure = Mutex<Option<Error>>;

impl Inputs {
    /// The inputs, one after another. `origins` is told where each comes from; if reading fails, they end, and `failure` says why.
    pub(super) fn each(mut self, origins: Sender<Origin>, failure: &Failure) -> impl Iterator<Item = Input> + Send {
        let (mut number, mut first_time, mut open) = (0, None, None);
        std::iter::from_fn(move || {
            let next = self.next(&mut open).unwrap_or_else(|error| {
                if let Ok(mut failure) = failure.lock() {
                    *failure = Some(error);
                }
                None
            });
            let (given, mut origin) = next?;
            origin.context.clone_from(&given.context);
            let mut input = Input {
                context: HexBytes(given.context),
                packet: HexBytes(given.data.unwrap_or_default()),
                meta: given.meta.map(HexBytes),
                without_data: !self.is_all_told && number >= EACH,
                ..self.common.clone()
            };
            while let Some((_, event)) = self.events.pop_front_if(|(before, _)| *before <= number) {
                input.events.push(event);
            }
            if let Some(time) = origin.time_ns {
                let since = time.saturating_sub(*first_time.get_or_insert(time)) / 100;
                input.machine.time = Some(self.boot_time.saturating_add(since));
            }
            number += 1;
            origins.send(origin).ok()?;
            Some(input)
        })
    }

    fn next(&mut self, open: &mut Option<Open>) -> Result<Option<(Given, Origin)>, Error> {
        loop {
            if let Some(file) = open {
                let packet = file.packets.next().transpose();
                if let Some(packet) = packet.map_err(|e| unreadable(&file.name, e))? {
                    let origin = Origin {
                        number: file.can_have_several.then_some(packet.number),
                        time_ns: packet.time_ns,
                        original_length: packet.original_length,
                        ..Origin::default()
                    };
                    let given = Given {
                        context: self.context.clone(),
                        data: Some(packet.bytes),
                        meta: None,
                    };
                    return Ok(Some((given, origin)));
                }
                *open = None;
            }
            match self.sources.pop_front() {
                None => return Ok(None),
                Some(Source::Given(given)) => {
                    let origin = Origin {
                        original_length: given.data.as_ref().map_or(0, |data| data.len() as u32),
                        ..Origin::default()
                    };
                    return Ok(Some((given, origin)));
                }
                Some(Source::File(name)) => {
                    let packets = Packets::open(Path::new(&name)).map_err(|e| unreadable(&name, e))?;
                    *open = Some(Open {
                        can_have_several: packets.can_have_several(),
                        name,
                        packets,
                    });
                }
            }
        }
    }
}

/// Why there is no packet of a file or argument.
fn unreadable(name: &str, error: CaptureError) -> Error {
    match error {
        CaptureError::Io { error, .. } => ErrorKind::ReadFile {
            path: PathBuf::from(name),
            source: error,
        },
        source => ErrorKind::Packets {
            name: name.to_owned(),
            source,
        },
    }
    .into()
}
