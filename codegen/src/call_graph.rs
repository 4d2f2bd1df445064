//! Which functions are emitted, and how deep their calls nest.
//!
//! Given: the flow of each function.
//! Computed: the functions that some program can reach, callees before callers, and from which of them a tail call can be
//! reached.
//! Safe because: a subprogram that nothing reaches was never verified, and is not emitted.

use bpf2sys_bytecode::{Callee, Function, FunctionIndex, InsnIndex, Instruction, Module};
use bpf2sys_verifier::VerifiedModule;

use crate::error::{FunctionProblem, InstructionProblem, LowerError};
use crate::lowering::{Flow, TAIL_CALL, instruction_error};

/// The functions of an image.
pub(crate) struct CallGraph {
    /// Functions to emit, each after all it calls.
    pub(crate) order: Vec<FunctionIndex>,
    /// By function: its flow, if it is emitted.
    pub(crate) flows: Vec<Option<Flow>>,
    /// By function: the functions it calls, ascending, each once.
    callees: Vec<Vec<FunctionIndex>>,
    /// By function: whether a tail call can be reached from it.
    pub(crate) tail_calls: Vec<bool>,
}

impl CallGraph {
    /// Follows calls from every program.
    pub(crate) fn of(verified: &VerifiedModule) -> Result<CallGraph, LowerError> {
        let module = verified.module();
        let count = module.functions.len();
        let mut graph = CallGraph {
            order: Vec::new(),
            flows: (0..count).map(|_| None).collect(),
            callees: vec![Vec::new(); count],
            tail_calls: vec![false; count],
        };
        let mut state = vec![Visit::New; count];
        for program in verified.programs() {
            graph.visit(verified, program.function, &mut state)?;
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
                self.tail_calls[index.index()] |= self.callees[index.index()]
                    .iter()
                    .any(|callee| self.tail_calls[callee.index()]);
                self.order.push(index);
            }
        }
        Ok(())
    }

    fn enter(&mut self, verified: &VerifiedModule, index: FunctionIndex) -> Result<(), LowerError> {
        let module = verified.module();
        let function = module.function(index);
        let flow = Flow::of(function, verified.facts(index))
            .map_err(|(insn, problem)| instruction_error(function, insn, problem))?;
        let callees = &mut self.callees[index.index()];
        for (insn, op) in live(function, &flow) {
            match op {
                Instruction::Call(Callee::Helper(TAIL_CALL)) => self.tail_calls[index.index()] = true,
                Instruction::Call(Callee::Local(callee)) => {
                    if callee.index() >= module.functions.len() {
                        return Err(instruction_error(function, insn, InstructionProblem::Reference));
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

    /// Checks that no chain of calls is too deep or needs too much stack, given each function's frame in bytes.
    pub(crate) fn check_depth(&self, module: &Module, frame_bytes: &[u32], limits: DepthLimits) -> Result<(), LowerError> {
        let mut deepest = vec![(0_u32, 0_u32); module.functions.len()];
        for &index in &self.order {
            let (mut frames, mut bytes) = (0, 0);
            for callee in &self.callees[index.index()] {
                let (callee_frames, callee_bytes) = deepest[callee.index()];
                frames = frames.max(callee_frames);
                bytes = bytes.max(callee_bytes);
            }
            frames += 1;
            bytes = frame_bytes[index.index()].saturating_add(bytes);
            deepest[index.index()] = (frames, bytes);
            let problem = if frames > limits.frames {
                FunctionProblem::CallDepth { frames, limit: limits.frames }
            } else if bytes > limits.bytes {
                FunctionProblem::StackDepth { bytes, limit: limits.bytes }
            } else {
                continue;
            };
            return Err(LowerError::Function {
                function: module.function(index).name.clone(),
                problem,
            });
        }
        Ok(())
    }
}

/// How deep calls may nest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DepthLimits {
    /// Frames, the program's own included.
    pub(crate) frames: u32,
    /// Bytes of kernel stack.
    pub(crate) bytes: u32,
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
