//! The form of a SARIF 2.1.0 log: one for a run of the tool, also where there is nothing to tell.
//!
//! A problem of a program, a module or an image is a result. One of the tool's own work (a file that can't be read, a
//! wrong option: `BPF9…`) is a notification, as §3.20 wants it. There is no clock in it, no path of this machine that nobody
//! named, and no random identifier: equal runs give equal logs.

mod model;
mod uri;

use std::collections::BTreeMap;

use anstyle::Style;
use sha2::{Digest, Sha256};

use self::model::{
    Address, Artifact, ArtifactLocation, CodeFlow, Configuration, Descriptor, Driver, Help, Invocation, Location, Log,
    LogicalLocation, Notification, PhysicalLocation, Reference, Region, Run, SarifResult, Text, ThreadFlow,
    ThreadFlowLocation, Tool,
};
use super::{severity_name, source};
use crate::{Code, Diagnostic, InstructionPlace, SourcePlace};

/// Where the schema is that the standard names in its appendix.
const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// Name and version of what [`fingerprint`] computes.
const FINGERPRINT: &str = "bpf2sysProblem/v1";
const SLOT_BYTES: u64 = 8;

/// The log of a run that told these problems of these inputs and ended with this exit status.
pub(crate) fn log(diagnostics: &[Diagnostic], inputs: &[String], status: u8) -> Result<String, serde_json::Error> {
    let writer = Writer::new(diagnostics, inputs);
    let log = Log {
        schema: SCHEMA,
        version: "2.1.0",
        runs: [writer.run(diagnostics, status)],
    };
    serde_json::to_string_pretty(&log).map(|text| text + "\n")
}

/// What parts of a log refer to by index.
struct Writer {
    /// The inputs, each once.
    artifacts: Vec<String>,
    /// The codes of results, in order.
    rules: Vec<Code>,
    /// The codes of notifications, in order.
    notifications: Vec<Code>,
}

/// Whether problems of this kind are about the tool's own work.
fn is_notification(code: Code) -> bool {
    code.name().starts_with("BPF9")
}

impl Writer {
    fn new(diagnostics: &[Diagnostic], inputs: &[String]) -> Writer {
        let mut artifacts: Vec<String> = Vec::new();
        for name in inputs.iter().chain(diagnostics.iter().filter_map(|d| d.file.as_ref())) {
            let uri = uri::of_input(name);
            if !artifacts.contains(&uri) {
                artifacts.push(uri);
            }
        }
        let codes = |of_notifications| {
            let mut codes: Vec<Code> = diagnostics.iter().map(|d| d.code).collect();
            codes.retain(|code| is_notification(*code) == of_notifications);
            codes.sort_unstable();
            codes.dedup();
            codes
        };
        Writer {
            artifacts,
            rules: codes(false),
            notifications: codes(true),
        }
    }

    fn run(&self, diagnostics: &[Diagnostic], status: u8) -> Run {
        let version = env!("CARGO_PKG_VERSION");
        let (of_the_tool, of_inputs): (Vec<&Diagnostic>, Vec<_>) =
            diagnostics.iter().partition(|d| is_notification(d.code));
        let notifications = |usage: bool| {
            let these = of_the_tool.iter().filter(|d| (d.code == Code::BPF9005) == usage);
            these.map(|d| self.notification(d)).collect::<Vec<_>>()
        };
        let mut seen = BTreeMap::new();
        Run {
            tool: Tool {
                driver: Driver {
                    name: "bpf2sys",
                    version,
                    semantic_version: version,
                    information_uri: Some(env!("CARGO_PKG_REPOSITORY")).filter(|uri| !uri.is_empty()),
                    rules: self.rules.iter().copied().map(descriptor).collect(),
                    notifications: self.notifications.iter().copied().map(descriptor).collect(),
                },
            },
            invocations: [Invocation {
                // Whether the work was done, whatever came of it.
                execution_successful: !of_the_tool.iter().any(|d| severity_name(d.severity) == "error"),
                exit_code: status,
                tool_execution_notifications: notifications(false),
                tool_configuration_notifications: notifications(true),
            }],
            column_kind: "utf16CodeUnits",
            artifacts: (self.artifacts.iter())
                .map(|uri| Artifact {
                    location: ArtifactLocation {
                        uri: uri.clone(),
                        index: None,
                    },
                    roles: ["analysisTarget"],
                })
                .collect(),
            results: of_inputs.iter().map(|d| self.result(d, &mut seen)).collect(),
        }
    }

