//! `run --interpret`: the interpreter gives what the driver gives, and says what an instruction did wrong.
//!
//! The tests of the examples compare both for every input they have (`examples::runner`); those here add inputs that nobody
//! thought of, and objects whose programs were broken after they had been verified.

use std::fmt::Debug;
use std::path::PathBuf;

use bpf2sys::BuildOptions;
use bpf2sys_bytecode::{Instruction, Module, Width};
use bpf2sys_codegen as codegen;
use bpf2sys_pe_emit::Machine::{self, Arm64, X64};
use bpf2sys_platform::Platform;
use bpf2sys_simulator::{HexBytes, Input, InterpretedFault, ObjectFile, RunReport, RunRequest, SimulatorError};
use bpf2sys_verifier::VerifiedModule;
use libtest_mimic::{Failed, Trial};
use object::{Object, ObjectSection};

use crate::examples::EXAMPLES;
use crate::support::{Need, output, root, succeed, test, test_with, tool};

pub fn trials() -> Vec<Trial> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Vec::new();
    }
    let mut trials: Vec<Trial> = EXAMPLES
        .into_iter()
        .map(|example| {
            test(
                &format!("interpret::{example}_gives_the_report_of_its_driver"),
                move || same_report(X64, object_file(example)?, &samples(example)?),
            )
        })
        .collect();
    trials.extend(["arithmetic", "facts", "near_rules", "trusted"].map(|name| {
        test(
            &format!("interpret::verified_{name}_give_the_reports_of_their_driver"),
            move || same_report(X64, fixture("verify", name)?, &[]),
        )
    }));
    trials.extend([
        test("interpret::every_instruction_gives_what_the_driver_gives", || {
            same_report(X64, fixture("interpret", "instructions")?, &pairs_of_edges())
        }),
        test_with(
            "interpret::every_instruction_gives_what_the_arm64_driver_gives",
            &[Need::Emulator],
            || same_report(Arm64, fixture("interpret", "instructions")?, &pairs_of_edges()),
        ),
        test(
            "interpret::a_tail_call_two_functions_deep_ends_the_program",
            a_deep_tail_call,
        ),
        test("interpret::only_objects_are_interpreted", only_objects_are_interpreted),
        test(
            "interpret::an_unverified_object_is_not_run",
            an_unverified_object_is_not_run,
        ),
        test("interpret::wrong_accesses_are_located", wrong_accesses_are_located),
        test("interpret::an_endless_loop_is_stopped", an_endless_loop_is_stopped),
        test("interpret::another_object_is_refused", another_object_is_refused),
    ]);
    trials
}

fn path(example: &str) -> PathBuf {
    root().join(format!("examples/{example}/{example}.o"))
}

fn object_file(example: &str) -> Result<ObjectFile, Failed> {
    Ok(ObjectFile {
        name: format!("{example}.o"),
        bytes: std::fs::read(path(example))?,
    })
}

/// An object of the fixtures.
fn fixture(folder: &str, name: &str) -> Result<ObjectFile, Failed> {
    let path = root()
        .join("tests/fixtures")
        .join(folder)
        .join(name)
        .with_extension("o");
    Ok(ObjectFile {
        name: format!("{name}.o"),
        bytes: std::fs::read(path)?,
    })
}

/// The driver that an object becomes.
fn driver(object: &ObjectFile) -> Result<Vec<u8>, Failed> {
    let built = bpf2sys::build(&object.bytes, &object.name, &BuildOptions::default()).map_err(|e| e.to_string())?;
    let output = built.outputs.into_iter().next().ok_or("the build made nothing")?;
    Ok(output.bytes)
}

/// Packets of two numbers at which instructions change what they do.
fn pairs_of_edges() -> Vec<Vec<u8>> {
    const EDGES: [u64; 14] = [
        0,
        1,
        7,
        32,
        0x7F80,
        0x7FFF_FFFF,
        0x8000_0000,
        0xFFFF_FFFF,
        0x1_0000_0000,
        0x8000_0000_0000_0000,
        0x8000_0000_8000_0001,
        0xFFFF_FFFF_8000_0000,
        0xFFFF_FFFF_FFFF_FFF9,
        0xFFFF_FFFF_FFFF_FFFF,
    ];
    let numbers = |a: u64| EDGES.map(|b| [a.to_le_bytes(), b.to_le_bytes()].concat());
    EDGES.into_iter().flat_map(numbers).collect()
}

