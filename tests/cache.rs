//! Verdicts that were kept: they are printed as fresh ones are, and what is no entry is not believed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bpf2sys::{BuildOptions, Providers, VerdictCache};
use bpf2sys_bytecode::HashAlgorithm;
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::support::{output, root, test, tool};

pub fn trials() -> Vec<Trial> {
    vec![
        test("cache::a_kept_verdict_is_printed_as_a_fresh_one", printed_alike),
        test("cache::a_kept_verdict_is_what_is_told", taken),
        test("cache::what_is_no_entry_is_replaced", replaced),
        test("cache::everything_that_decides_is_part_of_the_key", distinct),
        test("cache::a_failure_of_a_limit_is_not_kept", not_kept),
        test("cache::an_object_that_is_not_read_is_not_kept", unread),
        test("cache::a_folder_that_cannot_be_written_is_a_warning", unwritable),
        test("cache::processes_share_a_folder", shared),
    ]
}

/// Options that change how a verdict is printed.
const FORMS: [&[&str]; 7] = [
    &[],
    &["--quiet"],
    &["--message-format", "human"],
    &["--message-format", "short"],
    &["--message-format", "msbuild"],
    &["--message-format", "json"],
    &["--message-format", "sarif"],
];

/// Objects with every kind of verdict: safe, rejected, one program of two rejected.
fn objects() -> Vec<PathBuf> {
    [
        "examples/udp_filter/udp_filter.o",
        "tests/fixtures/rejected/null_map_value.o",
        "tests/fixtures/rejected/one_of_two.o",
    ]
    .map(|path| root().join(path))
    .to_vec()
}

fn safe() -> PathBuf {
    objects().remove(0)
}

fn verify(cache: Option<&Path>, object: &Path) -> Command {
    let mut command = tool();
    command.arg("verify").arg(object);
    if let Some(folder) = cache {
        command.arg("--cache").arg(folder);
    }
    command
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|e| Ok(e?.path()))
        .collect::<Result<_, Failed>>()?;
    paths.sort();
    Ok(paths)
}

fn same(a: &Output, b: &Output, what: &str) -> Result<(), Failed> {
    if a == b {
        return Ok(());
    }
    Err(format!("{what}: {a:?}\nis not {b:?}").into())
}

/// A folder with the entry of the safe object, and that entry.
fn one_entry() -> Result<(TempDir, PathBuf), Failed> {
    let folder = tempfile::tempdir()?;
    let out = output(&mut verify(Some(folder.path()), &safe()))?;
    let entry = entries(folder.path())?.pop().ok_or("no entry")?;
    if !out.status.success() {
        return Err(format!("{out:?}").into());
    }
    Ok((folder, entry))
}

fn printed_alike() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for object in objects() {
        for form in FORMS {
            let run = |cache| output(verify(cache, &object).args(form));
            let what = format!("{} {form:?}", object.display());
            let without = run(None)?;
            same(&run(Some(folder.path()))?, &without, &format!("{what}, first"))?;
            same(&run(Some(folder.path()))?, &without, &format!("{what}, again"))?;
        }
    }
    let count = entries(folder.path())?.len();
    if count != objects().len() {
        return Err(format!("{count} entries").into());
    }
    Ok(())
}

/// Writes `text` into an entry, with the first line that it then needs.
fn forge(entry: &Path, text: &str) -> Result<(), Failed> {
    let old = fs::read_to_string(entry)?;
    let first = old.lines().next().ok_or("an empty entry")?;
    let (start, _) = first.rsplit_once(' ').ok_or("a first line of one word")?;
    let digest = HashAlgorithm::Sha256.of(text.as_bytes()).digest;
    let digest = digest
        .iter()
        .fold(String::new(), |all, byte| format!("{all}{byte:02x}"));
    fs::write(entry, format!("{start} {digest}\n{text}"))?;
    Ok(())
}

/// Otherwise the other tests would say nothing.
fn taken() -> Result<(), Failed> {
    let (folder, entry) = one_entry()?;
    let text = fs::read_to_string(&entry)?;
    let (_, text) = text.split_once('\n').ok_or("one line")?;
    forge(&entry, &text.replace("\"xdp\"", "\"known\""))?;
    let out = output(&mut verify(Some(folder.path()), &safe()))?;
    let told = String::from_utf8_lossy(&out.stdout);
    if told.contains("(section `known`, type known)") {
        return Ok(());
    }
    Err(format!("the entry was not used: {told}").into())
}

