//! What `bpf2sys inspect` says of the examples' objects and drivers, against what their sources say.

use std::path::Path;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::runner::{expect, image};
use crate::support::{root, succeed, test, tool};

/// A program: name, section, program type, GUID of the program type.
type Program = (&'static str, &'static str, &'static str, &'static str);
/// A map: name, type number, key size, value size, entries.
type Map = (&'static str, u64, u64, u64, u64);

const XDP: &str = "f1832a85-85d5-45b0-98a0-7069d63013b0";
const BIND: &str = "608c517c-6c52-4a26-b677-bb1c34425adf";
const SOCK_ADDR: &str = "92ec8e39-aeec-11ec-9a30-18602489beee";
const SOCK_OPS: &str = "43fb224d-68f8-46d6-aa3f-c856518cbb32";
const PROCESS: &str = "22ea7b37-1043-4d0d-b60d-cafa1c7b638e";

const HASH: u64 = 1;
const ARRAY: u64 = 2;
const PROG_ARRAY: u64 = 3;
const PERCPU_ARRAY: u64 = 5;
const LRU_HASH: u64 = 8;
const RINGBUF: u64 = 13;

/// An example, its programs by name, and its maps by name.
const CONTENTS: [(&str, &[Program], &[Map]); 6] = [
    (
        "bind_policy",
        &[("bind_policy", "bind", "bind", BIND)],
        &[
            ("audit", RINGBUF, 0, 0, 64 * 1024),
            ("bind_po.data", ARRAY, 4, 8, 1),
            ("ports_held", LRU_HASH, 8, 4, 4096),
            ("reserved_ports", HASH, 4, 32, 256),
        ],
    ),
    (
        "connect_redirect",
        &[
            ("connect_redirect4", "cgroup/connect4", "sock_addr", SOCK_ADDR),
            ("connect_redirect6", "cgroup/connect6", "sock_addr", SOCK_ADDR),
        ],
        &[
            ("connect.bss", ARRAY, 4, 8, 1),
            ("counters", PERCPU_ARRAY, 4, 8, 4),
            ("rules4", HASH, 20, 24, 1024),
            ("rules6", HASH, 20, 24, 1024),
        ],
    ),
    (
        "flow_log",
        &[("flow_log", "sockops", "sockops", SOCK_OPS)],
        &[
            ("events", RINGBUF, 0, 0, 256 * 1024),
            ("flow_lo.data", ARRAY, 4, 4, 1),
            ("flows", LRU_HASH, 8, 16, 8192),
            ("totals", ARRAY, 4, 48, 1),
        ],
    ),
    (
        "process_guard",
        &[("process_guard", "process", "process", PROCESS)],
        &[
            ("denied_arguments", HASH, 8, 8, 4096),
            ("denied_images", HASH, 8, 8, 4096),
            ("process.data", ARRAY, 4, 16, 1),
            ("reports", RINGBUF, 0, 0, 64 * 1024),
            ("watched", LRU_HASH, 8, 8, 1024),
        ],
    ),
    (
        "tail_dispatch",
        &[
            ("dispatch", "xdp", "xdp", XDP),
            ("stage_arp", "xdp/stage_arp", "xdp", XDP),
            ("stage_ipv4", "xdp/stage_ipv4", "xdp", XDP),
            ("stage_ipv6", "xdp/stage_ipv6", "xdp", XDP),
        ],
        &[
            ("arp_senders", LRU_HASH, 6, 16, 4096),
            ("counters", ARRAY, 4, 8, 7),
            ("routers", HASH, 6, 1, 64),
            ("stages", PROG_ARRAY, 4, 4, 3),
            ("tail_di.rodata", ARRAY, 4, 8, 1),
        ],
    ),
    (
        "udp_filter",
        &[("udp_filter", "xdp", "xdp", XDP)],
        &[
            ("blocked_ports", HASH, 2, 1, 1024),
            ("counters", ARRAY, 4, 8, 7),
            ("udp_fil.data", ARRAY, 4, 12, 1),
        ],
    ),
];

pub fn trials() -> Vec<Trial> {
    CONTENTS
        .iter()
        .map(|(example, programs, maps)| {
            test(
                &format!("examples::inspect_of_{example}_agrees_with_its_source"),
                || check(example, programs, maps),
            )
        })
        .collect()
}

fn inspect(file: &Path) -> Result<Value, Failed> {
    Ok(serde_json::from_str(&succeed(
        tool().arg("inspect").arg(file).arg("--json"),
    )?)?)
}

fn check(example: &'static str, programs: &[Program], maps: &[Map]) -> Result<(), Failed> {
    let object = inspect(&root().join(format!("examples/{example}/{example}.o")))?;
    let image = inspect(&image(example)?)?;
    let module = &image["module"];
    expect("hash of the object", &module["elf_hash"], &object["sha256"])?;

    let in_object: Vec<_> = programs
        .iter()
        .map(|(name, section, kind, _)| vec![*name, *section, *kind])
        .collect();
    expect(
        "programs of the object",
        rows(&object["programs"], &["name", "section", "program_type"])?,
        in_object,
    )?;
    let in_image: Vec<_> = programs
        .iter()
        .map(|(name, section, _, guid)| vec![*name, *section, *guid])
        .collect();
    expect(
        "programs of the driver",
        rows(&module["programs"], &["name", "section", "program_type"])?,
        in_image,
    )?;

    let wanted: Vec<Vec<String>> = maps
        .iter()
        .map(|(name, kind, key, value, entries)| {
            vec![
                (*name).to_owned(),
                kind.to_string(),
                key.to_string(),
                value.to_string(),
                entries.to_string(),
            ]
        })
        .collect();
    let columns = ["name", "map_type", "key_size", "value_size", "max_entries"];
    expect("maps of the object", rows(&object["maps"], &columns)?, &wanted[..])?;
    expect("maps of the driver", rows(&module["maps"], &columns)?, &wanted[..])
}

/// Some columns of a list of objects, as text, sorted by the first one.
fn rows(list: &Value, columns: &[&str]) -> Result<Vec<Vec<String>>, Failed> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let row = |item: &Value| columns.iter().map(|column| text(&item[column])).collect();
    let mut rows: Vec<Vec<String>> = list.as_array().ok_or("no list")?.iter().map(row).collect();
    rows.sort();
    Ok(rows)
}
