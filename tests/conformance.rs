//! Instructions: the cases of the `bpf_conformance` suite and cases of our own in its format, executed by every engine.

use std::fs;
use std::path::Path;

use bpf2sys_bytecode::{Imm64, Instruction, Map, MapDefinition, MapIndex, MapOrigin, read_instructions};
use bpf2sys_codegen::Options;
use bpf2sys_isa_tests::{
    Case, CaseFile, Engine, ImageEngine, InterpreterEngine, Placement, VerifiedEngine, assemble_text,
};
use bpf2sys_pe_emit::Machine;
use bpf2sys_verifier::Verifier;
use libtest_mimic::{Failed, Trial};

use crate::support::{Need, corpus, root, test, test_with};

/// The suite's cases that are refused, each because of its conformance group.
const REFUSED: [(&str, &str); 1] = [("callx", "conformance group `callx`")];

/// A folder of the corpus.
const SUITE: &str = "conformance";

/// Who executes the cases.
#[derive(Clone)]
struct Executor {
    name: &'static str,
    /// How the product lowers; `None` for the interpreter.
    lowering: Option<(Options, Placement)>,
}

impl Executor {
    fn all() -> Vec<Executor> {
        let arm64 = Options {
            machine: Machine::Arm64,
            ..Options::default()
        };
        let extended = Options {
            lse: true,
            sign_return_address: true,
            ..arm64.clone()
        };
        let image = |name, options: &Options, placement| Executor {
            name,
            lowering: Some((options.clone(), placement)),
        };
        vec![
            Executor {
                name: "interpreter",
                lowering: None,
            },
            image("x64", &Options::default(), Placement::Program),
            image("x64_subprograms", &Options::default(), Placement::Subprogram),
            image("arm64", &arm64, Placement::Program),
            image("arm64_subprograms", &arm64, Placement::Subprogram),
            image(
                "arm64_with_lse_and_signed_return_addresses",
                &extended,
                Placement::Program,
            ),
        ]
    }

    fn needs(&self) -> Vec<Need> {
        match &self.lowering {
            Some((options, _)) if options.machine == Machine::Arm64 => vec![Need::Emulator],
            _ => Vec::new(),
        }
    }

    /// Images run on x86-64 Linux only, those for ARM64 too.
    fn is_possible(&self) -> bool {
        self.lowering.is_none() || cfg!(all(target_os = "linux", target_arch = "x86_64"))
    }

    fn engine(&self) -> Box<dyn Engine> {
        match self.lowering.clone() {
            Some((options, placement)) => Box::new(ImageEngine::new(self.name, options, placement)),
            None => Box::new(InterpreterEngine::default()),
        }
    }
}

/// Name and body of the tests that every executor passes.
type Body = fn(&mut dyn Engine) -> Result<(), Failed>;
const BODIES: [(&str, &[Need], Body); 4] = [
    ("suite_passes", &[Need::Corpus(SUITE)], suite_passes),
    ("our_cases_pass", &[], our_cases_pass),
    ("a_bad_case_harms_no_other", &[], a_bad_case_harms_no_other),
    ("jumps_reach_far", &[], jumps_reach_far),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for executor in Executor::all().into_iter().filter(Executor::is_possible) {
        for (name, needs, body) in BODIES {
            let needs = [executor.needs().as_slice(), needs].concat();
            let executor = executor.clone();
            trials.push(test_with(
                &format!("conformance::{name}_on_{}", executor.name),
                &needs,
                move || body(&mut *executor.engine()),
            ));
        }
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        trials.push(test(
            "conformance::an_endless_case_harms_no_other",
            an_endless_case_harms_no_other,
        ));
    }
    // PREVAIL proves less of them, and the code is right all the same.
    for (name, verifier, machine, placement, needs) in [
        ("x64", Verifier::Native, Machine::X64, Placement::Program, &[][..]),
        (
            "x64_subprograms",
            Verifier::Native,
            Machine::X64,
            Placement::Subprogram,
            &[],
        ),
        (
            "x64_by_prevail",
            Verifier::Prevail,
            Machine::X64,
            Placement::Program,
            &[],
        ),
        (
            "arm64",
            Verifier::Native,
            Machine::Arm64,
            Placement::Program,
            &[Need::Emulator],
        ),
        (
            "arm64_subprograms",
            Verifier::Native,
            Machine::Arm64,
            Placement::Subprogram,
            &[Need::Emulator],
        ),
        (
            "arm64_by_prevail",
            Verifier::Prevail,
            Machine::Arm64,
            Placement::Program,
            &[Need::Emulator],
        ),
    ] {
        if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            trials.push(test_with(
                &format!("conformance::proven_cases_pass_on_{name}"),
                needs,
                move || {
                    let options = Options {
                        machine,
                        ..Options::default()
                    };
                    let image = ImageEngine::new(name, options, placement);
                    let files = read_folder(&root().join("tests/isa/proven"))?;
                    let mut engine = VerifiedEngine::new(name, image).verified_by(verifier);
                    none(failures(&files, &[], &mut engine)?)
                },
            ));
        }
    }
    for (name, machine, needs) in [
        ("x64", Machine::X64, &[][..]),
        ("arm64", Machine::Arm64, &[Need::Emulator]),
    ] {
        if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            trials.push(test_with(
                &format!("conformance::lookups_in_place_are_asked_both_ways_on_{name}"),
                needs,
                move || lookups_in_place_are_asked_both_ways(name, machine),
            ));
        }
    }
    trials.push(test_with(
        "conformance::suite_assembles_and_encodes_again",
        &[Need::Corpus(SUITE)],
        || assembles_and_encodes_again(&corpus(SUITE).ok_or("no corpus")?),
    ));
    trials.push(test("conformance::our_cases_assemble_and_encode_again", || {
        assembles_and_encodes_again(&our_folder())
    }));
    trials
}

