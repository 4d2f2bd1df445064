//! Test files without a driver that runs: parsing, and judging of made-up results.

mod judging;
mod page;
mod parsing;
mod results;

use std::path::PathBuf;
use std::sync::Arc;

use bpf2sys_platform::Platform;
use bpf2sys_simulator::map_definitions::kind;
use bpf2sys_simulator::{HexBytes, Input, InvocationResult, MapContents, MapEntryContents, ProcessorKind};

use super::driver::{Driver, Parts, Program};
use crate::values::MapShape;

/// A program of a type.
pub(in crate::suite) fn program(name: &str, section: &str) -> Program {
    let platform = Platform::builtin();
    let mut types = platform.program_types.iter();
    let of = types.find(|of| of.sections.iter().any(|own| own.prefix == section));
    Program {
        name: name.to_owned(),
        of: Some(Arc::clone(of.expect(section))),
    }
}

/// A driver with the program `filter`, of XDP, and `redirect`, of connections; with some maps.
pub(in crate::suite) fn driver() -> Driver {
    Driver {
        parts: Parts {
            image: Vec::new(),
            interpret: None,
            types: None,
            processor: ProcessorKind::Host,
            platform: Platform::builtin(),
            platform_files: Vec::new(),
            folder: PathBuf::new(),
            code: |_| "BPF5006",
        },
        programs: vec![program("filter", "xdp"), program("redirect", "cgroup/connect4")],
        shapes: maps().iter().map(MapShape::from).collect(),
    }
}

/// Maps with these values: an array, a hash and a ring buffer.
pub(in crate::suite) fn maps() -> Vec<MapContents> {
    let entry = |key: &[u8], value: &[u8]| MapEntryContents {
        key: HexBytes(key.to_vec()),
        values: vec![HexBytes(value.to_vec())],
        object: None,
    };
    let map = |name: &str, map_type, sizes: [u32; 2], entries| MapContents {
        name: name.to_owned(),
        map_type,
        key_size: sizes[0],
        value_size: sizes[1],
        max_entries: 2,
        entries,
        ..MapContents::default()
    };
    let index = |index: u32| index.to_le_bytes();
    vec![
        map(
            "counters",
            kind::ARRAY,
            [4, 8],
            vec![entry(&index(0), &[0; 8]), entry(&index(1), &7_u64.to_le_bytes())],
        ),
        map("ports", 1, [2, 1], vec![entry(&[53, 0], &[1])]),
        map("events", kind::RINGBUF, [0, 0], Vec::new()),
    ]
}

/// A run of a program that gave this and left its input as it was.
fn run_of(program: &str, packet: &[u8], result: u32) -> (Input, InvocationResult) {
    let input = Input {
        program: program.to_owned(),
        packet: HexBytes(packet.to_vec()),
        context: HexBytes(vec![0; 64]),
        ..Input::default()
    };
    let result = InvocationResult {
        program: program.to_owned(),
        packet: input.packet.clone(),
        context: input.context.clone(),
        result,
        ..InvocationResult::default()
    };
    (input, result)
}