    fn notification(&self, diagnostic: &Diagnostic) -> Notification {
        Notification {
            descriptor: Reference {
                id: diagnostic.code.name(),
                index: index_of(&self.notifications, diagnostic.code),
            },
            level: severity_name(diagnostic.severity),
            message: message(diagnostic),
            locations: self.input(diagnostic).into_iter().map(at_file).collect(),
        }
    }

    fn result(&self, diagnostic: &Diagnostic, seen: &mut BTreeMap<String, u32>) -> SarifResult {
        let input = self.input(diagnostic);
        let place = match (&diagnostic.place, &input) {
            (Some(place), _) => Some(at_place(place)),
            (None, Some(input)) => Some(at_file(input.clone())),
            (None, None) => None,
        };
        let logical = logical(diagnostic);
        let place = match place {
            None if logical.is_empty() => None,
            place => Some(Location {
                logical_locations: logical,
                ..place.unwrap_or_default()
            }),
        };
        let fingerprint = fingerprint(diagnostic);
        let again = seen.entry(fingerprint.clone()).or_default();
        *again += 1;
        SarifResult {
            rule_id: diagnostic.code.name(),
            rule_index: index_of(&self.rules, diagnostic.code),
            level: severity_name(diagnostic.severity),
            message: message(diagnostic),
            locations: place.iter().cloned().collect(),
            related_locations: (diagnostic.instruction.iter().zip(&input))
                .map(|(at, input)| at_instruction(at, input))
                .collect(),
            code_flows: code_flow(diagnostic, place, input.as_ref()).into_iter().collect(),
            // Where there is no source line, it is the location itself.
            analysis_target: input.filter(|_| diagnostic.place.is_some()),
            partial_fingerprints: BTreeMap::from([(FINGERPRINT, format!("{fingerprint}:{again}"))]),
        }
    }

    fn input(&self, diagnostic: &Diagnostic) -> Option<ArtifactLocation> {
        let uri = uri::of_input(diagnostic.file.as_ref()?);
        let index = self.artifacts.iter().position(|other| *other == uri);
        Some(ArtifactLocation { uri, index })
    }
}

/// Where a code is among those of its kind. All that are looked for are there.
fn index_of(codes: &[Code], code: Code) -> usize {
    codes.binary_search(&code).unwrap_or_default()
}

/// The catalogue's page.
fn descriptor(code: Code) -> Descriptor {
    Descriptor {
        id: code.name(),
        short_description: Text {
            text: code.title().to_owned(),
        },
        full_description: Text { text: code.meaning() },
        help: Help {
            text: code.plain_page(Style::new()),
            markdown: code.page(),
        },
        default_configuration: Configuration {
            level: severity_name(code.severity()),
        },
    }
}

/// What is wrong, what was known, and what to do. Many readers show nothing else of a result.
fn message(diagnostic: &Diagnostic) -> Text {
    let notes = diagnostic.notes.iter().map(|note| format!("Note: {note}."));
    let help = diagnostic.help.iter().map(|help| format!("Help: {help}."));
    let paragraphs = [format!("{}.", diagnostic.message)]
        .into_iter()
        .chain(notes)
        .chain(help);
    Text {
        text: paragraphs.collect::<Vec<_>>().join("\n\n"),
    }
}

fn at_file(artifact: ArtifactLocation) -> Location {
    Location {
        physical_location: Some(PhysicalLocation {
            artifact_location: artifact,
            region: None,
            address: None,
        }),
        ..Location::default()
    }
}

