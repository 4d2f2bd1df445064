//! Statements and packages that can't be made, and statements that are not believed: `BPF702…`.

use crate::{Code, Diagnostic, ProvenanceError};

/// What to tell of a failure around statements of provenance.
pub(super) fn diagnose(error: &ProvenanceError) -> Diagnostic {
    let notes = match error {
        ProvenanceError::OtherBytes { difference, reason } => {
            let first = difference.first().to_owned();
            std::iter::once(first).chain(reason.clone()).collect()
        }
        _ => Vec::new(),
    };
    Diagnostic {
        notes,
        ..Diagnostic::new(code(error), error.to_string())
    }
}

fn code(error: &ProvenanceError) -> Code {
    match error {
        ProvenanceError::Statement(_) => Code::BPF7020,
        ProvenanceError::OtherBytes { .. } => Code::BPF7021,
        ProvenanceError::WrongSignature { .. } => Code::BPF7022,
        ProvenanceError::OtherImage(_) => Code::BPF7023,
        ProvenanceError::OtherInput(_) => Code::BPF7024,
        ProvenanceError::Untrue(_) => Code::BPF7025,
        ProvenanceError::Key(_) => Code::BPF7026,
        ProvenanceError::Package(_) => Code::BPF7028,
    }
}
