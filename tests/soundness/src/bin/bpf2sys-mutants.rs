//! Plants each error of `tests/soundness/mutants.toml` in the verification engine and asks the judges whether they find it.
//!
//! The workspace is copied to `target/mutants`, with all errors woven into the engine, and compiled once. Then, for each
//! error: random programs that the engine accepts are run until one misbehaves; if none of the first does, the tests of the
//! verifier's crate are run; if these pass, the end-to-end tests of verdicts; and then more random programs. A judge that does
//! not come to an end has found it, too. All of it takes about half an hour on two processors.
//!
//! The exit status is 0 when every error was found that is not listed as harmless, and none of those that are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bpf2sys_soundness_tests::generate::generate;
use bpf2sys_soundness_tests::judge::{self, Verdict};
use bpf2sys_soundness_tests::mutants::{self, CHOSEN, Judge, Mutant};
use bpf2sys_soundness_tests::sweep::inputs_of;
use bpf2sys_verifier::Verifier;
use clap::Parser;

/// Plants errors in the verification engine and looks who finds them.
#[derive(Parser)]
#[command(name = "bpf2sys-mutants", version)]
struct Arguments {
    /// Only errors with this in their name or file.
    #[arg(long)]
    filter: Option<String>,
    /// Ask only about errors that no earlier run has found since the one without this option.
    #[arg(long)]
    resume: bool,
    /// Seed of the random programs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many random programs are run: the first 2,000 before the other judges are asked, the others if these find nothing.
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// Of `--sweep`, number of the first program.
    #[arg(long, default_value_t = 0, hide = true)]
    first: u64,
    /// Write what was found to `tests/soundness/mutants.md`.
    #[arg(long, conflicts_with = "filter")]
    write: bool,
    /// Instead: run the random programs until one misbehaves, and tell which. The copy of this command does that.
    #[arg(long, hide = true)]
    sweep: bool,
}

/// The tests of the command-line tool that judge the engine.
const RULES: [&str; 4] = ["rejected::", "exactness::", "parity::", "facts::"];

/// The tests of sets of numbers.
const NUMBERS: &str = "native::num::";

/// A judge may take this many times as long as it does without an error, and `GRACE` more.
const PATIENCE: u32 = 4;
const GRACE: Duration = Duration::from_secs(10);

/// Random programs that are run first: most errors are found by fewer.
const FEW: u64 = 2_000;

/// What is run for a judge.
struct Program {
    /// Only for errors in this file.
    file: Option<&'static str>,
    path: PathBuf,
    folder: PathBuf,
    arguments: Vec<String>,
}

