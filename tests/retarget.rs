//! Programs for Linux on Linux, and what is made of them on Windows: the same packets through both.
//!
//! Linux runs the object as it was compiled (`BPF_PROG_TEST_RUN`), the simulator the driver that was made of it. Verdicts, as the other system
//! has them, packets and maps must agree.

mod refused;
mod sockets;
mod tools;
mod unfolded;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use bpf2sys_bytecode::{FunctionIndex, Marks, Module};
use bpf2sys_codegen as codegen;
use bpf2sys_isa_tests::kernel::{Ran, Verdict, run_packets};
use bpf2sys_pe_emit as pe_emit;
use bpf2sys_platform::Platform;
use bpf2sys_retarget::{Settings, System, Use, linux, outline, read_linux, recognize, retarget};
use bpf2sys_simulator::{HexBytes, Input, ProcessorKind, RunRequest, SimulatedMachine};
use bpf2sys_verifier::{Options, VerifiedModule, verify};
use libtest_mimic::{Failed, Trial};

use crate::support::{Need, corpus, root, succeed, test, test_with, tool};

/// Programs of `tests/retarget`, each with what is expected of it.
const PROGRAMS: [&str; 3] = ["firewall", "helpers", "shapes"];
/// Packets that each program is run on.
const PACKETS: usize = 4000;

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = PROGRAMS
        .iter()
        .map(|program| {
            test_with(
                &format!("retarget::{program}_does_the_same_on_both"),
                &[Need::Program("clang-19"), Need::Bpf],
                || own(program),
            )
        })
        .collect();
    trials.push(test_with(
        "retarget::what_has_no_counterpart_is_refused",
        &[Need::Program("clang-19")],
        refused::refused,
    ));
    trials.push(test_with(
        "retarget::lines_are_printed_as_on_linux",
        &[Need::Program("clang-19")],
        printed,
    ));
    trials.push(test("retarget::port_tells_how_far_programs_come", tools::ported));
    trials.push(test(
        "retarget::nothing_is_built_of_linux_unless_that_is_said",
        tools::built,
    ));
    trials.push(test_with(
        "retarget::what_a_loader_of_linux_does_is_done",
        &[Need::Program("clang-19")],
        tools::relocated,
    ));
    trials.push(test_with(
        "retarget::helpers_become_functions_of_the_driver",
        &[Need::Program("clang-19")],
        unfolded::unfolded,
    ));
    trials.push(test("retarget::inspect_tells_the_system_and_why", inspected));
    trials.push(test_with(
        "retarget::fields_of_sockets_are_as_on_linux",
        &[Need::Program("clang-19")],
        sockets::sockets,
    ));
    trials.push(test_with(
        "retarget::exact_programs_of_the_corpus_do_the_same_on_both",
        &[Need::Corpus("elf"), Need::Bpf],
        corpus_agrees,
    ));
    trials.push(test_with(
        "retarget::each_object_of_the_corpus_is_told_and_judged",
        &[Need::Corpus("elf")],
        corpus_is_judged,
    ));
    trials
}

/// Random bytes that are the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Packets of 14 bytes and more: random ones, and those with headers of IP, TCP, UDP and ICMP.
    fn packets(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for number in 0..count {
            let length = if number % 50 == 0 {
                600 + self.next() as usize % 800
            } else {
                14 + self.next() as usize % 120
            };
            let mut packet: Vec<u8> = (0..length).map(|_| self.next() as u8).collect();
            let headers: &[u8] = match self.next() % 4 {
                0 => &[0x08, 0x00, 0x45, 0],
                1 => &[0x86, 0xdd, 0x60, 0],
                2 => &[0x81, 0x00, 0, 7, 0x08, 0x00, 0x45, 0],
                _ => &[],
            };
            for (place, byte) in packet.iter_mut().skip(12).zip(headers) {
                *place = *byte;
            }
            let protocol = [1, 6, 17, 58][self.next() as usize % 4];
            if let (0x08, Some(place)) = (packet[12], packet.get_mut(23)) {
                *place = protocol;
            }
            if let (0x86, Some(place)) = (packet[12], packet.get_mut(20)) {
                *place = protocol;
            }
            packets.push(packet);
        }
        packets
    }
}

