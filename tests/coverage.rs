//! Coverage: which lines ran, judged by the interpreter, by lcov's own tools, and by line tables of other compilers.

use std::collections::BTreeMap;

use bpf2sys::{BuildOptions, Form, Machine};
use bpf2sys_lines::{LineTable, code_hash};
use bpf2sys_simulator::image::Image;
use bpf2sys_simulator::program_code::program_code;
use bpf2sys_simulator::{ObjectFile, RunReport, RunRequest, Trace, usermode};
use bpf2sys_testing::coverage::Coverage;
use libtest_mimic::{Failed, Trial};

use crate::examples::EXAMPLES;
use crate::interpret::{inputs, samples};
use crate::support::{Need, corpus, root, test, test_with};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for example in EXAMPLES {
        trials.push(test(&format!("coverage::{example}_x64"), move || {
            compare(Machine::X64, example)
        }));
        trials.push(test_with(
            &format!("coverage::{example}_arm64"),
            &[Need::Emulator],
            move || compare(Machine::Arm64, example),
        ));
    }
    trials.push(test("coverage::measure", measure));
    trials
}

fn compare(machine: Machine, example: &str) -> Result<(), Failed> {
    let path = root().join(format!("examples/{example}/{example}.o"));
    let object = ObjectFile {
        name: format!("{example}.o"),
        bytes: std::fs::read(path)?,
    };
    let (native, interpreted) = both(machine, object, &samples(example)?)?;
    differences(&native, &interpreted)
}

fn measure() -> Result<(), Failed> {
    let Some(folder) = corpus("elf") else { return Ok(()) };
    let mut folders = vec![folder];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for e in std::fs::read_dir(folder)?.flatten() {
            if e.path().is_dir() {
                folders.push(e.path())
            } else {
                files.push(e.path())
            }
        }
    }
    files.sort();
    for path in files {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let object = ObjectFile {
            name: name.clone(),
            bytes,
        };
        match both(Machine::X64, object, &[vec![0x45; 64], vec![0; 1500]]) {
            Err(error) => println!(
                "{name}: {}",
                error.message().unwrap_or_default().lines().next().unwrap_or_default()
            ),
            Ok((native, interpreted)) => println!(
                "{name}: {}",
                differences(&native, &interpreted)
                    .err()
                    .map_or("ok".into(), |e| e.message().unwrap_or_default().to_owned())
            ),
        }
    }
    Ok(())
}

fn differences(native: &Coverage, interpreted: &Coverage) -> Result<(), Failed> {
    let (mut lines, mut counts, mut wrong, mut ways) = (0, 0, 0, (0, 0));
    for (name, file) in &interpreted.files {
        let other = native.files.get(name).cloned().unwrap_or_default();
        for (line, count) in &file.lines {
            lines += 1;
            let found = other.lines.get(line);
            if found != Some(count) {
                counts += 1;
                wrong += usize::from(found.is_none_or(|found| (*found > 0) != (*count > 0)));
                println!("  {name}:{line}: {found:?} {count}");
            }
        }
        ways.0 += file.branch_share().of;
        ways.1 += other.branch_share().of;
    }
    Err(format!("{lines} lines, {counts} other counts, {wrong} otherwise run; ways {ways:?}").into())
}

/// What ran by the code of a driver and by the interpreter.
fn both(machine: Machine, object: ObjectFile, samples: &[Vec<u8>]) -> Result<(Coverage, Coverage), Failed> {
    let options = BuildOptions {
        machines: vec![machine],
        forms: vec![Form::Sys, Form::Lines],
        ..BuildOptions::default()
    };
    let built = bpf2sys::build(&object.bytes, &object.name, &options).map_err(|e| e.to_string())?;
    let [image, lines] = built.outputs.as_slice() else {
        return Err("a driver and its line table".into());
    };
    let request = RunRequest {
        image: image.bytes.clone(),
        inputs: inputs(&built.verified, samples)?,
        time_limit_ms: 60_000,
        trace: Trace::Instructions,
        ..RunRequest::default()
    };
    let native = traced(&request)?;
    let interpreted = traced(&RunRequest {
        interpret: Some(object),
        ..request
    })?;
    let parsed = Image::parse(&image.bytes)?;
    let table = LineTable::from_json(&lines.bytes, &code_hash(&image.bytes)?)?;
    let view = usermode::read(&parsed).map_err(|e| e.to_string())?;
    let native = Coverage::of_native(
        &table,
        &program_code(&parsed, &view),
        &native.trace.unwrap_or_default().native,
    );
    let module = built.verified.module();
    Ok((
        native,
        Coverage::of_interpreted(module, &interpreted.trace.unwrap_or_default().interpreted),
    ))
}

fn traced(request: &RunRequest) -> Result<RunReport, Failed> {
    bpf2sys_simulator::run(request).map_err(|e| e.to_string().into())
}
