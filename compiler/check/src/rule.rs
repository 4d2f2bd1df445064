//! What a rule is, and the list of all.

use serde::Serialize;

use crate::options::Policy;
use crate::subject::Subject;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// PE headers.
    Headers,
    /// The section table.
    Sections,
    /// Memory integrity (HVCI).
    MemoryIntegrity,
    /// Imports.
    Imports,
    /// Base relocations.
    Relocations,
    /// Load configuration.
    LoadConfiguration,
    /// Control Flow Guard.
    ControlFlowGuard,
    /// Function table and unwind data.
    ExceptionData,
    /// Debug directory.
    DebugDirectory,
    /// Resources.
    Resources,
    /// Machine code.
    Code,
    /// The file as user mode reads it.
    UserMode,
    /// The tables as the runtime reads them.
    ModuleTables,
    /// Maps, programs and what they use.
    ModuleContents,
    /// What makes the image a driver or DLL of a module.
    LifeCycle,
    /// The embedded signature.
    Signature,
}

impl Group {
    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Group::Headers => "headers",
            Group::Sections => "sections",
            Group::MemoryIntegrity => "memory integrity",
            Group::Imports => "imports",
            Group::Relocations => "base relocations",
            Group::LoadConfiguration => "load configuration",
            Group::ControlFlowGuard => "control flow guard",
            Group::ExceptionData => "exception data",
            Group::DebugDirectory => "debug directory",
            Group::Resources => "resources",
            Group::Code => "machine code",
            Group::UserMode => "module file",
            Group::ModuleTables => "module tables",
            Group::ModuleContents => "module contents",
            Group::LifeCycle => "life cycle",
            Group::Signature => "signature",
        }
    }
}

/// The images that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Every driver, and every DLL of a module.
    Image,
    /// Every driver.
    Driver,
    /// Native eBPF modules.
    Module,
    /// Native eBPF modules in drivers.
    ModuleDriver,
    /// Native eBPF modules in DLLs.
    ModuleDll,
}

impl Scope {
    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Scope::Image => "every image",
            Scope::Driver => "drivers",
            Scope::Module => "native modules",
            Scope::ModuleDriver => "drivers of native modules",
            Scope::ModuleDll => "DLLs of native modules",
        }
    }
}

/// What becomes of an image that does not keep a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// The row fails.
    Required,
    /// The row fails for a native module. Windows loads other drivers all the same, for which the row says what was found.
    RequiredOfModules,
    /// Recommended: the row passes or says what was found.
    Advice,
}

impl Weight {
    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Weight::Required => "required",
            Weight::RequiredOfModules => "required of native modules",
            Weight::Advice => "recommended",
        }
    }
}

/// What a rule says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is kept; the value that was found.
    Pass(String),
    /// It is broken; the value that was found.
    Fail(String),
    /// There is nothing to judge; why.
    NotApplicable(String),
}

/// What is wrong: how many things, and the first few of them. A file can have millions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wrong {
    count: usize,
    first: Vec<String>,
}

impl Wrong {
    /// Adds one more.
    pub(crate) fn add(&mut self, text: impl FnOnce() -> String) {
        const SHOWN: usize = 3;
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(text());
        }
    }
}

impl FromIterator<String> for Wrong {
    fn from_iter<I: IntoIterator<Item = String>>(texts: I) -> Wrong {
        let mut wrong = Wrong::default();
        wrong.extend(texts);
        wrong
    }
}

impl Extend<String> for Wrong {
    fn extend<I: IntoIterator<Item = String>>(&mut self, texts: I) {
        for text in texts {
            self.add(|| text);
        }
    }
}

impl Verdict {
    /// Pass if nothing is wrong, else fail with the first few of what is.
    pub(crate) fn of(wrong: Wrong, measured: impl Into<String>) -> Verdict {
        let Wrong { count, first } = wrong;
        if count == 0 {
            return Verdict::Pass(measured.into());
        }
        let mut text = first.join("; ");
        if count > first.len() {
            text += &format!("; and {} more", count - first.len());
        }
        Verdict::Fail(text)
    }

    /// Pass if it is so, else fail, with the same value.
    pub(crate) fn when(kept: bool, measured: impl Into<String>) -> Verdict {
        let measured = measured.into();
        if kept {
            Verdict::Pass(measured)
        } else {
            Verdict::Fail(measured)
        }
    }

    /// There is nothing to judge.
    pub(crate) fn none(why: impl Into<String>) -> Verdict {
        Verdict::NotApplicable(why.into())
    }
}

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name.
    pub id: &'static str,
    /// What it is about.
    pub group: Group,
    /// What it demands, one line.
    pub title: &'static str,
    /// Why: what happens otherwise.
    pub why: &'static str,
    /// The document that says so.
    pub source: &'static str,
    /// The images that it is for.
    pub scope: Scope,
    /// What becomes of an image that does not keep it.
    pub weight: Weight,
    /// The weakest policy that asks for it.
    pub from: Policy,
    /// The judgement.
    pub(crate) judge: fn(&Subject<'_>) -> Verdict,
}

impl Rule {
    /// A required rule of every policy.
    pub(crate) const fn new(
        group: Group,
        scope: Scope,
        id: &'static str,
        [title, why, source]: [&'static str; 3],
        judge: fn(&Subject<'_>) -> Verdict,
    ) -> Rule {
        Rule {
            id,
            group,
            title,
            why,
            source,
            scope,
            weight: Weight::Required,
            from: Policy::Hvci,
            judge,
        }
    }

    /// The same with another weight.
    pub(crate) const fn weighing(mut self, weight: Weight) -> Rule {
        self.weight = weight;
        self
    }

    /// The same, asked for from this policy on.
    pub(crate) const fn from(mut self, policy: Policy) -> Rule {
        self.from = policy;
        self
    }

    /// All rules, in the order of reports.
    pub fn all() -> impl Iterator<Item = &'static Rule> {
        let lists: [&'static [Rule]; 26] = [
            crate::headers::RULES,
            crate::sections::RULES,
            crate::memory_integrity::RULES,
            crate::imports::RULES,
            crate::relocations::RULES,
            crate::load_config::RULES,
            crate::guard::RULES,
            crate::exception::RULES,
            crate::debug::RULES,
            crate::resources::RULES,
            crate::code::RULES,
            crate::module::file::RULES,
            crate::module::user_tables::RULES,
            crate::module::user_programs::RULES,
            crate::module::views::RULES,
            crate::module::metadata::RULES,
            crate::module::elements::RULES,
            crate::module::runtime::RULES,
            crate::module::maps::RULES,
            crate::module::programs::RULES,
            crate::module::globals::RULES,
            crate::module::helpers::RULES,
            crate::module::values::RULES,
            crate::driver::RULES,
            crate::dll::RULES,
            crate::signature::RULES,
        ];
        lists.into_iter().flatten()
    }

    /// The rule of this name.
    pub fn named(id: &str) -> Option<&'static Rule> {
        Rule::all().find(|rule| rule.id == id)
    }
}
