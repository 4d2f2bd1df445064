//! The programs of the corpus, with what C++ PREVAIL says of them.

use std::collections::BTreeMap;
use std::path::Path;

use bpf2sys_bytecode::{FunctionIndex, FunctionKind, Module, read};
use libtest_mimic::Failed;
use serde::Deserialize;

use super::linux;

/// A line of `verdicts.jsonl`.
#[derive(Deserialize)]
pub struct Recorded {
    pub object: String,
    pub section: String,
    pub function: String,
    verdict: Theirs,
    message: Option<String>,
    verdict_termination: Theirs,
    message_termination: Option<String>,
}

/// What C++ PREVAIL says.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Theirs {
    Pass,
    /// Analysed, and not proven.
    Fail,
    /// Not taken into the analysis.
    Error,
}

impl Recorded {
    /// The verdict and the message, with or without the proof that loops end.
    pub fn theirs(&self, termination: bool) -> (Theirs, &str) {
        let (verdict, message) = if termination {
            (self.verdict_termination, &self.message_termination)
        } else {
            (self.verdict, &self.message)
        };
        (verdict, message.as_deref().unwrap_or_default())
    }
}

/// All lines of the record.
pub fn recorded(corpus: &Path) -> Result<Vec<Recorded>, Failed> {
    let text = std::fs::read_to_string(corpus.join("verdicts.jsonl"))?;
    let lines: Result<Vec<Recorded>, _> = text.lines().map(serde_json::from_str).collect();
    Ok(lines?)
}

/// The objects of the corpus, each read once.
pub struct Objects<'a> {
    corpus: &'a Path,
    read: BTreeMap<String, Result<Module, String>>,
}

impl Objects<'_> {
    pub fn of(corpus: &Path) -> Objects<'_> {
        Objects {
            corpus,
            read: BTreeMap::new(),
        }
    }

    /// The module with one program, or why the object is not read. C++ PREVAIL takes every function that a symbol names for
    /// a program, also in `.text`, and so it is taken here: as the only program of its module, so that no other stands in
    /// its way.
    pub fn program(&mut self, row: &Recorded) -> Result<Result<Module, String>, Failed> {
        if !self.read.contains_key(&row.object) {
            let bytes = self.bytes(row)?;
            let mut module = read(&bytes, &row.object).map_err(|e| e.to_string());
            if let Ok(module) = &mut module {
                linux::add_templates(module, &bytes)?;
            }
            self.read.insert(row.object.clone(), module);
        }
        let mut module = match &self.read[&row.object] {
            Ok(module) => module.clone(),
            Err(message) => return Ok(Err(message.clone())),
        };
        let wanted = function(&module, row).ok_or_else(|| {
            format!(
                "{}: no function `{}` in section `{}`",
                row.object, row.function, row.section
            )
        })?;
        for (i, function) in module.functions.iter_mut().enumerate() {
            function.kind = if i == wanted.index() {
                FunctionKind::Program
            } else {
                FunctionKind::Subprogram
            };
        }
        Ok(Ok(module))
    }

    /// The object file.
    pub fn bytes(&self, row: &Recorded) -> Result<Vec<u8>, Failed> {
        Ok(std::fs::read(self.corpus.join("elf").join(&row.object))?)
    }
}

fn function(module: &Module, row: &Recorded) -> Option<FunctionIndex> {
    let mut found = (0..)
        .map(FunctionIndex)
        .zip(&module.functions)
        .filter(|(_, f)| f.section == row.section && f.name == row.function);
    let (index, _) = found.next()?;
    found.next().is_none().then_some(index)
}
