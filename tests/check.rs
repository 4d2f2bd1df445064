//! `check`: every rule has an image that it alone catches, and good images keep them all.
//!
//! The broken images are made of the tool's own, for both machines: `rows` says how each rule is broken, `breaking` has what
//! helps to do it. Other judges are the simulator's rows of modules that the runtime refuses, and `image_check.py` where it is
//! there.

mod breaking;
mod command;
mod foreign;
mod mutations;
mod rows;
mod signed;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{LazyLock, OnceLock};

use bpf2sys_check::{Options, Report, Row as Judged, Rule, Status, check, rules_page};
use bpf2sys_codegen::Skeleton;
use bpf2sys_pe_emit::{Machine, link};
use bpf2sys_platform::Platform;
use libtest_mimic::{Failed, Trial};

use crate::examples::EXAMPLES;
use crate::forms::{MACHINES, lowered, machine_name};
use crate::simulator_trials::shared::fixture;
use crate::simulator_trials::shared::patch::Patched;
use crate::strict;
use crate::support::{Need, judge, root, succeed, test, test_with};
use rows::{ADVICE, Base, Row, UNSHOWN, rows};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("check::every_rule_has_a_row", every_rule_has_a_row),
        test("check::the_page_lists_every_rule", the_page_lists_every_rule),
        test("check::resources_are_read", resources_are_read),
        test_with("check::another_judge_agrees", &[Need::Judge], another_judge_agrees),
        test(
            "check::modules_that_the_simulator_refuses_break_a_rule",
            refused_modules_break_a_rule,
        ),
    ];
    for machine in MACHINES {
        let name = machine_name(machine);
        trials.push(test(&format!("check::{name}::examples_keep_every_rule"), move || {
            examples_keep_every_rule(machine)
        }));
        trials.push(test(&format!("check::{name}::each_rule_is_caught_alone"), move || {
            each_rule_is_caught_alone(machine)
        }));
        trials.push(test(&format!("check::{name}::advice_fails_nothing"), move || {
            advice_fails_nothing(machine)
        }));
    }
    trials.extend(command::trials());
    trials.extend(foreign::trials());
    trials.extend(mutations::trials());
    trials.extend(signed::trials());
    trials
}

/// The built-in providers and the one of `testdata/sample.c`.
fn platform() -> &'static Platform {
    static PLATFORM: LazyLock<Platform> = LazyLock::new(|| {
        let files = fixture::sample_request(vec![]).platform_files;
        let files = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let all: Vec<_> = Platform::builtin_files().iter().copied().chain(files).collect();
        Platform::from_toml(&all).expect("the test's provider is one")
    });
    &PLATFORM
}

fn report(image: &[u8], options: &Options) -> Result<Report, Failed> {
    Ok(check(image, options, platform())?)
}

/// The rules that an image breaks.
fn broken(image: &[u8], options: &Options) -> Result<BTreeSet<&'static str>, Failed> {
    Ok(report(image, options)?.failures().map(|row| row.rule).collect())
}

/// An image of the tool, made once for each form.
fn built(example: &'static str, machine: Machine, skeleton: Skeleton) -> Result<Vec<u8>, Failed> {
    Ok(link(&lowered(example, machine, skeleton)?)?.bytes().to_vec())
}

/// The image that a row breaks.
fn image(base: Base, machine: Machine) -> Result<Vec<u8>, Failed> {
    static IMAGES: [OnceLock<Result<Vec<u8>, String>>; 8] = [const { OnceLock::new() }; 8];
    let x64 = machine == Machine::X64;
    let (example, skeleton, index) = match base {
        Base::Driver => ("tail_dispatch", Skeleton::Driver, 0),
        Base::Dll => ("tail_dispatch", Skeleton::Dll, 2),
        Base::Single => ("udp_filter", Skeleton::Driver, 4),
        Base::Functions if x64 => return Ok(fixture::SAMPLE.to_vec()),
        Base::Functions => return Ok(fixture::ARM64_SAMPLE.to_vec()),
        Base::Runtime14 => {
            let module = root().join("examples/udp_filter/udp_filter.o");
            let options = bpf2sys::BuildOptions::default();
            let verified = bpf2sys::verify(&std::fs::read(module)?, "udp_filter.o", &options)?;
            let options = bpf2sys_codegen::Options {
                machine,
                runtime: bpf2sys_codegen::RuntimeLevel::V1_4,
                ..bpf2sys_codegen::Options::default()
            };
            let lowered = bpf2sys_codegen::lower(&verified, &Platform::builtin(), &options)?;
            return Ok(link(&lowered.object)?.bytes().to_vec());
        }
    };
    let made = IMAGES[index + usize::from(x64)]
        .get_or_init(|| built(example, machine, skeleton).map_err(|e| e.message().unwrap_or("?").to_owned()));
    made.clone().map_err(Failed::from)
}