fn at_place(place: &SourcePlace) -> Location {
    Location {
        physical_location: Some(PhysicalLocation {
            artifact_location: ArtifactLocation {
                uri: uri::of_source(&place.file),
                index: None,
            },
            region: Some(Region {
                start_line: place.line,
                start_column: source::utf16_column(place),
                snippet: (!place.text.is_empty()).then(|| Text {
                    text: place.text.clone(),
                }),
            }),
            address: None,
        }),
        ..Location::default()
    }
}

/// An instruction of the object: no reader can show it, but it can be named.
fn at_instruction(at: &InstructionPlace, input: &ArtifactLocation) -> Location {
    Location {
        id: Some(0),
        physical_location: Some(PhysicalLocation {
            artifact_location: input.clone(),
            region: None,
            address: Some(Address {
                kind: "instruction",
                name: at.text.clone(),
                fully_qualified_name: format!("{}+{:#x}", at.function, u64::from(at.slot) * SLOT_BYTES),
                offset_from_parent: u64::from(at.slot) * SLOT_BYTES,
            }),
        }),
        logical_locations: vec![function(&at.function)],
        message: Some(Text {
            text: format!("instruction {} of `{}`: {}", at.slot, at.function, at.text),
        }),
    }
}

fn function(name: &str) -> LogicalLocation {
    LogicalLocation {
        name: name.to_owned(),
        fully_qualified_name: name.to_owned(),
        kind: "function",
    }
}

/// The function that it is in.
fn logical(diagnostic: &Diagnostic) -> Vec<LogicalLocation> {
    let in_function = diagnostic.instruction.as_ref().map(|at| &at.function);
    in_function
        .or(diagnostic.program.as_ref())
        .map(|name| function(name))
        .into_iter()
        .collect()
}

/// The way to the problem, which is its last place; what is known of the registers is the state there.
fn code_flow(diagnostic: &Diagnostic, place: Option<Location>, input: Option<&ArtifactLocation>) -> Option<CodeFlow> {
    if diagnostic.path.is_empty() && diagnostic.registers.is_empty() {
        return None;
    }
    let steps = diagnostic.path.iter().map(|step| {
        let at = step
            .place
            .as_ref()
            .map(at_place)
            .or_else(|| input.cloned().map(at_file));
        ThreadFlowLocation {
            location: Location {
                logical_locations: vec![function(&step.instruction.function)],
                message: Some(Text {
                    text: format!("{}: {}", step.instruction.text, step.what),
                }),
                ..at.unwrap_or_default()
            },
            state: BTreeMap::new(),
        }
    });
    let known = diagnostic.registers.iter().map(|known| {
        let text = known.holds.clone();
        (known.register.clone(), Text { text })
    });
    let last = ThreadFlowLocation {
        location: Location {
            message: Some(Text {
                text: diagnostic.message.clone(),
            }),
            ..place.unwrap_or_default()
        },
        state: known.collect(),
    };
    Some(CodeFlow {
        thread_flows: [ThreadFlow {
            locations: steps.chain([last]).collect(),
        }],
    })
}

/// What makes a problem the same one after changes elsewhere: no line number, no number of an instruction.
fn fingerprint(diagnostic: &Diagnostic) -> String {
    let place = diagnostic.place.as_ref();
    let at = diagnostic.instruction.as_ref();
    let parts: [&str; 6] = [
        diagnostic.code.name(),
        diagnostic.program.as_deref().unwrap_or_default(),
        at.map_or("", |at| &at.function),
        place.map_or("", |place| &place.file),
        place.map_or("", |place| place.text.trim()),
        // Without source lines, the instruction and the object are all there is.
        match (place, at) {
            (Some(_), _) => "",
            (None, Some(at)) => &at.text,
            (None, None) => diagnostic.file.as_deref().unwrap_or_default(),
        },
    ];
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let first_half = hash
        .finalize()
        .iter()
        .take(16)
        .fold(0, |number, byte| number << 8 | u128::from(*byte));
    format!("{first_half:032x}")
}
