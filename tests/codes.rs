//! The catalogue of codes: every page has the form that pages have, and its example is what the tool really says.
//!
//! A page is `compiler/bpf2sys/docs/codes/BPFnnnn.md`:
//! - the first line, `# BPFnnnn: what is wrong`; then what it means, why it is refused, when it happens;
//! - `## Example`: the program as a block `c`, which is the file `BPFnnnn.c` of `tests/fixtures/codes`; and a block
//!   `console` with one or more commands, `$ bpf2sys …`, each followed by what the tool prints, in that folder. Files
//!   that a command names are there; it can write others;
//! - `## What to do`: how it is put right. Blocks `console` are run there, too.
//!
//! With `BLESS=1` both kinds of blocks are rewritten, and so is the catalogue's index.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bpf2sys::{Code, Severity};
use libtest_mimic::{Failed, Trial};

use crate::support::{Need, root, test, test_with, tool};

/// Codes without an example, and why nobody can give one.
const NOT_PROVOKED: &[(Code, &str)] = &[
    (Code::BPF2001, "every message of the engine has another code"),
    (Code::BPF2007, "the reader refuses such a function before, with BPF1008"),
    (Code::BPF2010, "the reader refuses such an object before, with BPF1009"),
    (Code::BPF2014, "the options of the built-in platform are known"),
    (Code::BPF2015, "depends on the speed of the machine"),
    (Code::BPF2016, "a defect of the engine, of which none is known"),
    (Code::BPF2017, "needs an operating system that gives no thread"),
    (
        Code::BPF2020,
        "the engine refuses such calls of built-in helpers before",
    ),
    (Code::BPF2028, "no built-in function has flags"),
    (
        Code::BPF2124,
        "a search that was given up on a register of which nothing is known",
    ),
    (Code::BPF2146, "no helper of Windows has such an argument"),
    (
        Code::BPF2149,
        "no helper of Windows has a list of map types in the engine",
    ),
    (Code::BPF2150, "strict checks are off for Windows"),
    (Code::BPF2151, "no compiler takes such an address"),
    (Code::BPF2152, "no helper of the built-in providers takes a function"),
    (Code::BPF2160, "Windows allows division by zero"),
    (Code::BPF2181, "the reader refuses such instructions before"),
    (Code::BPF2182, "a platform with such a helper is refused before"),
    (Code::BPF2183, "the reader refuses such instructions before"),
    (Code::BPF2184, "found before by rules of our own"),
    (Code::BPF3001, "the command line never asks for it: BPF9005"),
    (Code::BPF3002, "the verifier refuses all such instructions"),
    (Code::BPF3003, "the code generator keeps to our rules"),
    (Code::BPF3006, "no verified program that a compiler made takes so much"),
    (Code::BPF3999, "internal error"),
    (Code::BPF4001, "the compiler keeps to the linker's limits"),
    (Code::BPF5007, "where a program is stopped differs from run to run"),
    (Code::BPF5010, "native code would have to break the simulator itself"),
    (Code::BPF5011, "the system would have to refuse to start a process"),
    (Code::BPF5012, "a verified program would have to misbehave"),
    (Code::BPF6019, "it takes a file of megabytes"),
    (Code::BPF6021, "it takes a Windows machine that refuses to read a key"),
    (Code::BPF7006, "it takes two keys in files of their own"),
    (
        Code::BPF7009,
        "a template has spaces, and the commands of pages have no quotes",
    ),
    (Code::BPF7010, "it takes a signer that makes mistakes"),
    (Code::BPF7025, "it takes a statement that lies"),
    (Code::BPF9999, "internal error"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Code::ALL
        .iter()
        .filter(|code| runs_here(**code))
        .map(|&code| {
            let name = format!("codes::{code}_is_told_as_its_page_says");
            test_with(&name, needs(code), move || check(code))
        })
        .collect();
    trials.push(test("codes::the_index_lists_every_code", the_index_lists_every_code));
    trials.push(test(
        "codes::every_file_belongs_to_a_code",
        every_file_belongs_to_a_code,
    ));
    trials
}

/// Whether this machine says what the pages say: images run on one kind of machine, and systems have their own words for
/// what is wrong with a file.
fn runs_here(code: Code) -> bool {
    match code.name().get(..4) {
        Some("BPF5") => cfg!(all(target_os = "linux", target_arch = "x86_64")),
        Some("BPF8" | "BPF9") => cfg!(target_os = "linux"),
        _ => true,
    }
}

/// What the commands of a page run.
fn needs(code: Code) -> &'static [Need] {
    match code {
        Code::BPF8003 | Code::BPF8004 => &[Need::Program("clang-19")],
        _ => &[],
    }
}

