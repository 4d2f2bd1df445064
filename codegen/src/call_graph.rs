//! Which functions are emitted, and how deep their calls nest.
//!
//! Given: a verified module.
//! Computed: the functions that some program can reach, callees before callers; how deep calls from each nest; from which of
//! them a tail call can be reached.
//! Safe because: a subprogram that nothing reaches was never verified, and is not emitted; and the frames that a program
//! gives its callees are as many as calls can nest.

use bpf2sys_bytecode::{Callee, Function, FunctionIndex, FunctionKind, InsnIndex, Instruction, Module};
use bpf2sys_verifier::VerifiedModule;

use crate::error::{FunctionProblem, InstructionProblem, LowerError};
use crate::lowering::{Flow, RegisterSet, TAIL_CALL, inherited, instruction_error};

/// The functions of an image.
pub(crate) struct CallGraph {
    /// Functions to emit, each after all it calls.
    order: Vec<FunctionIndex>,
    /// By function: its flow, if it is emitted.
    pub(crate) flows: Vec<Option<Flow>>,
    /// By function: the functions it calls, ascending, each once.
    callees: Vec<Vec<FunctionIndex>>,
    /// By function: frames on the longest chain of calls from it, its own included.
    pub(crate) frames: Vec<u32>,
    /// By function: whether a tail call can be reached from it.
    pub(crate) tail_calls: Vec<bool>,
    /// By function: what a subprogram takes over from its caller beside what it is passed.
    pub(crate) inherited: Vec<RegisterSet>,
}

impl CallGraph {
    /// The functions to emit, each after all it calls.
    pub(crate) fn order(&self) -> &[FunctionIndex] {
        &self.order
    }

    /// Follows calls from every program. An error if they form a cycle or nest more than `max_frames` deep.
    pub(crate) fn of(verified: &VerifiedModule, max_frames: u32) -> Result<CallGraph, LowerError> {
        let module = verified.module();
        let count = module.functions.len();
        let mut graph = CallGraph {
            order: Vec::new(),
            flows: (0..count).map(|_| None).collect(),
            callees: vec![Vec::new(); count],
            frames: vec![0; count],
            tail_calls: vec![false; count],
            inherited: vec![RegisterSet::default(); count],
        };
        let mut state = vec![Visit::New; count];
        for program in verified.programs() {
            graph.visit(verified, program.function, &mut state)?;
            let frames = graph.frames[program.function.index()];
            if frames > max_frames {
                let limit = max_frames;
                return Err(LowerError::Function {
                    function: module.function(program.function).name.clone(),
                    problem: FunctionProblem::CallDepth { frames, limit },
                });
            }
        }
        Ok(graph)
    }

    /// Depth-first from `root`, with its own stack: the chain may be as long as the module has functions.
    fn visit(&mut self, verified: &VerifiedModule, root: FunctionIndex, state: &mut [Visit]) -> Result<(), LowerError> {
        let module = verified.module();
        let mut chain = vec![(root, 0)];
        while let Some((index, position)) = chain.last_mut() {
            let index = *index;
            match state[index.index()] {
                Visit::Done => {
                    chain.pop();
                    continue;
                }
                Visit::New => {
                    state[index.index()] = Visit::Open;
                    self.enter(verified, index)?;
                }
                Visit::Open => {}
            }
            if let Some(&callee) = self.callees[index.index()].get(*position) {
                *position += 1;
                if state[callee.index()] == Visit::Open {
                    return Err(LowerError::Function {
                        function: module.function(callee).name.clone(),
                        problem: FunctionProblem::Recursion,
                    });
                }
                chain.push((callee, 0));
            } else {
                state[index.index()] = Visit::Done;
                self.leave(module, index);
            }
        }
        Ok(())
    }

    fn enter(&mut self, verified: &VerifiedModule, index: FunctionIndex) -> Result<(), LowerError> {
        let module = verified.module();
        let function = module.function(index);
        let flow = Flow::of(function, verified.facts(index))
            .map_err(|(insn, problem)| instruction_error(module, function, insn, problem))?;
        let callees = &mut self.callees[index.index()];
        for (insn, op) in live(function, &flow) {
            match op {
                Instruction::Call(Callee::Helper(TAIL_CALL)) => self.tail_calls[index.index()] = true,
                Instruction::Call(Callee::Local(callee)) => {
                    if callee.index() >= module.functions.len() {
                        return Err(instruction_error(module, function, insn, InstructionProblem::Reference));
                    }
                    callees.push(callee);
                }
                _ => {}
            }
        }
        callees.sort_unstable();
        callees.dedup();
        self.flows[index.index()] = Some(flow);
        Ok(())
    }

