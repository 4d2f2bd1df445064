//! One program: what the verifier says of it, and whether that is true.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use bpf2sys_bytecode::{Function, FunctionIndex, Imm64, InsnIndex, Instruction, Module, Operand};
use bpf2sys_platform::Platform;
use bpf2sys_simulator::interpreter::{self, Entry, Outcome, Problem, Undefined};
use bpf2sys_verifier::{Options, VerifiedModule, Verifier, VerifyError, verify};

use crate::features::Feature;
use crate::platforms::platform;
use crate::world::{Checked, Input};

/// Instructions after which a run is given up. A loop that goes around too often is found before.
const MAX_STEPS: u64 = 20_000_000;

/// Time for one verdict. What takes longer is not accepted.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// What to put in the place of an instruction.
pub type Change = fn(&Function, InsnIndex, Instruction) -> Option<Instruction>;

/// How programs are judged. Usually everything is as it is; tests of the judge make something wrong on purpose.
#[derive(Clone)]
pub struct Judge {
    /// Whose verdicts are judged.
    pub verifier: Verifier,
    /// What the verifier is told of the platform.
    pub told: Platform,
    /// What the platform is.
    pub true_platform: Platform,
    /// What runs instead of instructions that were verified.
    pub runs: Option<Change>,
    /// What the verifier sees instead of the module.
    pub sees: Option<fn(&mut Module)>,
    /// Inputs; each is run twice.
    pub inputs: u64,
    /// Whether facts are judged.
    pub facts: bool,
}

impl Default for Judge {
    fn default() -> Self {
        Judge {
            verifier: Verifier::default(),
            told: platform().clone(),
            true_platform: platform().clone(),
            runs: None,
            sees: None,
            inputs: 8,
            facts: true,
        }
    }
}

/// What became of a program.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The verifier refused it, with this reason.
    Rejected(String),
    /// The verifier accepted it, and no run did anything wrong.
    Harmless {
        /// What the runs did.
        seen: BTreeSet<Feature>,
        /// Instructions that were executed.
        steps: u64,
        /// The places of those instructions.
        reached: BTreeSet<(FunctionIndex, InsnIndex)>,
    },
    /// The verifier accepted it, and a run did something wrong.
    Hole(Hole),
}

/// A program's verdict, and what it took.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// Time in the verifier.
    pub verifying: Duration,
    /// Time in runs.
    pub running: Duration,
}

/// What a run did that no accepted program may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The input.
    pub input: Input,
    /// What it did.
    pub what: String,
    /// What kind of thing that is, without numbers.
    pub kind: &'static str,
}

impl Display for Hole {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Input { contents, addresses } = self.input;
        write!(
            f,
            "with contents {contents:#x} at addresses {addresses:#x}: {}",
            self.what
        )
    }
}

impl Judge {
    /// Judges a module whose first function is its only program. `seed` gives the inputs.
    pub fn judge(&self, module: &Module, seed: u64) -> Judged {
        let mut seen = module.clone();
        if let Some(change) = self.sees {
            change(&mut seen);
        }
        let start = Instant::now();
        let proof = self.verified(seen);
        let verifying = start.elapsed();
        let verdict = match proof {
            Ok(proof) => self.run_all(module, &proof, seed),
            Err(reason) => Verdict::Rejected(reason),
        };
        Judged {
            verdict,
            verifying,
            running: start.elapsed().checked_sub(verifying).unwrap(),
        }
    }

    /// Runs an accepted program on all inputs.
    fn run_all(&self, module: &Module, proof: &VerifiedModule, seed: u64) -> Verdict {
        let mut run = module.clone();
        if let Some(change) = self.runs {
            for function in &mut run.functions {
                let before = function.clone();
                for (i, insn) in function.instructions.iter_mut().enumerate() {
                    insn.op = change(&before, InsnIndex(i as u32), insn.op).unwrap_or(insn.op);
                }
            }
        }
        let (mut features, mut steps, mut reached) = (BTreeSet::new(), 0, BTreeSet::new());
        for number in 0..self.inputs {
            let contents = seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut before: Option<u64> = None;
            for layout in 0..2 {
                let input = Input {
                    contents,
                    addresses: contents.rotate_left(17) ^ layout,
                };
                match self.run(&run, proof, input, &mut features) {
                    Ok(ran) => {
                        steps += ran.steps;
                        reached.extend(ran.reached);
                        match (before, ran.visible) {
                            (Some(one), Some(other)) if one != other => {
                                return Verdict::Hole(Hole {
                                    input,
                                    what: "others see something else when the addresses are different".to_owned(),
                                    kind: "depends on addresses",
                                });
                            }
                            (_, visible) => before = visible,
                        }
                    }
                    Err(hole) => return Verdict::Hole(hole),
                }
            }
        }
        Verdict::Harmless {
            seen: features,
            steps,
            reached,
        }
    }

