//! What an engine gives of a program that it accepts.

use crate::knowledge::Knowledge;
use crate::{Interval, Warning};

/// What the proof of a program knows.
pub(crate) struct Proof {
    /// Of each instruction.
    pub knowledge: Knowledge,
    /// Of `r0` at the program's own exits.
    pub returns: Interval,
    /// What is no danger, but cannot be what was meant.
    pub warnings: Vec<Warning>,
}