fn fixtures() -> PathBuf {
    root().join("tests/fixtures/codes")
}

fn pages() -> PathBuf {
    root().join("compiler/bpf2sys/docs/codes")
}

fn check(code: Code) -> Result<(), Failed> {
    let file = pages().join(format!("{code}.md"));
    let page = fs::read_to_string(&file)?.replace("\r\n", "\n");
    let parts = Parts::of(&page)?;
    let reason = NOT_PROVOKED.iter().find(|(of, _)| *of == code);
    match (parts.example.is_empty(), reason) {
        (true, None) => return Err("no `## Example`, and it is not in NOT_PROVOKED".into()),
        (false, Some(_)) => return Err("there is an example: take it from NOT_PROVOKED".into()),
        _ => {}
    }
    let told = expected(&page, code)?;
    if told != page {
        if blesses() {
            fs::write(&file, &told)?;
        } else {
            let diff = similar::TextDiff::from_lines(page.as_str(), told.as_str());
            let diff = diff.unified_diff().header("the page", "what is so").to_string();
            return Err(format!("{diff}\nBLESS=1 rewrites the page").into());
        }
    }
    let example = Parts::of(&told)?.example;
    let told = [format!("[{code}]"), format!(" {code}: ")];
    if !example.is_empty() && !told.iter().any(|told| example.contains(told)) {
        return Err(format!("the example does not provoke {code}:\n{example}").into());
    }
    if fixtures().join(format!("{code}.c")).exists() && !example.contains("```c\n") {
        return Err("there is a source file, but no block `c` in the example".into());
    }
    Ok(())
}

/// The parts of a page.
struct Parts {
    /// `## Example`; empty if there is none.
    example: String,
}

impl Parts {
    fn of(page: &str) -> Result<Parts, Failed> {
        let (before, to_do) = page.split_once("\n## What to do\n").ok_or("no `## What to do`")?;
        let (meaning, example) = before.split_once("\n## Example\n").unwrap_or((before, ""));
        for (name, text) in [
            ("meaning", meaning.lines().skip(1).collect()),
            ("`What to do`", to_do.to_owned()),
        ] {
            if text.trim().is_empty() {
                return Err(format!("the part {name} is empty").into());
            }
        }
        let headings = |text: &str| outside_blocks(text).filter(|line| line.starts_with('#')).count();
        if headings(meaning) != 1 || headings(example) + headings(to_do) != 0 {
            return Err("a page has the parts `Example` and `What to do`, in this order, and no others".into());
        }
        if !example.is_empty() && !example.contains("```console\n") {
            return Err("the example shows no command".into());
        }
        Ok(Parts {
            example: example.to_owned(),
        })
    }
}

/// The lines that are in no block.
fn outside_blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// The page with the blocks that it should have.
fn expected(page: &str, code: Code) -> Result<String, Failed> {
    let folder = tempfile::tempdir()?;
    let mut result = String::new();
    let mut lines = page.lines();
    let mut part = "";
    while let Some(line) = lines.next() {
        if line.starts_with("## ") {
            part = line;
        }
        result += line;
        result.push('\n');
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        result += &match (kind, part) {
            ("c", "## Example") => fs::read_to_string(fixtures().join(format!("{code}.c")))
                .map_err(|e| format!("the block `c` has no file {code}.c: {e}"))?
                .replace("\r\n", "\n"),
            ("console", _) => console(&block, folder.path())?,
            _ => block.iter().flat_map(|line| [line, "\n"]).collect(),
        };
        result += "```\n";
    }
    Ok(result)
}

