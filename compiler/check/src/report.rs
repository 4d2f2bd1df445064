//! What was found: one row for each rule.

use serde::Serialize;

use crate::options::Policy;
use crate::rule::{Group, Rule, Scope, Verdict, Weight};
use crate::subject::Subject;

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The rule is kept.
    Pass,
    /// There is nothing that it could be asked of, or nothing that must keep it.
    NotApplicable,
    /// The rule is broken.
    Fail,
}

/// One rule, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The rule's name.
    pub rule: &'static str,
    /// What it is about.
    pub group: Group,
    /// What it demands.
    pub title: &'static str,
    /// What came of it.
    pub status: Status,
    /// The value that was found; empty where nothing was looked at.
    pub measured: String,
    /// Of what fails, what happens then; of what does not apply, why.
    pub reason: String,
    /// The document that the rule is from.
    pub source: &'static str,
}

/// All rules, judged for one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was asked for.
    pub policy: Policy,
    /// `x64`, `arm64`, or the machine number.
    pub machine: String,
    /// Whether it is a DLL; what is not is taken for a driver.
    pub dll: bool,
    /// Whether it holds a native eBPF module.
    pub module: bool,
    /// The rows, in the order of [`Rule::all`].
    pub rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(subject: &Subject<'_>) -> Report {
        Report {
            policy: subject.options.policy,
            machine: subject.image.machine_name(),
            dll: subject.is_dll,
            module: subject.is_module,
            rows: Rule::all().map(|rule| judge(rule, subject)).collect(),
        }
    }

    /// The rows that fail.
    pub fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.status == Status::Fail)
    }
}

fn judge(rule: &Rule, subject: &Subject<'_>) -> Row {
    let (status, measured, reason) = match outcome(rule, subject) {
        Verdict::Pass(measured) => (Status::Pass, measured, String::new()),
        Verdict::NotApplicable(reason) => (Status::NotApplicable, String::new(), reason),
        Verdict::Fail(measured) => match tolerance(rule.weight, subject) {
            None => (Status::Fail, measured, rule.why.to_owned()),
            Some(reason) => (Status::NotApplicable, measured, reason.to_owned()),
        },
    };
    Row {
        rule: rule.id,
        group: rule.group,
        title: rule.title,
        status,
        measured,
        reason,
        source: rule.source,
    }
}

fn outcome(rule: &Rule, subject: &Subject<'_>) -> Verdict {
    let applies = match rule.scope {
        Scope::Image => true,
        Scope::Driver => !subject.is_dll,
        Scope::Module => subject.is_module,
        Scope::ModuleDriver => subject.is_module && !subject.is_dll,
        Scope::ModuleDll => subject.is_module && subject.is_dll,
    };
    if !applies {
        return Verdict::none(format!("it is for {}", rule.scope.title()));
    }
    if subject.options.policy < rule.from {
        return Verdict::none(format!("asked for from policy {} on", rule.from.name()));
    }
    (rule.judge)(subject)
}

/// Why an image may break a rule of this weight.
fn tolerance(weight: Weight, subject: &Subject<'_>) -> Option<&'static str> {
    match weight {
        Weight::Required => None,
        Weight::RequiredOfModules if subject.is_module => None,
        Weight::RequiredOfModules => Some("Windows loads such a driver; only native modules must keep it"),
        Weight::Advice => Some("recommended, not needed"),
    }
}
