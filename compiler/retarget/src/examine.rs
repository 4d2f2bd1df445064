//! What becomes of each program of a module, without building one.
//!
//! Given: a module for Linux. Computed: of each of its programs alone, what it has of Linux, what becomes of that, and how far it comes.
//! Safe because: nothing is made of it.

use std::time::Instant;

use bpf2sys_bytecode::{FunctionIndex, Module};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::{Options, VerifyError, verify};

use crate::retarget::{Fate, Subject, Use, outline, retarget};
use crate::{System, linux, rules};

/// A program, and what becomes of it.
#[derive(Debug)]
pub struct Examined {
    /// The part of the module that is this program, with what it calls and uses. [`Use::function`] counts in this.
    pub module: Module,
    /// The program, in that part.
    pub program: FunctionIndex,
    /// Its program type; none if its section selects none that Windows has.
    pub program_type: Option<String>,
    /// How far it comes.
    pub level: Level,
    /// What it has of Linux. Where it is not proven safe on Linux, only what can be told without that.
    pub uses: Vec<Use>,
    /// Why a proof failed, if one did: on Linux, or of what was made of it on Windows.
    pub unproven: Option<(System, VerifyError)>,
    /// Differences in behaviour that stay.
    pub differences: Vec<&'static str>,
}

/// How far a program comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It does the same on Windows.
    Exact,
    /// It gets answers that Linux could give, too, but less than on Linux.
    Degraded,
    /// Nothing can be made of it.
    Blocked,
}

impl Level {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Level::Exact => "exact",
            Level::Degraded => "degraded",
            Level::Blocked => "blocked",
        }
    }

    /// How far something comes that has these uses.
    pub fn of(uses: &[Use]) -> Level {
        let each = uses.iter().map(|u| match u.fate {
            Fate::Exact(_) => Level::Exact,
            Fate::Degraded(_) => Level::Degraded,
            Fate::Blocked { .. } => Level::Blocked,
        });
        each.max().unwrap_or(Level::Exact)
    }
}

/// Examines each program of a module, in file order. The time limit of the options is for all together.
pub fn examine(module: &Module, windows: &Platform, options: &Options) -> Vec<Examined> {
    let programs: Vec<FunctionIndex> = module.programs().map(|(index, _)| index).collect();
    let started = Instant::now();
    let mut all = Vec::new();
    for program in programs {
        // The limit is one for all.
        let time_limit = options.time_limit.saturating_sub(started.elapsed());
        let options = Options {
            time_limit,
            ..options.clone()
        };
        all.push(one(module, program, windows, &options));
    }
    all
}

fn one(module: &Module, program: FunctionIndex, windows: &Platform, options: &Options) -> Examined {
    let name = &module.function(program).name;
    let part = module.only(&[program]);
    let found = part.programs().find(|(_, f)| f.name == *name).map(|(index, _)| index);
    let program = found.unwrap_or(FunctionIndex(0));
    let mut examined = Examined {
        program,
        program_type: None,
        level: Level::Blocked,
        uses: outline(&part),
        unproven: None,
        differences: Vec::new(),
        module: part,
    };
    examined.judge(windows, options);
    examined.differences = examined.stays();
    examined
}

impl Examined {
    /// What stands against it first, if something does.
    pub fn first_blocked(&self) -> Option<&Use> {
        self.uses.iter().find(|u| u.blocked().is_some())
    }

    fn judge(&mut self, windows: &Platform, options: &Options) {
        let section = options.program_type.as_ref();
        let section = section.unwrap_or(&self.module.function(self.program).section);
        let known = linux().program_type_for_section(section);
        self.program_type = known.map(|(known, _)| known.name.clone());
        if self.program_type.is_none() {
            return;
        }
        let there = match verify(self.module.clone(), linux(), options) {
            Ok(there) => there,
            Err(error) => {
                // What has no counterpart has no prototype either: then that is what stands against it.
                if self.first_blocked().is_none() {
                    self.unproven = Some((System::Linux, error));
                }
                return;
            }
        };
        let made = retarget(&there, windows);
        self.uses = made.uses;
        if let Some(made) = made.module {
            match verify(made, windows, options) {
                Ok(_) => self.level = Level::of(&self.uses),
                Err(error) => self.unproven = Some((System::Windows, error)),
            }
        }
    }

    /// Differences that stay.
    fn stays(&self) -> Vec<&'static str> {
        let section = &self.module.function(self.program).section;
        let is_of = |d: &rules::Difference| {
            let by_type = self.program_type.as_ref().is_some_and(|t| d.types.contains(t))
                && (d.sections.is_empty() || d.sections.iter().any(|s| section.starts_with(s.as_str())));
            let by_map = self.module.maps.iter().any(|map| {
                let rule = rules::maps().types.iter().find(|t| t.linux == map.definition.map_type);
                rule.is_some_and(|rule| d.maps.contains(&rule.name))
            });
            let by_helper = self.uses.iter().any(|u| match &u.subject {
                Subject::Helper(name) => d.helpers.contains(name),
                _ => false,
            });
            by_type || by_map || by_helper
        };
        let all = rules::differences().iter().filter(|d| is_of(d));
        all.map(|d| d.text.as_str()).collect()
    }
}
