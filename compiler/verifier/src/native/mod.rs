//! The verification engine of this project.
//!
//! Given: a program of a module with its program type. Computed: what is known at every instruction in every execution, or the
//! first instruction that may do what it must not, with the way there.
//! Safe because: each step from a state to the next covers what the instruction does in all executions that the state stands for;
//! states are dropped only where another one covers them; and each loop ends, as no path comes back or a counter
//! proves it.
//!
//! | Module | Question |
//! |---|---|
//! | [`num`] | which numbers can come of an operation |
//! | [`value`], [`frame`], [`state`] | what is known before an instruction |
//! | [`step`], [`arithmetic`], [`memory`], [`compare`], [`call`] | what an instruction needs, and what is known behind it |
//! | [`plan`] | in which order blocks are visited, and what is read later |
//! | [`explore`], [`widen`] | which states come to which block |
//! | [`termination`], [`tail`] | why loops end, and how many tail calls follow one another |
//! | [`facts`] | what is kept of all states |
//! | [`explain`] | what a person is told of a rejection |

mod arithmetic;
mod call;
mod compare;
mod explain;
mod explore;
mod facts;
mod frame;
mod memory;
mod num;
mod plan;
mod state;
mod step;
mod tail;
mod termination;
mod value;
mod widen;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use bpf2sys_bytecode::{FunctionIndex, InsnIndex, Module, Reg};
use bpf2sys_platform::{Platform, ProgramType};

use crate::Warning;
use crate::check::place;
use crate::cost::{Stage, Stopwatch};
use crate::error::Rejection;
use crate::flow::Flow;
use crate::guard::Deadline;
use crate::proof::Proof;

use explore::{Decision, Effort, Explorer};
use num::Num;
use state::{Active, Ids, Pinned, State};
use step::{Failure, Section, World};
use value::{Kind, Value, Why};

/// How hard is tried, least first: what is rejected is tried once more with more effort.
///
/// Measured on the 172 programs of the corpus, 367 of the examples and fixtures, and 11 shapes of 1,000 and 10,000 instructions
/// (`cargo bench --bench verify`), the first effort alone:
/// - `states`: with 1, 2, 4 and 8 the corpus has 145, 148, 149 and 149 programs accepted, and no more with 16 or 32, nor with the second
///   effort; of the fixtures 244 with any. On the shapes 8 take 4 % more time than 2 or 4, 16 take 11 % and 32 take 28 %. So 8 is
///   twice what was needed.
/// - `rounds`: 4, 16, 64 and 256 accept the same, and their times differ by less than two measurements of one do.
/// - `instructions`: ten times fewer take a third less time on shapes of 10,000 instructions, ten times more take twice the time, and
///   all accept the same. 200,000 are executed in some 30 ms, and it is what a program that is rejected, or whose loops multiply,
///   takes at least; the second effort bounds it to some 0.6 s and, with it, to less than 64 MiB.
/// - The second effort is for what only exact rounds prove, up to 20,000 of them; neither corpus nor fixtures need it.
const EFFORTS: [Effort; 2] = [
    Effort {
        states: 8,
        rounds: 64,
        visits: 4_000,
        instructions: 200_000,
    },
    Effort {
        states: 64,
        rounds: 20_000,
        visits: 200_000,
        instructions: 1_000_000,
    },
];

/// Analyses one program. Unwinds when the deadline has passed.
pub(crate) fn analyze(
    module: &Module,
    platform: &Platform,
    (program, program_type): (FunctionIndex, &ProgramType),
    flow: &Flow,
    deadline: &Deadline,
    watch: &mut Stopwatch,
) -> Result<Proof, Rejection> {
    let mut globals = vec![None; module.maps.len()];
    for (index, global) in module.globals.iter().enumerate() {
        if let Some(of) = globals.get_mut(global.map.index()) {
            *of = Some(Section {
                index,
                read_only: global.read_only,
            });
        }
    }
    let world = World {
        module,
        platform,
        program_type,
        globals,
    };
    watch.enter(Stage::Proof);
    let mut plans = HashMap::new();
    let mut rejection = None;
    for effort in EFFORTS {
        let mut explorer = Explorer::new(&world, flow, deadline, effort, program);
        explorer.plans = std::mem::take(&mut plans);
        match explorer.run() {
            Ok(()) => {
                watch.enter(Stage::Facts);
                return Ok(explorer.proof());
            }
            Err(failure) => {
                rejection = Some(explain::rejection(&explorer, &failure));
                plans = explorer.plans;
            }
        }
    }
    match rejection {
        Some(rejection) => Err(rejection),
        // There is always an effort, and one that ends without a proof has a reason.
        None => unreachable!("no effort was made"),
    }
}

impl<'a> Explorer<'a> {
    fn new(
        world: &'a World<'a>,
        flow: &'a Flow,
        deadline: &'a Deadline,
        effort: Effort,
        program: FunctionIndex,
    ) -> Explorer<'a> {
        Explorer {
            world,
            flow,
            deadline,
            effort,
            plans: HashMap::new(),
            ids: Ids::default(),
            facts: facts::Facts::default(),
            decisions: vec![Decision {
                before: 0,
                function: program,
                instruction: 0,
                taken: None,
            }],
            warnings: BTreeMap::new(),
            program,
            passes: termination::Passes::default(),
            executed: 0,
            visits: HashMap::new(),
            known: HashMap::new(),
            pinned: Pinned::default(),
        }
    }

    fn run(&mut self) -> Result<(), Box<Failure>> {
        self.count_tail_calls()?;
        let entry = self.entry();
        self.function(self.program, entry)?;
        if self.world.platform.verifier_options.check_for_termination
            && let Some((function, head)) = self.passes.too_many(self.program, &self.plans)
        {
            let first = self.plans[&function].block(head).instructions.start;
            let missing = "with the loops around it, the loop goes round too often".to_owned();
            return Err(explore::unbounded(function, first, None, missing));
        }
        Ok(())
    }

    /// What is known where the program begins.
    fn entry(&self) -> State {
        let never = |r: usize| Reg::new(r as u8).map_or(Why::Stack(None), Why::NeverWritten);
        let mut registers: Box<[Value; Reg::COUNT]> = Box::new(std::array::from_fn(|r| Value::nothing(never(r))));
        registers[Reg::R1.index()] = Value::pointer(Kind::Context, 0);
        registers[Reg::R10.index()] = Value::pointer(Kind::Stack(0), 0);
        State {
            registers,
            frames: vec![Active {
                memory: Rc::default(),
                saved: [Value::nothing(Why::Stack(None)); 4],
            }],
            packet_size: Num::within(0..=u64::from(self.world.platform.limits.max_packet_bytes)),
            relations: Rc::default(),
            path: 0,
            joined: false,
        }
    }

    fn proof(self) -> Proof {
        let module = self.world.module;
        let functions = std::iter::once(self.program).chain(module.reachable_from(self.program));
        let plans = self.plans;
        let knowledge = self
            .facts
            .into_knowledge(module, |index| plans.get(&index).cloned(), functions);
        let warnings = self.warnings.into_iter().filter_map(|((function, at), reason)| {
            Some(Warning {
                program: module.function(self.program).name.clone(),
                place: place(module, function, InsnIndex(at)),
                reason: reason?,
            })
        });
        Proof {
            returns: knowledge.returns(module, self.program),
            knowledge,
            warnings: warnings.collect(),
        }
    }
}
