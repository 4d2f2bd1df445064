//! The place that an error of the loader names.

use crate::PlatformError;

/// The place that an error names: file and table.
pub(super) struct Place<'a> {
    pub file: &'a str,
    pub table: String,
}

impl<'a> Place<'a> {
    pub fn new(file: &'a str, kind: &str, name: &str) -> Place<'a> {
        Place {
            file,
            table: format!("{kind} `{name}`"),
        }
    }

    pub fn error(&self, field: &'static str, message: impl Into<String>) -> PlatformError {
        PlatformError::Inconsistent {
            file: self.file.to_owned(),
            table: self.table.clone(),
            field,
            message: message.into(),
        }
    }

    pub fn check(
        &self,
        holds: bool,
        field: &'static str,
        message: impl FnOnce() -> String,
    ) -> Result<(), PlatformError> {
        if holds {
            Ok(())
        } else {
            Err(self.error(field, message()))
        }
    }

    /// A name that the runtime keeps as a C string of at most `max` bytes.
    pub fn name(&self, field: &'static str, name: &str, max: u32) -> Result<(), PlatformError> {
        name_problem(name, max).map_or(Ok(()), |message| Err(self.error(field, message)))
    }
}

/// What keeps a name from being a C string of at most `max` bytes, with its end.
pub(crate) fn name_problem(name: &str, max: u32) -> Option<String> {
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if name.contains('\0') {
        return Some("contains a NUL".to_owned());
    }
    (name.len() >= max as usize).then(|| format!("is longer than {} bytes", max - 1))
}
