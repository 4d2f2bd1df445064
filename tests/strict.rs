//! Strict reading: each rule that a module must keep for the runtime and for user mode (native module contract §0, §4, §5) is
//! broken once in a module that is good otherwise, and the simulator must name that rule.
//!
//! The modules are the tool's own, drivers and DLLs for both machines, and where those lack a feature the simulator's test
//! module. `rows` holds the rules, `patching` what helps to break them. The table of x64 is `simulator/docs/strict-reading.md`;
//! `BLESS=1` rewrites it.

pub mod patching;
mod rows;

use std::fmt::Write;
use std::sync::OnceLock;

use bpf2sys_codegen::{Optimization, Optimizations, Options, Skeleton};
use bpf2sys_pe_emit::{Machine, link};
use bpf2sys_simulator::{HexBytes, Input, Rule, RunRequest, SimulatorError, Violation};
use libtest_mimic::{Failed, Trial};

use crate::forms::{MACHINES, lowered_with, machine_name, needs_to_run};
use crate::simulator_trials::shared::fixture;
use crate::simulator_trials::shared::patch::{Break, Patched};
use crate::support::{root, test, test_with};
use rows::UNSHOWN;
pub use rows::rows;

/// A rule, and one way to break it.
pub struct Row {
    /// Section of the contract.
    section: &'static str,
    /// What it demands.
    demand: &'static str,
    /// What is done to the image.
    pub broken: &'static str,
    /// The image that it is done to.
    pub base: Base,
    /// The simulator's rule.
    rule: Rule,
    /// Part of what it says.
    message: &'static str,
    pub break_it: Break,
}

/// An image that is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// A driver of the tool.
    Driver,
    /// The same driver, of which a program is run.
    Run,
    /// The same module as a DLL.
    Dll,
    /// The simulator's test module, which has maps of every type.
    EveryMap,
    /// The simulator's test module that calls functions of other modules.
    Functions,
}

const EXAMPLE: &str = "tail_dispatch";

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("strict::each_rule_is_shown_or_says_why_not", each_rule_is_there),
        test("strict::the_document_has_the_table", the_document_has_the_table),
    ];
    for machine in MACHINES {
        let name = machine_name(machine);
        for base in [Base::Driver, Base::Run, Base::Dll, Base::EveryMap, Base::Functions] {
            trials.push(test_with(
                &format!("strict::{name}::the_unbroken_image_is_good::{base:?}"),
                needs_to_run(machine),
                move || match judge(image(base, machine)?, base)? {
                    None => Ok(()),
                    Some(violation) => Err(violation.to_string().into()),
                },
            ));
        }
        for (number, row) in rows().enumerate() {
            let what = row.broken.replace(' ', "_");
            trials.push(test_with(
                &format!("strict::{name}::{:03}_{}_{what}", number + 1, row.section),
                needs_to_run(machine),
                move || row.check(machine).map(drop),
            ));
        }
    }
    trials
}

impl Row {
    /// Breaks the rule. Gives what the simulator says.
    fn check(&self, machine: Machine) -> Result<Violation, Failed> {
        let mut patched = Patched::of(image(self.base, machine)?);
        (self.break_it)(&mut patched);
        match judge(&patched.finish(), self.base)? {
            Some(violation) if violation.rule == self.rule && violation.detail.contains(self.message) => Ok(violation),
            Some(violation) => Err(format!("{:?} `{}` was due: {violation}", self.rule, self.message).into()),
            None => Err(format!("{:?} was due, nothing was said", self.rule).into()),
        }
    }
}

/// A good image, made once.
pub fn image(base: Base, machine: Machine) -> Result<&'static [u8], Failed> {
    static IMAGES: [OnceLock<Result<Vec<u8>, String>>; 4] = [const { OnceLock::new() }; 4];
    let x64 = machine == Machine::X64;
    let (skeleton, index) = match base {
        Base::Driver | Base::Run => (Skeleton::Driver, 0),
        Base::Dll => (Skeleton::Dll, 2),
        Base::EveryMap if x64 => return Ok(fixture::IMAGE),
        Base::EveryMap => return Ok(fixture::ARM64_IMAGE),
        Base::Functions if x64 => return Ok(fixture::SAMPLE),
        Base::Functions => return Ok(fixture::ARM64_SAMPLE),
    };
    let image = IMAGES[index + usize::from(x64)].get_or_init(|| {
        let options = Options {
            machine,
            skeleton,
            // With it, a function in another's place breaks its rules first: they have tests of their own.
            control_flow_guard: false,
            // A look-up that is no call passes no map.
            optimizations: Optimizations::ALL.set(Optimization::ArrayLookups, false),
            ..Options::default()
        };
        let object = lowered_with(EXAMPLE, &options).map_err(|e| format!("{e:?}"))?;
        Ok(link(&object).map_err(|e| e.to_string())?.bytes().to_vec())
    });
    image.as_deref().map_err(|e| e.clone().into())
}