impl Row {
    /// The broken image.
    fn image(&self, machine: Machine) -> Result<Vec<u8>, Failed> {
        let mut patched = Patched::of(&image(self.base, machine)?);
        (self.break_it)(&mut patched);
        let mut bytes = patched.finish();
        if let Some(after) = self.after {
            after(&mut bytes);
        }
        Ok(bytes)
    }

    /// What is wrong if not this rule alone fails.
    fn problem(&self, machine: Machine) -> Result<Option<String>, Failed> {
        let found = broken(&self.image(machine)?, &(self.options)())?;
        let mut due = BTreeSet::from([self.rule]);
        due.extend(self.also.iter().copied());
        let name = machine_name(machine);
        Ok((found != due).then(|| format!("{name}: {} was to break {due:?}, broken are {found:?}", self.rule)))
    }

    fn is_for(&self, machine: Machine) -> bool {
        self.only.is_none_or(|only| only == machine)
    }
}

fn each_rule_is_caught_alone(machine: Machine) -> Result<(), Failed> {
    for base in [Base::Driver, Base::Dll, Base::Single, Base::Functions, Base::Runtime14] {
        let found = broken(&image(base, machine)?, &Options::default())?;
        if !found.is_empty() {
            return Err(format!("{base:?} breaks {found:?} as it is").into());
        }
    }
    let mut problems = Vec::new();
    for row in rows().filter(|row| row.is_for(machine)) {
        problems.extend(row.problem(machine)?);
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n").into())
    }
}

fn every_rule_has_a_row() -> Result<(), Failed> {
    let shown = rows().map(|row| row.rule).chain(ADVICE.iter().map(|row| row.rule));
    let shown: BTreeSet<&str> = shown.chain(UNSHOWN.iter().map(|(rule, _)| *rule)).collect();
    let all: BTreeSet<&str> = Rule::all().map(|rule| rule.id).collect();
    assert_eq!(all.len(), Rule::all().count(), "two rules have the same name");
    let missing: Vec<_> = all.difference(&shown).collect();
    let unknown: Vec<_> = shown.difference(&all).collect();
    if missing.is_empty() && unknown.is_empty() {
        Ok(())
    } else {
        Err(format!("no broken image for {missing:?}, and no rules {unknown:?}").into())
    }
}

/// What is recommended is said, and nothing fails for it.
fn advice_fails_nothing(machine: Machine) -> Result<(), Failed> {
    for row in ADVICE.iter().filter(|row| row.is_for(machine)) {
        let report = report(&row.image(machine)?, &(row.options)())?;
        let failures: Vec<&Judged> = report.failures().collect();
        let found = report.rows.iter().find(|judged| judged.rule == row.rule);
        let said = found.is_some_and(|judged| judged.status == Status::NotApplicable && !judged.measured.is_empty());
        if !failures.is_empty() || !said {
            return Err(format!("{}: {found:?}, broken {failures:?}", row.rule).into());
        }
    }
    Ok(())
}

fn resources_are_read() -> Result<(), Failed> {
    let mut patched = Patched::of(&image(Base::Driver, Machine::X64)?);
    breaking::add_version(&mut patched);
    let report = report(&patched.finish(), &Options::default())?;
    let measured = |rule: &str| {
        let row = report.rows.iter().find(|row| row.rule == rule);
        row.filter(|row| row.status == Status::Pass)
            .map(|row| row.measured.as_str())
    };
    assert_eq!(measured("resource.directory"), Some("1 resources"));
    assert_eq!(measured("resource.version"), Some("1.2.3.4"));
    assert_eq!(report.failures().count(), 0);
    Ok(())
}

fn examples_keep_every_rule(machine: Machine) -> Result<(), Failed> {
    for example in EXAMPLES {
        for skeleton in [Skeleton::Driver, Skeleton::Dll] {
            let report = report(&built(example, machine, skeleton)?, &Options::default())?;
            let failures: Vec<&Judged> = report.failures().collect();
            if !failures.is_empty() || !report.module {
                return Err(format!("{example}, {skeleton:?}: {failures:#?}").into());
            }
        }
    }
    Ok(())
}

/// The simulator refuses modules for what it sees when it runs them, too; of these, the file says nothing.
const SEEN_ONLY_WHEN_RUN: [&str; 2] = ["the program array left out", "returns 0"];

