//! Our reading of objects against readers that this project did not write: PREVAIL's loader and LLVM's disassembler.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpf2sys_bytecode::{
    Callee, Function, FunctionIndex, Instruction, MapOrigin, Module, NoReferences, Reference, Slot, decode, encode,
    read,
};
use libtest_mimic::{Failed, Trial};
use prevail::elf_loader::read_elf;
use prevail::ir::unmarshal::unmarshal;
use prevail::linux::linux_platform::LinuxPlatform;
use prevail::spec::config::EbpfVerifierOptions;
use prevail::spec::type_descriptors::{EbpfMapDescriptor, ProgramInfo, RawProgram};
use prevail::spec::vm_isa::EbpfInst;

use crate::support::{Need, corpus, root, succeed, test, test_with};

pub fn trials() -> Vec<Trial> {
    let mut all = vec![
        test("reading::fixtures_as_prevail_does", || {
            compare_folder(&root().join("compiler/bytecode/tests/fixtures"))
        }),
        test("reading::examples_as_prevail_does", || {
            compare_folder(&root().join("examples"))
        }),
        test("reading::takes_the_encodings_that_prevail_takes", same_encodings),
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

/// Objects that we refuse: what our message says, and what PREVAIL's loader makes of them.
const REFUSED: [(&str, &str, &str); 8] = [
    (
        "common.o",
        "a variable without a place in a section",
        "PREVAIL takes the symbol's section number for that of a map section, and fails",
    ),
    (
        "ld_r.o",
        "put together by a linker that does not know eBPF",
        "PREVAIL looks for all maps in the types of the first translation unit, and fails",
    ),
    (
        "badrelo.o",
        "the value's type is empty",
        "PREVAIL finds the same fault, then takes the BTF-defined map for a record of a legacy section, all zeros: a map \
         that the source does not define",
    ),
    (
        "externalfunction.o",
        "`bpf_map_lookup_elem`: the function is not defined in this object",
        "PREVAIL calls the Linux helper that has the undefined function's name",
    ),
    (
        "unresolved.o",
        "`elsewhere`: the function is not defined in this object",
        "PREVAIL assumes for Linux that any undefined function exists somewhere",
    ),
    (
        "relocatable.o",
        "CO-RE relocations",
        "PREVAIL applies CO-RE relocations against the object's own types; we do not apply them yet",
    ),
    (
        "address.o",
        "a global variable is initialised with an address",
        "PREVAIL ignores relocations of data, so the program would see a pointer that is zero",
    ),
    (
        "callback.o",
        "the address of a function is taken",
        "PREVAIL leaves the `lddw` unrelocated, so the program would see the number zero",
    ),
];

/// Objects that we read and PREVAIL's loader refuses: what its message says, and why we differ.
const READ_BY_US_ALONE: [(&str, &str, &str); 5] = [
    ("ksyms.o", UNRESOLVED, FOREIGN),
    (
        "units/named_ld_r.o",
        "",
        "PREVAIL reads the types of the first translation unit only",
    ),
    ("units/named_together.o", UNRESOLVED, FOREIGN),
    ("units/linked.o", UNRESOLVED, FOREIGN),
    ("units/together.o", UNRESOLVED, FOREIGN),
];
const UNRESOLVED: &str = "Unresolved symbols found";
const FOREIGN: &str =
    "PREVAIL asks its platform for functions of `.ksyms`, and its Linux platform knows those of Linux";

/// Programs that PREVAIL's loader takes together with what follows them in their section: a call of a function in the
/// same section needs no relocation, and PREVAIL then takes everything up to the callee's end for the program, where we
/// keep functions apart.
const TAKEN_TOGETHER: [(&str, &str); 1] = [("apart.o", "caller")];

/// The objects in a folder and those below it.
fn objects(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "o") {
                files.push(path);
            }
        }
    }
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
        let refused = REFUSED.iter().find(|(file, ..)| *file == name);
        let ours_alone = READ_BY_US_ALONE.iter().find(|(suffix, ..)| file.ends_with(suffix));
        let result = match (ours, theirs, refused) {
            (Ok(_), Err(theirs), None) if ours_alone.is_some_and(|(_, message, _)| theirs.contains(message)) => Ok(()),
            (Ok(ours), Ok(theirs), None) => compare(&name, &ours, &theirs),
            (Err(ours), _, Some((_, message, _))) if ours.to_string().contains(message) => Ok(()),
            (ours, theirs, _) => Err(format!(
                "ours {:?}, PREVAIL {:?}",
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
fn compare(file: &str, ours: &Module, theirs: &[RawProgram]) -> Result<(), String> {
    let names = |f: &Function| (f.section.clone(), f.name.clone(), f.section_offset);
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
        let code = if TAKEN_TOGETHER.contains(&(file, &program.function_name)) {
            in_place(ours, index, &descriptors, program.prog.len())
        } else {
            linked(ours, index, &descriptors)
        };
        let code: Vec<[u8; 8]> = code.into_iter().map(Slot::to_bytes).collect();
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

/// As many slots of a function's section as given, from the function's first on; calls stay inside the section.
fn in_place(module: &Module, index: FunctionIndex, descriptors: &[i32], length: usize) -> Vec<Slot> {
    let slot = |function: &Function| i32::try_from(function.section_offset / 8).unwrap();
    let section = &module.function(index).section;
    let mut code = Vec::new();
    for function in module.functions[index.index()..]
        .iter()
        .filter(|f| f.section == *section)
    {
        for insn in &function.instructions {
            let next = slot(function) + i32::try_from(insn.slot).unwrap() + 1;
            code.extend(encode(&insn.op, |reference| match reference {
                Reference::Function(callee) => slot(module.function(callee)) - next,
                other => descriptor(module, descriptors, other),
            }));
        }
    }
    code.truncate(length);
    code
}

/// PREVAIL's number for what an instruction refers to; that of a function is set when its place is known.
fn descriptor(module: &Module, descriptors: &[i32], reference: Reference) -> i32 {
    match reference {
        Reference::Map(map) => descriptors[map.index()],
        Reference::Global(global) => descriptors[module.globals[global.index()].map.index()],
        Reference::Function(_) | Reference::BtfFunction(_) => 0,
    }
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
        code.extend(encode(&insn.op, |reference| descriptor(module, descriptors, reference)));
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
            MapOrigin::Anonymous | MapOrigin::Record(_) => ("", map.definition.map_type),
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

/// Decodes every opcode with telling values of the other fields, by our decoder and by PREVAIL's.
fn same_encodings() -> Result<(), Failed> {
    const REGISTERS: [u8; 6] = [0, 1, 2, 10, 11, 15];
    const OFFSETS: [i16; 7] = [0, 1, 2, 8, 16, 32, -1];
    const IMMEDIATES: [i32; 18] = [
        0, 1, 2, 8, 16, 32, 64, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe0, 0xe1, 0xf0, 0xf1, -1,
    ];
    let mut report = String::new();
    let (mut compared, mut accepted) = (0, 0);
    for opcode in 0..=u8::MAX {
        for (dst, src) in REGISTERS.iter().flat_map(|dst| REGISTERS.map(|src| (*dst, src))) {
            for (offset, imm) in OFFSETS.iter().flat_map(|offset| IMMEDIATES.map(|imm| (*offset, imm))) {
                let slot = Slot {
                    opcode,
                    dst,
                    src,
                    offset,
                    imm,
                };
                // Which helpers there are, and where local calls may go, is not a matter of encoding.
                if opcode == 0x85 && src < 2 {
                    continue;
                }
                let (ours, theirs) = (we_decode(slot), prevail_decodes(slot));
                compared += 1;
                accepted += u32::from(ours);
                if ours != theirs && !differs_with_reason(slot, ours) {
                    let _ = writeln!(report, "{slot:?}: ours {ours}, PREVAIL {theirs}");
                }
            }
        }
    }
    if compared < 500_000 || accepted < 10_000 {
        return Err(format!("only {accepted} of {compared} encodings are valid").into());
    }
    if report.is_empty() { Ok(()) } else { Err(report.into()) }
}

/// Encodings that only one of the two takes, and why.
fn differs_with_reason(slot: Slot, ours: bool) -> bool {
    let is_atomic = matches!(slot.opcode, 0xc3 | 0xdb);
    let returns_in_src = slot.imm & 1 == 1 && slot.imm != 0xf1;
    // PREVAIL lets `lddw` and atomics that return the old value write the frame pointer, which is read-only.
    let writes_r10 = (slot.opcode == 0x18 && slot.dst == 10) || (is_atomic && returns_in_src && slot.src == 10);
    // RFC 9669 §4.1 has the sign-extending move from 32 bits only for 64-bit destinations.
    let extends_32_to_32 = slot.opcode == 0xbc && slot.offset == 32;
    // RFC 9669 §4.3.1 has no offset for calls; Linux names the module of a kernel function with it.
    let is_call_with_offset = slot.opcode == 0x85 && slot.offset != 0;
    // Ids of BTF types name functions of the running Linux kernel.
    let is_call_by_btf_id = slot.opcode == 0x85 && slot.src == 2;
    !ours && (writes_r10 || extends_32_to_32 || is_call_with_offset || is_call_by_btf_id)
}

fn exits() -> [Slot; 3] {
    let exit = Slot {
        opcode: 0x95,
        ..Slot::default()
    };
    [exit; 3]
}

/// The slot in the middle of some code, so that short jumps stay inside.
fn surrounded(slot: Slot) -> Vec<Slot> {
    let second_half = (slot.opcode == 0x18).then(Slot::default);
    [slot].into_iter().chain(second_half).chain(exits()).collect()
}

fn we_decode(slot: Slot) -> bool {
    decode(&surrounded(slot), &NoReferences).is_ok()
}

fn prevail_decodes(slot: Slot) -> bool {
    let code: Vec<EbpfInst> = surrounded(slot)
        .into_iter()
        .map(|s| EbpfInst::new(s.opcode, s.dst, s.src, s.offset, s.imm))
        .collect();
    let options = EbpfVerifierOptions::default();
    unmarshal(
        &code,
        &mut Vec::new(),
        &ProgramInfo::default(),
        &LinuxPlatform::new(),
        &options,
    )
    .is_ok()
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

/// Holds our text against LLVM's for every instruction that LLVM can assemble.
fn prints_as_objdump() -> Result<(), Failed> {
    let object = root().join("compiler/bytecode/tests/fixtures/instructions.o");
    let listing = |attributes: &str| -> Result<Vec<(Vec<u8>, String)>, Failed> {
        let mut command = Command::new("llvm-objdump-19");
        let listing = succeed(command.args(["-d", attributes]).arg(&object))?;
        Ok(listing.lines().filter_map(listed_instruction).collect())
    };
    let theirs = listing("--mattr=-alu32")?;
    // Only with that feature are all 32-bit atomics known.
    let theirs_alu32 = listing("--mattr=+alu32")?;
    let code: Vec<u8> = theirs.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    let slots = Slot::all_from_bytes(&code).ok_or("the listing has no whole number of slots")?;
    let ours = decode(&slots, &NoReferences).map_err(|e| e.to_string())?;
    if ours.len() != theirs.len() || ours.len() < 80 {
        return Err(format!("ours {} instructions, llvm-objdump {}", ours.len(), theirs.len()).into());
    }
    let mut report = String::new();
    for ((insn, (_, theirs)), (_, theirs_alu32)) in ours.iter().zip(&theirs).zip(&theirs_alu32) {
        let is_atomic = matches!(insn.op, Instruction::Atomic { .. });
        let expected = if is_atomic { theirs_alu32 } else { theirs };
        let text = insn.op.to_string();
        if normal(&text) != normal(expected) {
            let _ = writeln!(report, "slot {}: ours {text:?}, llvm-objdump {expected:?}", insn.slot);
        }
    }
    if report.is_empty() { Ok(()) } else { Err(report.into()) }
}

/// Bytes and text of a line like `   3:\t0f 21 00 00 00 00 00 00\tr1 += r2 <label>`.
fn listed_instruction(line: &str) -> Option<(Vec<u8>, String)> {
    let mut columns = line.split('\t');
    columns.next()?.trim().strip_suffix(':')?.parse::<u32>().ok()?;
    let bytes: Option<Vec<u8>> = columns
        .next()?
        .split_whitespace()
        .map(|b| u8::from_str_radix(b, 16).ok())
        .collect();
    let text = columns.next()?;
    // The name of a jump's target.
    let text = text.rsplit_once(" <l").map_or(text, |(text, _)| text);
    Some((bytes?, text.to_owned()))
}

/// The text with numbers in decimal and no spaces. Register names stay as they are.
fn normal(text: &str) -> String {
    let spaced = text.replace("0x", " 0x");
    let words = spaced.split_whitespace().map(|word| {
        let end = word
            .strip_prefix("0x")
            .and_then(|digits| digits.find(|c: char| !c.is_ascii_hexdigit()))
            .map_or(word.len(), |end| end + 2);
        let (number, rest) = word.split_at(end);
        match number.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16)) {
            Some(Ok(number)) => format!("{number}{rest}"),
            _ => word.to_owned(),
        }
    });
    words.collect()
}
