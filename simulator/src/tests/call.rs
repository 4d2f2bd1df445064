//! Calls of helpers by native code, as tests describe them (`call_xdp` in `testdata/module.c`).

use bpf2sys_simulator::{HexBytes, Input, InvocationResult, MapPreset, RunReport};

use super::fixture::{preset, request, run, value};

/// Map indices in `testdata/module.c`.
pub mod map {
    pub const ARRAY: u64 = 1;
    pub const HASH: u64 = 2;
    pub const CPU_ARRAY: u64 = 3;
    pub const CPU_HASH: u64 = 4;
    pub const LRU: u64 = 5;
    pub const LRU_CPU: u64 = 6;
    pub const LPM: u64 = 7;
    pub const QUEUE: u64 = 8;
    pub const STACK: u64 = 9;
    pub const RING: u64 = 10;
    pub const PERF: u64 = 11;
    pub const PROGS: u64 = 12;
    pub const OUTER: u64 = 14;
    pub const OUTER_HASH: u64 = 15;
}

/// An argument for a helper.
#[derive(Clone, Copy)]
pub enum Arg {
    Number(u64),
    Map(u64),
    /// An offset in the memory that `Helper::memory` fills.
    Memory(u64),
    Context,
    Packet(u64),
    Globals,
}
use Arg::{Context, Globals, Map, Memory, Number, Packet};

/// One call.
#[derive(Clone)]
pub struct Helper {
    slot: u32,
    arguments: [Arg; 5],
    memory: Vec<u8>,
    copy: u32,
}

pub fn helper(id: u32, arguments: &[Arg]) -> Helper {
    let mut all = [Number(0); 5];
    all[..arguments.len()].copy_from_slice(arguments);
    Helper {
        slot: id - 1,
        arguments: all,
        memory: Vec::new(),
        copy: 0,
    }
}

/// A call of the BTF-resolved function in a slot, which the programs of `testdata/sample.c` can make.
pub fn btf(slot: u32, arguments: &[Arg]) -> Helper {
    helper(1001 + slot, arguments)
}

impl Helper {
    pub fn memory(mut self, bytes: &[u8]) -> Self {
        self.memory = bytes.to_vec();
        self
    }

    /// Copies that many bytes from the address that the helper returns.
    pub fn copy(mut self, bytes: u32) -> Self {
        self.copy = bytes;
        self
    }

    pub fn parameters(&self) -> MapPreset {
        let mut bytes = Vec::new();
        bytes.extend(self.slot.to_le_bytes());
        bytes.extend(self.copy.to_le_bytes());
        for argument in self.arguments {
            let (kind, value): (u64, u64) = match argument {
                Number(n) => (0, n),
                Map(n) => (1, n),
                Memory(n) => (2, n),
                Context => (3, 0),
                Packet(n) => (4, n),
                Globals => (5, 0),
            };
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.resize(120, 0);
        bytes.extend(&self.memory);
        bytes.resize(512, 0);
        preset("params", &[0; 4], &bytes)
    }
}

pub fn input(helper: &Helper, program: &str, packet: &[u8]) -> Input {
    Input {
        program: program.into(),
        packet: HexBytes(packet.to_vec()),
        presets: vec![helper.parameters()],
        ..Input::default()
    }
}

/// Runs calls one after the other in the xdp program.
pub fn run_calls(calls: &[Helper]) -> RunReport {
    let inputs = calls.iter().map(|c| input(c, "call_xdp", &[0; 64])).collect();
    run(&request(inputs)).unwrap_or_else(|e| panic!("{e}"))
}

pub fn result(invocation: &InvocationResult) -> u64 {
    u64::from_le_bytes(invocation.packet.0[..8].try_into().unwrap())
}

pub fn results(calls: &[Helper]) -> Vec<u64> {
    run_calls(calls).results.iter().map(result).collect()
}

/// The parameters' memory after the last call.
pub fn memory_after(report: &RunReport) -> Vec<u8> {
    value(report, "params", &[0; 4]).unwrap()[120..504].to_vec()
}

/// A negated result code, 64 bits wide.
pub fn neg64(code: i64) -> u64 {
    (-code) as u64
}

/// A negated result code, 32 bits wide.
pub fn neg32(code: i32) -> u64 {
    u64::from((-code) as u32)
}