fn our_folder() -> std::path::PathBuf {
    root().join("tests/isa/cases")
}

/// All case files of a folder, by name.
fn read_folder(folder: &Path) -> Result<Vec<(String, CaseFile)>, Failed> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "data") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let case = CaseFile::read(&fs::read_to_string(&path)?).map_err(|e| format!("{}: {e}", path.display()))?;
            cases.push((name, case));
        }
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    if cases.is_empty() {
        return Err(format!("no cases in {}", folder.display()).into());
    }
    Ok(cases)
}

fn case(file: &CaseFile) -> Result<Case, Failed> {
    Ok(Case {
        module: read_instructions(&file.code, "case")?,
        memory: file.memory.clone(),
    })
}

/// Runs cases together and gives one line for each that fails.
fn failures(files: &[(String, CaseFile)], refused: &[(&str, &str)], engine: &mut dyn Engine) -> Result<String, Failed> {
    let cases: Vec<Case> = files.iter().map(|(_, file)| case(file)).collect::<Result<_, _>>()?;
    let mut failures = Vec::new();
    for ((name, file), outcome) in files.iter().zip(engine.run(&cases)) {
        let refusal = refused.iter().find(|(n, _)| n == name).map(|(_, why)| *why);
        let outcome = outcome.map(|outcome| outcome.r0);
        let expected = match (refusal, &outcome) {
            (Some(why), Err(message)) if message.contains(why) => continue,
            (None, Ok(r0)) if Some(*r0) == file.result => continue,
            (Some(why), _) => format!("a refusal because of {why}"),
            (None, _) => format!("r0 = {:#x}", file.result.unwrap_or_default()),
        };
        let found = outcome.map_or_else(|message| message, |r0| format!("r0 = {r0:#x}"));
        failures.push(format!("{name}: {found}; expected {expected}"));
    }
    Ok(failures.join("\n"))
}

fn none(failures: String) -> Result<(), Failed> {
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.into())
    }
}

fn suite_passes(engine: &mut dyn Engine) -> Result<(), Failed> {
    let files = read_folder(&corpus(SUITE).ok_or("no corpus")?)?;
    for (name, _) in REFUSED {
        if !files.iter().any(|(n, _)| n == name) {
            return Err(format!("there is no case {name}").into());
        }
    }
    none(failures(&files, &REFUSED, engine)?)
}

fn our_cases_pass(engine: &mut dyn Engine) -> Result<(), Failed> {
    none(failures(&read_folder(&our_folder())?, &[], engine)?)
}

/// Faults, endless loops and refusals stay with the case that causes them, though all cases share an image.
fn a_bad_case_harms_no_other(engine: &mut dyn Engine) -> Result<(), Failed> {
    let good = "mov %r0, 7\nexit";
    let faults = "mov %r2, 0\nldxdw %r0, [%r2]\nexit";
    let refused = "call 12345\nexit"; // no such helper
    let outcomes = engine.run(&assembled(&[good, faults, good, refused, good])?);
    let fine: Vec<bool> = outcomes.iter().map(|o| o.as_ref().is_ok_and(|o| o.r0 == 7)).collect();
    let bad: Vec<bool> = outcomes.iter().map(Result::is_err).collect();
    if fine != [true, false, true, false, true] || bad != [false, true, false, true, false] {
        return Err(format!("{outcomes:?}").into());
    }
    Ok(())
}

