//! The crate judged by itself: what is signed verifies, what was changed does not, and nothing that is read makes it panic.
//! Other programs judge it in the end-to-end tests of the tool.

mod files;
mod hostile;
mod signing;
mod support;
mod tampering;