/// The first rule that an image breaks. That it is loaded, and run where that is wanted, is an error if there is another
/// reason for it not to be.
fn judge(image: &[u8], base: Base) -> Result<Option<Violation>, Failed> {
    let mut request = RunRequest {
        image: image.to_vec(),
        ..RunRequest::default()
    };
    if base == Base::Run {
        request.inputs.push(Input {
            program: "dispatch".into(),
            packet: HexBytes(std::fs::read(root().join("examples").join(EXAMPLE).join("echo.bin"))?),
            ..Input::default()
        });
    }
    if base == Base::Functions {
        request.platform_files = fixture::sample_request(vec![]).platform_files;
    }
    match bpf2sys_simulator::run(&request) {
        Ok(_) => Ok(None),
        Err(SimulatorError::UserMode(violation) | SimulatorError::Kernel { violation, .. }) => Ok(Some(violation)),
        Err(SimulatorError::Loader(violations)) => Ok(violations.into_iter().next()),
        Err(other) => Err(other.to_string().into()),
    }
}

/// Every section of the contract that has rules of this kind.
const SECTIONS: [&str; 24] = [
    "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "0.10", "3", "4.1", "4.2", "4.3", "4.4", "4.5",
    "4.6", "4.7", "4.8", "4.9", "5.1", "5.2", "5.3", "5.4",
];

fn each_rule_is_there() -> Result<(), Failed> {
    let known = |section: &str| SECTIONS.contains(&section);
    for section in SECTIONS {
        if !rows().any(|row| row.section == section)
            && !UNSHOWN.iter().any(|row| row.0.split(", ").any(|s| s == section))
        {
            return Err(format!("nothing is said of §{section}").into());
        }
    }
    let mut seen: Vec<_> = rows().map(|row| (row.section, row.demand, row.broken)).collect();
    seen.sort_unstable();
    if let Some([row, _]) = seen.array_windows().find(|[row, next]| row == next) {
        return Err(format!("{row:?} is there twice").into());
    }
    match rows().map(|row| row.section).find(|section| !known(section)) {
        Some(section) => Err(format!("§{section} is none of the sections").into()),
        None => Ok(()),
    }
}

/// Places and sizes in messages are those of one image: the document leaves them out.
fn without_numbers(text: &str) -> String {
    let mut short = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("0x") {
        let (before, number) = rest.split_at(at + 2);
        let digits = number.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(number.len());
        short.push_str(before);
        short.push('…');
        rest = &number[digits..];
    }
    short.push_str(rest);
    short
}

fn the_document_has_the_table() -> Result<(), Failed> {
    let mut table = String::from(
        "| # | § | what the contract demands | what is broken | rule that is named | message |\n|---|---|---|---|---|---|\n",
    );
    for (number, row) in rows().enumerate() {
        let violation = row.check(Machine::X64)?;
        writeln!(
            table,
            "| {} | {} | {} | {} | `{}` | {} |",
            number + 1,
            row.section,
            row.demand,
            row.broken,
            violation.rule.code(),
            without_numbers(&violation.detail).replace('|', "\\|")
        )?;
    }
    table.push_str("\n| § | what the contract demands | why no broken image shows it |\n|---|---|---|\n");
    for (section, demand, reason) in UNSHOWN {
        writeln!(table, "| {section} | {demand} | {reason} |")?;
    }
    let path = root().join("simulator/docs/strict-reading.md");
    let text = std::fs::read_to_string(&path)?;
    let start = text.find("\n| ").map_or(text.len(), |at| at + 1);
    let wanted = format!("{}{table}", &text[..start]);
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, wanted)?;
    } else if text != wanted {
        return Err(format!("{} differs; `BLESS=1` rewrites it if that is meant", path.display()).into());
    }
    Ok(())
}