    /// What the verifier says.
    pub fn verified(&self, module: Module) -> Result<VerifiedModule, String> {
        let options = Options {
            verifier: self.verifier,
            time_limit: TIME_LIMIT,
            explanation_steps: 0,
            ..Options::default()
        };
        verify(module, &self.told, &options).map_err(|error| match error {
            VerifyError::Rejected(rejections) => rejections.first().map_or_else(String::new, |r| r.reason.to_string()),
            other => other.to_string(),
        })
    }

    fn run(
        &self,
        module: &Module,
        proof: &VerifiedModule,
        input: Input,
        features: &mut BTreeSet<Feature>,
    ) -> Result<Ran, Hole> {
        let program = FunctionIndex(0);
        let section = &module.function(program).section;
        let Some((program_type, _)) = self.true_platform.program_type_for_section(section) else {
            return Ok(Ran::default());
        };
        let hints = hints(module);
        let proof = self.facts.then_some(proof);
        let mut world = Checked::new(module, program, &self.true_platform, program_type, proof, &hints, input);
        let entry = Entry::new(program, &[world.regions().context.start], world.regions().stack_end);
        let options = interpreter::Options {
            undefined: Undefined::Tracked,
            max_steps: MAX_STEPS,
        };
        let result = interpreter::interpret(module, &entry, &mut world, options);
        if let Ok(Outcome {
            r0,
            ended_by_helper: false,
            ..
        }) = &result
        {
            world.returned(program, *r0);
        }
        features.extend(world.seen());
        let hole = |what: String, kind| Err(Hole { input, what, kind });
        if let Some(violation) = world.violation() {
            return hole(violation.to_string(), violation.kind());
        }
        match result {
            Ok(Outcome {
                r0,
                ended_by_helper,
                steps,
                ..
            }) => {
                if !ended_by_helper && !program_type.is_privileged && world.is_address(r0) {
                    return hole("the program returns an address".to_owned(), "leak");
                }
                let visible = (!program_type.is_privileged).then(|| world.visible() ^ r0.rotate_left(7));
                let reached = world.reached();
                Ok(Ran {
                    steps,
                    reached,
                    visible,
                })
            }
            // The verifiers of Windows and ours do not look at the alignment of atomic operations; what a processor does
            // is in the interpreter's documentation.
            Err(error) => match &error.problem {
                Problem::Misaligned { .. } => Ok(Ran::default()),
                Problem::Access { .. } => hole(error.to_string(), "access"),
                Problem::Unset(_) => hole(error.to_string(), "undefined value"),
                Problem::StepLimit(_) => hole(error.to_string(), "no end"),
                Problem::Helper(violation) => hole(error.to_string(), violation.kind()),
                _ => hole(error.to_string(), "instruction"),
            },
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
struct Ran {
    steps: u64,
    /// Where it was.
    reached: Vec<(FunctionIndex, InsnIndex)>,
    /// Of everything that others see, if it must not depend on addresses.
    visible: Option<u64>,
}

/// Numbers in a program at which it behaves differently than beside them.
pub fn hints(module: &Module) -> Vec<i64> {
    let mut all = BTreeSet::new();
    for insn in module.functions.iter().flat_map(|f| &f.instructions) {
        match insn.op {
            Instruction::Alu {
                src: Operand::Imm(imm), ..
            }
            | Instruction::JumpIf {
                src: Operand::Imm(imm), ..
            } => {
                all.insert(i64::from(imm));
            }
            Instruction::Load { width, offset, .. } | Instruction::Store { width, offset, .. } => {
                all.insert(i64::from(offset) + i64::from(width.bytes()));
            }
            Instruction::LoadImm64 {
                value: Imm64::Constant(value),
                ..
            } => {
                all.insert(value.cast_signed());
            }
            _ => {}
        }
    }
    all.into_iter().collect()
}
