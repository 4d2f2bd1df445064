//! How many tail calls a run of the program can try: one that fails lets execution go on to the next.
//!
//! The runtime follows at most so many tail calls (`max_tail_call_count` of the platform), and PREVAIL counts those that a program
//! tries among them, along the longest way: in a loop each one counts once.

use std::collections::HashMap;

use bpf2sys_bytecode::{Callee, FunctionIndex, Instruction};

use super::explore::Explorer;
use super::plan::{Plan, Stop, successors};
use super::step::{Failure, refusal};
use crate::Violation;
use crate::prototype::{Need, prototype};

impl Explorer<'_> {
    /// Refuses a program on some way of which more tail calls can follow one another than the runtime makes.
    pub fn count_tail_calls(&mut self) -> Result<(), Box<Failure>> {
        self.tail_calls(self.program, &mut HashMap::new()).map(|_| ())
    }

    /// The most on a way through a function, and the functions that it calls.
    fn tail_calls(
        &mut self,
        index: FunctionIndex,
        known: &mut HashMap<FunctionIndex, u32>,
    ) -> Result<u32, Box<Failure>> {
        if let Some(count) = known.get(&index) {
            return Ok(*count);
        }
        let plan = self.plan(index);
        let mut before = vec![0_u32; plan.blocks.len()];
        let mut most = 0;
        let mut stops = plan.at.iter();
        while let Some(stop) = stops.next() {
            let Stop::Block(first) = *stop else { continue };
            // A loop is one step.
            let mut step = vec![first];
            if plan.block(first).again.is_some() {
                let rest = stops.by_ref().take_while(|stop| **stop != Stop::Again(first));
                step.extend(rest.filter_map(|stop| match stop {
                    Stop::Block(block) => Some(*block),
                    Stop::Again(_) => None,
                }));
            }
            let mut count = step.iter().map(|block| before[*block as usize]).max().unwrap_or(0);
            for block in &step {
                let own = self.tail_calls_of(index, &plan, *block, known)?;
                count += own;
                if own > 0 && count > self.world.platform.limits.max_tail_call_count {
                    let limit = u64::from(self.world.platform.limits.max_tail_call_count);
                    return Err(Box::new(Failure {
                        function: index,
                        instruction: plan.block(*block).instructions.end - 1,
                        refusal: refusal(Violation::TailCallChain { limit }),
                        state: None,
                    }));
                }
            }
            most = most.max(count);
            let function = self.world.module.function(index);
            for block in step {
                for next in successors(function, plan.block(block), &plan.block_of)
                    .into_iter()
                    .flatten()
                {
                    let next = &mut before[next as usize];
                    *next = (*next).max(count);
                }
            }
        }
        known.insert(index, most);
        Ok(most)
    }

    /// Those of the call that ends a block, if one does.
    fn tail_calls_of(
        &mut self,
        index: FunctionIndex,
        plan: &Plan,
        block: u32,
        known: &mut HashMap<FunctionIndex, u32>,
    ) -> Result<u32, Box<Failure>> {
        let world = self.world;
        let last = plan.block(block).instructions.end - 1;
        match world.module.function(index).instructions[last as usize].op {
            Instruction::Call(Callee::Local(callee)) => self.tail_calls(callee, known),
            Instruction::Call(callee) => {
                let called = prototype(callee, world.module, world.platform, world.program_type);
                let is_tail_call = called.is_some_and(|called| called.needs().any(|(_, need)| need == Need::Programs));
                Ok(u32::from(is_tail_call))
            }
            _ => Ok(0),
        }
    }
}
