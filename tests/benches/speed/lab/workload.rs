//! What is run: each workload is one C file with its input.

use bpf2sys_bytecode::{Function, FunctionIndex, Module};

use super::Error;
use super::inputs;
use super::world::World;

/// A program and its input.
pub struct Workload {
    /// Name, also of its file where it is one of ours.
    pub name: &'static str,
    /// Its C, from the repository's root.
    pub source: &'static str,
    /// The level of the instruction set that it is compiled for.
    pub cpu: &'static str,
    /// Makes contexts and fills maps.
    pub fill: fn(&mut World),
    /// What it returns for each context, in order.
    pub expected: &'static [u32],
}

impl Workload {
    /// Its program: the one of this name, or else the only one of its file.
    pub fn program<'a>(&self, module: &'a Module) -> Result<(FunctionIndex, &'a Function), Error> {
        let programs: Vec<_> = module.programs().collect();
        let named = programs.iter().find(|(_, program)| program.name == self.name);
        match (named, programs.as_slice()) {
            (Some(&program), _) | (None, &[program]) => Ok(program),
            _ => Err("no program has the workload's name".into()),
        }
    }
}

const PASS: u32 = 1;
const DROP: u32 = 2;
const SEND: u32 = 3;
const ALLOW: u32 = 0;
const PROCEED: u32 = 1;
const REFUSE: u32 = 1;
const DENY: u32 = 0xC000_0022;

/// Whether a function's name is that of another program of the module.
pub fn is_another(module: &Module, program: &str, name: &str) -> bool {
    name != program && module.programs().any(|(_, other)| other.name == name)
}

/// A file is called like the workload, or as is said.
macro_rules! source {
    ($name:ident, $folder:literal) => {
        concat!($folder, "/", stringify!($name), ".c")
    };
    ($name:ident, $folder:literal, $file:literal) => {
        concat!($folder, "/", $file)
    };
}

/// Without a signed division, there is no need for more than the third.
macro_rules! cpu {
    () => {
        "v3"
    };
    ($cpu:literal) => {
        $cpu
    };
}

macro_rules! workloads {
    ($( $name:ident in $folder:literal $(/ $file:literal)? $(for $cpu:literal)?: $expected:expr; )+) => {
        /// All of them.
        pub const WORKLOADS: &[Workload] = &[$(
            Workload {
                name: stringify!($name),
                source: source!($name, $folder $(, $file)?),
                cpu: cpu!($($cpu)?),
                fill: inputs::$name,
                expected: &$expected,
            },
        )+];
    };
}

workloads! {
    udp_drop in "tests/benches/speed/workloads": [DROP, PASS, DROP, PASS];
    checksum in "tests/benches/speed/workloads": [PASS];
    load_balancer in "tests/benches/speed/workloads": [SEND; 8];
    byte_scan in "tests/benches/speed/workloads": [DROP];
    tcp_options in "tests/benches/speed/workloads": [DROP, PASS, PASS];
    arithmetic in "tests/benches/speed/workloads": [PASS];
    sort in "tests/benches/speed/workloads": [DROP, PASS, PASS, DROP];
    helpers in "tests/benches/speed/workloads": [PASS];
    local_calls in "tests/benches/speed/workloads": [DROP, DROP];
    state_machine in "tests/benches/speed/workloads": [PASS, PASS, DROP];
    histogram in "tests/benches/speed/workloads": [PASS; 2];
    path_match in "tests/benches/speed/workloads": [DENY];
    token_bucket in "tests/benches/speed/workloads": [PASS, PASS, DROP, PASS];
    ipv6_walk in "tests/benches/speed/workloads": [PASS, PASS, DROP];
    dns_name in "tests/benches/speed/workloads": [DROP, PASS, DROP];
    port_policy in "tests/benches/speed/workloads": [PASS, PASS, PASS, DROP, PASS, PASS, PASS, PASS];
    flow_hash in "tests/benches/speed/workloads": [PASS; 8];
    nat_rewrite in "tests/benches/speed/workloads": [SEND, SEND, PASS];
    packet_vm in "tests/benches/speed/workloads": [DROP, DROP, PASS];
    siphash in "tests/benches/speed/workloads": [DROP, PASS];
    prefix_search in "tests/benches/speed/workloads": [DROP, PASS, PASS, PASS, PASS, DROP, PASS, DROP];
    event_log in "tests/benches/speed/workloads": [PASS; 3];
    bit_counts in "tests/benches/speed/workloads": [PASS; 2];
    smoothing in "tests/benches/speed/workloads": [PASS; 2];
    udp_filter in "examples/udp_filter": [PASS, DROP, PASS, DROP, PASS];
    bind_policy in "examples/bind_policy": [ALLOW, ALLOW, ALLOW, REFUSE];
    process_guard in "examples/process_guard": [ALLOW, DENY];
    flow_log in "examples/flow_log" for "v4": [ALLOW; 4];
    connect_redirect4 in "examples/connect_redirect" / "connect_redirect.c": [PROCEED; 4];
    stage_ipv4 in "examples/tail_dispatch" / "tail_dispatch.c": [SEND, SEND, PASS, DROP];
}