/// A judge at work.
struct Stage {
    judge: Judge,
    programs: Vec<Program>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.sweep {
        let end = arguments.first.saturating_add(arguments.count);
        return sweep(arguments.seed, arguments.first..end);
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs random programs until one misbehaves: status 1, and what it does.
fn sweep(seed: u64, programs: Range<u64>) -> ExitCode {
    let judge = judge::Judge {
        verifier: Verifier::Native,
        ..judge::Judge::default()
    };
    for index in programs {
        let module = generate(seed, index).module;
        if let Verdict::Hole(hole) = judge.judge(&module, inputs_of(seed, index)).verdict {
            println!("program {index}: {}", hole.kind);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let root = mutants::root();
    let all = mutants::list(&root)?;
    let copy = root.join("target/mutants/workspace");
    let woven = mutants::woven(&root, &all)?;
    copy_workspace(&root, &copy, &woven)?;
    let stages = stages(arguments, &root, &copy)?;
    // Without an error nothing may be found; and what takes much longer with one does not end.
    let mut limits = Vec::new();
    for stage in &stages {
        let start = Instant::now();
        if let Some(what) = ask(&stage.programs, (0, "num.rs"), Duration::MAX)? {
            return Err(format!(
                "{:?} finds an error where none is planted: {what}",
                stage.judge
            ));
        }
        eprintln!("{:?} takes {:.0} s", stage.judge, start.elapsed().as_secs_f64());
        limits.push(start.elapsed() * PATIENCE + GRACE);
    }
    let memory = root.join("target/mutants/found.jsonl");
    let mut earlier = if arguments.resume {
        remembered(&memory)
    } else {
        BTreeMap::new()
    };
    if !arguments.resume {
        fs::write(&memory, "").map_err(|error| format!("{}: {error}", memory.display()))?;
    }
    let wanted = |(_, mutant): &(u32, &Mutant)| {
        let filter = arguments.filter.as_deref().unwrap_or_default();
        mutant.name.contains(filter) || mutant.file.contains(filter)
    };
    let (known, work): (Vec<_>, Vec<_>) = (1..)
        .zip(&all)
        .filter(wanted)
        .partition(|(_, mutant)| earlier.contains_key(&mutant.name));
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let lock = || results.lock().unwrap_or_else(PoisonError::into_inner);
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((number, mutant)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = judged(&stages, &limits, (*number, &mutant.file));
                    if let Ok(found) = &found {
                        println!("{}: {}: {}", mutant.file, mutant.name, said(mutant, found.as_ref()));
                    }
                    let mut results = lock();
                    if let Ok(Some((judge, what))) = &found {
                        remember(&memory, mutant, *judge, what);
                    }
                    results.push((*number, *mutant, found));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.extend(
        known
            .into_iter()
            .map(|(number, mutant)| (number, mutant, Ok(earlier.remove(&mutant.name)))),
    );
    results.sort_by_key(|(number, ..)| *number);
    let results: Vec<Judged<'_>> = results
        .into_iter()
        .map(|(_, mutant, found)| Ok((mutant, found?)))
        .collect::<Result<_, String>>()?;
    println!("\n{}", score(&results));
    if arguments.write {
        let page = root.join("tests/soundness/mutants.md");
        fs::write(&page, written(arguments, &results)).map_err(|error| format!("{}: {error}", page.display()))?;
    }
    Ok(results
        .iter()
        .all(|(mutant, found)| found.is_some() == mutant.harmless.is_none()))
}

/// Writes down that an error was found. What cannot be written is asked again.
fn remember(memory: &Path, mutant: &Mutant, judge: Judge, what: &str) {
    let line = serde_json::json!({ "name": mutant.name, "judge": judge, "what": what });
    let _ = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(memory)
        .and_then(|mut file| writeln!(file, "{line}"));
}

/// What earlier runs have found, by the names of the errors.
fn remembered(memory: &Path) -> BTreeMap<String, (Judge, String)> {
    let text = fs::read_to_string(memory).unwrap_or_default();
    let entry = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let judge = serde_json::from_value(entry["judge"].clone()).ok()?;
        Some((
            entry["name"].as_str()?.to_owned(),
            (judge, entry["what"].as_str()?.to_owned()),
        ))
    };
    text.lines().filter_map(entry).collect()
}

/// Who finds an error first.
fn judged(stages: &[Stage], limits: &[Duration], error: (u32, &str)) -> Result<Option<(Judge, String)>, String> {
    for (stage, limit) in stages.iter().zip(limits) {
        if let Some(what) = ask(&stage.programs, error, *limit)? {
            return Ok(Some((stage.judge, what)));
        }
    }
    Ok(None)
}

/// What came of an error, in words.
fn said(mutant: &Mutant, found: Option<&(Judge, String)>) -> String {
    match (found, &mutant.harmless) {
        (Some((judge, what)), None) if mutant.found_by == Some(*judge) => format!("{judge:?}: {what}"),
        (Some((judge, what)), None) => format!("{judge:?}: {what} (listed: {:?})", mutant.found_by),
        (Some((judge, what)), Some(_)) => format!("LISTED AS HARMLESS, BUT FOUND: {judge:?}: {what}"),
        (None, Some(_)) => "harmless".to_owned(),
        (None, None) => "NOT FOUND".to_owned(),
    }
}

/// Copies what has changed, so that only that is compiled again.
fn copy_workspace(root: &Path, copy: &Path, woven: &BTreeMap<PathBuf, String>) -> Result<(), String> {
    let mut folders = vec![PathBuf::new()];
    let explain = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let put = |path: &Path, content: &[u8]| {
        if fs::read(path).is_ok_and(|old| old == content) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(copy);
        fs::create_dir_all(folder).map_err(|error| explain(folder, error))?;
        fs::write(path, content).map_err(|error| explain(path, error))
    };
    while let Some(folder) = folders.pop() {
        let from = root.join(&folder);
        for entry in fs::read_dir(&from).map_err(|error| explain(&from, error))? {
            let entry = entry.map_err(|error| explain(&from, error))?;
            let path = folder.join(entry.file_name());
            let is_left_out =
                folder.as_os_str().is_empty() && ["target", ".git"].iter().any(|n| entry.file_name() == *n);
            let kind = entry.file_type().map_err(|error| explain(&entry.path(), error))?;
            if is_left_out {
            } else if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && !woven.contains_key(&path) {
                let content = fs::read(entry.path()).map_err(|error| explain(&entry.path(), error))?;
                let to = copy.join(&path);
                put(&to, &content)?;
                // Some are run.
                let permissions = entry.metadata().map(|metadata| metadata.permissions());
                permissions
                    .and_then(|permissions| fs::set_permissions(&to, permissions))
                    .map_err(|error| explain(&to, error))?;
            }
        }
    }
    for (path, text) in woven {
        put(&copy.join(path), text.as_bytes())?;
    }
    Ok(())
}

/// Compiles the copy. Who is asked, in this order.
fn stages(arguments: &Arguments, root: &Path, copy: &Path) -> Result<Vec<Stage>, String> {
    let target = root.join("target/mutants/build");
    let compiled = |options: &[&str], name: &str, folder: &str| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(options)
            .args(["--message-format=json-render-diagnostics", "--target-dir"]);
        cargo.arg(&target).current_dir(copy);
        let output = cargo
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        let messages = String::from_utf8_lossy(&output.stdout);
        let artifact = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find_map(|message| {
                let path = message["executable"].as_str()?;
                (message["target"]["name"] == name).then(|| PathBuf::from(path))
            });
        match artifact {
            Some(path) if output.status.success() => Ok((path, copy.join(folder))),
            _ => Err(format!(
                "{name} of the copy is not compiled: see above. Is the text of an error no valid code?"
            )),
        }
    };
    let program = |(path, folder): &(PathBuf, PathBuf), arguments: &[String]| Program {
        file: None,
        path: path.clone(),
        folder: folder.clone(),
        arguments: arguments.to_vec(),
    };
    let (name, package) = ("bpf2sys-mutants", "bpf2sys-soundness-tests");
    let soundness = compiled(&["build", "-p", package, "--bin", name], name, "tests/soundness")?;
    let options = ["test", "--no-run", "-p", "bpf2sys-verifier", "--lib"];
    let unit = compiled(&options, "bpf2sys_verifier", "compiler/verifier")?;
    let options = ["test", "--no-run", "-p", "bpf2sys", "--test", "end_to_end"];
    let rules = compiled(&options, "end_to_end", "compiler/bpf2sys")?;
    let few = arguments.count.min(FEW);
    let random = |first: u64, count: u64| {
        let numbers = [arguments.seed, first, count].map(|number| number.to_string());
        let [seed, first, count] = &numbers;
        let options = ["--sweep", "--seed", seed, "--first", first, "--count", count].map(str::to_owned);
        vec![program(&soundness, &options)]
    };
    let rules = RULES.iter().map(|filter| {
        // Whether compilers still make the fixtures is another matter, and what PREVAIL says takes long.
        let options = [filter, "--skip", "objects_come_from", "--skip", "table_is_what"].map(str::to_owned);
        program(&rules, &options)
    });
    // These take longer than all others together, and ask nothing else of the engine.
    let numbers = Program {
        file: Some("num.rs"),
        ..program(&unit, &[NUMBERS.to_owned()])
    };
    let stage = |judge, programs| Stage { judge, programs };
    Ok(vec![
        stage(Judge::Soundness, random(0, few)),
        stage(
            Judge::Unit,
            vec![program(&unit, &["--skip", NUMBERS].map(str::to_owned)), numbers],
        ),
        stage(Judge::Rules, rules.collect()),
        stage(Judge::Soundness, random(few, arguments.count - few)),
    ])
}

/// Asks a judge about the error with this number and file. Gives what it found first, in words.
fn ask(programs: &[Program], (number, file): (u32, &str), limit: Duration) -> Result<Option<String>, String> {
    let start = Instant::now();
    for program in programs
        .iter()
        .filter(|program| program.file.is_none_or(|only| only == file))
    {
        let explain = |error: std::io::Error| format!("{}: {error}", program.path.display());
        let mut child = Command::new(&program.path)
            .args(&program.arguments)
            .current_dir(&program.folder)
            .env("CARGO_MANIFEST_DIR", &program.folder)
            .env("RUST_BACKTRACE", "0")
            .env(CHOSEN, number.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(explain)?;
        // What is told is read at once: for what else follows nobody waits.
        let (found, finding) = mpsc::channel();
        let reader = child.stdout.take().map(|stdout| {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                    if let Some(what) = finding_of(&String::from_utf8_lossy(&line)) {
                        let _ = found.send(what);
                    }
                }
            })
        });
        let (mut what, status) = loop {
            if let Some(status) = child.try_wait().map_err(explain)? {
                break (None, Some(status));
            }
            let what = finding.recv_timeout(Duration::from_millis(20)).ok();
            let is_late = start.elapsed() > limit;
            if what.is_some() || is_late {
                child.kill().map_err(explain)?;
                child.wait().map_err(explain)?;
                break (what.or_else(|| Some("it does not end".to_owned())), None);
            }
        };
        if let Some(status) = status.filter(|status| !status.success()) {
            reader.map(std::thread::JoinHandle::join);
            what = Some(finding.try_recv().unwrap_or_else(|_| status.to_string()));
        }
        if what.is_some() {
            return Ok(what);
        }
    }
    Ok(None)
}

/// What a line that a judge prints says was found, if it does.
fn finding_of(line: &str) -> Option<String> {
    if line.starts_with("program ") {
        return Some(line.to_owned());
    }
    // Of both harnesses: `test name ... FAILED`.
    let name = line.trim_end().strip_prefix("test ")?.strip_suffix("FAILED")?;
    Some(format!("`{}`", name.trim_end_matches([' ', '.'])))
}

/// An error, and who found what.
type Judged<'m> = (&'m Mutant, Option<(Judge, String)>);

