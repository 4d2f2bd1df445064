//! What is the same in all rounds of a loop, before the loop.
//!
//! Cranelift's optimizer computes a value where it is used first. It moves values out of loops, too, but forgets which loop it is in when
//! it comes to a block outside, and computes all that is left of the loop where it is used: in each round. This comes behind the
//! optimizer, which would undo it.

use cranelift_codegen::dominator_tree::DominatorTree;
use cranelift_codegen::ir::{Block, Function, Inst, InstructionData, Opcode, Value, ValueDef};
use cranelift_codegen::loop_analysis::{Loop, LoopAnalysis};

use super::is_cheap;

/// Moves instructions out of loops.
pub(crate) fn hoist(function: &mut Function, domtree: &DominatorTree, loops: &LoopAnalysis) {
    let mut hoisting = Hoisting {
        function,
        domtree,
        loops,
    };
    // Operands come before what is made of them.
    for &block in domtree.cfg_postorder().iter().rev() {
        if loops.innermost_loop(block).is_none() {
            continue;
        }
        let insts: Vec<Inst> = hoisting.function.layout.block_insts(block).collect();
        for inst in insts {
            hoisting.instruction(block, inst);
        }
    }
}

struct Hoisting<'a> {
    function: &'a mut Function,
    domtree: &'a DominatorTree,
    loops: &'a LoopAnalysis,
}

impl Hoisting<'_> {
    /// Moves an instruction before the outermost loop that makes none of its operands.
    fn instruction(&mut self, block: Block, inst: Inst) {
        if !is_worth_it(self.function, inst) {
            return;
        }
        let mut to = None;
        let mut around = self.loops.innermost_loop(block);
        while let Some(one) = around {
            if !self.operands(inst).all(|value| self.is_same(value, one)) {
                break;
            }
            to = Some(one);
            around = self.loops.loop_parent(one);
        }
        let before = to.and_then(|out_of| {
            let header = self.loops.loop_header(out_of);
            let before = self.domtree.idom(header)?;
            Some((out_of, self.function.layout.last_inst(before)?))
        });
        if let Some((out_of, before)) = before {
            self.function.layout.remove_inst(inst);
            self.place(inst, out_of, before);
        }
    }

    fn operands(&self, inst: Inst) -> impl Iterator<Item = Value> {
        let dfg = &self.function.dfg;
        dfg.inst_values(inst).map(|value| dfg.resolve_aliases(value))
    }

    /// Whether a value is the same in all rounds of a loop: it is made outside, or of such values and for free.
    fn is_same(&self, value: Value, inside: Loop) -> bool {
        match self.made_inside(value, inside) {
            Ok(by) => by.is_none_or(|inst| {
                is_free(self.function, inst) && self.operands(inst).all(|value| self.is_same(value, inside))
            }),
            Err(Parameter) => false,
        }
    }

    /// The instruction of the loop that makes a value, if one does.
    fn made_inside(&self, value: Value, inside: Loop) -> Result<Option<Inst>, Parameter> {
        let layout = &self.function.layout;
        let (block, by) = match self.function.dfg.value_def(value) {
            ValueDef::Result(inst, _) => (layout.inst_block(inst), Ok(Some(inst))),
            ValueDef::Param(block, _) => (Some(block), Err(Parameter)),
            ValueDef::Union(..) => (None, Err(Parameter)),
        };
        match block {
            Some(block) if !self.loops.is_in_loop(block, inside) => Ok(None),
            _ => by,
        }
    }

    /// Puts an instruction before another one, with copies of what it takes of the loop.
    fn place(&mut self, inst: Inst, out_of: Loop, before: Inst) {
        let operands: Vec<Value> = self.operands(inst).collect();
        let mut placed = Vec::with_capacity(operands.len());
        for value in operands {
            let Ok(Some(by)) = self.made_inside(value, out_of) else {
                placed.push(value);
                continue;
            };
            let copy = self.function.dfg.clone_inst(by);
            self.place(copy, out_of, before);
            placed.push(self.function.dfg.first_result(copy));
        }
        self.function.dfg.overwrite_inst_values(inst, placed.into_iter());
        self.function.layout.insert_inst(inst, before);
    }
}

/// The value is a block's parameter.
struct Parameter;

/// Instructions that take time, have no effects, and give the same wherever they stand.
fn is_worth_it(function: &Function, inst: Inst) -> bool {
    match function.dfg.insts[inst] {
        InstructionData::Load { flags, .. } => {
            let flags = function.dfg.mem_flags[flags];
            flags.notrap() && flags.readonly() && flags.can_move()
        }
        data => {
            let opcode = data.opcode();
            opcode == Opcode::Imul || is_cheap(opcode) && !matches!(opcode, Opcode::Ireduce | Opcode::Uextend)
        }
    }
}

/// Instructions that others can hold, or that need no code.
fn is_free(function: &Function, inst: Inst) -> bool {
    matches!(
        function.dfg.insts[inst].opcode(),
        Opcode::Iconst | Opcode::Ireduce | Opcode::Uextend
    )
}

#[cfg(test)]
mod tests {
    use cranelift_codegen::Context;
    use cranelift_reader::parse_functions;

    use super::hoist;

    /// Which of the values that the body of a loop makes are made before it afterwards. `v3` changes in each round.
    fn hoisted(body: &str) -> Vec<String> {
        let text = format!(
            "function %f(i64, i64) -> i64 windows_fastcall {{\nblock0(v0: i64, v1: i64):\n jump block1(v0)\n\
             block1(v3: i64):\n{body}\n brif v3, block2, block3\n\
             block2:\n v90 = iconst.i64 1\n v91 = isub v3, v90\n jump block1(v91)\nblock3:\n return v3\n}}"
        );
        let mut context = Context::for_function(parse_functions(&text).unwrap().remove(0));
        context.compute_cfg();
        context.compute_domtree();
        context.compute_loop_analysis();
        hoist(&mut context.func, &context.domtree, &context.loop_analysis);
        let entry = context.func.layout.entry_block().unwrap();
        let made = context.func.layout.block_insts(entry);
        let values = made.filter_map(|inst| context.func.dfg.inst_results(inst).first().copied());
        values
            .map(|value| value.to_string())
            .filter(|value| value.len() < 3)
            .collect()
    }

    #[test]
    fn only_what_is_the_same_in_each_round_moves() {
        let cases: [(&str, &[&str]); 9] = [
            ("v4 = iadd v0, v1", &["v4"]),
            ("v4 = iadd v0, v3", &[]),
            ("v4 = iadd v0, v3\n v5 = iadd v4, v1", &[]),
            ("v4 = iadd v0, v1\n v5 = bxor v4, v1", &["v4", "v5"]),
            ("v4 = load.i64 notrap aligned readonly can_move v1", &["v4"]),
            ("v4 = load.i64 notrap aligned readonly can_move v3", &[]),
            ("v4 = load.i64 notrap aligned v1", &[]),
            ("v4 = udiv v0, v1", &[]),
            // What is free stays where others can hold it.
            ("v4 = iconst.i64 7", &[]),
        ];
        for (body, expected) in cases {
            assert_eq!(hoisted(body), expected, "{body}");
        }
    }
}
