//! The example programs: built, inspected and run as their pages say, on inputs made here.

mod bind_policy;
mod connect_redirect;
mod flow_log;
mod inputs;
mod inspect;
mod objects;
mod pages;
mod process_guard;
pub mod runner;
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
        inspect::trials(),
        inputs::trials(),
        udp_filter::trials(),
        tail_dispatch::trials(),
        bind_policy::trials(),
        connect_redirect::trials(),
        flow_log::trials(),
        process_guard::trials(),
        pages::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