/// A console block: its commands, each with what the tool prints now.
fn console(block: &[&str], folder: &Path) -> Result<String, Failed> {
    let mut text = String::new();
    let commands = block.iter().filter_map(|line| line.strip_prefix("$ "));
    for command in commands {
        text.extend(["$ ", command, "\n"]);
        let mut words = command.split_whitespace().peekable();
        let mut tool = tool();
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            tool.env(name, value);
            words.next();
        }
        if words.next() != Some("bpf2sys") || command.contains(['\'', '"', '|', '>', '\\']) {
            return Err(format!("`{command}` is no plain call of bpf2sys").into());
        }
        for word in words {
            tool.arg(word);
            let (fixture, copy) = (fixtures().join(word), folder.join(word));
            if fixture.is_file() && !copy.exists() {
                fs::copy(fixture, copy)?;
            }
        }
        // Both streams in one file, in the order in which they are written, as a terminal shows them.
        let told = tempfile::NamedTempFile::new()?;
        let end_of_file = || fs::File::options().append(true).open(told.path());
        tool.current_dir(folder)
            .stdin(Stdio::null())
            .stdout(end_of_file()?)
            .stderr(end_of_file()?)
            .status()?;
        text += &fs::read_to_string(told.path())?;
    }
    if text.is_empty() {
        return Err("a block `console` without a command".into());
    }
    Ok(text)
}

/// What the index says before its tables.
const INDEX: &str = "\
# The catalogue of problems

Every problem that bpf2sys tells has a code. A code keeps its meaning; what gets another meaning gets another code.
`bpf2sys explain CODE` shows the page of one, with an example and what to do; `bpf2sys explain --list` lists all.
[How problems are told](messages.md) describes the forms, also those for machines.
";

fn the_index_lists_every_code() -> Result<(), Failed> {
    let mut expected = INDEX.to_owned();
    let mut family = "";
    for code in Code::ALL {
        if code.family() != family {
            family = code.family();
            expected.extend(["\n## ", family, "\n\n| code | what is wrong |\n|---|---|\n"]);
        }
        let kind = match code.severity() {
            Severity::Warning => " (warning)",
            Severity::Error => "",
        };
        expected.extend([format!("| [{code}](codes/{code}.md) | {}{kind} |\n", code.title())]);
    }
    let file = root().join("compiler/bpf2sys/docs/diagnostics.md");
    let index = fs::read_to_string(&file).unwrap_or_default().replace("\r\n", "\n");
    if index == expected {
        return Ok(());
    }
    if blesses() {
        return Ok(fs::write(&file, expected)?);
    }
    Err("diagnostics.md is not what it should be: BLESS=1 rewrites it".into())
}

/// Whether files are to be made what they should be.
fn blesses() -> bool {
    std::env::var_os("BLESS").is_some_and(|v| v == "1")
}

fn every_file_belongs_to_a_code() -> Result<(), Failed> {
    let is_code = |name: &str| Code::ALL.iter().any(|code| code.name() == name);
    for file in fs::read_dir(pages())? {
        let path = file?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_none_or(|e| e != "md") || !is_code(&stem) {
            return Err(format!("{} is no code's page", path.display()).into());
        }
    }
    for file in fs::read_dir(fixtures())? {
        let path = file?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let source = path.extension().is_some_and(|e| e == "c");
        if source && !is_code(stem.get(..7).unwrap_or_default()) {
            return Err(format!("{} is no code's example", path.display()).into());
        }
    }
    Ok(())
}