/// Of each file, who found how many.
fn score(results: &[Judged<'_>]) -> String {
    let mut files: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
    for (mutant, found) in results {
        let (column, programs) = match found {
            Some((Judge::Soundness, what)) => {
                let index = what.strip_prefix("program ").and_then(|rest| rest.split(':').next());
                (
                    1,
                    index
                        .and_then(|index| index.parse().ok())
                        .map_or(0, |index: usize| index + 1),
                )
            }
            Some((Judge::Unit, _)) => (2, 0),
            Some((Judge::Rules, _)) => (3, 0),
            None => (4, 0),
        };
        for name in [mutant.file.as_str(), "~"] {
            let row = files.entry(name).or_default();
            row[0] += 1;
            row[column] += 1;
            row[5] = row[5].max(programs);
        }
    }
    let mut text = "| File | Planted | Found by random programs | after at most | by unit tests | by end-to-end tests | not found |\n\
                    |---|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for (name, [planted, programs, unit, rules, rest, most]) in files {
        let name = if name == "~" {
            "all".to_owned()
        } else {
            format!("`{name}`")
        };
        let _ = writeln!(
            text,
            "| {name} | {planted} | {programs} | {most} | {unit} | {rules} | {rest} |"
        );
    }
    text
}

/// The page with the score.
fn written(arguments: &Arguments, results: &[Judged<'_>]) -> String {
    let mut text = format!(
        "# Errors planted in the engine\n\n\
         [mutants.toml](mutants.toml) lists errors that are planted in the verification engine, one at a time, to see that the judges \
         find them.\n\
         First random programs that the engine accepts are run, {FEW} of seed {}, until one misbehaves; then come the unit tests of the \
         verifier's crate, the end-to-end tests of verdicts, and more random programs up to number {}.\n\
         This page is written by `cargo run -p bpf2sys-soundness-tests --bin bpf2sys-mutants -- --write`.\n\n{}\n",
        arguments.seed,
        arguments.count,
        score(results)
    );
    let _ = writeln!(text, "## Not found, and why that is harmless\n");
    for (mutant, found) in results {
        if let (None, reason) = (found, mutant.harmless.as_deref().unwrap_or("no reason is known")) {
            let _ = writeln!(text, "- `{}`, {}: {}", mutant.file, mutant.name, reason.trim());
        }
    }
    let _ = writeln!(text, "\n## Found\n\n| File | Error | Found by |\n|---|---|---|");
    for (mutant, found) in results {
        if let Some((_, what)) = found {
            let _ = writeln!(text, "| `{}` | {} | {what} |", mutant.file, mutant.name);
        }
    }
    text
}