/// Numbers of a linear congruential generator: the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) as usize % limit.max(1)
    }

    /// One of the samples with some of its bytes changed, and sometimes cut short.
    fn one_damaged(&mut self, samples: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = samples[self.below(samples.len())].clone();
        if self.below(8) == 0 {
            bytes.truncate(self.below(bytes.len() + 1));
        }
        for _ in 0..self.below(6) {
            let at = self.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                // Small changes are what parsers look at.
                *byte = match self.below(3) {
                    0 => self.below(256) as u8,
                    1 => *byte ^ 1 << self.below(8),
                    _ => self.below(4) as u8,
                };
            }
        }
        bytes
    }
}

/// Every program of an object, on samples and on inputs made from them, by its code and by the interpreter.
fn same_report(machine: Machine, object: ObjectFile, samples: &[Vec<u8>]) -> Result<(), Failed> {
    let verified = bpf2sys::verify(&object.bytes, &object.name, &BuildOptions::default()).map_err(|e| e.to_string())?;
    // With every lookup a call, as it is to the interpreter.
    let options = codegen::Options {
        machine,
        optimizations: codegen::Optimizations::ALL.set(codegen::Optimization::ArrayLookups, false),
        ..codegen::Options::default()
    };
    let lowered = codegen::lower(&verified, &Platform::builtin(), &options).map_err(|e| e.to_string())?;
    let image = bpf2sys_pe_emit::link(&lowered.object).map_err(|e| e.to_string())?;
    let inputs = inputs(&verified, samples)?;
    let request = RunRequest {
        image: image.bytes().to_vec(),
        inputs,
        time_limit_ms: 60_000,
        ..RunRequest::default()
    };
    let native = report(&request)?;
    let interpreted = report(&RunRequest {
        interpret: Some(object),
        ..request.clone()
    })?;
    if native.results.len() != request.inputs.len() {
        return Err(format!("{} results", native.results.len()).into());
    }
    match difference(&request.inputs, &native, &interpreted) {
        Some(text) => Err(text.into()),
        None => Ok(()),
    }
}

/// Inputs of every program of an object: samples of contexts and packets, and others made from them.
pub fn inputs(verified: &VerifiedModule, samples: &[Vec<u8>]) -> Result<Vec<Input>, Failed> {
    let mut numbers = Numbers(1);
    let mut inputs = Vec::new();
    for program in verified.programs() {
        let context = &program.program_type.context;
        let size = usize::try_from(context.size)?;
        let pick = |is_context: bool| -> Vec<Vec<u8>> {
            let fitting = samples.iter().filter(|sample| (sample.len() == size) == is_context);
            fitting
                .cloned()
                .chain([vec![0; if is_context { size } else { 60 }]])
                .collect()
        };
        let (contexts, packets) = (pick(true), pick(false));
        let mut input = |context: Vec<u8>, packet: Vec<u8>| {
            inputs.push(Input {
                program: verified.module().function(program.function).name.clone(),
                packet: HexBytes(packet),
                context: HexBytes(context),
                ..Input::default()
            });
        };
        let takes_packets = context.data >= 0;
        for packet in packets.iter().filter(|_| takes_packets) {
            input(contexts[0].clone(), packet.clone());
        }
        for _ in 0..100 {
            let packet = takes_packets.then(|| numbers.one_damaged(&packets));
            input(numbers.one_damaged(&contexts), packet.unwrap_or_default());
        }
    }
    Ok(inputs)
}

/// The first thing in which two reports differ.
fn difference(inputs: &[Input], driver: &RunReport, interpreter: &RunReport) -> Option<String> {
    let differ = |what: &dyn Debug, a: &dyn Debug, b: &dyn Debug| {
        Some(format!("{what:?}\n     driver: {a:?}\ninterpreter: {b:?}"))
    };
    for ((input, a), b) in inputs.iter().zip(&driver.results).zip(&interpreter.results) {
        if a != b {
            return differ(input, a, b);
        }
    }
    for (a, b) in driver.maps.iter().zip(&interpreter.maps) {
        for (of_a, of_b) in a.entries.iter().zip(&b.entries) {
            if of_a != of_b {
                return differ(&a.name, of_a, of_b);
            }
        }
        if a != b {
            return differ(&a.name, a, b);
        }
    }
    (driver != interpreter).then(|| format!("driver: {driver:?}\ninterpreter: {interpreter:?}"))
}