fn refused_modules_break_a_rule() -> Result<(), Failed> {
    let mut missed = Vec::new();
    for machine in MACHINES {
        for row in strict::rows() {
            let base = strict::image(row.base, machine)?;
            let before = broken(base, &Options::default())?;
            let mut patched = Patched::of(base);
            // The table of valid targets does not have the functions that some of them add.
            breaking::unguarded(&mut patched);
            (row.break_it)(&mut patched);
            let new = broken(&patched.finish(), &Options::default())?
                .difference(&before)
                .count();
            if (new == 0) != SEEN_ONLY_WHEN_RUN.contains(&row.broken) {
                missed.push(format!("{} ({:?}, {new} rules)", row.broken, row.base));
            }
        }
    }
    if missed.is_empty() {
        Ok(())
    } else {
        Err(format!("the simulator refuses, the check does not, or the other way round: {missed:#?}").into())
    }
}

/// Beginnings of names of rules that the other judge may miss, and why.
const NOT_JUDGED_THERE: &[(&str, &str)] = &[
    ("sign.", "it says whether there is a certificate table, and no more"),
    ("resource.directory", "it reads no resources"),
    ("pe.subsystem-version", "it takes any"),
    ("pe.directories", "it looks at those that it reads"),
    ("pe.unused-directories", "it does not look at them"),
    ("section.uninitialized", "it takes any place of what is empty"),
    ("hvci.relocated-code", "it looks at relocations of fields that it knows"),
    ("reloc.in-section", "it looks at the first byte"),
    ("load-config.size", "it takes what the structure says"),
    ("cfg.targets-complete", "it knows callbacks from running the driver"),
    ("cfg.calls-guarded", "of ARM64 it looks at programs"),
    ("debug.", "it lists the entries"),
    ("unwind.matches-code", "of ARM64 it looks at programs"),
    ("stack.frame", "of ARM64 it looks at programs"),
    ("code.", "it looks at the sections of programs"),
    (
        "contract.0.",
        "it needs to run the module's functions, which takes too long here",
    ),
    ("contract.1.", "the same"),
    ("contract.2.", "the same"),
    ("contract.4.", "the same"),
    ("contract.6.", "the same"),
    (
        "contract.5.2.program-markers",
        "it asks for the first only, as user mode does",
    ),
];

fn another_judge_agrees() -> Result<(), Failed> {
    const LOOP: &str = "
import sys
sys.path.insert(0, sys.argv[1])
import image_check
for path in sys.argv[2:]:
    report = image_check.check(open(path, 'rb').read(), emulate=False)
    print(path, len(report.failures), sep='\\t')
";
    let (script, _) = judge().ok_or("no judge")?;
    let folder = tempfile::tempdir()?;
    let mut files = Vec::new();
    for machine in MACHINES {
        let name = machine_name(machine);
        for example in EXAMPLES {
            for skeleton in [Skeleton::Driver, Skeleton::Dll] {
                let path = folder.path().join(format!("good-{example}-{name}-{skeleton:?}"));
                std::fs::write(&path, built(example, machine, skeleton)?)?;
                files.push(path);
            }
        }
        for (number, row) in rows().filter(|row| row.is_for(machine)).enumerate() {
            let path = folder.path().join(format!("{}-{name}-{number}", row.rule));
            std::fs::write(&path, row.image(machine)?)?;
            files.push(path);
        }
    }
    let tools = script.parent().ok_or("no folder")?;
    let told = succeed(Command::new("python3").arg("-c").arg(LOOP).arg(tools).args(&files))?;
    let mut problems = Vec::new();
    for line in told.lines() {
        let (path, failures) = line.split_once('\t').ok_or("no tab")?;
        let name = path.rsplit('/').next().unwrap_or(path);
        let good = name.starts_with("good-");
        let excused = NOT_JUDGED_THERE.iter().any(|(rule, _)| name.starts_with(rule));
        if (failures == "0") != good && !excused {
            problems.push(format!("{name}: {failures} failures there"));
        }
    }
    if problems.is_empty() && told.lines().count() == files.len() {
        Ok(())
    } else {
        Err(format!("{problems:#?}").into())
    }
}

fn the_page_lists_every_rule() -> Result<(), Failed> {
    let path = root().join("compiler/check/docs/rules.md");
    let wanted = rules_page();
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, wanted)?;
    } else if std::fs::read_to_string(&path)?.replace("\r\n", "\n") != wanted {
        return Err(format!("{} differs; `BLESS=1` rewrites it if that is meant", path.display()).into());
    }
    Ok(())
}
