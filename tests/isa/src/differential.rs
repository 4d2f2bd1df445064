//! The differential run: many random programs, executed by every engine; all outcomes must be the strict interpreter's.
//!
//! Programs come in blocks of [`BLOCK`]. A block decides what its programs may be like and how they are compiled
//! ([`Block`]), so that a program is known by the seed and its number alone. Threads take blocks in turn; what a run finds
//! does not depend on their number.

mod shrink;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bpf2sys_codegen::{Optimization, Optimizations, Options};
use bpf2sys_pe_emit::Machine;

use crate::{Case, Engine, ImageEngine, Outcome, Placement, StrictInterpreter, Taste, VerifiedEngine, generate};

/// Programs of one block.
pub const BLOCK: u64 = 250;

/// Two blocks of so many are of programs that the verifier of Windows takes, most of them. It needs more time for a program
/// than everything else together, so they are verified for one machine each.
const CHECKED: u64 = 100;

/// Disagreements of each engine that are reported.
const SHOWN: usize = 2;

/// Disagreements after which a run ends early.
const ENOUGH: usize = 4;

/// What outcomes are compared with those of the strict interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Judged {
    /// The product on x86-64.
    #[value(name = "x64")]
    X64,
    /// The product on ARM64.
    #[value(name = "arm64")]
    Arm64,
    /// The product on x86-64, verifier included.
    #[value(name = "verified-x64")]
    VerifiedX64,
    /// The product on ARM64, verifier included.
    #[value(name = "verified-arm64")]
    VerifiedArm64,
    /// The Linux kernel.
    Kernel,
}

impl Judged {
    /// All.
    pub const ALL: [Judged; 5] = [
        Judged::X64,
        Judged::Arm64,
        Judged::VerifiedX64,
        Judged::VerifiedArm64,
        Judged::Kernel,
    ];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Judged::X64 => "x64",
            Judged::Arm64 => "arm64",
            Judged::VerifiedX64 => "verified-x64",
            Judged::VerifiedArm64 => "verified-arm64",
            Judged::Kernel => "kernel",
        }
    }

    /// Why this machine cannot run it, if it cannot.
    pub fn missing(self) -> Option<String> {
        match self {
            Judged::X64 | Judged::VerifiedX64 => None,
            Judged::Arm64 | Judged::VerifiedArm64 => bpf2sys_simulator::emulator().err(),
            #[cfg(target_os = "linux")]
            Judged::Kernel => crate::Kernel::new().err().map(|e| format!("bpf(2): {e}")),
            #[cfg(not(target_os = "linux"))]
            Judged::Kernel => Some("bpf(2) is a system call of Linux".to_owned()),
        }
    }

    /// Whether it runs the programs of a block: what its verifier would refuse is left out, and the verifier takes time.
    fn takes(self, block: &Block) -> bool {
        match self {
            Judged::X64 | Judged::Arm64 => true,
            Judged::VerifiedX64 => block.verified == Some(Machine::X64),
            Judged::VerifiedArm64 => block.verified == Some(Machine::Arm64),
            Judged::Kernel => block.taste.linux,
        }
    }

    fn engine(self, block: &Block) -> Result<Box<dyn Engine>, String> {
        let image = |machine| {
            let arm64 = machine == Machine::Arm64;
            let options = Options {
                machine,
                lse: block.options.lse && arm64,
                sign_return_address: block.options.sign_return_address && arm64,
                ..block.options.clone()
            };
            ImageEngine::new(self.name(), options, block.placement)
        };
        match self {
            Judged::X64 => Ok(Box::new(image(Machine::X64))),
            Judged::Arm64 => Ok(Box::new(image(Machine::Arm64))),
            Judged::VerifiedX64 => Ok(Box::new(VerifiedEngine::new(self.name(), image(Machine::X64)))),
            Judged::VerifiedArm64 => Ok(Box::new(VerifiedEngine::new(self.name(), image(Machine::Arm64)))),
            #[cfg(target_os = "linux")]
            Judged::Kernel => Ok(Box::new(crate::Kernel::new().map_err(|e| e.to_string())?)),
            #[cfg(not(target_os = "linux"))]
            Judged::Kernel => Err(self.missing().unwrap_or_default()),
        }
    }
}

