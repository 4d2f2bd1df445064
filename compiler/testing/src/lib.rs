//! What goes into simulated runs of programs, and how what comes out of them is shown.
//!
//! | module | question |
//! |---|---|
//! | [`captures`] | which packets are in a file, and how are they written with their verdicts? |
//! | [`conditions`] | which answers of functions, failures and providers does a short text mean? |
//! | [`contexts`] | which bytes is a context that is given by the names of its fields, and the other way round? |
//! | [`coverage`] | which lines of the source ran, how often, and which ways did branches go? |
//! | [`near`] | which names may somebody have meant? |
//! | [`values`] | what does a value of a map or an event look like, by its type in the C source? |
//! | [`suite`] | does a driver do what a file with tests says? |

pub mod captures;
pub mod conditions;
pub mod contexts;
pub mod coverage;
pub mod near;
pub mod suite;
pub mod values;