/// What a module for Linux becomes.
struct Made {
    verified: VerifiedModule,
    degraded: Vec<String>,
}

fn make(module: &Module) -> Result<Made, String> {
    let blocked = |uses: &[Use]| uses.iter().find_map(Use::blocked).map(str::to_owned);
    let options = Options::default();
    let on_linux = verify(module.clone(), linux(), &options)
        .map_err(|e| blocked(&outline(module)).unwrap_or_else(|| format!("on Linux: {e}")))?;
    let windows = Platform::builtin();
    let made = retarget(&on_linux, &windows);
    let degraded = made.uses.iter().filter_map(Use::degraded).map(str::to_owned).collect();
    let module = made.module.ok_or_else(|| blocked(&made.uses).unwrap_or_default())?;
    let verified = verify(module, &windows, &options).map_err(|e| format!("on Windows: {e}"))?;
    Ok(Made { verified, degraded })
}

/// A program of `tests/retarget`, compiled.
fn compiled(name: &str) -> Result<Module, Failed> {
    compiled_with(name, &[])
}

/// The same, with further options.
fn compiled_with(name: &str, options: &[String]) -> Result<Module, Failed> {
    let folder = tempfile::tempdir()?;
    let object = folder.path().join(name).with_extension("o");
    let source = root().join("tests/retarget").join(name).with_extension("c");
    let mut clang = Command::new("clang-19");
    clang.args(["-g", "-O2", "-target", "bpf", "-mcpu=v3"]);
    // Helpers have names of functions of C.
    clang
        .args(["-Wall", "-Werror", "-Wno-incompatible-library-redeclaration"])
        .args(options)
        .args(["-c", "-o"]);
    succeed(clang.arg(&object).arg(source))?;
    Ok(read_linux(&fs::read(&object)?, name, None, &Settings::default())?)
}

/// The driver of what was made.
fn driver(made: &Made) -> Result<Vec<u8>, Failed> {
    let lowered = codegen::lower(&made.verified, &Platform::builtin(), &codegen::Options::default())?;
    Ok(pe_emit::link(&lowered.object)?.into_bytes())
}

fn own(name: &str) -> Result<(), Failed> {
    let module = compiled(name)?;
    let made = make(&module)?;
    if !made.degraded.is_empty() {
        return Err(format!("degraded: {:?}", made.degraded).into());
    }
    let mut compared = 0;
    for (index, program) in module.programs() {
        compared += agree(&module, index, &program.name, &made)?;
    }
    if compared < PACKETS {
        return Err(format!("only {compared} packets ran").into());
    }
    Ok(())
}

/// What XDP programs return on Linux, as Windows has it.
fn on_windows(returned: u32) -> u32 {
    match returned {
        2 => 1,
        3 => 3,
        _ => 2,
    }
}