    /// All callees of `index` are known.
    fn leave(&mut self, module: &Module, index: FunctionIndex) {
        let callees = &self.callees[index.index()];
        let deepest = callees.iter().map(|callee| self.frames[callee.index()]).max();
        let ends = callees.iter().any(|callee| self.tail_calls[callee.index()]);
        self.frames[index.index()] = deepest.unwrap_or(0).saturating_add(1);
        self.tail_calls[index.index()] |= ends;
        let function = module.function(index);
        if let (FunctionKind::Subprogram, Some(flow)) = (function.kind, &self.flows[index.index()]) {
            let of_callee = |callee: FunctionIndex| self.inherited[callee.index()];
            self.inherited[index.index()] = inherited(function, flow, of_callee);
        }
        self.order.push(index);
    }

    /// Checks that no chain of calls needs more than `limit` bytes of stack, given what each function's own frame needs.
    pub(crate) fn check_stack(&self, module: &Module, frame_bytes: &[u32], limit: u32) -> Result<(), LowerError> {
        let mut needed = vec![0_u32; module.functions.len()];
        for &index in &self.order {
            let most = self
                .deepest_callee(index, &needed)
                .map_or(0, |callee| needed[callee.index()]);
            let bytes = frame_bytes[index.index()].saturating_add(most);
            needed[index.index()] = bytes;
            if bytes > limit {
                let next = |function: &FunctionIndex| self.deepest_callee(*function, &needed);
                let chain = std::iter::successors(Some(index), next);
                let named = |f: FunctionIndex| (module.function(f).name.clone(), frame_bytes[f.index()]);
                return Err(LowerError::Function {
                    function: module.function(index).name.clone(),
                    problem: FunctionProblem::StackDepth {
                        bytes,
                        limit,
                        chain: chain.map(named).collect(),
                    },
                });
            }
        }
        Ok(())
    }

    /// The callee that needs most bytes of stack with all that it calls; the first one of several.
    fn deepest_callee(&self, function: FunctionIndex, needed: &[u32]) -> Option<FunctionIndex> {
        let callees = self.callees[function.index()].iter().copied();
        callees.rev().max_by_key(|callee| needed[callee.index()])
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Done,
}

/// The instructions that are emitted.
fn live<'a>(function: &'a Function, flow: &'a Flow) -> impl Iterator<Item = (InsnIndex, Instruction)> + 'a {
    (0_u32..)
        .map(InsnIndex)
        .zip(&function.instructions)
        .filter(|(index, _)| flow.next(*index).is_some())
        .map(|(index, insn)| (index, insn.op))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EXIT, call, mov, program, subprogram, verified};

    #[test]
    fn the_deepest_chain_of_frames_counts_and_is_told() {
        // main calls narrow and wide; both call last.
        let leaf = [mov(0, 0), EXIT];
        let verified = verified(crate::testing::module(vec![
            program("main", "xdp", &[call(1), call(2), EXIT]),
            subprogram("narrow", &[call(3), EXIT]),
            subprogram("wide", &[call(3), EXIT]),
            subprogram("last", &leaf),
        ]));
        let graph = CallGraph::of(&verified, 8).unwrap();
        let frames = [100, 8, 16, 1000];
        assert_eq!(graph.check_stack(verified.module(), &frames, 1116), Ok(()));
        let error = graph.check_stack(verified.module(), &frames, 1115).unwrap_err();
        assert_eq!(
            error.to_string(),
            "function `main`: calls from it need 1116 bytes of stack, and at most 1115 are allowed: `main` with 100, \
             which calls `wide` with 16, which calls `last` with 1000"
        );
        // A function that is too much by itself is told before those that call it.
        let error = graph.check_stack(verified.module(), &frames, 999).unwrap_err();
        assert!(error.to_string().starts_with("function `last`: "), "{error}");
    }
}
