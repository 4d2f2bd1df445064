//! The text forms against the object, against another disassembler and against Cranelift's own reader.

use std::collections::BTreeMap;
use std::process::Command;

use bpf2sys_bytecode::FunctionKind;
use libtest_mimic::{Failed, Trial};

use super::{Everything, MACHINES, example};
use crate::examples::EXAMPLES;
use crate::support::{Need, succeed, test, test_with, tool};

const OBJDUMP: &str = "llvm-objdump-19";

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (position, example) in EXAMPLES.into_iter().enumerate() {
        trials.push(test(
            &format!("emit::ir_of_{example}_is_read_back_by_cranelift"),
            move || ir_is_read_back(position, example),
        ));
        trials.push(test(
            &format!("emit::listing_of_{example}_has_every_instruction_of_the_object"),
            move || every_instruction(position, example),
        ));
        trials.push(test_with(
            &format!("emit::listing_of_{example}_has_the_boundaries_of_{OBJDUMP}"),
            &[Need::Program(OBJDUMP)],
            move || same_boundaries(position, example),
        ));
    }
    trials
}

fn ir_is_read_back(position: usize, name: &str) -> Result<(), Failed> {
    let everything = Everything::of(position)?;
    for machine in MACHINES {
        let ir = everything.text(name, machine, "clif")?;
        let functions = cranelift_reader::parse_functions(&ir).map_err(|e| format!("{machine}: {e}"))?;
        let headings = listing(&everything.text(name, machine, "asm")?);
        let of_module = headings.values().filter(|function| function.of_module).count();
        assert_eq!(functions.len(), of_module);
    }
    Ok(())
}

/// A function of a listing.
#[derive(Default)]
struct Listed {
    /// Whether it is a program or subprogram.
    of_module: bool,
    /// Bytes of code, as the heading states.
    size: usize,
    /// Native instructions: offset and bytes.
    native: Vec<(usize, String)>,
    /// The slots of the eBPF instructions.
    slots: Vec<usize>,
    /// How many instructions are of inlined subprograms.
    inlined: usize,
}

/// The functions of a listing, by name.
fn listing(text: &str) -> BTreeMap<String, Listed> {
    let mut functions: BTreeMap<String, Listed> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        let size = line
            .split_once(" bytes of ")
            .and_then(|(before, _)| before.rsplit(' ').next());
        if let Some((name, what)) = line.split_once(": ")
            && let Some(size) = size
            && !line.starts_with(' ')
        {
            name.clone_into(&mut current);
            let function = functions.entry(current.clone()).or_default();
            function.size = size.parse().unwrap_or(0);
            function.of_module = what.starts_with("program") || what.starts_with("subprogram");
            continue;
        }
        let function = functions.entry(current.clone()).or_default();
        let start = if function.of_module { 48 } else { 2 };
        let (left, right) = line.split_at_checked(start).unwrap_or((line, ""));
        let slot = left.split_whitespace().next().unwrap_or_default();
        function.inlined += usize::from(slot.starts_with('^'));
        if let Ok(slot) = slot.parse() {
            function.slots.push(slot);
        }
        let mut words = right.split_whitespace();
        if let (Some(offset), Some(bytes)) = (words.next(), words.next())
            && let Ok(offset) = usize::from_str_radix(offset, 16)
        {
            function.native.push((offset, bytes.to_owned()));
        }
    }
    functions
}

/// Every eBPF instruction is in the listing once (or again in parentheses), and the native code has no gaps.
fn every_instruction(position: usize, name: &str) -> Result<(), Failed> {
    let object = std::fs::read(example(name))?;
    let module = bpf2sys_bytecode::read(&object, name)?;
    let everything = Everything::of(position)?;
    for machine in MACHINES {
        let functions = listing(&everything.text(name, machine, "asm")?);
        assert!(functions.contains_key("DriverEntry"), "no skeleton");
        for (name, listed) in &functions {
            let mut end = 0;
            for (offset, bytes) in &listed.native {
                assert_eq!(*offset, end, "{name} for {machine}");
                end += bytes.len() / 2;
            }
            assert_eq!(end, listed.size, "{name} for {machine}");
        }
        for function in &module.functions {
            let Some(listed) = functions.get(&function.name) else {
                // All calls of it were inlined: its instructions are in its callers.
                let inlined = functions.values().any(|caller| caller.inlined > 0);
                assert!(
                    function.kind == FunctionKind::Subprogram && inlined,
                    "no {}",
                    function.name
                );
                continue;
            };
            let mut slots = listed.slots.clone();
            slots.sort_unstable();
            let expected: Vec<usize> = function.instructions.iter().map(|insn| insn.slot as usize).collect();
            assert_eq!(slots, expected, "{} for {machine}", function.name);
        }
    }
    Ok(())
}

/// Another disassembler, reading the object file, finds instructions at the same offsets of each function. The code is without
/// Control Flow Guard, as in the object file.
fn same_boundaries(position: usize, name: &str) -> Result<(), Failed> {
    let everything = Everything::of(position)?;
    for machine in MACHINES {
        let mut build = tool();
        build.args(["build", "--cfg", "off", "--emit", "asm", "--arch", machine, "-o", "-"]);
        let ours = listing(&succeed(build.arg(example(name)))?);
        // By name, because they call what is at the start of a section by the section's name.
        let names: Vec<&str> = ours.keys().map(String::as_str).collect();
        let mut command = Command::new(OBJDUMP);
        command.arg(format!("--disassemble-symbols={}", names.join(",")));
        let theirs = objdump(&succeed(
            command
                .arg("--no-show-raw-insn")
                .arg(everything.path(name, machine, "obj")),
        )?);
        let mut compared = 0;
        for (function, listed) in &ours {
            let Some(theirs) = theirs.get(function) else {
                // The object file has another skeleton.
                assert!(!listed.of_module, "{OBJDUMP} does not see {function}");
                continue;
            };
            let ours: Vec<usize> = listed.native.iter().map(|(offset, _)| *offset).collect();
            // Behind the function they show padding.
            let theirs: Vec<usize> = theirs.iter().copied().filter(|offset| *offset < listed.size).collect();
            assert_eq!(ours, theirs, "{function} for {machine}");
            compared += 1;
        }
        assert!(compared > 0, "nothing to compare");
    }
    Ok(())
}

/// By function: the offsets of the instructions that `llvm-objdump` shows.
fn objdump(text: &str) -> BTreeMap<String, Vec<usize>> {
    let mut functions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let (mut current, mut start) = (String::new(), 0);
    let mut after_prefix = false;
    for line in text.lines() {
        if let Some((address, name)) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
            name.clone_into(&mut current);
            start = usize::from_str_radix(address, 16).unwrap_or(0);
        } else if let Some((address, instruction)) = line.trim_start().split_once(':')
            && let Ok(address) = usize::from_str_radix(address, 16)
        {
            // The prefix `lock` has a line of its own.
            if !after_prefix {
                functions.entry(current.clone()).or_default().push(address - start);
            }
            after_prefix = instruction.trim() == "lock";
        }
    }
    functions
}