/// Runs packets through both. Gives how many.
fn agree(module: &Module, program: FunctionIndex, name: &str, made: &Made) -> Result<usize, Failed> {
    let packets = Random(0x9E37_79B9_7F4A_7C15).packets(PACKETS);
    let there = match run_packets(module, program, &packets) {
        Ok(ran) => ran,
        Err(verdict) => return Err(format!("Linux: {verdict:?}").into()),
    };
    let image = driver(made)?;
    // Test runs of Linux come from its loopback interface, the first.
    let mut context = vec![0; 32];
    context[24] = 1;
    let report = bpf2sys_simulator::run(&RunRequest {
        image,
        inputs: packets
            .iter()
            .map(|packet| Input {
                program: name.into(),
                packet: HexBytes(packet.clone()),
                context: HexBytes(context.clone()),
                ..Input::default()
            })
            .collect(),
        processor: ProcessorKind::Host,
        machine: SimulatedMachine::default(),
        ..RunRequest::default()
    })?;
    for ((result, (returned, data)), packet) in report.results.iter().zip(&there.results).zip(&packets) {
        let expected = (on_windows(*returned), data);
        if (result.result, &result.packet.0) != expected {
            return Err(format!(
                "packet {packet:02x?}: {} and {:02x?}, on Linux {returned} and {data:02x?}",
                result.result, result.packet.0
            )
            .into());
        }
    }
    let values = |map: &bpf2sys_simulator::MapContents| -> BTreeMap<Vec<u8>, Vec<u64>> {
        let entries = map.entries.iter();
        let values = entries.map(|entry| {
            (
                entry.key.0.clone(),
                total(entry.values.iter().map(|value| &value.0[..])),
            )
        });
        values.filter(|(_, value)| value.iter().any(|v| *v != 0)).collect()
    };
    for (map, entries) in &there.maps {
        let here = report.maps.iter().find(|m| m.name == *map).ok_or("a map is missing")?;
        let size = here.value_size.next_multiple_of(8) as usize;
        let is_per_cpu = module
            .maps
            .iter()
            .any(|m| m.name == *map && matches!(m.definition.map_type, 5 | 6 | 10));
        let there: BTreeMap<Vec<u8>, Vec<u64>> = entries
            .iter()
            .map(|(key, value)| {
                let each = if is_per_cpu { size } else { value.len() };
                (key.clone(), total(value.chunks(each)))
            })
            .filter(|(_, value)| value.iter().any(|v| *v != 0))
            .collect();
        let here = values(here);
        if here != there {
            return Err(format!("map {map}: {here:?}, on Linux {there:?}").into());
        }
    }
    Ok(packets.len())
}

/// Values of all processors together, in parts of 8 bytes.
fn total<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u64> {
    let mut total = Vec::new();
    for value in values {
        for (index, part) in value.chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            if total.len() <= index {
                total.push(0u64);
            }
            total[index] = total[index].wrapping_add(u64::from_le_bytes(bytes));
        }
    }
    total
}

/// Lines with values of 32 and 64 bits; what Windows can't print is told and left out.
fn printed() -> Result<(), Failed> {
    for (options, degraded) in [(&[][..], 0), (&["-DWIDTHS".to_owned()], 1)] {
        let made = make(&compiled_with("printing", options)?)?;
        let report = bpf2sys_simulator::run(&RunRequest {
            image: driver(&made)?,
            inputs: vec![Input {
                program: "printing".into(),
                packet: HexBytes(vec![5, 10, 0, 0]),
                ..Input::default()
            }],
            ..RunRequest::default()
        })?;
        let expected = ["a packet", "4 bytes, 4294967301 and 20000000a"];
        if report.printed != expected || made.degraded.len() != degraded {
            return Err(format!("{:?}; {:?}", report.printed, made.degraded).into());
        }
    }
    Ok(())
}

/// Each of three objects, with names as that system has them.
fn inspected() -> Result<(), Failed> {
    for (object, parts) in [
        (
            "examples/udp_filter/udp_filter.o",
            &["compiled for Windows: it loads 8 bytes at 0 of the context", "type xdp"][..],
        ),
        (
            "tests/fixtures/rejected/unknown_section.o",
            &[
                "compiled for Linux: it has programs in section kprobe/do_unlinkat",
                "type kprobe",
            ],
        ),
        (
            "tests/fixtures/metadata/sockops.o",
            &["compiled for Linux or Windows: it has no"],
        ),
    ] {
        let text = succeed(tool().arg("inspect").arg(root().join(object)))?;
        if let Some(part) = parts.iter().find(|part| !text.contains(**part)) {
            return Err(format!("{object}: no `{part}` in\n{text}").into());
        }
        let json = succeed(tool().args(["inspect", "--json"]).arg(root().join(object)))?;
        let json: serde_json::Value = serde_json::from_str(&json)?;
        let system = json["compiled_for"]["system"].as_str();
        let told = match system {
            Some("linux") => "for Linux:",
            Some("windows") => "for Windows:",
            _ => "for Linux or Windows:",
        };
        if !parts[0].contains(told) {
            return Err(format!("{object}: {system:?}").into());
        }
    }
    Ok(())
}