/// Most blocks are compiled with all optimizations, some with none, with one or without one.
fn optimizations(block: u64) -> Optimizations {
    let (one, _) = Optimization::ALL[(block / 9) as usize % Optimization::ALL.len()];
    match block % 9 {
        1 => Optimizations::NONE,
        4 => Optimizations::NONE.set(one, true),
        6 => Optimizations::ALL.set(one, false),
        _ => Optimizations::ALL,
    }
}

/// What the programs of a block have in common.
#[derive(Clone, Debug)]
pub struct Block {
    /// What they are like.
    pub taste: Taste,
    /// Where their code is.
    pub placement: Placement,
    /// The machine for which its programs are verified, if they are.
    pub verified: Option<Machine>,
    /// How it is lowered, but for the machine.
    pub options: Options,
}

impl Block {
    /// The block of program `index`.
    pub fn of(index: u64) -> Block {
        let number = index / BLOCK;
        let verified = match number % CHECKED {
            2 => Some(Machine::X64),
            7 => Some(Machine::Arm64),
            _ => None,
        };
        let checked = verified.is_some();
        let (linux, helpers, placement) = match number % 8 {
            0 | 2 | 5 => (true, false, Placement::Program),
            1 | 6 => (true, false, Placement::Subprogram),
            3 => (false, false, Placement::Program),
            4 => (false, true, Placement::Program),
            _ => (false, true, Placement::Subprogram),
        };
        Block {
            taste: Taste {
                linux: linux || checked,
                checked,
                helpers: helpers && !checked,
            },
            placement,
            verified,
            options: Options {
                lse: number % 3 == 1,
                sign_return_address: number % 4 >= 2,
                // Few programs are long enough to be cut into pieces; these are cut although they are not.
                most_work: match number % 7 {
                    0 => 16,
                    2 => 32,
                    6 => 64,
                    _ => Options::MOST_WORK,
                },
                optimizations: optimizations(number),
                ..Options::default()
            },
        }
    }
}

/// Which programs to run on what.
#[derive(Clone, Debug)]
pub struct Request {
    /// Seed of all programs.
    pub seed: u64,
    /// Number of the first program.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The engines that are compared with the interpreter; those that are missing are skipped.
    pub judged: Vec<Judged>,
    /// Threads.
    pub threads: usize,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Programs that were run.
    pub programs: u64,
    /// Their instructions.
    pub instructions: u64,
    /// By engine.
    pub engines: BTreeMap<Judged, Tally>,
    /// Engines that are missing, and why.
    pub skipped: BTreeMap<Judged, String>,
    /// What was found, by number of the program; the first of each engine is shrunk.
    pub disagreements: Vec<Disagreement>,
}

/// What one engine did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Programs that it executed.
    pub executed: u64,
    /// Programs that it does not take: how many for each reason, and the first.
    pub refused: BTreeMap<String, (u64, u64)>,
    /// Time spent in it, over all threads.
    pub time: Duration,
}

/// A program on which an engine and the interpreter disagree, or that the interpreter does not accept.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the program.
    pub index: u64,
    /// The engine; `None` if the generator made an invalid program.
    pub judged: Option<Judged>,
    /// The program, as small as it could be made.
    pub case: Case,
    /// What the interpreter says.
    pub expected: Result<Outcome, String>,
    /// What the engine says.
    pub outcome: Result<Outcome, String>,
}

impl Display for Disagreement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Disagreement { seed, index, .. } = self;
        let engine = self.judged.map_or("generator", Judged::name);
        writeln!(
            f,
            "program {index} of seed {seed}: {engine} disagrees with the interpreter"
        )?;
        for (position, function) in self.case.module.functions.iter().enumerate() {
            writeln!(f, "  function {position}:")?;
            for insn in &function.instructions {
                writeln!(f, "  {:4}  {}", insn.slot, insn.op)?;
            }
        }
        writeln!(f, "  memory:      {}", hex(&self.case.memory))?;
        for (name, outcome) in [("interpreter", &self.expected), (engine, &self.outcome)] {
            match outcome {
                Ok(Outcome { r0, memory }) => writeln!(f, "  {name:12} r0 = {r0:#x}, memory {}", hex(memory))?,
                Err(error) => writeln!(f, "  {name:12} {error}")?,
            }
        }
        let engines = self
            .judged
            .map_or_else(String::new, |judged| format!(" --engines {}", judged.name()));
        write!(
            f,
            "  again: bpf2sys-differential --seed {seed} --first {index} --count 1{engines}"
        )
    }
}