fn a_deep_tail_call() -> Result<(), Failed> {
    let object = fixture("interpret", "instructions")?;
    let mut request = RunRequest {
        image: driver(&object)?,
        ..RunRequest::default()
    };
    // The first byte chooses: 0 is an empty slot, 1 the program `after`.
    for first in [0, 1] {
        let mut packet = vec![0; 16];
        packet[0] = first;
        request.inputs.push(Input {
            program: "deep".into(),
            packet: HexBytes(packet),
            ..Input::default()
        });
    }
    for interpret in [None, Some(object)] {
        request.interpret = interpret;
        let report = report(&request)?;
        let outcomes: Vec<_> = report
            .results
            .iter()
            .map(|r| (r.result, r.tail_calls.as_slice()))
            .collect();
        let (drop, send): (&[String], &[String]) = (&[], &["after".into()]);
        if outcomes != [(2, drop), (3, send)] {
            return Err(format!("{outcomes:?}").into());
        }
        // 3 at first; 1 and 10 when the functions went on after the call, 100 in the other program.
        let calls = report.maps.iter().find(|map| map.name == "instruc.data");
        let value = calls.and_then(|map| map.entries.first()?.values.first());
        if value.map(|bytes| bytes.0.as_slice()) != Some(&114u64.to_le_bytes()) {
            return Err(format!("{:?}", report.maps).into());
        }
    }
    Ok(())
}

/// The report of a run, without its stack use: that of frames, and that of native code, differ.
fn report(request: &RunRequest) -> Result<RunReport, Failed> {
    let report = bpf2sys_simulator::run(request).map_err(|e| e.to_string())?;
    Ok(RunReport {
        max_stack_bytes: 0,
        ..report
    })
}

/// The contents of the inputs beside an example.
pub fn samples(example: &str) -> Result<Vec<Vec<u8>>, Failed> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join("examples").join(example))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files.iter().map(std::fs::read).collect::<Result<_, _>>()?)
}

/// Runs the tool, expects an exit status, and that its error output says all of this.
fn fails(arguments: &[&str], status: i32, parts: &[&str]) -> Result<(), Failed> {
    let out = output(tool().arg("run").args(arguments))?;
    let text = String::from_utf8_lossy(&out.stderr);
    match parts.iter().find(|part| !text.contains(**part)) {
        _ if out.status.code() != Some(status) => Err(format!("{arguments:?}: {}: {text}", out.status).into()),
        Some(missing) => Err(format!("{arguments:?}: no {missing:?} in: {text}").into()),
        None => Ok(()),
    }
}

fn only_objects_are_interpreted() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("flow_log.sys");
    let (image, object) = (image.to_string_lossy(), path("flow_log"));
    let object = object.to_string_lossy();
    succeed(tool().args(["build", "-q", &object, "-o", &image]))?;
    fails(
        &["--interpret", &image],
        2,
        &["BPF9005", "holds no eBPF instructions", "the object it was built from"],
    )?;
    fails(&[&object], 2, &["BPF9005", "bpf2sys build", "--interpret"])?;
    fails(&[&image, "--type", "xdp"], 2, &["--interpret"])?;
    let text = folder.path().join("text");
    std::fs::write(&text, "neither")?;
    fails(&["--interpret", &text.to_string_lossy()], 3, &["BPF1001"])?;
    fails(&["--interpret", "nowhere.o"], 1, &["BPF9001", "nowhere.o"])?;
    let loaded = succeed(tool().args(["run", "--interpret", &object]))?;
    if !loaded.contains("loaded, checked and unloaded") {
        return Err(loaded.into());
    }
    Ok(())
}

fn an_unverified_object_is_not_run() -> Result<(), Failed> {
    let object = root().join("tests/fixtures/rejected/null_map_value.o");
    fails(&["--interpret", &object.to_string_lossy()], 4, &["BPF2"])
}

/// An object of which one instruction was changed: the first for which `choose` gives its new bytes.
fn broken(example: &str, choose: impl Fn(&Instruction, [u8; 8]) -> Option<[u8; 8]>) -> Result<ObjectFile, Failed> {
    let mut object = object_file(example)?;
    let module = bpf2sys_bytecode::read(&object.bytes, &object.name)?;
    let (offset, bytes) = changed(&module, &object.bytes, choose)?.ok_or("no instruction to change")?;
    object.bytes[offset..offset + 8].copy_from_slice(&bytes);
    Ok(object)
}

/// Where in the file, and the new bytes.
fn changed(
    module: &Module,
    bytes: &[u8],
    choose: impl Fn(&Instruction, [u8; 8]) -> Option<[u8; 8]>,
) -> Result<Option<(usize, [u8; 8])>, Failed> {
    let file = object::File::parse(bytes)?;
    for function in &module.functions {
        let section = file.section_by_name(&function.section).ok_or("no such section")?;
        let (start, _) = section.file_range().ok_or("a section without bytes")?;
        for insn in &function.instructions {
            let offset = usize::try_from(start + function.section_offset + 8 * u64::from(insn.slot))?;
            let old = bytes[offset..offset + 8].try_into()?;
            if let Some(new) = choose(&insn.op, old) {
                return Ok(Some((offset, new)));
            }
        }
    }
    Ok(None)
}