fn replaced() -> Result<(), Failed> {
    let (folder, entry) = one_entry()?;
    let good = fs::read(&entry)?;
    let expected = output(&mut verify(None, &safe()))?;
    // Another object's entry, under this one's name.
    output(&mut verify(Some(folder.path()), &objects()[1]))?;
    let other = entries(folder.path())?.into_iter().find(|path| *path != entry);
    let foreign = fs::read(other.ok_or("no second entry")?)?;
    let mut flipped = good.clone();
    *flipped.last_mut().ok_or("an empty entry")? ^= 1;
    let mut wrong: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("half", good[..good.len() / 2].to_vec()),
        (
            "the first line alone",
            good.split(|b| *b == b'\n').next().unwrap_or_default().to_vec(),
        ),
        ("a flipped bit", flipped),
        ("another's", foreign),
        ("zeros", vec![0; 100_000]),
    ];
    // With the right hashes, and still no verdict.
    let deep = "[".repeat(100_000);
    for text in [
        "",
        "{}",
        "null",
        "{\"Safe\":{\"programs\":[],\"warnings\":[]}}",
        "{\"Rejected\":[]}",
        &deep,
    ] {
        fs::write(&entry, &good)?;
        forge(&entry, text)?;
        wrong.push(("no verdict", fs::read(&entry)?));
    }
    for (what, bytes) in wrong {
        fs::write(&entry, bytes)?;
        same(&output(&mut verify(Some(folder.path()), &safe()))?, &expected, what)?;
        if fs::read(&entry)? != good {
            return Err(format!("{what} was not replaced").into());
        }
    }
    Ok(())
}

fn distinct() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let cache = VerdictCache::new(folder.path());
    let object = fs::read(safe())?;
    let longer = [&object[..], &[0]].concat();
    let plain = BuildOptions::default();
    let typed = |section: &str| BuildOptions {
        program_type: Some(section.to_owned()),
        ..BuildOptions::default()
    };
    let provided = |files: &[(&str, &str)]| -> Result<BuildOptions, Failed> {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Ok(BuildOptions {
            providers: Providers::with_files(files.collect())?,
            ..BuildOptions::default()
        })
    };
    let (one, two) = (
        "schema = 1\nprovider = { id = \"one\" }\n",
        "schema = 1\nprovider = { id = \"two\" }\n",
    );
    let commented = format!("{one}# a comment\n");
    let cases: [(&str, &[u8], &str, BuildOptions); 10] = [
        ("the object", &object, "a.o", plain.clone()),
        ("its bytes", &longer, "a.o", plain.clone()),
        ("its name", &object, "b.o", plain.clone()),
        ("the section of a type", &object, "a.o", typed("xdp")),
        ("another section", &object, "a.o", typed("xdp/other")),
        ("a provider", &object, "a.o", provided(&[("one.toml", one)])?),
        ("its text", &object, "a.o", provided(&[("one.toml", &commented)])?),
        ("its file's name", &object, "a.o", provided(&[("1.toml", one)])?),
        (
            "two providers",
            &object,
            "a.o",
            provided(&[("one.toml", one), ("two.toml", two)])?,
        ),
        (
            "their order",
            &object,
            "a.o",
            provided(&[("two.toml", two), ("one.toml", one)])?,
        ),
    ];
    for (i, (what, object, name, options)) in cases.iter().enumerate() {
        for round in ["the first time", "again"] {
            cache.verify(object, name, options)?;
            let count = entries(folder.path())?.len();
            if count != i + 1 {
                return Err(format!("{what}, {round}: {count} entries").into());
            }
        }
    }
    // What does not decide: the folder of the file, and the limits.
    let limited = BuildOptions {
        time_limit: Some(Duration::from_mins(5)),
        memory_limit: Some(1 << 40),
        ..plain
    };
    cache.verify(&object, "folder/a.o", &limited)?;
    match entries(folder.path())?.len() {
        10 => Ok(()),
        count => Err(format!("the same again: {count} entries").into()),
    }
}

fn not_kept() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let endless = root().join("tests/fixtures/limits/endless.o");
    for limit in [["--time-limit", "1"], ["--memory-limit", "16"]] {
        let object = if limit[0] == "--time-limit" {
            endless.clone()
        } else {
            endless.with_file_name("large.o")
        };
        let out = output(
            verify(Some(folder.path()), &object)
                .args(["--verifier", "prevail"])
                .args(limit),
        )?;
        if out.status.code() != Some(4) || !entries(folder.path())?.is_empty() {
            return Err(format!("{limit:?}: {out:?}").into());
        }
    }
    Ok(())
}

fn unread() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let broken = root().join("Cargo.toml");
    let out = output(&mut verify(Some(folder.path()), &broken))?;
    same(&out, &output(&mut verify(None, &broken))?, "a file that is no object")?;
    if out.status.code() != Some(3) || !entries(folder.path())?.is_empty() {
        return Err(format!("{out:?}").into());
    }
    Ok(())
}

fn unwritable() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    fs::write(&file, "in the way")?;
    for (object, status) in [(safe(), 0), (objects().remove(1), 4)] {
        let out = output(&mut verify(Some(&file), &object))?;
        let told = String::from_utf8_lossy(&out.stderr);
        if out.status.code() != Some(status) || !told.contains("warning[BPF9006]") {
            return Err(format!("{}: {told}", out.status).into());
        }
    }
    Ok(())
}

fn shared() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let expected = output(&mut verify(None, &safe()))?;
    let started: Vec<_> = (0..8)
        .map(|_| {
            let mut command = verify(Some(folder.path()), &safe());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        })
        .collect::<Result<_, _>>()?;
    for process in started {
        same(&process.wait_with_output()?, &expected, "one of eight")?;
    }
    let left = entries(folder.path())?;
    if left.len() != 1 {
        return Err(format!("in the folder: {left:?}").into());
    }
    Ok(())
}
