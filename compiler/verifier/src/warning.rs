//! What is no danger, but cannot be what was meant.

use std::fmt;

use crate::RejectionPlace;

/// Something in a verified module that its author should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Name of the program.
    pub program: String,
    /// Where, if one place is to blame.
    pub place: Option<Box<RejectionPlace>>,
    /// What it is.
    pub reason: WarningReason,
}

/// What a warning is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WarningReason {
    /// A call that fails at run time whatever is in the map.
    #[error("`{helper}` always fails{}: it does not work on maps of type `{map_type}`", map.as_ref().map(|m| format!(" on map `{m}`")).unwrap_or_default())]
    NeverSucceeds {
        /// Name of the helper.
        helper: String,
        /// Name of the map, if it is known.
        map: Option<String>,
        /// Short name of the map's type.
        map_type: String,
    },
    /// A call that fails at run time whatever its arguments are.
    #[error("`{helper}` always fails in programs of type `{program_type}`")]
    AlwaysFails {
        /// Name of the helper.
        helper: String,
        /// Name of the program type.
        program_type: String,
    },
    /// Tail calls of which one more follows than the runtime makes, on every path and with the initial values of the maps.
    #[error(
        "every run ends with a tail call that fails: the runtime makes {limit} one after another, and by the initial values of the \
         program arrays there are more ({})",
        Chain(chain)
    )]
    TailCallChain {
        /// The programs, this one first; a circle ends with the program that it comes back to.
        chain: Vec<String>,
        /// How many tail calls can follow one another.
        limit: u32,
    },
}

/// The first programs of a chain.
struct Chain<'a>(&'a [String]);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let shown = self.0.get(..SHOWN).unwrap_or(self.0);
        let more = if shown.len() < self.0.len() { ", and so on" } else { "" };
        write!(f, "{}{more}", shown.join(" calls "))
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program `{}`", self.program)?;
        if let Some(place) = &self.place {
            write!(f, "{}", place.in_program(&self.program))?;
        }
        write!(f, ": {}", self.reason)
    }
}
