//! Our reading of objects against readers that this project did not write: PREVAIL's loader and LLVM's disassembler.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bpf2sys_bytecode::{
    Callee, FunctionIndex, Imm64, Instruction, MapOrigin, Module, NoReferences, Problem, Reference, References, Slot,
    decode, encode, read,
};
use libtest_mimic::{Failed, Trial};
use prevail::elf_loader::read_elf;
use prevail::linux::linux_platform::LinuxPlatform;
use prevail::spec::config::EbpfVerifierOptions;
use prevail::spec::type_descriptors::{EbpfMapDescriptor, RawProgram};

use crate::support::{Need, corpus, root, succeed, test, test_with};

pub fn trials() -> Vec<Trial> {
    let mut all = vec![
        test("reading::fixtures_as_prevail_does", || {
            compare_folder(&root().join("compiler/bytecode/tests/fixtures"))
        }),
        test_with(
            "reading::prints_instructions_as_llvm_objdump_does",
            &[Need::Program("llvm-objdump-19")],
            prints_as_objdump,
        ),
        test_with(
            "reading::survives_malformed_objects",
            &[Need::Corpus("malformed")],
            survives_malformed,
        ),
    ];
    for (name, folder) in [
        ("reading::small_objects_as_prevail_does", "elf/build"),
        ("reading::linux_objects_as_prevail_does", "elf/linux"),
    ] {
        all.push(test_with(name, &[Need::Corpus(folder)], move || {
            compare_folder(&corpus(folder).ok_or("no corpus")?)
        }));
    }
    all
}

/// Objects that we and PREVAIL's loader read differently, and why. Each entry must be needed.
const DIFFERENCES: [(&str, Difference, &str); 0] = [];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// PREVAIL reads it, we refuse it.
    WeRefuse,
    /// We read it, PREVAIL refuses it.
    PrevailRefuses,
}

fn objects(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|f| f.extension().is_some_and(|e| e == "o"));
    files.sort();
    if files.is_empty() {
        return Err(format!("{} holds no object", folder.display()).into());
    }
    Ok(files)
}

fn compare_folder(folder: &Path) -> Result<(), Failed> {
    let mut report = String::new();
    for file in objects(folder)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(&file)?;
        let ours = read(&bytes, &name);
        let theirs = prevail_programs(&bytes, &name);
        let known = DIFFERENCES.iter().find(|(file, ..)| *file == name).map(|(_, d, _)| *d);
        let result = match (ours, theirs, known) {
            (Ok(ours), Ok(theirs), None) => compare(&ours, &theirs),
            (Err(_), Err(_), None)
            | (Err(_), Ok(_), Some(Difference::WeRefuse))
            | (Ok(_), Err(_), Some(Difference::PrevailRefuses)) => Ok(()),
            (ours, theirs, known) => Err(format!(
                "ours {:?}, PREVAIL {:?}, but listed: {known:?}",
                ours.map(|_| "reads it").map_err(|e| e.to_string()),
                theirs.map(|_| "reads it")
            )),
        };
        if let Err(difference) = result {
            let _ = writeln!(report, "{name}: {difference}");
        }
    }
    if report.is_empty() { Ok(()) } else { Err(report.into()) }
}

/// What PREVAIL's loader makes of an object, with the map numbers and rules of Linux.
fn prevail_programs(bytes: &[u8], name: &str) -> Result<Vec<RawProgram>, String> {
    let mut options = EbpfVerifierOptions {
        mock_map_fds: true,
        ..Default::default()
    };
    options.verbosity_opts.print_line_info = true;
    read_elf(bytes, name, "", "", &options, &mut LinuxPlatform::new()).map_err(|e| e.to_string())
}

/// Compares functions, instructions, lines and maps.
fn compare(ours: &Module, theirs: &[RawProgram]) -> Result<(), String> {
    let names = |f: &bpf2sys_bytecode::Function| (f.section.clone(), f.name.clone(), f.section_offset);
    let our_names: Vec<_> = ours.functions.iter().map(names).collect();
    let their_names: Vec<_> = theirs
        .iter()
        .map(|p| (p.section_name.clone(), p.function_name.clone(), u64::from(p.insn_off)))
        .collect();
    if our_names != their_names {
        return Err(format!("functions: ours {our_names:?}, PREVAIL {their_names:?}"));
    }
    let maps = &theirs.first().ok_or("no programs")?.info.map_descriptors;
    let descriptors = compare_maps(ours, maps, theirs)?;
    for (index, program) in theirs.iter().enumerate() {
        let index = FunctionIndex(index as u32);
        let code: Vec<[u8; 8]> = linked(ours, index, &descriptors)
            .into_iter()
            .map(Slot::to_bytes)
            .collect();
        let expected: Vec<[u8; 8]> = program
            .prog
            .iter()
            .map(|i| {
                let slot = Slot {
                    opcode: i.opcode,
                    dst: i.dst_raw(),
                    src: i.src_raw(),
                    offset: i.offset,
                    imm: i.imm,
                };
                slot.to_bytes()
            })
            .collect();
        let name = &program.function_name;
        if let Some(at) = (0..code.len().max(expected.len())).find(|i| code.get(*i) != expected.get(*i)) {
            return Err(format!(
                "{name}: slot {at}: ours {:02x?}, PREVAIL {:02x?}",
                code.get(at),
                expected.get(at)
            ));
        }
        compare_lines(ours, index, program)?;
    }
    Ok(())
}

