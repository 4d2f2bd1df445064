//! `--summary`: what a whole run did.

use serde::Serialize;

use crate::cli::output::Batch;
use crate::cli::reporter::Record;
use crate::messages::json::WrittenFile;

/// The form for machines. Fields are never taken away or given another meaning.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    /// Exit status.
    status: u8,
    /// Inputs of which everything was made.
    built: usize,
    /// The others.
    failed: usize,
    /// Files that were written.
    written: usize,
    /// Files that had these contents already.
    unchanged: usize,
    /// By input, in the order in which they were named.
    inputs: Vec<Input<'a>>,
}

#[derive(Debug, Serialize)]
struct Input<'a> {
    #[serde(rename = "input")]
    name: String,
    /// The exit status that this input alone would give.
    status: u8,
    outputs: &'a [WrittenFile],
}

impl<'a> Summary<'a> {
    /// Sums up.
    pub(super) fn new(inputs: &[std::path::PathBuf], batch: &'a Batch) -> Summary<'a> {
        let inputs: Vec<Input<'_>> = (inputs.iter().zip(&batch.results))
            .map(|(input, result)| {
                let (status, outputs) = match result {
                    Ok(done) => match &done.record {
                        Some(Record::Built(built)) => (0, &built.outputs[..]),
                        _ => (0, &[][..]),
                    },
                    Err(status) => (*status, &[][..]),
                };
                Input {
                    name: input.display().to_string(),
                    status,
                    outputs,
                }
            })
            .collect();
        let failed = inputs.iter().filter(|input| input.status != 0).count();
        let files = inputs.iter().flat_map(|input| input.outputs);
        let (written, unchanged): (Vec<_>, Vec<_>) = files.partition(|file| file.written);
        Summary {
            status: batch.status,
            built: inputs.len() - failed,
            failed,
            written: written.len(),
            unchanged: unchanged.len(),
            inputs,
        }
    }

    /// A line for people.
    pub(super) fn line(&self) -> String {
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        format!(
            "{} built{failed}: {} written, {} unchanged\n",
            count(self.built, "input"),
            count(self.written, "file"),
            self.unchanged
        )
    }
}
