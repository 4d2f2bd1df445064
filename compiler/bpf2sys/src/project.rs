//! What can be wrong with a project file.

use std::path::{Path, PathBuf};

use crate::SourcePlace;

/// A project file can't be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the project file `{}` can't be used: {message}", file.display())]
pub struct ProjectError {
    /// The file.
    pub file: PathBuf,
    /// The line that is wrong, if one is.
    pub place: Option<SourcePlace>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl ProjectError {
    pub(crate) fn new(file: &Path, message: &str) -> ProjectError {
        ProjectError {
            file: file.to_owned(),
            place: None,
            message: message.to_owned(),
            help: None,
        }
    }
}