/// Hexadecimal, in groups of eight bytes.
fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    let group = |word: &[u8]| {
        word.iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)])
            .collect()
    };
    let groups: Vec<String> = bytes.chunks(8).map(group).collect();
    groups.join(" ")
}

/// Runs the programs; `progress` is told now and then how many are done.
pub fn run(request: &Request, progress: &(dyn Fn(u64) + Sync)) -> Report {
    let mut report = Report::default();
    let mut judged = request.judged.clone();
    judged.retain(|engine| match engine.missing() {
        Some(reason) => {
            report.skipped.insert(*engine, reason);
            false
        }
        None => true,
    });
    let (first, end) = (request.first, request.first.saturating_add(request.count));
    // Blocks begin at multiples of their size.
    let next = AtomicU64::new(first / BLOCK);
    let report = Mutex::new(report);
    std::thread::scope(|scope| {
        for _ in 0..request.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let block = next.fetch_add(1, Ordering::Relaxed);
                    let range = first.max(block * BLOCK)..end.min((block + 1) * BLOCK);
                    if range.is_empty() || lock(&report).disagreements.len() >= ENOUGH {
                        return;
                    }
                    let part = run_block(request.seed, range, &judged);
                    let mut report = lock(&report);
                    report.add(part);
                    progress(report.programs);
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report.disagreements.sort_by_key(|found| (found.index, found.judged));
    // The first of each engine are enough to read.
    let mut seen = BTreeMap::new();
    report.disagreements.retain(|found| {
        let count: &mut usize = seen.entry(found.judged).or_default();
        *count += 1;
        *count <= SHOWN
    });
    for judged in Judged::ALL {
        if let Some(found) = report
            .disagreements
            .iter_mut()
            .find(|found| found.judged == Some(judged))
            && let Ok(mut engine) = judged.engine(&Block::of(found.index))
        {
            shrink::shrink(found, &mut *engine);
        }
    }
    report
}

fn lock(report: &Mutex<Report>) -> std::sync::MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Report {
    fn add(&mut self, part: Report) {
        self.programs += part.programs;
        self.instructions += part.instructions;
        for (engine, tally) in part.engines {
            let own = self.engines.entry(engine).or_default();
            own.executed += tally.executed;
            own.time += tally.time;
            for (reason, (count, first)) in tally.refused {
                let entry = own.refused.entry(reason).or_insert((0, first));
                *entry = (entry.0 + count, entry.1.min(first));
            }
        }
        self.disagreements.extend(part.disagreements);
    }
}

/// Runs programs of one block.
fn run_block(seed: u64, range: std::ops::Range<u64>, judged: &[Judged]) -> Report {
    let block = Block::of(range.start);
    let mut report = Report::default();
    let mut cases = Vec::new();
    let mut expected = Vec::new();
    let mut reference = StrictInterpreter::default();
    for index in range {
        let case = generate(seed, index, block.taste);
        report.programs += 1;
        report.instructions += case
            .module
            .functions
            .iter()
            .map(|f| f.instructions.len() as u64)
            .sum::<u64>();
        match reference.run(std::slice::from_ref(&case)).remove(0) {
            Ok(outcome) => {
                cases.push(case);
                expected.push((index, outcome));
            }
            Err(error) => report.disagreements.push(Disagreement {
                seed,
                index,
                judged: None,
                case,
                expected: Err(error.clone()),
                outcome: Err(error),
            }),
        }
    }
    for judged in judged.iter().filter(|judged| judged.takes(&block)) {
        let start = Instant::now();
        let mut engine = judged.engine(&block);
        let outcomes = match &mut engine {
            Ok(engine) => engine.run(&cases),
            Err(error) => vec![Err(error.clone()); cases.len()],
        };
        let refused = |error: &str| engine.as_ref().is_ok_and(|engine| engine.refused(error));
        let tally = report.engines.entry(*judged).or_default();
        tally.time += start.elapsed();
        for ((case, (index, expected)), outcome) in cases.iter().zip(&expected).zip(outcomes) {
            match outcome {
                Err(reason) if refused(&reason) => {
                    tally.refused.entry(without_numbers(&reason)).or_insert((0, *index)).0 += 1;
                    continue;
                }
                _ => tally.executed += 1,
            }
            let expected = Ok(expected.clone());
            if outcome != expected {
                report.disagreements.push(Disagreement {
                    seed,
                    index: *index,
                    judged: Some(*judged),
                    case: case.clone(),
                    expected,
                    outcome,
                });
            }
        }
    }
    report
}

/// A reason with `#` for its numbers, to count those that differ in nothing else.
fn without_numbers(reason: &str) -> String {
    let mut text = String::with_capacity(reason.len());
    for c in reason.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !text.ends_with('#') {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bpf2sys_bytecode::{AluOp, Instruction, WordSize};
    use bpf2sys_codegen::Options;

    use super::{BLOCK, Block, Disagreement, Judged, shrink};
    use crate::{Case, Engine, Outcome, Placement, StrictInterpreter, generate};

    /// The interpreter with one wrong instruction: `ARSH` of 32 bits shifts zeros in.
    struct Wrong;

    impl Engine for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }

        fn run(&mut self, cases: &[Case]) -> Vec<Result<Outcome, String>> {
            let mut cases = cases.to_vec();
            let instructions = cases.iter_mut().flat_map(|case| &mut case.module.functions);
            for insn in instructions.flat_map(|function| &mut function.instructions) {
                if let Instruction::Alu {
                    size: WordSize::W32,
                    op,
                    ..
                } = &mut insn.op
                    && *op == AluOp::Arsh
                {
                    *op = AluOp::Rsh;
                }
            }
            StrictInterpreter::default().run(&cases)
        }
    }

    #[test]
    fn a_wrong_instruction_is_found_and_little_is_left_around_it() {
        let mut found = (0..1000)
            .find_map(|index| {
                let case = generate(1, index, Block::of(0).taste);
                let expected = StrictInterpreter::default().run(std::slice::from_ref(&case)).remove(0);
                let outcome = Wrong.run(std::slice::from_ref(&case)).remove(0);
                (expected != outcome).then_some(Disagreement {
                    seed: 1,
                    index,
                    judged: None,
                    case,
                    expected,
                    outcome,
                })
            })
            .expect("one of the programs shows it");
        shrink::shrink(&mut found, &mut Wrong);
        assert_ne!(found.expected, found.outcome);
        assert!(found.expected.is_ok(), "{found}");
        let code: Vec<Instruction> = found
            .case
            .module
            .functions
            .iter()
            .flat_map(|f| &f.instructions)
            .map(|i| i.op)
            .collect();
        let arsh = |op: &Instruction| {
            matches!(
                op,
                Instruction::Alu {
                    size: WordSize::W32,
                    op: AluOp::Arsh,
                    ..
                }
            )
        };
        assert!(code.iter().any(arsh), "{found}");
        assert!(code.len() <= 5, "{found}");
    }

    #[test]
    fn blocks_cover_every_way_to_lower() {
        let blocks: Vec<Block> = (0..400).map(|number| Block::of(number * BLOCK)).collect();
        let switches = |b: &Block| {
            (
                b.options.lse,
                b.options.sign_return_address,
                b.options.most_work < Options::MOST_WORK,
                b.placement == Placement::Program,
            )
        };
        assert_eq!(blocks.iter().map(switches).collect::<BTreeSet<_>>().len(), 16);
        for judged in Judged::ALL {
            assert!(blocks.iter().any(|b| judged.takes(b)), "{judged:?}");
        }
    }
}