/// The bytes of a load or store with another offset.
fn with_offset(mut bytes: [u8; 8], offset: i16) -> [u8; 8] {
    bytes[2..4].copy_from_slice(&offset.to_le_bytes());
    bytes
}

/// The fault of the good driver of `udp_filter` when a broken object is interpreted instead, on a packet to port 53.
fn fault(object: ObjectFile, time_limit_ms: u64) -> Result<SimulatorError, Failed> {
    let good = object_file("udp_filter")?;
    let request = RunRequest {
        image: driver(&good)?,
        interpret: Some(object),
        inputs: vec![Input {
            program: "udp_filter".into(),
            packet: HexBytes(std::fs::read(root().join("examples/udp_filter/dns.bin"))?),
            ..Input::default()
        }],
        time_limit_ms,
        ..RunRequest::default()
    };
    match bpf2sys_simulator::run(&request) {
        Ok(report) => Err(format!("it ran: {report:?}").into()),
        Err(error) => Ok(error),
    }
}

fn wrong_accesses_are_located() -> Result<(), Failed> {
    type Choose = fn(&Instruction, [u8; 8]) -> Option<[u8; 8]>;
    let cases: [(Choose, &str, &str); 6] = [
        // The pointer to the packet, from the context.
        (
            |op, old| matches!(op, Instruction::Load { width: Width::Dw, .. }).then(|| with_offset(old, -8)),
            "it reads 8 bytes at the context header+0x38",
            "examples/udp_filter/udp_filter.c:178",
        ),
        (
            |op, old| matches!(op, Instruction::Load { width: Width::Dw, .. }).then(|| with_offset(old, 32)),
            "it reads 8 bytes at the guard page after the context+0x",
            "examples/udp_filter/udp_filter.c:178",
        ),
        // The type of the frame.
        (
            |op, old| matches!(op, Instruction::Load { width: Width::H, .. }).then(|| with_offset(old, 51)),
            "it reads 2 bytes at the packet+0x33, where 1 are left",
            "examples/udp_filter/udp_filter.c:149",
        ),
        // The key of the counters, on the stack.
        (
            |op, old| matches!(op, Instruction::Store { width: Width::W, .. }).then(|| with_offset(old, -516)),
            "it writes 4 bytes at 4 bytes below the running function's frame",
            "",
        ),
        (
            |op, _| matches!(op, Instruction::Call(_)).then_some([0x85, 0, 0, 0, 99, 0, 0, 0]),
            "helper-id: helper 99 is not in the program's table",
            "examples/udp_filter/udp_filter.c:",
        ),
        // r2 = *(u32 *)skb[0]
        (
            |op, _| matches!(op, Instruction::Load { .. }).then_some([0x20, 0, 0, 0, 0, 0, 0, 0]),
            "it belongs to the conformance group packet, which is not supported",
            "examples/udp_filter/udp_filter.c:178",
        ),
    ];
    for (choose, problem, line) in cases {
        match fault(broken("udp_filter", choose)?, 0)? {
            SimulatorError::Interpreted(fault) => check(&fault, problem, line)?,
            other => return Err(format!("{problem}: {other:?}").into()),
        }
    }
    Ok(())
}

fn check(fault: &InterpretedFault, problem: &str, line: &str) -> Result<(), Failed> {
    let text = fault.to_string();
    let parts = [
        "program udp_filter running: function udp_filter, instruction ",
        problem,
        line,
    ];
    match parts.iter().find(|part| !text.contains(**part)) {
        Some(missing) => Err(format!("no {missing:?} in: {text}").into()),
        None => Ok(()),
    }
}

fn an_endless_loop_is_stopped() -> Result<(), Failed> {
    let jump_to_itself = [0x05, 0, 0xFF, 0xFF, 0, 0, 0, 0];
    match fault(broken("udp_filter", |_, _| Some(jump_to_itself))?, 500)? {
        // Which of both comes first depends on the machine.
        SimulatorError::TimeOut(limit) if limit.limit_ms == 500 => Ok(()),
        SimulatorError::Interpreted(fault) => check(&fault, "did not end within 10000000 instructions", ""),
        other => Err(format!("{other:?}").into()),
    }
}

fn another_object_is_refused() -> Result<(), Failed> {
    for (object, why) in [
        (object_file("flow_log")?, "there is no program udp_filter in it"),
        (
            ObjectFile {
                name: "other.o".into(),
                ..object_file("udp_filter")?
            },
            "its maps are others",
        ),
        (
            ObjectFile {
                bytes: b"neither".to_vec(),
                ..object_file("udp_filter")?
            },
            "object",
        ),
    ] {
        match fault(object, 0)? {
            SimulatorError::Request(text) if text.contains(why) => {}
            other => return Err(format!("{why}: {other:?}").into()),
        }
    }
    Ok(())
}