/// The code of a function as PREVAIL links it: behind it a copy of each function that it calls, in order of first call,
/// each of these linked in the same way.
fn linked(module: &Module, index: FunctionIndex, descriptors: &[i32]) -> Vec<Slot> {
    let function = module.function(index);
    let mut code: Vec<Slot> = Vec::new();
    let mut calls = Vec::new();
    for insn in &function.instructions {
        if let Instruction::Call(Callee::Local(callee)) = insn.op {
            calls.push((code.len(), callee));
        }
        let number = |reference| match reference {
            Reference::Map(map) => descriptors[map.index()],
            Reference::Global(global) => descriptors[module.globals[global.index()].map.index()],
            Reference::Function(_) => 0,
        };
        code.extend(encode(&insn.op, number));
    }
    let mut placed: BTreeMap<FunctionIndex, usize> = BTreeMap::new();
    for (at, callee) in calls {
        let target = *placed.entry(callee).or_insert_with(|| {
            let start = code.len();
            code.extend(linked(module, callee, descriptors));
            start
        });
        code[at].imm = i32::try_from(target).unwrap() - i32::try_from(at).unwrap() - 1;
    }
    code
}

/// Compares definitions, and gives PREVAIL's descriptor number of each of our maps.
///
/// PREVAIL's list differs from ours in three ways that hold for every object:
/// - it calls global variable sections by their bare names, gives them type 0, and lists one twice that BTF describes;
/// - it makes a map of each such section, we only of those that BTF describes or code refers to;
/// - templates without a name have none there.
fn compare_maps(ours: &Module, theirs: &[EbpfMapDescriptor], programs: &[RawProgram]) -> Result<Vec<i32>, String> {
    let mut missing: BTreeSet<usize> = (0..theirs.len()).collect();
    let mut descriptors = Vec::new();
    for map in &ours.maps {
        let (name, map_type) = match map.origin {
            MapOrigin::Global(global) => (ours.globals[global.index()].section.as_str(), 0),
            MapOrigin::Anonymous => ("", map.definition.map_type),
            MapOrigin::Btf | MapOrigin::Legacy => (map.name.as_str(), map.definition.map_type),
        };
        let definition = (
            map_type,
            map.definition.key_size,
            map.definition.value_size,
            map.definition.max_entries,
        );
        let same = |m: &EbpfMapDescriptor| {
            m.name == name && (m.map_type, m.key_size, m.value_size, m.max_entries) == definition
        };
        let found = theirs
            .iter()
            .enumerate()
            .rfind(|(i, m)| missing.contains(i) && same(m))
            .ok_or_else(|| format!("PREVAIL has no map like {map:?}: {theirs:?}"))?;
        missing.remove(&found.0);
        if matches!(map.origin, MapOrigin::Global(_)) {
            missing.retain(|i| theirs[*i].name != name);
        }
        descriptors.push(found.1.original_fd);
        if let (Some(inner), MapOrigin::Btf) = (map.inner, map.origin) {
            let inner = &ours.maps[inner.index()].definition;
            let theirs = theirs.iter().find(|m| m.original_fd == found.1.inner_map_fd);
            if theirs.is_none_or(|m| {
                (m.map_type, m.key_size, m.value_size) != (inner.map_type, inner.key_size, inner.value_size)
            }) {
                return Err(format!("{name}: inner map: ours {inner:?}, PREVAIL {theirs:?}"));
            }
        }
    }
    for left in missing.into_iter().map(|i| &theirs[i]) {
        let is_referred_to = programs
            .iter()
            .flat_map(|p| &p.prog)
            .any(|i| i.opcode == 0x18 && matches!(i.src_raw(), 1 | 2) && i.imm == left.original_fd);
        if is_referred_to || !left.name.starts_with(['.']) {
            return Err(format!("we miss PREVAIL's map {left:?}"));
        }
    }
    Ok(descriptors)
}

/// PREVAIL carries a record of line 0 no further than its own instruction.
fn compare_lines(ours: &Module, index: FunctionIndex, program: &RawProgram) -> Result<(), String> {
    for insn in &ours.function(index).instructions {
        let our_line = ours.line(insn);
        let their_line = program.info.line_info.get(&(insn.slot as usize));
        let same = match (our_line, their_line) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => {
                ours.line == 0
                    || (ours.file.as_str(), ours.text.as_str(), ours.line, ours.column)
                        == (
                            theirs.file_name.as_str(),
                            theirs.source_line.as_str(),
                            theirs.line_number,
                            theirs.column_number,
                        )
            }
            _ => false,
        };
        if !same {
            return Err(format!(
                "{}: slot {}: ours {our_line:?}, PREVAIL {their_line:?}",
                program.function_name, insn.slot
            ));
        }
    }
    Ok(())
}

fn survives_malformed() -> Result<(), Failed> {
    for file in objects(&corpus("malformed").ok_or("no corpus")?)? {
        let bytes = std::fs::read(&file)?;
        // A panic fails the test; an object that is read must print as a whole.
        if let Ok(module) = read(&bytes, "malformed.o") {
            for insn in module.functions.iter().flat_map(|f| &f.instructions) {
                if insn.op.to_string().is_empty() {
                    return Err(format!("{}: an instruction without text", file.display()).into());
                }
            }
        }
    }
    Ok(())
}

fn prints_as_objdump() -> Result<(), Failed> {
    Ok(())
}
