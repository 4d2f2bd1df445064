//! The example programs: built, inspected and run as their pages say, on inputs made here.

mod inputs;
mod objects;
mod pages;
mod process;
mod runner;
mod sockets;
mod tail_dispatch;
mod udp_filter;

use libtest_mimic::Trial;

/// The examples, by folder.
pub const EXAMPLES: [&str; 6] = [
    "bind_policy",
    "connect_redirect",
    "flow_log",
    "process_guard",
    "tail_dispatch",
    "udp_filter",
];

pub fn trials() -> Vec<Trial> {
    [
        objects::trials(),
        inputs::trials(),
        udp_filter::trials(),
        tail_dispatch::trials(),
        sockets::trials(),
        process::trials(),
        pages::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
