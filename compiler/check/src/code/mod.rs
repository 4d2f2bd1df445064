//! Machine code: what the instructions that execution can reach do.
//!
//! Given: the image. Computed: for each rule, the places that break it. Execution is followed from the entry point, the
//! functions of the function table, and every address of code in data, through direct branches and calls; what only a
//! computed jump reaches is not seen. So data among code is not taken for instructions.
//!
//! Work is bounded by the size of the file: there are no more instructions than bytes, unless sections overlap, and then
//! the search stops and says so. It also stops where a function has more branches than any has.

mod arm64;
mod x64;

use std::collections::{BTreeSet, HashSet};

use bpf2sys_simulator::image::{Image, Rva, Section};

use crate::rule::{Group, Rule, Scope, Verdict, Weight, Wrong};
use crate::subject::Subject;

/// Most branches that wait to be followed at a time. The largest functions have some thousands.
const MOST_BRANCHES: usize = 1 << 18;

/// What is known of the code.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    /// Instructions that were looked at.
    pub(crate) instructions: usize,
    /// Why the search was given up, if it was.
    pub(crate) given_up: Option<&'static str>,
    /// Wrong where execution finds no instruction.
    pub(crate) undecodable: Wrong,
    /// x87 and MMX instructions.
    pub(crate) x87: Wrong,
    /// Instructions whose registers the kernel does not save: AVX and beyond, SVE.
    pub(crate) vector: Wrong,
    /// Privileged instructions and traps into the system.
    pub(crate) privileged: Wrong,
    /// Branches and calls that lead to no code.
    pub(crate) wild: Wrong,
    /// Writes of the platform register.
    pub(crate) platform_register: Wrong,
    /// Instructions of frames in code that the function table does not cover.
    pub(crate) uncovered: Wrong,
    /// Indirect calls that nobody checks.
    pub(crate) unguarded: Wrong,
    /// Indirect calls that are checked.
    pub(crate) guarded_calls: usize,
    /// RVAs of functions of the function table whose addresses code takes.
    pub(crate) taken: BTreeSet<u32>,
    /// Beginnings and ends of the function table's functions, ascending.
    functions: Vec<(u32, u32)>,
}

/// Where an instruction leads.
#[derive(Default)]
struct Step {
    /// Its bytes; 0 if there is none.
    length: u32,
    /// Whether execution goes on behind it.
    continues: bool,
    /// Where a branch or call goes.
    target: Option<i64>,
    /// Whether it is a call.
    calls: bool,
}

/// What is known of registers on the way to an instruction.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// By register number, what is in it.
    registers: [Value; 32],
    /// Whether the last call checked a target.
    checked: bool,
}

/// What is in a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Value {
    #[default]
    Unknown,
    /// The address with this RVA.
    Address(u32),
    /// What was in the eight bytes with this RVA.
    Loaded(u32),
}

/// What is behind a pointer that a call goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Import,
    Check,
    Dispatch,
    Other,
}

/// What the two machines' readers need to know of the image.
struct Around<'s, 'a> {
    subject: &'s Subject<'a>,
    imports: HashSet<u32>,
    check: Option<u32>,
    dispatch: Option<u32>,
}

impl Around<'_, '_> {
    fn slot(&self, rva: u32) -> Slot {
        if self.imports.contains(&rva) {
            Slot::Import
        } else if self.check == Some(rva) {
            Slot::Check
        } else if self.dispatch == Some(rva) {
            Slot::Dispatch
        } else {
            Slot::Other
        }
    }

    /// The slot whose content is in a register.
    fn slot_in(&self, value: Value) -> Slot {
        match value {
            Value::Loaded(rva) => self.slot(rva),
            _ => Slot::Other,
        }
    }
}

impl Scan {
    /// Follows the code of an image.
    pub(crate) fn of(s: &Subject<'_>) -> Scan {
        let mut functions: Vec<(u32, u32)> = s.functions.iter().flatten().map(|f| (f.begin, f.end)).collect();
        functions.sort_unstable();
        let mut scan = Scan {
            functions,
            ..Scan::default()
        };
        let step = match s.image.machine {
            Image::X64 => x64::step,
            Image::ARM64 => arm64::step,
            _ => {
                scan.given_up = Some("code of this machine is not read");
                return scan;
            }
        };
        let config = s.load_config.as_ref().and_then(|config| config.as_ref().ok());
        let pointer = |address: u64| s.image.rva_of(address).map(|rva| rva.0);
        let around = Around {
            subject: s,
            imports: s.imports.iter().flatten().map(|import| import.slot.0).collect(),
            check: config.and_then(|c| pointer(c.guard_check)),
            dispatch: config.and_then(|c| pointer(c.guard_dispatch)),
        };
        let taken = s
            .pointers()
            .filter_map(|(_, value)| s.image.rva_of(value))
            .map(|rva| rva.0);
        let begins = scan.functions.iter().map(|(begin, _)| *begin);
        // Last in, first out: the functions in their order.
        let mut functions: Vec<u32> = begins
            .chain(taken)
            .chain([s.image.entry.0])
            .filter(|rva| s.is_code(Rva(*rva)))
            .collect();
        functions.reverse();
        let mut branches: Vec<(u32, Known)> = Vec::new();
        let mut seen = HashSet::new();
        // All of a function first. Where another begins, nothing is known: it is called from other places, too.
        while let Some((start, mut known)) = branches
            .pop()
            .or_else(|| functions.pop().map(|begin| (begin, Known::default())))
        {
            let mut rva = start;
            while seen.insert(rva) {
                if seen.len() > s.image.bytes.len() {
                    return scan
                        .give_up("sections overlap in the file, so that there is more code than the file has bytes");
                }
                if branches.len() > MOST_BRANCHES {
                    return scan.give_up("there are more branches ahead than any function has");
                }
                let found = step(&around, rva, code_at(s, rva), &mut known, &mut scan);
                scan.instructions += 1;
                if let Some(target) = found.target {
                    match u32::try_from(target).ok().filter(|target| s.is_code(Rva(*target))) {
                        Some(target) if seen.contains(&target) => {}
                        Some(target) if found.calls || scan.function_at(target) == Some(target) => {
                            functions.push(target);
                        }
                        Some(target) => branches.push((target, known)),
                        None => scan
                            .wild
                            .add(|| format!("{} leads to RVA {target:#x}", s.place(Rva(rva)))),
                    }
                }
                if found.length == 0 {
                    scan.undecodable.add(|| s.place(Rva(rva)));
                }
                let next = rva
                    .checked_add(found.length)
                    .filter(|_| found.continues && found.length != 0);
                let Some(next) = next else { break };
                if scan.function_at(next) == Some(next) {
                    known = Known::default();
                }
                rva = next;
            }
        }
        scan
    }

