//! What one program is made of: drawn once, before it is written.

use std::sync::Arc;

use bpf2sys_isa_tests::Random;
use bpf2sys_platform::ProgramType;

use crate::platforms::{SECTIONS, platform};

/// A kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A number in a register.
    Number,
    /// Arithmetic on numbers.
    Alu,
    /// The packet's pointers, a check, accesses.
    Packet,
    /// Metadata in front of the packet.
    Meta,
    /// A field of the context.
    Context,
    /// Stores and loads in the own frame.
    Stack,
    /// A lookup, a null check, accesses.
    Lookup,
    /// The same in a map that a lookup found.
    LookupInner,
    /// Global variables.
    Global,
    /// Memory that a register points to already.
    Access,
    /// An address that is computed with a number.
    Indexed,
    /// A pointer goes to the stack and comes back.
    Spill,
    /// Any helper of the program type.
    Helper,
    /// A function of another module.
    Btf,
    /// A subprogram.
    Call,
    TailCall,
    /// Steps that are executed or not.
    Branch,
    /// A comparison of any two registers.
    Compare,
    /// Something terrible where no execution gets.
    Dead,
    Loop,
    /// A loop that moves something on in each round.
    Walk,
    /// Something that is known by way of something else.
    Relate,
}

const WEIGHTS: [(Step, usize); 22] = [
    (Step::Number, 6),
    (Step::Alu, 12),
    (Step::Packet, 14),
    (Step::Meta, 2),
    (Step::Context, 6),
    (Step::Stack, 8),
    (Step::Lookup, 12),
    (Step::LookupInner, 6),
    (Step::Global, 5),
    (Step::Access, 8),
    (Step::Indexed, 10),
    (Step::Spill, 5),
    (Step::Helper, 10),
    (Step::Btf, 2),
    (Step::Call, 8),
    (Step::TailCall, 2),
    (Step::Branch, 6),
    (Step::Compare, 3),
    (Step::Dead, 5),
    (Step::Loop, 6),
    (Step::Walk, 8),
    (Step::Relate, 9),
];

/// What a subprogram is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Number,
    Context,
    /// The last so many bytes of the caller's frame, all written.
    Lent(i32),
}

pub(super) struct Plan {
    pub(super) section: &'static str,
    pub(super) program_type: Arc<ProgramType>,
    /// Of each subprogram.
    pub(super) signatures: Vec<Vec<Parameter>>,
    /// Steps of each function, the program's first.
    pub(super) lengths: Vec<usize>,
    /// Some kinds of steps are left out or favored, another selection in each program ("swarm testing", Groce et al., 2012).
    pub(super) weights: Vec<(Step, usize)>,
    /// Mistakes to make.
    pub(super) slips: u32,
    /// Instructions to change at the end.
    pub(super) mutations: u32,
}

impl Plan {
    pub(super) fn draw(random: &mut Random) -> Plan {
        let section = random.one_of(&SECTIONS);
        let (program_type, _) = platform()
            .program_type_for_section(section)
            .expect("the platform has all sections of the list");
        let subprograms = random.weighted(&[(0, 14), (1, 4), (2, 1)]);
        let signatures: Vec<Vec<Parameter>> = (0..subprograms)
            .map(|_| {
                (0..random.below(4))
                    .map(|_| match random.below(4) {
                        0 => Parameter::Context,
                        1 => Parameter::Lent(8 * random.between(1, 3)),
                        _ => Parameter::Number,
                    })
                    .collect()
            })
            .collect();
        let mut lengths = vec![random.weighted(&[(1, 3), (2, 6), (3, 6), (4, 4), (6, 2)])];
        lengths.extend((0..subprograms).map(|_| random.weighted(&[(0, 1), (1, 4), (2, 3)])));
        let mut weights: Vec<(Step, usize)> = WEIGHTS
            .iter()
            .map(|(step, weight)| {
                let factor = random.weighted(&[(0, 5), (1, 6), (3, 3)]);
                (*step, weight * factor)
            })
            .collect();
        for (step, weight) in &mut weights {
            let wanted = match step {
                Step::Packet | Step::Indexed => true,
                Step::Call => subprograms > 0,
                _ => false,
            };
            if wanted && *weight == 0 {
                *weight = 4;
            }
        }
        let (slips, mutations) = random.weighted(&[((0, 0), 9), ((1, 0), 6), ((0, 1), 3), ((2, 0), 1), ((1, 1), 1)]);
        Plan {
            section,
            program_type: Arc::clone(program_type),
            signatures,
            lengths,
            weights,
            slips,
            mutations,
        }
    }
}