/// The objects of the corpus, in order.
fn objects() -> Result<Vec<(String, Vec<u8>)>, Failed> {
    let folder = corpus("elf").ok_or("no corpus")?;
    let mut found = Vec::new();
    for part in ["build", "linux"] {
        for entry in fs::read_dir(folder.join(part))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((format!("{part}/{name}"), fs::read(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

fn corpus_agrees() -> Result<(), Failed> {
    let mut compared = BTreeMap::new();
    for (name, bytes) in objects()? {
        let Ok(module) = read_linux(
            &bytes,
            Path::new(&name).file_name().unwrap_or_default().to_str().unwrap_or("x"),
            None,
            &Settings::default(),
        ) else {
            continue;
        };
        let Ok(made) = make(&module) else { continue };
        if !made.degraded.is_empty() {
            continue;
        }
        for (index, program) in module.programs() {
            if !program.section.starts_with("xdp") {
                continue;
            }
            // What this kernel's verifier refuses, ours may accept.
            match run_packets(&module, index, &[]) {
                Ok(Ran { .. }) => {}
                Err(Verdict::Rejected(_)) => continue,
                Err(verdict) => return Err(format!("{name}: {verdict:?}").into()),
            }
            let count = agree(&module, index, &program.name, &made)
                .map_err(|e| format!("{name}, {}: {}", program.name, e.message().unwrap_or("no reason")))?;
            compared.insert(format!("{name} {}", program.name), count);
        }
    }
    if compared.len() < 5 {
        return Err(format!("only {compared:?} were compared").into());
    }
    Ok(())
}

/// Of each object: which system it is told to be for, and what becomes of it.
fn corpus_is_judged() -> Result<(), Failed> {
    let windows = Platform::builtin();
    let (mut told, mut exact, mut degraded) = (0, Vec::new(), Vec::new());
    for (name, bytes) in objects()? {
        let marks = Marks::read(&bytes).map_err(|e| format!("{name}: {e}"))?;
        match recognize(&marks, &windows).system {
            Some(System::Windows) => return Err(format!("{name} is taken for one of Windows").into()),
            Some(System::Linux) => told += 1,
            None => {}
        }
        let file = name.rsplit('/').next().unwrap_or(&name);
        let Ok(made) = read_linux(&bytes, file, None, &Settings::default())
            .map_err(|e| e.to_string())
            .and_then(|m| make(&m))
        else {
            continue;
        };
        if made.degraded.is_empty() {
            exact.push(name);
        } else {
            degraded.push(name);
        }
    }
    let expected_exact = [
        "build/correlated_branch.o",
        "build/dependent_read.o",
        "build/packet_access.o",
        "build/packet_start_ok.o",
        "build/tail_call.o",
        "linux/xdp1_kern.o",
        "linux/xdp2_kern.o",
    ];
    let expected_degraded = [
        "linux/tcp_basertt_kern.o",
        "linux/tcp_bufs_kern.o",
        "linux/tcp_clamp_kern.o",
        "linux/tcp_cong_kern.o",
        "linux/tcp_iw_kern.o",
        "linux/tcp_rwnd_kern.o",
        "linux/tcp_synrto_kern.o",
        "linux/xdp_adjust_tail_kern.o",
        "linux/xdp_rxq_info_kern.o",
        "linux/xdp_sample_pkts_kern.o",
        "linux/xdp_tx_iptunnel_kern.o",
    ];
    if exact != expected_exact || degraded != expected_degraded || told < 65 {
        return Err(format!("{told} told; exact: {exact:#?}, degraded: {degraded:#?}").into());
    }
    Ok(())
}