    /// Stops the search, which is not a reason to take the image.
    fn give_up(mut self, why: &'static str) -> Scan {
        self.given_up = Some(why);
        self.undecodable.add(|| format!("not all was looked at: {why}"));
        self
    }

    /// Where the function begins that has this RVA in it, going by the function table.
    pub(crate) fn function_at(&self, rva: u32) -> Option<u32> {
        let after = self.functions.partition_point(|(begin, _)| *begin <= rva);
        let (begin, end) = *self.functions.get(after.checked_sub(1)?)?;
        (rva < end).then_some(begin)
    }

    /// Notes an address that an instruction computes. Only where functions begin: the others are of data among code, such as
    /// the tables of switches.
    fn take(&mut self, value: Value) {
        if let Value::Address(rva) = value
            && self.function_at(rva) == Some(rva)
        {
            self.taken.insert(rva);
        }
    }

    /// A verdict on places that the search found.
    pub(crate) fn verdict(&self, places: &Wrong, measured: &str) -> Verdict {
        match (
            Verdict::of(
                places.clone(),
                format!("{} instructions, {measured}", self.instructions),
            ),
            self.given_up,
        ) {
            (Verdict::Pass(_), Some(why)) => Verdict::none(why),
            (Verdict::Pass(_), None) if self.instructions == 0 => Verdict::none("there is no code"),
            (verdict, _) => verdict,
        }
    }
}

/// The bytes of an instruction, as far as its section has them in the file, at most 15.
fn code_at<'a>(s: &Subject<'a>, rva: u32) -> &'a [u8] {
    let Some(section) = s.image.section_at(Rva(rva)).filter(|x| x.has(Section::EXECUTE)) else {
        return &[];
    };
    let data = s.image.raw_data(section).unwrap_or_default();
    let rest = data.get((rva - section.rva.0) as usize..).unwrap_or_default();
    &rest[..rest.len().min(15)]
}

const fn rule(id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::Code, Scope::Image, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "code.decodes",
        [
            "execution finds instructions wherever it gets",
            "the processor raises an exception, which stops the machine",
            "Intel and Arm architecture manuals",
        ],
        |s| s.code.verdict(&s.code.undecodable, "all known"),
    )
    // Others have code that their computed jumps never reach as it is followed here.
    .weighing(Weight::RequiredOfModules),
    rule(
        "code.branches",
        [
            "direct branches and calls lead to code of the image",
            "what is there can't be executed",
            "Intel and Arm architecture manuals",
        ],
        |s| s.code.verdict(&s.code.wild, "all branches lead to code"),
    )
    .weighing(Weight::RequiredOfModules),
    Rule::new(
        Group::Code,
        Scope::Driver,
        "code.no-x87",
        [
            "no x87 and no MMX instruction is reached",
            "their registers belong to whatever user-mode thread was interrupted",
            "Microsoft, \"Floating-point support for 64-bit drivers\"",
        ],
        |s| {
            if s.image.machine == Image::X64 {
                s.code.verdict(&s.code.x87, "none")
            } else {
                Verdict::none("only x64 has them")
            }
        },
    ),
    Rule::new(
        Group::Code,
        Scope::Driver,
        "code.no-vector-extension",
        [
            "no AVX instruction, and on ARM64 no SVE instruction is reached",
            "the kernel saves their registers only around code that asks for it",
            "Microsoft, \"Floating-point support for 64-bit drivers\"",
        ],
        |s| s.code.verdict(&s.code.vector, "none"),
    )
    // Others may save and restore the registers around.
    .weighing(Weight::RequiredOfModules),
    Rule::new(
        Group::Code,
        Scope::Module,
        "code.no-privileged",
        [
            "no privileged instruction and no call of the system is reached",
            "a program calls helpers and touches memory; nothing else is verified",
            "native module contract §6",
        ],
        |s| s.code.verdict(&s.code.privileged, "none"),
    ),
    Rule::new(
        Group::Code,
        Scope::Driver,
        "code.platform-register",
        [
            "code for ARM64 never writes x18",
            "in the kernel it holds the address of the processor's control region",
            "Microsoft, \"Overview of ARM64 ABI conventions\"",
        ],
        |s| {
            if s.image.machine == Image::ARM64 {
                s.code.verdict(&s.code.platform_register, "no write")
            } else {
                Verdict::none("only ARM64 has it")
            }
        },
    ),
];
