//! Which look-ups in arrays the code does in place (native module contract §6.7), by the listing: a helper call that became
//! no call of the native code. Where they are is up to the source; which maps they are in, and in which order, is known.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{Callee, Function, Imm64, Instruction, MapIndex, Module, Reg};
use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::compare::Difference;
use super::fixture;

const MAP_LOOKUP_ELEM: i32 = 1;

/// Differences of the look-ups that each program does in place.
pub fn differences(module: &str, listing: &str, facts: &Value) -> Result<Vec<Difference>, Failed> {
    let object = std::fs::read(fixture(module, "o"))?;
    let object = bpf2sys_bytecode::read(&object, &format!("{module}.o"))?;
    let called = calls(listing);
    let mut differences = Vec::new();
    for (index, program) in facts["programs"].as_array().ok_or("no programs")?.iter().enumerate() {
        let name = program["name"].as_str().ok_or("a program without a name")?;
        let function = object.functions.iter().find(|f| f.name == name);
        let function = function.ok_or_else(|| format!("no program {name}"))?;
        let called = called
            .get(name)
            .ok_or_else(|| format!("{name} is not in the listing"))?;
        let wanted = program["inlined_array_lookups"].as_array().ok_or("no look-ups")?;
        let got = in_place(&object, function, called)?;
        if got != *wanted {
            differences.push(Difference {
                pointer: format!("/programs/{index}/inlined_array_lookups"),
                text: format!("{}, not {}", Value::Array(got), Value::Array(wanted.clone())),
            });
        }
    }
    Ok(differences)
}

/// By function of a listing: the slots of the eBPF instructions that became a call.
fn calls(listing: &str) -> BTreeMap<String, BTreeSet<u32>> {
    let mut called: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    let (mut function, mut slot) = (None, None);
    for line in listing.lines() {
        if let Some((name, _)) = line.split_once(": program of section ") {
            called.entry(name.to_owned()).or_default();
            (function, slot) = (Some(name.to_owned()), None);
        } else if line
            .split_once(": ")
            .is_some_and(|(name, _)| !name.contains([' ', ';']))
        {
            function = None; // of another kind
        }
        // The margin has the slot of an eBPF instruction, in parentheses where it was shown before.
        if let Some(margin) = line.get(..6).map(str::trim).filter(|margin| !margin.is_empty()) {
            slot = margin.trim_matches(['(', ')']).parse().ok();
        }
        // Mnemonics of native instructions are padded; those of eBPF are not.
        let is_call = line.contains("  call    ") || line.ends_with("  blr     x6");
        if let (true, Some(function), Some(slot)) = (is_call, &function, slot) {
            called.entry(function.clone()).or_default().insert(slot);
        }
    }
    called
}

/// The look-ups of a program that are not called, in the order of instructions. All other helper calls must be.
fn in_place(module: &Module, program: &Function, called: &BTreeSet<u32>) -> Result<Vec<Value>, Failed> {
    let mut map: Option<MapIndex> = None;
    let mut found = Vec::new();
    for insn in &program.instructions {
        match insn.op {
            Instruction::LoadImm64 {
                dst: Reg::R1,
                value: Imm64::Map(loaded),
            } => map = Some(loaded),
            Instruction::Call(Callee::Helper(id)) if !called.contains(&insn.slot) => {
                let index = map.filter(|_| id == MAP_LOOKUP_ELEM).ok_or_else(|| {
                    format!(
                        "{}: the call of helper {id} at {} is not in the code",
                        program.name, insn.slot
                    )
                })?;
                let definition = &module.maps[index.index()].definition;
                found.push(json!({
                    "map_index": index.index(),
                    "max_entries": definition.max_entries,
                    "value_size": definition.value_size,
                }));
            }
            _ => {}
        }
    }
    Ok(found)
}