fn an_endless_case_harms_no_other() -> Result<(), Failed> {
    let good = "mov %r0, 7\nexit";
    let mut engine = ImageEngine::new("image", Options::default(), Placement::Program).with_time_limit_ms(500);
    match engine.run(&assembled(&[good, "ja -1", good])?).as_slice() {
        [Ok(first), Err(message), Ok(last)] if first.r0 == 7 && last.r0 == 7 && message.contains("500 ms") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// Programs without memory.
fn assembled(texts: &[&str]) -> Result<Vec<Case>, Failed> {
    let assembled = |text: &&str| {
        Ok(Case {
            module: read_instructions(&assemble_text(text)?.bytes(), "case")?,
            memory: Vec::new(),
        })
    };
    texts.iter().map(assembled).collect()
}

/// `ja32` reaches further than a 16-bit offset, in both directions, over code that might run.
fn jumps_reach_far(engine: &mut dyn Engine) -> Result<(), Failed> {
    let between = "mul %r0, %r1\n".repeat(33_000);
    let text = format!(
        "mov %r0, 0\njne %r2, 0, between\nja32 far\nback:\nexit\nbetween:\n{between}far:\nadd %r0, 5\nja32 back\n"
    );
    match engine.run(&assembled(&[&text])?).as_slice() {
        [Ok(outcome)] if outcome.r0 == 5 => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// The product's decoder and encoder agree with the assembler, which shares nothing with them.
fn assembles_and_encodes_again(folder: &Path) -> Result<(), Failed> {
    for (name, file) in read_folder(folder)? {
        let module = read_instructions(&file.assembled, "case")?;
        let mut starts = Vec::new();
        let mut slots = 0;
        for function in &module.functions {
            starts.push(slots);
            slots += function.slots();
        }
        let mut again = Vec::new();
        for (function, start) in module.functions.iter().zip(&starts) {
            for insn in &function.instructions {
                let from = start + insn.slot + insn.op.slots();
                let encoded = bpf2sys_bytecode::encode(&insn.op, |reference| match reference {
                    bpf2sys_bytecode::Reference::Function(callee) => {
                        starts[callee.index()].cast_signed() - from.cast_signed()
                    }
                    _ => 0,
                });
                again.extend(encoded.into_iter().flat_map(bpf2sys_bytecode::Slot::to_bytes));
            }
        }
        if again != file.assembled {
            return Err(format!("{name} is encoded otherwise than it was assembled").into());
        }
        if file.code != file.assembled && !file.assembled.is_empty() {
            return Err(format!("{name}: `raw` differs from what `asm` assembles to").into());
        }
    }
    Ok(())
}

/// Whether an entry was found, asked by either condition, of lookups that are proven to be in one ARRAY.
fn lookups_in_place_are_asked_both_ways(name: &str, machine: Machine) -> Result<(), Failed> {
    let asked = |jump: &str, key: u8| -> Result<Case, Failed> {
        let (yes, no) = ("ldxdw %r0, [%r0+0]\nadd %r0, 7\nexit\n", "add %r0, 1\nexit\n");
        let (first, second) = if jump == "jeq" { (yes, no) } else { (no, yes) };
        let text = format!(
            "mov %r0, 100\njlt %r2, 8, exit\nldxb %r3, [%r1+0]\nstxw [%r10-4], %r3\n\
             mov %r2, %r10\nadd %r2, -4\nlddw %r1, 0\ncall 1\n{jump} %r0, 0, there\n{first}there:\n{second}"
        );
        let mut module = read_instructions(&assemble_text(&text)?.bytes(), "case")?;
        module.maps.push(Map {
            name: "values".to_owned(),
            definition: MapDefinition {
                map_type: 2,
                key_size: 4,
                value_size: 8,
                max_entries: 4,
                ..MapDefinition::default()
            },
            inner: None,
            origin: MapOrigin::Btf,
            flags: 0,
            initial_values: Vec::new(),
        });
        for insn in &mut module.functions[0].instructions {
            if let Instruction::LoadImm64 { value, .. } = &mut insn.op {
                *value = Imm64::Map(MapIndex(0));
            }
        }
        let memory = vec![key, 0, 0, 0, 0, 0, 0, 0];
        Ok(Case { module, memory })
    };
    let options = Options {
        machine,
        ..Options::default()
    };
    let image = ImageEngine::new(name, options, Placement::Program);
    let mut engine = VerifiedEngine::new(name, image);
    for jump in ["jeq", "jne"] {
        for (key, expected) in [(0, 7), (3, 7), (4, 1), (255, 1)] {
            match engine.run(&[asked(jump, key)?]).as_slice() {
                [Ok(outcome)] if outcome.r0 == expected => {}
                other => return Err(format!("{jump}, {key}: {other:?}").into()),
            }
        }
    }
    Ok(())
}
