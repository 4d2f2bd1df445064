//! What calls of a subprogram pass.
//!
//! Given: the body of a subprogram after optimization, and what those that it calls are passed.
//! Computed: which of `r1` to `r5`, `r10`, context and runtime context its code asks for. Of eight values, four go through memory, and
//! most subprograms need two or three.
//! Safe because: what is left out is read by no instruction of the body, and by none that it passes it on to.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{Callee, FunctionIndex, Imm64, Instruction, Reg};

use crate::body::Body;
use crate::lowering::RegisterSet;

/// What a call of a subprogram passes beside what the subprogram takes over from its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Convention {
    /// Those of `r1` to `r5`.
    pub(crate) arguments: RegisterSet,
    /// The callee's `r10`.
    pub(crate) frame_pointer: bool,
    /// The context of the program.
    pub(crate) context: bool,
    /// The runtime context.
    pub(crate) runtime: bool,
}

impl Convention {
    /// Everything.
    pub(crate) const FULL: Convention = Convention {
        arguments: RegisterSet::ARGUMENTS,
        frame_pointer: true,
        context: true,
        runtime: true,
    };

    /// What a body needs. `callees` has the functions that it calls; `touches_stack` says whether it, or one of them, touches the
    /// stack as memory.
    pub(crate) fn of(body: &Body, callees: &BTreeMap<FunctionIndex, Convention>, touches_stack: bool) -> Convention {
        let mut needs = Convention {
            arguments: body.needed_at_entry(),
            frame_pointer: touches_stack,
            context: false,
            runtime: false,
        };
        for node in body.nodes().map(|index| body.node(index)) {
            needs.frame_pointer |= node.reads.contains(Reg::R10);
            match node.op {
                Instruction::Call(Callee::Local(callee)) => {
                    let callee = callees.get(&callee).copied().unwrap_or(Convention::FULL);
                    needs.frame_pointer |= callee.frame_pointer;
                    needs.context |= callee.context;
                    needs.runtime |= callee.runtime;
                }
                Instruction::Call(Callee::Helper(_) | Callee::Btf(_)) => {
                    needs.context = true;
                    needs.runtime = true;
                }
                Instruction::LoadImm64 {
                    value: Imm64::Map(_) | Imm64::Global { .. },
                    ..
                } => needs.runtime = true,
                _ => {}
            }
        }
        needs
    }

    /// How many values it passes.
    pub(crate) fn count(self) -> usize {
        let others = [self.frame_pointer, self.context, self.runtime];
        self.arguments.iter().count() + others.into_iter().filter(|passed| *passed).count()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bpf2sys_bytecode::{AluOp, FunctionIndex, Operand, Width};

    use super::Convention;
    use crate::lowering::RegisterSet;
    use crate::testing::{alu, body, call, helper, load, mov, mov_reg, r};

    fn of(code: &[bpf2sys_bytecode::Instruction], callee: Convention) -> Convention {
        let callees = BTreeMap::from([(FunctionIndex(1), callee)]);
        Convention::of(&body(code), &callees, false)
    }

    #[test]
    fn what_a_body_reads_is_passed_and_nothing_else() {
        let nothing = Convention {
            arguments: RegisterSet::default(),
            frame_pointer: false,
            context: false,
            runtime: false,
        };
        let needs = |arguments: &[u8]| Convention {
            arguments: RegisterSet::of(arguments.iter().map(|number| r(*number))),
            ..nothing
        };
        let sum = [mov_reg(0, 1), alu(AluOp::Add, 0, Operand::Reg(r(4)))];
        assert_eq!(of(&sum, nothing), needs(&[1, 4]));
        assert_eq!(of(&[mov(1, 7), mov_reg(0, 1)], nothing), needs(&[]));
        assert_eq!(of(&[load(Width::B, 0, 5, 0)], nothing), needs(&[5]));
        // The address itself may be what matters: it is compared, or subtracted.
        let frame_pointer = Convention {
            frame_pointer: true,
            ..nothing
        };
        assert_eq!(of(&[mov_reg(0, 10)], nothing), frame_pointer);
        assert!(of(&[mov(0, 0), call(1)], frame_pointer).frame_pointer);
        let outside = of(&[helper(5)], nothing);
        assert!(outside.context && outside.runtime && !outside.frame_pointer);
    }
}
